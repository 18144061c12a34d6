"""An Optuna study is told what the networks of its trials are worth, and nothing that was not measured."""

import warnings
from functools import partial
from itertools import count

import jax
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from jaxmlp import MLP, Dataset, TrainConfig, evaluate, sweep, train
from jaxmlp.sweep import lanes, planning, rungs
from jaxmlp.sweep.proposing import Axes
from jaxmlp.sweep.space import NAMES

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

optuna.logging.set_verbosity(optuna.logging.WARNING)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4)).astype(np.float32)
T = (X[:, 0] * X[:, 1] > 0).astype(int)
DATA, VALIDATION, TEST = (Dataset(X[rows], T[rows]) for rows in (slice(48), slice(48, 85), slice(85, 120)))
CONFIG = TrainConfig(epochs=4, batch_size=16, momentum=0.5, schedule="constant")
MLP_8 = MLP((4, 8, 2))
RATES = {"learning_rate": sweep.log_uniform(1e-2, 1)}
SIZES = {**RATES, "hidden": [(8,), (3, 3)]}


def create(direction="maximize", pruner=None, seed=0, **options):
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
    pruner = pruner or optuna.pruners.NopPruner()
    return optuna.create_study(direction=direction, sampler=sampler, pruner=pruner, **options)


def optimized(study, space=RATES, n_trials=6, **options):
    options = {"config": CONFIG, "mlp": MLP_8, "validation": VALIDATION, "test": TEST, "batch": 3, **options}
    return sweep.optimize(study, space, DATA, n_trials=n_trials, **options)


def states(study):
    return [trial.state.name for trial in study.trials]


def alone(trial, seed=0, config=CONFIG):
    """Train the network of a study's trial by itself."""
    hidden = {"8": (8,), "3:3": (3, 3)}[trial.params.get("hidden", "8")]
    return alone_at(trial.params["learning_rate"], seed, config, hidden)


def alone_at(rate, seed, config, hidden=(8,)):
    config = TrainConfig(**{**vars(config), "learning_rate": rate})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of divergence
        return train(MLP((4, *hidden, 2)), DATA, config, key=jax.random.key(seed), validation=VALIDATION, test=TEST)


def curve(history, metric="validation_accuracy"):
    return {epoch.epoch: getattr(epoch, metric) for epoch in history if getattr(epoch, metric) is not None}


class Every(optuna.pruners.BasePruner):
    """Prunes every second trial after its second epoch."""

    def prune(self, study, trial):
        return trial.number % 2 == 1 and trial.last_step >= 2


