"""The Taylor test (eq. 1): |f(w + h v) - f(w) - h g.v| falls as h^2 if g is the gradient, else as h."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _differences, _functions, _points
from jaxmlp.checking._boundary import check_floats, check_like, name_of, scalar_value
from jaxmlp.checking._functions import called, to_float64, to_numpy, widened, x64_scope
from jaxmlp.checking._program import without_rules

__all__ = ["TaylorTest", "taylor_test"]

STEPS = 10.0 ** -np.arange(1, 10.25, 0.5)


class TaylorTest(NamedTuple):
    """The Taylor remainder at each step along one direction; all arrays have shape [s]."""

    h: np.ndarray  # the steps, in units of the parameters' own sizes
    remainder: np.ndarray  # |f(w + h v) - f(w) - h g.v|, the larger of both sides
    rounding: np.ndarray  # rounding error of the remainder; a smaller remainder means nothing
    slope: float  # exponent with which the remainder falls; nan if rounding hides it everywhere, as for linear f
    true_remainder: np.ndarray | None  # the remainder with f's own slope in place of g.v; None if they agree


def taylor_test(f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, *, seed: int = 0) -> TaylorTest:
    """Measure how the first-order remainder of f falls with the step, in float64.

    The direction is the one along which the gradient and autodiff differ most, or a random one if they agree or
    autodiff is not available. `slope` is 2 for a right gradient and 1 for a wrong one.

    >>> w = jnp.array([1.0, 2.0])
    >>> round(taylor_test(lambda w: (w**3).sum(), lambda w: 3 * w**2, w).slope, 1)
    2.0
    >>> round(taylor_test(lambda w: (w**3).sum(), lambda w: 2 * w**2, w).slope, 1)
    1.0
    """
    f_name, gradient_name = name_of(f, "f"), name_of(gradient, "gradient")
    check_floats(params, "params")
    scalar_value(f_name, f, params)
    check_like(gradient_name, called(gradient_name, gradient, params), params, "params")
    with x64_scope((f, params), (gradient, params))(True):
        return _test(widened(f_name, f, params), widened(gradient_name, gradient, params), to_float64(params), seed)


def _test(f: _functions.Wide, gradient: _functions.Wide, params: Any, seed: int) -> TaylorTest:
    along = _functions.along(f)
    given = to_numpy(gradient.call(params))
    expected = _decision.evaluated(jax.jit(jax.grad(without_rules(f.plain))), params) if f.traceable else None
    direction = _towards(given, expected, params) if expected is not None else None
    if direction is None:
        direction = to_float64(_points.direction(params, np.random.default_rng(seed)))
    values = along(params, direction, np.concatenate([[0.0], STEPS, -STEPS]))
    centre, ahead, behind = values[0], values[1 : 1 + len(STEPS)], values[1 + len(STEPS) :]
    promised = _decision.dot(given, direction)
    slope = _differences.slope(_differences.line(lambda h: along(params, direction, h), centre))
    true_slope = slope.value if expected is None else _decision.dot(expected, direction)

    def remainder(slope: float) -> np.ndarray:
        return np.maximum(np.abs(ahead - centre - STEPS * slope), np.abs(behind - centre + STEPS * slope))

    found = remainder(promised)
    sizes = np.maximum(np.abs(ahead), np.abs(behind)) + abs(centre) + np.abs(STEPS * np.nan_to_num(promised))
    rounding = 4 * np.finfo(np.float64).eps * sizes
    differs = abs(promised - true_slope) > slope.error + 1e-9 * abs(true_slope)
    true_remainder = remainder(true_slope) if differs else None
    return TaylorTest(STEPS, found, rounding, _exponent(found, rounding), true_remainder)


def _towards(given: list[np.ndarray], expected: list[np.ndarray], params: Any) -> Any:
    """Return the direction of the disagreement with the length of a random one; None if there is only rounding."""
    sizes = [_points.size(leaf) for leaf in to_numpy(params)]
    # Each leaf in the unit in which directions are drawn.
    gaps = [(g - e) * size for g, e, size in zip(given, expected, sizes, strict=True)]
    norm, whole = _decision.length(gaps, [1] * len(gaps)), _decision.length(expected, sizes)
    if not math.isfinite(norm) or norm <= 1e-13 * whole:
        return None
    # Even if a single element is wrong, the direction has the length of one drawn in all coordinates.
    n = sum(gap.size for gap in gaps)
    leaves = [jnp.asarray(gap * (size * math.sqrt(n) / norm)) for gap, size in zip(gaps, sizes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _exponent(remainder: np.ndarray, rounding: np.ndarray) -> float:
    clear = np.flatnonzero(np.isfinite(remainder) & (remainder > 32 * rounding))
    if len(clear) < 2:
        return math.nan
    # At the smallest clear steps the higher orders have vanished.
    last = clear[-4:]
    return float(np.polyfit(np.log(STEPS[last]), np.log(remainder[last]), 1)[0])
