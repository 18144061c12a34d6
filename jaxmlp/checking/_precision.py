"""Is a right formula precise enough in the user's dtypes?"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _rounding
from jaxmlp.checking._decision import ROUNDINGS, Judged, Leaves
from jaxmlp.checking._functions import to_numpy
from jaxmlp.checking._program import source, trace
from jaxmlp.checking.report import Explanation


def precision_checker(f: Callable[[Any], Any], dtypes: list[Any]) -> Callable[[Any, Judged, int], Judged]:
    """Return a function of (params, judged, seed) that judges the rounding of a right formula in the user's own dtypes.

    It allows a multiple of autodiff's own error in these dtypes, and what rounding can do to autodiff.
    """
    autodiff, spread = jax.jit(jax.grad(f)), _rounding.spread(jax.grad(f))

    def judge(params: Any, judged: Judged, seed: int) -> Judged:
        return judge_precision(
            judged, dtypes, lambda: to_numpy(autodiff(params)), lambda: to_numpy(spread(seed, params))
        )

    return judge


def judge_precision(
    judged: Judged, dtypes: list[Any], own: Callable[[], Leaves], spread: Callable[[], Leaves]
) -> Judged:
    """Judge results in the user's dtypes.

    Beyond a few roundings, allow a multiple of the error of `own`, the results of the truth in these dtypes, and a
    multiple of its `spread` by rounding.
    """
    limits = [jnp.finfo(dtype) for dtype in dtypes]
    allowed = [
        np.where(np.abs(leaf) > float(limit.max), np.inf, ROUNDINGS * float(limit.eps) * _rounding.scale(leaf))
        + ROUNDINGS * float(limit.tiny)
        for leaf, limit in zip(judged.expected, limits, strict=True)
    ]
    judged = judged._replace(allowed=allowed)
    if judged.is_right:
        return judged
    try:
        errors = [np.abs(a - e) for a, e in zip(own(), judged.expected, strict=True)]
        wider = [a + _finite(8 * (e + _rounding.scale(e))) for a, e in zip(allowed, errors, strict=True)]
        if (excused := judged._replace(allowed=wider)).is_right:
            return excused
        factor = _rounding.threshold(sum(leaf.size for leaf in errors))
        return judged._replace(allowed=[a + _finite(factor * s) for a, s in zip(wider, spread(), strict=True)])
    except Exception:  # not traceable: allow a multiple of the rounding
        return judged._replace(allowed=[16 * leaf for leaf in allowed])


def _finite(leaf: np.ndarray) -> np.ndarray:
    return np.nan_to_num(leaf, nan=0.0, posinf=0.0)


def explain_precision(
    gradient: Callable[[Any], Any], params: Any, judged: Judged, names: list[str]
) -> tuple[Explanation, ...]:
    """Return where a right formula loses digits: the operation that cancels most, or the first to overflow."""
    head = "the formula is right in float64, but imprecise in this dtype"
    losses: list[tuple[float, str]] = []
    broken: list[str] = []

    def visit(eqn: Any, inputs: list[Any], apply: Callable[..., list[Any]], _: Any) -> list[Any]:
        outputs = apply(inputs)
        values, results = (
            [np.asarray(x).astype(np.float64) for x in each if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
            for each in (inputs, outputs)
        )
        at = f"{eqn.primitive.name} at {source(eqn)}"
        if all(np.isfinite(v).all() for v in values) and not all(np.isfinite(r).all() for r in results):
            broken.append(at)
        if eqn.primitive.name in ("add", "sub", "add_any") and results and values:
            size = np.maximum.reduce(np.broadcast_arrays(*[np.abs(v) for v in values]))
            with np.errstate(divide="ignore", invalid="ignore"):
                losses.append((float(np.nanmax(np.where(size > 0, size / np.abs(results[0]), 0.0))), at))
        if eqn.primitive.name == "mul" and len(values) == 2 and results:
            lost = (results[0] == 0) & (values[0] != 0) & (values[1] != 0)
            broken.extend([f"{at} (it underflows)"] * bool(lost.any()))
        return outputs

    why = ""
    with suppress(Exception):  # not traceable
        trace(gradient, params).run(visit, params)
        loss, at = max(losses, default=(0.0, ""))
        if broken:
            why = f": {broken[0]} leaves the range of its dtype"
        elif loss > 30:
            why = f": {at} cancels, {f'{loss:.0e}-fold' if math.isfinite(loss) else 'down to 0'}"
    return (Explanation("precision", head + why, judged.wrong_names(names)),)
