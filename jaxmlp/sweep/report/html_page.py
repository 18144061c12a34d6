"""The report of a sweep: one HTML file that opens without a network, and static pictures. Needs the extra `sweep`.

Python writes the numbers and grows the forest. The browser groups and draws, because it must redraw whenever the
reader filters trials or selects another metric. The file contains all that the browser needs, from the folder `page`;
the page's security policy forbids fetching anything.
"""

import base64
import gzip
import html
import importlib.resources
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from jaxmlp._extras import optional
from jaxmlp._intervals import Interval, student_t
from jaxmlp.plots._figure import png
from jaxmlp.storage.files import check_place, to_json, write_whole
from jaxmlp.sweep.metrics import OVER, REPORTED, Setting, bounds, counted, is_better_high, label, numbered, on_test
from jaxmlp.sweep.report._axes import as_text, scale
from jaxmlp.sweep.report._importance import importance, varied
from jaxmlp.sweep.report._pictures import PICTURES, best_rows, is_cut, ordered_rows
from jaxmlp.sweep.results import warn_if_unfinished
from jaxmlp.sweep.tables import column
from jaxmlp.training.history import STATUSES

if TYPE_CHECKING:
    import polars as pl

    from jaxmlp.sweep.results import Results

__all__ = ["write_pictures", "write_report"]

_METRICS = ("validation_accuracy", "validation_r2", "validation_loss", "train_loss")
_CHOSEN = 5  # settings of which a trial is selected at first
_MOST_EPOCHS = 200  # of a curve; a screen shows no more
_DIGITS = 4
_CUT = "stopped (halving)"
_RANKING = (
    "The best by their mean {} come first; of equal means, the first of the space. Settings of which some trials have "
    "not ended or were stopped by halving come after the others, and those without a mean are last."
)
# The parts of the page's script, in this order.
_SCRIPTS = (
    "trials",
    "settings",
    "numbers",
    "drawing",
    "curves",
    "hyperparameters",
    "heat_map",
    "parallel_coordinates",
    "importance",
    "page",
)


def write_report(results: "Results", path: str | Path) -> None:
    """Write an interactive report of a sweep: one HTML file of some 2.5 MB that needs nothing else.

    It names the best setting as `Results.best` does, and has a table of all settings, the best first; a table of
    all trials to sort and to filter, and filters apply to every picture; learning curves of selected trials; the
    metric against every hyperparameter, as means over seeds with 95 % intervals (Student's t); a heat map of two
    hyperparameters; parallel coordinates; and which hyperparameters matter (permutation importance of a random
    forest, and how well that forest predicts). Diverged trials are drawn as crosses and counted. Curves of more
    than 200 epochs are thinned to 200; numbers in them have four digits.

    It is a ValueError if there are no trials or `path` is no file, and an ImportError if a package is missing.

    Examples
    --------
    >>> import tempfile
    >>> from jaxmlp import Dataset, sweep
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
    >>> results = sweep.run(sweep.grid(learning_rate=[0.01, 0.1]), data, validation=data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(results, f"{folder}/report.html")
    ...     Path(folder, "report.html").read_text()[:15]
    '<!DOCTYPE html>'
    """
    path = Path(path)
    table = _checked(results)
    warn_if_unfinished(results)
    check_place(path)
    write_whole(path, _page(results, table).encode("utf-8", "replace"))


def write_pictures(results: "Results", folder: str | Path) -> list[Path]:
    """Draw a sweep as PNG files, into a folder that is made if it is not there.

    The files are `hyperparameters`, `learning_curves`, `parallel_coordinates`, `importance` and `heat_map`; one that
    has nothing to show is left out. The heat map is of the two hyperparameters that matter most.

    Return their paths. The errors are those of `write_report`.
    """
    folder = Path(folder)
    table = _checked(results)
    warn_if_unfinished(results)
    matter = importance(table, results.names, results.metric)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in PICTURES.items():
        if figure := draw(results, table, matter):
            paths.append(folder / f"{name}.png")
            write_whole(paths[-1], png(figure))
    return paths


