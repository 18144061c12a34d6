"""Training against three nested loops in NumPy; resuming, stopping, diverging; and how often it compiles."""

import logging
import time
from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlp import sgd, training
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, init
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.epoch import batch_order
from jaxmlp.training.evaluation import evaluate
from jaxmlp.training.examples import expanded
from jaxmlp.training.history import Epoch, Trained
from jaxmlp.training.loop import after_epoch, train

MLP_OF_CLASSES = MLP((3, 5, 4))
KEY = jax.random.key(11)


def classes(n: int = 17, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset(rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 4, n))


def assert_identical(ours, theirs) -> None:
    """Bit for bit, but for the wall time."""
    without_time = [
        trained._replace(history=tuple(row._replace(seconds=0.0) for row in trained.history))
        for trained in (ours, theirs)
    ]
    chex.assert_trees_all_equal(*(trained._replace(status=0) for trained in without_time))
    assert ours.status == theirs.status


# ----- the scheme, written naively -----


def naive_epochs(params, x, t, config: TrainConfig, key, phi, derivative, delta_of_output) -> list:
    """Train by nested loops over epochs, batches and examples; return the weights after every epoch."""
    weights = [[np.array(w), np.array(b)] for w, b in params]
    steps = [[np.zeros_like(w), np.zeros_like(b)] for w, b in weights]
    after = []
    for epoch in range(config.epochs):
        for batch in batch_order(key, epoch, len(x), config.batch_size):
            total = [[np.zeros_like(w), np.zeros_like(b)] for w, b in weights]
            for i in batch:
                z1 = weights[0][0] @ x[i] + weights[0][1]
                y1 = phi(z1)
                z2 = weights[1][0] @ y1 + weights[1][1]
                delta2 = delta_of_output(z2, t[i])
                delta1 = (weights[1][0].T @ delta2) * derivative(z1)
                for layer, (delta, y) in enumerate(((delta1, x[i]), (delta2, y1))):
                    total[layer][0] += np.outer(delta, y)
                    total[layer][1] += delta
            for layer in range(2):
                for leaf in range(2):
                    gradient = total[layer][leaf] / len(batch)
                    if leaf == 0:
                        gradient += config.weight_decay * weights[layer][leaf]
                    steps[layer][leaf] = -config.learning_rate * gradient + config.momentum * steps[layer][leaf]
                    weights[layer][leaf] = weights[layer][leaf] + steps[layer][leaf]
        after.append([[leaf.copy() for leaf in layer] for layer in weights])
    return after


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def relu_derivative(z):
    return np.where(z > 0, 1.0, 0.0)


def softmax_minus_class(z, t):
    y = np.exp(z) / np.exp(z).sum()
    y[t] -= 1
    return y


def sigmoid_quadratic_delta(z, t):
    y = sigmoid(z)
    return (y - t) * (1 - y) * y


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("batch_size", [1, 5, 17])
@pytest.mark.parametrize("which", ["relu and softmax with cross-entropy", "sigmoid and quadratic loss"])
def test_training_equals_three_nested_loops(which, batch_size):
    data = classes()
    data = Dataset(data.x.astype(np.float64), data.t)
    if which.startswith("relu"):
        mlp, functions = MLP_OF_CLASSES, (lambda z: np.maximum(z, 0), relu_derivative, softmax_minus_class)
    else:
        mlp = MLP((3, 5, 2), "sigmoid", "sigmoid", "quadratic")
        functions = (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z)), sigmoid_quadratic_delta)
        data = Dataset(data.x, np.random.default_rng(1).uniform(size=(17, 2)))
    config = TrainConfig(
        epochs=4, batch_size=batch_size, learning_rate=0.05, momentum=0.8, weight_decay=0.01, schedule="constant"
    )
    seen = []
    train(mlp, data, config, key=KEY, callback=lambda trained: seen.append(trained.params))
    expected = naive_epochs(init(mlp, KEY), data.x, data.t, config, KEY, *functions)
    assert len(seen) == len(expected) == 4
    for ours, theirs in zip(seen, expected, strict=True):
        # Up to 68 steps, each of some 20 roundings of numbers below 4, carried on by 1 / (1 - 0.8).
        chex.assert_trees_all_close(
            jax.tree.leaves(ours), jax.tree.leaves(theirs), rtol=0, atol=68 * 20 * 4 * 5 * 2.0**-52
        )


