"""Tables: which columns are features and target, and where a bad cell is."""

import subprocess
import sys
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp.data import Columns, read

CSV = "width,height,kind\n1,2.5,b\n-3,1e2,a\n+4,.5,b\n"
FRAME = pl.DataFrame({"width": [1, -3, 4], "height": [2.5, 100.0, 0.5], "kind": ["b", "a", "b"]})


def numbers_of(source):
    """Return the features as the numbers that they are in the file."""
    return Columns.fit(source.x, scaling="none", numbers=source.feature_names).encode(source.x)


def write_csv(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_parquet(tmp_path, columns):
    path = tmp_path / "data.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.fixture(params=["csv", "parquet"])
def table(request, tmp_path):
    path = tmp_path / f"data.{request.param}"
    if request.param == "parquet":
        FRAME.write_parquet(path)
    else:
        path.write_text(CSV)
    return path


def test_a_table_is_features_and_a_target(table):
    source = read(table, target="kind")
    assert source.feature_names == ("width", "height")
    assert source.target == "kind"
    assert np.array_equal(numbers_of(source), np.array([[1, 2.5], [-3, 100], [4, 0.5]], np.float32))
    assert source.class_names == ("a", "b")
    assert np.array_equal(source.t, [1, 0, 1])


def test_the_target_decides_between_classes_and_values(table):
    assert read(table, target="width", features=["height"], task="classes").class_names == ("-3", "1", "4")
    values = read(table, target="height", features=["width"])
    assert values.class_names is None
    assert np.array_equal(values.t, [2.5, 100, 0.5])
    assert read(table, target="width", features=["height"], task="values").class_names is None


@pytest.mark.parametrize(
    ("cells", "is_classes"),
    [
        ([1, 2, 1, 2], True),
        ([1, 2, 1, 1], True),
        ([1, 2, 3, 1, 2, 3], True),
        ([1, 2, 3, 1, 2], False),
        ([*range(20)] * 2, True),
        ([*range(21)] * 2, False),
        ([1.0, 2.0, 1.0, 2.0], False),
        ([1.0, 2.0, 1.0, 2.0, None], True),
        ([1.5, 2.0, 1.5, 2.0, None], False),
    ],
)
def test_whole_numbers_are_classes_if_they_are_few_and_come_again(cells, is_classes, tmp_path):
    source = read(write_parquet(tmp_path, {"a": range(len(cells)), "y": cells}), target="y")
    assert (source.class_names is not None) == is_classes
    if isinstance(cells[0], int):
        assert f"--task {'values' if is_classes else 'classes'}" in source.notes[-1]


def test_rows_without_a_target_are_left_out_and_counted(tmp_path):
    source = read(write_csv(tmp_path, "a,y\n1,x\n2,NA\n3,none\n4,\n5,x\n"), target="y")
    assert source.x["a"].to_list() == ["1", "3", "5"]
    assert source.class_names == ("none", "x")
    assert source.notes == ("2 rows have no target 'y' and are left out", "target 'y': 2 classes: none, x")
    numbers = read(write_csv(tmp_path, "a,y\n1,2.5\n2,none\n3,0\n"), target="y")
    assert numbers.t.tolist() == [2.5, 0]
    assert numbers.notes[0] == "1 row has no target 'y' and is left out"


def test_given_features_are_read_in_their_order_and_others_ignored(table):
    source = read(table, target="kind", features=("height", "width"))
    assert source.feature_names == ("height", "width")
    assert numbers_of(source)[1].tolist() == [100, -3]
    assert read(table, labelled=False, features=["height"]).x.shape == (3, 1)


def test_without_labels_no_target_is_read_and_every_row_is_kept(table):
    features = ["width", "height"]
    for target in (None, "species", "kind"):
        source = read(table, labelled=False, features=features, target=target)
        assert source.t is None
        assert len(source.x) == 3


def test_a_table_without_target_lists_its_columns(table, refusal):
    sentence = refusal(lambda: read(table))
    for part in [str(table), "--target COLUMN", "'width', 'height', 'kind'"]:
        assert part in sentence


def test_a_mistyped_column_is_answered_with_the_nearest(table, refusal):
    sentence = refusal(lambda: read(table, target="knid"))
    assert sentence.startswith(f"{table}: unknown column 'knid', did you mean 'kind'?")
    sentence = refusal(lambda: read(table, labelled=False, features=["knid"]))
    assert sentence == f"{table}: feature 'knid' is missing; the nearest column is 'kind'"


def test_a_wide_table_does_not_list_all_of_its_columns(tmp_path, refusal):
    path = write_csv(tmp_path, ",".join(f"pixel{i}" for i in range(784)) + "\n" + "0," * 783 + "0\n")
    assert "774 more" in refusal(lambda: read(path))
    sentence = refusal(lambda: read(path, target="pixle77"))
    assert "did you mean 'pixel77'?" in sentence
    assert len(sentence) < 400 + len(str(path))


def test_a_table_with_only_a_target_is_refused(tmp_path, refusal):
    assert "no column but the target 'y'" in refusal(lambda: read(write_csv(tmp_path, "y\n1\n"), target="y"))


REFUSED_CSV = {
    "empty file": ("", ["row 1", "names of the columns"]),
    "blank first line": ("\na,y\n1,2\n", ["row 1", "names of the columns"]),
    "header only": ("a,y\n", ["at least one row"]),
    "header without end": ("a,y", ["at least one row"]),
    "infinite cell": ("a,y\n-inf,0\n1,0\n", ["row 2", "'a'", "'-inf'", "finite number"]),
    "cell beyond float64": ("a,y\n1e309,0\n", ["row 2", "'a'", "'1e309'", "finite number"]),
    "too few fields": ("a,b,y\n1,2,0\n\n1,2\n", ["row 4", "2 fields", "expected 3"]),
    "too many fields": ("a,y\n1,0\n1,2,0\n", ["row 3", "3 fields", "expected 2"]),
    "repeated column": ("a,b,a,y\n1,2,3,0\n", ["row 1", "'a'", "distinct names"]),
    "repeated but for spaces": ("a, a,y\n1,2,0\n", ["row 1", "'a'", "distinct names"]),
    "no targets": ("a,y\n1,NA\n1,\n", ["no row has a target 'y'"]),
    "infinite target": ("a,y\n1,0.5\n1,inf\n", ["row 3", "'y'", "inf", "finite"]),
    "open quote": ('a,y\n1,0\n"1,0\n1,0\n', ["row 3", "comma-separated"]),
    "text after a quote": ('a,y\n"1"1,0\n', ["row 2", "comma-separated"]),
    "not UTF-8": (b"a,y\n1,0\n1,caf\xe9\n", ["row 3", "0xe9", "UTF-8"]),
    "header not UTF-8": (b"\xff,y\n1,0\n", ["row 1", "0xff", "UTF-8"]),
    "after a line feed in quotes": ('a,y\n1,"two\nlines"\ninf,0\n', ["row 4", "'inf'"]),
    "after blank lines": ("a,y\n\n1,0\n\ninf,0\n", ["row 5", "'inf'"]),
    "after rows without target": ("a,y\n2,\n1,0\n3,?\ninf,0\n", ["row 5", "'inf'"]),
    "after a byte order mark": ("\ufeffa,y\ninf,0\n", ["row 2", "'a'", "'inf'"]),
    "returns without line feeds": ("a,y\r1,0\r", ["row 1", "line feed"]),
    "long cell": ("a,y\n" + "9" * 200_000 + ",0\n", ["row 2", "…"]),
}


@pytest.mark.parametrize(("content", "parts"), REFUSED_CSV.values(), ids=REFUSED_CSV)
def test_a_bad_cell_is_named_by_file_row_column_and_text(content, parts, tmp_path, refusal):
    path = write_csv(tmp_path, content)
    sentence = refusal(lambda: read(path, target="y"))
    for part in [str(path), *parts]:
        assert part in sentence
    assert len(sentence) < 400


@pytest.mark.parametrize(
    "content",
    [
        "a,y\n1,0\n2,1",
        "a,y\r\n1,0\r\n2,1\r\n",
        "\ufeffa,y\n1,0\n2,1\n",
        '\ufeff"a\n",y\n1,0\n2,1\n',
        " a , y\n 1, 0\n2 ,1 \n",
        'a,"y"\n"1","0"\n2,1\n',
        "a,y\n\n1,0\n\n2,1\n\n\n",
        "a,y\n1,0\n,\n2,1\n",
    ],
    ids=[
        "no last line feed",
        "CRLF",
        "byte order mark",
        "byte order mark and quote",
        "spaces",
        "quotes",
        "blank lines",
        "commas alone",
    ],
)
def test_the_usual_dialects_of_csv_mean_the_same(content, tmp_path):
    source = read(write_csv(tmp_path, content), target="y")
    assert source.feature_names == ("a",)
    assert numbers_of(source).tolist() == [[1], [2]]
    assert source.t.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["x^2", "*", "^a.*$", "", "line\nfeed", "ümlaut", 'quo"te'])
