"""Is a right formula precise enough in the dtypes of its user?"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _rounding
from jaxmlp.checking._decision import ROUNDINGS, Judged
from jaxmlp.checking._functions import to_numpy
from jaxmlp.checking._program import source as source_of
from jaxmlp.checking._program import trace
from jaxmlp.checking.report import Explanation


def precision_checker(f: Callable[[Any], Any], dtypes: list[Any]) -> Callable[[Any, Judged, int], Judged]:
    """Return a function of (params, judged, seed) that judges the rounding of a right formula in the user's own dtypes.

    It allows a multiple of autodiff's own error in these dtypes, and what rounding can do to autodiff.
    """
    limits = [jnp.finfo(dtype) for dtype in dtypes]
    autodiff = jax.jit(jax.grad(f))
    spread = _rounding.spread(jax.grad(f))

    def judge(params: Any, judged: Judged, seed: int) -> Judged:
        allowed = [
            np.where(np.abs(leaf) > float(limit.max), np.inf, ROUNDINGS * float(limit.eps) * _rounding.scale(leaf))
            + ROUNDINGS * float(limit.tiny)
            for leaf, limit in zip(judged.expected, limits, strict=True)
        ]
        judged = judged._replace(allowed=allowed)
        if judged.is_right:
            return judged
        unknown = judged._replace(allowed=[16 * leaf for leaf in allowed])
        try:
            own = to_numpy(autodiff(params))
        except Exception:  # without autodiff, allow a multiple of the rounding
            return unknown
        errors = [np.abs(a - e) for a, e in zip(own, judged.expected, strict=True)]
        wider = [a + _finite(8 * (e + _rounding.scale(e))) for a, e in zip(allowed, errors, strict=True)]
        judged = judged._replace(allowed=wider)
        if judged.is_right:
            return judged
        try:
            spreads = to_numpy(spread(seed, params))
        except Exception:
            return unknown
        factor = _rounding.threshold(sum(leaf.size for leaf in own))
        return judged._replace(allowed=[a + _finite(factor * s) for a, s in zip(wider, spreads, strict=True)])

    return judge


def _finite(leaf: np.ndarray) -> np.ndarray:
    return np.nan_to_num(leaf, nan=0.0, posinf=0.0)


def explain_precision(
    gradient: Callable[[Any], Any], params: Any, judged: Judged, names: list[str]
) -> tuple[Explanation, ...]:
    """Return where a right formula loses digits: the operation that cancels most, or the first to overflow."""
    wrong = tuple(name for name, mask in zip(names, judged.wrong, strict=True) if mask.any())
    head = "the formula is right in float64, but imprecise in this dtype"
    losses: list[tuple[float, str]] = []
    broken: list[str] = []

    def visit(eqn: Any, inputs: list[Any], apply: Callable[..., list[Any]], _: Any) -> list[Any]:
        outputs = apply(inputs)
        values = [np.asarray(x).astype(np.float64) for x in inputs if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
        results = [
            np.asarray(y).astype(np.float64) for y in outputs if jnp.issubdtype(jnp.result_type(y), jnp.floating)
        ]
        at = f"{eqn.primitive.name} at {source_of(eqn)}"
        if all(np.isfinite(v).all() for v in values) and not all(np.isfinite(r).all() for r in results):
            broken.append(at)
        if eqn.primitive.name in ("add", "sub", "add_any") and results and values:
            size = np.maximum.reduce(np.broadcast_arrays(*[np.abs(v) for v in values]))
            with np.errstate(divide="ignore", invalid="ignore"):
                losses.append((float(np.nanmax(np.where(size > 0, size / np.abs(results[0]), 0.0))), at))
        if eqn.primitive.name == "mul" and len(values) == 2 and results:
            lost = (results[0] == 0) & (values[0] != 0) & (values[1] != 0)
            if np.any(lost):
                broken.append(f"{at} (it underflows)")
        return outputs

    try:
        trace(gradient, params).run(visit, params)
    except Exception:  # not traceable
        return (Explanation("precision", head, wrong),)
    if broken:
        return (Explanation("precision", f"{head}: {broken[0]} leaves the range of its dtype", wrong),)
    worst = max(losses, default=(0.0, ""))
    if worst[0] > 30:
        by = f"{worst[0]:.0e}-fold" if math.isfinite(worst[0]) else "down to 0"
        return (Explanation("precision", f"{head}: {worst[1]} cancels, {by}", wrong),)
    return (Explanation("precision", head, wrong),)
