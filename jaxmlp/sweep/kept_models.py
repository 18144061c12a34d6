"""What a sweep keeps of its trials: every outcome, and the parameters of the best."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from jaxmlp.sweep.metrics import score
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store
from jaxmlp.training.history import Trained

__all__ = ["Kept", "keep_block", "stop", "tidy"]


class Kept(NamedTuple):
    """Where and what to keep.

    Attributes
    ----------
    store
        Where.
    trials
        The sweep's trials by number.
    metric
        What they are ranked by.
    number
        How many of the best trials' parameters to keep, or "all".
    """

    store: Store
    trials: Mapping[int, Trial]
    metric: str
    number: int | Literal["all"]

    def best(self, scores: Mapping[int, float]) -> set[int]:
        """Return the numbers of the trials whose parameters to keep."""
        ranked = sorted(scores, key=lambda number: (-scores[number], number))
        return set(ranked if self.number == "all" else ranked[: self.number])

    def scores(self, rows: Sequence[Row]) -> dict[int, float]:
        """Return the score of each row's trial."""
        return {row.trial: score(row, self.metric) for row in rows}


def keep_block(kept: Kept, trained: Mapping[int, Trained]) -> None:
    """Keep a block that was run: first the files, then all outcomes at once, so that a kill leaves no outcome alone."""
    for number, each in trained.items():
        if each.status == "running":
            kept.store.pause(number, each)
    ended = {number: each for number, each in trained.items() if each.status != "running"}
    scores = {number: _score(each, kept.metric) for number, each in ended.items()}
    for number in kept.best(scores | kept.scores(kept.store.rows())) & set(ended):
        kept.store.save_model(kept.trials[number], ended[number].params)
    kept.store.commit(trained)
    tidy(kept)


def stop(kept: Kept, numbers: Sequence[int]) -> None:
    """End paused trials; a few of them may still be among the best."""
    rows = kept.store.rows()
    waiting = {row.trial for row in rows if row.status == "paused"} & set(numbers)
    for number in waiting & kept.best(kept.scores(rows)):
        trial = kept.trials[number]
        with suppress(FileNotFoundError):  # another process has just stopped it, and kept the same
            kept.store.save_model(trial, kept.store.resume(number, trial.mlp).params)
    kept.store.stop(waiting)
    tidy(kept)


def tidy(kept: Kept) -> None:
    """Remove the parameters of ended trials that are not among the best, and what was kept to go on with them."""
    rows = kept.store.rows()  # once: another process may add to them at any time
    ended = {row.trial for row in rows if row.status != "paused"}
    kept.store.remove(models=ended - kept.best(kept.scores(rows)), paused=ended)


def _score(trained: Trained, metric: str) -> float:
    if trained.status == "diverged":
        return -float("inf")
    return score(trained.history[trained.best_epoch - 1], metric)
