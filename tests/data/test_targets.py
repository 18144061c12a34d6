"""encode_targets: which targets become classes, and which real values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp.data.source import encode_targets


def where(row):
    return f"row {row}"


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (np.array([10, 9, 10, -1]), ("-1", "9", "10")),
        (np.array([True, False]), ("False", "True")),
        (np.array(["b", "a", "10", "9"]), ("10", "9", "a", "b")),
        (np.array(["b", "a"], dtype=object), ("a", "b")),
    ],
)
def test_integers_booleans_and_text_are_classes_in_their_own_order(column, names):
    t, class_names = encode_targets(column, None, where)
    assert class_names == names
    assert t.dtype == np.int64
    assert [class_names[index] for index in t] == [str(value) for value in column]


@pytest.mark.parametrize("column", [np.array([1.0, 2.0]), np.array([[1, 2], [3, 4]]), np.array([[0.5], [1.5]])])
def test_real_numbers_and_rows_are_values(column):
    t, class_names = encode_targets(column, None, where)
    assert class_names is None
    assert t.dtype == np.float64
    assert np.array_equal(t, column)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1))
def test_whole_real_numbers_as_classes_equal_integers(numbers):
    whole, real = (encode_targets(np.array(numbers, kind), "classes", where) for kind in (np.int64, np.float64))
    assert whole.class_names == real.class_names
    assert np.array_equal(whole.t, real.t)


def test_integers_and_numbers_in_text_can_be_forced_to_values():
    for column in (np.array([1, 2]), np.array(["1", "2"]), np.array(["1", "2"], dtype=object)):
        assert np.array_equal(encode_targets(column, "values", where).t, [1.0, 2.0])


@pytest.mark.parametrize(
    ("column", "task", "parts"),
    [
        (np.array([1.0, 2.5]), "classes", ["row 1", "2.5", "whole number"]),
        (np.array([[1, 2]]), "classes", ["row 0", "2 numbers", "one class"]),
        (np.array(["1", "two\n"]), "values", ["row 1", "two", "expected a number"]),
        (np.array([1.0, np.nan]), None, ["row 1", "nan", "finite"]),
        (np.array([1.0, np.inf]), "classes", ["row 1", "inf", "finite"]),
        (np.array(["1", "nan"]), "values", ["row 1", "nan"]),
    ],
)
def test_the_error_for_an_unsuitable_task_names_the_first_row(column, task, parts, refusal):
    sentence = refusal(lambda: encode_targets(column, task, where))
    for part in parts:
        assert part in sentence
