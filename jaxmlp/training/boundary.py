"""Checks of the arguments of `train` and `evaluate`, made once, before any work; later code relies on them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.data import Dataset
from jaxmlp.data.arrays import check_range
from jaxmlp.losses import takes_values
from jaxmlp.network import MLP, check_params, networks
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.examples import holds_classes
from jaxmlp.training.history import Trained

__all__ = ["check_fit", "check_key", "check_resume", "check_training", "is_several"]

_MOST_PARAMETERS = 2**31 - 1  # XLA aborts the whole process if an index is larger
_SUM_TOLERANCE = 1e-3  # of soft targets: no more than rounding a row to float16 causes


def check_training(
    mlp: MLP, data: Dataset, config: TrainConfig, validation: Dataset | None = None, test: Dataset | None = None
) -> None:
    """Raise the error that `train` would raise for these arguments.

    It is a `TypeError` if one has the wrong type; a `ValueError` if the data do not fit the network or do not fill one
    batch, or the network is too large.

    >>> check_training(MLP((2, 3)), (np.ones((1, 2)), np.array([0])), TrainConfig())
    Traceback (most recent call last):
    TypeError: data must be a Dataset, as Dataset(x, t), got tuple
    """
    check_fit(mlp, data)
    for name, part in (("validation", validation), ("test", test)):
        if part is not None:
            check_fit(mlp, part, name)
    _check_type("config", config, TrainConfig, "a TrainConfig, as TrainConfig(epochs=10)")
    if config.batch_size > len(data):
        raise ValueError(f"batch_size must be at most the {len(data)} training examples, got {config.batch_size}")
    if mlp.n_parameters > _MOST_PARAMETERS:
        raise ValueError(f"sizes {mlp.sizes} make {mlp.n_parameters:,} parameters, more than {_MOST_PARAMETERS:,}")


def check_key(key: Any, config: TrainConfig) -> None:
    """Raise an error if `key` is not one key of `jax.random`, typed or raw, or an array [K] of them."""
    got = repr(key)
    if isinstance(key, jax.Array | np.ndarray):
        got = f"an array of shape {key.shape}"
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if isinstance(key, jax.Array) and (is_typed or key.dtype == np.uint32) and key.size:
            n_axes = key.ndim - (not is_typed)
            if n_axes == 1 and config.track:
                raise ValueError(f"track follows the gradients of one network, got {len(key)} keys: leave track out")
            if n_axes in (0, 1):
                return
    raise TypeError(f"key must be one key, as jax.random.key(0), or an array of keys [K], got {got}")


def is_several(key: jax.Array) -> bool:
    """Tell whether this is an array [K] of keys.

    >>> is_several(jax.random.key(0)), is_several(jax.random.split(jax.random.key(0), 8))
    (False, True)
    """
    return key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)


def check_resume(mlp: MLP, config: TrainConfig, resume: Trained, key: jax.Array) -> None:
    """Raise an error if training cannot go on from `resume` with this network, configuration and key."""
    _check_type("resume", resume, Trained, "a Trained, as train returns")
    resumed = networks(mlp, resume.last_params)
    for network in resumed:
        check_params(*network, "resume.last_params")
    if len(resumed) != (len(key) if is_several(key) else 1):
        wanted = f"{len(key)} keys" if is_several(key) else "one key"
        raise ValueError(f"key must have a key for each network of resume, {len(resumed)}, got {wanted}")
    if len(resume.history) > config.epochs:
        raise ValueError(f"epochs must be at least the {len(resume.history)} of resume, got {config.epochs}")


def check_fit(mlp: MLP, data: Dataset, name: str = "data") -> None:
    """Raise an error if the data do not fit the network; `name` is the argument's name.

    >>> check_fit(MLP((2, 3)), Dataset(np.ones((1, 2)), np.array([7])))
    Traceback (most recent call last):
    ValueError: t has class 7 in row 0, but the network has 3 outputs
    """
    _check_type("mlp", mlp, MLP, "an MLP, as MLP((4, 16, 3))")
    _check_type(name, data, Dataset, "a Dataset, as Dataset(x, t)")
    where = "" if name == "data" else f"{name}: "
    n_in, n_out = mlp.sizes[0], mlp.sizes[-1]
    if data.n_inputs != n_in:
        has = "x has" if data.expansion is None else "the expansion of x makes"
        raise ValueError(f"{where}{has} {data.n_inputs} features, but the network takes {n_in}")
    check_range(f"{where}x", data.x)
    check_range(f"{where}t", data.t)
    t = np.asarray(data.t)
    if t.ndim == 2:
        _check_rows(mlp, t, where)
    elif holds_classes(mlp, t):
        if t.max() >= n_out:
            raise ValueError(f"{where}t has class {t.max()} in row {t.argmax()}, but the network has {n_out} outputs")
    elif n_out > 1 or mlp.output == "softmax":
        raise ValueError(f"{where}t must be integer classes or rows of {n_out}, got one real value for each")
    else:
        _check_rows(mlp, t[:, None], where)


def _check_type(name: str, value: object, expected: type, as_text: str) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be {as_text}, got {type(value).__name__}")


def _check_rows(mlp: MLP, t: np.ndarray, where: str) -> None:
    if t.shape[1] != mlp.sizes[-1]:
        hint = ": if they are classes, pass t[:, 0]" if t.shape[1] == 1 and t.dtype.kind in "iu" else ""
        raise ValueError(f"{where}t has rows of {t.shape[1]}, but the network has {mlp.sizes[-1]} outputs{hint}")
    if mlp.loss == "poisson" and (t < 0).any():
        row = int((t < 0).any(axis=1).argmax())
        raise ValueError(f"{where}t must be 0 or larger for poisson, got {t[row].tolist()} in row {row}")
    if takes_values(mlp.loss):
        return
    outside = (t.min(1) < 0) | (t.max(1) > 1)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"{where}t must lie in [0, 1] for {mlp.loss}, got {t[row].tolist()} in row {row}")
    off = np.abs(t.sum(1, dtype=np.float64) - 1) > _SUM_TOLERANCE
    if mlp.loss == "cross_entropy" and off.any():
        row = int(off.argmax())
        raise ValueError(f"{where}t must sum to 1 in every row for cross_entropy, got {t[row].sum()} in row {row}")
