"""A trial has the same numbers to the last bit on any number of workers, devices and processes."""

import hashlib
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmlp import MLP, Dataset, TrainConfig, sweep, train
from jaxmlp.sweep import lanes, workers

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 20)).astype(np.float32)
T = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)
DATA, VALIDATION, TEST = Dataset(X[:200], T[:200]), Dataset(X[200:250], T[200:250]), Dataset(X[250:], T[250:])
PARTS = {"validation": VALIDATION, "test": TEST}
CONFIG = TrainConfig(epochs=4, batch_size=16)
CPU = jax.local_devices()[:1]
SPACES = {
    "shared order": sweep.grid(learning_rate=[0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1e18], hidden=[(16,), (8, 4)]),
    "own order": sweep.grid(hidden=[(16,), (30, 10)], seed=range(7)),
}


def found(space, **options):
    """Return all that a sweep finds, as one text."""
    options = {"config": CONFIG, "keep": "all", **PARTS, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model of trial .* was not kept")
        results = sweep.run(space, DATA, **options)
    digest = hashlib.sha256()
    for number in range(len(space)):
        digest.update(repr([epoch._replace(seconds=0.0) for epoch in results.history(number)]).encode())
        for leaf in jax.tree.leaves(results.params(number)):
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest() + repr([row._replace(seconds=0.0) for row in results.rows()])


@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("shared order", {}),
        ("shared order", {"lanes": 3, "trials_a_block": 6}),
        ("shared order", {"folds": 3, "validation": None, "lanes": 2}),
        ("shared order", {"config": TrainConfig(epochs=12, batch_size=16, patience=1), "lanes": 2}),
        ("own order", {"lanes": 1}),
        ("own order", {"halving": 2}),
    ],
)
def test_any_number_of_workers_finds_the_same_numbers(space, options):
    assert found(SPACES[space], devices=CPU, **options) == found(SPACES[space], devices=CPU * 3, **options)


def test_a_worker_with_a_single_chunk_finds_the_same_numbers_as_one_with_several():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((40, 342)).astype(np.float32), rng.integers(0, 10, 40)
    data, validation = Dataset(x, t), Dataset(x[:20], t[:20])
    config, mlp = TrainConfig(epochs=20, batch_size=8), MLP((342, 8, 10))
    space = sweep.grid(learning_rate=[0.003, 0.01, 0.03, 0.05])
    histories = []
    for n in (1, 4):
        options = {"mlp": mlp, "validation": validation, "lanes": 1, "devices": CPU * n}
        results = sweep.run(space, data, config, **options)
        histories.append([[epoch._replace(seconds=0.0) for epoch in results.history(k)] for k in range(4)])
    assert histories[0] == histories[1]


def test_a_lane_of_its_own_equals_train_beside_another_worker():
    space = sweep.grid(learning_rate=[0.03, 0.1, 0.3], hidden=[(64, 32)])
    results = sweep.run(space, DATA, CONFIG, lanes=1, devices=CPU * 2, keep="all", **PARTS)
    for number, rate in enumerate((0.03, 0.1, 0.3)):
        config = TrainConfig(epochs=4, batch_size=16, learning_rate=rate)
        alone = train(MLP((20, 64, 32, 2)), DATA, config, key=jax.random.key(0), **PARTS)
        jax.tree.map(np.testing.assert_array_equal, results.params(number), alone.params)


def test_a_sweep_begun_with_two_workers_ends_the_same_with_one_and_says_so(tmp_path):
    def interrupt(progress):
        if progress.done >= 3:
            raise KeyboardInterrupt

    options = {"lanes": 2, "trials_a_block": 2, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        found(SPACES["own order"], devices=CPU * 2, callback=interrupt, **options)
    kind = f"JAX {jax.__version__} on {{}} x {CPU[0].device_kind}"
    said = f"{tmp_path}: the sweep began with {kind.format(2)}, and goes on with {kind.format(1)}: the last digits"
    with pytest.warns(UserWarning, match=f"^{said} of its trials may differ$"):
        continued = found(SPACES["own order"], devices=CPU, **options)
    assert continued == found(SPACES["own order"], lanes=2)
    assert found(SPACES["own order"], devices=CPU, **options) == continued  # nothing is left to say


CODE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("of_tests", sys.argv[1])
of_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(of_tests)
import jax
for devices in (None, jax.local_devices()):
    print(of_tests.found(of_tests.SPACES["own order"], devices=devices))
"""


def test_several_devices_find_the_same_numbers_as_one():
    expected = found(SPACES["own order"])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4"}
    command = [sys.executable, "-W", "error", "-c", CODE, __file__]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == [expected] * 2


def test_every_worker_calls_its_program_in_a_thread_of_its_own(monkeypatch):
    threads, program, gate = set(), lanes.program, threading.Barrier(3, timeout=60)

    def watched(key, shapes):
        compiled = program(key, shapes)

        def call(inputs):
            gate.wait()  # passes if three threads are here at the same time
            threads.add(threading.get_ident())
            return compiled(inputs)

        return call

    monkeypatch.setattr(lanes, "program", watched)
    sweep.run(sweep.grid(seed=range(6)), DATA, CONFIG, lanes=1, devices=CPU * 3)
    assert len(threads) == 3
    assert threading.get_ident() not in threads


def test_a_program_is_compiled_once_for_all_workers_of_a_device():
    lanes._compiled.cache_clear()
    sweep.run(sweep.grid(seed=range(6)), DATA, CONFIG, lanes=1, devices=CPU * 3)
    assert lanes._compiled.cache_info().misses == 1


@pytest.mark.parametrize(
    ("affinity", "omp", "quota", "expected"),
    [
        (6, "", "max 100000", 6),
        (6, "4", "max 100000", 4),
        (6, "0", "max 100000", 6),
        (6, "4,2", "max 100000", 6),
        (6, "", "350000 100000", 3),
        (6, "", "50000 100000", 1),
        (2, "9", "900000 100000", 2),
    ],
)
def test_there_are_as_many_workers_as_cores_that_the_process_may_use(monkeypatch, affinity, omp, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    monkeypatch.setattr(Path, "read_text", lambda path: {"/sys/fs/cgroup/cpu.max": quota + "\n"}[str(path)])
    assert workers.n_cores() == expected
    assert workers.all_workers() == tuple(CPU) * expected
