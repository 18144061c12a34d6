"""Is a gradient at a kink a subgradient? If it lies in the convex hull of the gradients just beside the point.

That hull is Clarke's generalised gradient (Optimization and Nonsmooth Analysis, 1983). The gradient at the point itself
takes no part: at a single point a program may return anything. The hull is sampled (Burke, Lewis and Overton, A Robust
Gradient Sampling Algorithm, 2005) in random directions, then in those in which the samples so far are too short.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxmlp.checking import _points, _rounding
from jaxmlp.checking._decision import Functions, Leaves, Truth, evaluated
from jaxmlp.checking._functions import moved_numbers, to_float64, to_numpy
from jaxmlp.checking._program import Apply, trace

# The samples lie this share of the parameters' size away; there a smooth gradient changes by no more than DRIFT.
BESIDE, DRIFT = 2.0**-30, 2.0**-20
# One element of eight that are tied is missed by all these samples with a chance of 1e-3 or less.
FEW, SEARCHED, MORE = 8, 8, 32


class Hull(NamedTuple):
    """Whether a gradient is in the hull of those beside the point, and how many of its elements jump there.

    `spans` tells whether at least each element lies between those of the samples.
    """

    contains: bool
    jumping: int
    spans: bool = True


def hull(functions: Functions, truth: Truth, params: Any, leaves: Leaves, rng: np.random.Generator) -> Hull:
    """Return whether a gradient is a mixture of autodiff's gradients beside the point."""
    directions = [to_float64(_points.direction(params, rng)) for _ in range(2)]
    samples, nearer = ([s for v in directions for s in _sides(truth, params, v, h)] for h in (BESIDE, BESIDE / 64))
    if not samples or not nearer:
        return Hull(False, 0)
    # Where f is smooth, the gradients come together as the distance falls.
    jumping = sum(
        int((spread > wide / 2).sum()) for spread, wide in zip(_spread(nearer), _spread(samples), strict=True)
    )
    if not jumping or _contains(leaves, samples):
        return Hull(_contains(leaves, samples), jumping)
    for _ in range(FEW - 2):
        samples += _sides(truth, params, to_float64(_points.direction(params, rng)), BESIDE)
    for _ in range(SEARCHED):
        if _contains(leaves, samples):
            return Hull(True, jumping)
        gap = [g - m for g, m in zip(leaves, _mixed(leaves, samples), strict=True)]
        samples += _sides(truth, params, _longest(params, gap), BESIDE)
    for side in (False, True):
        there = evaluated(jax.jit(jax.grad(_with_ties(functions.f.plain, side))), params)
        samples += [] if there is None else [there]
    if not _contains(leaves, samples):
        for _ in range(MORE):
            samples += _sides(truth, params, to_float64(_points.direction(params, rng)), BESIDE)
    columns = zip(leaves, zip(*samples, strict=True), strict=True)
    spans = all(
        bool(((g >= np.min(each, axis=0) - _drift(each)) & (g <= np.max(each, axis=0) + _drift(each))).all())
        for g, each in columns
    )
    return Hull(_contains(leaves, samples), jumping, spans)


def _spread(samples: list[Leaves]) -> Leaves:
    """Return by how much each element differs among the samples; 0 if that is no more than its drift."""
    found = []
    for leaves in zip(*samples, strict=True):
        spread = np.ptp(leaves, axis=0)
        found.append(np.where(spread > 4 * _drift(leaves), spread, 0.0))
    return found


def _drift(leaves: tuple[np.ndarray, ...]) -> np.ndarray:
    return DRIFT * _rounding.scale(np.max(np.abs(leaves), axis=0)) + np.finfo(np.float64).tiny


def _contains(leaves: Leaves, samples: list[Leaves]) -> bool:
    gaps = (np.abs(g - mixed) for g, mixed in zip(leaves, _mixed(leaves, samples), strict=True))
    return all(bool((gap <= _drift(each)).all()) for gap, each in zip(gaps, zip(*samples, strict=True), strict=True))


def _mixed(leaves: Leaves, samples: list[Leaves]) -> Leaves:
    """Return the mixture of the samples that is nearest to a gradient."""
    from scipy.optimize import nnls  # half a second to import

    sizes = [
        max(float(np.max(np.abs([leaf, *others]), initial=0.0)), 1e-300)
        for leaf, *others in zip(leaves, *samples, strict=True)
    ]

    def flat(each: Leaves) -> np.ndarray:
        return np.concatenate([(leaf / size).ravel() for leaf, size in zip(each, sizes, strict=True)])

    # One equation more, of large weight, makes the shares add up to 1. A triangle has the same distances as all rows.
    rows = np.stack([*map(flat, samples), flat(leaves)], axis=1)
    rows = np.concatenate([np.linalg.qr(rows, mode="r"), np.full((1, rows.shape[1]), 1e3)])
    shares = nnls(rows[:, :-1], rows[:, -1])[0]
    shares /= shares.sum() or 1.0
    return [sum(s * leaf for s, leaf in zip(shares, each, strict=True)) for each in zip(*samples, strict=True)]


def _longest(params: Any, gap: Leaves) -> Any:
    """Return a direction along the gap, its largest element one unit long."""
    sizes = [_points.size(leaf) for leaf in to_numpy(params)]
    largest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in gap) or 1.0
    v = [jnp.asarray(leaf * size / largest) for leaf, size in zip(gap, sizes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), v)


def _sides(truth: Truth, params: Any, v: Any, h: float) -> list[Leaves]:
    """Return the gradients just beside a point, ahead and behind, where they are finite."""
    sides = [evaluated(truth.call, moved_numbers(params, v, sign * h)) for sign in (1, -1)]
    return [side for side in sides if side is not None]


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
