"""Checks that a store is intact: it must hold only what a sweep writes."""

import math
from collections.abc import Sequence
from typing import Any

from jaxmlp.sweep.metrics import METRICS, REPORTED
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store, damaged, test_digest
from jaxmlp.training.history import STATUSES

__all__ = ["check_outcomes"]

_N = len(Row._fields)
_OUTCOMES = f"""
select {", ".join(f"t.{name}" for name in Row._fields)}, count(c.epoch), min(c.epoch), max(c.epoch), total(c.seconds),
    t.test_digest, {", ".join(f"best.{name}" for name in METRICS)}
from trials t left join curves c on c.trial = t.trial
    left join curves best on best.trial = t.trial and best.epoch = t.best_epoch
group by t.trial
"""
_ORPHANS = "select distinct trial from curves where trial not in (select trial from trials)"


def check_outcomes(store: Store, trials: Sequence[Trial]) -> None:
    """Check every outcome against its trial and its curve: it must repeat the numbers of its best epoch."""
    is_halved = store.about("halving") is not None
    for found in store.read(_OUTCOMES):
        row = Row(*found[:_N])
        if fault := _fault(row, found[_N:], trials, is_halved):
            raise damaged(store.path, f"trial {row.trial!r} has {fault}")
    for (number,) in store.read(_ORPHANS):
        raise damaged(store.path, f"trial {number!r} has a curve but no outcome")


def _fault(row: Row, curve: Sequence[Any], trials: Sequence[Trial], is_halved: bool) -> str | None:
    """Return the fault of an outcome in words, None if there is none."""
    n, first, last, seconds, digest, *at_best = curve
    if not (isinstance(row.trial, int) and 0 <= row.trial < len(trials)):
        return f"an outcome, but the trials are 0 to {len(trials) - 1}"
    config, is_diverged = trials[row.trial].config, row.status == "diverged"
    if row.status not in (*STATUSES[1:], "paused"):
        return f"the unknown status {row.status!r}"
    if not (isinstance(row.epochs, int) and 1 <= row.epochs <= config.epochs):
        return f"{row.epochs!r} epochs of {config.epochs}"
    if (first, last, n) != (1, row.epochs, row.epochs):
        return f"{row.epochs} epochs, but a curve of {n}"
    last_finite = row.epochs - is_diverged  # without patience this is the best epoch
    least = last_finite if config.patience is None else min(1, last_finite)
    if not (isinstance(row.best_epoch, int) and least <= row.best_epoch <= last_finite):
        return f"its best epoch {row.best_epoch!r} of {row.epochs}"
    is_stopped_by_itself = row.status == "stopped" and row.epochs - row.best_epoch == config.patience
    is_cut, waits = row.epochs < config.epochs, row.status == "paused"
    is_right = is_cut == (row.status != "finished") and (waits or is_halved or is_stopped_by_itself or not is_cut)
    if not (is_diverged or is_right):
        return f"status {row.status!r} after {row.epochs} of {config.epochs} epochs"
    is_time = isinstance(row.seconds, float) and 0 <= row.seconds < math.inf
    if not (is_time and math.isclose(row.seconds, seconds, rel_tol=1e-6)):
        return f"{row.seconds!r} seconds, but a curve of {seconds!r}"
    for name, in_curve in zip(METRICS, at_best, strict=True):
        value = getattr(row, name)
        if not (value is None or isinstance(value, float)) or (
            name == "validation_accuracy" and not 0 <= (value or 0) <= 1
        ):
            return f"{name} {value!r}"
        if value != (None if is_diverged else in_curve):
            return f"{name} {value!r}, but {in_curve!r} in its curve"
    is_number = all(value is None or isinstance(value, float) for value in row.test)
    if not is_number or test_digest(row.trial, row.test) != digest:
        return f"the test {dict(zip(REPORTED, row.test, strict=True))}, which is not what was written"
    return None
