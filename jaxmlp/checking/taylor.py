"""The Taylor test (eq. 1): |f(w + h v) - f(w) - h g.v| falls as h^2 if g is the gradient, else as h."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _differences, _functions, _points
from jaxmlp.checking._boundary import check_finite_floats, check_like, name_of, scalar_value
from jaxmlp.checking._functions import called, to_float64, to_numpy, widened
from jaxmlp.checking._program import without_rules
from jaxmlp.checking._x64 import x64_scope

__all__ = ["TaylorTest", "taylor_test"]

STEPS = 10.0 ** -np.arange(1, 10.25, 0.5)


class TaylorTest(NamedTuple):
    """The Taylor remainder at each step along one direction; all arrays have shape [s].

    Attributes
    ----------
    h
        The steps, in units of the parameters' own sizes.
    remainder
        |f(w + h v) - f(w) - h g.v|, the larger of both sides.
    rounding
        Rounding error of the remainder; a smaller remainder means nothing.
    slope
        Exponent with which the remainder falls, measured well above rounding; nan if it nowhere is, as for linear f.
    true_remainder
        The remainder with f's own slope in place of g.v; None if they agree.
    """

    h: np.ndarray
    remainder: np.ndarray
    rounding: np.ndarray
    slope: float
    true_remainder: np.ndarray | None


def taylor_test(f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, *, seed: int = 0) -> TaylorTest:
    """Measure how the first-order remainder of f falls with the step, in float64.

    The direction is the one along which the gradient and autodiff differ most, or a random one if they agree or
    autodiff is not available.

    Parameters
    ----------
    f
        A function of one tree of floating arrays that returns a scalar.
    gradient
        A function of the same tree that returns a tree like it.
    params
        A tree of floating arrays.
    seed
        Seed of the random direction.

    Returns
    -------
    TaylorTest(h, remainder, rounding, slope, true_remainder)
        `slope` is 2 for a right gradient and 1 for a wrong one.

    Raises
    ------
    ValueError
        As `check_gradient`: if the parameters are not finite floating arrays, f returns no scalar, or the gradient is
        unlike the parameters.

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
    check_finite_floats(params, "params")
    scalar_value(f_name, f, params)
    check_like(gradient_name, called(gradient_name, gradient, params), params, "params")
    with x64_scope((f, params), (gradient, params))(True):
        return _test(widened(f_name, f, params), widened(gradient_name, gradient, params), to_float64(params), seed)


def _test(f: _functions.Wide, gradient: _functions.Wide, params: Any, seed: int) -> TaylorTest:
    along = _functions.along(f)
    given = to_numpy(gradient.call(params))
    expected = _by_autodiff(f, params)
    direction = _towards(given, expected, params) if expected is not None else None
    if direction is None:
        direction = to_float64(_points.direction(params, np.random.default_rng(seed)))
    values = along(params, direction, np.concatenate([[0.0], STEPS, -STEPS]))
    centre, ahead, behind = values[0], values[1 : 1 + len(STEPS)], values[1 + len(STEPS) :]
    promised = _dot(given, direction)
    slope = _differences.slope(_differences.line(lambda h: along(params, direction, h), centre))
    true_slope = slope.value if expected is None else _dot(expected, direction)

    def remainder(slope: float) -> np.ndarray:
        return np.maximum(np.abs(ahead - centre - STEPS * slope), np.abs(behind - centre + STEPS * slope))

    found = remainder(promised)
    sizes = np.maximum(np.abs(ahead), np.abs(behind)) + abs(centre) + np.abs(STEPS * np.nan_to_num(promised))
    rounding = 4 * np.finfo(np.float64).eps * sizes
    differs = abs(promised - true_slope) > slope.error + 1e-9 * abs(true_slope)
    return TaylorTest(
        STEPS, found, rounding, _exponent(STEPS, found, rounding), remainder(true_slope) if differs else None
    )


def _by_autodiff(f: _functions.Wide, params: Any) -> list[np.ndarray] | None:
    """Return the gradient of f's own steps, without custom rules; None if JAX cannot differentiate them."""
    if not f.traceable:
        return None
    try:
        leaves = to_numpy(jax.jit(jax.grad(without_rules(f.plain)))(params))
    except Exception:  # JAX raises many kinds for functions that it cannot differentiate
        return None
    return leaves if all(np.isfinite(leaf).all() for leaf in leaves) else None


def _towards(given: list[np.ndarray], expected: list[np.ndarray], params: Any) -> Any:
    """Return the direction of the disagreement with the length of a random one; None if there is only rounding."""
    sizes = [_points.size(leaf) for leaf in to_numpy(params)]
    # Each leaf in the unit in which directions are drawn.
    gaps = [(g - e) * size for g, e, size in zip(given, expected, sizes, strict=True)]
    norm, whole = (
        math.sqrt(sum(float(np.sum(np.square(leaf))) for leaf in leaves))
        for leaves in (gaps, [e * size for e, size in zip(expected, sizes, strict=True)])
    )
    if not math.isfinite(norm) or norm <= 1e-13 * whole:
        return None
    # Even if a single element is wrong, the direction has the length of one drawn in all coordinates.
    n = sum(gap.size for gap in gaps)
    leaves = [jnp.asarray(gap * (size * math.sqrt(n) / norm)) for gap, size in zip(gaps, sizes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _dot(leaves: list[np.ndarray], direction: Any) -> float:
    return math.fsum(float(np.vdot(leaf, v)) for leaf, v in zip(leaves, to_numpy(direction), strict=True))


def _exponent(h: np.ndarray, remainder: np.ndarray, rounding: np.ndarray) -> float:
    clear = np.flatnonzero(np.isfinite(remainder) & (remainder > 32 * rounding))
    if len(clear) < 2:
        return math.nan
    # At the smallest clear steps the higher orders have vanished.
    last = clear[-4:]
    return float(np.polyfit(np.log(h[last]), np.log(remainder[last]), 1)[0])
