"""What a check calls, what it compares, and the slope of f along a direction by differences."""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _differences, _functions, _points, _rounding, _survey
from jaxmlp.checking._differences import Line, Slope
from jaxmlp.checking._functions import Wide, to_numpy
from jaxmlp.checking._program import equations, is_rule, trace, without_rules
from jaxmlp.checking._survey import Look
from jaxmlp.checking.report import LeafError

# A dozen operations in another order differ by this many units in the last place; a larger difference needs a reason.
ROUNDINGS = 64
# The chance that all directions of a check miss a fault as large as the resolution of the report.
MISS = 1e-6
# The smallest share of a fault that a normal direction must detect: two directions with autodiff, six without.
BESIDE_AUTODIFF, ALONE = 1e-3, 0.1
# With up to this many coordinates, differences are taken along each of them.
FEW = 128

# Differences that contradict autodiff are taken twice, the second time with all steps shorter by this factor.
OTHER = 0.59

Leaves = _survey.Leaves
Surveyor = Callable[[list[Any], list[Any]], list[Look] | None]  # of (points, directions)


class Functions(NamedTuple):
    """The functions that a check calls, in float64: f, its values along a direction, the gradient to check."""

    f: Wide
    along: Callable[[Any, Any, np.ndarray], np.ndarray]
    noise: Callable[[int, Any, Any], np.ndarray]
    truths: list["Truth"]  # gradients by autodiff, the most independent of f's own rules first
    given: Wide
    epsilons: list[float]  # the rounding of each leaf's own dtype


class Truth(NamedTuple):
    """A gradient to compare with, its name, and what rounding can do to it."""

    label: str
    call: Callable[[Any], Any]
    spreads: Callable[..., Iterator[Any]]  # of (seed, params)
    steps: Callable[[Any], Any]  # the function whose gradient it is


class _Compared(NamedTuple):
    given: Leaves
    expected: Leaves
    allowed: Leaves
    kink: str = ""


class Judged(_Compared):
    """Given and expected leaves at a point, the error that rounding allows each element, and a kink if there is one."""

    @cached_property
    def wrong(self) -> list[np.ndarray]:
        """Return which elements are off by more than rounding allows: booleans in the shapes of the leaves."""
        return [
            ~(np.abs(given - expected) <= allowed)
            for given, expected, allowed in zip(self.given, self.expected, self.allowed, strict=True)
        ]

    @cached_property
    def is_right(self) -> bool:
        """Return whether no element is wrong."""
        return not any(bool(wrong.any()) for wrong in self.wrong)

    def wrong_names(self, names: list[str]) -> tuple[str, ...]:
        """Return the names of the leaves with wrong elements."""
        return tuple(name for name, mask in zip(names, self.wrong, strict=True) if mask.any())


def prepared(f: Wide, given: Wide, params: Any, epsilons: list[float]) -> Functions:
    """Collect the functions of a check; each is compiled when it is first called."""
    return Functions(f, _functions.along(f), _functions.noise_along(f), list(_truths(f, params)), given, epsilons)


def _truths(f: Wide, params: Any) -> Iterator[Truth]:
    if not f.traceable:
        return
    steps = without_rules(f.plain)
    if _has_rules(f, params):
        label = "autodiff in float64 of the function's own steps, without custom rules"
        yield _truth(label, jax.grad(steps), steps)
    yield _truth("autodiff in float64", jax.grad(f.plain), f.plain)
    if sum(np.size(leaf) for leaf in jax.tree.leaves(params)) <= FEW:
        yield _truth("forward-mode autodiff in float64", jax.jacfwd(steps), steps)


def _truth(label: str, gradient: Callable[[Any], Any], steps: Callable[[Any], Any]) -> Truth:
    return Truth(label, jax.jit(gradient), _rounding.spreads(gradient), steps)


def surveyor(functions: Functions) -> Surveyor:
    """Return a function that looks at the points of a check, with the first truth."""
    if not functions.truths or not functions.given.traceable:
        return lambda points, directions: None
    return _survey.surveyor(functions.f, functions.truths[0].steps, functions.given)


def evaluated(call: Callable[[Any], Any], params: Any) -> Leaves | None:
    """Return the leaves of a gradient, or None if autodiff fails or the result is not finite."""
    try:
        leaves = to_numpy(call(params))
    except Exception:  # JAX raises many kinds for functions that it cannot differentiate
        return None
    return leaves if all(np.isfinite(leaf).all() for leaf in leaves) else None


def compare(given: Leaves, expected: Leaves, epsilons: list[float]) -> Judged:
    """Allow a few roundings, or one of the user's own dtype if that is more."""
    allowed = [
        r * _rounding.scale(leaf) + np.finfo(np.float64).tiny
        for r, leaf in zip(_relative(epsilons), expected, strict=True)
    ]
    return Judged(given, expected, allowed)


