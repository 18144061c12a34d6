"""The user's function with a switch at every place where a backward pass can be written wrong.

A switch leaves the values of the function alone and changes its gradient. `x + c (x - stop(x))` lets 1 + c times the
derivative through; `y + c stop(psi - phi'(z)) (z - stop(z))` replaces a share c of phi' by psi. The gradient of the
switched function is affine in each c. Its derivative with respect to c is therefore the error that the fault makes, and
is compared with the error that was found.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxmlp.checking import _rounding
from jaxmlp.checking._program import Apply, Program, is_container, shape_of, source, trace

MOST = 600  # switches in one program
DEEPEST = 40  # operations that count as one elementwise function

_STRUCTURAL = _rounding.words(
    "broadcast_in_dim convert_element_type copy cumsum expand_dims gather neg pad reduce_sum reshape rev "
    "slice squeeze stop_gradient transpose reduce_max reduce_min sign"
)
_MOVES = _rounding.words("broadcast_in_dim convert_element_type copy expand_dims reshape squeeze transpose")
_LINEAR = _rounding.words("add add_any sub neg convert_element_type copy mul div select_n")
_BY_ELEMENT = _rounding.BY_ELEMENT | _rounding.words("max min abs select_n neg clamp copy")


class Switch(NamedTuple):
    """One switch: the kind of fault that it makes, and where it sits."""

    kind: str
    where: str


class Probe(NamedTuple):
    """A place whose cotangent (dL / d value) is needed, and the leaf that was broadcast there, if any."""

    kind: str
    where: str
    shape: tuple[int, ...]
    leaf: int | None


class Switched(NamedTuple):
    """A function of (params, amounts [K], shares [B], list of zeros), with its K switches, its probes, and B."""

    call: Callable[..., Any]
    switches: list[Switch]
    probes: list[Probe]
    n_examples: int


def switched(f: Callable[[Any], Any], params: Any, gradient: Any) -> Switched:
    """Put switches into a function of float64 parameters; `gradient` is the step by which a stale value may be off."""
    program = trace(f, params)
    plan = _Plan({}, [], {}, [], [])
    jax.eval_shape(lambda w: program.run(*_visit(plan, w, gradient, None, None, None)), params)
    n_examples = plan.examples[-1][1] if plan.examples else 0

    def call(w: Any, amounts: Any, shares: Any, zeros: list[Any]) -> Any:
        return program.run(*_visit(plan, w, gradient, amounts, shares, zeros))

    return Switched(call, plan.switches, plan.probes, n_examples)


def with_other_data(f: Callable[[Any], Any], params: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    """Return, for each array of examples in the function's closure, its name and the function with it moved by one."""
    program = trace(f, params)
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for i, array in enumerate(program.closed.consts):
        if np.ndim(array) < 1 or np.shape(array)[0] < 2 or not hasattr(array, "dtype"):
            continue
        if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
            continue
        for step in (1, -1):
            consts = list(program.closed.consts)
            consts[i] = jnp.roll(jnp.asarray(array), step, axis=0)
            moved = Program(ClosedJaxpr(program.closed.jaxpr, consts), program.tree)
            name = f"the array of shape {np.shape(array)} in the function's closure"
            found.append((name, partial(moved.run, lambda _e, inputs, apply, _i: apply(inputs))))
    return found[:16]


