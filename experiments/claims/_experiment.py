"""The frame of every experiment: options, intervals over seeds, tables, results on disk.

An experiment is a module whose docstring states a claim, with a function `run(options) -> Outcome` that measures it.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from experiments._options import Parser, count, folder
from experiments._report import RESULTS, environment, print_table, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Claim",
    "Interval",
    "Options",
    "Outcome",
    "Table",
    "conduct",
    "interval",
    "judge",
    "main",
    "options_of",
    "parser",
    "show",
]

QUICK = Path("runs") / "experiments"  # ignored by git: a miniature never replaces results
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
SEEDS, QUICK_SEEDS = 8, 3

Verdict: TypeAlias = Literal["held", "held within limits", "did not hold"]


class Claim(NamedTuple):
    """A claim of the theory, what was measured, and whether it held."""

    claim: str
    measured: str
    verdict: Verdict


class Table(NamedTuple):
    """A table for the screen; `Outcome.numbers` has the numbers for programs."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


class Outcome(NamedTuple):
    """The outcome of an experiment.

    Attributes
    ----------
    claims
        All claims of the docstring, also those that did not hold.
    tables
        Tables to print.
    finding
        The text of what was found, made of the measured numbers; blank lines separate paragraphs.
    numbers
        Everything that text, tables and picture show: numbers, lists and arrays by name.
    figure
        The picture.
    seeds
        The number of seeds, if the options do not set it.
    """

    claims: Sequence[Claim]
    tables: Sequence[Table]
    finding: str
    numbers: dict[str, Any]
    figure: "Figure"
    seeds: int | None = None


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes
    ----------
    seeds
        The number of seeds, each with its own initial weights, split and batch order.
    quick
        Run a miniature in seconds instead of minutes, to see that it works.
    data
        A folder with the IDX files of Fashion-MNIST, for experiments that use it, or None.
    """

    seeds: int = SEEDS
    quick: bool = False
    data: Path | None = None


def judge(holds: bool, within_limits: bool = False) -> Verdict:
    """Return a verdict; `within_limits` decides where the claim does not hold as it stands."""
    return "held" if holds else "held within limits" if within_limits else "did not hold"


class Interval(NamedTuple):
    """A mean over seeds, and half the width of its 95 % interval (Student's t)."""

    mean: Any
    half: Any

    def __str__(self) -> str:
        """Format a scalar with as many digits as its interval justifies; a dash where a seed has no number."""
        if np.isnan(self.mean):
            return "-"
        if not (np.isfinite(self.half) and self.half > 0):
            return f"{self.mean:.4g} ± {self.half:.2g}"
        digits = 1 - floor(log10(self.half))
        if digits > 6:
            return f"{self.mean:.3g} ± {self.half:.1g}"
        mean, half = round(float(self.mean), digits), round(float(self.half), digits)
        return f"{mean:.{max(digits, 0)}f} ± {half:.{max(digits, 0)}f}"


def interval(values: ArrayLike) -> Interval:
    """Return the mean over the first axis, the seeds, and half of its 95 % interval, which is nan for one seed.

    >>> print(interval([1.0, 2.0, 3.0]))
    2.0 ± 2.5
    """
    from scipy.stats import t

    values = np.asarray(values, float)
    n = len(values)
    mean = values.mean(0)
    if n < 2:
        return Interval(mean, np.full_like(mean, np.nan)[()])
    return Interval(mean, t.ppf(0.975, n - 1) * values.std(0, ddof=1) / n**0.5)


def parser(module: str, description: str | None) -> Parser:
    """Return a parser of the options that all experiments have."""
    made = Parser(module, description)
    made.add_argument("--seeds", type=count, metavar="N", help=f"number of seeds, {SEEDS} by default")
    made.add_argument("--quick", action="store_true", help=f"a miniature, in seconds; written to {QUICK}")
    made.add_argument("--data", type=folder, metavar="FOLDER", help=f"Fashion-MNIST, {FASHION_MNIST} by default")
    return made


def options_of(arguments: argparse.Namespace) -> Options:
    """Return the options given in the terminal."""
    data = arguments.data or (FASHION_MNIST if FASHION_MNIST.is_dir() else None)
    return Options(arguments.seeds or (QUICK_SEEDS if arguments.quick else SEEDS), arguments.quick, data)


def main(run: Callable[[Options], Outcome]) -> None:
    """Run one experiment from the terminal, for `python -m experiments.claims.NAME`."""
    module: Any = sys.modules["__main__"]
    name = Path(module.__file__).stem
    options = options_of(parser(f"experiments.claims.{name}", module.__doc__).parse_args())
    show(conduct(name, run, options))


def conduct(name: str, run: Callable[[Options], Outcome], options: Options) -> Outcome:
    """Run an experiment; write its picture, and its numbers with seeds, versions and device."""
    start = perf_counter()
    outcome = run(options)
    values = {
        "environment": environment("jaxmlp"),
        "seconds": round(perf_counter() - start, 1),
        "seeds": list(range(outcome.seeds or options.seeds)),
        "claims": [claim._asdict() for claim in outcome.claims],
        "finding": "\n\n".join(_paragraphs(outcome.finding)),
        "numbers": _plain(outcome.numbers),
    }
    path = write_json(name, values, QUICK if options.quick else RESULTS)
    outcome.figure.savefig(path.with_suffix(".png"), dpi=130)
    return outcome


def show(outcome: Outcome) -> None:
    """Print tables, claims and text."""
    for table in outcome.tables:
        print_table(*table)
    print_table("Claims", ("claim", "measured", ""), outcome.claims)
    for paragraph in _paragraphs(outcome.finding):
        print(textwrap.fill(paragraph, 100), end="\n\n")


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _plain(value: Any) -> Any:
    """Return arrays as lists, and numbers rounded to six digits."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return _plain(np.asarray(value).tolist())
