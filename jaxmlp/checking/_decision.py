"""Is a gradient right at a point? Cheap tests can only acquit; whoever fails them is examined until there is proof.

1. Agreement with autodiff in float64 to within a few roundings of the element or of the slice that it lies in: right.
2. Else, agreement to within what rounding can do to both programs (`_rounding.spread`): right.
3. Else, inside of what the gradients right beside the point span: a kink, and a subgradient of it: right.
4. Else the function's values along the very disagreement decide between the two.

What autodiff gives is itself held against differences along random directions first. Where autodiff cannot go, or goes
wrong, differences alone decide: along every coordinate of a small problem, along random directions of each leaf of a
large one.
"""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxmlp.checking import _differences, _functions, _points, _rounding, _survey
from jaxmlp.checking._differences import Line, Slope
from jaxmlp.checking._functions import Wide, moved, to_float64, to_numpy
from jaxmlp.checking._program import Apply, equations, is_rule, trace, without_rules
from jaxmlp.checking._survey import Survey
from jaxmlp.checking.report import LeafError

# A dozen operations in another order differ by this many units in the last place; more is looked at closely.
ROUNDINGS = 64
# The chance that the directions of a whole check miss a fault which is as large as the report's resolution.
MISS = 1e-6
# How small a part of a fault its projection on a normal direction may be: two directions with autodiff, six without.
BESIDE_AUTODIFF, ALONE = 1e-3, 0.1
# Up to so many coordinates, each is differenced by itself.
FEW = 128

# Differences that speak against autodiff are taken twice, the second time with all steps shorter by this.
OTHER = 0.59

Leaves = list[np.ndarray]
Surveyor = Callable[[list[Any], list[Any]], Survey | None]  # of (points, directions)


class Functions(NamedTuple):
    """What a check calls, in float64: the function, its values along a direction, the gradient in question."""

    f: Wide
    along: Callable[[Any, Any, np.ndarray], np.ndarray]
    noise: Callable[[int, Any, Any], np.ndarray]
    truths: list["Truth"]  # what autodiff has to offer, the most independent first
    given: Wide
    epsilons: list[float]  # of each leaf's own dtype


class Truth(NamedTuple):
    """A gradient to compare with, what it is called, and what rounding can do to it."""

    label: str
    call: Callable[[Any], Any]
    spreads: Callable[..., Iterator[Any]]  # of (seed, params)
    steps: Callable[[Any], Any] | None = None  # the function that it is the gradient of


class _Compared(NamedTuple):
    given: Leaves
    expected: Leaves
    allowed: Leaves
    kink: str = ""


class Judged(_Compared):
    """Given and expected leaves at a point, what rounding allows each element, and a kink if there is one."""

    @cached_property
    def wrong(self) -> list[np.ndarray]:
        """Return where rounding is no excuse: booleans like the leaves."""
        return [
            ~(np.abs(given - expected) <= allowed)
            for given, expected, allowed in zip(self.given, self.expected, self.allowed, strict=True)
        ]

    @cached_property
    def is_right(self) -> bool:
        """Say whether it is wrong nowhere."""
        return not any(bool(wrong.any()) for wrong in self.wrong)


def prepared(f: Wide, given: Wide, params: Any, epsilons: list[float]) -> Functions:
    """Put together what a check calls; nothing is compiled before it is called."""
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
    """Return what surveys all points at once, beside the first of what autodiff has to offer."""
    if not functions.truths or not functions.given.traceable:
        return lambda points, directions: None
    steps = functions.truths[0].steps
    assert steps is not None
    return _survey.surveyor(functions.f, steps, functions.given)


def evaluated(call: Callable[[Any], Any], params: Any) -> Leaves | None:
    """Return a gradient's leaves, or None where autodiff cannot go or does not come back with numbers."""
    try:
        leaves = to_numpy(call(params))
    except Exception:  # whatever JAX says of what it cannot differentiate
        return None
    return leaves if all(np.isfinite(leaf).all() for leaf in leaves) else None


def compare(given: Leaves, expected: Leaves, epsilons: list[float]) -> Judged:
    """Test 1: agreement to within a few roundings, those of the user's own dtype if it is the shorter."""
    allowed = [
        r * _rounding.scale(leaf) + np.finfo(np.float64).tiny
        for r, leaf in zip(_relative(epsilons), expected, strict=True)
    ]
    return Judged(given, expected, allowed)


