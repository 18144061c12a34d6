"""Tests 2 and 3: rounding, or a kink, excuses (explains) a difference from autodiff."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxmlp.checking import _points, _rounding
from jaxmlp.checking._decision import Functions, Judged, Leaves, Truth, evaluated, inner
from jaxmlp.checking._functions import Wide, moved_numbers, to_float64, to_numpy
from jaxmlp.checking._program import Apply, trace


def excuse(given: Wide, truth: Truth, params: Any, judged: Judged, seed: int) -> Judged:
    """Apply test 2: allow the rounding error of both programs, estimated from more samples until it suffices."""
    factor = _rounding.threshold(sum(leaf.size for leaf in judged.given))

    def allow(*spreads: Leaves) -> Judged:
        allowed = [a + factor * sum(off) for a, *off in zip(judged.allowed, *spreads, strict=True)]
        return judged._replace(allowed=[np.where(np.isfinite(a), a, np.inf) for a in allowed])

    spreads: Leaves = []
    try:
        for found in truth.spreads(seed, params):
            spreads = to_numpy(found)
            if (excused := allow(spreads)).is_right:
                return excused
    except Exception:  # rounding cannot be imitated: assume that only the last digit of autodiff is off
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


def beside_kink(functions: Functions, truth: Truth, params: Any, judged: Judged, rng: np.random.Generator) -> Judged:
    """Apply test 3: allow values between the gradients that autodiff gives just beside the point.

    The samples: every tie broken one way, every tie broken the other way, 32 random points, and points in the
    directions that favour the gradient given. An element with more than four values there has many ties, and its
    extreme values may be missing: its range is doubled.
    """
    # The samples lie 2^-30 of the parameters' size away; there a smooth gradient changes by no more than this.
    drift = [2.0**-20 * _rounding.scale(leaf) for leaf in judged.expected]
    gap = [np.nan_to_num(g - e) for g, e in zip(judged.given, judged.expected, strict=True)]
    found = _beside(functions, truth, params, judged, gap, drift, rng)
    if not found:
        return judged
    wider, crowded, n = [], False, 0
    for g, e, a, d, *samples in zip(judged.given, judged.expected, judged.allowed, drift, *found, strict=True):
        leaf = np.sort(np.stack([*samples, e]), axis=0)
        low, high = leaf[0], leaf[-1]
        many = (np.diff(leaf, axis=0) > 4 * d).sum(axis=0) > 3
        crowded = crowded or bool(many.any())
        room, jumps = np.where(many, high - low, 0.0) + d, high - low > 4 * d
        n += int(jumps.sum())
        wider.append(np.where((g >= low - room) & (g <= high + room) & jumps, np.maximum(a, np.abs(g - e)), a))
    # Each element may be in its range although the gradient is no mixture of samples: (1, 1) at a tie of two.
    given, *others = (inner(leaves, gap) for leaves in (judged.given, *found, judged.expected))
    room = inner([np.abs(leaf) for leaf in gap], drift) + (max(others) - min(others)) * crowded
    excused = judged._replace(allowed=wider)
    if not excused.is_right or not min(others) - room <= given <= max(others) + room:
        return judged
    return excused._replace(kink=f"f has a kink here ({n} elements of the gradient jump), and this is a subgradient")


def _beside(
    functions: Functions,
    truth: Truth,
    params: Any,
    judged: Judged,
    gap: Leaves,
    drift: Leaves,
    rng: np.random.Generator,
) -> list[Leaves]:
    """Return gradients just beside a point, or none if they do not jump."""
    tree, sizes = jax.tree.structure(params), [_points.size(leaf) for leaf in to_numpy(params)]

    def drawn(n: int) -> list[Leaves | None]:
        directions = (to_float64(_points.direction(params, rng)) for _ in range(n))
        return [sample for v in directions for sample in _sides(truth, params, v)]

    samples = drawn(4)
    if not any(_jumps(sample, judged.expected, drift) for sample in samples):
        return []
    samples += drawn(12)
    # A convex kink has its extreme gradients along the gap; a growing element becomes the maximum.
    grown = [np.nan_to_num(np.abs(g) - np.abs(e)) for g, e in zip(judged.given, judged.expected, strict=True)]
    for leaves in (gap, grown):
        largest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in leaves) or 1.0
        v = [jnp.asarray(leaf * size / largest) for leaf, size in zip(leaves, sizes, strict=True)]
        samples += _sides(truth, params, jax.tree.unflatten(tree, v))
    samples += [evaluated(jax.jit(jax.grad(_with_ties(functions.f.plain, side))), params) for side in (False, True)]
    return [sample for sample in samples if sample is not None]


def _with_ties(f: Callable[[Any], Any], side: bool) -> Callable[[Any], Any]:
    """Return f with every tie of a maximum, comparison or absolute value broken the same way."""

    def visit(eqn: JaxprEqn, inputs: list[Any], apply: Apply, _: Any) -> list[Any]:
        name = eqn.primitive.name
        if name == "stop_gradient":
            return inputs
        if name not in ("max", "min", "abs", "gt", "ge", "lt", "le"):
            return apply(inputs)
        x, y = (inputs[0], -inputs[0]) if name == "abs" else inputs
        first = jnp.where(x == y, side, x < y if name in ("min", "lt", "le") else x > y)
        return [first if name[0] in "gl" else jnp.where(first, x, y)]

    return lambda *args: trace(f, *args).run(visit, *args)


def judge(
    functions: Functions, truth: Truth, params: Any, judged: Judged, rng: np.random.Generator, seed: int
) -> Judged:
    """Apply tests 2 and 3 to a gradient that failed test 1."""
    if judged.is_right:
        return judged
    judged = excuse(functions.given, truth, params, judged, seed)
    return judged if judged.is_right else beside_kink(functions, truth, params, judged, rng)


def has_kink(truth: Truth, params: Any, rng: np.random.Generator) -> bool:
    """Return whether the gradients just beside a point differ."""
    expected = evaluated(truth.call, params)
    if expected is None:
        return False
    drift = [2.0**-20 * _rounding.scale(leaf) for leaf in expected]
    beside = (_sides(truth, params, to_float64(_points.direction(params, rng))) for _ in range(4))
    return any(_jumps(sample, expected, drift) for samples in beside for sample in samples)


def _sides(truth: Truth, params: Any, v: Any) -> list[Leaves | None]:
    """Return the gradients just beside a point, ahead and behind."""
    return [evaluated(truth.call, moved_numbers(params, v, sign * 2.0**-30)) for sign in (1, -1)]


def _jumps(beside: Leaves | None, here: Leaves, drift: Leaves) -> bool:
    return beside is not None and any(
        bool((np.abs(leaf - other) > size).any()) for leaf, other, size in zip(beside, here, drift, strict=True)
    )
