"""The terminal: `jaxmlp train`, `evaluate`, `predict`, `info`, `datasets`. Parse, call, print; no mathematics."""

import sys
from collections.abc import Sequence
from importlib import import_module

from jaxmlp.cli.arguments import parse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 for a run that diverged, 2 for bad input, 130 for Ctrl-C."""
    arguments = parse(argv)
    try:
        # Only now: what a command needs takes a second to import, and `--help` should not wait for it.
        command = import_module(f"jaxmlp.cli.{arguments.command}")
        return int(command.run(arguments))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone: nobody to tell
        return 0
    except (ValueError, OSError, ImportError) as error:
        print(f"jaxmlp {arguments.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"jaxmlp {arguments.command}: interrupted", file=sys.stderr)
        return 130
