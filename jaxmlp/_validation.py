"""Checks and error messages that all modules share: whole numbers, pairs of arrays, names looked up in a table."""

from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from operator import index
from typing import Any

import numpy as np


def unknown_name(what: str, given: object, known: Iterable[str]) -> str:
    """Return the error message for an unknown `what`, with the nearest known name.

    >>> unknown_name("activation", "rellu", ["relu", "tanh"])
    "unknown activation 'rellu', did you mean 'relu'? (known: relu, tanh)"
    """
    names = sorted(known)
    nearest = get_close_matches(str(given), names, n=1)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {what} {given!r}{hint} (known: {', '.join(names)})"


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number, of Python or NumPy, as an `int`; raise a ValueError if it is not whole or out of range.

    >>> whole_number("epochs", 0, least=1)
    Traceback (most recent call last):
    ValueError: epochs must be a whole number, 1 or larger, got 0
    """
    try:
        # A bool is an int in Python, but a bool passed as a number is a mistake.
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bounds = f", {least} or larger" if most is None else f" from {least} to {most}"
        raise ValueError(f"{name} must be a whole number{bounds}, got {value!r}")
    return number


def pair_shapes(pairs: Any) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the shapes of each pair of arrays; raise a TypeError that names the type of anything else.

    >>> pair_shapes([[np.zeros((3, 1)), np.zeros(3)]])
    [((3, 1), (3,))]
    """
    # A bare pair is a sequence too, and iterating over its arrays may look like pairs.
    if isinstance(pairs, tuple | list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        with suppress(TypeError, ValueError):  # the pairs are not of arrays
            return [(np.shape(one), np.shape(other)) for one, other in pairs]
    inside = f" of {type(pairs[0]).__name__}" if type(pairs) in (tuple, list) and pairs else ""
    raise TypeError(f"{type(pairs).__name__}{inside}")
