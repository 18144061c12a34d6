"""The frame of every benchmark: options, installed peers, verdicts on claims, results on disk."""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments._options import Parser, count, folder
from experiments._report import RESULTS, environment, print_table, write_json
from experiments._timing import cores, is_installed, torch_device

__all__ = ["Verdict", "begin", "busy", "finish", "installed", "is_disturbed", "options", "parser", "reason"]

PARTS = Path("runs") / "benchmarks"  # ignored by git: a part never replaces the results of a whole run
MOST_CORES_OF_OTHERS = 0.1  # threads that wait in a busy loop suffer most from others: a busy machine flatters JAX


class Peer(Protocol):
    """A library in a benchmark: its title in the tables, and the modules that it imports."""

    @property
    def title(self) -> str:
        """The name that the tables show."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that must be installed."""


class Verdict(NamedTuple):
    """A claim, what was measured, whether that bears it out, and whether no other process used the machine."""

    claim: str
    measured: str
    reached: bool
    undisturbed: bool = True


def parser(
    name: str,
    description: str | None,
    *,
    quick: str = "",
    rounds: int = 0,
    data: str = "",
    cases: Iterable[str] = (),
    peers: Iterable[str] = (),
) -> Parser:
    """Return a parser of the options that a benchmark has.

    Parameters
    ----------
    name, description
        The benchmark's name, and its docstring.
    quick
        What --quick measures; empty: no such option.
    rounds
        How often everything is measured by default; 0: no such option.
    data
        What a run without --data measures; empty: no such option.
    cases, peers
        The names to choose from; empty: no such option.
    """
    made = Parser(f"experiments.benchmarks.{name}", description)
    if data:
        made.add_argument("--data", type=folder, metavar="FOLDER", help=f"IDX files of Fashion-MNIST; else {data}")
    if rounds:
        words = f"rounds in which all take turns; {rounds} by default, 5 or more to be believed"
        made.add_argument("--rounds", type=count, default=rounds, metavar="N", help=words)
    for option, choices in (("cases", [*cases]), ("peers", [*peers])):
        if choices:
            about = {"nargs": "*", "choices": choices, "default": choices, "metavar": option[:-1].upper()}
            made.add_argument(f"--{option}", **about, help=f"{', '.join(choices)}; all by default")
    if quick:
        made.add_argument("--quick", action="store_true", help=f"a smoke test: {quick}; the numbers mean nothing")
    made.set_defaults(quick=False, benchmark=name, whole={"cases": [*cases], "peers": [*peers]}, without_data=data)
    return made


def options(made: Parser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the terminal; a smoke test has two rounds."""
    found = made.parse_args(arguments)
    if found.quick and "rounds" in found:
        found.rounds = 2
    return found


def begin(asked: argparse.Namespace, *packages: str) -> dict[str, str]:
    """Print and return what the numbers depend on: versions, devices, settings."""
    # On a GPU JAX would take most of the memory at its start, also from PyTorch and from fresh processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # a user's own cache would make first calls look warm
    about = environment("jaxmlp", *packages) | {"cores": str(cores())}
    if "torch" in packages and is_installed("torch"):
        about["PyTorch runs on"] = torch_device().type
    if asked.without_data:
        about["data"] = asked.data.name if asked.data else asked.without_data
    if "rounds" in asked:
        about["rounds"] = str(asked.rounds)
    print("; ".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    return about


def installed(peers: Mapping[str, Peer], wanted: Iterable[str]) -> list[str]:
    """Return the names of those peers that can be imported; say what the others need."""
    found = []
    for name in wanted:
        missing = {module.partition(".")[0] for module in peers[name].modules}
        missing = {package for package in missing if not is_installed(package)}
        if missing:
            needs = ", ".join(sorted(missing))
            print(f"{peers[name].title} is left out: {needs} is not installed, try: pip install 'jaxmlp[bench]'")
        else:
            found.append(name)
    return found


def reason(error: Exception) -> str:
    """Return the first line of an error, for a peer that failed; the others still have their race."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}"


def is_disturbed(cores_of_others: float) -> bool:
    """Whether other processes took more of the machine than a fair race can bear."""
    return cores_of_others > MOST_CORES_OF_OTHERS


def busy(cores_of_others: float) -> str:
    """Return the line that says how busy the machine was."""
    note = ": too many for a fair race" if is_disturbed(cores_of_others) else ""
    return f"Cores that other processes kept busy: {cores_of_others:.2f}{note}.\n"


def finish(asked: argparse.Namespace, about: dict[str, str], verdicts: Sequence[Verdict], **values: Any) -> bool:
    """Print the verdicts and write all values; return whether the run was whole, so that they became its results."""
    words = {True: "reached", False: "NOT reached"}
    disturbed = {True: "", False: ", on a busy machine"}
    rows = [(row.claim, row.measured, words[row.reached] + disturbed[row.undisturbed]) for row in verdicts]
    if rows:
        print_table("Claims", ("claim", "measured", ""), rows)
    all_values = {"environment": about, **values, "claims": [row._asdict() for row in verdicts]}
    is_whole = _is_whole(asked)
    path = write_json(asked.benchmark, all_values, RESULTS if is_whole else PARTS)
    print(f"{'All' if is_whole else 'A part'} of the benchmark was run; its numbers are in {os.path.relpath(path)}.")
    return is_whole


def _is_whole(asked: argparse.Namespace) -> bool:
    everything = all(getattr(asked, name, []) == names for name, names in asked.whole.items())
    return everything and not asked.quick and not (asked.without_data and asked.data is None)
