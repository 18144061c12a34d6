"""Folds: parts of one data set that are held out in turn, so that every trial is validated on rows it did not see."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jaxmlp._validation import whole_number
from jaxmlp.data import Dataset
from jaxmlp.sweep.space import FOLD, Space

__all__ = ["Folds", "Pairs", "crossed", "folds_of"]

Pairs: TypeAlias = Sequence[tuple[Any, Any]]
"""The rows to train on and those to validate on, of each fold."""


class Folds(NamedTuple):
    """The rows of a data set that each fold trains on and validates on."""

    train: tuple[NDArray[np.int32], ...]
    validation: tuple[NDArray[np.int32], ...]

    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Return the numbers of rows of each fold."""
        return tuple((len(train), len(held)) for train, held in zip(*self, strict=True))

    def to_json(self) -> list[list[list[int]]]:
        """Return the folds as plain JSON values."""
        return [[train.tolist(), held.tolist()] for train, held in zip(*self, strict=True)]

    @classmethod
    def from_json(cls, value: list[list[list[int]]]) -> "Folds":
        """Return the folds that `to_json` was called on."""
        train, held = ([np.array(rows, np.int32) for rows in of_all] for of_all in zip(*value, strict=True))
        return cls(tuple(train), tuple(held))


def folds_of(folds: int | Pairs, data: Dataset, is_classification: bool) -> Folds:
    """Return the folds of a data set, checked.

    A number of folds divides the rows at random, always in the same way, into parts of equal size (some have a row
    more). Of classes each part has the same share.

    >>> data = Dataset(np.eye(6), [0, 0, 0, 0, 1, 1])
    >>> [np.asarray(data.t)[rows].tolist() for rows in folds_of(2, data, True).validation]
    [[0, 0, 1], [0, 0, 1]]
    """
    n = len(data)
    if isinstance(folds, int | np.integer):
        n_folds = whole_number("folds", folds, 2, n)
        order = np.random.default_rng(0).permutation(n)
        if is_classification and np.ndim(data.t) == 1:
            order = order[np.argsort(np.asarray(data.t)[order], kind="stable")]
        held = [np.sort(order[fold::n_folds]) for fold in range(n_folds)]
        pairs = [(np.setdiff1d(np.arange(n), rows), rows) for rows in held]
    elif isinstance(folds, Sequence) and folds and all(isinstance(pair, tuple) and len(pair) == 2 for pair in folds):
        pairs = [(_rows(f, "train", a, n), _rows(f, "validate", b, n)) for f, (a, b) in enumerate(folds)]
        for fold, (train, held_out) in enumerate(pairs):
            if len(both := np.intersect1d(train, held_out)):
                raise ValueError(f"fold {fold}: row {both[0]} is among those to train on and those to validate on")
    else:
        raise TypeError(f"folds must be a number, or pairs (training rows, validation rows), got {folds!r:.60}")
    return Folds(*(tuple(pair[part].astype(np.int32) for pair in pairs) for part in (0, 1)))


def _rows(fold: int, purpose: str, given: Any, n: int) -> NDArray[np.int64]:
    rows = np.asarray(given)
    if rows.dtype == bool and rows.shape == (n,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
        got = f"{rows.dtype} of shape {rows.shape}"
        raise ValueError(f"fold {fold}: the rows to {purpose} on must be a list of whole numbers, got {got}")
    if rows.min() < 0 or rows.max() >= n:
        wrong = rows[(rows < 0) | (rows >= n)][0]
        raise ValueError(f"fold {fold}: the rows to {purpose} on must be from 0 to {n - 1}, got {wrong}")
    return rows


def crossed(space: Space, folds: Folds | None) -> Space:
    """Return the space in which every trial is trained with every fold."""
    if folds is None:
        return space
    n = len(folds.train)
    return Space((*space.names, FOLD), tuple((*row, fold) for row in space.rows for fold in range(n)))
