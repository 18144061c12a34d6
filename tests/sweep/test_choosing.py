"""Nothing is chosen by the test data: they change only the columns that report them."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmlp import MLP, Dataset, TrainConfig, evaluate, sweep, train
from jaxmlp._intervals import interval
from jaxmlp.sweep.metrics import REPORTED


def noise(n, seed):
    """Return inputs and labels that have nothing to do with each other."""
    random = np.random.default_rng(seed)
    return Dataset(random.standard_normal((n, 5)).astype(np.float32), random.integers(0, 2, n))


TRAIN, VALIDATION, TEST = noise(48, 0), noise(25, 1), noise(50, 2)
BASE = MLP((5, 8, 2))
CONFIG = TrainConfig(epochs=9, batch_size=16, learning_rate=0.3, schedule="constant", patience=3)
SPACE = sweep.grid(learning_rate=[0.03, 0.3], hidden=[(8,), (6,)], seed=range(3))
HALVINGS = {"to the end": None, "halving": 3, "asynchronous halving": sweep.Halving(3, asynchronous=True)}


def swept(test, **options):
    return sweep.run(SPACE, TRAIN, CONFIG, mlp=BASE, validation=VALIDATION, test=test, keep="all", **options)


def without_test(row):
    return row._replace(seconds=0.0, **dict.fromkeys(REPORTED))


@pytest.mark.parametrize("halving", HALVINGS.values(), ids=HALVINGS)
def test_every_ended_trial_has_the_test_of_the_parameters_that_it_keeps(halving):
    results = swept(TEST, halving=halving)
    statuses = {row.status for row in results.rows()}
    assert statuses == {"stopped"} or statuses == {"stopped", "finished"}
    for row in results.rows():
        expected = evaluate(results.trial(row.trial).mlp, results.params(row.trial), TEST)
        assert (row.test_accuracy, row.test_r2) == (expected.accuracy, None)
        assert row.test_loss == pytest.approx(expected.loss, rel=1e-5)  # float32: side by side, sums have another order


def test_the_test_of_a_trial_alone_is_that_of_train_to_the_last_bit():
    results = swept(TEST, lanes=1)
    for row in results.rows()[::5]:
        trial = results.trial(row.trial)
        key, parts = jax.random.key(trial.seed), {"validation": VALIDATION, "test": TEST}
        assert train(trial.mlp, TRAIN, trial.config, key=key, **parts).test == row[-3:]


@pytest.mark.parametrize("halving", HALVINGS.values(), ids=HALVINGS)
def test_other_test_data_change_nothing_but_their_own_columns(halving):
    first, *others = (swept(test, halving=halving) for test in (None, TEST, noise(50, 3)))
    assert {name for row in first.rows() for name in REPORTED if getattr(row, name) is not None} == set()
    for other in others:
        assert [without_test(row) for row in other.rows()] == [without_test(row) for row in first.rows()]
        assert repr([each._replace(test=None) for each in other.ranked()]) == repr(first.ranked())  # nan is not nan
        for number in range(len(first)):
            jax.tree.map(np.testing.assert_array_equal, other.params(number), first.params(number))
    assert others[0].table()["test_loss"].to_list() != others[1].table()["test_loss"].to_list()


def test_a_class_of_the_test_data_alone_adds_no_output():
    """Three classes in validation, and a fourth in test: the default network has three outputs, and says so."""
    of_three, of_four = (Dataset(TEST.x, np.arange(50) % n) for n in (3, 4))
    space = sweep.grid(seed=[0])
    for test in (None, TEST, of_three):
        planned = sweep.plan(space, TRAIN, CONFIG, validation=of_three, test=test)
        assert planned.groups[0].mlp.sizes[-1] == 3
    unseen = r"test: t has class 3 in row 3, but the network has 3 outputs$"
    with pytest.raises(ValueError, match=unseen):
        sweep.run(space, TRAIN, CONFIG, validation=of_three, test=of_four)
    with pytest.raises(ValueError, match=unseen):
        train(MLP((5, 128, 3)), TRAIN, CONFIG, key=jax.random.key(0), validation=of_three, test=of_four)


def test_without_validation_data_trials_are_ranked_by_their_training_loss():
    results = sweep.run(SPACE, TRAIN, CONFIG, mlp=BASE, test=TEST)
    assert results.metric == "train_loss"
    assert results.best().test == interval([results.rows()[number].test_loss for number in results.best().trials])


def test_a_setting_reports_the_test_of_its_metric_and_is_not_chosen_by_it():
    results = swept(TEST)
    for metric, reported in (("validation_accuracy", "test_accuracy"), ("validation_loss", "test_loss")):
        best = results.best(metric)
        assert best.test == interval([getattr(results.rows()[number], reported) for number in best.trials])
    with pytest.raises(ValueError, match=r"^test_accuracy is for reporting: choose by validation_accuracy$"):
        results.best("test_accuracy")


def test_on_noise_the_chosen_trial_is_better_than_chance_on_validation_and_at_chance_on_test():
    """The labels of each test part are fair coins that nothing has seen: the right ones are binomial, exactly."""
    n_parts, n_validation, n_test = 20, 25, 50
    right = np.zeros(2, int)
    for part in range(n_parts):
        data = [noise(n, 100 * part + n) for n in (48, n_validation, n_test)]
        results = sweep.run(sweep.grid(seed=range(16)), data[0], CONFIG, mlp=BASE, validation=data[1], test=data[2])
        best = results.rows()[results.best(over=None).trials[0]]
        right += [round(best.validation_accuracy * n_validation), round(best.test_accuracy * n_test)]
    assert right[0] > stats.binom.ppf(1 - 1e-6, n_parts * n_validation, 0.5)
    low, high = stats.binom.interval(1 - 1e-3, n_parts * n_test, 0.5)
    assert low <= right[1] <= high
