"""`jaxmlp importance`: rank the columns of a source by how much a model relies on them."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import jax
import polars as pl

from jaxmlp._validation import whole_number
from jaxmlp.cli.output import check_out, grid, show, table
from jaxmlp.cli.progress import named_progress
from jaxmlp.cli.saved_model import find_model, note_surprises, part_to_score, read_labelled
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.importance import Importance, permutation_importance
from jaxmlp.plots.importance import importance_bars
from jaxmlp.storage.files import write_whole

__all__ = ["run"]

_SHOWN = 30  # columns in the table and in the picture; the CSV file has all


def run(arguments: Namespace) -> int:
    """Print the accuracy or R2 that each column is worth; write all of them to a table, and draw the largest."""
    out, repeats = Path(getattr(arguments, "out", "importance.csv")), whole_number("--repeats", arguments.repeats, 1)
    seed = whole_number("--seed", arguments.seed, 0, 2**32 - 1)
    check_out(out, (arguments.source, arguments.model), with_picture=True)
    keep_compiled_programs(arguments)
    model = find_model(arguments.model)
    source, encoding = read_labelled(arguments, model, arguments.source)
    part, origin = part_to_score(model, source)
    data = encoding.encode(part.x, part.t, source.class_names)
    note_surprises(arguments, encoding, source, part.x)
    groups, options = encoding.groups, dict[str, Any](key=jax.random.key(seed), repeats=repeats)
    with named_progress(arguments, "column", len(groups)) as show_next:
        found = permutation_importance(model.networks, data, groups, callback=show_next, **options)
    metric = "R²" if encoding.class_names is None else "accuracy"
    lost = f"{'r2' if encoding.class_names is None else metric}_lost"
    names, mean, low, high, _ = zip(*found, strict=True)
    write_whole(out, pl.DataFrame({"column": names, lost: mean, "low": low, "high": high}).write_csv().encode())
    largest = found[:_SHOWN]
    names, mean, low, high, _ = zip(*largest, strict=True)
    picture, label = out.with_suffix(".png"), f"{metric} lost{', 95 % interval' if repeats > 1 else ''}"
    write_whole(picture, importance_bars(names, mean, low, high, label, f"{Path(source.name).stem}, {origin}"))
    values: dict[str, Any] = {"examples": len(data), "origin": origin, "repeats": repeats, "out": str(out)}
    values |= {"picture": str(picture)}
    columns = [{"column": each.column, lost: each.mean, "low": each.low, "high": each.high} for each in found]
    more = {"more_columns": f"{len(found) - _SHOWN}, in {out}"} if len(found) > _SHOWN else {}
    show(arguments, values | {"columns": columns}, _printed(largest, metric), "", table(more | values))
    return 0


def _printed(found: list[Importance], metric: str) -> Any:
    rows = grid({"column": False, f"{metric} lost": True, "+/- 95 %": True})
    for each in found:
        half = each.high - each.mean
        rows.add_row(each.column, f"{each.mean:.4f}", f"{half:.2g}" if half == half else "")
    return rows
