"""Why is a gradient wrong? Hypotheses, the simplest first, each tested against every element of the gradient.

Let g be the gradient, d the error of the gradient given, and e_h the error that a hypothesis h predicts. Then h
explains the fault if d = s e_h for one number s, up to what rounding allows each element; s = 1 for the fault itself.
The errors of faults inside the function come from switching them on in it (`_switches`).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _switches
from jaxmlp.checking._decision import Functions, Judged, Leaves, evaluated
from jaxmlp.checking._functions import moved_numbers, to_numpy
from jaxmlp.checking._program import source as source_of
from jaxmlp.checking._program import trace
from jaxmlp.checking.report import Explanation

_WHOLE = "not summed"
# The coefficient s is measured too, and its error adds to what rounding allows.
ROOM = 4


class Wrong(NamedTuple):
    """A wrong gradient at a point, and everything known about it.

    `elsewhere` has (params, Judged) of other points; `located` says whether `judged.expected` is known everywhere.
    """

    functions: Functions
    gradient: Callable[[Any], Any] | None  # the true gradient, if it is known
    params: Any
    judged: Judged
    names: list[str]
    elsewhere: list[tuple[Any, Judged]]
    located: bool


class _Fault(NamedTuple):
    """A wrong gradient: its error d, the true gradient g, the room for rounding, and the leaves that are wrong."""

    d: Leaves
    g: Leaves
    room: Leaves
    leaves: list[int]
    names: tuple[str, ...]


def explain(wrong: Wrong) -> tuple[Explanation, ...]:
    """Return the simplest explanation that fits, or one of kind "none"."""
    judged = wrong.judged
    if not all(np.isfinite(leaf).all() for leaf in judged.given):
        return (Explanation("precision", "it is not finite: an overflow, or a division by 0", _wrong_names(wrong)),)
    if not wrong.located:
        return (Explanation("none", "differences alone only show where it is wrong", _wrong_names(wrong)),)
    leaves = [i for i, mask in enumerate(judged.wrong) if mask.any()]
    fault = _Fault(
        [g - e for g, e in zip(judged.given, judged.expected, strict=True)],
        judged.expected,
        [ROOM * np.where(np.isfinite(a), a, 0.0) for a in judged.allowed],
        leaves,
        _wrong_names(wrong),
    )
    for hypothesis in (_proportional, _one_element, _parameters, _places, _swapped_leaves, _constant, _step):
        found = hypothesis(wrong, fault)
        if found is not None:
            return (found,)
    if wrong.functions.f.traceable and wrong.gradient is not None:
        for hypothesis in (_switched_faults, _other_data):
            found = hypothesis(wrong, fault)
            if found is not None:
                return (found,)
    return (_noise(fault) or Explanation("none", "none of the known faults explains it", fault.names),)


def _wrong_names(wrong: Wrong) -> tuple[str, ...]:
    return tuple(name for name, mask in zip(wrong.names, wrong.judged.wrong, strict=True) if mask.any())


def _coefficients(d: Leaves, errors: list[Leaves], leaves: list[int], room: Leaves) -> np.ndarray | None:
    """Return s with d = sum_h s_h e_h on the leaves, up to the room of each element, or None."""
    if not all(d[i].any() for i in leaves):
        return None
    weights = [1 / float(np.linalg.norm(d[i])) for i in leaves]
    columns = np.stack(
        [np.concatenate([w * error[i].ravel() for i, w in zip(leaves, weights, strict=True)]) for error in errors],
        axis=1,
    )
    target = np.concatenate([w * d[i].ravel() for i, w in zip(leaves, weights, strict=True)])
    size = np.linalg.norm(columns, axis=0)
    if not np.isfinite(columns).all() or (size == 0).any():
        return None
    s = np.linalg.lstsq(columns / size, target, rcond=None)[0] / size
    for i in leaves:
        left = d[i] - sum(s_h * error[i] for s_h, error in zip(s, errors, strict=True))
        if not (np.abs(left) <= room[i] + 1e-9 * np.abs(d[i])).all():
            return None
    return s


def _proportional(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test d = (c - 1) g: one factor for all wrong leaves, or one for each."""
    common = _coefficients(fault.d, [fault.g], fault.leaves, fault.room)
    if common is not None:
        return _factor(wrong, fault, 1 + float(common[0]), fault.names)
    found = []
    for i in fault.leaves:
        own = _coefficients(fault.d, [fault.g], [i], fault.room)
        if own is None or fault.g[i].size < 2:
            return None
        found.append(_factor(wrong, fault, 1 + float(own[0]), (wrong.names[i],)))
    return Explanation(found[0].kind, "; ".join(part.text for part in found), fault.names)