@pytest.mark.usefixtures("x64")
def test_training_on_compact_data_equals_training_on_the_expanded(compact):
    config = TrainConfig(epochs=3, batch_size=8, track=("norms", "curvature"))
    found, expected = (
        train(MLP((11, 5, 3), "tanh"), data, config, key=KEY, validation=data) for data in (compact, expanded(compact))
    )
    # The inputs are the same numbers, but the two programs may sum in another order.
    chex.assert_trees_all_close(found.params, expected.params, rtol=1e-12)
    for ours, theirs in zip(found.history, expected.history, strict=True):
        chex.assert_trees_all_close(ours._replace(seconds=0.0), theirs._replace(seconds=0.0), rtol=1e-6)


def test_network_must_take_as_many_inputs_as_the_expansion_makes(compact):
    with pytest.raises(ValueError, match="the expansion of x makes 11 features, but the network takes 4"):
        train(MLP((4, 3)), compact, key=KEY)


@pytest.mark.parametrize("batch_size", [1, 5, 17])
def test_train_loss_is_the_mean_over_the_batches_of_an_epoch(batch_size):
    data, drawn = classes(), batch_order(KEY, 0, 17, batch_size).ravel()
    still = TrainConfig(epochs=1, batch_size=batch_size, learning_rate=1e-30)  # no weight moves between the batches
    trained = train(MLP_OF_CLASSES, data, still, key=KEY)
    expected = evaluate(MLP_OF_CLASSES, init(MLP_OF_CLASSES, KEY), Dataset(data.x[drawn], data.t[drawn]))
    assert trained.history[0].train_loss == pytest.approx(expected.loss, rel=8 * 2.0**-23)  # means of up to 17


def test_train_loss_of_a_batch_is_taken_before_its_step():
    config = TrainConfig(epochs=1, batch_size=17, learning_rate=1.0)
    trained = train(MLP_OF_CLASSES, classes(), config, key=KEY)
    before, after = (evaluate(MLP_OF_CLASSES, p, classes()).loss for p in (init(MLP_OF_CLASSES, KEY), trained.params))
    assert trained.history[0].train_loss == pytest.approx(before, rel=8 * 2.0**-23)
    assert trained.history[0].train_loss != pytest.approx(after, rel=1e-3)


@pytest.mark.parametrize("key", [KEY, jax.random.key(12), jax.random.key(11, impl="rbg")])
def test_training_starts_from_the_weights_that_init_draws_with_its_key(key):
    trained = train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=1, batch_size=17, learning_rate=1e-30), key=key)
    # One step of 1e-30 times a gradient below 10, weight decay among it, changes no weight.
    chex.assert_trees_all_equal([layer.w for layer in trained.params], [layer.w for layer in init(MLP_OF_CLASSES, key)])


def test_nesterov_is_passed_on():
    config = TrainConfig(epochs=1, batch_size=4)
    plain = train(MLP_OF_CLASSES, classes(), config, key=KEY)
    other = train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=1, batch_size=4, nesterov=True), key=KEY)
    assert np.any(plain.params[0].w != other.params[0].w)


def test_init_scale_scales_the_initial_weights():
    still = TrainConfig(epochs=1, batch_size=17, learning_rate=1e-30, weight_decay=0, init_scale=0.25)
    trained = train(MLP_OF_CLASSES, classes(), still, key=KEY)
    expected = init(MLP_OF_CLASSES, KEY, scale=0.25)
    chex.assert_trees_all_close(trained.params, expected, rtol=0, atol=1e-29)  # one step, of a gradient below 10


# ----- orders -----


