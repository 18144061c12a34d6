"""What trials are ranked by: the metrics of a trial, and which way each of them is better."""

from typing import Any

__all__ = ["METRICS", "is_better_high", "label", "score"]

METRICS = ("train_loss", "test_loss", "test_accuracy", "test_r2")


def is_better_high(metric: str) -> bool:
    """Tell whether a larger value is better: not of a loss, but of accuracy and R2."""
    return not metric.endswith("loss")


def score(row: Any, metric: str) -> float:
    """Return a number that is larger where a row, of a trial or an epoch, is better; -inf where it has no value.

    >>> from jaxmlp import Epoch
    >>> row = Epoch(1, 0.1, 2.0, 1.5, 0.75, None, 0.1)
    >>> score(row, "test_loss"), score(row, "test_accuracy"), score(row, "test_r2")
    (-1.5, 0.75, -inf)
    """
    value = getattr(row, metric)
    if value is None or value != value:
        return -float("inf")
    return float(value) if is_better_high(metric) else -float(value)


def label(metric: str) -> str:
    """Return a metric's name in words: `test R²` for `test_r2`."""
    return metric.replace("_r2", "_R²").replace("_", " ")
