"""What can be typed: commands, options, their help; and one line for what was mistyped. Imports nothing slow."""

import re
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from jaxmlp._validation import unknown_name
from jaxmlp._version import __version__
from jaxmlp.cli.words import axis, count_or_all, names, number, widths
from jaxmlp.training.config import TRACKED, TrainConfig

__all__ = ["TRAIN_DEFAULTS", "parse"]

_SOURCE = (
    "an embedded data set (see `jaxmlp datasets`), a .csv, .parquet or .npz file, or a folder with IDX files as "
    "those of MNIST"
)

# What `train` takes beside the numbers of `TrainConfig`. None: what the data suggest.
TRAIN_DEFAULTS: dict[str, Any] = {
    "target": None,
    "task": None,
    "hidden": [128],
    "activation": ["relu"],
    "output": None,
    "loss": None,
    "class_weights": None,
    "scaling": "standard",
    "test_fraction": 0.2,
    "seed": 0,
    **{field.name: field.default for field in fields(TrainConfig)},
    "track": [],  # a list, as it is in a run's configuration file
}

_CONFIG_HELP = {
    "epochs": "how often every example is seen",
    "batch_size": "examples a step",
    "learning_rate": "of the mean gradient of a batch",
    "momentum": "share of the last step that is taken again, 0 or larger and below 1",
    "weight_decay": "times half the squared weights, added to the loss",
    "nesterov": "Nesterov's momentum",
    "schedule": "of the learning rate: constant, cosine or step",
    "warmup_epochs": "epochs over which the learning rate grows from 0",
    "step_epochs": "with --schedule step: epochs between steps",
    "step_factor": "with --schedule step: factor at each step",
    "init_scale": "factor on the initial weights",
    "patience": "stop after this many epochs without a lower test loss, and keep the best",
    "clip": "scale every example's gradient down to this norm if it is longer",
    "track": f"what to record of the gradients once an epoch, separated by commas: {', '.join(TRACKED)}",
}


