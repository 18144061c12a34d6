"""`jaxmlp check`: are these gradients right? The library's own, a trained network's, or a function's of the user."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from jaxmlp.checking import Report, check_gradient
from jaxmlp.checking.rules import check_custom_rule
from jaxmlp.checking.taylor import taylor_test
from jaxmlp.cli.cache import keep_compiled_programs
from jaxmlp.cli.display import show
from jaxmlp.cli.imported import UserError, arguments_for, imported_function, user_code
from jaxmlp.cli.models import find_model, read_for
from jaxmlp.equivalences import Claim, Equivalence, of_library, of_model, rounding_units
from jaxmlp.plots.taylor import taylor_plot
from jaxmlp.storage.files import check_place, to_json, write_whole

__all__ = ["run"]

_MINUS = "-"


class _Checked(NamedTuple):
    """A row of the table and what was found."""

    row: Equivalence
    report: Report


def run(arguments: Namespace) -> int:
    """Check, and return 0 where all is right, 1 where anything is wrong or undecided."""
    what = arguments.what
    is_function = bool(what) and ":" in what[0] and not Path(what[0]).exists()
    _check_arguments(arguments, what, is_function)
    keep_compiled_programs(arguments)
    if is_function:
        return _check_function(arguments, what[0])
    rows = list(of_library(seed=arguments.seed)) if not what else _rows_of_model(arguments, *what)
    return _check_rows(arguments, rows)


def _check_arguments(arguments: Namespace, what: Sequence[str], is_function: bool) -> None:
    if "" in what:
        raise ValueError("WHAT is empty: expected MODEL SOURCE, MODULE:FUNCTION, or nothing at all")
    if is_function and len(what) > 1:
        raise ValueError(f"expected nothing behind {what[0]}, got {what[1]}; its arguments are named by --at")
    if not is_function:
        for option in ("at", "gradient"):
            if option in arguments:
                raise ValueError(f"--{option} is of a function, MODULE:FUNCTION, got {' '.join(what) or 'none'}")
        if len(what) not in (0, 2):
            raise ValueError(f"expected MODEL SOURCE, MODULE:FUNCTION, or nothing at all, got {' '.join(what)}")
    if "target" in arguments and (is_function or not what):
        raise ValueError("--target is of a trained network's SOURCE, and there is none")
    if is_function and "at" not in arguments:
        raise ValueError(f"{what[0]} needs --at MODULE:NAME, the arguments to check it at")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be 0 or larger, got {arguments.seed}")
    if (plot := _path(arguments, "plot")) is not None:
        if plot.suffix.lower() != ".png":
            raise ValueError(f"{plot}: expected the name of a PNG file to draw in")
        check_place(plot)
    if (file := _path(arguments, "json")) is not None:
        check_place(file)


def _path(arguments: Namespace, option: str) -> Path | None:
    given = getattr(arguments, option, None)
    return None if given in (None, _MINUS) else Path(given)


def _rows_of_model(arguments: Namespace, model_name: str, source_name: str) -> list[Equivalence]:
    model = find_model(model_name)
    source, encoding = read_for(model, source_name, target=getattr(arguments, "target", None))
    if source.t is None:
        raise ValueError(f"{source.name}: no targets, expected some to compare with")
    data = encoding.encode(source.x, source.t, source.class_names)
    params = jax.tree.map(jnp.asarray, model.params)
    return list(of_model(model.mlp, params, np.asarray(data.x), np.asarray(data.t), seed=arguments.seed))


def _check_rows(arguments: Namespace, rows: Sequence[Equivalence]) -> int:
    checked = []
    with _progress(arguments, len(rows)) as step:
        for row in rows:
            step(row.name)
            checked.append(_Checked(row, row.check()))
    failed = [each for each in checked if not each.report]
    entries = [_entry(each) for each in checked]
    values: dict[str, Any] = {"checks": len(checked), "failed": len(failed), "rows": entries}
    claims = [each.row for each in failed if each.row.claim] or [row for row in rows if row.claim][-1:]
    if claims:
        values |= _draw(arguments, claims[0].name, claims[0].claim)
    _finish(arguments, values, _table(checked), _summary(checked, values), *[f"\n{each.report}" for each in failed])
    return int(bool(failed))


@contextmanager
def _progress(arguments: Namespace, total: int) -> Iterator[Callable[[str], None]]:
    """Give a callback that is told what is checked next: a live line in a terminal, ten lines in all elsewhere."""
    console = Console(stderr=True)
    if _is_silent(arguments):
        yield lambda name: None
    elif console.is_terminal:
        room = max(10, console.width - 45)
        bar = [BarColumn(bar_width=20)] if console.width >= 90 else []
        columns = (TextColumn("check"), MofNCompleteColumn(), *bar, TextColumn("{task.fields[name]}"))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=total, completed=-1, name="")
            yield lambda name: progress.update(task, advance=1, name=name[:room])
    else:
        done = iter(range(total))
        yield lambda name: _print_some(next(done), total, name)


def _print_some(done: int, total: int, name: str) -> None:
    if done % -(-total // 10) == 0:
        with suppress(BrokenPipeError):
            print(f"check {done + 1}/{total}  {name}", file=sys.stderr, flush=True)


def _is_silent(arguments: Namespace) -> bool:
    return bool(arguments.quiet or getattr(arguments, "json", None) == _MINUS)


def _entry(each: _Checked) -> dict[str, Any]:
    return {
        "group": each.row.group,
        "name": each.row.name,
        "verdict": each.report.verdict,
        "error": rounding_units(each.report),
        "slope": _slope(each.report),
        "report": each.report.as_dict(),
    }


def _slope(report: Report) -> float | None:
    finite = [slope for slope in report.slopes if np.isfinite(slope)]
    return float(np.median(finite)) if finite else None


def _table(checked: Sequence[_Checked]) -> Table:
    grid = Table(box=None, pad_edge=False)
    for name in ("group", "name"):
        grid.add_column(name, overflow="fold")
    grid.add_column("verdict", no_wrap=True)
    grid.add_column("error", justify="right", no_wrap=True)
    grid.add_column("slope", justify="right", no_wrap=True)
    before = None
    for row, report in checked:
        group = row.group if row.group != before else ""
        before = row.group
        style = {"right": "green", "wrong": "bold red"}.get(report.verdict, "yellow")
        slope = _slope(report)
        # At a kink there are many gradients, and which of them it is no error.
        at_kink = report.verdict == "right" and any("kink" in note for note in report.notes)
        error = "at a kink" if at_kink else f"{rounding_units(report):.2g}"
        cells = (error, "" if slope is None or at_kink else f"{slope:.2f}")
        grid.add_row(group, row.name, Text(report.verdict, style), *cells)
    return grid


def _summary(checked: Sequence[_Checked], values: dict[str, Any]) -> str:
    counts = {verdict: sum(each.report.verdict == verdict for each in checked) for verdict in ("wrong", "undecided")}
    text = f"\nerrors are in roundings of the dtype; {len(checked)} checks: " + (
        ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n) or "all right"
    )
    return text + (f"\ndrawn in {values['plot']}: {values['drawn']}" if "plot" in values else "")


def _check_function(arguments: Namespace, name: str) -> int:
    try:
        f = imported_function("WHAT", name)
        gradient = imported_function("--gradient", arguments.gradient) if "gradient" in arguments else None
        args = arguments_for(f, name, arguments.at)
        with _telling(name if gradient is None else f"{name} or {arguments.gradient}"):
            if gradient is None:
                report = check_custom_rule(f, *args, seed=arguments.seed)
                claim = _claim_of_rule(f, args, arguments.seed)
            else:
                claim, root = _of_first(f, gradient, args)
                report = check_gradient(*claim, seed=arguments.seed, root=root)
            values = report.as_dict() | _draw(arguments, report.subject, claim)
    except UserError as error:
        print(error.line, file=sys.stderr)
        raise
    _finish(arguments, values, str(report), *([f"  drawn in {values['plot']}"] if "plot" in values else []))
    return 0 if report else 1


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Tell what the user's function raises, which a check leaves a note at, from what the check has to say."""
    try:
        with user_code(f"{name} raised this while it was checked"):
            yield
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, ValueError) and not getattr(cause, "__notes__", None):
            raise cause from None
        raise


