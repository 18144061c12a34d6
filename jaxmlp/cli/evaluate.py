"""`jaxmlp evaluate`: measure a trained network's predictions on a source of data."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from sklearn import metrics

from jaxmlp.cli.output import check_out, show, table
from jaxmlp.cli.saved_model import find_model, note_surprises, part_to_score, predict_finite, read_labelled
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.plots.predictions import calibration, predicted_against_true
from jaxmlp.storage.files import write_whole

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Print scores, for classes also the confusion matrix; draw how far probabilities or values can be trusted."""
    picture = Path(getattr(arguments, "picture", "evaluation.png"))
    check_out(picture, (arguments.source, arguments.model), option="--picture", suffix=".png")
    keep_compiled_programs(arguments)
    model = find_model(arguments.model)
    source, encoding = read_labelled(arguments, model, arguments.source)
    part, origin = part_to_score(model, source)
    t = encoding.encode(part.x, part.t, source.class_names).t
    note_surprises(arguments, encoding, source, part.x)
    y = predict_finite(model, part.x, source.name)
    values: dict[str, Any] = {"examples": len(y), "origin": origin}
    title, tables = f"{Path(source.name).stem}, {origin}", list[RenderableType]()
    if encoding.class_names is None:
        values |= _scores_of_values(part.t.reshape(y.shape), y)
        drawn = predicted_against_true(part.t.ravel(), y.ravel(), title)
    else:
        names, t = encoding.class_names, np.asarray(t)
        scores, notes = _scores_of_classes(t, y, names)
        confusion = metrics.confusion_matrix(t, y.argmax(1), labels=range(len(names)))
        values |= scores | notes | {"classes": names, "confusion": confusion.tolist()}
        right, probability, what = _trusted(t, y, names)
        drawn = calibration(right, probability, title, what)
        tables += ["\ntrue class (rows) and predicted (columns)", _confusion_table(confusion, names)]
    write_whole(picture, drawn)
    values["picture"] = str(picture)
    shown = {name: value for name, value in values.items() if name not in ("classes", "confusion")}
    show(arguments, values, table(shown), *tables)
    return 0


def _scores_of_values(t: np.ndarray, y: np.ndarray) -> dict[str, float]:
    # The square of 1e200 overflows, and that of 1e-200 is 0. To divide by a power of 2 changes no digit.
    unit = float(np.ldexp(1.0, np.frexp(np.abs([t, y]).max())[1] - 1))
    t, y = t / unit, y / unit
    return {
        "r2": float(metrics.r2_score(t, y)) if len(t) > 1 else float("nan"),
        "mean_absolute_error": float(metrics.mean_absolute_error(t, y)) * unit,
        "root_mean_squared_error": float(metrics.root_mean_squared_error(t, y)) * unit,
    }


def _scores_of_classes(t: np.ndarray, y: np.ndarray, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the scores of outputs y: [N, K] for classes t: [N], and why a score has no value."""
    present = np.unique(t)
    scores: dict[str, Any] = {
        "accuracy": float(metrics.accuracy_score(t, y.argmax(1))),
        # The mean of the recalls of the classes that are there: scikit-learn's warns about the others.
        "balanced_accuracy": float(np.mean([(y[t == k].argmax(1) == k).mean() for k in present])),
    }
    probability = y.astype(np.float64)
    probability /= probability.sum(axis=1, keepdims=True)
    scores["log_loss"] = float(metrics.log_loss(t, probability, labels=range(len(names))))
    if len(present) < len(names):
        absent = next(name for k, name in enumerate(names) if k not in present)
        return scores, {"roc_auc": f"undefined: no example is of class {absent}"}
    of_two = len(names) == 2
    auc = metrics.roc_auc_score(t, probability[:, 1] if of_two else probability, multi_class="ovr")
    return scores | {"roc_auc": float(auc)}, {}


def _trusted(t: np.ndarray, y: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, str]:
    """Return what the picture of calibration shows: was it right, its probability, and its name."""
    if len(names) == 2:
        return t == 1, y[:, 1], names[1]
    return t == y.argmax(1), y.max(1), "the predicted class"


def _confusion_table(confusion: np.ndarray, names: Sequence[str]) -> Table:
    printed = Table(box=None)
    printed.add_column("", style="dim")
    for name in names:
        printed.add_column(name, justify="right", overflow="fold")
    for index, (name, row) in enumerate(zip(names, confusion, strict=True)):
        cells = [Text(str(n) if n else ".", "bold" if i == index else "") for i, n in enumerate(row)]
        printed.add_row(name, *cells)
    return printed
