"""The space of `jaxmlp sweep`, from NAME=VALUES as typed."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from jaxmlp._validation import unknown_name
from jaxmlp.cli.argument_types import shortened
from jaxmlp.sweep import Distribution, Space, grid, integers, log_uniform, random, uniform
from jaxmlp.sweep.metrics import OVER
from jaxmlp.sweep.space import NAMES

__all__ = ["as_options", "typed_space"]

_RANGES: dict[str, Callable[..., Distribution]] = {"uniform": uniform, "log_uniform": log_uniform, "integers": integers}
_NAMED = ("activation", "output", "loss", "schedule")
_WORDS = {"none": None, "true": True, "false": False}
_TRIALS = 64


def typed_space(arguments: Namespace) -> Space:
    """Return the space: lists crossed, or settings drawn from ranges and lists if there is a range.

    Raises
    ------
    ValueError
        If nothing varies, there is no range to draw from, or a name, a value or a range is wrong.

    Examples
    --------
    >>> len(typed_space(Namespace(grid=[("learning_rate", "0.01,0.1"), ("hidden", "64:32,none")], sobol=False)))
    4
    """
    axes = [(kind, name, text) for kind in ("grid", *_RANGES) for name, text in getattr(arguments, kind, [])]
    _check_names([name for _, name, _ in axes], "seeds" in arguments)
    lists: dict[str, Any] = {
        name: [_value(name, part) for part in _parts(name, text)] for kind, name, text in axes if kind == "grid"
    }
    ranges = {name: _range(kind, name, text) for kind, name, text in axes if kind != "grid"}
    if "seeds" in arguments:
        if arguments.seeds < 1:
            raise ValueError(f"--seeds must be 1 or larger, got {arguments.seeds}")
        lists["seed"] = range(arguments.seeds)
    if not (lists or ranges):
        raise ValueError("nothing varies: add --grid, --uniform, --log-uniform, --integers or --seeds")
    if "seed" in arguments and "seed" not in lists:
        lists["seed"] = [arguments.seed]  # as `train` would
    if ranges:
        method = "sobol" if arguments.sobol else "random"
        n, draw = getattr(arguments, "trials", _TRIALS), getattr(arguments, "draw", 0)
        for option, value, least in (("trials", n, 1), ("draw", draw, 0)):
            if value < least:
                raise ValueError(f"--{option} must be {least} or larger, got {value}")
        return random(n, method=method, draw=draw, **ranges, **lists)
    for option in ("trials", "draw", "sobol"):
        if getattr(arguments, option, False) is not False:
            raise ValueError(f"--{option} requires a range: --uniform, --log-uniform or --integers")
    return grid(**lists)


def as_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's values as options of `train`, without the seed, which would also change the split, and the fold.

    >>> as_options({"hidden": (64, 32), "activation": "tanh", "clip": None, "seed": 3})
    {'hidden': [64, 32], 'activation': ['tanh'], 'clip': None}
    """
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    for name in OVER:
        options.pop(name, None)
    if isinstance(options.get("activation"), str):
        options["activation"] = [options["activation"]]
    return options


def _check_names(names: list[str], has_seeds: bool) -> None:
    for name in names:
        if name not in NAMES:
            raise ValueError(unknown_name("hyperparameter", name, NAMES))
        if names.count(name) > 1:
            raise ValueError(f"{name} is given twice: give all its values in one --grid or one range")
    if has_seeds and "seed" in names:
        raise ValueError("seed is given twice, by --seeds and as a hyperparameter: leave one out")


def _parts(name: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        got = f"an empty one in {text!r}" if text else "none"
        raise ValueError(f"{name} must have comma-separated values, got {got}")
    return parts


def _range(kind: str, name: str, text: str) -> Distribution:
    if name in ("seed", "hidden", *_NAMED):
        raise ValueError(f"{name} cannot be drawn from a range: list its values with --grid {name}=...")
    low, colon, high = text.partition(":")
    if not (low and colon and high):
        raise ValueError(f"{name} must be a range LOW:HIGH, like 0.001:1, got {text!r}")
    bounds = [_number(name, bound.strip(), "a number") for bound in (low, high)]
    try:
        return _RANGES[kind](*bounds)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _value(name: str, text: str) -> Any:
    """Read a value: widths of layers, names, a number, none, true or false."""
    if name == "hidden":
        return () if text == "none" else tuple(_width(each) for each in text.split(":"))
    if name in _NAMED:
        return tuple(text.split(":")) if ":" in text else text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return _number(name, text, "a number, none, true or false")


def _width(text: str) -> int:
    if not text.isdecimal() or len(text) > 20:
        raise ValueError(f"hidden must be widths like 64:32, or none, got {shortened(text)}")
    return int(text)


def _number(name: str, text: str, expected: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ValueError(f"{name} must be {expected}, got {shortened(text)}")
