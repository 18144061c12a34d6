"""Data frames of other packages as frames of polars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmlp._extras import optional
from jaxmlp.data._quoting import plain, quoted

if TYPE_CHECKING:
    import polars


def as_polars(name: str, frame: Any) -> polars.DataFrame:
    """Return a frame of pandas, polars or pyarrow, or with the Arrow PyCapsule protocol, as one of polars.

    The index of a pandas frame is ignored. Raises a `ValueError` that begins with `name` for anything else.
    """
    pl = optional("polars")
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    kind = type(frame)
    # The names of columns are of a frame; a series has one name, an array none.
    if kind.__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns"):
        return _from_pandas(name, frame)
    if hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pl.Series):
        try:
            converted = pl.DataFrame(frame)
        except Exception as error:  # the producer is code of another package
            raise ValueError(f"{name} must be a data frame, got a {kind.__name__}: {plain(error)}") from error
        if isinstance(converted, pl.DataFrame):
            return converted
    next_step = "give a frame of pandas, polars or pyarrow"
    raise ValueError(f"{name} must be a table with named columns, got a {kind.__name__}: {next_step}")


def _from_pandas(name: str, frame: Any) -> polars.DataFrame:
    """Return a frame column by column, since pandas itself converts many types only with pyarrow."""
    pl = optional("polars")
    names = [str(label) for label in frame.columns]
    if len(set(names)) < len(names):
        twice = next(label for label in names if names.count(label) > 1)
        raise ValueError(f"{name} has two columns named {quoted(twice)}, expected distinct names")
    return pl.DataFrame({label: _series(label, frame.iloc[:, place]) for place, label in enumerate(names)})


def _series(label: str, column: Any) -> polars.Series:
    pl = optional("polars")
    if hasattr(column, "cat"):  # a categorical
        names = ["" if value is None else str(value) for value in column.cat.categories]
        return _objects(label, [None if code < 0 else names[code] for code in column.cat.codes]).cast(pl.Categorical)
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return pl.Series(label, column.to_numpy())
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return pl.Series(label, column.to_numpy().astype(f"{dtype.kind}8[us]"))
    return _objects(label, column.astype(object).where(column.notna(), None).tolist())


def _objects(label: str, values: Sequence[Any]) -> polars.Series:
    """Return Python objects as a series; those of several types become text."""
    pl = optional("polars")
    try:
        return pl.Series(label, values, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(label, [None if value is None else str(value) for value in values], dtype=pl.String)
