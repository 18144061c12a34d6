"""A sweep's folder: whole blocks whatever happens, nothing done twice, and one line where something is wrong."""

import errno
import gc
import re
import signal
import sqlite3
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import jaxmlp
from jaxmlp import Dataset, TrainConfig, load, sweep
from jaxmlp.data import Source, prepare
from jaxmlp.sweep import rungs, running, store
from jaxmlp.sweep.store import FILE, Store
from jaxmlp.training.evaluation import outputs

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 5)).astype(np.float32)
T = (X[:, 0] > 0).astype(int)
DATA, VALIDATION, TEST = Dataset(X[:80], T[:80]), Dataset(X[80:100], T[80:100]), Dataset(X[100:], T[100:])
CONFIG = TrainConfig(epochs=3, batch_size=16)
RATES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3]
SPACE = sweep.grid(learning_rate=[*RATES, 1e18], hidden=[(4,), (3, 3)])
# Blocks of two trials.
SMALL = {"lanes": 1, "trials_a_block": 2}


def run(folder=None, *, space=SPACE, data=DATA, config=CONFIG, **options):
    parts = {"validation": VALIDATION, "test": TEST}
    return sweep.run(space, data, config, out=folder, **SMALL | parts | {"keep": "all"} | options)


def outcome(results):
    """Return all that a sweep found, without times."""
    histories = [[epoch._replace(seconds=0.0) for epoch in results.history(number)] for number in range(len(results))]
    params = [jax.tree.map(np.asarray, results.params(number)) for number in range(len(results))]
    return [row._replace(seconds=0.0) for row in results.rows()], repr(histories), params


def assert_same(one, other):
    assert one[:2] == other[:2]
    jax.tree.map(np.testing.assert_array_equal, one[2], other[2])


def test_the_sweep_of_these_tests_has_several_blocks_in_each_of_two_groups():
    plan = sweep.plan(SPACE, DATA, CONFIG, validation=VALIDATION, **SMALL)
    assert len(plan.groups) == 2
    assert all(len(group.blocks) >= 3 for group in plan.groups)


def test_the_folder_holds_the_results(tmp_path):
    kept, expected = run(tmp_path / "sweep"), run()
    assert_same(outcome(kept), outcome(expected))
    assert_same(outcome(sweep.load(tmp_path / "sweep")), outcome(expected))
    model = load(tmp_path / "sweep/models/trial-000003.safetensors")
    (network,) = model.networks
    assert network.mlp == kept.trial(3).mlp
    jax.tree.map(np.testing.assert_array_equal, network.params, expected.params(3))
    assert model.about["hyperparameters"] == {"learning_rate": 0.02, "hidden": [3, 3], "seed": 0}


def prepared():
    """Return raw data, and the same data scaled, with the encoding."""
    raw = np.random.default_rng(1).normal(50, 20, (90, 5))
    source = Source("here", raw, raw[:, 0] * 3 + 1000)
    return raw, prepare(source, test_fraction=0.2)


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_sweep_that_is_given_the_encoding_keeps_models_that_take_raw_inputs(tmp_path, is_kept):
    raw, data = prepared()
    space = sweep.grid(learning_rate=[0.01, 0.05])
    about = {"source": "here", "options": {"epochs": 3}}
    out = tmp_path if is_kept else None
    results = sweep.run(space, data.train, CONFIG, validation=data.test, out=out, encoding=data.encoding, about=about)
    models = [results.model(1)]
    if is_kept:
        models += [sweep.load(tmp_path).model(1), load(tmp_path / "models" / "trial-000001.safetensors")]
        with pytest.raises(ValueError, match="the sweep was begun with another encoding"):
            sweep.run(space, data.train, CONFIG, validation=data.test, out=out, about=about)
        with pytest.raises(ValueError, match="the sweep was begun with another about"):
            sweep.run(space, data.train, CONFIG, validation=data.test, out=out, encoding=data.encoding)
    by_hand = outputs(results.trial(1).mlp, results.params(1), data.encoding.encode_inputs(raw))
    for model in models:
        np.testing.assert_allclose(model.predict(raw), data.encoding.targets.inverse(np.asarray(by_hand)), rtol=1e-5)
        assert model.about == about | {"trial": 1, "hyperparameters": {"learning_rate": 0.05, "seed": 0}}
    assert results.about == about


def test_a_model_without_encoding_takes_the_inputs_as_the_sweep_had_them():
    results = run()
    by_hand = outputs(results.trial(3).mlp, results.params(3), X)
    np.testing.assert_array_equal(results.model(3).predict(X), by_hand)


