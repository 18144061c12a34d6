"""`check_gradient`: is a gradient right, and if not, what is wrong with it?"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _diagnosis, _differences, _points, _rounding
from jaxmlp.checking._alone import judge_alone
from jaxmlp.checking._boundary import check_like, check_params, leaf_names, name_of, scalar_value
from jaxmlp.checking._decision import Basis, Evidence, Functions, Judged, Leaves, Surveyor, Truth, leaf_errors
from jaxmlp.checking._functions import called, to_float64, to_numpy, widened
from jaxmlp.checking._points import Draws
from jaxmlp.checking._scope import Scope, switching
from jaxmlp.checking._survey import Look
from jaxmlp.checking.report import Explanation, PointCheck, Report, Verdict

__all__ = ["assert_gradient", "check_gradient", "gradient_checker"]

# Roundings between two calls that another order of summation (on several threads, say) can explain.
_UNSTEADY = 1024


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
    """Check that `gradient(params)` is the gradient of the scalar `f(params)`, and explain it if it is not.

    Both are called in float64, whatever the parameters' dtype, where a formula cannot hide behind rounding; then what
    `gradient` returned in its own dtype is judged by what rounding can do there. No tolerance is involved:

    - Autodiff of f's own steps (custom rules and `stop_gradient` set aside) is compared element by element. It is
      itself confirmed first, by differences along two normal directions: they miss a fault of autodiff with a
      probability below 1e-6 where the fault is as large as the report's `resolution`, however many coordinates
      there are.
    - An element that is off by more than a few roundings is held against what rounding does to the two programs, found
      by imitating it (Parker, Monte Carlo Arithmetic, 1997): with independent errors of the imitated size, a right
      gradient fails with a probability below 1e-12. Near a minimum, where all cancels, that is the size of what was
      summed.
    - At a kink (relu at 0, a tie of max) what lies between the gradients right beside the point is a subgradient, and
      right.
    - The function's values along the disagreement have the last word: central differences extrapolated (Richardson),
      with an error estimate from how they converge, and from the rounding in f.
    - Where autodiff cannot enter (callbacks, NumPy) differences alone decide: every coordinate up to 128, above that
      six directions of each leaf, which miss a fault of the leaf as large as `resolution` with a probability below
      1e-6.

    All of it again at three more points: one nearby, one with many ties and zeros, one of large values; they are
    skipped where f is not finite.

    Parameters
    ----------
    f
        A function of one tree of floating arrays, which returns a scalar. Any that JAX can call: traced or not,
        differentiable by JAX or not.
    gradient
        A function of the same tree, which returns one like it.
    params
        The tree, finite, of any floating dtype; float64 only if x64 is on.
    seed
        Of the directions and points; the same seed, the same report.
    explain
        Whether to look for the cause of a fault, which takes a few seconds.
    name, root
        How the report calls what is checked, and the parameters.

    Returns
    -------
    Report
        True in a condition if and only if the gradient is right; `print` it.

    Raises
    ------
    ValueError
        If the parameters have no leaves, or leaves that are integers or not finite; if f returns no finite scalar; if
        the gradient's tree, shapes or dtypes are unlike the parameters'. What f and gradient raise comes through, with
        a note. The float64 state of JAX is as before, in any case.

    Notes
    -----
    Close over JAX's arrays, not NumPy's, where speed matters: while x64 is off, each call clears JAX's caches for a
    function that closes over NumPy arrays, and all that the process runs compiles anew. `gradient_checker` clears them
    once for arrays of 32 bits; for those of 64, as `data.prepare` returns labels, at every check.

    Examples
    --------
    >>> import jax.numpy as jnp
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
    """Return a function of (params, seed=0) that does what `check_gradient` does, and compiles only once.

    For checks at many points, such as during training. `params` are an example of the parameters: shapes and dtypes
    stay. What f and gradient close over is fixed when they are compiled, as under `jax.jit`.

    >>> check = gradient_checker(lambda w: (w**2).sum(), lambda w: 2 * w, jax.numpy.zeros(3))
    >>> assert check(jax.numpy.arange(3.0)) and check(jax.numpy.ones(3), seed=1)
    """
    name, f_name, gradient_name = (
        name or f"gradient of {name_of(f, 'f')}",
        name_of(f, "f"),
        name_of(gradient, "gradient"),
    )
    _first_calls(f, gradient, params, f_name, gradient_name, root)
    dtypes = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(params)]
    x64 = switching((f, params), (gradient, params))
    with x64(True):
        f64, given64 = widened(f_name, f, params), widened(gradient_name, gradient, params)
        functions = _decision.prepared(f64, given64, to_float64(params), [_rounding.epsilon(dtype) for dtype in dtypes])
        surveyor = _decision.surveyor(functions)
    precise = _decision.precision_checker(f, dtypes)
    n_directions = _differences.n_directions(_decision.MISS, _decision.BESIDE_AUTODIFF)
    draws = lru_cache(1)(partial(_points.draws, params, n_directions))  # of the last seed

    def check(params: Any, *, seed: int = 0) -> Report:
        first = _first_calls(f, gradient, params, f_name, gradient_name, root)
        unsteady = _unsteady(f, gradient, params, first, root)
        names = leaf_names(params, root)
        with x64(True):
            found = _in_float64(functions, surveyor, to_float64(params), draws(seed), seed)
        imprecise = None
        if found.is_right and any(dtype != np.float64 for dtype in dtypes):
            imprecise = precise(params, Judged(to_numpy(first[1]), found.reference, []), seed)
        if imprecise is not None and imprecise.is_right:
            imprecise = None
        shown = imprecise or found.judged
        verdict = _verdict(found, imprecise, unsteady)
        explanations: tuple[Explanation, ...] = ()
        if explain and verdict != "right":
            explanations, shown = _explained(
                verdict, found, imprecise, unsteady, functions, gradient, params, names, x64
            )
        return Report(
            subject=name,
            verdict=verdict,
            truth=found.decided,
            leaves=leaf_errors(
                names, [str(d) for d in dtypes] if shown is imprecise else ["float64"] * len(names), shown
            ),
            explanations=explanations,
            points=tuple(found.points),
            slopes=found.slopes,
            resolution=found.resolution,
            notes=(*(function.note for function in (f64, given64) if function.note), *found.notes),
        )

    return check


