"""How error lines quote names and cells: printable and short, however long or strange they are."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

from jaxmlp._validation import unknown_name


def quoted(value: object, limit: int = 60) -> str:
    """Return `value` as text in quotes, cut after `limit` characters.

    >>> quoted("two" + chr(10) + "lines")
    "'two\\\\nlines'"
    """
    text = str(value)
    return repr(text) if len(text) <= limit else repr(text[:limit] + "…")


def plain(value: object, limit: int = 200) -> str:
    """Return `value` as text; quote and cut it only if it is long or not printable."""
    text = str(value)
    return text if text.isprintable() and len(text) <= limit else quoted(text, limit)


def listed(names: Collection[str], limit: int = 10) -> str:
    """Return the first `limit` names in quotes, and the count of the others.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b', … (1 more)"
    """
    more = [f"… ({len(names) - limit} more)"] if len(names) > limit else []
    return ", ".join([quoted(name) for name in islice(names, limit)] + more)


def unknown_among(what: str, given: str, names: Iterable[str], limit: int = 10) -> str:
    """Return the message of `unknown_name`, but list only the `limit` nearest names.

    >>> unknown_among("column", "spices", ["species", "width"])
    "unknown column 'spices', did you mean 'species'? (known: species, width)"
    """
    names = list(names)
    nearest = get_close_matches(given, names, n=limit, cutoff=0)
    more = [f"… {len(names) - len(nearest)} more"] if len(names) > len(nearest) else []
    return unknown_name(what, given, [plain(name, 60) for name in nearest] + more)


def check_features(where: str, wanted: Iterable[str], columns: Collection[str]) -> None:
    """Raise a ValueError that names the nearest column if a feature of a trained model is missing.

    >>> check_features("x", ["a"], ["A", "B", "C"])
    Traceback (most recent call last):
    ValueError: x: feature 'a' is missing; the nearest column is 'A'
    """
    for name in wanted:
        if name not in columns:
            if not columns:
                raise ValueError(f"{where}: feature {quoted(name)} is missing; there are no columns")
            alike = {column.casefold(): column for column in columns}  # "A" is nearer to "a" than "b" is
            nearest = quoted(alike[get_close_matches(name.casefold(), alike, n=1, cutoff=0)[0]])
            raise ValueError(f"{where}: feature {quoted(name)} is missing; the nearest column is {nearest}")
