"""Static pictures of a sweep, for papers; and how a hyperparameter is laid out on an axis, for all pictures of it."""

import math
import re
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise
from statistics import fmean, geometric_mean, stdev
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxmlp._extras import optional
from jaxmlp.sweep._importance import Importance, hold, is_better_high, settings, varied

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

__all__ = ["PICTURES", "Scale", "best", "label", "scale", "student_t"]

_FEW_VALUES = 12  # that get a place each on an axis; more are drawn as a continuum
_BINS = 8
_DOTS = 200  # an inch
_BAD = "#c2410c"
_COLUMNS = 3
_FEW_TICKS = 6


class Scale(NamedTuple):
    """An axis: `linear`, `log` or `category` (a place for each value), and its values in order, if they are few."""

    kind: str
    values: list[Any] | None


def scale(values: Sequence[Any]) -> Scale:
    """Lay out a hyperparameter: texts by place, numbers by size, on a logarithmic axis if that spreads them better.

    >>> scale([0.1, 0.01, 0.001, 0.1]), scale([0.5, 0.9, 0.95]).kind, scale(["128,64", "32"])
    (Scale(kind='log', values=[0.001, 0.01, 0.1]), 'linear', Scale(kind='category', values=['32', '128,64']))
    """
    distinct = set(values)
    numbers = sorted(v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool))
    finite = bool(numbers) and all(map(math.isfinite, numbers))
    is_few = len(distinct) <= _FEW_VALUES
    if not finite or len(numbers) < len(distinct - {None}) or (is_few and None in distinct):
        return Scale("category", sorted(distinct, key=_natural))
    positive = [v for v in numbers if v > 0]
    is_log = _is_log_spread(positive)
    if is_log and len(positive) < len(numbers):  # no logarithm of 0, and no room for the others on a linear axis
        return Scale("category", list(numbers)) if is_few else Scale("linear", None)
    return Scale("log" if is_log else "linear", numbers if is_few else None)


def _natural(value: Any) -> tuple[bool, list[tuple[bool, float, str]]]:
    """Sort `64` before `128`, and what is missing behind everything."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", "" if value is None else str(value))
    return value is None, [(not p[0].isdecimal(), float(p) if p[0].isdecimal() else 0.0, p) for p in parts]


def _is_log_spread(numbers: Sequence[float]) -> bool:
    if len(numbers) < 2 or numbers[-1] < 4 * numbers[0]:
        return False
    return len(numbers) == 2 or _largest_gap([math.log(v) for v in numbers]) < _largest_gap(numbers)


def _largest_gap(numbers: Sequence[float]) -> float:
    return max(b - a for a, b in pairwise(numbers)) / (numbers[-1] - numbers[0])


def label(metric: str) -> str:
    """Write a metric's column as words: `test_r2` as `test R²`."""
    return metric.replace("_r2", "_R²").replace("_", " ")


def student_t(n: int) -> float:
    """Return how many standard errors are half of a 95 % interval of Student's t around a mean of n numbers."""
    return float(optional("scipy.stats", "sweep").t.ppf(0.975, n - 1))


def best(table: "pl.DataFrame", metric: str, number: int) -> list[int]:
    """Return the rows of the best trials, best first; of the first trials if none has a finite metric."""
    values = [math.nan if v is None else v for v in table[metric].to_list()]
    rows = [row for row in range(table.height) if math.isfinite(values[row])]
    rows.sort(key=lambda row: values[row], reverse=is_better_high(metric))
    return (rows or list(range(table.height)))[:number]


class _Metric(NamedTuple):
    """What is drawn upwards: its values (None where a trial has none), its words, and how its axis is laid out."""

    values: list[float | None]
    label: str
    is_log: bool
    is_high: bool
    low: float
    high: float


