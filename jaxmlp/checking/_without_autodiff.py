"""Judging a gradient by the values of the function alone, where autodiff fails or is wrong.

Differences are taken along every coordinate of a small problem, and along random directions of each leaf of a large
one; there a wrong leaf is halved until one wrong element is left.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _differences, _points
from jaxmlp.checking._decision import (
    ALONE,
    FEW,
    MISS,
    Evidence,
    Functions,
    Judged,
    Leaves,
    confirms,
    dot,
    evidence,
)
from jaxmlp.checking._functions import to_numpy

# Directions in which kinks that each coordinate allows are tried together.
JOINT = 8


class _Point(NamedTuple):
    """A gradient at a point, and what differences of the function there need."""

    functions: Functions
    params: Any
    centre: float
    given: Leaves
    noise: np.ndarray | None

    def size(self, i: int) -> float:
        return _points.size(to_numpy(self.params)[i])

    def along(self, i: int, values: np.ndarray) -> Evidence:
        """Return the slope along a direction within leaf i."""
        v = [np.zeros(leaf.shape) for leaf in self.given]
        v[i] = values
        direction = jax.tree.unflatten(jax.tree.structure(self.params), [jnp.asarray(leaf) for leaf in v])
        return evidence(self.functions, self.params, direction, self.centre, noise=self.noise)

    def coordinate(self, i: int, index: tuple[int, ...]) -> Evidence:
        """Return the slope along one coordinate, in the leaf's unit."""
        values = np.zeros(self.given[i].shape)
        values[index] = self.size(i)
        return self.along(i, values)

    def probe(self, i: int, mask: np.ndarray, rng: np.random.Generator) -> tuple[Evidence, float, float]:
        """Return the slope along a random direction within a part of leaf i, its gap from g . v, and its error."""
        values = np.where(mask, self.size(i) * rng.standard_normal(self.given[i].shape), 0.0)
        found = self.along(i, values)
        rounding = self.functions.epsilons[i] * float(np.sum(np.abs(self.given[i] * values)))
        gap = found.slope.value - dot(self.given, found.direction)
        return found, gap, found.slope.error + _jump(found) / 2 + rounding

    def locate(self, i: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Return the index of a wrong element: halve the leaf, keep the half with the larger gap, and repeat."""
        shape, elements = self.given[i].shape, np.arange(self.given[i].size)
        while len(elements) > 1:
            halves = np.array_split(elements, 2)
            masks = [np.isin(np.arange(self.given[i].size), half).reshape(shape) for half in halves]
            elements = halves[int(np.argmax([abs(self.probe(i, mask, rng)[1]) for mask in masks]))]
        return tuple(int(j) for j in np.unravel_index(elements[0], shape))


def judge_without_autodiff(
    functions: Functions, params: Any, centre: float, given: Leaves, noise: np.ndarray | None, rng: np.random.Generator
) -> tuple[Judged, float, list[Evidence]]:
    """Judge a gradient; also return the smallest fault that is seen, relative to the gradient, and the differences."""
    point = _Point(functions, params, centre, given, noise)
    return _every_coordinate(point, rng) if sum(leaf.size for leaf in given) <= FEW else _every_leaf(point, rng)


def _every_coordinate(point: _Point, rng: np.random.Generator) -> tuple[Judged, float, list[Evidence]]:
    given = point.given
    expected, errors, jumps = ([np.zeros_like(leaf) for leaf in given] for _ in range(3))
    lines = []
    for i, leaf in enumerate(given):
        size = point.size(i)
        for index in np.ndindex(leaf.shape):
            found = point.coordinate(i, index)
            expected[i][index] = found.slope.value / size
            errors[i][index] = found.slope.error / size + point.functions.epsilons[i] * abs(leaf[index])
            jumps[i][index] = _jump(found) * np.sign(found.slope.jump) / size
            lines.append(found)
    largest = max(max(abs(dot(given, e.direction)), e.line.moves) for e in lines)
    resolution = max(e.slope.error + _jump(e) / 2 for e in lines) / max(largest, np.finfo(np.float64).tiny)
    judged = Judged(given, expected, [e + np.abs(j) / 2 for e, j in zip(errors, jumps, strict=True)])
    kinks = sum(int((j != 0).sum()) for j in jumps)
    if kinks and judged.is_right:
        if not _is_mixture(point, jumps, rng):
            return judged._replace(allowed=errors), resolution, lines
        judged = judged._replace(kink=f"f has a kink here (along {kinks} coordinates), and this is a subgradient")
    return judged, resolution, lines


def _is_mixture(point: _Point, jumps: Leaves, rng: np.random.Generator) -> bool:
    """Return whether a gradient that each coordinate allows is one together: (1, 1) at a tie of two is not.

    Its slope must lie between those of both sides of f along any direction, if all kinks bend the same way.
    """
    signs = {float(sign) for leaf in jumps for sign in np.unique(np.sign(leaf)) if sign}
    if len(signs) != 1:
        return True
    for _ in range(JOINT):
        common = rng.choice([-1.0, 1.0])  # near the direction in which all of them move together
        v = [
            np.where(j != 0, point.size(i) * (common + 0.2 * rng.standard_normal(j.shape)), 0.0)
            for i, j in enumerate(jumps)
        ]
        direction = jax.tree.unflatten(jax.tree.structure(point.params), [jnp.asarray(leaf) for leaf in v])
        found = evidence(point.functions, point.params, direction, point.centre, noise=point.noise)
        if not confirms(found, point.given):
            return False
    return True


def _every_leaf(point: _Point, rng: np.random.Generator) -> tuple[Judged, float, list[Evidence]]:
    given = point.given
    expected, allowed = [leaf.copy() for leaf in given], [np.full(leaf.shape, np.inf) for leaf in given]
    lines, resolution = [], 0.0
    for i, leaf in enumerate(given):
        for _ in range(_differences.n_directions(MISS, ALONE)):
            found, gap, error = point.probe(i, np.ones(leaf.shape, bool), rng)
            lines.append(found)
            norm = max(point.size(i) * float(np.linalg.norm(leaf)), found.line.moves)
            resolution = max(resolution, error / (ALONE * norm) if norm else 0.0)
            if abs(gap) > error:
                index = point.locate(i, rng)
                slope = point.coordinate(i, index).slope
                expected[i][index] = slope.value / point.size(i)
                allowed[i][index] = min(slope.error / point.size(i), abs(leaf[index] - expected[i][index]) / 2)
                break
    return Judged(given, expected, allowed), resolution, lines


def _jump(found: Evidence) -> float:
    return abs(found.slope.jump) if abs(found.slope.jump) > found.slope.error else 0.0
