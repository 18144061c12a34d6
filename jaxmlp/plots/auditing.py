"""A picture of privacy audits: what each proves of each mechanism, beside the claim. Needs the extra `cli`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxmlp.plots._figure import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["audit_bounds", "draw_audit_bounds"]


def audit_bounds(bounds: Mapping[str, Mapping[str, Sequence[float]]], claimed: float, title: str = "") -> bytes:
    """Return a PNG picture of lower bounds of epsilon: a row for each mechanism, a colour for each audit.

    A bound above the claim, which breaks it, is filled.

    >>> audit_bounds({"right": {"one run": [0.3, 0.0]}, "no noise": {"one run": [4.8, 4.9]}}, claimed=1.5)[1:4]
    b'PNG'
    """
    return png(draw_audit_bounds(bounds, claimed, title))


def draw_audit_bounds(bounds: Mapping[str, Mapping[str, Sequence[float]]], claimed: float, title: str = "") -> "Figure":
    """Return the picture of `audit_bounds` as a matplotlib figure."""
    audits = list(dict.fromkeys(name for of_audits in bounds.values() for name in of_audits))
    figure = new_figure(6.5, 1.4 + 0.45 * len(bounds), title)
    axes = figure.subplots()
    for row, of_audits in enumerate(bounds.values()):
        for audit, lower in of_audits.items():
            place = audits.index(audit)
            height = row + 0.22 * (place - (len(audits) - 1) / 2)
            for bound in lower:
                filled = f"C{place}" if bound > claimed else "none"
                axes.plot(bound, height, "o", color=f"C{place}", markerfacecolor=filled, markersize=5, clip_on=False)
    for place, audit in enumerate(audits):
        axes.plot([], [], "o", color=f"C{place}", label=audit)
    axes.axvline(claimed, color="0.3", linewidth=1, linestyle="--", label=f"claimed: at most {claimed:.3g}", zorder=0)
    axes.set_yticks(range(len(bounds)), list(bounds), parse_math=False)
    axes.set_ylim(len(bounds) - 0.4, -0.6)
    axes.set_xlim(0, None)
    axes.set_xlabel("epsilon is at least")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(axis="y", color="0.93")
    axes.set_axisbelow(True)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return figure