def lengths(f: Callable[[Any], Any], params: Any) -> dict[int, str]:
    """Return the lengths of axes in a function, each with an array that has it: possible origins of a factor."""
    program = trace(f, params)
    found: dict[int, str] = {}
    shapes = [np.shape(array) for array in program.closed.consts] + [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    shapes += [shape_of(atom) for eqn in program.closed.jaxpr.eqns for atom in eqn.outvars]
    for shape in shapes:
        for axis, length in enumerate(shape):
            found.setdefault(length, f"axis {axis} of an array of shape {shape}")
        if len(shape) > 1:
            found.setdefault(int(np.prod(shape)), f"the size of an array of shape {shape}")
    return found


class _Region(NamedTuple):
    """A value as an elementwise function of `root`, through `depth` operations."""

    root: Any
    of: Callable[[Any], Any]
    depth: int
    value: Any  # kept for its id


class _Plan(NamedTuple):
    switch_index: dict[Any, int]  # number of each switch, by its operation
    switches: list[Switch]
    probe_index: dict[Any, int]
    probes: list[Probe]
    examples: list[tuple[Any, int]]  # (operation, B) of sums over examples


def _visit(plan: _Plan, params: Any, gradient: Any, amounts: Any, shares: Any, zeros: Any) -> tuple[Any, ...]:
    """Return a visitor and its argument. Without amounts, the visitor makes the plan; with amounts, it applies it."""
    # Values that are a reshaped leaf, and how to reshape another tree's leaf alike. Values are kept for their ids.
    leaves, steps = jax.tree.leaves(params), jax.tree.leaves(gradient)
    origin: dict[int, tuple[int, Callable[[Any], Any], Any]] = {
        id(leaf): (i, lambda u: u, leaf) for i, leaf in enumerate(leaves)
    }
    dependent = {id(leaf): leaf for leaf in leaves}  # values that depend on the parameters
    at_top = [True]
    seen: Counter[int] = Counter()  # operations of a program that is called twice are visited twice
    regions: dict[int, _Region] = {}  # values that are elementwise functions of one other value

    def switch(key: Any, kind: str, where: str) -> Any:
        if amounts is None:
            if key not in plan.switch_index and len(plan.switches) < MOST:
                plan.switch_index[key] = len(plan.switches)
                plan.switches.append(Switch(kind, where))
            return 0.0
        return amounts[plan.switch_index[key]] if key in plan.switch_index else 0.0

    def probe(key: Any, kind: str, where: str, y: Any, leaf: int | None) -> Any:
        if zeros is None:
            if key not in plan.probe_index:
                plan.probe_index[key] = len(plan.probes)
                plan.probes.append(Probe(kind, where, jnp.shape(y), leaf))
            return y
        return y + zeros[plan.probe_index[key]].astype(y.dtype) if key in plan.probe_index else y

    def visit(eqn: JaxprEqn, inputs: list[Any], apply: Apply, iteration: Any) -> list[Any]:
        name, at = eqn.primitive.name, f"{_called(eqn)} at {source(eqn)}"
        this = (id(eqn), seen[id(eqn)])
        seen[id(eqn)] += 1
        floats = [j for j, x in enumerate(inputs) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
        top = at_top[0] = isinstance(iteration, int)
        if name == "stop_gradient":
            return inputs
        # Inside a loop all of its variables may depend on the parameters.
        changes = [(j, _change(inputs[j])) for j in floats if not top or id(inputs[j]) in dependent]
        switched_inputs = list(inputs)
        if not is_container(eqn) and not (name in _STRUCTURAL and len(floats) == 1):
            for j, change in changes:
                c = switch((*this, j, "path"), "path", f"{at}, input {j}")
                switched_inputs[j] = inputs[j] + _as(c, change) * change
        if top and name == "reduce_sum" and np.ndim(inputs[0]) and shape_of(eqn.outvars[0]) == ():
            n = np.shape(inputs[0])[0]
            if shares is None and 2 <= n <= 256:
                plan.examples.append((this, n))
            if shares is not None and plan.examples and plan.examples[-1][0] == this:
                share = shares.astype(inputs[0].dtype).reshape(-1, *[1] * (np.ndim(inputs[0]) - 1))
                switched_inputs[0] = inputs[0] + share * _change(inputs[0])
        outputs = apply(switched_inputs)
        moves = any(id(x) in dependent for x in inputs)
        if moves:
            dependent.update({id(y): y for y in outputs})
        moved_leaf = next((origin[id(x)][0] for x in inputs if id(x) in origin), None)
        if name in _MOVES and moved_leaf is not None:
            i, move, _ = origin[id(inputs[0])]
            origin[id(outputs[0])] = (i, lambda u: apply([move(u)])[0], outputs[0])
        if len(outputs) != 1 or is_container(eqn) or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
            return outputs
        y = outputs[0]
        if name == "dot_general" and len(floats) == 2:
            y = dot_switches(this, inputs, apply, y, at)
        if name in _BY_ELEMENT:
            y = slope_switches(this, name, inputs, floats, apply, y, at)
            if top and moved_leaf is not None and math.prod(y.shape) > min(math.prod(jnp.shape(x)) for x in inputs):
                y = probe((*this, "spread"), "wrong_axis", at, y, moved_leaf)
        if moves:
            dependent[id(y)] = y
        return [y]

    def slope_switches(
        this: Any, name: str, inputs: list[Any], floats: list[int], apply: Apply, y: Any, at: str
    ) -> Any:
        changing = [j for j in floats if id(inputs[j]) in dependent]
        roots = {id(region(inputs[j]).root): region(inputs[j]).root for j in changing}
        depth = sum(region(inputs[j]).depth for j in floats)
        if len(roots) != 1 or depth >= DEEPEST:
            return y
        (root,) = roots.values()
        if np.shape(root) != y.shape:
            return y

        def through(u: Any) -> Any:
            still = jax.lax.stop_gradient
            return apply([region(x).of(u) if j in changing else still(x) for j, x in enumerate(inputs)])[0]

        whole, is_curved = y, name not in _LINEAR or depth > 0
        if is_curved:
            y = bent((*this, "whole"), root, through, y, at)
        if len(changing) == 1 and region(inputs[changing[0]]).depth and name not in _LINEAR:
            (j,) = changing

            def own(u: Any) -> Any:
                return apply([u if k == j else x for k, x in enumerate(inputs)])[0]

            y = bent((*this, "own"), inputs[j], own, y, at)
        if y.ndim and at_top[0] and is_curved:
            y = probe((*this, "curved"), "missing_derivative", at, y, None)
        for value in (whole, y):
            regions[id(value)] = _Region(root, through, 1 + depth, value)
        return y

    def bent(key: Any, z: Any, phi: Callable[[Any], Any], y: Any, at: str) -> Any:
        """Add two switches to y = phi(z): one replaces phi' by 1, one evaluates phi' at y."""
        still = jax.lax.stop_gradient

        def slope(u: Any) -> Any:
            return jax.jvp(phi, (still(u),), (jnp.ones_like(u),))[1]

        if np.shape(z) != y.shape:
            return y
        at_z = still(slope(z))
        c = switch((*key, "missing"), "missing_derivative", at)
        d = switch((*key, "at y"), "derivative_at_output", at)
        at_y = still(jnp.nan_to_num(slope(y)))
        return y + (_as(c, y) * (1 - at_z) + _as(d, y) * (at_y - at_z)) * _change(z)

    def region(x: Any) -> "_Region":
        return regions.get(id(x)) or _Region(x, lambda u: u, 0, x)

    def dot_switches(this: Any, inputs: list[Any], apply: Apply, y: Any, at: str) -> Any:
        for j in (0, 1):
            other, change = inputs[1 - j], _change(inputs[j])

            def product(with_other: Any, change: Any = change, j: int = j) -> Any:
                return apply([change, with_other] if j == 0 else [with_other, change])[0]

            still = jax.lax.stop_gradient(other)
            if np.ndim(other) >= 2 and np.shape(other)[-1] == np.shape(other)[-2]:
                c = switch((*this, j, "other"), "transposed", f"{at}: its input {1 - j} where its transpose belongs")
                y = y + _as(c, y) * product(jnp.swapaxes(still, -1, -2) - still)
            if y.ndim >= 2 and y.shape[-1] == y.shape[-2]:
                c = switch((*this, j, "output"), "transposed", f"{at}: its cotangent, transposed")
                back = product(still)
                y = y + _as(c, y) * (jnp.swapaxes(back, -1, -2) - back)
            if id(other) in origin:
                i, move, _ = origin[id(other)]
                c = switch((*this, j, "stale"), "stale", f"{at}: leaf {i}")
                y = y + _as(c, y) * product(move(steps[i].astype(other.dtype)))
        return y

    return visit, params


def _change(x: Any) -> Any:
    """Return zeros that change as x does."""
    return x - jax.lax.stop_gradient(x)


def _as(c: Any, like: Any) -> Any:
    return jnp.asarray(c).astype(like.dtype)


def _called(eqn: JaxprEqn) -> str:
    name = str(eqn.params.get("name", ""))
    return name if name and eqn.primitive.name in ("jit", "pjit", "closed_call") else eqn.primitive.name
