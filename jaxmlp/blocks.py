"""Long arrays worked through a block at a time, so that memory holds a block of what is in between, and the answer."""

from collections.abc import Callable
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

__all__ = ["in_blocks"]

Answer = TypeVar("Answer", bound=chex.ArrayTree)


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
