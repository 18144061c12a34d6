"""Static pictures of a sweep, for papers."""

import math
from collections.abc import Callable
from textwrap import fill
from typing import TYPE_CHECKING

from jaxmlp._extras import optional
from jaxmlp.plots._figure import plain_decades
from jaxmlp.sweep.metrics import is_better_high, label
from jaxmlp.sweep.report._axes import new_picture, shortened, tidy
from jaxmlp.sweep.report._heat_map import draw_heat_map
from jaxmlp.sweep.report._hyperparameters import draw_hyperparameters
from jaxmlp.sweep.report._importance import Importance
from jaxmlp.sweep.report._parallel_coordinates import draw_parallel_coordinates

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

__all__ = ["PICTURES", "best_rows"]


def best_rows(table: "pl.DataFrame", metric: str, number: int) -> list[int]:
    """Return the rows of the best trials, best first; of the first trials if none has a finite metric."""
    values = [math.nan if v is None else v for v in table[metric].to_list()]
    rows = [row for row in range(table.height) if math.isfinite(values[row])]
    rows.sort(key=lambda row: values[row], reverse=is_better_high(metric))
    return (rows or list(range(table.height)))[:number]


def _draw_learning_curves(results: "Results", table: "pl.DataFrame") -> "Figure | None":
    chosen = best_rows(table, results.metric, 5)
    curves = [results.curves(table["trial"][row]) for row in chosen]
    loss = "test_loss" if any(_has(c, "test_loss") for c in curves) else "train_loss"
    names = [name for name in dict.fromkeys((loss, results.metric)) if any(_has(c, name) for c in curves)]
    if not names:
        return None
    figure = new_picture(4.6 * len(names) + 1.6, 3.4, results.title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for row, curve in zip(chosen, curves, strict=True):
            if _has(curve, name):
                y = [math.nan if v is None else v for v in curve[name].to_list()]
                marker = "." if len(y) < 15 else ""
                axes.plot(curve["epoch"].to_list(), y, label=f"trial {table['trial'][row]}", marker=marker)
        if not is_better_high(name) and axes.dataLim.y0 > 0:
            axes.set_yscale("log")
            plain_decades(axes.yaxis, axes.dataLim.y0, axes.dataLim.y1)
        tidy(axes, "epoch", label(name))
        axes.xaxis.set_major_locator(optional("matplotlib.ticker", "sweep").MaxNLocator(integer=True))
    handles = list(axes.get_lines())
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return figure


def _has(curve: "pl.DataFrame", name: str) -> bool:
    return name in curve.columns and curve[name].null_count() < curve.height


def _draw_importance(results: "Results", matter: Importance) -> "Figure | None":
    if not matter.bars:
        return None
    bars = matter.bars[::-1]
    figure = new_picture(6, 1.7 + 0.36 * len(bars), results.title)
    axes = figure.subplots()
    drops = [bar.drop for bar in bars]
    whiskers = [[bar.drop - bar.low for bar in bars], [bar.high - bar.drop for bar in bars]]
    axes.barh(range(len(bars)), drops, 0.55, xerr=whiskers, color="C0", error_kw={"elinewidth": 0.8, "capsize": 2})
    axes.set_yticks(range(len(bars)), [shortened(bar.name, 24) for bar in bars], parse_math=False)
    tidy(axes, "R² lost when shuffled", "")
    figure.supxlabel(
        fill(f"{matter.words} Whiskers: the smallest and the largest of five folds.", 100), fontsize=7, color="0.35"
    )
    return figure


PICTURES: dict[str, Callable[["Results", "pl.DataFrame", Importance], "Figure | None"]] = {
    "hyperparameters": lambda results, table, _: draw_hyperparameters(results, table),
    "learning_curves": lambda results, table, _: _draw_learning_curves(results, table),
    "parallel_coordinates": lambda results, table, _: draw_parallel_coordinates(results, table),
    "importance": lambda results, _, matter: _draw_importance(results, matter),
    "heat_map": draw_heat_map,
}
