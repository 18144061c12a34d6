"""Sweeps in the terminal: run, plan, best, export, report, and the lines for bad input."""

import contextlib
import io
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from jaxmlp import load, sweep
from jaxmlp.cli import sweep as command_sweep
from jaxmlp.cli.arguments import parse
from jaxmlp.cli.sweep_results import settings_table
from jaxmlp.sweep import report
from jaxmlp.sweep.store import FILE

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

QUICK = ("--epochs", "4", "--hidden", "8", "--no-cache")
GRID = ("--grid", "learning_rate=0.01,0.1", "--grid", "momentum=0,0.9", "--seeds", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run one sweep for many tests; return its parent folder and what it printed."""
    from jaxmlp.cli import main

    folder, out = tmp_path_factory.mktemp("finished"), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        assert main(["sweep", "iris", *GRID, *QUICK, "--keep", "3", "--out", "swept", "--json"]) == 0
    return folder, out.getvalue()


@pytest.fixture
def swept(finished, tmp_path):
    """Give each test a copy of the sweep's folder, and what the sweep printed."""
    folder, out = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return json.loads(out)


def test_a_sweep_prints_its_best_settings_and_writes_report_and_table(swept, jaxmlp, tmp_path):
    results = sweep.load(tmp_path / "swept")
    best = results.best()
    assert (swept["trials"], swept["finished"], swept["diverged"]) == (8, 8, 0)
    assert swept["settings"][0]["hyperparameters"] == best.hyperparameters
    assert swept["settings"][0]["mean"] == best.mean
    assert len(swept["settings"]) == 4
    assert (tmp_path / swept["report"]).read_text().startswith("<!DOCTYPE html>")

    shown = jaxmlp("sweep", "best", "swept", "--json")
    assert json.loads(shown.out)["mean"] == best.mean
    assert json.loads(shown.out)["test"] == best.test._asdict()
    refused = jaxmlp("sweep", "best", "swept", "--metric", "test_loss")
    assert (refused.code, refused.err) == (
        2,
        "jaxmlp sweep best: error: test_loss is for reporting: choose by validation_loss\n",
    )
    assert jaxmlp("sweep", "export", "swept", "--to", "trials.parquet").code == 0
    assert pl.read_parquet(tmp_path / "trials.parquet").equals(results.table())
    assert jaxmlp("sweep", "report", "swept", "--png").code == 0
    assert list((tmp_path / "swept").glob("*.png"))


def test_the_best_model_can_be_saved_and_used_on_raw_data(swept, jaxmlp, tmp_path):
    assert jaxmlp("sweep", "best", "swept", "--save", "best.safetensors").code == 0
    model = load(tmp_path / "best.safetensors")
    assert model.encoding.class_names == ("setosa", "versicolor", "virginica")
    measured = json.loads(jaxmlp("evaluate", "best.safetensors", "iris", "--json").out)
    results = sweep.load(tmp_path / "swept")
    best = results.best()
    expected = results.table().row(best.trials[0], named=True)
    assert measured["accuracy"] == pytest.approx(expected["test_accuracy"])
    assert measured["log_loss"] == pytest.approx(expected["test_loss"], rel=1e-5)
    about = json.loads(jaxmlp("info", "best.safetensors", "--json").out)["about"]
    assert best.hyperparameters.items() <= about["options"].items()
    assert (about["source"], about["results"]["trial"]) == ("iris", best.trials[0])


@pytest.mark.usefixtures("swept")
def test_an_unfinished_sweep_is_named_as_such_by_every_command_that_reads_it(jaxmlp, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "swept" / FILE)) as file:
        for table in ("trials", "curves"):
            file.execute(f"delete from {table} where trial >= 5")
        file.commit()
    commands = (("best", "swept"), ("report", "swept"), ("export", "swept", "--to", "trials.csv"))
    for command, *rest in commands:
        said = "5 of 8 trials have ended"
        assert json.loads(jaxmlp("sweep", command, *rest, "--json").out)["notes"] == [said]
        assert jaxmlp("sweep", command, *rest).err.splitlines() == [f"jaxmlp sweep {command}: note: {said}"]
    best = json.loads(jaxmlp("sweep", "best", "swept", "--over", "momentum", "--json").out)
    assert (len(best["trials"]), best["n_asked"]) == (2, 2)
    table = io.StringIO()
    with pytest.warns(UserWarning, match="5 of 8 trials have ended"):
        found = sweep.load(tmp_path / "swept").ranked()
    Console(width=100, file=table).print(settings_table(found, "title"))
    assert sorted(line.rstrip()[-6:].strip() for line in table.getvalue().splitlines()[2:]) == ["1 of 2", "2", "2"]


