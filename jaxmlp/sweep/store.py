"""The store of a sweep: an SQLite file with every finished block and its curves, and models in safetensors beside it.

A block is written in one transaction, so a process killed at any moment leaves only whole blocks. Several processes
may work on one store: each takes blocks that no other living process has taken.
"""

import hashlib
import json
import math
import os
import re
import sqlite3
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxmlp.data import Encoding
from jaxmlp.network import MLP, Network, Params
from jaxmlp.storage.checkpoint import Model, load, load_training, save, save_training
from jaxmlp.storage.files import to_json
from jaxmlp.sweep.growing import grown, keeps_its_epochs
from jaxmlp.sweep.metrics import METRICS, REPORTED, counted
from jaxmlp.sweep.planning import Plan
from jaxmlp.sweep.space import Space, Trial, plain, trials
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import Epoch, Evaluation, Trained

try:
    import fcntl
except ImportError:  # on Windows, where two processes may run the same block: slower, but not wrong
    fcntl = None  # type: ignore[assignment]

__all__ = ["FILE", "Row", "Store", "damaged", "difference", "is_cut_short", "outcome", "test_digest"]

FILE = "sweep.sqlite"
_FORMAT = 6
_PATIENCE = 60.0  # seconds to wait for another process's transaction, which takes a part of one
# The sweeps that threads of this process run, each with its process: a fork inherits the set, but runs none of them.
_RUNNING: set[tuple[int, str]] = set()
_RUNNING_LOCK = threading.Lock()
_PLAN = "plan of {} trials, {} epochs, rung {}"
_CURVES = ", ".join(name for name in Epoch._fields if name != "epoch")
_TABLES = (
    "sweep (name text primary key, value text not null, digest text not null)",
    "trials (trial integer primary key, status text not null, epochs integer not null, best_epoch integer not null, "
    f"seconds real not null, {', '.join(f'{name} real' for name in (*METRICS, *REPORTED))}, "
    "test_digest text not null)",
    f"curves (trial integer, epoch integer, {_CURVES}, primary key (trial, epoch)) without rowid",
)


class Row(NamedTuple):
    """A trial's outcome, with the metrics of the epoch whose parameters are kept, and their test.

    `status` is "finished", "stopped", "diverged", or "paused" between the rungs of a halving. A metric is None where it
    does not apply, and where the trial diverged; a test is None before the trial has ended.
    """

    trial: int
    status: str
    epochs: int
    best_epoch: int
    seconds: float
    train_loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    validation_r2: float | None
    test_loss: float | None = None
    test_accuracy: float | None = None
    test_r2: float | None = None

    @property
    def test(self) -> tuple[float | None, ...]:
        """Return the columns of the test."""
        return self.test_loss, self.test_accuracy, self.test_r2


class _Connection(sqlite3.Connection):
    """A connection that is closed when nobody holds it any more, whatever interrupted its owner."""

    def __del__(self) -> None:
        """Close it: Python warns of open ones."""
        with suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


