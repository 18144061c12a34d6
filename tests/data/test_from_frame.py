"""Data frames: those of every package mean the same, and their columns go by name."""

import datetime as dt
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jaxmlp.data import from_frame, prepare, read

RNG = np.random.default_rng(0)
N = 60
COLUMNS = {
    "number": [None if i % 7 == 0 else float(i * i % 11) for i in range(N)],
    "whole": [int(i) for i in RNG.integers(0, 9, N)],
    "flag": [None if i % 9 == 0 else bool(i % 2) for i in range(N)],
    "text": [None if i % 8 == 0 else "äbc"[i % 3] for i in range(N)],
    "day": [dt.date(2020, 1, 1) + dt.timedelta(int(days)) for days in RNG.integers(0, 999, N)],
    "price": [Decimal(int(cents)) / 100 for cents in RNG.integers(0, 999, N)],
    "wait": [dt.timedelta(seconds=int(seconds)) for seconds in RNG.integers(0, 999, N)],
    "target": ["no", "yes", "maybe"] * (N // 3),
}
FRAME = pl.DataFrame(COLUMNS)


class Capsule:
    """A frame of which only the Arrow PyCapsule protocol is known."""

    def __init__(self, frame):
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self._frame.__arrow_c_stream__(requested_schema)


def of_pandas():
    """Return the frame with the types that pandas users have, and an index that must not matter."""
    frame = pd.DataFrame(COLUMNS)
    frame["flag"] = frame["flag"].astype("boolean")
    frame["whole"] = frame["whole"].astype("Int64")
    frame["text"] = frame["text"].astype("category")
    frame["day"] = pd.to_datetime(frame["day"])
    return frame.set_index(RNG.permutation(N))


FRAMES = {
    "polars": lambda: FRAME,
    "lazy": FRAME.lazy,
    "pyarrow": FRAME.to_arrow,
    "a capsule": lambda: Capsule(FRAME),
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas with its own types": of_pandas,
    "pandas with Arrow's types": lambda: FRAME.to_pandas(use_pyarrow_extension_array=True),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_of_every_package_are_encoded_alike(make):
    expected = prepare(from_frame(FRAME, target="target"))
    frame = make()
    source = from_frame(frame, target="target")
    assert source.class_names == ("maybe", "no", "yes")
    found = prepare(source)
    assert [row.kind for row in found.encoding.inputs.describe()] == [
        row.kind for row in expected.encoding.inputs.describe()
    ]
    assert np.array_equal(found.train.t, expected.train.t)
    np.testing.assert_array_equal(found.train.x, expected.train.x)
    np.testing.assert_array_equal(expected.encoding.encode_inputs(frame), expected.encoding.encode_inputs(FRAME))


def test_a_frame_of_pandas_needs_no_pyarrow():
    code = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *more):
        return None if name == "pyarrow" else self.finder.find_spec(name, *more)

sys.meta_path = [Hiding(finder) for finder in sys.meta_path]
import pandas as pd
from jaxmlp.data import from_frame, prepare, read
frame = pd.DataFrame({"a": [1.5, None, 2.5, 3.5] * 5, "b": pd.Categorical(list("xyxy") * 5), "t": list("ab") * 10})
print(prepare(from_frame(frame, target="t")).train.x.shape, "pyarrow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"(16, 3) False\n"), done.stderr


def test_objects_of_several_types_are_text():
    frame = pd.DataFrame({"a": [1, "x", None, 2.5, "x", 1] * 5, "t": list("ab") * 15})
    source = from_frame(frame, target="t")
    assert source.x.get_column("a").to_list() == ["1", "x", None, "2.5", "x", "1"] * 5


def test_columns_go_by_name_never_by_place():
    encoding = prepare(from_frame(FRAME, target="target")).encoding
    turned = FRAME.select(reversed(FRAME.columns)).with_columns(other=pl.lit("?"))
    for frame in (turned, turned.to_arrow(), turned.to_pandas()):
        np.testing.assert_array_equal(encoding.encode_inputs(frame), encoding.encode_inputs(FRAME))


REFUSED = {
    "array": (np.ones((3, 2)), ["got a ndarray", "named columns"]),
    "list": ([[1.0, 2.0]], ["got a list", "named columns"]),
    "series": (pl.Series([1, 2]), ["got a Series", "named columns"]),
    "no columns": (pl.DataFrame(), ["frame: no columns", "expected the target and at least one feature"]),
    "no rows": (FRAME[:0], ["no rows"]),
    "two of one name": (pd.DataFrame([[1, 2, 3]], columns=["a", "a", "target"]), ["two columns named 'a'"]),
    "no target": (FRAME.drop("target"), ["unknown column 'target'"]),
    "a target alone": (FRAME.select("target"), ["no column but the target"]),
    "arrays of one type": (pa.array([1, 2]), ["frame"]),
}


@pytest.mark.parametrize(("frame", "parts"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_to_learn_from_is_refused(frame, parts, refusal):
    sentence = refusal(lambda: from_frame(frame, target="target"))
    for part in parts:
        assert part in sentence


def test_a_model_of_a_table_refuses_arrays_and_names_missing_columns(refusal):
    encoding = prepare(from_frame(FRAME, target="target")).encoding
    sentence = refusal(lambda: encoding.encode_inputs(np.ones((3, encoding.feature_count))))
    assert "x must be a table with named columns, got a ndarray: give a frame" in sentence
    assert "feature 'price' is missing" in refusal(lambda: encoding.encode_inputs(FRAME.drop("price")))


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"target": "target", "features": "whole"}, TypeError, "features must be a list of texts, got 'whole'"),
        ({"target": "target", "drop": "whole"}, TypeError, "write ['whole']"),
        ({"target": "target", "missing": "no"}, TypeError, "missing must be a list of texts, got 'no'"),
        ({"target": "target", "features": []}, ValueError, "features must name one column or more"),
        ({"target": 2}, TypeError, "target must be the name of a column, a text, got 2"),
    ],
)
def test_a_text_is_never_taken_for_a_list_of_its_letters(options, error, part):
    with pytest.raises(error) as raised:
        from_frame(FRAME, **options)
    assert part in str(raised.value)


