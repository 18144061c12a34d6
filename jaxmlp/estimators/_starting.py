"""Initial parameters, drawn as scikit-learn draws them."""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np

from jaxmlp.network import MLP, Layer, Params

__all__ = ["initial_params"]


def initial_params(mlp: MLP, random_state: np.random.RandomState, n_networks: int, dtype: np.dtype) -> list[Params]:
    """Draw uniform weights and biases of each network (Glorot & Bengio 2010, "Understanding the difficulty").

    The first network is the one that a single network would be; the others have random states of their own.

    >>> first, second = initial_params(MLP((4, 3)), np.random.RandomState(0), 2, np.dtype(float))
    >>> np.abs(first[0].w).max() < np.sqrt(6 / 7), np.any(first[0].w == second[0].w)
    (np.True_, np.False_)
    """
    seeds = deepcopy(random_state).randint(2**32 - 1, size=n_networks - 1, dtype=np.uint32)
    states = [random_state, *map(np.random.RandomState, seeds)]
    return [_drawn(mlp, state, dtype) for state in states]


def _drawn(mlp: MLP, random_state: np.random.RandomState, dtype: np.dtype) -> Params:
    square = 2.0 if mlp.activation == "sigmoid" else 6.0  # of the bound, times n_in + n_out
    layers: list[Any] = []
    for n_in, n_out in pairwise(mlp.sizes):
        bound = np.sqrt(square / (n_in + n_out))
        w = random_state.uniform(-bound, bound, (n_in, n_out)).T
        b = random_state.uniform(-bound, bound, n_out)
        layers.append((w.astype(dtype), b.astype(dtype)))
    return tuple(map(Layer._make, layers))