def _checked(results: "Results") -> "pl.DataFrame":
    table = results.table()
    if not table.height:
        raise ValueError("results must hold at least one trial, got none")
    if results.metric not in table.columns:  # no trial has it
        pl = optional("polars", "sweep")
        table = table.with_columns(pl.lit(None, pl.Float64).alias(results.metric))
    return table


def _page(results: "Results", table: "pl.DataFrame") -> str:
    ours = importlib.resources.files("jaxmlp.sweep.report") / "page"
    found = results._settings(results.metric, OVER)
    itables = optional("itables", "sweep")
    tables = importlib.resources.files(itables) / "html"  # DataTables and its extensions, in one module
    return Template((ours / "page.html").read_text("utf-8")).substitute(
        title=html.escape(results.title),
        facts=html.escape(_facts(results, table, found)),
        ranking=html.escape(_RANKING.format(label(results.metric))),
        style=(tables / "dt_bundle.css").read_text("utf-8") + (ours / "style.css").read_text("utf-8"),
        data=_packed(to_json(_data(results, table, found))),
        tables=_packed((tables / "dt_bundle.js").read_text("utf-8")),
        plotly=_packed(optional("plotly.offline", "sweep").get_plotlyjs()),
        script="\n".join((ours / f"{name}.js").read_text("utf-8") for name in _SCRIPTS),
    )


def _packed(text: str) -> str:
    """Return text as base64 of gzip: half as long, and no user's text can end the HTML element that holds it."""
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()


def _facts(results: "Results", table: "pl.DataFrame", found: Sequence[Setting]) -> str:
    """Return the header in words: trials and how they ended, the best setting, and what did not vary."""
    status = ["stopped by halving" if is_cut(table, row) else end for row, end in enumerate(table["status"].to_list())]
    ends = ", ".join(f"{status.count(end)} {end}" for end in (*STATUSES, "stopped by halving") if end in status)
    facts = f"{results.unfinished or counted(table.height, 'trial')}: {ends}. {_best(results, found)}"
    held = [name for name in results.names if table[name].n_unique() == 1]
    if table.height > 1 and held:
        facts += " The same in all trials: " + ", ".join(f"{name} = {table[name][0]}" for name in held) + "."
    return facts


def _best(results: "Results", found: Sequence[Setting]) -> str:
    """Name the best setting as `Results.best` does, its mean over how many trials, and what else has this mean."""
    ranked = [setting for setting in found if math.isfinite(setting.mean)]
    if not ranked:
        return f"None has a finite {label(results.metric)}."
    best = ranked[0]
    values = ", ".join(f"{name} = {as_text(*column([value]))}" for name, value in best.hyperparameters.items())
    n = len(best.trials)
    of = f"trial {best.trials[0]}" if n == best.n_asked == 1 else f"{n} of {counted(best.n_asked, 'trial')}"
    words = f"Best setting by {label(results.metric)}: {values or 'the only one'}, with {_mean(best)}, "
    words += f"of {of}" if n == best.n_asked == 1 else f"the mean of {of}"
    if len(ranked) > 1 and results.metric.startswith("validation"):
        words += f" (the best of {len(ranked):,} on the same data, so it is too optimistic)"
    words += "." if best.test is None else f"; its {label(on_test(results.metric))}: {_mean(best.test)}."
    ties = sum((other.mean, len(other.trials) < other.n_asked) == (best.mean, n < best.n_asked) for other in ranked[1:])
    if ties:
        words += (
            f" {counted(ties, 'other setting')} {'has' if ties == 1 else 'have'} the same mean: the first is named."
        )
    return words


def _mean(of: Setting | Interval) -> str:
    return f"{of.mean:.4g}" + ("" if math.isnan(of.high) else f" (95 %: {of.low:.4g} to {of.high:.4g})")


