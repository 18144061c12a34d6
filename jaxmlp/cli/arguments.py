"""The commands, their options and help, and one line for what was mistyped. Imports nothing slow."""

import re
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from jaxmlp._validation import unknown_name
from jaxmlp._version import __version__
from jaxmlp.cli.argument_types import axis, count_or_all, names, number, widths
from jaxmlp.training.config import TRACKED, TrainConfig

__all__ = ["TRAIN_DEFAULTS", "build_parsers", "parse"]

_SOURCE = (
    "an embedded data set (`jaxmlp datasets` lists them), a .csv, .parquet or .npz file, or a folder with IDX files "
    "such as those of MNIST"
)

# The options of a run with their defaults. None leaves the choice to the data.
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

# Help for each number of `TrainConfig`; the default is appended.
_CONFIG_HELP = {
    "epochs": "number of passes over the training examples",
    "batch_size": "number of examples in a step",
    "learning_rate": "factor on the mean gradient of a batch",
    "momentum": "fraction of the last step that is added to the next: 0 or larger and below 1",
    "weight_decay": "factor on half the sum of squared weights, a term of the loss",
    "nesterov": "use Nesterov's momentum",
    "schedule": "learning-rate schedule: constant, cosine or step",
    "warmup_epochs": "number of epochs in which the learning rate grows from 0",
    "step_epochs": "number of epochs between steps of --schedule step",
    "step_factor": "factor on the learning rate at each step of --schedule step",
    "init_scale": "factor on the initial weights",
    "patience": "stop after this many epochs without a lower test loss, and keep the best (default: never stop early)",
    "clip": "largest gradient norm of an example; longer gradients are scaled down (default: no limit)",
    "track": f"statistics of the gradients to record each epoch, separated by commas: {', '.join(TRACKED)}",
}


# From messages of argparse to messages that name the next step.
_MESSAGES = {
    "the following arguments are required: (.*)": r"\1 is missing; see {prog} --help",
    "unrecognized arguments: (.*)": r"unexpected argument \1; see {prog} --help",
    "argument (.*): expected one argument": r"\1 requires a value",
    "argument (.*): ignored explicit argument (.*)": r"\1 takes no value, got \2",
    "argument (.*?): (.*)": r"\1: \2",
}


class _Parser(ArgumentParser):
    """An `ArgumentParser` whose errors are one line, with the nearest name or the next step."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        if unknown := re.match(r"unrecognized arguments: (-\S*)", message):
            options = [name for name in self._option_string_actions if name.startswith("--")]
            message = unknown_name("option", unknown[1].partition("=")[0], options)
        for pattern, ours in _MESSAGES.items():
            if found := re.fullmatch(pattern, message):
                message = found.expand(ours.replace("{prog}", self.prog))
                break
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        sys.exit(2)


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parse the command line; options that were not given are absent.

    >>> arguments = parse(["train", "digits", "--hidden", "64:32"])
    >>> arguments.hidden, "epochs" in arguments
    ([64, 32], False)
    """
    argv = typed = list(sys.argv[1:] if argv is None else argv)
    parser, commands = build_parsers()
    if argv and not argv[0].startswith("-") and argv[0] not in _COMMANDS:
        parser.error(unknown_name("command", argv[0], _COMMANDS))
    if " ".join(argv[:2]) in _COMMANDS:
        argv = [" ".join(argv[:2]), *argv[2:]]
    # parse_args would report unknown options with the names of the main parser, not with those of the command.
    arguments, rest = parser.parse_known_args(argv)
    for name, value in vars(arguments).items():
        if value == "":
            option = f"--{name.replace('_', '-')}"
            is_option = any(word.partition("=")[0] == option for word in argv)
            commands[arguments.command].error(f"{option if is_option else name.upper()} is empty")
    if rest:
        commands[arguments.command].error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.typed = typed
    return arguments


