"""`check_gradient`: is a gradient right, and if not, what is wrong with it?"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _differences, _excuses, _points, _rounding, _why_wrong
from jaxmlp.checking._boundary import first_calls, leaf_names, name_of, unsteady_sentence
from jaxmlp.checking._decision import Basis, Evidence, Functions, Judged, Leaves, Surveyor, Truth, leaf_errors
from jaxmlp.checking._fault import Wrong
from jaxmlp.checking._functions import Scope, first_line, to_float64, to_numpy, widened, x64_scope
from jaxmlp.checking._points import Draws
from jaxmlp.checking._precision import explain_precision, precision_checker
from jaxmlp.checking._survey import Look
from jaxmlp.checking._without_autodiff import judge_without_autodiff
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
      element. Before that, differences along two random directions confirm autodiff. They miss a fault of autodiff as
      large as the report's `resolution` with a probability below 1e-6, for any number of coordinates.
    - An element that is off by more than a few roundings may be off by the rounding error of the two programs, which
      is found by imitation (Parker, Monte Carlo Arithmetic, 1997): with independent errors of the imitated size, a
      right gradient fails with a probability below 1e-12.
    - At a kink (relu at 0, a tie of max) every gradient between those just beside the point is a subgradient, and
      right.
    - If they still disagree, the values of f along the direction of the disagreement decide: extrapolated central
      differences (Richardson), with an error estimate from their convergence and from the rounding of f.
    - If JAX cannot differentiate f (callbacks, NumPy), differences alone decide: along each of up to 128 coordinates,
      else along six directions of each leaf, which miss a fault as large as `resolution` with a probability below 1e-6.

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
    first_calls(f, gradient, params, f_name, gradient_name, root)
    dtypes = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(params)]
    x64 = x64_scope((f, params), (gradient, params))
    with x64(True):
        f64, given64 = widened(f_name, f, params), widened(gradient_name, gradient, params)
        functions = _decision.prepared(f64, given64, to_float64(params), [_rounding.epsilon(dtype) for dtype in dtypes])
        surveyor = _decision.surveyor(functions)
    precise = precision_checker(f, dtypes)
    n_directions = _differences.n_directions(_decision.MISS, _decision.BESIDE_AUTODIFF)
    draws = lru_cache(1)(partial(_points.draws, params, n_directions))  # keeps the last seed's

    def check(params: Any, *, seed: int = 0) -> Report:
        first = first_calls(f, gradient, params, f_name, gradient_name, root)
        unsteady = unsteady_sentence(f, gradient, params, first, root)
        names = leaf_names(params, root)
        with x64(True):
            found = _in_float64(functions, surveyor, to_float64(params), draws(seed), seed)
        imprecise = None
        if found.is_right and any(dtype != np.float64 for dtype in dtypes):
            imprecise = precise(params, Judged(to_numpy(first[1]), found.reference, []), seed)
            imprecise = None if imprecise.is_right else imprecise
        shown = imprecise or found.judged
        verdict: Verdict = "right"
        if unsteady or not found.is_right or imprecise:
            verdict = "wrong"
        elif found.truth is None and not found.resolution < 0.1:
            verdict = "undecided"
        explanations: tuple[Explanation, ...] = ()
        if explain and verdict != "right":
            explanations, shown = _explained(
                verdict, found, imprecise, unsteady, functions, gradient, params, names, x64
            )
        shown_dtypes = [str(dtype) for dtype in dtypes] if shown is imprecise else ["float64"] * len(names)
        notes = *(function.note for function in (f64, given64) if function.note), *found.notes
        return Report(
            name or f"gradient of {f_name}",
            verdict,
            found.decided,
            leaf_errors(names, shown_dtypes, shown),
            explanations,
            tuple(found.points),
            found.slopes,
            found.resolution,
            notes,
        )

    return check


class _State(NamedTuple):
    """Parameters, and a function that judges the gradient there if needed."""

    params: Any
    judged: Callable[[], Judged]


class _Found(NamedTuple):
    """The result of a check in float64, at the user's parameters and at the other points."""

    judged: Judged
    is_right: bool
    truth: Truth | None
    params: Any
    decided: str
    resolution: float
    slopes: tuple[float, ...]
    points: list[PointCheck]
    elsewhere: list[_State]
    notes: list[str]

    @property
    def reference(self) -> Leaves:
        """Return the reference for shorter dtypes: the given gradient at a kink or without autodiff."""
        return self.judged.given if self.judged.kink or self.truth is None else self.judged.expected


