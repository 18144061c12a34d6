"""What users give, X, y and weights, as checked arrays; a table is encoded, see `jaxmlp.data.Columns`."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import validate_data

from jaxmlp._extras import optional
from jaxmlp.data import Columns, Expansion
from jaxmlp.data._foreign import as_polars
from jaxmlp.sweep.planning import free_main_memory

__all__ = ["Inputs", "as_array", "check_targets", "check_weights", "inputs_and_targets", "new_inputs"]

_FLOATS: dict[str | None, Any] = {
    None: (np.float64, np.float32),
    "float64": np.float64,
    "float32": np.float32,
}
"""The types of X that an estimator's `dtype` leaves as they are; the first replaces the others."""

_SPARSE = ["csr", "csc"]


class Inputs(NamedTuple):
    """Rows of inputs [n, d], an array or a sparse matrix, and how a row of them is expanded."""

    x: Any
    expansion: Expansion | None = None


def inputs_and_targets(estimator: BaseEstimator, X: Any, y: Any, *, reset: bool) -> tuple[Inputs, Any]:
    """Return checked inputs, and y: [n] or [n, n_outputs]; with `reset`, note the columns of X."""
    is_numeric = is_regressor(estimator)
    if not reset and estimator.encode_tables != (estimator._columns is not None):
        raise ValueError(
            f"the fit goes on from one with encode_tables={not estimator.encode_tables}, but encode_tables is "
            f"{estimator.encode_tables}: set warm_start=False and call fit to begin anew"
        )
    if estimator.encode_tables:
        frame = _frame(estimator, X, reset=reset)
        if y is None:
            raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
        y = check_array(
            y, accept_sparse="csr", dtype="numeric" if is_numeric else None, ensure_2d=False, input_name="y"
        )
        check_consistent_length(frame, y)
        if reset:
            estimator._columns = Columns.fit(frame).to_json()
        inputs = _encoded(estimator, frame, estimator.dtype or np.float32)
    else:
        dtype = _FLOATS[estimator.dtype]
        of_both: Any = {"accept_sparse": _SPARSE, "dtype": dtype, "multi_output": True, "y_numeric": is_numeric}
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large for the dtype is an error
            x, y = validate_data(estimator, X, y, reset=reset, **of_both)
        inputs = Inputs(x)
        if reset:
            estimator._columns = None
    return inputs, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


def new_inputs(estimator: BaseEstimator, X: Any) -> Inputs:
    """Return checked inputs to predict for, by what the last fit has learned."""
    dtype = estimator.coefs_[0].dtype
    if estimator._columns is not None:
        return _encoded(estimator, _frame(estimator, X, reset=False), dtype)
    accepted = _FLOATS["float32" if dtype == np.float32 else None]
    with np.errstate(over="ignore", invalid="ignore"):
        x = validate_data(estimator, X, accept_sparse=_SPARSE, dtype=accepted, reset=False)
    return Inputs(x.tocsr() if sparse.issparse(x) else x)


def _frame(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Return a table as a frame of polars; the columns of an array of objects are called x0, x1 and so on."""
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if not isinstance(X, np.ndarray | list):
        return as_polars("X", X)
    rows = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=1)
    pl = optional("polars", "sklearn")
    return pl.DataFrame({f"x{place}": _series(pl, rows[:, place]) for place in range(rows.shape[1])})


def _series(pl: Any, column: np.ndarray) -> Any:
    if column.dtype.kind in "biuf":
        return pl.Series(column)
    cells = [None if cell is None or cell != cell else cell for cell in column.tolist()]
    try:
        return pl.Series(cells, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series([None if cell is None else str(cell) for cell in cells], dtype=pl.String)


def _encoded(estimator: BaseEstimator, frame: Any, dtype: Any) -> Inputs:
    columns = estimator.columns_
    return Inputs(columns.encode(frame).astype(dtype, copy=False), columns.expansion)


def as_array(x: Any, name: str) -> np.ndarray:
    """Return rows of X or y as an array; raise a ValueError if they are sparse and memory does not hold that array."""
    if not sparse.issparse(x):
        return x
    # One array is padded, and one on the device: a peak of 3.1 times its bytes was measured.
    needed, free = 3 * x.shape[0] * x.shape[1] * x.dtype.itemsize, free_main_memory()
    if needed > free:
        raise ValueError(
            f"{name} is sparse, and training needs an array: {x.shape[0]} x {x.shape[1]} of {x.dtype}, three times, "
            f"are {needed} bytes, and {free} are free: call partial_fit with fewer rows, or take fewer columns"
        )
    return x.toarray()


def check_targets(targets: np.ndarray, dtype: np.dtype) -> None:
    """Raise a ValueError if values to learn are too large for the dtype of the network."""
    if targets.dtype.kind == "f":
        with np.errstate(over="ignore"):
            assert_all_finite(targets.astype(dtype, copy=False), input_name="y")


def check_weights(sample_weight: Any, x: Any) -> np.ndarray | None:
    """Return the weights [n] of the rows of x, of which not all are 0; one number counts for each."""
    if sample_weight is None:
        return None
    n = x.shape[0]
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n, sample_weight)
    with np.errstate(over="ignore"):
        weights = check_array(
            sample_weight, ensure_2d=False, dtype=x.dtype, input_name="sample_weight", ensure_min_samples=0
        )
    if weights.ndim != 1 or len(weights) != n:
        raise ValueError(f"sample_weight must be one number for each of the {n} rows, got shape {weights.shape}")
    if weights.min() < 0 or not weights.any():
        raise ValueError(
            f"sample_weight must be 0 or larger, and not zero for all rows, got {weights.min()} to {weights.max()}"
        )
    return weights
