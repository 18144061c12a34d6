"""The script that chose the defaults trains as `train` does."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.choose_defaults import Run, begin, network, scores
from jaxmlp import TrainConfig, init, train
from jaxmlp.data import prepare, read


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_networks_side_by_side_score_as_train_does_one_after_another(name):
    splits = [prepare(read(name), seed=seed) for seed in range(2)]
    mlp = network(splits[0], hidden=(8,))
    configs = [replace(TrainConfig(), epochs=2, learning_rate=rate) for rate in (0.01, 0.05)]
    runs = [Run(splits[seed], seed, config) for config in configs for seed in range(2)]
    for found, run in zip(scores(mlp, runs), runs, strict=True):
        trained = train(mlp, run.data.train, run.config, key=jax.random.key(run.seed), test=run.data.test)
        expected = trained.test.r2 if trained.test.accuracy is None else trained.test.accuracy
        assert found == pytest.approx(expected, abs=1e-4)  # float32, carried through some 25 steps


def test_a_run_that_diverges_has_no_score():
    data = prepare(read("diabetes"))
    [found] = scores(network(data), [Run(data, 0, TrainConfig(epochs=2, learning_rate=100.0))])
    assert found != found


def test_factors_multiply_the_weights_that_he_et_al_draw():
    data = prepare(read("diabetes"))
    mlp = network(data)
    ours = begin(mlp, Run(data, 0, TrainConfig(), [0.5, 0.0]))
    shared = begin(mlp, Run(data, 0, TrainConfig(), [0.1**0.5] * 2))
    full = init(network(data), jax.random.key(0), scale=10**0.5)  # takes back what init does for an identity output
    np.testing.assert_allclose(ours[0].w, 0.5 * full[0].w, rtol=1e-6)  # roundings of float32
    assert not ours[1].w.any()
    np.testing.assert_allclose(shared[1].w, init(mlp, jax.random.key(0))[1].w, rtol=1e-6)