def agree(given: Leaves, expected: Leaves, epsilons: list[float]) -> bool:
    """Say, at little cost, whether `compare` is bound to find a gradient right: by the smallest of all slices."""
    return all(
        not leaf.size or bool(np.max(np.abs(leaf - truth)) <= r * _rounding.smallest(truth))
        for r, leaf, truth in zip(_relative(epsilons), given, expected, strict=True)
    )


def _relative(epsilons: list[float]) -> list[float]:
    return [max(ROUNDINGS * _rounding.epsilon(np.float64), epsilon) for epsilon in epsilons]


def excuse(given: Wide, truth: Truth, params: Any, judged: Judged, seed: int) -> Judged:
    """Test 2: allow what rounding can do to the programs themselves, sample by sample until that is enough."""
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
    except Exception:  # an operation that cannot be imitated: as if autodiff were as good as its last digit
        spreads = [np.finfo(np.float64).eps * _rounding.scale(leaf) for leaf in judged.expected]
    try:
        if not given.traceable:
            raise TypeError
        for found in given.spreads(seed, params):
            excused = allow(spreads, to_numpy(found))
            if excused.is_right:
                return excused
    except Exception:  # a program that we cannot look into: as if it lost some digits more than autodiff
        excused = allow(spreads, [8 * leaf for leaf in spreads])
    return excused


def beside_kink(functions: Functions, truth: Truth, params: Any, judged: Judged, rng: np.random.Generator) -> Judged:
    """Test 3: allow what lies between the gradients that autodiff gives right beside the point.

    These are where every tie is broken one way, where every tie is broken the other way, 32 points at random, and
    those in the directions that favour the gradient given. An element that takes more than four values there is that
    of many ties: those found may not be the outermost, and it is given as much room again.
    """
    # The samples move by 2^-30 of the parameters' size, and the gradient with them.
    drift = [2.0**-20 * _rounding.scale(leaf) for leaf in judged.expected]
    gap = [np.nan_to_num(g - e) for g, e in zip(judged.given, judged.expected, strict=True)]
    found = _beside(functions, truth, params, judged, gap, drift, rng)
    if not found:
        return judged
    stacked = [np.stack(leaves) for leaves in zip(*found, judged.expected, strict=True)]
    low, high = [leaf.min(axis=0) for leaf in stacked], [leaf.max(axis=0) for leaf in stacked]
    wider, crowded = [], False
    for g, e, a, lo, h, d, leaf in zip(
        judged.given, judged.expected, judged.allowed, low, high, drift, stacked, strict=True
    ):
        many = (np.diff(np.sort(leaf, axis=0), axis=0) > 4 * d).sum(axis=0) > 3
        crowded = crowded or bool(many.any())
        room = np.where(many, h - lo, 0.0) + d
        wider.append(np.where((g >= lo - room) & (g <= h + room) & (h - lo > 4 * d), np.maximum(a, np.abs(g - e)), a))
    # Each element may lie in its own range and all together nowhere between the samples: (1, 1) at a tie of two.
    given, *others = (_inner(leaves, gap) for leaves in (judged.given, *found, judged.expected))
    room = _inner([np.abs(leaf) for leaf in gap], drift) + (max(others) - min(others)) * crowded
    excused = judged._replace(allowed=wider)
    if not excused.is_right or not min(others) - room <= given <= max(others) + room:
        return judged
    n = sum(int((h - lo > 4 * d).sum()) for lo, h, d in zip(low, high, drift, strict=True))
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
    """Sample the gradients beside a point; none if they do not jump."""
    tree, sizes = jax.tree.structure(params), [_points.size(leaf) for leaf in to_numpy(params)]

    def at(v: Any) -> list[Leaves | None]:
        return [evaluated(truth.call, moved(params, v, sign * 2.0**-30)) for sign in (1, -1)]

    samples: list[Leaves | None] = []
    for n in range(16):
        samples += at(to_float64(_points.direction(params, rng)))
        if n == 3 and not any(_jumps(sample, judged.expected, drift) for sample in samples):
            return []
    # Along the gap a convex kink gives its outermost gradients; where a maximum is to be won, its element must grow.
    grown = [np.nan_to_num(np.abs(g) - np.abs(e)) for g, e in zip(judged.given, judged.expected, strict=True)]
    for leaves in (gap, grown):
        largest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in leaves) or 1.0
        samples += at(
            jax.tree.unflatten(tree, [jnp.asarray(leaf * s / largest) for leaf, s in zip(leaves, sizes, strict=True)])
        )
    samples += [evaluated(jax.jit(jax.grad(_with_ties(functions.f.plain, side))), params) for side in (False, True)]
    return [sample for sample in samples if sample is not None]


