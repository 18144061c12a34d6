"""Experiments on the theory of training perceptrons: claims, measured, with pictures.

    python -m experiments              all of them, in about 7 minutes on two cores
    python -m experiments NAME...      some of them

Numbers and pictures are written to experiments/results. A table at the end shows which claims held, held within limits,
or did not hold.
"""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from time import perf_counter

from rich.console import Console

from experiments._readme import NAMES, docstring, module, title, write_readme
from experiments._report import print_table
from experiments.claims._experiment import Options, conduct, options_of, parser, show
from jaxmlp._validation import unknown_name


def main() -> int:
    """Run the experiments that were named; return 1 if one ended with an error, 130 after Ctrl-C."""
    options = parser("experiments", __doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="experiments to run, see --list; all by default")
    options.add_argument("--list", action="store_true", help="list the experiments")
    options.add_argument("--readme", action="store_true", help="only write experiments/README.md from the results")
    asked = options.parse_args()
    for name in asked.names:
        if name not in NAMES:
            options.error(unknown_name("experiment", name, NAMES))
    if asked.list:
        print_table("Experiments", ("name", "about"), [(name, docstring(name).partition("\n")[0]) for name in NAMES])
    elif asked.readme:
        write_readme()
    else:
        return _run(asked.names or NAMES, options_of(asked))
    return 0


def _run(names: Sequence[str], options: Options) -> int:
    claims: list[tuple[str, ...]] = []
    failed: list[str] = []
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {title(name)}\n", flush=True)
        start = perf_counter()
        try:
            with Console(stderr=True).status("running"):
                outcome = conduct(name, import_module(module(name)).run, options)
        except KeyboardInterrupt:
            print(f"interrupted in {name}; results of earlier experiments are kept", file=sys.stderr)
            return 130
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        show(outcome)
        print(f"{perf_counter() - start:.0f} s\n", flush=True)
        claims += [(title(name), *claim) for claim in outcome.claims]
    print_table("Claims", ("experiment", "claim", "measured", ""), claims)
    if failed:
        print(f"ended with an error (see above): {', '.join(failed)}", file=sys.stderr)
        return 1
    if not options.quick:
        write_readme()
    return 0


if __name__ == "__main__":
    sys.exit(main())
