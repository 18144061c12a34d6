"""What is typed behind an option: numbers, names, widths, NAME=VALUES; or one line that says what was expected."""

from argparse import ArgumentTypeError
from typing import Any

__all__ = ["axis", "count_or_all", "names", "number", "shortened", "widths"]


def number(kind: type[int] | type[float]) -> dict[str, Any]:
    """Return what `add_argument` needs for a number."""
    expected, metavar = ("a whole number", "N") if kind is int else ("a number", "X")

    def convert(text: str) -> int | float:
        try:
            return kind(text)
        except ValueError:
            raise ArgumentTypeError(f"expected {expected}, got {shortened(text)}") from None

    return {"metavar": metavar, "type": convert}


def names(text: str) -> list[str]:
    """Read names separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ArgumentTypeError(f"expected names separated by commas, got {shortened(text)}")
    return parts


def widths(text: str) -> list[int]:
    """Read widths of layers, or none."""
    if text == "none":
        return []
    try:
        parts = [int(part) for part in text.split(",")]
    except ValueError:
        parts = [0]
    if min(parts) < 1:
        raise ArgumentTypeError(f"expected whole numbers, each 1 or larger, as 128,64, or none, got {shortened(text)}")
    return parts


def axis(text: str) -> tuple[str, str]:
    """Read the name of a hyperparameter, with hyphens or underscores, and leave its values as they are.

    >>> axis("learning-rate=0.01,0.1")
    ('learning_rate', '0.01,0.1')
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise ArgumentTypeError(f"expected NAME=VALUES, as learning_rate=0.01,0.1, got {shortened(text)}")
    return name.replace("-", "_"), values


def count_or_all(text: str) -> int | str:
    """Read a whole number, or all."""
    if not (text == "all" or (text.isdecimal() and len(text) < 20)):
        raise ArgumentTypeError(f"expected a whole number, 0 or larger, or all, got {shortened(text)}")
    return text if text == "all" else int(text)


def shortened(text: str) -> str:
    """Quote a word, or the beginning of a long one."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
