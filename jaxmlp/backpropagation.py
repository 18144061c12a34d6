"""Backpropagation, written by hand: eq. (4) to (8), for one example.

    (4) output layer    delta_L = L'(y) * phi'(z_L)
    (7) hidden layer    delta_l = (w_{l+1}^T delta_{l+1}) * phi'(z_l)
    (8) every layer     grad w_l = delta_l outer y_{l-1},   grad b_l = delta_l

What it keeps of every layer, the pair (delta_l, y_{l-1}), is called its factors: the gradient of one example is
their outer product, the gradient of a batch one matrix product, and no gradient of a single example need ever be
formed. No autodiff here; the tests hold it against `jax.grad`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Layer, Params, forward

__all__ = ["Backprop", "Factors", "backprop", "loss_and_gradient", "mean_gradient", "outer", "pull_back"]


class Factors(NamedTuple):
    """One layer's two factors of the gradient: delta_l: [n_l] and y_{l-1}: [n_{l-1}].

    Always of one example's own loss: nothing in them is divided by a batch's size.
    """

    delta: Array
    y_in: Array


class Backprop(NamedTuple):
    """What one backward pass gives: the loss, the output y_L: [n_L], and the factors, one pair a layer."""

    loss: Array
    y: Array
    factors: tuple[Factors, ...]


def backprop(mlp: MLP, params: Params, x: Array, t: ArrayLike) -> Backprop:
    """Run one example forward and backward: eq. (4) to (7).

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    x
        [n_0].
    t
        An integer class, a one-hot or soft row [n_L], or real values [n_L] (a bare number if n_L = 1).

    Returns
    -------
    Backprop(loss, y, factors)
        `factors` is a tuple of L `Factors(delta: [n_l], y_in: [n_{l-1}])`.

    Raises
    ------
    ValueError
        If x or t is not one example's.

    Examples
    --------
    >>> from jaxmlp.network import init
    >>> mlp = MLP((4, 3, 2))
    >>> params = init(mlp, jax.random.key(0))
    >>> loss, y, factors = backprop(mlp, params, jnp.ones(4), 1)
    >>> jnp.allclose(factors[-1].delta, y - jnp.array([0.0, 1.0]))
    Array(True, dtype=bool)
    """
    z, y = forward(mlp, params, x)
    phi, loss = ACTIVATIONS[mlp.output], LOSSES[mlp.loss]
    t = target_row(t, z[-1], mlp.output)
    delta = loss.delta(phi, z[-1], t)  # (4); (5), (6) by name
    deltas = pull_back(mlp, params, z, delta)
    factors = tuple(map(Factors, deltas, y[:-1]))
    return Backprop(loss.value(phi, z[-1], t), y[-1], factors)


def pull_back(mlp: MLP, params: Params, z: tuple[Array, ...], delta: Array) -> tuple[Array, ...]:
    """Take a gradient with respect to z_L back through all layers: eq. (7).

    Parameters
    ----------
    mlp
        Static.
    params, z
        The network's, and every layer's z: [n_l] of one example.
    delta
        [n_L]: delta_L of a loss, or any other row to begin with.

    Returns
    -------
    deltas
        delta_1..delta_L, each [n_l].

    Examples
    --------
    >>> mlp = MLP((2, 2, 1), "relu", "identity", "quadratic")
    >>> params = (Layer(jnp.eye(2), jnp.zeros(2)), Layer(jnp.array([[3.0, 4.0]]), jnp.zeros(1)))
    >>> z, y = forward(mlp, params, jnp.array([1.0, -1.0]))
    >>> print(*pull_back(mlp, params, z, jnp.array([1.0])))
    [3. 0.] [1.]
    """
    deltas = [delta]
    for layer in reversed(range(len(params) - 1)):  # layer l of the formulas is number l - 1 here
        phi = ACTIVATIONS[mlp.activations[layer]]
        deltas.append(phi.pullback(z[layer], params[layer + 1].w.T @ deltas[-1]))  # (7)
    return tuple(reversed(deltas))


def outer(factors: tuple[Factors, ...]) -> Params:
    """Form one example's gradient from its factors: eq. (8).

    Parameters
    ----------
    factors
        Of one example: L pairs delta: [n_l], y_in: [n_{l-1}].

    Returns
    -------
    gradient
        Shaped like the parameters: L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.

    Examples
    --------
    >>> (layer,) = outer((Factors(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])),))
    >>> print(layer.w, layer.b)
    [[3. 4.]
     [6. 8.]] [1. 2.]
    """
    return tuple(Layer(jnp.outer(delta, y_in), delta) for delta, y_in in factors)


def mean_gradient(factors: tuple[Factors, ...]) -> Params:
    """Form the mean gradient of a batch from its factors: eq. (8), averaged by one matrix product a layer.

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}], as `jax.vmap` of `backprop` gives them.

    Returns
    -------
    gradient
        Shaped like the parameters. B gradients are never formed.

    Examples
    --------
    >>> (layer,) = mean_gradient((Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])),))
    >>> print(layer.w, layer.b)
    [[0.5 1.5]] [2.]
    """
    return tuple(Layer(delta.T @ y_in / delta.shape[0], delta.mean(0)) for delta, y_in in factors)


def loss_and_gradient(mlp: MLP, params: Params, x: Array, t: Array) -> tuple[Array, Params]:
    """Compute a batch's mean loss and mean gradient.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    x, t
        [B, n_0], and B targets of any kind that `backprop` takes.

    Returns
    -------
    loss, gradient
        A scalar, and a tree shaped like the parameters.

    Examples
    --------
    >>> from jaxmlp.network import init
    >>> mlp = MLP((4, 3, 2))
    >>> params = init(mlp, jax.random.key(0))
    >>> loss, gradient = loss_and_gradient(mlp, params, jnp.ones((5, 4)), jnp.zeros(5, int))
    >>> gradient[0].w.shape
    (3, 4)
    """
    losses, _, factors = jax.vmap(partial(backprop, mlp, params))(x, t)
    return losses.mean(), mean_gradient(factors)
