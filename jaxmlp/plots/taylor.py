"""The picture of a Taylor test: right and wrong gradients at a glance. Needs the extra `cli`."""

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from jaxmlp.checking.taylor import TaylorTest
from jaxmlp.plots._figure import new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_taylor", "taylor_plot"]

_RIGHT, _WRONG = "C0", "C3"
_DOTS = {1: (0, (1, 2)), 2: (0, (5, 3))}  # the dashes of the guide of each power of h


def taylor_plot(test: TaylorTest, title: str = "") -> bytes:
    """Return a PNG picture of the remainder against the step, both logarithmic, with guides that fall as h and h^2.

    A wrong gradient's line is red and runs along h; below it is the line of f's true slope.

    >>> import jax.numpy as jnp
    >>> from jaxmlp.checking.taylor import taylor_test
    >>> taylor_plot(taylor_test(lambda w: (w**3).sum(), lambda w: 3 * w**2, jnp.array([1.0, 2.0])))[1:4]
    b'PNG'
    """
    return png(draw_taylor(test, title), dots_per_inch=150)


def draw_taylor(test: TaylorTest, title: str = "") -> "Figure":
    """Return the picture of `taylor_plot` as a matplotlib figure."""
    figure = new_figure(6, 4.5, title)
    axes = figure.subplots()
    # A rounding of exactly 0 has no place on a logarithmic scale.
    floor = np.maximum(test.rounding, np.finfo(np.float64).tiny)
    exponent = "" if isnan(test.slope) else f": $h^{{{test.slope:.2f}}}$"
    lines = {f"this gradient{exponent}": (test.remainder, _RIGHT if test.true_remainder is None else _WRONG)}
    if test.true_remainder is not None:
        lines["the true slope of f"] = (test.true_remainder, _RIGHT)
    _draw_guides(axes, test.h, [line for line, _ in lines.values()], floor)
    for label, (line, color) in lines.items():
        drawn = np.where(np.isfinite(line) & (line > 0), line, np.nan)
        axes.plot(test.h, drawn, color=color, marker="o", markersize=4, linewidth=1.5, label=label)
    bottom = floor.min() / 1000
    axes.fill_between(test.h, floor, bottom, color="0.92", linewidth=0, label="rounding", zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="step $h$", ylabel="$|f(w + hv) - f(w) - h\\, g \\cdot v|$")
    # Leave room above the rounding, even if no remainder exceeds it.
    axes.set_ylim(bottom, max(axes.get_ylim()[1], 1e8 * floor.max()))
    axes.invert_xaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right", fontsize="small")
    return figure


def _draw_guides(axes: "Axes", h: np.ndarray, lines: list[np.ndarray], floor: np.ndarray) -> None:
    """Draw lines that fall as h and as h^2, each from the first point of the line to compare it with."""
    firsts = [line[0] for line in lines if np.isfinite(line[0]) and line[0] > 0] or [1.0]
    for power, first in ((1, max(firsts)), (2, min(firsts))):
        guide = 1.6 * first * (h / h[0]) ** power
        seen = guide > floor / 4
        axes.plot(h[seen], guide[seen], color="0.6", linewidth=1, linestyle=_DOTS[power], label=f"$h^{power}$")
