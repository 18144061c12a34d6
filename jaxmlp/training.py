"""The training scheme in full, with one epoch as one compiled program.

Random initial weights; every epoch a fresh random order, cut into same-size batches; for every batch forward,
backward, the mean gradient, and the momentum update, eq. (1) to (8).
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from math import isnan
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from chex import Numeric, PRNGKey
from jax import Array, lax

from jaxmlp import sgd
from jaxmlp.backpropagation import backprop, gradient
from jaxmlp.config import TrainConfig, learning_rates
from jaxmlp.data import Dataset
from jaxmlp.evaluation import Examples, arrays, check_fit, evaluate_checked
from jaxmlp.history import Epoch, Trained, divergence
from jaxmlp.network import MLP, Params, init
from jaxmlp.per_example import clipping_weights, norms, weighted_mean
from jaxmlp.tracking import StepStatistics, epoch_statistics, sampled_steps, step_statistics, top_eigenvalue

__all__ = [
    "Hyperparameters",
    "after_epoch",
    "batch_order",
    "check_training",
    "curvature_after_epoch",
    "epoch_numbers",
    "run_epoch",
    "start",
    "step_gradient",
    "train",
]

_CURVATURE_EXAMPLES = 1024
_MOST_PARAMETERS = 2**31 - 1  # beyond what can be indexed XLA aborts the whole process


class Hyperparameters(NamedTuple):
    """The traced numbers of an epoch: a learning rate for each of its steps, [steps], and scalars.

    Without clipping `clip` is None, and nothing of it in the program.
    """

    learning_rates: Array | np.ndarray
    momentum: Numeric
    weight_decay: Numeric
    clip: Numeric | None = None


def train(
    mlp: MLP,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    key: PRNGKey,
    test: Dataset | None = None,
    callback: Callable[[Trained], object] | None = None,
    resume: Trained | None = None,
) -> Trained:
    """Train a network.

    Parameters
    ----------
    mlp
        Static.
    data
        x: [N, n_0] and N targets that fit the network, and perhaps weights, which multiply each example's loss; read
        in place where possible, so not to be written to by a callback.
    config
        `TrainConfig()` if None.
    key
        Of `jax.random.key`: of the initial weights, `init(mlp, key, scale=config.init_scale)`, and, with the
        epoch's number, of each epoch's order.
    test
        Evaluated after every epoch.
    callback
        Called with the `Trained` so far after every epoch. Its arrays stay valid.
    resume
        Go on from here, with the same other arguments: the result is, bit for bit, that of a run which was
        never interrupted. A finished run goes on if the configuration now has more epochs.

    Returns
    -------
    Trained(params, state, history, last_params, best_epoch, status)

    Raises
    ------
    ValueError
        If the data do not fit the network, or not even one batch, or `resume` has more epochs than `config`.

    Warns
    -----
    RuntimeWarning
        If the loss is no longer finite: training stops with the last finite parameters.

    Examples
    --------
    >>> data = Dataset(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0]))
    >>> config = TrainConfig(epochs=200, batch_size=4, learning_rate=0.2)
    >>> trained = train(MLP((2, 16, 2)), data, config, key=jax.random.key(0), test=data)
    >>> trained.history[-1].test_accuracy
    1.0
    """
    config = config or TrainConfig()
    check_training(mlp, data, config, test)
    trained = resume
    if trained is None:
        params, state = start(mlp, key, config.init_scale)
        trained = Trained(params, state, (), params, 0, "running")
    elif len(trained.history) > config.epochs:
        raise ValueError(f"epochs must be at least the {len(trained.history)} of resume, got {config.epochs}")
    elif trained.status == "finished" and len(trained.history) < config.epochs:
        trained = trained._replace(status="running")
    examples, test_examples = arrays(mlp, data), None if test is None else arrays(mlp, test)
    while trained.status == "running":
        trained = _train_epoch(mlp, trained, config, key, examples, test_examples)
        if callback:
            callback(trained)
    if trained.status == "diverged":
        warnings.warn(divergence(trained), RuntimeWarning, stacklevel=2)
    return trained


def batch_order(key: PRNGKey, epoch: int, n_examples: int, batch_size: int) -> np.ndarray:
    """Draw an epoch's batches: [steps, B] indices into the examples, none of them twice.

    Drawn on the host, seeded by (key, epoch): a resumed run draws what the unbroken one would have, and a
    permutation there takes a fiftieth of the time of one by `jax.random`.

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

    Parameters
    ----------
    mlp, nesterov, track
        Static.
    params, state
        Before the epoch.
    examples
        The data set: x: [N, n_0], N targets, and [N] weights or None.
    order
        [steps, B] from `batch_order`.
    hyperparameters
        Traced.

    Returns
    -------
    params, state, losses, statistics
        After the epoch; every batch's mean loss, [steps]; and what `track` needs of every step.
    """

    def step(
        carry: tuple[Params, sgd.State], batch: tuple[Array, Numeric, Array]
    ) -> tuple[tuple[Params, sgd.State], tuple[Array, StepStatistics | None]]:
        params, state = carry
        rows, learning_rate, sampled = batch
        of_batch = jax.tree.map(lambda array: array[rows], examples)
        loss, gradient, statistics = step_gradient(mlp, params, of_batch, hyperparameters.clip, track, sampled)
        params, state = sgd.update(
            params,
            state,
            gradient,
            learning_rate=learning_rate,
            momentum=hyperparameters.momentum,
            weight_decay=hyperparameters.weight_decay,
            nesterov=nesterov,
        )
        return (params, state), (loss, statistics)

    steps = (order, jnp.asarray(hyperparameters.learning_rates), jnp.asarray(sampled_steps(len(order))))
    (params, state), records = lax.scan(step, (params, state), steps)
    return params, state, *records


_compiled_epoch = jax.jit(run_epoch, static_argnames=("mlp", "nesterov", "track"), donate_argnames=("params", "state"))


def step_gradient(
    mlp: MLP,
    params: Params,
    batch: Examples,
    clip: Numeric | None,
    track: tuple[str, ...] = (),
    sampled: Array | bool = True,
) -> tuple[Array, Params, StepStatistics | None]:
    """Compute what one step goes by: a batch's mean loss and mean gradient, clipped first and weighted then.

    Parameters
    ----------
    mlp, track
        Static.
    params
        A tuple of L `Layer`.
    batch
        x: [B, n_0], B targets, and [B] weights or None.
    clip
        The norm that every example's gradient is clipped to, or None.
    sampled
        Whether this step takes all statistics, see `jaxmlp.tracking.sampled_steps`.

    Returns
    -------
    loss, gradient, statistics
        The mean of weight times loss, what is followed (shaped like the parameters), and what `track` needs.

    Examples
    --------
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
        # The compiler would drop norms that nobody looks at, but they are a quarter of the program to trace and lower.
        return loss, gradient(factors) if weights is None else weighted_mean(factors, weights), None
    lengths = norms(factors)
    if clip is not None:
        scale = clipping_weights(lengths, clip)
        weights = scale if weights is None else weights * scale
    mean = gradient(factors) if weights is None else weighted_mean(factors, weights)
    return loss, mean, step_statistics(track, lengths, weights, mean, sampled)