class Store:
    """A sweep's results, in a folder or, without one, in memory."""

    def __init__(self, folder: Path | None) -> None:
        """Connect to the file."""
        self.folder = folder
        self.path = (folder or Path()) / FILE
        self._models: dict[int, Model] = {}
        self._paused: dict[int, Trained] = {}
        self._locks: IO[bytes] | None = None
        # Another process may add trials to the sweep: they have larger numbers, and are none of this one's business.
        self._n_trials: int | None = None
        self._config: str | None = None
        self._key = os.getpid(), os.path.realpath(self.path)
        name = str(self.path) if folder is not None else ":memory:"
        # One thread after another may use it; a second process waits for the first one's transaction.
        with self._named_errors():
            options: dict[str, Any] = {"isolation_level": None, "check_same_thread": False, "factory": _Connection}
            self._file = sqlite3.connect(name, timeout=_PATIENCE, **options)

    @classmethod
    def create(cls, folder: Path | None, about: Mapping[str, Any]) -> "Store":
        """Open or create a store; `about` is all that identifies its sweep, as JSON values. See `growing.grown`."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder)
        about = json.loads(to_json({"format": _FORMAT, **about}))
        with store._named_errors(), store._transaction():
            for table in _TABLES:
                store._file.execute(f"create table if not exists {table}")
            is_new = not store.read("select 1 from sweep union select 1 from trials limit 1")
            if is_new:
                store._insert(about)
            elif "rows" in about:
                store._grow(about)
        store._n_trials = len(store.about("rows")) if "rows" in about else None
        store._config = store._digest_of("config")
        return store

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open an existing store."""
        if not (folder / FILE).is_file():
            raise FileNotFoundError(f"{folder}: there is no {FILE}, expected the folder of a sweep")
        store = cls(folder)
        try:
            store.read("select name, value, digest from sweep limit 1")
        except ValueError as error:
            raise ValueError(f"{folder / FILE}: not the store of a sweep: {error.__cause__ or error}") from error
        if (known := store.about("format")) != _FORMAT:
            raise ValueError(f"{folder}: {difference('format', known, _FORMAT)}")
        return store

    def about(self, name: str) -> Any:
        """Return one of the values that identify the sweep, or that `kept` added."""
        found = self.read("select value, digest from sweep where name = ?", (name,))
        if not found:
            raise damaged(self.path, f"{name!r} is missing")
        text, digest = found[0]
        if not isinstance(text, str) or _digest(text) != digest:
            raise damaged(self.path, f"{name!r} is not what was written")
        return json.loads(text)

    def knows(self, name: str) -> bool:
        """Tell whether `about` has a value of this name."""
        return bool(self.read("select 1 from sweep where name = ?", (name,)))

    def plan(self, n_trials: int, epochs: int, rung: int | None, make: Callable[[], Plan]) -> Plan:
        """Return the plan of a rung (None if there are none) that the first process to ask for it makes and saves.

        A sweep that grows has another plan.
        """
        name = _PLAN.format(n_trials, epochs, rung or 0)
        return Plan.from_json(self.kept(name, lambda: make().to_json()))

    def plans(self) -> list[tuple[tuple[int, int], Plan]]:
        """Return every plan with its number of trials and its rung (0 if there are none), that of few trials first."""
        names = [name for (name,) in self.read("select name from sweep where name like 'plan of %'")]
        numbers = {name: tuple(map(int, re.findall("[0-9]+", name))) for name in names}
        return [
            ((n, rung), Plan.from_json(self.about(name)))
            for name, (n, _, rung) in sorted(numbers.items(), key=lambda each: each[1])
        ]

    def replace(self, name: str, value: Any) -> None:
        """Save a value that may change from call to call, and so identifies nothing."""
        with self._named_errors(), self._transaction():
            self._file.execute("delete from sweep where name = ?", (name,))
            self._insert({name: value})

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Return a JSON value that the first process to ask for it makes and saves."""
        if not self.knows(name):
            made = make()
            with self._named_errors(), self._transaction():
                self._insert({name: made})
        return self.about(name)

    def _insert(self, values: Mapping[str, Any]) -> None:
        rows = [(name, text, _digest(text)) for name, value in values.items() for text in [to_json(value)]]
        self._file.executemany("insert or ignore into sweep values (?, ?, ?)", rows)

    def _grow(self, about: Mapping[str, Any]) -> None:
        """Add the trials and epochs of a call to a sweep that was begun before; refuse anything else that differs."""
        saved = {name: self.about(name) for name in about}
        before, config = saved["config"]["epochs"], about["config"]
        is_longer = before < config["epochs"] and "epochs" not in {*saved["names"], *about["names"]}
        alike = dict(about) | {name: saved[name] for name in ("names", "rows")}
        if is_longer:
            alike |= {"config": config | {"epochs": before}, "about": saved["about"]}
        for name, value in alike.items():
            if saved[name] != value:
                raise ValueError(f"{self.folder}: {difference(name, saved[name], value)}")
        try:
            now = json.loads(to_json(grown(saved, about)))
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error
        if is_longer:
            now |= {"config": config, "about": about["about"]}
            self._lengthen(now, before)
        changed = {name: value for name, value in now.items() if value != saved[name]}
        self._file.executemany("delete from sweep where name = ?", [(name,) for name in changed])
        self._insert(changed)

    def _lengthen(self, about: Mapping[str, Any], before: int) -> None:
        """Let trials that end by their epochs go on, from their saved states if these are the beginning of longer ones.

        Those that patience or halving stopped have ended all the same, and so have those that diverged.
        """
        mlp, config = MLP(**plain(self.about("mlp"))), TrainConfig(**plain(about["config"]))
        listed = trials(Space(tuple(about["names"]), plain(about["rows"])), mlp, config)
        going_on: list[int] = []
        anew: list[int] = []
        for row in self.rows():
            shorter = replace(listed[row.trial].config, epochs=before)
            if not keeps_its_epochs(shorter, config.epochs):
                anew.append(row.trial)
            elif row.status == "finished":
                (going_on if self._arrays("paused", row.trial).exists() else anew).append(row.trial)
        if anew:
            schedules = {listed[number].config.schedule for number in anew}
            of_cosine = ": the schedule cosine depends on the number of epochs" if "cosine" in schedules else ""
            words = f"{counted(len(anew), 'trial')} of {len(listed):,} will be trained anew for {config.epochs} epochs"
            warnings.warn(words + of_cosine, UserWarning, stacklevel=5)
        for number in anew:
            for kind in ("models", "paused"):
                self._arrays(kind, number).unlink(missing_ok=True)
        for table in ("trials", "curves"):
            self._file.executemany(f"delete from {table} where trial = ?", [(number,) for number in anew])
        columns = ", ".join(f"{name} = null" for name in REPORTED)
        again = f"update trials set status = 'paused', {columns}, test_digest = ? where trial = ?"
        none = (None,) * len(REPORTED)
        self._file.executemany(again, [(test_digest(number, none), number) for number in going_on])

    def _digest_of(self, name: str) -> str | None:
        found = self.read("select digest from sweep where name = ?", (name,))
        return found[0][0] if found else None

    def _check_epochs(self) -> None:
        """Refuse to save outcomes of fewer epochs than another process has given the sweep meanwhile."""
        if self._config is not None and self._digest_of("config") != self._config:
            epochs = self.about("config")["epochs"]
            raise ValueError(f"{self.folder}: another call has given this sweep {epochs} epochs; give as many")

    def rows(self) -> list[Row]:
        """Return all trials that have an outcome, by number."""
        found = self.read(f"select {', '.join(Row._fields)} from trials {self._mine('where')} order by trial")
        return [Row(*row) for row in found]

    def at_epoch(self, epoch: int) -> dict[int, Epoch]:
        """Return the record of an epoch (counted from 1) for every trial that reached it."""
        found = self.read(f"select trial, epoch, {_CURVES} from curves where epoch = ? {self._mine('and')}", (epoch,))
        return {row[0]: Epoch(*row[1:]) for row in found}

    def _mine(self, word: str) -> str:
        return "" if self._n_trials is None else f"{word} trial < {self._n_trials}"

    def has(self, block: Iterable[Iterable[int]], until: int | None) -> bool:
        """Tell whether all trials of a block have ended, or have reached an epoch."""
        reached = {
            row.trial for row in self.rows() if row.status != "paused" or (until is not None and row.epochs >= until)
        }
        return reached.issuperset(number for chunk in block for number in chunk)

    def paused(self) -> set[int]:
        """Return the trials that wait for the next rung."""
        return {row.trial for row in self.rows() if row.status == "paused"}

    def curve(self, trial: int) -> list[Epoch]:
        """Return a trial's history."""
        return [epoch for _, epoch in self._curves("where trial = ?", trial)]

    def curves(self) -> list[tuple[int, Epoch]]:
        """Return the histories of all trials that have ended, each epoch with its trial's number."""
        which = "where trial in (select trial from trials where status != 'paused')"
        return self._curves(f"{which} {self._mine('and')}")

    def _curves(self, which: str, *values: int) -> list[tuple[int, Epoch]]:
        query = f"select trial, epoch, {_CURVES} from curves {which} order by trial, epoch"
        found = self.read(query, values)
        for row in found:
            if not all(value is None or isinstance(value, int | float) for value in row):
                raise damaged(self.path, f"the curve of trial {row[0]} holds values that are not numbers")
        epochs = [(row[0], Epoch(*row[1:])) for row in found]
        # SQL has no nan.
        return [(n, each._replace(train_loss=math.nan) if each.train_loss is None else each) for n, each in epochs]

    def commit(self, trained: Mapping[int, Trained]) -> None:
        """Save the outcomes of a block with their curves, all or none."""
        rows = [outcome(number, each) for number, each in trained.items()]
        curves = [(number, *epoch) for number, each in trained.items() for epoch in each.history]
        marks = ", ".join("?" * (1 + len(Epoch._fields)))
        with_digests = [(*row, test_digest(row.trial, row.test)) for row in rows]
        with self._named_errors(), self._transaction():
            self._check_epochs()
            columns = ", ".join("?" * (len(Row._fields) + 1))
            self._file.executemany(f"insert or replace into trials values ({columns})", with_digests)
            self._file.executemany("delete from curves where trial = ?", [(row.trial,) for row in rows])
            self._file.executemany(f"insert into curves (trial, epoch, {_CURVES}) values ({marks})", curves)

    def stop(self, tests: Mapping[int, Evaluation | None]) -> None:
        """Mark paused trials as stopped, and save their tests."""
        rows = [(*_columns(test), test_digest(n, _columns(test)), n) for n, test in tests.items()]
        values = ", ".join(f"{name} = ?" for name in (*REPORTED, "test_digest"))
        update = f"update trials set status = 'stopped', {values} where trial = ? and status = 'paused'"
        with self._named_errors(), self._transaction():
            self._file.executemany(update, rows)

    def claim(self, block: int) -> bool:
        """Lock a block, named by its first trial; return False if another process has the lock.

        The operating system releases the lock when the process ends, in any way and on any machine. A process number
        in a file would not be enough: another process may have that number by now.
        """
        if self.folder is None or fcntl is None:
            return True
        if self._locks is None:
            self._locks = self._open_locks(self.folder)
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)
        except (BlockingIOError, PermissionError):  # which one depends on the system
            return False
        return True

    def claimed(self, blocks: Iterable[int]) -> set[int] | None:
        """Return which of these blocks other processes have claimed; None where this cannot be told."""
        locks = self.path.parent / "sweep.locks"
        # Closing the file would release this process's own locks.
        if self.folder is None or fcntl is None or self._key in _RUNNING or not os.access(locks, os.W_OK):
            return None if locks.exists() else set()
        taken = set()
        with open(locks, "ab") as file:
            for block in blocks:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)
                    fcntl.lockf(file, fcntl.LOCK_UN, 1, block)
                except (BlockingIOError, PermissionError):
                    taken.add(block)
        return taken

    def _open_locks(self, folder: Path) -> IO[bytes]:
        """Open the file of locks, to be held until `release_all`.

        The locks are the process's: two of its threads would run the same blocks, so the second one is refused.
        """
        with _RUNNING_LOCK:
            if self._key in _RUNNING:
                raise RuntimeError(f"{folder}: another thread of this process runs this sweep; start a process instead")
            opened = open(folder / "sweep.locks", "ab")  # noqa: SIM115
            _RUNNING.add(self._key)
            return opened

    def release(self, block: int) -> None:
        """Unlock a block."""
        if self._locks is not None:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, block)

    def release_all(self) -> None:
        """Unlock every block: a process may run on for long after its sweep was interrupted."""
        if self._locks is not None:
            self._locks.close()
            self._locks = None
            _RUNNING.discard(self._key)

    @cached_property
    def encoding(self) -> Encoding | None:
        """Return the encoding from raw data to the sweep's data, None if there is none."""
        saved = self.about("encoding")
        return None if saved is None else Encoding.from_json(saved)

    def model_of(self, trial: Trial, params: Params) -> Model:
        """Return a trial's model, with all that it needs to take raw inputs."""
        hyperparameters = json.loads(to_json({**trial.values, "seed": trial.seed}))
        about = {**self.about("about"), "trial": trial.number, "hyperparameters": hyperparameters}
        return Model((Network(trial.mlp, params),), self.encoding, about)

    def save_model(self, trial: Trial, params: Params) -> None:
        """Save a trial's model."""
        model = self.model_of(trial, params)
        if self.folder is None:
            self._models[trial.number] = model
            return
        # Replace a file that a killed process left: with asynchronous halving it may be of an earlier epoch.
        path = self._arrays("models", trial.number)
        with self._named_errors():
            path.parent.mkdir(exist_ok=True)
            save(path, model.networks, encoding=model.encoding, about=model.about)

    def load_model(self, trial: Trial) -> Model | None:
        """Return a trial's model, None if it was not kept."""
        if self.folder is None:
            return self._models.get(trial.number)
        path = self._arrays("models", trial.number)
        if not path.exists():
            return None
        model = load(path)
        if ([network.mlp for network in model.networks], model.about.get("trial")) != ([trial.mlp], trial.number):
            raise ValueError(f"{path}: damaged, it is not the model of trial {trial.number}")
        return model

    def remove(self, models: Collection[int], paused: Collection[int]) -> None:
        """Remove the models of some trials, and the checkpoints of some."""
        for kind, numbers, kept in (("models", models, self._models), ("paused", paused, self._paused)):
            # One by one: other files may belong to a block that another process is about to commit.
            for number in numbers:
                kept.pop(number, None)
                if self.folder is not None:
                    self._arrays(kind, number).unlink(missing_ok=True)

    def pause(self, number: int, trained: Trained) -> None:
        """Save a checkpoint of a trial, to resume it later."""
        if self.folder is None:
            self._paused[number] = trained
            return
        path = self._arrays("paused", number)
        with self._named_errors():
            path.parent.mkdir(exist_ok=True)
            save_training(path, trained)

    def resume(self, number: int, mlp: MLP) -> Trained:
        """Return a paused trial."""
        if self.folder is None:
            return self._paused[number]
        path = self._arrays("paused", number)
        if not path.exists():
            raise FileNotFoundError(str(damaged(path, "it is missing")))
        trained = load_training(path, mlp)
        history = tuple(self.curve(number))
        # The checkpoint is written first: it is ahead of the curve if a process was killed before it could commit.
        committed, ahead = trained.history[: len(history)], trained.history[len(history) :]
        if to_json(committed) != to_json(history):
            raise damaged(path, f"it is not the training of trial {number}")
        trained = trained._replace(status="running", test=None)  # of fewer epochs it may have been the end
        return trained._replace(history=(*history, *ahead))  # the checkpoint has null for infinite losses

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return all rows of a query at once: an open cursor would lock other processes out."""
        try:
            return self._file.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if _is_locked(error):
                raise self._locked() from error
            raise ValueError(f"{self.folder}: cannot read {FILE}: {error}") from error

    def _locked(self) -> TimeoutError:
        held = f"another process has locked {FILE} for {_PATIENCE:g} s"
        return TimeoutError(f"{self.folder}: {held}: end it if it hangs or is stopped, then try again")

    def _arrays(self, kind: str, number: int) -> Path:
        return self.path.parent / kind / f"trial-{number:06d}.safetensors"

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("begin immediate")
        try:
            yield
            self._file.execute("commit")
        except BaseException:
            if self._file.in_transaction:  # a full disk has ended it already
                self._file.execute("rollback")
            raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if _is_locked(error):
                raise self._locked() from error
            raise OSError(f"{self.folder}: cannot write {FILE}: {error}; what was written before is safe") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.folder}: {FILE} is not the store of a sweep: {error}") from error
        except OSError as error:
            if error.errno is None:
                raise
            why = error.strerror or error
            raise OSError(f"{self.folder}: cannot write: {why}; what was written before is safe") from error


def is_cut_short(row: Row, config: TrainConfig) -> bool:
    """Tell whether halving, not patience, stopped a trial: such a trial does not count for its setting."""
    return row.status == "stopped" and (config.patience is None or row.epochs - row.best_epoch < config.patience)


def outcome(number: int, trained: Trained) -> Row:
    """Return how far a trial is, as a row of the store."""
    status = "paused" if trained.status == "running" else trained.status
    kept = None if status == "diverged" else trained.history[trained.best_epoch - 1]
    seconds = sum(epoch.seconds for epoch in trained.history)
    scores = [getattr(kept, name, None) for name in METRICS]
    return Row(number, status, len(trained.history), trained.best_epoch, seconds, *scores, *_columns(trained.test))


def _columns(test: Evaluation | None) -> tuple[float | None, ...]:
    return (None, None, None) if test is None else test


def test_digest(number: int, test: Sequence[float | None]) -> str:
    """Return the digest of a trial's test, which nothing else in the store repeats."""
    # JSON would write infinity as it writes None; the database reads nan back as None.
    return _digest(repr([number, *(None if value != value else value for value in test)]))


