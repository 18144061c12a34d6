"""Run folders: opened, refused, and filled."""

import csv
from io import StringIO

import jax
import numpy as np
import pytest

from jaxmlp import MLP, Dataset, TrainConfig, train
from jaxmlp.storage.run_folder import Run, history_csv, new_folder, read_config, start_run

DATA = Dataset(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
CONFIG = {"source": "here", "options": {"epochs": 2}, "data": "0123"}


def trained(epochs=2, **more):
    return train(MLP((4, 2)), DATA, TrainConfig(epochs=epochs, batch_size=2), key=jax.random.key(0), **more)


def test_a_new_folder_takes_the_first_free_number(tmp_path):
    for number in (1, 2, 3):
        folder = new_folder(tmp_path, "digits")
        assert folder.name == f"digits-{number}"
        assert folder.is_dir()


def test_what_a_run_was_started_with_is_read_back(tmp_path):
    start_run(tmp_path / "run", CONFIG, MLP((4, 2)))
    assert read_config(tmp_path / "run", resume=True) == CONFIG
    with pytest.raises(ValueError, match="--resume"):
        read_config(tmp_path / "run", resume=False)


def test_a_folder_that_a_kill_left_before_its_configuration_can_be_used(tmp_path):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "1-0123").write_text("{")
    assert read_config(tmp_path, resume=False) is None
    assert start_run(tmp_path, CONFIG, MLP((4, 2))).latest is None


def test_checkpoints_are_written_at_most_once_a_second_and_when_asked(tmp_path, monkeypatch):
    moment = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    run = start_run(tmp_path / "run", CONFIG, MLP((4, 2)))
    seen = []
    trained(3, callback=seen.append)

    def kept():
        return len(start_run(run.folder, CONFIG, MLP((4, 2))).latest.history)

    for time, expected in ((100.0, 1), (100.5, 1), (101.1, 3)):
        moment[0] = time
        run.save_checkpoint(seen.pop(0))
        assert kept() == expected
    trained(3, callback=run.save_checkpoint)
    run.flush()
    assert kept() == 3


def test_history_has_the_columns_that_apply():
    rows = list(csv.DictReader(StringIO(history_csv(trained()).decode())))
    assert list(rows[0]) == ["epoch", "learning_rate", "train_loss", "seconds"]
    rows = list(csv.DictReader(StringIO(history_csv(trained(test=DATA)).decode())))
    assert list(rows[0]) == ["epoch", "learning_rate", "train_loss", "test_loss", "test_accuracy", "seconds"]
    assert float(rows[1]["train_loss"]) == trained().history[1].train_loss


def test_a_run_without_an_epoch_has_no_result(tmp_path):
    with pytest.raises(ValueError, match="nothing was trained"):
        Run(tmp_path).finish(MLP((4, 2)), None, {}, "")
