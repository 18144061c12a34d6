"""The training scheme in full: the loop over epochs, each of them one compiled program (`epoch`).

Random initial weights; every epoch a fresh random order, cut into same-size batches; for every batch forward,
backward, the mean gradient, and the momentum update, eq. (1) to (8).
"""

import time
import warnings
from collections.abc import Callable
from math import isnan
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Params
from jaxmlp.training.config import TrainConfig, learning_rates
from jaxmlp.training.epoch import batch_order, compiled_epoch, epoch_numbers, start
from jaxmlp.training.evaluation import evaluate_checked
from jaxmlp.training.examples import Examples, arrays, check_fit
from jaxmlp.training.history import Epoch, Trained, divergence
from jaxmlp.training.tracking import epoch_statistics, top_eigenvalue

__all__ = [
    "after_epoch",
    "check_training",
    "curvature_after_epoch",
    "train",
]

_CURVATURE_EXAMPLES = 1024
_MOST_PARAMETERS = 2**31 - 1  # beyond what can be indexed XLA aborts the whole process


def train(
    mlp: MLP,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    key: Array,
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


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


_NO_SCORES: tuple[float | None, float | None, float | None] = (None, None, None)


def _is_finite(tree: Any) -> bool:
    # On the host: in the compiled epoch this took a quarter of its compilation.
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def _train_epoch(
    mlp: MLP,
    trained: Trained,
    config: TrainConfig,
    key: Array,
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
    params, state, losses, statistics = compiled_epoch(
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


def curvature_after_epoch(mlp: MLP, params: Params, examples: Examples, key: Array) -> float | None:
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
