"""One fit of one network, as values: what is given, and what it has come to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp.data import Expansion
from jaxmlp.estimators._control import Control, Progress
from jaxmlp.network import MLP, Params

__all__ = ["Fitted", "Problem", "Settings", "Validation", "initial"]


@dataclass(frozen=True)
class Settings:
    """What is compiled: problems with equal settings can share a program.

    Parameters
    ----------
    mlp
        The network, see `jaxmlp.MLP`.
    batch_size
        B, at most the number of training rows.
    nesterov, shuffle
        Whether momentum looks ahead, and whether each epoch has another order.
    dtype
        `"float64"` or `"float32"`: of parameters, inputs and all that is computed on the device.
    """

    mlp: MLP
    batch_size: int
    nesterov: bool = True
    shuffle: bool = True
    dtype: str = "float64"


class Validation(NamedTuple):
    """The rows of x that early stopping scores: `score` maps the outputs [V, n_L] to a number, larger is better."""

    rows: np.ndarray
    score: Callable[[np.ndarray], float]


class Fitted(NamedTuple):
    """The state of a fit, before and after: parameters and last steps as NumPy arrays, and its progress.

    With validation rows, `params` are those of the epoch with the best score, `last_params` those of the last one; else
    both are the same.
    """

    params: Params
    dw: Params
    progress: Progress
    last_params: Params


class Problem(NamedTuple):
    """One fit of one network.

    Attributes
    ----------
    settings
        What is compiled.
    x
        [n, d], shared between problems where possible: problems with the same object share its copy on the device.
    targets
        [n] classes or numbers, or [n, n_L].
    start
        Initial parameters and progress.
    random_state
        Shuffles the rows of each epoch, if the settings say so; is left as scikit-learn leaves it.
    control
        The numbers that rule the fit between its epochs.
    alpha, momentum, clip
        Traced numbers: L2, momentum, and the norm to which each example's gradient is clipped (None clips nothing).
    rows
        The training rows of x in their order; None for all.
    weights
        [n], of all rows of x; None for 1.
    validation
        What early stopping scores; None without early stopping.
    expansion
        How a row of x becomes the inputs of the network; None if it is these inputs.
    """

    settings: Settings
    x: np.ndarray
    targets: np.ndarray
    start: Fitted
    random_state: np.random.RandomState
    control: Control
    alpha: float = 0.0001
    momentum: float = 0.9
    clip: float | None = None
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    validation: Validation | None = None
    expansion: Expansion | None = None


def initial(params: Params, learning_rate: float) -> Fitted:
    """Return the state before the first epoch of a fit from these parameters."""
    return Fitted(params, jax.tree.map(np.zeros_like, params), Progress(learning_rate), params)
