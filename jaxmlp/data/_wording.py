"""The wording of this room's errors: one printable line, however long or strange the names and cells it quotes."""

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
    """Return `value` as text without quotes where that is one short line, and in quotes where it is not."""
    text = str(value)
    return text if text.isprintable() and len(text) <= limit else quoted(text, limit)


def listed(names: Collection[str], limit: int = 10) -> str:
    """Return the names in quotes, with a count in place of those after the first `limit`.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b', … (1 more)"
    """
    more = [f"… ({len(names) - limit} more)"] if len(names) > limit else []
    return ", ".join([quoted(name) for name in islice(names, limit)] + more)


def unknown_among(what: str, given: str, names: Iterable[str], limit: int = 10) -> str:
    """Say that `given` is none of a file's `names`: `unknown_name` where there may be thousands of them.

    >>> unknown_among("column", "spices", ["species", "width"])
    "unknown column 'spices', did you mean 'species'? (known: species, width)"
    """
    names = list(names)
    nearest = get_close_matches(given, names, n=limit, cutoff=0)
    more = [f"… {len(names) - len(nearest)} more"] if len(names) > len(nearest) else []
    return unknown_name(what, given, [plain(name, 60) for name in nearest] + more)
