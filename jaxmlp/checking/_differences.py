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

    @property
    def moves(self) -> float:
        """Return how much the function changes for each unit: at a minimum its slope is 0, but it is not constant."""
        change = np.nan_to_num(np.maximum(np.abs(self.ahead - self.centre), np.abs(self.behind - self.centre)))
        # A constant has no changes; then a share of its value is the measure.
        return float(np.max(change / self.h)) if change.any() else 1e-6 * abs(self.centre)


class Slope(NamedTuple):
    """A derivative along a direction, its error, and what is not smooth there.

    `jump` is the slope ahead minus the slope behind at a kink, `leap` is how far the function itself jumps; `stairs`
    tells that tiny steps do not move it, so that the slope is that of large ones.
    """

    value: float
    error: float
    jump: float
    leap: float = 0.0
    stairs: bool = False

    def allows(self, promised: float, rounding: float = 0.0) -> bool:
        """Return whether a gradient may promise this slope: f's own, or one between those of its two sides."""
        return bool(abs(self.value - promised) <= self.error + abs(self.jump) / 2 + rounding)


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
    floor = _floor(values) if noise is None else noise[values.which]
    noises = floor / values.h
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
    return Slope(best, SAFETY * error, _jump(values, noises), _leap(values, floor))


def _floor(values: Line) -> np.ndarray:
    """Return a few units in the last place of the values: the least noise that they can have."""
    size = np.maximum(np.maximum(np.abs(values.ahead), np.abs(values.behind)), abs(values.centre))
    return 4 * np.finfo(np.float64).eps * size


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
    return float(last) if abs(before) / 2 < abs(last) < abs(before) * 2 else 0.0


def _leap(values: Line, noise: np.ndarray) -> float:
    """Return how far the function jumps at the point: what the three shortest steps agree on, or 0."""
    if not values.is_whole:
        return 0.0
    for side in (values.ahead, values.behind):
        change = np.abs(side - values.centre)[-3:]
        if change.min() > 100 * noise.max() and change.max() < 1.5 * change.min():
            return float(change[-1])
    return 0.0


def stairs(along: Along, values: Line, noise: np.ndarray | None = None) -> Slope | None:
    """Return the slope by large steps of a function that tiny steps move nowhere, as of a solver with a tolerance.

    None if tiny steps move it somewhere on the line, or if large steps agree on no slope. The slope is that of a
    polynomial through 64 points; three degrees and the distance of the points bound its error.
    """
    floor = _floor(values) if noise is None else noise[values.which]
    change = np.maximum(np.abs(values.ahead - values.centre), np.abs(values.behind - values.centre))
    moving = np.flatnonzero(change)
    if not len(moving) or moving[-1] == len(change) - 1 or change[moving[-1]] <= 1000 * floor[moving[-1]]:
        return None
    tiny = values.h[moving[-1] + 1] / 4
    starts = np.concatenate([values.h[moving], -values.h[moving]])
    before, after = np.split(np.asarray(along(np.concatenate([starts, starts + tiny])), np.float64), 2)
    if np.mean(before == after) < 0.75:
        return None
    x = np.linspace(-1, 1, 64)
    y = np.asarray(along(STEPS[0] * x), np.float64)
    fits = [np.polynomial.Polynomial.fit(x, y, degree) for degree in (3, 5, 7)]
    low, value, high = (float(fit.deriv()(0.0)) / STEPS[0] for fit in fits)
    rounding = float(np.sqrt(np.mean(np.square(fits[1](x) - y)) / len(x))) / STEPS[0]
    error = SAFETY * (abs(value - low) + abs(value - high) + rounding)
    return Slope(value, error, 0.0, stairs=True) if error < abs(value) / 4 else None


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
