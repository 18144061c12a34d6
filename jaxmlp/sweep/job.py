"""What all blocks of a sweep have in common: its trials, its data and its devices."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmlp.data import Dataset
from jaxmlp.sweep.lanes import replicate
from jaxmlp.sweep.space import Trial
from jaxmlp.training.examples import Examples, arrays

__all__ = ["Job", "Parts"]


class Parts(NamedTuple):
    """The data to train with, to choose by, and to report."""

    data: Dataset
    validation: Dataset | None
    test: Dataset | None


class Job(NamedTuple):
    """The trials of a sweep, its data and its devices."""

    trials: Mapping[int, Trial]  # by number
    keys: Mapping[int, Array]  # of each seed
    data: Examples  # for training, on the host
    examples: Examples  # the same on all devices
    validation: Examples | None  # on all devices
    test: Examples | None  # on the first device
    devices: tuple[jax.Device, ...]

    @classmethod
    def of(cls, listed: Sequence[Trial], parts: Parts, devices: tuple[jax.Device, ...]) -> "Job":
        """Return the trials with their data on the devices."""
        by_number, mlp = {trial.number: trial for trial in listed}, listed[0].mlp
        keys = {seed: jax.random.key(seed) for seed in {trial.seed for trial in listed}}
        on_host: Any = [None if part is None else jax.tree.map(np.asarray, arrays(mlp, part)) for part in parts]
        examples, validation = replicate(devices, on_host[:2])
        test = jax.device_put(on_host[2], devices[0], may_alias=True)
        return cls(by_number, keys, on_host[0], examples, validation, test, devices)
