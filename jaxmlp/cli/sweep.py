"""`jaxmlp sweep`: many networks of different hyperparameters, side by side, and what was found."""

import shlex
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from jaxmlp import sweep
from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.cache import keep_compiled_programs
from jaxmlp.cli.display import show, sweep_display, table
from jaxmlp.cli.preparation import Material, config_of, network_of, read_material, typed
from jaxmlp.cli.sweep_results import ENCODING, FINISHED, SettingsTable, read_encoding, settings, write_encoding
from jaxmlp.cli.sweep_space import as_options, typed_space
from jaxmlp.network import MLP
from jaxmlp.storage.files import is_leftover
from jaxmlp.storage.run_folder import new_folder
from jaxmlp.sweep.store import FILE
from jaxmlp.training.config import TrainConfig

__all__ = ["run"]

_TOP = 10


def run(arguments: Namespace) -> int:
    """Run a sweep, or answer a question about one; everything is checked before the folder is made."""
    if arguments.command in FINISHED:
        return FINISHED[arguments.command](arguments)
    with suppress(RuntimeError):  # where JAX runs already, as in a test, it is the devices that there are
        sweep.use_all_cores()
    keep_compiled_programs(arguments)
    with _noted(arguments) as notes:
        return _run(arguments, notes)


def _run(arguments: Namespace, notes: list[str]) -> int:
    options, halving = _options(arguments), _halving(arguments)
    space = typed_space(arguments)
    for name in space.names:
        if name in arguments and name != "seed":
            raise ValueError(f"{name} varies, and --{name.replace('_', '-')} gives it one value: leave one of them out")
    if halving is not None and "epochs" in space.names:
        raise ValueError("--halving compares trials after the same epochs, but epochs varies")
    material = read_material(arguments.source, options, fit_batch="batch_size" not in arguments)
    folder = Path(arguments.out) if "out" in arguments else None
    if folder is not None:
        _check_folder(folder, material)
    data = material.prepared
    mlp, config = _base(material, space)
    call: dict[str, Any] = {"mlp": mlp, "test": data.test, "memory": _memory(arguments), "lanes": _lanes(arguments)}
    plan = sweep.plan(space, data.train, config, **call)
    if arguments.plan:
        totals: dict[str, Any] = {
            "trials": plan.n_trials,
            "memory": plan.memory,
            "seconds": plan.seconds,
            "notes": notes,
        }
        text = str(plan)
        if halving is not None:
            epochs = plan.groups[0].epochs
            share = halving.epochs(plan.n_trials, epochs) / (plan.n_trials * epochs)
            totals["halving_share"] = share
            text += f"\n  of these epochs, halving by {halving.factor} runs about {100 * share:.0f} %"
        show(arguments, totals | plan.to_json(), text)
        return 0
    folder = folder or new_folder(Path("runs"), f"{Path(arguments.source).stem or 'data'}-sweep")
    if not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_encoding(folder, data.encoding, material.about)
    try:
        began = time.perf_counter()
        with sweep_display(arguments) as callback:
            results = sweep.run(
                space,
                data.train,
                config,
                out=folder,
                keep=getattr(arguments, "keep", 10),
                halving=halving,
                callback=callback,
                **call,
            )
        return _finish(arguments, results, notes, time.perf_counter() - began)
    except KeyboardInterrupt as interrupt:
        done = str(interrupt).partition(";")[0]
        again = ["jaxmlp", *arguments.typed, *([] if "out" in arguments else ["--out", str(folder)])]
        print(f"interrupted{f', {done}' if done else ''}; go on with: {shlex.join(again)}", file=sys.stderr)
        return 130