def test_the_same_call_again_repeats_nothing(tmp_path, monkeypatch):
    first = run(tmp_path)
    monkeypatch.setattr(rungs, "run_block", lambda *_: pytest.fail("a block was run again"))
    again = run(tmp_path)
    assert again.rows() == first.rows()
    assert not again.table().is_empty()


LOCK = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[2]))
print("locked", flush=True)
input()
"""


def lock_in_another_process(folder, n_blocks=100):
    """Claim all blocks with trials below a number in a process of its own."""
    command = [sys.executable, "-c", LOCK, str(folder / "sweep.locks"), str(n_blocks)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    return process


def test_after_an_interruption_the_same_call_continues_to_the_same_results(tmp_path):
    seen = []

    def interrupt(progress):
        seen.append(progress)
        if len(seen) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path, callback=interrupt)
    n_done = len(sweep.load(tmp_path).rows())
    assert 0 < n_done < len(SPACE)
    lock_in_another_process(tmp_path).communicate("\n")  # what was claimed is free, though this process lives on
    assert (
        str(caught.value)
        == f"{n_done} of {len(SPACE)} trials are done; repeat the call with out={str(tmp_path)!r} to continue"
    )
    before = sweep.load(tmp_path).rows()
    results = run(tmp_path)
    assert set(before) <= set(results.rows())  # with their times: they were not trained again
    assert_same(outcome(results), outcome(run()))


# Kills its own process at the n-th time that it gets to a place.
KILLED = """
import os, signal, sys
from jaxmlp.sweep import store
import importlib.util
from jaxmlp.sweep import rungs
run_block = rungs.run_block
rungs.run_block = lambda *args: print(args[2], flush=True) or run_block(*args)
spec = importlib.util.spec_from_file_location("of_tests", sys.argv[2])
of_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(of_tests)
folder, place, n, halving = sys.argv[1], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]) or None
passed = 0

def pass_by(*_):
    global passed
    passed += 1
    if passed == n:
        os.kill(os.getpid(), signal.SIGKILL)

if place == "in the transaction":
    outcome = store.outcome
    store.outcome = lambda *args: pass_by() or outcome(*args)
elif place == "among the models":
    save = store.save
    store.save = lambda *args, **options: save(*args, **options) or pass_by()
of_tests.run(folder, callback=pass_by if place == "in a block" else None, halving=halving)
"""


def run_and_be_killed(folder, place, n, halving=0):
    command = [sys.executable, "-c", KILLED, str(folder), __file__, place, str(n), str(halving)]
    return subprocess.run(command, check=False).returncode


def test_a_sweep_killed_anywhere_continues_to_the_uninterrupted_results(tmp_path):
    killed = [
        run_and_be_killed(tmp_path, "in a block", 4),
        run_and_be_killed(tmp_path, "among the models", 3),
        run_and_be_killed(tmp_path, "in the transaction", 4),
    ]
    assert killed == [-signal.SIGKILL] * 3
    assert_same(outcome(run(tmp_path)), outcome(run()))


@pytest.mark.parametrize(
    ("place", "n"),
    # The second one has written the checkpoints of the second rung, and not its outcomes.
    [("in a block", 11), ("in the transaction", len(SPACE) + 1)],
)
def test_a_halving_killed_after_a_rung_continues_to_the_uninterrupted_results(place, n, tmp_path):
    assert run_and_be_killed(tmp_path, place, n, halving=2) == -signal.SIGKILL
    assert sweep.load(tmp_path)._store.paused()
    results = run(tmp_path, halving=2)
    expected = run(halving=2)
    assert [row._replace(seconds=0.0) for row in results.rows()] == [
        row._replace(seconds=0.0) for row in expected.rows()
    ]
    assert not list((tmp_path / "paused").iterdir())


def test_two_processes_share_the_work_of_one_store(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), __file__, "nowhere", "1", "0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    blocks = "".join(process.communicate()[0] for process in both).splitlines()
    assert [process.returncode for process in both] == [0, 0]
    assert_same(outcome(sweep.load(tmp_path)), outcome(run()))
    planned = [
        block
        for group in sweep.plan(SPACE, DATA, CONFIG, validation=VALIDATION, **SMALL).groups
        for block in group.blocks
    ]
    assert sorted(blocks) == sorted(map(str, planned))  # each was run once


def test_a_block_of_a_living_process_is_left_alone_and_one_of_a_dead_process_taken(tmp_path):
    opened = Store.create(tmp_path, {"names": []})
    living = lock_in_another_process(tmp_path, 8)
    assert not opened.claim(7)
    assert opened.claim(8)
    living.kill()
    living.communicate()
    assert opened.claim(7)
    assert opened.claim(7)
    opened.release_all()


TOGETHER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("of_tests", sys.argv[2])
of_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(of_tests)
raw, data = of_tests.prepared()
print("ready", flush=True)
input()
options = {"config": of_tests.CONFIG, "encoding": data.encoding, "out": sys.argv[1], "halving": 2, "keep": 3}
space = of_tests.sweep.grid(learning_rate=of_tests.RATES, seed=range(2))
of_tests.sweep.run(space, data.train, validation=data.test, **of_tests.SMALL, **options)
"""


