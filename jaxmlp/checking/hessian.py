"""`check_hessian_vector_product`: is a product with the Hessian right?

H v is the gradient of w -> D_v f(w), so `check_gradient` checks it for given v.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _differences, _functions, _points, _rounding
from jaxmlp.checking._arguments import cast_like, inner_product, two_short_normals
from jaxmlp.checking._boundary import check_floats, check_like, name_of, scalar_value
from jaxmlp.checking._functions import called, to_float64, widened, x64_scope
from jaxmlp.checking.gradient import check_gradient
from jaxmlp.checking.report import Report

__all__ = ["check_hessian_vector_product"]


def check_hessian_vector_product(
    f: Callable[[Any], Any], product: Callable[[Any, Any], Any], params: Any, *, seed: int = 0
) -> Report:
    """Check that `product(params, v)` is H v for the Hessian H of the scalar `f(params)`, for two v.

    H v is the gradient of w -> D_v f(w), with D_v f by JAX; `check_gradient` checks it for two random v. Two notes add
    evidence: how fast |f(w + h v) - f(w) - h g.v - h^2/2 v.H v| falls with h, and whether u.H v equals v.H u. JAX must
    be able to differentiate f. v and `product(params, v)` are trees like the parameters.

    >>> w = jnp.array([1.0, 2.0])
    >>> bool(check_hessian_vector_product(lambda w: (w**3).sum(), lambda w, v: 6 * w * v, w))
    True
    """
    f_name, product_name = name_of(f, "f"), name_of(product, "product")
    check_floats(params, "params")
    scalar_value(f_name, f, params)
    rng = np.random.default_rng(seed)
    drawn = [(_points.size(np.asarray(w)), two_short_normals(np.shape(w), rng)) for w in jax.tree.leaves(params)]
    vectors = [jax.tree.unflatten(jax.tree.structure(params), [size * v[k] for size, v in drawn]) for k in range(2)]
    check_like(product_name, called(product_name, product, params, cast_like(vectors[0], params)), params, "params")
    slope_along = _slope_along(f, params, vectors[0])
    reports = []
    for n, v in enumerate(vectors):

        def slope(w: Any, v: Any = v) -> Any:
            return slope_along(w, cast_like(v, w))

        def given(w: Any, v: Any = v) -> Any:
            return product(w, cast_like(v, w))

        slope.__name__, given.__name__ = f"the slope of {f_name}", product_name
        reports.append(check_gradient(slope, given, params, seed=seed + n, name=f"{product_name} of {f_name}"))
        if not reports[-1]:
            break
    with x64_scope((slope, params), (given, params))(True):
        notes = _second_order(f, product, slope_along, params, vectors)
    every = dict.fromkeys([note for report in reports for note in report.notes] + notes)
    return dataclasses.replace(reports[-1], notes=tuple(every))


def _slope_along(f: Callable[[Any], Any], params: Any, v: Any) -> Callable[[Any, Any], Any]:
    """Return D_v f(w) as a function of (w, v)."""

    def forward(w: Any, v: Any) -> Any:
        return jax.jvp(f, (w,), (v,))[1]

    def backward(w: Any, v: Any) -> Any:
        return inner_product(jax.grad(f)(w), v)

    try:
        forward(params, cast_like(v, params))
    except TypeError:  # jax.custom_vjp has no forward mode
        return backward
    return forward


def _second_order(
    f: Callable[[Any], Any],
    product: Callable[[Any, Any], Any],
    slope_along: Callable[[Any, Any], Any],
    params: Any,
    vectors: list[Any],
) -> list[str]:
    """Return notes on how the second-order remainder falls and whether the product is symmetric. Call under x64."""
    values, centre = widened("f", f, params), to_float64(params)
    example = [params, *vectors]
    slope = widened("the slope", lambda at: slope_along(at[0], cast_like(at[1], at[0])), example)
    pairing = widened("product", lambda at: inner_product(at[1], product(at[0], cast_like(at[2], at[0]))), example)
    u, v = (to_float64(each) for each in vectors)
    along = _functions.along(values)
    line = _differences.line(lambda h: along(centre, u, h), float(values.call(centre)))
    line = _differences.line(lambda h: along(centre, u, h), line.centre, line)
    bend = line.h**2 / 2 * float(pairing.call([centre, u, u]))
    bent = line._replace(ahead=line.ahead - bend, behind=line.behind - bend)
    exponent = _differences.remainder_exponent(bent, float(slope.call([centre, u, v])))
    notes = []
    if math.isfinite(exponent):
        falls = f"the Taylor remainder after the second order falls as h^{exponent:.2f}"
        notes.append(f"{falls} (h^3 where the product is right, h^2 where it is wrong)")
    one, other = [centre, u, v], [centre, v, u]
    a, b = float(pairing.call(one)), float(pairing.call(other))
    own = max(_rounding.epsilon(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params))
    allowed = max(_decision.ROUNDINGS * _rounding.epsilon(np.float64), own) * (abs(a) + abs(b))
    if not abs(a - b) <= allowed and pairing.traceable:
        allowed += _rounding.threshold(1) * sum(float(list(pairing.spreads(0, at))[-1]) for at in (one, other))
    if not abs(a - b) <= allowed:
        notes.append(f"the product is not symmetric: u.H v is {a:.9g}, and v.H u is {b:.9g}")
    return notes
