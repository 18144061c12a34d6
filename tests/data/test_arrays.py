"""Arrays from users: anything that holds numbers trains like its NumPy copy; the rest is refused in one line."""

import datetime
import tempfile
import tracemalloc
from decimal import Decimal
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmlp import MLP, Dataset, Network, TrainConfig, init, load, save, train
from jaxmlp.data import Encoding, Scaling
from jaxmlp.data.arrays import as_array, as_inputs
from jaxmlp.influence import suspects, tangent_kernel


def package(name):
    return pytest.importorskip(name)


def memory_map(array):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, shape=array.shape)
    mapped[:] = array
    return mapped


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    padded = np.zeros(len(array), [("pad", "i1"), ("array", array.dtype, array.shape[1:])])
    padded["array"] = array
    return padded["array"]


def nullable(array):
    kind = {"b": "boolean", "i": "Int64", "u": "UInt32", "f": "Float64"}[array.dtype.kind]
    return pandas_shuffled(array).astype(kind)


def pandas_shuffled(array):
    """Label the rows in another order than they are in, as `train_test_split` leaves them."""
    pd = package("pandas")
    kind = pd.Series if array.ndim == 1 else pd.DataFrame
    return kind(array.tolist(), index=np.arange(len(array))[::-1] + 3)


def arrow(array):
    pa = package("pyarrow")
    if array.ndim == 1:
        return pa.chunked_array([array[:3].tolist(), array[3:].tolist()])
    return pa.table({str(i): column.tolist() for i, column in enumerate(array.T)})


def arrow_backed(array):
    pd, pa = package("pandas"), package("pyarrow")
    kind = pd.ArrowDtype({"b": pa.bool_(), "i": pa.int64(), "u": pa.int64(), "f": pa.float64()}[array.dtype.kind])
    if array.ndim == 1:
        return pd.Series(array.tolist(), dtype=kind)
    return pd.DataFrame(array.tolist()).astype(kind)


def polars_of(array):
    pl = package("polars")
    return pl.Series(array.tolist()) if array.ndim == 1 else pl.DataFrame(array.tolist(), orient="row")


CONTAINERS = {
    "list": lambda array: array.tolist(),
    "tuple of rows": lambda array: tuple(array),
    "generator": lambda array: (row for row in array.tolist()),
    "map": lambda array: map(np.asarray, array),
    "objects": lambda array: array.astype(object),
    "decimals": lambda array: np.vectorize(lambda entry: Decimal(str(float(entry))), otypes=[object])(array),
    "fractions": lambda array: np.vectorize(Fraction, otypes=[object])(array.astype(float)),
    "masked array": np.ma.masked_array,
    "memory map": memory_map,
    "read-only": read_only,
    "unaligned": unaligned,
    "Fortran order": np.asfortranarray,
    "backwards": lambda array: array[::-1].copy()[::-1],
    "every second": lambda array: np.repeat(array, 2, axis=0)[::2],
    "long double": lambda array: array.astype(np.longdouble),
    "jax": lambda array: jnp.asarray(array.astype(array.dtype.newbyteorder("="))),
    "list of jax": lambda array: [jnp.asarray(row.tolist()) for row in array],
    "pandas": pandas_shuffled,
    "pandas nullable": nullable,
    "pandas categories": lambda array: pandas_shuffled(array).astype("category"),
    "pandas sparse": lambda array: pandas_shuffled(array.astype(float)).astype(package("pandas").SparseDtype(float)),
    "pandas with pyarrow": arrow_backed,
    "polars": polars_of,
    "pyarrow": arrow,
    "torch": lambda array: package("torch").tensor(array.tolist()),
    "torch with gradient": lambda array: package("torch").tensor(array.tolist()).double().requires_grad_(),
    "torch bfloat16": lambda array: package("torch").tensor(array.tolist()).bfloat16(),
}
# Whole numbers from 0 to 2 are the same in every type.
WHOLE = hnp.arrays(np.int64, (6, 2), elements=st.integers(0, 2))
CLASSES = hnp.arrays(np.int64, (6,), elements=st.integers(0, 2))
TYPES = ["<i8", ">i4", "u1", ">u2", "f2", ">f4", "f8", ">f8"]
REAL = ("long double", "decimals", "fractions", "pandas sparse", "torch with gradient", "torch bfloat16")


def trained(x, t):
    config = TrainConfig(epochs=1, batch_size=2)
    return train(MLP((2, 3), "relu"), Dataset(x, t), config, key=jax.random.key(0)).params


