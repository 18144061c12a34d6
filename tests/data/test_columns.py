"""Columns of tables: what each is taken for, how it is encoded, and what the training part alone decides."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.tree import DecisionTreeClassifier

from jaxmlp.data import Columns, from_frame, prepare, read, split
from jaxmlp.data.columns import MOST_CATEGORIES

REASONS = {
    "constant": [1.5] * 40,
    "empty": [None] * 40,
    "names": [f"n{i}" for i in range(40)],
    "index": list(range(40)),
}
CELLS = {
    "float": st.floats(allow_nan=True, allow_infinity=False),
    "few floats": st.sampled_from([0.0, -1e300, 1e300, 5e-324, 2.5, np.nan]),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "text": st.text(max_size=3),
    "category": st.sampled_from(["a", "b", "ü", "a,b", "*", "NA"]),
    "text of numbers": st.integers(-9, 99).map(str),
    "yes": st.sampled_from(["yes", "No", "TRUE", ""]),
    "date": st.dates(),
    "datetime": st.datetimes(),
    "time": st.times(),
    "duration": st.timedeltas(timedelta(-10000), timedelta(10000)),
    "text of dates": st.dates(date(1900, 1, 1), date(2100, 1, 1)).map(str),
    "decimal": st.decimals(-1000, 1000, places=2),
    "list": st.lists(st.integers(0, 1), max_size=2),
}


@st.composite
def tables(draw):
    """Return two frames with the same columns in different orders, and cells of the same kinds."""
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=5))
    frames = []
    for n in (draw(st.integers(2, 40)), draw(st.integers(1, 10))):
        columns = {}
        for place, kind in enumerate(kinds):
            cells = draw(st.lists(st.none() | CELLS[kind], min_size=n, max_size=n))
            columns[f"{place} {kind}"] = pl.Series(cells, strict=False)
        frames.append(pl.DataFrame(columns))
    return frames[0], frames[1].select(draw(st.permutations(frames[1].columns)))


@given(tables(), st.sampled_from(["piecewise", "robust", "standard", "minmax", "none"]))
def test_any_table_is_encoded_in_any_order_of_its_columns_and_again_after_json(frames, scaling):
    train, new = frames
    try:
        columns = Columns.fit(train, scaling=scaling)
    except ValueError as error:
        assert str(error).startswith("every feature is left out")  # noqa: PT017
        return
    again = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    assert again == columns
    expansion = columns.expansion
    for frame in frames:
        x = columns.encode(frame)
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        turned = frame.select(reversed(frame.columns)).with_columns(other=1)
        assert again.encode(turned).tobytes() == x.tobytes()
        assert max([*expansion.passed, *expansion.bin_column, *expansion.code_column]) < x.shape[1]
        assert "\n" not in columns.surprises(new)
    assert columns.n_inputs == expansion.n_inputs
    assert all(np.isfinite(array).all() for array in expansion)
    assert [row.name for row in columns.describe()] == train.columns


WRITTEN = {  # how polars and pandas write the cells of a frame to a CSV file
    "number": [1.5, -2.0, 1e-9, 4.0, 3e22, 0.1],
    "count": [1, 2, 3, 2**53, 5, -1],
    "truth": [True, False, True, None, True, False],
    "category": ["a", "b", "a", "b", None, "a,b"],
    "day": [date(2020, 1, 1), date(2020, 2, 3), None, date(1999, 12, 31), date(2020, 3, 1), date(2021, 1, 1)],
    "moment": [datetime(2020, 1, 1, 7, 30), datetime(2020, 2, 3), None, *[datetime(1999, 12, 31, 23, 59, 58, 4)] * 3],
    "clock": [time(7, 30), time(0, 0, 1), time(23, 59), None, time(12), time(1, 2, 3, 4)],
    "price": [Decimal("1.25"), Decimal("0.10"), None, Decimal("7.00"), Decimal("8.50"), Decimal("9.75")],
}


@pytest.mark.parametrize("writer", ["polars", "pandas"])
def test_a_frame_and_the_file_that_is_written_of_it_are_encoded_the_same(writer, tmp_path):
    frame = pl.DataFrame(WRITTEN).with_columns(
        pl.col("moment").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo").alias("abroad")
    )
    path = tmp_path / "frame.csv"
    if writer == "polars":
        frame.write_csv(path)
    else:
        pandas = frame.drop("price").to_pandas().assign(price=WRITTEN["price"])  # as objects: no pyarrow is needed
        pandas.to_csv(path, index=False)
    text = read(path, labelled=False).x
    for of_training, new in ((frame, text), (text, frame)):
        columns = Columns.fit(of_training, categories=["category"])
        kinds = {column.name: column.kind for column in columns.describe()}
        dates = dict.fromkeys(["day", "moment", "clock", "abroad"], "date")
        numbers = dict.fromkeys(["number", "count", "price"], "number")
        assert kinds == {**numbers, **dates, "truth": "boolean", "category": "category"}
        assert columns.surprises(new) == ""
        assert columns.encode(new).tobytes() == columns.encode(of_training).tobytes()


@pytest.mark.parametrize("written", [["1", "2", "12"], ["1.0", "2.0", "12.0"], [1, 2, 12], [1.0, 2.0, 12.0]])
def test_whole_numbers_are_the_same_categories_however_they_are_written(written):
    columns = Columns.fit(pl.DataFrame({"a": ["1.0", "2", "12", "1.5", "v1.0"] * 9}), categories=["a"])
    new = pl.DataFrame({"a": written})
    assert columns.surprises(new) == ""
    assert columns.encode(new).tobytes() == columns.encode(pl.DataFrame({"a": ["1.0", "2", "12"]})).tobytes()
    assert columns.columns[0].categories == ("1", "1.5", "12", "2", "v1.0")


def test_an_instant_is_encoded_the_same_in_every_time_zone():
    moments = pl.Series("a", [datetime(2020, month, 28, 5 * month % 24) for month in range(1, 13)])
    zones = [moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) for zone in ("UTC", "Asia/Tokyo")]
    texts = [zones[1].dt.to_string("%Y-%m-%d %H:%M:%S%:z"), zones[0].dt.to_string("%Y-%m-%dT%H:%M:%SZ")]
    mixed = pl.Series("a", [texts[row % 2][row] for row in range(12)])
    first, *others = (series.rename("a").to_frame() for series in (*zones, *texts, mixed, moments))
    columns = Columns.fit(first)
    for frame in others:
        assert columns.encode(frame).tobytes() == columns.encode(first).tobytes()
        assert Columns.fit(frame).columns == columns.columns


@pytest.mark.parametrize(
    ("texts", "days", "details"),
    [
        (["05/01/20", "06/30/20"], [date(2020, 5, 1), date(2020, 6, 30)], "written %m/%d/%y"),
        (["05/01/20", "30/06/20"], [date(2020, 1, 5), date(2020, 6, 30)], "written %d/%m/%y"),
        (["05/01/2020", "30/06/2020"], [date(2020, 1, 5), date(2020, 6, 30)], "written %d/%m/%Y"),
        (["5-Jan-20", "30-Jun-20"], [date(2020, 1, 5), date(2020, 6, 30)], "written %d-%b-%y"),
        (["5 Jan 20", "30 Jun 20"], [date(2020, 1, 5), date(2020, 6, 30)], "written %d %b %y"),
        (["2020/1/5", "2020/06/30"], [date(2020, 1, 5), date(2020, 6, 30)], "written %Y/%m/%d"),
        (["2020-1-5", "2020-06-30"], [date(2020, 1, 5), date(2020, 6, 30)], "month, weekday"),
        (["00:00:05", "12:30"], [time(0, 0, 5), time(12, 30)], "hour"),
        (["2020-01-05 10:00", "2020-06-30"], [datetime(2020, 1, 5, 10), datetime(2020, 6, 30)], "weekday, hour"),
    ],
)
def test_spelled_dates_are_the_days_that_they_mean(texts, days, details):
    spelled, meant = pl.DataFrame({"a": texts * 4}), pl.DataFrame({"a": pl.Series(days * 4)})
    columns = Columns.fit(spelled)
    assert columns.describe()[0].details.endswith(details)
    assert columns.encode(spelled).tobytes() == Columns.fit(meant).encode(meant).tobytes()


def test_numbers_of_a_version_are_no_date():
    assert Columns.fit(pl.DataFrame({"a": ["1.2.3", "1.2.4", "10.2.3"] * 9})).describe()[0].kind == "category"


def test_a_year_of_two_digits_is_no_year_of_the_roman_empire():
    with pytest.raises(ValueError, match="differs in every row"):
        Columns.fit(pl.DataFrame({"a": [f"20-01-{day:02d}" for day in range(1, 31)]}))


def test_numbers_that_float64_cannot_tell_apart_are_left_out():
    far = 2**63
    frame = pl.DataFrame({"a": pl.Series([far + row for row in range(40)], dtype=pl.UInt64), "b": range(0, 80, 2)})
    for cells in (frame, frame.cast(pl.String)):
        columns = Columns.fit(cells)
        assert columns.notes == ("left out: 'a' (equal numbers in float64)",)


def test_numbers_among_which_one_text_stands_often_get_a_hint():
    cells = [f"{row}.5" if row % 5 else "-" for row in range(100)]
    said = "column 'a': 80 cells are numbers, 20 are not: '-'; if these mean a missing cell, name all such texts"
    frame = pl.DataFrame({"a": cells, "b": np.arange(100) * 1.5})
    assert [note.startswith(said) for note in Columns.fit(frame).notes] == [True]
    assert Columns.fit(frame, categories=["a"]).notes == ()
    assert Columns.fit(frame, missing=["-"]).describe()[0].kind == "number"
    codes = pl.DataFrame({"a": [str(row % 4) if row % 5 else "X" for row in range(100)]})
    assert Columns.fit(codes).notes == ()
    numbered = frame.with_columns(id=pl.Series(range(100)).cast(pl.String)).drop("a")
    assert Columns.fit(numbered).notes == ("left out: 'id' (counts the rows)",)


@given(st.data())
def test_the_training_part_alone_decides_the_encoding(data):
    n = 40
    kinds = ["float", "category", "date", "boolean"]
    draw = {kind: st.lists(st.none() | CELLS[kind], min_size=n, max_size=n) for kind in kinds}
    before, after = (pl.DataFrame({kind: pl.Series(data.draw(draw[kind])) for kind in kinds}) for _ in range(2))
    source = from_frame(before.with_columns(a=pl.Series(range(n)) % 7, t=np.arange(n) / 7), target="t")
    prepared = prepare(source, seed=1)
    held_out = np.setdiff1d(np.arange(n), split(source, seed=1).train.rows)
    mixed = source.x.to_dict(as_series=False)
    for kind in kinds:
        for row in held_out:
            mixed[kind][row] = after[kind][int(row)]
    changed = pl.DataFrame(mixed, schema=source.x.schema).with_columns(t=source.t)
    other = from_frame(changed, target="t")
    assert prepare(other, seed=1).encoding.to_json() == prepared.encoding.to_json()


@pytest.mark.parametrize(("name", "cells"), REASONS.items(), ids=REASONS)
def test_what_cannot_help_or_leaks_is_left_out_and_named(name, cells):
    columns = Columns.fit(pl.DataFrame({name: cells, "x": np.arange(40) % 7}))
    assert columns.names == ("x",)
    assert columns.notes[0].startswith(f"left out: '{name}' (")


def test_a_column_that_is_left_out_is_taken_back_if_it_is_asked_for():
    frame = pl.DataFrame(
        {"index": range(40), "name": [f"n{i // 5 if i < 10 else i}" for i in range(40)], "x": [1] * 40}
    )
    assert Columns.fit(frame, numbers=["index", "x"], categories=["name"]).names == ("index", "name", "x")


def test_holes_in_a_column_of_one_value_may_tell_something():
    assert Columns.fit(pl.DataFrame({"a": [None, "x"] * 20})).names == ("a",)


@pytest.mark.parametrize(
    "name", ["", "Unnamed: 0", "__index_level_0__", "index", "rownames", "row.names", "X", "...1", "id"]
)
def test_a_column_that_counts_rows_is_no_feature_even_in_a_shuffled_part(name):
    rows = np.random.default_rng(0).permutation(1000)[:400] + 1
    for counted in (rows, rows.astype(float), rows.astype(str)):
        assert Columns.fit(pl.DataFrame({name: counted, "x": rows % 5})).names == ("x",)
    assert Columns.fit(pl.DataFrame({name: rows, "x": rows % 5}), numbers=[name]).names == (name, "x")
    assert Columns.fit(pl.DataFrame({name: rows / 7, "x": rows % 5})).names == (name, "x")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__", "rownames", "...1"])
def test_the_index_of_a_sample_of_rows_is_no_feature(name):
    rows = np.random.default_rng(0).choice(10**6, 100, replace=False)
    assert Columns.fit(pl.DataFrame({name: rows, "x": rows % 5})).names == ("x",)


def test_noise_in_a_sorted_file_scores_chance_though_a_column_counts_its_rows():
    rng, n = np.random.default_rng(0), 2000
    noise = {"noise": rng.normal(size=n), "word": rng.choice(["a", "b"], n), "y": np.arange(n) < n // 2}
    source = from_frame(pl.DataFrame({"": np.arange(n), **noise})[rng.permutation(n)], target="y")

    def right(**options):
        train, _, test, _ = prepare(source, **options)
        return (
            DecisionTreeClassifier(max_depth=3, random_state=0).fit(train.x, train.t).predict(test.x) == test.t
        ).sum()

    low, high = binom(n // 5, 0.5).ppf([1e-4, 1 - 1e-4])
    assert low <= right() <= high
    assert right(numbers=[""]) > 0.99 * n // 5


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2, 3, 4], "number"),
        (["1", " 2.5", "-3e2", None], "number"),
        ([Decimal("1.5"), Decimal("2.5"), None, None], "number"),
        ([timedelta(1), timedelta(2), None, timedelta(0)], "number"),
        (["a", "b", "a", "a"], "category"),
        ([True, False, None, True], "boolean"),
        (["yes", "NO", "no", ""], "boolean"),
        (["True", "false", "NA", "True"], "boolean"),
        ([date(2020, 1, 1), date(2021, 5, 1), None, date(2022, 1, 1)], "date"),
        ([datetime(2020, 1, 1, 3), datetime(2020, 1, 1, 5), None, None], "date"),
        ([time(3), time(5), None, None], "date"),
        (["2020-01-01", "2021-05-01", "?", "2022-01-01"], "date"),
        (["31.12.2020", "1.5.2021", "", "2.2.2022"], "date"),
        (["2020-01-01T10:00:00Z", "2021-01-01T11:00:00Z", None, None], "date"),
        ([[1], [2], [1], [2]], "left out"),
    ],
)
def test_a_column_is_taken_for_what_its_cells_are(cells, kind):
    frame = pl.DataFrame({"a": cells, "x": [1, 2, 3, 3]})
    assert Columns.fit(frame).describe()[0].kind == kind


def test_categoricals_of_numbers_are_categories():
    frame = pl.DataFrame({"a": pl.Series(["1", "2", "1", "2"], dtype=pl.Categorical), "b": pl.Series(["1", "2"] * 2)})
    frame = frame.with_columns(c=pl.col("b").cast(pl.Enum(["1", "2"])))
    assert [row.kind for row in Columns.fit(frame).describe()] == ["category", "number", "category"]


def test_a_few_odd_cells_among_numbers_are_missing_and_named():
    cells = [*map(str, range(100)), "abc", "12a"]
    columns = Columns.fit(pl.DataFrame({"a": cells}))
    assert columns.columns[0].missing
    for part in ("2 cells are no number", "'abc'", "'12a'"):
        assert part in columns.notes[0]
    assert columns.encode(pl.DataFrame({"a": ["5", "??", None]}))[:, 1].tolist() == [0, 1, 1]
    assert "unreadable cells: 1" in columns.surprises(pl.DataFrame({"a": ["5", "??", None]}))


def test_unix_seconds_stay_distinct():
    seconds = 1_700_000_000 + np.random.default_rng(0).permutation(100)
    frame = pl.DataFrame({"at": seconds, "text": seconds.astype(str), "t": seconds + 0.5})
    source = from_frame(frame, target="t")
    train, _, _, encoding = prepare(source)
    for column in range(train.x.shape[1]):
        assert len(np.unique(train.x[:, column])) == 80
    assert np.allclose(
        np.sort(encoding.targets.inverse(encoding.encode(source.x, source.t).t)), np.sort(source.t), atol=1e-4, rtol=0
    )


def test_rare_and_unseen_categories_share_a_code_and_are_counted():
    rare, holes = ["x"] * 50 + ["y"] * 20 + ["z"], ["x", "y"] * 35 + [None]
    columns = Columns.fit(pl.DataFrame({"a": rare, "b": holes, "c": [*rare[:-9], *[None] * 8, "z"]}))
    new = pl.DataFrame({"c": ["z", "w", None], "b": ["x", "w", None], "a": ["z", "w", None]})
    assert columns.encode(new).tolist() == [[2, 0, 2], [2, -1, 2], [-1, 2, 3]]
    assert columns.surprises(new) == (
        "unlike in training: 'a' (missing cells: 1, rare or unseen categories: 2), 'b' (unseen categories: 1), "
        "'c' (rare or unseen categories: 2)"
    )


def test_many_categories_are_bounded():
    names = [f"c{i}" for i in range(300) for _ in range(6 + (i < 150))]
    (column,) = Columns.fit(pl.DataFrame({"a": names})).columns
    assert len(column.categories) == MOST_CATEGORIES
    assert {f"c{i}" for i in range(150)} <= set(column.categories)
    saved = Columns.fit(pl.DataFrame({"a": names})).to_json()
    saved["columns"][0]["categories"] = names[::6]
    with pytest.raises(ValueError, match="1 to 200"):
        Columns.from_json(saved)


REFUSED = {
    "text in numbers": ({"numbers": ["kind"]}, ["'kind'", "'a'", "expected a number", "--numbers"]),
    "unknown number": ({"numbers": ["kid"]}, ["unknown column 'kid'", "did you mean 'kind'?"]),
    "named twice": ({"numbers": ["x"], "categories": ["x"]}, ["'x'", "twice"]),
    "scaling": ({"scaling": "robst"}, ["'robst'", "did you mean 'robust'?"]),
}


@pytest.mark.parametrize(("options", "parts"), REFUSED.values(), ids=REFUSED)
def test_wrong_options_are_refused_with_the_next_step(options, parts, refusal):
    frame = pl.DataFrame({"kind": ["a", "b"] * 10, "x": range(20)})
    sentence = refusal(lambda: Columns.fit(frame, **options))
    for part in parts:
        assert part in sentence


def test_a_table_with_nothing_to_learn_from_says_why(refusal):
    sentence = refusal(lambda: Columns.fit(pl.DataFrame({"a": [1] * 9, "index": range(9)})))
    assert sentence == (
        "every feature is left out: 'a' (constant), 'index' (counts the rows); "
        "take one back with --numbers or --categories"
    )


def test_infinite_numbers_are_refused_with_row_and_column(refusal):
    frame = pl.DataFrame({"a": [1.0, 2.0, np.inf, 3.0], "t": [0, 1, 0, 1]})
    assert "row 2, column 'a': 'inf', expected a finite number" in refusal(lambda: from_frame(frame, target="t"))
    columns = Columns.fit(frame[:2])
    assert "column 'a': inf in row 2" in refusal(lambda: columns.encode(frame))


def test_a_column_without_values_is_left_out_for_that_reason():
    columns = Columns.fit(pl.DataFrame({"a": ["NA", ""] * 10, "b": pl.Series([None] * 20), "c": range(20)}))
    assert columns.notes == ("left out: 'a' (no cell has a value), 'b' (no cell has a value)",)


def test_an_x_that_counts_is_a_feature_but_the_name_that_r_gives_is_not():
    columns = Columns.fit(pl.DataFrame({"x": range(20), "X": range(20)}))
    assert columns.names == ("x",)
    assert columns.notes == ("left out: 'X' (counts the rows)",)
