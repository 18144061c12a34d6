"""What all blocks of a sweep have in common: its trials, its data and its workers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax import Array

from jaxmlp.data import Dataset, Encoding, Prepared, Source
from jaxmlp.sweep.folds import Folds
from jaxmlp.sweep.lanes import put
from jaxmlp.sweep.space import Trial
from jaxmlp.training.epoch import batch_order
from jaxmlp.training.examples import Examples, arrays, taken

__all__ = ["Data", "Job", "Parts", "parts_of"]

Data: TypeAlias = Dataset | tuple[Any, Any]
"""Examples, or the pair of arrays that `Dataset` takes."""


class Parts(NamedTuple):
    """The data to train with, to choose by, and to report."""

    data: Dataset
    validation: Dataset | None
    test: Dataset | None


def parts_of(
    data: Data | Prepared, validation: Data | None, test: Data | None, encoding: Encoding | None = None
) -> tuple[Parts, Encoding | None]:
    """Return the data sets that were given in any form, and their encoding; raise a TypeError if one is something else.

    >>> pair = np.eye(2), np.array([0, 1])
    >>> parts_of(pair, None, pair)[0].test.x.shape
    (2, 2)
    """
    if isinstance(data, Prepared):
        validation = data.validation if validation is None else validation
        test = data.test if test is None else test
        return parts_of(data.train, validation, test, data.encoding if encoding is None else encoding)
    parts = {"data": data, "validation": validation, "test": test}
    for name, part in parts.items():
        if isinstance(part, tuple) and len(part) == 2:
            try:
                parts[name] = Dataset(*part)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        elif not (isinstance(part, Dataset) or (part is None and name != "data")):
            advice = "; prepare it with jaxmlp.data.prepare" if isinstance(part, Source) else ""
            raise TypeError(
                f"{name} must be a Dataset, as Dataset(x, t), or a pair (x, t), got {type(part).__name__}{advice}"
            )
    checked: Any = parts
    return Parts(**checked), encoding


class Job(NamedTuple):
    """The trials of a sweep, its data and its devices."""

    trials: Mapping[int, Trial]  # by number
    keys: Mapping[int, Array]  # of each seed
    data: Examples  # for training, on the host
    examples: Sequence[Examples]  # the same for each worker, on its device
    validation: Sequence[Examples | None]
    test: Examples | None  # on the first worker's device
    workers: tuple[jax.Device, ...]  # a device that is listed several times is called from as many threads
    folds: Folds | None = None
    held: tuple[Examples, ...] | None = None  # those that each fold is validated on, on the host

    @classmethod
    def of(
        cls, listed: Sequence[Trial], parts: Parts, workers: tuple[jax.Device, ...], folds: Folds | None = None
    ) -> "Job":
        """Return the trials with their data on the devices."""
        by_number, mlp = {trial.number: trial for trial in listed}, listed[0].mlp
        keys = {seed: jax.random.key(seed) for seed in {trial.seed for trial in listed}}
        on_host: Any = [None if part is None else jax.tree.map(np.asarray, arrays(mlp, part)) for part in parts]
        examples, validation, (test, *_) = (put(workers, part) for part in on_host)
        held = None if folds is None else tuple(taken(on_host[0], rows) for rows in folds.validation)
        return cls(by_number, keys, on_host[0], examples, validation, test, workers, folds, held)

    def data_of(self, trial: Trial) -> Examples:
        """Return the examples that a trial trains on, on the host."""
        return self.data if self.folds is None else taken(self.data, self.folds.train[trial.order[1]])

    def validation_of(self, trial: Trial) -> Examples | None:
        """Return the examples that a trial is validated on; with folds on the host."""
        return self.validation[0] if self.held is None else self.held[trial.order[1]]

    def batches(self, order: tuple[int, int], epoch: int, batch_size: int) -> np.ndarray:
        """Return the batches of an epoch for a seed and a fold, [steps, B] rows of the data."""
        rows = None if self.folds is None else self.folds.train[order[1]]
        n_examples = len(self.data.x) if rows is None else len(rows)
        drawn = batch_order(self.keys[order[0]], epoch, n_examples, batch_size)
        return drawn if rows is None else rows[drawn]