def test_the_best_model_of_a_sweep_of_folds_is_trained_again_if_it_is_not_there(jaxmlp, tmp_path):
    words = ("--grid", "learning_rate=0.01,0.1", "--epochs", "2", "--folds", "2", "--out", "folds")
    assert jaxmlp("sweep", "iris", *words).code == 0
    expected = sweep.load(tmp_path / "folds").params()
    shutil.rmtree(tmp_path / "folds" / "models")
    assert jaxmlp("sweep", "best", "folds", "--save", "best.safetensors").code == 0
    for ours, theirs in zip(load(tmp_path / "best.safetensors").networks[0].params, expected, strict=True):
        np.testing.assert_array_equal(ours.w, theirs.w)


@pytest.mark.usefixtures("swept")
def test_a_sweep_keeps_the_models_of_as_many_settings_as_are_asked_for(tmp_path):
    best = {number for setting in sweep.load(tmp_path / "swept").ranked()[:3] for number in setting.trials}
    assert {int(path.stem[-6:]) for path in (tmp_path / "swept" / "models").iterdir()} >= best


@pytest.mark.usefixtures("swept")
def test_the_best_model_is_trained_again_if_it_is_not_there(jaxmlp, tmp_path):
    expected = sweep.load(tmp_path / "swept").params()
    trial = sweep.load(tmp_path / "swept").best().trials[0]
    shutil.rmtree(tmp_path / "swept" / "models")
    done = jaxmlp("sweep", "best", "swept", "--save", "best.safetensors")
    assert (done.code, done.err) == (
        0,
        f"jaxmlp sweep best: note: the model of trial {trial} was deleted: it is trained again\n",
    )
    for ours, theirs in zip(load(tmp_path / "best.safetensors").networks[0].params, expected, strict=True):
        np.testing.assert_array_equal(ours.w, theirs.w)


@pytest.mark.usefixtures("swept")
def test_the_table_shows_the_ends_of_the_interval(tmp_path):
    found = sweep.load(tmp_path / "swept").ranked()
    console = Console(width=100, file=io.StringIO())
    console.print(settings_table(found, "title"))
    lines = console.file.getvalue().splitlines()[2:]
    for line, each in zip(lines, found, strict=True):
        expected = [f"{number:.4g}" for of in (each, each.test) for number in (of.mean, of.low, of.high)]
        assert line.replace(" to ", " ").split()[-7:] == [*expected, "2"]


def test_asynchronous_halving_matches_python():
    arguments = parse(["sweep", "iris", "--seeds", "9", "--halving", "4", "--asynchronous"])
    assert command_sweep._halving(arguments) == sweep.Halving(4, asynchronous=True)


def test_the_same_command_again_trains_nothing_and_another_one_is_refused(swept, jaxmlp):
    again = json.loads(jaxmlp("sweep", "iris", *GRID, *QUICK, "--keep", "3", "--out", "swept", "--json").out)
    assert again["settings"] == swept["settings"]
    for changed, said in (
        (("iris", *GRID, "--epochs", "3", "--hidden", "8"), "began with --epochs 4, got 3"),
        (("wine", *GRID, *QUICK), "other data"),
        (
            ("iris", "--grid", "learning_rate=0.5,0.6", *QUICK),
            "trial 0 of the sweep has learning_rate=0.01, but this space has 0.5, 0.6; give the values of both",
        ),
    ):
        done = jaxmlp("sweep", *changed, "--out", "swept")
        assert done.code == 2
        assert said in done.err