def _inner(one: Leaves, other: Leaves) -> float:
    # Not np.vdot: the threads of its library and those of XLA get into each other's way, for milliseconds.
    return float(sum(np.sum(x * y) for x, y in zip(one, other, strict=True)))


class Evidence(NamedTuple):
    """What the function's values along one direction say: its slope, and the line that it was taken from."""

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
    """Take the slope of f along a direction from differences, with as many steps as an error of `goal` needs."""

    def along(steps: np.ndarray) -> np.ndarray:
        return functions.along(params, direction, steps)

    line = _differences.line(along, centre) if known is None else known
    slope = _differences.slope(line, noise)
    while slope.error > _differences.SAFETY * goal and not line.is_whole:
        line = _differences.line(along, centre, line)
        slope = _differences.slope(line, noise)
    if noise is not None:  # once more, a little elsewhere: an error estimate may be small by chance, two seldom are
        half = jax.tree.map(lambda leaf: leaf * OTHER, direction)
        again = _differences.line(lambda steps: functions.along(params, half, steps), centre)
        while len(again.which) < len(line.which):
            again = _differences.line(lambda steps: functions.along(params, half, steps), centre, again)
        other = _differences.slope(again, noise)
        apart = 2 * abs(other.value / OTHER - slope.value)
        jump = slope.jump if slope.jump and other.jump else 0.0
        slope = Slope(slope.value, max(slope.error, apart), jump)
    return Evidence(slope, line, direction)


def dot(leaves: Leaves, direction: Any) -> float:
    """Return g . v."""
    return _inner(leaves, to_numpy(direction))


def length(leaves: Leaves, units: Any) -> float:
    """Return |g| in the units of the directions: how large g . v typically is."""
    pairs = zip(leaves, jax.tree.leaves(units), strict=True)
    return math.sqrt(sum(unit**2 * float(np.sum(np.square(leaf))) for leaf, unit in pairs))


def confirms(found: Evidence, leaves: Leaves) -> bool:
    """Say whether a gradient promises the slope that was found."""
    terms = [leaf * v for leaf, v in zip(leaves, to_numpy(found.direction), strict=True)]
    promised = float(sum(np.sum(term) for term in terms))
    rounding = ROUNDINGS * np.finfo(np.float64).eps * float(sum(np.sum(np.abs(term)) for term in terms))
    return bool(abs(found.slope.value - promised) <= found.slope.error + rounding)


def towards(judged: Judged, params: Any) -> Any:
    """Return the direction of the disagreement, as long as a random one: along it two gradients differ the most."""
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


def _with_ties(f: Callable[[Any], Any], side: bool) -> Callable[[Any], Any]:
    """Return f with every tie of a maximum, a comparison or an absolute value broken the same way."""

    def visit(eqn: JaxprEqn, inputs: list[Any], apply: Apply, _: Any) -> list[Any]:
        name = eqn.primitive.name
        if name == "stop_gradient":
            return inputs
        if name in ("max", "min"):
            x, y = inputs
            first = (x > y) if name == "max" else (x < y)
            return [jnp.where(first | ((x == y) & side), x, y)]
        if name == "abs":
            (x,) = inputs
            return [jnp.where((x > 0) | ((x == 0) & side), x, -x)]
        if name in ("gt", "ge", "lt", "le"):
            x, y = inputs
            return [jnp.where(x == y, side, (x > y) if name[0] == "g" else (x < y))]
        return apply(inputs)

    return lambda *args: trace(f, *args).run(visit, *args)


class Basis(NamedTuple):
    """What a check stands on: autodiff that differences confirmed (None if there is none), and the differences."""

    truth: Truth | None
    expected: Leaves
    found: list[Evidence]
    noise: np.ndarray | None
    kink: bool
    refuted: list[str]


