"""Why is a gradient wrong? Hypotheses, the simplest first, each tested against every element of the gradient.

Let g be the gradient, d the error of the gradient given, and e_h the error that a hypothesis h predicts. Then h
explains the fault if d = s e_h for one number s, up to what rounding allows each element; s = 1 for the fault itself.
The errors of faults inside the function come from switches in it (`_switches`): a missing derivative, a
transposed or dropped term, cotangents summed over a wrong axis, examples that are missing or in another order.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _switches
from jaxmlp.checking._boundary import element, first_index
from jaxmlp.checking._decision import Leaves, evaluated
from jaxmlp.checking._fault import ROOM, Fault, Wrong, as_factor, as_share, coefficients, enumerated, follow, joined
from jaxmlp.checking._functions import moved_numbers, to_numpy
from jaxmlp.checking.report import Explanation

_WHOLE = "not summed"


def explain(wrong: Wrong) -> tuple[Explanation, ...]:
    """Return the simplest explanation that fits, or one of kind "none"."""
    judged = wrong.judged
    names = judged.wrong_names(wrong.names)
    if not all(np.isfinite(leaf).all() for leaf in judged.given):
        return (Explanation("precision", "it is not finite: an overflow, or a division by 0", names),)
    if not wrong.located:
        return (Explanation("none", "differences alone only show where it is wrong", names),)
    leaves = [i for i, mask in enumerate(judged.wrong) if mask.any()]
    fault = Fault(
        [g - e for g, e in zip(judged.given, judged.expected, strict=True)],
        judged.expected,
        [ROOM * np.where(np.isfinite(a), a, 0.0) for a in judged.allowed],
        leaves,
        names,
    )
    hypotheses = [_proportional, _one_element, _parameters, _places, _swapped_leaves, _constant, _step]
    if wrong.functions.f.traceable and wrong.gradient is not None:
        hypotheses += [_switched_faults, _other_data]
    for hypothesis in hypotheses:
        found = hypothesis(wrong, fault)
        if found is not None:
            return (found,)
    return (_noise(fault) or Explanation("none", "none of the known faults explains it", fault.names),)


def _proportional(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test d = (c - 1) g: one factor for all wrong leaves, or one for each."""
    common = fault.share(fault.g)
    if common is not None:
        return _factor(wrong, 1 + common, fault.names)
    found = []
    for i in fault.leaves:
        own = fault.share(fault.g, [i])
        if own is None or fault.g[i].size < 2:
            return None
        found.append(_factor(wrong, 1 + own, (wrong.names[i],)))
    return joined(found, fault.names)


def _factor(wrong: Wrong, c: float, names: tuple[str, ...]) -> Explanation:
    listed = enumerated(names) if len(names) < len(wrong.names) else "the whole gradient"
    if all(not wrong.judged.given[wrong.names.index(name)].any() for name in names):
        return Explanation("zero", f"{listed} is zero: detached, or never filled in", names)
    if abs(c + 1) < 1e-6:
        return Explanation("sign", f"{listed} has its sign flipped", names)
    text = f"{listed} is {as_factor(c)} times what it should be"
    return Explanation("factor", f"{text}{', its sign flipped' if c < 0 else ''}{_origin(wrong, abs(c))}", names)


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


