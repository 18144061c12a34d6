"""Scaling: one offset and one factor for each column, learned from the training part alone.

Statistics are computed in float64, in blocks of rows, so that 60,000 images are never held as float64 all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxmlp._validation import unknown_name
from jaxmlp.data.arrays import as_array, check_finite

if TYPE_CHECKING:
    from jaxmlp.data.arrays import Array

Float64s = NDArray[np.float64]
_BLOCK = 1 << 17  # numbers; 1 MiB of float64 stays in the cache


@dataclass(frozen=True, eq=False)
class Scaling:
    """The map x -> (x - offset) * factor, column by column.

    `offset` and `factor` are [n] float64, or [1] if all columns share them; finite, and no factor is 0.

    >>> scaling = Scaling.fit([[0.0, 5.0], [10.0, 5.0]], "minmax")
    >>> scaling([[5.0, 5.0]])
    array([[0.5, 0. ]], dtype=float32)
    >>> scaling.inverse([[0.5, 0.0]])
    array([[5., 5.]])
    """

    offset: Float64s
    factor: Float64s

    def __post_init__(self) -> None:
        """Check both arrays."""
        for name in ("offset", "factor"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.offset.ndim != 1 or self.offset.shape != self.factor.shape or not self.offset.size:
            shapes = f"{self.offset.shape} and {self.factor.shape}"
            raise ValueError(f"offset and factor must both be [n], got shapes {shapes}")
        if not (np.isfinite(self.offset).all() and np.isfinite(self.factor).all() and self.factor.all()):
            raise ValueError("offset and factor must be finite and no factor 0")

    @classmethod
    def fit(cls, x: ArrayLike, kind: str, *, shared: bool = False) -> Scaling:
        """Return the scaling fitted to the columns of `x`, [N, n] or [N] finite numbers.

        The kind "standard" makes mean 0 and standard deviation 1, "minmax" makes minimum 0 and maximum 1. "bytes"
        divides bytes by 255, and "none" changes nothing: these two learn nothing from x. Another kind is a
        `ValueError`. A constant column becomes 0 with the first two. With `shared` all columns have one offset and one
        factor. Images need this: otherwise a border pixel that is nearly always 0 would outweigh all others in the few
        images where it is not.
        """
        if kind not in KINDS:
            raise ValueError(unknown_name("scaling", kind, KINDS))
        array = as_array("x", x)
        check_finite("x", array)
        with np.errstate(over="ignore", invalid="ignore"):
            offset, spread = map(np.atleast_1d, KINDS[kind](np.asarray(array), None if shared else 0))
        if not np.isfinite([offset, spread]).all():
            raise ValueError(
                f"numbers as large as {np.abs(array).max():.6g} cannot be scaled: give them in another unit"
            )
        spread = np.where(spread > 0, np.maximum(spread, 1e-300), 0.0)  # 1 / spread would overflow
        return cls(offset, np.divide(1.0, spread, out=np.ones_like(spread), where=spread > 0))

    def __call__(self, x: ArrayLike) -> NDArray[np.float32]:
        """Return (x - offset) * factor, computed in float64 and rounded once."""
        return _by_blocks(lambda block: (block - self.offset) * self.factor, as_array("x", x))

    def inverse(self, y: ArrayLike) -> Float64s:
        """Return y / factor + offset, the inverse of the scaling, in float64: Unix seconds need more than 24 bits."""
        return np.asarray(as_array("y", y), np.float64) / self.factor + self.offset


def _by_blocks(apply: Callable[[Float64s], Float64s], given: Array) -> NDArray[np.float32]:
    x = np.asarray(given)
    y = np.empty(x.shape, np.float32)
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and `check_finite` says where
        for start, block in _blocks(x):
            y[start : start + len(block)] = apply(block)
    return y


def _blocks(x: NDArray[Any]) -> Iterator[tuple[int, Float64s]]:
    rows = max(1, _BLOCK * len(x) // max(1, x.size))
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows].astype(np.float64)


def _standard(x: NDArray[Any], axis: int | None) -> tuple[Float64s, Float64s]:
    # Sum deviations from the first value: in a constant column they are exactly 0, without rounding.
    first = (x.flat[0] if axis is None else x[0]).astype(np.float64)
    count = x.size if axis is None else len(x)
    mean = first + sum((block - first).sum(axis) for _, block in _blocks(x)) / count
    # The square of 1e200 overflows, and that of 1e-200 is 0. To divide by a power of 2 changes no digit.
    furthest = np.maximum(x.max(axis) - mean, mean - x.min(axis))
    unit = np.ldexp(1.0, np.frexp(furthest)[1] - 1)
    variance = sum(np.square((block - mean) / unit).sum(axis) for _, block in _blocks(x)) / count
    return np.asarray(mean), np.sqrt(variance) * unit


def _minmax(x: NDArray[Any], axis: int | None) -> tuple[Float64s, Float64s]:
    lowest, highest = np.asarray(x.min(axis), np.float64), np.asarray(x.max(axis), np.float64)
    return lowest, highest - lowest


def _none(x: NDArray[Any], axis: int | None) -> tuple[Float64s, Float64s]:
    zeros = np.zeros(x.shape[1:] if axis == 0 else ())
    return zeros, zeros + 1


def _bytes(x: NDArray[Any], axis: int | None) -> tuple[Float64s, Float64s]:
    offset, spread = _none(x, axis)
    return offset, spread * 255 if x.dtype == np.uint8 else spread


KINDS: dict[str, Callable[[NDArray[Any], int | None], tuple[Float64s, Float64s]]] = {
    "standard": _standard,
    "minmax": _minmax,
    "bytes": _bytes,
    "none": _none,
}
"""The kinds of scaling: functions from x to (offset, spread)."""
