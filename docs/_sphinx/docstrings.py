"""Makes reStructuredText of the library's docstrings, which are plain text with `names`, formulas and NumPy's sections.

A name in backticks becomes a link if the reference has it, else code; one that begins with `jaxmlp.` must be there. An
indented block is shown as it is, and signs such as | and * keep their meaning.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

PAGES = Path(__file__).parents[1] / "reference"
_FIELDS = {"Parameters", "Attributes", "Raises", "Returns"}


@cache
def names(pages: Path = PAGES) -> list[str]:
    """Return every name of the reference, in order."""
    text = "\n".join(path.read_text() for path in sorted(pages.glob("*.md")))
    return re.findall(r"^\.\. auto(?!module)\w+:: (\S+)", text, re.MULTILINE)


def setup(app: Any) -> dict[str, bool]:
    """Connect to autodoc, before napoleon."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-signature", _short)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True}


_ALIASES = {
    "~jax.Array | ~numpy.ndarray | ~numpy.bool | ~numpy.number | bool | int | float | complex": "~jax.typing.ArrayLike",
    "tuple[~jaxmlp.network.Layer, ...]": "~jaxmlp.network.Params",
    "~collections.abc.": "~",
}


def _short(app: Any, what: str, name: str, of: Any, options: Any, arguments: str | None, returns: str | None) -> Any:
    """Name long types by their aliases."""
    for long, short in _ALIASES.items():
        arguments, returns = (text and text.replace(long, short) for text in (arguments, returns))
    return arguments, returns


def _skip(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which their class describes."""
    return True if type(member).__name__ == "_tuplegetter" else None


def _process(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    if what == "data":
        lines.clear()  # the docstring of dict or tuple: the page itself says what the constant is
        return
    links = Links(name, documented)
    lines[:] = list(_lines(lines, links))


def _resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Link a field to its class, and show an internal type as text; what does not exist stays an error."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("jaxmlp") or not _exists(target):
        return None
    parent = _canonical(target.rpartition(".")[0])
    python = env.get_domain("py")
    linked = python.resolve_xref(env, node["refdoc"], app.builder, "obj", parent, node, content)
    return linked if linked is not None and parent in names() else content


def _exists(target: str) -> bool:
    thing: Any = import_module("jaxmlp")
    for number, name in enumerate(parts := target.split(".")[1:], start=1):
        if isinstance(thing, ModuleType) and not hasattr(thing, name):
            try:
                import_module(".".join(["jaxmlp", *parts[:number]]))
            except ImportError:
                return False
        if not hasattr(thing, name):
            return name in getattr(thing, "__annotations__", {})
        thing = getattr(thing, name)
    return True


class Links:
    """Turns names in backticks, of one docstring, into links or code."""

    def __init__(self, name: str, documented: Any) -> None:
        """Keep where the docstring stands, and the names that are its own."""
        module = getattr(documented, "__module__", None) or name
        self._home = str(module if isinstance(module, str) else name)
        self._own = {name.rpartition(".")[2], *getattr(documented, "_fields", ())} | _arguments(documented)

    def __call__(self, text: str) -> str:
        """Return a link, or code."""
        name = text.removesuffix("()")
        if name.startswith("jaxmlp.") and re.fullmatch(r"[\w.]+", name):
            return f":py:obj:`{name} <{_canonical(name)}>`"
        if name not in self._own and (target := self._target(name)):
            return f":py:obj:`{text} <{target}>`"
        return f"``{text}``"

    def _target(self, name: str) -> str | None:
        head, _, member = name.partition(".")
        found = [one for one in names() if one.rpartition(".")[2] == head]
        if member:
            found = [one for one in found if hasattr(_found(one), member)]
        if not found:
            return None
        best = max(found, key=lambda one: (_shared(_module(one), self._home), -one.count(".")))
        return f"{best}.{member}" if member else best


def _arguments(documented: Any) -> set[str]:
    try:
        return set(signature(documented).parameters)
    except (TypeError, ValueError):
        return set()


def _found(name: str) -> Any:
    module, _, leaf = name.rpartition(".")
    return getattr(import_module(module), leaf)


def _module(name: str) -> str:
    """Return the module that defines a name of the reference."""
    module = getattr(_found(name), "__module__", None)
    return module if isinstance(module, str) and module.startswith("jaxmlp") else name.rpartition(".")[0]


def _canonical(name: str) -> str:
    """Return the name under which the reference has something, if it has it: `jaxmlp.network.MLP` is `jaxmlp.MLP`."""
    for start in range(len(name.split(".")), 1, -1):
        head, rest = name.split(".")[:start], name.split(".")[start:]
        try:
            thing = _found(".".join(head))
        except (ImportError, AttributeError):
            continue
        for one in names():
            if one.rpartition(".")[2] == head[-1] and _found(one) is thing:
                return ".".join([one, *rest])
    return sys.modules[name].__name__ if name in sys.modules else name


def _shared(one: str, other: str) -> int:
    pairs = zip(one.split("."), other.split("."), strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(one.count("."), other.count(".")) + 1)


def _lines(lines: list[str], links: Links) -> Iterator[str]:
    section = before = ""
    for block in re.split(r"\n(?: *\n)+", "\n".join(lines).strip("\n")):
        rows = block.split("\n")
        if re.fullmatch(r"-{3,}", rows[1] if rows[1:] else ""):
            section = before = rows[0]
            yield from rows[:2]
            rows = rows[2:] or [""]
        deepest = 4 if section in _FIELDS else 0
        kind = _kind(rows[0], deepest)
        if kind == "formula" != before:
            yield from (" " * deepest + ".. code-block:: text", "")
        before = kind
        for row in rows:
            is_field = section in _FIELDS and not row.startswith(" ")
            yield row if kind != "text" or is_field else _text(row, links)
        yield ""


def _kind(row: str, deepest: int) -> str:
    if row.lstrip().startswith(">>>"):
        return "doctest"
    return "formula" if len(row) - len(row.lstrip()) > deepest else "text"


def _text(line: str, links: Links) -> str:
    """Return a line of text with its signs escaped and its names linked."""
    parts = re.split(r"(``?[^`]+``?)", line)
    return "".join(
        links(part.strip("`")) + ("\\ " if number + 1 < len(parts) and parts[number + 1][:1].isalnum() else "")
        if part.startswith("`")
        else _escaped(part)
        for number, part in enumerate(parts)
    )


def _escaped(text: str) -> str:
    indent = len(text) - len(text.lstrip())
    bullet = text[indent : indent + 2] if text[indent : indent + 2] in ("- ", "* ") else ""
    return text[:indent] + bullet + re.sub(r"([|*\\])|(?<=\w)(_)(?!\w)", r"\\\1\2", text[indent + len(bullet) :])
