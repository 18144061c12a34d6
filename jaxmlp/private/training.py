"""Private training: epochs of noised steps, and what they have spent."""

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Params
from jaxmlp.private.accounting import epsilons, noise_multiplier_for
from jaxmlp.private.guarantee import Guarantee
from jaxmlp.private.mechanism import Mechanism, Privacy
from jaxmlp.private.step import Numbers, run_epoch
from jaxmlp.training.boundary import check_key, check_training, is_several
from jaxmlp.training.config import TrainConfig, learning_rates
from jaxmlp.training.epoch import start
from jaxmlp.training.evaluation import evaluate
from jaxmlp.training.examples import arrays
from jaxmlp.training.history import Evaluation

__all__ = ["PrivateEpoch", "Trained", "config_for", "train"]


class PrivateEpoch(NamedTuple):
    """One row of history; nothing in it is computed from training examples but through the noised parameters.

    Attributes
    ----------
    epoch, learning_rate
        The epoch's number, from 1, and the learning rate of its first step.
    epsilon
        What all steps so far have spent, at the delta of the guarantee.
    validation
        Evaluation on the validation data, which the guarantee does not cover; None without any.
    seconds
        Wall time of the epoch.
    """

    epoch: int
    learning_rate: float
    epsilon: float
    validation: Evaluation | None
    seconds: float


class Trained(NamedTuple):
    """The result of private training, so far (as a callback receives it) or at the end.

    Attributes
    ----------
    params, state
        Parameters, and state of momentum SGD.
    history
        One `PrivateEpoch` for each epoch.
    guarantee
        What has been promised, with all that the promise rests on.
    test
        Evaluation on the test data, which the guarantee does not cover; None before the end, or without any.
    """

    params: Params
    state: sgd.State
    history: tuple[PrivateEpoch, ...]
    guarantee: Guarantee
    test: Evaluation | None = None


