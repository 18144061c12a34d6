"""Every fold of a trial is the training run on its rows alone, and settings are compared over all of them."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import ShuffleSplit

from jaxmlp import MLP, Dataset, TrainConfig, sweep, train
from jaxmlp.sweep.folds import Folds, folds_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((103, 6)).astype(np.float32)
T = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0)
WEIGHTS = RNG.uniform(0.5, 2, 103).astype(np.float32)
DATA, TEST = Dataset(X, T), Dataset(X[::4] + 0.1, T[::4])
VALUES = Dataset(X, X[:, :2] * 2 + X[:, 2:4] ** 2)
CONFIG = TrainConfig(epochs=3, batch_size=16)
SPACE = sweep.grid(learning_rate=[0.01, 0.1], seed=[0, 3])


def without_time(history):
    return [epoch._replace(seconds=0.0) for epoch in history]


def rows_of(data, rows):
    weights = None if data.weights is None else data.weights[rows]
    return Dataset(data.x[rows], data.t[rows], weights, data.expansion)


def assert_each_fold_equals_training_alone(results, data, folds, **tolerance):
    for number in range(len(results)):
        trial = results.trial(number)
        mine, held = folds.train[trial.fold], folds.validation[trial.fold]
        key = jax.random.key(trial.seed)
        alone = train(trial.mlp, rows_of(data, mine), trial.config, key=key, validation=rows_of(data, held), test=TEST)
        if tolerance:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, **tolerance), results.params(number), alone.params
            )
            losses = [[epoch.validation_loss for epoch in each] for each in (results.history(number), alone.history)]
            np.testing.assert_allclose(*losses, **tolerance)
        else:
            jax.tree.map(np.testing.assert_array_equal, results.params(number), alone.params)
            assert without_time(results.history(number)) == without_time(alone.history)
            assert results.rows()[number].test == alone.test


@pytest.mark.parametrize("lanes", [1, None])
@pytest.mark.parametrize(
    ("data", "mlp", "config"),
    [
        (DATA, MLP((6, 7, 3)), CONFIG),
        (Dataset(X, T, WEIGHTS), MLP((6, 3)), TrainConfig(epochs=2, batch_size=20, patience=1, track=("curvature",))),
    ],
    ids=["classes", "weights and curvature"],
)
def test_each_fold_equals_training_on_its_rows_alone(data, mlp, config, lanes):
    """103 rows in 5 folds: some train on 82 rows and some on 83, and are validated on 21 or 20."""
    folds = folds_of(5, data, True)
    assert len(set(folds.sizes())) == 2
    space = sweep.grid(learning_rate=[0.01, 0.1, 0.2], seed=[0, 3])
    results = sweep.run(space, data, config, mlp=mlp, folds=5, test=TEST, keep="all", lanes=lanes)
    # Side by side sums have another order: a few roundings, which three short epochs carry on.
    exactness = {} if lanes == 1 else {"rtol": 2e-4, "atol": 2e-5}
    assert_each_fold_equals_training_alone(results, data, folds, **exactness)
    plan = sweep.plan(space, data, config, mlp=mlp, folds=5, lanes=lanes)
    assert len(plan.groups) == 2
    assert plan.n_trials == 30
    if lanes is None:
        assert max(group.n_lanes for group in plan.groups) > 1


def test_folds_of_several_widths_and_rows_that_repeat_are_those_that_were_given():
    mask = np.zeros(103, bool)
    mask[:30] = True
    pairs = [(np.arange(60), [61, 60, 99]), (~mask, mask), (np.repeat(np.arange(40), 2), np.arange(50, 103))]
    pairs += list(ShuffleSplit(2, random_state=0, test_size=0.3).split(X))
    results = sweep.run(SPACE, DATA, CONFIG, mlp=MLP((6, 3)), folds=pairs, test=TEST, keep="all", lanes=1)
    rows = [tuple(np.flatnonzero(r) if r.dtype == bool else r for r in map(np.asarray, pair)) for pair in pairs]
    assert_each_fold_equals_training_alone(results, DATA, Folds(*zip(*rows, strict=True)))


def test_folds_on_compact_data_equal_training_alone(x64, compact):
    folds = folds_of(3, compact, True)
    results = sweep.run(SPACE, compact, CONFIG, folds=3, keep="all", lanes=1)
    for number in range(len(results)):
        trial = results.trial(number)
        mine, held = (rows_of(compact, part[trial.fold]) for part in folds)
        alone = train(trial.mlp, mine, trial.config, key=jax.random.key(trial.seed), validation=held)
        jax.tree.map(np.testing.assert_array_equal, results.params(number), alone.params)
        assert without_time(results.history(number)) == without_time(alone.history)


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(2, 8))
def test_folds_hold_out_every_row_once_and_each_class_in_equal_shares(classes, n):
    data = Dataset(np.ones((len(classes), 1)), classes)
    folds = folds_of(n, data, True)
    assert sorted(np.concatenate(folds.validation)) == list(range(len(classes)))
    for train_rows, held in zip(*folds, strict=True):
        assert sorted([*train_rows, *held]) == list(range(len(classes)))
    counts = np.array([np.bincount(np.array(classes)[rows], minlength=4) for rows in folds.validation])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(1)) <= 1
    other = folds_of(n, data, False)
    assert np.ptp([len(rows) for rows in other.validation]) <= 1
    again = Folds.from_json(folds.to_json())
    jax.tree.map(np.testing.assert_array_equal, again, folds)


def test_settings_are_means_over_seeds_and_folds_or_over_either():
    results = sweep.run(SPACE, DATA, CONFIG, folds=4)
    table = results.table()
    assert results.metric == "validation_accuracy"
    assert table["fold"].to_list() == [0, 1, 2, 3] * 4
    means = (
        table.drop("status", "stopped_by").group_by("learning_rate").mean().sort("validation_accuracy", descending=True)
    )
    best = results.best()
    assert best.mean == pytest.approx(means["validation_accuracy"][0])
    assert (len(best.trials), best.n_asked) == (8, 8)
    assert best.hyperparameters == {"learning_rate": means["learning_rate"][0]}
    assert results.settings()["n"].to_list() == [8, 8]
    assert results.settings(over="fold").select("seed", "n").sort("seed").rows() == [(0, 4), (0, 4), (3, 4), (3, 4)]
    assert results.settings(over="seed")["n"].to_list() == [2] * 8
    assert results.best(over=None).n_asked == 1
    values = sweep.run(SPACE, VALUES, CONFIG, folds=3)
    assert values.metric == "validation_r2"
    assert len(values.best().trials) == 6


def test_halving_stops_all_folds_of_a_setting_together():
    space = sweep.grid(learning_rate=[0.0001, 0.1, 0.0002, 0.0003], seed=[0, 1])
    results = sweep.run(space, DATA, TrainConfig(epochs=4, batch_size=16), folds=3, halving=2)
    statuses = [set(group["status"]) for _, group in results.table().group_by("learning_rate")]
    assert sorted(map(sorted, statuses)) == [["finished"], ["stopped"], ["stopped"], ["stopped"]]
    assert results.best().hyperparameters == {"learning_rate": 0.1}


def test_a_sweep_of_folds_goes_on_grows_and_refuses_other_folds(tmp_path):
    def run(space, folder=None, folds=3, **options):
        return sweep.run(space, DATA, CONFIG, out=folder, folds=folds, lanes=1, trials_a_block=4, keep=0, **options)

    def interrupt(progress):
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SPACE, tmp_path, callback=interrupt)
    more = sweep.grid(learning_rate=[0.01, 0.1], seed=[0, 3, 5])
    grown, at_once = run(more, tmp_path), run(more)
    assert len(grown) == 18
    assert grown.best()._replace(trials=()) == at_once.best()._replace(trials=())
    loaded = sweep.load(tmp_path)
    assert loaded.trial(2).values == {"learning_rate": 0.01, "seed": 0, "fold": 2}
    assert [loaded.trial(n).fold for n in range(18)] == grown.table()["fold"].to_list()
    with pytest.warns(UserWarning, match="the model of trial 1 was not kept: it is trained again$"):
        again = loaded.params(1, data=DATA)
    alone = sweep.run(SPACE, DATA, CONFIG, folds=3, lanes=1, keep="all").params(1)
    jax.tree.map(np.testing.assert_array_equal, again, alone)
    pairs = list(zip(*folds_of(3, DATA, True), strict=True))
    assert run(more, tmp_path, folds=pairs).rows() == grown.rows()
    pairs[0] = pairs[0][0][1:], pairs[0][1]
    for folds, said in (
        (4, "the sweep was begun with 3 folds, got 4 folds"),
        (None, "the sweep was begun with 3 folds, got none"),
        (pairs, "these are not the folds that the sweep was begun with"),
    ):
        with pytest.raises(ValueError, match=f"{said}$"):
            run(more, tmp_path, folds=folds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 1}, "folds must be a whole number from 2 to 103, got 1"),
        ({"folds": 104}, "folds must be a whole number from 2 to 103, got 104"),
        ({"folds": 2.5}, "folds must be a number, or pairs (training rows, validation rows), got 2.5"),
        ({"folds": []}, "folds must be a number, or pairs (training rows, validation rows), got []"),
        ({"folds": [([0, 1], [1, 2])]}, "fold 0: row 1 is among those to train on and those to validate on"),
        ({"folds": [([0, 1], [103])]}, "fold 0: the rows to validate on must be from 0 to 102, got 103"),
        ({"folds": [([-1, 1], [3])]}, "fold 0: the rows to train on must be from 0 to 102, got -1"),
        ({"folds": [([0.5], [3])]}, "fold 0: the rows to train on must be a list of whole numbers, got float64"),
        ({"folds": [([], [3])]}, "fold 0: the rows to train on must be a list of whole numbers"),
        ({"folds": 2, "validation": TEST}, "leave out validation, or folds"),
        (
            {"folds": [(range(15), range(15, 103))]},
            "trial 0 (learning_rate=0.01, seed=0, fold=0): batch_size must be at most the 15 training examples of the",
        ),
    ],
)
def test_wrong_folds_are_refused_in_one_line(options, said):
    for act in (sweep.run, sweep.plan):
        with pytest.raises((TypeError, ValueError), match=re.escape(said)) as caught:
            act(SPACE, DATA, CONFIG, **options)
        assert "\n" not in str(caught.value)


def test_a_fold_is_no_hyperparameter():
    with pytest.raises(ValueError, match="unknown hyperparameter 'fold'"):
        sweep.grid(fold=[0, 1])
    with pytest.raises(ValueError, match="unknown hyperparameter 'fold'"):
        sweep.run(sweep.Space(("fold",), ((0,),)), DATA)