def _in_float64(functions: Functions, surveyor: Surveyor, params: Any, drawn: Draws, seed: int) -> _Found:
    rng = np.random.default_rng((seed, 1))
    numbers = jax.tree.map(np.asarray, params)  # JAX would compile each operation on them separately
    units = jax.tree.map(_points.size, numbers)
    directions = [jax.tree.map(np.multiply, units, direction) for direction in drawn.directions]
    points = _points.points(numbers, units, drawn)
    survey = surveyor([params, *points.values()], directions)
    _, centre, given, _ = survey.looks[0] if survey else _look(functions, None, params)
    goal = 2.0**-24 * _decision.length(given, units)
    basis = _decision.basis(functions, params, centre, directions, goal, survey, seed)
    if survey and basis.truth is not functions.truths[0]:
        survey = None
    notes = [f"{label} contradicts differences of f and was not used" for label in basis.refuted]
    if basis.truth is None:
        judged, resolution, found = judge_without_autodiff(functions, params, centre, given, basis.noise, rng)
        n = sum(leaf.size for leaf in given)
        along = f"each of {n} coordinates" if n <= _decision.FEW else f"{len(found)} random directions"
        decided = f"differences in float64 along {along}"
    else:
        judged, found, more = _beside_autodiff(functions, basis, params, centre, given, rng, seed)
        notes += more
        size = _decision.length(basis.expected, units)
        resolution = max(e.slope.error for e in basis.found) / (_decision.BESIDE_AUTODIFF * size) if size else math.inf
        decided = basis.truth.label
        if basis.kink:
            notes.append("f has kinks here or very near; differences across them agree with autodiff")
        else:
            decided += f", which differences along {len(basis.found)} random directions confirm"
    notes += [judged.kink] if judged.kink else []
    is_right = judged.is_right
    checked = [PointCheck("the given parameters", "right" if is_right else "wrong")]
    elsewhere = []
    for i, (label, at) in enumerate(points.items(), 1):
        # If the gradient is wrong already, other points only help to explain it and need no trial.
        seen = survey.looks[i] if survey else at
        point, state = _elsewhere(functions, basis, label, seen, rng, seed, tried=is_right)
        checked.append(point)
        elsewhere += [] if state is None else [state]
    slopes = tuple(
        _differences.remainder_exponent(e.line, _decision.dot(given, e.direction), basis.noise) for e in found[:8]
    )
    is_right = is_right and all(point.verdict != "wrong" for point in checked)
    return _Found(judged, is_right, basis.truth, params, decided, resolution, slopes, checked, elsewhere, notes)


def _beside_autodiff(
    functions: Functions, basis: Basis, params: Any, centre: float, given: Leaves, rng: np.random.Generator, seed: int
) -> tuple[Judged, list[Evidence], list[str]]:
    assert basis.truth is not None
    judged = _decision.compare(given, basis.expected, functions.epsilons)
    judged = _excuses.judge(functions, basis.truth, params, judged, rng, seed)
    if judged.is_right:
        return judged, basis.found, []
    trial = _decision.trial(functions, params, centre, judged, seed)
    if not trial.given or trial.expected:
        return judged, [trial.found], []
    judged = judged._replace(allowed=[np.full(leaf.shape, np.inf) for leaf in given])
    note = "autodiff disagrees with this gradient, and the values of f confirm the gradient"
    return judged, [trial.found], [note]


def _elsewhere(
    functions: Functions, basis: Basis, label: str, point: Any, rng: np.random.Generator, seed: int, *, tried: bool
) -> tuple[PointCheck, _State | None]:
    """Check at one more point; it may be in the survey, and the function may be undefined there."""
    try:
        look = point if isinstance(point, Look) else _look(functions, basis.truth, to_float64(point))
    except Exception as error:  # the user's code may reject such parameters
        return PointCheck(label, "skipped", first_line(error)), None
    params, centre, given, expected = look
    if not math.isfinite(centre):
        return PointCheck(label, "skipped", "the function is not finite there"), None
    if basis.truth is None:
        return PointCheck(label, "skipped", "autodiff is not available"), None
    if not expected or not all(np.isfinite(leaf).all() for leaf in expected):
        return PointCheck(label, "skipped", "autodiff gives no finite gradient there"), None
    compared = partial(_decision.compare, given, expected, functions.epsilons)
    if _decision.agree(given, expected, functions.epsilons) or compared().is_right:
        return PointCheck(label, "right"), _State(params, compared)
    judged = compared()
    finite = all(np.isfinite(leaf).all() for leaf in given)
    if not tried:
        return PointCheck(label, "wrong"), _State(params, lambda: judged) if finite else None
    judged = _excuses.judge(functions, basis.truth, params, judged, rng, seed)
    if judged.is_right:
        return PointCheck(label, "kink" if judged.kink else "right", judged.kink), _State(params, lambda: judged)
    if not finite and _excuses.has_kink(basis.truth, params, rng):
        return PointCheck(label, "kink", "the gradient given is not finite at a kink"), None
    if not finite:
        why = "not finite, but the function and autodiff are"
        return PointCheck(label, "wrong", why), _State(params, lambda: judged)
    trial = _decision.trial(functions, params, centre, judged, seed)
    if trial.given or not trial.expected:
        return PointCheck(label, "skipped", "undecided: at a kink, or hidden by rounding"), None
    return PointCheck(label, "wrong"), _State(params, lambda: judged)


def _look(functions: Functions, truth: Truth | None, params: Any) -> Look:
    centre, given = float(functions.f.call(params)), to_numpy(functions.given.call(params))
    expected = _decision.evaluated(truth.call, params) if truth and math.isfinite(centre) else None
    return Look(params, centre, given, expected or [])


def _explained(
    verdict: Verdict,
    found: _Found,
    imprecise: Judged | None,
    unsteady: str,
    functions: Functions,
    gradient: Callable[[Any], Any],
    params: Any,
    names: list[str],
    x64: Scope,
) -> tuple[tuple[Explanation, ...], Judged]:
    """Return the explanations of a verdict that is not "right", and the judgement that they explain."""
    if verdict == "undecided":
        return (Explanation("none", "differences are too noisy here to check this gradient"),), found.judged
    if unsteady:
        return (Explanation("non_deterministic", unsteady),), found.judged
    if found.is_right and imprecise is not None:
        return explain_precision(gradient, params, imprecise, names), imprecise
    elsewhere = [(state.params, state.judged()) for state in found.elsewhere]
    at, judged = found.params, found.judged
    if judged.is_right:
        at, judged = next(state for state in elsewhere if not state[1].is_right)
    located = found.truth is not None or sum(leaf.size for leaf in judged.given) <= _decision.FEW
    others = [state for state in elsewhere if state[0] is not at]
    with x64(True):
        truth = found.truth.call if found.truth else None
        wrong = Wrong(functions, truth, at, judged, names, others, located)
        return _why_wrong.explain(wrong), judged
