"""Which trials' models a sweep keeps, and how one that was not kept is trained again."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import jax

from jaxmlp._intervals import interval
from jaxmlp.data import fingerprint
from jaxmlp.sweep.block import begin, run_block
from jaxmlp.sweep.folds import Folds
from jaxmlp.sweep.growing import keeps_its_epochs
from jaxmlp.sweep.job import Job, Parts
from jaxmlp.sweep.metrics import by_setting, score
from jaxmlp.sweep.planning import Group
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store, difference, is_cut_short
from jaxmlp.training.history import Trained

__all__ = ["kept_trials", "train_again"]


def kept_trials(rows: Iterable[Row], trials: Mapping[int, Trial], metric: str, keep: int | Literal["all"]) -> set[int]:
    """Return the ended trials whose models are kept: those that `Results.best` can name.

    They are all trials of the best settings, and the best trials, as many of each as `keep` says; but none that halving
    stopped. A setting of which some trials have not ended is kept, because its mean is not known yet.
    """
    ended = {row.trial: row for row in rows if row.status != "paused"}
    if keep == "all" or keep == 0:
        return set(ended) if keep else set()
    scores = {n: score(row, metric) for n, row in ended.items() if not is_cut_short(row, trials[n].config)}
    kept = set(sorted(scores, key=lambda n: (-scores[n], n))[:keep])
    ranks: dict[tuple[int, ...], tuple[bool, float]] = {}
    for setting in by_setting(list(trials.values())):
        counting = tuple(trial.number for trial in setting if trial.number in scores)
        if any(trial.number not in ended for trial in setting):
            kept.update(counting)
        elif counting and all(scores[n] > -float("inf") for n in counting):
            ranks[counting] = len(counting) < len(setting), -interval([scores[n] for n in counting]).mean
    for counting in sorted(ranks, key=ranks.__getitem__)[:keep]:
        kept.update(counting)
    return kept


def train_again(store: Store, trial: Trial, parts: Parts) -> Trained:
    """Train a trial of a sweep again, in lanes as wide as those of the sweep, up to the epoch at which it ended there.

    Raises a ValueError if these are not the data of the sweep.
    """
    for name, part in parts._asdict().items():
        if name != "test" and (store.about(name) is None) != (part is None):
            needed = "was begun with" if part is None else "had no"
            raise ValueError(f"{store.folder}: the sweep {needed} {name} data; pass the same data")
        if part is not None and fingerprint(part) != store.about(name):
            raise ValueError(f"{store.folder}: {difference(name, store.about(name), None)}")
    folds = store.about("folds")
    job = Job.of(
        [trial], parts._replace(test=None), (jax.local_devices()[0],), None if folds is None else Folds.from_json(folds)
    )
    end = next(row.epochs for row in store.rows() if row.trial == trial.number)
    trained = begin([trial])
    for group, until in _rungs(store, trial):
        trained = run_block(job, group, group.blocks[0], trained, min(until, end), lambda _: ())
    return trained[trial.number]


def _rungs(store: Store, trial: Trial) -> Iterable[tuple[Group, int]]:
    """Yield the programs that trained a trial, each as a group of this trial alone, and up to which epoch."""
    found: dict[tuple[int, int], Group] = {}
    for (_, rung), plan in store.plans():
        for group in plan.groups:
            shorter = replace(trial.config, epochs=group.epochs)
            went_on = group.epochs == trial.config.epochs or keeps_its_epochs(shorter, trial.config.epochs)
            if went_on and any(trial.number in chunk for block in group.blocks for chunk in block):
                # The plan of the most trials, which is the last one, if a sweep grew before the trial was run.
                found[group.epochs, rung or group.epochs] = group
    for (_, until), group in sorted(found.items(), key=lambda each: each[0]):
        yield replace(group, n_chunks=1, blocks=(((trial.number,),),)), until