def _metric(results: "Results", table: "pl.DataFrame") -> _Metric:
    diverged = _diverged(table)
    values = [
        float(v) if v is not None and math.isfinite(v) and not bad else None
        for v, bad in zip(table[results.metric].to_list(), diverged, strict=True)
    ]
    finite, is_high = sorted(v for v in values if v is not None), is_better_high(results.metric)
    if not finite:
        return _Metric(values, label(results.metric), False, is_high, 0, 1)
    is_log = not is_high and finite[0] > 0 and finite[-1] > 20 * finite[0]
    # Far outliers on the worse side would leave no room for the rest: they are held at the edge of the axis.
    held = hold(np.log10(finite) if is_log else np.array(finite), is_high)
    low, high = float(held.min()), float(held.max())
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    low, high = low - pad, high + pad
    if is_log:
        low, high = 10**low, 10**high
    return _Metric(values, label(results.metric), is_log, is_high, low, high)


def _diverged(table: "pl.DataFrame") -> list[bool]:
    return [status == "diverged" for status in table["status"].to_list()]


def _places(how: Scale, values: Sequence[Any]) -> list[float]:
    """Return where on the axis values are; a logarithmic axis places values itself."""
    if how.kind == "category":
        return [float((how.values or []).index(v)) for v in values]
    return [math.nan if v is None else float(v) for v in values]


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(text: Any, length: int = 18) -> str:
    return text if len(text := _number(text)) <= length else f"{text[: length - 1]}…"


def _lay_out(axes: "Axes", how: Scale, values: Sequence[Any]) -> None:
    """Prepare the x axis for a hyperparameter; a user's words are never markup."""
    places = [place for place in _places(how, values) if math.isfinite(place)]
    low, high = min(places), max(places)
    if how.kind == "log":
        axes.set_xscale("log")
        pad = (high / low) ** 0.08
        axes.set_xlim(low / pad, high * pad)
        _plain_decades(axes.xaxis, low, high)
        if how.values and len(how.values) <= _FEW_TICKS:
            axes.set_xticks(how.values, list(map(_number, how.values)))
    else:
        pad = 0.08 * (high - low) or 0.5
        axes.set_xlim(low - pad, high + pad)
    if how.kind == "category" and how.values:
        slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(len(_short(v)) for v in how.values) > 28 else {}
        axes.set_xticks(range(len(how.values)), list(map(_short, how.values)), parse_math=False, **slant)


def _plain_decades(axis: Any, low: float, high: float) -> None:
    ticker = optional("matplotlib.ticker", "sweep")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,), numticks=9))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def _png(figure: "Figure") -> bytes:
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in its place is all that can be done
        figure.savefig(picture, dpi=_DOTS, format="png")
    return picture.getvalue()


def _figure(width: float, height: float, title: str) -> "Figure":
    figure: Figure = optional("matplotlib.figure", "sweep").Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06)  # type: ignore[call-arg, union-attr]
    figure.suptitle(_short(title, int(width * 13)), fontsize=10, parse_math=False)
    return figure


