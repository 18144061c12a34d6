"""Progress on standard error: a live line in a terminal, about ten lines elsewhere, nothing under --quiet or --json."""

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from jaxmlp.cli.output import scores
from jaxmlp.cli.startup import say
from jaxmlp.training.history import Epoch, Trained

if TYPE_CHECKING:
    from jaxmlp.private import Trained as PrivatelyTrained
    from jaxmlp.sweep import Progress as SweepProgress

__all__ = ["named_progress", "private_progress", "sweep_progress", "training_progress"]

_WIDE, _NARROW = 90, 60  # columns; below the first there is no room for a bar, below the second none for times


@contextmanager
def _progress(
    arguments: Namespace,
    columns: list[ProgressColumn],
    live: Callable[[Any], dict[str, Any]],
    printed: Callable[[Any], str | None],
    **start: Any,
) -> Iterator[Callable[[Any], None]]:
    """Give a callback that shows a state: as the fields that `live` returns, or as the line that `printed` returns."""
    console = Console(stderr=True)
    if arguments.quiet or arguments.json:
        yield lambda state: None
    elif console.is_terminal:
        with Progress(*columns, console=console, transient=arguments.command != "train") as progress:
            task = progress.add_task("", **start)
            yield lambda state: progress.update(task, **live(state))
    else:

        def callback(state: Any) -> None:
            if (line := printed(state)) is not None:
                say(line)

        yield callback


def training_progress(
    arguments: Namespace, epochs: int, done: int, n_examples: int
) -> AbstractContextManager[Callable[[Trained], None]]:
    """Give a callback that shows each epoch."""
    width = Console(stderr=True).width

    def live(trained: Trained) -> dict[str, Any]:
        row = trained.history[-1]
        return {"completed": row.epoch, "text": _epoch_numbers(row, n_examples, width)}

    def printed(trained: Trained) -> str | None:
        row = trained.history[-1]
        is_last = row.epoch == epochs or trained.status != "running"
        is_shown = is_last or row.epoch % math.ceil(epochs / 10) == 0
        return f"epoch {row.epoch}/{epochs}  {_epoch_numbers(row, n_examples)}" if is_shown else None

    left = [TimeRemainingColumn(compact=True)] if width >= _NARROW else []
    columns = [TextColumn("epoch {task.completed}/{task.total}  {task.fields[text]}"), *_bar(width), *left]
    return _progress(arguments, columns, live, printed, total=epochs, completed=done, text="compiling")


def private_progress(arguments: Namespace, epochs: int) -> AbstractContextManager[Callable[["PrivatelyTrained"], None]]:
    """Give a callback that shows each epoch of private training, with the epsilon that it has spent."""

    def text(trained: "PrivatelyTrained") -> str:
        row = trained.history[-1]
        measured = scores("validation", row.validation) if row.validation else {}
        shown = (f"  {name.replace('_', ' ')} {value:.4f}" for name, value in measured.items())
        return f"epsilon {row.epsilon:.3f}{''.join(shown)}"

    def live(trained: "PrivatelyTrained") -> dict[str, Any]:
        return {"completed": trained.history[-1].epoch, "text": text(trained)}

    def printed(trained: "PrivatelyTrained") -> str | None:
        epoch = trained.history[-1].epoch
        is_shown = epoch == epochs or epoch % math.ceil(epochs / 10) == 0
        return f"epoch {epoch}/{epochs}  {text(trained)}" if is_shown else None

    columns = [
        TextColumn("epoch {task.completed}/{task.total}  {task.fields[text]}"),
        *_bar(Console(stderr=True).width),
    ]
    return _progress(arguments, columns, live, printed, total=epochs, text="accounting and compiling")


def _epoch_numbers(row: Epoch, n_examples: int, width: int = _WIDE) -> str:
    text = f"loss {row.train_loss:.4f}"
    for name, value in scores("validation", row).items():
        if (is_score := name != "validation_loss") or width >= _WIDE:
            text += f"  {name.removeprefix('validation_') if is_score else 'validation'} {value:.4f}"
    rate = f"  {n_examples / row.seconds:,.0f}{' examples' if width >= _WIDE else ''}/s"
    return text + rate if width >= _NARROW else text


def sweep_progress(arguments: Namespace) -> AbstractContextManager[Callable[["SweepProgress"], None]]:
    """Give a callback that shows a sweep; outside of a terminal it prints after each tenth, or after a minute."""
    from jaxmlp.sweep.progress import tenths  # which imports JAX

    began, is_due = time.monotonic(), tenths()

    def live(progress: "SweepProgress") -> dict[str, Any]:
        # The bar shows time: many trials end at once, so a bar of trials would stand still and jump.
        past = time.monotonic() - began
        total = None if progress.seconds_left is None else past + progress.seconds_left
        return {"completed": past, "total": total, "text": str(progress)}

    def printed(progress: "SweepProgress") -> str | None:
        return str(progress) if is_due(progress) else None

    columns = [*_bar(Console(stderr=True).width), TextColumn("{task.fields[text]}")]
    return _progress(arguments, columns, live, printed, total=None, text="compiling")


def named_progress(arguments: Namespace, what: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
    """Give a callback that shows the name of the next thing that is worked on, such as a check."""
    width, done = Console(stderr=True).width, iter(range(total))

    def live(name: str) -> dict[str, Any]:
        return {"completed": next(done), "text": name[: max(10, width - 45)]}

    def printed(name: str) -> str | None:
        n = next(done)
        return f"{what} {n + 1}/{total}  {name}" if n % math.ceil(total / 10) == 0 else None

    columns = [TextColumn(what), MofNCompleteColumn(), *_bar(width), TextColumn("{task.fields[text]}")]
    return _progress(arguments, columns, live, printed, total=total, text="")


def _bar(width: int) -> list[ProgressColumn]:
    return [BarColumn(bar_width=20)] if width >= _WIDE else []
