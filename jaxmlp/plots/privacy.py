"""A picture of what privacy costs: scores against epsilon. Needs the extra `cli`."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from jaxmlp.plots._figure import new_figure, plain_decades, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_score_against_epsilon", "score_against_epsilon"]


def score_against_epsilon(
    epsilon: Sequence[float], scores: Sequence[float | None], settings: Sequence[str], label: str, title: str = ""
) -> bytes:
    """Return a PNG picture of a point for each trial, and a line through the means of each setting.

    `label` says what the scores are. A trial without a score, None, is left out.

    >>> score_against_epsilon([1.0, 1.0, 3.0], [0.7, 0.8, 0.9], ["rate 0.1"] * 3, "accuracy")[1:4]
    b'PNG'
    """
    return png(draw_score_against_epsilon(epsilon, scores, settings, label, title))


def draw_score_against_epsilon(
    epsilon: Sequence[float], scores: Sequence[float | None], settings: Sequence[str], label: str, title: str = ""
) -> "Figure":
    """Return the picture of `score_against_epsilon` as a matplotlib figure."""
    of_settings: dict[str, dict[float, list[float]]] = {}
    for at, score, setting in zip(epsilon, scores, settings, strict=True):
        if score is not None:
            of_settings.setdefault(setting, defaultdict(list))[at].append(score)
    if not of_settings:
        raise ValueError("no trial has a score to draw")
    figure = new_figure(5.6, 3.6, title)
    axes = figure.subplots()
    for number, (setting, of_epsilon) in enumerate(of_settings.items()):
        points = [(at, score) for at, several in of_epsilon.items() for score in several]
        means = [(at, fmean(of_epsilon[at])) for at in sorted(of_epsilon)]
        axes.plot(*zip(*points, strict=True), "o", color=f"C{number % 10}", alpha=0.5, markersize=4, label="_")
        axes.plot(*zip(*means, strict=True), color=f"C{number % 10}", label=setting)
    axes.set_xscale("log")
    plain_decades(axes.xaxis, *axes.get_xlim())
    axes.set(xlabel=r"$\varepsilon$ of one trial", ylabel=label)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(of_settings) <= 10:
        axes.legend(frameon=False, fontsize="small")
    return figure
