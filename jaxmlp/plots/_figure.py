"""Shared by all pictures: matplotlib, imported for the first one drawn, and figures as the bytes of PNG files."""

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from jaxmlp._extras import optional

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, title: str = "", *, layout: str | None = "constrained") -> "Figure":
    """Return an empty figure without a window, sizes in inches; its title is plain text, not markup."""
    figure: Figure = optional("matplotlib.figure").Figure(figsize=(width, height), layout=layout)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def plain_decades(axis: "Axis", low: float, high: float) -> None:
    """Label a logarithmic axis with plain numbers, at 1, 2 and 5 of each decade if there are few."""
    ticker = optional("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,), numticks=9))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def png(figure: "Figure", dots_per_inch: int = 200) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the font draws a box instead
        figure.savefig(picture, dpi=dots_per_inch, format="png")
    return picture.getvalue()
