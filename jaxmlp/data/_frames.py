"""CSV and parquet files as frames.

A reader returns the frame, and a function from a row's index to its line in the CSV file, or to its number counted from
1; its errors are one-line `ValueError`s.

Polars reads CSV files, because it is fast. After an error, Python's `csv` reads the file again, because it knows the
line of each record.

A damaged parquet file can make polars panic in its worker threads. The panic is printed to standard error, and Python
gets an error that is not even an `Exception`; nothing inside this process can prevent that. So a child process reads
the file, which costs 0.3 s, and returns the frame in the Arrow format.
"""

from __future__ import annotations

import codecs
import csv
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmlp._extras import optional
from jaxmlp.data._quoting import plain, quoted

if TYPE_CHECKING:
    import polars


def read_csv(path: Path) -> tuple[polars.DataFrame, Callable[[int], int]]:
    """Read a CSV file whose first line names the columns: its cells as text, None where empty."""
    raw = _read_utf8(path)
    header = _read_header(path)
    frame = _read_frame(path, raw, header)
    # A row with too few fields has no value in the last column. A blank line has none either: it is skipped, except
    # in a table of one column, where it may be a missing value.
    if frame.width == 1 or not frame.to_series(-1).null_count():
        return frame, lambda index: _line_of(path, index)
    _refuse_ragged(path, len(header))
    pl = optional("polars")
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    kept = (~blank).arg_true()
    return frame.filter(~blank), lambda index: _line_of(path, kept[index])


def _read_utf8(path: Path) -> bytes:
    raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        row, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise ValueError(f"{plain(path)}, row {row}: byte {byte:#04x} is not UTF-8, expected UTF-8 text") from None
    return raw


def _read_header(path: Path) -> list[str]:
    _, fields = next(_records(path), (1, []))
    header = [field.strip() for field in fields]
    if not any(header):
        raise ValueError(f"{plain(path)}, row 1: empty, expected the names of the columns")
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"{plain(path)}, row 1: two columns named {quoted(repeated[0])}, expected distinct names")
    return header


def _read_frame(path: Path, raw: bytes, header: list[str]) -> polars.DataFrame:
    pl = optional("polars")
    try:
        # Without the added line feed, which it skips, polars takes a file that begins with "x^" for a compressed one.
        frame: polars.DataFrame = pl.read_csv(io.BytesIO(b"\n" + raw), infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        _refuse_ragged(path, len(header))
        reason = plain(str(error).partition("\n")[0])
        raise ValueError(f"{plain(path)}: not a table of comma-separated values: {reason}") from error
    if frame.width != len(header):
        raise ValueError(f"{plain(path)}, row 1: expected the names of the columns, and a line feed after them")
    frame.columns = header
    return frame


def _refuse_ragged(path: Path, width: int) -> None:
    for line, fields in _records(path):
        if fields and len(fields) != width:
            raise ValueError(f"{plain(path)}, row {line}: {len(fields)} fields, expected {width} as in the header")


def _line_of(path: Path, index: int) -> int:
    # If the two parsers disagree, or a cell is too long for `csv`, assume that every row is one line.
    in_plain_table = index + 2
    try:
        return next(islice(_records(path), index + 1, None), (in_plain_table, []))[0]
    except ValueError:
        return in_plain_table


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line in which it begins; a blank line is a record without fields."""
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader, line = csv.reader(text, strict=True), 1
        try:
            for fields in reader:
                yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"{plain(path)}, row {line}: {error}, expected comma-separated values") from error


_READ_PARQUET = """
import sys, polars
frame = polars.read_parquet(sys.argv[1], glob=False, hive_partitioning=False)
frame.rechunk().write_ipc(sys.stdout.buffer)
"""


def read_parquet(path: Path) -> tuple[polars.DataFrame, Callable[[int], int]]:
    """Read a parquet file."""
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


READERS = {".csv": read_csv, ".parquet": read_parquet}
"""The readers of tables, by the suffix of the file's name in lower case."""