def test_a_plan_is_printed_and_nothing_is_run(jaxmlp, tmp_path):
    options = ("--log-uniform", "learning_rate=1e-3:1", "--grid", "hidden=8:4,none", "--trials", "6", "--seeds", "2")
    done = jaxmlp("sweep", "iris", *options, "--plan")
    assert done.code == 0
    assert done.out.startswith("12 trials in 2 programs on")
    assert {line.split()[0].rstrip(",") for line in done.out.splitlines()[1:]} == {"4-8-4-3", "4-3"}
    assert json.loads(jaxmlp("sweep", "iris", *options, "--plan", "--json").out)["trials"] == 12
    lanes = jaxmlp("sweep", "iris", "--seeds", "9", "--lanes", "3", "--plan", "--json", "--no-cache")
    assert json.loads(lanes.out)["groups"][0]["n_lanes"] == 3
    wide = ("sweep", "iris", "--seeds", "64", "--hidden", "1024:1024", "--plan", "--no-cache")
    assert json.loads(jaxmlp(*wide, "--memory", "0.2", "--json").out)["memory"] <= 0.2e9
    assert "may be used" in jaxmlp(*wide, "--memory", "0.002").err
    rates = ("--grid", "learning_rate=1,2,3,4,5,6,7,8,9", "--seeds", "2")
    halved = jaxmlp("sweep", "iris", *rates, "--epochs", "9", "--halving", "--plan")
    assert halved.out.splitlines()[-1] == "  halving by 3 runs about 26 % of these epochs"  # 42 of 162
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "grid"),
        (("--grid", "learning_rat=1,2"), "did you mean 'learning_rate'"),
        (("--grid", "learning_rate="), "learning_rate"),
        (("--grid", "learning_rate=0.1,fast"), "fast"),
        (("--uniform", "momentum=0.9:0.1"), "begin below its end"),
        (("--log-uniform", "learning_rate=0:1"), "begin above 0"),
        (("--log-uniform", "learning_rate=1e-3"), "learning_rate"),
        (("--grid", "batch_size=8,1000"), "batch_size must be at most the 96 training examples, got 1000"),
        (("--grid", "seed=1,2", "--trials", "5"), "trials"),
        (("--grid", "seed=1,2", "--halving", "1"), "2 or larger"),
        (("--grid", "seed=1,2", "--asynchronous"), "--asynchronous requires --halving"),
        (("--grid", "epochs=1,2", "--halving"), "but epochs varies"),
        (("--seeds", "2", "--sobol"), "--sobol requires a range"),
        (("--seeds", "2", "--draw", "1"), "--draw requires a range"),
        (("--grid", "momentum=0,0.5", "--momentum", "0.9"), "--momentum gives it one value"),
        (("--grid", "momentum=0,0.5", "--grid", "momentum=0.9"), "momentum is given twice"),
        (("--grid", "seed=1,2", "--seeds", "2"), "seed is given twice"),
        (("--seeds", "0"), "--seeds must be 1 or larger"),
        (("--seeds", "2", "--lanes", "0"), "--lanes must be 1 or larger"),
        (("--seeds", "2", "--memory", "0"), "--memory must be larger than 0"),
        (("--uniform", "hidden=8:64"), "list its values with --grid hidden"),
        (("--uniform", "momentum=0:0.9", "--trials", "0"), "--trials must be 1 or larger"),
        (("--grid", "seed=1,2", "--out", "file/below"), "file"),
        (("--grid", "seed=1,2", "--halvin"), "did you mean"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_runs(jaxmlp, tmp_path, options, said):
    (tmp_path / "file").write_text("")
    done = jaxmlp("sweep", "iris", "--no-cache", *options)
    assert done.code == 2
    assert done.out == ""
    assert said in done.err
    assert done.err.startswith("jaxmlp sweep: error: ")
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "command", [("best", "no"), ("report", "no"), ("status", "no"), ("export", "no", "--to", "t.csv")]
)
def test_a_folder_without_a_sweep_is_refused_in_one_line(jaxmlp, command):
    done = jaxmlp("sweep", *command)
    assert done.code == 2
    assert "no" in done.err
    assert done.err.count("\n") == 1


def test_a_single_value_is_noted_and_a_sweep_fails_only_if_every_trial_diverges(jaxmlp):
    noted = jaxmlp("sweep", "iris", "--grid", "momentum=0.5", "--grid", "learning_rate=0.01,0.1", "--plan")
    assert noted.code == 0
    assert noted.err == "jaxmlp sweep: note: momentum has a single value, 0.5: nothing is compared\n"
    some = jaxmlp("sweep", "diabetes", "--grid", "learning_rate=0.01,1e18", *QUICK, "--out", "some", "--json")
    assert (some.code, json.loads(some.out)["diverged"]) == (0, 1)
    every = jaxmlp("sweep", "diabetes", "--grid", "learning_rate=1e17,1e18", *QUICK, "--out", "every")
    assert every.code == 1
    assert every.err.splitlines()[-1] == "jaxmlp sweep: all 2 trials diverged: try lower learning rates"
    best = jaxmlp("sweep", "best", "every")
    assert best.code == 2
    assert best.err.endswith("every trial diverged: try lower learning rates, or scale the inputs\n")


