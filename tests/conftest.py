"""What several test files need."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test with JAX's 64-bit types on: its default float is then float64."""
    with jax.enable_x64(True):
        yield
