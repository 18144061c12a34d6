"""`jaxmlp sweep`: train many networks with different hyperparameters side by side, and print the best settings."""

import shlex
import time
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from jaxmlp import sweep
from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.output import show, table
from jaxmlp.cli.progress import sweep_progress
from jaxmlp.cli.startup import keep_compiled_programs, say
from jaxmlp.cli.sweep_results import FINISHED, reported, settings_table
from jaxmlp.cli.sweep_space import as_options, typed_space
from jaxmlp.cli.training_setup import Material, check_same_options, config_of, network_of, read_material, show_data
from jaxmlp.network import MLP
from jaxmlp.storage.files import is_leftover
from jaxmlp.storage.run_folder import new_folder
from jaxmlp.sweep.metrics import OVER, label, numbered
from jaxmlp.sweep.store import FILE
from jaxmlp.training.config import TrainConfig

__all__ = ["run"]

_TOP = 10  # settings in the table
_PRIVATE = ("private", "epsilon", "delta", "noise_multiplier")


def run(arguments: Namespace) -> int:
    """Run a sweep, print its plan, or print results; everything is checked before the folder is made."""
    if arguments.command in FINISHED:
        return FINISHED[arguments.command](arguments)
    if any(getattr(arguments, name, False) for name in _PRIVATE):
        raise ValueError(
            "private trials are run in Python: jaxmlp.private.select counts the choice of the best, and "
            "jaxmlp.private.sweep says what all of them spend"
        )
    keep_compiled_programs(arguments)
    halving, space = _halving(arguments), _space(arguments)
    options = {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS}
    folds = getattr(arguments, "folds", None)
    if folds is not None and "validation_fraction" in arguments:
        raise ValueError("--folds holds out the rows to choose by: leave out --validation-fraction")
    given = {**options, "networks": 1}
    material = read_material(arguments.source, TRAIN_DEFAULTS | options, given=given, chooses=folds is None)
    if "out" in arguments:
        _check_folder(Path(arguments.out), material)
    mlp, config = _base(material, space)
    data = material.prepared
    work: dict[str, Any] = {"space": space, "data": data.train, "config": config, "mlp": mlp}
    work |= {"validation": data.validation, "test": data.test, "folds": folds}
    work |= _limits(arguments)
    plan = sweep.plan(**work)
    show_data(arguments, material)
    return _show_plan(arguments, plan, halving, space) if arguments.plan else _run(arguments, material, halving, work)


def _space(arguments: Namespace) -> sweep.Space:
    space = typed_space(arguments)
    for name in space.names:
        if name in arguments and name != "seed":
            raise ValueError(f"{name} varies, and --{name.replace('_', '-')} gives it one value: leave one out")
    if "halving" in arguments and "epochs" in space.names:
        raise ValueError("--halving compares trials after the same epochs, but epochs varies: leave one out")
    return space


def _show_plan(arguments: Namespace, plan: sweep.Plan, halving: sweep.Halving | None, space: sweep.Space) -> int:
    values: dict[str, Any] = {"trials": plan.n_trials, "memory": plan.memory, "seconds": plan.seconds}
    text = str(plan)
    if halving is not None:
        epochs = plan.groups[0].epochs
        n_folds = getattr(arguments, "folds", 1)
        n_trials = [n * n_folds for n in Counter(numbered(space.names, space.rows)).values()]
        values["halving_share"] = halving.epochs(n_trials, epochs) / (plan.n_trials * epochs)
        text += f"\n  halving by {halving.factor} runs about {100 * values['halving_share']:.0f} % of these epochs"
    show(arguments, values | plan.to_json(), text)
    return 0


