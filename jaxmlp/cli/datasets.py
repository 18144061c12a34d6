"""`jaxmlp datasets`: list the embedded data sets."""

from argparse import Namespace

from jaxmlp.cli.output import grid, show
from jaxmlp.data import EMBEDDED

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Print each embedded data set with one line about it."""
    descriptions = {name: entry.description for name, entry in EMBEDDED.items()}
    printed = grid({"name": False, "description": False})
    for row in descriptions.items():
        printed.add_row(*row)
    show(arguments, {"datasets": descriptions}, printed)
    return 0
