"""Metrics that rank trials, and those that report; settings: trials that differ only in their seed and fold."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from jaxmlp._intervals import Interval
from jaxmlp.sweep.space import FOLD, Trial

__all__ = [
    "METRICS",
    "OVER",
    "REPORTED",
    "Setting",
    "bounds",
    "by_setting",
    "counted",
    "is_better_high",
    "label",
    "numbered",
    "on_test",
    "score",
]

METRICS = ("train_loss", "validation_loss", "validation_accuracy", "validation_r2")
OVER = ("seed", FOLD)  # trials that differ in these only are of one setting
REPORTED = ("test_loss", "test_accuracy", "test_r2")  # measured once, when a trial ends; nothing is chosen by them


def on_test(metric: str) -> str:
    """Return the name of the same quantity on the test data: `test_loss` for `train_loss`."""
    return f"test_{metric.partition('_')[2]}"


def is_better_high(metric: str) -> bool:
    """Tell whether a larger value is better, as for accuracy and R2 but not for a loss."""
    return not metric.endswith("loss")


def bounds(metric: str) -> tuple[float, float]:
    """Return the lowest and the highest value of a metric.

    >>> bounds("test_accuracy"), bounds("validation_r2"), bounds("train_loss")
    ((0.0, 1.0), (-inf, 1.0), (0.0, inf))
    """
    return {"accuracy": (0.0, 1.0), "r2": (-math.inf, 1.0), "loss": (0.0, math.inf)}[metric.rpartition("_")[2]]


def score(row: Any, metric: str) -> float:
    """Return a number that is larger for a better row (of a trial or an epoch); -inf if the row has no value.

    >>> from jaxmlp import Epoch
    >>> row = Epoch(1, 0.1, 2.0, 1.5, 0.75, None, 0.1)
    >>> score(row, "validation_loss"), score(row, "validation_accuracy"), score(row, "validation_r2")
    (-1.5, 0.75, -inf)
    """
    value = getattr(row, metric)
    if value is None or value != value:
        return -float("inf")
    return float(value) if is_better_high(metric) else -float(value)


def label(metric: str) -> str:
    """Return a metric's name in words: `validation R²` for `validation_r2`."""
    return metric.replace("_r2", "_R²").replace("_", " ")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: `1 trial`, `2,000 trials`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


class Setting(NamedTuple):
    """A setting of the hyperparameters, with a metric averaged over its trials.

    Attributes
    ----------
    hyperparameters
        The setting's values, without those that are averaged over.
    metric, mean, low, high
        The metric's name, its mean over the trials, and the mean's 95 % interval (Student's t, within the metric's
        bounds; nan for one trial).
    trials
        The trials' numbers, the best first.
    n_asked
        How many trials the setting has in the space. The mean is over fewer while some have not ended.
    test
        The mean and interval of the same quantity on the test data, such as `test_accuracy` where the metric is
        `validation_accuracy`. Nothing was chosen by it. None without test data.
    diverged
        How many of its trials diverged: 0 for a setting that is ranked.
    """

    hyperparameters: dict[str, Any]
    metric: str
    mean: float
    low: float
    high: float
    trials: tuple[int, ...]
    n_asked: int
    test: Interval | None = None
    diverged: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the setting as plain JSON values."""
        return self._asdict() | {"test": self.test and self.test._asdict()}


def numbered(names: Sequence[str], rows: Iterable[Sequence[Any]], over: Collection[str] = OVER) -> list[int]:
    """Return the number of each row's setting, from 0: rows with the same number differ only in `over`.

    >>> numbered(("momentum", "seed"), [(0.5, 0), (0.9, 0), (0.5, 1)])
    [0, 1, 0]
    """
    kept = [place for place, name in enumerate(names) if name not in over]
    numbers: dict[tuple[Any, ...], int] = {}
    return [numbers.setdefault(tuple(row[place] for place in kept), len(numbers)) for row in rows]


def by_setting(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Return the trials of each setting: those that differ only in their seed and fold."""
    groups: dict[int, list[Trial]] = {}
    rows = (tuple(trial.values.values()) for trial in trials)
    for trial, number in zip(trials, numbered(tuple(trials[0].values), rows), strict=True):
        groups.setdefault(number, []).append(trial)
    return list(groups.values())
