"""The compiled epoch of a few networks that see the same batches: the gradients of the core, scikit-learn's sums.

A batch's loss is sum_b c_b loss_b + alpha/2 |W|^2 / S with S = sum_b c_b' and c_b = c_b' / S, where c_b' are the
weights of its examples (1 without any). Its gradient follows from the factors of backpropagation, eq. (4) to (8), and
the step is `sgd.update`, eq. (3). Biases are not decayed. The squared error is a mean over the outputs in the loss, but
a sum in the gradient.

Networks side by side are lanes: `vmap` of one network's epoch. Their batches have no lane axis, so the first layers of
all lanes are one matrix product.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxmlp import sgd
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.backpropagation import backprop
from jaxmlp.data import Expansion
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Params, forward
from jaxmlp.per_example import clipping_weights, norms, weighted_sum
from jaxmlp.training.examples import expand

__all__ = ["Batches", "Data", "Lanes", "Measured", "Numbers", "run_epoch"]


class Data(NamedTuple):
    """What all lanes see: x: [n, d], n targets, and how a row of x becomes the inputs of a network."""

    x: ArrayLike
    targets: ArrayLike
    expansion: Expansion | None = None


class Batches(NamedTuple):
    """An epoch's batches: rows of x and their weights, [S, B] each, of which the first `n_steps` are used.

    A batch that is not full repeats one of its rows with the weight 0.
    """

    n_steps: Array | np.integer
    rows: Array | np.ndarray
    weights: Array | np.ndarray


class Numbers(NamedTuple):
    """What may differ between lanes: the rate of each step [K, S]; alpha, momentum and the clipping norm, [K] each."""

    learning_rates: ArrayLike
    alpha: ArrayLike
    momentum: ArrayLike
    clip: ArrayLike | None = None


class Lanes(NamedTuple):
    """Parameters and last steps of K networks, each array with a leading axis K."""

    params: Params
    dw: Params


class Measured(NamedTuple):
    """Results of an epoch: the loss of each batch, [K, S]; on validation rows the outputs [K, V, n_L] and a mean loss.

    The weighted mean of the loss on the validation rows, [K], has no L2 term.
    """

    losses: Array
    validation_outputs: Array | None
    validation_losses: Array | None


@partial(jax.jit, static_argnames=("mlp", "nesterov"))
def run_epoch(
    mlp: MLP, nesterov: bool, lanes: Lanes, numbers: Numbers, data: Data, batches: Batches, validation: Any
) -> tuple[Lanes, Measured]:
    """Train K networks for one epoch. `validation` is (rows [V], their weights [V]), or None."""
    network = partial(_one_epoch, mlp, nesterov, data=data, batches=batches, validation=validation)
    if lanes.params[0].b.shape[0] > 1:
        return jax.vmap(network)(lanes, numbers)
    # A lane alone runs without `vmap`: a product with a batch axis of 1 is slower.
    one: Any = jax.tree.map(lambda leaf: leaf[0], (lanes, numbers))
    results: Any = network(*one)
    return jax.tree.map(lambda leaf: leaf[None], results)


def _one_epoch(
    mlp: MLP, nesterov: bool, lane: Lanes, numbers: Numbers, *, data: Data, batches: Batches, validation: Any
) -> tuple[Lanes, Measured]:
    rows, weights = jnp.asarray(batches.rows), jnp.asarray(batches.weights)

    def step(i: Array, carry: tuple[Lanes, Array]) -> tuple[Lanes, Array]:
        lane, losses = carry
        lane, loss = _step(mlp, nesterov, lane, data, rows[i], weights[i], _at_step(numbers, i))
        return lane, losses.at[i].set(loss)

    blank = jnp.zeros(rows.shape[0], lane.params[0].w.dtype)
    lane, losses = lax.fori_loop(0, batches.n_steps, step, (lane, blank))
    if validation is None:
        return lane, Measured(losses, None, None)
    return lane, Measured(losses, *_validate(mlp, lane.params, data, *validation))


def _step(
    mlp: MLP, nesterov: bool, lane: Lanes, data: Data, rows: Array, weights: Array, numbers: Numbers
) -> tuple[Lanes, Array]:
    params, dw = lane
    total = weights.sum()
    shares = weights / total
    losses, _, factors = jax.vmap(partial(backprop, mlp, params))(*_drawn(data, rows, weights.dtype))
    decay = numbers.alpha / total
    squares = sum(jnp.sum(layer.w**2) for layer in params)
    loss = _loss_scale(mlp) * jnp.sum(shares * losses) + 0.5 * decay * squares
    if numbers.clip is not None:
        shares = shares * clipping_weights(norms(factors), numbers.clip)
    params, state = sgd.update(
        params,
        sgd.State(dw),
        weighted_sum(factors, shares),
        learning_rate=numbers.learning_rates,
        momentum=numbers.momentum,
        weight_decay=decay,
        nesterov=nesterov,
    )
    return Lanes(params, state.dw), loss


def _validate(mlp: MLP, params: Params, data: Data, rows: Array, weights: Array) -> tuple[Array, Array]:
    x, targets = _drawn(data, rows, weights.dtype)

    def measured(x: Array, t: Array) -> tuple[Array, Array]:
        z, y = forward(mlp, params, x)
        loss = LOSSES[mlp.loss].value(ACTIVATIONS[mlp.output], z[-1], target_row(t, z[-1], mlp.output))
        return y[-1], loss

    outputs, losses = jax.vmap(measured)(x, targets)
    return outputs, _loss_scale(mlp) * jnp.sum(weights * losses) / weights.sum()


def _drawn(data: Data, rows: Array, dtype: np.dtype) -> tuple[Array, Array]:
    """Return the inputs of the network, and the targets, of some rows."""
    x = jnp.asarray(data.x)[rows].astype(dtype)
    return jax.vmap(partial(expand, data.expansion))(x), jnp.asarray(data.targets)[rows]


def _at_step(numbers: Numbers, i: Array) -> Numbers:
    return numbers._replace(learning_rates=jnp.asarray(numbers.learning_rates)[i])


def _loss_scale(mlp: MLP) -> float:
    """Return the factor of the recorded loss: scikit-learn's squared error is a mean over the outputs."""
    return 1 / mlp.sizes[-1] if mlp.loss == "quadratic" else 1.0
