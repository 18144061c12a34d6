"""The command line: defaults, forms of values, and the space of a sweep."""

import re
from argparse import SUPPRESS, ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp import sweep
from jaxmlp.cli.argument_types import as_typed, axis, count_or_all, shortened, widths
from jaxmlp.cli.arguments import TRAIN_DEFAULTS, build_parsers, parse
from jaxmlp.cli.sweep_space import as_options, typed_space


def help_of(command):
    """Return the help of each option, by its long name."""
    actions = [action for action in build_parsers()[1][command]._actions if action.option_strings]
    return {action.option_strings[-1]: action.help for action in actions if action.help != SUPPRESS}


def test_the_help_of_each_option_shows_its_default():
    shown = help_of("train")
    for name, default in TRAIN_DEFAULTS.items():
        if default not in (None, [], False):
            assert re.search(rf"\(default: {re.escape(as_typed(default))}[);]", shown[f"--{name.replace('_', '-')}"]), (
                name
            )
    assert f"(default: {parse(['examples', 'm', 's']).top})" in help_of("examples")["--top"]
    assert f"(default: {parse(['sweep', 's']).keep})" in help_of("sweep")["--keep"]


@pytest.mark.parametrize("command", build_parsers()[1])
def test_help_names_the_thing_first_and_the_default_in_one_form(command):
    for option, text in help_of(command).items():
        assert not re.match(r"(of|if) ", text), option
        assert text.count("default") == text.count("default: ") <= 1, option
        assert text[0].islower() or text.startswith(("CSV", "PNG", ".")), option
        assert not text.endswith("."), option


@given(st.lists(st.integers(1, 9999)), st.sampled_from([":", ","]))
def test_widths_are_read_as_they_are_printed_and_with_commas(values, separator):
    typed = as_typed(values).replace(":", separator)
    assert parse(["train", "iris", "--hidden", typed]).hidden == values


def test_activations_are_read_with_colons_and_commas():
    for typed in ("relu:tanh", "relu,tanh", "relu, tanh"):
        assert parse(["train", "iris", "--activation", typed]).activation == ["relu", "tanh"]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_numbers_are_read_as_they_are_printed(value):
    assert parse(["train", "iris", f"--learning-rate={as_typed(value)}"]).learning_rate == pytest.approx(
        value, rel=1e-9
    )


def test_a_hyperparameter_may_have_hyphens():
    assert axis("learning-rate = 0.1,0.2") == ("learning_rate", "0.1,0.2")
    space = typed_space(parse(["sweep", "iris", "--grid", "weight-decay=0,1"]))
    assert space.names == ("weight_decay",)


@pytest.mark.parametrize("text", ["0", "64:0", "64:-1", "64::32", "", "1.5", "a"])
def test_wrong_widths_are_refused(text):
    with pytest.raises(ArgumentTypeError, match=re.escape(f"got {text!r}")):
        widths(text)


def test_a_count_is_a_number_or_all():
    assert (count_or_all("0"), count_or_all("12"), count_or_all("all")) == (0, 12, "all")
    for text in ("-1", "1.5", "some", "9" * 20):
        with pytest.raises(ArgumentTypeError):
            count_or_all(text)


def test_a_long_text_is_quoted_in_part():
    assert shortened("9" * 40) == repr("9" * 40)
    assert shortened("9" * 41) == repr("9" * 40 + "...")


# The options, and the same space in Python.
SPACES = {
    "lists are crossed": (
        "--grid learning_rate=0.1,1e-3 --grid hidden=64:32,none --seeds 3",
        lambda: sweep.grid(learning_rate=[0.1, 1e-3], hidden=[(64, 32), ()], seed=range(3)),
    ),
    "names and words": (
        "--grid activation=relu,tanh:relu --grid clip=none,1 --grid nesterov=true,false",
        lambda: sweep.grid(activation=["relu", ("tanh", "relu")], clip=[None, 1], nesterov=[True, False]),
    ),
    "one seed": ("--grid momentum=0,0.9 --seed 5", lambda: sweep.grid(momentum=[0, 0.9], seed=[5])),
    "64 settings unless told": ("--uniform momentum=0:0.9", lambda: sweep.random(64, momentum=sweep.uniform(0, 0.9))),
    "all kinds of ranges and a list": (
        "--uniform momentum=0:0.9 --log-uniform learning_rate=1e-3:1 --integers batch_size=8:64 "
        "--grid activation=relu,tanh --trials 7 --draw 3 --seeds 2",
        lambda: sweep.random(
            7,
            draw=3,
            momentum=sweep.uniform(0, 0.9),
            learning_rate=sweep.log_uniform(1e-3, 1),
            batch_size=sweep.integers(8, 64),
            activation=["relu", "tanh"],
            seed=range(2),
        ),
    ),
    "a Sobol sequence": (
        "--uniform momentum=0:0.9 --log-uniform learning_rate=1e-3:1 --trials 8 --sobol",
        lambda: sweep.random(
            8, method="sobol", momentum=sweep.uniform(0, 0.9), learning_rate=sweep.log_uniform(1e-3, 1)
        ),
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_typed_space_equals_the_space_built_in_python(name):
    typed, python = SPACES[name]
    assert typed_space(parse(["sweep", "iris", *typed.split()])) == python()


def test_a_trials_values_are_options_of_train_without_the_seed():
    values = {"hidden": (64, 32), "activation": ("relu", "tanh"), "clip": None, "seed": 3, "learning_rate": 0.1}
    options = as_options(values)
    assert options == {"hidden": [64, 32], "activation": ["relu", "tanh"], "clip": None, "learning_rate": 0.1}
    assert options.keys() <= TRAIN_DEFAULTS.keys()
