"""What a training run shows while it goes on, and what any command shows at its end."""

import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxmlp.files import to_json
from jaxmlp.history import Epoch, Trained

__all__ = ["score", "show", "table", "training_display"]

Show = Callable[[Trained], None]


@contextmanager
def training_display(arguments: Namespace, epochs: int, done: int, n_examples: int) -> Iterator[Show]:
    """Give a callback that shows progress: a live line in a terminal, ten lines in all elsewhere."""
    console = Console(stderr=True)
    if arguments.quiet or arguments.json:
        yield lambda trained: None
    elif console.is_terminal:
        with _live(console, epochs, done, n_examples) as callback:
            yield callback
    else:
        yield lambda trained: _print_some(trained, epochs, n_examples)


@contextmanager
def _live(console: Console, epochs: int, done: int, n_examples: int) -> Iterator[Show]:
    # A narrow terminal has no room for a bar and a second loss; the numbers that matter are never cut.
    bar = [BarColumn(bar_width=20)] if console.width >= 90 else []
    columns = (TextColumn("epoch {task.completed}/{task.total}  {task.fields[numbers]}"), *bar)
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console) as progress:
        task = progress.add_task("", total=epochs, completed=done, numbers="compiling")

        def callback(trained: Trained) -> None:
            row = trained.history[-1]
            numbers = _numbers(row, n_examples, brief=console.width < 90)
            progress.update(task, completed=row.epoch, numbers=numbers)

        yield callback


def _print_some(trained: Trained, epochs: int, n_examples: int) -> None:
    row = trained.history[-1]
    every = math.ceil(epochs / 10)
    if row.epoch % every == 0 or row.epoch == epochs or trained.status != "running":
        with suppress(BrokenPipeError):  # nobody looks any more, which is no reason to stop training
            print(f"epoch {row.epoch}/{epochs}  {_numbers(row, n_examples)}", file=sys.stderr, flush=True)


def _numbers(row: Epoch, n_examples: int, brief: bool = False) -> str:
    text = f"loss {row.train_loss:.4f}"
    if row.test_loss is not None and not brief:
        text += f"  test {row.test_loss:.4f}"
    if (name := score(row)) is not None:
        text += f"  {name[0].removeprefix('test_')} {name[1]:.4f}"
    return f"{text}  {n_examples / row.seconds:,.0f}{'' if brief else ' examples'}/s"


def score(row: Epoch) -> tuple[str, float] | None:
    """Return the name and value of the score that an epoch has, if any."""
    for name in ("test_accuracy", "test_r2"):
        if (value := getattr(row, name)) is not None:
            return name, value
    return None


def show(arguments: Namespace, values: Mapping[str, Any], *tables: RenderableType) -> None:
    """Print a command's result: one JSON object, or tables; nothing under --quiet unless --json asks for it."""
    if arguments.json:
        print(to_json(values))
    elif not arguments.quiet:
        # What is piped is for a program to search, or a person to open elsewhere: let no line be folded at 80.
        # Names are the user's: what looks like markup in them is none.
        piped = not sys.stdout.isatty()
        console = Console(width=200 if piped else None, markup=False, highlight=not piped, emoji=False)
        with console.capture() as captured:
            for printed in tables:
                console.print(printed)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def table(values: Mapping[str, Any], title: str | None = None) -> Table:
    """Make a table of names and values, a row each."""
    grid = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    return grid
