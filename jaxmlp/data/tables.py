"""Tables (`.csv`, `.parquet`): one column is the target, the others are the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp.data._frames import READERS
from jaxmlp.data._quoting import check_features, listed, plain, quoted, unknown_among
from jaxmlp.data.arrays import first_not_finite
from jaxmlp.data.source import Request, Source, Targets, encode_targets

if TYPE_CHECKING:
    import polars


class _Table(NamedTuple):
    path: Path
    frame: polars.DataFrame
    row: Callable[[int], int]

    def where(self, index: int, column: str) -> str:
        return f"{plain(self.path)}, row {self.row(index)}, column {quoted(column)}"

    def cell(self, index: int, column: str) -> str:
        value = self.frame.get_column(column)[index]
        return "empty" if value is None or value == "" else quoted(value)


def read_table(name: str, request: Request) -> Source:
    """Read the table `name`: its cells are numbers, except in the target column, which may hold text."""
    path = Path(name)
    table = _Table(path, *READERS[path.suffix.lower()](path))
    if not table.frame.height:
        raise ValueError(f"{plain(path)}: a header and no rows, expected at least one row")
    target = _find_target(table, request)
    features = _find_features(table, target, request.features)
    t, class_names = _targets(table, target, request.task) if target is not None else (None, None)
    x = _inputs(table, features)
    return Source(name, x, t, feature_names=tuple(features), class_names=class_names, target=target)


def _find_target(table: _Table, request: Request) -> str | None:
    columns, target = table.frame.columns, request.target
    if target in columns:
        return target
    if not request.labelled:
        return None
    if target is None:
        raise ValueError(f"{plain(table.path)}: no target named, give --target COLUMN, one of: {listed(columns)}")
    raise ValueError(f"{plain(table.path)}: {unknown_among('column', target, columns)}")


def _find_features(table: _Table, target: str | None, wanted: Sequence[str] | None) -> list[str]:
    columns = table.frame.columns
    check_features(plain(table.path), wanted or (), columns)
    features = list(wanted or (name for name in columns if name != target))
    if not features:
        raise ValueError(f"{plain(table.path)}: no column but the target {quoted(target)}, expected features")
    return features


def _inputs(table: _Table, features: list[str]) -> NDArray[np.float32]:
    pl = optional("polars")
    # frame.select(features) would read a name like "*" or "^x$" as a pattern.
    frame: polars.DataFrame = pl.DataFrame([table.frame.get_column(name) for name in features])
    for name, dtype in frame.schema.items():
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Null)):
            raise ValueError(f"{plain(table.path)}, column {quoted(name)}: {dtype} cells, expected numbers")
    # One expression lets polars hold the stripped text of a few columns at a time, not of the whole table.
    text = pl.selectors.string().str.strip_chars().cast(pl.Float32, strict=False)
    x: NDArray[np.float32] = frame.with_columns(text).cast(pl.Float32, strict=False).to_numpy(order="c")
    if (bad := first_not_finite(x)) is not None:
        index, name = bad[0], features[bad[1]]
        raise ValueError(f"{table.where(index, name)}: {table.cell(index, name)}, expected a finite number of float32")
    return x


def _targets(table: _Table, target: str, task: str | None) -> Targets:
    pl = optional("polars")
    column = table.frame.get_column(target)
    if isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    if is_text := column.dtype == pl.String:
        column = column.str.strip_chars().replace("", None)
    if column.null_count():
        index = column.is_null().arg_true()[0]
        raise ValueError(f"{table.where(index, target)}: {table.cell(index, target)}, expected a target")
    if not (is_text or column.dtype.is_numeric() or column.dtype == pl.Boolean):
        where = f"{plain(table.path)}, column {quoted(target)}"
        raise ValueError(f"{where}: {column.dtype} cells, expected text or numbers")
    return encode_targets(_to_numpy(column), task, lambda index: table.where(index, target))


def _to_numpy(column: polars.Series) -> NDArray[Any]:
    """Return a target column as NumPy; text becomes numbers if every cell is one, since a CSV file is all text."""
    pl = optional("polars")
    if column.dtype == pl.String:
        for kind in (pl.Int64, pl.Float64):
            if not (numbers := column.cast(kind, strict=False)).null_count():
                return numbers.to_numpy()
        return np.array(column.to_list(), dtype=object)
    return (column.cast(pl.Float64) if column.dtype.is_decimal() else column).to_numpy()