@pytest.mark.parametrize(("n", "batch_size"), [(17, 5), (17, 17), (17, 1), (6, 3)])
def test_order_holds_no_example_twice_and_fills_every_batch(n, batch_size):
    order = batch_order(KEY, 3, n, batch_size)
    assert order.shape == (n // batch_size, batch_size)
    assert len(np.unique(order)) == order.size
    assert order.min() >= 0
    assert order.max() < n


def test_order_depends_on_key_and_epoch():
    order = partial(batch_order, n_examples=100, batch_size=10)
    np.testing.assert_array_equal(order(KEY, 3), order(jax.random.key(11), 3))
    others = [
        order(KEY, 2),
        order(KEY, 4),
        order(jax.random.key(12), 3),
        order(jax.random.wrap_key_data(jnp.array([7, 11], "uint32")), 3),
    ]
    assert len({other.tobytes() for other in [order(KEY, 3), *others]}) == 5


def test_every_example_is_left_out_of_some_epoch():
    # One of 3 sits out an epoch; that one of them never does in 60 epochs has probability 3 * (2/3)^60 < 1e-10.
    out = [({0, 1, 2} - set(batch_order(KEY, epoch, 3, 2).ravel().tolist())).pop() for epoch in range(60)]
    assert set(out) == {0, 1, 2}


# ----- weights -----


def test_weights_of_1_change_nothing_and_examples_of_weight_0_do_not_matter():
    config = TrainConfig(epochs=3, batch_size=5)
    data = classes()
    plain = train(MLP_OF_CLASSES, data, config, key=KEY)
    ones = train(MLP_OF_CLASSES, Dataset(data.x, data.t, np.ones(17)), config, key=KEY)
    chex.assert_trees_all_close(ones.params, plain.params, rtol=1e-5, atol=1e-7)  # another program, as it may round
    x, weights = np.array(data.x), np.ones(17)
    weights[[3, 8]] = 0
    with_zeros = train(MLP_OF_CLASSES, Dataset(x, data.t, weights), config, key=KEY)
    x[[3, 8]] = 7.0
    assert_identical(train(MLP_OF_CLASSES, Dataset(x, data.t, weights), config, key=KEY), with_zeros)
    assert np.any(with_zeros.params[0].w != ones.params[0].w)


# ----- compiling -----


def test_other_numbers_do_not_recompile(caplog):
    mlp, data, test = MLP((3, 7, 4)), classes(), classes(9, seed=1)

    def messages(**numbers) -> list[str]:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            config = TrainConfig(**{"epochs": 2, "batch_size": 5, "momentum": 0.5} | numbers)
            train(mlp, data, config, key=jax.random.key(numbers.get("epochs", 0)), validation=test)
        return [record.getMessage() for record in caplog.records]

    assert any("run_epoch" in message for message in messages())  # the log does tell
    for numbers in (
        {"learning_rate": 0.3, "momentum": 0.9},
        {"weight_decay": 0.1, "init_scale": 0.3},
        {"schedule": "step", "step_epochs": 0.5, "step_factor": 0.3, "warmup_epochs": 0.5},
        {"schedule": "constant", "epochs": 5},
        {"patience": 1},
    ):
        assert messages(**numbers) == [], numbers
    assert messages(clip=0.5) != []  # clipping is another program
    assert messages(clip=0.7) == []  # but its norm is not in it


def test_epoch_is_traced_once_for_all_epochs_and_numbers(monkeypatch):
    # `run_epoch` looks `step_gradient` up only while it is traced.
    counted = chex.assert_max_traces(training.step_gradient, n=1)
    monkeypatch.setattr(training, "step_gradient", lambda mlp, *arrays: counted(*[None, mlp, *arrays][1:]))
    mlp = MLP((3, 6, 4))
    for rate in (0.1, 0.2):
        train(mlp, classes(), TrainConfig(epochs=2, batch_size=5, learning_rate=rate), key=KEY)


# ----- stopping early -----


def overfitting() -> tuple[MLP, Dataset, Dataset, TrainConfig]:
    """Targets of pure noise: the loss on other examples soon rises."""
    config = TrainConfig(epochs=60, batch_size=5, learning_rate=0.2, schedule="constant", patience=3)
    return MLP((3, 16, 4), "tanh"), classes(20), classes(30, seed=1), config


def test_patience_stops_in_time_and_keeps_the_parameters_of_the_best_epoch():
    mlp, data, validation, config = overfitting()
    seen = []
    trained = train(mlp, data, config, key=KEY, validation=validation, callback=seen.append)
    losses = [row.validation_loss for row in trained.history]
    best = int(np.argmin(losses)) + 1
    assert trained.status == "stopped"
    assert trained.best_epoch == best
    assert len(trained.history) == best + 3 < 60
    chex.assert_trees_all_equal(trained.params, seen[best - 1].last_params)
    assert evaluate(mlp, trained.params, validation).loss == losses[best - 1]
    assert evaluate(mlp, trained.last_params, validation).loss == losses[-1]
    assert [one.status for one in seen] == ["running"] * (best + 2) + ["stopped"]


def test_without_validation_data_patience_watches_the_training_loss():
    mlp, data, test, config = overfitting()
    trained = train(mlp, data, config, key=KEY, test=test)
    losses = [row.train_loss for row in trained.history]
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    assert trained.history[-1].validation_loss is None


def test_test_data_are_evaluated_once_with_the_kept_parameters_when_the_run_ends():
    mlp, data, validation, config = overfitting()
    test = classes(12, seed=2)
    seen = []
    for epochs, status in ((4, "finished"), (60, "stopped")):
        ended = train(
            mlp, data, replace(config, epochs=epochs), key=KEY, validation=validation, test=test, callback=seen.append
        )
        assert ended.status == status
        assert ended.test == evaluate(mlp, ended.params, test)
    assert ended.test != evaluate(mlp, ended.last_params, test)
    assert {one.test for one in seen} == {None}
    # An ended run that is given again is evaluated again, or no longer.
    assert train(mlp, data, config, key=KEY, validation=validation, resume=ended).test is None


@settings(max_examples=6)
@given(seed=st.integers(0, 2**16), is_validated=st.booleans())
def test_other_test_data_change_nothing_but_their_own_evaluation(seed, is_validated):
    mlp, data, validation, config = overfitting()
    tests = (None, classes(7, seed=seed), Dataset(np.full((7, 3), 1e3), [0, 3] * 3 + [1]))
    runs = [
        train(mlp, data, config, key=KEY, validation=validation if is_validated else None, test=test) for test in tests
    ]
    for run in runs[1:]:
        assert_identical(run._replace(test=None), runs[0])
    assert runs[1].test != runs[2].test


def test_without_patience_the_last_parameters_are_kept():
    trained = train(
        MLP_OF_CLASSES, classes(), TrainConfig(epochs=3, batch_size=5), key=KEY, validation=classes(9, seed=1)
    )
    assert (trained.status, trained.best_epoch, len(trained.history)) == ("finished", 3, 3)
    chex.assert_trees_all_equal(trained.params, trained.last_params)


def test_history_holds_the_evaluation_after_every_epoch():
    validation = classes(9, seed=1)
    seen = []
    config = TrainConfig(epochs=3, batch_size=5, learning_rate=0.125, schedule="step", step_epochs=1, step_factor=0.5)
    trained = train(MLP_OF_CLASSES, classes(), config, key=KEY, validation=validation, callback=seen.append)
    for number, (row, one) in enumerate(zip(trained.history, seen, strict=True)):
        assert row.epoch == number + 1
        assert row.learning_rate == 0.125 * 0.5**number
        measured = (row.validation_loss, row.validation_accuracy, row.validation_r2)
        assert measured == evaluate(MLP_OF_CLASSES, one.params, validation)
        assert row.seconds > 0
        assert one.history == trained.history[: number + 1]


def test_patience_changes_the_kept_parameters_but_not_the_path():
    mlp, data, validation, _ = overfitting()
    paths = []
    for patience in (None, 60):
        config = TrainConfig(epochs=8, batch_size=5, learning_rate=0.2, schedule="constant", patience=patience)
        seen = []
        trained = train(mlp, data, config, key=KEY, validation=validation, callback=seen.append)
        paths.append([(one.last_params, one.state) for one in seen])
    assert trained.best_epoch < 7  # so that going on from the best parameters would be another path
    chex.assert_trees_all_equal(*paths)


# ----- resuming -----


@pytest.mark.parametrize("patience", [None, 3])
def test_resuming_after_any_epoch_gives_the_uninterrupted_result_bit_for_bit(patience):
    mlp, data, validation, _ = overfitting()
    config = TrainConfig(epochs=9, batch_size=6, learning_rate=0.2, momentum=0.9, warmup_epochs=1.5, patience=patience)
    seen = []
    parts = {"validation": validation, "test": classes(9, seed=2)}
    whole = train(mlp, data, config, key=KEY, **parts, callback=seen.append)
    assert len(seen) > 3
    for interrupted in seen:
        assert_identical(train(mlp, data, config, key=KEY, **parts, resume=interrupted), whole)


def test_callback_is_given_arrays_that_stay_valid():
    seen, copies = [], []

    def callback(trained: Trained) -> None:
        seen.append(trained)
        copies.append(jax.tree.map(np.array, (trained.params, trained.last_params, trained.state)))

    train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=3, batch_size=5), key=KEY, callback=callback)
    assert len(seen) == 3
    for trained, copy in zip(seen, copies, strict=True):
        chex.assert_trees_all_equal((trained.params, trained.last_params, trained.state), copy)
    assert np.any(copies[0][0][0].w != copies[1][0][0].w)