def test_a_text_is_no_list_of_numbers_or_categories():
    source = from_frame(pl.DataFrame({"a": ["1", "2"] * 10, "t": ["no", "yes"] * 10}), target="t")
    for option in ("numbers", "categories"):
        with pytest.raises(TypeError, match=f"{option} must be a list of names, got 'a'"):
            prepare(source, **{option: "a"})


def test_the_ends_of_values_far_from_0_are_told_apart():
    source = from_frame(pl.DataFrame({"x": range(20), "t": [1.7e9 + each / 2 for each in range(20)]}), target="t")
    assert source.notes == ("target 't': real values from 1700000000 to 1700000009.5",)


def test_one_class_is_counted_in_plain_grammar():
    source = from_frame(pl.DataFrame({"x": [1, 2], "t": ["a", "a"]}), target="t")
    assert source.notes == ("target 't': 1 class: a",)


@pytest.mark.parametrize("first", [2**63, 10**19, 2**100])
def test_whole_numbers_beyond_64_bits_are_classes_of_their_own(first, tmp_path):
    """As float64, such identifiers and the next are equal."""
    numbers = [first + row % 2 for row in range(20)]
    names = (str(first), str(first + 1))
    pd.DataFrame({"a": range(20), "target": numbers}).to_csv(tmp_path / "big.csv", index=False)
    frame = pd.DataFrame({"a": range(20), "target": pd.Series(numbers, dtype=object)})
    for source in (read(tmp_path / "big.csv", target="target"), from_frame(frame, target="target")):
        assert source.class_names == names
        assert source.t.tolist() == [row % 2 for row in range(20)]
    values = read(tmp_path / "big.csv", target="target", task="values")
    assert values.t.tolist() == [float(number) for number in numbers]


def test_a_frame_without_columns_lacks_every_feature(refusal):
    encoding = prepare(from_frame(FRAME, target="target")).encoding
    for empty in (pd.DataFrame(index=[1, 2]), pl.DataFrame()):
        sentence = refusal(lambda empty=empty: encoding.encode_inputs(empty))
        assert sentence == "x: feature 'number' is missing; there are no columns"
