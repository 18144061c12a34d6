"""Checks and their error lines that all rooms share: whole numbers, and names that are looked up in a table."""

from collections.abc import Iterable
from difflib import get_close_matches
from operator import index
from typing import Any


def unknown_name(what: str, given: object, known: Iterable[str]) -> str:
    """Say that `given` is no known `what`, and name the nearest one.

    >>> unknown_name("activation", "rellu", ["relu", "tanh"])
    "unknown activation 'rellu', did you mean 'relu'? (known: relu, tanh)"
    """
    names = sorted(known)
    nearest = get_close_matches(str(given), names, n=1)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {what} {given!r}{hint} (known: {', '.join(names)})"


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number, of Python or NumPy, as an `int`; raise a ValueError if it is none or out of its range.

    >>> whole_number("epochs", 0, least=1)
    Traceback (most recent call last):
    ValueError: epochs must be a whole number, 1 or larger, got 0
    """
    try:
        # A bool is an int to Python, but a mistake to everybody who passes one as a number.
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bounds = f", {least} or larger" if most is None else f" from {least} to {most}"
        raise ValueError(f"{name} must be a whole number{bounds}, got {value!r}")
    return number
