"""How far the sweep in a folder is, whoever runs it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.metrics import Setting
from jaxmlp.sweep.progress import epochs_left
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Store

__all__ = ["Status", "status_of"]


class Status(NamedTuple):
    """How far a sweep is.

    Attributes
    ----------
    total, finished, stopped, diverged
        The numbers of all trials, and of those that have ended, by how they ended.
    running
        How many trials other processes train now; None where the system does not say, or if this process runs the
        sweep.
    seconds, seconds_left
        The time that the trials took so far, and an estimate of the time that one process needs for the rest; None
        before the first block has been saved. With halving it is an upper bound.
    best
        The best setting so far; None before the first.
    """

    total: int
    finished: int
    stopped: int
    diverged: int
    running: int | None
    seconds: float
    seconds_left: float | None
    best: Setting | None

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain JSON values."""
        return self._asdict() | {"best": self.best and self.best.to_json()}


def status_of(store: Store, trials: Sequence[Trial], best: Setting | None) -> Status:
    """Return the status of the sweep in a store."""
    rows = store.rows()
    ended = {row.trial for row in rows if row.status != "paused"}
    finished, stopped, diverged = (
        sum(row.status == status for row in rows) for status in ("finished", "stopped", "diverged")
    )
    halving = store.about("halving")
    left = epochs_left(
        {trial.number: trial for trial in trials},
        Halving(**halving) if halving else None,
        {row.trial: row.epochs for row in rows},
        ended,
    )
    seconds, epochs = sum(row.seconds for row in rows), sum(row.epochs for row in rows)
    plans = store.plans()
    blocks = [block for group in plans[-1][1].groups for block in group.blocks] if plans else []
    working = store.claimed([block[0][0] for block in blocks])
    running = None
    if working is not None:
        running = len({n for block in blocks if block[0][0] in working for chunk in block for n in chunk} - ended)
    seconds_left = seconds / epochs * left if epochs else None
    return Status(len(trials), finished, stopped, diverged, running, seconds, seconds_left, best)