def build_parsers() -> tuple[ArgumentParser, Mapping[str, ArgumentParser]]:
    """Return the parser of the program and the parser of each command."""
    parser = _Parser(prog="jaxmlp", description="Train multilayer perceptrons on real data.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jaxmlp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, add_arguments) in _COMMANDS.items():
        add_arguments(
            commands.add_parser(
                name, help=summary, description=f"{summary}.", allow_abbrev=False, argument_default=SUPPRESS
            )
        )
    return parser, commands.choices


def _add_train(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    _add_base_run(parser, seed="seed for initial weights, batch order and split (default: 0)")
    run = parser.add_argument_group("run")
    run.add_argument("--out", metavar="DIR", help="folder for the results (default: a new one under runs/)")
    _add_flag(run, "--resume", "continue the run in --out")
    _add_common(run)


def _add_base_run(parser: ArgumentParser, *, seed: str) -> None:
    """Add the options of a run; a sweep has the same ones for what its trials have in common."""
    _add_data(parser)
    _add_network(parser)
    training = parser.add_argument_group("training")
    for name, text in _CONFIG_HELP.items():
        _add_config_option(training, name, text)
    training.add_argument("--seed", **number(int), help=seed)


def _add_data(parser: ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--target", metavar="COLUMN", help="column of a table to predict")
    data.add_argument(
        "--task",
        metavar="KIND",
        help="kind of the targets: classes or values (default: classes for text and whole numbers, else values)",
    )
    data.add_argument(
        "--scaling", metavar="KIND", help="scaling of the features: standard, minmax or none (default: standard)"
    )
    data.add_argument(
        "--class-weights",
        metavar="KIND",
        help="weights of the training examples: balanced gives each class the same total (default: equal weights)",
    )
    data.add_argument(
        "--test-fraction",
        **number(float),
        help="fraction of the examples held out for testing, if SOURCE has no test part (default: 0.2)",
    )


def _add_network(parser: ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument(
        "--hidden",
        metavar="N:N",
        type=widths,
        help="widths of the hidden layers, as 128 or 128:64, or none (default: 128)",
    )
    network.add_argument(
        "--activation",
        metavar="NAME",
        type=names,
        help="activation of the hidden layers, one name or one for each, as relu:tanh: identity, sigmoid, tanh, relu, "
        "leaky_relu, elu, softplus, silu, gelu, gelu_exact (default: relu)",
    )
    network.add_argument(
        "--output", metavar="NAME", help="activation of the output layer (default: the one that suits the loss)"
    )
    network.add_argument(
        "--loss",
        metavar="NAME",
        help="cross_entropy, quadratic or binary_cross_entropy (default: cross_entropy for classes, else quadratic)",
    )


def _add_sweep(parser: ArgumentParser) -> None:
    parser.usage = (
        f"{parser.prog} SOURCE --grid NAME=VALUES ... [options]\n       {parser.prog} report|best|export DIR [options]"
    )
    parser.add_argument(
        "source", metavar="SOURCE", help=f"{_SOURCE}; write ./report for a folder named report, best or export"
    )
    _add_space(parser)
    sweep = parser.add_argument_group("sweep")
    sweep.add_argument(
        "--halving",
        **number(int, "FACTOR"),
        nargs="?",
        const=3,
        help="stop the worse trials early: 1 of FACTOR trials continues after 1, FACTOR, FACTOR^2, ... epochs "
        "(without a value: 3; default: no trial is stopped)",
    )
    _add_flag(sweep, "--asynchronous", "with --halving: decide on each trial without waiting for the others")
    sweep.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the results (default: a new one under runs/); the same command continues a sweep",
    )
    sweep.add_argument(
        "--keep",
        metavar="N",
        type=count_or_all,
        default=10,
        help="number of best trials to keep models of, or all (default: 10)",
    )
    _add_flag(sweep, "--plan", "print what would be run, and run nothing")
    sweep.add_argument(
        "--memory", **number(float, "GB"), help="largest amount of memory to use (default: half of what is free)"
    )
    sweep.add_argument(
        "--lanes", **number(int), help="number of networks to train side by side (default: chosen for the device)"
    )
    _add_common(sweep)
    _add_base_run(parser, seed="seed for the split and, without --seeds, initial weights and batch order (default: 0)")


def _add_space(parser: ArgumentParser) -> None:
    space = parser.add_argument_group(
        "what varies",
        "NAME is seed or an option of network or training below. Lists are crossed: 0.1,0.2 with 0,0.9 makes four "
        "settings. If there is a range, settings are drawn instead, from ranges and lists. A colon joins the parts of "
        "one value: hidden=64:32,128,none is three networks.",
    )
    values: dict[str, Any] = {"action": "append", "type": axis}
    space.add_argument("--grid", **values, metavar="NAME=V,V", help="list of values")
    space.add_argument("--uniform", **values, metavar="NAME=LOW:HIGH", help="range of real numbers, drawn uniformly")
    space.add_argument(
        "--log-uniform",
        **values,
        metavar="NAME=LOW:HIGH",
        help="the same, drawn uniformly on a logarithmic scale",
    )
    space.add_argument(
        "--integers", **values, metavar="NAME=LOW:HIGH", help="range of whole numbers, both bounds included"
    )
    space.add_argument("--trials", **number(int), help="number of settings to draw from ranges (default: 64)")
    space.add_argument("--seeds", **number(int), help="train each setting with the seeds 0, ..., N - 1")
    _add_flag(space, "--sobol", "draw settings by a Sobol sequence, more evenly than at random")
    space.add_argument("--draw", **number(int), help="seed for drawing settings (default: 0)")


def _add_sweep_folder(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of a sweep, finished or not")
    _add_printing(parser)


def _add_sweep_report(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    _add_flag(parser, "--png", "write the pictures as PNG files as well")


def _add_sweep_best(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="test_accuracy, test_r2, test_loss or train_loss (default: test_accuracy for classes, else test_r2)",
    )
    parser.add_argument("--over", metavar="NAME", help="hyperparameter to average over, or none (default: seed)")
    parser.add_argument("--save", metavar="FILE", help="file for the model of the best setting's best trial")


def _add_sweep_export(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    parser.add_argument("--to", metavar="FILE", required=True, help=".parquet or .csv file to write")


def _add_evaluate(parser: ArgumentParser) -> None:
    _add_model(parser)
    _add_labelled_source(parser)
    _add_common(parser)


def _add_predict(parser: ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--out", metavar="FILE", help="CSV file to write (default: predictions.csv)")
    _add_common(parser)


def _add_examples(parser: ArgumentParser) -> None:
    _add_model(parser)
    _add_labelled_source(parser)
    _add_flag(parser, "--test", "rank the test part of SOURCE instead of its training part")
    parser.add_argument(
        "--by",
        metavar="SCORE",
        help="score to rank by: loss, error_norm (of y - t), norm (of the gradient) or margin (smallest first) "
        "(default: loss)",
    )
    parser.add_argument("--top", **number(int), default=16, help="number of examples to show (default: 16)")
    parser.add_argument(
        "--influence",
        **number(int, "ROW"),
        help="show the training examples that helped and harmed the network at this example: a row of the test part, "
        "or of SOURCE if it has none, counted from 0",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="CSV file to write; for images also a picture, named the same with .png "
        "(default: examples.csv or influence.csv)",
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
        help="nothing: the gradients of this library; MODEL SOURCE: those of a trained network at examples of SOURCE; "
        "MODULE:FUNCTION: a function of yours, imported as `python -m` would",
    )
    function = parser.add_argument_group("a function of yours")
    function.add_argument(
        "--at",
        metavar="MODULE:NAME",
        help="arguments to check it at: a tuple, a single argument, or a function that returns either",
    )
    function.add_argument(
        "--gradient",
        metavar="MODULE:NAME",
        help="its gradient with respect to the first argument, a function of the same arguments "
        "(default: the jax.custom_vjp and jax.custom_jvp rules inside the function are checked)",
    )
    _add_target(parser)
    parser.add_argument(
        "--seed", **number(int), default=0, help="seed for the directions and points to check at (default: 0)"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="PNG file for a Taylor test: its remainder falls as h^2 for a right gradient, as h^1 for a wrong one",
    )
    _add_common(parser)


_COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "train": ("Train a network", _add_train),
    "evaluate": ("Measure how well a trained network does", _add_evaluate),
    "predict": ("Write a trained network's predictions to a CSV file", _add_predict),
    "examples": (
        "Rank examples by how hard they are, and find likely wrong labels",
        _add_examples,
    ),
    "info": ("Show the layers of a trained network, and how it was trained", _add_info),
    "datasets": ("List the embedded data sets", _add_datasets),
    "check": ("Check the gradients of this library, of a trained network, or of your own function", _add_check),
    "sweep": ("Train many networks of different hyperparameters side by side", _add_sweep),
    "sweep report": ("Write a sweep's report, one HTML file", _add_sweep_report),
    "sweep best": ("Show a sweep's best setting, and save its model", _add_sweep_best),
    "sweep export": ("Write a sweep's trials to a table", _add_sweep_export),
}


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model.safetensors, or the run folder that holds it")


def _add_labelled_source(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    _add_target(parser)


def _add_target(parser: ArgumentParser) -> None:
    parser.add_argument("--target", metavar="COLUMN", help="target column of SOURCE (default: the one of training)")


def _add_printing(parser: Any) -> None:
    _add_flag(parser, "--quiet", "print nothing but errors")
    _add_flag(parser, "--json", "print one JSON object and nothing else")


def _add_common(parser: Any) -> None:
    _add_printing(parser)
    _add_flag(parser, "--no-cache", "do not keep compiled programs for the next start")


def _add_flag(parser: Any, option: str, text: str) -> None:
    parser.add_argument(option, action="store_true", default=False, help=text)


def _add_config_option(parser: Any, name: str, text: str) -> None:
    option, default = f"--{name.replace('_', '-')}", TRAIN_DEFAULTS[name]
    if isinstance(default, list):
        parser.add_argument(option, metavar="NAMES", type=names, help=text)
    elif isinstance(default, bool):
        parser.add_argument(option, action="store_true", help=text)  # absent unless given: a resumed run has its own
    elif isinstance(default, str):
        parser.add_argument(option, metavar="NAME", help=f"{text} (default: {default})")
    else:
        kind = float if isinstance(default, float) or name == "clip" else int
        shown = "" if default is None else f" (default: {default:g})"
        parser.add_argument(option, **number(kind), help=text + shown)
