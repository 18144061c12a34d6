"""Arrays from users: anything that holds numbers becomes a plain array, which NumPy and JAX both take.

Every function to which users pass arrays calls `as_array` or `as_inputs`, so all of them accept and refuse the same
objects. The objects of other packages are recognized by their methods; no package is imported for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxmlp.data._quoting import check_features, quoted

if TYPE_CHECKING:
    import jax

    Array: TypeAlias = jax.Array | NDArray[Any]

_TEXT = "SUT"
_NEXT_STEP = {
    "M": "take the difference to a fixed date, in days or seconds",
    "m": "divide by a unit such as numpy.timedelta64(1, 's')",
    "c": "make columns of the real and the imaginary part",
    "V": "use numpy.lib.recfunctions.structured_to_unstructured, or a float32 copy",
}
"""The next step for each kind of array without real numbers, by NumPy's letter for the kind."""


def as_array(name: str, value: Any) -> Array:
    """Return numbers as a plain array: a jax Array unchanged, anything else as NumPy in the machine's byte order.

    The value of the argument `name` is an array of NumPy or JAX, a list, an iterator, a PyTorch tensor, or anything
    that NumPy converts, such as a series or frame of pandas, polars or pyarrow, whose columns keep their order. The
    result holds booleans, integers or real numbers, without a copy where possible. Long doubles become float64, and so
    do integers beyond 32 bits, which JAX would wrap. A `ValueError` names row and column of an entry that is missing or
    not a real number.

    >>> as_array("x", np.array([1, 2], ">i2"))
    array([1, 2], dtype=int16)
    >>> as_array("x", [[1.0, None]])
    Traceback (most recent call last):
    ValueError: x must have no missing values, got None in row 0, column 1: fill it or leave the row out
    """
    import jax  # here, because commands that only read data should not wait for it

    array: Array = value if isinstance(value, jax.Array) else _native(_to_numpy(name, value))
    dtype = array.dtype
    # bfloat16 is not one of NumPy's own types, and its kind does not say that it is a number.
    if isinstance(dtype, np.dtype) and ((dtype.kind in "biuf" and dtype.isbuiltin != 2) or dtype.name == "bfloat16"):
        return array
    next_step = _NEXT_STEP.get(getattr(dtype, "kind", ""), "use a float32 copy")
    raise ValueError(f"{name} must be real numbers, got {dtype}: {next_step}")


