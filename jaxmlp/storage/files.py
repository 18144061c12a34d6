"""Files that are there whole or not at all, whenever the process is killed; and JSON that any language reads."""

import json
import math
import os
from pathlib import Path
from typing import Any

__all__ = ["check_place", "is_leftover", "to_json", "write_whole"]

_SUFFIX = ".unfinished"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, flush it to the disk, and rename it into place.

    A reader sees the old content or the new, never a part; what a killed process leaves aside is overwritten by
    the next write. Of a link, the file that it points to is replaced.

    Raises
    ------
    ValueError
        If there is something else in the file's place: a folder, a device.
    """
    path = Path(os.path.realpath(path))
    check_place(path)
    aside = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def check_place(path: Path) -> None:
    """Raise what `write_whole` would if a file cannot be there: to be called before the work that it will hold.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If there is something else in the file's place: a folder, a device.

    Examples
    --------
    >>> check_place(Path("no/such/folder/file.csv"))
    Traceback (most recent call last):
    FileNotFoundError: no/such/folder/file.csv: there is no folder no/such/folder
    """
    if not path.name:
        raise ValueError(f"{path}: a folder, expected the name of a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file, expected the name of a file to write")


def is_leftover(path: Path) -> bool:
    """Tell whether a killed process left this file aside.

    >>> is_leftover(Path(".model.safetensors.unfinished"))
    True
    """
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def to_json(value: Any, **options: Any) -> str:
    """Write JSON in which numbers that are not finite are null: JSON has no other word for them.

    >>> to_json({"losses": [0.5, float("nan")]})
    '{"losses": [0.5, null]}'
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {name: _finite(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_finite(entry) for entry in value]
        case float() if not math.isfinite(value):
            return None
    return value
