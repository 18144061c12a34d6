"""Dataset: accepted and refused arrays, weights, and the fingerprint."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp.data import Dataset, fingerprint

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_inputs_may_be_any_real_numbers(dtype):
    assert len(Dataset(X.astype(dtype), [0, 1, 2])) == 3


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32, jnp.bool_])
def test_inputs_may_be_jax_arrays(dtype):
    x = jnp.asarray(X, dtype)
    assert Dataset(x, jnp.array([0, 1, 1])).x is x


@pytest.mark.parametrize("t", [[0, 1, 2], [0.5, -1.0, 2.0], [[1, -2], [3, 4], [5, 6]], [[0.5], [1.5], [2.5]]])
def test_targets_may_be_classes_values_or_rows_of_values(t):
    assert np.array_equal(Dataset(X, t).t, t)


@pytest.mark.parametrize(
    "weights", [[0.0, 1.0, 2.5], np.array([0, 1, 1]), jnp.array([0.5, 0.5, 0.0]), [True, False, True]]
)
def test_weights_may_be_any_numbers_that_are_not_negative(weights):
    data = Dataset(X, [0, 1, 1], weights)
    assert np.array_equal(data.weights, weights)
    assert data.weights.dtype.kind == "f"


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50))
def test_balanced_weights_give_every_class_the_same_sum_and_all_examples_mean_1(t):
    weights = Dataset(np.zeros((len(t), 1)), t, "balanced").weights
    sums = np.bincount(t, weights)[np.bincount(t) > 0]
    np.testing.assert_allclose(sums, len(t) / len(sums), rtol=1e-13)  # of at most 50 additions
    assert weights.mean() == pytest.approx(1, rel=1e-13)
    assert all(len(set(weights[np.array(t) == label])) == 1 for label in t)


REFUSED_WEIGHTS = {
    "too few": ([1.0, 1.0], ["weights must be [3]", "(2,)"]),
    "rank 2": (np.ones((3, 1)), ["weights must be [3]", "(3, 1)"]),
    "text": (["a", "b", "c"], ["weights must be numbers", "text 'a' in row 0"]),
    "nan": ([1.0, np.nan, 1.0], ["weights must be finite", "nan", "row 1"]),
    "negative": ([1.0, 1.0, -0.5], ["weights must be 0 or larger", "-0.5", "row 2"]),
    "all zero": ([0.0, 0.0, 0.0], ["weights must not be all 0"]),
    "too small for float32": ([1e-60, 0.0, 0.0], ["range of float32", "1e-60"]),
    "too large for float32": ([3e38, 3e38, 3e38], ["range of float32", "9e+38"]),
    "unknown word": ("balance", ["weights must be an array, 'balanced' or None", "'balance'"]),
}


@pytest.mark.parametrize(("weights", "words"), REFUSED_WEIGHTS.values(), ids=REFUSED_WEIGHTS)
def test_wrong_weights_are_refused_in_one_line(weights, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are looked at below
        Dataset(X, [0, 1, 1], weights)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("t", [[0.5, 1.0, 1.5], np.eye(3)])
def test_balanced_weights_need_classes(t):
    with pytest.raises(ValueError, match="need integer classes"):
        Dataset(X, t, "balanced")


def test_a_fingerprint_depends_on_the_weights():
    prints = {fingerprint(Dataset(X, [0, 1, 1], weights)) for weights in (None, [1.0, 1, 1], [1.0, 1, 2])}
    assert len(prints) == 3


def test_plain_arrays_are_stored_without_a_copy():
    t = np.array([0, 1, 2])
    data = Dataset(X, t)
    assert data.x is X
    assert data.t is t


NAN, INFINITE = X.copy(), X.copy()
NAN[1, 0] = np.nan
INFINITE[2, 1] = -np.inf

REFUSED = {
    "rank 1": (X[0], [0, 1], ["x must be [N, n]", "(2,)", "x.reshape(2, -1)"]),
    "rank 3": (np.ones((3, 2, 2)), [0, 1, 2], ["x must be [N, n]", "(3, 2, 2)", "x.reshape(3, -1)"]),
    "rank 0": (1.0, [0], ["x must be [N, n]", "()"]),
    "no rows": (np.ones((0, 2)), [], ["at least one row", "(0, 2)"]),
    "no columns": (np.ones((2, 0)), [0, 1], ["at least one row", "(2, 0)"]),
    "ragged": ([[1.0], [1.0, 2.0]], [0, 1], ["x", "different lengths"]),
    "text": (np.array([["a"]]), [0], ["x must be numbers", "text 'a' in row 0, column 0"]),
    "objects": (np.array([[None]]), [0], ["x must have no missing values", "None in row 0, column 0"]),
    "complex": (np.ones((1, 1), complex), [0], ["x must be real numbers", "complex128"]),
    "nan": (NAN, [0, 1, 2], ["x must be finite", "nan", "row 1, column 0"]),
    "infinity": (INFINITE, [0, 1, 2], ["x must be finite", "-inf", "row 2, column 1"]),
    "jax nan": (jnp.asarray(NAN), [0, 1, 2], ["x must be finite", "nan", "row 1, column 0"]),
    "unequal rows": (X, [0, 1], ["equally many rows", "3 and 2"]),
    "negative class": (X, [0, -3, 1], ["classes 0, 1, ...", "-3", "row 1"]),
    "boolean targets": (X, [True, False, True], ["t must be integers", "bool"]),
    "text targets": (X, ["a", "b", "c"], ["t must be numbers", "text 'a' in row 0", "numpy.unique"]),
    "targets of rank 3": (X, np.ones((3, 1, 1)), ["t must be [N] or [N, K]", "(3, 1, 1)"]),
    "targets of no columns": (X, np.ones((3, 0)), ["t must be [N] or [N, K]", "(3, 0)"]),
    "infinite target": (X, [0.0, np.inf, 1.0], ["t must be finite", "inf", "row 1"]),
    "infinite target in a row": (
        X,
        [[0.0, 1.0], [0.0, np.nan], [0.0, 0.0]],
        ["t must be finite", "row 1, column 1"],
    ),
}


@pytest.mark.parametrize(("x", "t", "parts"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_a_wrong_array_has_name_rule_and_value(x, t, parts, refusal):
    sentence = refusal(lambda: Dataset(x, t))
    for part in parts:
        assert part in sentence


@given(st.integers(0, 2), st.integers(0, 1), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_fingerprint_changes_if_and_only_if_a_number_changes(row, column, number):
    x = X.copy()
    x[row, column] = number
    same = fingerprint(Dataset(x, [0, 1, 2])) == fingerprint(Dataset(X, [0, 1, 2]))
    assert same == (x.tobytes() == X.tobytes())


def test_a_fingerprint_depends_on_shapes_types_and_targets():
    zeros = np.zeros((4, 1), np.float32)
    t = np.array([0, 1, 0, 1])
    different = [
        Dataset(zeros, t),
        Dataset(zeros.reshape(2, 2), t[:2]),
        Dataset(zeros.view(np.int32), t),
        Dataset(zeros, t[::-1]),
        Dataset(zeros, t[:, None]),
        Dataset(zeros, t.astype(np.int32)),
        Dataset(jnp.zeros((4, 1), jnp.bfloat16), t),
    ]
    assert len({fingerprint(data) for data in different}) == len(different)


def test_a_fingerprint_is_the_same_for_numpy_jax_and_any_memory_order():
    x, t = X.astype(np.float32), np.array([0, 1, 2], np.int32)
    numpy_print = fingerprint(Dataset(x, t))
    assert fingerprint(Dataset(jnp.asarray(x), jnp.asarray(t))) == numpy_print
    assert fingerprint(Dataset(np.asfortranarray(x), t)) == numpy_print
    assert len(numpy_print) == 16
