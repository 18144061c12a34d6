"""Faults inside the function, found by switching them on: a missing derivative, a transposed or dropped term.

So are cotangents summed over a wrong axis, and examples that are missing or in another order.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _switches
from jaxmlp.checking._decision import Leaves, evaluated
from jaxmlp.checking._fault import Fault, Wrong, as_factor, as_share, coefficients, follow
from jaxmlp.checking._functions import to_numpy
from jaxmlp.checking.report import Explanation

_WHOLE = "not summed"


def switched_faults(wrong: Wrong, fault: Fault) -> Explanation | None:
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
        s = coefficients(fault.d, [error], fault.leaves, fault.room)
        if s is None or any(
            np.abs(error[i] * s[0]).max() > fault.room[i].max()
            for i in range(len(error))
            if i not in fault.leaves and error[i].size
        ):
            continue
        return _switch_explanation(switched.switches[k], float(s[0]), wrong, fault)
    old = jnp.array([float(switch.kind == "stale") for switch in switched.switches])
    fit = follow(lambda tau: evaluated(at, tau * old), fault) if old.any() else None
    if fit is not None:
        text = f"the backward pass uses weights of another point, moved by {as_factor(fit[0])} times their gradient"
        return Explanation("stale", f"{text}{as_share(fit[1])}", fault.names)
    return _odd_examples(fault, [evaluated(lambda who: effect(none, who), who) for who in jnp.eye(switched.n_examples)])


def _switch_explanation(switch: _switches.Switch, s: float, wrong: Wrong, fault: Fault) -> Explanation:
    where = switch.where
    if switch.kind == "missing_derivative":
        return Explanation(switch.kind, f"the derivative of {where} is missing{as_share(s)}", fault.names)
    if switch.kind == "derivative_at_output":
        return Explanation(
            switch.kind,
            f"the derivative of {where} is taken at its output in place of its input{as_share(s)}",
            fault.names,
        )
    if switch.kind == "transposed":
        return Explanation(switch.kind, f"in the backward pass of {where}{as_share(s)}", fault.names)
    if switch.kind == "stale":
        *head, leaf = where.rsplit("leaf ", 1)
        text = (
            f"the backward pass of {head[0].rstrip(': ')} uses {wrong.names[int(leaf)]} at another point: "
            f"moved by {as_factor(s)} times its gradient"
        )
        return Explanation("stale", text, fault.names)
    if abs(s + 1) < 1e-6:
        text = f"a term is missing: what goes back through {where}"
    elif abs(s + 2) < 1e-6:
        text = f"a term has its sign flipped: what goes back through {where}"
    else:
        text = f"a term is {as_factor(1 + s)} times what it should be: what goes back through {where}"
    return Explanation("dropped_term", text, fault.names)


def _own_axes(wrong: Wrong, fault: Fault, probes: list[_switches.Probe], cotangents: Leaves) -> Explanation | None:
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
                whole = coefficients(fault.d, [error], [i], fault.room)
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
    return Explanation(kind, f"{name} {what}{as_share(s)}", (name,))


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
    parts = [
        f"example {b} is "
        + (
            "missing"
            if abs(s[b] + 1) < 1e-6
            else "counted twice"
            if abs(s[b] - 1) < 1e-6
            else f"weighted {as_factor(1 + s[b])} times"
        )
        for b in odd[:5]
    ]
    return Explanation("other_example", ", ".join(parts), fault.names)


def other_data(wrong: Wrong, fault: Fault) -> Explanation | None:
    """Test for the gradient with an array of the function's data moved by one example."""
    for name, f in _switches.with_other_data(wrong.functions.f.plain, wrong.params):
        there = evaluated(jax.jit(jax.grad(f)), wrong.params)
        if there is None:
            continue
        error = [a - b for a, b in zip(there, fault.g, strict=True)]
        s = coefficients(fault.d, [error], fault.leaves, fault.room)
        if s is not None:
            return Explanation(
                "other_example",
                f"it is that of other examples: {name}, moved by one{as_share(float(s[0]))}",
                fault.names,
            )
    return None
