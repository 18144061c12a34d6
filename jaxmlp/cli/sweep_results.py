"""`jaxmlp sweep report`, `best` and `export`, the table of settings, and the data notes in a sweep's folder."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

from jaxmlp._validation import unknown_name
from jaxmlp.cli.argument_types import as_typed
from jaxmlp.cli.output import show, table
from jaxmlp.cli.sweep_space import as_options
from jaxmlp.data import Encoding
from jaxmlp.network import Params
from jaxmlp.storage.checkpoint import save
from jaxmlp.storage.files import check_place, to_json, write_whole
from jaxmlp.sweep import Best, Results, load
from jaxmlp.sweep.results import is_cut_short, score
from jaxmlp.sweep.store import Row

__all__ = ["ENCODING", "FINISHED", "SettingsTable", "read_encoding", "settings", "write_encoding"]

ENCODING = "encoding.json"


class Encoded(NamedTuple):
    """The encoding of a sweep's data, and the notes on training that a saved model keeps."""

    encoding: Encoding
    about: dict[str, Any]


def write_encoding(folder: Path, encoding: Encoding, about: dict[str, Any]) -> None:
    """Write what a model of the sweep needs for new data."""
    content = to_json({"encoding": encoding.to_json(), "about": about}, indent=1) + "\n"
    write_whole(folder / ENCODING, content.encode())


def read_encoding(folder: Path) -> Encoded | None:
    """Read what `write_encoding` wrote; None if there is none, as for a sweep that was run from Python."""
    path = folder / ENCODING
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        about = saved["about"]
        if not (isinstance(about["options"], dict) and isinstance(about["data"], str)):
            raise TypeError
        return Encoded(Encoding.from_json(saved["encoding"]), about)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, expected the encoding of a sweep; choose another --out") from error


def settings(results: Results, metric: str, over: str | None) -> list[Best]:
    """Return the settings without a diverged trial, averaged as by `Results.best`, the best first."""
    rows: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in results.rows():
        trial = results.trial(row.trial)
        if not is_cut_short(row, trial.config):
            rows.setdefault(tuple((name, v) for name, v in trial.values.items() if name != over), []).append(row)
    found = [
        _averaged(dict(setting), metric, sorted(of_setting, key=lambda row: -score(row, metric)))
        for setting, of_setting in rows.items()
        if all(getattr(row, metric) is not None for row in of_setting)  # None: a trial diverged
    ]
    return sorted(found, key=lambda best: best.mean if metric.endswith("loss") else -best.mean)


def _averaged(hyperparameters: dict[str, Any], metric: str, rows: list[Row]) -> Best:
    values = np.array([getattr(row, metric) for row in rows])
    mean, half = float(values.mean()), float("nan")
    if len(values) > 1:
        from scipy.stats import t  # it takes a third of a second to import

        half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Best(hyperparameters, metric, mean, mean - half, mean + half, tuple(row.trial for row in rows))


class SettingsTable:
    """A table of settings with a column for each hyperparameter; one column for all in a narrow terminal."""

    def __init__(self, found: list[Best], title: str) -> None:
        """Keep the settings to print."""
        self._found, self._title = found, title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose the columns by the width."""
        wide = self._table(list(self._found[0].hyperparameters))
        fits = Measurement.get(console, options.update(max_width=10_000), wide).maximum <= options.max_width
        yield wide if fits else self._table(None)

    def _table(self, names: list[str] | None) -> Table:
        grid = Table(title=self._title, title_justify="left", box=None, pad_edge=False)
        for name in names if names is not None else ["setting"]:
            grid.add_column(name, overflow="fold")
        grid.add_column("mean", justify="right", no_wrap=True)
        grid.add_column("+/- 95 %", justify="right", no_wrap=True)
        grid.add_column("n", justify="right", no_wrap=True)
        for best in self._found:
            values = _rounded(best.hyperparameters)
            cells = list(values.values()) if names is not None else [" ".join(f"{n}={v}" for n, v in values.items())]
            half = f"{best.high - best.mean:.2g}" if best.high == best.high else ""
            grid.add_row(*cells, f"{best.mean:.4g}", half, str(len(best.trials)))
        return grid


def _rounded(hyperparameters: dict[str, Any]) -> dict[str, str]:
    """Write values as they are typed, numbers with four digits."""
    return {
        name: f"{value:.4g}" if isinstance(value, float) else as_typed(value) for name, value in hyperparameters.items()
    }


def _report(arguments: Namespace) -> int:
    from jaxmlp.sweep.report import write_pictures, write_report

    results = load(arguments.folder)
    path = Path(arguments.folder) / "report.html"
    write_report(results, path)
    values: dict[str, Any] = {"report": str(path)}
    if arguments.png:
        values["pictures"] = [str(picture) for picture in write_pictures(results, arguments.folder)]
    show(arguments, values, "\n".join([str(path), *values.get("pictures", [])]))
    return 0


def _best(arguments: Namespace) -> int:
    results = load(arguments.folder)
    over = getattr(arguments, "over", "seed")
    over = None if over == "none" else over
    if over not in (None, "seed", *results.names):
        raise ValueError(unknown_name("hyperparameter", over, [*results.names, "none"]))
    if "save" in arguments:
        check_place(Path(arguments.save))
    best = results.best(getattr(arguments, "metric", None), over)
    values = best._asdict() | (
        {"saved": arguments.save, "trial": _save(arguments, results, best)} if "save" in arguments else {}
    )
    interval = {"95 % interval": f"{best.low:.4g} to {best.high:.4g}"} if len(best.trials) > 1 else {}
    shown = _rounded(best.hyperparameters)
    shown |= {best.metric: f"{best.mean:.4g}", **interval, "trials": ", ".join(map(str, best.trials))}
    if "save" in arguments:
        shown["saved"] = f"{arguments.save}, of trial {values['trial']}"
    show(arguments, values, table(shown))
    return 0


def _save(arguments: Namespace, results: Results, best: Best) -> int:
    """Save the model of the best trial, or of one with the same score; return the trial's number."""
    rows = {row.trial: row for row in results.rows()}
    number, params = _kept(results, best, rows)
    trial, row = results.trial(number), rows[number]
    found = {name: value for name, value in row._asdict().items() if name != "seconds" and value is not None}
    about: dict[str, Any] = {"results": found | {"trial_seed": trial.seed}}
    encoded = read_encoding(Path(arguments.folder))
    if encoded is not None:
        about = encoded.about | {"options": encoded.about["options"] | as_options(trial.values)} | about
    save(arguments.save, trial.mlp, params, encoding=encoded and encoded.encoding, about=about)
    return number


def _kept(results: Results, best: Best, rows: dict[int, Row]) -> tuple[int, Params]:
    highest = score(rows[best.trials[0]], best.metric)
    for number in best.trials:
        if score(rows[number], best.metric) == highest:
            try:
                return number, results.params(number)
            except ValueError:
                continue  # the sweep kept the models of a few trials only
    raise ValueError(
        f"{results.folder}: the model of trial {best.trials[0]} was not kept; "
        "run the sweep with --keep all and another --out"
    )


def _export(arguments: Namespace) -> int:
    results = load(arguments.folder)
    path = Path(arguments.to)
    check_place(path)
    results.export(path)
    values = {"trials": len(results.rows()), "out": str(path)}
    show(arguments, values, table(values))
    return 0


FINISHED: dict[str, Callable[[Namespace], int]] = {
    "sweep report": _report,
    "sweep best": _best,
    "sweep export": _export,
}
