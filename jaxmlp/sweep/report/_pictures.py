"""Static pictures of a sweep, for papers: each is a figure, None where it has nothing to show."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, geometric_mean
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxmlp._extras import optional
from jaxmlp._intervals import interval
from jaxmlp.plots._figure import plain_decades
from jaxmlp.sweep.metrics import bounds, is_better_high, label, numbered
from jaxmlp.sweep.report._axes import (
    BAD,
    FEW_VALUES,
    MetricAxis,
    Scale,
    as_text,
    axis_places,
    lay_out,
    metric_axis,
    name_places,
    new_picture,
    scale,
    shortened,
    tidy,
    unit_axis,
)
from jaxmlp.sweep.report._importance import Importance, varied

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

_BINS = 8  # of a heat map's axis with many values


def ordered_rows(table: "pl.DataFrame", metric: str) -> list[int]:
    """Return the rows, the best trial first, of a tie the first; then trials that halving stopped; the diverged last.

    Those without a finite metric come last in each of these.
    """
    values, status = (table[name].to_list() for name in (metric, "status"))
    sign = -1 if is_better_high(metric) else 1

    def rank(row: int) -> tuple[bool, bool, bool, float]:
        value = math.nan if values[row] is None else values[row]
        is_number = math.isfinite(value)
        return status[row] == "diverged", is_cut(table, row), not is_number, sign * value if is_number else 0.0

    return sorted(range(table.height), key=rank)


def is_cut(table: "pl.DataFrame", row: int) -> bool:
    """Tell whether halving stopped a trial."""
    return "stopped_by" in table.columns and table["stopped_by"][row] == "halving"


def best_rows(table: "pl.DataFrame", metric: str, number: int) -> list[int]:
    """Return the rows of the best trials, best first; of the first trials if none has a finite metric."""
    values = [math.nan if value is None else value for value in table[metric].to_list()]
    rows = [row for row in ordered_rows(table, metric) if math.isfinite(values[row])]
    return (rows or list(range(table.height)))[:number]


def _draw_learning_curves(results: "Results", table: "pl.DataFrame", matter: Importance) -> "Figure | None":
    chosen = best_rows(table, results.metric, 5)
    curves = [results.curves(table["trial"][row]) for row in chosen]
    loss = "validation_loss" if any(_has(c, "validation_loss") for c in curves) else "train_loss"
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
    figure.legend(handles=list(axes.get_lines()), loc="outside right center", frameon=False, fontsize=8)
    return figure


def _has(curve: "pl.DataFrame", name: str) -> bool:
    return name in curve.columns and curve[name].null_count() < curve.height


def _draw_importance(results: "Results", table: "pl.DataFrame", matter: Importance) -> "Figure | None":
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
    words = fill(f"{matter.words} Whiskers: the smallest and the largest of five folds.", 100)
    figure.supxlabel(words, fontsize=7, color="0.35")
    return figure


class _Setting(NamedTuple):
    """A setting's place on the axis, its mean, the ends of its 95 % interval (the mean if unknown), its trials."""

    x: float
    mean: float | None
    low: float
    high: float
    n_diverged: int
    n: int


