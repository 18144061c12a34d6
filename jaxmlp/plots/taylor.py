"""The picture of a Taylor test: right and wrong gradients at a glance. Needs matplotlib, of the extra `cli`."""

from io import BytesIO
from math import isnan

import numpy as np

from jaxmlp.checking.taylor import TaylorTest

__all__ = ["taylor_plot"]

_RIGHT, _WRONG = "C0", "C3"


def taylor_plot(test: TaylorTest, title: str = "") -> bytes:
    """Draw the remainder against the step, both logarithmic, beside lines that fall as h and as h^2.

    Parameters
    ----------
    test
        Of `taylor_test`.
    title
        Above the picture.

    Returns
    -------
    picture
        The bytes of a PNG file. The line of a gradient that is wrong is red, and runs along h; below it is the line of
        f's true slope.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jaxmlp.checking.taylor import taylor_test
    >>> taylor_plot(taylor_test(lambda w: (w**3).sum(), lambda w: 3 * w**2, jnp.array([1.0, 2.0])))[1:4]
    b'PNG'
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'jaxmlp[cli]'") from error
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axis = figure.subplots()
    is_wrong = test.true_remainder is not None
    # Where it is exactly 0 there is nothing to draw on a logarithmic scale but the rounding that hides it.
    floor = np.maximum(test.rounding, np.finfo(np.float64).tiny)
    lines = [("this gradient", test.remainder, _WRONG if is_wrong else _RIGHT)]
    if test.true_remainder is not None:
        lines.append(("the slope that f has", test.true_remainder, _RIGHT))
    tops = [line[0] for _, line, _ in lines if np.isfinite(line[0]) and line[0] > 0] or [1.0]
    for power, dashes in ((1, (0, (1, 2))), (2, (0, (5, 3)))):
        # From the first point of the line that it is to be compared with.
        top = max(tops) if power == 1 else min(tops)
        guide = 1.6 * top * (test.h / test.h[0]) ** power
        seen = guide > floor / 4
        axis.plot(test.h[seen], guide[seen], color="0.6", linewidth=1, linestyle=dashes, label=f"$h^{power}$")
    for name, line, color in lines:
        exponent = f": $h^{{{test.slope:.2f}}}$" if name == "this gradient" and not isnan(test.slope) else ""
        drawn = np.where(np.isfinite(line) & (line > 0), line, np.nan)
        axis.plot(test.h, drawn, color=color, marker="o", markersize=4, linewidth=1.5, label=f"{name}{exponent}")
    bottom = floor.min() / 1000
    axis.fill_between(test.h, floor, bottom, color="0.92", linewidth=0, label="rounding", zorder=0)
    axis.set(xscale="log", yscale="log", xlabel="step $h$", ylabel="$|f(w + hv) - f(w) - h\\, g \\cdot v|$")
    # Room above the rounding, even where nothing rises out of it.
    axis.set_ylim(bottom, max(axis.get_ylim()[1], 1e8 * floor.max()))
    axis.invert_xaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper right", fontsize="small")
    figure.suptitle(title, fontsize=10, parse_math=False)
    picture = BytesIO()
    figure.savefig(picture, dpi=150, format="png")
    return picture.getvalue()