def _factor(wrong: Wrong, fault: _Fault, c: float, names: tuple[str, ...]) -> Explanation:
    listed = _listed(names) if len(names) < len(wrong.names) else "the whole gradient"
    if all(not wrong.judged.given[wrong.names.index(name)].any() for name in names):
        return Explanation("zero", f"{listed} is zero: detached, or never filled in", names)
    if abs(c + 1) < 1e-6:
        return Explanation("sign", f"{listed} has its sign flipped", names)
    sign = ", its sign flipped" if c < 0 else ""
    return Explanation(
        "factor", f"{listed} is {_number(c)} times what it should be{sign}{_origin(wrong, abs(c))}", names
    )


def _origin(wrong: Wrong, c: float) -> str:
    """Return where a factor may come from: the length of an axis, a 2, or a learning rate."""
    lengths = _switches.lengths(wrong.functions.f.plain, wrong.params) if wrong.functions.f.traceable else {}
    for length, where in sorted(lengths.items()):
        if length > 2 and abs(c * length - 1) < 1e-6:
            return f": 1/{length}, and {length} is {where} (a mean in place of a sum, or divided twice?)"
        if length > 2 and abs(c / length - 1) < 1e-6:
            return f": {length} is {where} (a sum in place of a mean?)"
    if abs(c - 2) < 1e-6 or abs(c - 0.5) < 1e-6:
        return " (the 2 of a square, or a 1/2 left over or left out?)"
    power = math.log10(c)
    if c < 0.5 and abs(power - round(power)) < 1e-6:
        return " (a learning rate multiplied in?)"
    return ""


