"""Networks trained together are those that their keys would train alone, and are evaluated by their mean output."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Network, Params, init, networks
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.epoch import batch_order, epoch_numbers, run_networks, start_networks
from jaxmlp.training.evaluation import evaluate, evaluate_networks, outputs
from jaxmlp.training.examples import arrays
from jaxmlp.training.loop import train

RNG = np.random.default_rng(0)
MLP_OF_CLASSES = MLP((4, 5, 3))
DATA = Dataset(RNG.normal(size=(40, 4)).astype(np.float32), RNG.integers(0, 3, 40))
KEYS = jax.random.split(jax.random.key(0), 3)
CONFIG = TrainConfig(epochs=3, batch_size=8, nesterov=True, clip=1.0)


def drawn(mlp: MLP, seeds: list[int]) -> Params:
    params = [init(mlp, jax.random.key(seed), scale=2.0) for seed in seeds]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def mean_of_outputs(networks, x) -> np.ndarray:
    return np.mean([np.asarray(outputs(mlp, params, jnp.asarray(x)), np.float64) for mlp, params in networks], axis=0)


@pytest.mark.parametrize("raw", [False, True], ids=["typed keys", "raw keys"])
def test_networks_trained_together_are_those_of_each_key_to_the_last_bit(raw):
    together = train(MLP_OF_CLASSES, DATA, CONFIG, key=jax.random.key_data(KEYS) if raw else KEYS)
    alone = [train(MLP_OF_CLASSES, DATA, CONFIG, key=key) for key in KEYS]
    for network, expected in zip(networks(MLP_OF_CLASSES, together.params), alone, strict=True):
        chex.assert_trees_all_equal(network.params, expected.params)
    for number, row in enumerate(together.history):
        losses = [each.history[number].train_loss for each in alone]
        assert row.train_loss == pytest.approx(np.mean(losses), rel=1e-12)  # sums of doubles


def test_networks_side_by_side_are_those_in_turn_up_to_rounding(x64):
    config = TrainConfig(batch_size=8)
    orders = np.stack([batch_order(key, 0, 40, 8) for key in KEYS])
    numbers = epoch_numbers(config, np.full(5, 0.1))
    in_turn, side_by_side = (
        run_networks(
            MLP_OF_CLASSES,
            *start_networks(MLP_OF_CLASSES, KEYS, 1.0),
            arrays(MLP_OF_CLASSES, DATA),
            orders,
            numbers,
            in_turn=in_turn,
        )
        for in_turn in (True, False)
    )
    chex.assert_trees_all_close(side_by_side, in_turn, rtol=0, atol=1e-13)  # 5 steps of sums of numbers of order 1


def test_networks_resume_after_any_epoch_bit_for_bit():
    seen = []
    whole = train(MLP_OF_CLASSES, DATA, CONFIG, key=KEYS, callback=seen.append)
    for interrupted in seen:
        resumed = train(MLP_OF_CLASSES, DATA, CONFIG, key=KEYS, resume=interrupted)
        chex.assert_trees_all_equal(resumed.last_params, whole.last_params)
        chex.assert_trees_all_equal(resumed.state, whole.state)


def test_one_network_that_diverges_ends_the_training_of_all():
    begun = train(MLP_OF_CLASSES, DATA, TrainConfig(epochs=1, batch_size=8), key=KEYS)
    lost = jax.tree.map(lambda leaf: leaf.at[1].set(1e38), begun.last_params)
    with pytest.warns(RuntimeWarning, match="no longer finite in epoch 2"):
        trained = train(MLP_OF_CLASSES, DATA, CONFIG, key=KEYS, resume=begun._replace(last_params=lost))
    assert trained.status == "diverged"
    chex.assert_trees_all_equal(trained.params, begun.params)


MLPS = {
    "classes": MLP((4, 5, 3)),
    "labels": MLP((4, 5, 2), output="sigmoid", loss="binary_cross_entropy"),
    "values": MLP((4, 5, 2), output="identity", loss="quadratic"),
    "values from tanh": MLP((4, 5, 2), output="tanh", loss="quadratic"),
    "values from sigmoid": MLP((4, 5, 2), output="sigmoid", loss="quadratic"),
}


@pytest.mark.parametrize("name", MLPS)
def test_evaluation_of_networks_is_that_of_the_mean_of_their_outputs(name):
    mlp, wider = MLPS[name], MLP((4, 9, 6, *MLPS[name].sizes[2:]), "tanh", MLPS[name].output, MLPS[name].loss)
    t = RNG.integers(0, 3, 40) if name == "classes" else RNG.integers(0, 2, (40, 2)).astype(float)
    several = (*networks(mlp, drawn(mlp, [0, 1])), Network(wider, init(wider, jax.random.key(2), scale=2.0)))
    y, found = mean_of_outputs(several, DATA.x), evaluate_networks(several, Dataset(DATA.x, t))
    if name == "classes":
        loss, accuracy, r2 = -np.log(y[np.arange(40), t]).mean(), accuracy_score(t, y.argmax(1)), None
    elif name == "labels":
        loss = -(t * np.log(y) + (1 - t) * np.log(1 - y)).sum(1).mean()
        accuracy, r2 = ((y > 0.5) == t).mean(), None
    else:
        loss, accuracy, r2 = 0.5 * ((y - t) ** 2).sum(1).mean(), None, r2_score(t, y)
    # Sums of some 50 numbers of order 1 in float32.
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert (found.accuracy, found.r2) == (accuracy and pytest.approx(accuracy), r2 and pytest.approx(r2, abs=1e-4))


def test_evaluation_takes_the_parameters_of_several_networks():
    params = drawn(MLP_OF_CLASSES, [0, 1, 2])
    assert evaluate(MLP_OF_CLASSES, params, DATA) == evaluate_networks(networks(MLP_OF_CLASSES, params), DATA)


def test_loss_of_several_networks_is_finite_where_all_probabilities_round_to_0():
    mlp = MLP((1, 2))
    params = jax.tree.map(jnp.zeros_like, drawn(mlp, [0, 1]))
    params = (params[0]._replace(b=jnp.array([[0.0, 200.0], [0.0, 300.0]])),)
    found = evaluate(mlp, params, Dataset(np.zeros((1, 1)), np.array([0]))).loss
    assert found == pytest.approx(200 + np.log(2), rel=1e-6)  # the mean of exp(-200) and exp(-300)


def test_patience_and_test_look_at_the_mean_output_of_the_networks():
    rng = np.random.default_rng(3)
    data, validation, test = (Dataset(rng.normal(size=(n, 4)), rng.integers(0, 3, n)) for n in (16, 40, 40))
    config, seen = TrainConfig(epochs=40, batch_size=8, learning_rate=0.3, patience=3), []
    parts = {"validation": validation, "test": test}
    trained = train(MLP_OF_CLASSES, data, config, key=KEYS, **parts, callback=lambda so_far: seen.append(so_far))
    losses = [evaluate(MLP_OF_CLASSES, so_far.last_params, validation).loss for so_far in seen]
    assert losses == [row.validation_loss for row in trained.history]
    assert trained.status == "stopped"
    assert trained.best_epoch == 1 + int(np.argmin(losses)) == len(losses) - 3
    chex.assert_trees_all_equal(trained.params, seen[trained.best_epoch - 1].last_params)
    assert trained.test == evaluate(MLP_OF_CLASSES, trained.params, test)
