"""Parallel coordinates: a line for each trial through its hyperparameters to its metric, the best drawn on top."""

from typing import TYPE_CHECKING

from jaxmlp._extras import optional
from jaxmlp.sweep.report._axes import (
    BAD,
    Scale,
    as_text,
    axis_places,
    metric_axis,
    new_picture,
    scale,
    shortened,
    unit_axis,
)
from jaxmlp.sweep.report._importance import varied

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

__all__ = ["draw_parallel_coordinates"]


def draw_parallel_coordinates(results: "Results", table: "pl.DataFrame") -> "Figure | None":
    """Return a figure with an axis for each hyperparameter that varies, None if there is none."""
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
