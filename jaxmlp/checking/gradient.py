"""`check_gradient`: is a gradient right, and if not, what is wrong with it?"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _differences, _functions, _points, _rounding
from jaxmlp.checking._boundary import check_like, check_params, leaf_names, name_of, scalar_value
from jaxmlp.checking._decision import Basis, Functions, Judged
from jaxmlp.checking._diagnosis import Wrong, explain, explain_precision
from jaxmlp.checking._functions import called, to_float64, to_numpy, widened
from jaxmlp.checking.report import Explanation, LeafError, PointCheck, Report

__all__ = ["assert_gradient", "check_gradient"]


def check_gradient(
    f: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    params: Any,
    *,
    seed: int = 0,
    name: str | None = None,
    root: str = "params",
) -> Report:
    """Check that `gradient(params)` is the gradient of the scalar `f(params)`, and explain it if it is not.

    TODO
    """
    name = name or f"gradient of {name_of(f, 'f')}"
    f_name, gradient_name = name_of(f, "f"), name_of(gradient, "gradient")
    check_params(params, root)
    value = scalar_value(f_name, f, params)
    first = called(gradient_name, gradient, params)
    check_like(gradient_name, first, params, root)
    unsteady = _unsteady(f, gradient, params, value, first)
    ambient = bool(jax.config.jax_enable_x64)
    with jax.enable_x64(True):
        return _check(f, gradient, params, to_numpy(first), unsteady, ambient=ambient, seed=seed, name=name, root=root)


def assert_gradient(f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, *, seed: int = 0) -> None:
    """Raise an AssertionError with the whole report unless `check_gradient` finds the gradient right.

    >>> assert_gradient(lambda w: (w**2).sum(), lambda w: 2 * w, jax.numpy.arange(3.0))
    """
    __tracebackhide__ = True  # pytest then shows the caller's line
    report = check_gradient(f, gradient, params, seed=seed)
    if not report:
        raise AssertionError(str(report))


def _check(
    f: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    params: Any,
    first: list[np.ndarray],
    unsteady: str,
    *,
    ambient: bool,
    seed: int,
    name: str,
    root: str,
) -> Report:
    rng = np.random.default_rng(seed)
    names = leaf_names(params, root)
    dtypes = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(params)]
    wide = to_float64(params)
    f64, given64 = widened(name_of(f, "f"), f, params), widened(name_of(gradient, "the gradient"), gradient, params)
    functions = Functions(f64, _functions.along(f64), _functions.noise_along(f64), given64, [_rounding.epsilon(dtype) for dtype in dtypes])
    notes = [function.note for function in (f64, given64) if function.note]
    centre, given = float(f64.call(wide)), to_numpy(given64.call(wide))
    basis = _decision.basis(functions, wide, centre, given, rng, seed)
    notes += [f"{label} is not what differences of {name_of(f, 'f')} find, and was set aside" for label in basis.refuted]

    evidence = basis.found
    if basis.truth is None:
        judged, resolution, evidence = _decision.judge_alone(functions, wide, centre, given, basis.noise, rng)
        n = sum(leaf.size for leaf in given)
        decided = "differences in float64 " + (
            f"along each of {n} coordinates" if n <= _decision.FEW else f"along {len(evidence)} random directions"
        )
    else:
        decided = f"{basis.truth.label}, which differences along {len(evidence)} random directions confirm"
        judged = _decision.judge(functions, basis.truth, wide, _decision.compare(functions, given, basis.expected), rng, seed)
        size = _decision.length(basis.expected, wide)
        resolution = max(e.slope.error for e in evidence) / (_decision.BESIDE_AUTODIFF * size) if size else math.inf
        if basis.kink:
            decided = basis.truth.label
            notes.append("f has a kink here, so that its own slopes say nothing of autodiff")
        if not judged.is_right:
            trial = _decision.trial(functions, wide, centre, judged, seed)
            evidence = [trial.found]
            if trial.given and not trial.expected:
                notes.append("autodiff and this gradient disagree, and along their disagreement f follows this gradient")
                judged = judged._replace(allowed=[np.full(leaf.shape, np.inf) for leaf in given])
    if judged.kink:
        notes.append(judged.kink)

    points, elsewhere = [PointCheck("the given parameters", "right" if judged.is_right else "wrong")], []
    for label, at in _points.points(jax.tree.map(np.asarray, wide), rng).items():
        # Where the gradient is wrong already, other points are evidence of how, and need no trial.
        check, state = _elsewhere(functions, basis, label, to_float64(at), rng, seed, tried=judged.is_right)
        points.append(check)
        if state is not None:
            elsewhere.append(state)

    imprecise = None
    if judged.is_right and any(dtype != np.float64 for dtype in dtypes):
        reference = given if judged.kink or basis.truth is None else basis.expected
        with jax.enable_x64(ambient):
            imprecise = _decision.precision(f, params, Judged(first, reference, []), dtypes, seed)

    wrong_elsewhere = next((point for point in points[1:] if point.verdict == "wrong"), None)
    is_right = judged.is_right and not unsteady and not wrong_elsewhere and (imprecise is None or imprecise.is_right)
    undecided = is_right and basis.truth is None and not resolution < 0.1
    explanations: tuple[Explanation, ...] = ()
    shown = judged
    if not is_right:
        if unsteady:
            explanations = (Explanation("non_deterministic", unsteady),)
        elif not judged.is_right or wrong_elsewhere:
            at = wide
            if judged.is_right:
                at, shown = next(state for state in elsewhere if not state[1].is_right)
                centre = float(f64.call(at))
            located = basis.truth is not None or sum(leaf.size for leaf in given) <= _decision.FEW
            others = [state for state in elsewhere if state[0] is not at]
            explanations = explain(
                Wrong(functions, basis.truth.call if basis.truth else None, at, shown, names, others, located)
            )
        else:
            shown = imprecise
            explanations = explain_precision(gradient, params, imprecise, names)
    elif undecided:
        explanations = (Explanation("none", "differences are too noisy here to say anything of this gradient"),)
    return Report(
        subject=name,
        verdict="undecided" if undecided else "right" if is_right else "wrong",
        truth=decided,
        leaves=_leaf_errors(names, [str(dtype) for dtype in dtypes] if shown is imprecise else ["float64"] * len(names), shown),
        explanations=explanations,
        points=tuple(points),
        slopes=tuple(_differences.taylor(e.line, _decision.dot(given, e.direction), basis.noise).slope for e in evidence[:8]),
        resolution=resolution,
        notes=tuple(notes),
    )


def _elsewhere(
    functions: Functions, basis: Basis, label: str, params: Any, rng: np.random.Generator, seed: int, *, tried: bool
) -> tuple[PointCheck, tuple[Any, Judged] | None]:
    """Check at one more point, which may lie where the function is not defined."""
    try:
        centre, given = float(functions.f.call(params)), to_numpy(functions.given.call(params))
    except Exception as error:  # the user's code may refuse such parameters
        return PointCheck(label, "skipped", f"{type(error).__name__}: {error}".splitlines()[0]), None
    if not math.isfinite(centre):
        return PointCheck(label, "skipped", "the function is not finite there"), None
    if basis.truth is None:
        return PointCheck(label, "skipped", "there is no autodiff to compare with"), None
    expected = _decision.evaluated(basis.truth.call, params)
    if expected is None:
        return PointCheck(label, "skipped", "autodiff gives no finite gradient there"), None
    judged = _decision.compare(functions, given, expected)
    if judged.is_right:
        return PointCheck(label, "right"), (params, judged)
    finite = all(np.isfinite(leaf).all() for leaf in given)
    if not tried:
        return PointCheck(label, "wrong"), (params, judged) if finite else None
    judged = _decision.judge(functions, basis.truth, params, judged, rng, seed)
    if judged.is_right:
        return PointCheck(label, "kink" if judged.kink else "right", judged.kink), (params, judged)
    if not finite:
        if _decision.has_kink(functions, basis.truth, params, rng):
            return PointCheck(label, "kink", "the gradient given is not finite at a kink"), None
        return PointCheck(label, "wrong", "the gradient given is not finite where the function and its gradient are"), (params, judged)
    trial = _decision.trial(functions, params, centre, judged, seed)
    if trial.given or not trial.expected:
        return PointCheck(label, "skipped", "too close to call, or a kink"), None
    return PointCheck(label, "wrong"), (params, judged)


def _unsteady(f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, value: float, first: Any) -> str:
    """Say what changes from call to call, beyond what another order of summation can do."""
    again = float(np.asarray(f(params)).astype(np.float64))
    if again != value and abs(again - value) > 1024 * _rounding.epsilon(jnp.result_type(f(params))) * abs(value):
        return f"the function is not deterministic: it returned {value:.9g} and then {again:.9g} at the same parameters"
    for name, one, other in zip(leaf_names(first, "params"), to_numpy(first), to_numpy(gradient(params)), strict=True):
        leaf_epsilon = _rounding.epsilon(jax.tree.leaves(first)[0].dtype)
        bad = ~((one == other) | (np.abs(one - other) <= 1024 * leaf_epsilon * _rounding.scale(one)) | (np.isnan(one) & np.isnan(other)))
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            return f"the gradient is not deterministic: {name}{list(index)} was {one[index]:.9g} and then {other[index]:.9g}"
    return ""


def _leaf_errors(names: list[str], dtypes: list[str], judged: Judged) -> tuple[LeafError, ...]:
    errors = []
    for name, dtype, given, expected, allowed, wrong in zip(
        names, dtypes, judged.given, judged.expected, judged.allowed, judged.wrong, strict=True
    ):
        if not given.size:
            continue
        gap = np.abs(given - expected)
        excess = np.where(np.isnan(gap), np.inf, gap) / np.maximum(allowed, 1e-300)
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), given.shape))
        norm, size = float(np.linalg.norm(gap)), float(np.linalg.norm(expected))
        relative = norm / size if size else (math.inf if norm else 0.0)
        errors.append(
            LeafError(
                name, given.shape, dtype, index, float(given[index]), float(expected[index]), float(allowed[index]),
                relative, int(wrong.sum()),
            )
        )
    return tuple(sorted(errors, key=lambda leaf: (leaf.wrong == 0, -leaf.relative if leaf.relative == leaf.relative else -math.inf)))
