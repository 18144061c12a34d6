"""A sweep that grows keeps what there is, and ends as a sweep that was that large at once."""

import re
import warnings

import jax
import numpy as np
import pytest

from jaxmlp import Dataset, TrainConfig, sweep
from jaxmlp.sweep import rungs, store
from jaxmlp.sweep.store import Store

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 5)).astype(np.float32)
T = (X[:, 0] + X[:, 1] > 0).astype(int)
DATA, VALIDATION, TEST = Dataset(X[:80], T[:80]), Dataset(X[80:100], T[80:100]), Dataset(X[100:], T[100:])
CONFIG = TrainConfig(epochs=3, batch_size=16)
RATES = [0.01, 0.05, 1e18]
SPACE = sweep.grid(learning_rate=RATES, hidden=[(4,)], seed=[0, 1])


def run(space, folder=None, epochs=3, schedule="cosine", **options):
    config = TrainConfig(epochs=epochs, batch_size=16, schedule=schedule)
    parts = {"validation": VALIDATION, "test": TEST, "lanes": 1, "trials_a_block": 2, "keep": "all"}
    return sweep.run(space, DATA, config, out=folder, **parts | options)


def found(results):
    """Return all that was found of each trial by its values, without times."""
    whole = {}
    for row in results.rows():
        trial = results.trial(row.trial)
        history = [epoch._replace(seconds=0.0) for epoch in results.history(row.trial)]
        key = repr((trial.mlp, trial.config, trial.seed))
        whole[key] = repr((row._replace(trial=0, seconds=0.0), history)), results.params(row.trial)
    return whole


def assert_same(one, other):
    one, other = found(one), found(other)
    assert one.keys() == other.keys()
    for key, (outcome, params) in one.items():
        assert outcome == other[key][0]
        jax.tree.map(np.testing.assert_array_equal, params, other[key][1])


@pytest.fixture
def trained(monkeypatch):
    """Record the trials that are trained, with the epoch after which they begin."""
    numbers = []
    run_block = rungs.run_block

    def recorded(job, group, block, trained, *rest):
        numbers.extend((number, len(trained[number].history)) for chunk in block for number in chunk)
        return run_block(job, group, block, trained, *rest)

    monkeypatch.setattr(rungs, "run_block", recorded)
    return numbers


@pytest.mark.parametrize(
    "more",
    [
        sweep.grid(learning_rate=RATES, hidden=[(4,)], seed=range(3)),
        sweep.grid(seed=[1, 0], hidden=[(4,), (3, 3)], learning_rate=[0.05, 0.01, 0.02, 1e18]),
        sweep.grid(learning_rate=RATES, hidden=[(4,)], seed=[0, 1], momentum=[0.5, 0.9]),
        SPACE + sweep.grid(learning_rate=[0.3, 0.4]),
    ],
    ids=["seeds", "values in another order", "another hyperparameter", "a sum"],
)
def test_more_trials_are_added_and_the_others_keep_their_numbers_and_are_not_trained_again(tmp_path, more, trained):
    before = run(SPACE, tmp_path)
    assert len(trained) == 6
    trained.clear()
    after = run(more, tmp_path)
    assert sorted(number for number, _ in trained) == [*range(6, len(after))]
    assert len(after) == len(more)
    assert_same(after, run(more))
    assert after.rows()[:6] == before.rows()
    loaded = sweep.load(tmp_path)
    assert [loaded.trial(n).values for n in range(len(more))] == [after.trial(n).values for n in range(len(more))]
    # The space that it was begun with says no more than that there is nothing to do.
    trained.clear()
    assert_same(run(SPACE, tmp_path), after)
    assert not trained


def test_more_random_settings_go_on_with_the_fewer(tmp_path, trained):
    def drawn(n):
        return sweep.random(n, learning_rate=sweep.log_uniform(1e-3, 1), momentum=sweep.uniform(0, 0.9), seed=[0, 1])

    run(drawn(3), tmp_path)
    trained.clear()
    after = run(drawn(5), tmp_path)
    assert sorted(number for number, _ in trained) == [6, 7, 8, 9]
    assert_same(after, run(drawn(5)))


def test_a_grown_sweep_that_is_interrupted_goes_on(tmp_path, monkeypatch, trained):
    run(SPACE, tmp_path)
    more, commit = sweep.grid(learning_rate=RATES, hidden=[(4,)], seed=range(4)), Store.commit

    def killed(self, trained):
        commit(self, trained)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", killed)
        with pytest.raises(KeyboardInterrupt, match="8 of 12 trials are done"):
            run(more, tmp_path)
    trained.clear()
    assert_same(run(more, tmp_path), run(more))
    assert sorted(number for number, after in trained[:4]) == [8, 9, 10, 11]


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_more_epochs_go_on_from_saved_states_and_equal_a_sweep_of_as_many(tmp_path, trained, schedule):
    space = sweep.grid(learning_rate=RATES, patience=[None, 1], seed=[0])
    run(space, tmp_path, 3, schedule)
    ended = {row.trial for row in sweep.load(tmp_path).rows() if row.status == "finished"}
    trained.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = run(space, tmp_path, 7, schedule)
    assert sorted(trained) == [(number, 3) for number in sorted(ended)]
    assert ended
    assert_same(after, run(space, epochs=7, schedule=schedule))
    assert {row.epochs for row in after.rows() if row.status == "finished"} == {7}
    assert_same(run(space, tmp_path, 7, schedule), after)


