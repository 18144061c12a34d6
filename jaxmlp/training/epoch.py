"""One epoch as one compiled program: for every batch forward, backward, the mean gradient, the momentum update."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxmlp import sgd
from jaxmlp.backpropagation import backprop, mean_gradient
from jaxmlp.network import MLP, Params, init, unstacked
from jaxmlp.per_example import clipping_weights, norms, weighted_mean
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.examples import Examples, batch
from jaxmlp.training.tracking import StepStatistics, sampled_steps, step_statistics

__all__ = [
    "Hyperparameters",
    "batch_order",
    "compiled_epoch",
    "epoch_numbers",
    "run_epoch",
    "run_networks",
    "start",
    "start_networks",
    "step_gradient",
]


class Hyperparameters(NamedTuple):
    """The traced numbers of an epoch: a learning rate for each of its steps, [steps], and scalars.

    Without clipping, `clip` is None and the program has no code for it.
    """

    learning_rates: Array | np.ndarray
    momentum: ArrayLike
    weight_decay: ArrayLike
    clip: ArrayLike | None = None


def batch_order(key: Array, epoch: int, n_examples: int, batch_size: int) -> np.ndarray:
    """Return the batches of an epoch in random order: [steps, B] indices of examples, no index twice.

    The order depends on (key, epoch) alone, so a resumed run draws the same batches as an uninterrupted one. It is
    drawn on the host, where a permutation takes a fiftieth of the time of `jax.random.permutation`.

    >>> batch_order(jax.random.key(0), 0, n_examples=7, batch_size=3).shape
    (2, 3)
    """
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    order = np.random.default_rng([*seed, epoch]).permutation(n_examples)
    n_steps = n_examples // batch_size
    return order[: n_steps * batch_size].reshape(n_steps, batch_size).astype(np.int32)


def run_epoch(
    mlp: MLP,
    params: Params,
    state: sgd.State,
    examples: Examples,
    order: Array,
    hyperparameters: Hyperparameters,
    *,
    nesterov: bool = False,
    track: tuple[str, ...] = (),
) -> tuple[Params, sgd.State, Array, StepStatistics | None]:
    """Run one epoch as one `scan` over its batches; a pure function, to be compiled by its caller.

    `examples` is the whole data set; `order` [steps, B] comes from `batch_order`. `nesterov` and `track` are static,
    see `TrainConfig`. Returns the parameters and state after the epoch, the mean loss of each batch, [steps], and the
    statistics that `track` needs from each step.
    """
    rates, momentum, weight_decay, clip = hyperparameters
    update = partial(sgd.update, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def step(
        carry: tuple[Params, sgd.State], drawn: tuple[Array, ArrayLike, Array]
    ) -> tuple[tuple[Params, sgd.State], tuple[Array, StepStatistics | None]]:
        params, state = carry
        rows, learning_rate, sampled = drawn
        loss, gradient, statistics = step_gradient(mlp, params, batch(examples, rows), clip, track, sampled)
        params, state = update(params, state, gradient, learning_rate=learning_rate)
        return (params, state), (loss, statistics)

    steps = (order, jnp.asarray(rates), jnp.asarray(sampled_steps(len(order))))
    (params, state), records = lax.scan(step, (params, state), steps)
    return params, state, *records


compiled_epoch = jax.jit(run_epoch, static_argnames=("mlp", "nesterov", "track"), donate_argnames=("params", "state"))


def run_networks(
    mlp: MLP,
    params: Params,
    state: sgd.State,
    examples: Examples,
    orders: Array | np.ndarray,
    hyperparameters: Hyperparameters,
    *,
    nesterov: bool = False,
    in_turn: bool | None = None,
) -> tuple[Params, sgd.State, Array]:
    """Run one epoch of K networks, each as `run_epoch`; `params`, `state`, the batch orders and results have an axis K.

    In turn if None: on a CPU. There two cores took 1.4 times as long for eight networks 300-256-256-10 side by side as
    in turn, because the parameters of all do not fit the cache. An accelerator runs them side by side.
    """
    in_turn = jax.default_backend() == "cpu" if in_turn is None else in_turn
    given = (examples, hyperparameters)
    if not in_turn:
        return _side_by_side(mlp, params, state, orders, *given, nesterov)
    starts = unstacked((params, state), len(orders))
    ends = [
        compiled_epoch(mlp, *start, examples, order, hyperparameters, nesterov=nesterov)[:3]
        for start, order in zip(starts, orders, strict=True)
    ]
    return _stacked(ends)


@partial(jax.jit, static_argnames=("mlp", "nesterov"), donate_argnames=("params", "state"))
def _side_by_side(
    mlp: MLP,
    params: Params,
    state: sgd.State,
    orders: Array,
    examples: Examples,
    hyperparameters: Hyperparameters,
    nesterov: bool,
) -> tuple[Params, sgd.State, Array]:
    def run(params: Params, state: sgd.State, order: Array) -> tuple[Params, sgd.State, Array]:
        return run_epoch(mlp, params, state, examples, order, hyperparameters, nesterov=nesterov)[:3]

    return jax.vmap(run)(params, state, orders)


@jax.jit
def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def step_gradient(
    mlp: MLP,
    params: Params,
    batch: Examples,
    clip: ArrayLike | None,
    track: tuple[str, ...] = (),
    sampled: Array | bool = True,
) -> tuple[Array, Params, StepStatistics | None]:
    """Compute one step's mean of weight times loss, and its mean gradient; also the statistics that `track` needs.

    Each example's gradient is clipped to the norm `clip` (None clips nothing), then weighted. `track` is static, see
    `TrainConfig`; `sampled` tells whether this step takes all statistics, see `jaxmlp.training.tracking.sampled_steps`.

    >>> mlp = MLP((2, 2))
    >>> batch = Examples(jnp.ones((3, 2)), jnp.zeros(3, int), None)
    >>> loss, gradient, _ = step_gradient(mlp, init(mlp, jax.random.key(0)), batch, clip=0.1)
    >>> print(round(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient)) ** 0.5, 3))
    0.1
    """
    losses, _, factors = jax.vmap(partial(backprop, mlp, params))(batch.x, batch.t)
    weights = None if batch.weights is None else batch.weights.astype(losses.dtype)
    loss = losses.mean() if weights is None else (weights * losses).mean()
    if clip is None and not track:
        # The compiler would drop unused norms, but they would take a quarter of the tracing and lowering time.
        return loss, mean_gradient(factors) if weights is None else weighted_mean(factors, weights), None
    lengths = norms(factors)
    if clip is not None:
        scale = clipping_weights(lengths, clip)
        weights = scale if weights is None else weights * scale
    gradient = mean_gradient(factors) if weights is None else weighted_mean(factors, weights)
    return loss, gradient, step_statistics(track, lengths, weights, gradient, sampled)


@partial(jax.jit, static_argnames="mlp")
def start(mlp: MLP, key: Array, scale: ArrayLike) -> tuple[Params, sgd.State]:
    """Draw the initial parameters, and return them with the state before the first step."""
    params = init(mlp, key, scale=scale)
    return params, sgd.init(params)


def start_networks(mlp: MLP, keys: Array, scale: ArrayLike) -> tuple[Params, sgd.State]:
    """Return `start` of each key, in arrays with a leading axis K."""
    return _stacked([start(mlp, key, scale) for key in keys])


def epoch_numbers(config: TrainConfig, rates: np.ndarray) -> Hyperparameters:
    """Return the hyperparameters of an epoch with these learning rates, not yet in the parameters' dtype."""
    return Hyperparameters(rates, config.momentum, config.weight_decay, config.clip)
