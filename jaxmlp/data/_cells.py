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

LEAST_NUMBERS = 10  # distinct numbers that a column with odd cells needs; else its cells are codes
_TRUE, _FALSE = ["true", "yes"], ["false", "no"]
_DAYS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
)
_CLOCKS = ("%H:%M:%S%.f", "%H:%M")
SPELLINGS = (
    *_DAYS,
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
    "%d %b %y",
    "%d %b %Y",
    "%d-%b-%y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    *_CLOCKS,
)
"""How text may spell dates and times; the first that fits counts, so 1/2/2020 is January 2 in most columns.

One column may mix those of ISO 8601, since none can be taken for another: `alike` lists them. Frames have such cells.
"""


def alike(spelling: str) -> tuple[str, ...]:
    """Return this spelling, and those that may stand beside it in a column."""
    return next((spellings for spellings in (_DAYS, _CLOCKS) if spelling in spellings), (spelling,))


def cleaned(frame: polars.DataFrame, missing: Sequence[str]) -> list[polars.Series]:
    """Return columns with null where a cell is missing; text is stripped, and categoricals become text.

    Their names are numbers: polars would take one such as "^x$" for a pattern.
    """
    pl = optional("polars")
    frame = frame.clone()
    frame.columns = [str(place) for place in range(frame.width)]
    texts, floats, numeric = [], [], []
    for name, dtype in frame.schema.items():
        if dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum):
            texts.append(name)
        elif dtype.is_float():
            floats.append(name)
        elif dtype.is_numeric():
            numeric.append(name)
    spelled = ["", *(text.strip().casefold() for text in missing)]
    numbers = [number for text in missing if (number := _number(text)) is not None]
    text, real = pl.col(texts).cast(pl.String).str.strip_chars(), pl.col(floats).fill_nan(None)
    # All columns at once: one by one, 1,000 columns take a second.
    frame = frame.with_columns(pl.when(~text.str.to_lowercase().is_in(spelled)).then(text), real)
    if numbers:
        number = pl.col(floats + numeric)
        frame = frame.with_columns(pl.when(~number.is_in(numbers)).then(number))
    return frame.get_columns()


def numbers(cells: polars.Series) -> polars.Series:
    """Return cells as float64; durations become seconds."""
    pl = optional("polars")
    if cells.dtype == pl.Duration:
        return cells.dt.total_nanoseconds().cast(pl.Float64) / 1e9
    if cells.dtype.is_temporal() or cells.dtype.is_nested() or cells.dtype in (pl.Binary, pl.Object):
        raise ValueError(f"{cells.dtype} cells, expected numbers")
    read = cells.cast(pl.Float64, strict=False)
    # The text "nan" is a number to polars; a float is null already. To fill where there is nothing takes 0.2 ms.
    has_nan = cells.dtype == pl.String and np.isnan(read.to_numpy()).sum() > read.null_count()
    return read.fill_nan(None) if has_nan else read


def booleans(cells: polars.Series) -> polars.Series:
    """Return cells as booleans: True/False, yes/no in upper or lower case, 1/0."""
    pl = optional("polars")
    if cells.dtype == pl.Boolean:
        return cells
    words = cells.str.to_lowercase() if cells.dtype == pl.String else numbers(cells).cast(pl.String)
    old, new = [*_TRUE, "1", "1.0", *_FALSE, "0", "0.0"], [True] * 4 + [False] * 4
    return words.replace_strict(old, new, default=None, return_dtype=pl.Boolean)


def times(cells: polars.Series, spelling: str) -> polars.Series:
    """Return cells as datetimes of UTC without a time zone; the spelling is that of text."""
    pl = optional("polars")
    if cells.dtype == pl.String:
        first, *others = alike(spelling)
        read = _read_as(cells, first)
        for other in others:
            if read.null_count() > cells.null_count():
                read = read.zip_with(read.is_not_null(), _read_as(cells, other))
        return read
    if cells.dtype == pl.Time:
        return (cells.cast(pl.Int64) // 1000).cast(pl.Datetime("us"))
    if isinstance(dtype := cells.dtype, pl.Datetime):
        cells = cells if dtype.time_zone is None else cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    elif cells.dtype not in (pl.Date, pl.Null):
        raise ValueError(f"{cells.dtype} cells, expected dates or times")
    return cells.cast(pl.Datetime("us"))


def _read_as(cells: polars.Series, spelling: str) -> polars.Series:
    pl = optional("polars")
    if spelling in _CLOCKS:
        return times(cells.str.to_time(spelling, strict=False), spelling)
    read = cells.str.to_datetime(spelling, strict=False, time_unit="us").dt.replace_time_zone(None)
    # Polars takes the 5 of 5/1/20 for a year of four digits, and the 3 of 1.2.3 for one of two.
    fits = read.dt.year() >= 1000 if "%Y" in spelling else cells.str.contains(r"\d\d$")
    return read.zip_with(fits, pl.Series([None], dtype=read.dtype))


def texts(cells: polars.Series) -> polars.Series:
    """Return cells as text; a whole number has no decimal point, whatever its type."""
    pl = optional("polars")
    if cells.dtype.is_nested() or cells.dtype in (pl.Binary, pl.Object):
        raise ValueError(f"{cells.dtype} cells, expected text")
    if cells.dtype == pl.Boolean:
        return cells.replace_strict([True, False], ["True", "False"], default=None, return_dtype=pl.String)
    if cells.dtype.is_float() or cells.dtype.is_decimal():
        cells = cells.cast(pl.Float64)
    # Pandas writes the whole numbers of a column with missing cells as 1.0.
    return cells.cast(pl.String).str.replace(r"^([+-]?\d+)\.0$", "$1")


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
        return "date", (_CLOCKS if dtype == pl.Time else _DAYS)[0]
    if dtype != pl.String:
        return "", ""
    present = cells.drop_nulls()
    words = [*_TRUE, *_FALSE]
    if present[:1].str.to_lowercase().is_in(words).all() and present.str.to_lowercase().is_in(words).all():
        return "boolean", ""
    read = numbers(present)
    n_odd = read.null_count()
    if not n_odd or (n_odd <= MOST_ODD * len(present) and read.n_unique() > LEAST_NUMBERS):
        return "number", ""
    return ("date", spelling) if (spelling := _spelling(present)) else ("category", "")


def _spelling(present: polars.Series) -> str:
    """Return how text spells times, "" if most of it is something else."""
    some = present.head(100)
    for spelling in SPELLINGS:
        if spelling != alike(spelling)[0]:
            continue
        for cells in (some, present):
            if times(cells, spelling).null_count() > MOST_ODD * len(cells):
                break
        else:
            return spelling
    return ""


def first_infinite(read: polars.Series) -> int | None:
    """Return the index of the first infinite number, None if there is none."""
    infinite = np.isinf(read.to_numpy())
    return int(infinite.argmax()) if infinite.any() else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
