"""Growing a sweep: a call with more trials or more epochs goes on in the same folder, and keeps what there is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from jaxmlp.sweep.space import described, plain
from jaxmlp.training.config import TrainConfig, learning_rates

__all__ = ["grown", "keeps_its_epochs"]


def grown(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names and rows of a sweep that goes on with another call, from the descriptions of both.

    Trials keep their numbers, and new ones get the next. A hyperparameter that only one of both spaces names has the
    value of the network or configuration in the other. Raises a ValueError that says what differs if neither space
    holds all trials of the other.

    >>> began = {"names": ["momentum"], "rows": [[0.5]], "config": {"epochs": 3, "learning_rate": 0.1}, "mlp": {}}
    >>> more = began | {"names": ["learning_rate", "momentum"], "rows": [[0.2, 0.5], [0.1, 0.5]]}
    >>> grown(began, more)["rows"]
    [[0.5, 0.1], [0.5, 0.2]]
    """
    names = list(dict.fromkeys((*saved["names"], *given["names"])))
    old, new = _rows(names, saved), _rows(names, given)
    of_new, of_old = set(new), set(old)
    if not (of_old <= of_new or of_new <= of_old):
        number = next(number for number, row in enumerate(old) if row not in of_new)
        raise ValueError(_conflict(names, number, old[number], new))
    return {"names": names, "rows": [list(row) for row in dict.fromkeys((*old, *new))]}


@cache
def keeps_its_epochs(config: TrainConfig, epochs: int) -> bool:
    """Tell whether a trial of more epochs begins with the same ones, as it does unless its schedule is cosine.

    >>> [keeps_its_epochs(TrainConfig(schedule=name, epochs=3), 9) for name in ("constant", "step", "cosine")]
    [True, True, False]
    """
    longer, n_steps = replace(config, epochs=epochs), 4
    return all(
        np.array_equal(learning_rates(config, epoch, n_steps), learning_rates(longer, epoch, n_steps))
        for epoch in range(config.epochs)
    )


def _rows(names: Sequence[str], about: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows with a value for each name."""
    mlp = about["mlp"]
    base = {**about["config"], **mlp, "hidden": mlp.get("sizes", [])[1:-1], "seed": 0}
    rows = [base | dict(zip(about["names"], row, strict=True)) for row in about["rows"]]
    return [plain(tuple(row[name] for name in names)) for row in rows]


def _conflict(names: Sequence[str], number: int, row: Sequence[Any], new: Sequence[Sequence[Any]]) -> str:
    """Say which trial of the sweep a space leaves out, though it has others."""
    advice = "give the values of both, or choose another folder"
    for place, name in enumerate(names):
        values = list(dict.fromkeys(each[place] for each in new))
        if row[place] not in values:
            shown = ", ".join(map(repr, values[:6])) + ", ..." * (len(values) > 6)
            return f"trial {number} of the sweep has {name}={row[place]!r}, but this space has {shown}; {advice}"
    trial = described(number, dict(zip(names, row, strict=True)))
    return f"{trial} of the sweep is not in this space, which has others; {advice}"
