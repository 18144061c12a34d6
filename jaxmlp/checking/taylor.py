"""The Taylor test: |f(w + h v) - f(w) - h g.v| falls as h^2 where g is the gradient, else as h."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.checking import _decision, _differences, _functions, _points
from jaxmlp.checking._boundary import check_like, check_params, name_of, scalar_value
from jaxmlp.checking._decision import Functions, Judged
from jaxmlp.checking._functions import called, to_float64, to_numpy, widened

__all__ = ["TaylorTest", "taylor_test"]

STEPS = 10.0 ** -np.arange(1, 10.25, 0.5)


class TaylorTest(NamedTuple):
    """How the remainder falls with the step along one direction; all arrays have shape [s].

    Attributes
    ----------
    h
        The steps, in units of the parameters' own sizes.
    remainder
        |f(w + h v) - f(w) - h g.v|, the larger one of both sides.
    rounding
        What rounding may have made of it: below, a remainder says nothing.
    slope
        The exponent with which it falls, measured clear of rounding; nan where it nowhere is, as for linear f.
    true_remainder
        The same with f's own slope, if the gradient promises another; else None.
    """

    h: np.ndarray
    remainder: np.ndarray
    rounding: np.ndarray
    slope: float
    true_remainder: np.ndarray | None


def taylor_test(f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, *, seed: int = 0) -> TaylorTest:
    """Measure how the first-order remainder of f falls with the step, in float64.

    The direction is the one along which the gradient and autodiff differ most, or a random one where they agree or
    where there is no autodiff.

    Parameters
    ----------
    f
        A function of one tree of floating arrays that returns a scalar.
    gradient
        A function of the same tree that returns one like it.
    params
        A tree of floating arrays.
    seed
        Of the random direction.

    Returns
    -------
    TaylorTest(h, remainder, rounding, slope, true_remainder)
        `slope` is 2 for a gradient that is right, 1 for one that is wrong.

    Raises
    ------
    ValueError
        As `check_gradient`: if the parameters are no finite floating arrays, f no scalar, or a gradient unlike them.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> w = jnp.array([1.0, 2.0])
    >>> round(taylor_test(lambda w: (w**3).sum(), lambda w: 3 * w**2, w).slope, 1)
    2.0
    >>> round(taylor_test(lambda w: (w**3).sum(), lambda w: 2 * w**2, w).slope, 1)
    1.0
    """
    f_name, gradient_name = name_of(f, "f"), name_of(gradient, "gradient")
    check_params(params, "params")
    scalar_value(f_name, f, params)
    check_like(gradient_name, called(gradient_name, gradient, params), params, "params")
    with jax.enable_x64(True):
        return _test(widened(f_name, f, params), widened(gradient_name, gradient, params), to_float64(params), seed)


def _test(f: _functions.Wide, gradient: _functions.Wide, params: Any, seed: int) -> TaylorTest:
    functions = Functions(f, _functions.along(f), gradient, [np.finfo(np.float64).eps] * len(jax.tree.leaves(params)))
    given = to_numpy(gradient.call(params))
    truth = next(_decision.truths(f, params), None)
    expected = None if truth is None else _decision.evaluated(truth.call, params)
    direction = to_float64(_points.direction(params, np.random.default_rng(seed)))
    if expected is not None:
        judged = _decision.compare(functions, given, expected)
        if not judged.is_right and all(np.isfinite(leaf).all() for leaf in given):
            direction = _decision.towards(_unmistakable(judged), params)
    values = functions.along(params, direction, np.concatenate([[0.0], STEPS, -STEPS]))
    centre, ahead, behind = values[0], values[1 : 1 + len(STEPS)], values[1 + len(STEPS) :]
    promised = _decision.dot(given, direction)
    slope = _differences.slope(_differences.line(lambda h: functions.along(params, direction, h), centre))
    true_slope = slope.value if expected is None else _decision.dot(expected, direction)

    def remainder(slope: float) -> np.ndarray:
        return np.maximum(np.abs(ahead - centre - STEPS * slope), np.abs(behind - centre + STEPS * slope))

    found = remainder(promised)
    sizes = np.maximum(np.abs(ahead), np.abs(behind)) + abs(centre) + np.abs(STEPS * promised)
    rounding = 4 * np.finfo(np.float64).eps * sizes
    differs = abs(promised - true_slope) > slope.error + 1e-9 * abs(true_slope)
    return TaylorTest(
        STEPS, found, rounding, _exponent(STEPS, found, rounding), remainder(true_slope) if differs else None
    )


def _unmistakable(judged: Judged) -> Judged:
    """Allow what is small beside the largest disagreement: rounding alone should not choose the direction."""
    largest = max(float(np.abs(g - e).max(initial=0.0)) for g, e in zip(judged.given, judged.expected, strict=True))
    return judged._replace(allowed=[np.maximum(a, 1e-3 * largest) for a in judged.allowed])


def _exponent(h: np.ndarray, remainder: np.ndarray, rounding: np.ndarray) -> float:
    clear = np.flatnonzero(np.isfinite(remainder) & (remainder > 32 * rounding))
    if len(clear) < 2:
        return math.nan
    # The smallest of the steps at which it is clear: there the higher orders have died away.
    last = clear[-4:]
    return float(np.polyfit(np.log(h[last]), np.log(remainder[last]), 1)[0])