@pytest.fixture
def database(tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    yield storage
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.parametrize("kept", ["in memory", "in a database"])
def test_a_trial_has_the_value_the_curve_and_the_test_of_train(kept, request):
    storage = None if kept == "in memory" else request.getfixturevalue("database")
    study = create(storage=storage)
    optimized(study, SIZES, lanes=1)
    assert states(study) == ["COMPLETE"] * 6
    assert {trial.params["hidden"] for trial in study.trials} == {"8", "3:3"}
    for trial in study.trials:
        trained = alone(trial)
        assert trial.value == trained.history[-1].validation_accuracy
        assert trial.intermediate_values == curve(trained.history)
        assert trial.user_attrs == {"test_loss": trained.test.loss, "test_accuracy": trained.test.accuracy}


@pytest.mark.parametrize("seconds", [20, 0], ids=["together", "one after another"])
def test_a_trial_of_several_seeds_has_the_means_over_its_networks(seconds, monkeypatch):
    monkeypatch.setattr(planning, "_BLOCK_SECONDS", seconds)
    study = create("minimize")
    results = optimized(study, {**RATES, "seed": range(3)}, n_trials=3, lanes=1)
    for trial in study.trials:
        trained = [alone(trial, seed) for seed in range(3)]
        assert trial.value == pytest.approx(np.mean([each.history[-1].validation_loss for each in trained]), rel=1e-12)
        curves = [curve(each.history, "validation_loss") for each in trained]
        expected = {epoch: np.mean([one[epoch] for one in curves]) for epoch in range(1, 5)}
        assert trial.intermediate_values == pytest.approx(expected, rel=1e-12)
        assert trial.user_attrs["test_loss"] == pytest.approx(np.mean([each.test.loss for each in trained]), rel=1e-12)
    assert (len(results), results.metric) == (3, "validation_loss")
    assert results.best().mean == pytest.approx(study.best_value, rel=1e-12)
    assert results.best().low < results.best().mean < results.best().high


def test_the_best_trial_is_returned_as_a_sweep_with_its_values_and_its_model():
    study = create()
    results = optimized(study, SIZES)
    best = results.best()
    words = {(8,): "8", (3, 3): "3:3"}
    assert {**best.hyperparameters, "hidden": words[best.hyperparameters["hidden"]]} == study.best_params
    assert best.mean == study.best_value == max(trial.value for trial in study.trials)
    assert best.test.mean == study.best_trial.user_attrs["test_accuracy"]
    trial = results.trial(0)
    assert trial.mlp.sizes[1:-1] == best.hyperparameters["hidden"]
    assert evaluate(trial.mlp, results.params(0), VALIDATION).accuracy == study.best_value
    assert results.model(0).predict(X).shape == (120, 2)


def test_other_test_data_change_nothing_but_their_own_attributes():
    found = []
    for test in (None, TEST, VALIDATION):
        study = create()
        optimized(study, test=test)
        found.append([(trial.params, trial.value, trial.intermediate_values) for trial in study.trials])
    assert found[0] == found[1] == found[2]


def test_a_pruned_trial_stops_where_the_studys_pruner_stops_it_and_disturbs_no_other():
    pruned, whole = create(pruner=Every()), create()
    optimized(pruned, n_trials=3)
    optimized(whole, n_trials=3)
    assert states(pruned) == ["COMPLETE", "PRUNED", "COMPLETE"]
    for one, other in zip(pruned.trials, whole.trials, strict=True):
        n = 2 if one.state is TrialState.PRUNED else 4
        assert one.intermediate_values == dict(list(other.intermediate_values.items())[:n])
    assert pruned.trials[1].value == pruned.trials[1].intermediate_values[2]  # Optuna's own rule
    assert pruned.best_trial.number != 1


def test_all_networks_of_a_pruned_trial_stop(monkeypatch):
    ended = {}
    keep_block = rungs._keep_block
    monkeypatch.setattr(rungs, "_keep_block", lambda s, trained: ended.update(trained) or keep_block(s, trained))
    study = create(pruner=Every())
    optimized(study, {**RATES, "seed": range(2)}, n_trials=3)
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert list(study.trials[1].intermediate_values) == [1, 2]
    assert [len(ended[number].history) for number in (2, 3)] == [2, 2]


def test_a_trial_is_pruned_although_the_patience_of_one_of_its_networks_has_just_run_out():
    config = TrainConfig(**{**vars(CONFIG), "epochs": 9, "patience": 1})
    study = create("minimize", pruner=Every())
    for _ in range(2):
        study.enqueue_trial({"learning_rate": 0.7})
    lengths = {seed: len(alone_at(0.7, seed, config).history) for seed in range(12)}
    seeds = [next(seed for seed, n in lengths.items() if n == 2), next(seed for seed, n in lengths.items() if n > 2)]
    optimized(study, {"learning_rate": sweep.log_uniform(0.5, 2), "seed": seeds}, n_trials=2, config=config)
    assert states(study) == ["COMPLETE", "PRUNED"]
    assert list(study.trials[1].intermediate_values) == [1, 2]


def test_halving_prunes_as_it_does_in_a_sweep():
    study = create(pruner=Every())  # which halving takes the place of
    optimized(study, n_trials=9, batch=9, halving=3)
    rates = [trial.params["learning_rate"] for trial in study.trials]
    options = {"mlp": MLP_8, "validation": VALIDATION, "test": TEST, "halving": 3}
    results = sweep.run(sweep.Space(("learning_rate",), tuple((rate,) for rate in rates)), DATA, CONFIG, **options)
    for trial, row in zip(study.trials, results.rows(), strict=True):
        assert trial.state.name == {"finished": "COMPLETE", "stopped": "PRUNED"}[row.status]
        assert list(trial.intermediate_values) == list(range(1, row.epochs + 1))
        assert trial.value == row.validation_accuracy
        assert trial.user_attrs["test_accuracy"] == row.test_accuracy
    assert states(study).count("PRUNED") == 8


def test_a_trial_that_its_patience_ends_is_complete_with_the_value_of_the_epoch_it_keeps():
    config = TrainConfig(**{**vars(CONFIG), "epochs": 9, "patience": 1})
    study = create("minimize")
    optimized(study, {"learning_rate": sweep.log_uniform(0.5, 2)}, config=config, lanes=1)
    trained = [alone(trial, config=config) for trial in study.trials]
    assert "stopped" in {each.status for each in trained}
    for trial, each in zip(study.trials, trained, strict=True):
        assert trial.state is TrialState.COMPLETE
        assert trial.value == each.history[each.best_epoch - 1].validation_loss
        assert len(trial.intermediate_values) == len(each.history)


def test_a_diverged_trial_fails_without_a_value_and_is_never_the_best():
    study = create("minimize")
    for rate in (1e30, 0.1, 0.2):
        study.enqueue_trial({"learning_rate": rate})
    results = optimized(study, {"learning_rate": sweep.log_uniform(0.01, 1e30)}, n_trials=3)
    first = study.trials[0]
    assert (first.state, first.value, first.intermediate_values) == (TrialState.FAIL, None, {})
    assert first.user_attrs == {"failure": "diverged"}
    assert results.best().hyperparameters["learning_rate"] < 1e30
    assert len(study.trials) == 3  # it counts


def test_a_trial_fails_if_one_of_its_networks_diverges(monkeypatch):
    study = create()
    begin = rungs.begin

    def poisoned(listed):
        started = begin(listed)
        return started | {
            n: each._replace(last_params=poison(each.last_params)) for n, each in started.items() if n == 3
        }

    def poison(params):
        return jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), params)

    monkeypatch.setattr(rungs, "begin", poisoned)
    optimized(study, {**RATES, "seed": range(2)}, n_trials=3)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs == {"failure": "diverged"}


