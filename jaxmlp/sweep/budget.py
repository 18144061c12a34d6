"""The budget of a tuning, how much of it fits, and what was decided: a repeated call decides the same."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from jaxmlp._validation import whole_number
from jaxmlp.storage.files import to_json, write_whole
from jaxmlp.sweep.halving import Halving

__all__ = ["FILE", "Budget", "Costs", "Decisions"]

FILE = "tuning.json"
_MOST_TRIALS, _FEWEST_TRIALS = 128, 6  # fewer compare nothing: the time goes into networks instead
_MOST_NETWORKS, _WANTED_NETWORKS = 8, 4
_LEAST_FOR_NETWORKS, _MOST_FOR_NETWORKS = 0.4, 0.75  # shares of the seconds that are left
_MOST_FOR_ENCODINGS = 0.15  # the same, for comparing encodings
_SAFETY = 0.6  # of the time for a search: saving trials takes time, too


class Costs(NamedTuple):
    """The seconds of an epoch and of compiling a program, and the epochs of a run."""

    epoch: float
    compiling: float
    epochs: int

    @property
    def run(self) -> float:
        """Return the seconds of a whole run."""
        return self.epochs * self.epoch

    def times(self, factor: float) -> "Costs":
        """Return the costs where an epoch takes `factor` times as long."""
        return self._replace(epoch=self.epoch * factor)


@dataclass(frozen=True)
class Budget:
    """Seconds from now on, or a number of trials; the other is None.

    >>> Budget(trials=40).n_networks(Costs(0.1, 1.0, 30), n_programs=1)
    8
    """

    seconds: float | None = None
    trials: int | None = None
    _began: float = field(default_factory=time.perf_counter, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers once."""
        if (self.seconds is None) == (self.trials is None):
            raise ValueError("tuning needs one budget: give seconds or trials")
        if self.trials is not None:
            object.__setattr__(self, "trials", whole_number("trials", self.trials, 1))
        elif not (isinstance(self.seconds, int | float) and isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds must be positive and finite, got {self.seconds!r}")

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return float("inf") if self.seconds is None else self.seconds - (time.perf_counter() - self._began)

    def allows_comparing(self, n_encodings: int, costs: Costs) -> bool:
        """Tell whether there is time for a run of this cost with each encoding."""
        return n_encodings * (costs.run + costs.compiling) <= _MOST_FOR_ENCODINGS * self.left

    def for_networks(self, costs: Costs) -> float:
        """Return the seconds to reserve for the networks of the model."""
        wanted = _WANTED_NETWORKS * costs.run + costs.compiling
        return max(_LEAST_FOR_NETWORKS * self.left, min(wanted, _MOST_FOR_NETWORKS * self.left))

    def n_trials(self, costs: Costs, halving: Halving, n_programs: int) -> int:
        """Return how many trials to search; 0 if the time is better spent on networks with the default setting."""
        if self.trials is not None:
            return self.trials
        room = _SAFETY * (self.left - self.for_networks(costs) - n_programs * costs.compiling)
        fitting = [n for n in range(1, _MOST_TRIALS + 1) if halving.epochs([1] * n, costs.epochs) * costs.epoch <= room]
        return len(fitting) if len(fitting) >= _FEWEST_TRIALS else 0

    def n_networks(self, costs: Costs, n_programs: int) -> int:
        """Return how many networks to train with the settings that were chosen, at least one."""
        if self.seconds is None:
            return _MOST_NETWORKS
        fitting = (self.left - n_programs * costs.compiling) // costs.run
        return int(min(max(fitting, 1), _MOST_NETWORKS))


class Decisions:
    """What a tuning has decided, by name, as JSON values; kept in a folder, or in memory."""

    def __init__(self, folder: Path | None, budget: Budget) -> None:
        """Read the decisions of an earlier call; raise a ValueError for another budget or a damaged file."""
        self._file = None if folder is None else folder / FILE
        given: dict[str, Any] = {"seconds": budget.seconds, "trials": budget.trials}
        self._made = given
        if self._file is None or not self._file.exists():
            return
        try:
            self._made = dict(json.loads(self._file.read_text()))
            before = {name: self._made[name] for name in given}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._file} is damaged: restore it, or tune into a new folder") from error
        if before != given:
            had, got = (_budget_in_words(each) for each in (before, given))
            raise ValueError(f"{folder}: the tuning began with {had}, got {got}; keep the first, or choose another out")

    def kept(self, name: str, decide: Callable[[], Any]) -> Any:
        """Return a decision; the first call makes and saves it."""
        if name not in self._made:
            self._made[name] = decide()
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._file, (to_json(self._made, indent=2) + "\n").encode())
        return self._made[name]


def _budget_in_words(budget: dict[str, Any]) -> str:
    return ", ".join(f"{value:g} {name}" for name, value in budget.items() if value is not None)
