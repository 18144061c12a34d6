"""The slope of a function along a direction, from its values alone, with an error estimate.

Central differences at falling steps are extrapolated to a step of 0 (Richardson; Ridders, Accurate computation of
F'(x) and F'(x)F''(x), 1982). The distance between neighbours in the tableau bounds the error of the extrapolation; the
noise in the values, divided by the step, bounds the error of rounding.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Steps fall sixteenfold, in units of the direction.
RATIO = 16
STEPS = np.array([2.0**-4 / RATIO**j for j in range(9)])
# The first stage is enough for a smooth function; the large steps help with noise, and the tiny ones with kinks.
STAGES = [np.array(stage) for stage in ([3, 4], [0, 1, 2, 5], [6, 7, 8])]
# Errors of second order fall 256-fold from step to step, errors of first order (beyond a kink) sixteenfold.
REGULAR = 200
# An error estimate is random; the error may be several times as large.
SAFETY = 8

Along = Callable[[np.ndarray], np.ndarray]  # steps [s] along a direction -> values [s] of the function there


class Line(NamedTuple):
    """The values of a function along a direction: at 0, and at some of the steps [s] forwards and backwards."""

    centre: float
    which: np.ndarray  # the numbers of the steps in STEPS, ascending
    ahead: np.ndarray
    behind: np.ndarray

    @property
    def h(self) -> np.ndarray:
        """Return the steps [s]."""
        return STEPS[self.which]

    @property
    def is_whole(self) -> bool:
        """Return whether it has all steps."""
        return len(self.which) == len(STEPS)


class Slope(NamedTuple):
    """A derivative along a direction, its error, and the jump between its sides at a kink (else 0)."""

    value: float
    error: float
    jump: float


def line(along: Along, centre: float, known: Line | None = None) -> Line:
    """Evaluate a function along a direction, on both sides, for one more stage of steps than `known`."""
    which = next(stage for stage in STAGES if known is None or stage[0] not in known.which)
    values = np.asarray(along(np.concatenate([STEPS[which], -STEPS[which]])), np.float64)
    ahead, behind = values[: len(which)], values[len(which) :]
    if known is not None:
        which = np.append(known.which, which)
        ahead, behind = np.append(known.ahead, ahead), np.append(known.behind, behind)
    order = np.argsort(which)
    return Line(centre, which[order], ahead[order], behind[order])


def slope(values: Line, noise: np.ndarray | None = None) -> Slope:
    """Return the slope at a step of 0: the entry of the tableau with the smallest error.

    `noise` is the rounding of the values at each of STEPS; a few units in their last place if None.
    """
    size = np.maximum.reduce(
        [np.abs(values.ahead), np.abs(values.behind), np.full(len(values.which), abs(values.centre))]
    )
    noises = (4 * np.finfo(np.float64).eps * size if noise is None else noise[values.which]) / values.h
    quotients = column = (values.ahead - values.behind) / (2 * values.h)
    # Extrapolate only if the differences fall as they should; else the error is their spread.
    falls = np.abs(np.diff(column))
    regular = np.append([False, False], falls[1:] <= falls[:-1] / REGULAR)
    sound, best, error = regular, math.nan, math.inf
    for k in range(1, len(column)):
        if k >= 3:  # an entry is sound if the rows before it are
            sound = np.append([False], sound[:-1]) & regular
        following = column[1:] + (column[1:] - column[:-1]) / (RATIO ** (2 * k) - 1)
        left = np.where(sound[k:], np.abs(following - column[1:]), np.abs(following - column[:-1]))
        errors = left + noises[k:] + _contradicted(following, quotients, noises, k)
        j = int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))
        if errors[j] < error:
            best, error = float(following[j]), float(errors[j])
        column = following
    return Slope(best, SAFETY * error, _jump(values, noises))


def _contradicted(entries: np.ndarray, quotients: np.ndarray, noises: np.ndarray, k: int) -> np.ndarray:
    """Return how far entries are from quotients of shorter steps: near kinks, some converge by chance."""
    left = np.abs(entries - quotients[k:])
    gaps = np.abs(quotients[None, :] - entries[:, None]) - SAFETY * noises - left[:, None]
    shorter = np.arange(len(quotients)) > np.arange(k, len(quotients))[:, None]
    return np.max(np.where(shorter, gaps, 0.0), axis=1, initial=0.0)


def _jump(values: Line, noises: np.ndarray) -> float:
    """Return the slope ahead minus the slope behind; 0 if the difference falls with the step: there is no kink."""
    jumps = (values.ahead - 2 * values.centre + values.behind) / values.h
    clear = np.flatnonzero(np.abs(jumps) > SAFETY * noises)
    if len(clear) < 2:
        return 0.0
    before, last = jumps[clear[-2]], jumps[clear[-1]]
    return float(last) if abs(last) > abs(before) / 2 else 0.0


def noise(along: Along, step: float = 2.0**-38) -> float:
    """Estimate the noise in a function's values from high differences at tiny equal steps.

    Differences of order k of a smooth function vanish, and those of its noise have the variance (2k)!/(k!)^2
    (More and Wild, Estimating Computational Noise, 2011).
    """
    values = np.asarray(along(step * np.arange(-4, 5)), np.float64)
    estimates = []
    for k in range(1, 7):
        values = np.diff(values)
        if k >= 4:
            estimates.append(np.sqrt(np.mean(values**2) * math.factorial(k) ** 2 / math.factorial(2 * k)))
    return float(np.median(estimates))


def n_directions(miss: float, resolution: float) -> int:
    """Return how many normal directions miss a fault with at most this probability.

    A fault d is seen along a direction v where |d.v| exceeds the error; a normal v makes d.v smaller than
    `resolution` |d| with the probability erf(resolution / sqrt 2), for any number of coordinates and of wrong ones.
    """
    return max(1, math.ceil(math.log(miss) / math.log(math.erf(resolution / math.sqrt(2)))))


def remainder_exponent(values: Line, promised: float, noise: np.ndarray | None = None) -> float:
    """Return the exponent with which |f(w + h v) - f(w) - h g.v| (eq. 1) falls with the step h, for g.v = `promised`.

    It is 2 if g is the gradient and 1 if not. It is nan if rounding hides the remainder at all steps but one, as for
    linear f.
    """
    moved = values.h * promised
    ahead = np.abs(values.ahead - values.centre - moved)
    behind = np.abs(values.behind - values.centre + moved)
    remainder = np.maximum(ahead, behind)
    size = np.maximum(np.abs(values.ahead), np.abs(values.behind)) + abs(values.centre) + np.abs(moved)
    floor = np.finfo(np.float64).eps * size if noise is None else noise[values.which]
    clear = np.flatnonzero(np.isfinite(remainder) & (remainder > 4 * SAFETY * floor))
    if len(clear) < 2:
        return math.nan
    return float((np.diff(np.log(remainder[clear])) / np.diff(np.log(values.h[clear])))[-1])
