"""`check_gradient`: is a gradient right, and if not, what is wrong with it?"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _differences, _kinks, _points, _rounding, _truth, _why_wrong
from jaxmlp.checking._boundary import first_calls, leaf_names, name_of, unsteady_sentence
from jaxmlp.checking._decision import Functions, Judged, Leaves, Surveyor, Truth, leaf_errors
from jaxmlp.checking._fault import Wrong
from jaxmlp.checking._functions import Scope, first_line, to_float64, to_numpy, widened, x64_scope
from jaxmlp.checking._points import Draws
from jaxmlp.checking._precision import explain_precision, precision_checker
from jaxmlp.checking._survey import Look
from jaxmlp.checking._verdict import Opinion, judge
from jaxmlp.checking.report import Explanation, PointCheck, Report, Verdict

__all__ = ["assert_gradient", "check_gradient", "gradient_checker"]


def check_gradient(
    f: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    params: Any,
    *,
    seed: int = 0,
    explain: bool = True,
    name: str | None = None,
    root: str = "params",
) -> Report:
    """Check that `gradient(params)` is the gradient of the scalar `f(params)`; explain what is wrong if it is not.

    Both functions run in float64 first, whatever the dtype of the parameters, so that rounding hides no fault. Then the
    result in the parameters' own dtype is checked for its precision. There is no tolerance to choose:

    - The gradient is compared with autodiff of f's own steps (without custom rules and `stop_gradient`), element by
      element, where differences of f along two random directions confirm autodiff. They miss a fault of autodiff as
      large as the report's `resolution` with a probability below 1e-6, for any number of coordinates.
    - If the two disagree by more than a few roundings, differences of f along the disagreement decide: they refute the
      gradient, or they refute autodiff. A disagreement that they cannot resolve may be the rounding of both programs.
    - At a kink (relu at 0, a tie of max) every mixture of the gradients just beside the point is a subgradient, and
      right. Where autodiff jumps and f is smooth, only f's own slope is right.
    - If JAX cannot differentiate f (callbacks, NumPy), or differences refute autodiff, differences alone decide: along
      each of up to 128 coordinates, else along six directions of each leaf, which miss a fault as large as `resolution`
      with a probability below 1e-6.
    - The verdict is "undecided", with a reason, where f jumps or is too noisy for its differences.

    The same is done at three more points: one nearby, one with many ties and zeros, one of large values. A point where
    f is not finite is skipped.

    For speed, close over JAX arrays, not NumPy arrays. If x64 is off, a check of a function that closes over NumPy
    arrays clears JAX's caches, and the process must compile again. `gradient_checker` clears them once if the arrays
    have 32 bits, and at every check if they have 64 bits, such as labels from `data.prepare`.

    Parameters
    ----------
    explain
        Whether to search for the cause of a fault, which takes a few seconds.
    name, root
        Names of the gradient and of the parameters in the report.

    Examples
    --------
    >>> w = jnp.array([0.5, -2.0, 3.0])
    >>> assert check_gradient(lambda w: jnp.sum(w**3), lambda w: 3 * w**2, w)
    >>> report = check_gradient(lambda w: jnp.sum(w**3), lambda w: -3 * w**2, w)
    >>> report.verdict, report.explanations[0].text
    ('wrong', 'the whole gradient has its sign flipped')
    """
    return gradient_checker(f, gradient, params, explain=explain, name=name, root=root)(params, seed=seed)


def assert_gradient(f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, *, seed: int = 0) -> None:
    """Raise an AssertionError with the whole report unless `check_gradient` finds the gradient right.

    >>> assert_gradient(lambda w: (w**2).sum(), lambda w: 2 * w, jax.numpy.arange(3.0))
    """
    __tracebackhide__ = True  # pytest then shows the caller's line
    report = check_gradient(f, gradient, params, seed=seed)
    if not report:
        raise AssertionError(str(report))


def gradient_checker(
    f: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    params: Any,
    *,
    explain: bool = True,
    name: str | None = None,
    root: str = "params",
) -> Callable[..., Report]:
    """Return a function of (params, seed=0) that works like `check_gradient` but compiles only once.

    Use it to check at many points, such as during training. `params` are an example of the parameters: their shapes and
    dtypes are fixed. So are the closures of f and gradient, as under `jax.jit`.

    >>> check = gradient_checker(lambda w: (w**2).sum(), lambda w: 2 * w, jax.numpy.zeros(3))
    >>> assert check(jax.numpy.arange(3.0)) and check(jax.numpy.ones(3), seed=1)
    """
    f_name, gradient_name = name_of(f, "f"), name_of(gradient, "gradient")
    first = first_calls(f, gradient, params, f_name, gradient_name, root)
    unsteady = unsteady_sentence(f, gradient, params, first, root)
    if unsteady:  # such a function may not survive being traced, as one that splits a random key of its own
        found = Explanation("non_deterministic", unsteady)
        return lambda params, *, seed=0: Report(
            name or f"gradient of {f_name}", "wrong", "two calls with the same parameters", (), (found,)
        )
    dtypes = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(params)]
    x64 = x64_scope((f, params), (gradient, params))
    with x64(True):
        f64, given64 = widened(f_name, f, params), widened(gradient_name, gradient, params)
        functions = _decision.prepared(f64, given64, to_float64(params), [_rounding.epsilon(dtype) for dtype in dtypes])
        surveyor = _decision.surveyor(functions)
    precise = precision_checker(f, given64, dtypes)
    n_directions = _differences.n_directions(_decision.MISS, _decision.BESIDE_AUTODIFF)
    draws = lru_cache(1)(partial(_points.draws, params, n_directions))  # keeps the last seed's

    @np.errstate(all="ignore")  # a number that is not finite is a result here
    def check(params: Any, *, seed: int = 0) -> Report:
        first = first_calls(f, gradient, params, f_name, gradient_name, root)
        names = leaf_names(params, root)
        with x64(True):
            found = _in_float64(functions, surveyor, to_float64(params), draws(seed), seed)
        imprecise = None
        if found.verdict == "right":
            imprecise = precise(params, Judged(to_numpy(first[1]), found.reference, []), seed, x64)
            imprecise = None if imprecise.is_right else imprecise
        shown = imprecise or _worst(found).judged
        verdict: Verdict = "wrong" if imprecise else found.verdict
        explanations: tuple[Explanation, ...] = ()
        if verdict == "undecided":
            explanations = (Explanation("undecided", found.opinion.why),)
        elif verdict == "wrong" and explain:
            explanations = _explained(found, imprecise, functions, gradient, params, names, x64)
        shown_dtypes = [str(dtype) for dtype in dtypes] if shown is imprecise else ["float64"] * len(names)
        notes = *(function.note for function in (f64, given64) if function.note), *found.notes
        return Report(
            name or f"gradient of {f_name}",
            verdict,
            found.opinion.decided,
            leaf_errors(names, shown_dtypes, shown),
            explanations,
            tuple(found.points),
            found.slopes,
            found.opinion.resolution,
            notes,
        )

    return check


class _State(NamedTuple):
    """A point, and the judgement of the gradient there."""

    params: Any
    judged: Judged


class _Found(NamedTuple):
    """The result of a check in float64: at the user's parameters and at the other points."""

    opinion: Opinion
    truth: Truth | None
    params: Any
    slopes: tuple[float, ...]
    points: list[PointCheck]
    elsewhere: list[_State]
    notes: list[str]

    @property
    def verdict(self) -> Verdict:
        """Return the verdict at the user's parameters, or "wrong" if it is wrong at another point."""
        return "wrong" if any(point.verdict == "wrong" for point in self.points) else self.opinion.verdict

    @property
    def reference(self) -> Leaves:
        """Return the reference for shorter dtypes: the given gradient at a kink or without autodiff."""
        judged = self.opinion.judged
        return judged.given if judged.kink or self.truth is None else judged.expected


