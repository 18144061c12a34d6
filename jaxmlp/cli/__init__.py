"""The terminal: `jaxmlp train`, `evaluate`, `predict`, `examples`, `info`, `datasets`, `check`, `sweep`.

Every command parses, calls and prints; what it does a script can do in as few lines.
"""

import os
import sys
from collections.abc import Sequence

from jaxmlp._extras import optional
from jaxmlp.cli.arguments import parse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 for a run that diverged or a wrong gradient, 2 for bad input, 130 for Ctrl-C."""
    _replace_closed_streams()
    arguments = parse(argv)
    try:
        # Only now: what a command needs takes a second to import, and `--help` should not wait for it.
        command = optional(f"jaxmlp.cli.{arguments.command.partition(' ')[0]}")
        return int(command.run(arguments))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - its reader is gone, and the interpreter would flush it
        return 1
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        print(f"jaxmlp {arguments.command}: error: not enough memory for a network of this size", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"jaxmlp {arguments.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"jaxmlp {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _replace_closed_streams() -> None:
    """Where a stream was closed by our caller Python has None, and printing to None would print elsewhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