def test_processes_that_begin_a_halving_together_do_not_disturb_each_other(tmp_path):
    command = [sys.executable, "-c", TOGETHER, str(tmp_path), __file__]
    pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == [""] * 3
    assert [process.returncode for process in processes] == [0] * 3
    results = sweep.load(tmp_path)
    assert results.unfinished is None
    best = {number for setting in results.ranked()[:3] for number in setting.trials}
    assert {int(path.stem[-6:]) for path in (tmp_path / "models").iterdir()} == best
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "paused", "sweep.locks", FILE]
    assert not list((tmp_path / "paused").iterdir())


def test_a_second_thread_that_runs_the_same_sweep_is_refused(tmp_path):
    refused = []

    def run_again(progress):
        if not refused:
            with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="another thread of this pro") as said:
                pool.submit(run, tmp_path).result()
            refused.append(str(said.value))

    first = run(tmp_path, callback=run_again)
    assert refused[0].startswith(f"{tmp_path}: ")
    assert_same(outcome(run(tmp_path)), outcome(first))  # and this thread may run it again
    run(tmp_path / "other", callback=lambda _: None)


def test_a_process_that_comes_late_to_a_rung_stops_what_another_has_stopped(tmp_path, monkeypatch):
    stop = rungs._stop

    def stop_late(running, numbers):
        seen = running.store.rows()
        stop(running, numbers)
        with monkeypatch.context() as patch:
            patch.setattr(running.store, "rows", lambda: seen)
            stop(running, numbers)

    expected = run(halving=2).rows()
    monkeypatch.setattr(rungs, "_stop", stop_late)
    results = run(tmp_path, halving=2)
    assert [row._replace(seconds=0.0) for row in results.rows()] == [row._replace(seconds=0.0) for row in expected]


def test_a_model_that_a_killed_process_left_is_replaced(tmp_path):
    results = run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))
    opened, trial = Store.open(tmp_path), results.trial(0)
    ended = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, results.params(0))
    opened.save_model(trial, ended)
    jax.tree.map(np.testing.assert_array_equal, results.params(0), ended)


def test_parameters_of_the_best_few_are_kept_and_no_others(tmp_path):
    results = run(tmp_path, keep=3)
    table = results.table().with_columns(table_score=-results.table()["validation_accuracy"].fill_null(-1))
    best = table.sort("table_score", "trial")["trial"].to_list()[:3]
    assert sorted(int(path.stem[-6:]) for path in (tmp_path / "models").iterdir()) == sorted(best)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": Dataset(X[:80] + 1, T[:80])}, "these are not the training data that the sweep was begun with"),
        ({"validation": TEST}, "these are not the validation data that the sweep was begun with"),
        ({"test": VALIDATION}, "these are not the test data that the sweep was begun with"),
        ({"config": TrainConfig(epochs=3, batch_size=8)}, "the sweep was begun with batch_size 16, got 8"),
        ({"halving": 3}, "the sweep was begun with halving None, got"),
    ],
)
def test_a_store_of_another_sweep_says_so(tmp_path, change, message):
    Store.create(tmp_path, {})
    folder = tmp_path / "sweep"
    with pytest.raises(KeyboardInterrupt):
        run(folder, callback=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    before = (folder / FILE).read_bytes()
    with pytest.raises(ValueError, match=re.escape(message)):
        run(folder, **change)
    assert (folder / FILE).read_bytes() == before


def test_a_store_of_another_version_says_so(tmp_path, monkeypatch):
    run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))
    other = {"space": sweep.grid(learning_rate=[0.1, 0.2])}
    with jax.enable_x64(True), pytest.raises(ValueError, match="begun with dtype 'float32', got 'float64'"):
        run(tmp_path, **other)
    monkeypatch.setattr(running, "__version__", jaxmlp.__version__ + ".post1")
    with pytest.raises(ValueError, match=r"begun by version 0\.\S+ of jaxmlp, this is 0\.\S+\.post1"):
        run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))


