"""Spaces of hyperparameters, and the trials they stand for."""

import itertools
import math
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from jaxmlp import MLP, TrainConfig, sweep
from jaxmlp.sweep.space import trials

BASE = MLP((4, 8, 3))


def test_a_grid_has_every_combination_once_with_the_last_axis_fastest():
    space = sweep.grid(learning_rate=[0.1, 0.2], hidden=[(3,), (4, 5)], seed=range(3))
    assert space.names == ("learning_rate", "hidden", "seed")
    assert list(space.rows) == list(itertools.product([0.1, 0.2], [(3,), (4, 5)], range(3)))


@given(st.integers(1, 40), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_random_numbers_stay_within_their_bounds_and_repeat_with_the_draw(n, draw):
    def drawn(method):
        return sweep.random(
            n,
            method=method,
            draw=draw,
            learning_rate=sweep.log_uniform(1e-4, 1e-1),
            momentum=sweep.uniform(0, 0.5),
            batch_size=sweep.integers(3, 5),
            activation=["tanh", "relu"],
        )

    for method in ("random", "sobol"):
        space = drawn(method)
        assert space == drawn(method)
        rates, momenta, sizes, names = zip(*space.rows, strict=True)
        assert all(1e-4 <= rate <= 1e-1 for rate in rates)
        assert all(0 <= momentum <= 0.5 for momentum in momenta)
        assert set(sizes) <= {3, 4, 5}
        assert set(names) <= {"tanh", "relu"}


def test_a_log_uniform_number_is_even_in_its_logarithm_and_whole_numbers_are_even():
    space = sweep.random(
        4096, method="sobol", learning_rate=sweep.log_uniform(1e-3, 1), batch_size=sweep.integers(1, 4)
    )
    rates, sizes = np.array(space.rows).T
    # A Sobol sequence puts equal shares into equal parts, but for a handful of points.
    np.testing.assert_allclose(np.histogram(np.log10(rates), bins=np.linspace(-3, 0, 9))[0], 512, atol=2)
    np.testing.assert_allclose(np.unique(sizes, return_counts=True)[1], 1024, atol=2)


@given(st.integers(1, 6), st.integers(0, 2**31), st.integers(1, 2**31))
@settings(deadline=None, max_examples=25)
def test_sobol_points_are_scrambled_anew_with_each_draw_and_still_even_in_each_number(log_n, draw, more):
    def points(draw):
        axes = {"momentum": sweep.uniform(0, 1), "warmup_epochs": sweep.uniform(0, 1)}
        return np.array(sweep.random(2**log_n, method="sobol", draw=draw, **axes).rows)

    plain = qmc.Sobol(2, scramble=False).random(2**log_n)
    drawn, other = points(draw), points(draw + more)
    assert not (drawn == plain).any()
    assert not (drawn == other).any()
    # A scramble moves points, but each n-th part of an axis keeps its one point.
    for each in (plain, drawn, other):
        assert (np.arange(2**log_n) == np.sort(np.floor(each * 2**log_n), axis=0).T).all()


def test_sobol_points_fill_the_space_more_evenly_than_independent_ones():
    def emptiest(method):
        space = sweep.random(256, method=method, momentum=sweep.uniform(0, 0.99), warmup_epochs=sweep.uniform(0, 1))
        return np.histogram2d(*np.array(space.rows).T, bins=8, range=[[0, 0.99], [0, 1]])[0].min()

    assert emptiest("sobol") == 4
    assert emptiest("random") < 4


def test_seeds_are_crossed_with_every_draw():
    space = sweep.random(5, learning_rate=sweep.uniform(0.1, 0.2), seed=range(3))
    assert len(space) == 15
    settings_of = {}
    for rate, seed in space.rows:
        settings_of.setdefault(rate, []).append(seed)
    assert list(settings_of.values()) == [[0, 1, 2]] * 5


@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_values_from_arrays_equal_those_from_lists(array):
    listed = sweep.grid(learning_rate=[0.25, 0.5], batch_size=[4, 8], hidden=[(4, 4), (8, 8)])
    rates, sizes = array([0.25, 0.5]), [array(4), array(8)]
    space = sweep.grid(learning_rate=rates, batch_size=sizes, hidden=array([[4, 4], [8, 8]]))
    assert repr(space) == repr(listed)  # the types too: a sweep keeps its space as JSON
    by_hand = sweep.Space(("learning_rate", "hidden"), [[rate, array([4, 4])] for rate in rates])
    assert repr(by_hand) == repr(sweep.grid(learning_rate=[0.25, 0.5], hidden=[(4, 4)]))


@pytest.mark.parametrize("array", [np.float32, np.float16, jnp.float32, jnp.bfloat16])
def test_a_number_of_a_short_type_is_the_number_that_is_printed(array):
    rates = np.array([0.1, 0.3, 1e-4]) if array is not jnp.bfloat16 else np.array([0.1, 0.3, 0.5])
    space = sweep.grid(learning_rate=jnp.asarray(rates).astype(array), hidden=np.array([8, 16]))
    found = [row[0] for row in space.rows[::2]]
    assert [array(value) for value in found] == [array(value) for value in rates]
    assert max(map(len, map(repr, found))) <= 8
    assert space.rows[0][1] == (8,)


def test_logarithmic_spaces_of_arrays_are_taken_as_they_are_printed():
    space = sweep.grid(learning_rate=jnp.logspace(-3, -1, 3))
    assert [row[0] for row in space.rows] == pytest.approx([0.001, 0.01, 0.1], rel=1e-6)
    assert sweep.grid(learning_rate=np.logspace(-3, -1, 3)).rows[2] == (0.1,)
    assert sweep.grid(schedule=np.array(["a", "b"])).rows == (("a",), ("b",))


def test_drawn_numbers_are_python_numbers():
    rates = sweep.log_uniform(np.float32(0.1), np.float64(1))
    space = sweep.random(3, momentum=sweep.uniform(0, 0.9), learning_rate=rates)
    assert {type(value) for row in space.rows for value in row} == {float}


def test_a_trials_values_replace_those_of_the_base():
    space = sweep.grid(hidden=[(), (5, 6)], activation=["tanh", "relu"], clip=[None, 2.0], seed=[7, 8])
    config = TrainConfig(epochs=3, momentum=0.25)
    listed = trials(space, BASE, config)
    assert [trial.number for trial in listed] == list(range(16))
    assert listed[-1].mlp == MLP((4, 5, 6, 3), "relu")
    assert listed[0].mlp == MLP((4, 3), "tanh")
    assert listed[-1].config == TrainConfig(epochs=3, momentum=0.25, clip=2.0)
    assert listed[-1].seed == 8


def test_the_sum_of_spaces_has_the_trials_of_both_once_and_the_bases_values_elsewhere():
    drawn = sweep.random(5, learning_rate=sweep.log_uniform(1e-3, 1), seed=[1, 2])
    space = sweep.grid(momentum=[0.0, 0.5], clip=[None, 1.0]) + drawn + drawn
    assert space.names == ("momentum", "clip", "learning_rate", "seed")
    listed = trials(space, BASE, TrainConfig(momentum=0.25, clip=2.0))
    assert [trial.number for trial in listed] == list(range(4 + 10))
    assert listed[0].values == {"momentum": 0.0, "clip": None, "learning_rate": 0.02, "seed": 0}
    rate, seed = drawn.rows[-1]
    assert listed[-1].values == {"momentum": 0.25, "clip": 2.0, "learning_rate": rate, "seed": seed}
    for trial in listed:
        assert {name: getattr(trial.config, name) for name in space.names[:3]} == {
            name: trial.values[name] for name in space.names[:3]
        }
        assert trial.seed == trial.values["seed"]
    with pytest.raises(TypeError):
        space + {"momentum": 0.5}


def test_a_grid_of_parts_adds_up_their_grids_each_with_the_common_axes():
    parts = [
        {"schedule": ["constant"]},
        {"schedule": ["step"], "step_epochs": [5, 10], "hidden": [(4,), ()]},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one value in a part compares something
        space = sweep.grid(parts, seed=range(2))
    one = sweep.Space(("schedule", "seed"), (("constant", 0), ("constant", 1)))
    rest = itertools.product(["step"], [5, 10], [(4,), ()], range(2))
    other = sweep.Space(("schedule", "step_epochs", "hidden", "seed"), tuple(rest))
    assert space == one + other
    listed = trials(space, BASE, TrainConfig(step_epochs=7))
    assert listed[0].values == {"schedule": "constant", "seed": 0, "step_epochs": 7, "hidden": (8,)}
    assert sweep.grid({"momentum": [0.0, 0.5]}) == sweep.grid(momentum=[0.0, 0.5])


@pytest.mark.parametrize(
    ("base", "outputs"),
    [
        (MLP((4, 3)), ["softmax", "sigmoid", "sigmoid", "exp"]),
        (MLP((4, 3), output="tanh", loss="quadratic"), ["softmax", "sigmoid", "tanh", "exp"]),
        (MLP((4, 3), output="exp", loss="poisson"), ["softmax", "sigmoid", "identity", "exp"]),
    ],
)
def test_the_output_follows_a_loss_that_varies_unless_it_is_given(base, outputs):
    losses = ["cross_entropy", "binary_cross_entropy", "quadratic", "poisson"]
    listed = trials(sweep.grid(loss=losses), base, TrainConfig())
    assert [(trial.mlp.loss, trial.mlp.output) for trial in listed] == [*zip(losses, outputs, strict=True)]
    given = sweep.grid([{"loss": ["quadratic"], "output": ["tanh", "sigmoid"]}])
    assert [trial.mlp.output for trial in trials(given, base, TrainConfig())] == ["tanh", "sigmoid"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sweep.grid(), "a grid must have at least one hyperparameter"),
        (lambda: sweep.grid(learning_rat=[1.0]), "unknown hyperparameter 'learning_rat', did you mean 'learning_rate'"),
        (lambda: sweep.grid(track=[("norms",)]), "unknown hyperparameter 'track'"),
        (lambda: sweep.grid(learning_rate=[]), "learning_rate must have at least one value, got none"),
        (lambda: sweep.grid(learning_rate=0.1), "learning_rate must be a list of values, got 0.1"),
        (lambda: sweep.grid(activation="tanh"), "activation must be a list of values, got 'tanh'"),
        (lambda: sweep.grid(learning_rate={0.1, 0.2}), "learning_rate must be a list of values, got {0."),
        (lambda: sweep.grid(momentum=np.array(0.5)), "momentum must be a list of values, got array(0.5)"),
        (lambda: sweep.grid("momentum"), "made of dicts of names and their values, got 'momentum'"),
        (lambda: sweep.grid([("momentum", [0.5])]), "made of dicts of names and their values, got ('momentum', [0.5])"),
        (lambda: sweep.grid([]), "a grid must have at least one hyperparameter, got none"),
        (lambda: sweep.grid([{"seed": [1, 2]}], seed=[3]), "seed is given twice"),
        (lambda: sweep.grid(momentum=sweep.uniform(0, 0.5)), "`random` draws from one"),
        (lambda: sweep.grid(seed=range(1001), epochs=range(1, 1002)), "at most 1,000,000 trials, got 1,002,001"),
        (lambda: sweep.random(0, momentum=sweep.uniform(0, 0.5)), "n must be a whole number, 1 or larger, got 0"),
        (lambda: sweep.random(4, seed=range(3)), "at least one hyperparameter to draw"),
        (lambda: sweep.random(4, rate=sweep.uniform(0, 1)), "unknown hyperparameter 'rate'"),
        (lambda: sweep.random(4, method="soboll", momentum=sweep.uniform(0, 0.5)), "did you mean 'sobol'"),
        (lambda: sweep.uniform(1, 0), "uniform must begin below its end, got 1 to 0"),
        (lambda: sweep.uniform(0, float("nan")), "uniform must lie between two finite numbers, got 0 and nan"),
        (lambda: sweep.log_uniform(0, 1), "log_uniform must begin above 0, got 0"),
        (lambda: sweep.log_uniform(1, 1), "log_uniform must begin below its end, got 1 to 1"),
        (lambda: sweep.integers(1, 2.5), "integers must lie between two whole numbers, got 1 and 2.5"),
    ],
)
def test_wrong_axes_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"momentum": [0.5, 1.5]}, "trial 1 (momentum=1.5): momentum must be 0 or larger and below 1, got 1.5"),
        ({"hidden": [(4,), "5"]}, "trial 1 (hidden='5'): hidden must be a tuple of widths, got '5'"),
        ({"hidden": [(4,), (0,)]}, "trial 1 (hidden=(0,)): sizes must be"),
        ({"activation": ["tanh", "rellu"]}, "trial 1 (activation='rellu'): unknown activation 'rellu', did you mean"),
        ({"seed": [0, -1]}, "trial 1 (seed=-1): seed must be a whole number"),
        ({"learning_rate": [0.1, "fast"]}, "trial 1 (learning_rate='fast'): learning_rate must be positive"),
    ],
)
def test_an_invalid_trial_is_named(axes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        trials(sweep.grid(**axes), BASE, TrainConfig())


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (sweep.Space(("momentun",), ((0.5,),)), "unknown hyperparameter 'momentun', did you mean 'momentum'"),
        (sweep.Space(("momentum",), ()), "a space must have at least one trial, got none"),
        (
            sweep.Space(("momentum", "seed"), ((0.5, 1), (0.5,))),
            "trial 1: must have a value for each of momentum, seed",
        ),
    ],
)
def test_a_space_made_by_hand_is_checked_too(space, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        trials(space, BASE, TrainConfig())


def test_an_axis_with_one_value_or_equal_values_warns():
    with pytest.warns(UserWarning, match="momentum has a single value, 0.5: nothing is compared"):
        sweep.grid(momentum=[0.5])
    with pytest.warns(UserWarning, match="momentum has the same value twice: .*; it is taken once"):
        assert sweep.grid(momentum=[0.5, 0.9, 0.5]).rows == ((0.5,), (0.9,))
    with pytest.warns(UserWarning, match="seed has the same value twice"):
        assert len(sweep.random(2, momentum=sweep.uniform(0, 0.9), seed=[0, 1, 0])) == 4


finite = st.fixed_dictionaries(
    {},
    optional={
        "momentum": st.lists(st.sampled_from([0.0, 0.5, 0.9]), min_size=2, max_size=3, unique=True),
        "hidden": st.lists(st.sampled_from([(), (4,), (4, 4)]), min_size=2, max_size=3, unique=True),
        "batch_size": st.builds(sweep.integers, st.just(3), st.integers(4, 7)),
    },
).filter(bool)


@pytest.mark.parametrize("method", ["random", "sobol"])
@given(finite, st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**31), st.booleans())
def test_a_setting_is_drawn_once_and_a_smaller_space_is_the_beginning_of_a_larger_one(
    method, axes, n, m, draw, is_real
):
    """Lists and whole numbers have few settings; with a real number among them there are enough for all."""
    sizes = [axis.high - axis.low + 1 if isinstance(axis, sweep.Distribution) else len(axis) for axis in axes.values()]
    most = 50 if is_real else math.prod(sizes)
    axes = axes | ({"learning_rate": sweep.log_uniform(0.1, 1)} if is_real else {})

    def drawn(n):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rows = sweep.random(n, method=method, draw=draw, **axes).rows
        assert [str(each.message) for each in said] == (
            [f"n is {n}, but only {most} settings are distinct: each is drawn once"] if n > most else []
        )
        assert len(rows) == len(set(rows)) == min(n, most)
        return rows

    few, many = drawn(min(n, m)), drawn(max(n, m))
    assert many[: len(few)] == few


def test_a_distribution_with_few_numbers_between_its_bounds_is_drawn_to_its_end():
    with pytest.warns(UserWarning, match="n is 64, but only 2 settings are distinct"):
        assert len(sweep.random(64, momentum=sweep.uniform(0.5, math.nextafter(0.5, 1)))) == 2
