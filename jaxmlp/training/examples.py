"""Examples on the device: do they fit the network, and how a function is applied to many of them."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.data import Dataset
from jaxmlp.network import MLP

__all__ = ["Examples", "arrays", "check_fit", "in_blocks", "is_classification"]

Answer = TypeVar("Answer")


class Examples(NamedTuple):
    """A data set, or a batch of it, on the device: x: [N, n_0], N targets, and [N] weights or None."""

    x: Array
    t: Array
    weights: Array | None


def arrays(mlp: MLP, data: Dataset) -> Examples:
    """Return the data on the device: in place where they can be, and real values as floats, which never wrap.

    In place, because a copy of a large set takes as long as compiling.
    """
    t = data.t if is_classification(mlp, data.t) else np.asarray(data.t).astype(float)
    on_host: Any = (data.x, t, data.weights)
    return Examples(*jax.device_put(on_host, may_alias=True))


def in_blocks(function: Callable[..., Answer], *examples: Array, size: int) -> Answer:
    """Apply a function of a batch to all examples, `size` of them at a time; to be compiled by its caller.

    Parameters
    ----------
    function
        Takes arrays [size, ...] and returns a tree of arrays [size, ...], each row of its own example alone.
    examples
        [N, ...] each. They are read in place: `jax.lax.map` with a `batch_size` copies them, and compiles the
        function once more for the rows that are left over.
    size
        Static. All at once, if N is smaller.

    Returns
    -------
    answer
        The tree, of arrays [N, ...].

    Examples
    --------
    >>> print(in_blocks(lambda x: x.sum(1), jnp.arange(10).reshape(5, 2), size=2))
    [ 1  5  9 13 17]
    """
    n_examples = len(examples[0])
    if n_examples <= size:
        return function(*examples)
    # `dynamic_slice` lets the last block begin where it still is whole; what it has in common with the one before is
    # left out.
    starts = jnp.arange(0, n_examples, size)
    n_common = -n_examples % size

    def of_block(start: Array) -> Answer:
        return function(*(lax.dynamic_slice_in_dim(one, start, size) for one in examples))

    def joined(blocks: Array) -> Array:
        rows = blocks[:-1].reshape(-1, *blocks.shape[2:])
        return jnp.concatenate([rows, blocks[-1, n_common:]])

    return jax.tree.map(joined, lax.map(of_block, starts))


def is_classification(mlp: MLP, t: Array | np.ndarray) -> bool:
    """Tell whether the targets say which outputs are right, or are real values.

    >>> is_classification(MLP((2, 1), output="identity", loss="quadratic"), np.array([1.5]))
    False
    """
    return mlp.loss != "quadratic" or _holds_classes(mlp, t)


def _holds_classes(mlp: MLP, t: Array | np.ndarray) -> bool:
    """Tell whether `target_row` takes these targets for classes."""
    is_whole = t.ndim == 1 and not jnp.issubdtype(t.dtype, jnp.inexact)
    return is_whole and (mlp.sizes[-1] > 1 or mlp.output == "softmax")


def check_fit(mlp: MLP, data: Dataset) -> None:
    """Raise a ValueError that says how, if the data do not fit the network; called once, where users enter.

    >>> check_fit(MLP((2, 3)), Dataset(np.ones((1, 2)), np.array([7])))
    Traceback (most recent call last):
    ValueError: t has class 7 in row 0, but the network has 3 outputs
    """
    n_in, n_out = mlp.sizes[0], mlp.sizes[-1]
    if data.x.shape[1] != n_in:
        raise ValueError(f"x has {data.x.shape[1]} features, but the network takes {n_in}")
    t = np.asarray(data.t)
    if t.ndim == 2:
        _check_rows(mlp, t)
    elif _holds_classes(mlp, t):
        if t.max() >= n_out:
            raise ValueError(f"t has class {t.max()} in row {t.argmax()}, but the network has {n_out} outputs")
    elif n_out > 1 or mlp.output == "softmax":
        raise ValueError(f"t must be integer classes or rows of {n_out}, got one real value an example")
    else:
        _check_rows(mlp, t[:, None])


def _check_rows(mlp: MLP, t: np.ndarray) -> None:
    if t.shape[1] != mlp.sizes[-1]:
        raise ValueError(f"t has rows of {t.shape[1]}, but the network has {mlp.sizes[-1]} outputs")
    if mlp.loss == "quadratic":
        return
    low, high = t.min(1), t.max(1)
    outside = (low < 0) | (high > 1)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"t must lie in [0, 1] for {mlp.loss}, got {t[row].tolist()} in row {row}")
    if mlp.loss == "cross_entropy":
        off = np.abs(t.sum(1, dtype=np.float64) - 1) > 1e-3
        if off.any():
            row = int(off.argmax())
            raise ValueError(f"t must sum to 1 in every row for cross_entropy, got {t[row].sum()} in row {row}")
