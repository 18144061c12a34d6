"""Tables of records, and the page that keeps their history."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

from experiments._report import markdown
from experiments.claims._experiment import Table, interval
from experiments.records.libraries import LIBRARIES
from experiments.records.runs import LEVELS, PUBLISHED, Run
from jaxmlp.storage.files import write_whole

__all__ = ["HISTORY", "OURS", "SEEDS", "accuracies", "grouped", "percent", "seconds_to", "tables", "write_history"]

SEEDS = {60: 5, 300: 5, 1800: 1}  # by budget, in seconds
OURS = "jaxmlp"
HISTORY = Path(__file__).parent / "README.md"
_HISTORY_TITLE = "## History"
_INTRODUCTION = """\
# Records

The best test accuracy of a perceptron on Fashion-MNIST within a budget of training seconds on two processor cores. It
is measured with all 60,000 training images, after the last epoch; the test part chooses nothing, and recipes are chosen
on the last 10,000 training images. `python -m experiments.records` makes all of it in hours, continues where it was
stopped, and adds a row to the history for a higher mean over all seeds. [Its docstring](__main__.py) says how budgets
become epochs; [results/records.json](../results/records.json) has every run and every recipe that was tried.
"""
_HEADER = ("budget", "test accuracy", "seeds", "epochs", "recipe", "command", "date")


def grouped(runs: list[Run]) -> dict[tuple[int, str], list[Run]]:
    """Group runs by budget and library, in the order of the tables."""
    groups = {(budget, library): [] for budget in SEEDS for library in LIBRARIES}
    for one in sorted(runs, key=lambda one: one.seed):
        groups[one.budget, one.library].append(one)
    return groups


def percent(values: list[float]) -> str:
    """Format a mean of shares in percent, with its interval where there are several seeds."""
    return f"{interval(100 * np.array(values))} %" if len(values) > 1 else f"{100 * values[0]:.2f} %"


def accuracies(runs: list[Run]) -> list[float]:
    return [one.accuracy for one in runs]


def tables(runs: list[Run]) -> list[Table]:
    rows, levels = [], []
    for (budget, library), some in grouped(runs).items():
        if not some:
            rows.append((f"{budget:,} s", library, "not run", "0", "", ""))
            continue
        pace = f"{some[0].seconds_an_epoch:.2f}"
        rows.append((f"{budget:,} s", library, percent(accuracies(some)), len(some), some[0].epochs, pace))
        levels.append((f"{budget:,} s", library, *(seconds_to(some, level) for level in range(len(LEVELS))), len(some)))
    return [
        Table("Test accuracy", ("budget", "", "mean over seeds", "seeds", "epochs", "s an epoch"), rows),
        Table("Seconds to a test accuracy", ("run of", "", *(f"{100 * one:g} %" for one in LEVELS), "seeds"), levels),
    ]


def seconds_to(runs: list[Run], level: int) -> str:
    """Format the median over seeds; a dash where most seeds never reach the level."""
    middle = median(np.inf if (seconds := one.reached[level]) is None else seconds for one in runs)
    return f"{middle:.1f} s" if np.isfinite(middle) else "-"


def write_history(runs: list[Run], path: Path = HISTORY) -> None:
    """Write the page: the tables of these runs, and a further row of history for every new record.

    A record is a mean over all seeds that a budget asks for, above the mean of the row before.
    """
    _, _, history = (path.read_text() if path.exists() else "").partition(_HISTORY_TITLE)
    rows = [line for line in history.splitlines() if line.startswith("| ")][2:]
    for budget, needed in SEEDS.items():
        ours = grouped(runs)[budget, OURS]
        before = [float(row.split("|")[2].split()[0]) for row in rows if row.startswith(f"| {budget:,} s |")]
        if len(ours) >= needed and 100 * np.mean(accuracies(ours)) > [100 * PUBLISHED, *before][-1] + 0.005:
            command = f"`python -m experiments.records --budgets {budget} --libraries {OURS}`"
            cells = (f"{budget:,} s", percent(accuracies(ours)), len(ours), ours[0].epochs, ours[0].recipe, command)
            rows.append(_row((*cells, datetime.now(UTC).date())))
    parts = [_INTRODUCTION, *(_markdown(table) for table in tables(runs))]
    parts += [f"{_HISTORY_TITLE}\n", "\n".join([_row(_HEADER), _row(["---"] * len(_HEADER)), *rows]) + "\n"]
    write_whole(path, "\n".join(parts).encode())


def _markdown(table: Table) -> str:
    return f"## {table.title}\n\n{markdown(table.header, table.rows)}\n"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
