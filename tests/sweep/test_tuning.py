"""Tuning: test is never looked at before the end, the best by validation are chosen, and the budget is kept."""

import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxmlp.data import Source, prepare
from jaxmlp.network import MLP
from jaxmlp.sweep import Halving, tune
from jaxmlp.sweep.budget import Budget, Costs
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.evaluation import evaluate_networks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

CONFIG = TrainConfig(epochs=6, batch_size=16)
SMALL = {"mlp": MLP((1, 4, 2)), "config": CONFIG, "searched": ["learning_rate", "weight_decay"]}


@pytest.fixture(scope="module")
def source() -> Source:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 3))
    t = (x[:, 0] + 0.3 * rng.normal(size=160) > 0).astype(int)
    return Source("points", x[:120], t[:120], x[120:], t[120:], class_names=("below", "above"))


def same_networks(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def tuned(source):
    return tune(source, trials=13, **SMALL)


def test_other_test_examples_change_nothing_but_the_test_score(source, tuned):
    other = replace(source, x_test=5 * source.x_test, t_test=1 - source.t_test)
    again = tune(other, trials=13, **SMALL)
    assert again.settings == tuned.settings
    assert same_networks([n.params for n in again.networks], [n.params for n in tuned.networks])
    assert again.test.accuracy < tuned.test.accuracy


def test_the_settings_that_are_best_by_validation_are_trained_with_several_seeds_on_all_but_test(source, tmp_path):
    tuned = tune(source, trials=13, out=tmp_path, **SMALL)
    rows = tuned.search.rows()
    assert len(rows) == 13
    furthest = sorted(rows, key=lambda row: (row.epochs, row.validation_accuracy), reverse=True)[:2]
    chosen = [tuned.search.trial(row.trial).values for row in furthest]
    assert [each["learning_rate"] for each in chosen] == [each["learning_rate"] for each in tuned.settings]
    assert len({leaf.tobytes() for n in tuned.networks for leaf in map(np.asarray, n.params[0])}) == 2 * 8
    whole = prepare(source)
    assert tuned.encoding.to_json() == whole.encoding.to_json()
    assert tuned.test == evaluate_networks(tuned.networks, whole.test)


def test_a_repeated_call_continues_an_interrupted_tuning(source, tuned, tmp_path):
    for until in (("sweep", 4), ("networks", 3)):

        def interrupt(stage, progress, until=until):
            if stage == until[0] and progress.done >= until[1]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tune(source, trials=13, out=tmp_path, callback=interrupt, **SMALL)
    stages = []
    again = tune(source, trials=13, out=tmp_path, callback=lambda stage, progress: stages.append(stage), **SMALL)
    assert set(stages) == {"networks"}
    assert again.settings == tuned.settings
    assert same_networks([n.params for n in again.networks], [n.params for n in tuned.networks])
    with pytest.raises(ValueError, match="began with 13 trials, got 6 trials"):
        tune(source, trials=6, out=tmp_path, **SMALL)
    (tmp_path / "tuning.json").write_text("[1]")
    with pytest.raises(ValueError, match="is damaged"):
        tune(source, trials=13, out=tmp_path, **SMALL)


def test_seconds_are_kept(source):
    began = time.perf_counter()
    tuned = tune(source, seconds=8.0, **SMALL)
    assert time.perf_counter() - began < 1.2 * 8.0
    assert tuned.networks


@pytest.mark.parametrize("seconds", [0.01, 3.0, 60.0, 600.0])
@pytest.mark.parametrize("epoch", [0.001, 0.1, 2.0])
def test_what_is_planned_fits_the_seconds(seconds, epoch):
    costs, halving, budget = Costs(epoch, 0.5, 30), Halving(3, first=4), Budget(seconds=seconds)
    n_trials, n_networks = budget.n_trials(costs, halving, 3), budget.n_networks(costs, 1)
    assert n_trials == 0 or n_trials >= 6
    assert 1 <= n_networks <= 8
    searching = n_trials and halving.epochs([1] * n_trials, 30) * epoch + 3 * costs.compiling
    assert searching <= seconds - min(4 * costs.run, 0.4 * seconds)
    assert n_networks == 1 or n_networks * costs.run + costs.compiling <= seconds


def test_a_large_table_gets_networks_with_the_default_setting_instead_of_a_search():
    costs = Costs(epoch=1.0, compiling=3.0, epochs=10)
    assert Budget(seconds=60).n_trials(costs, Halving(3, first=2), 3) == 0
    assert Budget(seconds=60).n_networks(costs, 1) == 5
    assert Budget(seconds=600).n_trials(costs, Halving(3, first=2), 3) > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give seconds or trials"),
        ({"seconds": 1.0, "trials": 5}, "give seconds or trials"),
        ({"seconds": float("nan")}, "seconds must be positive and finite, got nan"),
        ({"trials": 0}, "trials must be a whole number, 1 or larger, got 0"),
        ({"trials": 5, "searched": ["momentum"]}, "unknown hyperparameter 'momentum'"),
    ],
)
def test_a_bad_budget_is_an_error(source, options, message):
    with pytest.raises(ValueError, match=message):
        tune(source, **options)
