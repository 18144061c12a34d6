"""Whatever happens to a store, no wrong answer is read from it: it is refused in one line, or nothing has changed."""

import hashlib
import json
import math
import re
import shutil
import sqlite3
from contextlib import closing

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlp import Dataset, TrainConfig, load, sweep
from jaxmlp.sweep.store import FILE, Row

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
T = (X[:, 0] > 0).astype(int)
DATA, VALIDATION = Dataset(X[:40], T[:40]), Dataset(X[40:], T[40:])
SPACE = sweep.grid(learning_rate=[0.01, 0.1, 1e18], seed=[0, 1])
CONFIG = TrainConfig(epochs=3, batch_size=8)


def run(folder, **options):
    options = {"keep": "all", "lanes": 1, "trials_a_block": 2, "config": CONFIG} | options
    return sweep.run(SPACE, DATA, validation=VALIDATION, test=VALIDATION, out=folder, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compiled_in_haste):
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    run(folder)
    return folder


@pytest.fixture(scope="module")
def halved(tmp_path_factory, compiled_in_haste):
    """A sweep that was interrupted between two rungs of a halving."""
    folder = tmp_path_factory.mktemp("halved") / "sweep"

    def interrupt(progress):
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, halving=2, callback=interrupt)
    return folder


def answers(results):
    """Return all that users read of a sweep, without times."""
    curves = [[epoch._replace(seconds=0.0) for epoch in results.history(number)] for number in range(len(results))]
    table = results.table().drop("seconds").rows()
    best = [results.best(metric) for metric in ("train_loss", "validation_loss", "validation_accuracy")]
    params = [jax.tree.map(np.asarray, results.params(number)) for number in range(len(results))]
    return repr((table, best, curves, params, str(results)))


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def execute(folder, *commands):
    with closing(sqlite3.connect(folder / FILE)) as file:
        for command in commands:
            file.execute(*command) if isinstance(command, tuple) else file.execute(command)
        file.commit()


def assert_one_line(error, *parts):
    assert "\n" not in str(error)
    for part in parts:
        assert part in str(error)


