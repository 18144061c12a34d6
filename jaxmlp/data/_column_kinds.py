"""What a column of a table may be taken for: `Number`, `Boolean`, `Category`, `Date`, or `LeftOut`.

Each is a frozen value, fitted to the cells of the training part alone. `encode` makes float32 columns of any cells, and
`layout` says how these compact columns become inputs of a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp.data import _cells
from jaxmlp.data._quoting import quoted
from jaxmlp.data._scale import Float32s, Layout, Scale

if TYPE_CHECKING:
    import polars

MOST_CATEGORIES = 200
"""Categories of a column with an input of their own; the most frequent ones have it."""
RARE = 5
"""A category of fewer training examples, or of less than 2 % of them if that is fewer, has no input of its own."""


class Encoded(NamedTuple):
    """Compact columns [N, m], and counts of cells unlike those of training, by what they are."""

    x: Float32s
    new: Counter[str]


@dataclass(frozen=True)
class _Values(ABC):
    """What numbers, truth values and times share: a cell that cannot be read counts as missing.

    Where training had missing cells, a further compact column is 1 for them and else 0.
    """

    kind: ClassVar[str]
    name: str
    missing: bool

    @abstractmethod
    def read(self, cells: polars.Series) -> polars.Series:
        """Return cleaned cells as values, null where missing or not readable."""

    @abstractmethod
    def compact(self, read: polars.Series) -> list[Float32s]:
        """Return compact columns for values that `read` returned."""

    @abstractmethod
    def inputs(self) -> Layout:
        """Return the inputs that `compact` becomes; it passes every column on."""

    def encode(self, cells: polars.Series) -> Encoded:
        """Return the compact columns of cleaned cells."""
        read = self.read(cells)
        indicator = [read.is_null().to_numpy().astype(np.float32)] * self.missing
        new = Counter({"odd": read.null_count() - cells.null_count()})
        if not self.missing:
            new["missing"] = cells.null_count()
        return Encoded(np.column_stack([*self.compact(read), *indicator]), new)

    def odd(self, cells: polars.Series) -> polars.Series:
        """Return the cells that are not missing and cannot be read."""
        read = self.read(cells)
        if read.null_count() == cells.null_count():
            return cells.clear()
        return cells.filter(read.is_null() & cells.is_not_null())

    @property
    def width(self) -> int:
        """Return m, the number of compact columns."""
        return len(self.inputs().passed) + self.missing

    def layout(self) -> Layout:
        """Return the inputs that the compact columns become."""
        passed, bins, codes = self.inputs()
        return Layout([*passed, *[(len(passed), False)] * self.missing], bins, codes)


@dataclass(frozen=True)
class Number(_Values):
    """A number: z, as the scale says."""

    kind = "number"
    scale: Scale

    @classmethod
    def fit(cls, name: str, cells: polars.Series, scaling: str, spelling: str) -> Number:
        """Return the column fitted to cleaned cells."""
        read = _cells.numbers(cells)
        return cls(name, bool(read.null_count()), Scale.fit(read.drop_nulls().to_numpy(), scaling))

    def read(self, cells: polars.Series) -> polars.Series:
        """Return float64."""
        read = _cells.numbers(cells)
        if (row := _cells.first_infinite(read)) is not None:
            raise ValueError(f"{cells[row]} in row {row}, expected a finite number")
        return read

    def compact(self, read: polars.Series) -> list[Float32s]:
        """Return z."""
        return [self.scale(read.to_numpy())]

    def inputs(self) -> Layout:
        """Return z and its bins."""
        return self.scale.layout()

    def details(self) -> str:
        """Describe the encoding for the user."""
        bins = f", {len(self.scale.edges) - 1} bins" if self.scale.edges else ""
        return f"centre {self.scale.offset:.6g}, spread {1 / self.scale.factor:.6g}{bins}{_or_missing(self)}"


@dataclass(frozen=True)
class Boolean(_Values):
    """A truth value: 1, -1, or 0 where it is missing."""

    kind = "boolean"

    @classmethod
    def fit(cls, name: str, cells: polars.Series, scaling: str, spelling: str) -> Boolean:
        """Return the column fitted to cleaned cells."""
        return cls(name, bool(_cells.booleans(cells).null_count()))

    def read(self, cells: polars.Series) -> polars.Series:
        """Return booleans."""
        return _cells.booleans(cells)

    def compact(self, read: polars.Series) -> list[Float32s]:
        """Return 1, -1 or 0."""
        return [2 * read.cast(float).fill_null(0.5).to_numpy().astype(np.float32) - 1]

    def inputs(self) -> Layout:
        """Return the truth value as it is."""
        return Layout([(0, False)], [], [])

    def details(self) -> str:
        """Describe the encoding for the user."""
        return f"true is 1, false is -1{_or_missing(self)}"


@dataclass(frozen=True)
class Date(_Values):
    """A date or time: the year as a number, and month, weekday and hour on the circle, where they vary in training.

    `month` is the day of the year, and `hour` the second of the day, as an angle: January is near December.
    """

    kind = "date"
    spelling: str
    year: Scale | None
    circles: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the spelling and the circles."""
        if self.spelling not in _cells.SPELLINGS:
            raise ValueError(f"spelling must be one of {', '.join(_cells.SPELLINGS)}, got {quoted(self.spelling)}")
        if not set(self.circles) <= set(_CIRCLES) or not (self.circles or self.year):
            raise ValueError(f"circles must be some of {', '.join(_CIRCLES)}, got {self.circles}")

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

    def read(self, cells: polars.Series) -> polars.Series:
        """Return datetimes."""
        return _cells.times(cells, self.spelling)

    def compact(self, read: polars.Series) -> list[Float32s]:
        """Return the year, and cosine and sine of each circle, 0 where missing."""
        columns = [] if self.year is None else [self.year(_years(read))]
        for name in self.circles:
            angle = 2 * np.pi * _CIRCLES[name](read)
            columns += [np.nan_to_num(side).astype(np.float32) for side in (np.cos(angle), np.sin(angle))]
        return columns

    def inputs(self) -> Layout:
        """Return the year and its bins, and the circles as they are."""
        passed, bins, codes = Layout([], [], []) if self.year is None else self.year.layout()
        n_passed = len(passed) + 2 * len(self.circles)
        return Layout([*passed, *((column, False) for column in range(len(passed), n_passed))], bins, codes)

    def details(self) -> str:
        """Describe the encoding for the user."""
        parts = ["year"] * (self.year is not None) + list(self.circles)
        spelled = "" if len(_cells.alike(self.spelling)) > 1 else f", written {self.spelling}"  # 1/2 is ambiguous
        return ", ".join(parts) + spelled + _or_missing(self)


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
class LeftOut:
    """A column that the network does not get, and why."""

    kind: ClassVar[str] = "left out"
    name: str
    reason: str

    def details(self) -> str:
        """Return why the column is left out."""
        return self.reason


def _or_missing(column: Number | Boolean | Category | Date) -> str:
    return ", missing cells" if column.missing else ""


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