@pytest.mark.parametrize("container", CONTAINERS)
@settings(max_examples=8)
@given(x=WHOLE, t=CLASSES, dtype=st.sampled_from(TYPES))
def test_every_container_trains_like_its_numpy_copy(container, x, t, dtype):
    given_x = CONTAINERS[container](x.astype(dtype))
    given_t = t if container in REAL else CONTAINERS[container](t)
    chex.assert_trees_all_equal(trained(given_x, given_t), trained(x.astype(np.float32), t))


@pytest.mark.parametrize("container", CONTAINERS)
@given(t=CLASSES)
@settings(max_examples=5)
def test_every_container_of_real_targets_keeps_its_numbers(container, t):
    taken = Dataset(np.ones((6, 1)), CONTAINERS[container](t + 0.5)).t
    assert taken.shape == (6,)
    assert np.array_equal(np.asarray(taken, float), t + 0.5)


@pytest.mark.parametrize("value", [True, [True, False]], ids=["one", "column"])
def test_booleans_are_inputs(value):
    assert as_inputs("x", np.array([value]).reshape(1, -1)).dtype == bool


def test_a_frame_of_numbers_and_booleans_is_a_frame_of_numbers():
    pd = package("pandas")
    mixed = pd.DataFrame({"a": [1.5, 2.5], "b": [True, False], "c": pd.array([1, 2], "Int64")})
    assert np.array_equal(as_array("x", mixed), [[1.5, 1, 1], [2.5, 0, 2]])


def test_lists_in_a_column_are_rows():
    pl = package("polars")
    assert np.array_equal(as_array("x", pl.Series([[1, 2], [3, 4]])), [[1, 2], [3, 4]])


@given(st.integers(-(2**63), 2**64 - 1))
def test_large_integers_do_not_wrap(number):
    array = as_array("x", [[number]])
    assert jnp.asarray(array).astype(np.float32)[0, 0] == np.float32(number)


def test_plain_arrays_are_not_copied():
    x = np.ones((2, 3), np.float32)
    assert as_array("x", x) is x
    assert np.shares_memory(as_array("x", np.ma.masked_array(x)), x)


def test_integers_beyond_float64_are_refused(refusal):
    assert "range of float64" in refusal(lambda: as_array("x", [10**400]))


NA = "missing values"
REFUSED = {
    "None": (lambda: [[1.0, 2.0], [None, 1.0]], [NA, "None in row 1, column 0:"]),
    "nan among objects": (lambda: np.array([[1, np.nan]], object), ["nan in row 0, column 1"]),
    "masked": (lambda: np.ma.masked_array([[1.0, 2.0]], [[False, True]]), [NA, "row 0, column 1"]),
    "text in a list": (lambda: [[1.0, "a"]], ["text 'a' in row 0, column 1"]),
    "text": (lambda: np.array([["1", "b"]]), ["text '1' in row 0, column 0"]),
    "bytes": (lambda: np.array([[b"1"]]), ["text", "row 0, column 0"]),
    "variable text": (lambda: np.array([["ab"]], np.dtypes.StringDType()), ["text 'ab'"]),
    "a name": (lambda: "iris", ["text 'iris'"]),
    "nothing": (lambda: None, ["got a NoneType"]),
    "dictionary": (lambda: {"a": [1.0]}, ["got a dict"]),
    "set": (lambda: {1.0}, ["got a set"]),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], ["rows of different lengths"]),
    "complex": (lambda: np.ones((1, 1), complex), ["complex128", "real and the imaginary"]),
    "complex objects": (lambda: np.array([[1j]], object), ["complex"]),
    "structured": (lambda: np.zeros(2, [("a", float)]), ["structured_to_unstructured"]),
    "time": (lambda: np.array([["2020-01-01"]], "datetime64[D]"), ["datetime64[D]", "difference to a fixed date"]),
    "duration": (lambda: np.ones((1, 1), "timedelta64[s]"), ["timedelta64[s]", "divide by a unit"]),
    "dates": (lambda: [[datetime.date(2020, 1, 1)]], ["got a date in row 0, column 0"]),
    "keys": (lambda: jax.random.split(jax.random.key(0)), ["key<"]),
    "float8": (lambda: jnp.ones((1, 1), jnp.float8_e4m3fn), ["float8_e4m3fn", "float32 copy"]),
    "scipy": (lambda: package("scipy.sparse").csr_array(np.eye(2)), ["sparse csr_array", "x.toarray()"]),
    "pandas": (
        lambda: package("pandas").DataFrame({"a": [1, 2], "b": ["c", "d"]}),
        ["text 'c' in row 0, column 1 ('b')"],
    ),
    "pandas missing": (
        lambda: package("pandas").DataFrame({"a": [0.5, 1.5], "b": package("pandas").array([1, None], "Int64")}),
        ["in row 1, column 1 ('b'): fill"],  # which NumPy knows as nan, or older pandas as <NA>
    ),
    "pandas nan": (
        lambda: package("pandas").DataFrame({"a": [0.5, None], "b": [1, 2]}),
        ["nan in row 1, column 0 ('a')"],
    ),
    "pandas categories": (lambda: package("pandas").DataFrame({"a": ["u"]}).astype("category"), ["text 'u'", "('a')"]),
    "pandas dates": (
        lambda: package("pandas").DataFrame({"a": [1.5], "b": [package("pandas").Timestamp("2020")]}),
        ["got a Timestamp in row 0, column 1 ('b')", "difference to a fixed date"],
    ),
    "polars": (lambda: package("polars").DataFrame({"a": ["u"], "b": [1]}), ["text 'u' in row 0, column 0 ('a')"]),
    "polars dates": (
        lambda: package("polars").DataFrame({"a": [1.5], "b": [datetime.date(2020, 1, 1)]}),
        ["got Date in column 1 ('b')", "difference to a fixed date"],
    ),
    "polars durations": (
        lambda: package("polars").DataFrame({"a": [datetime.timedelta(1)], "b": [1.5]}),
        ["got Duration", "in column 0 ('a')"],
    ),
    "polars null": (
        lambda: package("polars").DataFrame({"a": [1, None], "b": [1.5, 2.5]}),
        ["nan in row 1, column 0 ('a')"],
    ),
    "polars null booleans": (
        lambda: package("polars").Series([True, None]).to_frame("a"),
        ["None in row 1, column 0 ('a')"],
    ),
    "polars query": (lambda: package("polars").LazyFrame({"a": [1]}), ["LazyFrame", "x.collect()"]),
    "pyarrow": (lambda: package("pyarrow").table({"a": [1, None], "b": [1, 2]}), ["nan in row 1, column 0 ('a')"]),
    "sparse tensor": (lambda: package("torch").eye(2).to_sparse(), ["Tensor", "to_dense"]),
}


