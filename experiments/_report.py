"""The end of every experiment: tables on the screen, and numbers on disk with versions and device."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from jaxmlp.storage.files import to_json, write_whole

__all__ = ["RESULTS", "environment", "markdown", "print_table", "write_json"]

RESULTS = Path(__file__).parent / "results"


def environment(*packages: str) -> dict[str, str]:
    """Return the device, the date, and the versions of JAX, NumPy and those of the packages that are installed."""
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
    """Print a table; as Markdown where the output is piped, for documentation."""
    console = Console()
    if not console.is_terminal:
        print(f"{title}\n\n{markdown(header, rows)}\n")
        return
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as Markdown writes it.

    >>> print(markdown(("n", "n^2"), [(3, 9)]))
    | n | n^2 |
    | --- | --- |
    | 3 | 9 |
    """
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def write_json(name: str, values: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write an experiment's numbers to `<folder>/<name>.json`; return the path. JSON has no nan: it becomes null."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_whole(path, (to_json(values, indent=1) + "\n").encode())
    return path