def test_equal_arguments_give_equal_bits_and_another_key_gives_others():
    config = TrainConfig(epochs=2, batch_size=5)
    first, second, other = (train(MLP_OF_CLASSES, classes(), config, key=key) for key in (KEY, KEY, jax.random.key(5)))
    assert_identical(first, second)
    assert np.any(first.params[0].w != other.params[0].w)


# ----- diverging -----


def test_divergence_in_the_first_epoch_keeps_the_initial_parameters():
    config = TrainConfig(epochs=3, batch_size=5, learning_rate=1e30)
    seen = []
    with pytest.warns(
        RuntimeWarning, match=r"epoch 1, at learning rate 1e\+30.*the initial parameters are kept; try a lower learn"
    ):
        trained = train(MLP_OF_CLASSES, classes(), config, key=KEY, callback=seen.append)
    assert trained.status == "diverged"
    assert len(trained.history) == len(seen) == 1
    chex.assert_trees_all_equal(trained.params, init(MLP_OF_CLASSES, KEY))


@pytest.mark.parametrize("patience", [None, 50])
def test_divergence_in_a_later_epoch_keeps_the_parameters_of_the_one_before(patience):
    rng = np.random.default_rng(0)
    data = Dataset(rng.normal(size=(12, 3)), rng.normal(size=12))
    mlp = MLP((3, 1), output="identity", loss="quadratic")
    config = TrainConfig(
        epochs=200, batch_size=4, learning_rate=3.0, momentum=0.0, schedule="constant", patience=patience
    )
    seen = []
    with pytest.warns(RuntimeWarning) as warned:
        trained = train(mlp, data, config, key=KEY, validation=data, callback=seen.append)
    number = len(trained.history)
    assert number > 3
    (warning,) = warned
    assert f"in epoch {number}, at learning rate 3;" in str(warning.message)
    assert f"parameters of epoch {trained.best_epoch} are kept" in str(warning.message)
    assert "lower learning rate" in str(warning.message)
    assert warning.filename == __file__
    assert trained.status == "diverged"
    chex.assert_trees_all_equal(trained.last_params, seen[-2].last_params)
    chex.assert_trees_all_equal(trained.params, seen[-2].params)
    chex.assert_trees_all_equal(trained.state, seen[-2].state)
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves((trained.params, trained.last_params, trained.state))
    )
    assert trained.history[-1].validation_loss is None


