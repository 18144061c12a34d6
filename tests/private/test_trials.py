"""Private trials side by side are the runs of `private.train`, each with its own secret and account."""

import jax
import numpy as np
import pytest

from jaxmlp import Dataset, TrainConfig, private
from jaxmlp import sweep as spaces
from jaxmlp.private import Privacy
from jaxmlp.private.planned import planned
from jaxmlp.private.renyi import Steps, epsilon_of_all
from jaxmlp.sweep.job import parts_of
from jaxmlp.sweep.space import Space

from .test_step import MLP_, flat

CONFIG = TrainConfig(epochs=2, batch_size=20, learning_rate=0.3, weight_decay=0.01)
PRIVACY = Privacy(noise_multiplier=2.0, clip=0.2, delta=1e-3)
NAMES = ("noise_multiplier", "clip", "learning_rate", "momentum", "seed")
ROWS = ((2.0, 0.2, 0.3, 0.8, 0), (0.7, 0.2, 0.3, 0.8, 0), (2.0, 0.05, 0.3, 0.8, 1), (3.0, 0.2, 1.0, 0.0, 0))
SPACE = Space(NAMES, ROWS)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Dataset(rng.normal(size=(60, 5)), rng.integers(0, 3, 60))


def alone(data, row, secret, config=CONFIG):
    """Return the run of `train` for a row of the space."""
    values = dict(zip(NAMES, row, strict=True))
    privacy = Privacy(noise_multiplier=values["noise_multiplier"], clip=values["clip"], delta=1e-3)
    changes = {name: values[name] for name in ("learning_rate", "momentum")}
    config = TrainConfig(**vars(config) | changes)
    return private.train(
        MLP_, data, privacy, config, key=jax.random.key(values["seed"]), secret=secret, validation=data
    )


def test_every_lane_is_the_run_that_train_makes(data):
    secret = jax.random.key(3)
    with jax.enable_x64(True):
        runs = [alone(data, row, jax.random.fold_in(secret, n)) for n, row in enumerate(ROWS)]
        for space, lanes in ((SPACE, 4), (SPACE, 1), (Space(NAMES, ROWS[:1]), None)):
            found = private.sweep(
                space, data, PRIVACY, CONFIG, mlp=MLP_, secret=secret, lanes=lanes, validation=data, test=data
            )
            for trial, run in zip(found.trials, runs, strict=False):
                np.testing.assert_allclose(flat(trial.network.params), flat(run.params), rtol=1e-12, atol=1e-14)
                check_same_account(trial.guarantee, run.guarantee)
                assert trial.validation == pytest.approx(run.history[-1].validation)
                assert trial.test == trial.validation


def check_same_account(ours, theirs):
    names = (
        "delta",
        "steps",
        "n_examples",
        "batch_size",
        "noise_multiplier",
        "clip",
        "relation",
        "sampling",
        "accountant",
    )
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
    assert ours.epsilon == pytest.approx(theirs.epsilon, rel=1e-9)  # composed in another order


def test_programs_of_other_shapes_have_their_own_accounts(data):
    names, rows = ("batch_size", "epochs", "hidden"), ((20, 1, (4,)), (30, 3, (3, 3)))
    found = private.sweep(Space(names, rows), data, PRIVACY, CONFIG)
    for trial, (batch_size, epochs, hidden) in zip(found.trials, rows, strict=True):
        assert trial.network.mlp.sizes[1:-1] == hidden
        n_steps, mechanism = epochs * 60 // batch_size, private.Mechanism(60, batch_size, 2.0, 0.2)
        (epsilon,) = private.epsilons(mechanism, [n_steps], 1e-3)
        check_same_account(trial.guarantee, private.Guarantee.of(mechanism, n_steps, epsilon, 1e-3))


def test_a_target_is_kept_by_each_trial(data):
    space = Space(("epsilon", "batch_size"), ((1.0, 20), (3.0, 30)))
    for each in planned(space, parts_of(data, None, None)[0], PRIVACY, CONFIG, MLP_):
        assert 0.98 * each.trial.values["epsilon"] < each.guarantee.epsilon <= each.trial.values["epsilon"]


def test_every_trial_has_a_secret_of_its_own(data):
    same = Space(("seed",), ((0,),) * 4)
    trials = [private.sweep(same, data, PRIVACY, CONFIG, mlp=MLP_, lanes=4).trials for _ in range(2)]
    first, *others = (flat(trial.network.params) for trial in (*trials[0], *trials[1]))
    # Initial weights and settings are the same, so only batches and noise may differ, and in every number they do.
    assert min(np.abs(first - each).min() for each in others) > 0


