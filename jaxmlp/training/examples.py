"""Examples on the device: the kind of their targets, and a map over them block by block."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.data import Dataset
from jaxmlp.losses import LOSSES
from jaxmlp.network import MLP

__all__ = ["Examples", "arrays", "holds_classes", "in_blocks", "is_classification"]

Answer = TypeVar("Answer")


class Examples(NamedTuple):
    """A data set, or a batch of it, on the device: x: [N, n_0], N targets, and [N] weights or None."""

    x: Array
    t: Array
    weights: Array | None


def arrays(mlp: MLP, data: Dataset) -> Examples:
    """Return the data on the device, without a copy where possible; real values become floats, which never wrap.

    Copying a large data set would take as long as compiling.
    """
    t = data.t
    if not is_classification(mlp, t):
        t = np.asarray(t).astype(jax.dtypes.canonicalize_dtype(float), copy=False)
    on_host: Any = (data.x, t, data.weights)
    return Examples(*jax.device_put(on_host, may_alias=True))


def in_blocks(function: Callable[..., Answer], *examples: Array, size: int) -> Answer:
    """Apply a function of a batch to all examples [N, ...], `size` of them at a time; to be compiled by its caller.

    The function takes arrays [size, ...] and returns a tree of arrays [size, ...]; each row must depend on the same row
    of the arguments only. The result is that tree, of arrays [N, ...]. `size` is static; fewer examples make one block.
    The examples are read in place: `jax.lax.map` with a `batch_size` would copy them, and compile the function once
    more for the rows that are left over.

    >>> print(in_blocks(lambda x: x.sum(1), jnp.arange(10).reshape(5, 2), size=2))
    [ 1  5  9 13 17]
    """
    n_examples = len(examples[0])
    if n_examples <= size:
        return function(*examples)
    # `dynamic_slice` moves the start of the last block back until the block is whole. Its first rows
    # then repeat the block before, and are dropped.
    starts = jnp.arange(0, n_examples, size)
    n_common = -n_examples % size
    blocks = lax.map(lambda start: function(*(lax.dynamic_slice_in_dim(one, start, size) for one in examples)), starts)

    def joined(blocks: Array) -> Array:
        rows = blocks[:-1].reshape(-1, *blocks.shape[2:])
        return jnp.concatenate([rows, blocks[-1, n_common:]])

    return jax.tree.map(joined, blocks)


def is_classification(mlp: MLP, t: Array | np.ndarray) -> bool:
    """Tell whether the targets are classes, labels or probabilities; else they are real values.

    >>> is_classification(MLP((2, 1), output="identity", loss="quadratic"), np.array([1.5]))
    False
    """
    return "identity" not in LOSSES[mlp.loss].outputs or holds_classes(mlp, t)


def holds_classes(mlp: MLP, t: Array | np.ndarray) -> bool:
    """Tell whether `target_row` reads each of these targets as the number of a class.

    >>> holds_classes(MLP((2, 3)), np.array([0, 2])), holds_classes(MLP((2, 3)), np.eye(3))
    (True, False)
    """
    is_whole = t.ndim == 1 and not jnp.issubdtype(t.dtype, jnp.inexact)
    return is_whole and (mlp.sizes[-1] > 1 or mlp.output == "softmax")
