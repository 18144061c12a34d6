"""What several test files need."""

from collections.abc import Iterator

import jax
import pytest
from hypothesis import settings

settings.register_profile("jaxmlp", deadline=None)  # an example that compiles, or a busy machine, is no fault
settings.load_profile("jaxmlp")


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test with JAX's 64-bit types on: its default float is then float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def compiled_in_haste() -> Iterator[None]:
    """Leave most of XLA's optimisations out in a file whose programs run once, on a few numbers."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
