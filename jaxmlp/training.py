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
from jaxmlp.backpropagation import batch_gradient
from jaxmlp.config import TrainConfig, learning_rates
from jaxmlp.data import Dataset
from jaxmlp.evaluation import arrays, check_fit, evaluate_checked
from jaxmlp.history import Epoch, Trained, divergence
from jaxmlp.network import MLP, Params, init

__all__ = ["Hyperparameters", "batch_order", "check_training", "run_epoch", "train"]

_MOST_PARAMETERS = 2**31 - 1  # beyond what can be indexed XLA aborts the whole process


class Hyperparameters(NamedTuple):
    """The traced numbers of an epoch: a learning rate for each of its steps, [steps], and two scalars."""

    learning_rates: Array | np.ndarray
    momentum: Numeric
    weight_decay: Numeric


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
        x: [N, n_0] and N targets that fit the network; read in place where possible, so not to be written to by a
        callback.
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
        params, state = _start(mlp, key, config.init_scale)
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
    x: Array,
    t: Array,
    order: Array,
    hyperparameters: Hyperparameters,
    *,
    nesterov: bool = False,
) -> tuple[Params, sgd.State, Array]:
    """Run one epoch as one `scan` over its batches; a pure function, to be compiled by its caller.

    Parameters
    ----------
    mlp, nesterov
        Static.
    params, state
        Before the epoch.
    x, t
        The data set: [N, n_0] and N targets.
    order
        [steps, B] from `batch_order`.
    hyperparameters
        Traced.

    Returns
    -------
    params, state, losses
        After the epoch, and every batch's mean loss: [steps].
    """

    def step(carry: tuple[Params, sgd.State], batch: tuple[Array, Numeric]) -> tuple[tuple[Params, sgd.State], Array]:
        params, state = carry
        rows, learning_rate = batch
        loss, gradient = batch_gradient(mlp, params, x[rows], t[rows])
        params, state = sgd.update(
            params,
            state,
            gradient,
            learning_rate=learning_rate,
            momentum=hyperparameters.momentum,
            weight_decay=hyperparameters.weight_decay,
            nesterov=nesterov,
        )
        return (params, state), loss

    (params, state), losses = lax.scan(step, (params, state), (order, hyperparameters.learning_rates))
    return params, state, losses


_compiled_epoch = jax.jit(run_epoch, static_argnames=("mlp", "nesterov"), donate_argnames=("params", "state"))


@partial(jax.jit, static_argnames="mlp")
def _start(mlp: MLP, key: PRNGKey, scale: Numeric) -> tuple[Params, sgd.State]:
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
    examples: tuple[Array, Array],
    test_examples: tuple[Array, Array] | None,
) -> Trained:
    start = time.perf_counter()
    epoch = len(trained.history)
    order = batch_order(key, epoch, len(examples[0]), config.batch_size)
    rates = learning_rates(config, epoch, len(order))
    dtype = jax.tree.leaves(trained.last_params)[0].dtype
    numbers = Hyperparameters(*(np.asarray(n, dtype) for n in (rates, config.momentum, config.weight_decay)))
    # The epoch overwrites what it is given: copies save what a callback may hold, and what a diverged epoch
    # falls back to.
    params, state = _copy((trained.last_params, trained.state))
    params, state, losses = _compiled_epoch(mlp, params, state, *examples, order, numbers, nesterov=config.nesterov)
    diverged = not _is_finite((losses, params))
    scores = _NO_SCORES
    if test_examples is not None and not diverged:
        scores = evaluate_checked(mlp, params, *test_examples)
    loss = float(np.asarray(losses).mean(dtype=np.float64))
    row = Epoch(epoch + 1, float(rates[0]), loss, *scores, time.perf_counter() - start)
    trained = trained._replace(history=(*trained.history, row))
    if diverged:
        return trained._replace(status="diverged")
    return _after_epoch(trained, params, state, config)


def _after_epoch(trained: Trained, params: Params, state: sgd.State, config: TrainConfig) -> Trained:
    """Take the epoch's parameters, and decide whether they are the best so far and whether to go on."""
    history = trained.history
    is_best = config.patience is None or not trained.best_epoch
    is_best = is_best or _watched(history[-1]) < _watched(history[trained.best_epoch - 1])
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