def _ranked(results: "Results", found: Sequence[Setting], table: "pl.DataFrame") -> dict[str, Any]:
    """Return the table of settings by column, and the rows of each setting's trials in `table`."""
    names = [*found[0].hyperparameters] if found else []
    metric, test = results.metric, on_test(results.metric)
    columns: dict[str, list[Any]] = {
        name: column([each.hyperparameters[name] for each in found]).to_list() for name in names
    }
    columns |= {metric: [each.mean for each in found], "95 %": [[each.low, each.high] for each in found]}
    if any(each.test is not None for each in found):
        tests = [each.test or Interval(math.nan, math.nan, math.nan) for each in found]
        columns |= {test: [each.mean for each in tests], "95 % of test": [[each.low, each.high] for each in tests]}
    columns |= {"n": [len(each.trials) for each in found], "of": [each.n_asked for each in found]}
    if any(each.diverged for each in found):
        columns["diverged"] = [each.diverged for each in found]
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(table.select(names).iter_rows() if names else [()] * table.height):
        rows.setdefault(values, []).append(row)
    of_settings = zip(*(columns[name] for name in names), strict=True) if names else [()] * len(found)
    return {"columns": columns, "trials": [rows.get(tuple(values), []) for values in of_settings]}


def _data(results: "Results", table: "pl.DataFrame", found: Sequence[Setting]) -> dict[str, Any]:
    metrics = [results.metric, *(name for name in _METRICS if name != results.metric)]
    metrics = [name for name in metrics if name in table.columns and (name == results.metric or table[name].count())]
    others = [name for name in (*REPORTED, "epochs", "seconds") if name in table.columns]
    numbers = numbered(results.names, table.select(results.names).rows())
    matter = importance(table, results.names, results.metric)
    most = max(Counter(numbers).values())
    columns = {name: table[name].to_list() for name in ["trial", *results.names, *metrics, *others]}
    columns["status"] = [_CUT if is_cut(table, row) else end for row, end in enumerate(table["status"].to_list())]
    return {
        "metric": results.metric,
        "metrics": [_described(name) for name in metrics],
        "names": results.names,
        "varied": varied(table, results.names),
        "others": others,
        "columns": columns,
        "cut": _CUT,
        "order": ordered_rows(table, results.metric),
        "ranked": _ranked(results, found, table),
        "scales": {name: scale(table[name].to_list())._asdict() for name in results.names},
        "settings": numbers,
        "hasSeeds": "seed" in results.names,
        "t": [None, None, *(student_t(n) for n in range(2, most + 1))],
        "chosen": _chosen(found, table) or best_rows(table, results.metric, _CHOSEN),
        "importance": {**matter._asdict(), "bars": [bar._asdict() for bar in matter.bars]},
        "curves": [_thinned(results.curves(trial)) for trial in table["trial"].to_list()],
        "mostEpochs": _MOST_EPOCHS,
    }


def _chosen(found: Sequence[Setting], table: "pl.DataFrame") -> list[int]:
    """Return the rows of the best trials of the best settings."""
    rows = {number: row for row, number in enumerate(table["trial"].to_list())}
    return [rows[setting.trials[0]] for setting in found[:_CHOSEN] if math.isfinite(setting.mean)]


def _described(metric: str) -> dict[str, Any]:
    low, high = bounds(metric)  # an infinite one becomes null
    return {"name": metric, "label": label(metric), "isHigh": is_better_high(metric), "low": low, "high": high}


def _thinned(curves: "pl.DataFrame") -> dict[str, Any]:
    """Return the columns that hold numbers, thinned to what a screen shows; the last epoch always stays."""
    height = curves.height
    rows: Sequence[int] = range(height)
    if height > _MOST_EPOCHS:
        rows = [round(place * (height - 1) / (_MOST_EPOCHS - 1)) for place in range(_MOST_EPOCHS)]
    columns = {name: curves[name].to_list() for name in curves.columns if curves[name].dtype.is_numeric()}
    return {name: [_short(c[row]) for row in rows] for name, c in columns.items() if any(v is not None for v in c)}


def _short(value: float | None) -> float | None:
    if value is None or isinstance(value, int) or not math.isfinite(value):
        return value
    return float(f"{value:.{_DIGITS}g}")
