"""Progress on standard error: a live line in a terminal, about ten lines elsewhere, nothing under --quiet or --json."""

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxmlp.cli.output import score
from jaxmlp.cli.startup import say
from jaxmlp.training.history import Epoch, Trained

if TYPE_CHECKING:
    from jaxmlp.sweep import Progress as SweepProgress

__all__ = ["check_progress", "sweep_progress", "training_progress"]

_MINUTE = 60.0
_WIDE, _NARROW = 90, 60  # columns; below the first there is no room for a bar, below the second none for times


@contextmanager
def training_progress(
    arguments: Namespace, epochs: int, done: int, n_examples: int
) -> Iterator[Callable[[Trained], None]]:
    """Give a callback that shows each epoch."""
    console = Console(stderr=True)
    if arguments.quiet or arguments.json:
        yield lambda trained: None
    elif console.is_terminal:
        with _live_training(console, epochs, done, n_examples) as callback:
            yield callback
    else:
        yield lambda trained: _print_epoch(trained, epochs, n_examples)


@contextmanager
def _live_training(console: Console, epochs: int, done: int, n_examples: int) -> Iterator[Callable[[Trained], None]]:
    left = [TimeRemainingColumn(compact=True)] if console.width >= _NARROW else []
    columns = (TextColumn("epoch {task.completed}/{task.total}  {task.fields[numbers]}"), *_bar(console), *left)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=epochs, completed=done, numbers="compiling")

        def callback(trained: Trained) -> None:
            row = trained.history[-1]
            numbers = _epoch_numbers(row, n_examples, console.width)
            progress.update(task, completed=row.epoch, numbers=numbers)

        yield callback


def _bar(console: Console) -> list[BarColumn]:
    return [BarColumn(bar_width=20)] if console.width >= _WIDE else []


def _print_epoch(trained: Trained, epochs: int, n_examples: int) -> None:
    row = trained.history[-1]
    every = math.ceil(epochs / 10)
    if row.epoch % every == 0 or row.epoch == epochs or trained.status != "running":
        say(f"epoch {row.epoch}/{epochs}  {_epoch_numbers(row, n_examples)}")


def _epoch_numbers(row: Epoch, n_examples: int, width: int = _WIDE) -> str:
    text = f"loss {row.train_loss:.4f}"
    if row.test_loss is not None and width >= _WIDE:
        text += f"  test {row.test_loss:.4f}"
    if (name := score(row)) is not None:
        text += f"  {name[0].removeprefix('test_')} {name[1]:.4f}"
    rate = f"  {n_examples / row.seconds:,.0f}{' examples' if width >= _WIDE else ''}/s"
    return text + rate if width >= _NARROW else text


@contextmanager
def sweep_progress(arguments: Namespace) -> Iterator[Callable[["SweepProgress"], None]]:
    """Give a callback that shows a sweep; outside of a terminal it prints after each tenth, or after a minute."""
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
                say("  ".join(_sweep_numbers(progress)))

        yield print_some


@contextmanager
def _live_sweep(console: Console) -> Iterator[Callable[["SweepProgress"], None]]:
    columns = (*_bar(console), TextColumn("{task.fields[numbers]}"))
    with Progress(*columns, console=console, transient=True) as live:
        task, began = live.add_task("", total=None, numbers="compiling"), time.monotonic()

        def callback(progress: "SweepProgress") -> None:
            # The bar shows time: many trials end at once, so a bar of trials would stand still and jump.
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


@contextmanager
def check_progress(arguments: Namespace, total: int) -> Iterator[Callable[[str], None]]:
    """Give a callback that shows the name of the next check."""
    console = Console(stderr=True)
    if arguments.quiet or arguments.json:
        yield lambda name: None
    elif console.is_terminal:
        room = max(10, console.width - 45)
        columns = (TextColumn("check"), MofNCompleteColumn(), *_bar(console), TextColumn("{task.fields[name]}"))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=total, completed=-1, name="")
            yield lambda name: progress.update(task, advance=1, name=name[:room])
    else:
        done = iter(range(total))
        yield lambda name: _print_check(next(done), total, name)


def _print_check(done: int, total: int, name: str) -> None:
    if done % math.ceil(total / 10) == 0:
        say(f"check {done + 1}/{total}  {name}")
