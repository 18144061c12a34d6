"""The argument and the result of every reader, before anything is split or scaled: `Request`, `Source`, targets.

Every reader passes its target column to `encode_targets`, so text, integers and real numbers mean the same in a table,
an archive and a folder of images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp.data._cells import MISSING
from jaxmlp.data._quoting import quoted
from jaxmlp.data.arrays import first_not_finite

Where = Callable[[int], str]
"""Returns the place of a row's target in the file, for error lines."""


MOST_CLASSES = 20
"""Whole numbers of more distinct values are real values in a table, and get a note in an archive."""


@dataclass(frozen=True)
class Request:
    """The options of `jaxmlp.data.read`, which describes them."""

    target: str | None = None
    task: str | None = None
    features: Sequence[str] | None = None
    drop: Sequence[str] = ()
    missing: Sequence[str] | None = None
    separator: str | None = None
    labelled: bool = True

    def __post_init__(self) -> None:
        """Check the types: a text would be read as a list of its letters."""
        if self.target is not None and not isinstance(self.target, str):
            raise TypeError(f"target must be the name of a column, a text, got {self.target!r}")
        for option in ("features", "drop", "missing"):
            if isinstance(given := getattr(self, option), str):
                raise TypeError(f"{option} must be a list of texts, got {given!r}: write [{given!r}]")
        if self.features is not None and not len(self.features):
            raise ValueError("features must name one column or more, got none: leave it out to take all of them")

    @property
    def of_table(self) -> list[str]:
        """Return the names of the given options that only a table has."""
        named = {"target": self.target, "drop": self.drop or None, "missing": self.missing, "separator": self.separator}
        return [name for name, value in named.items() if value is not None]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as read from its file.

    Parameters
    ----------
    name
        Name of the embedded set, the file or the folder.
    x : [N, n] array, or a frame of polars
        The inputs: finite real numbers, uint8 for images; of a table the feature columns as they were read.
    t : [N] int64, [N] float64, [N, K] float64, or None
        Targets: positions in `class_names`, real values, rows of real values, or none.
    x_test, t_test : like x and t, or None
        The data set's own test part, if it has one.
    feature_names
        A name for each column of x; empty if they have none.
    class_names
        Names of the classes; None if the targets are real values or missing.
    target
        The name of the target's column, if it has one.
    image_shape
        Height and width, if each row of x is an image, pixel by pixel.
    missing
        The texts that mean a missing cell of a table.
    notes
        Lines for the user: what the target was taken for, and rows that were left out.

    Examples
    --------
    >>> Source("coins", np.ones((2, 3), np.float32), np.array([0, 1]), class_names=("head", "tail")).x.shape
    (2, 3)
    """

    name: str
    x: Any
    t: NDArray[Any] | None = None
    x_test: NDArray[Any] | None = None
    t_test: NDArray[Any] | None = None
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    target: str | None = None
    image_shape: tuple[int, int] | None = None
    missing: tuple[str, ...] = MISSING
    notes: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Tell whether x is a frame, whose columns may hold anything."""
        return hasattr(self.x, "get_column")


class Targets(NamedTuple):
    """Encoded targets: `t` as in `Source`, and the names of its classes (None for real values)."""

    t: NDArray[Any]
    class_names: tuple[str, ...] | None


def encode_targets(column: NDArray[Any], task: str | None, where: Where) -> Targets:
    """Return a column of targets, [N] or [N, K] of booleans, integers, real numbers or text, as classes or real values.

    The task is "classes" or "values". None decides by type: text, booleans and integers of rank 1 are classes, anything
    else is real values. A `ValueError` names the first row whose target is not finite or does not suit the task.

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
    names = map(int, distinct) if column.dtype.kind == "f" else distinct
    return Targets(t.astype(np.int64), tuple(map(str, names)))


def _values(column: NDArray[Any], where: Where) -> Targets:
    if column.dtype.kind in "OU":
        column = np.array([_number(text, row, where) for row, text in enumerate(column)])
    t = column.astype(np.float64)
    if (bad := first_not_finite(t)) is not None:
        raise ValueError(f"{where(bad[0])}: {column[bad]}, expected a finite number")
    return Targets(t, None)


def _number(text: str, row: int, where: Where) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where(row)}: {quoted(text)}, expected a number to be a real value") from None


TASKS: dict[str, Callable[[NDArray[Any], Where], Targets]] = {"classes": _classes, "values": _values}
"""The encoders of targets, by the name of the task."""