# ----- data -----


@pytest.mark.parametrize("make", [lambda x: x, jnp.asarray, lambda x: x.astype(np.float32), lambda x: x.astype(float)])
def test_inputs_of_any_type_train_as_float32(make):
    x = np.random.default_rng(0).integers(0, 9, (17, 3)).astype(np.uint8)
    config = TrainConfig(epochs=2, batch_size=5)
    trained = train(MLP_OF_CLASSES, Dataset(make(x), classes().t), config, key=KEY)
    expected = train(MLP_OF_CLASSES, Dataset(x.astype(np.float32), classes().t), config, key=KEY)
    chex.assert_trees_all_equal_dtypes(trained.params, expected.params)
    # The same numbers, compiled twice: sums may run in another order. 6 steps of 20 roundings, weights below 2.
    chex.assert_trees_all_close(trained.params, expected.params, rtol=0, atol=6 * 20 * 2 * 2.0**-24)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "int32"])
def test_classes_of_any_integer_type_are_the_same(dtype):
    config = TrainConfig(epochs=1, batch_size=5)
    data = classes()
    ours, theirs = (
        train(MLP_OF_CLASSES, Dataset(data.x, t), config, key=KEY) for t in (data.t.astype(dtype), np.eye(4)[data.t])
    )
    # The same as one-hot rows: 3 steps of 20 roundings, weights below 2.
    chex.assert_trees_all_close(ours.params, theirs.params, rtol=0, atol=3 * 20 * 2 * 2.0**-24)


