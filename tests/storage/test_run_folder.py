"""Run folders: opened, refused, and filled."""

import csv
from io import StringIO

import chex
import jax
import numpy as np
import pytest

from jaxmlp import MLP, Dataset, TrainConfig, load, train
from jaxmlp.storage.run_folder import RUN_FILES, Run, history_csv, new_folder, read_config, start_run

DATA = Dataset(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
CONFIG = {"source": "here", "options": {"epochs": 2}, "data": "0123"}


def trained(epochs=2, **more):
    return train(MLP((4, 2)), DATA, TrainConfig(epochs=epochs, batch_size=2), key=jax.random.key(0), **more)


def test_a_new_folder_takes_the_first_free_number(tmp_path):
    for number in (1, 2, 3):
        folder = new_folder(tmp_path, "digits")
        assert folder.name == f"digits-{number}"
        assert folder.is_dir()


def test_the_configuration_of_a_run_is_read_back(tmp_path):
    start_run(tmp_path / "run", CONFIG, MLP((4, 2)))
    assert read_config(tmp_path / "run", resume=True) == CONFIG
    with pytest.raises(ValueError, match="--resume"):
        read_config(tmp_path / "run", resume=False)


def test_a_folder_that_a_kill_left_without_configuration_can_be_used(tmp_path):
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
    rows = list(csv.DictReader(StringIO(history_csv(trained(validation=DATA)).decode())))
    names = ["epoch", "learning_rate", "train_loss", "validation_loss", "validation_accuracy", "seconds"]
    assert list(rows[0]) == names
    assert float(rows[1]["train_loss"]) == trained().history[1].train_loss


def test_a_column_that_applies_to_some_epochs_is_empty_in_the_others():
    last = trained(validation=DATA)
    diverged = last._replace(history=(last.history[0], last.history[1]._replace(validation_loss=None)))
    rows = list(csv.DictReader(StringIO(history_csv(diverged).decode())))
    assert float(rows[0]["validation_loss"]) == last.history[0].validation_loss
    assert rows[1]["validation_loss"] == ""


def finished(folder, encoding=None):
    """Train in a run folder and write its results; return what was trained."""
    run = start_run(folder, CONFIG, MLP((4, 2)))
    wrong = Dataset(DATA.x, 1 - DATA.t)  # the test loss only rises: the first epoch stays the best
    config = TrainConfig(epochs=3, batch_size=2, patience=8)
    last = train(MLP((4, 2)), DATA, config, key=jax.random.key(0), validation=wrong, callback=run.save_checkpoint)
    assert last.best_epoch == 1
    run.finish(MLP((4, 2)), encoding, {"source": "here"}, b"a picture")
    return last


def test_a_finished_run_holds_its_parameters_history_and_picture(tmp_path):
    last = finished(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(RUN_FILES)
    model = load(tmp_path / "run" / "model.safetensors")
    (network,) = model.networks
    chex.assert_trees_all_equal(network.params, last.params)
    assert (network.mlp, model.about) == (MLP((4, 2)), {"source": "here"})
    assert (tmp_path / "run" / "curves.png").read_bytes() == b"a picture"
    assert (tmp_path / "run" / "history.csv").read_bytes() == history_csv(last)
    chex.assert_trees_all_equal(start_run(tmp_path / "run", CONFIG, MLP((4, 2))).latest, last)


@pytest.mark.parametrize("blocked", ["history.csv", "curves.png"])
def test_no_model_is_written_if_another_result_cannot_be(tmp_path, blocked):
    (tmp_path / "run" / blocked).mkdir(parents=True)
    with pytest.raises(ValueError, match=blocked):
        finished(tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"notes.txt": "mine"}, "holds files but no run, expected a new or an empty folder"),
        ({"config.json": "{"}, "config.json: not the configuration of a run"),
        ({"config.json": '{"options": [], "data": "0"}'}, "config.json: not the configuration of a run"),
        ({"config.json": '{"options": {}, "data": 0}'}, "config.json: not the configuration of a run"),
        ({"config.json": '{"options": {}}'}, "config.json: not the configuration of a run"),
    ],
)
def test_a_folder_with_other_files_is_refused(tmp_path, content, sentence):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_config(tmp_path, resume=True)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="run: a file, expected a folder"):
        read_config(tmp_path / "run", resume=False)


def test_a_run_without_an_epoch_has_no_result(tmp_path):
    with pytest.raises(ValueError, match="nothing was trained"):
        Run(tmp_path).finish(MLP((4, 2)), None, {}, b"")
