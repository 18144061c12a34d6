"""The page of all experiments, made of their docstrings and their results."""

import ast
import json
from pathlib import Path
from typing import Any

from experiments._report import RESULTS
from jaxmlp.storage.files import write_whole

__all__ = ["NAMES", "docstring", "module", "readme", "title", "write_readme"]

_CLAIMS = (
    "taylor_and_descent",
    "momentum",
    "batch_size",
    "why_cross_entropy",
    "which_activation",
    "backpropagation_is_the_gradient",
    "where_autodiff_stops",
    "per_example_gradients",
)
# Each experiment's file, by its name, in the order of the page.
_FILES = {name: f"claims/{name}.py" for name in _CLAIMS} | {"records": "records/__main__.py"}
NAMES = tuple(_FILES)
_FOLDER = Path(__file__).parent
_INTRODUCTION = """\
# Experiments

The claims of the theory of training multilayer perceptrons: how well each one holds, and where it stops. Every
experiment is one file on the public API, to read and to copy from.

    python -m experiments                       # all of them, and a table of the claims at the end
    python -m experiments momentum batch_size   # some; --list lists them, --quick is a miniature
    python -m experiments.claims.momentum       # one, the same

Run them from the repository's root after `pip install -e ".[cli,sweep]"`. This page is made of their docstrings and
results (`python -m experiments --readme`). "Held within limits" means that a claim is near the truth but not all of it;
the bounds of both stand beside each claim in the code. The bounds of why_cross_entropy and which_activation, and of
momentum's limit on a network, were set after first runs. ± is a 95 % interval over seeds. Comparisons with other
libraries are in [benchmarks](benchmarks/README.md), the history of the records in [records](records/README.md), and the
library in ten cells in [first_steps.ipynb](first_steps.ipynb).
"""


def write_readme() -> None:
    write_whole(_FOLDER / "README.md", readme().encode())


def readme() -> str:
    """Return the page: each experiment's claim, picture, findings and command."""
    measured = {name: json.loads(path.read_text()) for name in NAMES if (path := RESULTS / f"{name}.json").exists()}
    rows = [
        f"| {'' if number else _link(name)} | {_cell(claim['claim'])} | {claim['verdict']} |"
        for name, values in measured.items()
        for number, claim in enumerate(values["claims"])
    ]
    overview = "\n".join(["| experiment | claim | |", "| --- | --- | --- |", *rows])
    return "\n".join([_INTRODUCTION, overview, *(_section(name, values) for name, values in measured.items()), ""])


def _section(name: str, values: dict[str, Any]) -> str:
    about, seeds = values["environment"], len(values["seeds"])
    command = f"python -m {module(name).removesuffix('.__main__')}"
    claims = [f"| {_cell(one['claim'])} | {_cell(one['measured'])} | {one['verdict']} |" for one in values["claims"]]
    return f"""
## {title(name)}
{_claim(name)}

![{title(name)}](results/{name}.png)

| claim | measured | |
| --- | --- | --- |
{chr(10).join(claims)}

{values["finding"]}

`{command}`: {values["seconds"]:.0f} s, {seeds} seed{"s" * (seeds != 1)}, {about["device"]}, JAX
{about["jax"]}, {about["date"]}. [Its numbers](results/{name}.json), [its code]({_FILES[name]})."""


def _claim(name: str) -> str:
    """Return a docstring as it continues below its heading."""
    head, _, rest = docstring(name).partition(": ")
    return rest[0].upper() + rest[1:] if head.lower() == title(name).lower() else docstring(name)


def docstring(name: str) -> str:
    """Return a module's docstring, without importing it."""
    return ast.get_docstring(ast.parse((_FOLDER / _FILES[name]).read_text())) or ""


def module(name: str) -> str:
    """Return the module of an experiment.

    >>> module("momentum")
    'experiments.claims.momentum'
    """
    return f"experiments/{_FILES[name]}".removesuffix(".py").replace("/", ".")


def title(name: str) -> str:
    """Return an experiment's title.

    >>> title("why_cross_entropy")
    'Why cross-entropy'
    """
    words = name.replace("_", " ").capitalize()
    return words.replace("cross entropy", "cross-entropy").replace("Per example", "Per-example")


def _link(name: str) -> str:
    return f"[{title(name)}](#{name.replace('_', '-')})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
