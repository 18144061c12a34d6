"""Cells of a table's column as numbers, booleans, times or text, whatever their type in the file.

The cells of a column may have one type in training and another in prediction: text in a CSV file, integers in a frame.
Each function here takes any type, and returns null for a cell that it cannot read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxmlp._extras import optional

if TYPE_CHECKING:
    import polars

MISSING = ("", "NA", "N/A", "null", "none", "NaN", "?")
"""The usual spellings of a missing cell, in upper or lower case."""

MOST_ODD = 0.05
"""The share of cells that may be no numbers in a column of numbers."""

_LEAST_NUMBERS = 10  # distinct numbers that a column with odd cells needs; else its cells are codes
_TRUE, _FALSE = ["true", "yes"], ["false", "no"]
_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%d.%m.%y",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%m/%d/%y",
    "%m/%d/%Y",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%y",
    "%d/%m/%Y",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%H:%M:%S%.f",
    "%H:%M",
)
"""How text may spell dates and times; the first that fits counts, so 1/2/2020 is January 2 in most columns."""


def cleaned(cells: polars.Series, missing: Sequence[str]) -> polars.Series:
    """Return cells with null where they are missing; text is stripped, and categoricals become text.

    The series has no name: polars would take one such as "^x$" for a pattern.
    """
    pl = optional("polars")
    cells = cells.alias("")
    if isinstance(cells.dtype, pl.Categorical | pl.Enum):
        cells = cells.cast(pl.String)
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars()
        spelled = ["", *(text.strip().casefold() for text in missing)]
        return cells.set(cells.str.to_lowercase().is_in(spelled), None)
    if cells.dtype.is_float():
        cells = cells.fill_nan(None)
    numbers = [number for text in missing if (number := _number(text)) is not None]
    return cells.set(cells.is_in(numbers), None) if numbers and cells.dtype.is_numeric() else cells


def numbers(cells: polars.Series) -> polars.Series:
    """Return cells as float64; durations become seconds."""
    pl = optional("polars")
    if cells.dtype == pl.Duration:
        return cells.dt.total_nanoseconds().cast(pl.Float64) / 1e9
    if cells.dtype.is_temporal() or cells.dtype.is_nested() or cells.dtype in (pl.Binary, pl.Object):
        raise ValueError(f"{cells.dtype} cells, expected numbers")
    return cells.cast(pl.Float64, strict=False).fill_nan(None)


def booleans(cells: polars.Series) -> polars.Series:
    """Return cells as booleans: True/False, yes/no in upper or lower case, 1/0."""
    pl = optional("polars")
    if cells.dtype == pl.Boolean:
        return cells
    words = cells.str.to_lowercase() if cells.dtype == pl.String else numbers(cells).cast(pl.String)
    old, new = [*_TRUE, "1", "1.0", *_FALSE, "0", "0.0"], [True] * 4 + [False] * 4
    return words.replace_strict(old, new, default=None, return_dtype=pl.Boolean)


def times(cells: polars.Series, spelling: str) -> polars.Series:
    """Return cells as datetimes without time zone; the spelling is that of text."""
    pl = optional("polars")
    if cells.dtype == pl.String:
        read = cells.str.to_datetime(spelling, strict=False, time_unit="us") if spelling else cells.clear(len(cells))
        return read.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if cells.dtype == pl.Time:
        return (cells.cast(pl.Int64) // 1000).cast(pl.Datetime("us"))
    if cells.dtype == pl.Datetime:
        cells = cells.dt.replace_time_zone(None)
    elif cells.dtype not in (pl.Date, pl.Null):
        raise ValueError(f"{cells.dtype} cells, expected dates or times")
    return cells.cast(pl.Datetime("us"))


def texts(cells: polars.Series) -> polars.Series:
    """Return cells as text; a whole number has no decimal point, whatever its type."""
    pl = optional("polars")
    if cells.dtype.is_nested() or cells.dtype in (pl.Binary, pl.Object):
        raise ValueError(f"{cells.dtype} cells, expected text")
    if cells.dtype == pl.Boolean:
        return cells.replace_strict([True, False], ["True", "False"], default=None, return_dtype=pl.String)
    if cells.dtype.is_float() or cells.dtype.is_decimal():
        return cells.cast(pl.Float64).cast(pl.String).str.strip_suffix(".0")
    return cells.cast(pl.String)


def kind_of(cells: polars.Series, is_categorical: bool) -> tuple[str, str]:
    """Return what cleaned cells are taken for, and how they spell times: number, boolean, category, date or nothing."""
    pl = optional("polars")
    dtype = cells.dtype
    if is_categorical:
        return "category", ""
    if dtype == pl.Boolean:
        return "boolean", ""
    if dtype.is_numeric() or dtype == pl.Duration:
        return "number", ""
    if dtype.is_temporal():
        return "date", ""
    if dtype != pl.String:
        return "", ""
    present = cells.drop_nulls()
    if present.str.to_lowercase().is_in([*_TRUE, *_FALSE]).all():
        return "boolean", ""
    read = numbers(present)
    n_odd = read.null_count()
    if not n_odd or (n_odd <= MOST_ODD * len(present) and read.n_unique() > _LEAST_NUMBERS):
        return "number", ""
    return ("date", spelling) if (spelling := _spelling(present)) else ("category", "")


def _spelling(present: polars.Series) -> str:
    """Return how text spells times, "" if most of it is something else."""
    some = present.head(100)
    for spelling in _FORMATS:
        for cells in (some, present):
            if times(cells, spelling).null_count() > MOST_ODD * len(cells):
                break
        else:
            return spelling
    return ""


def first_infinite(cells: polars.Series) -> int | None:
    """Return the index of the first infinite number, or of one beyond float64; None if the cells are no numbers."""
    read = numbers(cells)
    n_odd = read.null_count() - cells.null_count()
    infinite = read.is_infinite().fill_null(False)
    return infinite.arg_max() if infinite.any() and n_odd <= MOST_ODD * len(cells) else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