def test_trials_without_a_state_are_trained_anew_and_the_line_counts_them(tmp_path, trained):
    space = sweep.grid(learning_rate=[0.01, 0.05, 0.1])
    run(space, tmp_path, schedule="constant", keep=1)
    assert len([*(tmp_path / "paused").iterdir()]) == 1
    trained.clear()
    with pytest.warns(UserWarning, match=r"^2 trials of 3 will be trained anew for 5 epochs$") as said:
        after = run(space, tmp_path, 5, "constant", keep="all", trials_a_block=8)  # room for all in one block
    assert said[0].filename == __file__
    assert sorted(after for _, after in trained) == [0, 0, 3]
    assert_same(after, run(space, epochs=5, schedule="constant"))


def test_a_schedule_that_depends_on_the_number_of_epochs_is_trained_anew(tmp_path, trained):
    space = sweep.grid(schedule=["cosine", "constant"], learning_rate=[0.05, 1e18])
    run(space, tmp_path)
    assert sorted(path.stem for path in (tmp_path / "paused").iterdir()) == ["trial-000002"]
    trained.clear()
    said = "^2 trials of 4 will be trained anew for 4 epochs: the schedule cosine depends on the number of epochs$"
    with pytest.warns(UserWarning, match=said):
        after = run(space, tmp_path, 4)
    assert sorted(trained) == [(0, 0), (1, 0), (2, 3)]
    assert_same(after, run(space, epochs=4))


def test_epochs_that_vary_are_values_like_others(tmp_path, trained):
    run(sweep.grid(epochs=[1, 2]), tmp_path)
    trained.clear()
    after = run(sweep.grid(epochs=[1, 2, 4]), tmp_path)
    assert trained == [(2, 0)]
    assert_same(after, run(sweep.grid(epochs=[1, 2, 4])))


def test_a_halving_grows_by_settings_and_what_it_stopped_stays_stopped(tmp_path, trained):
    few = sweep.grid(learning_rate=[0.001, 0.05, 0.002, 0.003], seed=[0, 1])
    more = few + sweep.grid(learning_rate=[0.3, 0.004], seed=[0, 1])
    before = run(few, tmp_path, 4, halving=2)
    trained.clear()
    after = run(more, tmp_path, 4, halving=2)
    assert {number for number, _ in trained} == {8, 9, 10, 11}
    assert after.rows()[:8] == before.rows()
    assert {row.status for row in after.rows()} == {"finished", "stopped"}
    # Those that were stopped rank at their rung, so the new ones end as they would have beside them.
    ends = [[row._replace(seconds=0.0) for row in each.rows()[8:]] for each in (after, run(more, epochs=4, halving=2))]
    assert ends[0] == ends[1]
    assert not sweep.load(tmp_path).unfinished


def test_a_process_of_fewer_trials_leaves_those_of_another_alone_and_one_of_fewer_epochs_stops(tmp_path, monkeypatch):
    more = sweep.grid(learning_rate=RATES, hidden=[(4,)], seed=range(4))
    grown = []

    def grow(progress):
        if not grown:
            monkeypatch.setattr(store, "_RUNNING", set())  # as another process would
            grown.append(run(more, tmp_path))

    in_turn = run(SPACE, tmp_path, callback=grow)
    assert len(in_turn) == len(in_turn.rows()) == len(in_turn.table()) == 6
    assert_same(sweep.load(tmp_path), run(more))
    lengthened = []

    def lengthen(progress):
        if not lengthened:
            lengthened.append(1)
            monkeypatch.setattr(store, "_RUNNING", set())
            with pytest.warns(UserWarning, match="trained anew"):
                run(more, tmp_path, 5)

    with pytest.raises(ValueError, match=r"another call has given this sweep 5 epochs; give as many$"):
        run(more + sweep.grid([{"learning_rate": [0.5]}]), tmp_path, callback=lengthen)


@pytest.mark.parametrize(
    ("space", "epochs", "said"),
    [
        (
            sweep.grid(learning_rate=[0.01, 0.05, 0.2], hidden=[(4,)], seed=[0, 1]),
            3,
            "trial 4 of the sweep has learning_rate=1e+18, but this space has 0.01, 0.05, 0.2; give the values of both",
        ),
        (
            sweep.grid(learning_rate=RATES, hidden=[(5,)], seed=[0, 1]),
            3,
            "trial 0 of the sweep has hidden=(4,), but this space has (5,)",
        ),
        (
            sweep.grid(learning_rate=RATES, hidden=[(4,)], momentum=[0.1, 0.2]),
            3,
            "trial 0 of the sweep has momentum=0.9, but this space has 0.1, 0.2",
        ),
        (
            sweep.grid(learning_rate=RATES, hidden=[(4,)], seed=[0]) + sweep.grid(hidden=[(4,)], seed=[1]),
            3,
            "trial 1 (learning_rate=0.01, hidden=(4,), seed=1) of the sweep is not in this space, which has others",
        ),
        (SPACE, 2, "the sweep was begun with epochs 3, got 2"),
        (sweep.grid(epochs=[3, 4]) + SPACE, 4, "the sweep was begun with epochs 3, got 4"),
    ],
)
def test_a_space_that_is_no_part_of_the_other_is_refused_by_name_and_values(tmp_path, space, epochs, said):
    before = run(SPACE, tmp_path)
    with pytest.raises(ValueError, match="^" + re.escape(f"{tmp_path}: {said}")) as caught:
        run(space, tmp_path, epochs)
    assert "\n" not in str(caught.value)
    assert_same(sweep.load(tmp_path), before)


def test_the_plans_of_a_grown_sweep_are_its_own(tmp_path):
    run(SPACE, tmp_path)
    run(SPACE + sweep.grid([{"learning_rate": [0.3]}]), tmp_path)
    assert [(numbers, plan.n_trials) for numbers, plan in Store.open(tmp_path).plans()] == [((6, 0), 6), ((7, 0), 1)]