def _run(arguments: Namespace, material: Material, halving: sweep.Halving | None, work: dict[str, Any]) -> int:
    name = f"{Path(arguments.source).stem or 'data'}-sweep"
    folder = Path(arguments.out) if "out" in arguments else new_folder(Path("runs"), name)
    store = {"out": folder, "encoding": material.prepared.encoding, "about": material.about, "keep": arguments.keep}
    try:
        began = time.perf_counter()
        with sweep_progress(arguments) as callback:
            results = sweep.run(**work, **store, halving=halving, callback=callback)
        return _finish(arguments, results, time.perf_counter() - began)
    except KeyboardInterrupt as interrupt:
        done = str(interrupt).partition(";")[0]
        again = ["jaxmlp", *arguments.typed, *([] if "out" in arguments else ["--out", str(folder)])]
        say(f"interrupted{f', {done}' if done else ''}; continue with: {shlex.join(again)}")
        return 130


def _halving(arguments: Namespace) -> sweep.Halving | None:
    if "halving" in arguments:
        return sweep.Halving(arguments.halving, asynchronous=arguments.asynchronous)
    if arguments.asynchronous:
        raise ValueError("--asynchronous requires --halving")
    return None


def _limits(arguments: Namespace) -> dict[str, int | None]:
    memory, lanes = getattr(arguments, "memory", None), getattr(arguments, "lanes", None)
    if memory is not None and not 0 < memory < 1e9:
        raise ValueError(f"--memory must be larger than 0 and below 1e9 GB, got {memory:g}")
    if lanes is not None and not 1 <= lanes <= 2**20:
        raise ValueError(f"--lanes must be 1 or larger and at most {2**20}, got {lanes}")
    return {"memory": None if memory is None else int(memory * 1e9), "lanes": lanes}


def _check_folder(folder: Path, material: Material) -> None:
    """Refuse a folder without a sweep, or whose sweep began with other data or options."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder for the sweep")
    store = folder / FILE
    if not (store.exists() and store.stat().st_size):  # a process killed before its first commit leaves an empty file
        if not all(is_leftover(entry) or entry.name.startswith(FILE) for entry in folder.iterdir()):
            raise ValueError(f"{folder}: holds files but no sweep, expected a new or an empty folder")
        return
    saved = sweep.load(folder).about
    if saved.keys() != material.about.keys():
        return  # run from Python: the store itself checks data and numbers
    if saved["data"] != material.about["data"]:
        raise ValueError(f"{folder}: the sweep began with other data; use those, or choose another --out")
    before, now = saved["options"], material.about["options"]
    if before["epochs"] < now["epochs"]:  # the sweep may go on
        now = now | {"epochs": before["epochs"]}
    check_same_options(f"{folder}: the sweep began", before, now)


def _base(material: Material, space: sweep.Space) -> tuple[MLP, TrainConfig]:
    """Return network and configuration from the options, or from the first trial if the options alone are invalid."""
    options = material.about["options"]
    first = as_options(dict(zip(space.names, space.rows[0], strict=True)))
    try:
        return network_of(material, options), config_of(options)
    except ValueError:
        # For example, --track clipped requires a clip, and the clip may be what varies.
        with suppress(ValueError):
            return network_of(material, options | first), config_of(options | first)
        raise


def _finish(arguments: Namespace, results: sweep.Results, seconds: float) -> int:
    counts = results.counts()
    n_trials = sum(counts.values())
    found = results.ranked()[:_TOP]
    values: dict[str, Any] = {
        "trials": n_trials,
        **counts,
        "metric": results.metric,
        "settings": [best.to_json() for best in found],
        "seconds": seconds,
        "out": str(results.folder),
        "report": reported(arguments, results),
    }
    shown = {"trials": f"{n_trials}: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n)}
    shown |= {name: values[name] for name in ("seconds", "out", "report")}
    over = " and ".join(f"{name}s" for name in OVER if name in results.names)
    title = f"{label(results.metric)}{f', mean over {over}' if over else ''}"
    tables: list[RenderableType] = [settings_table(found, title), ""] if found else []
    show(arguments, values, *tables, table(shown))
    if counts["diverged"] == n_trials:
        say(f"jaxmlp sweep: all {n_trials} trials diverged: try lower learning rates")
        return 1
    return 0
