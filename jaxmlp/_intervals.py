"""The mean of a few numbers with its 95 % interval, by Student's t."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Interval", "interval", "student_t"]


class Interval(NamedTuple):
    """The mean of some numbers, and the ends of its 95 % interval (Student's t; nan for one number)."""

    mean: float
    low: float
    high: float


def student_t(n: int) -> float:
    """Return half of the 95 % interval around a mean of n numbers, in standard errors (Student's t)."""
    from scipy.stats import t  # it takes a third of a second to import

    return float(t.ppf(0.975, n - 1))


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of some numbers, and the ends of its 95 % interval, which are nan for a single number.

    >>> print("{:.2f}, from {:.2f} to {:.2f}".format(*interval([1.0, 3.0])))
    2.00, from -10.71 to 14.71
    """
    n = len(values)
    mean = sum(values) / n
    squares = sum((value - mean) ** 2 for value in values)
    half = student_t(n) * (squares / (n - 1) / n) ** 0.5 if n > 1 else float("nan")
    return Interval(mean, mean - half, mean + half)
