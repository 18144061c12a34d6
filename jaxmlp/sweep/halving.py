"""Successive halving: trials are compared at each rung, an epoch after which only the best continue."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxmlp._validation import whole_number
from jaxmlp.sweep.metrics import score
from jaxmlp.training.history import Epoch

__all__ = ["Halving", "survivors"]


@dataclass(frozen=True)
class Halving:
    """How a sweep stops its worse trials early.

    Parameters
    ----------
    factor
        After a rung, one in `factor` trials (at least one) continues, to `factor` times as many epochs.
    first
        The epochs before the first rung.
    asynchronous
        If True, a block does not wait for the others: a trial continues if it is among the best of those that have
        reached the rung so far (as in ASHA, Li et al. 2020, arXiv 1810.05934, but a stopped trial stays stopped). This
        is quicker with several processes, but the result depends on their order. If False, all trials reach a rung
        before any continues (Jamieson and Talwalkar 2016, arXiv 1502.07943).

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
        """Return the epochs after which trials are compared; the last is the end."""
        rungs, epoch = [], self.first
        while epoch < epochs:
            rungs.append(epoch)
            epoch *= self.factor
        return (*rungs, epochs)

    def n_survivors(self, n: int) -> int:
        """Return how many of `n` trials continue."""
        return max(1, n // self.factor)

    def epochs(self, n: int, epochs: int) -> int:
        """Return how many epochs `n` trials take in all, if no trial ends by itself.

        >>> Halving(factor=3).epochs(9, 9)  # 9 trials to epoch 1, 3 to epoch 3, 1 to epoch 9
        21
        """
        total, before = 0, 0
        for rung in self.rungs(epochs):
            total += n * (rung - before)
            n, before = self.n_survivors(n), rung
        return total


def survivors(halving: Halving, at_rung: Mapping[int, Epoch | None], metric: str) -> set[int]:
    """Return the numbers of the trials that continue; ties go to the lowest number.

    `at_rung` has each trial's epoch at the rung, or None if the trial ended before; these rank last.

    >>> epochs = {n: Epoch(1, 0.1, loss, None, None, None, 0.1) for n, loss in enumerate([0.3, 0.1, 0.2, 0.1])}
    >>> survivors(Halving(2), epochs, "train_loss"), survivors(Halving(4), epochs, "train_loss")
    ({1, 3}, {1})
    """
    scores = {n: float("-inf") if epoch is None else score(epoch, metric) for n, epoch in at_rung.items()}
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    return set(ranked[: halving.n_survivors(len(ranked))])