def _of_first(f: Callable[..., Any], gradient: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Claim, str]:
    """Hold all arguments but the first fixed; return also the first one's name."""

    @wraps(f)
    def of_first(first: Any) -> Any:
        return f(first, *args[1:])

    @wraps(gradient)
    def gradient_of_first(first: Any) -> Any:
        return gradient(first, *args[1:])

    try:
        root = next(iter(signature(f).parameters), "args[0]")
    except ValueError:  # of some built-in functions nobody knows
        root = "args[0]"
    return Claim(of_first, gradient_of_first, args[0]), root


def _claim_of_rule(f: Callable[..., Any], args: tuple[Any, ...], seed: int) -> Claim:
    """Return what a custom rule claims, as a gradient: that of c . f for random c, which JAX takes by the rule."""
    leaves, tree = jax.tree.flatten(args)
    moves = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    floats = [jnp.asarray(leaf) for leaf, is_float in zip(leaves, moves, strict=True) if is_float]

    def value(floats: list[Any]) -> Any:
        remaining = iter(floats)
        whole = [next(remaining) if is_float else leaf for leaf, is_float in zip(leaves, moves, strict=True)]
        rng = np.random.default_rng(seed)
        outputs = jax.tree.leaves(f(*jax.tree.unflatten(tree, whole)))
        return sum(jnp.sum(rng.standard_normal(np.shape(y)).astype(y.dtype) * y) for y in map(jnp.asarray, outputs))

    return Claim(value, jax.grad(value), floats)


def _draw(arguments: Namespace, name: str, claim: Claim | None) -> dict[str, str]:
    path = _path(arguments, "plot")
    if path is None or claim is None:
        return {}
    write_whole(path, taylor_plot(taylor_test(*claim, seed=arguments.seed), name))
    return {"plot": str(path), "drawn": name}


def _finish(arguments: Namespace, values: dict[str, Any], *parts: Table | str) -> None:
    """Write or print JSON, and print the parts, unless it went to standard output or --quiet holds."""
    if getattr(arguments, "json", None) is not None and (file := _path(arguments, "json")) is not None:
        write_whole(file, (to_json(values, indent=1) + "\n").encode())
    to_output = getattr(arguments, "json", None) == _MINUS
    show(Namespace(json=to_output, quiet=arguments.quiet), values, *parts)