@pytest.mark.parametrize(
    ("x", "t", "batch_size", "sentence"),
    [
        (np.ones((3, 2)), [0, 1, 2], 1, "x has 2 features, but the network takes 3"),
        (np.ones((3, 3)), [0, 1, 4], 1, "t has class 4 in row 2, but the network has 4 outputs"),
        (np.ones((2, 3)), [0.5, 1.0], 1, "t must be integer classes or rows of 4, got one real value for each"),
        (np.ones((1, 3)), [[0.5, 0.5, 0.5, 0]], 1, "t must sum to 1 in every row for cross_entropy, got 1.5 in row 0"),
        (np.ones((3, 3)), [0, 1, 2], 4, "batch_size must be at most the 3 training examples, got 4"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_one_line(x, t, batch_size, sentence):
    config = TrainConfig(batch_size=batch_size)
    with pytest.raises(ValueError, match=r".") as caught:
        train(MLP_OF_CLASSES, Dataset(x, t), config, key=KEY)
    assert str(caught.value) == sentence
    for name in ("validation", "test") if batch_size == 1 else ():
        with pytest.raises(ValueError, match=r".") as caught:
            train(MLP_OF_CLASSES, classes(), config, key=KEY, **{name: Dataset(x, t)})
        assert str(caught.value) == f"{name}: {sentence}"


# ----- going on -----


def test_a_finished_run_continues_if_given_more_epochs():
    short, long = (TrainConfig(epochs=epochs, batch_size=5, schedule="constant") for epochs in (2, 4))
    first = train(MLP_OF_CLASSES, classes(), short, key=KEY)
    assert first.status == "finished"
    assert_identical(
        train(MLP_OF_CLASSES, classes(), long, key=KEY, resume=first), train(MLP_OF_CLASSES, classes(), long, key=KEY)
    )


def test_an_interrupted_run_that_has_all_its_epochs_is_finished():
    seen = []
    train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=4, batch_size=5), key=KEY, callback=seen.append)
    assert seen[1].status == "running"
    resumed = train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=2, batch_size=5), key=KEY, resume=seen[1])
    assert_identical(resumed, seen[1]._replace(status="finished"))


def test_a_run_cannot_resume_with_fewer_epochs_than_it_has():
    long = train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=3, batch_size=5), key=KEY)
    with pytest.raises(ValueError, match="at least the 3 of resume, got 2"):
        train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=2, batch_size=5), key=KEY, resume=long)


def test_a_network_larger_than_can_be_indexed_is_refused_before_any_work():
    with pytest.raises(ValueError, match="parameters, more than"):
        train(MLP((3, 10**10, 4)), classes(), TrainConfig(batch_size=5), key=KEY)


def test_seconds_of_epochs_are_parts_of_the_time_that_training_took():
    start = time.perf_counter()
    history = train(MLP_OF_CLASSES, classes(), TrainConfig(epochs=3, batch_size=5), key=KEY).history
    assert all(row.seconds > 0 for row in history)
    assert sum(row.seconds for row in history) < time.perf_counter() - start


def test_of_equal_losses_the_first_is_the_best():
    params = init(MLP_OF_CLASSES, KEY)
    trained = Trained(params, sgd.init(params), (), params, 0, "running")
    for epoch in (1, 2, 3):
        row = Epoch(epoch, 0.1, 1.0, 2.0, None, None, 0.0)
        trained = after_epoch(trained, TrainConfig(epochs=9, patience=2), row, (params, trained.state))
    assert (trained.best_epoch, trained.status) == (1, "stopped")


def test_patience_recovers_from_a_validation_loss_that_was_not_a_number():
    params = init(MLP_OF_CLASSES, KEY)
    trained = Trained(params, sgd.init(params), (), params, 0, "running")
    config = TrainConfig(epochs=9, patience=3)
    for epoch, loss in enumerate([float("nan"), 3.0, 2.0, float("nan"), 2.5], start=1):
        trained = after_epoch(trained, config, Epoch(epoch, 0.1, 1.0, loss, None, None, 0.0), (params, trained.state))
    assert (trained.best_epoch, trained.status) == (3, "running")
