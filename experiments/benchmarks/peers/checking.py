"""How others check a gradient: JAX, chex and PyTorch, each with its own default tolerances.

All three difference f numerically and know a gradient only as a derivative rule: each is given f with a rule that
answers with the gradient under test. f and the gradient are compiled, once for each check, as a patient user would.
"""

import warnings
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from experiments._timing import is_installed

__all__ = ["FAST", "PEERS", "SLOW", "Answer", "Peer"]

Tree: TypeAlias = Any
FAST, SLOW = "gradcheck, fast mode", "gradcheck"


class Answer(NamedTuple):
    """The answer of a peer for one gradient.

    Attributes
    ----------
    outcome
        "passes", "caught", or "refuses" where it fails with an error that is not about a difference.
    seconds
        Wall time, compilation included.
    said
        The first line of its error and its first warning, if any.
    """

    outcome: str
    seconds: float
    said: str


Peer: TypeAlias = Callable[[Callable[[Tree], Any], Callable[[Tree], Tree], Tree], Answer]


def _answer(check: Callable[[], None], is_difference: Callable[[Exception], bool]) -> Answer:
    """Run a check that raises, and sort out what it raised."""
    start, outcome, said = perf_counter(), "passes", []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            check()
        except Exception as error:  # whatever a peer does with a user's function is an answer
            outcome = "caught" if is_difference(error) else "refuses"
            said.append(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))
    said += [str(warning.message).splitlines()[0] for warning in warned[:1]]
    return Answer(outcome, perf_counter() - start, " | ".join(said))


def _compiled(function: Callable[[Tree], Any]) -> Callable[[Tree], Any]:
    """Compile anew: `jit` of the function itself would find what an earlier check has compiled."""
    return jax.jit(lambda params: function(params))


def _with_rule(f: Callable[[Tree], Any], gradient: Callable[[Tree], Tree], structure: Any) -> Callable[..., Any]:
    """Return f of the leaves, compiled, with the gradient under test as its derivative rule."""
    f, gradient = _compiled(f), _compiled(gradient)

    def value(*leaves: Any) -> Any:
        return f(jax.tree.unflatten(structure, leaves))

    def backward(leaves: tuple[Any, ...], cotangent: Any) -> tuple[Any, ...]:
        found = jax.tree.leaves(gradient(jax.tree.unflatten(structure, leaves)))
        return tuple((cotangent * leaf).astype(leaf.dtype) for leaf in found)

    ruled = jax.custom_vjp(value)
    ruled.defvjp(lambda *leaves: (value(*leaves), leaves), backward)
    return ruled


def _differs(error: Exception) -> bool:
    return isinstance(error, AssertionError) and "Not equal to tolerance" in str(error)


def check_grads(f: Callable[[Tree], Any], gradient: Callable[[Tree], Tree], params: Tree) -> Answer:
    """Ask `jax.test_util.check_grads`: one random direction, a step of 1e-4."""
    from jax.test_util import check_grads

    leaves, structure = jax.tree.flatten(params)
    ruled = _with_rule(f, gradient, structure)
    return _answer(lambda: check_grads(ruled, leaves, order=1, modes=("rev",)), _differs)


def assert_numerical_grads(f: Callable[[Tree], Any], gradient: Callable[[Tree], Tree], params: Tree) -> Answer:
    """Ask `chex.assert_numerical_grads`: `check_grads`, with a wider tolerance and `stop_gradient` seen through."""
    import chex

    leaves, structure = jax.tree.flatten(params)
    ruled = _with_rule(f, gradient, structure)
    return _answer(lambda: chex.assert_numerical_grads(ruled, leaves, order=1, modes=("rev",)), _differs)


def gradcheck(
    f: Callable[[Tree], Any], gradient: Callable[[Tree], Tree], params: Tree, *, fast_mode: bool = False
) -> Answer:
    """Ask `torch.autograd.gradcheck`: every coordinate, a step of 1e-6; in fast mode two random projections."""
    import torch
    from torch.autograd.gradcheck import GradcheckError

    leaves, structure = jax.tree.flatten(params)
    # NumPy has no bfloat16 that PyTorch would read.
    inputs = [torch.tensor(np.asarray(p, np.promote_types(p.dtype, np.float32))).to(_torch_dtype(p)) for p in leaves]
    f, gradient = _compiled(f), _compiled(gradient)

    class Bridge(torch.autograd.Function):
        """JAX's f and gradient, as PyTorch sees a function."""

        @staticmethod
        def forward(context: Any, *tensors: Any) -> Any:
            context.save_for_backward(*tensors)
            return _to_torch(f(_to_jax(tensors, leaves, structure)))

        @staticmethod
        def backward(context: Any, cotangent: Any) -> Any:
            found = jax.tree.leaves(gradient(_to_jax(context.saved_tensors, leaves, structure)))
            return tuple(cotangent * _to_torch(leaf) for leaf in found)

    for tensor in inputs:
        tensor.requires_grad_()
    return _answer(
        lambda: torch.autograd.gradcheck(Bridge.apply, inputs, fast_mode=fast_mode),
        lambda error: isinstance(error, GradcheckError),
    )


def _torch_dtype(leaf: Any) -> Any:
    import torch

    return getattr(torch, jnp.dtype(leaf.dtype).name)


def _to_jax(tensors: tuple[Any, ...], leaves: list[Any], structure: Any) -> Tree:
    arrays = [
        # A copy: gradcheck moves a tensor in place while JAX may still be reading it.
        jnp.array((tensor.detach().float() if leaf.dtype == jnp.bfloat16 else tensor.detach()).numpy(), leaf.dtype)
        for tensor, leaf in zip(tensors, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)


def _to_torch(array: Any) -> Any:
    import torch

    return torch.tensor(np.asarray(array, np.promote_types(array.dtype, np.float32))).to(_torch_dtype(array))


PEERS: dict[str, Peer] = {
    "jax check_grads": check_grads,
    **({"chex": assert_numerical_grads} if is_installed("chex") else {}),
    **({SLOW: gradcheck, FAST: partial(gradcheck, fast_mode=True)} if is_installed("torch") else {}),
}