def config_for(n_examples: int, **changes: Any) -> TrainConfig:
    """Return a configuration that suits private training on so many examples, with some changes.

    Batches are large, because the noise does not grow with them (De et al. 2022, arXiv 2204.13650), and the rate suits
    gradients that are clipped to 0.1.

    >>> config_for(60_000, epochs=10).batch_size
    2000
    """
    suited = {"epochs": 30, "batch_size": min(n_examples, max(256, n_examples // 30)), "learning_rate": 4.0}
    return TrainConfig(**suited | {"weight_decay": 0.0} | changes)


def train(
    mlp: MLP,
    data: Dataset,
    privacy: Privacy,
    config: TrainConfig | None = None,
    *,
    key: Array,
    secret: Array | None = None,
    validation: Dataset | None = None,
    test: Dataset | None = None,
    callback: Callable[[Trained], object] | None = None,
) -> Trained:
    """Train a network with differential privacy for the training examples; see `Mechanism` for one step.

    An epoch is N / B steps, rounded. The guarantee holds for all parameters after all steps, so also for those that a
    callback sees. It does not cover what was done with the examples before: scaling or encoding that was learned from
    them, and settings that were chosen by results on them.

    Parameters
    ----------
    data
        The training examples, without weights.
    privacy
        What to promise, or the noise.
    config
        `config_for(N)` if None. `batch_size` is the expected batch size. `clip`, `patience` and `track` must be None or
        empty: the norm to clip to is `privacy.clip`, and the others look at training examples.
    key
        Draws the initial weights.
    secret
        Draws batches and noise: whoever knows it knows the noise. None draws one from the operating system. Give one in
        tests only.
    validation, test, callback
        As in `jaxmlp.train`.

    Raises
    ------
    TypeError, ValueError
        As `jaxmlp.train` does; if the configuration or weights ask for what would look at examples; if delta is not
        below 1 / N, or no noise is enough.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> data = Dataset(x, (x[:, 0] > x[:, 1]).astype(int))
    >>> config = TrainConfig(epochs=20, batch_size=100, learning_rate=0.5, weight_decay=0.0)
    >>> trained = train(MLP((2, 2)), data, Privacy(epsilon=2.0), config, key=jax.random.key(0), test=data)
    >>> trained.guarantee.epsilon <= 2.0, trained.test.accuracy > 0.8
    (True, True)
    """
    config = config or config_for(len(data) if isinstance(data, Dataset) else 1)  # other data are refused
    _check(mlp, data, privacy, config, validation, test, key)
    n_steps = round(len(data) / config.batch_size)
    total, delta = config.epochs * n_steps, privacy.delta_for(len(data))
    of_batches = {"n_examples": len(data), "batch_size": config.batch_size}
    sigma = privacy.noise_multiplier
    if privacy.epsilon is not None:
        sigma = noise_multiplier_for(privacy.epsilon, delta, **of_batches, steps=total)
    assert sigma is not None
    mechanism = Mechanism(**of_batches, noise_multiplier=sigma, clip=privacy.clip)
    ends = range(n_steps, total + 1, n_steps)
    spent = epsilons(mechanism, ends, delta)
    guarantee = partial(Guarantee.of, mechanism, delta=delta)
    secret = _from_system() if secret is None else secret
    batch_key, noise_key = jax.random.split(secret)
    examples = arrays(mlp, data)
    params, state = start(mlp, key, config.init_scale)
    trained = Trained(params, state, (), guarantee(steps=0, epsilon=0.0))
    for epoch, (end, epsilon) in enumerate(zip(ends, spent, strict=True)):
        began, numbers = time.perf_counter(), range(end - n_steps, end)
        dtype = trained.params[0].w.dtype
        rates = learning_rates(config, epoch, n_steps).astype(dtype)
        # What is about to be seen is counted before it is there.
        trained = trained._replace(guarantee=guarantee(steps=end, epsilon=epsilon))
        params, state = run_epoch(
            mlp,
            trained.params,
            trained.state,
            examples,
            mechanism.draw(batch_key, numbers),
            np.asarray(numbers, np.uint32),
            rates,
            Numbers(*np.asarray(Numbers.of(mechanism), dtype)),
            *np.asarray((config.momentum, config.weight_decay), dtype),
            noise_key,
            nesterov=config.nesterov,
        )
        if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(params)):
            raise ValueError(f"the weights are infinite in epoch {epoch + 1}: try a lower learning rate")
        measured = None if validation is None else evaluate(mlp, params, validation)
        row = PrivateEpoch(epoch + 1, float(rates[0]), epsilon, measured, time.perf_counter() - began)
        trained = trained._replace(params=params, state=state, history=(*trained.history, row))
        if callback:
            callback(trained)
    return trained if test is None else trained._replace(test=evaluate(mlp, trained.params, test))


def _check(
    mlp: MLP,
    data: Dataset,
    privacy: Privacy,
    config: TrainConfig,
    validation: Dataset | None,
    test: Dataset | None,
    key: Array,
) -> None:
    check_training(mlp, data, config, validation, test)
    check_key(key, config)
    if is_several(key):
        raise ValueError(f"key must be one key: each of {len(key)} networks would spend epsilon anew")
    if not isinstance(privacy, Privacy):
        raise TypeError(f"privacy must be a Privacy, as Privacy(epsilon=3.0), got {type(privacy).__name__}")
    if data.weights is not None:
        raise ValueError("data have weights, which multiply clipped gradients beyond their norm: leave weights out")
    if config.clip is not None:
        raise ValueError(f"config has clip={config.clip:g}: set Privacy(clip={config.clip:g}) instead")
    for name, words in (("patience", "stops by the loss on them"), ("track", "shows statistics of them")):
        if getattr(config, name):
            raise ValueError(f"{name} looks at training examples ({words}), without noise: leave {name} out")


def _from_system() -> Array:
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(secrets.token_bytes(8), np.uint32)), impl="threefry2x32")