def damaged(path: Path, what: str) -> ValueError:
    """Return the error for a file that something other than a sweep has changed."""
    return ValueError(f"{path} is damaged: {what}; restore it from a copy, or run the sweep into a new folder")


def _is_locked(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def difference(name: str, saved: Any, given: Any, what: str = "sweep") -> str:
    """Return the words for an argument that changed since a sweep, or something else, was begun."""
    match name:
        case "data" | "validation" | "test":
            return f"these are not the {name.replace('data', 'training')} data that the {what} was begun with"
        case "names":
            return f"the {what} was begun with the hyperparameters {', '.join(saved)}, got {', '.join(given)}"
        case "jaxmlp":
            return f"the {what} was begun by version {saved} of jaxmlp, this is {given}"
        case "format":
            return f"the {what} has format {saved}, expected {given}; run it again into a new folder"
        case "folds":
            if saved is not None and given is not None and len(saved) == len(given):
                return f"these are not the folds that the {what} was begun with"
            counts = ["none" if folds is None else counted(len(folds), "fold") for folds in (saved, given)]
            return f"the {what} was begun with {counts[0]}, got {counts[1]}"
        case "encoding" | "about":
            return f"the {what} was begun with another {name}"
        case "config" | "mlp" | "axes" if isinstance(saved, dict) and isinstance(given, dict):
            changed = next(key for key in given if saved.get(key) != given[key])
            return f"the {what} was begun with {changed} {saved.get(changed)!r}, got {given[changed]!r}"
    return f"the {what} was begun with {name} {saved!r}, got {given!r}"
