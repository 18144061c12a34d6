"""`Dataset`: the inputs and targets that a network trains on, checked once; all later code relies on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxmlp.data.arrays import as_array, as_inputs, check_finite, column_names
from jaxmlp.data.expansion import Expansion, check_expansion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jaxmlp.data.arrays import Array
    from jaxmlp.data.preparing import Part
    from jaxmlp.data.source import Source


@dataclass(frozen=True, eq=False)
class Dataset:
    """N examples: inputs x, targets t and perhaps weights, each as a plain array (see `as_array`).

    A `ValueError` names the wrong shape or type, or the row and column of a wrong number.

    Parameters
    ----------
    x : [N, n] booleans, integers or real numbers
        Inputs, a row for each example; N and n are at least 1. Lists, frames of pandas and polars, PyTorch tensors
        and the like become NumPy arrays; the columns of a frame keep their order.
    t : [N] integers, [N] real numbers, or [N, K] numbers
        Targets: classes 0, 1, ...; one real value for each example; or rows of K values.
    weights : [N] array, "balanced", or None
        Factors of the examples' losses, in training and in evaluation: 0 or larger, and not all 0. In training the
        sum over a batch is still divided by B, so weights of mean 1 suit the same learning rate. "balanced" gives
        every class the same sum of weights, with a mean of 1 over all examples. None: every example has weight 1.
    expansion : Expansion or None
        How the columns of x become the inputs of a network, batch by batch. None: they are the inputs.

    Examples
    --------
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1])
    >>> len(data), data.x.shape
    (3, (3, 2))
    >>> Dataset([[0.0, float("nan")]], [0])
    Traceback (most recent call last):
    ValueError: x must be finite, got nan in row 0, column 1: fill missing values or leave the row out
    >>> Dataset([[0.0], [1.0], [2.0]], [0, 1, 1], weights="balanced").weights
    array([1.5 , 0.75, 0.75])
    """

    x: Array
    t: Array
    weights: Array | Literal["balanced"] | None = None
    expansion: Expansion | None = None

    def __post_init__(self) -> None:
        """Check each array by itself, then whether they fit together."""
        object.__setattr__(self, "x", _checked_inputs(self.x))
        object.__setattr__(self, "t", _checked_targets(self.t))
        if len(self.x) != len(self.t):
            raise ValueError(f"x and t must have equally many rows, got {len(self.x)} and {len(self.t)}")
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, self.t))
        if self.expansion is not None:
            check_expansion(self.expansion, self.x.shape[1])

    def __len__(self) -> int:
        """Return N, the number of examples."""
        return len(self.x)

    @property
    def n_inputs(self) -> int:
        """Return n_0, the number of inputs that a network for these data takes."""
        return self.x.shape[1] if self.expansion is None else self.expansion.n_inputs


def fingerprint(data: Dataset | Source | Part) -> str:
    """Return 16 hexadecimal digits that change with any type, shape or number of `data`.

    A resumed run compares fingerprints to check that it has the data that it began with.

    >>> ones = Dataset([[1.0], [1.0]], [0, 1])
    >>> fingerprint(ones) == fingerprint(Dataset([[1.0], [1.0]], [0, 1]))
    True
    >>> fingerprint(ones) == fingerprint(Dataset([[1.0], [1.5]], [0, 1]))
    False
    """
    digest = hashlib.sha256()
    parts = [getattr(data, name, None) for name in ("x", "t", "weights", "x_test", "t_test")]
    parts += getattr(data, "expansion", None) or ()
    if hasattr(data.x, "get_column"):
        parts = [*_arrays_of(data.x), *parts[1:]]
    for array in (np.asarray(part) for part in parts if part is not None):
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _arrays_of(frame: Any) -> list[NDArray[Any]]:
    """Return the cells of a frame as arrays that depend on no version of polars."""
    arrays = [np.array(frame.columns)]
    for cells in frame:
        if (cells.dtype.is_numeric() and not cells.dtype.is_decimal()) or cells.dtype.is_temporal():
            values = cells.to_physical().fill_null(0).to_numpy()
        else:
            values = np.frombuffer("\0".join(map(str, cells.to_list())).encode(), np.uint8)
        arrays += [cells.is_null().to_numpy(), values]
    return arrays


def _checked_inputs(given: Any) -> Array:
    x = as_inputs("x", given)
    if 0 in x.shape:
        raise ValueError(f"x must have at least one row and one column, got shape {x.shape}")
    check_finite("x", x, column_names(given))
    return x


def _checked_targets(given: Any) -> Array:
    t = as_array("t", given)
    if t.ndim not in (1, 2) or 0 in t.shape:
        raise ValueError(f"t must be [N] or [N, K], got shape {t.shape}")
    if t.dtype.kind == "b":
        raise ValueError("t must be integers (classes) or real numbers, got bool: try t.astype(int)")
    check_finite("t", t, column_names(given))
    if t.ndim == 1 and t.dtype.kind == "i":
        lowest = int(np.asarray(t).argmin())
        if t[lowest] < 0:
            raise ValueError(f"t must be classes 0, 1, ..., got {t[lowest]} in row {lowest}")
    return t


def _checked_weights(given: Any, t: Array) -> Array:
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(f"weights must be an array, 'balanced' or None, got {given!r}")
        if t.ndim != 1 or t.dtype.kind not in "iu":
            raise ValueError(f"weights 'balanced' need integer classes as targets, got {t.dtype} of shape {t.shape}")
        _, positions, counts = np.unique(np.asarray(t), return_inverse=True, return_counts=True)
        return (len(t) / (len(counts) * counts))[positions]
    weights = as_array("weights", given)
    if weights.shape != (len(t),):
        raise ValueError(f"weights must be [{len(t)}], one for each row of t, got shape {weights.shape}")
    check_finite("weights", weights)
    values = np.asarray(weights)
    if (values < 0).any():
        row = int(values.argmin())
        raise ValueError(f"weights must be 0 or larger, got {values[row]} in row {row}")
    if not values.any():
        raise ValueError("weights must not be all 0")
    with np.errstate(over="ignore", under="ignore"):
        total = values.astype(np.float32).sum()
    if not 0 < total < np.inf:
        raise ValueError(f"weights must have a sum within the range of float32, got {values.sum(dtype=float):g}")
    return weights if weights.dtype.kind == "f" else values.astype(float)