def test_a_choice_is_said_not_to_be_counted(data):
    found = private.sweep(SPACE, data, PRIVACY, CONFIG, mlp=MLP_, validation=data)
    steps = [Steps(private.Mechanism(60, 20, row[0], row[1]), 6) for row in ROWS]
    assert found.epsilon_of_all == epsilon_of_all(steps, 1e-3)
    assert found.epsilon_of_all > max(trial.guarantee.epsilon for trial in found.trials)
    assert "A choice among them by their scores is not counted in that" in str(found)
    assert f"{found.epsilon_of_all:.3g} at delta 0.001" in str(found)
    assert found.best().validation.accuracy == max(trial.validation.accuracy for trial in found.trials)


def test_the_table_has_values_epsilon_and_scores(data):
    space = spaces.grid(learning_rate=[0.1, 0.3]) + spaces.grid(noise_multiplier=[4.0, 8.0])
    found = private.sweep(space, data, PRIVACY, CONFIG, mlp=MLP_, test=data)
    table = found.table()
    names = ["trial", "learning_rate", "noise_multiplier", "spent_epsilon", "test_loss", "test_accuracy", "status"]
    assert table.columns == names
    assert table["learning_rate"].to_list() == [0.1, 0.3, 0.3, 0.3]
    assert table["noise_multiplier"].to_list() == [2.0, 2.0, 4.0, 8.0]
    assert table["spent_epsilon"].to_list() == [trial.guarantee.epsilon for trial in found.trials]
    assert len(set(table["spent_epsilon"])) == 3
    assert found.picture()[1:4] == b"PNG"


def test_a_diverging_lane_leaves_the_others_as_they_are(data):
    secret = jax.random.key(0)
    all_four, calm = (
        private.sweep(
            Space(("learning_rate", "weight_decay"), ((0.1, 0.0), (rate, 0.5), (0.2, 0.0), (0.3, 0.0))),
            *(data, PRIVACY, CONFIG),
            mlp=MLP_,
            secret=secret,
            lanes=4,
            validation=data,
        )
        for rate in (1e38, 0.1)
    )
    assert [trial.network is None for trial in all_four.trials] == [False, True, False, False]
    for n in (0, 2, 3):
        np.testing.assert_array_equal(*(flat(found.trials[n].network.params) for found in (all_four, calm)))
    assert all_four.table()["status"].to_list() == ["finished", "diverged", "finished", "finished"]
    assert all_four.best().number != 1


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"noise_multiplier": [1.0, -1.0]}, r"trial 1 \(noise_multiplier=-1.0\): noise_multiplier must be positive"),
        ({"clip": [0.1, 0.0]}, r"trial 1 \(clip=0.0\): clip must be positive"),
        ({"patience": [None, 3]}, r"trial 1 \(patience=3\): patience looks at training examples"),
        ({"batch_size": [20, 61]}, r"trial 1 \(batch_size=61\): batch_size must be at most the 60"),
        (
            {"epsilon": [1.0, 2.0], "noise_multiplier": [1.0, 2.0]},
            r"trial 0 .*give one of epsilon and noise_multiplier",
        ),
    ],
)
def test_a_value_that_is_wrong_is_named_before_anything_runs(data, space, words):
    with pytest.raises(ValueError, match=words):
        private.sweep(space, data, PRIVACY, CONFIG, mlp=MLP_)


def test_weights_are_refused(data):
    with pytest.raises(ValueError, match="leave weights out"):
        private.sweep(SPACE, Dataset(data.x, data.t, np.ones(60)), PRIVACY, CONFIG)


def test_a_sweep_without_privacy_refuses_its_hyperparameters(data):
    with pytest.raises(ValueError, match=r"epsilon varies in private training alone: use jaxmlp\.private\.sweep"):
        spaces.run(spaces.grid(epsilon=[1.0, 2.0]), data)


def test_an_interrupt_is_one_line_and_progress_is_called_back(data):
    seen = []

    def callback(*progress):
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="no private trial is kept; what was seen of them is spent"):
        private.sweep(Space(NAMES, ROWS * 2), data, PRIVACY, CONFIG, mlp=MLP_, lanes=4, callback=callback)
    assert seen == [(4, 8)]