def _draw_hyperparameters(results: "Results", table: "pl.DataFrame", matter: Importance) -> "Figure | None":
    """Draw the metric of each setting against every hyperparameter that varies."""
    names = varied(table, results.names)
    if not names:
        return None
    metric = metric_axis(results, table)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_picture(max(3.6 * columns, 5), 3.1 * rows + 0.3, results.title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        how = scale(table[name].to_list())
        _draw_settings(axes, _settings(results, table, metric, how, name), metric)
        lay_out(axes, how, table[name].to_list())
        tidy(axes, name, metric.label)
    seeds = "Means over seeds with 95 % intervals (Student t). " if "seed" in results.names else ""
    crosses = "Crosses at the foot: diverged, of all trials there." if any(metric.diverged) else ""
    figure.supxlabel(f"{seeds}The line joins the means of the points. {crosses}", fontsize=8, color="0.35")
    return figure


def _settings(results: "Results", table: "pl.DataFrame", metric: MetricAxis, how: Scale, name: str) -> list[_Setting]:
    groups: dict[int, list[int]] = {}
    for row, number in enumerate(numbered(results.names, table.select(results.names).rows())):
        groups.setdefault(number, []).append(row)
    places = axis_places(how, table[name].to_list())
    found = []
    for rows in groups.values():
        values = [v for row in rows if (v := metric.values[row]) is not None]
        mean, low, high = interval(values, *bounds(results.metric)) if values else (None, math.nan, math.nan)
        low, high = (mean or 0.0, mean or 0.0) if math.isnan(high) else (low, high)
        n_diverged = sum(metric.diverged[row] for row in rows)
        found.append(_Setting(places[rows[0]], mean, low, high, n_diverged, len(rows)))
    return found


def _draw_settings(axes: "Axes", found: list[_Setting], metric: MetricAxis) -> None:
    if metric.is_log:
        axes.set_yscale("log")
        plain_decades(axes.yaxis, metric.low, metric.high)
    low = metric.low
    if any(s.n_diverged for s in found):  # so that there is room for crosses below the points
        low = low / (metric.high / low) ** 0.16 if metric.is_log else low - 0.16 * (metric.high - low)
    axes.set_ylim(low, metric.high)
    drawn = [s for s in found if s.mean is not None and math.isfinite(s.x)]
    held = [min(max(s.mean, metric.low), metric.high) for s in drawn if s.mean is not None]
    x = [s.x for s in drawn]
    axes.vlines(x, [s.low for s in drawn], [s.high for s in drawn], colors="C0", linewidth=0.6, alpha=0.5)
    at_edge = [y != s.mean for s, y in zip(drawn, held, strict=True)]
    for marker, is_wanted in (("o", False), ("v" if metric.is_high else "^", True)):
        points = [(a, b) for a, b, is_held in zip(x, held, at_edge, strict=True) if is_held is is_wanted]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color="C0", markersize=3.5, alpha=0.6, markeredgewidth=0)
    _join_means(axes, x, held, metric.is_log)
    _mark_diverged(axes, [s for s in found if math.isfinite(s.x)])


def _join_means(axes: "Axes", x: list[float], y: list[float], is_log: bool) -> None:
    """Join the means of the points at each place, where places are few and points are more."""
    at = sorted(set(x))
    if 1 < len(at) < len(x) and len(at) <= FEW_VALUES:
        mean = geometric_mean if is_log else fmean
        means = [mean(value for place, value in zip(x, y, strict=True) if place == one) for one in at]
        axes.plot(at, means, color="0.2", linewidth=1, marker="_", markersize=9)


def _mark_diverged(axes: "Axes", found: list[_Setting]) -> None:
    """Mark places with diverged trials by a cross at the foot, and count them where places are few."""
    lost = sorted({s.x for s in found if s.n_diverged})
    foot = axes.get_xaxis_transform()
    axes.plot(lost, [0.03] * len(lost), "x", color=BAD, markersize=5, transform=foot)
    if len(lost) <= FEW_VALUES:
        for place in lost:
            there = [s for s in found if s.x == place]
            text = f"{sum(s.n_diverged for s in there)}/{sum(s.n for s in there)}"
            axes.text(place, 0.06, text, transform=foot, ha="center", size=6, color=BAD).set_in_layout(False)


def _draw_parallel_coordinates(results: "Results", table: "pl.DataFrame", matter: Importance) -> "Figure | None":
    """Draw a line for each trial through its hyperparameters to its metric, the best on top."""
    names = varied(table, results.names)
    if not names:
        return None
    metric, end = metric_axis(results, table), len(names)
    figure = new_picture(max(6, 1.7 * (end + 1)), 3.8, results.title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-0.3, end + 0.35), ylim=(-0.2, 1.14))
    columns = []
    for place, name in enumerate(names):
        how = scale(table[name].to_list())
        unit, ticks = unit_axis(how, table[name].to_list())
        columns.append([unit(v) for v in axis_places(how, table[name].to_list())])
        _upright(axes, place, name, [(unit(at), text) for at, text in ticks])
    up = unit_axis(Scale("log" if metric.is_log else "linear", None), [metric.low, metric.high])[0]
    scores = [None if v is None else min(max(up(v), 0.0), 1.0) for v in metric.values]
    heights = [-0.12 if s is None else s if metric.is_high else 1 - s for s in scores]
    ticker = optional("matplotlib.ticker", "sweep")
    locator = ticker.LogLocator(subs=(1, 2, 5)) if metric.is_log else ticker.MaxNLocator(5)
    marks = [float(v) for v in locator.tick_values(metric.low, metric.high) if metric.low <= v <= metric.high]
    _upright(axes, end, metric.label, [(up(v) if metric.is_high else 1 - up(v), as_text(v)) for v in marks])
    colours = optional("matplotlib", "sweep").colormaps["viridis_r"]
    for row in sorted(range(table.height), key=lambda row: heights[row]):
        y = [column[row] for column in columns] + [heights[row]]
        is_lost = scores[row] is None
        look = {"color": BAD, "linestyle": ":"} if is_lost else {"color": colours(heights[row])}
        axes.plot(range(end + 1), y, linewidth=0.6 if table.height > 300 else 0.9, alpha=0.8, **look)
    if None in scores:
        axes.text(end + 0.04, -0.12, "diverged", size=7, color=BAD, va="center")
    return figure


