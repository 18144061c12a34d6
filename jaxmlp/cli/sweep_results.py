"""`jaxmlp sweep report`, `best`, `export` and `status`, and the table of settings."""

import math
import warnings
from argparse import Namespace
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxmlp._intervals import Interval
from jaxmlp._validation import unknown_name
from jaxmlp.cli.argument_types import as_typed
from jaxmlp.cli.output import console_width, grid, show, table
from jaxmlp.cli.startup import note
from jaxmlp.cli.sweep_space import as_options
from jaxmlp.cli.training_setup import read_material
from jaxmlp.storage.checkpoint import save
from jaxmlp.storage.files import check_place
from jaxmlp.sweep import Results, Setting, load
from jaxmlp.sweep.metrics import OVER, label, on_test

__all__ = ["FINISHED", "reported", "rounded", "settings_table"]


def settings_table(found: list[Setting], title: str) -> Table:
    """Return a table of settings with a column for each hyperparameter; one column for all in a narrow terminal."""
    wide = _table(found, title, [*found[0].hyperparameters])
    fits = Console(width=10_000).measure(wide).maximum <= console_width()
    return wide if fits else _table(found, title, None)


def _table(found: list[Setting], title: str, names: list[str] | None) -> Table:
    columns = dict.fromkeys(["setting"] if names is None else names, False)
    columns |= {"mean": True, "95 %": True}
    with_test = any(best.test for best in found)
    rows = grid(columns | ({"test": True, "95 % of test": True} if with_test else {}) | {"n": True}, title)
    for best in found:
        values = rounded(best.hyperparameters)
        cells = values.values() if names is not None else [" ".join(f"{n}={v}" for n, v in values.items())]
        means = [best, best.test] if with_test else [best]
        numbers = [number for mean in means for number in (_mean_and_ends(mean) if mean else ("", ""))]
        rows.add_row(*cells, *numbers, _n(best))
    return rows


def _n(best: Setting) -> str:
    """Return over how many trials the mean is; `1 of 4` while the others have not ended."""
    n = len(best.trials)
    return str(n) if n == best.n_asked else f"{n} of {best.n_asked}"


def _mean_and_ends(of: Setting | Interval) -> tuple[str, str]:
    return f"{of.mean:.4g}", "" if math.isnan(of.high) else f"{of.low:.4g} to {of.high:.4g}"


def _with_interval(of: Setting | Interval) -> str:
    mean, ends = _mean_and_ends(of)
    return f"{mean} ({ends})" if ends else mean


def rounded(hyperparameters: dict[str, Any]) -> dict[str, str]:
    """Write values as they are typed, numbers with four digits."""
    return {
        name: f"{value:.4g}" if isinstance(value, float) else as_typed(value) for name, value in hyperparameters.items()
    }


def reported(arguments: Namespace, results: Results) -> str | None:
    """Write the report of a sweep that has just run; return its path, None if it could not be written."""
    try:
        from jaxmlp.sweep.report import write_report

        path = Path(str(results.folder)) / "report.html"
        write_report(results, path)
        return str(path)
    except (ImportError, OSError) as error:  # such as a full disk: the sweep itself is whole
        note(arguments, f"no report was written: {error}")
        return None


def _report(arguments: Namespace) -> int:
    from jaxmlp.sweep.report import write_pictures, write_report

    results = load(arguments.folder)
    path = Path(arguments.out) if "out" in arguments else Path(arguments.folder) / "report.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {path}: expected the name of an HTML file, like {path.with_suffix('.html')}")
    write_report(results, path)
    values: dict[str, Any] = {"report": str(path)}
    if arguments.png:
        values["pictures"] = [str(picture) for picture in write_pictures(results, path.parent)]
    show(arguments, values, "\n".join([str(path), *values.get("pictures", [])]))
    return 0


def _best(arguments: Namespace) -> int:
    results = load(arguments.folder)
    over = [name for name in getattr(arguments, "over", OVER) if name != "none"]
    for name in over:
        if name not in (*OVER, *results.names):
            raise ValueError(unknown_name("hyperparameter", name, [*results.names, "none"]))
    if "save" in arguments:
        check_place(Path(arguments.save))
    best = results.best(getattr(arguments, "metric", None), over)
    values, shown = best.to_json(), rounded(best.hyperparameters) | {label(best.metric): _with_interval(best)}
    if best.test:
        shown[label(on_test(best.metric))] = _with_interval(best.test)
    shown["trials"] = ", ".join(map(str, best.trials))
    if len(best.trials) < best.n_asked:
        shown["trials"] += f" ({_n(best)}: the others have not ended)"
    if "save" in arguments:
        values |= {"saved": arguments.save, "trial": _save(arguments, results, best)}
        shown["saved"] = f"{arguments.save}, of trial {values['trial']}"
    show(arguments, values, table(shown))
    return 0


def _save(arguments: Namespace, results: Results, best: Setting) -> int:
    """Save the model of the best trial, or of one with the same score; return the trial's number.

    If none of them is there, train the best trial again.
    """
    rows = {row.trial: row for row in results.rows()}
    values = {number: getattr(rows[number], best.metric) for number in best.trials}
    ties = [number for number in best.trials if values[number] == values[best.trials[0]]]
    for number in ties:
        with suppress(ValueError):  # the sweep kept the models of a few trials only
            model = results.model(number)
            break
    else:
        number = ties[0]
        model = results.model(number, **_data_of(results))
    trial = results.trial(number)
    measured = {name: v for name, v in rows[number]._asdict().items() if name != "seconds" and v is not None}
    of_fold = {} if trial.fold is None else {"fold": trial.fold}
    about = {**results.about, "results": measured | {"trial_seed": trial.seed} | of_fold}
    if "options" in about:
        about["options"] = about["options"] | as_options(trial.values)
    save(arguments.save, model.networks, encoding=model.encoding, about=about)
    return number


def _data_of(results: Results) -> dict[str, Any]:
    """Read the data of a sweep again; nothing if it was run from Python, and its source is not known."""
    if not {"source", "options"} <= results.about.keys():
        return {}
    options = results.about["options"]
    parts = read_material(results.about["source"], options, given=options).prepared
    return {"data": parts.train, "validation": parts.validation}


def _export(arguments: Namespace) -> int:
    results = load(arguments.folder)
    path = Path(arguments.to)
    check_place(path)
    results.export(path)
    values = {"trials": len(results.rows()), "out": str(path)}
    show(arguments, values, table(values))
    return 0


def _status(arguments: Namespace) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the sweep has not ended is what this command shows
        status = load(arguments.folder).status()
    ended = status.finished + status.stopped + status.diverged
    numbers = [f"{getattr(status, name)} {name}" for name in ("finished", "stopped", "diverged", "running")]
    shown: dict[str, Any] = {
        "trials": f"{ended} of {status.total}: " + ", ".join(each for each in numbers if each[0] != "0")
    }
    shown["time"] = str(timedelta(seconds=round(status.seconds)))
    if status.seconds_left:
        shown["time left"] = f"{timedelta(seconds=round(status.seconds_left))} in one process"
    if status.best is not None:
        shown |= {label(status.best.metric): _with_interval(status.best)} | rounded(status.best.hyperparameters)
        shown["n"] = _n(status.best)
    show(arguments, status.to_json(), table(shown))
    return 0


FINISHED = {"sweep report": _report, "sweep best": _best, "sweep export": _export, "sweep status": _status}
