"""What a column of a table may be taken for: `Number`, `Boolean`, `Category`, `Date`, or `LeftOut`.

Each is a frozen value, fitted to the cells of the training part alone. `encode` makes float32 columns of any cells, and
`layout` says how these compact columns become inputs of a network.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp.data import _cells
from jaxmlp.data._quoting import quoted

if TYPE_CHECKING:
    import polars

BINS = 16
"""Bins of a piecewise linear encoding, where a column has so many distinct numbers."""
MOST_CATEGORIES = 200
"""Categories of a column with an input of their own; the most frequent ones have it."""
RARE = 5
"""A category of fewer training examples, or of less than 2 % of them if that is fewer, has no input of its own."""

Float32s = NDArray[np.float32]


class Layout(NamedTuple):
    """How compact columns become inputs: (column, smooth), (column, low, factor) and (column, code), as `Expansion`."""

    passed: list[tuple[int, bool]]
    bins: list[tuple[int, float, float]]
    codes: list[tuple[int, int]]


class Encoded(NamedTuple):
    """Compact columns [N, m], and counts of cells unlike those of training, by what they are."""

    x: Float32s
    new: Counter[str]


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


def _quantile(ordered: NDArray[np.floating], share: float | NDArray[np.float64]) -> NDArray[np.floating]:
    """Return quantiles that occur in the data: no arithmetic, which could overflow."""
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


SCALINGS = {
    "piecewise": _robust,
    "robust": _robust,
    "standard": _standard,
    "minmax": _minmax,
    "none": lambda ordered: (0.0, 1.0),
}
"""Functions from ordered numbers to (offset, spread), by the name of the scaling."""


def _with_indicator(x: Float32s, is_missing: NDArray[np.bool_], has: bool) -> Float32s:
    return np.column_stack([x, is_missing.astype(np.float32)]) if has else x


@dataclass(frozen=True)
class Number:
    """A number: z, and 1 where it is missing if training had missing cells."""

    kind: ClassVar[str] = "number"
    name: str
    missing: bool
    scale: Scale

    @classmethod
    def fit(cls, name: str, cells: polars.Series, scaling: str, spelling: str) -> Number:
        """Return the column fitted to cleaned cells."""
        read = _cells.numbers(cells)
        return cls(name, bool(read.null_count()), Scale.fit(read.drop_nulls().to_numpy(), scaling))

    def encode(self, cells: polars.Series) -> Encoded:
        """Return z, and the indicator."""
        read = _cells.numbers(cells)
        if (infinite := read.is_infinite().fill_null(False)).any():
            row = infinite.arg_true()[0]
            raise ValueError(f"{cells[row]} in row {row}, expected a finite number")
        is_missing = read.is_null().to_numpy()
        x = self.scale(read.to_numpy())[:, None]
        new = Counter({"odd": read.null_count() - cells.null_count()})
        if not self.missing:
            new["missing"] = cells.null_count()
        return Encoded(_with_indicator(x, is_missing, self.missing), new)

    @property
    def width(self) -> int:
        """Return m, the number of compact columns."""
        return 1 + self.missing

    def layout(self) -> Layout:
        """Return the inputs that the compact columns become."""
        passed, bins, codes = self.scale.layout()
        return Layout(passed + [(1, False)] * self.missing, bins, codes)

    def details(self) -> str:
        """Describe the encoding for the user."""
        bins = f", {len(self.scale.edges) - 1} bins" if self.scale.edges else ""
        return f"{self.scale.offset:.6g} is 0, a step of {1 / self.scale.factor:.6g} is 1{bins}{_or_missing(self)}"


@dataclass(frozen=True)
class Boolean:
    """A truth value: 1, -1, or 0 where it is missing, and an indicator as `Number`."""

    kind: ClassVar[str] = "boolean"
    name: str
    missing: bool

    @classmethod
    def fit(cls, name: str, cells: polars.Series, scaling: str, spelling: str) -> Boolean:
        """Return the column fitted to cleaned cells."""
        return cls(name, bool(_cells.booleans(cells).null_count()))

    def encode(self, cells: polars.Series) -> Encoded:
        """Return the truth value, and the indicator."""
        read = _cells.booleans(cells)
        x = np.where(read.fill_null(False).to_numpy(), 1.0, -1.0)
        is_missing = read.is_null().to_numpy()
        x[is_missing] = 0
        new = Counter({"odd": read.null_count() - cells.null_count()})
        if not self.missing:
            new["missing"] = cells.null_count()
        return Encoded(_with_indicator(x.astype(np.float32)[:, None], is_missing, self.missing), new)

    @property
    def width(self) -> int:
        """Return m, the number of compact columns."""
        return 1 + self.missing

    def layout(self) -> Layout:
        """Return the inputs that the compact columns become."""
        return Layout([(0, False)] + [(1, False)] * self.missing, [], [])

    def details(self) -> str:
        """Describe the encoding for the user."""
        return f"true is 1, false is -1{_or_missing(self)}"


@dataclass(frozen=True)
class Category:
    """A category: its code, one of `categories`, then `other` for rare and unseen ones, then missing.

    An unseen category has no code if training had no rare ones, and a missing one none if training had none missing.
    """

    kind: ClassVar[str] = "category"
    name: str
    missing: bool
    categories: tuple[str, ...]
    other: bool

    def __post_init__(self) -> None:
        """Check the categories."""
        if not 0 < len(set(self.categories)) == len(self.categories) <= MOST_CATEGORIES:
            raise ValueError(f"categories must be 1 to {MOST_CATEGORIES} distinct names, got {len(self.categories)}")

    @classmethod
    def fit(cls, name: str, cells: polars.Series, scaling: str, spelling: str) -> Category | LeftOut:
        """Return the column fitted to cleaned cells; it is left out if every category is rare."""
        texts = _cells.texts(cells)
        counts = sorted(Counter(texts.drop_nulls().to_list()).items(), key=lambda pair: (-pair[1], pair[0]))
        least = min(RARE, len(cells) / 50)
        kept = [text for text, count in counts[:MOST_CATEGORIES] if count >= least]
        if not kept:
            return LeftOut(name, f"no category of {RARE} rows")
        return cls(name, bool(texts.null_count()), tuple(kept), len(kept) < len(counts))

    def encode(self, cells: polars.Series) -> Encoded:
        """Return the codes; -1 for none."""
        pl = optional("polars")
        texts = _cells.texts(cells)
        known = range(len(self.categories))
        code = texts.replace_strict(list(self.categories), list(known), default=None, return_dtype=pl.Float32)
        is_missing = texts.is_null().to_numpy()
        is_unseen = code.is_null().to_numpy() & ~is_missing
        x = code.fill_null(-1).to_numpy(writable=True)
        x[is_unseen] = len(known) if self.other else -1
        new: Counter[str] = Counter()
        if self.missing:
            x[is_missing] = len(known) + self.other
        else:
            new["missing"] = int(is_missing.sum())
        new["rare" if self.other else "unseen"] = int(is_unseen.sum())  # the names of rare ones are not kept
        return Encoded(x[:, None], new)

    @property
    def width(self) -> int:
        """Return m, the number of compact columns."""
        return 1

    def layout(self) -> Layout:
        """Return the inputs that the compact columns become."""
        return Layout([], [], [(0, code) for code in range(len(self.categories) + self.other + self.missing)])

    def details(self) -> str:
        """Describe the encoding for the user."""
        some = ", ".join(map(quoted, self.categories[:4])) + (", …" if len(self.categories) > 4 else "")
        rare = ", rare ones together" if self.other else ""
        return f"{len(self.categories)} categories: {some}{rare}{_or_missing(self)}"


@dataclass(frozen=True)
class Date:
    """A date or time: the year as a number, and month, weekday and hour on the circle, where they vary in training.

    `month` is the day of the year, and `hour` the second of the day, as an angle: January is near December.
    """

    kind: ClassVar[str] = "date"
    name: str
    missing: bool
    spelling: str
    year: Scale | None
    circles: tuple[str, ...]

    @classmethod
    def fit(cls, name: str, cells: polars.Series, scaling: str, spelling: str) -> Date | LeftOut:
        """Return the column fitted to cleaned cells; it is left out if nothing of it varies."""
        read = _cells.times(cells, spelling)
        present = read.drop_nulls()
        circles = tuple(name for name, turns in _CIRCLES.items() if len(np.unique(turns(present))) > 1)
        year = Scale.fit(_years(present), scaling) if present.dt.year().n_unique() > 1 else None
        if year is None and not circles:
            return LeftOut(name, "constant")
        return cls(name, bool(read.null_count()), spelling, year, circles)

    def encode(self, cells: polars.Series) -> Encoded:
        """Return the year, cosine and sine of each circle, and the indicator."""
        read = _cells.times(cells, self.spelling)
        columns = [] if self.year is None else [self.year(_years(read))]
        for name in self.circles:
            angle = 2 * np.pi * _CIRCLES[name](read)
            columns += [np.cos(angle), np.sin(angle)]
        is_missing = read.is_null().to_numpy()
        x = np.nan_to_num(np.column_stack(columns)).astype(np.float32)
        new = Counter({"odd": read.null_count() - cells.null_count()})
        if not self.missing:
            new["missing"] = cells.null_count()
        return Encoded(_with_indicator(x, is_missing, self.missing), new)

    @property
    def width(self) -> int:
        """Return m, the number of compact columns."""
        return (self.year is not None) + 2 * len(self.circles) + self.missing

    def layout(self) -> Layout:
        """Return the inputs that the compact columns become."""
        passed, bins, codes = Layout([], [], []) if self.year is None else self.year.layout()
        return Layout(passed + [(column, False) for column in range(len(passed), self.width)], bins, codes)

    def details(self) -> str:
        """Describe the encoding for the user."""
        return ", ".join(["year"] * (self.year is not None) + list(self.circles)) + _or_missing(self)


@dataclass(frozen=True)
class LeftOut:
    """A column that the network does not get, and why."""

    kind: ClassVar[str] = "left out"
    name: str
    reason: str

    def details(self) -> str:
        """Return why the column is left out."""
        return self.reason


def _or_missing(column: Number | Boolean | Category | Date) -> str:
    return ", may be missing" if column.missing else ""


def _years(read: polars.Series) -> NDArray[np.float64]:
    return read.dt.year().cast(float).to_numpy() + _CIRCLES["month"](read)


_CIRCLES = {
    "month": lambda read: (read.dt.ordinal_day().cast(float).to_numpy() - 1) / 366,
    "weekday": lambda read: (read.dt.weekday().cast(float).to_numpy() - 1) / 7,
    "hour": lambda read: (
        (read.dt.hour().cast(float) * 3600 + read.dt.minute().cast(float) * 60 + read.dt.second()).to_numpy() / 86400
    ),
}
"""Functions from datetimes to turns around the circle, from 0 to 1."""

Used: TypeAlias = Number | Boolean | Category | Date
Column: TypeAlias = Used | LeftOut
KINDS: dict[str, Any] = {kind.kind: kind for kind in (Number, Boolean, Category, Date, LeftOut)}
"""The kinds of columns by name."""
