"""The progress of a running sweep, for a callback."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.metrics import by_setting, score
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Store
from jaxmlp.training.history import Trained

__all__ = ["Progress", "Reporter", "StopSweep"]


class StopSweep(Exception):
    """Raised by a callback to end a sweep before its time."""


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes
    ----------
    done, total, diverged
        The numbers of trials that have ended, of all trials, and of diverged trials.
    metric, best
        The metric that trials are ranked by, and its best value so far with its trial; None before the first.
    seconds_left
        Estimated from the epochs done in this process; None before the first.
    """

    done: int
    total: int
    diverged: int
    metric: str
    best: tuple[float, int] | None
    seconds_left: float | None


@dataclass
class Reporter:
    """Calls back with the `Progress`; counts the epochs of this process, to estimate the time left."""

    store: Store
    trials: Mapping[int, Trial]
    metric: str
    halving: Halving | None
    callback: Callable[[Progress], object] | None
    _began: float = field(default_factory=lambda: time.perf_counter())
    _epochs_done: int = 0
    _reached: dict[int, int] = field(default_factory=dict)

    def begin(self, trained: Mapping[int, Trained]) -> None:
        """Note how many epochs the trials of a block have before it is run."""
        self._reached |= {number: len(each.history) for number, each in trained.items()}

    def report(self, trained: Mapping[int, Trained] | None = None) -> Collection[int]:
        """Call back, given the trials of the running block; return the trials to stop, none here."""
        if self.callback is None:
            return ()
        trained = trained or {}
        for number, each in trained.items():
            self._epochs_done += len(each.history) - self._reached[number]
            self._reached[number] = len(each.history)
        rows = self.store.rows()
        ended = [row for row in rows if row.status != "paused"]
        scored = [row for row in ended if getattr(row, self.metric) is not None]
        best = max(scored, key=lambda row: (score(row, self.metric), -row.trial), default=None)
        reached = {row.trial: row.epochs for row in rows}
        reached |= {number: len(each.history) for number, each in trained.items()}
        speed = self._epochs_done / (time.perf_counter() - self._began)
        over = {row.trial for row in ended} | {n for n, each in trained.items() if each.status != "running"}
        n_diverged = sum(row.status == "diverged" for row in ended)
        best_so_far = None if best is None else (getattr(best, self.metric), best.trial)
        seconds_left = self._epochs_left(reached, over) / speed if self._epochs_done > 0 else None
        self.callback(Progress(len(ended), len(self.trials), n_diverged, self.metric, best_so_far, seconds_left))
        return ()

    def _epochs_left(self, reached: Mapping[int, int], over: Collection[int]) -> int:
        """Return how many epochs remain, over all trials, if no other ends early."""
        left = sum(trial.config.epochs - reached.get(n, 0) for n, trial in self.trials.items() if n not in over)
        if self.halving is None:
            return left
        # An upper bound: the trials that a rung will stop are not known yet.
        epochs = next(iter(self.trials.values())).config.epochs
        n_trials = [len(setting) for setting in by_setting(list(self.trials.values()))]
        return min(left, max(0, self.halving.epochs(n_trials, epochs) - sum(reached.values())))
