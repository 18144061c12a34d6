"""Judging a gradient by the values of the function alone, where autodiff fails or is wrong.

Differences are taken along every coordinate of a small problem, and along random directions of each leaf of a large
one; there a wrong leaf is halved until one wrong element is left.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _differences, _points
from jaxmlp.checking._decision import ALONE, FEW, MISS, Evidence, Functions, Judged, Leaves, dot, evidence
from jaxmlp.checking._functions import to_numpy

__all__ = ["ByDifferences", "judge_without_autodiff"]


class ByDifferences(NamedTuple):
    """A judgement by differences, the smallest fault that they see relative to the gradient, and the differences."""

    judged: Judged
    resolution: float
    found: list[Evidence]


def judge_without_autodiff(
    functions: Functions, params: Any, centre: float, given: Leaves, noise: np.ndarray | None, rng: np.random.Generator
) -> ByDifferences:
    """Judge a gradient by differences alone."""
    n = sum(leaf.size for leaf in given)
    if n <= FEW:
        return _every_coordinate(functions, params, centre, given, noise)
    return _every_leaf(functions, params, centre, given, noise, rng)


def _every_coordinate(
    functions: Functions, params: Any, centre: float, given: Leaves, noise: np.ndarray | None
) -> ByDifferences:
    expected, allowed = [np.zeros_like(leaf) for leaf in given], [np.zeros_like(leaf) for leaf in given]
    lines, kinks = [], 0
    for i, leaf in enumerate(given):
        size = _points.size(to_numpy(params)[i])
        for index in np.ndindex(leaf.shape):
            found = evidence(functions, params, _unit(params, i, index, size), centre, noise=noise)
            expected[i][index] = found.slope.value / size
            jump = abs(found.slope.jump) if abs(found.slope.jump) > found.slope.error else 0.0
            kinks += jump > 0
            allowed[i][index] = (found.slope.error + jump / 2) / size + functions.epsilons[i] * abs(leaf[index])
            lines.append(found)
    resolution = max(float((a).max()) for a in allowed if a.size) / max(
        max(float(np.abs(g).max()) for g in given if g.size), 1e-300
    )
    judged = Judged(given, expected, allowed)
    if kinks and judged.is_right:
        judged = judged._replace(kink=f"f has a kink here (along {kinks} coordinates), and this is a subgradient")
    return ByDifferences(judged, resolution, lines)


def _every_leaf(
    functions: Functions, params: Any, centre: float, given: Leaves, noise: np.ndarray | None, rng: np.random.Generator
) -> ByDifferences:
    expected, allowed = [leaf.copy() for leaf in given], [np.full(leaf.shape, np.inf) for leaf in given]
    lines, resolution = [], 0.0
    for i, leaf in enumerate(given):
        size = _points.size(to_numpy(params)[i])
        whole = np.ones(leaf.shape, bool)
        for _ in range(_differences.n_directions(MISS, ALONE)):
            found, gap, error = _probe(functions, params, centre, given, i, whole, noise, rng)
            lines.append(found)
            norm = size * float(np.linalg.norm(leaf))
            resolution = max(resolution, error / (ALONE * norm) if norm else (0.0 if error == 0 else math.inf))
            if abs(gap) > error:
                index = _locate(functions, params, centre, given, i, noise, rng)
                single = evidence(functions, params, _unit(params, i, index, size), centre, noise=noise)
                expected[i][index] = single.slope.value / size
                allowed[i][index] = min(single.slope.error / size, abs(leaf[index] - expected[i][index]) / 2)
                break
    return ByDifferences(Judged(given, expected, allowed), resolution, lines)


def _probe(
    functions: Functions,
    params: Any,
    centre: float,
    given: Leaves,
    i: int,
    mask: np.ndarray,
    noise: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[Evidence, float, float]:
    size = _points.size(to_numpy(params)[i])
    v = [np.zeros(leaf.shape) for leaf in given]
    v[i] = np.where(mask, size * rng.standard_normal(given[i].shape), 0.0)
    direction = jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(leaf) for leaf in v])
    found = evidence(functions, params, direction, centre, noise=noise)
    jump = abs(found.slope.jump) if abs(found.slope.jump) > found.slope.error else 0.0
    rounding = functions.epsilons[i] * float(np.sum(np.abs(given[i] * v[i])))
    return found, found.slope.value - dot(given, direction), found.slope.error + jump / 2 + rounding


def _locate(
    functions: Functions,
    params: Any,
    centre: float,
    given: Leaves,
    i: int,
    noise: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Return the index of a wrong element: halve the leaf, keep the half with the larger gap, and repeat."""
    elements = np.arange(given[i].size)
    while len(elements) > 1:
        halves = np.array_split(elements, 2)
        gaps = []
        for half in halves:
            mask = np.isin(np.arange(given[i].size), half).reshape(given[i].shape)
            gaps.append(abs(_probe(functions, params, centre, given, i, mask, noise, rng)[1]))
        elements = halves[int(np.argmax(gaps))]
    return tuple(int(j) for j in np.unravel_index(elements[0], given[i].shape))


def _unit(params: Any, i: int, index: tuple[int, ...], size: float) -> Any:
    v = [np.zeros(np.shape(leaf)) for leaf in jax.tree.leaves(params)]
    v[i][index] = size
    return jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(leaf) for leaf in v])
