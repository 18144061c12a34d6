"""Frozen dataclasses as JSON values, and back; a file may come from anywhere, so every type is checked."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from jaxmlp.data._quoting import plain


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": _is_text,
    "bool": lambda value: isinstance(value, bool),
    "float": _is_number,
    "tuple[str, ...]": _is_list_of(_is_text),
    "tuple[float, ...]": _is_list_of(_is_number),
}


def to_json(value: Any) -> dict[str, Any]:
    """Return the fields of a frozen dataclass; tuples become lists, and dataclasses among them objects."""

    def entry_of(entry: Any) -> Any:
        if is_dataclass(entry):
            return to_json(entry)
        return list(entry) if isinstance(entry, tuple) else entry

    return {field.name: entry_of(getattr(value, field.name)) for field in fields(value)}


def from_json(cls: Any, saved: Mapping[str, Any], **parts: Any) -> Any:
    """Return the dataclass that `to_json` saved; `parts` are the classes of its fields that are dataclasses or None.

    A `ValueError` names what has the wrong type.
    """
    names = {field.name: str(field.type) for field in fields(cls)}
    if set(saved) != set(names):
        raise ValueError(f"a saved {cls.__name__} must have {', '.join(names)}, got {plain(sorted(saved))}")
    for name, kind in names.items():
        if kind in _CHECKS and not _CHECKS[kind](saved[name]):
            raise ValueError(f"{cls.__name__}.{name} must be of type {kind}, got {plain(saved[name])}")
    for name in names.keys() & parts.keys():
        if not (isinstance(saved[name], dict) or (saved[name] is None and "None" in names[name])):
            raise ValueError(f"{cls.__name__}.{name} must be of type {names[name]}, got {plain(saved[name])}")
        saved = {**saved, name: saved[name] and from_json(parts[name], saved[name])}
    try:
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})
    except OverflowError as error:
        raise ValueError(f"{cls.__name__} must hold numbers within the range of float64") from error
