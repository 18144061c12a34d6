"""The configuration of a training run, and the learning rate of each step that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmlp._validation import unknown_name, whole_number

__all__ = ["SCHEDULES", "TABLE_HIDDEN", "TABLE_NETWORKS", "TRACKED", "TrainConfig", "learning_rates"]

TABLE_HIDDEN, TABLE_NETWORKS = (256, 256), 4
"""The hidden layers that suit an ordinary table, and how many networks of different seeds are averaged."""


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a training run.

    A program is compiled for `batch_size`, `nesterov`, `track`, and whether `clip` is None. Changing
    other values does not recompile. NumPy numbers become Python numbers.

    Parameters
    ----------
    epochs
        The number of passes over the examples.
    batch_size
        B, the examples of a step: 1 is stochastic gradient descent, N is gradient descent. Examples that do not fill
        a batch are left out of that epoch.
    learning_rate, momentum, weight_decay, nesterov
        See `jaxmlp.sgd.update`. The learning rate multiplies the mean gradient of a batch.
    schedule
        How the learning rate changes: `"constant"`, `"cosine"` (falls to 0 over the run) or `"step"` (multiplied by
        `step_factor` every `step_epochs`).
    warmup_epochs
        The learning rate grows linearly from 0 over this many epochs, on top of any schedule; may be a fraction.
    init_scale
        Multiplies the initial weights.
    patience
        Training stops after this many epochs without a new lowest loss, and keeps the parameters of the epoch with
        the lowest. The loss is that of the validation data, if there are any, else of the training data, never of the
        test data. None: training runs to the end and keeps the last parameters.
    clip
        C: an example's gradient with a larger norm is scaled down to this norm, before weights and averaging (see
        `jaxmlp.per_example.clipped_mean`). None clips nothing.
    track
        Names of statistics to record once an epoch, see `jaxmlp.Epoch`: `"norms"` (quantiles of the examples'
        gradient norms, before clipping), `"noise_scale"`, `"variance"` (tr Sigma), `"diversity"`, `"clipped"` (the
        fraction of examples), `"curvature"` (the Hessian's largest eigenvalue on a sample of 1,024 examples).

    Notes
    -----
    Parameters, sums and updates are in the parameters' dtype. The precision of matrix products is JAX's setting. On a
    GPU float32 products are in TF32 by default, which keeps 10 bits of 23, and on a TPU in bfloat16, which keeps 7.
    `with jax.default_matmul_precision("float32"):` around `train`, `sweep.run` or a fit makes them as exact as on a
    CPU, and slower; it holds in the threads of a sweep too.

    Raises
    ------
    ValueError
        If a number is out of range, a name is unknown, or this run does not have a statistic.

    Examples
    --------
    >>> TrainConfig(momentum=1.0)
    Traceback (most recent call last):
    ValueError: momentum must be 0 or larger and below 1, got 1.0
    """

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-3
    nesterov: bool = False
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    step_epochs: float = 10.0
    step_factor: float = 0.1
    init_scale: float = 1.0
    patience: int | None = None
    clip: float | None = None
    track: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value once."""
        for name in (*_COUNTS, *_RULES):
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, _checked(name, value))
        if not isinstance(self.schedule, str) or self.schedule not in SCHEDULES:
            raise ValueError(unknown_name("schedule", self.schedule, SCHEDULES))
        for name in self.track:
            if name not in TRACKED:
                raise ValueError(unknown_name("track", name, TRACKED))
        if "clipped" in self.track and self.clip is None:
            raise ValueError("track 'clipped' needs clip, the norm to clip to")
        for name in {"noise_scale", "variance"} & set(self.track):
            if self.batch_size == 1:
                raise ValueError(f"track {name!r} needs a batch_size of 2 or larger, got 1")
        # Sorted, so that the same names in another order do not recompile.
        object.__setattr__(self, "track", tuple(name for name in TRACKED if name in self.track))

    @classmethod
    def for_table(cls, n_examples: int, **changes: Any) -> "TrainConfig":
        """Return the configuration that suits an ordinary table of this many training examples, with some changes.

        Batches, epochs and weight decay follow the number of examples. `experiments.benchmarks.tables` measures how
        well networks with the hidden layers `TABLE_HIDDEN` do.

        >>> TrainConfig.for_table(2_000, epochs=5).batch_size
        33
        """
        n = whole_number("n_examples", n_examples, least=1)
        suited: dict[str, Any] = {
            "batch_size": min(n, max(16, min(128, n // 60))),
            "epochs": max(10, min(30, 600_000 // n)),
            "learning_rate": 0.03,
            "weight_decay": min(20 / n, 0.05),
        }
        return cls(**suited | changes)


def _checked(name: str, value: Any) -> Any:
    """Return a value, checked, as a Python type."""
    if name in _COUNTS:
        return whole_number(name, value, least=1)
    own = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of NumPy or JAX
    own = float(own) if isinstance(own, np.floating) else own  # `item` does not convert a long double
    rule, holds = _RULES[name]
    if not holds(own):
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return own


_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


_POSITIVE = ("positive and finite in float32", lambda value: _is_number(value) and value >= _SMALLEST)
_NOT_NEGATIVE = ("0 or larger and finite in float32", lambda value: _is_number(value) and value >= 0)

_COUNTS = ("epochs", "batch_size", "patience")
_OPTIONAL = ("patience", "clip")

_RULES: dict[str, tuple[str, Callable[..., bool]]] = {
    "learning_rate": _POSITIVE,
    "momentum": ("0 or larger and below 1", lambda value: _is_number(value) and 0 <= value < 1),
    "weight_decay": _NOT_NEGATIVE,
    "nesterov": ("True or False", lambda value: isinstance(value, bool)),
    "warmup_epochs": _NOT_NEGATIVE,
    "step_epochs": _POSITIVE,
    "step_factor": _POSITIVE,
    "init_scale": _NOT_NEGATIVE,
    "clip": _POSITIVE,
    "track": (
        "a tuple of names",
        lambda value: isinstance(value, tuple | list) and all(isinstance(name, str) for name in value),
    ),
}

# Each statistic that can be tracked, and the columns of history that it fills.
TRACKED: dict[str, tuple[str, ...]] = {
    "norms": ("norm_q10", "norm_median", "norm_q90", "norm_max"),
    "noise_scale": ("noise_scale",),
    "variance": ("gradient_variance",),
    "diversity": ("diversity",),
    "clipped": ("share_clipped",),
    "curvature": ("top_eigenvalue",),
}

# Functions from the time since the start, in epochs, to a factor of the learning rate.
SCHEDULES: dict[str, Callable[[np.ndarray, TrainConfig], np.ndarray]] = {
    "constant": lambda time, config: np.ones_like(time),
    "cosine": lambda time, config: 0.5 * (1 + np.cos(np.pi * time / config.epochs)),
    "step": lambda time, config: config.step_factor ** np.floor(time / config.step_epochs),
}


def learning_rates(config: TrainConfig, epoch: int, n_steps: int) -> np.ndarray:
    """Return the learning rate of each step of an epoch (counted from 0): [n_steps].

    The rates are computed on the host and passed to the compiled epoch: no schedule is part of a program.

    >>> learning_rates(TrainConfig(learning_rate=1.0, schedule="constant", warmup_epochs=1), 0, 4)
    array([0.25, 0.5 , 0.75, 1.  ])
    """
    time = epoch + np.arange(n_steps) / n_steps
    factor = SCHEDULES[config.schedule](time, config)
    if config.warmup_epochs:
        factor = factor * np.minimum(1, (time + 1 / n_steps) / config.warmup_epochs)
    return config.learning_rate * factor
