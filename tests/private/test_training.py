"""Private training is the steps of the mechanism, one after another, and says what they have spent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmlp import MLP, Dataset, TrainConfig, init
from jaxmlp.private import Mechanism, Privacy, epsilons, train

from .test_step import MLP_, flat, loss

N = 60
PRIVACY = Privacy(noise_multiplier=2.0, clip=0.2, delta=1e-3)
CONFIG = TrainConfig(epochs=3, batch_size=20, learning_rate=0.3, momentum=0.8, weight_decay=0.01, schedule="constant")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 5))
    return Dataset(x, rng.integers(0, 3, N))


def test_equals_a_loop_over_examples(data):
    with jax.enable_x64(True):
        secret = jax.random.key(7)
        trained = train(MLP_, data, PRIVACY, CONFIG, key=jax.random.key(0), secret=secret)
        mechanism = Mechanism(N, 20, 2.0, 0.2)
        batch_key, noise_key = jax.random.split(secret)
        params = init(MLP_, jax.random.key(0), scale=CONFIG.init_scale)
        w, shaped = ravel_pytree(params)
        w = np.asarray(w)
        is_weight = flat([(jnp.ones_like(layer.w), jnp.zeros_like(layer.b)) for layer in params])
        dw = np.zeros_like(w)
        for step in range(9):
            rows, is_drawn = mechanism.draw(batch_key, range(step, step + 1))
            total = np.zeros_like(w)
            for row in rows[0][is_drawn[0]]:
                of_one = flat(jax.grad(loss)(shaped(w), data.x[row], data.t[row]))
                total += of_one * min(1.0, 0.2 * (1 - 1e-4) / np.linalg.norm(of_one))
            leaves = jax.tree.leaves(params)
            keys = jax.random.split(jax.random.fold_in(noise_key, step), len(leaves))
            noise = flat([jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)])
            mean = (total + 2.0 * 0.2 * noise) / 20
            # Momentum and decay come after the noise, and see nothing else of the examples.
            dw = 0.8 * dw - 0.3 * (mean + 0.01 * w * is_weight)
            w = w + dw
        np.testing.assert_allclose(flat(trained.params), w, rtol=1e-10, atol=1e-13)


def test_says_what_is_spent_after_each_epoch(data):
    trained = train(MLP_, data, PRIVACY, CONFIG, key=jax.random.key(0), test=data, validation=data)
    spent = epsilons(Mechanism(N, 20, 2.0, 0.2), [3, 6, 9], 1e-3)
    assert [row.epsilon for row in trained.history] == pytest.approx(spent)
    assert (trained.guarantee.epsilon, trained.guarantee.steps) == (pytest.approx(spent[-1]), 9)
    assert trained.history[-1].validation == trained.test
    assert "one example replaced by none" in str(trained.guarantee)


def test_a_callback_sees_what_has_been_spent_for_what_it_sees(data):
    seen = []
    train(MLP_, data, PRIVACY, CONFIG, key=jax.random.key(0), callback=seen.append)
    assert [len(each.history) * 3 for each in seen] == [each.guarantee.steps for each in seen]
    assert all(each.guarantee.epsilon == each.history[-1].epsilon for each in seen)


def test_a_target_is_kept(data):
    trained = train(MLP_, data, Privacy(epsilon=1.0, delta=1e-3), CONFIG, key=jax.random.key(0))
    assert 0.98 < trained.guarantee.epsilon <= 1.0


def test_every_run_has_its_own_secret_unless_one_is_given(data):
    runs = [
        flat(train(MLP_, data, PRIVACY, CONFIG, key=jax.random.key(0), secret=secret).params)
        for secret in (None, None, jax.random.key(1), jax.random.key(1))
    ]
    assert not np.array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[2], runs[3])


def test_nothing_but_the_parameters_comes_from_examples(data):
    trained = train(MLP_, data, PRIVACY, CONFIG, key=jax.random.key(0))
    assert trained.history[0]._fields == ("epoch", "learning_rate", "epsilon", "validation", "seconds")
    assert all(row.validation is None for row in trained.history)
    assert trained.test is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patience": 3}, "patience looks at training examples"),
        ({"track": ("norms",)}, "track looks at training examples"),
        ({"clip": 1.0}, r"config has clip=1: set Privacy\(clip=1\) instead"),
        ({"batch_size": 61}, "batch_size must be at most the 60 training examples, got 61"),
    ],
)
def test_settings_that_look_at_examples_are_refused(data, change, words):
    config = TrainConfig(**{"epochs": 1, "batch_size": 20} | change)
    with pytest.raises(ValueError, match=words):
        train(MLP_, data, PRIVACY, config, key=jax.random.key(0))


def test_weights_are_refused(data):
    weighted = Dataset(data.x, data.t, np.ones(N))
    with pytest.raises(ValueError, match="leave weights out"):
        train(MLP_, weighted, PRIVACY, CONFIG, key=jax.random.key(0))


def test_several_networks_are_refused(data):
    with pytest.raises(ValueError, match="key must be one key: each of 2 networks would spend epsilon anew"):
        train(MLP_, data, PRIVACY, CONFIG, key=jax.random.split(jax.random.key(0)))


def test_a_diverging_run_is_one_line():
    data = Dataset(np.ones((40, 2), np.float32), np.zeros(40))
    mlp = MLP((2, 1), output="identity", loss="quadratic")
    config = TrainConfig(epochs=4, batch_size=20, learning_rate=1e38, weight_decay=0.5)
    with pytest.raises(ValueError, match="the weights are infinite in epoch"):
        train(mlp, data, PRIVACY, config, key=jax.random.key(0))
