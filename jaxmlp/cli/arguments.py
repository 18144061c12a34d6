"""The commands, their options and help; errors are one line. Imports nothing slow."""

import re
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from jaxmlp._validation import unknown_name
from jaxmlp._version import __version__
from jaxmlp.cli.argument_types import axis, budget, column_names, count_or_all, missing_texts, names, number, widths
from jaxmlp.training.config import TABLE_NETWORKS, TRACKED, TrainConfig

__all__ = ["TRAIN_DEFAULTS", "build_parsers", "parse"]

_SOURCE = (
    "an embedded data set (`jaxmlp datasets` lists them), a .csv, .parquet or .npz file, or a folder with IDX files "
    "such as those of MNIST"
)
_VALIDATION = "fraction of the training examples held out to choose by"
_MODEL = "model.safetensors, or the run folder that holds it"

# The options of a run with their defaults. None leaves the choice to the data.
TRAIN_DEFAULTS: dict[str, Any] = {
    "target": None,
    "task": None,
    "hidden": [128],
    "activation": ["relu"],
    "output": None,
    "loss": None,
    "numbers": [],
    "categories": [],
    "drop": [],
    "features": [],
    "missing": [],
    "separator": None,
    "class_weights": None,
    "scaling": None,
    "test_fraction": 0.2,
    "validation_fraction": None,
    "seed": 0,
    "networks": 1,
    **{field.name: field.default for field in fields(TrainConfig)},
    "track": [],  # a list, as it is in a run's configuration file
}

# Help for each option of `TrainConfig`; the default is appended.
_CONFIG_HELP = {
    "epochs": "number of passes over the training examples",
    "batch_size": "number of examples in a step",
    "learning_rate": "factor on the mean gradient of a batch",
    "momentum": "fraction of the last step that is added to the next: 0 or larger and below 1",
    "weight_decay": "factor on half the sum of squared weights, added to the loss",
    "nesterov": "use Nesterov's momentum",
    "schedule": "learning-rate schedule: constant, cosine or step",
    "warmup_epochs": "number of epochs in which the learning rate grows from 0",
    "step_epochs": "number of epochs between steps of --schedule step",
    "step_factor": "factor on the learning rate at each step of --schedule step",
    "init_scale": "factor on the initial weights",
    "patience": "stop after this many epochs without a lower validation loss, and keep the best (default: never stop)",
    "clip": "largest gradient norm of an example; longer gradients are scaled down (default: no limit)",
    "track": f"statistics of the gradients to record each epoch, separated by commas: {', '.join(TRACKED)}",
}

# What `TrainConfig.for_table` chooses, in words.
_FOR_TABLES = {
    "epochs": "10 to 30",
    "batch_size": "16 to 128",
    "learning_rate": "0.03",
    "weight_decay": "20 by the number of training examples",
}

# Messages of argparse, and ours, which name the next step.
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
        options: dict[str, Any] = {"allow_abbrev": False, "argument_default": SUPPRESS}
        add_arguments(commands.add_parser(name, help=summary, description=f"{summary}.", **options))
    return parser, commands.choices


def _add_train(parser: ArgumentParser) -> None:
    _add(parser, "source SOURCE", _SOURCE)
    _add_base_run(
        parser,
        seed="seed for initial weights, batch order and split (default: 0)",
        validation=f"{_VALIDATION} (default: 0.2 with --patience, else none)",
    )
    run = parser.add_argument_group("run")
    networks = (
        "number of networks, with the seeds --seed, --seed + 1, ...; the model is their mean (default: 1; for tables: "
        f"{TABLE_NETWORKS}, and 1 with --track)"
    )
    _add(run, "--networks N", networks, type=number(int))
    _add_privacy(parser)
    tune = (
        "search learning rate, weight decay, widths and encoding, as far as they are not given, for so many seconds, "
        "like 60 or 10m, or trials, like 40trials; several networks with the best settings are the model"
    )
    _add(run, "--tune BUDGET", tune, type=budget)
    _add(run, "--out DIR", "folder for the results (default: a new one under runs/)")
    _add(run, "--resume", "continue the run in --out; a larger --epochs makes it longer, but no private run")
    _add_common(run)


