"""A JAX function as a list of operations; a visitor evaluates them one by one and can change each.

Visitors imitate rounding, remove a user's own derivative rules, and turn a hypothesis ("the derivative of this tanh is
missing") into a program that can be differentiated.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jax.extend.source_info_util import user_context

Apply = Callable[[Sequence[Any]], list[Any]]
# A visitor gets an operation, its inputs, how to apply it, and the iteration of a loop; it returns the outputs.
Visit = Callable[[JaxprEqn, list[Any], Apply, Any], list[Any]]

_LOOPS = ("scan", "while", "cond")
_OPAQUE = ("custom_linear_solve", "pallas_call", "pure_callback", "io_callback", "custom_root")


class Program(NamedTuple):
    """A traced function: its operations, and the tree of its result."""

    closed: ClosedJaxpr
    tree: jax.tree_util.PyTreeDef

    def run(self, visit: Visit, *args: Any) -> Any:
        """Evaluate the program at `args`; `visit` evaluates every operation."""
        outputs = _walk(self.closed.jaxpr, self.closed.consts, jax.tree.leaves(args), visit, 0)
        return jax.tree.unflatten(self.tree, outputs)


def trace(function: Callable[..., Any], *args: Any) -> Program:
    """Trace a function for arguments like `args`; JAX's own error is raised if it cannot be traced."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    return Program(closed, jax.tree.structure(shape))


