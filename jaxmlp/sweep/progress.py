"""The progress of a running sweep, for a callback, and a callback that shows it."""

import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, TextIO

from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.metrics import by_setting, score
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Store
from jaxmlp.training.history import Trained

__all__ = ["Progress", "Reporter", "StopSweep", "epochs_left", "show_progress", "tenths"]

_MINUTE = 60.0
_REDRAWN = 0.1  # seconds between two states of a live line


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

    def __str__(self) -> str:
        """Return the progress on one line.

        >>> print(Progress(3, 8, 1, "validation_loss", (0.25, 2), 61.0))
        3/8 trials  best validation loss 0.2500  1 diverged  0:01:01 left
        """
        numbers = [f"{self.done}/{self.total} trials"]
        if self.best is not None:
            numbers.append(f"best {self.metric.replace('_', ' ')} {self.best[0]:.4f}")
        if self.diverged:
            numbers.append(f"{self.diverged} diverged")
        if self.seconds_left is not None:
            numbers.append(f"{timedelta(seconds=round(self.seconds_left))} left")
        return "  ".join(numbers)


def show_progress(stream: TextIO | None = None) -> Callable[[Progress], None]:
    """Return a callback for `run` that shows the progress: `run(..., callback=show_progress())`.

    In a terminal or a notebook it is one line, which is written anew; elsewhere a line after each tenth of the trials,
    or after a minute. `stream` is standard error if None.
    """
    stream = stream or sys.stderr
    is_live = stream.isatty() or type(stream).__module__.startswith("ipykernel")
    is_due, width, last = tenths(), 0, -math.inf

    def show(progress: Progress) -> None:
        nonlocal width, last
        if not is_live:
            if is_due(progress):
                print(progress, file=stream, flush=True)
            return
        is_last, now = progress.done == progress.total, time.monotonic()
        if is_last or now - last > _REDRAWN:
            line, last = str(progress), now
            print(f"\r{line.ljust(width)}", end="\n" if is_last else "", file=stream, flush=True)
            width = 0 if is_last else len(line)

    return show


def tenths() -> Callable[[Progress], bool]:
    """Return a function that tells whether to print: a tenth of the trials have ended, or a minute has passed."""
    last = 0, time.monotonic()

    def is_due(progress: Progress) -> bool:
        nonlocal last
        tenth, now = 10 * progress.done // progress.total, time.monotonic()
        if tenth <= last[0] and now - last[1] <= _MINUTE:
            return False
        last = tenth, now
        return True

    return is_due


def epochs_left(
    trials: Mapping[int, Trial], halving: Halving | None, reached: Mapping[int, int], ended: Collection[int]
) -> int:
    """Return how many epochs remain, over all trials, if no other ends early."""
    left = sum(trial.config.epochs - reached.get(n, 0) for n, trial in trials.items() if n not in ended)
    if halving is None:
        return left
    # An upper bound: the trials that a rung will stop are not known yet.
    epochs = next(iter(trials.values())).config.epochs
    n_trials = [len(setting) for setting in by_setting(list(trials.values()))]
    return min(left, max(0, halving.epochs(n_trials, epochs) - sum(reached.values())))


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
        seconds_left = epochs_left(self.trials, self.halving, reached, over) / speed if self._epochs_done > 0 else None
        self.callback(Progress(len(ended), len(self.trials), n_diverged, self.metric, best_so_far, seconds_left))
        return ()
