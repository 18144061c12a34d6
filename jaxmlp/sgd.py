"""Momentum SGD, eq. (3): dw_t = -eta grad L + alpha dw_{t-1}, with the rate inside the accumulated step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmlp.network import Layer, Params

__all__ = ["State", "effective_learning_rate", "init", "update"]


class State(NamedTuple):
    """The state of momentum SGD: the last step dw, shaped like the parameters."""

    dw: Params


def init(params: Params) -> State:
    """Return the state before the first step: dw = 0.

    >>> print(init((Layer(jnp.ones((1, 2)), jnp.ones(1)),)).dw[0].w)
    [[0. 0.]]
    """
    return State(jax.tree.map(jnp.zeros_like, params))


def update(
    params: Params,
    state: State,
    gradient: Params,
    *,
    learning_rate: ArrayLike,
    momentum: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    nesterov: bool = False,
) -> tuple[Params, State]:
    """Take one step of eq. (3), and return the parameters and the state after it.

    Parameters
    ----------
    state
        From `init` or from the last step.
    gradient
        The mean gradient, shaped like the parameters.
    learning_rate, momentum
        eta and alpha of eq. (3); may be traced.
    weight_decay
        Factor on half the sum of squared weights (not biases) in the loss; may be traced.
    nesterov
        Static. Move by alpha dw_t - eta grad L instead of dw_t (Sutskever et al. 2013).

    Raises
    ------
    ValueError
        If the state or the gradient is not shaped like the parameters.

    Examples
    --------
    >>> params = (Layer(jnp.array([[1.0]]), jnp.zeros(1)),)
    >>> gradient = (Layer(jnp.array([[2.0]]), jnp.zeros(1)),)
    >>> params, state = update(params, init(params), gradient, learning_rate=0.25, momentum=0.5)
    >>> params, state = update(params, state, gradient, learning_rate=0.25, momentum=0.5)
    >>> print(params[0].w, state.dw[0].w)
    [[-0.25]] [[-0.75]]
    """
    _check_shapes(params, state, gradient)

    def step(gradient: Array, last: Array) -> Array:
        eta, alpha = jnp.asarray(learning_rate, last.dtype), jnp.asarray(momentum, last.dtype)
        return (-eta * gradient + alpha * last).astype(last.dtype)  # (3)

    decay = jnp.asarray(weight_decay, params[0].w.dtype)
    decayed = tuple(Layer(g.w + decay * p.w, g.b) for g, p in zip(gradient, params, strict=True))
    dw = jax.tree.map(step, decayed, state.dw)
    move = jax.tree.map(step, decayed, dw) if nesterov else dw
    return jax.tree.map(jnp.add, params, move), State(dw)


def _check_shapes(params: Params, state: State, gradient: Params) -> None:
    """Raise a ValueError for other shapes: a batch of gradients would broadcast to a batch of parameters."""
    expected = jax.tree.map(jnp.shape, params)
    for name, given in (("gradient", gradient), ("state", state.dw)):
        if (shapes := jax.tree.map(jnp.shape, given)) != expected:
            raise ValueError(f"{name} must be shaped like the parameters, {expected}, got {shapes}")


def effective_learning_rate(learning_rate: ArrayLike, momentum: ArrayLike) -> ArrayLike:
    """Return eta / (1 - alpha): descent without momentum at this rate is as fast, if the gradient is constant.

    >>> print(effective_learning_rate(0.25, 0.75))
    1.0
    """
    return learning_rate / (1 - momentum)
