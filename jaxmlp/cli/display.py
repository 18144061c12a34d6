"""What a training run or a sweep shows while it goes on, and what any command shows at its end."""

import math
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxmlp.storage.files import to_json
from jaxmlp.training.history import Epoch, Trained

if TYPE_CHECKING:
    from jaxmlp.sweep import Progress as SweepProgress

__all__ = ["score", "show", "sweep_display", "table", "training_display"]

Show = Callable[[Trained], None]
_MINUTE = 60.0


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
        _say(f"epoch {row.epoch}/{epochs}  {_numbers(row, n_examples)}")


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:  # nobody looks any more, which is no reason to stop training, nor to fail at the end
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the interpreter would flush the broken one


def _numbers(row: Epoch, n_examples: int, brief: bool = False) -> str:
    text = f"loss {row.train_loss:.4f}"
    if row.test_loss is not None and not brief:
        text += f"  test {row.test_loss:.4f}"
    if (name := score(row)) is not None:
        text += f"  {name[0].removeprefix('test_')} {name[1]:.4f}"
    return f"{text}  {n_examples / row.seconds:,.0f}{'' if brief else ' examples'}/s"


@contextmanager
def sweep_display(arguments: Namespace) -> Iterator[Callable[["SweepProgress"], None]]:
    """Give a callback that shows progress: a live line in a terminal, elsewhere a line a tenth, or a minute."""
    console = Console(stderr=True)
    if arguments.quiet or arguments.json:
        yield lambda progress: None
    elif console.is_terminal:
        with _live_sweep(console) as callback:
            yield callback
    else:
        last = (0, time.monotonic())

        def print_some(progress: "SweepProgress") -> None:
            nonlocal last
            tenth, now = 10 * progress.done // progress.total, time.monotonic()
            if tenth > last[0] or now - last[1] > _MINUTE:
                last = (tenth, now)
                _say("  ".join(_sweep_numbers(progress)))

        yield print_some


@contextmanager
def _live_sweep(console: Console) -> Iterator[Callable[["SweepProgress"], None]]:
    # Of time, not of trials: many trials end at once.
    bar = [BarColumn(bar_width=20)] if console.width >= 90 else []
    with Progress(*bar, TextColumn("{task.fields[numbers]}"), console=console, transient=True) as live:
        task, began = live.add_task("", total=None, numbers="compiling"), time.monotonic()

        def callback(progress: "SweepProgress") -> None:
            past = time.monotonic() - began
            total = None if progress.seconds_left is None else past + progress.seconds_left
            numbers = "  ".join(_sweep_numbers(progress))
            live.update(task, completed=past, total=total, numbers=numbers)

        yield callback


def _sweep_numbers(progress: "SweepProgress") -> list[str]:
    numbers = [f"{progress.done}/{progress.total} trials"]
    if progress.best is not None:
        numbers.append(f"best {progress.best[0]:.4f}")
    if progress.diverged:
        numbers.append(f"{progress.diverged} diverged")
    if progress.seconds_left is not None:
        numbers.append(f"{timedelta(seconds=round(progress.seconds_left))} left")
    return numbers


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