def basis(
    functions: Functions,
    params: Any,
    centre: float,
    directions: list[Any],
    goal: float,
    survey: Survey | None,
    seed: int,
) -> Basis:
    """Find autodiff to compare with, and hold it against differences, to within `goal`, along random directions."""
    lines = survey.lines if survey else [None] * len(directions)
    found = [
        evidence(functions, params, v, centre, goal=goal, known=line) for v, line in zip(directions, lines, strict=True)
    ]
    refuted: list[str] = []
    noise = None
    for truth in functions.truths:
        is_seen = survey is not None and truth is functions.truths[0]
        expected = survey.looks[0].expected if survey and is_seen else evaluated(truth.call, params)
        if expected is None or not all(np.isfinite(leaf).all() for leaf in expected):
            continue
        if all(confirms(e, expected) for e in found):
            return Basis(truth, expected, found, noise, False, refuted)
        if noise is None:  # with all steps
            found = [evidence(functions, params, e.direction, centre, known=e.line) for e in found]
            if all(confirms(e, expected) for e in found):
                return Basis(truth, expected, found, noise, False, refuted)
        if noise is None:  # before autodiff is doubted, all that differences can do
            noise = functions.noise(seed, params, directions[0])
            found = [evidence(functions, params, e.direction, centre, noise=noise, known=e.line) for e in found]
        if all(confirms(e, expected) for e in found):
            return Basis(truth, expected, found, noise, False, refuted)
        if all(_follows(e, truth, expected, params, noise) for e in found):
            return Basis(truth, expected, found, noise, True, refuted)
        refuted.append(truth.label)
    noise = functions.noise(seed, params, directions[0]) if noise is None else noise
    return Basis(None, [], found, noise, False, refuted)


def _follows(found: Evidence, truth: Truth, expected: Leaves, params: Any, noise: np.ndarray) -> bool:
    """Say whether f follows autodiff across kinks: its mean slope over a step lies among autodiff's slopes within it.

    So it must by the mean value theorem (for kinks, Lebourg's), however many kinks there are.
    """
    low = high = dot(expected, found.direction)
    line = found.line
    for h, ahead, behind, floor in reversed(list(zip(line.h, line.ahead, line.behind, noise[line.which], strict=True))):
        for step in (h, -h, h / 2, -h / 2, h / 4, -h / 4):
            there = evaluated(truth.call, moved(params, found.direction, step))
            if there is None:
                return False
            promised = dot(there, found.direction)
            low, high = min(low, promised), max(high, promised)
        room = _differences.SAFETY * floor / h + (high - low) / 8
        if not low - room <= (ahead - behind) / (2 * h) <= high + room:
            return False
    return True


def judge(
    functions: Functions, truth: Truth, params: Any, judged: Judged, rng: np.random.Generator, seed: int
) -> Judged:
    """Put a gradient through tests 1 to 3, which can only acquit it."""
    if judged.is_right:
        return judged
    judged = excuse(functions.given, truth, params, judged, seed)
    return judged if judged.is_right else beside_kink(functions, truth, params, judged, rng)


class Trial(NamedTuple):
    """Test 4: f along the disagreement, where the two gradients differ most, and which of them it confirms."""

    found: Evidence
    given: bool
    expected: bool


def trial(functions: Functions, params: Any, centre: float, judged: Judged, seed: int) -> Trial:
    """Let the function's own values decide between two gradients."""
    direction = towards(judged, params)
    found = evidence(functions, params, direction, centre, noise=functions.noise(seed, params, direction))
    return Trial(found, confirms(found, judged.given), confirms(found, judged.expected))


def has_kink(truth: Truth, params: Any, rng: np.random.Generator) -> bool:
    """Say whether the gradients right beside a point differ."""
    expected = evaluated(truth.call, params)
    if expected is None:
        return False
    drift = [2.0**-20 * _rounding.scale(leaf) for leaf in expected]
    for _ in range(4):
        v = to_float64(_points.direction(params, rng))
        if any(_jumps(evaluated(truth.call, moved(params, v, h)), expected, drift) for h in (2.0**-30, -(2.0**-30))):
            return True
    return False


def _jumps(beside: Leaves | None, here: Leaves, drift: Leaves) -> bool:
    return beside is not None and any(
        bool((np.abs(leaf - other) > size).any()) for leaf, other, size in zip(beside, here, drift, strict=True)
    )


def precision_checker(f: Callable[[Any], Any], dtypes: list[Any]) -> Callable[[Any, Judged, int], Judged]:
    """Return a function of (params, judged, seed) that judges a right formula's arithmetic in the user's own dtypes.

    By what autodiff itself is off there, and by what rounding does to it.
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
        except Exception:  # autodiff cannot go there: then rounding is all that there is to say
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


def leaf_errors(names: list[str], dtypes: list[str], judged: Judged) -> tuple[LeafError, ...]:
    """Return how far each leaf is off, for the report: the wrong ones first, the worst of them first."""
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
        errors.append(
            LeafError(
                name,
                given.shape,
                dtype,
                index,
                float(given[index]),
                float(expected[index]),
                float(allowed[index]),
                relative,
                int(wrong.sum()),
            )
        )
    return tuple(
        sorted(
            errors, key=lambda leaf: (leaf.wrong == 0, -leaf.relative if leaf.relative == leaf.relative else -math.inf)
        )
    )
