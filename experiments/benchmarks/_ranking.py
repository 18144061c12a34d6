"""Who is best over many tables: mean ranks, normalised scores, wins, and medians of seconds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median
from typing import NamedTuple

import numpy as np

from experiments.benchmarks._fits import Fit, Fits

__all__ = ["CONSTANT", "Comparison", "Seconds", "Standing", "compare", "scores", "seconds"]

CONSTANT = "constant"  # the learner that predicts the most frequent class or the mean
DIGITS = 4  # scores that agree so far share a rank


class Standing(NamedTuple):
    """A learner over all tables.

    Attributes
    ----------
    rank
        The mean over tables of its rank by mean score, 1 for the best; equal scores share the mean of their ranks.
    normalised
        The mean over tables of (score - worst) / (best - worst); the worst may be a constant prediction.
    wins
        On how many tables no learner is better.
    """

    rank: float
    normalised: float
    wins: int


class Comparison(NamedTuple):
    """Learners on the tables that all of them fitted, over the first splits."""

    n_splits: int
    tables: tuple[str, ...]
    standings: dict[str, Standing]


class Seconds(NamedTuple):
    """The median of a learner's fits of a table, and whether nothing else used the machine then."""

    median: float
    is_quiet: bool


def scores(fits: Fits, table: str, learner: str, n_splits: int) -> list[float]:
    """Return the scores of a learner on the first splits of a table, without those that failed or are not run."""
    found = [fits.get((table, learner, number)) for number in range(n_splits)]
    return [fit.score for fit in found if fit is not None and fit.score is not None]


def seconds(fits: Iterable[Fit]) -> dict[tuple[str, str], Seconds]:
    """Return the seconds by table and learner: of the fits on a quiet machine, or of all where there is none."""
    by_pair: dict[tuple[str, str], list[Fit]] = {}
    for fit in fits:
        if fit.seconds is not None:
            by_pair.setdefault((fit.table, fit.learner), []).append(fit)
    medians = {}
    for pair, found in by_pair.items():
        quiet = [fit for fit in found if fit.is_quiet]
        medians[pair] = Seconds(median(fit.seconds for fit in quiet or found if fit.seconds is not None), bool(quiet))
    return medians


def compare(fits: Fits, tables: Sequence[str], learners: Sequence[str], n_splits: int) -> Comparison:
    """Rank the learners that have all splits of at least half of the tables, on the tables that all of these have."""
    whole = {
        learner: {table for table in tables if len(scores(fits, table, learner, n_splits)) == n_splits}
        for learner in (*learners, CONSTANT)
    }
    ranked = [learner for learner in learners if learner != CONSTANT and 2 * len(whole[learner]) >= len(tables)]
    shared = tuple(table for table in tables if all(table in whole[learner] for learner in (*ranked, CONSTANT)))
    if not ranked or not shared:
        return Comparison(n_splits, shared, {})
    means = {
        learner: np.array([mean(scores(fits, table, learner, n_splits)) for table in shared])
        for learner in (*ranked, CONSTANT)
    }
    return Comparison(n_splits, shared, standings({name: means[name] for name in ranked}, means[CONSTANT]))


def standings(means: Mapping[str, np.ndarray], constant: np.ndarray) -> dict[str, Standing]:
    """Return the standing of each learner from its scores on the tables, and those of a constant prediction.

    >>> means = {"a": np.array([0.9, 0.8]), "b": np.array([0.7, 0.8])}
    >>> standings(means, constant=np.array([0.5, 0.4]))["b"]
    Standing(rank=1.75, normalised=0.75, wins=1)
    """
    from scipy.stats import rankdata

    table = np.array(list(means.values())).round(DIGITS)  # [learner, table]
    best, worst, ranks = table.max(0), np.minimum(table.min(0), constant), rankdata(-table, axis=0)
    gain = np.where(best > worst, best - worst, 1)
    normalised = np.where(best > worst, (table - worst) / gain, 1)
    rows = zip(ranks.mean(1), normalised.mean(1), (table == best).sum(1), strict=True)
    return {
        name: Standing(float(rank), round(float(share), DIGITS), int(wins))
        for name, (rank, share, wins) in zip(means, rows, strict=True)
    }
