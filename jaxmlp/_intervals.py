"""The mean of a few numbers with its 95 % interval, by Student's t."""

import math
from collections.abc import Sequence
from statistics import fmean
from statistics import mean as exact_mean
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


def interval(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Interval:
    """Return the mean of some numbers, and the ends of its 95 % interval, which are nan for a single number.

    No such number can be below `low` or above `high`, as an accuracy cannot leave 0 to 1: the interval ends there.

    >>> print("{:.2f}, from {:.2f} to {:.2f}".format(*interval([1.0, 3.0])))
    2.00, from -10.71 to 14.71
    >>> print("{:.2f}, from {:.2f} to {:.2f}".format(*interval([0.7, 0.9], low=0, high=1)))
    0.80, from 0.00 to 1.00
    """
    n = len(values)
    try:
        mean = fmean(values)  # the same in any order, so that equal settings tie
    except (OverflowError, ValueError):  # beyond the range of floats, or infinities of both signs
        mean = exact_mean(values)  # slow
    mean = min(max(mean, min(values)), max(values))  # rounding may have moved it out of their range
    if n == 1 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    half = student_t(n) * (sum((value - mean) * (value - mean) for value in values) / (n - 1) / n) ** 0.5
    # A loss of a user may be below 0: then so is the end.
    return Interval(mean, max(mean - half, min(low, *values)), min(mean + half, max(high, *values)))
