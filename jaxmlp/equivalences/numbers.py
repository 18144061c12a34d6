"""The numbers that a library is checked with: random ones, and those at which formulas are known to break."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.network import MLP, Layer, Params

Tree = Any


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw standard normal numbers, float32."""
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def normal_like(params: Params, rng: np.random.Generator) -> Params:
    """Draw standard normal numbers in the shapes and dtypes of the parameters."""
    return jax.tree.map(lambda leaf: normal(leaf.shape, rng).astype(leaf.dtype), params)


def weighted_inputs(rng: np.random.Generator) -> Array:
    """Return z: [K, n] with ties, zeros, small and large numbers, and random ones."""
    chosen = [[0, 0, 0, 0], [0.5, -0.5, 1, -1], [2, -2, 3, -3], [8, -8, 4, -4], [20, -20, 0.001, -0.001]]
    return jnp.asarray(np.concatenate([chosen, rng.normal(size=(3, 4))]), jnp.float32)


def target_rows(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return t: [K, n], one-hot rows and soft rows, which every loss takes."""
    n_rows, n = shape
    hot = np.eye(n)[np.arange(n_rows) % n]
    soft = rng.multinomial(16, [1 / n] * n, n_rows) / 16
    return jnp.asarray(np.where(np.arange(n_rows)[:, None] % 3 < 2, hot, soft), jnp.float32)


def exact_targets(mlp: MLP, t: np.ndarray) -> Array:
    """Return soft targets that sum to exactly 1: only for those is y - t the delta of cross-entropy."""
    if mlp.loss != "cross_entropy" or jnp.ndim(t) != 2:
        return jnp.asarray(t)
    rows = np.round(np.asarray(t, np.float64) * 2**16) / 2**16
    rows[np.arange(len(rows)), rows.argmax(1)] += 1 - rows.sum(1)
    return jnp.asarray(rows, jnp.float32)


def drawn_params(mlp: MLP, rng: np.random.Generator) -> Params:
    """Draw weights and biases; a bias of 0 would hide what is done to it."""
    pairs = pairwise(mlp.sizes)
    return tuple(Layer(normal((n, n_in), rng) / n_in**0.5, 0.1 * normal((n,), rng)) for n_in, n in pairs)


def drawn_examples(mlp: MLP, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw six examples: x: [6, n_0] and t: [6, n_L]."""
    x = normal((6, mlp.sizes[0]), rng)
    return x, target_rows((6, mlp.sizes[-1]), rng)


def in_dtypes_of(other: Tree, tree: Tree) -> Tree:
    """Return `tree` in the dtypes of `other`: a check calls functions in several dtypes."""
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, other)
