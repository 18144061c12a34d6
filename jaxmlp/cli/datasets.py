"""`jaxmlp datasets`: list the embedded data sets."""

from argparse import Namespace

from jaxmlp.cli.output import grid, show
from jaxmlp.data import EMBEDDED

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Print each embedded data set with one line about it."""
    values = {name: entry.description for name, entry in EMBEDDED.items()}
    printed = grid({"name": False, "description": False})
    for row in values.items():
        printed.add_row(*row)
    show(arguments, values, printed)
    return 0
