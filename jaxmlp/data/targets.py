"""Targets from a file become classes or real values.

Every reader passes its target column to `encode_targets`, so text, integers and real numbers mean the same in a table,
an archive and a folder of images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp.data._quoting import quoted
from jaxmlp.data.arrays import first_not_finite

Where = Callable[[int], str]
"""Returns the place of a row's target in the file, for error lines."""


class Targets(NamedTuple):
    """Encoded targets: `t` as in `Source`, and the names of its classes (None for real values)."""

    t: NDArray[Any]
    class_names: tuple[str, ...] | None


def encode_targets(column: NDArray[Any], task: str | None, where: Where) -> Targets:
    """Return a column of targets as classes or as real values.

    Parameters
    ----------
    column : [N] or [N, K] array of booleans, integers, real numbers or text
    task : "classes", "values" or None
        None decides by type: text, booleans and integers of rank 1 are classes, anything else is real values.
    where : function of a row's index
        Returns the place of that row, for error lines.

    Raises
    ------
    ValueError
        If a target is not finite or does not suit `task`; the line names the first such row.

    Examples
    --------
    >>> encode_targets(np.array(["no", "yes", "no"]), None, str)
    Targets(t=array([0, 1, 0]), class_names=('no', 'yes'))
    """
    if (bad := first_not_finite(column) if column.dtype.kind == "f" else None) is not None:
        raise ValueError(f"{where(bad[0])}: {column[bad]}, expected a finite number")
    if task is None:
        task = "values" if column.ndim == 2 or column.dtype.kind == "f" else "classes"
    return TASKS[task](column, where)


def _classes(column: NDArray[Any], where: Where) -> Targets:
    if column.ndim == 2:
        raise ValueError(f"{where(0)}: a row of {column.shape[1]} numbers, expected one class for each example")
    if column.dtype.kind == "f" and (fractions := column % 1 != 0).any():
        row = int(np.argmax(fractions))
        raise ValueError(f"{where(row)}: {column[row]}, expected a whole number or text to be a class")
    distinct, t = np.unique(column, return_inverse=True)
    name = str if column.dtype.kind != "f" else lambda value: str(int(value))
    return Targets(t.astype(np.int64), tuple(name(value) for value in distinct))


def _values(column: NDArray[Any], where: Where) -> Targets:
    if column.dtype.kind in "OU":
        column = np.array([_number(text, row, where) for row, text in enumerate(column)])
    with np.errstate(over="ignore"):
        t = column.astype(np.float32)
    if (bad := first_not_finite(t)) is not None:
        raise ValueError(f"{where(bad[0])}: {column[bad]}, expected a number within the range of float32")
    return Targets(t, None)


def _number(text: str, row: int, where: Where) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where(row)}: {quoted(text)}, expected a number to be a real value") from None


TASKS: dict[str, Callable[[NDArray[Any], Where], Targets]] = {"classes": _classes, "values": _values}
"""The encoders of targets, by the name of the task."""
