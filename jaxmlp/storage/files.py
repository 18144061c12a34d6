"""Files written whole or not at all, even if the process is killed; and JSON that any language reads."""

import json
import math
import os
import platform
import secrets
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["check_place", "is_leftover", "to_json", "write_whole"]

# A hidden folder beside the file, so that files left by killed processes are found without listing a large folder.
_ASIDE = ".unfinished"
_LONGEST_WRITE = 3600.0  # seconds


def write_whole(path: Path, content: bytes, *, is_secret: bool = False) -> None:
    """Write a file aside, flush it to the disk, and rename it into place.

    A reader sees the old content or the new, never a part. Any number of processes may write the same file: the last
    one wins. Files that killed processes left aside are removed. If `path` is a link, the file that it points to
    is replaced. Only the owner may read a secret file, also while it is written. Raises the errors of `check_place`.
    """
    path = Path(os.path.realpath(path))
    while True:
        check_place(path)
        with suppress(FileNotFoundError):  # another process removed the empty folder, or thought this one dead
            return _write_aside(path, content, 0o600 if is_secret else 0o666)


def _write_aside(path: Path, content: bytes, mode: int) -> None:
    folder = path.parent / _ASIDE
    with suppress(FileExistsError):  # `exist_ok=True` fails if another process removes it meanwhile
        folder.mkdir()
    aside = folder / f"{platform.node()}-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        with open(aside, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
        with suppress(OSError):  # another process may be removing files or writing there
            for other in folder.iterdir():
                if _is_abandoned(other):
                    other.unlink(missing_ok=True)
            folder.rmdir()


def _is_abandoned(aside: Path) -> bool:
    """Tell whether the process that wrote this file has ended, or, on another machine, the file is an hour old."""
    machine, _, pid = aside.name.rpartition("-")[0].rpartition("-")
    if machine == platform.node() and os.name == "posix":  # on Windows `os.kill` ends the process
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
    return time.time() - aside.stat().st_mtime > _LONGEST_WRITE


def check_place(path: Path) -> None:
    """Raise the error of `write_whole` if `path` cannot be written; call this before the work to be saved.

    It is a `FileNotFoundError` if the folder does not exist, a `ValueError` if the path is a folder or a device.

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
    """Tell whether this is the folder that a killed process left."""
    return path.name == _ASIDE


def to_json(value: Any, **options: Any) -> str:
    """Return JSON in which numbers that are not finite are null, because JSON has no nan or infinity.

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
