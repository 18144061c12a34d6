"""`Columns`: what the columns of a table are taken for, and how they become compact columns of float32.

All of it is decided on the training part alone. A table is encoded to few columns (a scaled number, the code of a
category), from which an `Expansion` makes the inputs of a network.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name
from jaxmlp.data import _cells
from jaxmlp.data._column_kinds import KINDS, MOST_CATEGORIES, Category, Column, Encoded, LeftOut, Used
from jaxmlp.data._quoting import check_features, listed, plain, quoted, unknown_among
from jaxmlp.data._saving import from_json, to_json
from jaxmlp.data._scale import SCALINGS, Scale
from jaxmlp.data.expansion import Expansion

if TYPE_CHECKING:
    import polars

__all__ = ["MOST_CATEGORIES", "Columns", "Described"]

_INDEX = re.compile(r"|unnamed: ?\d+|__index_level_\d+__|level_\d+|row[._ ]?names?|\.\.\.\d+", re.I)
"""Names that pandas and R give to their index; of a sample of rows it has gaps."""

_COUNTERS = re.compile(r"index|row[._ ]?id|(?-i:X)|id", re.I)
"""Names that an index or `id` has, but other numbers may have too; R's X is never an x."""

_MOST_DISTINCT = 0.95  # text of which a larger share is distinct is a name, not a category
_NEW = {
    "unseen": "unseen categories",
    "rare": "rare or unseen categories",
    "missing": "missing cells",
    "odd": "unreadable cells",
}


class Described(NamedTuple):
    """A row of the table that shows columns to the user."""

    name: str
    kind: str
    details: str