class _State(NamedTuple):
    """Parameters, and how the gradient was judged there, put together only when it is asked for."""

    params: Any
    judged: Callable[[], Judged]


class _Found(NamedTuple):
    """What a check in float64 found: at the user's parameters, and at the other points."""

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
        """Return the gradient to hold a shorter dtype against: at a kink, or without autodiff, the one given."""
        return self.judged.given if self.judged.kink or self.truth is None else self.judged.expected


def _in_float64(functions: Functions, surveyor: Surveyor, params: Any, drawn: Draws, seed: int) -> _Found:
    rng = np.random.default_rng((seed, 1))
    numbers = jax.tree.map(np.asarray, params)  # JAX would compile every operation on them by itself
    units = jax.tree.map(_points.size, numbers)
    directions = [jax.tree.map(np.multiply, units, direction) for direction in drawn.directions]
    points = _points.points(numbers, units, drawn)
    survey = surveyor([params, *points.values()], directions)
    if survey is None:
        centre, given = float(functions.f.call(params)), to_numpy(functions.given.call(params))
    else:
        centre, given = survey.looks[0].value, survey.looks[0].given
    goal = 2.0**-24 * _decision.length(given, units)
    basis = _decision.basis(functions, params, centre, directions, goal, survey, seed)
    if survey and basis.truth is not functions.truths[0]:
        survey = None
    notes = [f"{label} is not what differences of f find, and was set aside" for label in basis.refuted]
    if basis.truth is None:
        judged, resolution, found = judge_alone(functions, params, centre, given, basis.noise, rng)
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
            notes.append("f has kinks here or very near: differences across them agree with autodiff across them")
        else:
            decided += f", which differences along {len(basis.found)} random directions confirm"
    notes += [judged.kink] if judged.kink else []
    is_right = judged.is_right
    checked = [PointCheck("the given parameters", "right" if is_right else "wrong")]
    elsewhere = []
    for i, (label, at) in enumerate(points.items(), 1):
        # Where the gradient is wrong already, other points are evidence of how, and need no trial.
        seen = survey.looks[i] if survey else at
        point, state = _elsewhere(functions, basis, label, seen, rng, seed, tried=is_right)
        checked.append(point)
        elsewhere += [] if state is None else [state]
    slopes = tuple(_differences.taylor(e.line, _decision.dot(given, e.direction), basis.noise).slope for e in found[:8])
    is_right = is_right and all(point.verdict != "wrong" for point in checked)
    return _Found(judged, is_right, basis.truth, params, decided, resolution, slopes, checked, elsewhere, notes)


def _beside_autodiff(
    functions: Functions,
    basis: Basis,
    params: Any,
    centre: float,
    given: Leaves,
    rng: np.random.Generator,
    seed: int,
) -> tuple[Judged, list[Evidence], list[str]]:
    assert basis.truth is not None
    judged = _decision.compare(given, basis.expected, functions.epsilons)
    judged = _decision.judge(functions, basis.truth, params, judged, rng, seed)
    if judged.is_right:
        return judged, basis.found, []
    trial = _decision.trial(functions, params, centre, judged, seed)
    if trial.given and not trial.expected:
        judged = judged._replace(allowed=[np.full(leaf.shape, np.inf) for leaf in given])
        return (
            judged,
            [trial.found],
            ["autodiff disagrees with this gradient, and along their disagreement f follows it"],
        )
    return judged, [trial.found], []


