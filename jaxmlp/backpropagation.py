"""Backpropagation, written by hand: eq. (4) to (8), for one example.

    (4) output layer    delta_L = L'(y) * phi'(z_L)
    (7) hidden layer    delta_l = (w_{l+1}^T delta_{l+1}) * phi'(z_l)
    (8) every layer     grad w_l = delta_l outer y_{l-1},   grad b_l = delta_l

The pair (delta_l, y_{l-1}) is called the factors of layer l. The gradient of one example is their outer product; the
mean gradient of a batch is one matrix product, and the gradients of its examples are never formed. There is no autodiff
here; the tests compare with `jax.grad`. The arguments mlp, params, x and t are those of `jaxmlp.network`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxmlp._validation import pair_shapes
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Layer, Params, forward

__all__ = [
    "Backprop",
    "Factors",
    "backprop",
    "check_batch",
    "loss_and_gradient",
    "mean_gradient",
    "outer",
    "product",
    "pull_back",
]


class Factors(NamedTuple):
    """One layer's two factors of the gradient: delta_l: [n_l] and y_{l-1}: [n_{l-1}].

    They belong to the loss of one example: nothing in them is divided by the size of a batch.
    """

    delta: Array
    y_in: Array


class Backprop(NamedTuple):
    """The loss of one example, its output y_L: [n_L], and its factors, one pair a layer."""

    loss: Array
    y: Array
    factors: tuple[Factors, ...]


def backprop(mlp: MLP, params: Params, x: Array, t: ArrayLike) -> Backprop:
    """Run one example forward and backward, eq. (4) to (7), and return its loss, output and factors.

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
    delta = loss.delta(phi, z[-1], t)  # (4), or its cases (5), (6)
    deltas = pull_back(mlp, params, z, delta)
    factors = tuple(map(Factors, deltas, y[:-1]))
    return Backprop(loss.value(phi, z[-1], t), y[-1], factors)


def pull_back(mlp: MLP, params: Params, z: tuple[Array, ...], delta: Array) -> tuple[Array, ...]:
    """Return delta_1..delta_L, each [n_l], from delta_L: eq. (7).

    Parameters
    ----------
    z
        z_1..z_L of one example, each [n_l].
    delta
        [n_L]: delta_L of a loss, or the gradient of anything else with respect to z_L.

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
    """Return the gradient of one example, shaped like the parameters: the outer products of its factors, eq. (8).

    >>> (layer,) = outer((Factors(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])),))
    >>> print(layer.w, layer.b)
    [[3. 4.]
     [6. 8.]] [1. 2.]
    """
    shapes = [jnp.shape(factor) for layer in factors for factor in layer]
    if any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"factors must be those of one example, got shapes {shapes}; batch with jax.vmap")
    return tuple(Layer(jnp.outer(delta, y_in), delta) for delta, y_in in factors)


def mean_gradient(factors: tuple[Factors, ...]) -> Params:
    """Return the mean gradient of a batch, shaped like the parameters: eq. (8), averaged by one matrix product a layer.

    Parameters
    ----------
    factors
        The factors of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}], as `jax.vmap` of `backprop` returns them.

    Examples
    --------
    >>> (layer,) = mean_gradient((Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])),))
    >>> print(layer.w, layer.b)
    [[0.5 1.5]] [2.]
    """
    n_examples = check_batch(factors)
    return tuple(Layer(product(delta, y_in) / n_examples, delta.mean(0)) for delta, y_in in factors)


def product(delta: Array, y_in: Array) -> Array:
    """Return delta^T y: [n_l, n_{l-1}], summed over a batch.

    `delta.T @ y_in` has the same numbers. But compiled for a GPU with many networks side by side, each step would
    transpose the last layer's parameters and its last step there and back.

    >>> print(product(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])))
    [[1. 3.]]
    """
    return lax.dot_general(delta, y_in, (((0,), (0,)), ((), ())))


def check_batch(factors: tuple[Factors, ...]) -> int:
    """Return B; raise a ValueError unless these are factors of a batch."""
    try:
        shapes = pair_shapes(factors)
        counts = {shape[0] if len(shape) == 2 else 0 for pair in shapes for shape in pair}
        if len(counts) == 1 and 0 not in counts:
            return counts.pop()
        got = f"shapes {shapes}"
    except TypeError as error:
        got = str(error)
    raise ValueError(
        "factors must be those of a batch, pairs of shapes [B, n_l] and [B, n_{l-1}] as jax.vmap of backprop returns "
        f"them, got {got}"
    )


def loss_and_gradient(mlp: MLP, params: Params, x: Array, t: Array) -> tuple[Array, Params]:
    """Return the mean loss of a batch, a scalar, and its mean gradient, shaped like the parameters.

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
