"""CSV files as frames of text: plain or gzipped, with any separator, and with decimal points or commas.

Polars reads the file, because it is fast. After an error, Python's `csv` reads it again, because it knows the line of
each record.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmlp._extras import optional
from jaxmlp.data._quoting import plain, quoted

if TYPE_CHECKING:
    import polars

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE = 1 << 16  # characters from which the separator is recognised
_NUMBER = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)?(,\d*)?([eE][+-]?\d+)?$"  # with a decimal comma, and points after thousands
_CERTAIN = r"^[+-]?(0,\d+|\d+,(\d{1,2}|\d{4,}))$"  # not a comma after thousands
_MOST_OTHERS = 0.05  # the share of cells with digits that may be something else in a column of numbers


@dataclass(frozen=True)
class _File:
    """A CSV file in memory: UTF-8 bytes without byte order mark."""

    path: Path
    raw: bytes
    separator: str

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record with the line in which it begins; a blank line is a record without fields."""
        with io.TextIOWrapper(io.BytesIO(self.raw), "utf-8", newline="") as text:
            reader, line = csv.reader(text, delimiter=self.separator, strict=True), 1
            try:
                for fields in reader:
                    yield line, fields
                    line = reader.line_num + 1
            except csv.Error as error:
                expected = f"{_SEPARATORS.get(self.separator, repr(self.separator))}-separated values"
                raise ValueError(f"{plain(self.path)}, row {line}: {error}, expected {expected}") from error

    def line_of(self, index: int) -> int:
        """Return the line of a row."""
        # If the two parsers disagree, or a cell is too long for `csv`, assume that every row is one line.
        in_plain_table = index + 2
        try:
            return next(islice(self.records(), index + 1, None), (in_plain_table, []))[0]
        except ValueError:
            return in_plain_table


def read_csv(path: Path, separator: str | None) -> tuple[polars.DataFrame, Callable[[int], int]]:
    """Read a file whose first line names the columns: its cells as text, None where empty; and the line of a row.

    The separator is one character, or None to recognise it.
    """
    if separator is not None:
        separator = _checked(separator)
    raw = _read_utf8(path)
    file = _File(path, raw, separator or _recognised(path, raw))
    header = _read_header(file)
    frame = _read_frame(file, header)
    # A row with too few fields has no value in the last column. A blank line has none either: it is skipped, except
    # in a table of one column, where it may be a missing value.
    if frame.width == 1 or not frame.to_series(-1).null_count():
        return _with_points(frame, file.separator), file.line_of
    _refuse_ragged(file, len(header))
    pl = optional("polars")
    empty = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    kept = (~(empty & _is_blank(file, len(frame)))).arg_true() if empty.any() else None
    if kept is None or len(kept) == len(frame):
        return _with_points(frame, file.separator), file.line_of
    return _with_points(frame[kept], file.separator), lambda index: file.line_of(kept[index])


def _is_blank(file: _File, height: int) -> polars.Series:
    """Tell which rows are blank lines; a row of separators alone is an example whose cells are all missing."""
    pl = optional("polars")
    is_blank = pl.Series([not fields for _, fields in islice(file.records(), 1, None)], dtype=pl.Boolean)
    return is_blank if len(is_blank) == height else pl.repeat(True, height, eager=True)  # the two parsers disagree


def _checked(separator: str) -> str:
    separator = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
    if len(separator) != 1 or not separator.isascii() or separator.isalnum() or separator in '"\r\n\0':
        expected = "expected one character, like , or ; or |, or the word tab"
        raise ValueError(f"unknown separator {quoted(separator)}, {expected}")
    return separator


def _read_utf8(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            again = "copy or download the file again"
            raise ValueError(f"{plain(path)}: damaged or truncated gzip: {plain(error)}; {again}") from error
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        row, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise ValueError(f"{plain(path)}, row {row}: byte {byte:#04x} is not UTF-8; save the file as UTF-8") from None
    return raw


def _recognised(path: Path, raw: bytes) -> str:
    """Return the separator that divides the first records into equally many fields; the most fields decide."""
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    text = raw[:_SAMPLE].decode(errors="ignore")
    if len(raw) > _SAMPLE:
        text = text.rpartition("\n")[0]

    def evidence(separator: str) -> tuple[bool, int]:
        widths = []
        try:
            for fields in islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 100):
                widths += [len(fields)] if fields else []
        except csv.Error:
            pass
        return len(widths) > 1 and len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(_SEPARATORS, key=evidence)


def _read_header(file: _File) -> list[str]:
    _, fields = next(file.records(), (1, []))
    header, where = [field.strip() for field in fields], f"{plain(file.path)}, row 1"
    if not any(header):
        raise ValueError(f"{where}: empty, expected the names of the columns")
    if repeated := [name for name, count in Counter(header).items() if count > 1 and name]:
        raise ValueError(f"{where}: two columns named {quoted(repeated[0])}, expected distinct names")
    return header


def _read_frame(file: _File, header: list[str]) -> polars.DataFrame:
    pl = optional("polars")
    # Without the added line feed, which it skips, polars takes a file that begins with "x^" for a compressed one.
    content = io.BytesIO(b"\n" + file.raw)
    try:
        frame: polars.DataFrame = pl.read_csv(content, infer_schema=False, separator=file.separator)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        _refuse_ragged(file, len(header))
        reason = plain(str(error).partition("\n")[0])
        raise ValueError(f"{plain(file.path)}: not a table of separated values: {reason}") from error
    if frame.width != len(header):
        raise ValueError(f"{plain(file.path)}, row 1: expected the names of the columns, and a line feed after them")
    empty = [place for place, name in enumerate(header) if not (name or frame.to_series(place).count())]
    if (n_unnamed := header.count("")) > 1 and n_unnamed - len(empty) <= 1:  # as spreadsheets leave them
        kept = [place for place in range(len(header)) if place not in empty]
        frame, header = frame[:, kept], [header[place] for place in kept]
    if header.count("") > 1:
        raise ValueError(f"{plain(file.path)}, row 1: two columns without a name, expected distinct names")
    frame.columns = header
    return frame


def _refuse_ragged(file: _File, width: int) -> None:
    for line, fields in file.records():
        if fields and len(fields) != width:
            raise ValueError(f"{plain(file.path)}, row {line}: {len(fields)} fields, expected {width} as in the header")


def _with_points(frame: polars.DataFrame, separator: str) -> polars.DataFrame:
    """Return the frame with decimal points where the file has decimal commas."""
    pl = optional("polars")
    if separator == ",":
        return frame
    written = {}
    for cells in frame:
        cells = cells.str.strip_chars()
        is_number = cells.str.contains(_NUMBER) & cells.str.contains(r"\d")
        n_numbers, n_with_digits = int(is_number.sum()), int(cells.str.contains(r"\d").sum())
        if n_numbers and n_numbers >= (1 - _MOST_OTHERS) * n_with_digits:
            written[cells.name] = cells, is_number
    has_comma = [cells.filter(is_number).str.contains(",", literal=True).any() for cells, is_number in written.values()]
    certain = [cells.str.contains(_CERTAIN).any() for cells, _ in written.values()]
    # A semicolon is used where commas are decimal; in other files 1,234 may be a thousand.
    if not any(has_comma) or not (separator == ";" or any(certain)):
        return frame
    columns = {name: frame.get_column(name) for name in frame.columns}
    for (name, (cells, is_number)), has in zip(written.items(), has_comma, strict=True):
        if has:
            points = cells.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
            columns[name] = points.zip_with(is_number.fill_null(False), cells)
    return pl.DataFrame(columns)
