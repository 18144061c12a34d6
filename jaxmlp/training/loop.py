"""The training loop over epochs, each of which is one compiled program (`epoch`).

Training draws random initial weights. Each epoch draws a new random order and cuts it into batches of one size. Each
batch takes a forward pass, a backward pass, the mean gradient, and the momentum update, eq. (1) to (8).
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from math import isnan
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp.curvature import NoEigenvalue, largest_eigenvalue
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Params, networks
from jaxmlp.training.boundary import check_key, check_resume, check_training, is_several
from jaxmlp.training.config import TrainConfig, learning_rates
from jaxmlp.training.epoch import batch_order, compiled_epoch, epoch_numbers, run_networks, start, start_networks
from jaxmlp.training.evaluation import evaluate_examples
from jaxmlp.training.examples import Examples, arrays, batch
from jaxmlp.training.history import Epoch, Trained, divergence
from jaxmlp.training.tracking import epoch_statistics

__all__ = ["after_epoch", "curvature_after_epoch", "train"]

_CURVATURE_EXAMPLES = 1024


def train(
    mlp: MLP,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    key: Array,
    validation: Dataset | None = None,
    test: Dataset | None = None,
    callback: Callable[[Trained], object] | None = None,
    resume: Trained | None = None,
) -> Trained:
    """Train a network, or several.

    Parameters
    ----------
    data
        The training examples, perhaps with weights, which multiply each example's loss. They are read in place where
        possible: a callback must not write to them.
    config
        `TrainConfig()` if None.
    key
        One key, as `jax.random.key(0)`. It determines the initial weights, `init(mlp, key, scale=config.init_scale)`,
        and, with an epoch's number, the order of its examples. An array of K keys, as
        `jax.random.split(jax.random.key(0), 8)`, trains K networks, each as its key alone would. Parameters then have
        a leading axis K (see `jaxmlp.networks`), the training loss is the mean over the networks, and evaluation is
        that of their mean output.
    validation
        A data set to evaluate on after every epoch, which `config.patience` watches.
    test
        A data set to evaluate on once, when training ends, with the parameters that are kept. Nothing in training
        depends on it.
    callback
        A function that is called with the `Trained` so far after every epoch. The arrays it gets stay valid.
    resume
        A `Trained` to continue from. With the same other arguments the result is bit for bit that of an uninterrupted
        run. A finished run continues if `config.epochs` is larger than the number of its epochs.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type; if the data do not fit the network or do not fill one batch, or `resume` does
        not fit `mlp` and `config`.

    Warns
    -----
    RuntimeWarning
        If the loss is no longer finite: training stops and keeps the last finite parameters.

    Examples
    --------
    >>> data = Dataset(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0]))
    >>> config = TrainConfig(epochs=200, batch_size=4, learning_rate=0.2)
    >>> trained = train(MLP((2, 16, 2)), data, config, key=jax.random.key(0), test=data)
    >>> trained.test.accuracy
    1.0
    """
    config = TrainConfig() if config is None else config
    check_training(mlp, data, config, validation, test)
    check_key(key, config)
    if resume is None:
        params, state = (start_networks if is_several(key) else start)(mlp, key, config.init_scale)
        trained = Trained(params, state, (), params, 0, "running")
    else:
        check_resume(mlp, config, resume, key)
        trained = resume._replace(test=None)
        if resume.status in ("running", "finished"):
            trained = trained._replace(status="running" if len(resume.history) < config.epochs else "finished")
    examples, watched = arrays(mlp, data), None if validation is None else arrays(mlp, validation)
    while trained.status == "running":
        trained = _train_epoch(mlp, trained, config, key, examples, watched)
        if callback:
            callback(trained)
    if trained.status == "diverged":
        warnings.warn(divergence(trained), RuntimeWarning, stacklevel=2)
    if test is None:
        return trained
    return trained._replace(test=evaluate_examples(networks(mlp, trained.params), arrays(mlp, test)))


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _train_epoch(
    mlp: MLP, trained: Trained, config: TrainConfig, key: Array, examples: Examples, watched: Examples | None
) -> Trained:
    start = time.perf_counter()
    epoch = len(trained.history)
    dtype = jax.tree.leaves(trained.last_params)[0].dtype
    rates = learning_rates(config, epoch, len(examples.x) // config.batch_size)
    numbers = jax.tree.map(lambda number: np.asarray(number, dtype), epoch_numbers(config, rates))
    # The compiled epoch overwrites the copies. A callback may hold the originals; a diverged run falls back to them.
    params, state = _copy((trained.last_params, trained.state))
    of_all = (mlp, params, state, examples)
    order_of = partial(batch_order, epoch=epoch, n_examples=len(examples.x), batch_size=config.batch_size)
    if is_several(key):
        orders, statistics = np.stack([order_of(one) for one in key]), None
        params, state, losses = run_networks(*of_all, orders, numbers, nesterov=config.nesterov)
    else:
        params, state, losses, statistics = compiled_epoch(
            *of_all, order_of(key), numbers, nesterov=config.nesterov, track=config.track
        )
    # Checked on the host: in the compiled epoch this took a quarter of the compilation time.
    diverged = not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((losses, params)))
    scores: tuple[float | None, float | None, float | None] = (None, None, None)
    if watched is not None and not diverged:
        scores = evaluate_examples(networks(mlp, params), watched)
    loss = float(np.asarray(losses).mean(dtype=np.float64))
    tracked = epoch_statistics(config, statistics)
    if "curvature" in config.track and not diverged:
        tracked["top_eigenvalue"] = curvature_after_epoch(mlp, params, examples, key)
    row = Epoch(epoch + 1, float(rates[0]), loss, *scores, time.perf_counter() - start, **tracked)
    return after_epoch(trained, config, row, None if diverged else (params, state))


def curvature_after_epoch(mlp: MLP, params: Params, examples: Examples, key: Array) -> float | None:
    """Return the Hessian's largest eigenvalue over the same examples for every epoch, None if none is found."""
    rows = batch_order(key, 0, len(examples.x), min(len(examples.x), _CURVATURE_EXAMPLES))[0]
    try:
        x, t, *_ = batch(examples, rows)
        return largest_eigenvalue(mlp, params, x, t, key=key).value
    except NoEigenvalue:
        return None


def after_epoch(trained: Trained, config: TrainConfig, row: Epoch, after: tuple[Params, sgd.State] | None) -> Trained:
    """Add an epoch to a run: decide whether it is the best so far, and whether training goes on.

    `trained` is the run before the epoch, `row` the epoch's row of history, `after` the parameters and state after it;
    None if the epoch diverged, which keeps those before it.
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
    loss = row.train_loss if row.validation_loss is None else row.validation_loss
    return float("inf") if isnan(loss) else loss
