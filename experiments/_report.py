"""What every experiment ends with: a table on the screen, and its numbers with versions and device on disk."""

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.table import Table

__all__ = ["MOST_CORES_OF_OTHERS", "RESULTS", "Verdict", "environment", "print_table", "print_verdicts", "write_json"]

RESULTS = Path(__file__).parent / "results"
MOST_CORES_OF_OTHERS = 0.1  # threads that wait in a busy loop lose most by others: a busy machine flatters JAX


def environment(*packages: str) -> dict[str, str]:
    """Return versions and the device, for packages beside jax, jaxlib and NumPy that are installed."""
    found = {"python": platform.python_version()}
    for package in ("jax", "jaxlib", "numpy", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    device = jax.devices()[0]
    kind = _processor() if device.platform == "cpu" else device.device_kind
    return found | {"device": kind, "date": datetime.now(UTC).date().isoformat()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; as Markdown where it is piped, to be pasted into documentation."""
    console = Console()
    if not console.is_terminal:
        lines = [header, ["---"] * len(header), *rows]
        cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
        print(f"{title}\n", *("| " + " | ".join(line) + " |" for line in cells), "", sep="\n")
        return
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def write_json(name: str, values: dict[str, Any]) -> None:
    """Write an experiment's numbers to `experiments/results/<name>.json`."""
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")


class Verdict(NamedTuple):
    """A claim, what was measured, whether that bears it out, and whether nobody else used the machine."""

    claim: str
    measured: str
    reached: bool
    undisturbed: bool


def print_verdicts(rows: list[Verdict]) -> None:
    words = {True: "reached", False: "NOT reached"}
    busy = {True: "", False: ", on a busy machine"}
    marked = [(row.claim, row.measured, words[row.reached] + busy[row.undisturbed]) for row in rows]
    print_table("Claims", ("claim", "measured", ""), marked)
