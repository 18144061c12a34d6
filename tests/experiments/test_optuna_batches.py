"""The searches that race each other train the same networks, if they are asked for the same settings."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.optuna_batches import CONFIG, SPACE, at_random, in_batches, network, one_at_a_time, reached, seconds_to
from jaxmlp import sweep, train
from jaxmlp.data import prepare, read

BRIEF = replace(CONFIG, epochs=2)
SEED = 3


@pytest.fixture(scope="module")
def data():
    return prepare(read("diabetes"), validation_fraction=0.2)


def test_batches_find_what_one_at_a_time_finds_where_the_sampler_draws_at_random(data):
    batches, single = in_batches(data, 6, SEED, BRIEF, size=3), one_at_a_time(data, 6, SEED, BRIEF)
    assert batches.best[-1][1] == pytest.approx(single.best[-1][1], abs=1e-4)  # float32, through some 20 steps
    assert batches.test == pytest.approx(single.test, abs=1e-4)


def test_a_random_search_finds_the_best_network_of_its_space(data):
    found, space = at_random(data, 4, SEED, BRIEF), sweep.random(4, draw=SEED, **SPACE)
    trained = []
    for row in space.rows:
        values = dict(zip(space.names, row, strict=True))
        mlp, parts = network(data, values.pop("hidden")), {"validation": data.validation, "test": data.test}
        trained.append(train(mlp, data.train, replace(BRIEF, **values), key=jax.random.key(0), **parts))
    best = max(trained, key=lambda each: each.history[-1].validation_r2)
    assert found.best[-1][1] == pytest.approx(best.history[-1].validation_r2, abs=1e-4)
    assert found.test == pytest.approx(best.test.r2, abs=1e-4)


def test_progress_is_read_at_any_time():
    best = [(1.0, 0.5), (2.0, 0.5), (4.0, 0.75)]
    np.testing.assert_array_equal(reached(best, np.array([0.5, 1.0, 3.9, 9.0])), [np.nan, 0.5, 0.5, 0.75])
    assert [seconds_to(best, value) for value in (0.5, 0.6, 0.8)] == [1.0, 4.0, float("inf")]
