"""What a training run shows while it goes on, and what any command shows at its end."""

import json
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxmlp.history import Epoch, Trained

__all__ = ["score", "show", "table", "training_display"]

Show = Callable[[Trained], None]


@contextmanager
def training_display(arguments: Namespace, epochs: int, done: int, n_examples: int) -> Iterator[Show]:
    """Give a callback that shows progress: a live line in a terminal, ten lines in all elsewhere."""
    console = Console(stderr=True)
    if hasattr(arguments, "quiet") or hasattr(arguments, "json"):
        yield lambda trained: None
    elif console.is_terminal:
        with _live(console, epochs, done, n_examples) as callback:
            yield callback
    else:
        yield lambda trained: _print_some(trained, epochs)


@contextmanager
def _live(console: Console, epochs: int, done: int, n_examples: int) -> Iterator[Show]:
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20 if console.width >= 80 else 8),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=epochs, completed=done, numbers="compiling")

        def callback(trained: Trained) -> None:
            row = trained.history[-1]
            speed = f"  {n_examples / row.seconds:,.0f} examples/s" if console.width >= 100 else ""
            progress.update(task, completed=row.epoch, numbers=_numbers(row, brief=console.width < 72) + speed)

        yield callback


def _print_some(trained: Trained, epochs: int) -> None:
    row = trained.history[-1]
    every = math.ceil(epochs / 10)
    if row.epoch % every == 0 or row.epoch == epochs or trained.status != "running":
        print(f"epoch {row.epoch}/{epochs}  {_numbers(row)}", file=sys.stderr, flush=True)


def _numbers(row: Epoch, brief: bool = False) -> str:
    text = f"loss {row.train_loss:.4f}"
    if row.test_loss is not None and not brief:
        text += f"  test {row.test_loss:.4f}"
    if (name := score(row)) is not None:
        text += f"  {name[0].removeprefix('test_')} {name[1]:.4f}"
    return text


def score(row: Epoch) -> tuple[str, float] | None:
    """Return the name and value of the score that an epoch has, if any."""
    for name in ("test_accuracy", "test_r2"):
        if (value := getattr(row, name)) is not None:
            return name, value
    return None


def show(arguments: Namespace, values: Mapping[str, Any], *tables: Table) -> None:
    """Print a command's result: one JSON object, or tables; nothing under --quiet unless --json asks for it."""
    if hasattr(arguments, "json"):
        finite = {name: None if _is_nan(value) else value for name, value in values.items()}
        print(json.dumps(finite, allow_nan=False))
    elif not hasattr(arguments, "quiet"):
        # What is piped is for a program to search, or a person to open elsewhere: let no line be folded at 80.
        console = Console(width=None if sys.stdout.isatty() else 200)
        for printed in tables:
            console.print(printed)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def table(values: Mapping[str, Any], title: str | None = None) -> Table:
    """Make a table of names and values, a row each."""
    grid = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    return grid
