"""Are hand-written derivative rules right: vjp and jvp rules, and the rules of `jax.custom_vjp` and `jax.custom_jvp`?

A rule for several outputs is reduced to a gradient. With a cotangent c for the outputs, the scalar

    F(args, c) = <c, f(args)>        has the gradient        (J^T c, f(args)),

so one call of `check_gradient`, which varies c as well as the arguments, checks both results of a vjp rule: the outputs
and the cotangents of the arguments. A jvp rule is linear in its tangents; its transpose is a vjp rule.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision, _points, _rounding
from jaxmlp.checking._arguments import Arguments, Named, cast, inner_product, split, two_short_normals
from jaxmlp.checking._boundary import check_floats, check_like, check_outputs, element, first_index, leaf_names, name_of
from jaxmlp.checking._functions import NOT_TRACEABLE, called, first_line, to_float64, to_numpy, widened, x64_scope
from jaxmlp.checking._precision import excuse
from jaxmlp.checking._program import equations, is_rule, without_rules
from jaxmlp.checking.gradient import check_gradient
from jaxmlp.checking.report import Explanation, Report

__all__ = ["check_custom_rule", "check_jvp", "check_vjp"]

# With up to this many output elements, each is pulled back separately to find the wrong ones.
ONE_BY_ONE = 256
NAMED = 5
# An output is named if its error exceeds this share of its derivative and of the worst error.
LOCATED = 1e-7


def check_vjp(f: Callable[..., Any], my_vjp: Callable[..., Any], *args: Any, seed: int = 0) -> Report:
    """Check a vjp rule, which computes J^T c, against the values of f.

    `my_vjp(*args)` returns `(outputs, pull_back)`, as `functools.partial(jax.vjp, f)` does. `pull_back(c)`, with c like
    the outputs and in their dtypes, returns one cotangent for each argument; those of arguments that are not floating
    are ignored. The rule is right if its outputs equal f's, and if it is linear and the transpose of f's derivative.
    If it is wrong, a note names the wrong outputs, unless there are more than 256.

    >>> def vjp_of_product(x, y):
    ...     return x * y, lambda c: (c * y, c * x)
    >>> bool(check_vjp(lambda x, y: x * y, vjp_of_product, jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])))
    True
    """
    f_name, rule_name = name_of(f, "f"), name_of(my_vjp, "my_vjp")
    arguments, outputs = _begin(f, f_name, args)
    _check_vjp_once(rule_name, my_vjp, arguments, outputs)
    rule = _Rule(f_name, rule_name, f, my_vjp, arguments, outputs)
    return _check(rule, f"{rule_name} of {f_name}", seed)


def check_jvp(f: Callable[..., Any], my_jvp: Callable[..., Any], *args: Any, seed: int = 0) -> Report:
    """Check a jvp rule, which computes J v, against the values of f.

    `my_jvp(args, tangents)` returns `(outputs, tangents_out)`, as `functools.partial(jax.jvp, f)` does. Tangents of
    arguments that are not floating are zeros of the dtype `jax.dtypes.float0`.

    The rule is transposed and checked as by `check_vjp`, so every output is compared in every direction; it must be
    linear in the tangents. If JAX cannot trace the rule or differentiate it by its tangents, the rule is called once
    for each element of the arguments, 128 at most.

    >>> def jvp_of_sine(primals, tangents):
    ...     return jnp.sin(primals[0]), jnp.cos(primals[0]) * tangents[0]
    >>> bool(check_jvp(jnp.sin, jvp_of_sine, jnp.array([1.0, 2.0])))
    True
    """
    f_name, rule_name = name_of(f, "f"), name_of(my_jvp, "my_jvp")
    arguments, outputs = _begin(f, f_name, args)
    rng = np.random.default_rng(seed)
    tangents = _two_tangents(arguments, rng)[0].leaves[len(arguments.floats) :]
    returned = called(rule_name, my_jvp, args, _all_tangents(arguments, tangents))
    given, out = _pair(rule_name, returned, "(outputs, tangents)")
    check_like(rule_name, given, outputs, "outputs")
    check_like(rule_name, out, outputs, "tangents")
    for name, leaf, like in zip(leaf_names(outputs, "tangents"), *map(jax.tree.leaves, (out, given)), strict=True):
        if jnp.result_type(leaf) != jnp.result_type(like):
            wanted, got = jnp.result_type(like), jnp.result_type(leaf)
            raise ValueError(f"{rule_name} must return the outputs' dtype {wanted} for {name}, got {got}")
    transposed = _as_vjp(rule_name, my_jvp, arguments, outputs, rng)
    rule = _Rule(f_name, rule_name, f, transposed, arguments, outputs, my_jvp)
    return _check(rule, f"{rule_name} of {f_name}", seed)


def check_custom_rule(f: Callable[..., Any], *args: Any, seed: int = 0) -> Report:
    """Check the rules of `jax.custom_vjp` and `jax.custom_jvp` inside a function.

    `jax.vjp(f)`, which uses the rules, is checked as by `check_vjp` against a derivative that does not: autodiff of f's
    own steps, or differences of its values if JAX cannot differentiate them. `jax.lax.stop_gradient` is ignored there
    too, so the terms that it removes are reported as missing. An f without a custom rule inside is a ValueError.

    >>> @jax.custom_jvp
    ... def square(x):
    ...     return x**2
    >>> square.defjvps(lambda tangent, y, x: 2 * x * tangent)
    >>> bool(check_custom_rule(square, jnp.array([1.0, 2.0])))
    True
    """
    f_name = name_of(f, "f")
    arguments, outputs = _begin(f, f_name, args)
    steps = f
    try:
        program = jax.make_jaxpr(arguments.of_floats(f))(*arguments.floats)
    except NOT_TRACEABLE:  # then only differences check it, and no rule takes part
        pass
    else:
        if not any(is_rule(eqn) for eqn in equations(program)):
            raise ValueError(f"{f_name} must have a rule of jax.custom_vjp or jax.custom_jvp inside, got none")

        def steps(*args: Any) -> Any:
            here = split(args)
            return without_rules(here.of_floats(f))(*here.floats)

    def own(*args: Any) -> Any:
        floats = split(args).floats
        out, pull_back = jax.vjp(arguments.of_floats(f), *floats)
        return out, lambda c: arguments.restore(pull_back(c), lambda leaf: None)

    name = f"jax.vjp of {f_name}"
    called(name, own, *args)
    return _check(_Rule(f_name, name, steps, own, arguments, outputs), f"custom rules of {f_name}", seed)


class _Rule(NamedTuple):
    """A vjp rule and its function; `jvp` is the rule that it transposes, or None."""

    f_name: str
    name: str
    f: Callable[..., Any]
    vjp: Callable[..., Any]
    arguments: Arguments
    outputs: Any
    jvp: Callable[..., Any] | None = None


def _begin(f: Callable[..., Any], f_name: str, args: tuple[Any, ...]) -> tuple[Arguments, Any]:
    arguments = split(args)
    if not arguments.floats:
        raise ValueError(f"args must have at least one floating array, got none among {len(arguments.leaves)} leaves")
    check_floats(Named(arguments.floats, arguments.float_names), "")
    outputs = called(f_name, f, *args)
    check_outputs(f_name, outputs)
    return arguments, outputs


def _check_vjp_once(name: str, my_vjp: Callable[..., Any], arguments: Arguments, outputs: Any) -> None:
    given, pull_back = _pair(name, called(name, my_vjp, *arguments.restore(arguments.floats)), "(outputs, pull_back)")
    if not callable(pull_back):
        raise ValueError(f"{name} must return (outputs, pull_back), got {type(pull_back).__name__} for pull_back")
    check_like(name, given, outputs, "outputs")
    arguments.floats_of(name, called(f"the pull_back of {name}", pull_back, jax.tree.map(jnp.ones_like, given)))


def _check(rule: _Rule, subject: str, seed: int) -> Report:
    """Check a vjp rule as the gradient of F(args, c) = <c, f(args)>."""
    arguments, n = rule.arguments, len(rule.arguments.floats)
    rng = np.random.default_rng(seed)
    likes, tree = jax.tree.flatten(rule.outputs)
    names = [*arguments.float_names, *leaf_names(rule.outputs, "outputs")]
    # Each output in its own unit, so that a large one cannot hide a small one.
    units = [2.0 ** np.clip(-np.log2(_points.size(np.asarray(like))), -10, 10) for like in likes]
    drawn = [two_short_normals(np.shape(like), rng) for like in likes]

    def value(at: Named) -> Any:
        outputs = jax.tree.leaves(rule.f(*arguments.restore(at.leaves[:n])))
        return inner_product(at.leaves[n:], outputs)

    def gradient(at: Named) -> Named:
        outputs, pull_back = rule.vjp(*arguments.restore(at.leaves[:n]))
        leaves = jax.tree.leaves(outputs)
        pulled = pull_back(jax.tree.unflatten(tree, [cast(c, y) for c, y in zip(at.leaves[n:], leaves, strict=True)]))
        return Named([*arguments.floats_of(rule.name, pulled), *leaves], names)

    value.__name__, gradient.__name__ = rule.f_name, rule.name
    at = []
    for k in range(2):
        cotangents = [cast(unit * c[k], like) for unit, c, like in zip(units, drawn, likes, strict=True)]
        at.append(Named([*arguments.floats, *cotangents], names))
    report = check_gradient(value, gradient, at[0], seed=seed, name=subject, root="")
    nonlinear = _nonlinear(rule, gradient, at, n, seed)
    if nonlinear:
        report = dataclasses.replace(report, verdict="wrong", explanations=(Explanation("not_linear", nonlinear),))
    if report.verdict != "wrong":
        return report
    with x64_scope((value, at[0]))(True):
        wrong = _wrong_outputs(rule)
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    note = f"{', '.join(wrong[:NAMED])}{more} {'have wrong derivatives' if wrong[1:] else 'has a wrong derivative'}"
    return dataclasses.replace(report, notes=(*report.notes, note)) if wrong else report


def _nonlinear(rule: _Rule, gradient: Callable[[Named], Named], at: list[Named], n: int, seed: int) -> str:
    """Return a sentence on where a rule is not linear: it must be 0 at 0, and elsewhere linear up to rounding."""
    arguments = rule.arguments
    with x64_scope((gradient, at[0]))(True):
        if rule.jvp is None:
            pull = widened(rule.name, lambda at: list(gradient(at).leaves[:n]), at[0])
            names, likes = arguments.float_names, arguments.floats
        else:
            pushed, at = _pushed_forward(rule.jvp, arguments, n), _two_tangents(arguments, np.random.default_rng(seed))
            pull = widened(rule.name, lambda at: pushed(at.leaves), at[0])
            names, likes = leaf_names(rule.outputs, "tangents"), jax.tree.leaves(rule.outputs)
        first, second = (to_float64(each) for each in at)
        point, c, d = first.leaves[:n], first.leaves[n:], second.leaves[n:]
        zero = to_numpy(pull.call(Named([*point, *map(jnp.zeros_like, c)], first.names)))
        both = Named([*point, *(a + b for a, b in zip(c, d, strict=True))], first.names)
        one, other, whole = (to_numpy(pull.call(each)) for each in (first, second, both))
        expected = [a + b for a, b in zip(one, other, strict=True)]
        judged = _decision.compare(whole, expected, [_rounding.epsilon(jnp.result_type(like)) for like in likes])
        if not judged.is_right and not pull.traceable:
            judged = judged._replace(allowed=[_decision.ROUNDINGS * leaf for leaf in judged.allowed])
        truth = _decision.Truth("", pull.call, pull.spreads, pull.plain)
        for each in (first, second, both):
            if not judged.is_right and pull.traceable:
                judged = excuse(pull, truth, each, judged, seed)
    for name, leaf in zip(names, zero, strict=True):
        if leaf.any():
            index = first_index(leaf)
            return f"{rule.name} is not linear: zeros give {leaf[index]:.6g} for {element(name, index)}"
    for name, wrong, a, b in zip(names, judged.wrong, whole, expected, strict=True):
        if wrong.any():
            index = first_index(wrong)
            where = element(name, index)
            return f"{rule.name} is not linear: r(c + d) is {a[index]:.9g}, r(c) + r(d) is {b[index]:.9g} for {where}"
    return ""


def _wrong_outputs(rule: _Rule) -> list[str]:
    """Return the names of outputs whose derivative differs from autodiff in float64. Call under x64."""
    steps = without_rules(rule.arguments.of_floats(rule.f))
    floats = list(to_float64(rule.arguments.floats))
    likes, names = jax.tree.leaves(rule.outputs), leaf_names(rule.outputs, "outputs")
    labels = [element(name, i) for name, like in zip(names, likes, strict=True) for i in np.ndindex(np.shape(like))]
    try:
        if rule.jvp is not None:
            at = to_float64(_two_tangents(rule.arguments, np.random.default_rng(0))[0])
            given = _rows([_pushed_forward(rule.jvp, rule.arguments, len(floats))(at.leaves)]).T
            expected = _rows([jax.jvp(steps, tuple(floats), tuple(at.leaves[len(floats) :]))[1]]).T
        elif len(labels) > ONE_BY_ONE:
            return []
        else:
            given = _rows(_pulled(lambda *x: rule.vjp(*rule.arguments.restore(x)), floats, rule))
            expected = _rows(_pulled(lambda *x: jax.vjp(steps, *x), floats, None))
    except Exception:  # the rule is known to be wrong; only the names are missing then
        return []
    gap = np.nan_to_num(np.abs(given - expected), nan=np.inf).max(axis=1)
    wrong = (gap > LOCATED * np.abs(expected).max(axis=1)) & (gap >= LOCATED * gap.max()) & (gap > 0)
    return [label for label, is_wrong in zip(labels, wrong, strict=True) if is_wrong]


def _pulled(vjp: Callable[..., Any], floats: list[Any], rule: _Rule | None) -> list[Any]:
    """Pull every output element back separately."""
    outputs, pull_back = vjp(*floats)
    leaves, tree = jax.tree.flatten(outputs)
    pulled = []
    for n, leaf in enumerate(leaves):
        for index in np.ndindex(np.shape(leaf)):
            cotangents = [jnp.zeros_like(each) for each in leaves]
            cotangents[n] = cotangents[n].at[index].set(1)
            back = pull_back(jax.tree.unflatten(tree, cotangents))
            pulled.append(list(back) if rule is None else rule.arguments.floats_of(rule.name, back))
    return pulled


def _rows(trees: list[Any]) -> np.ndarray:
    return np.stack([np.concatenate([leaf.ravel() for leaf in to_numpy(tree)]) for tree in trees])


def _pair(name: str, value: Any, wanted: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple) or len(value) != 2:
        got = f"{len(value)} values" if isinstance(value, tuple) else type(value).__name__
        raise ValueError(f"{name} must return {wanted}, got {got}")
    return value


def _as_vjp(
    name: str, my_jvp: Callable[..., Any], arguments: Arguments, outputs: Any, rng: np.random.Generator
) -> Callable[..., Any]:
    """Return the vjp rule that is the transpose of a jvp rule in its tangents."""
    # Any tangents will do: the derivative of a linear map is the same everywhere.
    drawn = [two_short_normals(np.shape(leaf), rng)[0] for leaf in arguments.floats]
    tree, size = jax.tree.structure(outputs), sum(np.size(leaf) for leaf in arguments.floats)

    def differentiated(*args: Any) -> Any:
        floats = split(args).floats
        tangents = [cast(v, leaf) for v, leaf in zip(drawn, floats, strict=True)]
        push = without_rules(lambda *v: my_jvp(args, _all_tangents(arguments, v))[1])
        pull_back, outputs = jax.vjp(push, *tangents)[1], my_jvp(args, _all_tangents(arguments, tangents))[0]
        return outputs, lambda c: arguments.restore(pull_back(c), lambda leaf: None)

    def one_by_one(*args: Any) -> Any:
        floats = split(args).floats

        def pull_back(cotangents: Any) -> Any:
            pulled: list[Any] = []
            for i, leaf in enumerate(floats):
                along = [
                    inner_product(cotangents, my_jvp(args, _all_tangents(arguments, _basis(floats, i, index)))[1])
                    for index in np.ndindex(np.shape(leaf))
                ]
                pulled.append(jnp.stack(along).reshape(np.shape(leaf)).astype(leaf.dtype))
            return arguments.restore(pulled, lambda leaf: None)

        return my_jvp(args, _all_tangents(arguments, [jnp.zeros_like(leaf) for leaf in floats]))[0], pull_back

    try:
        out, pull_back = differentiated(*arguments.restore(arguments.floats))
        pull_back(jax.tree.unflatten(tree, [jnp.ones_like(y) for y in jax.tree.leaves(out)]))
    except Exception as error:  # JAX raises many kinds for functions that it cannot trace or differentiate
        if size <= _decision.FEW:
            return one_by_one
        raise ValueError(
            f"{name} must be traceable and differentiable in its tangents for args of more than {_decision.FEW} "
            f"elements, got {size} elements and {first_line(error)[:160]}"
        ) from error
    return differentiated


def _pushed_forward(my_jvp: Callable[..., Any], arguments: Arguments, n: int) -> Callable[[Sequence[Any]], list[Any]]:
    def pushed(leaves: Sequence[Any]) -> list[Any]:
        floats, tangents = leaves[:n], leaves[n:]
        tangents = [cast(v, leaf) for v, leaf in zip(tangents, floats, strict=True)]
        return jax.tree.leaves(my_jvp(arguments.restore(floats), _all_tangents(arguments, tangents))[1])

    return pushed


def _two_tangents(arguments: Arguments, rng: np.random.Generator) -> list[Named]:
    """Return the floating arguments twice, each time followed by tangents like them."""
    floats = arguments.floats
    names = [*arguments.float_names, *(f"tangent of {name}" for name in arguments.float_names)]
    drawn = [two_short_normals(np.shape(leaf), rng) for leaf in floats]
    return [Named([*floats, *(cast(v[k], x) for v, x in zip(drawn, floats, strict=True))], names) for k in range(2)]


def _all_tangents(arguments: Arguments, floats: Sequence[Any]) -> Any:
    """Return tangents like the arguments, with float0 zeros for those that are not floating."""
    return arguments.restore(floats, lambda leaf: None if leaf is None else np.zeros(np.shape(leaf), jax.dtypes.float0))


def _basis(floats: list[Any], i: int, index: tuple[int, ...]) -> list[Any]:
    tangents = [jnp.zeros_like(leaf) for leaf in floats]
    tangents[i] = tangents[i].at[index].set(1)
    return tangents
