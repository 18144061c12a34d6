"""Options of the terminal that all experiments read alike; what is wrong with one is said in one line."""

import argparse
from pathlib import Path
from typing import NoReturn

__all__ = ["Parser", "count", "folder"]


class Parser(argparse.ArgumentParser):
    """A parser for `python -m MODULE` whose help shows the module's docstring as it is written."""

    def __init__(self, module: str, description: str | None) -> None:
        """Take the module's name and docstring."""
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(f"python -m {module}", description=description, formatter_class=raw)

    def error(self, message: str) -> NoReturn:
        """Print the message in one line, without the usage that --help shows, and exit."""
        self.exit(2, f"{self.prog}: {message}\n")


def count(text: str) -> int:
    """Return a whole number, 1 or larger."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or larger, got {text}")
    return int(text)


def folder(text: str) -> Path:
    """Return the path of a folder that exists."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)
