"""A jvp rule as a vjp rule: its transpose in the tangents."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _decision
from jaxmlp.checking._arguments import Arguments, Named, cast, inner_product, split, two_short_normals
from jaxmlp.checking._program import without_rules


def as_vjp(
    name: str, my_jvp: Callable[..., Any], arguments: Arguments, outputs: Any, rng: np.random.Generator
) -> Callable[..., Any]:
    """Return the vjp rule that is the transpose of a jvp rule in its tangents."""
    # Any tangents will do: the derivative of a linear map is the same everywhere.
    drawn = [two_short_normals(np.shape(leaf), rng)[0] for leaf in arguments.floats]
    sizes = [np.size(leaf) for leaf in arguments.floats]
    tree = jax.tree.structure(outputs)

    def differentiated(*args: Any) -> Any:
        floats = split(args).floats
        tangents = [cast(v, leaf) for v, leaf in zip(drawn, floats, strict=True)]
        push = without_rules(lambda *v: my_jvp(args, all_tangents(arguments, v))[1])
        pull_back = jax.vjp(push, *tangents)[1]
        return my_jvp(args, all_tangents(arguments, tangents))[0], lambda c: arguments.restore(pull_back(c), _nothing)

    def one_by_one(*args: Any) -> Any:
        floats = split(args).floats

        def pull_back(cotangents: Any) -> Any:
            pulled: list[Any] = []
            for i, leaf in enumerate(floats):
                along = [
                    inner_product(cotangents, my_jvp(args, all_tangents(arguments, _basis(floats, i, index)))[1])
                    for index in np.ndindex(np.shape(leaf))
                ]
                pulled.append(jnp.stack(along).reshape(np.shape(leaf)).astype(leaf.dtype))
            return arguments.restore(pulled, _nothing)

        return my_jvp(args, all_tangents(arguments, [jnp.zeros_like(leaf) for leaf in floats]))[0], pull_back

    try:
        out, pull_back = differentiated(*arguments.restore(arguments.floats))
        pull_back(jax.tree.unflatten(tree, [jnp.ones_like(y) for y in jax.tree.leaves(out)]))
    except Exception as error:  # JAX raises many kinds for functions that it cannot trace or differentiate
        if sum(sizes) > _decision.FEW:
            why = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise ValueError(
                f"{name} must be traceable and differentiable in its tangents for args of more than {_decision.FEW} "
                f"elements, got {sum(sizes)} elements and {why}"
            ) from error
        return one_by_one
    return differentiated


def pushed_forward(my_jvp: Callable[..., Any], arguments: Arguments, n: int) -> Callable[[Sequence[Any]], list[Any]]:
    def pushed(leaves: Sequence[Any]) -> list[Any]:
        floats, tangents = leaves[:n], leaves[n:]
        tangents = [cast(v, leaf) for v, leaf in zip(tangents, floats, strict=True)]
        return jax.tree.leaves(my_jvp(arguments.restore(floats), all_tangents(arguments, tangents))[1])

    return pushed


def two_tangents(arguments: Arguments, rng: np.random.Generator) -> list[Named]:
    """Return the floating arguments twice, each time followed by tangents like them."""
    floats = arguments.floats
    names = [*arguments.float_names, *(f"tangent of {name}" for name in arguments.float_names)]
    drawn = [two_short_normals(np.shape(leaf), rng) for leaf in floats]
    return [Named([*floats, *(cast(v[k], x) for v, x in zip(drawn, floats, strict=True))], names) for k in range(2)]


def all_tangents(arguments: Arguments, floats: Sequence[Any]) -> Any:
    """Return tangents like the arguments, with float0 zeros for those that are not floating."""
    return arguments.restore(floats, lambda leaf: None if leaf is None else np.zeros(np.shape(leaf), jax.dtypes.float0))


def _basis(floats: list[Any], i: int, index: tuple[int, ...]) -> list[Any]:
    tangents = [jnp.zeros_like(leaf) for leaf in floats]
    tangents[i] = tangents[i].at[index].set(1)
    return tangents


def _nothing(leaf: Any) -> None:
    return None
