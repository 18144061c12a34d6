"""Some examples of a source with what a network makes of them: as columns, as a table, as a picture with captions."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from jaxmlp.data import Encoding, Part, Source
from jaxmlp.plots.images import contact_sheet
from jaxmlp.storage.files import check_place, write_whole
from jaxmlp.storage.run_folder import RUN_FILES

__all__ = ["captions", "check_out", "named", "picture", "printed", "take", "write"]

_NAME_LENGTH = 8  # characters of a class's name in a caption


def check_out(out: Path, inputs: Collection[str]) -> None:
    """Refuse, before any work, a file for `write` that cannot be written or should not be: a part of what is read."""
    if out.suffix.lower() == ".png":
        raise ValueError(f"{out}: expected the name of a CSV file; a picture goes beside it, with .png")
    check_place(out)
    for path in (out, out.with_suffix(".png")):
        check_place(path)
        for given in map(Path, inputs):
            if path.exists() and given.exists() and (path.samefile(given) or _is_of_a_run(path)):
                raise ValueError(f"{path}: holds the data, the model or its run, choose another --out")


def _is_of_a_run(path: Path) -> bool:
    return path.name in RUN_FILES and (path.parent / "model.safetensors").exists()


def write(out: Path, frame: pl.DataFrame, drawn: bytes | None) -> dict[str, str]:
    """Write the columns as CSV, and the picture beside it, if there is one; return what was written where."""
    write_whole(out, frame.write_csv().encode())
    if drawn is None:
        return {"out": str(out)}
    write_whole(out.with_suffix(".png"), drawn)
    return {"out": str(out), "picture": str(out.with_suffix(".png"))}


def take(part: Part, which: Any) -> Part:
    """Return some examples of a part, by position or by a mask."""
    return Part(*(array[which] for array in part))


def named(source: Source, encoding: Encoding, part: Part, y: np.ndarray) -> pl.DataFrame:
    """Return row, label and prediction of every example; of K real values a column each, label_0, label_1, ..."""
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


def printed(frame: pl.DataFrame, title: str, optional: Collection[str] = ()) -> Table:
    """Make a table of all columns, or, where the terminal is too narrow for them, without the optional ones."""
    full = _table(frame, title)
    if sys.stdout.isatty() and Console(width=1000, markup=False).measure(full).maximum > Console().width:
        return _table(frame.drop(optional, strict=False), title)
    return full


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
    return f"{value:#.{digits}g}".rstrip(".")  # with the zeros at its end: numbers below each other stay comparable


def picture(
    source: Source,
    x: np.ndarray,
    lines: list[str],
    title: str,
    groups: list[tuple[str, int]] | None = None,
) -> bytes | None:
    """Draw images x: [K, n] over their captions; None if the source has no images."""
    if source.image_shape is None:
        return None
    return contact_sheet(x.reshape(-1, *source.image_shape), lines, title, groups=groups or ())


def captions(frame: pl.DataFrame, by: str | None = None) -> list[str]:
    """Return a caption for each example: label → prediction, and below it its row and the number in column `by`."""
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
