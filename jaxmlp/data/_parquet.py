"""Parquet files as frames, read in a process of their own.

A damaged parquet file can make polars panic in its worker threads. The panic is printed to standard error, and Python
gets an error that is not even an `Exception`; nothing inside this process can prevent that. So a child process reads
the file, which costs 0.3 s, and returns the frame in the Arrow format.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmlp._extras import optional
from jaxmlp.data._quoting import plain

if TYPE_CHECKING:
    import polars

_READ = """
import sys, polars
frame = polars.read_parquet(sys.argv[1], glob=False, hive_partitioning=False)
frame.rechunk().write_ipc(sys.stdout.buffer)
"""


def read_parquet(path: Path) -> tuple[polars.DataFrame, Callable[[int], int]]:
    """Read a parquet file; raise a `ValueError` of one line if it cannot be read.

    Returns its columns, and a function from a row's index to its number, counted from 1.
    """
    pl = optional("polars")
    # -P keeps a polars.py in the working directory from being taken for the package.
    command = [sys.executable, "-P", "-c", _READ, str(path)]
    child = subprocess.run(command, capture_output=True, check=False)
    if child.returncode != 0:
        raise ValueError(f"{plain(path)}: damaged, or no parquet file: {_reason(child.stderr)}")
    frame: polars.DataFrame = pl.read_ipc(io.BytesIO(child.stdout))
    return frame, lambda index: index + 1


def _reason(stderr: bytes) -> str:
    """Return the message of the last polars exception in the standard error of the child."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.startswith("polars.exceptions.")]
    return plain(lines[-1].partition(": ")[2] if lines else "polars failed to read it")
