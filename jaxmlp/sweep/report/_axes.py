"""Axes of a sweep's pictures: how a hyperparameter or the metric is laid out, in the report and in static pictures."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxmlp.plots._figure import new_figure, plain_decades
from jaxmlp.sweep.metrics import is_better_high, label

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

FEW_VALUES = 12  # each with a place on an axis; more are drawn on a continuous axis
BAD = "#c2410c"


class Scale(NamedTuple):
    """An axis: `linear`, `log` or `category` (a place for each value), and its values in order, if they are few."""

    kind: str
    values: list[Any] | None


def scale(values: Sequence[Any]) -> Scale:
    """Return the axis of a hyperparameter: categories for text, else linear, or logarithmic if that spreads it better.

    >>> scale([0.1, 0.01, 0.001, 0.1]), scale([0.5, 0.9, 0.95]).kind, scale(["128,64", "32"])
    (Scale(kind='log', values=[0.001, 0.01, 0.1]), 'linear', Scale(kind='category', values=['32', '128,64']))
    """
    distinct = set(values)
    numbers = sorted(v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool))
    finite = bool(numbers) and all(map(math.isfinite, numbers))
    is_few = len(distinct) <= FEW_VALUES
    if not finite or len(numbers) < len(distinct - {None}) or (is_few and None in distinct):
        return Scale("category", sorted(distinct, key=_natural))
    positive = [v for v in numbers if v > 0]
    is_log = _is_log_spread(positive)
    if is_log and len(positive) < len(numbers):  # no logarithm of 0, and no room for the others on a linear axis
        return Scale("category", list(numbers)) if is_few else Scale("linear", None)
    return Scale("log" if is_log else "linear", numbers if is_few else None)


def _natural(value: Any) -> tuple[bool, list[tuple[bool, float, str]]]:
    """Return a key that sorts `64` before `128`, and missing values last."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", "" if value is None else str(value))
    return value is None, [(not p[0].isdecimal(), float(p) if p[0].isdecimal() else 0.0, p) for p in parts]


def _is_log_spread(numbers: Sequence[float]) -> bool:
    def largest_gap(values: Sequence[float]) -> float:
        return max(b - a for a, b in pairwise(values)) / (values[-1] - values[0])

    if len(numbers) < 2 or numbers[-1] < 4 * numbers[0]:
        return False
    return len(numbers) == 2 or largest_gap([math.log(v) for v in numbers]) < largest_gap(numbers)


def hold(values: np.ndarray, is_high: bool) -> np.ndarray:
    """Move outliers on the worse side, more than three interquartile ranges beyond a quartile, to the next value.

    >>> hold(np.array([0.8, -1e4, 0.9, 0.7, 0.6, 0.75]), True).tolist()
    [0.8, 0.6, 0.9, 0.7, 0.6, 0.75]
    """
    first, third = np.quantile(values, [0.25, 0.75], method="nearest") if values.size else (0, 0)
    fence = 3 * (third - first)
    if fence == 0:
        return values
    if is_high:
        return np.maximum(values, values[values >= first - fence].min())
    return np.minimum(values, values[values <= third + fence].max())


class MetricAxis(NamedTuple):
    """The metric's axis: its values (None where a trial has none), which trials diverged, label and range."""

    values: list[float | None]
    diverged: list[bool]
    label: str
    is_log: bool
    is_high: bool
    low: float
    high: float


def metric_axis(results: "Results", table: "pl.DataFrame") -> MetricAxis:
    lost = [status == "diverged" for status in table["status"].to_list()]
    values = [
        float(v) if v is not None and math.isfinite(v) and not bad else None
        for v, bad in zip(table[results.metric].to_list(), lost, strict=True)
    ]
    finite, is_high = sorted(v for v in values if v is not None), is_better_high(results.metric)
    if not finite:
        return MetricAxis(values, lost, label(results.metric), False, is_high, 0, 1)
    is_log = not is_high and finite[0] > 0 and finite[-1] > 20 * finite[0]
    # Far outliers on the worse side would leave no room for the rest: they are drawn at the edge of the axis.
    held = hold(np.log10(finite) if is_log else np.array(finite), is_high)
    low, high = float(held.min()), float(held.max())
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    low, high = low - pad, high + pad
    if is_log:
        low, high = 10**low, 10**high
    return MetricAxis(values, lost, label(results.metric), is_log, is_high, low, high)


def axis_places(how: Scale, values: Sequence[Any]) -> list[float]:
    """Return the positions of values on an axis; matplotlib takes the logarithm itself."""
    if how.kind == "category":
        return [float((how.values or []).index(v)) for v in values]
    return [math.nan if v is None else float(v) for v in values]


def as_text(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def shortened(text: Any, length: int = 18) -> str:
    return text if len(text := as_text(text)) <= length else f"{text[: length - 1]}…"


def lay_out(axes: "Axes", how: Scale, values: Sequence[Any]) -> None:
    """Set range, scale and ticks of the x axis of a hyperparameter; a user's text is never markup."""
    places = [place for place in axis_places(how, values) if math.isfinite(place)]
    low, high = min(places), max(places)
    if how.kind == "log":
        axes.set_xscale("log")
        pad = (high / low) ** 0.08
        axes.set_xlim(low / pad, high * pad)
        plain_decades(axes.xaxis, low, high)
        if how.values and len(how.values) <= 6:  # more would overlap
            axes.set_xticks(how.values, list(map(as_text, how.values)))
    else:
        pad = 0.08 * (high - low) or 0.5
        axes.set_xlim(low - pad, high + pad)
    if how.kind == "category" and how.values:
        name_places(axes, list(map(shortened, how.values)), 28)


def name_places(axes: "Axes", names: Sequence[str], room: int) -> None:
    """Name the places 0, 1, ... of the x axis, slanted if they have more than `room` letters."""
    slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > room else {}
    axes.set_xticks(range(len(names)), names, parse_math=False, **slant)


def new_picture(width: float, height: float, title: str) -> "Figure":
    figure = new_figure(width, height, shortened(title, int(width * 13)))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06)  # type: ignore[call-arg, union-attr]
    return figure


def tidy(axes: "Axes", x: str, y: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(shortened(x, 32), parse_math=False)
    axes.set_ylabel(shortened(y, 32), parse_math=False)


def unit_axis(how: Scale, values: Sequence[Any]) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """Return a function from positions on an axis to [0, 1], and the axis' ticks."""
    places = sorted({p for p in axis_places(how, values) if math.isfinite(p)})
    to = math.log10 if how.kind == "log" else float
    low, high = to(places[0]), to(places[-1])
    marks = places if how.values and len(places) <= FEW_VALUES else [places[0], places[-1]]
    texts = how.values if how.kind == "category" and how.values else marks
    ticks = [(p, shortened(texts[int(p)] if how.kind == "category" else p)) for p in marks]

    def unit(place: float) -> float:
        return (to(place) - low) / (high - low) if high > low else 0.5

    return unit, ticks