def _tidy(axes: "Axes", x: str, y: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(_short(x, 32), parse_math=False)
    axes.set_ylabel(_short(y, 32), parse_math=False)


class _Setting(NamedTuple):
    """Trials that differ in their seed alone: mean of the metric, half of its 95 % interval, how many diverged."""

    x: float
    mean: float | None
    half: float | None
    n_diverged: int
    n: int


def _hyperparameters(results: "Results", table: "pl.DataFrame", _: Importance) -> bytes | None:
    names = varied(table, results.names)
    if not names:
        return None
    metric = _metric(results, table)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = _figure(max(3.6 * columns, 5), 3.1 * rows + 0.3, results.title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        how = scale(table[name].to_list())
        _draw_settings(axes, _settings(results, table, metric, how, name), metric)
        _lay_out(axes, how, table[name].to_list())
        _tidy(axes, name, metric.label)
    seeds = "Means over seeds with 95 % intervals (Student t). " if "seed" in results.names else ""
    crosses = "Crosses at the foot: diverged, of all trials there." if any(_diverged(table)) else ""
    line = "The line joins the means of the points. "
    figure.supxlabel(seeds + line + crosses, fontsize=8, color="0.35")
    return _png(figure)


def _settings(results: "Results", table: "pl.DataFrame", metric: _Metric, how: Scale, name: str) -> list[_Setting]:
    groups: dict[int, list[int]] = {}
    for row, number in enumerate(settings(table, results.names)):
        groups.setdefault(number, []).append(row)
    places, diverged = _places(how, table[name].to_list()), _diverged(table)
    found = []
    for rows in groups.values():
        values = [v for row in rows if (v := metric.values[row]) is not None]
        half = student_t(len(values)) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        n_diverged = sum(diverged[row] for row in rows)
        found.append(_Setting(places[rows[0]], fmean(values) if values else None, half, n_diverged, len(rows)))
    return found


def _draw_settings(axes: "Axes", found: list[_Setting], metric: _Metric) -> None:
    if metric.is_log:
        axes.set_yscale("log")
        _plain_decades(axes.yaxis, metric.low, metric.high)
    is_lost = any(s.n_diverged for s in found)
    axes.set_ylim(_below(metric) if is_lost else metric.low, metric.high)
    drawn = [s for s in found if s.mean is not None and math.isfinite(s.x)]
    held = [min(max(s.mean, metric.low), metric.high) for s in drawn if s.mean is not None]
    x = [s.x for s in drawn]
    halves = [s.half or 0 for s in drawn]
    axes.errorbar(x, held, halves, fmt="none", ecolor="C0", elinewidth=0.6, alpha=0.5)
    at_edge = [y != s.mean for s, y in zip(drawn, held, strict=True)]
    for marker, is_wanted in (("o", False), ("v" if metric.is_high else "^", True)):
        points = [(a, b) for a, b, is_held in zip(x, held, at_edge, strict=True) if is_held is is_wanted]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color="C0", markersize=3.5, alpha=0.6, markeredgewidth=0)
    places = sorted(set(x))
    if 1 < len(places) < len(x) and len(places) <= _FEW_VALUES:
        mean = geometric_mean if metric.is_log else fmean
        means = [mean(y for s, y in zip(drawn, held, strict=True) if s.x == place) for place in places]
        axes.plot(places, means, color="0.2", linewidth=1, marker="_", markersize=9)
    lost = sorted({s.x for s in found if s.n_diverged and math.isfinite(s.x)})
    foot = axes.get_xaxis_transform()
    axes.plot(lost, [0.03] * len(lost), "x", color=_BAD, markersize=5, transform=foot)
    if len(lost) <= _FEW_VALUES:
        for place in lost:
            there = [s for s in found if s.x == place]
            text = f"{sum(s.n_diverged for s in there)}/{sum(s.n for s in there)}"
            axes.text(place, 0.06, text, transform=foot, ha="center", size=6, color=_BAD).set_in_layout(False)


def _below(metric: _Metric) -> float:
    """Return where the axis ends if there is to be room for crosses below the points."""
    if metric.is_log:
        return metric.low / (metric.high / metric.low) ** 0.16
    return metric.low - 0.16 * (metric.high - metric.low)


def _learning_curves(results: "Results", table: "pl.DataFrame", _: Importance) -> bytes | None:
    chosen = best(table, results.metric, 5)
    curves = [results.curves(table["trial"][row]) for row in chosen]
    loss = "test_loss" if any(_has(c, "test_loss") for c in curves) else "train_loss"
    names = [name for name in dict.fromkeys((loss, results.metric)) if any(_has(c, name) for c in curves)]
    if not names:
        return None
    figure = _figure(4.6 * len(names) + 1.6, 3.4, results.title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for row, curve in zip(chosen, curves, strict=True):
            if _has(curve, name):
                y = [math.nan if v is None else v for v in curve[name].to_list()]
                marker = "." if len(y) < 15 else ""
                axes.plot(curve["epoch"].to_list(), y, label=f"trial {table['trial'][row]}", marker=marker)
        if not is_better_high(name) and axes.dataLim.y0 > 0:
            axes.set_yscale("log")
            _plain_decades(axes.yaxis, axes.dataLim.y0, axes.dataLim.y1)
        _tidy(axes, "epoch", label(name))
        axes.xaxis.set_major_locator(optional("matplotlib.ticker", "sweep").MaxNLocator(integer=True))
    handles = list(axes.get_lines())
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return _png(figure)


def _has(curve: "pl.DataFrame", name: str) -> bool:
    return name in curve.columns and curve[name].null_count() < curve.height


def _parallel(results: "Results", table: "pl.DataFrame", _: Importance) -> bytes | None:
    names = varied(table, results.names)
    if not names:
        return None
    metric, end = _metric(results, table), len(names)
    figure = _figure(max(6, 1.7 * (end + 1)), 3.8, results.title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-0.3, end + 0.35), ylim=(-0.2, 1.14))
    columns = []
    for place, name in enumerate(names):
        how = scale(table[name].to_list())
        unit, ticks = _unit(how, table[name].to_list())
        columns.append([unit(v) for v in _places(how, table[name].to_list())])
        _upright(axes, place, name, [(unit(at), text) for at, text in ticks])
    up = _unit(Scale("log" if metric.is_log else "linear", None), [metric.low, metric.high])[0]
    scores = [None if v is None else min(max(up(v), 0.0), 1.0) for v in metric.values]
    heights = [-0.12 if s is None else s if metric.is_high else 1 - s for s in scores]
    ticker = optional("matplotlib.ticker", "sweep")
    locator = ticker.LogLocator(subs=(1, 2, 5)) if metric.is_log else ticker.MaxNLocator(5)
    marks = [float(v) for v in locator.tick_values(metric.low, metric.high) if metric.low <= v <= metric.high]
    _upright(axes, end, metric.label, [(up(v) if metric.is_high else 1 - up(v), _number(v)) for v in marks])
    colours = optional("matplotlib", "sweep").colormaps["viridis_r"]
    for row in sorted(range(table.height), key=lambda row: heights[row]):
        y = [column[row] for column in columns] + [heights[row]]
        is_lost = scores[row] is None
        look = {"color": _BAD, "linestyle": ":"} if is_lost else {"color": colours(heights[row])}
        axes.plot(range(end + 1), y, linewidth=0.6 if table.height > 300 else 0.9, alpha=0.8, **look)
    if None in scores:
        axes.text(end + 0.04, -0.12, "diverged", size=7, color=_BAD, va="center")
    return _png(figure)


def _unit(how: Scale, values: Sequence[Any]) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """Return the map of an axis to [0, 1], and its ticks."""
    places = sorted({p for p in _places(how, values) if math.isfinite(p)})
    to = math.log10 if how.kind == "log" else float
    low, high = to(places[0]), to(places[-1])
    marks = places if how.values and len(places) <= _FEW_VALUES else [places[0], places[-1]]
    texts = how.values if how.kind == "category" and how.values else marks
    ticks = [(p, _short(texts[int(p)] if how.kind == "category" else p)) for p in marks]

    def unit(place: float) -> float:
        return (to(place) - low) / (high - low) if high > low else 0.5

    return unit, ticks


def _upright(axes: "Axes", place: int, name: str, ticks: list[tuple[float, str]]) -> None:
    axes.plot([place, place], [0, 1], color="0.4", linewidth=0.8)
    axes.text(place, 1.05, _short(name), ha="center", va="bottom", size=8, weight="bold", parse_math=False)
    for height, text in ticks:
        frame = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
        axes.text(place - 0.04, height, text, ha="right", va="center", size=6.5, parse_math=False, bbox=frame)


def _matter(results: "Results", table: "pl.DataFrame", matter: Importance) -> bytes | None:
    if not matter.bars:
        return None
    bars = matter.bars[::-1]
    figure = _figure(6, 1.7 + 0.36 * len(bars), results.title)
    axes = figure.subplots()
    drops = [bar.drop for bar in bars]
    whiskers = [[bar.drop - bar.low for bar in bars], [bar.high - bar.drop for bar in bars]]
    axes.barh(range(len(bars)), drops, 0.55, xerr=whiskers, color="C0", error_kw={"elinewidth": 0.8, "capsize": 2})
    axes.set_yticks(range(len(bars)), [_short(bar.name, 24) for bar in bars], parse_math=False)
    _tidy(axes, "R² lost when shuffled", "")
    figure.supxlabel(
        fill(f"{matter.words} Whiskers: the least and the most of five folds.", 100), fontsize=7, color="0.35"
    )
    return _png(figure)


def _heat_map(results: "Results", table: "pl.DataFrame", matter: Importance) -> bytes | None:
    names = list(dict.fromkeys([*(bar.name for bar in matter.bars), *varied(table, results.names)]))[:2]
    if len(names) < 2:
        return None
    metric, diverged = _metric(results, table), _diverged(table)
    (across, x), (up, y) = (_cells(table[name].to_list()) for name in names)
    figure = _figure(max(5.5, 0.62 * len(across) + 2.6), max(4, 0.42 * len(up) + 1.8), results.title)
    axes = figure.subplots()
    means = [[math.nan] * len(across) for _ in up]
    for i, j in sorted(set(zip(y, x, strict=True))):
        rows = [row for row in range(table.height) if (y[row], x[row]) == (i, j)]
        values = [v for row in rows if (v := metric.values[row]) is not None]
        bad = sum(diverged[row] for row in rows)
        if min(i, j) < 0:
            continue
        if values:
            means[i][j] = fmean(values)
        else:
            cell = {"facecolor": "0.93", "edgecolor": "0.6", "hatch": "////", "linewidth": 0}
            axes.add_patch(optional("matplotlib.patches", "sweep").Rectangle((j - 0.5, i - 0.5), 1, 1, **cell))
        if bad:
            frame = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
            axes.text(j, i, f"✕ {bad}/{len(rows)}", ha="center", va="center", size=6, color=_BAD, bbox=frame)
    colours = optional("matplotlib.colors", "sweep")
    norm = (colours.LogNorm if metric.is_log else colours.Normalize)(metric.low, metric.high)
    cmap = "viridis_r" if metric.is_high else "viridis"
    image = axes.imshow(means, cmap=cmap, norm=norm, origin="lower", aspect="auto")
    figure.colorbar(image, ax=axes).set_label(f"mean {metric.label}", parse_math=False)
    slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, across)) > 45 else {}
    axes.set_xticks(range(len(across)), across, parse_math=False, **slant)
    axes.set_yticks(range(len(up)), up, parse_math=False)
    _tidy(axes, *names)
    if any(diverged):
        figure.supxlabel("Hatched: no trial with a value. ✕ 1/4: one of four diverged.", fontsize=7, color="0.35")
    return _png(figure)


def _cells(values: Sequence[Any]) -> tuple[list[str], list[int]]:
    """Return the labels of a heat map's cells along an axis, and each trial's cell: -1 if it has none."""
    how = scale(values)
    if how.values is not None:
        return [_short(v) for v in how.values], [how.values.index(v) for v in values]
    unit, _ = _unit(how, values)
    finite = sorted(v for v in values if v is not None)
    to, back = (math.log10, lambda u: 10**u) if how.kind == "log" else (float, float)
    low, high = to(finite[0]), to(finite[-1])
    edges = [f"{back(low + (high - low) * i / _BINS):.2g}" for i in range(_BINS + 1)]
    labels = [f"{a} – {b}" for a, b in pairwise(edges)]
    return labels, [-1 if v is None else min(_BINS - 1, int(unit(float(v)) * _BINS)) for v in values]


PICTURES: dict[str, Callable[["Results", "pl.DataFrame", Importance], bytes | None]] = {
    "hyperparameters": _hyperparameters,
    "learning_curves": _learning_curves,
    "parallel_coordinates": _parallel,
    "importance": _matter,
    "heat_map": _heat_map,
}
