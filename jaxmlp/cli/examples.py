"""`jaxmlp examples`: rank the examples of a data set by how hard they are, and find likely wrong labels."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxmlp._validation import unknown_name
from jaxmlp.cli.example_influence import rank_by_influence
from jaxmlp.cli.example_output import captions, labels_and_predictions, picture, printed, write
from jaxmlp.cli.output import check_out, show, table
from jaxmlp.cli.saved_model import find_model, predict_finite, read_labelled
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.data import Encoding, Part, Source, whole
from jaxmlp.influence import scores, suspects
from jaxmlp.storage.checkpoint import Model

__all__ = ["run"]

_SCORES = {"loss": "losses", "error_norm": "error_norms", "norm": "norms", "margin": "margins"}
_MOST_PAIRS = 10  # pairs of a label and a wrong prediction in the table
_MOST_IMAGES = 200  # images in the picture


def run(arguments: Namespace) -> int:
    """Rank examples by a score, or with --influence by their influence on one test example."""
    index = getattr(arguments, "influence", None)
    by = getattr(arguments, "by", "loss")
    if by not in _SCORES:
        raise ValueError(unknown_name("score", by, _SCORES))
    if index is not None and "by" in arguments:
        raise ValueError(f"--influence {index} ranks by influence, --by {by} by a score: leave one of them out")
    if arguments.top < 1:
        raise ValueError(f"--top must be 1 or larger, got {arguments.top}")
    out = Path(getattr(arguments, "out", "examples.csv" if index is None else "influence.csv"))
    check_out(out, (arguments.source, arguments.model), with_picture=True)
    keep_compiled_programs(arguments)
    model = find_model(arguments.model)
    source, encoding = read_labelled(arguments, model, arguments.source)
    if arguments.test and source.x_test is None:
        raise ValueError(f"{source.name} has no test part: leave --test out")
    if index is not None:
        return rank_by_influence(arguments, model, source, encoding, index, out)
    if by == "margin" and encoding.class_names is None:
        raise ValueError(f"--by margin requires classes, but the targets of {source.name} are real values")
    return _rank(arguments, model, source, encoding, by, out)


def _rank(arguments: Namespace, model: Model, source: Source, encoding: Encoding, by: str, out: Path) -> int:
    part, origin = whole(source.x, source.t), "all examples" if source.x_test is None else "the training part"
    if arguments.test:
        part, origin = whole(source.x_test, source.t_test), "the test part"
    frame = _scored(model, source, encoding, part)
    order = np.argsort(frame[by] if by == "margin" else -frame[by], kind="stable")
    frame = frame[order].with_row_index("rank", offset=1)
    hardest, wrong = frame.head(min(arguments.top, len(frame))), None if encoding.class_names is None else _wrong(frame)
    what = f"by {by.replace('_', ' ')}"

    shown = hardest.head(_MOST_IMAGES)
    title = f"{Path(source.name).stem}, {origin}: hardest {len(shown)} {what}"
    drawn = picture(source, part.x[shown["row"]], captions(shown, by), title)
    values: dict[str, Any] = {"examples": len(frame), "origin": origin}
    if wrong is not None:
        values["wrong"] = int(wrong["count"].sum())
    if "suspected" in frame.columns:
        values["suspected"] = int(frame["suspected"].sum())
    values |= {"ranked_by": by} | write(out, frame, drawn)

    more = {"hardest": hardest.to_dicts()}
    others = [name for name in _SCORES if name != by]
    tables = [printed(hardest, f"\nhardest {len(hardest)} {what}", optional=[*others, "probability", "suspected"])]
    if wrong is not None:
        more["most_often_wrong"] = wrong.head(_MOST_PAIRS).to_dicts()
        tables += [printed(wrong.head(_MOST_PAIRS), "\nmost often wrong")] if len(wrong) else []
    show(arguments, values | more, table(values), *tables)
    return 0


def _scored(model: Model, source: Source, encoding: Encoding, part: Part) -> pl.DataFrame:
    """Return row, label, prediction, and of probability, scores and suspected those that apply, for each example."""
    data = encoding.encode(part.x, part.t, source.class_names)
    y = predict_finite(model, part.x, source.name)
    found = scores(model.mlp, model.params, data)._asdict()
    columns = {name: found[field] for name, field in _SCORES.items() if found[field] is not None}
    if encoding.class_names is not None and model.mlp.output in ("softmax", "sigmoid"):
        # Only these outputs are probabilities.
        labels = np.asarray(data.t)
        columns = {"probability": y[np.arange(len(y)), labels]} | columns | {"suspected": suspects(y, labels)}
    frame = labels_and_predictions(source, encoding, part, y)
    return frame.with_columns(**{name: pl.Series(array) for name, array in columns.items()})


def _wrong(frame: pl.DataFrame) -> pl.DataFrame:
    """Count the pairs of a label and a wrong prediction, most frequent first, with their share of the label."""
    pairs = frame.group_by("label", "prediction").agg(count=pl.len())
    pairs = pairs.with_columns(share_of_label=pl.col("count") / pl.col("count").sum().over("label"))
    wrong = pairs.filter(pl.col("label") != pl.col("prediction"))
    return wrong.sort("count", "label", "prediction", descending=[True, False, False])
