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
from jaxmlp._intervals import student_t
from jaxmlp.plots._figure import png
from jaxmlp.storage.files import check_place, to_json, write_whole
from jaxmlp.sweep.metrics import REPORTED, bounds, counted, is_better_high, label, numbered, on_test
from jaxmlp.sweep.report._axes import scale
from jaxmlp.sweep.report._importance import importance, varied
from jaxmlp.sweep.report._pictures import PICTURES, best_rows
from jaxmlp.sweep.results import warn_if_unfinished
from jaxmlp.training.history import STATUSES

if TYPE_CHECKING:
    import polars as pl

    from jaxmlp.sweep.results import Results

__all__ = ["write_pictures", "write_report"]

_METRICS = ("validation_accuracy", "validation_r2", "validation_loss", "train_loss")
_CHOSEN = 5  # trials selected at first
_MOST_EPOCHS = 200  # of a curve; a screen shows no more
_DIGITS = 4
# The parts of the page's script, in this order.
_SCRIPTS = (
    "trials",
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

    It has a table of all trials to sort and to filter, and filters apply to every picture; learning curves of selected
    trials; the metric against every hyperparameter, as means over seeds with 95 % intervals (Student's t); a heat map
    of two hyperparameters; parallel coordinates; and which hyperparameters matter (permutation importance of a random
    forest, and how well that forest predicts). Diverged trials are drawn as crosses and counted. Curves of more than
    200 epochs are thinned to 200; numbers in them have four digits.

    It is a ValueError if there are no trials or `path` is no file, and an ImportError if a package is missing.

    Examples
    --------
    >>> import polars as pl, tempfile
    >>> from types import SimpleNamespace
    >>> table = pl.DataFrame({"trial": [0], "learning_rate": [0.1], "validation_loss": [0.5], "status": ["finished"]})
    >>> curve = pl.DataFrame({"epoch": [1, 2], "validation_loss": [0.9, 0.5]})
    >>> results = SimpleNamespace(table=lambda: table, curves=lambda trial: curve, title="digits")
    >>> results.names, results.metric, results.unfinished = ("learning_rate",), "validation_loss", None
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
    itables = optional("itables", "sweep")
    tables = importlib.resources.files(itables) / "html"  # DataTables and its extensions, in one module
    return Template((ours / "page.html").read_text("utf-8")).substitute(
        title=html.escape(results.title),
        facts=html.escape(_facts(results, table)),
        style=(tables / "dt_bundle.css").read_text("utf-8") + (ours / "style.css").read_text("utf-8"),
        data=_packed(to_json(_data(results, table))),
        tables=_packed((tables / "dt_bundle.js").read_text("utf-8")),
        plotly=_packed(optional("plotly.offline", "sweep").get_plotlyjs()),
        script="\n".join((ours / f"{name}.js").read_text("utf-8") for name in _SCRIPTS),
    )


def _packed(text: str) -> str:
    """Return text as base64 of gzip: half as long, and no user's text can end the HTML element that holds it."""
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()


def _facts(results: "Results", table: "pl.DataFrame") -> str:
    """Return the header in words: trials and how they ended, the best one, and what did not vary."""
    status = table["status"].to_list()
    ends = ", ".join(f"{status.count(end)} {end}" for end in STATUSES if end in status)
    row = best_rows(table, results.metric, 1)[0]
    value = table[results.metric][row]
    facts = f"{results.unfinished or counted(table.height, 'trial')}: {ends}."
    if value is None or not math.isfinite(value):
        facts += f" None has a finite {label(results.metric)}."
    else:
        is_chosen = table.height > 1 and results.metric.startswith("validation")
        caution = f" (the best of {table.height:,} on the same data, so it is too optimistic)" if is_chosen else ""
        facts += f" Best {label(results.metric)}: {value:.4g}, of trial {table['trial'][row]}{caution}"
        test = on_test(results.metric)
        reported = table[test][row] if test in table.columns else None
        facts += "." if reported is None else f"; its {label(test)}: {reported:.4g}."
    held = [name for name in results.names if table[name].n_unique() == 1]
    if table.height > 1 and held:
        facts += " The same in all trials: " + ", ".join(f"{name} = {table[name][0]}" for name in held) + "."
    return facts


def _data(results: "Results", table: "pl.DataFrame") -> dict[str, Any]:
    metrics = [results.metric, *(name for name in _METRICS if name != results.metric)]
    metrics = [name for name in metrics if name in table.columns and (name == results.metric or table[name].count())]
    others = [name for name in (*REPORTED, "epochs", "seconds") if name in table.columns]
    numbers = numbered(results.names, table.select(results.names).rows())
    matter = importance(table, results.names, results.metric)
    most = max(Counter(numbers).values())
    return {
        "metric": results.metric,
        "metrics": [_described(name) for name in metrics],
        "names": results.names,
        "varied": varied(table, results.names),
        "others": others,
        "columns": {name: table[name].to_list() for name in ["trial", *results.names, *metrics, *others, "status"]},
        "scales": {name: scale(table[name].to_list())._asdict() for name in results.names},
        "settings": numbers,
        "hasSeeds": "seed" in results.names,
        "t": [None, None, *(student_t(n) for n in range(2, most + 1))],
        "chosen": best_rows(table, results.metric, _CHOSEN),
        "importance": {**matter._asdict(), "bars": [bar._asdict() for bar in matter.bars]},
        "curves": [_thinned(results.curves(trial)) for trial in table["trial"].to_list()],
        "mostEpochs": _MOST_EPOCHS,
    }


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
