"""Halving compares settings by their mean over seeds, and keeps or stops all seeds of a setting together."""

from itertools import chain, pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp import MLP, Dataset, TrainConfig, sweep
from jaxmlp.sweep.halving import Halving, survivors
from jaxmlp.sweep.planning import make_plan

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 5)).astype(np.float32)
T = (X[:, 0] + 0.5 * RNG.standard_normal(120) > 0).astype(int)
DATA, VALIDATION = Dataset(X[:80], T[:80]), Dataset(X[80:], T[80:])
SPACE = sweep.grid(learning_rate=[0.002, 0.01, 0.05, 0.2, 0.8, 1e18], momentum=[0.0, 0.9], seed=range(3))
SETTINGS = [range(place, place + 3) for place in range(0, len(SPACE), 3)]


def run(space=SPACE, patience=None, **options):
    config = TrainConfig(epochs=9, batch_size=16, patience=patience, schedule="constant")
    options = {"mlp": MLP((5, 4, 2)), "validation": VALIDATION, "keep": 0, "lanes": 1} | options
    return sweep.run(space, DATA, config, **options)


@given(st.integers(2, 4), st.lists(st.lists(st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0]), min_size=1), min_size=1))
def test_the_settings_with_the_best_means_continue_as_a_whole(factor, scores):
    numbers = iter(range(1000))
    settings = [[next(numbers) for _ in each] for each in scores]
    of_trial = {
        n: s for setting, each in zip(settings, scores, strict=True) for n, s in zip(setting, each, strict=True)
    }
    going_on = survivors(Halving(factor), settings, of_trial, set(of_trial))
    assert going_on == [setting for setting in settings if setting in going_on]
    assert len(going_on) == max(1, len(settings) // factor)
    means = {tuple(setting): np.mean(each) for setting, each in zip(settings, scores, strict=True)}
    worst = min(means[tuple(setting)] for setting in going_on)
    assert all(mean <= worst for setting, mean in means.items() if [*setting] not in going_on)


def test_a_setting_whose_trials_have_all_ended_does_not_continue():
    settings, scores = [(0, 1), (2, 3), (4, 5)], dict.fromkeys(range(4), 1.0) | {4: 0.1, 5: 0.1}
    assert survivors(Halving(2), settings, scores, {1, 2, 3, 4, 5}) == [(0, 1)]
    assert survivors(Halving(2), settings, scores, {4}) == [(4, 5)]
    assert survivors(Halving(2), settings, scores, set()) == []


def halved_naively(whole, factor, patience):
    """Return how many epochs each trial takes, from the curves of a sweep without halving."""
    curves = [[epoch.validation_accuracy for epoch in whole.history(number)] for number in range(len(whole))]
    lost = {row.trial for row in whole.rows() if row.status == "diverged"}
    epochs, alive, rung = [0] * len(curves), list(SETTINGS), 1

    def score(number):
        curve = curves[number]
        if number in lost and len(curve) <= rung:
            return -np.inf
        # What patience has stopped has the score of its best epoch.
        return max(curve[:-patience]) if patience and len(curve) <= rung else curve[rung - 1]

    while True:
        for setting in alive:
            for number in setting:
                epochs[number] = min(rung, len(curves[number]))
        if rung >= 9:
            return epochs
        n_reached = sum(any(len(curves[n]) >= rung for n in each) for each in alive)
        running = [each for each in alive if any(len(curves[n]) > rung for n in each)]
        ranked = sorted(running, key=lambda setting: -fmean(map(score, setting)))
        alive = sorted(ranked[: max(1, n_reached // factor)], key=SETTINGS.index)
        if not alive:
            return epochs
        rung *= factor


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_halved_sweep_is_a_whole_one_without_the_epochs_of_the_worse_settings(patience, asynchronous):
    """All settings are in one block here, where both kinds of halving decide the same."""
    whole = run(patience=patience)
    results = run(patience=patience, halving=Halving(3, asynchronous=asynchronous))
    rows, expected = results.rows(), halved_naively(whole, 3, patience)
    assert [row.epochs for row in rows] == expected
    assert len(set(expected)) >= 3
    for row in rows:
        same = [row._replace(seconds=0.0, status="") for row in (row, whole.rows()[row.trial])]
        assert same[0].epochs < same[1].epochs or same[0] == same[1]
    of_best = results.best()
    assert len(of_best.trials) == of_best.n_asked == 3
    assert of_best.mean == fmean(whole.rows()[number].validation_accuracy for number in of_best.trials)


@pytest.mark.parametrize("options", [{"trials_a_block": 4}, {"trials_a_block": 1}, {"trials_a_block": 6, "lanes": 2}])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_seed_is_stopped_before_the_others_of_its_setting(asynchronous, options):
    results = run(halving=Halving(2, asynchronous=asynchronous), **options)
    rows = results.rows()
    for setting in SETTINGS:
        ends = {(rows[n].status, rows[n].epochs) for n in setting if rows[n].status != "diverged"}
        assert len(ends) <= 1
    assert {row.status for row in rows} == {"finished", "stopped", "diverged"}
    assert all(len(each.trials) == each.n_asked == 3 for each in results.ranked())


def test_blocks_of_whole_settings_are_as_large_as_asked_for_and_split_none():
    import jax

    listed = [results.trial(number) for results in [run()] for number in range(len(SPACE))]
    for trials_a_block, n_lanes in ((9, 1), (8, 1), (1, 1), (12, 2), (100, 4)):
        options = {"trials_a_block": trials_a_block, "lanes": n_lanes, "whole_settings": True}
        (group,) = make_plan(listed, 80, 0, jax.local_devices()[:1], **options).groups
        blocks = [sorted(number for chunk in block for number in chunk) for block in group.blocks]
        assert sorted(chain.from_iterable(blocks)) == list(range(len(SPACE)))
        for block in blocks:
            assert all(set(setting) <= set(block) or set(setting).isdisjoint(block) for setting in SETTINGS)
            assert len(block) <= max(3, trials_a_block)
        if trials_a_block >= 3:  # two blocks in turn would not fit into one
            assert all(len(one) + 3 > trials_a_block // n_lanes * n_lanes - 2 * n_lanes for one, _ in pairwise(blocks))


def test_a_mean_over_fewer_seeds_than_were_asked_for_says_so_and_is_not_ahead(results_of):
    space = sweep.grid(learning_rate=[0.1, 0.2, 0.3], seed=range(4))
    accuracy = {n: {"validation_accuracy": 0.5 + n / 100} for n in range(8)} | {8: {"validation_accuracy": 1.0}}
    results = results_of(space, accuracy)
    with pytest.warns(UserWarning, match="^9 of 12 trials have ended$"):
        found, over_rates = results.ranked(), results.ranked(over="learning_rate")
    assert [(len(each.trials), each.n_asked) for each in found] == [(4, 4), (4, 4), (1, 4)]
    assert [each.hyperparameters["learning_rate"] for each in found] == [0.2, 0.1, 0.3]
    assert [(each.hyperparameters["seed"], len(each.trials)) for each in over_rates][:1] == [(0, 3)]


def test_settings_with_the_same_values_in_another_order_tie(results_of):
    space, values = sweep.grid(learning_rate=[0.1, 0.2], seed=range(3)), [0.7, 0.1, 0.2, 0.2, 0.1, 0.7]
    found = results_of(space, {n: {"validation_accuracy": value} for n, value in enumerate(values)}).ranked()
    assert found[0].mean == found[1].mean
    assert found[0].hyperparameters == {"learning_rate": 0.1}
