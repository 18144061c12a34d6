"""Loss, accuracy and r2 against NumPy and scikit-learn, and the sentences for data that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Layer, init, loss, predict
from jaxmlp.training.boundary import check_fit
from jaxmlp.training.evaluation import evaluate, outputs

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

N_LARGE = 2048 * 2 + 5  # more than two blocks, and some left over


def random_data(n: int, n_in: int = 4) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng, rng.normal(size=(n, n_in)).astype(np.float32)


def by_numpy(mlp: MLP, params, x) -> np.ndarray:
    """Run a network of one layer, in float64; return z."""
    ((w, b),) = params
    return np.asarray(x, np.float64) @ np.asarray(w, np.float64).T + np.asarray(b, np.float64)


@pytest.fixture(params=[50, N_LARGE], ids=["one block", "several blocks"])
def n(request) -> int:
    return request.param


def one_layer(n_out: int) -> tuple[Layer]:
    rng = np.random.default_rng(n_out)
    return (Layer(jnp.asarray(rng.normal(size=(n_out, 4)), "float32"), jnp.asarray(rng.normal(size=n_out), "float32")),)


# Mean losses are of order 1 and accumulate the roundings of float32 in blocks: 16 eps.
CLOSE = {"rel": 16 * 2.0**-23}


def test_accuracy_and_loss_of_classes_are_those_of_numpy(n):
    rng, x = random_data(n)
    mlp, params, t = MLP((4, 3)), one_layer(3), rng.integers(0, 3, n)
    result = evaluate(mlp, params, Dataset(x, t))
    z = by_numpy(mlp, params, x)
    assert result.accuracy == pytest.approx(accuracy_score(t, z.argmax(1)), rel=1e-12)
    log_y = z - np.log(np.exp(z).sum(1, keepdims=True))
    assert result.loss == pytest.approx(-log_y[np.arange(n), t].mean(), **CLOSE)
    assert result.r2 is None


def whole_weights(n: int) -> np.ndarray:
    """Draw weights 0, 1, 2 or 3: an example with weight 3 must count as three copies of it."""
    return np.random.default_rng(n).integers(0, 4, n)


@pytest.mark.parametrize(
    ("mlp", "draw"),
    [
        (MLP((4, 3)), lambda rng: rng.integers(0, 3, 50)),
        (MLP((4, 3), output="sigmoid", loss="binary_cross_entropy"), lambda rng: rng.integers(0, 2, (50, 3))),
        (MLP((4, 3), output="identity", loss="quadratic"), lambda rng: rng.normal(size=(50, 3))),
    ],
    ids=["classes", "labels", "values"],
)
def test_an_integer_weight_counts_as_that_many_copies(mlp, draw):
    rng, x = random_data(50)
    t, weights = draw(rng), whole_weights(50)
    weighted = evaluate(mlp, one_layer(3), Dataset(x, t, weights))
    copied = evaluate(mlp, one_layer(3), Dataset(np.repeat(x, weights, axis=0), np.repeat(t, weights, axis=0)))
    assert weighted == tuple(None if one is None else pytest.approx(one, **CLOSE) for one in copied)


def test_one_hot_rows_give_the_result_of_classes():
    rng, x = random_data(50)
    t = rng.integers(0, 3, 50)
    by_class, by_row = (evaluate(MLP((4, 3)), one_layer(3), Dataset(x, rows)) for rows in (t, np.eye(3)[t]))
    assert by_class == by_row


def test_accuracy_of_one_sigmoid_output_has_threshold_one_half(n):
    rng, x = random_data(n)
    mlp, params, t = MLP((4, 1), output="sigmoid", loss="binary_cross_entropy"), one_layer(1), rng.integers(0, 2, n)
    z = by_numpy(mlp, params, x)[:, 0]
    expected = accuracy_score(t, z > 0)
    bce = np.mean(np.logaddexp(0, z) - t * z)
    for targets in (t, t[:, None], t.astype(np.float32)):
        result = evaluate(mlp, params, Dataset(x, targets))
        assert result.accuracy == pytest.approx(expected, rel=1e-12)
        assert result.loss == pytest.approx(bce, **CLOSE)
        assert result.r2 is None


def test_accuracy_of_several_labels_is_the_share_of_right_labels():
    rng, x = random_data(50)
    mlp, params = MLP((4, 3), output="sigmoid", loss="binary_cross_entropy"), one_layer(3)
    t = rng.integers(0, 2, (50, 3))
    result = evaluate(mlp, params, Dataset(x, t))
    assert result.accuracy == pytest.approx(((by_numpy(mlp, params, x) > 0) == t).mean(), rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_weights_do_not_round_an_accuracy_above_1():
    rng, x = random_data(50)
    mlp, params = MLP((4, 3), output="sigmoid", loss="binary_cross_entropy"), one_layer(3)
    right = (by_numpy(mlp, params, x) > 0).astype(int)
    for _ in range(20):
        accuracy = evaluate(mlp, params, Dataset(x, right, rng.random(50))).accuracy
        assert 1 - 50 * 2.0**-52 <= accuracy <= 1


def test_accuracy_of_classes_with_several_sigmoids_takes_the_largest():
    rng, x = random_data(50)
    mlp, params = MLP((4, 3), output="sigmoid", loss="binary_cross_entropy"), one_layer(3)
    t = rng.integers(0, 3, 50)
    result = evaluate(mlp, params, Dataset(x, t))
    assert result.accuracy == pytest.approx((by_numpy(mlp, params, x).argmax(1) == t).mean(), rel=1e-12)


@pytest.mark.parametrize("n_out", [1, 3])
@pytest.mark.parametrize("unit", [1.0, 2.0**-10])
def test_r2_is_that_of_scikit_learn_in_any_unit(n, n_out, unit):
    rng, x = random_data(n)
    mlp, params = MLP((4, n_out), output="identity", loss="quadratic"), one_layer(n_out)
    params = jax.tree.map(lambda leaf: leaf * unit, params)
    y = by_numpy(mlp, params, x)
    t = (y + unit * rng.normal(size=y.shape) * np.arange(1, n_out + 1)).astype(np.float32)
    result = evaluate(mlp, params, Dataset(x, t))
    # 1 - r2 is of order 1: sums in float32 of up to 4,100 squares, added pairwise or in blocks: 64 eps.
    assert result.r2 == pytest.approx(r2_score(t, y), abs=64 * 2.0**-23)
    assert result.loss == pytest.approx(0.5 * ((y - t) ** 2).sum(1).mean(), rel=64 * 2.0**-23)
    assert result.accuracy is None
    if n_out == 1:
        assert evaluate(mlp, params, Dataset(x, t[:, 0])) == result


def test_r2_is_1_for_a_perfect_answer_and_0_for_the_mean():
    x = np.array([[0.0], [1.0], [2.0], [5.0]], np.float32)
    mlp = MLP((1, 1), output="identity", loss="quadratic")
    perfect, mean = (Layer(jnp.array([[w]]), jnp.array([b])) for w, b in ((1.0, 0.0), (0.0, 2.0)))
    assert evaluate(mlp, (perfect,), Dataset(x, x)).r2 == 1
    assert evaluate(mlp, (mean,), Dataset(x, x)).r2 == 0


def test_evaluation_is_that_of_the_library_one_example_at_a_time():
    rng, x = random_data(20)
    mlp = MLP((4, 5, 3), "tanh")
    params, t = init(mlp, jax.random.key(0)), rng.integers(0, 3, 20)
    result = evaluate(mlp, params, Dataset(x, t))
    losses = [float(loss(mlp, params, jnp.asarray(x[i]), t[i])) for i in range(20)]
    right = [int(predict(mlp, params, jnp.asarray(x[i])).argmax()) == t[i] for i in range(20)]
    assert result.loss == pytest.approx(np.mean(losses), **CLOSE)
    assert result.accuracy == pytest.approx(np.mean(right), rel=1e-12)


def test_outputs_are_the_same_in_one_block_and_in_several():
    _, x = random_data(N_LARGE)
    mlp = MLP((4, 5, 3), "tanh")
    params = init(mlp, jax.random.key(0))
    pieces = [outputs(mlp, params, jnp.asarray(x[start : start + 1000])) for start in range(0, N_LARGE, 1000)]
    # Outputs below 1, a few roundings apart where matrix products of other sizes sum in another order.
    np.testing.assert_allclose(outputs(mlp, params, jnp.asarray(x)), np.concatenate(pieces), rtol=0, atol=2.0**-20)


def data(n_in: int, t) -> Dataset:
    return Dataset(np.ones((len(t), n_in), np.float32), np.asarray(t))


CLASSES, BINARY = MLP((4, 3)), MLP((4, 1), output="sigmoid", loss="binary_cross_entropy")
REAL = MLP((4, 2), output="identity", loss="quadratic")


@pytest.mark.parametrize(
    ("mlp", "unfit", "sentence"),
    [
        (CLASSES, data(5, [0]), "x has 5 features, but the network takes 4"),
        (CLASSES, data(4, [0, 2, 3]), "t has class 3 in row 2, but the network has 3 outputs"),
        (CLASSES, data(4, [0.5, 1.0]), "t must be integer classes or rows of 3, got one real value for each"),
        (CLASSES, data(4, [[0, 1]]), "t has rows of 2, but the network has 3 outputs"),
        (
            CLASSES,
            data(4, [[0, 0, 1], [0.5, 0.5, 0.5]]),
            "t must sum to 1 in every row for cross_entropy, got 1.5 in row 1",
        ),
        (CLASSES, data(4, [[2.0, -1.0, 0.0]]), "t must lie in [0, 1] for cross_entropy, got [2.0, -1.0, 0.0] in row 0"),
        (BINARY, data(4, [0, 1, 2]), "t must lie in [0, 1] for binary_cross_entropy, got [2] in row 2"),
        (BINARY, data(4, [0.5, -0.5]), "t must lie in [0, 1] for binary_cross_entropy, got [-0.5] in row 1"),
        (REAL, data(4, [0.5]), "t must be integer classes or rows of 2, got one real value for each"),
        (REAL, data(4, [[1.0, 2.0, 3.0]]), "t has rows of 3, but the network has 2 outputs"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_one_line(mlp, unfit, sentence):
    for refuse in (check_fit, lambda mlp, unfit: evaluate(mlp, one_layer(mlp.sizes[-1]), unfit)):
        with pytest.raises(ValueError, match=r".") as caught:
            refuse(mlp, unfit)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("mlp", "fit"),
    [
        (CLASSES, data(4, [0, 2])),
        (CLASSES, data(4, [[0.25, 0.5, 0.25]])),
        (CLASSES, data(4, [[0, 0, 1]])),
        (BINARY, data(4, [0, 1])),
        (BINARY, data(4, [0.25, 1.0])),
        (REAL, data(4, [[-3.0, 1e6]])),
        (REAL, data(4, [0, 1])),
        (MLP((4, 1), output="identity", loss="quadratic"), data(4, [-3.5, 2.0])),
    ],
)
def test_data_that_fit_are_accepted(mlp, fit):
    check_fit(mlp, fit)
    assert np.isfinite(evaluate(mlp, one_layer(mlp.sizes[-1]), fit).loss)


def test_whole_numbers_are_values_where_the_network_has_one_output_and_no_classes():
    mlp = MLP((1, 1), output="identity", loss="quadratic")
    x = np.arange(10.0)[:, None]
    params = (Layer(jnp.ones((1, 1)), jnp.zeros(1)),)
    assert evaluate(mlp, params, Dataset(x, np.arange(10))) == evaluate(mlp, params, Dataset(x, np.arange(10.0)))
    far = Dataset(x, np.arange(10) + 2**40)  # as int32 this would wrap to something near
    assert evaluate(mlp, params, far).loss > 2.0**78


@pytest.mark.parametrize(("guess", "r2"), [(3.0, 1.0), (4.0, 0.0)])
def test_r2_of_targets_that_are_all_equal_is_that_of_scikit_learn(guess, r2):
    mlp = MLP((1, 1), output="identity", loss="quadratic")
    params = (Layer(jnp.zeros((1, 1)), jnp.array([guess])),)
    t = np.full(5, 3.0)
    assert evaluate(mlp, params, Dataset(np.ones((5, 1)), t)).r2 == r2 == r2_score(t, np.full(5, guess))
