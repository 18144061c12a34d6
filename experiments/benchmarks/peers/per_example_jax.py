"""The per-example benchmark's steps in JAX: ours, `vmap` of `grad`, and jax_privacy.

Each function takes (problem, params, x, t) and returns the gradient to go down, if any, and what else the step returns;
None stands for the updated parameters. `_in_jax` makes a step of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmarks.peers.per_example_problem import LEARNING_RATE, NOISE_MULTIPLIER, Problem, Start, Step
from jaxmlp import MLP, Layer, private
from jaxmlp.backpropagation import backprop, loss_and_gradient, mean_gradient
from jaxmlp.network import loss
from jaxmlp.per_example import clipped_mean, gradients, mean_and_variance, norms
from jaxmlp.training.examples import Examples

__all__ = ["JAX_PRIVACY_STEPS", "OUR_STEPS", "VMAP_STEPS"]

Work: TypeAlias = Callable[[Problem, Any, Any, Any], tuple[Any, Any]]


def _in_jax(work: Work) -> Start:
    """Return what makes a step of the work: one program, that overwrites the parameters."""

    @partial(jax.jit, donate_argnums=0, static_argnums=3)
    def compiled(params: Any, x: Any, t: Any, work: Callable[[Any, Any, Any], tuple[Any, Any]]) -> tuple[Any, Any]:
        direction, answer = work(params, x, t)
        if direction is not None:
            params = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, direction)
        return params, answer

    def start(problem: Problem) -> Step:
        pairs = zip(problem.weights[::2], problem.weights[1::2], strict=True)
        params = jax.device_put(tuple(Layer(*pair) for pair in pairs), may_alias=False)  # the first step donates them
        x, t = jax.device_put(problem.x), jax.device_put(problem.t.astype(np.int32))
        of_problem = partial(work, problem)

        def step() -> list[Any]:
            nonlocal params
            params, answer = jax.block_until_ready(compiled(params, x, t, of_problem))
            return jax.tree.leaves(params if answer is None else answer)

        return step

    return start


def _factors(problem: Problem, params: Any, x: Any, t: Any) -> Any:
    return jax.vmap(partial(backprop, MLP(problem.sizes), params))(x, t).factors


def jaxmlp_plain(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return loss_and_gradient(MLP(problem.sizes), params, x, t)[1], None


def jaxmlp_norms(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    factors = _factors(problem, params, x, t)
    return mean_gradient(factors), norms(factors)


def jaxmlp_clipped(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return clipped_mean(_factors(problem, params, x, t), problem.max_norm).gradient, None


def jaxmlp_private(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    # Another key in every step: the compiler might compute the noise of a constant one beforehand.
    key = jax.random.fold_in(jax.random.key(0), lax.bitcast_convert_type(params[0].b[0], jnp.uint32))
    numbers = private.Numbers(problem.max_norm, NOISE_MULTIPLIER, len(problem.x))
    is_drawn = jnp.ones(len(problem.x), bool)
    return private.gradient(MLP(problem.sizes), params, Examples(x, t, None), is_drawn, numbers, key), None


def jaxmlp_variance(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return mean_and_variance(_factors(problem, params, x, t))


def jaxmlp_gradients(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return None, gradients(_factors(problem, params, x, t))


def _weighted_loss(params: Any, problem: Problem, x: Any, t: Any, weights: Any = 1.0) -> Any:
    losses = jax.vmap(partial(loss, MLP(problem.sizes), params))(x, t)
    return jnp.mean(weights * losses)


def _vmapped_gradients(problem: Problem, params: Any, x: Any, t: Any) -> Any:
    return jax.vmap(jax.grad(partial(loss, MLP(problem.sizes))), in_axes=(None, 0, 0))(params, x, t)


def _vmapped_norms(problem: Problem, params: Any, x: Any, t: Any) -> Any:
    def norm(x: Any, t: Any) -> Any:
        layers = jax.tree.leaves(jax.grad(partial(loss, MLP(problem.sizes)))(params, x, t))
        return jnp.sqrt(sum(jnp.sum(g**2) for g in layers))

    return jax.vmap(norm)(x, t)


# The mean gradient is computed for itself in `vmap_norms` and `vmap_clipped`. Where it is a mean of the gradients
# that the norms are of, those are written to memory: the step took 12 to 30 times as long (784-128-10, batch 256).
def vmap_plain(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return jax.grad(_weighted_loss)(params, problem, x, t), None


def vmap_norms(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return jax.grad(_weighted_loss)(params, problem, x, t), _vmapped_norms(problem, params, x, t)


def vmap_clipped(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    weights = jnp.minimum(1, problem.max_norm / _vmapped_norms(problem, params, x, t))
    return jax.grad(_weighted_loss)(params, problem, x, t, weights), None


def vmap_variance(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    formed = _vmapped_gradients(problem, params, x, t)
    return jax.tree.map(lambda g: g.mean(0), formed), jax.tree.map(lambda g: g.var(0), formed)


def vmap_gradients(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return None, _vmapped_gradients(problem, params, x, t)


def _clipped_by_jax_privacy(problem: Problem, max_norm: float, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    from jax_privacy import clipped_grad

    clipped = clipped_grad(
        partial(loss, MLP(problem.sizes)),
        l2_clip_norm=max_norm,
        normalize_by=len(problem.x),
        batch_argnums=(1, 2),
        keep_batch_dim=False,
        return_grad_norms=True,
    )
    mean, others = clipped(params, x, t)
    return mean, others.grad_norms


def jax_privacy_norms(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return _clipped_by_jax_privacy(problem, np.inf, params, x, t)


def jax_privacy_clipped(problem: Problem, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    return _clipped_by_jax_privacy(problem, problem.max_norm, params, x, t)[0], None


OUR_STEPS: dict[str, Start] = {
    "plain": _in_jax(jaxmlp_plain),
    "norms": _in_jax(jaxmlp_norms),
    "clipped": _in_jax(jaxmlp_clipped),
    "private": _in_jax(jaxmlp_private),
    "variance": _in_jax(jaxmlp_variance),
    "gradients": _in_jax(jaxmlp_gradients),
}
VMAP_STEPS: dict[str, Start] = {
    "plain": _in_jax(vmap_plain),
    "norms": _in_jax(vmap_norms),
    "clipped": _in_jax(vmap_clipped),
    "variance": _in_jax(vmap_variance),
    "gradients": _in_jax(vmap_gradients),
}
JAX_PRIVACY_STEPS: dict[str, Start] = {
    "norms": _in_jax(jax_privacy_norms),
    "clipped": _in_jax(jax_privacy_clipped),
}
