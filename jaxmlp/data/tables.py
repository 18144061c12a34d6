"""Tables: one column is the target, the others are the features, which may hold anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name
from jaxmlp.data import _cells
from jaxmlp.data._foreign import as_polars
from jaxmlp.data._frames import READERS, ending
from jaxmlp.data._quoting import check_features, listed, plain, quoted, unknown_among
from jaxmlp.data.source import MOST_CLASSES, TASKS, Request, Source, Targets, encode_targets

if TYPE_CHECKING:
    import polars


class _Table(NamedTuple):
    name: str
    frame: polars.DataFrame
    row: Callable[[int], int]

    def where(self, index: int, column: str) -> str:
        return f"{plain(self.name)}, row {self.row(index)}, column {quoted(column)}"


def read_table(name: str, request: Request) -> Source:
    """Read the table in the file `name`."""
    path = Path(name)
    return _source(_Table(name, *READERS[ending(path)](path, request.separator)), request)


def read_columns(name: str, columns: Sequence[str], separator: str | None = None) -> polars.DataFrame:
    """Return these columns of the table in the file `name` as they are; raise a ValueError if one is not there."""
    path = Path(name)
    frame = READERS[ending(path)](path, separator)[0]
    for column in columns:
        if column not in frame.columns:
            raise ValueError(f"{plain(name)}: {unknown_among('column', column, frame.columns)}")
    return optional("polars").DataFrame({column: frame.get_column(column) for column in columns})


def from_frame(
    frame: Any,
    *,
    target: str,
    task: str | None = None,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    missing: Sequence[str] | None = None,
    name: str = "frame",
) -> Source:
    """Return a data frame as a source: one of pandas, polars, pyarrow, or with the Arrow PyCapsule protocol.

    The options are those of `jaxmlp.data.read`. The index of a pandas frame is ignored. Raises a `ValueError` that
    names the frame `name`, the row (counted from 0), the column, and what was expected.

    >>> import polars as pl
    >>> source = from_frame(pl.DataFrame({"size": [1, 2, 3], "kind": ["dog", None, "cat"]}), target="kind")
    >>> print(*source.notes, sep=chr(10))
    1 row has no target 'kind' and is left out
    target 'kind': 2 classes: cat, dog
    """
    if task is not None and task not in TASKS:
        raise ValueError(unknown_name("task", task, TASKS))
    table = _Table(name, as_polars("frame", frame), lambda index: index)
    return _source(table, Request(target, task, features, drop, missing))


def _source(table: _Table, request: Request) -> Source:
    if not table.frame.width:
        raise ValueError(f"{plain(table.name)}: no columns, expected the target and at least one feature")
    if not table.frame.height:
        raise ValueError(f"{plain(table.name)}: a header and no rows, expected at least one row")
    target = _find_target(table, request)
    features = _find_features(table, target, request)
    missing = _cells.MISSING if request.missing is None else tuple(request.missing)
    t, class_names, notes = None, None, list[str]()
    if target is not None and request.labelled:
        cells = _target_cells(table.frame.get_column(target), request.missing)
        table, notes = _without_missing(table, target, cells)
        (t, class_names), note = _targets(table, target, cells.drop_nulls(), bool(notes), request.task)
        notes.append(note)
    x = table.frame[features]  # frame.select(features) would read a name like "*" or "^x$" as a pattern
    for name, cells in zip(features, _cells.cleaned(x, missing), strict=True):
        _check_finite(table, name, cells)
    return Source(
        table.name,
        x,
        t,
        feature_names=tuple(features),
        class_names=class_names,
        target=target,
        missing=missing,
        notes=tuple(notes),
    )


def _find_target(table: _Table, request: Request) -> str | None:
    columns, target = table.frame.columns, request.target
    if target in columns:
        return target
    if not request.labelled:
        return None
    if target is None:
        raise ValueError(f"{plain(table.name)}: no target named, give --target COLUMN, one of: {listed(columns)}")
    raise ValueError(f"{plain(table.name)}: {unknown_among('column', target, columns)}")


def _find_features(table: _Table, target: str | None, request: Request) -> list[str]:
    columns, where = table.frame.columns, plain(table.name)
    features, drop = list(request.features or ()), list(request.drop)
    for option, names in (("features", features), ("drop", drop)):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"{where}: --{option} names {quoted(twice[0])} twice, expected distinct columns")
        if request.labelled and target in names:
            raise ValueError(f"{where}: --{option} names the target {quoted(target)}: take it out")
    for name in drop:
        if name not in columns:
            raise ValueError(f"{where}: {unknown_among('column', name, columns)}")
    check_features(where, features, columns)
    kept = [name for name in features or columns if name not in (target, *drop)]
    if not kept:
        hint = "; name what separates the cells with --separator" if len(columns) == 1 and " " in columns[0] else ""
        raise ValueError(f"{where}: no column but the target {quoted(target)} is left, expected features{hint}")
    return kept


def _target_cells(column: polars.Series, missing: Sequence[str] | None) -> polars.Series:
    """Return the cells of the target with null where missing; text becomes numbers if every other cell is one."""
    pl = optional("polars")
    if column.dtype == pl.Duration:
        column = _cells.numbers(column)
    if str(column.dtype) in ("Int128", "UInt128"):  # NumPy has none
        column = column.cast(pl.String)
    (cells,) = _cells.cleaned(column.to_frame(), _cells.MISSING if missing is None else missing)
    if column.dtype != pl.String:
        return cells
    numbers = _cells.numbers(cells)
    # 001 is the name of a class, as is "none" among other names.
    if numbers.null_count() == cells.null_count() and not cells.str.contains(r"^[+-]?0\d").any():
        whole = cells.cast(pl.Int64, strict=False)
        if whole.null_count() == cells.null_count():
            return whole
        # Whole numbers beyond 64 bits are names, too: as float64 they may be equal.
        return cells if cells.str.contains(r"^[+-]?\d+$").all() else numbers
    if missing is None:
        (cells,) = _cells.cleaned(column.to_frame(), [text for text in _cells.MISSING if text != "none"])
    return cells


def _without_missing(table: _Table, target: str, cells: polars.Series) -> tuple[_Table, list[str]]:
    """Return the rows that have a target, and a note about the others."""
    if not (count := cells.null_count()):
        return table, []
    rows = cells.is_not_null().arg_true().to_numpy()
    if not len(rows):
        raise ValueError(f"{plain(table.name)}: no row has a target {quoted(target)}, expected some to learn")
    kept = _Table(table.name, table.frame[rows], lambda index: table.row(int(rows[index])))
    has = "1 row has" if count == 1 else f"{count:,} rows have"
    return kept, [f"{has} no target {quoted(target)} and {'is' if count == 1 else 'are'} left out"]


def _targets(
    table: _Table, name: str, cells: polars.Series, some_were_missing: bool, task: str | None
) -> tuple[Targets, str]:
    """Return the encoded targets, and a note about what they are taken for."""
    pl = optional("polars")
    if not (cells.dtype == pl.String or cells.dtype.is_numeric() or cells.dtype == pl.Boolean):
        raise ValueError(f"{plain(table.name)}, column {quoted(name)}: {cells.dtype} cells, expected text or numbers")
    if cells.dtype.is_decimal():
        cells = cells.cast(pl.Float64)
    column: NDArray[Any] = np.array(cells.to_list(), object) if cells.dtype == pl.String else cells.to_numpy()
    # Pandas writes whole numbers with a decimal point where some are missing.
    is_whole = column.dtype.kind in "iu" or (some_were_missing and column.dtype.kind == "f" and (column % 1 == 0).all())
    counts = np.unique(column, return_counts=True)[1] if is_whole else np.zeros(0, int)
    is_guess = task is None and is_whole
    if is_guess:
        is_few = len(counts) <= (2 if 1 in counts else MOST_CLASSES)
        task = "classes" if is_few else "values"
    encoded = encode_targets(column, task, lambda index: table.where(index, name))
    if encoded.class_names is None:
        low, high = float(encoded.t.min()), float(encoded.t.max())
        ends = [f"{low:.6g}", f"{high:.6g}"]
        if ends[0] == ends[1]:  # as Unix seconds of one day
            ends = [f"{low:.15g}", f"{high:.15g}"]
        described = f"real values from {' to '.join(ends)}"
        other = f" ({len(counts):,} whole numbers; --task classes takes each for a class)" if is_guess else ""
    else:
        names = encoded.class_names
        described = f"{len(names):,} class{'es' * (len(names) > 1)}: {', '.join(plain(one, 40) for one in names[:10])}"
        described += ", …" if len(names) > 10 else ""
        other = " (--task values takes them for real values)" if is_guess else ""
    return encoded, f"target {quoted(name)}: {described}{other}"


def _check_finite(table: _Table, name: str, cells: polars.Series) -> None:
    """Raise a ValueError that names the row of an infinite number, here where the rows of the file are known."""
    pl = optional("polars")
    if not (cells.dtype == pl.String or cells.dtype.is_float()):
        return
    read = _cells.numbers(cells)
    is_number = read.null_count() - cells.null_count() <= _cells.MOST_ODD * len(cells)
    if is_number and (row := _cells.first_infinite(read)) is not None:
        raise ValueError(f"{table.where(row, name)}: {quoted(cells[row])}, expected a finite number")