@contextmanager
def _noted(arguments: Namespace) -> Iterator[list[str]]:
    """Print what the library warns of as a line of ours, once each, and list it."""
    notes: list[str] = []
    show_warning = warnings.showwarning

    def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if not issubclass(category, UserWarning):
            show_warning(message, category, *rest, **more)
        elif text not in notes:
            notes.append(text)
            _print_note(arguments, text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # divergence is reported in the end
        warnings.simplefilter("always", UserWarning)
        setattr(warnings, "showwarning", note)  # noqa: B010 - for mypy, which knows all its arguments
        yield notes


def _print_note(arguments: Namespace, text: str) -> None:
    if not (arguments.quiet or arguments.json):
        with suppress(BrokenPipeError):
            print(f"jaxmlp sweep: note: {text}", file=sys.stderr)


def _options(arguments: Namespace) -> dict[str, Any]:
    return TRAIN_DEFAULTS | {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS}


def _halving(arguments: Namespace) -> sweep.Halving | None:
    if "halving" in arguments:
        return sweep.Halving(arguments.halving, asynchronous=arguments.asynchronous)
    if arguments.asynchronous:
        raise ValueError("--asynchronous is of --halving, which was not given")
    return None


def _memory(arguments: Namespace) -> int | None:
    if "memory" not in arguments:
        return None
    if not 0 < arguments.memory < 1e9:
        raise ValueError(f"--memory must be larger than 0 and below 1e9 GB, got {arguments.memory:g}")
    return int(arguments.memory * 1e9)


def _lanes(arguments: Namespace) -> int | None:
    if "lanes" not in arguments:
        return None
    if not 1 <= arguments.lanes <= 2**20:
        raise ValueError(f"--lanes must be 1 or larger and at most {2**20}, got {arguments.lanes}")
    return int(arguments.lanes)


def _check_folder(folder: Path, material: Material) -> None:
    """Refuse a folder of something else, or of a sweep that was begun with other data or options."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder for the sweep")
    if not (folder / FILE).exists():
        if not all(is_leftover(entry) or entry.name == ENCODING for entry in folder.iterdir()):
            raise ValueError(f"{folder}: holds files but no sweep, expected a new or an empty folder")
        return
    if (saved := read_encoding(folder)) is None:
        return  # begun from Python: the store itself knows its data and numbers
    if saved.about["data"] != material.about["data"]:
        raise ValueError(f"{folder}: these are not the data that the sweep was begun with")
    for name, value in material.about["options"].items():
        before = saved.about["options"].get(name)
        if before != value:
            option = f"--{name.replace('_', '-')}"
            began = f"without {option}" if before in (None, [], False) else f"with {option} {typed(before)}"
            raise ValueError(f"{folder}: the sweep was begun {began}, got {typed(value)}")


def _base(material: Material, space: sweep.Space) -> tuple[MLP, TrainConfig]:
    """Return the run that trials differ from: of the options, or, where those alone cannot be, of the first trial."""
    options = material.about["options"]
    first = as_options(dict(zip(space.names, space.rows[0], strict=True)))
    try:
        return network_of(material, options), config_of(options)
    except ValueError:
        # As --track clipped is no run without a clip, and that may be what varies.
        with suppress(ValueError):
            return network_of(material, options | first), config_of(options | first)
        raise


def _finish(arguments: Namespace, results: sweep.Results, notes: list[str], seconds: float) -> int:
    rows = results.rows()
    counts = {status: sum(row.status == status for row in rows) for status in ("finished", "stopped", "diverged")}
    found = settings(results, results.metric, "seed")[:_TOP]
    values: dict[str, Any] = {
        "trials": len(rows),
        **counts,
        "metric": results.metric,
        "settings": [best._asdict() for best in found],
        "seconds": seconds,
        "out": str(results.folder),
        "report": _report(arguments, results, notes),
        "notes": notes,
    }
    shown = {"trials": f"{len(rows)}: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n)}
    shown |= {name: values[name] for name in ("seconds", "out", "report") if values[name] is not None}
    title = f"{results.metric}{', mean over seeds' if 'seed' in results.names else ''}"
    tables: list[RenderableType] = [SettingsTable(found, title), ""] if found else []
    show(arguments, values, *tables, table(shown))
    if counts["diverged"] == len(rows):
        print(f"jaxmlp sweep: all {len(rows)} trials diverged: try lower learning rates", file=sys.stderr)
        return 1
    return 0


def _report(arguments: Namespace, results: sweep.Results, notes: list[str]) -> str | None:
    try:
        from jaxmlp.sweep.report import write_report

        path = Path(str(results.folder)) / "report.html"
        write_report(results, path)
        return str(path)
    except (ImportError, OSError) as error:  # as for want of room, which loses nothing of the sweep itself
        notes.append(f"no report was written: {error}")
        _print_note(arguments, notes[-1])
        return None
