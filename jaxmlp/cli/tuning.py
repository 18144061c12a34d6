"""`jaxmlp train --tune`: search settings within a budget, and train the best few as one model."""

import json
import shlex
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jaxmlp import sweep
from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.output import grid, scores, show, table
from jaxmlp.cli.progress import sweep_progress
from jaxmlp.cli.startup import keep_compiled_programs, say
from jaxmlp.cli.sweep_results import reported, rounded
from jaxmlp.cli.sweep_space import as_options
from jaxmlp.cli.training_setup import Material, config_of, fingerprint_of, network_of, read_material, show_data
from jaxmlp.storage.checkpoint import save
from jaxmlp.storage.files import is_leftover, to_json
from jaxmlp.storage.run_folder import new_folder
from jaxmlp.sweep.budget import FILE
from jaxmlp.sweep.tuning import SEARCHED, Tuned

__all__ = ["tune"]

_REFUSED = {
    "resume": "repeat the same command to continue",
    "networks": "it chooses how many",
    "patience": "it trains on the validation examples, too, at the end",
    "track": "it trains many networks",
}
_STAGES = {"sweep": "searching", "networks": "training the best settings"}


def tune(arguments: Namespace) -> int:
    """Tune, print the result, and leave a run folder with the search; the same command continues."""
    for name, why in _REFUSED.items():
        if getattr(arguments, name, False) is not False:
            raise ValueError(f"--tune: leave out --{name}; {why}")
    folder = Path(arguments.out) if "out" in arguments else None
    if folder is not None:
        _check_folder(folder)
    given = {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS}
    material = read_material(arguments.source, TRAIN_DEFAULTS | given, given=given, chooses=True)
    show_data(arguments, material)
    keep_compiled_programs(arguments)
    folder = folder or new_folder(Path("runs"), Path(arguments.source).stem or "run")
    began = time.perf_counter()
    try:
        with _progress(arguments) as callback:
            tuned = _tuned(arguments, material, given, folder, callback)
    except KeyboardInterrupt:
        again = ["jaxmlp", *arguments.typed, *([] if "out" in arguments else ["--out", str(folder)])]
        say(f"interrupted; continue with: {shlex.join(again)}")
        return 130
    return _finish(arguments, material, tuned, folder, time.perf_counter() - began)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a tuning."""
    if folder.is_file():
        raise ValueError(f"{folder}: a file, expected a folder for the run")
    if folder.is_dir() and not (folder / FILE).exists() and not all(map(is_leftover, folder.iterdir())):
        raise ValueError(f"{folder}: holds files but no tuning, expected a new or an empty folder")


@contextmanager
def _progress(arguments: Namespace) -> Iterator[Callable[[str, sweep.Progress], None]]:
    """Give a callback that shows the progress of one stage after the other."""
    with ExitStack() as stack:
        shown: dict[str, Callable[[sweep.Progress], None]] = {}

        def callback(stage: str, progress: sweep.Progress) -> None:
            if stage not in shown:
                stack.close()
                if not (arguments.quiet or arguments.json):
                    say(_STAGES[stage])
                shown[stage] = stack.enter_context(sweep_progress(arguments))
            shown[stage](progress)

        yield callback


def _tuned(
    arguments: Namespace,
    material: Material,
    given: Mapping[str, Any],
    folder: Path,
    callback: Callable[[str, sweep.Progress], None],
) -> Tuned:
    options = material.about["options"]
    return sweep.tune(
        material.source,
        **arguments.tune,
        mlp=network_of(material, options),
        config=config_of(options),
        searched=[name for name in SEARCHED if name not in given],
        scaling=options["scaling"],
        validation_fraction=options["validation_fraction"],
        weights=options["class_weights"],
        seed=options["seed"],
        out=folder,
        about=material.about,
        callback=callback,
        **{name: options[name] for name in ("numbers", "categories", "test_fraction")},
    )


def _finish(arguments: Namespace, material: Material, tuned: Tuned, folder: Path, seconds: float) -> int:
    values: dict[str, Any] = scores("test", tuned.test) | {"networks": len(tuned.networks)}
    values["parameters"] = sum(network.mlp.n_parameters for network in tuned.networks)
    # No validation part was left out of the networks' training.
    options = material.about["options"] | {"validation_fraction": None, "networks": len(tuned.networks)}
    options |= as_options(tuned.settings[0])
    about = material.about | {"options": options, "results": values, "settings": json.loads(to_json(tuned.settings))}
    about["data"] = fingerprint_of(material.source, tuned.encoding)
    save(folder / "model.safetensors", tuned.networks, encoding=tuned.encoding, about=about)
    values = values | {"settings": list(tuned.settings), "seconds": seconds, "out": str(folder)}
    if tuned.search is not None:
        values["report"] = reported(arguments, tuned.search)
    names = dict.fromkeys(tuned.settings[0], True)
    chosen = grid(names, "settings of the networks, the best first")
    for setting in tuned.settings:
        chosen.add_row(*rounded(setting).values())
    show(arguments, values, chosen, "", table({name: value for name, value in values.items() if name != "settings"}))
    return 0
