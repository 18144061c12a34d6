"""What can rounding explain: of a right formula in float64, and of what it returns in the user's dtypes?"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _rounding
from jaxmlp.checking._decision import ROUNDINGS, Judged, Leaves, Truth
from jaxmlp.checking._functions import Scope, Wide, to_float64, to_numpy
from jaxmlp.checking._program import source, trace
from jaxmlp.checking.report import Explanation


def excuse(given: Wide, truth: Truth, params: Any, judged: Judged, seed: int) -> Judged:
    """Allow the rounding error of both programs in float64, estimated from more samples until it suffices."""
    factor = _rounding.threshold(sum(leaf.size for leaf in judged.given))

    def allow(*spreads: Leaves) -> Judged:
        return judged._replace(
            allowed=[a + factor * sum(off) for a, *off in zip(judged.allowed, *spreads, strict=True)]
        )

    spreads: Leaves = []
    try:
        for found in truth.spreads(seed, params):
            spreads = to_numpy(found)
            if (excused := allow(spreads)).is_right:
                return excused
    except Exception:  # its rounding cannot be imitated: assume that only the last digit of autodiff is off
        spreads = [np.finfo(np.float64).eps * _rounding.scale(leaf) for leaf in judged.expected]
    try:
        if not given.traceable:
            raise TypeError
        for found in given.spreads(seed, params):
            excused = allow(spreads, to_numpy(found))
            if excused.is_right:
                return excused
    except Exception:  # not traceable: assume that the gradient loses a few digits more
        excused = allow(spreads, [8 * leaf for leaf in spreads])
    return excused


def precision_checker(f: Callable[[Any], Any], given: Wide, dtypes: list[Any]) -> Callable[..., Judged]:
    """Return a function of (params, judged, seed, x64) that judges a right formula's rounding in the user's dtypes.

    It allows a multiple of autodiff's own error in these dtypes, and what rounding can do to autodiff. Without autodiff
    it allows a multiple of what the last digit of the parameters does to the gradient.
    """
    autodiff, spread = jax.jit(jax.grad(f)), _rounding.spread(jax.grad(f))

    def moved(params: Any, seed: int, x64: Scope) -> Leaves:
        """Return how far the gradient moves in float64 if each parameter moves by a rounding of its dtype."""
        rng = np.random.default_rng(seed)
        here, tree = to_numpy(params), jax.tree.structure(params)

        def called(amount: float) -> Leaves:
            pairs = zip(here, dtypes, strict=True)
            off = [w * (1 + amount * _rounding.epsilon(dtype) * rng.uniform(-1, 1, w.shape)) for w, dtype in pairs]
            with x64(True):
                return to_numpy(given.call(to_float64(jax.tree.unflatten(tree, off))))

        centre, offs = called(0.0), [called(1.0) for _ in range(_rounding.SAMPLES)]
        pairs = zip(centre, zip(*offs, strict=True), strict=True)
        return [np.max([np.abs(leaf - c) for leaf in leaves], axis=0) for c, leaves in pairs]

    def judge(params: Any, judged: Judged, seed: int, x64: Scope) -> Judged:
        return judge_precision(
            judged,
            dtypes,
            lambda: to_numpy(autodiff(params)),
            lambda: to_numpy(spread(seed, params)),
            lambda: moved(params, seed, x64),
        )

    return judge


def judge_precision(
    judged: Judged,
    dtypes: list[Any],
    own: Callable[[], Leaves],
    spread: Callable[[], Leaves],
    moved: Callable[[], Leaves] | None = None,
) -> Judged:
    """Judge results in the user's dtypes.

    Beyond a few roundings, allow a multiple of the error of `own`, the results of the truth in these dtypes, and a
    multiple of its `spread` by rounding. If JAX cannot tell these, allow one of what is `moved` by the parameters' own.
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
    except Exception:  # not traceable
        conditioned = moved() if moved else [np.zeros_like(a) for a in allowed]
        return judged._replace(allowed=[16 * a + ROUNDINGS * m for a, m in zip(allowed, conditioned, strict=True)])


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
