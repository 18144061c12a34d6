"""Which models a sweep keeps, and that one that is not there is trained again to the same numbers."""

import re
import warnings

import jax
import numpy as np
import pytest

from jaxmlp import Dataset, TrainConfig, sweep
from jaxmlp.data import fingerprint

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 5)).astype(np.float32)
T = (X[:, 0] + RNG.standard_normal(120) > 0).astype(int)
DATA, VALIDATION, TEST = Dataset(X[:80], T[:80]), Dataset(X[80:100], T[80:100]), Dataset(X[100:], T[100:])
PARTS = {"validation": VALIDATION, "test": TEST}
CONFIG = TrainConfig(epochs=4, batch_size=16)
SPACE = sweep.grid(learning_rate=[0.01, 0.05, 0.1, 0.3, 1e18], seed=range(3))
AGAIN = "it is trained again"


def kept(results):
    return {n for n in range(len(results)) if results._store.load_model(results.trial(n)) is not None}


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("draw", range(4))
@pytest.mark.parametrize("size", [{"lanes": 1, "trials_a_block": 1}, {"lanes": 2, "trials_a_block": 4}, {}])
def test_the_models_of_the_best_settings_are_kept_for_all_of_their_seeds(tmp_path, draw, size):
    space = sweep.random(6, draw=draw, learning_rate=sweep.log_uniform(1e-3, 1), seed=range(3))
    results = sweep.run(space, DATA, CONFIG, out=tmp_path, keep=2, **PARTS, **size)
    best = {number for setting in results.ranked()[:2] for number in setting.trials}
    single = {setting.trials[0] for setting in results.ranked(over=None)[:2]}
    assert kept(results) == best | single
    results.model()  # without a warning


def test_a_setting_whose_other_seeds_still_run_is_kept(tmp_path):
    def interrupt(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    order = sweep.Space(
        ("learning_rate", "seed"), tuple((rate, seed) for seed in range(2) for rate in (0.1, 1e-6, 0.3))
    )
    options = {"out": tmp_path, "keep": 1, "lanes": 1, "trials_a_block": 1, "devices": jax.local_devices()[:1], **PARTS}
    with pytest.raises(KeyboardInterrupt):
        sweep.run(order, DATA, CONFIG, callback=interrupt, **options)
    before = sweep.load(tmp_path)
    ended = {row.trial for row in before.rows()}
    open_ones = {n for n in ended if (n + 3) % 6 not in ended}
    assert open_ones
    assert open_ones <= kept(before)
    results = sweep.run(order, DATA, CONFIG, **options)
    assert set(results.best().trials) <= kept(results)


def test_halving_keeps_no_model_of_a_trial_that_it_stopped():
    space = sweep.random(9, learning_rate=sweep.log_uniform(1e-3, 1), seed=range(2))
    results = sweep.run(space, DATA, CONFIG, keep=3, halving=2, **PARTS)
    assert kept(results) == {number for setting in results.ranked()[:3] for number in setting.trials}


@pytest.mark.parametrize(
    "options",
    [
        {"lanes": 1},
        {"lanes": 4},
        {"lanes": 15},
        {"lanes": 3, "halving": 2},
        {"lanes": 2, "halving": sweep.Halving(2, asynchronous=True)},
        {"config": TrainConfig(epochs=12, batch_size=16, patience=1), "lanes": 4},
    ],
)
def test_a_model_that_was_not_kept_is_trained_again_to_the_same_numbers(options):
    options = {"config": CONFIG, **PARTS, **options}
    whole, few = (sweep.run(SPACE, DATA, keep=keep, **options) for keep in ("all", 0))
    for number in range(len(SPACE)):
        with pytest.warns(UserWarning, match=f"^the model of trial {number} was not kept: {AGAIN}$"):
            model = few.model(number)
        assert_same_bits(model.networks[0].params, whole.model(number).networks[0].params)
        assert model.about == whole.model(number).about
        assert few.model(number) is model  # trained once


def test_a_loaded_sweep_trains_again_with_the_same_data_only(tmp_path):
    expected = sweep.run(SPACE, DATA, CONFIG, keep="all", **PARTS)
    sweep.run(SPACE, DATA, CONFIG, keep=1, out=tmp_path, **PARTS)
    results = sweep.load(tmp_path)
    best, *_, worst = results.ranked()
    here, gone = best.trials[:2]
    other = worst.trials[0]
    (tmp_path / f"models/trial-{gone:06d}.safetensors").unlink()
    path = tmp_path / f"models/trial-{here:06d}.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    faults = {
        other: f"the model of trial {other} was not kept",
        gone: f"the model of trial {gone} was deleted",
        here: re.escape(f"{path}: "),
    }
    for number, fault in faults.items():
        with pytest.raises(ValueError, match=f"^{fault}.*; pass data= and validation= of the sweep to train it again$"):
            results.model(number)
        for given, said in (
            ({"data": DATA}, "the sweep was begun with validation data; pass the same data"),
            (
                {"data": VALIDATION, "validation": VALIDATION},
                "these are not the training data that the sweep was begun",
            ),
            ({"data": DATA, "validation": TEST}, "these are not the validation data that the sweep was begun with"),
        ):
            with pytest.raises(ValueError, match=said):
                results.model(number, **given)
        with pytest.warns(UserWarning, match=f"^{fault}.*: {AGAIN}$"):
            params = results.params(number, data=DATA, validation=VALIDATION)
        assert_same_bits(params, expected.params(number))


def test_a_model_trained_again_to_other_numbers_says_so(tmp_path, monkeypatch):
    results = sweep.run(SPACE, DATA, CONFIG, keep=0, **PARTS)
    # Labels that the fingerprint takes for the same.
    other = Dataset(X[80:100], 1 - T[80:100])
    monkeypatch.setattr(
        "jaxmlp.sweep.keeping.fingerprint", lambda part: fingerprint({id(other): VALIDATION}.get(id(part), part))
    )
    with pytest.warns(UserWarning, match=r"trained again; now its validation accuracy is [\d.]+, in the sweep [\d.]+$"):
        results.model(3, data=DATA, validation=other)


def test_the_model_of_a_trial_that_has_not_ended_is_refused(tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(SPACE, DATA, CONFIG, out=tmp_path, callback=interrupt, **PARTS)
    with pytest.raises(ValueError, match="trial 14 has not ended; run the sweep to its end"):
        sweep.load(tmp_path).model(14)


def test_the_model_of_no_trial_in_particular_is_that_of_the_best():
    results = sweep.run(SPACE, DATA, CONFIG, **PARTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert results.model().about["trial"] == results.best().trials[0]
        assert_same_bits(results.params(), results.params(results.best().trials[0]))
