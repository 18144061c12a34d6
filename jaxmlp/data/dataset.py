"""What a network trains on: one array of inputs, one of targets, checked once when they are put together.

Everything after this door may rely on finite numbers, equal counts and classes that are not negative.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import jax

    Array: TypeAlias = jax.Array | NDArray[Any]

__all__ = ["Dataset", "fingerprint"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N examples: inputs and targets, kept as they were given (lists become NumPy arrays).

    Parameters
    ----------
    x : [N, n] array of booleans, integers or real numbers
        The inputs, a row for each example; N and n are at least 1.
    t : [N] integers, [N] real numbers, or [N, K] numbers
        The targets: classes 0, 1, ...; one real value for each example; or rows of K values.
    weights : [N] array, "balanced", or None
        What each example's loss is multiplied with, in training and in evaluation: 0 or larger, and not all 0. In
        training the sum over a batch is still divided by B, so that weights of mean 1 leave the learning rate its
        meaning. "balanced" gives every class the same sum of weights, and all of them mean 1. None: all count alike.

    Raises
    ------
    ValueError
        If a shape, a type or a number is not as described; a number is named by row and column.

    Examples
    --------
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1])
    >>> len(data), data.x.shape
    (3, (3, 2))
    >>> Dataset([[0.0, float("nan")]], [0])
    Traceback (most recent call last):
    ValueError: x must be finite, got nan in row 0, column 1
    >>> Dataset([[0.0], [1.0], [2.0]], [0, 1, 1], weights="balanced").weights
    array([1.5 , 0.75, 0.75])
    """

    x: Array
    t: Array
    weights: Array | Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        """Check all arrays, each by itself and then together."""
        for name in ("x", "t"):
            object.__setattr__(self, name, _array(name, getattr(self, name)))
        _check_inputs(self.x)
        _check_targets(self.t)
        if len(self.x) != len(self.t):
            raise ValueError(f"x and t must have equally many rows, got {len(self.x)} and {len(self.t)}")
        if self.weights is not None:
            object.__setattr__(self, "weights", _weights(self.weights, self.t))

    def __len__(self) -> int:
        """Return N, the number of examples."""
        return len(self.x)


def fingerprint(data: Dataset) -> str:
    """Return 16 hexadecimal digits that change when a type, a shape or a number of `data` does.

    A resumed run compares them to learn whether it still has the data that it began with.

    >>> ones = Dataset([[1.0], [1.0]], [0, 1])
    >>> fingerprint(ones) == fingerprint(Dataset([[1.0], [1.0]], [0, 1]))
    True
    >>> fingerprint(ones) == fingerprint(Dataset([[1.0], [1.5]], [0, 1]))
    False
    """
    digest = hashlib.sha256()
    arrays = (data.x, data.t) if data.weights is None else (data.x, data.t, data.weights)
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def first_not_finite(array: Array) -> tuple[int, ...] | None:
    """Return the index of the first number that is not finite, None if all are; integers are not looked at."""
    if array.dtype.kind in "biu":
        return None
    values = np.asarray(array)
    with np.errstate(all="ignore"):
        # What is not finite survives every sum; one pass without a mask takes a fifth of the time.
        if np.isfinite(values.sum()):
            return None
    finite = np.isfinite(values)
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))


def _array(name: str, value: Any) -> Array:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array: Array = value
        return array
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, got rows of different lengths") from error


def _is_real(dtype: np.dtype[Any]) -> bool:
    # bfloat16 is no type of NumPy's own, and has no kind that says "number".
    return dtype.kind in "iuf" or dtype.name == "bfloat16"


def _check_inputs(x: Array) -> None:
    if x.ndim != 2:
        rows = x.shape[0] if x.ndim else 1
        raise ValueError(f"x must be [N, n], got shape {x.shape}: try x.reshape({rows}, -1)")
    if 0 in x.shape:
        raise ValueError(f"x must have at least one row and one column, got shape {x.shape}")
    if not (_is_real(x.dtype) or x.dtype.kind == "b"):
        raise ValueError(f"x must be real numbers, got {x.dtype}")
    _check_finite("x", x)


def _check_targets(t: Array) -> None:
    if t.ndim not in (1, 2) or 0 in t.shape:
        raise ValueError(f"t must be [N] or [N, K], got shape {t.shape}")
    if not _is_real(t.dtype):
        raise ValueError(f"t must be integers (classes) or real numbers, got {t.dtype}")
    _check_finite("t", t)
    if t.ndim == 1 and t.dtype.kind == "i":
        lowest = int(np.asarray(t).argmin())
        if t[lowest] < 0:
            raise ValueError(f"t must be classes 0, 1, ..., got {t[lowest]} in row {lowest}")


def _weights(given: Any, t: Array) -> Array:
    if isinstance(given, str):
        return _balanced(given, t)
    weights = _array("weights", given)
    if weights.shape != (len(t),):
        raise ValueError(f"weights must be [{len(t)}], one for each row of t, got shape {weights.shape}")
    if not (_is_real(weights.dtype) or weights.dtype.kind == "b"):
        raise ValueError(f"weights must be real numbers, got {weights.dtype}")
    _check_finite("weights", weights)
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


def _balanced(given: str, t: Array) -> NDArray[Any]:
    if given != "balanced":
        raise ValueError(f"weights must be an array, 'balanced' or None, got {given!r}")
    if t.ndim != 1 or t.dtype.kind not in "iu":
        raise ValueError(f"weights 'balanced' need integer classes as targets, got {t.dtype} of shape {t.shape}")
    _, positions, counts = np.unique(np.asarray(t), return_inverse=True, return_counts=True)
    return (len(t) / (len(counts) * counts))[positions]


def _check_finite(name: str, array: Array) -> None:
    if (bad := first_not_finite(array)) is not None:
        where = ", column ".join(map(str, bad))
        raise ValueError(f"{name} must be finite, got {array[bad]} in row {where}")
