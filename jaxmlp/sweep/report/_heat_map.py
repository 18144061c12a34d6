"""A heat map: the mean metric over the two hyperparameters that matter most."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from jaxmlp._extras import optional
from jaxmlp.sweep.report._axes import BAD, is_diverged, metric_axis, new_picture, scale, shortened, tidy, unit_axis
from jaxmlp.sweep.report._importance import Importance, varied

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from jaxmlp.sweep.results import Results

__all__ = ["draw_heat_map"]

_BINS = 8


def draw_heat_map(results: "Results", table: "pl.DataFrame", matter: Importance) -> "Figure | None":
    """Return a figure, None if fewer than two hyperparameters vary."""
    names = list(dict.fromkeys([*(bar.name for bar in matter.bars), *varied(table, results.names)]))[:2]
    if len(names) < 2:
        return None
    metric, diverged = metric_axis(results, table), is_diverged(table)
    (across, x), (up, y) = (_cells(table[name].to_list()) for name in names)
    figure = new_picture(max(5.5, 0.62 * len(across) + 2.6), max(4, 0.42 * len(up) + 1.8), results.title)
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
            axes.text(j, i, f"✕ {bad}/{len(rows)}", ha="center", va="center", size=6, color=BAD, bbox=frame)
    colours = optional("matplotlib.colors", "sweep")
    norm = (colours.LogNorm if metric.is_log else colours.Normalize)(metric.low, metric.high)
    cmap = "viridis_r" if metric.is_high else "viridis"
    image = axes.imshow(means, cmap=cmap, norm=norm, origin="lower", aspect="auto")
    figure.colorbar(image, ax=axes).set_label(f"mean {metric.label}", parse_math=False)
    slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, across)) > 45 else {}
    axes.set_xticks(range(len(across)), across, parse_math=False, **slant)
    axes.set_yticks(range(len(up)), up, parse_math=False)
    tidy(axes, *names)
    if any(diverged):
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