def _elsewhere(
    functions: Functions,
    basis: Basis,
    label: str,
    point: Any,
    rng: np.random.Generator,
    seed: int,
    *,
    tried: bool,
) -> tuple[PointCheck, _State | None]:
    """Check at one more point, looked at already or not, which may lie where the function is not defined."""
    try:
        look = point if isinstance(point, Look) else _look(functions, basis, to_float64(point))
    except Exception as error:  # the user's code may refuse such parameters
        return PointCheck(label, "skipped", f"{type(error).__name__}: {error}".splitlines()[0]), None
    params, centre, given, expected = look
    if not math.isfinite(centre):
        return PointCheck(label, "skipped", "the function is not finite there"), None
    if basis.truth is None:
        return PointCheck(label, "skipped", "there is no autodiff to compare with"), None
    if not expected or not all(np.isfinite(leaf).all() for leaf in expected):
        return PointCheck(label, "skipped", "autodiff gives no finite gradient there"), None
    compared = partial(_decision.compare, given, expected, functions.epsilons)
    if _decision.agree(given, expected, functions.epsilons) or compared().is_right:
        return PointCheck(label, "right"), _State(params, compared)
    judged = compared()
    finite = all(np.isfinite(leaf).all() for leaf in given)
    if not tried:
        return PointCheck(label, "wrong"), _State(params, lambda: judged) if finite else None
    judged = _decision.judge(functions, basis.truth, params, judged, rng, seed)
    if judged.is_right:
        return PointCheck(label, "kink" if judged.kink else "right", judged.kink), _State(params, lambda: judged)
    if not finite and _decision.has_kink(basis.truth, params, rng):
        return PointCheck(label, "kink", "the gradient given is not finite at a kink"), None
    if not finite:
        why = "not finite, where the function and its gradient are"
        return PointCheck(label, "wrong", why), _State(params, lambda: judged)
    trial = _decision.trial(functions, params, centre, judged, seed)
    if trial.given or not trial.expected:
        return PointCheck(label, "skipped", "too close to call, or a kink"), None
    return PointCheck(label, "wrong"), _State(params, lambda: judged)


def _look(functions: Functions, basis: Basis, params: Any) -> Look:
    centre, given = float(functions.f.call(params)), to_numpy(functions.given.call(params))
    expected = _decision.evaluated(basis.truth.call, params) if basis.truth and math.isfinite(centre) else None
    return Look(params, centre, given, expected or [])


def _verdict(found: _Found, imprecise: Judged | None, unsteady: str) -> Verdict:
    if unsteady or not found.is_right or imprecise is not None:
        return "wrong"
    return "undecided" if found.truth is None and not found.resolution < 0.1 else "right"


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
    """Return what explains a verdict that is not "right", and the judgement that it is of."""
    if verdict == "undecided":
        return (Explanation("none", "differences are too noisy here to say anything of this gradient"),), found.judged
    if unsteady:
        return (Explanation("non_deterministic", unsteady),), found.judged
    if found.is_right and imprecise is not None:
        return _diagnosis.explain_precision(gradient, params, imprecise, names), imprecise
    elsewhere = [(state.params, state.judged()) for state in found.elsewhere]
    at, judged = found.params, found.judged
    if judged.is_right:
        at, judged = next(state for state in elsewhere if not state[1].is_right)
    located = found.truth is not None or sum(leaf.size for leaf in judged.given) <= _decision.FEW
    others = [state for state in elsewhere if state[0] is not at]
    with x64(True):
        truth = found.truth.call if found.truth else None
        wrong = _diagnosis.Wrong(functions, truth, at, judged, names, others, located)
        return _diagnosis.explain(wrong), judged


def _first_calls(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, f_name: str, gradient_name: str, root: str
) -> tuple[float, Any]:
    """Call both as their user does, and answer what cannot be checked."""
    check_params(params, root)
    value = scalar_value(f_name, f, params)
    first = called(gradient_name, gradient, params)
    check_like(gradient_name, first, params, root)
    return value, first


def _unsteady(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, first: tuple[float, Any], root: str
) -> str:
    """Say what changes from call to call, beyond what another order of summation can do."""
    value, leaves = first
    again = f(params)
    number = float(np.asarray(again).astype(np.float64))
    if abs(number - value) > _UNSTEADY * _rounding.epsilon(jnp.result_type(again)) * abs(value):
        return (
            f"the function is not deterministic: it returned {value:.9g} and then {number:.9g} at the same parameters"
        )
    second = gradient(params)
    for name, leaf, one, other in zip(
        leaf_names(leaves, root), jax.tree.leaves(leaves), to_numpy(leaves), to_numpy(second), strict=True
    ):
        if np.array_equal(one, other):
            continue
        room = _UNSTEADY * _rounding.epsilon(jnp.result_type(leaf)) * _rounding.scale(one)
        bad = ~((one == other) | (np.abs(one - other) <= room) | (np.isnan(one) & np.isnan(other)))
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            numbers = f"{one[index]:.9g}, and then {other[index]:.9g}"
            return f"the gradient is not deterministic: {name}{list(index)} was {numbers}"
    return ""