def test_if_every_trial_diverges_the_error_says_so():
    study = create()
    with pytest.raises(ValueError, match=r"^every trial of the study \(3\) diverged: try lower learning rates, or"):
        optimized(study, {"learning_rate": sweep.log_uniform(1e29, 1e30)}, n_trials=3)
    assert states(study) == ["FAIL"] * 3


def test_a_setting_whose_values_exclude_each_other_fails_and_the_others_are_trained():
    space = {"hidden": [(8,), (3, 3)], "activation": ["tanh", ("relu", "tanh")]}
    study = create()
    for hidden, activation in (("8", "relu:tanh"), ("3:3", "relu:tanh"), ("8", "tanh")):
        study.enqueue_trial({"hidden": hidden, "activation": activation})
    mlp = MLP((4, 3, 3, 2))
    with pytest.raises(ValueError, match=r"activation"):  # alone, the choice does not fit the first hidden layers
        optimized(study, space, n_trials=3, mlp=mlp)
    space["hidden"].reverse()
    with pytest.warns(RuntimeWarning, match=r"^trial 0 of the study fails: .*activation"):
        optimized(study, space, n_trials=3, mlp=mlp)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "activation" in study.trials[0].user_attrs["failure"]


def test_a_queued_trial_comes_first_and_one_with_an_unknown_word_fails():
    study = create()
    study.enqueue_trial({"learning_rate": 0.25, "hidden": "3:3"})
    study.enqueue_trial({"hidden": "3,3"})
    with pytest.warns(RuntimeWarning, match=r"^trial 1 of the study fails: hidden: '3,3' not in \('8', '3:3'\)"):
        optimized(study, SIZES, n_trials=4)
    assert study.trials[0].params == {"learning_rate": 0.25, "hidden": "3:3"}
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def interrupting(after, error=KeyboardInterrupt):
    """Return a callback that interrupts when it is called for the so manieth time."""
    calls = iter(range(after))

    def callback(progress):
        if next(calls, None) is None:
            raise error

    return callback


def test_ctrl_c_leaves_no_trial_running_and_the_same_call_continues(database):
    reload = partial(optuna.load_study, study_name="rates", storage=database)
    with pytest.raises(KeyboardInterrupt, match=r"^3 of 6 trials are done; repeat the call to continue$"):
        # A batch has four epochs and an end: the second one is interrupted in its third epoch.
        optimized(create(storage=database, study_name="rates"), callback=interrupting(7))
    study = reload()
    assert states(study) == ["COMPLETE"] * 3 + ["FAIL"] * 3 + ["WAITING"] * 3
    optimized(study)
    study = reload()
    assert states(study) == ["COMPLETE"] * 3 + ["FAIL"] * 3 + ["COMPLETE"] * 3
    assert [trial.params for trial in study.trials[3:6]] == [trial.params for trial in study.trials[6:]]
    for interrupted, again in zip(study.trials[3:6], study.trials[6:], strict=True):
        known = interrupted.intermediate_values
        assert known == {epoch: again.intermediate_values[epoch] for epoch in known}
    results = optimized(study)
    assert len(study.trials) == 9  # all six are done: nothing is asked
    assert results.best().mean == study.best_value


