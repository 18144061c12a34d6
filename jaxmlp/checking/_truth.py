"""Which gradient by autodiff is the truth at a point? One that differences of f confirm, along random directions.

Autodiff is a witness, not a judge: it may be wrong where the function is smooth (a `where` at 0, a derivative that is
undefined at one point), and where differences contradict it, they alone decide.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.checking import _differences, _kinks, _points
from jaxmlp.checking._decision import (
    BESIDE_AUTODIFF,
    Evidence,
    Functions,
    Leaves,
    Truth,
    confirms,
    dot,
    evaluated,
    evidence,
    length,
)
from jaxmlp.checking._differences import Line
from jaxmlp.checking._functions import moved_numbers

# Differences whose error is a larger share of the gradient, or of what f itself does, tell nothing.
RESOLVED = 0.1


class Basis(NamedTuple):
    """What the values of f say at a point: their differences, and the gradient by autodiff that they confirm, or None.

    `unclear` is the reason why they say nothing, such as a function that jumps.
    """

    truth: Truth | None
    expected: Leaves
    found: list[Evidence]
    noise: np.ndarray | None
    refuted: list[str]
    unclear: str


def basis(
    functions: Functions,
    truths: list[tuple[Truth, Leaves | None]],
    params: Any,
    centre: float,
    directions: list[Any],
    lines: list[Line],
    seed: int,
) -> Basis:
    """Find a gradient by autodiff that differences along the directions confirm.

    `truths` come with their gradients, or with None if these are not known yet; `lines` are what is known of f.
    """
    rng = np.random.default_rng((seed, 2))
    units = jax.tree.map(_points.size, jax.tree.map(np.asarray, params))
    refuted: list[str] = []
    noise: np.ndarray | None = None
    found: list[Evidence] = []

    def more(goal: float) -> list[Evidence]:
        known: list[Line | None] = [e.line for e in found] or [*lines] or [None] * len(directions)
        pairs = zip(directions, known, strict=True)
        return [evidence(functions, params, v, centre, goal=goal, noise=noise, known=line) for v, line in pairs]

    for truth, seen in truths:
        expected = seen if seen is not None else evaluated(truth.call, params)
        if expected is None or not all(np.isfinite(leaf).all() for leaf in expected):
            continue
        size = length(expected, units)
        found = found or more(2.0**-24 * size)
        if not _agrees(found, expected, size) and noise is None:
            found = more(0.0)
        if not _agrees(found, expected, size) and noise is None:  # before autodiff is rejected, find the noise of f too
            noise = functions.noise(seed, params, directions[0])
            found = more(0.0)
        if unclear := leaps(found):
            return Basis(None, [], found, noise, refuted, unclear)
        agrees = _agrees(found, expected, size)
        if agrees and not any(e.slope.jump for e in found):
            return Basis(truth, expected, found, noise, refuted, "")
        near_kinks = noise is not None and all(_follows(e, truth, params, noise) for e in found)
        if (agrees or near_kinks) and _kinks.hull(functions, truth, params, expected, rng).contains:
            return Basis(truth, expected, found, noise, refuted, "")
        refuted += [truth.label] if resolved(found, size) else []
    noise = functions.noise(seed, params, directions[0]) if noise is None else noise
    found = more(0.0)
    return Basis(None, [], found, noise, refuted, leaps(found))


def resolved(found: list[Evidence], size: float) -> bool:
    """Return whether differences are exact enough to tell: against the gradient's size, or f's own changes."""
    return all(e.slope.error <= RESOLVED * max(size, e.line.moves) for e in found)


def resolution(basis: Basis) -> float:
    """Return the smallest fault of autodiff that differences see, as a share of the gradient or of f's changes."""
    sizes = [max(abs(dot(basis.expected, e.direction)) if basis.truth else 0.0, e.line.moves) for e in basis.found]
    shares = [e.slope.error / size if size else 0.0 for e, size in zip(basis.found, sizes, strict=True)]
    return max(shares, default=math.inf) / BESIDE_AUTODIFF


def _agrees(found: list[Evidence], expected: Leaves, size: float) -> bool:
    return resolved(found, size) and all(confirms(e, expected) for e in found)


def leaps(found: list[Evidence]) -> str:
    leap = max((e.slope.leap for e in found), default=0.0)
    if leap:
        return f"the function jumps by {leap:.3g} here, so it has no gradient"
    broken = any(not math.isfinite(e.slope.value) for e in found)
    return "the function is not finite beside this point" if broken else ""


def _follows(found: Evidence, truth: Truth, params: Any, noise: np.ndarray) -> bool:
    """Return whether the mean slope of f over each step lies between autodiff's slopes within the step.

    By the mean value theorem (Lebourg's, with kinks) it must, for any number of kinks.
    """
    low, high = np.inf, -np.inf
    line = found.line
    for h, ahead, behind, floor in reversed(list(zip(line.h, line.ahead, line.behind, noise[line.which], strict=True))):
        for step in (h, -h, h / 2, -h / 2, h / 4, -h / 4):
            there = evaluated(truth.call, moved_numbers(params, found.direction, step))
            if there is None:
                return False
            promised = dot(there, found.direction)
            low, high = min(low, promised), max(high, promised)
        room = _differences.SAFETY * floor / h + (high - low) / 8
        if not low - room <= (ahead - behind) / (2 * h) <= high + room:
            return False
    return True
