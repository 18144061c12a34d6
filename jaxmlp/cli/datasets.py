"""`jaxmlp datasets`: list the embedded data sets."""

from argparse import Namespace

from rich.table import Table

from jaxmlp.cli.output import show
from jaxmlp.data import EMBEDDED

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Print each embedded data set with one line about it."""
    values = {name: entry.description for name, entry in EMBEDDED.items()}
    printed = Table("name", "description", box=None)
    for name, description in values.items():
        printed.add_row(name, description)
    show(arguments, values, printed)
    return 0
