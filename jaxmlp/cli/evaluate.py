"""`jaxmlp evaluate`: measure a trained network on a source of data."""

from argparse import Namespace
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text
from sklearn import metrics

from jaxmlp.cli.output import show, table
from jaxmlp.cli.saved_model import find_model, predict_finite, read_labelled, split_of_training
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.data import Part, Source, whole
from jaxmlp.storage.checkpoint import Model
from jaxmlp.training.evaluation import evaluate_networks

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Print loss, accuracy and confusion matrix; for real values R2 and errors in the target's units."""
    keep_compiled_programs(arguments)
    model = find_model(arguments.model)
    source, encoding = read_labelled(arguments, model, arguments.source)
    part, origin = _part(model, source)
    data = encoding.encode(part.x, part.t, source.class_names)
    y = predict_finite(model, part.x, source.name)
    result = evaluate_networks(model.networks, data)
    values: dict[str, Any] = {"examples": len(data), "origin": origin, "test_loss": result.loss}
    if encoding.class_names is None:
        t = part.t.reshape(y.shape)
        values["test_r2"] = result.r2
        values["mean_absolute_error"] = float(metrics.mean_absolute_error(t, y))
        values["root_mean_squared_error"] = float(metrics.root_mean_squared_error(t, y))
        show(arguments, values, table(values))
        return 0
    values["test_accuracy"] = result.accuracy
    confusion = metrics.confusion_matrix(data.t, y.argmax(1), labels=range(len(encoding.class_names)))
    more = {"classes": encoding.class_names, "confusion": confusion.tolist()}
    show(arguments, values | more, table(values), _confusion_table(confusion, encoding.class_names))
    return 0


def _part(model: Model, source: Source) -> tuple[Part, str]:
    """Return the test part of the source, else the part that training held out, else all examples; and its origin."""
    if source.x_test is not None:
        return whole(source.x_test, source.t_test), "the test part"
    if (drawn := split_of_training(model, source)) is not None:
        return drawn.test, "held out in training"
    return whole(source.x, source.t), "all examples"


def _confusion_table(confusion: np.ndarray, names: tuple[str, ...]) -> Table:
    printed = Table(title="true class (rows) and predicted (columns)", title_justify="left", box=None)
    printed.add_column("", style="dim")
    for name in names:
        printed.add_column(name, justify="right", overflow="fold")
    for index, (name, row) in enumerate(zip(names, confusion, strict=True)):
        cells = [Text(str(n) if n else ".", "bold" if i == index else "") for i, n in enumerate(row)]
        printed.add_row(name, *cells)
    return printed