def _one_element(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test whether a single element is wrong."""
    masks = wrong.judged.wrong
    if sum(int(mask.sum()) for mask in masks) != 1:
        return None
    i = fault.leaves[0]
    index = first_index(masks[i])
    given, expected = wrong.judged.given[i][index], wrong.judged.expected[i][index]
    if given == 0:
        kind, what = "zero", " is zero"
    elif expected and abs(given / expected + 1) < 1e-6:
        kind, what = "sign", " has its sign flipped"
    else:
        kind, what = "factor", f", {as_factor(given / expected)} times what it should be" if expected else ""
    return Explanation(kind, f"only one element is wrong: {element(wrong.names[i], index)}{what}", fault.names)


def _parameters(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test d = s w: weight decay."""
    s = fault.share(to_numpy(wrong.params))
    if s is None or sum(fault.d[i].size for i in fault.leaves) < 2:
        return None
    kind, verb = ("dropped_term", "lacks") if s < 0 else ("extra_term", "has an extra")
    text = f"{enumerated(fault.names)} {verb} {as_factor(abs(s))} times the parameters (weight decay?)"
    return Explanation(kind, text, fault.names)


def _places(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test d = s (P g - g): the same numbers at other places, such as transposed, reversed, rolled or swapped."""
    found = []
    for i in fault.leaves:
        for kind, text, other in _rearranged(fault.g[i], fault.d[i]):
            s = fault.share_of_leaf(i, other)
            if s is not None:
                found.append(Explanation(kind, f"{wrong.names[i]} {text}{as_share(s)}"))
                break
        else:
            given, g = np.sort(wrong.judged.given[i].ravel()), np.sort(fault.g[i].ravel())
            if g.size < 2 or not (np.abs(given - g) <= fault.room[i].max()).all():
                return None
            found.append(Explanation("permuted", f"{wrong.names[i]} has the right numbers in wrong places"))
    return joined(found, fault.names)


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


def _swapped_leaves(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test whether wrong leaves hold each other's gradients."""
    pairs = []
    for i in fault.leaves:
        for j in range(len(fault.g)):
            if i == j or fault.g[i].shape != fault.g[j].shape:
                continue
            s = fault.share_of_leaf(i, fault.g[j])
            if s is not None:
                pairs.append(f"{wrong.names[i]} holds the gradient of {wrong.names[j]}{as_share(s)}")
                break
        else:
            return None
    return Explanation("permuted", "; ".join(pairs), fault.names)


def _constant(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test whether a share s of the gradient ignores the parameters: then d changes -s times as much as g."""
    for _, judged in wrong.elsewhere[:1]:
        changes = [e - g for e, g in zip(judged.expected, fault.g, strict=True)]
        moves = [(a - b) - d for a, b, d in zip(judged.given, judged.expected, fault.d, strict=True)]
        room = [r + ROOM * np.where(np.isfinite(a), a, 0.0) for r, a in zip(fault.room, judged.allowed, strict=True)]
        s = coefficients(moves, [changes], fault.leaves, room)
        if s is not None and s[0] < -1e-9:
            share = f"{-float(s[0]):.3g} of it" if s[0] > -0.999999 else "it"
            text = f"{share} does not change with the parameters: it belongs to another point"
            return Explanation("stale", f"{enumerated(fault.names)}: {text}", fault.names)
    return None


def _step(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test for the gradient at w + tau g, before or after a step."""
    truth = wrong.gradient
    if truth is None:
        return None
    direction = jax.tree.unflatten(jax.tree.structure(wrong.params), [jnp.asarray(leaf) for leaf in fault.g])
    fit = follow(lambda tau: evaluated(truth, moved_numbers(wrong.params, direction, tau)), fault)
    if fit is None:
        return None
    tau, share = fit
    point = f"w {'+' if tau > 0 else '-'} {as_factor(abs(tau))} grad"
    text = f"it is the gradient at another point, {point}{as_share(share)}: before or after a step?"
    return Explanation("stale", text, fault.names)


def _noise(fault: Fault) -> Explanation | None:
    """Return the explanation "noise" if d has no structure: of one size everywhere, or in proportion to g."""
    d, g = (np.concatenate([leaves[i].ravel() for i in fault.leaves]) for leaves in (fault.d, fault.g))
    others = [other for other in (g, np.sign(g), np.abs(g)) if other.std()]
    if d.size >= 12 and d.std() and any(abs(np.corrcoef(d, other)[0, 1]) > 4 / math.sqrt(d.size) for other in others):
        return None
    matrices = [fault.d[i] for i in fault.leaves if fault.d[i].ndim == 2 and min(fault.d[i].shape) > 3]
    if any(np.linalg.svd(m, compute_uv=False)[0] ** 2 > 0.7 * np.sum(m**2) for m in matrices):
        return None
    for label, ratios in (
        ("of the same size everywhere", [fault.d[i] / np.sqrt(np.mean(fault.d[i] ** 2)) for i in fault.leaves]),
        (
            "in proportion to each element",
            [fault.d[i][fault.g[i] != 0] / fault.g[i][fault.g[i] != 0] for i in fault.leaves],
        ),
    ):
        r = np.concatenate([ratio.ravel() for ratio in ratios])
        deviation = float(r.std())
        if r.size < 12 or not deviation or abs(float(r.mean())) > 4 * deviation / math.sqrt(r.size):
            continue
        if not 1.4 < float(np.mean(((r - r.mean()) / deviation) ** 4)) < 5:
            continue
        size = math.sqrt(float(d @ d) / max(float(g @ g), 1e-300))
        text = f"noise {label}, {size:.1e} of the gradient: the error has no structure"
        return Explanation("noise", text, fault.names)
    return None


def _switched_faults(wrong: Wrong, fault: Fault) -> Explanation | None:
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
        s = fault.share(error)
        others = [i for i in range(len(error)) if i not in fault.leaves and error[i].size]
        if s is not None and not any(np.abs(error[i] * s).max() > fault.room[i].max() for i in others):
            return _switch_explanation(switched.switches[k], s, wrong, fault)
    old = jnp.array([float(switch.kind == "stale") for switch in switched.switches])
    fit = follow(lambda tau: evaluated(at, tau * old), fault) if old.any() else None
    if fit is not None:
        text = f"the backward pass uses weights of another point, moved by {as_factor(fit[0])} times their gradient"
        return Explanation("stale", f"{text}{as_share(fit[1])}", fault.names)
    return _odd_examples(fault, [evaluated(lambda who: effect(none, who), who) for who in jnp.eye(switched.n_examples)])


def _switch_explanation(switch: _switches.Switch, s: float, wrong: Wrong, fault: Fault) -> Explanation:
    kind, where = switch.kind, switch.where
    if kind == "missing_derivative":
        text = f"the derivative of {where} is missing{as_share(s)}"
    elif kind == "derivative_at_output":
        text = f"the derivative of {where} is taken at its output in place of its input{as_share(s)}"
    elif kind == "transposed":
        text = f"in the backward pass of {where}{as_share(s)}"
    elif kind == "stale":
        head, leaf = where.rsplit(": leaf ", 1)
        moved = f"moved by {as_factor(s)} times its gradient"
        text = f"the backward pass of {head} uses {wrong.names[int(leaf)]} at another point: {moved}"
    else:
        kind, what = "dropped_term", f"is {as_factor(1 + s)} times what it should be"
        if abs(s + 1) < 1e-6 or abs(s + 2) < 1e-6:
            what = "is missing" if round(s) == -1 else "has its sign flipped"
        text = f"a term {what}: the cotangent through {where}"
    return Explanation(kind, text, fault.names)


def _own_axes(wrong: Wrong, fault: Fault, probes: list[_switches.Probe], cotangents: Leaves) -> Explanation | None:
    """Test leaves that sum a cotangent over a wrong axis, or before a derivative was applied."""

    def matches(i: int) -> Iterator[Explanation]:
        for probe, cotangent in zip(probes, cotangents, strict=True):
            if probe.kind == "wrong_axis" and probe.leaf != i:
                continue
            for text, sums in _sums(cotangent, fault.g[i].shape):
                if text == _WHOLE and probe.kind != "wrong_axis":
                    continue  # a switch describes that better
                s = fault.share_of_leaf(i, sums) if fault.g[i].size >= 3 else None
                if s is not None:
                    yield _probe_explanation(probe, text, s, wrong.names[i])

    found = [next(matches(i), None) for i in fault.leaves]
    known = [match for match in found if match is not None]
    return joined(known, fault.names) if len(known) == len(found) else None


def _probe_explanation(probe: _switches.Probe, text: str, s: float, name: str) -> Explanation:
    if text == _WHOLE:
        kind, what = "dropped_term", f"has only the part through {probe.where} and lacks all others"
    elif probe.kind == "wrong_axis":
        kind, what = probe.kind, f"is summed over the wrong axis of {probe.where} ({text})"
    else:
        kind, what = probe.kind, f"lacks the derivative of {probe.where} ({text})"
    return Explanation(kind, f"{name} {what}{as_share(s)}")


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


def _odd_examples(fault: Fault, gradients: list[Leaves | None]) -> Explanation | None:
    """Test d = sum_b s_b g_b: an example is missing, counted twice, or in place of another."""
    kept = [g for g in gradients if g is not None]
    if len(kept) < 2 or len(kept) != len(gradients) or sum(fault.d[i].size for i in fault.leaves) < 2 * len(kept):
        return None
    s = coefficients(fault.d, kept, fault.leaves, fault.room)
    if s is None:
        return None
    odd = [b for b in range(len(s)) if abs(s[b]) > 1e-4 * np.abs(s).max()]
    if len(odd) > max(2, len(s) // 2):
        return None

    def weight(s: float) -> str:
        known = {-1: "missing", 1: "counted twice"}
        return known[round(s)] if abs(abs(s) - 1) < 1e-6 else f"weighted {as_factor(1 + s)} times"

    parts = [f"example {b} is {weight(float(s[b]))}" for b in odd[:5]]
    return Explanation("other_example", ", ".join(parts), fault.names)


def _other_data(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test for the gradient with an array of the function's data moved by one example."""
    for name, f in _switches.with_other_data(wrong.functions.f.plain, wrong.params):
        there = evaluated(jax.jit(jax.grad(f)), wrong.params)
        if there is None:
            continue
        s = fault.share([a - b for a, b in zip(there, fault.g, strict=True)])
        if s is not None:
            text = f"it belongs to other examples: {name}, moved by one{as_share(s)}"
            return Explanation("other_example", text, fault.names)
    return None
