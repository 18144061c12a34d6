"""The miniatures of all claims run once, on a few numbers: compiling them takes longer than running them."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def in_haste(compiled_in_haste: None) -> None:
    """Compile in haste, in every file of this folder."""
