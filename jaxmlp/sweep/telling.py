"""What an Optuna study is told of its trials while their networks train: curves, and how each trial ended.

A trial of the study has one network for each seed. `Telling` watches the sweep that trains them (see `rungs.Watcher`).
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxmlp._extras import optional
from jaxmlp.sweep.metrics import REPORTED, is_better_high
from jaxmlp.sweep.progress import Progress, StopSweep
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store, is_cut_short
from jaxmlp.training.history import Epoch, Trained

if TYPE_CHECKING:
    import optuna

__all__ = ["DIVERGED", "Tally", "Telling", "interrupt"]

DIVERGED = "diverged"
_INTERRUPTED = "jaxmlp_interrupted"  # an attribute of the study


@dataclass
class Tally:
    """How far a study is, and the callback that is told so."""

    study: "optuna.Study"
    n_trials: int
    metric: str
    callback: Callable[[Progress], object] | None
    done: int = 0
    diverged: int = 0
    best: tuple[float, int] | None = None
    is_stopped: bool = False
    _done_before: int = 0
    _began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Count the trials that have ended before; those that were interrupted do not count."""
        interrupted = _interrupted(self.study)
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in interrupted:
                self._count(trial.number, trial.value if trial.state.name == "COMPLETE" else None, trial.user_attrs)
        self._done_before = self.done

    def tell(self, trial: "optuna.Trial", value: float | None, state: Any, failure: str | None = None) -> None:
        """Tell the study how a trial ended, and count it."""
        if failure is not None:
            trial.set_user_attr("failure", failure)
        if not _tell(self.study, trial, value, state):
            self.is_stopped = True
        self._count(trial.number, value, {"failure": failure})

    def _count(self, number: int, value: float | None, attributes: Mapping[str, Any]) -> None:
        self.done += 1
        self.diverged += attributes.get("failure") == DIVERGED
        sign = 1 if is_better_high(self.metric) else -1
        if value is not None and (self.best is None or sign * value > sign * self.best[0]):
            self.best = value, number

    def report(self) -> None:
        """Call back."""
        if self.callback is None:
            return
        n, seconds = self.done - self._done_before, time.perf_counter() - self._began
        left = (self.n_trials - self.done) * seconds / n if n else None
        try:
            self.callback(Progress(self.done, self.n_trials, self.diverged, self.metric, self.best, left))
        except StopSweep:
            self.is_stopped = True
            raise


class Telling:
    """Watches the networks of some trials of a study.

    Parameters
    ----------
    tally
        Has the study and its metric.
    trials, networks
        The trials of the study, and the networks that stand for them: those of the first trial, those of the second...
    store
        Has the networks that have ended.
    prunes
        Whether to ask the study's pruner after every epoch.
    """

    def __init__(
        self, tally: Tally, trials: Sequence["optuna.Trial"], networks: Sequence[Trial], store: Store, prunes: bool
    ) -> None:
        """Begin with no epoch reported and no trial told."""
        self._tally, self._trials, self._store, self._prunes = tally, trials, store, prunes
        self._networks, self._n_seeds = networks, len(networks) // len(trials)
        self._curves: dict[int, tuple[Epoch, ...]] = {}  # of each network
        self._reported = [0] * len(trials)  # epochs
        self._over: set[int] = set()  # places of trials that were pruned, or of which a network diverged
        self._told: set[int] = set()
        self._states = optional("optuna", "optuna").trial.TrialState

    def begin(self, trained: Mapping[int, Trained]) -> None:
        """Do nothing: what a block begins with has been reported."""

    def report(self, trained: Mapping[int, Trained] | None = None) -> Collection[int]:
        """Report the last epoch of a running block and return the networks to stop, or tell the trials that ended."""
        stopped: set[int] = set()
        if trained is None:
            self.tell_ended()
        else:
            self._curves |= {number: each.history for number, each in trained.items()}
            running = {number for number, each in trained.items() if each.status == "running"}
            for place in sorted({number // self._n_seeds for number in trained}):
                of_trial = self._members(place)
                is_new, still = self._report_curve(place), running.intersection(of_trial)
                if any(number in trained and trained[number].status == "diverged" for number in of_trial) or (
                    still and is_new and self._prunes and self._trials[place].should_prune()
                ):
                    self._over.add(place)
                stopped |= still if place in self._over else set()
        self._tally.report()
        return stopped

    def tell_ended(self) -> None:
        """Tell the study the trials of which all networks have ended."""
        rows = {row.trial: row for row in self._store.rows() if row.status != "paused"}
        for place in range(len(self._trials)):
            of_trial = [rows[number] for number in self._members(place) if number in rows]
            if place not in self._told and len(of_trial) == self._n_seeds:
                self._tell(place, of_trial)
                self._told.add(place)

    def _members(self, place: int) -> range:
        return range(place * self._n_seeds, (place + 1) * self._n_seeds)

    def _report_curve(self, place: int) -> bool:
        """Report the epochs that all networks of a trial have newly reached; tell whether there are any."""
        before = self._reported[place]
        new = [self._curves.get(number, ())[before:] for number in self._members(place)]
        for rows in zip(*new, strict=False):
            if (value := _mean(rows, self._tally.metric)) is None:  # a network diverged
                break
            self._reported[place] += 1
            self._trials[place].report(value, self._reported[place])
        return self._reported[place] > before

    def _tell(self, place: int, rows: Sequence[Row]) -> None:
        trial, metric = self._trials[place], self._tally.metric
        for name in REPORTED:
            if (test := _mean(rows, name)) is not None:
                trial.set_user_attr(name, test)
        value = _mean(rows, metric)
        if any(row.status == "diverged" for row in rows):
            self._tally.tell(trial, None, self._states.FAIL, DIVERGED)
        elif any(is_cut_short(row, self._networks[row.trial].config) for row in rows):
            self._tally.tell(trial, None, self._states.PRUNED)
        elif value is None or math.isnan(value):
            self._tally.tell(trial, None, self._states.FAIL, f"{metric} is not a number")
        else:
            self._tally.tell(trial, value, self._states.COMPLETE)


def interrupt(study: "optuna.Study") -> None:
    """End all trials that still run in the eyes of the study, and queue their settings to be asked again."""
    states = optional("optuna", "optuna").trial.TrialState
    running = study.get_trials(deepcopy=False, states=(states.RUNNING,))
    if running:
        numbers = {*_interrupted(study), *(each.number for each in running)}
        study.set_user_attr(_INTERRUPTED, sorted(numbers))
    for each in running:
        # In this order: a process that is killed here trains a setting twice rather than not at all.
        if params := {**each.system_attrs.get("fixed_params", {}), **each.params}:
            study.enqueue_trial(params)
        _tell(study, each.number, None, states.FAIL)


def _interrupted(study: "optuna.Study") -> list[int]:
    return list(study.user_attrs.get(_INTERRUPTED, ()))


def _tell(study: "optuna.Study", trial: "optuna.Trial | int", value: float | None, state: Any) -> bool:
    """Tell a trial's end; return False if the study's sampler has nothing more to propose."""
    try:
        study.tell(trial, value, state)
    except RuntimeError as error:
        # A sampler that has gone through its grid stops the study, which raises outside of Optuna's own loop.
        if "Study.stop" not in str(error):
            raise
        return False
    return True


def _mean(rows: Sequence[Any], name: str) -> float | None:
    values = [getattr(row, name) for row in rows]
    return None if None in values else math.fsum(values) / len(values)