@dataclass(frozen=True)
class Columns:
    """How each raw column of a table is encoded.

    Parameters
    ----------
    scaling
        What numbers become, see `fit`.
    missing
        The texts that mean a missing cell.
    columns
        A row for each raw column, in the order of the training table; also for those left out.
    notes
        Lines for the user: which columns are left out, and which cells could not be read.

    Examples
    --------
    >>> import polars as pl
    >>> frame = pl.DataFrame({"age": [20, 30, None, 40], "city": ["Bonn", "Rome", "Rome", "Bonn"], "id": [1, 2, 3, 4]})
    >>> columns = Columns.fit(frame, scaling="robust")
    >>> print(columns.notes[0])
    left out: 'id' (counts the rows)
    >>> print(columns.encode(frame.select("city", "age")))  # age, age is missing, city
    [[-0.5  0.   0. ]
     [ 0.   0.   1. ]
     [ 0.   1.   1. ]
     [ 0.5  0.   0. ]]
    >>> columns.n_inputs  # the two cities have one each
    4
    """

    scaling: str
    missing: tuple[str, ...]
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that something is left of the table, and that names are distinct."""
        if self.scaling not in SCALINGS:
            raise ValueError(unknown_name("scaling", self.scaling, SCALINGS))
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ValueError("columns must have distinct names")
        if not self.used:
            left_out = ", ".join(f"{quoted(column.name)} ({column.details()})" for column in self.columns[:10])
            tail = "take one back with --numbers or --categories"
            raise ValueError(f"every feature is left out: {left_out or 'the table has none'}; {tail}")

    @classmethod
    def fit(
        cls,
        frame: polars.DataFrame,
        *,
        scaling: str = "piecewise",
        numbers: Collection[str] = (),
        categories: Collection[str] = (),
        missing: Sequence[str] = _cells.MISSING,
    ) -> Columns:
        """Return the encoding learned from the feature columns of a training part.

        Parameters
        ----------
        scaling
            What numbers become. "robust": median 0, interquartile range 1, and smoothly clipped to -10 ... 10 (as in
            RealMLP, arXiv 2407.04491); "piecewise": this, beside a piecewise linear encoding by quantiles (arXiv
            2203.05556); "standard": mean 0, standard deviation 1; "minmax": from 0 to 1; "none": as they are.
        numbers, categories
            Names of columns that are to be taken for numbers or for categories, whatever they look like.
        missing
            Texts that mean a missing cell, in upper or lower case.

        Raises
        ------
        ValueError
            If no column is left, a name is unknown or given twice, or a column of `numbers` holds text.
        """
        if scaling not in SCALINGS:
            raise ValueError(unknown_name("scaling", scaling, SCALINGS))
        said = _said(frame.columns, numbers, categories)
        columns: list[Column] = []
        notes: list[str] = []
        for raw, cells in zip(frame, _cells.cleaned(frame, missing), strict=True):
            try:
                column = _fit_column(raw, cells, said.get(raw.name), scaling)
            except ValueError as error:
                raise ValueError(f"column {quoted(raw.name)}: {error}") from None
            columns.append(column)
            notes += _about_odd_cells(column, cells)
            notes += _about_numbers_among_text(column, cells) if raw.name not in said else []
        left_out = [f"{quoted(column.name)} ({column.reason})" for column in columns if isinstance(column, LeftOut)]
        if left_out:
            notes.insert(0, f"left out: {', '.join(left_out)}")
        return cls(scaling, tuple(missing), tuple(columns), tuple(notes))

    @property
    def used(self) -> tuple[Used, ...]:
        """Return the columns that are not left out."""
        return tuple(column for column in self.columns if not isinstance(column, LeftOut))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns that are not left out."""
        return tuple(column.name for column in self.used)

    @property
    def groups(self) -> dict[str, slice]:
        """Return which compact columns each raw column has."""
        starts = np.cumsum([0, *(column.width for column in self.used)])
        return {name: slice(*map(int, pair)) for name, pair in zip(self.names, pairwise(starts), strict=True)}

    @property
    def n_inputs(self) -> int:
        """Return n_0, the number of inputs of the network."""
        return self.expansion.n_inputs

    @property
    def expansion(self) -> Expansion:
        """Return how the compact columns become the inputs of a network."""
        passed, bins, codes = [], [], []
        for column, group in zip(self.used, self.groups.values(), strict=True):
            layout = column.layout()
            passed += [(group.start + index, smooth) for index, smooth in layout.passed]
            bins += [(group.start + index, low, factor) for index, low, factor in layout.bins]
            codes += [(group.start + index, code) for index, code in layout.codes]

        def column_of(rows: list[Any], place: int, dtype: type) -> NDArray[Any]:
            return np.array([row[place] for row in rows], dtype)

        return Expansion(
            column_of(passed, 0, np.int32),
            column_of(passed, 1, np.bool_),
            *(column_of(bins, place, dtype) for place, dtype in enumerate((np.int32, np.float32, np.float32))),
            *(column_of(codes, place, np.int32) for place in (0, 1)),
        )

    def encode(self, frame: polars.DataFrame) -> NDArray[np.float32]:
        """Return the compact columns [N, m] of a raw table; its columns are found by name, and others ignored.

        Raises a `ValueError` if a column is missing, a number is infinite, or cells are of another kind.
        """
        x = np.empty((len(frame), sum(column.width for column in self.used)), np.float32)
        groups = self.groups
        for column, cells in self._cells(frame):
            x[:, groups[column.name]] = _encode(column, cells).x
        return x

    def surprises(self, frame: polars.DataFrame) -> str:
        """Return one line about cells unlike those of training, "" if there are none."""
        found = []
        for column, cells in self._cells(frame):
            counts = [f"{_NEW[what]}: {count:,}" for what, count in _encode(column, cells).new.items() if count]
            found += [f"{quoted(column.name)} ({', '.join(counts)})"] if counts else []
        more = f", … ({len(found) - 10} more columns)" if len(found) > 10 else ""
        return f"unlike in training: {', '.join(found[:10])}{more}" if found else ""

    def describe(self) -> list[Described]:
        """Return a row for each raw column: its name, what it is taken for, and how it is encoded."""
        return [Described(column.name, column.kind, column.details()) for column in self.columns]

    def _cells(self, frame: polars.DataFrame) -> Iterator[tuple[Used, polars.Series]]:
        check_features("x", self.names, frame.columns)
        yield from zip(self.used, _cells.cleaned(frame[list(self.names)], self.missing), strict=True)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_json` restores the columns to the last bit."""
        columns = [{"kind": column.kind, **to_json(column)} for column in self.columns]
        return {**to_json(self), "columns": columns}

    @classmethod
    def from_json(cls, saved: Any) -> Columns:
        """Return the columns that `to_json` saved; raise a `ValueError` for anything else."""
        match saved:
            case {"columns": list(columns)}:
                return from_json(cls, {**saved, "columns": tuple(map(_column_from_json, columns))})
        raise ValueError(f"saved columns must have scaling, missing, columns and notes, got {plain(saved)}")


def _encode(column: Used, cells: polars.Series) -> Encoded:
    try:
        return column.encode(cells)
    except ValueError as error:
        raise ValueError(f"x, column {quoted(column.name)}: {error}") from None


def _said(names: Collection[str], numbers: Collection[str], categories: Collection[str]) -> dict[str, str]:
    for option, given in (("numbers", numbers), ("categories", categories)):
        if isinstance(given, str):
            raise TypeError(f"{option} must be a list of names, got {given!r}: write [{given!r}]")
    if twice := [name for name, count in Counter([*numbers, *categories]).items() if count > 1]:
        raise ValueError(f"column {quoted(twice[0])} is given twice as a number or a category: name it once")
    said = dict.fromkeys(numbers, "number") | dict.fromkeys(categories, "category")
    for name in said:
        if name not in names:
            raise ValueError(unknown_among("column", name, names))
    return said


def _fit_column(raw: polars.Series, cells: polars.Series, said: str | None, scaling: str) -> Column:
    pl = optional("polars")
    kind, spelling = _cells.kind_of(cells, isinstance(raw.dtype, pl.Categorical | pl.Enum))
    if said is not None:
        kind = said
    elif reason := _why_left_out(raw.name, cells, kind):
        return LeftOut(raw.name, reason)
    if said == "number":
        _check_numbers(cells)
    if cells.null_count() == len(cells):
        return LeftOut(raw.name, "no cell has a value")
    return KINDS[kind].fit(raw.name, cells, scaling, spelling)


def _why_left_out(name: str, cells: polars.Series, kind: str) -> str:
    if cells.null_count() == len(cells):
        return "no cell has a value"
    if not kind:
        return f"{cells.dtype} cells"
    n_distinct = cells.n_unique()
    if n_distinct <= 1:
        return "constant"
    n_present = len(cells) - cells.null_count()
    if kind == "number" and not (read := _cells.numbers(cells)).null_count() and read.n_unique() == 1:
        return "equal numbers in float64"
    if kind == "category" and cells.drop_nulls().n_unique() > _MOST_DISTINCT * n_present:
        return "differs in every row"
    is_index = _INDEX.fullmatch(name)
    if kind == "number" and (is_index or _COUNTERS.fullmatch(name)) and n_distinct == n_present == len(cells):
        numbers = _cells.numbers(cells).to_numpy()
        # A training part holds at least a quarter of the rows.
        if (numbers % 1 == 0).all() and (is_index or np.ptp(numbers) < 4 * len(cells) + 4):
            return "counts the rows"
    return ""


def _check_numbers(cells: polars.Series) -> None:
    read = _cells.numbers(cells)
    if read.null_count() - cells.null_count() > _cells.MOST_ODD * (len(cells) - cells.null_count()):
        odd = cells.filter(read.is_null() & cells.is_not_null())[0]
        raise ValueError(f"{quoted(odd)}, expected a number: take the column out of --numbers")


def _about_odd_cells(column: Column, cells: polars.Series) -> list[str]:
    if isinstance(column, Category | LeftOut) or not (odd := column.odd(cells)).len():
        return []
    some = listed(odd.unique(maintain_order=True).to_list(), 3)
    of_kind = f"no {column.kind} and count"
    cells_are = f"1 cell is {of_kind}s" if len(odd) == 1 else f"{len(odd):,} cells are {of_kind}"
    return [f"column {quoted(column.name)}: {cells_are} as missing: {some}"]


def _about_numbers_among_text(column: Column, cells: polars.Series) -> list[str]:
    """Return a note about text that would be numbers without a few spellings, such as "-" for a missing cell."""
    if not (isinstance(column, Category | LeftOut) and str(cells.dtype) == "String"):
        return []
    read = _cells.numbers(cells)
    odd = cells.filter(read.is_null() & cells.is_not_null())
    n_numbers, spellings = len(cells) - read.null_count(), odd.unique(maintain_order=True).to_list()
    is_of_few = 0 < len(spellings) <= 3 and n_numbers >= len(odd)
    if not (is_of_few and read.n_unique() > _cells.LEAST_NUMBERS):
        return []
    return [
        f"column {quoted(column.name)}: {n_numbers:,} cells are numbers, {len(odd):,} are not: {listed(spellings)}; "
        "if these mean a missing cell, name all such texts with --missing"
    ]


def _column_from_json(saved: Any) -> Column:
    match saved:
        case {"kind": str(kind)} if kind in KINDS:
            rest = {name: value for name, value in saved.items() if name != "kind"}
            return from_json(KINDS[kind], rest, scale=Scale, year=Scale)
    raise ValueError(f"a saved column must have one of the kinds {', '.join(KINDS)}, got {plain(saved)}")