def test_no_output_is_wider_than_a_narrow_terminal(swept, jaxmlp, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", jaxmlp("sweep", "best", "swept").out)
    assert "learning rate" in shown
    assert max(map(len, shown.splitlines())) <= 40


def test_an_interrupted_sweep_says_how_to_continue_and_then_continues(jaxmlp, tmp_path, monkeypatch):
    command = ["sweep", "iris", "--grid", "learning_rate=0.01,0.1", "--grid", "hidden=8,9", "--epochs", "4"]
    command += ["--no-cache", "--out", "cut"]

    @contextmanager
    def interrupting(arguments):
        yield lambda progress: progress.done and signal.raise_signal(signal.SIGINT)

    # A shell lets its background jobs and their children ignore Ctrl-C; this test may run in one.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(command_sweep, "sweep_progress", interrupting)
            cut = jaxmlp(*command)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert cut.code == 130
    assert cut.err == f"interrupted, 2 of 4 trials are done; continue with: jaxmlp {' '.join(command)}\n"
    before = sweep.load(tmp_path / "cut").rows()
    assert len(before) == 2
    again = jaxmlp(*command)
    assert again.code == 0
    # Outside of a terminal: one line when trials end, the last one for all.
    assert [line.split("  ")[0] for line in again.err.splitlines()] == ["2/4 trials", "4/4 trials"]
    after = sweep.load(tmp_path / "cut").rows()
    assert len(after) == 4
    assert set(before) <= set(after)


def test_a_report_that_cannot_be_written_is_noted_and_the_summary_printed(jaxmlp, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(report, "write_report", full)
    done = jaxmlp("sweep", "iris", "--grid", "learning_rate=0.01,0.1", *QUICK, "--out", "full", "--json")
    assert (done.code, json.loads(done.out)["finished"], json.loads(done.out)["report"]) == (0, 2, None)
    assert json.loads(done.out)["notes"] == ["no report was written: No space left on device"]


def test_a_sweep_killed_before_its_first_commit_is_begun_again(jaxmlp, tmp_path):
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "sweep.sqlite").touch()
    assert jaxmlp("sweep", "iris", "--seeds", "2", *QUICK, "--out", "swept").code == 0
    assert len(sweep.load(tmp_path / "swept").rows()) == 2


def test_the_command_with_more_seeds_values_or_epochs_extends_the_sweep(swept, jaxmlp, tmp_path):
    before = sweep.load(tmp_path / "swept").rows()
    more = ["sweep", "iris", *GRID[:2], "--grid", "momentum=0,0.9,0.5", "--seeds", "3", "--out", "swept", "--json"]
    assert json.loads(jaxmlp(*more, *QUICK, "--keep", "3").out)["trials"] == 18
    assert sweep.load(tmp_path / "swept").rows()[:8] == before
    longer = json.loads(jaxmlp(*more, "--epochs", "5", *QUICK[2:]).out)
    assert longer["notes"] == [
        "18 trials of 18 will be trained anew for 5 epochs: the schedule cosine depends on the number of epochs"
    ]
    assert {row.epochs for row in sweep.load(tmp_path / "swept").rows()} == {5}
    assert jaxmlp("sweep", "best", "swept", "--save", "best.safetensors").code == 0
    assert load(tmp_path / "best.safetensors").about["options"]["epochs"] == 5
    other = jaxmlp("sweep", "iris", "--grid", "learning_rate=0.3,0.01", "--epochs", "5", *QUICK[2:], "--out", "swept")
    assert other.code == 2
    assert "trial 0 of the sweep has momentum=0, but this space has 0.9;" in other.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_any_moment_ends_a_sweep_in_one_line_and_keeps_its_state(tmp_path, number, code):
    """In its first seconds a sweep compiles, where JAX's callbacks drop exceptions."""
    options = ["--grid", "hidden=8,9,10,11,12,13,14,15", "--seeds", "4", "--epochs", "2000", "--no-cache"]
    for folder, begun in (("early", "early"), ("late", "late/sweep.locks")):
        command = [sys.executable, "-m", "jaxmlp", "sweep", "iris", *options, "--quiet", "--out", folder]
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        finally:
            signal.signal(signal.SIGINT, handler)
        while not (tmp_path / begun).exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert re.fullmatch(r"interrupted(, \d+ of 32 trials are done)?; continue with: jaxmlp sweep iris .*\n", err)
    assert len(sweep.load(tmp_path / "late")) == 32


def test_status_says_how_far_a_sweep_is_and_who_runs_it(swept, jaxmlp, tmp_path):
    done = json.loads(jaxmlp("sweep", "status", "swept", "--json").out)
    rows = sweep.load(tmp_path / "swept").rows()
    assert (done["total"], done["finished"], done["stopped"], done["diverged"], done["running"]) == (8, 8, 0, 0, 0)
    assert done["seconds"] == pytest.approx(sum(row.seconds for row in rows))
    assert done["seconds_left"] == 0
    assert done["best"] == swept["settings"][0]
    assert re.match(r"trials +8 of 8: 8 finished\n", jaxmlp("sweep", "status", "swept").out)
    # As if half of the trials had not been run, and another process were at its first block.
    store = sqlite3.connect(tmp_path / "swept" / FILE)
    with store:
        store.execute("delete from trials where trial >= 4")
        store.execute("delete from curves where trial >= 4")
    store.close()
    blocks = [block for group in sweep.load(tmp_path / "swept")._store.plans()[-1][1].groups for block in group.blocks]
    lock = "import fcntl, sys; file = open(sys.argv[1], 'ab'); fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))"
    lock += "; print('locked', flush=True); input()"
    command = [sys.executable, "-c", lock, str(tmp_path / "swept" / "sweep.locks"), str(blocks[-1][0][0])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    half = json.loads(jaxmlp("sweep", "status", "swept", "--json").out)
    process.communicate("\n")
    n_running = sum(number >= 4 for chunk in blocks[-1] for number in chunk)
    assert (half["finished"], half["running"], half["notes"]) == (4, n_running, [])
    assert n_running > 0
    assert half["seconds_left"] == pytest.approx(half["seconds"])
    assert json.loads(jaxmlp("sweep", "status", "swept", "--json").out)["running"] == 0


def test_the_report_is_written_to_the_place_that_is_asked_for(swept, jaxmlp, tmp_path):
    (tmp_path / "swept" / "report.html").unlink()
    (tmp_path / "pages").mkdir()
    assert jaxmlp("sweep", "report", "swept", "--out", "pages/rates.html", "--png").code == 0
    assert (tmp_path / "pages" / "rates.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "pages" / "learning_curves.png").exists()
    assert not (tmp_path / "swept" / "report.html").exists()
    for place, said in (("no/rates.html", "there is no folder no"), ("rates.pdf", "like rates.html")):
        refused = jaxmlp("sweep", "report", "swept", "--out", place)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert said in refused.err


def test_folds_are_trained_side_by_side_and_averaged(jaxmlp, tmp_path):
    command = ["sweep", "iris", "--grid", "learning_rate=0.01,0.1", "--folds", "3", *QUICK, "--out", "folded"]
    shown = jaxmlp(*command)
    assert shown.code == 0
    assert "validation accuracy, mean over folds" in shown.out
    results = sweep.load(tmp_path / "folded")
    assert (len(results), results.best().n_asked) == (6, 3)
    assert results.table()["test_accuracy"].null_count() == 0
    best = json.loads(jaxmlp("sweep", "best", "folded", "--save", "best.safetensors", "--json").out)
    assert (best["mean"], best["n_asked"]) == (results.best().mean, 3)
    assert load(tmp_path / "best.safetensors").about["results"]["fold"] == results.trial(best["trial"]).fold
    plan = [*command[:4], "--seeds", "3", "--halving", "2", "--plan", "--json"]
    shares = [json.loads(jaxmlp(*plan, *more).out)["halving_share"] for more in ((), ("--folds", "3"))]
    assert shares[0] == shares[1] < 1
    refused = jaxmlp(*command, "--validation-fraction", "0.2")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--folds holds out the rows to choose by: leave out --validation-fraction" in refused.err
    assert "folds must be a whole number from 2 to 120, got 1" in jaxmlp(*command[:4], "--folds", "1").err
    assert "the sweep was begun with 3 folds, got 4 folds" in jaxmlp(*command[:5], "4", *command[6:]).err
