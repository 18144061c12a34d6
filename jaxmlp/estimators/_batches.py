"""The batches of each epoch, drawn on the host in scikit-learn's order, in arrays of few different shapes."""

from typing import Any

import numpy as np

from jaxmlp.estimators._program import Batches

__all__ = ["BatchStream", "padded_length", "padded_rows"]

_SHORT = (64, 128, 256)


def padded_length(n: int) -> int:
    """Return a length from a short list, n to 1.125 n (more if n is small): arrays of similar lengths share a program.

    >>> padded_length(1437), padded_length(1438), padded_length(20)
    (1536, 1536, 64)
    """
    for length in _SHORT:
        if n <= length:
            return length
    step = 2 ** ((n - 1).bit_length() - 4)
    return -(-n // step) * step


def padded_rows(array: np.ndarray) -> np.ndarray:
    """Return the array with rows of 0 at its end, up to a padded length."""
    n = len(array)
    if padded_length(n) == n:
        return array
    longer = np.zeros((padded_length(n), *array.shape[1:]), array.dtype)
    longer[:n] = array
    return longer


class BatchStream:
    """Draws the batches of one epoch after another.

    Parameters
    ----------
    rows
        [n]: the training rows of x, in their order.
    weights
        Of all rows of x, in the dtype of the network.
    batch_size
        The rows of a batch; the last of an epoch may have fewer. More than n means n.
    random_state
        Shuffles the rows before each epoch; None leaves them in order.
    """

    def __init__(
        self,
        rows: np.ndarray,
        weights: np.ndarray,
        batch_size: int,
        random_state: np.random.RandomState | None,
    ) -> None:
        n = len(rows)
        self.rows = rows.astype(np.int32)
        self.random_state = random_state
        self.batch_size = min(batch_size, n)
        self.n_steps = -(-n // self.batch_size)
        self.shape = padded_length(self.n_steps), min(batch_size, padded_length(n))
        self.order = np.arange(n)
        self.weights = weights[rows]
        self.fixed = None if random_state is not None else self._batches()

    def next_epoch(self) -> tuple[Batches, np.ndarray]:
        """Return the batches of the next epoch, and the number of rows of each, [n_steps]."""
        if self.fixed is not None:
            return self.fixed
        assert self.random_state is not None
        # scikit-learn shuffles the order of the epoch before.
        drawn = np.arange(len(self.order))
        self.random_state.shuffle(drawn)
        self.order = self.order[drawn]
        return self._batches()

    def state(self) -> Any:
        """Return the random state after the epochs so far, as NumPy's `get_state` does; None without one."""
        return None if self.random_state is None else self.random_state.get_state(legacy=False)

    def _batches(self) -> tuple[Batches, np.ndarray]:
        n, shape = len(self.order), (self.n_steps, self.batch_size)
        n_missing = self.n_steps * self.batch_size - n
        # A batch that is not full repeats one of its own rows: any other row might be infinite, and spoil it.
        order = np.concatenate([self.order, np.repeat(self.order[-1:], n_missing)]).reshape(shape)
        weights = self.weights[order]
        weights.reshape(-1)[n:] = 0
        n_rows = np.full(self.n_steps, self.batch_size)
        n_rows[-1] -= n_missing
        # The weighted mean of a batch without weight is not defined: it makes no step.
        used = weights.sum(1) > 0
        order, weights, n_rows = order[used], weights[used], n_rows[used]
        rows, of_rows = np.zeros(self.shape, np.int32), np.zeros(self.shape, self.weights.dtype)
        rows[: len(order), : self.batch_size] = self.rows[order]
        rows[:, self.batch_size :] = rows[:, self.batch_size - 1 : self.batch_size]
        of_rows[: len(order), : self.batch_size] = weights
        return Batches(np.int32(len(order)), rows, of_rows), n_rows