DAMAGES = {
    "an outcome deleted": ("delete from trials where trial = 1", "trial 1 has a curve but no outcome"),
    "an unknown status": ("update trials set status = 'ok' where trial = 2", "trial 2 has the unknown status 'ok'"),
    "a number as status": ("update trials set status = 3 where trial = 2", "trial 2 has the unknown status '3'"),
    "running": ("update trials set status = 'running' where trial = 2", "trial 2 has the unknown status 'running'"),
    "stopped without patience": (
        "update trials set status = 'stopped' where trial = 2",
        "trial 2 has status 'stopped' after 3 of 3 epochs",
    ),
    "paused without halving": (
        "update trials set status = 'paused' where trial = 2",
        "trial 2 has status 'paused' after 3 of 3 epochs",
    ),
    "diverged with metrics": (
        "update trials set status = 'diverged' where trial = 2",
        "trial 2 has its best epoch 3 of 3",
    ),
    "finished without metrics": (
        "update trials set status = 'finished' where trial = 4",
        "trial 4 has its best epoch 0 of 1",
    ),
    "another accuracy": (
        "update trials set validation_accuracy = 0.999 where trial = 0",
        "trial 0 has validation_accuracy 0.999, but",
    ),
    "an impossible accuracy": (
        "update trials set validation_accuracy = 7 where trial = 0;"
        "update curves set validation_accuracy = 7 where trial = 0",
        "trial 0 has validation_accuracy 7",
    ),
    "no accuracy": (
        "update trials set validation_accuracy = null where trial = 0",
        "trial 0 has validation_accuracy None, but",
    ),
    "a word as loss": (
        "update trials set validation_loss = 'low' where trial = 0",
        "trial 0 has validation_loss 'low'",
    ),
    "another test": ("update trials set test_accuracy = 0.999 where trial = 0", "trial 0 has the test {'test_loss': "),
    "a word as test": ("update trials set test_loss = 'low' where trial = 0", "'low', 'test_accuracy': "),
    "a test of a diverged trial": ("update trials set test_loss = 1 where trial = 4", "which is not what was written"),
    "an infinite test": ("update trials set test_r2 = 9e999 where trial = 0", "trial 0 has the test {'test_loss': "),
    "negative epochs": ("update trials set epochs = -3 where trial = 0", "trial 0 has -3 epochs of 3"),
    "too many epochs": ("update trials set epochs = 99 where trial = 0", "trial 0 has 99 epochs of 3"),
    "a word as epochs": ("update trials set epochs = 'all' where trial = 0", "trial 0 has 'all' epochs of 3"),
    "another best epoch": ("update trials set best_epoch = 1 where trial = 0", "trial 0 has its best epoch 1 of 3"),
    "negative seconds": ("update trials set seconds = -1 where trial = 0", "trial 0 has -1.0 seconds"),
    "a trial out of range": ("update trials set trial = 99 where trial = 5", "trial 99 has an outcome, but"),
    "a negative trial": ("update trials set trial = -1 where trial = 5", "trial -1 has an outcome, but"),
    "two trials exchanged": (
        "update trials set trial = 77 where trial = 0; update trials set trial = 0 where trial = 2; "
        "update trials set trial = 2 where trial = 77",
        "but",
    ),
    "a curve deleted": ("delete from curves where trial = 3", "trial 3 has 3 epochs, but a curve of 0"),
    "an epoch deleted": ("delete from curves where trial = 3 and epoch = 2", "trial 3 has 3 epochs, but a curve of 2"),
    "an epoch renumbered": ("update curves set epoch = 9 where trial = 3 and epoch = 2", "but a curve of 3"),
    "another space": (
        "update sweep set value = replace(value, '0.01', '0.05') where name = 'rows'",
        "'rows' is not what was written",
    ),
    "another metric": (
        "update sweep set value = '\"validation_r2\"' where name = 'metric'",
        "'metric' is not what was written",
    ),
    "no JSON": ("update sweep set value = '{' where name = 'config'", "'config' is not what was written"),
    "no names": ("delete from sweep where name = 'names'", "'names' is missing"),
    "no format": ("delete from sweep where name = 'format'", "'format' is missing"),
    "nothing said of the sweep": ("delete from sweep", "'format' is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_refused_in_one_line_that_names_the_file_and_the_next_step(whole, tmp_path, damage):
    folder = copied(whole, tmp_path)
    commands, said = DAMAGES[damage]
    execute(folder, *commands.split(";"))
    for use in (sweep.load, run):
        with pytest.raises(ValueError, match=re.escape(said)) as caught:
            use(folder)
        assert_one_line(
            caught.value, str(folder / FILE), "is damaged", "; restore it from a copy, or run the sweep into"
        )


def test_a_sweep_of_an_older_format_is_refused_with_the_next_step(whole, tmp_path):
    folder = copied(whole, tmp_path)
    digest = hashlib.sha256(b"4").hexdigest()
    execute(folder, f"update sweep set value = '4', digest = '{digest}' where name = 'format'")
    for use in (sweep.load, run):
        with pytest.raises(ValueError, match=r"the sweep has format 4, expected 6; run it again into a new folder$"):
            use(folder)


def test_a_damaged_plan_is_refused_on_resuming_and_harmless_on_reading(whole, tmp_path):
    folder = copied(whole, tmp_path)
    expected = answers(sweep.load(folder))
    execute(folder, "update sweep set value = '{}' where name like 'plan of %'")
    assert answers(sweep.load(folder)) == expected
    with pytest.raises(ValueError, match=r"'plan of .*' is not what was written") as caught:
        run(folder)
    assert_one_line(caught.value, str(folder / FILE))


@pytest.mark.parametrize(
    "commands",
    [
        ["delete from sweep where name like 'plan of %'"],
        ["delete from trials where trial = 1", "delete from curves where trial = 1"],
        ["delete from trials", "delete from curves"],
    ],
)
def test_trials_removed_as_a_whole_are_trained_again_to_the_same_results(whole, tmp_path, commands):
    expected = answers(sweep.load(whole))
    folder = copied(whole, tmp_path)
    execute(folder, *commands)
    assert answers(run(folder)) == expected
    assert answers(sweep.load(folder)) == expected


@given(
    table=st.sampled_from(["trials", "curves"]),
    column=st.sampled_from([*Row._fields, "epoch"]),
    value=st.one_of(
        st.sampled_from(
            [None, "", "nan", "finished", "stopped", "diverged", "paused", b"\0", -1, 0, 1, 2, 5, 6, math.inf]
        ),
        st.floats(allow_nan=False),
        st.integers(-(2**63), 2**63 - 1),
    ),
    trial=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_a_changed_number_is_refused_or_changes_no_answer(whole, tmp_path_factory, table, column, value, trial):
    folder = copied(whole, tmp_path_factory.mktemp("changed"))
    # Of a curve only what its outcome repeats can be known to be wrong: the length, and the best epoch, here the last.
    where = f"trial = {trial}" + (" and epoch = 3" if table == "curves" else "")
    try:
        execute(folder, (f"update {table} set {column} = ? where {where}", (value,)))
    except sqlite3.Error:
        return  # no such column, or the database refuses the value itself
    expected = answers(sweep.load(whole))
    try:
        found = answers(sweep.load(folder))
    except ValueError as error:
        assert_one_line(error, str(folder / FILE))
    else:
        assert found == expected


def test_a_curve_that_holds_words_is_refused(whole, tmp_path):
    folder = copied(whole, tmp_path)
    execute(folder, "update curves set learning_rate = 'fast' where trial = 0 and epoch = 1")
    with pytest.raises(ValueError, match="the curve of trial 0 holds values that are not numbers"):
        sweep.load(folder).history(0)


def test_the_model_of_another_trial_is_refused(whole, tmp_path):
    folder = copied(whole, tmp_path)
    models = folder / "models"
    shutil.copy(models / "trial-000001.safetensors", models / "trial-000000.safetensors")
    with pytest.raises(ValueError, match=r"trial-000000.safetensors: damaged, it is not the model of trial 0"):
        sweep.load(folder).params(0)
    (models / "trial-000001.safetensors").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"trial-000001.safetensors: not a safetensors file") as caught:
        sweep.load(folder).params(1)
    assert_one_line(caught.value)


def test_the_paused_training_of_another_trial_is_refused_and_one_that_is_gone_is_named(halved, tmp_path):
    waiting = sorted((halved / "paused").iterdir())
    assert len(waiting) >= 2
    folder = copied(halved, tmp_path)
    shutil.copy(waiting[0], folder / "paused" / waiting[1].name)
    with pytest.raises(ValueError, match=f"{waiting[1].name} is damaged: it is not the training of trial") as caught:
        run(folder, halving=2)
    assert_one_line(caught.value)
    for path in (folder / "paused").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"paused/trial-\d+.safetensors is damaged: it is missing") as caught:
        run(folder, halving=2)
    assert_one_line(caught.value)


def test_an_interrupted_halving_reads_as_one_that_is_not_done(halved):
    results = sweep.load(halved)
    assert len(results.rows()) == 4
    assert str(results).startswith("4 of 6 trials: ")


def test_an_empty_store_can_be_used(tmp_path):
    sqlite3.connect(tmp_path / FILE).close()
    with pytest.raises(ValueError, match="not the store of a sweep") as caught:
        sweep.load(tmp_path)
    assert_one_line(caught.value, str(tmp_path / FILE))
    assert len(run(tmp_path).rows()) == len(SPACE)


def test_the_store_holds_the_arguments_of_the_sweep(whole):
    model = load(whole / "models" / "trial-000003.safetensors")
    assert model.about == {"trial": 3, "hyperparameters": {"learning_rate": 0.1, "seed": 1}}
    file = sqlite3.connect(whole / FILE)
    said = {name: json.loads(value) for name, value in file.execute("select name, value from sweep")}
    file.close()
    assert said["rows"] == [list(row) for row in SPACE.rows]
