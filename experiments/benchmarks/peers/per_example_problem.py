"""What every peer of the per-example benchmark is given, and what it makes of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = ["LEARNING_RATE", "Problem", "Start", "Step"]

LEARNING_RATE = 0.01


class Problem(NamedTuple):
    """What a peer is given.

    Attributes
    ----------
    sizes
        Of the network; relu, and softmax with cross-entropy.
    weights
        w_1: [n_1, n_0], b_1: [n_1], w_2, b_2, ...: float32, where all begin.
    x, t
        One batch: [B, n_0] float32, [B] classes.
    max_norm
        C, the norm that gradients are clipped to.
    """

    sizes: tuple[int, ...]
    weights: list[np.ndarray]
    x: np.ndarray
    t: np.ndarray
    max_norm: float


# Runs one step to its end, and returns what its kind of work asks for.
Step: TypeAlias = Callable[[], list[Any]]
Start: TypeAlias = Callable[[Problem], Step]
