"""The picture of every hyperparameter: the metric of each setting against it."""

import math
from statistics import fmean, geometric_mean
from typing import TYPE_CHECKING, NamedTuple

from jaxmlp.plots._figure import plain_decades
from jaxmlp.sweep.report._axes import (
    BAD,
    FEW_VALUES,
    MetricAxis,
    Scale,
    axis_places,
    is_diverged,
    lay_out,
    metric_axis,
    new_picture,
    scale,
    tidy,
)
from jaxmlp.sweep.report._importance import varied
from jaxmlp.sweep.settings import interval, numbered

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

__all__ = ["draw_hyperparameters"]

_COLUMNS = 3


class _Setting(NamedTuple):
    """A setting's place on the axis, its mean, half of its 95 % interval (0 if unknown), and its trials."""

    x: float
    mean: float | None
    half: float
    n_diverged: int
    n: int


def draw_hyperparameters(results: "Results", table: "pl.DataFrame") -> "Figure | None":
    """Return a figure with a panel for each hyperparameter that varies, None if there is none."""
    names = varied(table, results.names)
    if not names:
        return None
    metric = metric_axis(results, table)
    columns = min(_COLUMNS, len(names))
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
    crosses = "Crosses at the foot: diverged, of all trials there." if any(is_diverged(table)) else ""
    line = "The line joins the means of the points. "
    figure.supxlabel(seeds + line + crosses, fontsize=8, color="0.35")
    return figure


def _settings(results: "Results", table: "pl.DataFrame", metric: MetricAxis, how: Scale, name: str) -> list[_Setting]:
    groups: dict[int, list[int]] = {}
    for row, number in enumerate(numbered(results.names, table.select(results.names).rows())):
        groups.setdefault(number, []).append(row)
    places, diverged = axis_places(how, table[name].to_list()), is_diverged(table)
    found = []
    for rows in groups.values():
        values = [v for row in rows if (v := metric.values[row]) is not None]
        mean, _, high = interval(values) if values else (None, 0.0, math.nan)
        half = 0.0 if mean is None or math.isnan(high) else high - mean
        n_diverged = sum(diverged[row] for row in rows)
        found.append(_Setting(places[rows[0]], mean, half, n_diverged, len(rows)))
    return found


def _draw_settings(axes: "Axes", found: list[_Setting], metric: MetricAxis) -> None:
    if metric.is_log:
        axes.set_yscale("log")
        plain_decades(axes.yaxis, metric.low, metric.high)
    axes.set_ylim(_below(metric) if any(s.n_diverged for s in found) else metric.low, metric.high)
    drawn = [s for s in found if s.mean is not None and math.isfinite(s.x)]
    held = [min(max(s.mean, metric.low), metric.high) for s in drawn if s.mean is not None]
    x = [s.x for s in drawn]
    axes.errorbar(x, held, [s.half for s in drawn], fmt="none", ecolor="C0", elinewidth=0.6, alpha=0.5)
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


def _below(metric: MetricAxis) -> float:
    """Return where the axis ends if there is to be room for crosses below the points."""
    if metric.is_log:
        return metric.low / (metric.high / metric.low) ** 0.16
    return metric.low - 0.16 * (metric.high - metric.low)
