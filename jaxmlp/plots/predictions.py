"""Pictures of a model's predictions: are its probabilities right, are its values right. Needs the extra `cli`."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxmlp.plots._figure import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration", "draw_calibration", "draw_predicted_against_true", "predicted_against_true"]

_BINS = 10
_FEW_POINTS = 1_000  # above this, points are drawn small and transparent


def calibration(right: ArrayLike, probability: ArrayLike, title: str = "", of: str = "") -> bytes:
    """Return a PNG picture that compares predicted probabilities with how often they were right.

    Parameters
    ----------
    right : [N] booleans
        Whether what was predicted is true.
    probability : [N] numbers from 0 to 1
        The predicted probability of it.
    title, of
        The title of the picture, and what the probability is of.

    Notes
    -----
    The examples are put into ten bins of equal width by their probability. A point shows a bin's mean probability and
    the share of its examples that were right, with a 95 % interval (Wilson 1927). On the diagonal both are equal.

    Examples
    --------
    >>> calibration([True, False, True], [0.9, 0.2, 0.7])[1:4]
    b'PNG'
    """
    return png(draw_calibration(right, probability, title, of))


def draw_calibration(right: ArrayLike, probability: ArrayLike, title: str = "", of: str = "") -> "Figure":
    """Return the picture of `calibration` as a matplotlib figure."""
    right, probability = np.asarray(right, float), np.asarray(probability, float)
    edges = np.linspace(0, 1, _BINS + 1)
    index = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, _BINS - 1)
    counts = np.bincount(index, minlength=_BINS)
    filled = counts > 0
    n = counts[filled]
    share = np.bincount(index, right, _BINS)[filled] / n
    mean = np.bincount(index, probability, _BINS)[filled] / n
    low, high = _wilson(share, n)

    figure = new_figure(4.2, 4.6, title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--", label="calibrated")
    above.errorbar(mean, share, (share - low, high - share), fmt="o", markersize=4, color="C0", label="95 % interval")
    above.set(ylabel="share that was right", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(frameon=False, loc="upper left")
    below.bar(edges[:-1], counts, width=1 / _BINS, align="edge", color="0.7", edgecolor="white")
    below.set(xlabel=f"predicted probability{' of ' if of else ''}{of}", ylabel="examples")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of a probability, given the share of n examples."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.minimum(centre - half, share), np.maximum(centre + half, share)


def predicted_against_true(t: ArrayLike, y: ArrayLike, title: str = "") -> bytes:
    """Return a PNG picture of predicted values y against true ones t, both [N]: on the diagonal they are equal.

    >>> predicted_against_true([1.0, 2.0], [1.1, 1.9])[1:4]
    b'PNG'
    """
    return png(draw_predicted_against_true(t, y, title))


def draw_predicted_against_true(t: ArrayLike, y: ArrayLike, title: str = "") -> "Figure":
    """Return the picture of `predicted_against_true` as a matplotlib figure."""
    t, y = np.asarray(t, float), np.asarray(y, float)
    figure = new_figure(4.4, 4.4, title)
    axes = figure.subplots()
    is_many = len(t) > _FEW_POINTS
    axes.plot(t, y, linestyle="", marker=".", markersize=3 if is_many else 6, alpha=0.3 if is_many else 0.7, mew=0)
    ends = min(t.min(), y.min()), max(t.max(), y.max())
    axes.plot(ends, ends, color="0.5", linewidth=0.8, linestyle="--")
    axes.set(xlabel="true value", ylabel="predicted value")
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
