"""`jaxmlp predict`: write a trained network's predictions, one row for each example."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxmlp.cli.output import check_out, show, table
from jaxmlp.cli.saved_model import find_model, predict_finite, read_for
from jaxmlp.cli.startup import keep_compiled_programs, note
from jaxmlp.data import Columns
from jaxmlp.storage.files import write_whole

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Write classes and probabilities, or values in their units, for the test part or else for all examples."""
    out = Path(getattr(arguments, "out", "predictions.csv"))
    check_out(out, (arguments.source, arguments.model))
    keep_compiled_programs(arguments)
    model = find_model(arguments.model)
    source, encoding = read_for(model, arguments.source, labelled=False)
    x: Any
    x, origin = (source.x, "all examples") if source.x_test is None else (source.x_test, "the test part")
    y = predict_finite(model, x, source.name)
    if isinstance(encoding.inputs, Columns) and (line := encoding.inputs.surprises(x)):
        note(arguments, line)
    write_whole(out, _frame(y, encoding.class_names).write_csv().encode())
    values = {"examples": len(y), "origin": origin, "out": str(out)}
    show(arguments, values, table(values))
    return 0


def _frame(y: np.ndarray, class_names: tuple[str, ...] | None) -> pl.DataFrame:
    if class_names is None:
        names = ["prediction"] if y.shape[1] == 1 else [f"prediction_{index}" for index in range(y.shape[1])]
        return pl.DataFrame(y, schema=names)
    predicted = [class_names[index] for index in y.argmax(1)]
    probabilities = pl.DataFrame(y, schema=[f"p_{name}" for name in class_names])
    return probabilities.insert_column(0, pl.Series("prediction", predicted))
