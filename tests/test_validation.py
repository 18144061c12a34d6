"""The checks that all rooms share."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp._validation import whole_number


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), jnp.array(3)])
def test_whole_numbers_of_any_library_become_ints(value):
    assert whole_number("n", value, least=3) == 3
    assert type(whole_number("n", value, least=3, most=3)) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float32(3), "3", None, [3], np.array([3, 4]), float("nan")])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match=r"^n must be a whole number, 0 or larger, got ") as caught:
        whole_number("n", value, least=0)
    assert str(caught.value).endswith(repr(value))


def test_a_number_outside_its_bounds_is_refused_and_the_bounds_themselves_are_not():
    assert [whole_number("n", value, least=2, most=4) for value in (2, 3, 4)] == [2, 3, 4]
    for value in (1, 5):
        with pytest.raises(ValueError, match=rf"^n must be a whole number from 2 to 4, got {value}$"):
            whole_number("n", value, least=2, most=4)
    with pytest.raises(ValueError, match=r"^n must be a whole number, 2 or larger, got 1$"):
        whole_number("n", 1, least=2)