def test_ctrl_c_while_trials_are_asked_leaves_none_running(monkeypatch):
    study = create()
    create_new_trial, calls = study._storage.create_new_trial, count()

    def interrupted(*args, **options):
        number = create_new_trial(*args, **options)
        if next(calls) == 2:
            raise KeyboardInterrupt
        return number

    monkeypatch.setattr(study._storage, "create_new_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        optimized(study)
    monkeypatch.undo()
    assert "RUNNING" not in states(study)
    optimized(study)
    assert states(study).count("COMPLETE") == 6


def test_trials_that_a_killed_process_left_are_asked_again_and_do_not_count():
    study = create()
    optimized(study, SIZES, n_trials=3)
    study.enqueue_trial({"learning_rate": 0.125})
    queued = study.ask()  # killed before it got its values
    half = study.ask()
    half.suggest_float("learning_rate", 1e-2, 1, log=True)
    whole = study.ask()
    Axes.of(SIZES).suggest(whole)
    bare = study.ask()
    optimized(study, SIZES, n_trials=6)
    assert [study.trials[each.number].state.name for each in (queued, half, whole, bare)] == ["FAIL"] * 4
    done = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert len(done) == 6
    assert done[3].params["learning_rate"] == 0.125
    assert done[4].params["learning_rate"] == half.params["learning_rate"]
    assert done[5].params == whole.params


def test_an_error_in_training_leaves_no_trial_running(monkeypatch):
    def fails(*_):
        raise MemoryError("all is full")

    monkeypatch.setattr(rungs, "run_block", fails)
    study = create()
    with pytest.raises(MemoryError, match="all is full"):
        optimized(study)
    assert states(study) == ["FAIL"] * 3 + ["WAITING"] * 3


def test_a_callback_sees_the_whole_study_and_may_end_it():
    study, seen = create(), []
    optimized(study, n_trials=3, callback=seen.append)
    assert [progress.done for progress in seen] == [0] * 4 + [3]
    assert (seen[0].total, seen[0].best, seen[0].seconds_left) == (3, None, None)
    assert seen[-1].best == (study.best_value, study.best_trial.number)
    results = optimized(study, n_trials=12, callback=interrupting(6, sweep.StopSweep))
    assert states(study) == ["COMPLETE"] * 6 + ["FAIL"] * 3 + ["WAITING"] * 3
    assert results.best().mean == study.best_value


def test_trials_that_wait_for_a_rung_are_pruned_where_a_callback_ends_the_study():
    study = create()
    with pytest.raises(ValueError, match=r"^none of the study's 9 trials is complete$"):
        optimized(study, n_trials=9, batch=9, halving=3, callback=interrupting(2, sweep.StopSweep))
    assert set(states(study)) == {"PRUNED"}


def test_every_batch_of_one_size_has_the_same_program():
    before = lanes._compiled.cache_info().misses
    config = TrainConfig(**{**vars(CONFIG), "batch_size": 12})  # no other test has it
    study = create(seed=3)
    optimized(study, {**RATES, "hidden": [(8,), (7,)]}, n_trials=15, batch=4, config=config)
    numbers = [[trial.params["hidden"] for trial in study.trials[i : i + 4]].count("7") for i in range(0, 15, 4)]
    assert len(set(numbers)) > 1  # of networks of one size in a batch
    assert lanes._compiled.cache_info().misses - before == 2


def test_a_sampler_that_has_no_more_settings_ends_the_study():
    grid = {"learning_rate": [0.1, 0.5], "hidden": ["8", "3:3"]}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(grid))
    optimized(study, SIZES, n_trials=12, batch=2)
    assert states(study) == ["COMPLETE"] * 4
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 4


def swapped(**options):
    return {"space": RATES, "n_trials": 6, **options}


