"""CSV files: separators and decimal commas are recognised, and a gzip file that is cut is refused."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp.data import read


def cells_of(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = read(path, labelled=False, **options)
    return {name: source.x.get_column(name).to_list() for name in source.x.columns}


EXPECTED = {"a": ["1", "2"], "b": ["x", "y"]}


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".csv.gz", ".Csv.Gz", ".tsv", ".TSV", ".tsv.gz"])
def test_the_ending_says_how_a_table_is_stored(ending, tmp_path):
    content = b"a\tb\n1\tx\n2\ty\n" if "tsv" in ending.lower() else b"a,b\n1,x\n2,y\n"
    is_gzip = ending.lower().endswith(".gz")
    assert cells_of(tmp_path / f"v1.2{ending}", gzip.compress(content) if is_gzip else content) == EXPECTED


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@given(rows=st.lists(st.tuples(*[st.text("abc,;|\t\n'\"", min_size=1, max_size=5).map(str.strip)] * 3), min_size=1))
def test_the_separator_is_recognised_whatever_quoted_cells_hold(separator, rows, tmp_path_factory):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *rows])
    found = cells_of(tmp_path_factory.getbasetemp() / "quoted.csv", file.getvalue())
    assert [[cell or "" for cell in row] for row in zip(*found.values(), strict=True)] == [list(row) for row in rows]


@given(
    rows=st.lists(st.sampled_from(["1,2", "3,", ",", '"",""', ""]), min_size=1, max_size=6).filter(any),
    feed=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
)
def test_a_blank_line_is_no_row_and_a_row_of_missing_cells_is_one(rows, feed, ends, tmp_path_factory):
    content = feed.join(["a,b", *rows]) + feed * ends
    found = cells_of(tmp_path_factory.getbasetemp() / "rows.csv", content, separator=",")
    expected = [fields for fields in csv.reader(io.StringIO(content, newline="")) if fields][1:]
    assert [[cell or "" for cell in row] for row in zip(*found.values(), strict=True)] == expected


def test_empty_columns_without_a_name_are_left_out(tmp_path, refusal):
    path = tmp_path / "sheet.csv"
    assert cells_of(path, "a,b,,\n1,x,,\n2,y,,\n") == EXPECTED
    assert cells_of(path, ",a,,b\n7,1,,x\n8,2,,y\n") == {"": ["7", "8"], **EXPECTED}
    path.write_text(",a,,b\n7,1,,x\n8,2,0,y\n")
    assert "row 1: two columns without a name" in refusal(lambda: read(path, target="b"))


def test_other_separators_inside_of_cells_do_not_mislead(tmp_path):
    assert cells_of(tmp_path / "a.csv", "a,b\n1;2;3,x\n4;5,y\n") == {"a": ["1;2;3", "4;5"], "b": ["x", "y"]}
    assert cells_of(tmp_path / "a.csv", "time of day\n1 pm; rain\n2 pm\n") == {"time of day": ["1 pm; rain", "2 pm"]}


def test_a_separator_may_be_given(tmp_path, refusal):
    path = tmp_path / "a.csv"
    for separator in (" ", "#", ":"):
        assert cells_of(path, f"a{separator}b\n1{separator}x\n2{separator}y\n", separator=separator) == EXPECTED
    assert cells_of(path, "a\tb\n1\tx\n2\ty\n", separator="tab") == EXPECTED
    for unknown in ("", "::", "a", '"', "\n", "·"):
        sentence = refusal(lambda unknown=unknown: read(path, separator=unknown, labelled=False))
        assert "unknown separator" in sentence
        assert "the word tab" in sentence
    path.write_text("a b\n1 x\n2 y\n")
    assert refusal(lambda: read(path, target="a b")).endswith("name what separates the cells with --separator")


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        ("a;b\n1,5;x\n-2,25;y\n", ["1.5", "-2.25"]),
        ("a;b\n1.234,5;x\nNA;y\n", ["1234.5", "NA"]),
        ("a;b\n1,234;x\n2;y\n", ["1.234", "2"]),
        ("a\tb\n1,5\tx\n1,234\ty\n", ["1.5", "1.234"]),
        ("a\tb\n1,234\tx\n2,345\ty\n", ["1,234", "2,345"]),
        ("a;b\n1.5;x\n1.25;y\n", ["1.5", "1.25"]),
        ("a;b\n1.234;x\n2.345;y\n", ["1.234", "2.345"]),
        ("a;b\n1,5e3;x\n,5;y\n", ["1.5e3", ".5"]),
        ("a;b\n3,4 or 5;x\n1,2 or 3;y\n", ["3,4 or 5", "1,2 or 3"]),
    ],
)
def test_commas_are_decimal_where_they_do_not_separate(content, numbers, tmp_path):
    assert cells_of(tmp_path / "a.csv", content) == {"a": numbers, "b": ["x", "y"]}


def test_a_gzip_file_that_is_cut_is_refused_with_the_next_step(tmp_path, refusal):
    path = tmp_path / "a.csv.gz"
    zipped = gzip.compress(b"a,b\n" + b"1,x\n" * 1000)
    for content in (zipped[:-9], zipped[:5], b"a,b\n1,x\n", zipped[:-8] + bytes(8)):
        path.write_bytes(content)
        sentence = refusal(lambda: read(path, target="b"))
        assert "damaged or truncated gzip" in sentence
        assert "download the file again" in sentence


def test_a_separator_for_a_parquet_file_is_refused(tmp_path, refusal):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert "has no separator" in refusal(lambda: read(tmp_path / "a.parquet", target="b", separator=";"))
