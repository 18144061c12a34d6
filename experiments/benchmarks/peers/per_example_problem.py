"""The task of every peer in the per-example benchmark, and the type of its answer."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = ["LEARNING_RATE", "NOISE_MULTIPLIER", "Problem", "Start", "Step"]

LEARNING_RATE = 0.01
NOISE_MULTIPLIER = 1.0  # of private steps


class Problem(NamedTuple):
    """The task of a peer.

    Attributes
    ----------
    sizes
        Sizes of the network, with relu, and softmax with cross-entropy.
    weights
        w_1: [n_1, n_0], b_1: [n_1], w_2, b_2, ...: float32, where all begin.
    x, t
        One batch: [B, n_0] float32, [B] classes.
    max_norm
        The clipping norm C.
    """

    sizes: tuple[int, ...]
    weights: list[np.ndarray]
    x: np.ndarray
    t: np.ndarray
    max_norm: float


# Runs one step to its end, and returns what its kind of work asks for.
Step: TypeAlias = Callable[[], list[Any]]
Start: TypeAlias = Callable[[Problem], Step]
