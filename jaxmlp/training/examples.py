"""Examples on the device: the kind of their targets, and a map over them block by block."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.data import Dataset, Expansion
from jaxmlp.data.expansion import BOUND
from jaxmlp.losses import takes_values
from jaxmlp.network import MLP

__all__ = [
    "Examples",
    "arrays",
    "batch",
    "expand",
    "expanded",
    "holds_classes",
    "in_blocks",
    "is_classification",
    "taken",
]

Answer = TypeVar("Answer")


class Examples(NamedTuple):
    """A data set, or a batch of it, on the device: x: [N, n_0], N targets, and [N] weights or None.

    With an expansion x holds compact columns, [N, C].
    """

    x: Array
    t: Array
    weights: Array | None
    expansion: Expansion | None = None


def arrays(mlp: MLP, data: Dataset) -> Examples:
    """Return the data on the device, without a copy where possible; real values become floats, which never wrap.

    Copying a large data set would take as long as compiling.
    """
    t = data.t
    if not is_classification(mlp, t):
        t = np.asarray(t).astype(jax.dtypes.canonicalize_dtype(float), copy=False)
    on_host: Any = (data.x, t, data.weights, data.expansion)
    return Examples(*jax.device_put(on_host, may_alias=True))


def batch(examples: Examples, rows: Array) -> Examples:
    """Return some rows of the examples, with their inputs expanded."""
    x, t, weights, expansion = examples
    drawn: Any = jax.tree.map(lambda array: array[rows], (x, t, weights))
    return Examples(jax.vmap(partial(expand, expansion))(drawn[0]), *drawn[1:])


def taken(examples: Examples, rows: Any) -> Examples:
    """Return some rows of the examples, with their compact columns as they are."""
    x, t, weights, expansion = examples
    return Examples(x[rows], t[rows], None if weights is None else weights[rows], expansion)


def expand(expansion: Expansion | None, x: Array) -> Array:
    """Return the inputs [n_0] of a network for one example's compact columns [C], in their float dtype.

    Without an expansion they are the columns themselves.

    >>> empty = np.zeros(0, int)
    >>> both = Expansion(np.array([1]), np.array([True]), empty, empty, empty, np.array([0, 0]), np.array([4, 5]))
    >>> print(expand(both, jnp.array([5.0, 1e30])))
    [10.  0.  1.]
    """
    if expansion is None:
        return x
    x = jnp.asarray(x, jnp.result_type(x, float))  # a float stays as it is

    def columns(which: Array) -> Array:
        # For a batch this product with zeros and ones costs a tenth of the first layer's forward product on the CPU;
        # indexing costs two thirds of it. It is exact at full precision.
        chosen = jnp.arange(len(x))[:, None] == which
        return jnp.matmul(x, chosen.astype(x.dtype), precision=lax.Precision.HIGHEST)

    passed, smooth, bin_column, low, factor, code_column, code = map(jnp.asarray, expansion)
    number = columns(passed)
    largest = float(jnp.finfo(x.dtype).max) ** 0.5  # its square is finite
    limited = jnp.clip(number, -largest, largest)
    number = jnp.where(smooth, limited / jnp.sqrt(1 + (limited / BOUND) ** 2), number)
    bins = jnp.clip((columns(bin_column) - low.astype(x.dtype)) * factor.astype(x.dtype), 0, 1)
    return jnp.concatenate([number, bins, (columns(code_column) == code).astype(x.dtype)])


def expanded(data: Dataset) -> Dataset:
    """Return the data with the inputs of the network as x, and no expansion left to do."""
    if data.expansion is None:
        return data
    x = jax.jit(jax.vmap(expand, in_axes=(None, 0)))(data.expansion, jnp.asarray(data.x))
    return Dataset(np.asarray(x), data.t, data.weights)


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
    return not takes_values(mlp.loss) or holds_classes(mlp, t)


def holds_classes(mlp: MLP, t: Array | np.ndarray) -> bool:
    """Tell whether `target_row` reads each of these targets as the number of a class.

    >>> holds_classes(MLP((2, 3)), np.array([0, 2])), holds_classes(MLP((2, 3)), np.eye(3))
    (True, False)
    """
    is_whole = t.ndim == 1 and not jnp.issubdtype(t.dtype, jnp.inexact)
    return is_whole and (mlp.sizes[-1] > 1 or mlp.output == "softmax")