def _in_float64(functions: Functions, surveyor: Surveyor, params: Any, drawn: Draws, seed: int) -> _Found:
    numbers = jax.tree.map(np.asarray, params)  # JAX would compile each operation on them separately
    units = jax.tree.map(_points.size, numbers)
    directions = [jax.tree.map(np.multiply, units, direction) for direction in drawn.directions]
    points = _points.points(numbers, units, drawn)
    looks = surveyor([params, *points.values()], directions)
    first = looks[0] if looks else _look(functions, None, params)
    truths: list[tuple[Truth, Leaves | None]] = [(truth, None) for truth in functions.truths]
    if looks:
        truths[0] = functions.truths[0], first.expected
    basis = _truth.basis(functions, truths, params, first.value, directions, first.lines, seed)
    opinion = judge(functions, basis, params, first.value, first.given, seed)
    notes = [f"{label} contradicts differences of f and was not used" for label in basis.refuted]
    notes += [opinion.note] if opinion.note else []
    if opinion.judged.kink:
        notes.append(opinion.judged.kink)
    elif any(e.slope.jump for e in basis.found):
        notes.append("f has a kink here, and autodiff gives a subgradient")
    if any(e.slope.stairs for e in opinion.found):
        notes.append("tiny steps do not move f, as if it stopped at a tolerance: slopes are those of large steps")
    checked = [PointCheck("the given parameters", opinion.verdict, opinion.why)]
    elsewhere = []
    for i, (label, at) in enumerate(points.items(), 1):
        seen = looks[i] if looks and basis.truth is functions.truths[0] else at
        point, state = _elsewhere(functions, basis.truth, label, seen, directions[0], seed, opinion.verdict)
        checked.append(point)
        elsewhere += [] if state is None else [state]
    noise = basis.noise
    slopes = tuple(
        _differences.remainder_exponent(e.line, _decision.dot(first.given, e.direction), noise)
        for e in opinion.found[:8]
    )
    return _Found(opinion, basis.truth, params, slopes, checked, elsewhere, notes)


