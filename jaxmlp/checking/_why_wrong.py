"""Why is a gradient wrong? Hypotheses, the simplest first, each tested against every element of the gradient.

Let g be the gradient, d the error of the gradient given, and e_h the error that a hypothesis h predicts. Then h
explains the fault if d = s e_h for one number s, up to what rounding allows each element; s = 1 for the fault itself.
The errors of faults inside the function come from switching them on in it (`_switches`).
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _switches
from jaxmlp.checking._decision import Leaves, evaluated
from jaxmlp.checking._fault import ROOM, Fault, Wrong, as_factor, as_share, coefficients, enumerated, follow
from jaxmlp.checking._functions import moved_numbers, to_numpy
from jaxmlp.checking._why_wrong_inside import other_data, switched_faults
from jaxmlp.checking.report import Explanation


def explain(wrong: Wrong) -> tuple[Explanation, ...]:
    """Return the simplest explanation that fits, or one of kind "none"."""
    judged = wrong.judged
    if not all(np.isfinite(leaf).all() for leaf in judged.given):
        return (Explanation("precision", "it is not finite: an overflow, or a division by 0", _wrong_names(wrong)),)
    if not wrong.located:
        return (Explanation("none", "differences alone only show where it is wrong", _wrong_names(wrong)),)
    leaves = [i for i, mask in enumerate(judged.wrong) if mask.any()]
    fault = Fault(
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
        for hypothesis in (switched_faults, other_data):
            found = hypothesis(wrong, fault)
            if found is not None:
                return (found,)
    return (_noise(fault) or Explanation("none", "none of the known faults explains it", fault.names),)


def _wrong_names(wrong: Wrong) -> tuple[str, ...]:
    return tuple(name for name, mask in zip(wrong.names, wrong.judged.wrong, strict=True) if mask.any())


def _proportional(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test d = (c - 1) g: one factor for all wrong leaves, or one for each."""
    common = coefficients(fault.d, [fault.g], fault.leaves, fault.room)
    if common is not None:
        return _factor(wrong, fault, 1 + float(common[0]), fault.names)
    found = []
    for i in fault.leaves:
        own = coefficients(fault.d, [fault.g], [i], fault.room)
        if own is None or fault.g[i].size < 2:
            return None
        found.append(_factor(wrong, fault, 1 + float(own[0]), (wrong.names[i],)))
    return Explanation(found[0].kind, "; ".join(part.text for part in found), fault.names)


def _factor(wrong: Wrong, fault: Fault, c: float, names: tuple[str, ...]) -> Explanation:
    listed = enumerated(names) if len(names) < len(wrong.names) else "the whole gradient"
    if all(not wrong.judged.given[wrong.names.index(name)].any() for name in names):
        return Explanation("zero", f"{listed} is zero: detached, or never filled in", names)
    if abs(c + 1) < 1e-6:
        return Explanation("sign", f"{listed} has its sign flipped", names)
    sign = ", its sign flipped" if c < 0 else ""
    return Explanation(
        "factor", f"{listed} is {as_factor(c)} times what it should be{sign}{_origin(wrong, abs(c))}", names
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


def _one_element(wrong: Wrong, fault: Fault) -> Explanation | None:
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
    ratio = f", {as_factor(given / expected)} times what it should be" if expected else ""
    return Explanation("factor", f"one element alone is wrong: {at}{ratio}", fault.names)


def _parameters(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test d = s w: weight decay."""
    s = coefficients(fault.d, [to_numpy(wrong.params)], fault.leaves, fault.room)
    if s is None or sum(fault.d[i].size for i in fault.leaves) < 2:
        return None
    lacks = s[0] < 0
    text = f"{enumerated(fault.names)} {'lacks' if lacks else 'has'} {as_factor(abs(float(s[0])))} times the parameters"
    return Explanation(
        "dropped_term" if lacks else "extra_term", f"{text}{'' if lacks else ' too much'} (weight decay?)", fault.names
    )


def _places(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test d = s (P g - g): the same numbers at other places, such as transposed, reversed, rolled or swapped."""
    found = []
    for i in fault.leaves:
        for kind, text, other in _rearranged(fault.g[i], fault.d[i]):
            error: Leaves = [np.zeros_like(leaf) for leaf in fault.g]
            error[i] = other - fault.g[i]
            s = coefficients(fault.d, [error], [i], fault.room)
            if s is not None:
                found.append(Explanation(kind, f"{wrong.names[i]} {text}{as_share(float(s[0]))}", (wrong.names[i],)))
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


def _swapped_leaves(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test whether wrong leaves hold each other's gradients."""
    pairs = []
    for i in fault.leaves:
        for j in range(len(fault.g)):
            if i == j or fault.g[i].shape != fault.g[j].shape:
                continue
            error = [np.zeros_like(leaf) for leaf in fault.g]
            error[i] = fault.g[j] - fault.g[i]
            s = coefficients(fault.d, [error], [i], fault.room)
            if s is not None:
                pairs.append(f"{wrong.names[i]} holds the gradient of {wrong.names[j]}{as_share(float(s[0]))}")
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
            return Explanation(
                "stale",
                f"{enumerated(fault.names)}: {share} does not follow the parameters, so it belongs to another point",
                fault.names,
            )
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
