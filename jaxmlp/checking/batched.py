"""`check_batched`: does the batched form of a function treat every example independently of the others?

The truth is the function of one example, applied to each example separately in float64. Both are compared on the given
examples, and again after one example has been changed, which shows a leak from one example into another.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.checking import _decision, _points, _rounding
from jaxmlp.checking._arguments import Arguments, Named, split
from jaxmlp.checking._boundary import check_floats, check_like, check_outputs, element, first_index, leaf_names, name_of
from jaxmlp.checking._decision import Judged, Leaves, Truth, leaf_errors
from jaxmlp.checking._functions import NOT_TRACEABLE, called, to_float64, to_numpy, widened, x64_scope
from jaxmlp.checking._precision import excuse, judge_precision
from jaxmlp.checking._why_wrong_batched import Form, Trial, combined, explain
from jaxmlp.checking.report import Explanation, PointCheck, Report

__all__ = ["check_batched"]

# At most this many examples are changed, one at a time.
CHANGED = 4


def check_batched(
    per_example: Callable[..., Any],
    batched: Callable[..., Any],
    *args: Any,
    reduction: Literal["sum", "mean"] | None = None,
    seed: int = 0,
) -> Report:
    """Check that the batched form of a function gives each example its own result, and that none leaks into another.

    Every result must be right with the given and with changed values, in float64 and in the given dtypes.

    Parameters
    ----------
    per_example
        A function of one example, which has the shapes of `args` without their leading axis. It returns a tree of
        finite floating arrays.
    batched
        A function of `args` that returns the tree of `per_example` with a leading axis, [B, ...], or reduced over it.
    *args
        The examples: trees of arrays [B, ...] of any dtypes, with B of 2 or more. Floating arrays also get other
        values; labels do not.
    reduction
        "sum" or "mean" if `batched` reduces. If None, shapes show whether it does, and the better fit is used.

    Examples
    --------
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0], [6.0, 5.0]])
    >>> bool(check_batched(lambda x: (x**2).sum(), lambda x: (x**2).sum(axis=1), x))
    True
    >>> report = check_batched(lambda x: x, lambda x: x - x.mean(axis=0), x)
    >>> print(report.explanations[0].text)
    when example 0 changes, so does the output of example 1 (and of 1 more)
    """
    if reduction not in (None, "sum", "mean"):
        raise ValueError(f'reduction must be "sum", "mean" or None, got {reduction!r}')
    one_name, name = name_of(per_example, "per_example"), name_of(batched, "batched")
    arguments = split(args)
    n = _batch_size(arguments)
    example = called(one_name, per_example, *_example(arguments, arguments.floats, 0))
    check_outputs(f"{one_name}, for example 0,", example)
    first = called(name, batched, *args)
    reduced = _is_reduced(name, first, example, n, reduction)
    floats = [jnp.asarray(leaf) for leaf in arguments.floats]
    is_on = jnp.result_type(float) == np.float64
    x64 = x64_scope((batched, *args), (per_example, *_example(arguments, arguments.floats, 0)))
    with x64(True):
        problem = _Problem(one_name, name, per_example, batched, arguments, n, example)
        return _check(problem, floats, first, reduced, reduction, ambient=partial(x64, is_on), seed=seed)


class _Problem(NamedTuple):
    """The two functions to compare, the examples, and the outputs of one example."""

    one_name: str
    name: str
    per_example: Callable[..., Any]
    batched: Callable[..., Any]
    arguments: Arguments
    n: int
    example: Any


def _check(
    problem: _Problem,
    floats: list[Any],
    first: Any,
    reduced: bool,
    reduction: Literal["sum", "mean"] | None,
    *,
    ambient: Callable[[], AbstractContextManager[Any]],
    seed: int,
) -> Report:
    arguments, rng = problem.arguments, np.random.default_rng(seed)
    notes = []
    one_by_one = _one_by_one(problem, floats)
    alone = widened(problem.one_name, one_by_one, floats)
    given = widened(problem.name, lambda floats: jax.tree.leaves(problem.batched(*arguments.restore(floats))), floats)
    notes += [function.note for function in (alone, given) if function.note]
    wide = to_float64(floats)
    rows, at_hand = to_numpy(alone.call(wide)), to_numpy(given.call(wide))
    _check_finite(problem, rows)
    form: Form = reduction or (_fitting(at_hand, rows) if reduced else "each")
    if reduced and reduction is None:
        notes.append(f"reduction was not given; {problem.name} is compared with the {form}, which fits better")

    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(first)]
    epsilons = [_rounding.epsilon(dtype) for dtype in dtypes]
    imitated = _rounding.spreads(lambda floats: combined(alone.plain(floats), form))

    def spreads(seed: int, floats: list[Any]) -> Iterator[Any]:
        try:
            yield from imitated(seed, floats)
        except Exception:  # not traceable: assume a dozen operations in another order
            expected = combined(to_numpy(alone.call(floats)), form)
            yield [_decision.ROUNDINGS * np.finfo(np.float64).eps * _rounding.scale(leaf) for leaf in expected]

    truth = Truth("", alone.call, spreads, alone.plain)

    def judged(fixed: Leaves, floats: list[Any], seed: int) -> Judged:
        result = _decision.compare(fixed, combined(to_numpy(alone.call(floats)), form), epsilons)
        return result if result.is_right else excuse(given, truth, floats, result, seed)

    trials = [Trial("the given examples", None, judged(at_hand, wide, seed))]
    points = [_point(trials[0])]
    for label, changed, other in _changes([np.asarray(leaf) for leaf in wide], problem.n, rng):
        moved = to_float64(other)
        expected = to_numpy(alone.call(moved))
        if not all(np.isfinite(leaf).all() for leaf in expected):
            points.append(PointCheck(label, "skipped", f"{problem.one_name} is not finite there"))
            continue
        trials.append(Trial(label, changed, judged(to_numpy(given.call(moved)), moved, seed)))
        points.append(_point(trials[-1]))
    shown = next((trial.judged for trial in trials if not trial.judged.is_right), trials[0].judged)
    shown_dtypes = ["float64"] * len(dtypes)
    explanations: tuple[Explanation, ...] = ()
    names = leaf_names(problem.example, "outputs")
    if not shown.is_right:
        explanations = (explain(trials, rows, form),)
    elif any(dtype != np.float64 for dtype in dtypes):
        with ambient():
            # Do not imitate the rounding of the batched program: this step judges it.
            own = judge_precision(
                trials[0].judged._replace(given=to_numpy(first)),
                dtypes,
                lambda: combined(to_numpy(one_by_one(floats)), form),
                lambda: to_numpy(_rounding.spread(lambda at: combined(one_by_one(at), form))(seed, floats)),
            )
        if not own.is_right:
            shown, shown_dtypes = own, [str(dtype) for dtype in dtypes]
            text = f"right in float64, but in {shown_dtypes[0]} off by more than rounding explains"
            explanations = (Explanation("precision", text, tuple(names)),)
    return Report(
        subject=f"{problem.name} against {problem.one_name}",
        verdict="wrong" if explanations else "right",
        truth=f"{problem.one_name} on each of {problem.n} examples alone, in float64"
        + ("" if form == "each" else f", and their {form}"),
        leaves=leaf_errors(names, shown_dtypes, shown),
        explanations=explanations,
        points=_merged(points),
        notes=tuple(notes),
    )


def _batch_size(arguments: Arguments) -> int:
    """Return B; raise a ValueError that names the argument if it has another B or none."""
    named = zip(arguments.names, arguments.leaves, strict=True)
    shapes = [(name, np.shape(leaf)) for name, leaf in named if leaf is not None]
    if not shapes:
        raise ValueError("args must have at least one array of examples, got none")
    for name, shape in shapes:
        if not shape:
            raise ValueError(f"{name} must have a leading axis of examples, got a scalar")
    first, (n, *_) = shapes[0]
    for name, shape in shapes[1:]:
        if shape[0] != n:
            raise ValueError(f"args must have the same number of examples, got {n} in {first} and {shape[0]} in {name}")
    if n < 2:
        raise ValueError(f"args must have at least 2 examples, got {n}: one cannot show a leak between examples")
    if arguments.floats:
        check_floats(Named(arguments.floats, arguments.float_names), "")
    return n


def _is_reduced(name: str, outputs: Any, example: Any, n: int, reduction: str | None) -> bool:
    """Return whether outputs are [...] and not [B, ...]; raise a ValueError if they are neither."""
    if leaf_names(outputs, "outputs") != leaf_names(example, "outputs"):
        check_like(name, outputs, example, "outputs")
    leaves, likes = jax.tree.leaves(outputs), jax.tree.leaves(example)
    reduced = reduction is not None or all(np.shape(y) == np.shape(like) for y, like in zip(leaves, likes, strict=True))
    for leaf_name, leaf, like in zip(leaf_names(example, "outputs"), leaves, likes, strict=True):
        one, each = np.shape(like), (n, *np.shape(like))
        if np.shape(leaf) != (one if reduced else each):
            wanted = f"{one}" if reduction else f"{each}, or {one} if all outputs are reduced,"
            raise ValueError(f"{name} must return shape {wanted} for {leaf_name}, got {np.shape(leaf)}")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name} must return a floating dtype for {leaf_name}, got {jnp.result_type(leaf)}")
    return reduced


def _check_finite(problem: _Problem, rows: Leaves) -> None:
    for name, leaf in zip(leaf_names(problem.example, "outputs"), rows, strict=True):
        if not np.isfinite(leaf).all():
            i, *index = first_index(~np.isfinite(leaf))
            where = element(name, index)
            raise ValueError(f"{problem.one_name} must be finite, got {leaf[(i, *index)]} at {where} for example {i}")


def _example(arguments: Arguments, floats: Sequence[Any], i: int) -> Any:
    return arguments.restore([leaf[i] for leaf in floats], lambda leaf: None if leaf is None else leaf[i])


def _one_by_one(problem: _Problem, floats: list[Any]) -> Callable[[list[Any]], list[Array]]:
    """Return a function of the floating leaves that computes the outputs [B, ...] one example after the other."""
    arguments = problem.arguments
    leaves = zip(arguments.leaves, arguments.moves, strict=True)
    fixed = [leaf for leaf, moves in leaves if not moves and leaf is not None]

    def alone(floats: Sequence[Any], others: Sequence[Any]) -> list[Array]:
        remaining = iter(others)
        one = arguments.restore(floats, lambda leaf: None if leaf is None else next(remaining))
        return [jnp.asarray(leaf) for leaf in jax.tree.leaves(problem.per_example(*one))]

    def mapped(floats: list[Any]) -> list[Array]:
        xs = (list(floats), [jnp.asarray(leaf) for leaf in fixed])
        return jax.lax.map(lambda one: alone(*one), xs)

    def looped(floats: list[Any]) -> list[Array]:
        found = [alone([x[i] for x in floats], [x[i] for x in fixed]) for i in range(problem.n)]
        return [jnp.stack(leaves) for leaves in zip(*found, strict=True)]

    try:
        jax.eval_shape(mapped, floats)
    except NOT_TRACEABLE:
        return looped
    except Exception:  # it does not run in float64; `widened` handles that
        return mapped
    return mapped


def _fitting(given: Leaves, rows: Leaves) -> Form:
    """Return "sum" or "mean", whichever is nearer."""

    def off(form: Form) -> float:
        return sum(float(np.abs(g - e).sum()) for g, e in zip(given, combined(rows, form), strict=True))

    return "sum" if off("sum") < off("mean") else "mean"


def _changes(
    floats: list[np.ndarray], n: int, rng: np.random.Generator
) -> list[tuple[str, int | None, list[np.ndarray]]]:
    """Return sets of examples with other data for one example (drawn, large, or another example's), or for all."""
    if not floats:
        return []
    sizes = [_points.size(leaf) for leaf in floats]

    def drawn(leaf: np.ndarray, size: float) -> np.ndarray:
        return size * np.round(64 * rng.standard_normal(leaf.shape)) / 64

    which = np.arange(n) if n <= CHANGED else np.unique([0, n - 1, *rng.choice(n, CHANGED - 2, replace=False)])
    found: list[tuple[str, int | None, list[np.ndarray]]] = []
    for i in which:
        new = [drawn(leaf[i], size) for leaf, size in zip(floats, sizes, strict=True)]
        others = [("the data of another example", [leaf[(i + 1) % n] for leaf in floats]), ("new data", new)]
        # Both signs: a leak may occur at one of them only.
        others += [("large data", [factor * values for values in new]) for factor in (16, -16)]
        for label, other in others:
            changed = [leaf.copy() for leaf in floats]
            for leaf, values in zip(changed, other, strict=True):
                leaf[i] = values
            found.append((f"{label} for one example", int(i), changed))
    return [*found, ("new data for all examples", None, list(map(drawn, floats, sizes)))]


def _point(trial: Trial) -> PointCheck:
    return PointCheck(trial.label, "right" if trial.judged.is_right else "wrong")


def _merged(points: list[PointCheck]) -> tuple[PointCheck, ...]:
    """Return one point for each label: wrong if any was wrong, else skipped if any was skipped."""
    worst_first = sorted(points, key=lambda point: ("wrong", "skipped", "right").index(point.verdict))
    return tuple(
        next(point for point in worst_first if point.name == name) for name in dict.fromkeys(p.name for p in points)
    )
