"""Fits of the benchmark of tables: each in a fresh process, kept on disk so that a run continues where it ended."""

import json
import warnings
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeAlias

from experiments._report import RESULTS
from experiments._timing import Clock, in_fresh_process
from experiments.benchmarks._benchmark import is_disturbed, reason
from experiments.benchmarks._tables import TABLES, load, split
from experiments.benchmarks.peers.tables import PEERS
from jaxmlp.storage.files import to_json, write_whole

__all__ = ["QUIET", "SCORED", "Fit", "Fits", "fit_anew", "keep", "kept"]

FOLDER = Path("runs") / "tables"  # ignored by git
SCORED, QUIET = "fit", "quiet"  # kinds: fits for their scores, and fits in turn on a quiet machine for their seconds


class Fit(NamedTuple):
    """A learner on a split of a table.

    Attributes
    ----------
    score
        The accuracy or R2 on the split's test rows; None if the fit failed.
    seconds
        From the table in memory to the fitted model: preprocessing and compilation count, imports do not.
    cores_of_others
        How many cores other processes kept busy meanwhile.
    failure
        Why there is no score.
    """

    table: str
    learner: str
    split: int
    score: float | None
    seconds: float | None
    cores_of_others: float
    failure: str | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether its seconds were measured without others on the machine."""
        return self.seconds is not None and not is_disturbed(self.cores_of_others)


Fits: TypeAlias = dict[tuple[str, str, int], Fit]  # by table, learner and split


def score(table: str, learner: str, seed: int) -> tuple[float, float]:
    """Return a learner's test score on a split, and the seconds of its fit."""
    from sklearn.metrics import accuracy_score, r2_score

    peer, about, frame = PEERS[learner], TABLES[table], load(table)
    seen, unseen = split(frame, about, seed)
    test = frame[unseen]
    for module in peer.modules:
        import_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # learners warn of their own defaults
        start = perf_counter()
        fitted = peer.fit(frame, seen, about, seed)
        seconds = perf_counter() - start
    t, y = test[about.target].to_numpy(), fitted.predict(test.drop(about.target))
    value = r2_score(t, y) if about.task == "values" else accuracy_score(t.astype(str), y.astype(str))
    if fitted.reported is not None and abs(fitted.reported - value) > 1e-3:
        raise ValueError(f"{fitted.reported} is reported but {value} found: it was tested on other rows")
    return float(value), seconds


def fit_anew(table: str, learner: str, seed: int, limit: float) -> Fit:
    """Fit in a fresh process, which has nothing compiled yet and is ended after `limit` seconds."""
    clock = Clock()
    try:
        value, seconds = in_fresh_process(score, table, learner, seed, limit=limit)
    except Exception as error:  # the others still have their race
        return Fit(table, learner, seed, None, None, round(clock.cores_of_others(), 2), reason(error))
    return Fit(table, learner, seed, round(value, 5), round(seconds, 3), round(clock.cores_of_others(), 2))


def kept(kind: str = SCORED) -> Fits:
    """Return the fits of the results, and in place of them those that this folder's runs kept since."""
    results = RESULTS / "tables.json"
    found = json.loads(results.read_text())[kind] if results.exists() else []
    found += [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{kind}-*.json"))]
    fits = [Fit(**values) for values in found]
    return {(fit.table, fit.learner, fit.split): fit for fit in fits}


def keep(fit: Fit, kind: str = SCORED) -> None:
    """Write a fit to its file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{kind}-{fit.table}-{fit.learner}-{fit.split}.json"
    write_whole(path, (to_json(fit._asdict()) + "\n").encode())
