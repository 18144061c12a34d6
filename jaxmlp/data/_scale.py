"""`Scale`: how the numbers of a table's column become z, the passed input and the bins that are made of it.

Quantiles are numbers of the data: to interpolate between them could overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 16
"""Bins of a piecewise linear encoding, where a column has so many distinct numbers."""
Float32s = NDArray[np.float32]


class Layout(NamedTuple):
    """How compact columns become inputs: (column, smooth), (column, low, factor) and (column, code), as `Expansion`."""

    passed: list[tuple[int, bool]]
    bins: list[tuple[int, float, float]]
    codes: list[tuple[int, int]]


@dataclass(frozen=True)
class Scale:
    """Numbers x as z = (x - offset) * factor, bins between `edges` of z, and the z of a missing number."""

    offset: float
    factor: float
    fill: float
    smooth: bool
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (np.isfinite([self.offset, self.factor, self.fill, *self.edges]).all() and self.factor):
            raise ValueError("offset, factor, fill and edges must be finite, and factor not 0")
        if len(self.edges) > BINS + 1 or (np.diff(self.edges) <= 0).any():
            raise ValueError(f"edges must be at most {BINS + 1} numbers, each larger than the one before")

    @classmethod
    def fit(cls, x: NDArray[np.float64], scaling: str) -> Scale:
        """Return the scale of finite numbers [N]."""
        ordered = np.sort(x)
        offset, spread = SCALINGS[scaling](ordered)
        factor = float(1 / np.clip(spread, 1e-300, 1e300)) if spread > 0 else 1.0
        z = _scaled(ordered, offset, factor)
        edges = _edges(z) if scaling == "piecewise" else ()
        return cls(offset, factor, float(_quantile(z, 0.5)), scaling in ("robust", "piecewise"), edges)

    def __call__(self, x: NDArray[np.float64]) -> Float32s:
        """Return z; a missing number is NaN in x."""
        return np.where(np.isnan(x), np.float32(self.fill), _scaled(x, self.offset, self.factor))

    def layout(self) -> Layout:
        """Return the inputs that one column z becomes."""
        bins = [(0, low, 1 / (high - low)) for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)]
        return Layout([(0, self.smooth)], bins, [])


def _scaled(x: NDArray[np.float64], offset: float, factor: float) -> Float32s:
    with np.errstate(over="ignore"):
        return np.clip((x - offset) * factor, -1e15, 1e15).astype(np.float32)


def _edges(z: Float32s) -> tuple[float, ...]:
    """Return the edges of bins that hold equally many of the ordered numbers, or one distinct number each."""
    edges = np.unique(z)
    if len(edges) > BINS + 1:
        edges = np.unique(_quantile(z, np.linspace(0, 1, BINS + 1)))
    # A bin narrower than float32 resolves would only be noise, or overflow.
    kept = np.concatenate([[True], np.diff(edges) > 1e-6 * np.maximum(np.abs(edges[1:]), 1e-3)])
    edges = edges[kept]
    return tuple(map(float, edges)) if len(edges) > 2 else ()


def _quantile(ordered: NDArray[Any], share: float | NDArray[np.float64]) -> NDArray[Any]:
    """Return the numbers nearest to quantiles."""
    return ordered[np.rint(np.asarray(share) * (len(ordered) - 1)).astype(int)]


def _robust(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """Return the median and the interquartile range; where that is 0 the 10-90 % range, then the whole range."""
    for share in (0.25, 0.1, 0.0):
        low, high = _quantile(ordered, share), _quantile(ordered, 1 - share)
        if high > low:
            break
    return float(_quantile(ordered, 0.5)), 2 * float(high / 2 - low / 2)


def _standard(ordered: NDArray[np.float64]) -> tuple[float, float]:
    largest = max(float(np.abs(ordered).max()), 1e-300)  # its square may overflow
    return float(np.mean(ordered / largest)) * largest, float(np.std(ordered / largest)) * largest


def _minmax(ordered: NDArray[np.float64]) -> tuple[float, float]:
    return float(ordered[0]), 2 * float(ordered[-1] / 2 - ordered[0] / 2)


SCALINGS: dict[str, Callable[[NDArray[np.float64]], tuple[float, float]]] = {
    "piecewise": _robust,
    "robust": _robust,
    "standard": _standard,
    "minmax": _minmax,
    "none": lambda ordered: (0.0, 1.0),
}
"""Functions from ordered numbers to (offset, spread), by the name of the scaling."""
