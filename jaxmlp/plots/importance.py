"""A picture of how much each column matters, as bars. Needs the extra `cli`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxmlp.plots._figure import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_importance_bars", "importance_bars"]

_LONGEST_NAME = 30


def importance_bars(
    names: Sequence[str], mean: ArrayLike, low: ArrayLike, high: ArrayLike, label: str, title: str = ""
) -> bytes:
    """Return a PNG picture of bars with intervals, the first on top; `label` says what their length is.

    >>> importance_bars(["age", "city"], [0.2, 0.1], [0.1, 0.0], [0.3, 0.2], "accuracy lost")[1:4]
    b'PNG'
    """
    return png(draw_importance_bars(names, mean, low, high, label, title))


def draw_importance_bars(
    names: Sequence[str], mean: ArrayLike, low: ArrayLike, high: ArrayLike, label: str, title: str = ""
) -> "Figure":
    """Return the picture of `importance_bars` as a matplotlib figure."""
    mean = np.asarray(mean, float)
    ends = np.abs(np.stack([mean - np.asarray(low, float), np.asarray(high, float) - mean]))
    figure = new_figure(5.2, 1.1 + 0.22 * len(names), title)
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.barh(places, mean, height=0.7, color="C0", alpha=0.6)
    axes.errorbar(mean, places, xerr=np.nan_to_num(ends), fmt="none", ecolor="0.2", elinewidth=1)
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names]
    axes.set_yticks(places, shown, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel(label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