def test_a_column_may_have_any_name(name, tmp_path):
    quoted = '"' + name.replace('"', '""') + '"' if name != "x^2" else name
    source = read(write_csv(tmp_path, f"{quoted},y,b\n1,0,2\n"), target="y")
    assert source.feature_names == (name, "b")
    assert source.x.to_dict(as_series=False) == {name: ["1"], "b": ["2"]}


def test_integers_in_text_are_classes_in_order_of_number_and_words_of_letter(tmp_path):
    assert read(write_csv(tmp_path, "a,y\n1,10\n1,9\n"), target="y").class_names == ("9", "10")
    assert read(write_csv(tmp_path, "a,y\n1,10\n1,9\n1,x\n"), target="y").class_names == ("10", "9", "x")
    assert read(write_csv(tmp_path, "a,y\n1,001\n1,10\n"), target="y").class_names == ("001", "10")


def test_text_among_real_valued_targets_is_named(tmp_path, refusal):
    path = write_csv(tmp_path, "a,y\n1,1.5\n1,much\n")
    sentence = refusal(lambda: read(path, target="y", task="values"))
    for part in ["row 3", "'y'", "'much'", "expected a number"]:
        assert part in sentence


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_float64_survives_its_text(tmp_path_factory, numbers):
    path = write_csv(tmp_path_factory.getbasetemp(), "a,y\n" + "".join(f"{number!r},0\n" for number in numbers))
    assert read(path, target="y").x["a"].cast(float).to_list() == numbers


