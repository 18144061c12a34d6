"""An expansion that does not fit its data is one clear error line."""

import re

import numpy as np
import pytest

from jaxmlp.data import Dataset, Expansion, fingerprint

WHOLE = np.array([0, 1])
GOOD = Expansion(WHOLE, WHOLE > 0, WHOLE, WHOLE + 0.5, WHOLE + 1.0, WHOLE, WHOLE)


def test_a_network_takes_the_passed_columns_bins_and_codes():
    assert Dataset(np.ones((3, 2)), np.arange(3), expansion=GOOD).n_inputs == GOOD.n_inputs == 6
    assert Dataset(np.ones((3, 2)), np.arange(3)).n_inputs == 2


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"passed": WHOLE + 1}, "expansion takes columns 0 to 2 of x, which has 2"),
        ({"code_column": WHOLE - 1}, "expansion takes columns -1 to 1 of x, which has 2"),
        ({"smooth": np.array([True])}, "expansion must have equally many passed, smooth, got [2, 1]"),
        ({"bin_low": np.array([0.0, np.nan])}, "expansion.bin_low must be finite"),
        ({"code": WHOLE + 0.5}, "expansion.code must be one row of integers, got float64 of shape (2,)"),
        ({name: array[:0] for name, array in GOOD._asdict().items()}, "expansion must make at least one input"),
    ],
    ids=lambda wrong: "-".join(wrong) if isinstance(wrong, dict) else "",
)
def test_expansion_that_does_not_fit_is_refused(wrong, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        Dataset(np.ones((3, 2)), np.arange(3), expansion=GOOD._replace(**wrong))


def test_expansion_of_another_type_is_refused():
    with pytest.raises(TypeError, match="expansion must be an Expansion, got tuple"):
        Dataset(np.ones((3, 2)), np.arange(3), expansion=tuple(GOOD))


@pytest.mark.parametrize("name", Expansion._fields)
def test_every_array_of_the_expansion_counts_in_the_fingerprint(name):
    def of(expansion):
        return fingerprint(Dataset(np.ones((3, 2)), np.arange(3), expansion=expansion))

    assert of(GOOD) != of(GOOD._replace(**{name: getattr(GOOD, name)[::-1]}))
