"""One sentence for a mistyped name, wherever a name is looked up."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(what: str, given: object, known: Iterable[str]) -> str:
    """Say that `given` is no known `what`, and name the nearest one.

    >>> unknown_name("activation", "rellu", ["relu", "tanh"])
    "unknown activation 'rellu', did you mean 'relu'? (known: relu, tanh)"
    """
    names = sorted(known)
    nearest = get_close_matches(str(given), names, n=1)
    hint = f", did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {what} {given!r}{hint} (known: {', '.join(names)})"
