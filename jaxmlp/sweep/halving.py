"""Successive halving: settings are compared at each rung, an epoch after which only the best continue."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from jaxmlp._validation import whole_number

__all__ = ["Halving", "survivors"]


@dataclass(frozen=True)
class Halving:
    """How a sweep stops its worse settings early.

    Settings are ranked by their mean over the seeds. All seeds of a setting continue, or all stop: among single trials
    those with lucky seeds would be left.

    Parameters
    ----------
    factor
        After a rung, one in `factor` settings (at least one) continues, to `factor` times as many epochs.
    first
        The epochs before the first rung.
    asynchronous
        If True, a block does not wait for the others: a setting continues if it is among the best of those that have
        reached the rung so far (as in ASHA, Li et al. 2020, arXiv 1810.05934, but a stopped one stays stopped). This
        is quicker with several processes, but the result depends on their order. A block then has all seeds of its
        settings. If False, all settings reach a rung before any continues (Jamieson and Talwalkar 2016, arXiv
        1502.07943).

    Examples
    --------
    >>> Halving(factor=3).rungs(30)
    (1, 3, 9, 27, 30)
    """

    factor: int = 3
    first: int = 1
    asynchronous: bool = False

    def __post_init__(self) -> None:
        """Check every number once."""
        for name, least in (("factor", 2), ("first", 1)):
            object.__setattr__(self, name, whole_number(f"{name} of Halving", getattr(self, name), least))
        if not isinstance(self.asynchronous, bool):
            raise ValueError(f"asynchronous of Halving must be True or False, got {self.asynchronous!r}")

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which settings are compared; the last is the end."""
        rungs, epoch = [], self.first
        while epoch < epochs:
            rungs.append(epoch)
            epoch *= self.factor
        return (*rungs, epochs)

    def n_survivors(self, n: int) -> int:
        """Return how many of `n` settings continue."""
        return max(1, n // self.factor)

    def epochs(self, n_trials: Sequence[int], epochs: int) -> int:
        """Return how many epochs settings take in all, each with as many trials, if no trial ends by itself.

        If they have not all the same number of trials, those with the most are taken to continue.

        >>> Halving(factor=3).epochs([1] * 9, 9)  # 9 trials to epoch 1, 3 to epoch 3, 1 to epoch 9
        21
        """
        total, before = 0, 0
        left = sorted(n_trials, reverse=True)
        for rung in self.rungs(epochs):
            total += sum(left) * (rung - before)
            left, before = left[: self.n_survivors(len(left))], rung
        return total


def survivors(
    halving: Halving, settings: Sequence[Sequence[int]], scores: Mapping[int, float], running: Set[int]
) -> list[Sequence[int]]:
    """Return the settings that continue, each as its trials' numbers: the best by mean score, of a tie the first.

    `settings` have reached the rung, and `scores` has the scores of their trials there. A setting of which no trial is
    `running` has nothing to continue.

    >>> scores = {0: 0.9, 1: 0.1, 2: 0.6, 3: 0.6, 4: 0.7, 5: 0.5}
    >>> survivors(Halving(2), [(0, 1), (2, 3), (4, 5)], scores, set(scores))
    [(2, 3)]
    """
    means = {
        place: math.fsum(scores[number] for number in setting) / len(setting)
        for place, setting in enumerate(settings)
        if not running.isdisjoint(setting)
    }
    ranked = sorted(means, key=lambda place: (-means[place], place))
    return [settings[place] for place in sorted(ranked[: halving.n_survivors(len(settings))])]