@partial(jax.jit, static_argnames="mlp")
def start(mlp: MLP, key: PRNGKey, scale: Numeric) -> tuple[Params, sgd.State]:
    """Draw what training starts with."""
    params = init(mlp, key, scale=scale)
    return params, sgd.init(params)


@jax.jit
def _copy(tree: chex.ArrayTree) -> chex.ArrayTree:
    return jax.tree.map(jnp.copy, tree)


_NO_SCORES: tuple[float | None, float | None, float | None] = (None, None, None)


def _is_finite(tree: chex.ArrayTree) -> bool:
    # On the host: in the compiled epoch this took a quarter of its compilation.
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def _train_epoch(
    mlp: MLP,
    trained: Trained,
    config: TrainConfig,
    key: PRNGKey,
    examples: Examples,
    test_examples: Examples | None,
) -> Trained:
    start = time.perf_counter()
    epoch = len(trained.history)
    order = batch_order(key, epoch, len(examples.x), config.batch_size)
    dtype = jax.tree.leaves(trained.last_params)[0].dtype
    rates = learning_rates(config, epoch, len(order))
    numbers = jax.tree.map(lambda number: np.asarray(number, dtype), epoch_numbers(config, rates))
    # The epoch overwrites what it is given: copies save what a callback may hold, and what a diverged epoch
    # falls back to.
    params, state = _copy((trained.last_params, trained.state))
    params, state, losses, statistics = _compiled_epoch(
        mlp, params, state, examples, order, numbers, nesterov=config.nesterov, track=config.track
    )
    diverged = not _is_finite((losses, params))
    scores = _NO_SCORES
    if test_examples is not None and not diverged:
        scores = evaluate_checked(mlp, params, test_examples)
    loss = float(np.asarray(losses).mean(dtype=np.float64))
    tracked = epoch_statistics(config, statistics)
    if "curvature" in config.track and not diverged:
        tracked["top_eigenvalue"] = curvature_after_epoch(mlp, params, examples, key)
    row = Epoch(epoch + 1, float(rates[0]), loss, *scores, time.perf_counter() - start, **tracked)
    return after_epoch(trained, config, row, None if diverged else (params, state))


