"""Is a store whole? A sweep is not read from one that holds what no sweep writes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxmlp.sweep.metrics import METRICS
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store, damaged
from jaxmlp.training.history import STATUSES

__all__ = ["check_outcomes"]

_N = len(Row._fields)
_OUTCOMES = f"""
select {", ".join(f"t.{name}" for name in Row._fields)}, count(c.epoch), min(c.epoch), max(c.epoch), total(c.seconds),
    {", ".join(f"best.{name}" for name in METRICS)}
from trials t left join curves c on c.trial = t.trial
    left join curves best on best.trial = t.trial and best.epoch = t.best_epoch
group by t.trial
"""
_ORPHANS = "select distinct trial from curves where trial not in (select trial from trials)"


class _Curve(NamedTuple):
    """A trial's curve: how many epochs, the first and the last, their seconds, and the metrics of the best."""

    n: int
    first: int | None
    last: int | None
    seconds: float
    at_best: dict[str, float | None]


def check_outcomes(store: Store, trials: Sequence[Trial]) -> None:
    """Check every outcome against its trial and its curve: an outcome repeats the numbers of its best epoch.

    Raises
    ------
    ValueError
        If one does not fit, or a curve has no outcome.
    """
    is_halved = store.about("halving") is not None
    for found in store.read(_OUTCOMES):
        row = Row(*found[:_N])
        n, first, last, seconds, *at_best = found[_N:]
        curve = _Curve(n, first, last, seconds, dict(zip(METRICS, at_best, strict=True)))
        fault = _fault(row, curve, trials, is_halved)
        if fault:
            raise damaged(store.path, f"trial {row.trial!r} has {fault}")
    for (number,) in store.read(_ORPHANS):
        raise damaged(store.path, f"trial {number!r} has a curve but no outcome")


def _fault(row: Row, curve: _Curve, trials: Sequence[Trial], is_halved: bool) -> str | None:
    """Return what is wrong with an outcome, in words."""
    if not (_is_whole(row.trial) and 0 <= row.trial < len(trials)):
        return f"an outcome, but the trials are 0 to {len(trials) - 1}"
    config = trials[row.trial].config
    if row.status not in (*STATUSES[1:], "paused"):
        return f"the unknown status {row.status!r}"
    if not (_is_whole(row.epochs) and 1 <= row.epochs <= config.epochs):
        return f"{row.epochs!r} epochs of {config.epochs}"
    if (curve.first, curve.last, curve.n) != (1, row.epochs, row.epochs):
        return f"{row.epochs} epochs, but a curve of {curve.n}"
    if not _is_best(row, config.patience):
        return f"its best epoch {row.best_epoch!r} of {row.epochs}"
    if row.status in ("stopped", "paused", "finished"):
        is_stopped_by_itself = row.status == "stopped" and row.epochs - row.best_epoch == config.patience
        is_cut = row.epochs < config.epochs
        if is_cut != (row.status != "finished") or (is_cut and not (is_halved or is_stopped_by_itself)):
            return f"status {row.status!r} after {row.epochs} of {config.epochs} epochs"
    if not (_is_number(row.seconds) and row.seconds >= 0 and math.isclose(row.seconds, curve.seconds, rel_tol=1e-6)):
        return f"{row.seconds!r} seconds, but a curve of {curve.seconds!r}"
    return _metric_fault(row, curve)


def _is_best(row: Row, patience: int | None) -> bool:
    """Tell whether the best epoch can be that: without a patience it is the last finite one."""
    last = row.epochs - (row.status == "diverged")
    if not _is_whole(row.best_epoch) or (patience is None and row.best_epoch != last):
        return False
    return min(1, last) <= row.best_epoch <= last


def _metric_fault(row: Row, curve: _Curve) -> str | None:
    for name, in_curve in curve.at_best.items():
        value = getattr(row, name)
        if not (value is None or isinstance(value, float)):
            return f"{name} {value!r}"
        if value != (None if row.status == "diverged" else in_curve):
            return f"{name} {value!r}, but {in_curve!r} in its curve"
    accuracy = row.test_accuracy
    return f"test_accuracy {accuracy!r}" if accuracy is not None and not 0 <= accuracy <= 1 else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