REFUSED = {
    "direction": ({"metric": "validation_loss"}, r"validation_loss needs a study that is created with direction='mini"),
    "R2 of classes": ({"metric": "validation_r2"}, r"unknown metric 'validation_r2'"),
    "test": ({"metric": "test_accuracy"}, r"test_accuracy is for reporting: choose by validation_accuracy$"),
    "no dict": ({"space": sweep.grid(momentum=[0.1, 0.2])}, r"space must be a dict of names, as .*, got Space$"),
    "nothing": ({"space": {"seed": [1, 2]}}, r"a space must have at least one hyperparameter to propose, got none$"),
    "a name": ({"space": {"learning_rat": [1, 2]}}, r"unknown hyperparameter 'learning_rat', did you mean 'learning_r"),
    "a bound": (
        {"space": {"momentum": sweep.uniform(0, 1)}},
        r"^momentum must be 0 or larger and below 1, got 1$",
    ),
    "a choice": ({"space": {"hidden": [(8,), 8.5]}}, r"^hidden must be a tuple of widths, got 8.5$"),
    "a word": (
        {"space": {"activation": ["relu", ("relu",)]}},
        r"activation must have distinct values, got 'relu' twice",
    ),
    "no validation": ({"validation": None}, r"validation must be a Dataset, which the study chooses by, got None$"),
    "no batch": ({"batch": 0}, r"batch must be a whole number, 1 or larger, got 0$"),
    "no trials": ({"n_trials": 0.5}, r"n_trials must be a whole number, 1 or larger, got 0.5$"),
    "seeds": ({"space": {**RATES, "seed": [0, 1]}, "halving": 3}, r"halving compares single networks, but the space"),
    "epochs": ({"space": {"epochs": [1, 2]}, "halving": 3}, r"halving compares trials after the same epochs, but epo"),
    "memory": ({"memory": 1000}, r"sizes \(4, 8, 2\) with batch_size 16 need about"),
    "about": ({"about": {"a": object()}}, r"about must be a dict of JSON values"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused_in_one_line_before_a_trial_is_asked(options, message):
    study = create()
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        optimized(study, **options)
    assert "\n" not in str(caught.value)
    assert (study.trials, study.user_attrs) == ([], {})


def test_a_study_must_be_one_of_optuna_with_one_objective():
    with pytest.raises(TypeError, match=r"^study must be a study of Optuna, as .*, got str$"):
        optimized("study")
    with pytest.raises(ValueError, match=r"^study must have one objective, got 2$"):
        optimized(optuna.create_study(directions=["minimize", "maximize"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": TEST}, "these are not the validation data that the study was begun with"),
        ({"config": TrainConfig(batch_size=16)}, "the study was begun with epochs 4, got 30"),
        ({"mlp": MLP((4, 9, 2))}, "the study was begun with sizes [4, 8, 2], got [4, 9, 2]"),
        ({"space": {**SIZES, "momentum": [0, 0.5]}}, "the study was begun with the hyperparameters learning_rate, hid"),
        (
            {"space": {**SIZES, "hidden": [(8,), (3, 2)]}},
            "the study was begun with hidden ['8', '3:3'], got ",
        ),
        ({"space": {**SIZES, "seed": [4]}}, "the study was begun with seeds None, got [4]"),
    ],
)
def test_a_study_goes_on_only_with_the_arguments_that_its_values_came_from(options, message, begun):
    n = len(begun.trials)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        optimized(begun, **{"space": SIZES, "n_trials": 9, **options})
    assert f"{begun.study_name}: {message}" in str(caught.value)
    assert len(begun.trials) == n


@pytest.fixture(scope="module")
def begun():
    study = create()
    optimized(study, SIZES, n_trials=3)
    return study


def test_bounds_may_change_and_what_the_space_varies_may_change_in_the_configuration(begun):
    config = TrainConfig(**{**vars(CONFIG), "learning_rate": 0.5})
    optimized(begun, {**SIZES, "learning_rate": sweep.log_uniform(1e-3, 1)}, n_trials=4, config=config)
    assert len(begun.trials) == 4


def word(value):
    return (":".join(map(str, value)) or "none") if isinstance(value, tuple) else value


def test_a_best_trial_of_another_objective_is_no_network():
    study = create()
    study.add_trial(optuna.create_trial(value=2.0))
    with pytest.raises(ValueError, match=r"^trial 0, the best of the study, is not of this space: \{\}$"):
        optimized(study, n_trials=1)


NUMBERS = st.floats(1e-6, 1e6)
BOUNDS = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda ends: ends[0] < ends[1])
DISTRIBUTIONS = st.one_of(
    BOUNDS.map(lambda ends: sweep.uniform(*ends)),
    BOUNDS.map(lambda ends: sweep.log_uniform(*ends)),
    st.tuples(st.integers(1, 50), st.integers(51, 99)).map(lambda ends: sweep.integers(*ends)),
)
LAYERS = st.lists(st.integers(1, 999), max_size=3).map(tuple)
LISTS = st.lists(LAYERS | st.none() | st.text(min_size=1) | NUMBERS, min_size=2, unique_by=word)
SPACES = st.dictionaries(st.sampled_from([name for name in NAMES if name != "seed"]), DISTRIBUTIONS | LISTS, min_size=1)


@settings(max_examples=60)
@given(SPACES)
def test_optuna_proposes_values_of_the_space_and_keeps_words_that_stand_for_them(space):
    axes, study = Axes.of(space), create()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a value that a database cannot keep
        for _ in range(3):
            trial = study.ask()
            axes.suggest(trial)
            for (name, axis), value in zip(space.items(), axes.setting(trial.params), strict=True):
                assert trial.params[name] == word(value)
                if isinstance(axis, list):
                    assert value in axis
                else:
                    assert axis.low <= value <= axis.high
                    assert isinstance(value, int) == (axis.kind == "integers")
