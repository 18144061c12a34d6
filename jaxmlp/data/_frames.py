"""CSV and parquet files as frames.

A reader returns the frame, and a function from a row's index to its line in the CSV file, or to its number counted from
1; its errors are one-line `ValueError`s.

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
from jaxmlp.data._csv import read_csv
from jaxmlp.data._quoting import plain

if TYPE_CHECKING:
    import polars


_READ_PARQUET = """
import sys, polars
frame = polars.read_parquet(sys.argv[1], glob=False, hive_partitioning=False)
frame.rechunk().write_ipc(sys.stdout.buffer)
"""


def read_parquet(path: Path, separator: str | None) -> tuple[polars.DataFrame, Callable[[int], int]]:
    """Read a parquet file."""
    if separator is not None:
        raise ValueError(f"{plain(path)}: a parquet file has no separator: leave {separator!r} out")
    pl = optional("polars")
    # -P keeps a polars.py in the working directory from being taken for the package.
    command = [sys.executable, "-P", "-c", _READ_PARQUET, str(path)]
    child = subprocess.run(command, capture_output=True, check=False)
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").splitlines()
        messages = [line.partition(": ")[2] for line in lines if line.startswith("polars.exceptions.")]
        reason = plain(messages[-1]) if messages else "polars failed to read it"
        raise ValueError(f"{plain(path)}: damaged, or no parquet file: {reason}")
    frame: polars.DataFrame = pl.read_ipc(io.BytesIO(child.stdout))
    return frame, lambda index: index + 1


READERS = {**dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), read_csv), ".parquet": read_parquet}
"""The readers of tables, by the ending of the file's name in lower case."""


def ending(path: Path) -> str:
    """Return the ending of a file's name, in lower case and with what comes before `.gz`.

    >>> ending(Path("Data.v2.CSV.gz")), ending(Path("Data.v2.csv"))
    ('.csv.gz', '.csv')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])
