"""The terminal program: `jaxmlp train`, `evaluate`, `predict`, `importance`, `examples`, `info`, `check`, `sweep`...

Each command has a file of its name, which parses, calls and prints. A script can do the same in as few lines.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from jaxmlp._extras import optional
from jaxmlp._interrupts import interrupts_kept, termination_as_interrupt
from jaxmlp.cli.arguments import parse
from jaxmlp.cli.startup import error_line, guard_streams, say, warnings_noted

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The code is 0, 1 for a run that diverged or a wrong gradient, 2 for bad input, 130 for Ctrl-C and 143 for SIGTERM.
    """
    guard_streams()
    arguments = parse(argv)
    with termination_as_interrupt() as received:
        code = _run(arguments)
    return 128 + received[0] if received and code == 130 else code


def _run(arguments: Namespace) -> int:
    try:
        with interrupts_kept(), warnings_noted(arguments):
            # Imported late: a command's imports take a second, and `--help` should not wait for them.
            command = optional(f"jaxmlp.cli.{arguments.command.partition(' ')[0]}")
            return int(command.run(arguments))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter would flush the broken one
        return 1
    except (KeyboardInterrupt, Exception) as error:
        # Extension modules turn a Ctrl-C during their import into an ImportError.
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
            say(f"jaxmlp {arguments.command}: interrupted")
            return 130
        if (line := error_line(error)) is None:
            raise
        say(f"jaxmlp {arguments.command}: error: {line}")
        return 2
