"""`jaxmlp examples`: rank examples by how hard they are, or by their influence, and find likely wrong labels."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxmlp._validation import unknown_name
from jaxmlp.cli.example_output import captions, labels_and_predictions, picture, printed, take, write
from jaxmlp.cli.output import check_out, show, table
from jaxmlp.cli.saved_model import find_model, predict_finite, read_labelled, split_of_training
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.data import Encoding, Part, Source, whole
from jaxmlp.influence import scores, suspects, tracin
from jaxmlp.storage.checkpoint import Model

__all__ = ["run"]

_SCORES = {"loss": "losses", "error_norm": "error_norms", "norm": "norms", "margin": "margins"}
_MOST_PAIRS = 10  # pairs of a label and a wrong prediction in the table
_MOST_IMAGES = 200  # images in the picture
_MOST_OF_KIND = 96  # images in it that helped, and that harmed


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
        return _rank_by_influence(arguments, model, source, encoding, index, out)
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


def _rank_by_influence(
    arguments: Namespace, model: Model, source: Source, encoding: Encoding, index: int, out: Path
) -> int:
    """Rank training examples by TracIn, with the final parameters as its only checkpoint; print and write them."""
    test, train, origin = _sides(model, source, index)
    found = tracin(
        model.mlp,
        [model.params],
        encoding.encode(train.x, train.t, source.class_names),
        encoding.encode(test.x, test.t, source.class_names),
        min(arguments.top, len(train.rows)),
    )
    y = predict_finite(model, source.x, source.name)
    y_test = y if source.x_test is None else predict_finite(model, source.x_test, source.name)
    tested = labels_and_predictions(source, encoding, test, y_test[test.rows])
    kinds = {}
    sides = (("helped", 1, found.helped[0], found.helped_by[0]), ("harmed", -1, found.harmed[0], found.harmed_by[0]))
    for kind, sign, places, influence in sides:
        part = take(train, places[sign * influence > 0])
        rows = labels_and_predictions(source, encoding, part, y[part.rows])
        rows = rows.with_columns(influence=pl.Series(influence[sign * influence > 0]))
        kinds[kind] = rows.with_row_index("rank", offset=1)

    values = tested.to_dicts()[0] | {"training_examples": len(train.rows), "origin": origin}
    frame = pl.concat([rows.select(pl.lit(kind).alias("kind"), pl.all()) for kind, rows in kinds.items()])
    values |= write(out, frame, _picture(source, test, tested, kinds))
    what = f"row {index}" if source.x_test is None else f"row {index} of the test part"
    tables = [printed(rows, f"\n{kind} {what} most") for kind, rows in kinds.items()]
    show(arguments, values | {kind: rows.to_dicts() for kind, rows in kinds.items()}, table(values), *tables)
    return 0


def _picture(source: Source, test: Part, tested: pl.DataFrame, kinds: dict[str, pl.DataFrame]) -> bytes | None:
    shown = {kind: rows.head(_MOST_OF_KIND) for kind, rows in kinds.items()}
    x = np.concatenate([test.x, *(source.x[rows["row"]] for rows in shown.values())])
    lines = captions(tested) + [line for rows in shown.values() for line in captions(rows, "influence")]
    groups = [("test example", 1), *((kind, len(rows)) for kind, rows in shown.items())]
    row = int(test.rows[0])
    return picture(source, x, lines, f"{Path(source.name).stem}: what helped and harmed row {row}", groups)


def _sides(model: Model, source: Source, index: int) -> tuple[Part, Part, str]:
    """Return the test example, the training examples, and the origin of the latter in words."""
    everything = whole(source.x, source.t)
    tests = everything if source.x_test is None else whole(source.x_test, source.t_test)
    if not 0 <= index < len(tests.rows):
        where = source.name if source.x_test is None else f"the test part of {source.name}"
        raise ValueError(f"--influence must be a row of {where}, from 0 to {len(tests.rows) - 1}, got {index}")
    test = take(tests, [index])
    if source.x_test is not None:
        return test, everything, "the training part"
    train, origin = everything, "all other examples"
    if (drawn := split_of_training(model, source)) is not None:
        train, origin = drawn.train, "what the network was trained with"
    train = take(train, train.rows != index)
    if not len(train.rows):
        raise ValueError(f"{source.name}: row {index} is the only example, expected others to rank by their influence")
    return test, train, origin
