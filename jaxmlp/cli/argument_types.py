"""Types of options for argparse: numbers, names, widths, NAME=VALUES; errors say what was expected."""

import csv
import re
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = [
    "as_typed",
    "axis",
    "budget",
    "column_names",
    "count_or_all",
    "missing_texts",
    "names",
    "number",
    "shortened",
    "widths",
]

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def number(kind: type[int] | type[float]) -> Callable[[str], int | float]:
    """Return a function that reads a number of a kind."""
    expected = "a whole number" if kind is int else "a number"

    def convert(text: str) -> int | float:
        try:
            return kind(text)
        except ValueError:
            raise ArgumentTypeError(f"expected {expected}, got {shortened(text)}") from None

    return convert


def names(text: str) -> list[str]:
    """Read names separated by commas or colons."""
    parts = [part.strip() for part in text.replace(":", ",").split(",")]
    if not all(parts):
        raise ArgumentTypeError(f"expected comma-separated names, got {shortened(text)}")
    return parts


def column_names(text: str) -> list[str]:
    """Read names of columns, separated by commas; a name with a comma stands in double quotes.

    >>> column_names('age,"income, EUR"')
    ['age', 'income, EUR']
    """
    parts = _cells(text)
    if not parts or not all(parts):
        raise ArgumentTypeError(f"expected names of columns separated by commas, got {shortened(text)}")
    if repeated := [name for name, count in Counter(parts).items() if count > 1]:
        raise ArgumentTypeError(f"column {shortened(repeated[0])} is named twice: name it once")
    return parts


def missing_texts(text: str) -> list[str]:
    """Read texts that mean a missing cell, separated by commas as names of columns are.

    >>> missing_texts("-99,unknown")
    ['-99', 'unknown']
    """
    parts = [part for part in dict.fromkeys(_cells(text)) if part]
    if not parts:
        always = "an empty cell is missing in any case"
        raise ArgumentTypeError(
            f"expected texts separated by commas, like -99,unknown, got {shortened(text)}; {always}"
        )
    return parts


def budget(text: str) -> dict[str, float]:
    """Read seconds, minutes, hours or a number of trials.

    >>> budget("60"), budget("2m"), budget("40trials")
    ({'seconds': 60.0}, {'seconds': 120.0}, {'trials': 40})
    """
    found = re.fullmatch(r"([0-9.]+) *([a-z]*)", text.strip())
    try:
        if found and found[2] in ("trial", "trials") and int(found[1]) > 0:
            return {"trials": int(found[1])}
        if found and (seconds := float(found[1]) * _SECONDS[found[2]]) > 0:
            return {"seconds": seconds}
    except (ValueError, KeyError):
        pass
    raise ArgumentTypeError(f"expected seconds, like 60 or 10m, or trials, like 40trials, got {shortened(text)}")


def widths(text: str) -> list[int]:
    """Read the widths of layers, or none.

    >>> widths("128:64"), widths("128,64"), widths("none")
    ([128, 64], [128, 64], [])
    """
    if text == "none":
        return []
    try:
        parts = [int(part) for part in text.replace(",", ":").split(":")]
    except ValueError:
        parts = [0]
    if min(parts) < 1:
        raise ArgumentTypeError(f"expected whole numbers, each 1 or larger, like 128:64 or none, got {shortened(text)}")
    return parts


def axis(text: str) -> tuple[str, str]:
    """Split NAME=VALUES; the name may have hyphens or underscores, and the values stay text.

    >>> axis("learning-rate=0.01,0.1")
    ('learning_rate', '0.01,0.1')
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise ArgumentTypeError(f"expected NAME=VALUES, like learning_rate=0.01,0.1, got {shortened(text)}")
    return name.replace("-", "_"), values


def count_or_all(text: str) -> int | str:
    """Read a whole number, or all."""
    if not (text == "all" or (text.isdecimal() and len(text) < 20)):
        raise ArgumentTypeError(f"expected a whole number, 0 or larger, or all, got {shortened(text)}")
    return text if text == "all" else int(text)


def as_typed(value: Any) -> str:
    """Write an option's value as it is typed.

    >>> as_typed((64, 32)), as_typed(10.0), as_typed(None)
    ('64:32', '10', 'none')
    """
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple | list):
        return ":".join(map(str, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True), [])]


def shortened(text: str) -> str:
    """Quote a text, cut after 40 characters."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
