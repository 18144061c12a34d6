"""Print a command's result, one JSON object or tables, and check the files that it may write."""

import math
import sys
from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table

from jaxmlp.data.columns import Columns, Described
from jaxmlp.storage.files import check_place, to_json
from jaxmlp.storage.run_folder import RUN_FILES
from jaxmlp.training.history import Epoch, Evaluation

__all__ = ["check_out", "columns_table", "console_width", "grid", "rendered", "scores", "show", "table", "why_lost"]

_LOST = {
    "noise_scale": "lost in noise: the estimate of |G|^2 is not positive",
    "diversity": "undefined: the gradients are zero",
    "top_eigenvalue": "the iteration found none",
}


def scores(part: str, found: Epoch | Evaluation | None) -> dict[str, float]:
    """Return the loss on a part of the data, and its accuracy or R2, as far as they were measured.

    >>> scores("test", Evaluation(0.5, 0.75, None))
    {'test_loss': 0.5, 'test_accuracy': 0.75}
    """
    prefix = "" if isinstance(found, Evaluation) else f"{part}_"
    values = {f"{part}_{name}": getattr(found, prefix + name, None) for name in Evaluation._fields}
    return {name: value for name, value in values.items() if value is not None}


def why_lost(results: Mapping[str, Any]) -> dict[str, str]:
    """Return, for each tracked statistic without a value in a run's results, why it has none.

    >>> why_lost({"train_loss": 0.5, "norm_max": 2.0, "noise_scale": None})
    {'noise_scale': 'lost in noise: the estimate of |G|^2 is not positive'}
    """
    loss = results.get("train_loss")
    why = _LOST if loss is not None and math.isfinite(loss) else {}
    return {name: why.get(name, "not finite") for name in Epoch._field_defaults if results.get(name, 0) is None}


def show(arguments: Namespace, values: Mapping[str, Any], *tables: RenderableType) -> None:
    """Print a command's result: one JSON object, with the notes, under --json, nothing under --quiet, else tables."""
    if arguments.json:
        print(to_json({**values, "notes": arguments.notes}))
    elif not arguments.quiet:
        print(rendered(*tables))


def rendered(*tables: RenderableType, stream: TextIO | None = None) -> str:
    """Return tables as text for a stream (standard output if None)."""
    stream = stream or sys.stdout
    # Names come from the user, so they are not read as markup.
    options: Any = {"file": stream, "markup": False, "emoji": False}
    console = Console(width=console_width(stream), highlight=stream.isatty(), **options)
    with console.capture() as captured:
        for printed in tables:
            console.print(printed)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def console_width(stream: TextIO | None = None) -> int:
    """Return the width to print in; wide in a pipe, so that programs find lines that are not folded."""
    stream = stream or sys.stdout
    return Console(file=stream).width if stream.isatty() else 200


def columns_table(columns: Columns, limit: int | None = None) -> Table:
    """Return a table of what the columns of a table are taken for; with a limit, of the first that are learned from."""
    rows = columns.describe()
    if limit is not None:
        kept = [row for row in rows if row.name in columns.names]
        rows = kept[:limit]
        more = len(kept) - len(rows)
        rows += [Described(f"... {more} more", "", "`jaxmlp info` shows all")] if more else []
    printed = grid(dict.fromkeys(("column", "taken for", "details"), False))
    for row in rows:
        printed.add_row(*row)
    return printed


def table(values: Mapping[str, Any], title: str | None = None) -> Table:
    """Return a table of names and values, one row for each value that is not None."""
    pairs = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    pairs.add_column(no_wrap=True, style="dim")
    pairs.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            pairs.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    return pairs


def grid(columns: Mapping[str, bool], title: str | None = None) -> Table:
    """Return an empty table with these columns; True marks numbers, which are right-aligned and never folded."""
    empty = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name, is_number in columns.items():
        empty.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return empty


def check_out(
    out: Path, inputs: Collection[str], *, option: str = "--out", suffix: str = ".csv", with_picture: bool = False
) -> None:
    """Refuse, before any work, a file that cannot be written or that would replace an input.

    The file is a table (`suffix` is .csv) or a picture (.png); `with_picture` also checks the picture beside a table.
    """
    kind, other = ("CSV", ".png") if suffix == ".csv" else ("PNG", ".csv")
    if out.suffix.lower() == other:
        raise ValueError(f"{option} {out}: expected the name of a {kind} file, like {out.with_suffix(suffix)}")
    check_place(out)  # first, because a folder such as "." has no suffix to change
    for path in (out, out.with_suffix(".png")) if with_picture else (out,):
        check_place(path)
        is_of_run = path.name in RUN_FILES and (path.parent / "model.safetensors").exists()
        for given in map(Path, inputs):
            if path.exists() and given.exists() and (is_of_run or path.samefile(given)):
                raise ValueError(f"{path} holds the data, the model or its run: choose another {option}")
