"""The style of the experiments' pictures: as wide as a page, in colours that everybody can tell apart."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from experiments.claims._experiment import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "GREY", "MARKERS", "band", "direct", "figure", "legend", "title"]

# Okabe and Ito's colours (2008), the darker ones first; each has its own marker, for print in grey.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#8c6bb1")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "0.45"
_WIDTH = 9.0  # inches: at the width of a browser's page, letters have the size of the text


def figure(n_columns: int, n_rows: int = 1, height: float = 3.3) -> "tuple[Figure, list[Axes]]":
    """Return a figure and its axes, row by row; `height` is the height of a row in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(_WIDTH, height * n_rows), layout="constrained")
    all_axes = list(made.subplots(n_rows, n_columns, squeeze=False).ravel())
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
    return made, all_axes


def band(axes: "Axes", x: ArrayLike, values: ArrayLike, number: int = 0, **style: Any) -> None:
    """Draw the mean over seeds as a line and its 95 % interval as a band.

    Parameters
    ----------
    axes
        The axes to draw on.
    x, values
        [n], and [seeds, n].
    number
        The number of the colour and of the marker.
    **style
        Options of the line.
    """
    mean, half = interval(values)
    color = COLORS[number % len(COLORS)]
    marker = MARKERS[number % len(MARKERS)] if len(mean) <= 40 else ""
    axes.plot(x, mean, **({"color": color, "marker": marker, "markersize": 3.5, "linewidth": 1.4} | style))
    low, high = mean - half, mean + half
    if axes.get_yscale() == "log":
        low = np.maximum(low, np.asarray(values).min(0))  # an interval below zero has no place on this scale
    axes.fill_between(np.asarray(x), low, high, color=style.get("color", color), alpha=0.2, linewidth=0)


def direct(axes: "Axes", x: float, y: float, text: str, **style: Any) -> None:
    """Write a few small words beside a line, in its colour."""
    axes.annotate(text, (x, y), **({"fontsize": 8, "color": GREY} | style))


def title(axes: "Axes", text: str) -> None:
    """Write a few words above a panel."""
    axes.set_title(text, fontsize=9.5)


def legend(axes: "Axes", **options: Any) -> None:
    """Draw a small legend without a frame."""
    axes.legend(**({"frameon": False, "fontsize": 8} | options))
