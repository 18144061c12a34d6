"""Private training: epochs of noised steps, and what they have spent."""

import secrets
import time
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Params
from jaxmlp.private.accounting import epsilons, noise_multiplier_for
from jaxmlp.private.checkpoint import Checkpoint, Kept
from jaxmlp.private.guarantee import Guarantee
from jaxmlp.private.history import PrivateEpoch, Trained
from jaxmlp.private.mechanism import Mechanism, Privacy
from jaxmlp.private.step import Numbers, run_epoch
from jaxmlp.training.boundary import check_key, check_training, is_several
from jaxmlp.training.config import TrainConfig, learning_rates
from jaxmlp.training.epoch import start
from jaxmlp.training.evaluation import evaluate
from jaxmlp.training.examples import Examples, arrays

__all__ = [
    "check_accounted",
    "check_private",
    "config_for",
    "mechanism_for",
    "secret_from_system",
    "steps_of_epoch",
    "train",
]


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
    checkpoint: str | PathLike[str] | None = None,
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
    checkpoint
        A file to keep the run in, after every epoch and before anyone sees it. If it is there, the run continues from
        it, bit for bit as if it had never ended, and no step counts twice; all but `validation`, `test` and `callback`
        must be as they were. It holds the secret until the last step is done, and only its owner may read it: see
        `jaxmlp.private.checkpoint`.

    Raises
    ------
    TypeError, ValueError
        As `jaxmlp.train` does; if the configuration or weights ask for what would look at examples; if delta is not
        below 1 / N, or no noise is enough; if the run in the checkpoint began otherwise.

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
    check_private(mlp, data, privacy, config, validation, test, key)
    file = None if checkpoint is None else Checkpoint.of(checkpoint, mlp, data, privacy, config, key)
    kept = file.load(mlp) if file and file.path.exists() else _begin(mlp, data, privacy, config, key, secret)
    if file:
        file.save(kept)  # the secret, before the first step
    mechanism = Mechanism(len(data), config.batch_size, kept.noise_multiplier, privacy.clip)
    n_steps, delta = steps_of_epoch(len(data), config), privacy.delta_for(len(data))
    ends = range(n_steps, config.epochs * n_steps + 1, n_steps)
    spent = epsilons(mechanism, [0, *ends], delta)
    guarantee = partial(Guarantee.of, mechanism, delta=delta)
    done, examples = len(kept.history), arrays(mlp, data)
    trained = Trained(kept.params, kept.state, kept.history, guarantee(steps=done * n_steps, epsilon=spent[done]))
    for epoch in range(done, config.epochs):
        began, numbers = time.perf_counter(), range(epoch * n_steps, (epoch + 1) * n_steps)
        # What is about to be seen is counted before it is there.
        trained = trained._replace(guarantee=guarantee(steps=numbers.stop, epsilon=spent[epoch + 1]))
        assert kept.secret is not None
        params, state = _run_epoch(mlp, trained, examples, mechanism, config, kept.secret, numbers)
        if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(params)):
            raise ValueError(f"the weights are infinite in epoch {epoch + 1}: try a lower learning rate")
        measured = None if validation is None else evaluate(mlp, params, validation)
        rate = float(learning_rates(config, epoch, n_steps)[0])
        row = PrivateEpoch(epoch + 1, rate, spent[epoch + 1], measured, time.perf_counter() - began)
        trained = trained._replace(params=params, state=state, history=(*trained.history, row))
        if file:
            file.save(kept._replace(params=params, state=state, history=trained.history))
        if callback:
            callback(trained)
    trained = trained._replace(guarantee=trained.guarantee.compared())
    return trained if test is None else trained._replace(test=evaluate(mlp, trained.params, test))


def mechanism_for(n_examples: int, privacy: Privacy, config: TrainConfig) -> Mechanism:
    """Return the mechanism of a training; for a target epsilon, the noise is solved for, within seconds.

    >>> config = TrainConfig(epochs=2, batch_size=100)
    >>> mechanism_for(1_000, Privacy(noise_multiplier=3.0), config).probability
    0.1
    """
    sigma, of_batches = privacy.noise_multiplier, {"n_examples": n_examples, "batch_size": config.batch_size}
    if privacy.epsilon is not None:
        steps = config.epochs * steps_of_epoch(n_examples, config)
        sigma = noise_multiplier_for(privacy.epsilon, privacy.delta_for(n_examples), **of_batches, steps=steps)
    assert sigma is not None
    return Mechanism(**of_batches, noise_multiplier=sigma, clip=privacy.clip)


def steps_of_epoch(n_examples: int, config: TrainConfig) -> int:
    """Return N / B, rounded."""
    return round(n_examples / config.batch_size)


def _begin(mlp: MLP, data: Dataset, privacy: Privacy, config: TrainConfig, key: Array, secret: Array | None) -> Kept:
    noise_multiplier = mechanism_for(len(data), privacy, config).noise_multiplier
    params, state = start(mlp, key, config.init_scale)
    return Kept(noise_multiplier, secret_from_system() if secret is None else secret, params, state, ())


def _run_epoch(
    mlp: MLP,
    trained: Trained,
    examples: Examples,
    mechanism: Mechanism,
    config: TrainConfig,
    secret: Array,
    steps: range,
) -> tuple[Params, sgd.State]:
    dtype = trained.params[0].w.dtype
    batch_key, noise_key = jax.random.split(secret)
    rates = learning_rates(config, steps.start // len(steps), len(steps))
    return run_epoch(
        mlp,
        trained.params,
        trained.state,
        examples,
        mechanism.draw(batch_key, steps),
        np.asarray(steps, np.uint32),
        rates.astype(dtype),
        Numbers(*np.asarray(Numbers.of(mechanism), dtype)),
        *np.asarray((config.momentum, config.weight_decay), dtype),
        noise_key,
        nesterov=config.nesterov,
    )


def check_private(
    mlp: MLP,
    data: Dataset,
    privacy: Privacy,
    config: TrainConfig,
    validation: Dataset | None,
    test: Dataset | None,
    key: Array,
) -> None:
    """Raise the error that `train` would raise for these arguments; later code relies on them."""
    check_training(mlp, data, config, validation, test)
    check_key(key, config)
    if is_several(key):
        raise ValueError(f"key must be one key: each of {len(key)} networks would spend epsilon anew")
    check_accounted(data, privacy, config)


def check_accounted(data: Dataset, privacy: Privacy, config: TrainConfig) -> None:
    """Raise an error if something would look at the examples, or be done with them, that the account does not cover."""
    if not isinstance(privacy, Privacy):
        raise TypeError(f"privacy must be a Privacy, as Privacy(epsilon=3.0), got {type(privacy).__name__}")
    if data.weights is not None:
        raise ValueError("data have weights, which multiply clipped gradients beyond their norm: leave weights out")
    if config.clip is not None:
        raise ValueError(f"config has clip={config.clip:g}: set Privacy(clip={config.clip:g}) instead")
    for name, words in (("patience", "stops by the loss on them"), ("track", "shows statistics of them")):
        if getattr(config, name):
            raise ValueError(f"{name} looks at training examples ({words}), without noise: leave {name} out")
    privacy.delta_for(len(data))


def secret_from_system() -> Array:
    """Return a key that the operating system's generator draws."""
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(secrets.token_bytes(8), np.uint32)), impl="threefry2x32")
