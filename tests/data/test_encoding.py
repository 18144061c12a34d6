"""Encoding: new data are treated like a model's training data, and JSON keeps every bit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp.data import Encoding, Scaling

SAME = Scaling([0.0], [1.0])
CLASSES = Encoding(2, ("a", "b"), ("cat", "dog", "owl"), inputs=Scaling([1.0, 2.0], [0.5, 0.25]), targets=None)
VALUES = Encoding(1, (), None, inputs=SAME, targets=Scaling([10.0], [0.1]))
X = np.ones((3, 2), np.float32)


def test_classes_are_matched_by_name():
    data = CLASSES.encode(X, np.array([0, 1, 0]), ("owl", "cat"))
    assert np.array_equal(data.t, [2, 0, 2])


def test_a_class_without_examples_may_be_unknown():
    assert np.array_equal(CLASSES.encode(X, np.array([1, 1, 1]), ("yak", "dog")).t, [1, 1, 1])


def test_inputs_and_real_values_are_scaled():
    assert np.array_equal(CLASSES.encode_inputs(X), [[0, -0.25]] * 3)
    assert np.array_equal(VALUES.encode(X[:, :1], np.array([10.0, 20.0, 0.0])).t, [0, 1, -1])


@pytest.mark.parametrize(
    ("encoding", "x", "t", "names", "parts"),
    [
        (CLASSES, X, np.array([1, 0, 1]), ("yak", "dog"), ["'yak'", "example 1", "'cat', 'dog', 'owl'"]),
        (CLASSES, X, np.array([0.5, 1.5, 2.5]), None, ["real values", "'cat', 'dog', 'owl'"]),
        (VALUES, X[:, :1], np.array([0, 1, 0]), ("cat", "dog"), ["'cat', 'dog'", "expected real values"]),
        (VALUES, X[:, :1], np.ones((3, 2)), None, ["1 values expected", "got 2"]),
        (CLASSES, X, np.array([0.0, 1.0, 0.0]), ("cat", "dog"), ["t must be positions in class_names", "0 to 1"]),
        (CLASSES, X, np.array([0, 2, 0]), ("cat", "dog"), ["t must be positions in class_names", "0 to 1"]),
        (CLASSES, X, np.array([0, -1, 0]), ("cat", "dog"), ["t must be positions in class_names", "0 to 1"]),
        (CLASSES, X[:, :1], np.array([0, 1, 0]), ("cat", "dog"), ["x must be [N, 2]", "(3, 1)"]),
    ],
)
def test_data_of_another_kind_is_refused(encoding, x, t, names, parts, refusal):
    sentence = refusal(lambda: encoding.encode(x, t, names))
    for part in parts:
        assert part in sentence


finite = st.floats(allow_nan=False, allow_infinity=False)
factors = finite.filter(bool)


@given(
    names=st.lists(st.text(), min_size=1, max_size=5, unique=True),
    classes=st.none() | st.lists(st.text(), min_size=2, max_size=5, unique=True),
    data=st.data(),
)
def test_an_encoding_survives_json_to_the_last_bit(names, classes, data):
    def scaling(count):
        columns = (st.lists(kind, min_size=count, max_size=count) for kind in (finite, factors))
        return Scaling(*(data.draw(column) for column in columns))

    encoding = Encoding(
        len(names),
        tuple(names),
        None if classes is None else tuple(classes),
        inputs=scaling(len(names)),
        targets=scaling(2) if classes is None else None,
    )
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    assert again.feature_names == encoding.feature_names
    assert again.class_names == encoding.class_names
    assert again.inputs.offset.tobytes() == encoding.inputs.offset.tobytes()
    assert again.inputs.factor.tobytes() == encoding.inputs.factor.tobytes()
    assert (again.targets is None) == (encoding.targets is None)
    assert again.to_json() == encoding.to_json()


GOOD = CLASSES.to_json()
MALFORMED = {
    "nothing": ({}, "feature_count"),
    "no dictionary": ([1], "feature_count"),
    "a key is missing": ({key: GOOD[key] for key in GOOD if key != "inputs"}, "feature_count"),
    "count is text": (GOOD | {"feature_count": "2"}, "feature_count"),
    "count does not fit": (GOOD | {"feature_count": 3}, "2 feature names for 3"),
    "count is 0": (GOOD | {"feature_count": 0, "feature_names": []}, "0 features"),
    "names are numbers": (GOOD | {"feature_names": [1, 2]}, "feature_names"),
    "one class": (GOOD | {"class_names": ["cat"]}, "two or more"),
    "repeated class": (GOOD | {"class_names": ["cat", "dog", "cat"]}, "distinct"),
    "neither classes nor values": (GOOD | {"class_names": None}, "either"),
    "scaling of text": (GOOD | {"inputs": {"offset": ["1", "2"], "factor": [1, 1]}}, "inputs.offset"),
    "scaling without factor": (GOOD | {"inputs": {"offset": [1, 2]}}, "inputs.factor"),
    "scaling of other length": (
        GOOD | {"inputs": {"offset": [1] * 3, "factor": [1] * 3}},
        "2 features, got 3",
    ),
    "unequal scaling": (GOOD | {"inputs": {"offset": [1, 2], "factor": [1]}}, "(2,) and (1,)"),
    "infinite scaling": (GOOD | {"inputs": {"offset": [1, 2], "factor": [1, float("inf")]}}, "finite"),
    "huge integer": (GOOD | {"inputs": {"offset": [10**400, 2], "factor": [1, 1]}}, "float64"),
}


@pytest.mark.parametrize(("saved", "part"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_encoding_is_refused_in_one_line(saved, part, refusal):
    assert part in refusal(lambda: Encoding.from_json(saved))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.sampled_from(sorted(GOOD)), json_values)
def test_any_value_under_any_key_is_understood_or_refused(key, value):
    try:
        Encoding.from_json(GOOD | {key: value})
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
