"""A survey: everything that a check of a right gradient needs, at all points, computed by one program.

One compilation replaces four, and the points share matrix products with a network's data.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _differences
from jaxmlp.checking._functions import Wide, moved, to_numpy
from jaxmlp.checking._program import equations, shape_of, trace

# Numbers that a program may compute side by side: 512 MiB in all, far fewer of them alive at a time.
SIDE_BY_SIDE = 2**26

Leaves = list[np.ndarray]


class Look(NamedTuple):
    """The values at a point: f, the gradient given, that by autodiff, and the first stage of f along lines."""

    params: Any
    value: float
    given: Leaves
    expected: Leaves
    lines: list[_differences.Line]


def surveyor(f: Wide, steps: Callable[[Any], Any], given: Wide) -> Callable[[list[Any], list[Any]], list[Look] | None]:
    """Return a function of (points, directions), float64 trees, that returns a `Look` at each, or None if JAX cannot.

    `steps` is f as autodiff differentiates it. All directions go through the first point, one through each other.
    """
    first = _differences.STAGES[0]
    h = np.concatenate([_differences.STEPS[first], -_differences.STEPS[first]])

    def look(params: Any) -> Any:
        return *jax.value_and_grad(steps)(params), given.call(params)

    def along(ray: tuple[Any, Any]) -> Any:
        return _all(lambda step: f.call(moved(*ray, step)), jnp.asarray(h))

    @jax.jit
    def survey(points: Any, rays: Any) -> Any:
        return _all(look, points), _all(along, rays)

    def surveyed(points: list[Any], directions: list[Any]) -> list[Look] | None:
        rays = [(points[0], v) for v in directions] + [(point, directions[0]) for point in points[1:]]
        try:
            (values, expected, own), lines = survey(_stacked(points), _stacked(rays))
            values, lines = to_numpy((values, lines))
            expected, own = to_numpy(expected), to_numpy(own)
        except Exception:  # JAX raises many kinds for functions that it cannot trace, differentiate or batch
            return None
        through = [0] * len(directions) + list(range(1, len(points)))

        def look_at(i: int) -> Look:
            here = [np.split(line, 2) for line, n in zip(lines, through, strict=True) if n == i]
            value = float(values[i])
            measured = [_differences.Line(value, first, *sides) for sides in here]
            return Look(points[i], value, [leaf[i] for leaf in own], [leaf[i] for leaf in expected], measured)

        return [look_at(i) for i in range(len(points))]

    return surveyed


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _all(function: Callable[[Any], Any], xs: Any) -> Any:
    """Apply the function to every x: side by side as far as memory allows, one block after the other."""
    n = len(jax.tree.leaves(xs)[0])
    program = trace(function, jax.tree.map(lambda leaf: leaf[0], xs)).closed
    lanes = max(1, SIDE_BY_SIDE // max(1, _numbers(program)))
    # A batched kernel makes a convolution slow on a CPU.
    if lanes == 1 or any(eqn.primitive.name == "conv_general_dilated" for eqn in equations(program)):
        return jax.lax.map(function, xs)
    return jax.vmap(function)(xs) if lanes >= n else jax.lax.map(function, xs, batch_size=lanes)


def _numbers(program: Any) -> int:
    return sum(math.prod(shape_of(atom)) for eqn in equations(program) for atom in eqn.outvars)