def agree(given: Leaves, expected: Leaves, epsilons: list[float]) -> bool:
    """Return whether `compare` is sure to find a gradient right; cheaper, by the smallest slice alone."""
    return all(
        not leaf.size or bool(np.max(np.abs(leaf - truth)) <= r * _rounding.smallest(truth))
        for r, leaf, truth in zip(_relative(epsilons), given, expected, strict=True)
    )


def _relative(epsilons: list[float]) -> list[float]:
    return [max(ROUNDINGS * _rounding.epsilon(np.float64), epsilon) for epsilon in epsilons]


def inner(one: Leaves, other: Leaves) -> float:
    # np.vdot's threads compete with XLA's for milliseconds, so sum by hand.
    return float(sum(np.sum(x * y) for x, y in zip(one, other, strict=True)))


class Evidence(NamedTuple):
    """The slope of the function along one direction, and the values that it was computed from."""

    slope: Slope
    line: Line
    direction: Any


def evidence(
    functions: Functions,
    params: Any,
    direction: Any,
    centre: float,
    *,
    goal: float = 0.0,
    noise: np.ndarray | None = None,
    known: Line | None = None,
) -> Evidence:
    """Return the slope of f along a direction by differences, with as many steps as an error of `goal` needs."""

    def longer(known: Line | None, direction: Any) -> Line:
        return _differences.line(lambda steps: functions.along(params, direction, steps), centre, known)

    line = longer(None, direction) if known is None else known
    slope = _differences.slope(line, noise)
    while slope.error > _differences.SAFETY * goal and not line.is_whole:
        line = longer(line, direction)
        slope = _differences.slope(line, noise)
    if noise is not None:  # repeat with other steps: one error estimate may be small by chance, but seldom two
        half = jax.tree.map(lambda leaf: np.asarray(leaf) * OTHER, direction)
        again = longer(None, half)
        while len(again.which) < len(line.which):
            again = longer(again, half)
        other = _differences.slope(again, noise)
        apart = 2 * abs(other.value / OTHER - slope.value)
        jump = slope.jump if slope.jump and other.jump else 0.0
        slope = slope._replace(error=max(slope.error, apart), jump=jump)
    if line.is_whole:
        slope = _differences.stairs(lambda steps: functions.along(params, direction, steps), line, noise) or slope
    return Evidence(slope, line, direction)


def dot(leaves: Leaves, direction: Any) -> float:
    """Return g . v."""
    return inner(leaves, to_numpy(direction))


def length(leaves: Leaves, units: Any) -> float:
    """Return |g| in the units of the directions: the typical size of g . v."""
    pairs = zip(leaves, jax.tree.leaves(units), strict=True)
    return math.sqrt(sum(unit**2 * float(np.sum(np.square(leaf))) for leaf, unit in pairs))


def confirms(found: Evidence, leaves: Leaves) -> bool:
    """Return whether g . v is the slope that was found, up to its error."""
    terms = [leaf * v for leaf, v in zip(leaves, to_numpy(found.direction), strict=True)]
    promised = float(sum(np.sum(term) for term in terms))
    rounding = ROUNDINGS * np.finfo(np.float64).eps * float(sum(np.sum(np.abs(term)) for term in terms))
    return found.slope.allows(promised, rounding)


def towards(judged: Judged, params: Any) -> Any:
    """Return the direction along which the two gradients differ most, one unit long."""
    sizes = [_points.size(leaf) for leaf in to_numpy(params)]
    gaps = [
        np.where(w, g - e, 0.0) * s * s
        for g, e, w, s in zip(judged.given, judged.expected, judged.wrong, sizes, strict=True)
    ]
    norm = math.sqrt(sum(float(np.sum(np.square(gap / s))) for gap, s in zip(gaps, sizes, strict=True)))
    return jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(gap / norm) for gap in gaps])


def _has_rules(f: Wide, params: Any) -> bool:
    program = trace(f.call, params).closed
    return any(is_rule(eqn) or eqn.primitive.name == "stop_gradient" for eqn in equations(program))


def leaf_errors(names: list[str], dtypes: list[str], judged: Judged) -> tuple[LeafError, ...]:
    """Return the error of each leaf for the report: wrong leaves first, the worst at the top."""
    errors = []
    for name, dtype, given, expected, allowed, wrong in zip(
        names, dtypes, judged.given, judged.expected, judged.allowed, judged.wrong, strict=True
    ):
        if not given.size:
            continue
        gap = np.abs(given - expected)
        excess = np.where(np.isnan(gap), np.inf, gap / np.clip(allowed, 1e-300, 1e300))
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), given.shape))
        norm, size = math.sqrt(np.sum(np.square(gap))), math.sqrt(np.sum(np.square(expected)))
        relative = norm / size if size else (math.inf if norm else 0.0)
        one, other, room = (float(leaf[index]) for leaf in (given, expected, allowed))
        errors.append(LeafError(name, given.shape, dtype, index, one, other, room, relative, int(wrong.sum())))
    return tuple(
        sorted(errors, key=lambda leaf: (leaf.wrong == 0, -np.nan_to_num(leaf.relative, nan=np.inf, posinf=np.inf)))
    )
