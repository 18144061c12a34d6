"""Files that are there whole or not at all, whenever the process is killed."""

import os
from pathlib import Path

__all__ = ["is_leftover", "write_whole"]

_SUFFIX = ".unfinished"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, flush it to the disk, and rename it into place.

    A reader sees the old content or the new, never a part; what a killed process leaves aside is overwritten by
    the next write.
    """
    aside = path.with_name(f".{path.name}{_SUFFIX}")
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def is_leftover(path: Path) -> bool:
    """Tell whether a killed process left this file aside.

    >>> is_leftover(Path(".model.safetensors.unfinished"))
    True
    """
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)
