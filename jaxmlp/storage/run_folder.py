"""Run folders: the options of a training run, its checkpoint, and its results.

config.json               the options, and a fingerprint of the data
checkpoint.safetensors    the run so far, from which it continues after a kill at any moment
model.safetensors, history.csv, curves.png
                          the results, written when the run ends
"""

import csv
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

from jaxmlp.data import Encoding
from jaxmlp.network import MLP, Network
from jaxmlp.storage.checkpoint import load_training, save, save_training
from jaxmlp.storage.files import is_leftover, write_whole
from jaxmlp.training.history import Epoch, Trained

__all__ = ["RUN_FILES", "Run", "new_folder", "read_config", "start_run", "write_config"]

RUN_FILES = ("config.json", "checkpoint.safetensors", "model.safetensors", "history.csv", "curves.png")

_CHECKPOINT_SECONDS = 1.0  # between two checkpoints: flushing a file to the disk takes longer than a short epoch


def read_config(folder: Path, resume: bool) -> dict[str, Any] | None:
    """Return the configuration of the run in a folder, None if the folder is new or empty.

    Raise a `ValueError` if the folder holds a run and `resume` is False, or holds other files.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder for the run")
    path = folder / "config.json"
    if not path.exists():
        if not all(is_leftover(entry) for entry in folder.iterdir()):
            raise ValueError(f"{folder}: holds files but no run, expected a new or an empty folder")
        return None
    if not resume:
        raise ValueError(f"{folder}: holds a run already; continue it with --resume, or choose another --out")
    try:
        config = json.loads(path.read_text())
        if not (isinstance(config["options"], dict) and isinstance(config["data"], str)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not the configuration of a run") from error
    return dict(config)


def new_folder(parent: Path, name: str) -> Path:
    """Make and return the first of the folders parent/name-1, parent/name-2, ... that does not exist."""
    parent.mkdir(parents=True, exist_ok=True)
    for folder in (parent / f"{name}-{number}" for number in count(1)):
        with suppress(FileExistsError):
            folder.mkdir()  # fails if another process was quicker: the next number is tried
            return folder
    raise AssertionError("unreachable")


@dataclass
class Run:
    """An open run folder; its `save_checkpoint` is a callback for `jaxmlp.train`."""

    folder: Path
    latest: Trained | None = None
    _saved_at: float = field(default=0.0, repr=False)

    def save_checkpoint(self, trained: Trained) -> None:
        """Keep the latest state of training in memory, and write it to the checkpoint at most once a second."""
        self.latest = trained
        if time.monotonic() - self._saved_at >= _CHECKPOINT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the checkpoint now."""
        if self.latest is not None:
            save_training(self.folder / "checkpoint.safetensors", self.latest)
            self._saved_at = time.monotonic()

    def finish(self, mlp: MLP, encoding: Encoding, about: Mapping[str, Any], picture: bytes) -> None:
        """Write the results of the run: `picture` as curves.png, and the model last, as a sign that all are written."""
        if self.latest is None:
            raise ValueError(f"{self.folder}: nothing was trained")
        self.flush()
        write_whole(self.folder / "history.csv", history_csv(self.latest))
        write_whole(self.folder / "curves.png", picture)
        save(self.folder / "model.safetensors", Network(mlp, self.latest.params), encoding=encoding, about=dict(about))


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration of a run into its folder, which is made if it is new."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def start_run(folder: Path, config: Mapping[str, Any], mlp: MLP) -> Run:
    """Open the folder of a new or a resumed run (see `read_config`), with its checkpoint in `latest`."""
    write_config(folder, config)
    checkpoint = folder / "checkpoint.safetensors"
    return Run(folder, load_training(checkpoint, mlp) if checkpoint.exists() else None)


def history_csv(trained: Trained) -> bytes:
    """Return the history as CSV, one row for each epoch, without empty columns."""
    rows = trained.history
    names = [name for name in Epoch._fields if any(getattr(row, name) is not None for row in rows)]
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *([getattr(row, name) for name in names] for row in rows)])
    return text.getvalue().encode()