class _Parser(ArgumentParser):
    """An `ArgumentParser` whose errors are one line, with the nearest name."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        if unknown := re.match(r"unrecognized arguments: (-\S*)", message):
            options = [name for name in self._option_string_actions if name.startswith("--")]
            message = unknown_name("option", unknown[1].partition("=")[0], options)
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        sys.exit(2)


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parse the command line; options that were not given are absent.

    >>> arguments = parse(["train", "digits", "--hidden", "64,32"])
    >>> arguments.hidden, "epochs" in arguments
    ([64, 32], False)
    """
    argv = typed = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(prog="jaxmlp", description="Train multilayer perceptrons on real data.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jaxmlp {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, add_arguments) in _COMMANDS.items():
        command = subparsers.add_parser(
            name, help=summary, description=f"{summary}.", allow_abbrev=False, argument_default=SUPPRESS
        )
        add_arguments(command)
    if argv and not argv[0].startswith("-") and argv[0] not in _COMMANDS:
        parser.error(unknown_name("command", argv[0], _COMMANDS))
    if " ".join(argv[:2]) in _COMMANDS:
        argv = [" ".join(argv[:2]), *argv[2:]]
    # Not parse_args: it would let the main parser, which has none of them, speak of a command's options.
    arguments, rest = parser.parse_known_args(argv)
    for name, value in vars(arguments).items():
        if value == "":
            subparsers.choices[arguments.command].error(f"{name.replace('_', '-')} is empty")
    if rest:
        subparsers.choices[arguments.command].error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.typed = typed
    return arguments


def _add_train(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    _add_base_run(parser, seed="of initial weights, order and split (0)")
    run = parser.add_argument_group("run")
    run.add_argument("--out", metavar="DIR", help="folder for the results; by default a new one under runs/")
    run.add_argument("--resume", action="store_true", default=False, help="go on with the run in --out")
    _add_common(run)


def _add_base_run(parser: ArgumentParser, *, seed: str) -> None:
    """Add the options of a single run, which are also what the trials of a sweep have in common."""
    data = parser.add_argument_group("data")
    data.add_argument("--target", metavar="COLUMN", help="of a table: the column to predict")
    data.add_argument("--task", metavar="KIND", help="classes or values; by default text and whole numbers are classes")
    data.add_argument("--scaling", metavar="KIND", help="of the features: standard (default), minmax or none")
    data.add_argument("--class-weights", metavar="KIND", help="balanced: rare classes count as much as frequent ones")
    data.add_argument("--test-fraction", **number(float), help="held out, if SOURCE has no test part (0.2)")
    network = parser.add_argument_group("network")
    network.add_argument("--hidden", metavar="N,N", type=widths, help="widths of hidden layers, or none (128)")
    network.add_argument(
        "--activation",
        metavar="NAME",
        type=names,
        help="of the hidden layers, one name or one each: identity, sigmoid, tanh, relu (default), leaky_relu, "
        "elu, softplus, silu, gelu, gelu_exact",
    )
    network.add_argument("--output", metavar="NAME", help="activation of the output; by default what suits the loss")
    network.add_argument(
        "--loss", metavar="NAME", help="cross_entropy (classes), quadratic (values) or binary_cross_entropy"
    )
    training = parser.add_argument_group("training")
    for name, text in _CONFIG_HELP.items():
        _add_number(training, name, text)
    training.add_argument("--seed", **number(int), help=seed)


def _add_sweep(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} SOURCE --grid NAME=VALUES ... [options], or {parser.prog} report|best|export DIR"
    parser.add_argument("source", metavar="SOURCE", help=f"{_SOURCE}; one called report, best or export is ./report")
    space = parser.add_argument_group(
        "what varies",
        "NAME is an option of network or training below, or seed. Lists are crossed: 0.1,0.2 with 0,0.9 makes four. "
        "As soon as there is a range, settings are drawn instead, of lists too. Colons join what is one value: "
        "hidden=64:32,128,none is three networks.",
    )
    values: dict[str, Any] = {"action": "append", "type": axis}
    space.add_argument("--grid", **values, metavar="NAME=V,V", help="these values")
    space.add_argument("--uniform", **values, metavar="NAME=LOW:HIGH", help="numbers in between")
    space.add_argument("--log-uniform", **values, metavar="NAME=LOW:HIGH", help="with evenly spread logarithms")
    space.add_argument("--integers", **values, metavar="NAME=LOW:HIGH", help="whole numbers, both bounds among them")
    space.add_argument("--trials", **number(int), help="how many settings to draw from ranges (64)")
    space.add_argument("--seeds", **number(int), help="train every setting with the seeds 0, ..., N - 1")
    space.add_argument("--sobol", action="store_true", default=False, help="draw evenly, by a Sobol sequence")
    space.add_argument("--draw", **number(int), help="the seed of the draws (0)")
    sweep = parser.add_argument_group("sweep")
    sweep.add_argument(
        "--halving",
        **(number(int) | {"metavar": "FACTOR"}),
        nargs="?",
        const=3,
        help="stop the worse trials early: one of FACTOR (3) goes on after 1, FACTOR, FACTOR^2, ... epochs",
    )
    sweep.add_argument(
        "--asynchronous", action="store_true", default=False, help="with --halving: trials wait for no others"
    )
    sweep.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the results, by default a new one under runs/; the same command goes on",
    )
    sweep.add_argument(
        "--keep", metavar="N", type=count_or_all, help="keep the models of the best N trials, or all (10)"
    )
    sweep.add_argument("--plan", action="store_true", default=False, help="say what would be run, and run nothing")
    sweep.add_argument("--memory", **number(float) | {"metavar": "GB"}, help="at most to use (half of what is free)")
    sweep.add_argument("--lanes", **number(int), help="how many networks to train side by side")
    _add_common(sweep)
    _add_base_run(parser, seed="of the split, and without --seeds of initial weights and order (0)")


def _add_sweep_folder(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a sweep, finished or not")
    _add_printing(parser)


def _add_sweep_report(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    parser.add_argument("--png", action="store_true", default=False, help="write the pictures as PNG files, too")


def _add_sweep_best(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    parser.add_argument("--metric", metavar="NAME", help="test_accuracy or test_r2 (default), test_loss, or train_loss")
    parser.add_argument("--over", metavar="NAME", help="the hyperparameter to average over, or none (seed)")
    parser.add_argument("--save", metavar="FILE", help="write the model of the best setting's best trial")


def _add_sweep_export(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    parser.add_argument("--to", metavar="FILE", required=True, help="the .parquet or .csv file to write")


def _add_evaluate(parser: ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--target", metavar="COLUMN", help="if it is called otherwise than in training")
    _add_common(parser)


def _add_predict(parser: ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--out", metavar="FILE", help="the CSV file to write (predictions.csv)")
    _add_common(parser)


def _add_examples(parser: ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--target", metavar="COLUMN", help="if it is called otherwise than in training")
    parser.add_argument(
        "--test", action="store_true", default=False, help="rank SOURCE's own test part, not its training part"
    )
    parser.add_argument(
        "--by",
        metavar="SCORE",
        help="loss (default), error_norm (of y - t), norm (of the gradient), or margin (smallest first)",
    )
    parser.add_argument("--top", **number(int), default=16, help="how many to show (16)")
    parser.add_argument(
        "--influence",
        **(number(int) | {"metavar": "INDEX"}),
        help="show instead the training examples that helped and harmed this one: a row of the test part, or, if "
        "SOURCE has none of its own, of SOURCE, counted from 0",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="the CSV file to write (examples.csv or influence.csv); of images a picture beside it, with .png",
    )
    _add_common(parser)


def _add_info(parser: ArgumentParser) -> None:
    _add_model(parser)
    _add_printing(parser)


def _add_datasets(parser: ArgumentParser) -> None:
    _add_printing(parser)


def _add_check(parser: ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="*",
        default=[],
        metavar="WHAT",
        help="nothing: this library itself, all that is written by hand in it; MODEL SOURCE: a trained network on "
        "examples of its own data; MODULE:FUNCTION: a function of yours, imported as `python -m` would",
    )
    function = parser.add_argument_group("a function of yours")
    function.add_argument(
        "--at",
        metavar="MODULE:NAME",
        help="where to check it: a tuple of arguments, one argument that is no tuple, or a function that returns them",
    )
    function.add_argument(
        "--gradient",
        metavar="MODULE:NAME",
        help="its gradient with respect to the first argument, a function of the same arguments; without it the rules "
        "of jax.custom_vjp and jax.custom_jvp inside of it are checked",
    )
    parser.add_argument("--target", metavar="COLUMN", help="of SOURCE, if it is called otherwise than in training")
    parser.add_argument("--seed", **number(int), default=0, help="of the directions and points to check at (0)")
    parser.add_argument("--plot", metavar="FILE", help="the PNG file to draw a Taylor test in: h^2 is right, h^1 wrong")
    parser.add_argument("--quiet", action="store_true", default=False, help="print nothing but errors")
    parser.add_argument("--json", metavar="FILE", help="the JSON file to write; -: print it, and nothing else")
    _add_cache(parser)


_COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "train": ("Train a network", _add_train),
    "evaluate": ("Measure how well a trained network does", _add_evaluate),
    "predict": ("Write a trained network's predictions to a CSV file", _add_predict),
    "examples": ("Find the examples that are hard for a trained network, or likely to be mislabelled", _add_examples),
    "info": ("Show what a trained network is, and how it was trained", _add_info),
    "datasets": ("List the embedded data sets", _add_datasets),
    "check": ("Check gradients: this library's, a trained network's, or your own function's", _add_check),
    "sweep": ("Train many networks of different hyperparameters side by side", _add_sweep),
    "sweep report": ("Write a sweep's report, one HTML file", _add_sweep_report),
    "sweep best": ("Show a sweep's best setting, and save its model", _add_sweep_best),
    "sweep export": ("Write a sweep's trials to a table", _add_sweep_export),
}


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model.safetensors, or the run folder that holds it")


def _add_printing(parser: Any) -> None:
    parser.add_argument("--quiet", action="store_true", default=False, help="print nothing but errors")
    parser.add_argument("--json", action="store_true", default=False, help="print one JSON object and nothing else")


def _add_common(parser: Any) -> None:
    _add_printing(parser)
    _add_cache(parser)


def _add_cache(parser: Any) -> None:
    parser.add_argument(
        "--no-cache", action="store_true", default=False, help="keep no compiled programs for the next start"
    )


def _add_number(parser: Any, name: str, text: str) -> None:
    option, default = f"--{name.replace('_', '-')}", TRAIN_DEFAULTS[name]
    if isinstance(default, list):
        parser.add_argument(option, metavar="NAMES", type=names, help=text)
    elif isinstance(default, bool):
        parser.add_argument(option, action="store_true", help=text)
    elif isinstance(default, str):
        parser.add_argument(option, metavar="NAME", help=f"{text} ({default})")
    else:
        kind = float if isinstance(default, float) or name == "clip" else int
        shown = "" if default is None else f" ({default:g})"
        parser.add_argument(option, **number(kind), help=text + shown)