def _add_privacy(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("privacy")
    _add(group, "--private", "train with differential privacy (DP-SGD), with a secret seed of the operating system")
    _add(group, "--epsilon X", "largest epsilon of the whole training; the noise is solved for", type=number(float))
    delta = "delta, below 1 / N for N training examples (default: 1 / N^1.1)"
    _add(group, "--delta X", delta, type=number(float))
    noise = "standard deviation of the noise in units of --clip (0.1 if that is not given), in place of --epsilon"
    _add(group, "--noise-multiplier X", noise, type=number(float))


def _add_base_run(parser: ArgumentParser, *, seed: str, validation: str) -> None:
    """Add the options of a run; in a sweep, all trials have them in common."""
    data = parser.add_argument_group("data")
    _add(data, "--target COLUMN", "column of a table to predict")
    task = "kind of the targets: classes or values (default: classes for text and few whole numbers)"
    _add(data, "--task KIND", task)
    scaling = "piecewise, robust, standard, minmax, bytes or none (default: piecewise for tables, else standard)"
    _add(data, "--scaling KIND", scaling)
    _add(
        data, "--features COLUMNS", "columns of a table to learn from (default: all but the target)", type=column_names
    )
    _add(data, "--drop COLUMNS", "columns of a table to leave out", type=column_names)
    _add(
        data, "--numbers COLUMNS", "columns of a table to take for numbers, whatever they look like", type=column_names
    )
    _add(data, "--categories COLUMNS", "columns of a table to take for categories, like a postcode", type=column_names)
    missing = "texts that mean a missing cell of a table, besides no text (default: NA, N/A, null, none, NaN, ?)"
    _add(data, "--missing TEXTS", missing, type=missing_texts)
    _add(data, "--separator TEXT", "what separates the cells of a .csv file (default: recognised)")
    weights = "weights of the training examples: balanced gives each class the same total (default: equal weights)"
    _add(data, "--class-weights KIND", weights)
    fraction = "fraction of the examples held out for testing, if SOURCE has no test part (default: 0.2)"
    _add(data, "--test-fraction X", fraction, type=number(float))
    _add(data, "--validation-fraction X", validation, type=number(float))
    network = parser.add_argument_group("network")
    hidden = "widths of the hidden layers, like 128 or 128:64, or none (default: 128; for tables: 256:256)"
    _add(network, "--hidden N:N", hidden, type=widths)
    activation = (
        "activation of the hidden layers, one name or one for each, like relu:tanh: identity, sigmoid, tanh, relu, "
        "leaky_relu, elu, softplus, silu, gelu, gelu_exact (default: relu)"
    )
    _add(network, "--activation NAME", activation, type=names)
    _add(
        network,
        "--output NAME",
        "activation of the output layer, also softmax or exp (default: the one that suits the loss)",
    )
    loss = (
        "cross_entropy, quadratic or binary_cross_entropy, in Python also poisson (default: cross_entropy for classes, "
        "else quadratic)"
    )
    _add(network, "--loss NAME", loss)
    training = parser.add_argument_group("training")
    for name, text in _CONFIG_HELP.items():
        _add_config_option(training, name, text)
    _add(training, "--seed N", seed, type=number(int))


def _add_config_option(group: Any, name: str, text: str) -> None:
    option, default = f"--{name.replace('_', '-')}", TRAIN_DEFAULTS[name]
    match default:
        case list():
            _add(group, f"{option} NAMES", text, type=names)
        case bool():
            _add(group, option, text, action="store_true")  # absent unless given: a resumed run keeps its own
        case str():
            _add(group, f"{option} NAME", f"{text} (default: {default})")
        case _:
            kind, metavar = (float, "X") if isinstance(default, float) or name == "clip" else (int, "N")
            tables = f"; for tables: {_FOR_TABLES[name]}" if name in _FOR_TABLES else ""
            shown = "" if default is None else f" (default: {default:g}{tables})"
            _add(group, f"{option} {metavar}", text + shown, type=number(kind))


def _add_sweep(parser: ArgumentParser) -> None:
    others = "report|best|export|status"
    parser.usage = f"{parser.prog} SOURCE --grid NAME=VALUES ... [options]\n       {parser.prog} {others} DIR [options]"
    _add(parser, "source SOURCE", f"{_SOURCE}; write ./best for a folder named best, and so for {others}")
    _add_space(parser)
    sweep = parser.add_argument_group("sweep")
    halving = (
        "stop the worse settings early, by their mean over seeds: 1 of FACTOR continues after 1, FACTOR, FACTOR^2, ... "
        "epochs (without a value: 3; default: no trial is stopped)"
    )
    _add(sweep, "--halving FACTOR", halving, type=number(int), nargs="?", const=3)
    folds = (
        "divide the training examples into N folds, and train each setting N times, once without each fold, which it "
        "is then validated on (default: one part is held out, see --validation-fraction)"
    )
    _add(sweep, "--folds N", folds, type=number(int))
    _add(sweep, "--asynchronous", "with --halving: decide on each setting without waiting for the others")
    out = (
        "folder for the results (default: a new one under runs/); the same command continues a sweep, and one with "
        "more values, seeds, trials or epochs extends it"
    )
    _add(sweep, "--out DIR", out)
    keep = "number of best settings whose models are kept, or all (default: 10)"
    _add(sweep, "--keep N", keep, type=count_or_all, default=10)
    _add(sweep, "--plan", "print the plan of the sweep, and run nothing")
    _add(sweep, "--memory GB", "largest amount of memory to use (default: half of the free memory)", type=number(float))
    _add(
        sweep,
        "--lanes N",
        "number of networks to train side by side (default: chosen for the device)",
        type=number(int),
    )
    for usage in ("--private", "--epsilon X", "--delta X", "--noise-multiplier X"):
        _add(sweep, usage, SUPPRESS)  # refused, with the next step
    _add_common(sweep)
    _add_base_run(
        parser,
        seed="seed for the split and, without --seeds, initial weights and batch order (default: 0)",
        validation=f"{_VALIDATION} (default: 0.2)",
    )


def _add_space(parser: ArgumentParser) -> None:
    space = parser.add_argument_group(
        "what varies",
        "NAME is seed or an option of network or training below. Lists are crossed: 0.1,0.2 with 0,0.9 makes four "
        "settings. If there is a range, settings are drawn instead, from ranges and lists. A colon joins the parts of "
        "one value: hidden=64:32,128,none is three networks.",
    )
    for option, text in (
        ("--grid NAME=V,V", "list of values"),
        ("--uniform NAME=LOW:HIGH", "range of real numbers, drawn uniformly"),
        ("--log-uniform NAME=LOW:HIGH", "range of real numbers, uniform on a logarithmic scale"),
        ("--integers NAME=LOW:HIGH", "range of whole numbers, both bounds included"),
    ):
        _add(space, option, text, type=axis, action="append")
    _add(space, "--trials N", "number of settings to draw from ranges (default: 64)", type=number(int))
    _add(space, "--seeds N", "train each setting with the seeds 0, ..., N - 1", type=number(int))
    _add(space, "--sobol", "draw settings by a Sobol sequence, more evenly than at random")
    _add(space, "--draw N", "seed for drawing settings (default: 0)", type=number(int))


def _add_sweep_report(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    _add(parser, "--png", "also write the pictures as PNG files, beside it")
    _add(parser, "--out FILE", "page to write, .html (default: report.html in DIR)")


def _add_sweep_best(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    metric = (
        "validation_accuracy, validation_r2, validation_loss or train_loss (default: validation_accuracy for classes, "
        "else validation_r2)"
    )
    _add(parser, "--metric NAME", metric)
    _add(parser, "--over NAMES", "hyperparameters to average over, or none (default: seed,fold)", type=names)
    _add(parser, "--save FILE", "file for the model of the best setting's best trial")


def _add_sweep_export(parser: ArgumentParser) -> None:
    _add_sweep_folder(parser)
    _add(parser, "--to FILE", ".parquet or .csv file to write", required=True)


def _add_sweep_folder(parser: ArgumentParser) -> None:
    _add(parser, "folder DIR", "folder of a sweep, finished or not")
    _add_printing(parser)


def _add_evaluate(parser: ArgumentParser) -> None:
    _add_model_and_source(parser)
    _add_target(parser)
    picture = (
        "PNG file: for classes how often predicted probabilities are right, for values predicted against true "
        "(default: evaluation.png)"
    )
    _add(parser, "--picture FILE", picture)
    _add_common(parser)


def _add_predict(parser: ArgumentParser) -> None:
    _add_model_and_source(parser)
    _add(parser, "--out FILE", "CSV file to write (default: predictions.csv)")
    _add(parser, "--keep COLUMNS", "columns of SOURCE to copy beside the predictions, like an id", type=column_names)
    _add(parser, "--probabilities", "also write the probability of each class")
    _add_common(parser)


def _add_importance(parser: ArgumentParser) -> None:
    _add_model_and_source(parser)
    _add_target(parser)
    _add(parser, "--repeats N", "number of permutations of each column (default: 10)", type=number(int), default=10)
    _add(parser, "--seed N", "seed for the permutations (default: 0)", type=number(int), default=0)
    out = "CSV file; beside it a picture, named the same with .png (default: importance.csv)"
    _add(parser, "--out FILE", out)
    _add_common(parser)


def _add_examples(parser: ArgumentParser) -> None:
    _add_model_and_source(parser)
    _add_target(parser)
    _add(parser, "--test", "rank the test part of SOURCE instead of its training part")
    by = "score: loss, error_norm (of y - t), norm (of the gradient) or margin (smallest first) (default: loss)"
    _add(parser, "--by SCORE", by)
    _add(parser, "--top N", "number of examples to show (default: 16)", type=number(int), default=16)
    influence = (
        "show the training examples that helped and harmed the network at this example: a row of the test part, "
        "or of SOURCE if it has none, counted from 0"
    )
    _add(parser, "--influence ROW", influence, type=number(int))
    out = "CSV file; for images also a picture, named the same with .png (default: examples.csv or influence.csv)"
    _add(parser, "--out FILE", out)
    _add_common(parser)


def _add_info(parser: ArgumentParser) -> None:
    _add(parser, "model MODEL", _MODEL)
    _add_printing(parser)


def _add_check(parser: ArgumentParser) -> None:
    what = (
        "nothing: the gradients of this library; MODEL SOURCE: those of a trained network at examples of SOURCE; "
        "MODULE:FUNCTION: your own function, imported as by `python -m`"
    )
    _add(parser, "what WHAT", what, nargs="*", default=[])
    function = parser.add_argument_group("your own function")
    at = "arguments for the check: a tuple, a single argument, or a function that returns either"
    _add(function, "--at MODULE:NAME", at)
    gradient = (
        "its gradient with respect to the first argument, a function of the same arguments "
        "(default: the jax.custom_vjp and jax.custom_jvp rules inside the function are checked)"
    )
    _add(function, "--gradient MODULE:NAME", gradient)
    _add_target(parser)
    _add(parser, "--seed N", "seed for directions and points of the check (default: 0)", type=number(int), default=0)
    plot = "PNG file for a Taylor test: its remainder falls as h^2 for a right gradient, as h^1 for a wrong one"
    _add(parser, "--plot FILE", plot)
    _add_common(parser)


_COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "train": ("Train a network", _add_train),
    "evaluate": ("Measure how well a trained network does", _add_evaluate),
    "predict": ("Write a trained network's predictions to a CSV file", _add_predict),
    "importance": ("Rank columns by how much a trained network relies on them", _add_importance),
    "examples": ("Rank examples by how hard they are, and find likely wrong labels", _add_examples),
    "info": ("Show the layers of a trained network, and how it was trained", _add_info),
    "datasets": ("List the embedded data sets", lambda parser: _add_printing(parser)),
    "check": ("Check the gradients of this library, of a trained network, or of your own function", _add_check),
    "sweep": ("Train many networks with different hyperparameters side by side", _add_sweep),
    "sweep report": ("Write a sweep's report, one HTML file", _add_sweep_report),
    "sweep best": ("Show a sweep's best setting, and save its model", _add_sweep_best),
    "sweep export": ("Write a sweep's trials to a table", _add_sweep_export),
    "sweep status": ("Show how far a sweep is, and its best setting so far", _add_sweep_folder),
}


def _add_model_and_source(parser: ArgumentParser) -> None:
    _add(parser, "model MODEL", _MODEL)
    _add(parser, "source SOURCE", _SOURCE)


def _add_target(parser: ArgumentParser) -> None:
    _add(parser, "--target COLUMN", "target column of SOURCE (default: as in training)")


def _add_common(group: Any) -> None:
    _add_printing(group)
    _add(group, "--no-cache", "do not keep compiled programs for the next start")


def _add_printing(group: Any) -> None:
    _add(group, "--quiet", "print nothing but errors")
    _add(group, "--json", "print one JSON object and nothing else")


def _add(group: Any, usage: str, text: str, **options: Any) -> None:
    """Add an argument written as in a usage line, such as "--out DIR"; without options, a flag."""
    name, _, metavar = usage.partition(" ")
    if metavar:
        options["metavar"] = metavar
    group.add_argument(name, **options or {"action": "store_true", "default": False}, help=text)
