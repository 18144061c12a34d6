"""What users hand to `train` and `evaluate` by mistake is refused in one line that says what is expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxmlp.data import Dataset
from jaxmlp.network import MLP, init
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.evaluation import evaluate
from jaxmlp.training.loop import train

NETWORK, KEY = MLP((3, 5, 4)), jax.random.key(0)
DATA = Dataset(np.ones((6, 3)), np.arange(6) % 4)
CONFIG = TrainConfig(epochs=1, batch_size=3)
PAIR = (DATA.x, DATA.t)
OF_ANOTHER_NETWORK = train(MLP((3, 4)), DATA, CONFIG, key=KEY)

REFUSED = {
    "a tuple as data": ({"data": PAIR}, "data must be a Dataset, as Dataset(x, t), got tuple"),
    "an array as data": ({"data": DATA.x}, "data must be a Dataset, as Dataset(x, t), got ndarray"),
    "a tuple as test": ({"test": PAIR}, "test must be a Dataset, as Dataset(x, t), got tuple"),
    "a dict as config": (
        {"config": {"epochs": 3}},
        "config must be a TrainConfig, as TrainConfig(epochs=10), got dict",
    ),
    "an empty dict as config": ({"config": {}}, "config must be a TrainConfig, as TrainConfig(epochs=10), got dict"),
    "sizes as network": ({"mlp": (3, 4)}, "mlp must be an MLP, as MLP((4, 16, 3)), got tuple"),
    "parameters as network": ({"mlp": init(NETWORK, KEY)}, "mlp must be an MLP, as MLP((4, 16, 3)), got tuple"),
    "a seed as key": ({"key": 0}, "key must be one key, as jax.random.key(0), or an array of keys [K], got 0"),
    "no key": ({"key": None}, "key must be one key, as jax.random.key(0), or an array of keys [K], got None"),
    "a table of keys": (
        {"key": jax.random.split(KEY, (2, 2))},
        "key must be one key, as jax.random.key(0), or an array of keys [K], got an array of shape (2, 2)",
    ),
    "no key in an array": ({"key": jax.random.split(KEY, 2)[:0]}, "key must be one key, as jax.random.key(0), or"),
    "statistics of several networks": (
        {"key": jax.random.split(KEY, 2), "config": TrainConfig(epochs=1, batch_size=3, track=("norms",))},
        "track follows the gradients of one network, got 2 keys: leave track out",
    ),
    "one network to resume with several keys": (
        {"key": jax.random.split(KEY, 2), "mlp": MLP((3, 4)), "resume": OF_ANOTHER_NETWORK},
        "key must have a key for each network of resume, 1, got 2 keys",
    ),
    "numbers as key": ({"key": jnp.ones(2)}, "key must be one key, as jax.random.key(0), or"),
    "parameters to resume": ({"resume": init(NETWORK, KEY)}, "resume must be a Trained, as train returns, got tuple"),
    "another network to resume": (
        {"resume": OF_ANOTHER_NETWORK},
        "resume.last_params must fit sizes (3, 5, 4), got layers of shapes [((4, 3), (4,))]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_argument_of_train_is_named_with_what_is_expected(name):
    given, sentence = REFUSED[name]
    arguments = {"mlp": NETWORK, "data": DATA, "config": CONFIG, "key": KEY} | given
    mlp, data, config = (arguments.pop(position) for position in ("mlp", "data", "config"))
    with pytest.raises((TypeError, ValueError), match=r"^[^\n]+$") as caught:
        train(mlp, data, config, **arguments)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((NETWORK, init(NETWORK, KEY), PAIR), "data must be a Dataset, as Dataset(x, t), got tuple"),
        (((3, 4), init(NETWORK, KEY), DATA), "mlp must be an MLP, as MLP((4, 16, 3)), got tuple"),
        ((NETWORK, None, DATA), "params must be a tuple of Layer(w, b), as init returns, got NoneType"),
        ((NETWORK, OF_ANOTHER_NETWORK, DATA), "params must be a tuple of Layer(w, b), as init returns, got Trained"),
        ((NETWORK, OF_ANOTHER_NETWORK.params, DATA), "params must fit sizes (3, 5, 4)"),
    ],
    ids=["a tuple as data", "sizes as network", "no parameters", "a Trained", "another network's parameters"],
)
def test_a_wrong_argument_of_evaluate_is_named_with_what_is_expected(arguments, sentence):
    with pytest.raises((TypeError, ValueError), match=r"^[^\n]+$") as caught:
        evaluate(*arguments)
    assert str(caught.value).startswith(sentence)


def test_keys_of_the_old_kind_and_of_any_implementation_are_accepted():
    old = train(NETWORK, DATA, CONFIG, key=jax.random.PRNGKey(0))
    new = train(NETWORK, DATA, CONFIG, key=KEY)
    np.testing.assert_array_equal(old.params[0].w, new.params[0].w)
    assert train(NETWORK, DATA, CONFIG, key=jax.random.key(0, impl="rbg")).status == "finished"


@pytest.mark.parametrize("off", [0.1, -0.1, 0.01, -0.01, 0.002])
def test_soft_targets_must_sum_to_1(off):
    rows = np.full((6, 4), (1 + off) / 4)
    with pytest.raises(ValueError, match=r"t must sum to 1 in every row for cross_entropy, got .* in row 0"):
        evaluate(NETWORK, init(NETWORK, KEY), Dataset(DATA.x, rows))


def test_soft_targets_may_be_rounded_to_float16():
    rows = np.random.default_rng(0).dirichlet(np.ones(4), 6).astype(np.float16)
    assert np.any(rows.sum(1, dtype=float) != 1)
    assert evaluate(NETWORK, init(NETWORK, KEY), Dataset(DATA.x, rows)).loss > 0


@pytest.mark.parametrize("call", ["train", "validation", "test", "evaluate"])
@pytest.mark.parametrize("name", ["x", "t"])
def test_numbers_beyond_the_range_of_float32_are_named_by_row_and_column(call, name):
    network = MLP((3, 5, 4), output="identity", loss="quadratic")
    arrays = {"x": np.ones((6, 3)), "t": np.ones((6, 4))}
    good = Dataset(**arrays)
    arrays[name] = arrays[name].copy()
    arrays[name][4, 2] = -1e300
    bad, where = Dataset(**arrays), f"{call}: " if call in ("validation", "test") else ""
    calls = {
        "train": lambda: train(network, bad, CONFIG, key=KEY),
        "test": lambda: train(network, good, CONFIG, key=KEY, test=bad),
        "validation": lambda: train(network, good, CONFIG, key=KEY, validation=bad),
        "evaluate": lambda: evaluate(network, init(network, KEY), bad),
    }
    with pytest.raises(ValueError, match=f"^{where}{name} must be finite in float32, got -1e\\+300 in row 4, column 2"):
        calls[call]()


def test_the_largest_numbers_of_float32_are_accepted():
    x = np.full((6, 3), np.finfo(np.float32).max, float)
    evaluate(NETWORK, init(NETWORK, KEY), Dataset(x, DATA.t))


def test_the_error_for_a_column_of_classes_says_how_to_convert_it():
    frame = pd.DataFrame({"class": np.arange(6) % 4})
    for t in (frame, frame.to_numpy()):
        with pytest.raises(ValueError, match=r"t has rows of 1, .* 4 outputs: if they are classes, pass t\[:, 0\]$"):
            train(NETWORK, Dataset(DATA.x, t), CONFIG, key=KEY)
    assert train(NETWORK, Dataset(DATA.x, t[:, 0]), CONFIG, key=KEY).status == "finished"