@pytest.mark.parametrize(("value", "parts"), REFUSED.values(), ids=REFUSED)
def test_an_entry_that_is_no_number_is_refused_by_row_and_column(value, parts, refusal):
    given_x = value()
    sentence = refusal(lambda: Dataset(given_x, [0, 1]))
    assert sentence.startswith("x must ")
    for part in parts:
        assert part in sentence


SAME = Scaling([0.0], [1.0])
NAMED = Encoding(2, ("age", "height"), ("a", "b"), inputs=Scaling([1.0, 2.0], [1.0, 0.5]), targets=None)
UNNAMED = Encoding(2, (), ("a", "b"), inputs=SAME, targets=None)
NETWORK = MLP((2, 2))


def model(tmp_path, encoding):
    save(tmp_path / "model", Network(NETWORK, init(NETWORK, jax.random.key(0))), encoding=encoding)
    return load(tmp_path / "model")


DOORS = {
    "Dataset": lambda x, path: Dataset(x, [0]),
    "Encoding.encode_inputs": lambda x, path: NAMED.encode_inputs(x),
    "Encoding.encode": lambda x, path: NAMED.encode(x, [0], ("a", "b")),
    "Scaling": lambda x, path: SAME(x),
    "Scaling.fit": lambda x, path: Scaling.fit(x, "standard"),
    "Model.predict": lambda x, path: model(path, NAMED).predict(x),
    "Model.predict without encoding": lambda x, path: model(path, None).predict(x),
    "tangent_kernel": lambda x, path: tangent_kernel(NETWORK, init(NETWORK, jax.random.key(0)), x),
    "suspects": lambda x, path: suspects(x, [0]),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_public_function_accepts_and_refuses_the_same_arrays(door, tmp_path, refusal):
    scipy_sparse = package("scipy.sparse")
    for taken in ([[0.5, 0.25]], np.array([[0.5, 0.25]], ">f8"), iter([[0.5, 0.25]])):
        DOORS[door](taken, tmp_path)
    for refused in (scipy_sparse.csr_array([[0.5, 0.25]]), [["a", "b"]], [[None, 1.0]], np.array([[1j, 2]])):
        sentence = refusal(lambda refused=refused: DOORS[door](refused, tmp_path))
        assert " must " in sentence


def test_a_pandas_table_split_by_scikit_learn_trains_like_its_numpy_copy():
    package("pandas")
    datasets, selection = package("sklearn.datasets"), package("sklearn.model_selection")
    x, t = datasets.load_iris(as_frame=True, return_X_y=True)
    for seed in range(3):
        x_drawn, _, t_drawn, _ = selection.train_test_split(x, t, random_state=seed)
        config = TrainConfig(epochs=1)
        key = jax.random.key(0)
        ours = train(MLP((4, 3)), Dataset(x_drawn, t_drawn), config, key=key)
        copy = train(MLP((4, 3)), Dataset(x_drawn.to_numpy(np.float32), t_drawn.to_numpy()), config, key=key)
        chex.assert_trees_all_equal(ours.params, copy.params)


LIBRARIES = {
    "pandas": lambda columns: package("pandas").DataFrame(columns),
    "polars": lambda columns: package("polars").DataFrame(columns),
    "pyarrow": lambda columns: package("pyarrow").table(columns),
}
AGES, HEIGHTS = [1.0, 2.0, 3.0], [4.0, 6.0, 8.0]


@pytest.mark.parametrize("library", LIBRARIES)
@given(order=st.permutations(["age", "height", "*", "^.*$"]))
@settings(max_examples=10)
def test_a_model_takes_the_columns_of_a_frame_by_name_and_ignores_others(library, order):
    columns = {"age": AGES, "height": HEIGHTS, "*": ["x", "y", "z"], "^.*$": [None, None, None]}
    made = LIBRARIES[library]({name: columns[name] for name in order})
    assert np.array_equal(NAMED.encode_inputs(made), [[0, 1], [1, 2], [2, 3]])
    assert np.array_equal(NAMED.encode(made, [0, 1, 1], ("a", "b")).x, [[0, 1], [1, 2], [2, 3]])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_without_feature_names_takes_columns_by_position(library):
    assert np.array_equal(UNNAMED.encode_inputs(LIBRARIES[library]({"b": AGES, "a": HEIGHTS})).T, [AGES, HEIGHTS])


@pytest.mark.parametrize("library", LIBRARIES)
def test_predictions_do_not_depend_on_the_order_of_columns(library, tmp_path):
    loaded = model(tmp_path, NAMED)
    expected = loaded.predict(np.array([AGES, HEIGHTS]).T)
    made = LIBRARIES[library]({"height": HEIGHTS, "name": ["x", "y", "z"], "age": AGES})
    assert np.array_equal(loaded.predict(made), expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_feature_is_answered_with_the_nearest_column(library, refusal):
    made = LIBRARIES[library]({"Height": HEIGHTS, "age": AGES, "length": AGES})
    sentence = refusal(lambda: NAMED.encode_inputs(made))
    assert sentence == "x: feature 'height' is missing; the nearest column is 'Height'"


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_error_names_the_column_of_text_or_of_a_missing_value(library, tmp_path, refusal):
    made = LIBRARIES[library]({"height": HEIGHTS, "age": ["one", "2", "3"]})
    assert "text 'one' in row 0, column 0 ('age')" in refusal(lambda: model(tmp_path, NAMED).predict(made))
    made = LIBRARIES[library]({"height": [1.0, None, 2.0], "age": AGES})
    assert "nan in row 1, column 1 ('height')" in refusal(lambda: model(tmp_path, NAMED).predict(made))


def test_two_columns_of_one_name_are_refused(refusal):
    made = package("pandas").DataFrame([[1.0, 2.0, 3.0]], columns=["age", "height", "age"])
    assert "distinct columns, got two named 'age'" in refusal(lambda: NAMED.encode_inputs(made))


@pytest.mark.parametrize("encoding", [NAMED, UNNAMED, None], ids=["named", "unnamed", "none"])
def test_the_error_for_a_single_example_says_how_to_make_a_batch(encoding, tmp_path, refusal):
    loaded = model(tmp_path, encoding)
    sentence = refusal(lambda: loaded.predict(np.array([1.0, 2.0])))
    assert sentence == "x must be [N, 2], 2 features for each example, got shape (2,): a single example is [x]"
    assert loaded.predict([np.array([1.0, 2.0])]).shape == (1, 2)
    assert "got shape (1, 3)" in refusal(lambda: loaded.predict(np.ones((1, 3))))
    assert loaded.predict(np.ones((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("encoding", [NAMED, UNNAMED, None], ids=["named", "unnamed", "none"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_every_model_names_the_place_of_a_number_that_is_not_finite(encoding, number, tmp_path, refusal):
    sentence = refusal(lambda: model(tmp_path, encoding).predict([[1.0, 2.0], [3.0, number]]))
    assert f"x must be finite, got {number} in row 1, column 1" in sentence


def test_the_error_for_another_rank_says_how_to_reshape(refusal):
    one = Encoding(1, (), ("a", "b"), inputs=SAME, targets=None)
    assert "try x.reshape(3, -1)" in refusal(lambda: one.encode_inputs(np.ones(3)))
    assert "try x.reshape(5, -1)" in refusal(lambda: Dataset(np.ones((5, 2, 2)), np.arange(5)))


def test_a_large_array_is_checked_without_a_copy():
    x = np.zeros((1000, 1000))
    tracemalloc.start()
    try:
        Dataset(x, np.zeros(1000, int))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 8
