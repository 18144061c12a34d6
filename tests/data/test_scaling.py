"""Scaling: against NumPy in float64, written naively."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmlp.data import Scaling
from jaxmlp.data.scaling import KINDS

numbers = st.floats(-1e6, 1e6, width=32)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=numbers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
@given(x=matrices)
def test_the_inverse_undoes_every_scaling(kind, shared, x):
    scaling = Scaling.fit(x, kind, shared=shared)
    assert scaling.offset.shape == ((1,) if shared else x.shape[1:])
    # One rounding to float32 of a scaled number, which may be larger than x by far in a column of tiny spread.
    tolerance = 1e-6 * (np.abs(x).max() + 1)
    assert np.allclose(scaling.inverse(scaling(x)), x, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("shared", [False, True])
@given(x=matrices)
def test_standard_makes_mean_0_and_deviation_1(shared, x):
    y = Scaling.fit(x, "standard", shared=shared)(x).astype(np.float64)
    axis = None if shared else 0
    constant = np.ptp(x, axis) == 0
    # float32 rounding of numbers of size up to sqrt(N n) = 12
    assert np.allclose(y.mean(axis), 0, atol=1e-5)
    assert np.allclose(y.std(axis), np.where(constant, 0, 1), atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
@given(x=matrices)
def test_minmax_makes_minimum_0_and_maximum_1(shared, x):
    y = Scaling.fit(x, "minmax", shared=shared)(x)
    axis = None if shared else 0
    assert np.array_equal(y.min(axis), np.zeros_like(y.min(axis)))
    assert np.allclose(y.max(axis), np.where(np.ptp(x, axis) == 0, 0, 1), atol=1e-6)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e30, 1e-40])
def test_a_constant_column_becomes_exactly_0(kind, constant):
    x = np.full((1000, 2), np.float32(constant))
    scaling = Scaling.fit(x, kind)
    assert np.array_equal(scaling.factor, [1, 1])
    assert np.array_equal(scaling(x), np.zeros((1000, 2)))


def test_none_changes_nothing():
    x = np.array([[1.5, -2.0], [1e30, 3.0]], np.float32)
    assert np.array_equal(Scaling.fit(x, "none")(x), x)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64, np.float32, np.float64])
def test_statistics_are_those_of_numpy_in_float64_across_blocks(dtype):
    x = (np.random.default_rng(0).random((5000, 70)) * 200 + 50).astype(dtype)
    for shared, axis in ((False, 0), (True, None)):
        scaling = Scaling.fit(x, "standard", shared=shared)
        wide = x.astype(np.float64)
        spread = wide.std(axis)
        expected = np.divide(1, spread, out=np.ones_like(spread), where=spread > 0)
        assert np.allclose(scaling.offset, wide.mean(axis), rtol=1e-12)
        assert np.allclose(scaling.factor, expected, rtol=1e-12)
        assert scaling.offset.shape == ((1,) if shared else (70,))


def test_a_large_offset_costs_no_accuracy():
    x = np.float32(2**23) + np.arange(100, dtype=np.float32)[:, None]
    assert np.allclose(Scaling.fit(x, "standard").factor, 1 / np.arange(100).std(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("unit", [1e-298, 1e-200, 1e200, 1e304])
def test_numbers_of_any_size_are_scaled_as_in_another_unit(kind, unit):
    x = np.arange(60.0)
    scaling = Scaling.fit(x * unit, kind)
    assert np.allclose(scaling(x * unit), Scaling.fit(x, kind)(x), rtol=1e-6, atol=1e-6)  # two roundings to float32
    assert np.allclose(scaling.inverse(scaling(x * unit)), x * unit, rtol=1e-6, atol=1e-6 * unit)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_numbers_too_large_to_scale_are_refused(kind, refusal):
    assert "numbers as large as 1.7e+308" in refusal(lambda: Scaling.fit([-1.7e308, 1.7e308, 1.7e308], kind))


def test_targets_of_rank_1_are_one_column():
    t = np.array([1.0, 2.0, 3.0])
    scaling = Scaling.fit(t, "minmax")
    assert scaling.offset.shape == (1,)
    assert np.array_equal(scaling(t), [0, 0.5, 1])


def test_scaling_many_images_takes_little_more_memory_than_its_result():
    x = np.random.default_rng(0).integers(0, 256, (20_000, 784), np.uint8)
    tracemalloc.start()
    try:
        y = Scaling.fit(x, "standard", shared=True)(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < y.nbytes + (16 << 20)  # some blocks of 1 MiB; a float64 copy would be 125 MB


def test_a_mistyped_kind_is_answered_with_the_nearest(refusal):
    assert "did you mean 'standard'?" in refusal(lambda: Scaling.fit([[1.0]], "standart"))


@pytest.mark.parametrize(
    ("offset", "factor", "part"),
    [
        ([0.0], [1.0, 2.0], "(1,) and (2,)"),
        ([[0.0]], [[1.0]], "(1, 1)"),
        ([], [], "(0,)"),
        ([np.nan], [1.0], "finite"),
        ([0.0], [np.inf], "finite"),
        ([0.0], [0.0], "no factor 0"),
    ],
)
def test_a_scaling_that_cannot_be_undone_is_refused(offset, factor, part, refusal):
    assert part in refusal(lambda: Scaling(offset, factor))
