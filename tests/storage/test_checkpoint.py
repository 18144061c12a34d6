"""Models and checkpoints on disk: what is saved comes back to the last bit, and what is not ours is refused."""

import json
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlp import MLP, Dataset, Model, Network, TrainConfig, evaluate, init, load, networks, predict, save, train
from jaxmlp.data import Encoding, Scaling, from_frame, prepare, read
from jaxmlp.storage.checkpoint import load_training, save_training

MLP_TANH = MLP((4, 5, 3), "tanh")


@pytest.fixture(scope="module")
def iris():
    return prepare(read("iris"))


def saved_model(path, mlp=MLP_TANH, **more):
    save(path, Network(mlp, init(mlp, jax.random.key(0))), **more)
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_comes_back_to_the_last_bit(tmp_path, iris, dtype):
    params = init(MLP_TANH, jax.random.key(0), dtype=dtype)
    save(tmp_path / "model", Network(MLP_TANH, params), encoding=iris.encoding, about={"source": "iris"})
    model = load(tmp_path / "model")
    (network,) = model.networks
    assert network.mlp == MLP_TANH
    assert model.about == {"source": "iris"}
    assert model.encoding.to_json() == iris.encoding.to_json()
    chex.assert_trees_all_equal(network.params, params, strict=True)


def test_a_model_of_a_table_comes_back_and_finds_columns_by_name_but_takes_no_array(tmp_path):
    ages, cities = np.arange(60) % 7, np.array(["Bonn", "Rome", "Oslo"])[np.arange(60) % 3]
    frame = pl.DataFrame({"age": ages, "city": cities, "day": ages, "sold": ages * 1e9})
    frame = frame.with_columns(pl.col("day").cast(pl.Date), pl.when(pl.col("age") > 0).then("age").alias("age"))
    encoding = prepare(from_frame(frame, target="sold")).encoding
    mlp = MLP((encoding.n_inputs, 4, 1), output="identity", loss="quadratic")
    saved = Model((Network(mlp, init(mlp, jax.random.key(0))),), encoding, {})
    save(tmp_path / "model", saved.networks, encoding=encoding)
    y = load(tmp_path / "model").predict(frame[:, ::-1])
    assert y.dtype == np.float64
    assert y.tobytes() == saved.predict(frame.to_pandas()).tobytes()
    with pytest.raises(ValueError, match="x must be a table with named columns, got a ndarray: give a frame"):
        saved.predict(np.ones((2, 3)))


