"""The output of `jaxmlp examples`: examples with their labels and predictions as CSV, table and picture."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from jaxmlp.data import Encoding, Part, Source
from jaxmlp.plots.images import contact_sheet
from jaxmlp.storage.files import write_whole

__all__ = ["captions", "labels_and_predictions", "picture", "printed", "take", "write"]

_NAME_LENGTH = 8  # characters of a class name in a caption


def write(out: Path, frame: pl.DataFrame, drawn: bytes | None) -> dict[str, str]:
    """Write the table as CSV and the picture, if there is one, beside it; return their paths."""
    write_whole(out, frame.write_csv().encode())
    if drawn is None:
        return {"out": str(out)}
    write_whole(out.with_suffix(".png"), drawn)
    return {"out": str(out), "picture": str(out.with_suffix(".png"))}


def take(part: Part, which: Any) -> Part:
    """Return the examples of a part that positions or a mask select."""
    return Part(*(array[which] for array in part))


def labels_and_predictions(source: Source, encoding: Encoding, part: Part, y: np.ndarray) -> pl.DataFrame:
    """Return row, label and prediction of each example; K real values have columns label_0, label_1, ..."""
    rows, classes = pl.Series("row", part.rows), encoding.class_names
    if classes is not None and source.class_names is not None:
        label, prediction = [source.class_names[t] for t in part.t], [classes[k] for k in y.argmax(1)]
        return pl.DataFrame(
            [rows, pl.Series("label", label, pl.String), pl.Series("prediction", prediction, pl.String)]
        )
    names = [""] if y.shape[1] == 1 else [f"_{k}" for k in range(y.shape[1])]
    sides = {"label": part.t.reshape(y.shape), "prediction": y}
    columns = [pl.Series(side + name, array[:, k]) for side, array in sides.items() for k, name in enumerate(names)]
    return pl.DataFrame([rows, *columns])


def printed(frame: pl.DataFrame, title: str, optional: Sequence[str] = ()) -> Table:
    """Return a table of all columns; in a narrow terminal without the first optional ones, as many as it takes."""
    wide, room = Console(width=1000, markup=False), Console().width
    for name in optional if sys.stdout.isatty() else ():
        if wide.measure(_table(frame, title)).maximum > room:
            frame = frame.drop(name, strict=False)
    return _table(frame, title)


def _table(frame: pl.DataFrame, title: str) -> Table:
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name, kind in frame.schema.items():
        is_number = kind.is_numeric()
        grid.add_column(
            name.replace("_", " "), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold"
        )
    for row in frame.iter_rows(named=True):
        grid.add_row(*(_cell(name, value) for name, value in row.items()))
    return grid


def _cell(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else ""
        case float():
            return _number(value, 6 if name.startswith(("label", "prediction")) else 4)
    return str(value)


def _number(value: float, digits: int) -> str:
    return f"{value:#.{digits}g}".rstrip(".")  # keeps trailing zeros, so that columns line up


def picture(
    source: Source,
    x: np.ndarray,
    lines: list[str],
    title: str,
    groups: list[tuple[str, int]] | None = None,
) -> bytes | None:
    """Return a PNG file of images x: [K, n] with captions; None if the source has no images."""
    if source.image_shape is None:
        return None
    return contact_sheet(x.reshape(-1, *source.image_shape), lines, title, groups=groups or ())


def captions(frame: pl.DataFrame, by: str | None = None) -> list[str]:
    """Return a caption for each example: label → prediction, then its row and its value in column `by`."""
    texts = []
    for row in frame.iter_rows(named=True):
        sides = [[value for name, value in row.items() if name.startswith(side)] for side in ("label", "prediction")]
        label, prediction = (", ".join(map(_brief, values)) for values in sides)
        score = "" if by is None else f", {_number(row[by], 3)}"
        texts.append(f"{label} → {prediction}\nrow {row['row']}{score}")
    return texts


def _brief(value: str | float) -> str:
    if isinstance(value, float):
        return _number(value, 4)
    name = " ".join(value.split())
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