def epoch_numbers(config: TrainConfig, rates: np.ndarray) -> Hyperparameters:
    """Return an epoch's numbers, to be cast to the parameters' dtype and traced."""
    return Hyperparameters(rates, config.momentum, config.weight_decay, config.clip)


def curvature_after_epoch(mlp: MLP, params: Params, examples: Examples, key: PRNGKey) -> float | None:
    """Return the Hessian's largest eigenvalue over the same examples after every epoch: what changes is the network."""
    rows = batch_order(key, 0, len(examples.x), min(len(examples.x), _CURVATURE_EXAMPLES))[0]
    return top_eigenvalue(mlp, params, examples.x[rows], examples.t[rows], key)


def after_epoch(trained: Trained, config: TrainConfig, row: Epoch, after: tuple[Params, sgd.State] | None) -> Trained:
    """Take an epoch's row, and its parameters and state; decide whether they are the best so far and whether to go on.

    `after` is None where the epoch diverged: what was there before it is kept.
    """
    history = (*trained.history, row)
    if after is None:
        return trained._replace(history=history, status="diverged")
    params, state = after
    is_best = config.patience is None or not trained.best_epoch
    is_best = is_best or _watched(row) < _watched(history[trained.best_epoch - 1])
    best_epoch = len(history) if is_best else trained.best_epoch
    status = "running"
    if len(history) == config.epochs:
        status = "finished"
    elif config.patience is not None and len(history) - best_epoch >= config.patience:
        status = "stopped"
    return Trained(params if is_best else trained.params, state, history, params, best_epoch, status)


def _watched(row: Epoch) -> float:
    loss = row.train_loss if row.test_loss is None else row.test_loss
    return float("inf") if isnan(loss) else loss


def check_training(mlp: MLP, data: Dataset, config: TrainConfig, test: Dataset | None = None) -> None:
    """Raise the `ValueError` that `train` would, before any work is done."""
    check_fit(mlp, data)
    if test is not None:
        check_fit(mlp, test)
    if config.batch_size > len(data):
        raise ValueError(f"batch_size must be at most the {len(data)} training examples, got {config.batch_size}")
    if mlp.n_parameters > _MOST_PARAMETERS:
        raise ValueError(f"sizes {mlp.sizes} make {mlp.n_parameters:,} parameters, more than {_MOST_PARAMETERS:,}")
