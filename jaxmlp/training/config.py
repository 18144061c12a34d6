"""How a training run is configured, and the learning rate that follows from it at every step."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from jaxmlp._validation import unknown_name

__all__ = ["SCHEDULES", "TRACKED", "TrainConfig", "learning_rates"]


@dataclass(frozen=True)
class TrainConfig:
    """The numbers of a training run.

    What is compiled into a program is `batch_size`, `nesterov`, `track`, and whether there is a `clip`: no other value.

    Parameters
    ----------
    epochs
        How often every example is seen.
    batch_size
        B, examples a step: 1 is stochastic gradient descent, N is gradient descent. What does not fill a batch
        sits out its epoch.
    learning_rate, momentum, weight_decay, nesterov
        See `jaxmlp.sgd.update`. The rate is that of the mean gradient of a batch.
    schedule
        The factor on the learning rate: `"constant"`, `"cosine"` (falls to 0 over the run) or `"step"`
        (times `step_factor` every `step_epochs`).
    warmup_epochs
        The rate grows linearly from 0 over this many epochs, on top of any schedule; may be a fraction.
    init_scale
        Multiplies the initial weights.
    patience
        Stop after this many epochs without a new lowest loss (on the test data if there are any, else on the
        training data) and keep the parameters of the lowest. None: run to the end, keep the last.
    clip
        C: every example's gradient is scaled down to this norm if it is longer, before weights and averaging (see
        `jaxmlp.per_example.clipped_mean`). None: no clipping.
    track
        Names of what to record once an epoch: `"norms"` (quantiles of the examples' gradient norms, before clipping),
        `"noise_scale"`, `"variance"` (tr Sigma), `"diversity"`, `"clipped"` (the share), `"curvature"` (the Hessian's
        largest eigenvalue after the epoch, on a sample of 1,024 examples). See `jaxmlp.Epoch`.

    Raises
    ------
    ValueError
        For a number out of its range, an unknown name, or something to track that this run does not have.

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
        """Check every number once."""
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None) and not holds(value):
                raise ValueError(f"{name} must be {rule}, got {value!r}")
        if not isinstance(self.schedule, str) or self.schedule not in SCHEDULES:
            raise ValueError(unknown_name("schedule", self.schedule, SCHEDULES))
        _check_track(self)
        # In one order, so that one set of names is one program.
        object.__setattr__(self, "track", tuple(name for name in TRACKED if name in self.track))


def _check_track(config: TrainConfig) -> None:
    for name in config.track:
        if name not in TRACKED:
            raise ValueError(unknown_name("track", name, TRACKED))
    if "clipped" in config.track and config.clip is None:
        raise ValueError("track 'clipped' needs clip, the norm to clip to")
    for name in {"noise_scale", "variance"} & set(config.track):
        if config.batch_size == 1:
            raise ValueError(f"track {name!r} needs a batch_size of 2 or larger, got 1")


_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _is_number(value: Any) -> bool:
    try:
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        return is_number and isfinite(value) and abs(value) <= _LARGEST
    except OverflowError:
        return False


_COUNT = ("a whole number, 1 or larger", _is_count)
_POSITIVE = ("positive and finite in float32", lambda value: _is_number(value) and value >= _SMALLEST)
_NOT_NEGATIVE = ("0 or larger and finite in float32", lambda value: _is_number(value) and value >= 0)

_OPTIONAL = ("patience", "clip")

_RULES: dict[str, tuple[str, Callable[..., bool]]] = {
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "learning_rate": _POSITIVE,
    "momentum": ("0 or larger and below 1", lambda value: _is_number(value) and 0 <= value < 1),
    "weight_decay": _NOT_NEGATIVE,
    "nesterov": ("True or False", lambda value: isinstance(value, bool)),
    "warmup_epochs": _NOT_NEGATIVE,
    "step_epochs": _POSITIVE,
    "step_factor": _POSITIVE,
    "init_scale": _NOT_NEGATIVE,
    "patience": _COUNT,
    "clip": _POSITIVE,
    "track": (
        "a tuple of names",
        lambda value: isinstance(value, tuple | list) and all(isinstance(name, str) for name in value),
    ),
}

# What can be tracked, and the columns of history that it fills.
TRACKED: dict[str, tuple[str, ...]] = {
    "norms": ("norm_q10", "norm_median", "norm_q90", "norm_max"),
    "noise_scale": ("noise_scale",),
    "variance": ("gradient_variance",),
    "diversity": ("diversity",),
    "clipped": ("share_clipped",),
    "curvature": ("top_eigenvalue",),
}

# From the time since the start, in epochs, to the factor on the learning rate.
SCHEDULES: dict[str, Callable[[np.ndarray, TrainConfig], np.ndarray]] = {
    "constant": lambda time, config: np.ones_like(time),
    "cosine": lambda time, config: 0.5 * (1 + np.cos(np.pi * time / config.epochs)),
    "step": lambda time, config: config.step_factor ** np.floor(time / config.step_epochs),
}


def learning_rates(config: TrainConfig, epoch: int, n_steps: int) -> np.ndarray:
    """Return the learning rate of each step of an epoch (counted from 0): [n_steps].

    Computed on the host and handed to the compiled epoch as an array, so that no schedule, and no number in
    one, is ever part of a compiled program.

    >>> learning_rates(TrainConfig(learning_rate=1.0, schedule="constant", warmup_epochs=1), 0, 4)
    array([0.25, 0.5 , 0.75, 1.  ])
    """
    time = epoch + np.arange(n_steps) / n_steps
    factor = SCHEDULES[config.schedule](time, config)
    if config.warmup_epochs:
        factor = factor * np.minimum(1, (time + 1 / n_steps) / config.warmup_epochs)
    return config.learning_rate * factor
