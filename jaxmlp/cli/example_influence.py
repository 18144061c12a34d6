"""`jaxmlp examples --influence`: rank training examples by how they helped or harmed a network at one test example."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl

from jaxmlp.cli.example_output import captions, labels_and_predictions, picture, printed, take, write
from jaxmlp.cli.output import show, table
from jaxmlp.cli.saved_model import predict_finite, split_of_training
from jaxmlp.data import Encoding, Part, Source, whole
from jaxmlp.influence import Influences, tracin
from jaxmlp.storage.checkpoint import Model

__all__ = ["rank_by_influence"]

_MOST_IMAGES = 96  # images of each kind in the picture


def rank_by_influence(
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
    for kind, (places, influence) in _by_kind(found).items():
        part = take(train, places)
        rows = labels_and_predictions(source, encoding, part, y[part.rows]).with_columns(influence=pl.Series(influence))
        kinds[kind] = rows.with_row_index("rank", offset=1)

    values = tested.to_dicts()[0] | {"training_examples": len(train.rows), "origin": origin}
    frame = pl.concat([rows.select(pl.lit(kind).alias("kind"), pl.all()) for kind, rows in kinds.items()])
    values |= write(out, frame, _picture(source, test, tested, kinds))
    what = f"row {index}" if source.x_test is None else f"row {index} of the test part"
    tables = [printed(rows, f"\n{kind} {what} most") for kind, rows in kinds.items()]
    show(arguments, values | {kind: rows.to_dicts() for kind, rows in kinds.items()}, table(values), *tables)
    return 0


def _picture(source: Source, test: Part, tested: pl.DataFrame, kinds: dict[str, pl.DataFrame]) -> bytes | None:
    shown = {kind: rows.head(_MOST_IMAGES) for kind, rows in kinds.items()}
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


def _by_kind(found: Influences) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return positions and influences of the examples that helped and of those that harmed."""
    helps, harms = found.helped_by[0] > 0, found.harmed_by[0] < 0
    return {
        "helped": (found.helped[0][helps], found.helped_by[0][helps]),
        "harmed": (found.harmed[0][harms], found.harmed_by[0][harms]),
    }