def test_equal_models_have_equal_bytes(tmp_path, iris):
    files = [saved_model(tmp_path / name, encoding=iris.encoding) for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_weights_are_saved_by_name_as_out_by_in(tmp_path):
    path = saved_model(tmp_path / "model")
    tensors = safetensors.numpy.load_file(path)
    assert {name: array.shape for name, array in tensors.items()} == {
        "layers.0.w": (5, 4),
        "layers.0.b": (5,),
        "layers.1.w": (3, 5),
        "layers.1.b": (3,),
    }
    np.testing.assert_array_equal(tensors["layers.0.w"], init(MLP_TANH, jax.random.key(0))[0].w)


def test_an_array_in_another_memory_order_is_saved_right(tmp_path):
    params = init(MLP_TANH, jax.random.key(0))
    by_columns = jax.tree.map(lambda array: np.asfortranarray(array), params)
    save(tmp_path / "model", Network(MLP_TANH, by_columns))
    chex.assert_trees_all_equal(load(tmp_path / "model").networks[0].params, params)


def test_a_saved_model_scales_raw_inputs(tmp_path, iris):
    raw = read("iris").x
    model = load(saved_model(tmp_path / "model", encoding=iris.encoding))
    y = jax.vmap(lambda x: predict(*model.networks[0], x))(iris.encoding.encode_inputs(raw))
    # Compiled in one piece or not, sums of at most five terms differ by rounding alone.
    np.testing.assert_allclose(model.predict(raw), y, rtol=1e-6)


@pytest.mark.parametrize("scaled", [True, False], ids=["with a scaling", "without"])
def test_a_raw_input_beyond_float32_is_named_by_row_and_column(tmp_path, iris, scaled):
    raw = read("iris").x.astype(float)
    raw[7, 3] = 1e300
    model = load(saved_model(tmp_path / "model", encoding=iris.encoding if scaled else None))
    with pytest.raises(ValueError, match=r"^x must be finite.* in row 7, column 3"):
        model.predict(raw)


def test_predictions_of_real_values_are_in_their_own_units(tmp_path):
    source = read("diabetes")
    diabetes = prepare(source)
    mlp = MLP((10, 16, 1), "relu", "identity", "quadratic")
    trained = train(mlp, diabetes.train, key=jax.random.key(0))
    save(tmp_path / "model", Network(mlp, trained.params), encoding=diabetes.encoding)
    errors = load(tmp_path / "model").predict(source.x)[:, 0] - source.t
    # In scaled units, or with inputs scaled twice, errors would be near the mean of 152.
    assert np.sqrt(np.mean(errors**2)) < source.t.std()


def test_training_goes_on_from_a_checkpoint_file_bit_for_bit(tmp_path, iris):
    mlp, key = MLP((4, 8, 3)), jax.random.key(1)
    track = ("norms", "noise_scale", "variance", "diversity", "clipped")
    config = TrainConfig(epochs=12, patience=3, learning_rate=0.3, clip=0.5, track=track)
    seen = []
    whole = train(mlp, iris.train, config, key=key, validation=iris.test, callback=seen.append)
    for trained in seen[:-1]:
        save_training(tmp_path / "checkpoint", trained)
        resumed = load_training(tmp_path / "checkpoint", mlp)
        chex.assert_trees_all_equal(resumed, trained)
        rest = train(mlp, iris.train, config, key=key, validation=iris.test, resume=resumed)
        chex.assert_trees_all_equal(rest._replace(history=()), whole._replace(history=()))
        assert [row._replace(seconds=0) for row in rest.history] == [row._replace(seconds=0) for row in whole.history]


def test_a_checkpoint_holds_the_best_parameters_too(tmp_path):
    data = Dataset(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
    wrong = Dataset(data.x, 1 - data.t)  # the test loss only rises: the first epoch stays the best
    trained = train(
        MLP((4, 2)), data, TrainConfig(epochs=9, batch_size=4, patience=8), key=jax.random.key(0), validation=wrong
    )
    assert trained.best_epoch == 1
    save_training(tmp_path / "checkpoint", trained)
    chex.assert_trees_all_equal(load_training(tmp_path / "checkpoint", MLP((4, 2))), trained)


@pytest.mark.parametrize("params", [init(MLP((4, 3)), jax.random.key(0)), None, "params"])
def test_parameters_of_another_network_are_not_saved(tmp_path, params):
    with pytest.raises(ValueError, match=r"^params must (fit sizes \(4, 5, 3\)|be a tuple of Layer)"):
        save(tmp_path / "model", Network(MLP_TANH, params))
    assert not list(tmp_path.iterdir())


def test_notes_that_are_not_json_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"model: cannot be written as JSON: .*array"):
        saved_model(tmp_path / "model", about={"rate": np.ones(2)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sizes", "more", "sentence"),
    [
        ((3, 3), {"with_encoding": True}, "the encoding has 4 features, but the network takes 3"),
        ((4, 1), {"with_encoding": True}, "3 classes, but the network has 1 outputs"),
        ((4, 3), {"encoding": {}}, "encoding must be an Encoding, as data.prepare returns, got dict"),
        ((4, 3), {"about": "trained on Monday"}, "about must be a dict of JSON values, got 'trained on Monday'"),
        ((4, 3), {"about": {"target": 3}}, "target must be of type str, got 3"),
    ],
)
def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path, iris, sizes, more, sentence):
    more = {"encoding": iris.encoding} if "with_encoding" in more else more
    output = {"output": "sigmoid", "loss": "binary_cross_entropy"} if sizes[-1] == 1 else {}
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        saved_model(tmp_path / "model", MLP(sizes, **output), **more)
    assert not list(tmp_path.iterdir())


def test_the_error_for_a_folder_names_the_model_in_it(tmp_path):
    with pytest.raises(ValueError, match=r"a folder, expected a file such as .*model\.safetensors$"):
        load(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    data = Dataset(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
    trained = train(MLP((4, 2)), data, TrainConfig(epochs=1, batch_size=4), key=jax.random.key(0))
    save_training(tmp_path / "checkpoint", trained)
    with pytest.raises(ValueError, match=r"a damaged checkpoint: last\.0 has shapes"):
        load_training(tmp_path / "checkpoint", MLP((4, 3)))
    for change, sentence in (
        ({"status": "done"}, "status 'done' and best epoch 1 after 1 epochs"),
        ({"best_epoch": 2}, "status 'finished' and best epoch 2 after 1 epochs"),
        ({"best_epoch": 0}, "'best.0.w' is missing"),
        ({"history": [["1"]]}, "an epoch must be numbers"),
    ):
        save_training(tmp_path / "checkpoint", trained)
        with_header(tmp_path / "checkpoint", lambda header, change=change: header | change)
        with pytest.raises(ValueError, match=f"a damaged checkpoint: {sentence}"):
            load_training(tmp_path / "checkpoint", MLP((4, 2)))


def test_a_missing_model_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(tmp_path / "model")


def with_header(path, change):
    """Rewrite a model's metadata."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    metadata = header["__metadata__"]
    metadata["jaxmlp"] = json.dumps(change(json.loads(metadata["jaxmlp"])))
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def with_network(header, **changes):
    return header | {"networks": [header["networks"][0] | changes]}


OF_TWO_CLASSES = Encoding(4, (), ("a", "b"), inputs=Scaling([0.0], [1.0]), targets=None)
CHANGES = {
    "a newer version": (lambda header: header | {"version": 2}, "expected 1"),
    "no version": (lambda header: {}, "not a model saved by jaxmlp"),
    "no object": (lambda header: [1], "not a model saved by jaxmlp"),
    "other sizes": (lambda header: with_network(header, sizes=[4, 6, 3]), "expected sizes"),
    "more layers": (
        lambda header: with_network(header, sizes=[4, 5, 3, 2]),
        "'layers.2.w' is missing",
    ),
    "an unknown activation": (
        lambda header: with_network(header, activation="rellu"),
        "did you mean 'relu'",
    ),
    "an unknown option": (lambda header: with_network(header, depth=3), "depth"),
    "no network": (lambda header: header | {"networks": []}, "networks must be one or more, got none"),
    "something else than networks": (lambda header: header | {"networks": 3}, "damaged"),
    "a network without arrays": (
        lambda header: header | {"networks": 2 * header["networks"]},
        "'networks.0.layers.0.w' is missing",
    ),
    "networks that do not go together": (
        lambda header: header | {"networks": [*header["networks"], {"sizes": [5, 3]}]},
        "networks must have the same inputs",
    ),
    "no encoding": (
        lambda header: {key: value for key, value in header.items() if key != "encoding"},
        "'encoding'",
    ),
    "another number of classes": (
        lambda header: header | {"encoding": OF_TWO_CLASSES.to_json()},
        "2 classes, but the network has 3 outputs",
    ),
    "a number for a target": (lambda header: header | {"about": {"target": 7}}, "target must be of type str, got 7"),
    "a fraction in words": (
        lambda header: header | {"about": {"options": {"test_fraction": "half"}}},
        "test_fraction must be of type float, got 'half'",
    ),
    "a seed in words": (lambda header: header | {"about": {"options": {"seed": "x"}}}, "seed must be of type int"),
    "a list of options": (lambda header: header | {"about": {"options": [1]}}, "options and results as objects"),
    "a number for results": (lambda header: header | {"about": {"results": 1}}, "options and results as objects"),
    "a number for a task": (lambda header: header | {"about": {"options": {"task": 1}}}, "task must be of type str"),
    "a broken encoding": (lambda header: header | {"encoding": {}}, "damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_header_is_refused_in_one_line(tmp_path, name):
    change, sentence = CHANGES[name]
    path = saved_model(tmp_path / "model")
    with_header(path, change)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(safetensors.numpy.save({"w": np.ones(3)}))
    with pytest.raises(ValueError, match="not a model saved by jaxmlp"):
        load(path)


@settings(deadline=None)  # the first example compiles
@given(position=st.integers(0), byte=st.integers(0, 255), cut=st.booleans())
def test_a_corrupted_model_loads_or_is_refused_in_one_line(tmp_path_factory, position, byte, cut):
    folder = tmp_path_factory.mktemp("corrupted")
    content = bytearray(saved_model(folder / "good", MLP((2, 3))).read_bytes())
    position %= len(content)
    content[position] = byte
    (folder / "bad").write_bytes(content[: position if cut else None])
    try:
        model = load(folder / "bad")
    except ValueError as error:
        refusal = str(error)
    else:
        assert jnp.shape(model.networks[0].params[0].w) == (3, 2)
        return
    assert refusal.splitlines() == [refusal]


WIDER = MLP((4, 7, 6, 3), "relu")


def drawn(mlp: MLP, n: int):
    params = [init(mlp, jax.random.key(seed)) for seed in range(n)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def test_several_networks_come_back_to_the_last_bit_with_their_predictions(tmp_path, iris):
    raw = read("iris").x
    given = [Network(MLP_TANH, drawn(MLP_TANH, 2)), Network(WIDER, init(WIDER, jax.random.key(7)))]
    save(tmp_path / "model", given, encoding=iris.encoding)
    model = load(tmp_path / "model")
    assert [network.mlp for network in model.networks] == [MLP_TANH, MLP_TANH, WIDER]
    assert {"networks.0.layers.1.w", "networks.2.layers.2.b"} <= set(safetensors.numpy.load_file(tmp_path / "model"))
    for network, k in zip(model.networks, range(2), strict=False):
        chex.assert_trees_all_equal(network.params, jax.tree.map(lambda leaf, k=k: leaf[k], given[0].params))
    of_each = [Model((network,), iris.encoding, {}).predict(raw) for network in model.networks]
    mean = np.mean(np.asarray(of_each, np.float64), axis=0)
    np.testing.assert_array_equal(model.predict(raw), mean.astype(np.float32))
    np.testing.assert_array_equal(Model(model.networks, iris.encoding, {}).predict(raw), model.predict(raw))


def test_values_of_several_networks_are_averaged_in_double_precision_before_they_get_their_units():
    mlp = MLP((1, 1), output="identity", loss="quadratic")
    params = jax.tree.map(jnp.zeros_like, drawn(mlp, 2))
    params = (params[0]._replace(b=jnp.array([[1.0], [1.0 + 2**-23]])),)
    encoding = Encoding(1, (), None, inputs=Scaling([0.0], [1.0]), targets=Scaling([-1.0 - 2**-24], [2.0**30]))
    # Rounded to float32, the mean would be 1 or 1 + 2^-23.
    assert Model(networks(mlp, params), encoding, {}).predict(np.ones((1, 1)))[0, 0] == pytest.approx(
        (1 + 2**-24) / 2**30 - 1 - 2**-24, rel=1e-7
    )


@pytest.mark.parametrize(
    "other", [MLP((5, 3)), MLP((4, 2)), MLP((4, 3), output="sigmoid", loss="binary_cross_entropy")]
)
def test_networks_that_do_not_go_together_are_not_saved(tmp_path, other):
    several = [Network(mlp, init(mlp, jax.random.key(0))) for mlp in (MLP_TANH, other)]
    with pytest.raises(ValueError, match=r"^networks must have the same inputs, outputs, output activation and loss"):
        save(tmp_path / "model", several)
    with pytest.raises(TypeError, match=r"^networks must be Network\(mlp, params\), or a list of them, got MLP$"):
        save(tmp_path / "model", MLP_TANH)
    assert not list(tmp_path.iterdir())


def test_training_of_several_networks_goes_on_from_a_checkpoint_file_bit_for_bit(tmp_path, iris):
    config, keys, seen = TrainConfig(epochs=4), jax.random.split(jax.random.key(0), 3), []
    whole = train(MLP_TANH, iris.train, config, key=keys, callback=seen.append)
    save_training(tmp_path / "checkpoint", seen[1])
    resumed = load_training(tmp_path / "checkpoint", MLP_TANH)
    chex.assert_trees_all_equal(resumed, seen[1])
    rest = train(MLP_TANH, iris.train, config, key=keys, resume=resumed)
    chex.assert_trees_all_equal(rest.params, whole.params)
    assert evaluate(MLP_TANH, rest.params, iris.test) == evaluate(MLP_TANH, whole.params, iris.test)