def as_inputs(name: str, value: Any, width: int | None = None) -> Array:
    """Return inputs as an array [N, n], see `as_array`; raise a ValueError if they have another shape.

    >>> as_inputs("x", [1.0, 2.0], width=2)
    Traceback (most recent call last):
    ValueError: x must be [N, 2], 2 features for each example, got shape (2,): a single example is [x]
    """
    array = as_array(name, value)
    if array.ndim == 2 and width in (None, array.shape[1]):
        return array
    hint = ""
    if array.ndim == 1 and width == len(array):
        hint = f": a single example is [{name}]"
    elif array.ndim not in (0, 2) and width in (None, array.size // max(1, len(array))):
        hint = f": try {name}.reshape({len(array)}, -1)"
    expected = "[N, n]" if width is None else f"[N, {width}], {width} features for each example"
    raise ValueError(f"{name} must be {expected}, got shape {array.shape}{hint}")


def check_finite(name: str, array: Array, columns: Sequence[str] = ()) -> None:
    """Raise a ValueError that names row and column if a number is not finite."""
    if (place := first_not_finite(array)) is not None:
        number = array[place]
        next_step = ": fill missing values or leave the row out" if number != number else ""
        raise ValueError(f"{name} must be finite, got {number} in {_where(place, columns)}{next_step}")


def check_range(name: str, array: Array, columns: Sequence[str] = ()) -> None:
    """Raise a ValueError that names row and column if a number is beyond the range of JAX's type for it."""
    import jax

    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype or dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        place = first_not_finite(np.asarray(array).astype(dtype))
    if place is not None:
        raise ValueError(f"{name} must be finite in {dtype}, got {array[place]} in {_where(place, columns)}: scale it")


def first_not_finite(array: Array) -> tuple[int, ...] | None:
    """Return the index of the first number that is not finite, None if all are; integers are not checked."""
    if array.dtype.kind in "biu":
        return None
    values = np.asarray(array)
    with np.errstate(all="ignore"):
        # Any number that is not finite shows in the sum; one pass without a mask takes a fifth of the time.
        if np.isfinite(values.sum()):
            return None
    return _first(~np.isfinite(values))


def column_names(value: Any) -> tuple[str, ...]:
    """Return the names of a frame's columns; an empty tuple if the value has none.

    >>> column_names(np.ones((2, 2)))
    ()
    """
    return tuple(map(str, _labels(value)))


def take_columns(name: str, frame: Any, wanted: Sequence[str]) -> Any:
    """Return a frame of the wanted columns, in this order; raise a ValueError if one is missing or occurs twice."""
    labels: dict[str, Any] = {}
    for label in _labels(frame):
        if str(label) in labels and str(label) in wanted:
            raise ValueError(f"{name} must have distinct columns, got two named {quoted(label)}")
        labels[str(label)] = label
    check_features(name, wanted, labels)
    chosen = [labels[feature] for feature in wanted]
    # `select` of polars would read some names as patterns; pyarrow has only `select`.
    return frame.select(chosen) if hasattr(type(frame), "column_names") else frame[chosen]


def _labels(value: Any) -> list[Any]:
    kind = type(value)  # not the value itself: the columns of a frame are attributes too, whatever their names
    if hasattr(kind, "collect"):  # polars would run a lazy query to find its columns
        return []
    if hasattr(kind, "column_names"):
        return list(value.column_names)
    return list(value.columns) if hasattr(kind, "columns") else []


def _to_numpy(name: str, value: Any) -> NDArray[Any]:
    kind = type(value)
    if hasattr(kind, "toarray"):
        raise ValueError(f"{name} must be dense, got a sparse {kind.__name__}: pass {name}.toarray()")
    if hasattr(kind, "collect"):
        raise ValueError(f"{name} must hold its numbers, got a {kind.__name__}: pass {name}.collect()")
    if isinstance(value, np.ma.MaskedArray) and (place := _first(np.ma.getmaskarray(value))) is not None:
        raise _missing(name, "a masked entry", place, ())
    if hasattr(kind, "get_columns"):  # polars converts dates beside numbers to numbers
        for number, column in enumerate(value.get_columns()):
            if column.dtype.is_temporal():
                where = f"column {number} ({quoted(column.name)})"
                raise ValueError(f"{name} must be numbers, got {column.dtype} in {where}: {_NEXT_STEP['M']}")
    if isinstance(value, Iterator):
        value = list(value)
    if hasattr(kind, "detach"):  # a PyTorch tensor: NumPy refuses bfloat16, and tensors that require a gradient
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    try:
        array = np.asarray(value)
        if array.dtype.kind in _TEXT:  # NumPy converts [[1, "a"]] to text
            array = np.asarray(value, dtype=object)
        if array.dtype.kind == "O" and array.ndim == 2 and hasattr(kind, "items"):
            # Pandas converts a frame of several types to objects; column by column takes a third of the time.
            columns = [np.asarray(column) for _, column in value.items()]
            if all(column.dtype.kind in "biuf" for column in columns):
                array = np.stack(columns, axis=1)
        numbers = np.asarray(array.tolist()) if array.dtype.kind == "O" else array
    # The conversion is code of other packages and may raise anything.
    except Exception as error:
        if "inhomogeneous" in str(error):
            raise ValueError(f"{name} must be an array, got rows of different lengths") from error
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} must be an array of numbers, got a {kind.__name__}: {reason}") from error
    if numbers.dtype.kind in "O" + _TEXT:
        return _checked_numbers(name, array, column_names(value))
    return numbers


def _checked_numbers(name: str, array: NDArray[Any], columns: Sequence[str]) -> NDArray[np.float64]:
    """Return objects as float64; the error names the first entry that is not a number."""
    for place, entry in np.ndenumerate(array):
        if isinstance(entry, Real | Decimal | np.bool_):
            continue
        if place and type(entry).__name__ in ("NoneType", "NAType", "NaTType"):
            raise _missing(name, str(entry), place, columns)
        where = f" in {_where(place, columns)}" if place else ", expected an array"
        if isinstance(entry, str | bytes):
            to_classes = "numpy.unique(t, return_inverse=True)[1] converts text to classes"
            next_step = to_classes if name == "t" else "turn text into numbers or leave it out"
            raise ValueError(f"{name} must be numbers, got text {quoted(entry)}{where}: {next_step}")
        next_step = f": {_NEXT_STEP['M']}" if isinstance(entry, date | timedelta) else ""
        raise ValueError(f"{name} must be numbers, got a {type(entry).__name__}{where}{next_step}")
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} must be numbers within the range of float64") from error


def _native(array: NDArray[Any]) -> NDArray[Any]:
    dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    if dtype.kind in "iu" and dtype.itemsize == 8 and array.size:
        limits = np.iinfo(np.int32)
        if array.max() > limits.max or array.min() < limits.min:
            dtype = np.dtype(np.float64)
    with np.errstate(over="ignore"):  # `check_finite` reports numbers that become infinite
        return array.astype(dtype, copy=False)


def _missing(name: str, entry: str, place: tuple[int, ...], columns: Sequence[str]) -> ValueError:
    where = _where(place, columns)
    return ValueError(f"{name} must have no missing values, got {entry} in {where}: fill it or leave the row out")


def _where(place: tuple[int, ...], columns: Sequence[str] = ()) -> str:
    """Say where an entry is: "row 2, column 0 ('age')"."""
    column = f" ({quoted(columns[place[1]])})" if len(place) == 2 and columns else ""
    return "row " + ", column ".join(map(str, place)) + column


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the index of the first True, None if there is none."""
    return tuple(int(i) for i in np.unravel_index(np.argmax(mask), mask.shape)) if mask.any() else None