def _upright(axes: "Axes", place: int, name: str, ticks: list[tuple[float, str]]) -> None:
    axes.plot([place, place], [0, 1], color="0.4", linewidth=0.8)
    axes.text(place, 1.05, shortened(name), ha="center", va="bottom", size=8, weight="bold", parse_math=False)
    for height, text in ticks:
        frame = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
        axes.text(place - 0.04, height, text, ha="right", va="center", size=6.5, parse_math=False, bbox=frame)


def _draw_heat_map(results: "Results", table: "pl.DataFrame", matter: Importance) -> "Figure | None":
    """Draw the mean metric over the two hyperparameters that matter most."""
    names = list(dict.fromkeys([*(bar.name for bar in matter.bars), *varied(table, results.names)]))[:2]
    if len(names) < 2:
        return None
    metric = metric_axis(results, table)
    (across, x), (up, y) = (_cells(table[name].to_list()) for name in names)
    figure = new_picture(max(5.5, 0.62 * len(across) + 2.6), max(4, 0.42 * len(up) + 1.8), results.title)
    axes = figure.subplots()
    means = [[math.nan] * len(across) for _ in up]
    for i, j in sorted(set(zip(y, x, strict=True))):
        rows = [row for row in range(table.height) if (y[row], x[row]) == (i, j)]
        values = [v for row in rows if (v := metric.values[row]) is not None]
        bad = sum(metric.diverged[row] for row in rows)
        if min(i, j) < 0:
            continue
        if values:
            means[i][j] = fmean(values)
        else:
            cell = {"facecolor": "0.93", "edgecolor": "0.6", "hatch": "////", "linewidth": 0}
            axes.add_patch(optional("matplotlib.patches", "sweep").Rectangle((j - 0.5, i - 0.5), 1, 1, **cell))
        if bad:
            frame = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
            axes.text(j, i, f"✕ {bad}/{len(rows)}", ha="center", va="center", size=6, color=BAD, bbox=frame)
    colours = optional("matplotlib.colors", "sweep")
    norm = (colours.LogNorm if metric.is_log else colours.Normalize)(metric.low, metric.high)
    cmap = "viridis_r" if metric.is_high else "viridis"
    image = axes.imshow(means, cmap=cmap, norm=norm, origin="lower", aspect="auto")
    figure.colorbar(image, ax=axes).set_label(f"mean {metric.label}", parse_math=False)
    name_places(axes, across, 45)
    axes.set_yticks(range(len(up)), up, parse_math=False)
    tidy(axes, *names)
    if any(metric.diverged):
        figure.supxlabel("Hatched: no trial with a value. ✕ 1/4: one of four diverged.", fontsize=7, color="0.35")
    return figure


def _cells(values: Sequence[Any]) -> tuple[list[str], list[int]]:
    """Return the labels of a heat map's cells along an axis, and each trial's cell: -1 if it has none."""
    how = scale(values)
    if how.values is not None:
        return [shortened(v) for v in how.values], [how.values.index(v) for v in values]
    unit, _ = unit_axis(how, values)
    finite = sorted(v for v in values if v is not None)
    to, back = (math.log10, lambda u: 10**u) if how.kind == "log" else (float, float)
    low, high = to(finite[0]), to(finite[-1])
    edges = [f"{back(low + (high - low) * i / _BINS):.2g}" for i in range(_BINS + 1)]
    labels = [f"{a} – {b}" for a, b in pairwise(edges)]
    return labels, [-1 if v is None else min(_BINS - 1, int(unit(float(v)) * _BINS)) for v in values]


PICTURES: dict[str, Callable[["Results", "pl.DataFrame", Importance], "Figure | None"]] = {
    "hyperparameters": _draw_hyperparameters,
    "learning_curves": _draw_learning_curves,
    "parallel_coordinates": _draw_parallel_coordinates,
    "importance": _draw_importance,
    "heat_map": _draw_heat_map,
}