def test_anything_but_a_store_is_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a sweep"):
        sweep.load(tmp_path)
    (tmp_path / FILE).write_text("not a database, but long enough to be taken for one" * 10)
    with pytest.raises(ValueError, match="not the store of a sweep"):
        sweep.load(tmp_path)
    with pytest.raises(ValueError, match="is not the store of a sweep"):
        run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(tmp_path / "file")


def test_a_store_whose_trials_are_damaged_is_refused_in_one_line(tmp_path):
    run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))
    with sqlite3.connect(tmp_path / FILE) as file:
        page = file.execute("select rootpage from sqlite_master where name = 'trials'").fetchone()[0]
        size = file.execute("pragma page_size").fetchone()[0]
    file.close()
    with open(tmp_path / FILE, "r+b") as content:
        content.seek((page - 1) * size)
        content.write(b"?" * size)
    with pytest.raises(ValueError, match=r"cannot read sweep.sqlite: database disk image is malformed"):
        sweep.load(tmp_path).rows()


def test_a_disk_that_is_too_full_for_a_model_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "save", full)
    with pytest.raises(
        OSError, match="cannot write: No space left on device; what was written before is safe"
    ) as caught:
        run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))
    assert str(tmp_path) in str(caught.value)


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path, monkeypatch):
    create = Store.create

    def on_a_small_disk(folder, about):
        store = create(folder, about)
        pages = store._file.execute("pragma page_count").fetchone()[0]
        store._file.execute(f"pragma max_page_count = {pages + 1}")
        return store

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", on_a_small_disk)
        with pytest.raises(
            OSError, match=r"cannot write sweep.sqlite: database or disk is full; what was written before"
        ):
            run(tmp_path, config=TrainConfig(epochs=60, batch_size=16))
    before = sweep.load(tmp_path).rows()
    results = run(tmp_path, config=TrainConfig(epochs=60, batch_size=16))
    assert set(before) <= set(results.rows())
    assert len(results.rows()) == len(SPACE)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_table_can_be_exported(tmp_path, suffix):
    import polars as pl

    results = run(tmp_path)
    results.export(tmp_path / f"trials.{suffix}")
    read = getattr(pl, f"read_{suffix}")(tmp_path / f"trials.{suffix}")
    assert read.equals(results.table())
    with pytest.raises(ValueError, match=r"must end in .parquet or .csv"):
        results.export(tmp_path / "trials.xlsx")


@pytest.mark.parametrize("begin", ["begin immediate", "begin exclusive"])
def test_a_store_that_another_process_has_locked_says_so(tmp_path, monkeypatch, begin):
    run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))
    expected = sweep.load(tmp_path).rows()
    monkeypatch.setattr(store, "_PATIENCE", 0.1)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute(begin)
    said = rf"another process has locked {FILE} for 0.1 s: end it if it hangs or is stopped, then try again$"
    uses = [lambda: run(tmp_path, space=sweep.grid(learning_rate=[0.1, 0.2]))]
    uses += [lambda: sweep.load(tmp_path)] if begin == "begin exclusive" else []
    for use in uses:
        with pytest.raises(TimeoutError, match=said) as caught:
            use()
        assert str(caught.value).startswith(f"{tmp_path}: ")
    other.close()
    assert sweep.load(tmp_path).rows() == expected


def test_a_space_of_parts_is_saved_with_every_value_that_it_was_trained_with(tmp_path):
    space = sweep.grid([{"momentum": [0.0, 0.5]}, {"clip": [1.0, None], "momentum": [0.25]}], seed=[0, 1])
    config = TrainConfig(epochs=2, batch_size=16, clip=3.0)
    ran = run(tmp_path, space=space, config=config)
    loaded = sweep.load(tmp_path)
    assert [loaded.trial(n).values for n in range(8)] == [ran.trial(n).values for n in range(8)]
    assert [loaded.trial(n).config for n in range(8)] == [ran.trial(n).config for n in range(8)]
    assert loaded.table()["clip"].to_list() == [3.0] * 4 + [1.0, 1.0, None, None]
    assert [len(each.trials) for each in loaded.ranked()] == [2] * 4
    assert_same(outcome(run(tmp_path, space=space, config=config)), outcome(ran))


def test_the_file_is_closed_with_its_store_also_in_a_cycle_of_references(tmp_path):
    store = Store.create(tmp_path, {"names": []})
    store.itself, file = store, weakref.ref(store._file)
    del store
    with warnings.catch_warnings(record=True) as warned:  # Python warns of a file that is left open
        warnings.simplefilter("always")
        gc.collect()
    assert file() is None
    assert not warned


def test_a_file_that_cannot_be_opened_is_refused_without_a_warning(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(OSError, match=f"cannot write {FILE}: unable to open database file"):
        Store.create(tmp_path, {"names": []})
