"""What several test files need."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest
from hypothesis import settings

from jaxmlp.data import Dataset, Expansion

settings.register_profile("jaxmlp", deadline=None)  # an example that compiles, or a busy machine, is no fault
settings.load_profile("jaxmlp")


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test with JAX's 64-bit types on: its default float is then float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compact() -> Dataset:
    """Give 50 examples of three classes with weights: 4 compact columns, which expand to 11 inputs."""
    rng = np.random.default_rng(0)
    x = np.concatenate([3 * rng.normal(size=(50, 3)), rng.integers(0, 4, (50, 1))], axis=1)
    bins = np.repeat([0, 1], 3), rng.normal(size=6), rng.uniform(0.2, 2, 6)
    expansion = Expansion(np.array([2, 0]), np.array([True, False]), *bins, np.array([3, 3, 3]), np.arange(3))
    return Dataset(x, rng.integers(0, 3, 50), rng.uniform(0.5, 1.5, 50), expansion)


@pytest.fixture(scope="module")
def compiled_in_haste() -> Iterator[None]:
    """Leave most of XLA's optimisations out in a file whose programs run once, on a few numbers."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
