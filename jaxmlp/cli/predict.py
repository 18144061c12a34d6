"""`jaxmlp predict`: write a trained network's predictions, one row for each example."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxmlp.cli.output import check_out, show, table
from jaxmlp.cli.saved_model import find_model, note_surprises, options_for, predict_finite, read_for
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.data import is_table, read_columns
from jaxmlp.storage.files import write_whole

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Write classes, or values in their units, for the test part or else for all examples."""
    out, keep = Path(getattr(arguments, "out", "predictions.csv")), getattr(arguments, "keep", [])
    check_out(out, (arguments.source, arguments.model))
    keep_compiled_programs(arguments)
    model = find_model(arguments.model)
    if arguments.probabilities and model.encoding and model.encoding.class_names is None:
        raise ValueError("--probabilities is for classes, but the model predicts real values: leave it out")
    kept = _kept(arguments.source, keep, options_for(model, arguments.source).get("separator"))
    source, encoding = read_for(model, arguments.source, labelled=False)
    x: Any
    x, origin = (source.x, "all examples") if source.x_test is None else (source.x_test, "the test part")
    y = predict_finite(model, x, source.name)
    note_surprises(arguments, encoding, source, x)
    predicted = _predictions(y, encoding.class_names, arguments.probabilities)
    if taken := [name for name in kept.columns if name in predicted.columns]:
        raise ValueError(f"--keep {taken[0]}: the predictions have a column of this name; rename it in {source.name}")
    write_whole(out, pl.concat([kept, predicted], how="horizontal").write_csv().encode())
    values = {"examples": len(y), "origin": origin, "out": str(out)}
    show(arguments, values, table(values))
    return 0


def _kept(source: str, names: list[str], separator: str | None) -> pl.DataFrame:
    """Return the columns of the source to copy beside the predictions."""
    if not names:
        return pl.DataFrame()
    if not is_table(source):
        raise ValueError(f"--keep copies columns of a table, but {source} is none: leave it out")
    return read_columns(source, names, separator)


def _predictions(y: np.ndarray, class_names: tuple[str, ...] | None, with_probabilities: bool) -> pl.DataFrame:
    if class_names is None:
        names = ["prediction"] if y.shape[1] == 1 else [f"prediction_{index}" for index in range(y.shape[1])]
        return pl.DataFrame(y, schema=names)
    predicted = pl.DataFrame({"prediction": [class_names[index] for index in y.argmax(1)]})
    if not with_probabilities:
        return predicted
    return predicted.hstack(pl.DataFrame(y, schema=[f"p_{name}" for name in class_names]))
