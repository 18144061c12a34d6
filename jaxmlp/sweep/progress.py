"""How far a sweep is, for whoever watches it."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.metrics import score
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store
from jaxmlp.training.history import Trained

__all__ = ["Progress", "Reporter"]


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes
    ----------
    done, total
        The number of trials that have ended, and of all.
    diverged
        The number of trials that diverged.
    best
        The best value so far of the metric that trials are ranked by, and its trial; None before the first.
    seconds_left
        Estimated from the epochs done in this process; None before the first.
    """

    done: int
    total: int
    diverged: int
    best: tuple[float, int] | None
    seconds_left: float | None


class Reporter:
    """Calls back with the `Progress`; it counts the epochs of this process, to estimate the time left."""

    def __init__(
        self,
        store: Store,
        trials: Mapping[int, Trial],
        metric: str,
        halving: Halving | None,
        callback: Callable[[Progress], object] | None,
    ) -> None:
        """Start the clock."""
        self._store, self._trials, self._metric = store, trials, metric
        self._halving, self._callback = halving, callback
        self._began = time.perf_counter()
        self._epochs_done = 0
        self._reached: dict[int, int] = {}

    def begin(self, trained: Mapping[int, Trained]) -> None:
        """Take note of how far the trials of a block are before it is run."""
        self._reached |= {number: len(each.history) for number, each in trained.items()}

    def report(self, trained: Mapping[int, Trained] | None = None) -> None:
        """Call back, given the trials of the block that is being run."""
        if self._callback is None:
            return
        trained = trained or {}
        for number, each in trained.items():
            self._epochs_done += len(each.history) - self._reached[number]
            self._reached[number] = len(each.history)
        rows = self._store.rows()
        ended = [row for row in rows if row.status != "paused"]
        best = max((row for row in ended if getattr(row, self._metric) is not None), key=self._rank, default=None)
        reached = {row.trial: row.epochs for row in rows}
        reached |= {number: len(each.history) for number, each in trained.items()}
        speed = self._epochs_done / (time.perf_counter() - self._began)
        over = {row.trial for row in ended} | {n for n, each in trained.items() if each.status != "running"}
        progress = Progress(
            done=len(ended),
            total=len(self._trials),
            diverged=sum(row.status == "diverged" for row in ended),
            best=None if best is None else (getattr(best, self._metric), best.trial),
            seconds_left=self._epochs_left(reached, over) / speed if self._epochs_done > 0 else None,
        )
        self._callback(progress)

    def _rank(self, row: Row) -> tuple[float, int]:
        return score(row, self._metric), -row.trial

    def _epochs_left(self, reached: Mapping[int, int], over: Collection[int]) -> int:
        """Return how many epochs of all trials are still to come, if no other ends early."""
        left = sum(trial.config.epochs - reached.get(n, 0) for n, trial in self._trials.items() if n not in over)
        if self._halving is None:
            return left
        # At most: which trials a rung will stop is not known yet.
        epochs = next(iter(self._trials.values())).config.epochs
        return min(left, max(0, self._halving.epochs(len(self._trials), epochs) - sum(reached.values())))