def _elsewhere(
    functions: Functions, truth: Truth | None, label: str, point: Any, direction: Any, seed: int, before: Verdict
) -> tuple[PointCheck, _State | None]:
    """Check at one more point; it may have been looked at, and the function may be undefined there."""
    try:
        look = point if isinstance(point, Look) else _look(functions, truth, to_float64(point))
    except Exception as error:  # the user's code may reject such parameters
        return PointCheck(label, "skipped", first_line(error)), None
    params, centre, given, expected, lines = look
    if not math.isfinite(centre):
        return PointCheck(label, "skipped", "the function is not finite there"), None
    if truth is None:
        return PointCheck(label, "skipped", "autodiff is not available"), None
    if not expected or not all(np.isfinite(leaf).all() for leaf in expected):
        return PointCheck(label, "skipped", "autodiff gives no finite gradient there"), None
    finite = all(np.isfinite(leaf).all() for leaf in given)
    if before == "wrong":  # then other points only help to explain it, and need no differences
        judged = _decision.compare(given, expected, functions.epsilons)
        verdict = "right" if judged.is_right else "wrong"
        return PointCheck(label, verdict), _State(params, judged) if finite else None
    basis = _truth.basis(functions, [(truth, expected)], params, centre, [direction], lines, seed)
    if not finite and (
        basis.truth is None or _kinks.hull(functions, truth, params, expected, np.random.default_rng(seed)).jumping
    ):
        return PointCheck(label, "kink", "the gradient given is not finite at a kink"), None
    opinion = judge(functions, basis, params, centre, given, seed)
    state = _State(params, opinion.judged) if finite else None
    if not finite:
        return PointCheck(label, "wrong", "not finite, but the function and autodiff are"), _State(
            params, opinion.judged
        )
    if opinion.verdict == "undecided":
        return PointCheck(label, "skipped", f"undecided: {opinion.why}"), None
    kink = opinion.judged.kink
    return PointCheck(label, "kink" if kink else opinion.verdict, kink), state


def _look(functions: Functions, truth: Truth | None, params: Any) -> Look:
    centre, given = float(functions.f.call(params)), to_numpy(functions.given.call(params))
    expected = _decision.evaluated(truth.call, params) if truth and math.isfinite(centre) else None
    return Look(params, centre, given, expected or [], [])


def _explained(
    found: _Found,
    imprecise: Judged | None,
    functions: Functions,
    gradient: Callable[[Any], Any],
    params: Any,
    names: list[str],
    x64: Scope,
) -> tuple[Explanation, ...]:
    """Return the explanations of a gradient that is wrong."""
    if imprecise is not None:
        return explain_precision(gradient, params, imprecise, names)
    at, judged = _worst(found)
    located = found.truth is not None or sum(leaf.size for leaf in judged.given) <= _decision.FEW
    others = [(state.params, state.judged) for state in found.elsewhere if state.params is not at]
    with x64(True):
        truth = found.truth.call if found.truth else None
        return _why_wrong.explain(Wrong(functions, truth, at, judged, names, others, located))


def _worst(found: _Found) -> _State:
    """Return the point that the report shows: the user's own, unless the gradient is wrong elsewhere only."""
    own = _State(found.params, found.opinion.judged)
    if found.opinion.verdict == "wrong":
        return own
    return next((state for state in found.elsewhere if not state.judged.is_right), own)