def without_rules(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function without `custom_vjp`, `custom_jvp` and `stop_gradient`: autodiff differentiates its steps."""

    def visit(eqn: JaxprEqn, inputs: list[Any], apply: Apply, _: Any) -> list[Any]:
        return inputs if eqn.primitive.name == "stop_gradient" else apply(inputs)

    return lambda *args: trace(function, *args).run(visit, *args)


def continued(function: Callable[..., Any], rounds: int = 64) -> Callable[..., Any]:
    """Return the function with more rounds of each loop that stops at a tolerance: one that compares floats."""

    def visit(eqn: JaxprEqn, inputs: list[Any], apply: Apply, _: Any) -> list[Any]:
        outputs = inputs if eqn.primitive.name == "stop_gradient" else apply(inputs)
        if not stops_at_tolerance(eqn):
            return outputs
        body, first = eqn.params["body_jaxpr"], eqn.params["cond_nconsts"]
        consts = inputs[first : first + eqn.params["body_nconsts"]]
        return jax.lax.fori_loop(0, rounds, lambda _, carry: jaxpr_as_fun(body)(*consts, *carry), outputs)

    return lambda *args: trace(function, *args).run(visit, *args)


def stops_at_tolerance(eqn: JaxprEqn) -> bool:
    """Return whether an operation is a loop whose end depends on floating numbers."""
    if eqn.primitive.name != "while":
        return False
    read: list[Any] = [atom for inside in equations(eqn.params["cond_jaxpr"]) for atom in inside.invars]
    return any(jnp.issubdtype(atom.aval.dtype, jnp.floating) for atom in read)


def inner(eqn: JaxprEqn) -> ClosedJaxpr | Jaxpr | None:
    """Return the program inside an operation that only calls one (jit, remat, custom rules), or None."""
    if eqn.primitive.name in _LOOPS or eqn.primitive.name in _OPAQUE:
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if isinstance(eqn.params.get(name), (Jaxpr, ClosedJaxpr)):
            return eqn.params[name]
    return None


def is_container(eqn: JaxprEqn) -> bool:
    """Return whether an operation has others inside, which are visited in turn."""
    return eqn.primitive.name in _LOOPS or inner(eqn) is not None


def is_rule(eqn: JaxprEqn) -> bool:
    """Return whether an operation has a derivative rule of its own."""
    return eqn.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call"))


def calls_out(eqn: JaxprEqn) -> bool:
    """Return whether an operation runs code that JAX cannot see."""
    return "callback" in eqn.primitive.name or eqn.primitive.name in ("ffi_call", "pallas_call")


def equations(program: Jaxpr | ClosedJaxpr) -> Iterator[JaxprEqn]:
    """Return all operations of a program, with those inside others."""
    for eqn in (program.jaxpr if isinstance(program, ClosedJaxpr) else program).eqns:
        yield eqn
        for inside in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))):
            if isinstance(inside, (Jaxpr, ClosedJaxpr)):
                yield from equations(inside)


def source(eqn: JaxprEqn) -> str:
    """Return the line of an operation, such as "file.py:12": the innermost one outside of JAX and this package."""
    here, library = Path(__file__).parent, Path(jax.__file__).parent
    traceback: Any = eqn.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        path = Path(frame.file_name)
        if path.is_absolute() and not path.is_relative_to(library) and not path.is_relative_to(here):
            return f"{path.name}:{frame.line_num}"
        if not path.is_absolute():
            return f"{frame.file_name}:{frame.line_num}"
    return "an unknown line"


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of an operation's input or output."""
    return tuple(atom.aval.shape)


def _walk(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], visit: Visit, iteration: Any) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:

        def apply(inputs: Sequence[Any], eqn: JaxprEqn = eqn) -> list[Any]:
            return _apply(eqn, inputs, visit, iteration)

        outputs = visit(eqn, [read(atom) for atom in eqn.invars], apply, iteration)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: JaxprEqn, inputs: Sequence[Any], visit: Visit, iteration: Any) -> list[Any]:
    called = inner(eqn)
    if called is not None:
        jaxpr, consts = (called.jaxpr, called.consts) if isinstance(called, ClosedJaxpr) else (called, ())
        return _walk(jaxpr, consts, inputs, visit, iteration)
    if eqn.primitive.name in _LOOPS:
        return {"scan": _scan, "while": _while, "cond": _cond}[eqn.primitive.name](eqn, inputs, visit, iteration)
    with user_context(eqn.source_info.traceback):  # the line of the user's code, not this one
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def _scan(eqn: JaxprEqn, inputs: Sequence[Any], visit: Visit, iteration: Any) -> list[Any]:
    params, body = eqn.params, eqn.params["jaxpr"]
    # JAX's parameters for this differ by version, but an array that is scanned over has one more axis outside.
    n_xs = _n_stacked(eqn.invars, body.jaxpr.invars)
    n_carry = len(eqn.outvars) - _n_stacked(eqn.outvars, body.jaxpr.outvars)
    n_consts = len(eqn.invars) - n_carry - n_xs
    consts, carry, xs = inputs[:n_consts], inputs[n_consts : n_consts + n_carry], inputs[n_consts + n_carry :]

    def step(state: tuple[Any, ...], x: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        i, *carry = state
        outputs = _walk(body.jaxpr, body.consts, [*consts, *carry, *x], visit, i)
        return (i + 1, *outputs[:n_carry]), tuple(outputs[n_carry:])

    (_, *carry_out), ys = jax.lax.scan(
        step, (_first(iteration), *carry), tuple(xs), length=params["length"], reverse=params["reverse"]
    )
    return [*carry_out, *ys]


def _n_stacked(outer: Sequence[Any], within: Sequence[Any]) -> int:
    return sum(len(shape_of(o)) > len(shape_of(i)) for o, i in zip(outer, within, strict=True))


def _while(eqn: JaxprEqn, inputs: Sequence[Any], visit: Visit, iteration: Any) -> list[Any]:
    params = eqn.params
    n_test, n_body = params["cond_nconsts"], params["body_nconsts"]
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    test_consts, body_consts, carry = inputs[:n_test], inputs[n_test : n_test + n_body], inputs[n_test + n_body :]

    def goes_on(state: tuple[Any, ...]) -> Any:
        return _walk(test.jaxpr, test.consts, [*test_consts, *state[1:]], visit, state[0])[0]

    def go_on(state: tuple[Any, ...]) -> Any:
        return jnp.any(goes_on(state))

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        after = _walk(body.jaxpr, body.consts, [*body_consts, *state[1:]], visit, state[0])
        if shape_of(test.jaxpr.outvars[0]):  # batched: some examples have come to their end
            on = goes_on(state)
            after = [_where(on, new, old) for new, old in zip(after, state[1:], strict=True)]
        return (state[0] + 1, *after)

    return list(jax.lax.while_loop(go_on, step, (_first(iteration), *carry))[1:])


def _where(on: Any, new: Any, old: Any) -> Any:
    return jnp.where(on.reshape(*on.shape, *[1] * (jnp.ndim(new) - on.ndim)), new, old)


def _cond(eqn: JaxprEqn, inputs: Sequence[Any], visit: Visit, iteration: Any) -> list[Any]:
    def branch(closed: ClosedJaxpr) -> Callable[..., Any]:
        return lambda *args: _walk(closed.jaxpr, closed.consts, args, visit, iteration)

    return list(jax.lax.switch(inputs[0], [branch(closed) for closed in eqn.params["branches"]], *inputs[1:]))


def _first(iteration: Any) -> Any:
    """Return the first number of a loop, different for each iteration of the enclosing loop."""
    return jax.numpy.asarray(iteration, "int32") * 1009
