"""The results of a sweep as data frames: a row for each trial, for each setting, or for each epoch."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jaxmlp._extras import optional
from jaxmlp.sweep.metrics import METRICS, REPORTED, Setting, on_test
from jaxmlp.sweep.store import Row, is_cut_short
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import Epoch

if TYPE_CHECKING:
    import polars

__all__ = ["column", "curves_table", "settings_table", "stopped_by", "trials_table"]

_TYPES = {str: "String", bool: "Boolean", int: "Int64", float: "Float64"}


def trials_table(rows: Sequence[Row], values: "dict[str, Any]", configs: Iterable[TrainConfig]) -> "polars.DataFrame":
    """Return a row for each outcome, with columns of hyperparameters and each trial's configuration beside them."""
    pl = optional("polars", "sweep")
    columns: dict[str, Any] = {"trial": pl.Series([row.trial for row in rows], dtype=pl.Int64)}
    columns |= {name: column(of_name) for name, of_name in values.items()}
    for name in (*METRICS, *REPORTED):
        scores = [getattr(row, name) for row in rows]
        if name == "train_loss" or any(score is not None for score in scores):
            columns[name] = pl.Series(scores, dtype=pl.Float64)
    columns["epochs"] = pl.Series([row.epochs for row in rows], dtype=pl.Int64)
    columns["best_epoch"] = pl.Series([row.best_epoch or None for row in rows], dtype=pl.Int64)
    columns["status"] = pl.Series([row.status for row in rows], dtype=pl.String)
    reasons = [stopped_by(row, config) for row, config in zip(rows, configs, strict=True)]
    columns["stopped_by"] = pl.Series(reasons, dtype=pl.String)
    columns["seconds"] = pl.Series([row.seconds for row in rows], dtype=pl.Float64)
    return pl.DataFrame(columns)


def settings_table(found: Sequence[Setting], values: "dict[str, Any]", metric: str) -> "polars.DataFrame":
    """Return a row for each setting, with columns of hyperparameters."""
    pl = optional("polars", "sweep")
    columns: dict[str, Any] = {name: column(of_name) for name, of_name in values.items()}
    means: list[tuple[str, Sequence[Any]]] = [(metric, found)]
    if any(each.test for each in found):
        means.append((on_test(metric), [each.test for each in found]))
    for name, intervals in means:
        prefix = "" if name == metric else "test_"
        for label, end in ((name, "mean"), (f"{prefix}low", "low"), (f"{prefix}high", "high")):
            ends = [None if each is None else _or_null(getattr(each, end)) for each in intervals]
            columns[label] = pl.Series(ends, dtype=pl.Float64)
    columns["n"] = pl.Series([len(each.trials) for each in found], dtype=pl.Int64)
    columns["n_asked"] = pl.Series([each.n_asked for each in found], dtype=pl.Int64)
    columns["diverged"] = pl.Series([each.diverged for each in found], dtype=pl.Int64)
    columns["best_trial"] = pl.Series([next(iter(each.trials), None) for each in found], dtype=pl.Int64)
    return pl.DataFrame(columns)


def curves_table(epochs: Sequence[tuple[int, Epoch]]) -> "polars.DataFrame":
    """Return a row for each trial's epoch, with the columns of `jaxmlp.Epoch` that some epoch has."""
    pl = optional("polars", "sweep")
    columns: dict[str, Any] = {"trial": pl.Series([number for number, _ in epochs], dtype=pl.Int64)}
    for name in Epoch._fields:
        values = [getattr(epoch, name) for _, epoch in epochs]
        if name not in Epoch._field_defaults or any(value is not None for value in values):
            columns[name] = pl.Series(values, dtype=pl.Int64 if name == "epoch" else pl.Float64)
    return pl.DataFrame(columns)


def stopped_by(row: Row, config: TrainConfig) -> str | None:
    """Return what ended a trial before its last epoch: "patience", "halving", "divergence", or None."""
    if row.status == "diverged":
        return "divergence"
    if row.status != "stopped":
        return None
    return "halving" if is_cut_short(row, config) else "patience"


def column(values: Sequence[Any]) -> Any:
    """Return a hyperparameter's values as a column; text if some value has one entry for each layer.

    The text is as it is typed in the terminal: `64:64` for (64, 64), `none` for (). None is null.

    >>> column([(64, 64), (), None]).to_list()
    ['64:64', 'none', None]
    """
    pl = optional("polars", "sweep")
    values = [":".join(map(str, value)) or "none" if isinstance(value, tuple) else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    return pl.Series(values, dtype=getattr(pl, _TYPES[kinds.pop()]) if len(kinds) == 1 else None, strict=False)


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