def _one_element(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test whether a single element is wrong."""
    masks = wrong.judged.wrong
    if sum(int(mask.sum()) for mask in masks) != 1:
        return None
    i = fault.leaves[0]
    index = tuple(int(j) for j in np.argwhere(masks[i])[0])
    given, expected = wrong.judged.given[i][index], wrong.judged.expected[i][index]
    at = f"{wrong.names[i]}{list(index)}"
    if given == 0:
        return Explanation("zero", f"one element alone is wrong: {at} is zero", fault.names)
    if expected and abs(given / expected + 1) < 1e-6:
        return Explanation("sign", f"one element alone is wrong: {at} has its sign flipped", fault.names)
    ratio = f", {_number(given / expected)} times what it should be" if expected else ""
    return Explanation("factor", f"one element alone is wrong: {at}{ratio}", fault.names)


def _parameters(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test d = s w: weight decay."""
    s = _coefficients(fault.d, [to_numpy(wrong.params)], fault.leaves, fault.room)
    if s is None or sum(fault.d[i].size for i in fault.leaves) < 2:
        return None
    lacks = s[0] < 0
    text = f"{_listed(fault.names)} {'lacks' if lacks else 'has'} {_number(abs(float(s[0])))} times the parameters"
    return Explanation(
        "dropped_term" if lacks else "extra_term", f"{text}{'' if lacks else ' too much'} (weight decay?)", fault.names
    )


def _places(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test d = s (P g - g): the same numbers at other places, such as transposed, reversed, rolled or swapped."""
    found = []
    for i in fault.leaves:
        for kind, text, other in _rearranged(fault.g[i], fault.d[i]):
            error: Leaves = [np.zeros_like(leaf) for leaf in fault.g]
            error[i] = other - fault.g[i]
            s = _coefficients(fault.d, [error], [i], fault.room)
            if s is not None:
                found.append(Explanation(kind, f"{wrong.names[i]} {text}{_share(float(s[0]))}", (wrong.names[i],)))
                break
        else:
            given, g = np.sort(wrong.judged.given[i].ravel()), np.sort(fault.g[i].ravel())
            if g.size < 2 or not (np.abs(given - g) <= fault.room[i].max()).all():
                return None
            found.append(
                Explanation("permuted", f"{wrong.names[i]} has the right numbers at other places", (wrong.names[i],))
            )
    return Explanation(found[0].kind, "; ".join(part.text for part in found), fault.names)


def _rearranged(g: np.ndarray, d: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    if g.ndim >= 2:
        if g.shape[-1] == g.shape[-2]:
            yield "transposed", "is transposed", np.swapaxes(g, -1, -2)
        else:
            yield "transposed", "is transposed and reshaped", np.swapaxes(g, -1, -2).reshape(g.shape)
    for axis in range(g.ndim):
        yield "permuted", f"is reversed along axis {axis}", np.flip(g, axis)
        for step in (1, -1, 2, -2):
            yield "permuted", f"is moved by {step} along axis {axis}", np.roll(g, step, axis)
        parts = np.flatnonzero(
            np.abs(d).max(axis=tuple(a for a in range(g.ndim) if a != axis)) > 1e-6 * np.abs(d).max()
        )
        if len(parts) == 2:
            swapped = g.copy()
            a, b = ([slice(None)] * axis + [int(part)] for part in parts)
            swapped[tuple(a)], swapped[tuple(b)] = g[tuple(b)], g[tuple(a)]
            yield "permuted", f"has parts {parts[0]} and {parts[1]} of axis {axis} swapped", swapped
    for axes in ((-1, -2), (0, 1)):
        if g.ndim >= 2:
            yield "permuted", "is reversed along two axes", np.flip(g, axes)


def _swapped_leaves(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test whether wrong leaves hold each other's gradients."""
    pairs = []
    for i in fault.leaves:
        for j in range(len(fault.g)):
            if i == j or fault.g[i].shape != fault.g[j].shape:
                continue
            error = [np.zeros_like(leaf) for leaf in fault.g]
            error[i] = fault.g[j] - fault.g[i]
            s = _coefficients(fault.d, [error], [i], fault.room)
            if s is not None:
                pairs.append(f"{wrong.names[i]} holds the gradient of {wrong.names[j]}{_share(float(s[0]))}")
                break
        else:
            return None
    return Explanation("permuted", "; ".join(pairs), fault.names)


def _constant(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test whether a share s of the gradient ignores the parameters: then d changes -s times as much as g."""
    for _, judged in wrong.elsewhere[:1]:
        changes = [e - g for e, g in zip(judged.expected, fault.g, strict=True)]
        moves = [(a - b) - d for a, b, d in zip(judged.given, judged.expected, fault.d, strict=True)]
        room = [r + ROOM * np.where(np.isfinite(a), a, 0.0) for r, a in zip(fault.room, judged.allowed, strict=True)]
        s = _coefficients(moves, [changes], fault.leaves, room)
        if s is not None and s[0] < -1e-9:
            share = f"{-float(s[0]):.3g} of it" if s[0] > -0.999999 else "it"
            return Explanation(
                "stale",
                f"{_listed(fault.names)}: {share} does not follow the parameters, so it belongs to another point",
                fault.names,
            )
    return None


def _step(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test for the gradient at w + tau g, before or after a step."""
    truth = wrong.gradient
    if truth is None:
        return None
    direction = jax.tree.unflatten(jax.tree.structure(wrong.params), [jnp.asarray(leaf) for leaf in fault.g])
    fit = _follow(lambda tau: evaluated(truth, moved_numbers(wrong.params, direction, tau)), fault)
    if fit is None:
        return None
    tau, share = fit
    point = f"w {'+' if tau > 0 else '-'} {_number(abs(tau))} grad"
    text = f"it is the gradient at another point, {point}{_share(share)}: before or after a step?"
    return Explanation("stale", text, fault.names)


def _follow(gradient: Callable[[float], Leaves | None], fault: _Fault) -> tuple[float, float] | None:
    """Return (tau, s) with d = s (gradient(tau) - g) to five digits, or None; for faults not linear in their size."""
    sizes = [max(float(np.linalg.norm(fault.d[i])), 1e-300) for i in fault.leaves]

    def flat(leaves: Leaves) -> np.ndarray:
        return np.concatenate([leaves[i].ravel() / size for i, size in zip(fault.leaves, sizes, strict=True)])

    d = flat(fault.d)

    def error(tau: float) -> np.ndarray:
        there = gradient(tau)
        return np.zeros_like(d) if there is None else flat([a - b for a, b in zip(there, fault.g, strict=True)])

    def alignment(tau: float) -> float:
        e = error(tau)
        size = float(np.linalg.norm(e) * np.linalg.norm(d))
        return abs(float(e @ d)) / size if size else 0.0

    start = max((sign * tau for tau in (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0) for sign in (-1, 1)), key=alignment)
    if alignment(start) < 0.98:
        return None
    from scipy.optimize import least_squares  # half a second to import

    e = error(start)
    fit = least_squares(
        lambda u: d - u[1] * error(float(u[0])),
        [start, float(e @ d) / float(e @ e)],
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
        x_scale="jac",
    )
    tau, share = (float(value) for value in fit.x)
    room = flat(fault.room) + 1e-5 * np.abs(d).max()
    return (tau, share) if (np.abs(d - share * error(tau)) <= room).all() else None


def _switched_faults(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test every switch in the function, and every cotangent as the gradient of a leaf."""
    f, params = wrong.functions.f.plain, wrong.params
    # The gradient given is the step that the user takes.
    step = jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(leaf) for leaf in wrong.judged.given])
    try:
        switched = _switches.switched(f, params, step)
        zeros = [jnp.zeros(probe.shape) for probe in switched.probes]
        none, nobody = jnp.zeros(len(switched.switches)), jnp.zeros(max(switched.n_examples, 1))
        cotangents = jax.jit(jax.grad(lambda e: switched.call(params, none, nobody, e)))(zeros)
    except Exception:  # an operation without a second derivative, or without any
        return None
    found = _own_axes(wrong, fault, switched.probes, to_numpy(cotangents))
    if found is not None:
        return found

    @jax.jit
    def effect(which: Any, who: Any) -> Any:
        def gradient(c: Any, shares: Any) -> Any:
            return jax.grad(lambda w: switched.call(w, c, shares, zeros))(params)

        return jax.jvp(gradient, (none, nobody), (which, who))[1]

    at = jax.jit(lambda values: jax.grad(lambda w: switched.call(w, values, nobody, zeros))(params))
    errors = [evaluated(lambda which: effect(which, nobody), which) for which in jnp.eye(len(switched.switches))]
    order = {"missing_derivative": 0, "derivative_at_output": 1, "transposed": 2, "path": 3, "stale": 4}
    for k in sorted(range(len(errors)), key=lambda k: order[switched.switches[k].kind]):
        error = errors[k]
        if error is None or not any(error[i].any() for i in fault.leaves):
            continue
        s = _coefficients(fault.d, [error], fault.leaves, fault.room)
        if s is None or any(
            np.abs(error[i] * s[0]).max() > fault.room[i].max()
            for i in range(len(error))
            if i not in fault.leaves and error[i].size
        ):
            continue
        return _switch_explanation(switched.switches[k], float(s[0]), wrong, fault)
    old = jnp.array([float(switch.kind == "stale") for switch in switched.switches])
    fit = _follow(lambda tau: evaluated(at, tau * old), fault) if old.any() else None
    if fit is not None:
        text = (
            f"the backward pass goes through weights of another point, moved by {_number(fit[0])} times their gradient"
        )
        return Explanation("stale", f"{text}{_share(fit[1])}", fault.names)
    return _odd_examples(fault, [evaluated(lambda who: effect(none, who), who) for who in jnp.eye(switched.n_examples)])


def _switch_explanation(switch: _switches.Switch, s: float, wrong: Wrong, fault: _Fault) -> Explanation:
    where = switch.where
    if switch.kind == "missing_derivative":
        return Explanation(switch.kind, f"the derivative of {where} is missing{_share(s)}", fault.names)
    if switch.kind == "derivative_at_output":
        return Explanation(
            switch.kind,
            f"the derivative of {where} is taken at its output in place of its input{_share(s)}",
            fault.names,
        )
    if switch.kind == "transposed":
        return Explanation(switch.kind, f"in the backward pass of {where}{_share(s)}", fault.names)
    if switch.kind == "stale":
        *head, leaf = where.rsplit("leaf ", 1)
        text = (
            f"the backward pass of {head[0].rstrip(': ')} goes through {wrong.names[int(leaf)]} at another point: "
            f"moved by {_number(s)} times its gradient"
        )
        return Explanation("stale", text, fault.names)
    if abs(s + 1) < 1e-6:
        text = f"a term is missing: what goes back through {where}"
    elif abs(s + 2) < 1e-6:
        text = f"a term has its sign flipped: what goes back through {where}"
    else:
        text = f"a term is {_number(1 + s)} times what it should be: what goes back through {where}"
    return Explanation("dropped_term", text, fault.names)


def _own_axes(wrong: Wrong, fault: _Fault, probes: list[_switches.Probe], cotangents: Leaves) -> Explanation | None:
    """Test leaves that are sums of a cotangent: over a wrong axis, or of one before a derivative was applied."""
    found = []
    for i in fault.leaves:
        match = None
        for probe, cotangent in zip(probes, cotangents, strict=True):
            if probe.kind == "wrong_axis" and probe.leaf != i:
                continue
            for text, sums in _sums(cotangent, fault.g[i].shape):
                if text == _WHOLE and probe.kind != "wrong_axis":
                    continue  # a switch describes that better
                error = [np.zeros_like(leaf) for leaf in fault.g]
                error[i] = sums - fault.g[i]
                if not error[i].any() or fault.g[i].size < 3:
                    continue
                whole = _coefficients(fault.d, [error], [i], fault.room)
                if whole is not None:
                    match = _probe_explanation(probe, text, float(whole[0]), wrong.names[i])
                    break
            if match is not None:
                break
        if match is None:
            return None
        found.append(match)
    return Explanation(found[0].kind, "; ".join(part.text for part in found), fault.names)


def _probe_explanation(probe: _switches.Probe, text: str, s: float, name: str) -> Explanation:
    if text == _WHOLE:
        kind, what = "dropped_term", f"has only the part through {probe.where} and lacks all others"
    elif probe.kind == "wrong_axis":
        kind, what = probe.kind, f"is summed over the wrong axis of {probe.where} ({text})"
    else:
        kind, what = probe.kind, f"is without the derivative of {probe.where} ({text})"
    return Explanation(kind, f"{name} {what}{_share(s)}", (name,))


def _sums(cotangent: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Return the sums of a cotangent over its axes that have the shape of a leaf."""
    for axis in range(cotangent.ndim):
        total = cotangent.sum(axis=axis)
        if total.shape == shape:
            yield f"summed over axis {axis} of {cotangent.shape}", total
        if total.T.shape == shape and total.ndim == 2:
            yield f"summed over axis {axis} of {cotangent.shape}, transposed", total.T
    if cotangent.shape == shape:
        yield _WHOLE, cotangent
    if len(shape) == 1 and cotangent.ndim >= 2:
        yield "summed over all axes", np.full(shape, cotangent.sum())


def _odd_examples(fault: _Fault, gradients: list[Leaves | None]) -> Explanation | None:
    """Test d = sum_b s_b g_b: an example is missing, counted twice, or in place of another."""
    kept = [g for g in gradients if g is not None]
    if len(kept) < 2 or len(kept) != len(gradients) or sum(fault.d[i].size for i in fault.leaves) < 2 * len(kept):
        return None
    s = _coefficients(fault.d, kept, fault.leaves, fault.room)
    if s is None:
        return None
    odd = [b for b in range(len(s)) if abs(s[b]) > 1e-4 * np.abs(s).max()]
    if len(odd) > max(2, len(s) // 2):
        return None
    parts = [
        f"example {b} is "
        + (
            "missing"
            if abs(s[b] + 1) < 1e-6
            else "counted twice"
            if abs(s[b] - 1) < 1e-6
            else f"weighted {_number(1 + s[b])} times"
        )
        for b in odd[:5]
    ]
    return Explanation("other_example", ", ".join(parts), fault.names)


def _other_data(wrong: Wrong, fault: _Fault) -> Explanation | None:
    """Test for the gradient with an array of the function's data moved by one example."""
    for name, f in _switches.with_other_data(wrong.functions.f.plain, wrong.params):
        there = evaluated(jax.jit(jax.grad(f)), wrong.params)
        if there is None:
            continue
        error = [a - b for a, b in zip(there, fault.g, strict=True)]
        s = _coefficients(fault.d, [error], fault.leaves, fault.room)
        if s is not None:
            return Explanation(
                "other_example",
                f"it is that of other examples: {name}, moved by one{_share(float(s[0]))}",
                fault.names,
            )
    return None


def _noise(fault: _Fault) -> Explanation | None:
    """Return the explanation "noise" if d has no structure: of one size everywhere, or in proportion to g."""
    for label, ratios in (
        ("of the same size everywhere", [fault.d[i] / np.sqrt(np.mean(fault.d[i] ** 2)) for i in fault.leaves]),
        (
            "in proportion to each element",
            [fault.d[i][fault.g[i] != 0] / fault.g[i][fault.g[i] != 0] for i in fault.leaves],
        ),
    ):
        r = np.concatenate([ratio.ravel() for ratio in ratios])
        deviation = float(r.std())
        if r.size < 12 or not deviation:
            continue
        if (
            abs(float(r.mean())) > 4 * deviation / math.sqrt(r.size)
            or not 1.4 < float(np.mean(((r - r.mean()) / deviation) ** 4)) < 5
        ):
            continue
        d, g = (np.concatenate([leaves[i].ravel() for i in fault.leaves]) for leaves in (fault.d, fault.g))
        if any(
            abs(np.corrcoef(d, what)[0, 1]) > 4 / math.sqrt(d.size) for what in (g, np.sign(g), np.abs(g)) if what.std()
        ):
            continue
        matrices = [fault.d[i] for i in fault.leaves if fault.d[i].ndim == 2 and min(fault.d[i].shape) > 3]
        if any(np.linalg.svd(m, compute_uv=False)[0] ** 2 > 0.7 * np.sum(m**2) for m in matrices):
            continue
        size = np.sqrt(
            sum(np.sum(fault.d[i] ** 2) for i in fault.leaves)
            / max(sum(np.sum(fault.g[i] ** 2) for i in fault.leaves), 1e-300)
        )
        return Explanation(
            "noise", f"noise {label}, {size:.1e} of the gradient: the error has no structure", fault.names
        )
    return None


def explain_precision(
    gradient: Callable[[Any], Any], params: Any, judged: Judged, names: list[str]
) -> tuple[Explanation, ...]:
    """Return where a right formula loses digits: the operation that cancels most, or the first to overflow."""
    wrong = tuple(name for name, mask in zip(names, judged.wrong, strict=True) if mask.any())
    head = "the formula is right in float64, but imprecise in this dtype"
    losses: list[tuple[float, str]] = []
    broken: list[str] = []

    def visit(eqn: Any, inputs: list[Any], apply: Callable[..., list[Any]], _: Any) -> list[Any]:
        outputs = apply(inputs)
        values = [np.asarray(x).astype(np.float64) for x in inputs if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
        results = [
            np.asarray(y).astype(np.float64) for y in outputs if jnp.issubdtype(jnp.result_type(y), jnp.floating)
        ]
        at = f"{eqn.primitive.name} at {source_of(eqn)}"
        if all(np.isfinite(v).all() for v in values) and not all(np.isfinite(r).all() for r in results):
            broken.append(at)
        if eqn.primitive.name in ("add", "sub", "add_any") and results and values:
            size = np.maximum.reduce(np.broadcast_arrays(*[np.abs(v) for v in values]))
            with np.errstate(divide="ignore", invalid="ignore"):
                losses.append((float(np.nanmax(np.where(size > 0, size / np.abs(results[0]), 0.0))), at))
        if eqn.primitive.name == "mul" and len(values) == 2 and results:
            lost = (results[0] == 0) & (values[0] != 0) & (values[1] != 0)
            if np.any(lost):
                broken.append(f"{at} (it underflows)")
        return outputs

    try:
        trace(gradient, params).run(visit, params)
    except Exception:  # not traceable
        return (Explanation("precision", head, wrong),)
    if broken:
        return (Explanation("precision", f"{head}: {broken[0]} leaves the range of its dtype", wrong),)
    worst = max(losses, default=(0.0, ""))
    if worst[0] > 30:
        by = f"{worst[0]:.0e}-fold" if math.isfinite(worst[0]) else "down to 0"
        return (Explanation("precision", f"{head}: {worst[1]} cancels, {by}", wrong),)
    return (Explanation("precision", head, wrong),)


def _share(s: float) -> str:
    return "" if abs(s - 1) < 1e-6 else f" (a share of {_number(s)})"


def _number(c: float) -> str:
    """Write a factor, or (1 + d) if it is close to 1."""
    return f"(1 {'+' if c > 1 else '-'} {abs(c - 1):.3g})" if 0 < abs(c - 1) < 1e-3 else f"{c:.7g}"


def _listed(names: tuple[str, ...]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more leaves"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
