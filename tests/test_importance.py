"""Permutation importance against NumPy in float64, which shuffles raw frames and encodes each of them again."""

import jax
import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from jaxmlp import importance
from jaxmlp.data import Encoding, Source, from_frame, prepare, read
from jaxmlp.importance import permutation_importance
from jaxmlp.network import MLP, Layer, Network
from jaxmlp.training.epoch import batch_order
from jaxmlp.training.evaluation import evaluate_networks
from jaxmlp.training.examples import expanded

N, REPEATS, KEY = 150, 3, jax.random.key(3)

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Let a block be fewer examples than there are."""
    monkeypatch.setattr(importance, "BLOCK", 64)


def frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    income = rng.lognormal(3, 1, N)
    born = pl.Series(rng.integers(0, 9_000, N)).cast(pl.Date)
    columns = {"income": income, "city": rng.choice(["Bonn", "Rome", "Oslo"], N), "born": born}
    return pl.DataFrame({**columns, "kind": rng.choice(["a", "b", "c"], N), "value": np.log(income)}).with_columns(
        income=pl.when(pl.int_range(N) % 9 > 0).then("income")
    )


def drawn(mlp: MLP, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    shapes = zip(mlp.sizes[1:], mlp.sizes[:-1], strict=True)
    layers = [Layer(rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[0])) for shape in shapes]
    return Network(mlp, jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, "float32"), tuple(layers)))


def networks(encoding: Encoding, n_out: int) -> list[Network]:
    """Return three networks of two shapes."""
    ends = ("softmax", "cross_entropy") if n_out > 1 else ("identity", "quadratic")
    shapes = [(encoding.n_inputs, *hidden, n_out) for hidden in ((8,), (6, 5), (8,))]
    return [drawn(MLP(sizes, "tanh", *ends), seed) for seed, sizes in enumerate(shapes)]


def outputs(network: Network, x: np.ndarray) -> np.ndarray:
    """Return the outputs in float64."""
    for layer in network.params[:-1]:
        x = np.tanh(x @ np.asarray(layer.w, float).T + np.asarray(layer.b, float))
    z = x @ np.asarray(network.params[-1].w, float).T + np.asarray(network.params[-1].b, float)
    return np.exp(z) / np.exp(z).sum(1, keepdims=True) if network.mlp.output == "softmax" else z


@pytest.mark.parametrize(("target", "n_out"), [("kind", 3), ("value", 1)])
def test_a_column_is_worth_what_shuffling_it_in_the_raw_table_loses(target, n_out):
    source = from_frame(frame().drop("kind" if target == "value" else "value"), target=target)
    encoding = prepare(source).encoding
    data, several = encoding.encode(source.x, source.t, source.class_names), networks(encoding, n_out)

    def score(raw: pl.DataFrame) -> float:
        x = np.asarray(expanded(encoding.encode(raw, source.t, source.class_names)).x, float)
        y = np.mean([outputs(network, x) for network in several], axis=0)
        if n_out == 1:
            return metrics.r2_score(source.t, encoding.targets.inverse(y))
        return metrics.accuracy_score(source.t, y.argmax(1))

    found = permutation_importance(several, data, encoding.groups, key=KEY, repeats=REPEATS)
    assert {each.column for each in found} == {"income", "city", "born"}
    for each in found:
        orders = [batch_order(KEY, repeat, N, N)[0] for repeat in range(REPEATS)]
        shuffled = [source.x.with_columns(source.x[each.column][order]) for order in orders]
        expected = [score(source.x) - score(raw) for raw in shuffled]
        # float32: accuracy is a count, R2 a ratio of sums of N squares
        np.testing.assert_allclose(
            each.lost, expected, rtol=0 if n_out > 1 else 1e-5, atol=1e-12 if n_out > 1 else 1e-5
        )
        assert each.mean == pytest.approx(np.mean(each.lost))
        assert each.low < each.mean < each.high
    assert [each.mean for each in found] == sorted((each.mean for each in found), reverse=True)


def test_a_column_without_weights_loses_exactly_nothing_and_the_copy_of_the_target_all_of_it():
    rng = np.random.default_rng(1)
    kind = rng.choice(["a", "b", "c"], N)
    source = from_frame(
        pl.DataFrame({"noise": rng.normal(size=N), "copy": kind, "unused": rng.normal(size=N), "kind": kind}),
        target="kind",
    )
    encoding = prepare(source).encoding
    data, expansion = encoding.encode(source.x, source.t, source.class_names), encoding.expansion
    w = 0.01 * np.random.default_rng(2).normal(size=(3, data.n_inputs))
    owners = np.concatenate([expansion.passed, expansion.bin_column, expansion.code_column])
    w[:, owners == encoding.groups["unused"].start] = 0
    copy = encoding.groups["copy"].start
    codes = [data.x[data.t == k, copy][0] for k in range(3)]
    w[:, owners == copy] = 9 * (expansion.code == np.array(codes)[:, None])
    network = Network(MLP((data.n_inputs, 3)), (Layer(jax.numpy.asarray(w), jax.numpy.zeros(3)),))
    assert evaluate_networks([network], data).accuracy == 1.0
    found = {each.column: each for each in permutation_importance([network], data, encoding.groups, key=KEY)}
    assert set(found["unused"].lost) == {0.0}
    assert max(found, key=lambda name: found[name].mean) == "copy"
    assert found["copy"].mean == pytest.approx(2 / 3, abs=0.1)  # three equally frequent classes


def test_one_program_serves_all_columns_repeats_and_networks_of_these_shapes():
    source = from_frame(frame().drop("value"), target="kind")
    encoding = prepare(source).encoding
    data, several = encoding.encode(source.x, source.t, source.class_names), networks(encoding, 3)
    importance._shuffled_measures.clear_cache()
    for key in (KEY, jax.random.key(4)):
        permutation_importance(several, data, encoding.groups, key=key, repeats=2)
    assert importance._shuffled_measures._cache_size() == 1


def test_inputs_of_arrays_are_columns_by_name_or_number():
    assert list(prepare(read("iris")).encoding.groups)[:1] == ["sepal length (cm)"]
    unnamed = Source("array", np.arange(24.0).reshape(12, 2), np.arange(12) % 2, class_names=("a", "b"))
    assert prepare(unnamed).encoding.groups == {"0": slice(0, 1), "1": slice(1, 2)}


def test_one_repeat_has_no_interval_and_one_example_cannot_be_shuffled(compact):
    network = drawn(MLP((compact.n_inputs, 3)), 0)
    only = permutation_importance([network], compact, {"all": slice(0, 4)}, key=KEY, repeats=1)[0]
    assert np.isnan(only.low)
    assert np.isnan(only.high)
    one = type(compact)(compact.x[:1], compact.t[:1], None, compact.expansion)
    with pytest.raises(ValueError, match="two examples"):
        permutation_importance([network], one, {"all": slice(0, 4)}, key=KEY)
