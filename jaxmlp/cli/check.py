"""`jaxmlp check`: check the gradients of the library, of a trained network, or of the user's function."""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from rich.text import Text

from jaxmlp.checking import Report, check_gradient
from jaxmlp.checking.rules import check_custom_rule
from jaxmlp.checking.taylor import taylor_test
from jaxmlp.cli.output import grid, show
from jaxmlp.cli.progress import named_progress
from jaxmlp.cli.saved_model import find_model, read_labelled
from jaxmlp.cli.startup import keep_compiled_programs, say
from jaxmlp.cli.user_functions import UserError, arguments_for, imported_function, user_code
from jaxmlp.equivalences import Claim, Equivalence, of_library, of_model, rounding_units
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.storage.files import check_place, write_whole
from jaxmlp.training.examples import expanded

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Run the checks; return 0 if all are right, 1 if any is wrong or undecided."""
    what = arguments.what
    is_function = bool(what) and ":" in what[0] and not Path(what[0]).exists()
    _check_arguments(arguments, what, is_function)
    keep_compiled_programs(arguments)
    if is_function:
        return _check_function(arguments, what[0])
    rows = list(of_library(seed=arguments.seed)) if not what else _rows_of_model(arguments, *what)
    return _check_rows(arguments, rows)


def _check_arguments(arguments: Namespace, what: Sequence[str], is_function: bool) -> None:
    expected = "expected MODEL SOURCE, MODULE:FUNCTION, or nothing"
    if "" in what:
        raise ValueError(f"WHAT is empty: {expected}")
    if is_function and len(what) > 1:
        raise ValueError(f"expected nothing after {what[0]}, got {what[1]}; name its arguments with --at")
    if not is_function:
        for option in ("at", "gradient"):
            if option in arguments:
                raise ValueError(f"--{option} requires MODULE:FUNCTION, got {' '.join(what) or 'nothing'}")
        if len(what) not in (0, 2):
            raise ValueError(f"{expected}, got {' '.join(what)}")
    if "target" in arguments and (is_function or not what):
        raise ValueError("--target requires MODEL SOURCE: it names a column of SOURCE")
    if is_function and "at" not in arguments:
        raise ValueError(f"{what[0]} requires --at MODULE:NAME, the arguments of the check")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be 0 or larger, got {arguments.seed}")
    if "plot" in arguments:
        plot = Path(arguments.plot)
        if plot.suffix.lower() != ".png":
            raise ValueError(f"--plot {plot}: expected the name of a PNG file, like taylor.png")
        check_place(plot)


def _rows_of_model(arguments: Namespace, model_name: str, source_name: str) -> list[Equivalence]:
    model = find_model(model_name)
    source, encoding = read_labelled(arguments, model, source_name)
    data = expanded(encoding.encode(source.x, source.t, source.class_names))
    rows: list[Equivalence] = []
    for mlp, params in {network.mlp: network for network in model.networks}.values():  # one of each configuration
        x, t = np.asarray(data.x), np.asarray(data.t)
        rows += of_model(mlp, jax.tree.map(jnp.asarray, params), x, t, seed=arguments.seed)
    return rows


def _check_rows(arguments: Namespace, rows: Sequence[Equivalence]) -> int:
    checked = []
    with named_progress(arguments, "check", len(rows)) as show_next:
        for row in rows:
            show_next(row.name)
            checked.append((row, row.check()))
    failed = [(row, report) for row, report in checked if not report]
    entries = [
        {
            "group": row.group,
            "name": row.name,
            "verdict": report.verdict,
            "error": rounding_units(report),
            "slope": _slope(report),
            "report": report.as_dict(),
        }
        for row, report in checked
    ]
    values: dict[str, Any] = {"checks": len(checked), "failed": len(failed), "rows": entries}
    counts = Counter(report.verdict for _, report in failed)
    summary = f"\nunit of errors: one rounding of the dtype; {len(checked)} checks: " + (
        ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("wrong", "undecided") if counts[verdict])
        or "all right"
    )
    drawn = [row for row, _ in failed if row.claim] or [row for row in rows if row.claim][-1:]
    if drawn:
        values |= _draw(arguments, drawn[0].name, drawn[0].claim)
    if "plot" in values:
        summary += f"\ndrawn in {values['plot']}: {values['drawn']}"
    show(arguments, values, _table(checked), summary, *[f"\n{report}" for _, report in failed])
    return int(bool(failed))


def _slope(report: Report) -> float | None:
    finite = [slope for slope in report.slopes if np.isfinite(slope)]
    return float(np.median(finite)) if finite else None


def _table(checked: Sequence[tuple[Equivalence, Report]]) -> Table:
    rows, before = grid({"group": False, "name": False, "verdict": False, "error": True, "slope": True}), None
    for row, report in checked:
        group, before = row.group if row.group != before else "", row.group
        style = {"right": "green", "wrong": "bold red"}.get(report.verdict, "yellow")
        slope = _slope(report)
        # A kink has many gradients; the distance between two of them is no error.
        at_kink = report.verdict == "right" and any("kink" in note for note in report.notes)
        error = "at a kink" if at_kink else f"{rounding_units(report):.2g}"
        cells = (error, "" if slope is None or at_kink else f"{slope:.2f}")
        rows.add_row(group, row.name, Text(report.verdict, style), *cells)
    return rows


def _check_function(arguments: Namespace, name: str) -> int:
    try:
        f = imported_function("WHAT", name)
        gradient = imported_function("--gradient", arguments.gradient) if "gradient" in arguments else None
        args = arguments_for(f, name, arguments.at)
        with _checked_code(name if gradient is None else f"{name} or {arguments.gradient}"):
            if gradient is None:
                report = check_custom_rule(f, *args, seed=arguments.seed)
                claim = _claim_of_rule(f, args, arguments.seed)
            else:
                claim, root = _of_first(f, gradient, args)
                report = check_gradient(*claim, seed=arguments.seed, root=root)
            values = report.as_dict() | _draw(arguments, report.subject, claim)
    except UserError as error:
        say(error.line)
        raise
    show(arguments, values, str(report), *([f"  drawn in {values['plot']}"] if "plot" in values else []))
    return 0 if report else 1


@contextmanager
def _checked_code(name: str) -> Iterator[None]:
    """Raise `UserError` for exceptions of the user's function, but not for the check's own, which have no note."""
    try:
        with user_code(f"{name} raised this while it was checked"):
            yield
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, ValueError) and not getattr(cause, "__notes__", None):
            raise cause from None
        raise


def _of_first(f: Callable[..., Any], gradient: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Claim, str]:
    """Return the claim with all arguments but the first held fixed, and the name of the first."""

    def of_first(function: Callable[..., Any]) -> Callable[[Any], Any]:
        return wraps(function)(lambda first: function(first, *args[1:]))

    try:
        root = next(iter(signature(f).parameters), "args[0]")
    except ValueError:  # some built-in functions have no signature
        root = "args[0]"
    return Claim(of_first(f), of_first(gradient), args[0]), root


def _claim_of_rule(f: Callable[..., Any], args: tuple[Any, ...], seed: int) -> Claim:
    """Return the claim that JAX, by f's custom rule, computes the gradient of c . f, for a random c."""
    leaves, tree = jax.tree.flatten(args)
    moving = [n for n, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

    def value(floats: list[Any]) -> Any:
        moved = dict(zip(moving, floats, strict=True))
        outputs = jax.tree.leaves(f(*jax.tree.unflatten(tree, [moved.get(n, leaf) for n, leaf in enumerate(leaves)])))
        rng = np.random.default_rng(seed)
        return sum(jnp.sum(rng.standard_normal(np.shape(y)).astype(y.dtype) * y) for y in map(jnp.asarray, outputs))

    return Claim(value, jax.grad(value), [jnp.asarray(leaves[n]) for n in moving])


def _draw(arguments: Namespace, name: str, claim: Claim | None) -> dict[str, str]:
    if "plot" not in arguments or claim is None:
        return {}
    write_whole(Path(arguments.plot), taylor_plot(taylor_test(*claim, seed=arguments.seed), name))
    return {"plot": arguments.plot, "drawn": name}
