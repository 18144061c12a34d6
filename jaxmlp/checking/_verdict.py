"""Is a gradient right at one point?

It is compared with autodiff where differences of f confirm autodiff (`_truth`). Every disagreement goes to f itself, to
differences along the direction of the disagreement:

- They refute the gradient: wrong. Nothing overrules them. (If a loop of f stops at a tolerance, f is continued first:
  the gradient of what it converges to is right too.)
- They refute autodiff: differences alone decide (`_without_autodiff`).
- They allow both: then the gradient is right if it is a subgradient at a kink (`_kinks`), or if what autodiff's own
  rounding and that of the gradient's program can do explains the rest (`_precision.excuse`).
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.checking import _decision, _kinks, _points
from jaxmlp.checking._decision import Evidence, Functions, Judged, Leaves, confirms, evidence, towards
from jaxmlp.checking._precision import excuse
from jaxmlp.checking._program import continued, equations, stops_at_tolerance, trace
from jaxmlp.checking._truth import Basis, leaps, resolution, resolved
from jaxmlp.checking._truth import basis as truth_at
from jaxmlp.checking._without_autodiff import judge_without_autodiff
from jaxmlp.checking.report import Verdict

# With more elements that jump, the gradients beside a kink are too many to sample.
SAMPLED = 8
# A loop that stops at a tolerance has converged if more rounds change f by no more than this share.
CONVERGED = 0.01


class Opinion(NamedTuple):
    """The verdict at a point, the numbers behind it, and a reason if it is "undecided".

    `resolution` is the smallest fault that the differences `found` see, as a share of the gradient.
    """

    verdict: Verdict
    judged: Judged
    found: list[Evidence]
    resolution: float
    decided: str
    why: str = ""
    note: str = ""


def judge(
    functions: Functions, basis: Basis, params: Any, centre: float, given: Leaves, seed: int, *, whole: bool = False
) -> Opinion:
    """Judge a gradient at a point of which `basis` is known; `whole` says that f's loops run to their very end."""
    if not all(np.isfinite(leaf).all() for leaf in given):
        expected = basis.expected or [np.zeros_like(leaf) for leaf in given]
        return _opinion(basis, "wrong", _decision.compare(given, expected, functions.epsilons))
    if basis.unclear:
        return _opinion(basis, "undecided", Judged(given, given, [0 * leaf for leaf in given]), basis.unclear)
    truth = basis.truth
    if truth is None:
        return _alone(functions, basis, params, centre, given, seed)
    judged = _decision.compare(given, basis.expected, functions.epsilons)
    if judged.is_right:
        return _opinion(basis, "right", judged)
    hull = _kinks.hull(functions, truth, params, given, np.random.default_rng((seed, 3)))
    if hull.jumping and hull.contains:
        note = f"f has a kink here ({hull.jumping} elements of the gradient jump), and this is a subgradient"
        allowed = [np.maximum(a, np.abs(g - e)) for g, e, a in zip(given, basis.expected, judged.allowed, strict=True)]
        return _opinion(basis, "right", judged._replace(allowed=allowed, kink=note))
    direction = towards(judged, params)
    found = evidence(functions, params, direction, centre, noise=functions.noise(seed, params, direction))
    basis = basis._replace(found=[found])
    if unclear := leaps([found]):
        return _opinion(basis, "undecided", judged, unclear)
    believed, refuted = confirms(found, basis.expected), not confirms(found, given)
    if hull.jumping > SAMPLED and hull.spans and not (believed and refuted):
        why = f"f has a kink in {hull.jumping} elements of the gradient: too many to tell whether this is a subgradient"
        return _opinion(basis, "undecided", judged, why)
    if not believed:
        return _alone(functions, basis, params, centre, given, seed)
    if refuted:
        further = None if whole else _continued(functions, params, centre, given, seed)
        return further or _opinion(basis, "wrong", judged)
    judged = excuse(functions.given, truth, params, judged, seed)
    return _opinion(basis, "right" if judged.is_right else "wrong", judged)


def _continued(functions: Functions, params: Any, centre: float, given: Leaves, seed: int) -> Opinion | None:
    """Return the opinion on a gradient of what f converges to, if f stops at a tolerance and the gradient is right."""
    f = functions.f
    if not f.traceable or not any(map(stops_at_tolerance, equations(trace(f.call, params).closed))):
        return None
    plain = continued(f.plain)
    on = _decision.prepared(f._replace(call=jax.jit(plain), plain=plain), functions.given, params, functions.epsilons)
    value = float(on.f.call(params))
    if not abs(value - centre) <= CONVERGED * abs(centre):
        return None
    direction = _points.direction(jax.tree.map(np.asarray, params), np.random.default_rng(seed))
    basis = truth_at(on, [(truth, None) for truth in on.truths], params, value, [direction], [], seed)
    opinion = judge(on, basis, params, value, given, seed, whole=True)
    note = "f stops at a tolerance, and this is the gradient of what it converges to"
    return opinion._replace(note=note) if opinion.verdict == "right" else None


def _opinion(basis: Basis, verdict: Verdict, judged: Judged, why: str = "") -> Opinion:
    decided = basis.truth.label if basis.truth else "differences in float64"
    n = len(basis.found)
    decided += f", which differences along {n} {'direction' if n == 1 else 'directions'} confirm" if basis.truth else ""
    return Opinion(verdict, judged, basis.found, resolution(basis), decided, why)


def _alone(functions: Functions, basis: Basis, params: Any, centre: float, given: Leaves, seed: int) -> Opinion:
    judged, smallest, found = judge_without_autodiff(
        functions, params, centre, given, basis.noise, np.random.default_rng((seed, 1))
    )
    n = sum(leaf.size for leaf in given)
    along = f"each of {n} coordinates" if n <= _decision.FEW else f"{len(found)} random directions"
    opinion = Opinion(
        "right" if judged.is_right else "wrong", judged, found, smallest, f"differences in float64 along {along}"
    )
    if why := leaps(found):
        return opinion._replace(verdict="undecided", why=why)
    if any(e.slope.stairs for e in found):
        stays = all(
            abs(_decision.dot(given, e.direction)) <= 1e-9 * abs(e.slope.value) for e in found if e.slope.stairs
        )
        why = (
            "tiny steps do not move f, as if it stopped at a tolerance, and large steps have another slope"
            if stays
            else ""
        )
        return opinion._replace(verdict="undecided", why=why) if stays else opinion
    largest = max((abs(_decision.dot(given, e.direction)) for e in found), default=math.inf)
    if judged.is_right and not resolved(found, largest):
        why = f"differences of f see no fault below {smallest:.0e} of the gradient here: its values are too noisy"
        return opinion._replace(verdict="undecided", why=why)
    return opinion