def test_parquet_knows_booleans_and_categories(tmp_path):
    kinds = pl.Series("y", ["b", "a"], dtype=pl.Categorical)
    source = read(write_parquet(tmp_path, {"a": [True, False], "b": ["1", " 2.5"], "y": kinds}), target="y")
    assert Columns.fit(source.x, scaling="none").encode(source.x).tolist() == [[1, 1], [-1, 2.5]]
    assert source.class_names == ("a", "b")
    assert read(write_parquet(tmp_path, {"a": [1, 2], "y": [True, False]}), target="y").class_names == (
        "False",
        "True",
    )


REFUSED_PARQUET = {
    "no rows": ({"a": pl.Series([], dtype=pl.Float64), "y": pl.Series([], dtype=pl.Int64)}, ["at least one row"]),
    "infinite": ({"a": [1.0, float("inf")], "y": [0, 1]}, ["row 2", "'a'", "inf", "finite number"]),
    "no targets": ({"a": [1, 2], "y": [None, float("nan")]}, ["no row has a target 'y'"]),
    "infinite target": ({"a": [1, 2], "y": [0.5, float("inf")]}, ["row 2", "'y'", "inf", "finite"]),
    "dated target": ({"a": [1], "y": [date(2000, 1, 1)]}, ["'y'", "Date", "text or numbers"]),
}


@pytest.mark.parametrize(("columns", "parts"), REFUSED_PARQUET.values(), ids=REFUSED_PARQUET)
def test_a_bad_parquet_cell_is_named_by_file_row_and_column(columns, parts, tmp_path, refusal):
    path = write_parquet(tmp_path, columns)
    sentence = refusal(lambda: read(path, target="y"))
    for part in [str(path), *parts]:
        assert part in sentence


@pytest.mark.parametrize("content", [b"", b"PAR1", b"a,b\n1,2\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(content, tmp_path, refusal):
    path = tmp_path / "data.parquet"
    path.write_bytes(content)
    sentence = refusal(lambda: read(path, target="y"))
    assert str(path) in sentence
    assert "no parquet file" in sentence


def test_a_file_that_makes_polars_panic_is_refused_in_silence(tmp_path, monkeypatch, refusal, capfd):
    # No small file panics in every version of polars, so a panicking child stands in for one.
    panic = [sys.executable, "-c", "import os; os.write(2, b'thread panicked at x.rs'); os.abort()"]
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run(panic, **options))
    path = write_parquet(tmp_path, FRAME)
    assert "damaged" in refusal(lambda: read(path, target="kind"))
    assert capfd.readouterr() == ("", "")
