"""`jaxmlp examples`: rank examples by how hard they are, or by their influence, and find likely wrong labels."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from jaxmlp._validation import unknown_name
from jaxmlp.cli.output import check_out, grid, show, table
from jaxmlp.cli.saved_model import find_model, note_surprises, predict_finite, read_labelled, split_of_training
from jaxmlp.cli.startup import keep_compiled_programs
from jaxmlp.data import Encoding, Part, Source, whole
from jaxmlp.influence import network_influences, network_scores, suspects
from jaxmlp.plots.images import contact_sheet
from jaxmlp.storage.checkpoint import Model
from jaxmlp.storage.files import write_whole

__all__ = ["run"]

_SCORES = {"loss": "losses", "error_norm": "error_norms", "norm": "norms", "margin": "margins"}
_MOST_PAIRS = 10  # pairs of a label and a wrong prediction in the table
_MOST_IMAGES = 200  # images in the picture
_MOST_OF_KIND = 96  # images of each kind, helped and harmed
_NAME_LENGTH = 8  # characters of a class name in a caption


def run(arguments: Namespace) -> int:
    """Rank examples by a score, or with --influence by their influence on one test example."""
    index = getattr(arguments, "influence", None)
    by = getattr(arguments, "by", "loss")
    if by not in _SCORES:
        raise ValueError(unknown_name("score", by, _SCORES))
    if index is not None and "by" in arguments:
        raise ValueError(f"--influence {index} ranks by influence, --by {by} by a score: leave one out")
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
    note_surprises(arguments, encoding, source, part.x)
    order = np.argsort(frame[by] if by == "margin" else -frame[by], kind="stable")
    frame = frame[order].with_row_index("rank", offset=1)
    hardest, wrong = frame.head(min(arguments.top, len(frame))), None if encoding.class_names is None else _wrong(frame)
    what = f"by {by.replace('_', ' ')}"

    shown = hardest.head(_MOST_IMAGES)
    title = f"{Path(source.name).stem}, {origin}: hardest {len(shown)} {what}"
    drawn = _picture(source, part.x[shown["row"]], _captions(shown, by), title)
    values: dict[str, Any] = {"examples": len(frame), "origin": origin}
    if wrong is not None:
        values["wrong"] = int(wrong["count"].sum())
    if "suspected" in frame.columns:
        values["suspected"] = int(frame["suspected"].sum())
    values |= {"ranked_by": by} | _write(out, frame, drawn)

    more = {"hardest": hardest.to_dicts()}
    others = [name for name in _SCORES if name != by]
    tables = [_printed(hardest, f"\nhardest {len(hardest)} {what}", optional=[*others, "probability", "suspected"])]
    if wrong is not None:
        more["most_often_wrong"] = wrong.head(_MOST_PAIRS).to_dicts()
        tables += [_printed(wrong.head(_MOST_PAIRS), "\nmost often wrong")] if len(wrong) else []
    show(arguments, values | more, table(values), *tables)
    return 0


def _scored(model: Model, source: Source, encoding: Encoding, part: Part) -> pl.DataFrame:
    """Return row, label, prediction and, if they apply, probability, scores and suspected for each example."""
    data = encoding.encode(part.x, part.t, source.class_names)
    y = predict_finite(model, part.x, source.name)
    found = network_scores(model.networks, data)._asdict()
    columns = {name: found[field] for name, field in _SCORES.items() if found[field] is not None}
    if encoding.class_names is not None and model.networks[0].mlp.output in ("softmax", "sigmoid"):
        # Only these outputs are probabilities.
        labels = np.asarray(data.t)
        columns = {"probability": y[np.arange(len(y)), labels]} | columns | {"suspected": suspects(y, labels)}
    frame = _labels_and_predictions(source, encoding, part, y)
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
    found = network_influences(
        model.networks,
        encoding.encode(train.x, train.t, source.class_names),
        encoding.encode(test.x, test.t, source.class_names),
        min(arguments.top, len(train.rows)),
    )
    y = predict_finite(model, source.x, source.name)
    y_test = y if source.x_test is None else predict_finite(model, source.x_test, source.name)
    tested = _labels_and_predictions(source, encoding, test, y_test[test.rows])
    kinds = {}
    sides = (("helped", 1, found.helped[0], found.helped_by[0]), ("harmed", -1, found.harmed[0], found.harmed_by[0]))
    for kind, sign, places, influence in sides:
        part = _take(train, places[sign * influence > 0])
        rows = _labels_and_predictions(source, encoding, part, y[part.rows])
        rows = rows.with_columns(influence=pl.Series(influence[sign * influence > 0]))
        kinds[kind] = rows.with_row_index("rank", offset=1)

    values = tested.to_dicts()[0] | {"training_examples": len(train.rows), "origin": origin}
    frame = pl.concat([rows.select(pl.lit(kind).alias("kind"), pl.all()) for kind, rows in kinds.items()])
    values |= _write(out, frame, _influence_picture(source, test, tested, kinds))
    what = f"row {index}" if source.x_test is None else f"row {index} of the test part"
    tables = [_printed(rows, f"\n{kind} {what} most") for kind, rows in kinds.items()]
    show(arguments, values | {kind: rows.to_dicts() for kind, rows in kinds.items()}, table(values), *tables)
    return 0


def _influence_picture(
    source: Source, test: Part, tested: pl.DataFrame, kinds: dict[str, pl.DataFrame]
) -> bytes | None:
    shown = {kind: rows.head(_MOST_OF_KIND) for kind, rows in kinds.items()}
    x = np.concatenate([test.x, *(source.x[rows["row"]] for rows in shown.values())])
    lines = _captions(tested) + [line for rows in shown.values() for line in _captions(rows, "influence")]
    groups = [("test example", 1), *((kind, len(rows)) for kind, rows in shown.items())]
    row = int(test.rows[0])
    return _picture(source, x, lines, f"{Path(source.name).stem}: what helped and harmed row {row}", groups)


def _sides(model: Model, source: Source, index: int) -> tuple[Part, Part, str]:
    """Return the test example, the training examples, and the origin of the latter in words."""
    everything = whole(source.x, source.t)
    tests = everything if source.x_test is None else whole(source.x_test, source.t_test)
    if not 0 <= index < len(tests.rows):
        where = source.name if source.x_test is None else f"the test part of {source.name}"
        raise ValueError(f"--influence must be a row of {where}, from 0 to {len(tests.rows) - 1}, got {index}")
    test = _take(tests, [index])
    drawn = split_of_training(model, source)
    train, origin = everything, "the training part"
    if drawn is not None:
        train, origin = drawn.train, "the examples of its training"
    elif source.x_test is None:
        origin = "all other examples"
    if source.x_test is not None:
        return test, train, origin
    train = _take(train, train.rows != index)
    if not len(train.rows):
        raise ValueError(f"{source.name}: row {index} is the only example, expected others to rank by their influence")
    return test, train, origin


def _write(out: Path, frame: pl.DataFrame, drawn: bytes | None) -> dict[str, str]:
    """Write the table as CSV and the picture, if there is one, beside it; return their paths."""
    write_whole(out, frame.write_csv().encode())
    if drawn is None:
        return {"out": str(out)}
    write_whole(out.with_suffix(".png"), drawn)
    return {"out": str(out), "picture": str(out.with_suffix(".png"))}


def _take(part: Part, which: Any) -> Part:
    """Return the examples of a part that positions or a mask select."""
    places = np.arange(len(part.rows))[which]  # a frame takes no mask
    return Part(*(rows[places] for rows in part))


def _labels_and_predictions(source: Source, encoding: Encoding, part: Part, y: np.ndarray) -> pl.DataFrame:
    """Return row, label and prediction of each example; K real values have columns label_0, label_1, ..."""
    rows, classes = pl.Series("row", part.rows), encoding.class_names
    if classes is not None and source.class_names is not None:
        label, prediction = [source.class_names[t] for t in part.t], [classes[k] for k in y.argmax(1)]
        return pl.DataFrame(
            [rows, pl.Series("label", label, pl.String), pl.Series("prediction", prediction, pl.String)]
        )
    names = [""] if y.shape[1] == 1 else [f"_{k}" for k in range(y.shape[1])]
    sides = {"label": part.t.reshape(y.shape), "prediction": y}
    columns = [pl.Series(side + name, array[:, k]) for side, array in sides.items() for k, name in enumerate(names)]
    return pl.DataFrame([rows, *columns])


def _printed(frame: pl.DataFrame, title: str, optional: Sequence[str] = ()) -> Table:
    """Return a table of all columns; in a narrow terminal, drop optional columns in turn until it fits."""
    wide, room = Console(width=1000, markup=False), Console().width
    for name in optional if sys.stdout.isatty() else ():
        if wide.measure(_table(frame, title)).maximum > room:
            frame = frame.drop(name, strict=False)
    return _table(frame, title)


def _table(frame: pl.DataFrame, title: str) -> Table:
    rows = grid({name.replace("_", " "): kind.is_numeric() for name, kind in frame.schema.items()}, title)
    for row in frame.iter_rows(named=True):
        rows.add_row(*(_cell(name, value) for name, value in row.items()))
    return rows


def _cell(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else ""
        case float():
            return _number(value, 6 if name.startswith(("label", "prediction")) else 4)
    return str(value)


def _number(value: float, digits: int) -> str:
    return f"{value:#.{digits}g}".rstrip(".")  # keeps trailing zeros, so that columns line up


def _picture(
    source: Source, x: np.ndarray, lines: list[str], title: str, groups: Sequence[tuple[str, int]] = ()
) -> bytes | None:
    """Return a PNG file of images x: [K, n] with captions; None if the source has no images."""
    shape = source.image_shape
    return None if shape is None else contact_sheet(x.reshape(-1, *shape), lines, title, groups=groups)


def _captions(frame: pl.DataFrame, by: str | None = None) -> list[str]:
    """Return a caption for each example: label → prediction, then its row and its value in column `by`."""
    texts = []
    for row in frame.iter_rows(named=True):
        sides = [[value for name, value in row.items() if name.startswith(side)] for side in ("label", "prediction")]
        label, prediction = (", ".join(map(_brief, values)) for values in sides)
        score = "" if by is None else f", {_number(row[by], 3)}"
        texts.append(f"{label} → {prediction}\nrow {row['row']}{score}")
    return texts


def _brief(value: str | float) -> str:
    if isinstance(value, float):
        return _number(value, 4)
    name = " ".join(value.split())
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
