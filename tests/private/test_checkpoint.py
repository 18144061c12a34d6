"""A private run that is killed at any moment continues with the same draws: the same releases, each counted once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxmlp import MLP, Dataset, TrainConfig
from jaxmlp.private import Mechanism, Privacy, epsilons, train
from jaxmlp.private.checkpoint import Checkpoint
from jaxmlp.storage.tensors import read, write

from .test_step import flat

N, KEY = 60, jax.random.key(0)
MLP_ = MLP((5, 4, 3), "tanh")
PRIVACY = Privacy(noise_multiplier=2.0, clip=0.2, delta=1e-3)
CONFIG = TrainConfig(epochs=4, batch_size=20, learning_rate=0.3, weight_decay=0.0)
RNG = np.random.default_rng(0)
DATA = Dataset(RNG.normal(size=(N, 5)), RNG.integers(0, 3, N))


def run(path, *, data=DATA, privacy=PRIVACY, config=CONFIG, key=KEY, **others):
    return train(MLP_, data, privacy, config, key=key, checkpoint=path, **others)


class Killed(Exception):
    pass


def interrupted(path, epoch, **others):
    """Begin a run that ends in the callback of an epoch; return what was seen until then."""
    seen = []

    def callback(trained):
        seen.append(trained)
        if len(trained.history) == epoch:
            raise Killed

    with pytest.raises(Killed):
        run(path, callback=callback, **others)
    return seen


def same(a, b):
    np.testing.assert_array_equal(flat((a.params, a.state)), flat((b.params, b.state)))
    assert a.guarantee == b.guarantee
    assert [row._replace(seconds=0) for row in a.history] == [row._replace(seconds=0) for row in b.history]


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, epoch):
    secret, path = jax.random.key(5), tmp_path / "run"
    whole = train(MLP_, DATA, PRIVACY, CONFIG, key=KEY, secret=secret, validation=DATA)
    interrupted(path, epoch, secret=secret, validation=DATA)
    same(run(path, validation=DATA), whole)
    same(run(path, validation=DATA), whole)  # a finished run returns what it has


def test_what_is_seen_is_kept_and_counted_before(tmp_path):
    path = tmp_path / "run"

    def callback(trained):
        kept = Checkpoint.of(path, MLP_, DATA, PRIVACY, CONFIG, KEY).load(MLP_)
        assert kept.history == trained.history
        np.testing.assert_array_equal(flat(kept.params), flat(trained.params))
        (spent,) = epsilons(Mechanism(N, 20, 2.0, 0.2), [3 * len(kept.history)], 1e-3)
        assert kept.history[-1].epsilon == trained.guarantee.epsilon == pytest.approx(spent)

    run(path, callback=callback)


def test_the_secret_is_there_before_the_first_step_and_not_after_the_last(tmp_path, monkeypatch):
    path = tmp_path / "run"

    def no_step(*arguments):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("jaxmlp.private.training._run_epoch", no_step)
        with pytest.raises(Killed):
            run(path)
    secret = read(path)[0]["secret"]
    run(path)
    assert "secret" not in read(path)[0]
    assert secret.tobytes() not in path.read_bytes()


def test_only_the_owner_may_read_it(tmp_path):
    before = os.umask(0)
    try:
        interrupted(tmp_path / "run", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["run"]


CHANGED = Dataset(np.where(np.arange(N)[:, None] == 7, 0.5, DATA.x), DATA.t)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"privacy": replace(PRIVACY, noise_multiplier=3.0)}, "noise_multiplier 2.0, got 3.0"),
        ({"privacy": replace(PRIVACY, noise_multiplier=None, epsilon=1.0)}, "epsilon None, got 1.0"),
        ({"privacy": replace(PRIVACY, clip=0.3)}, "clip 0.2, got 0.3"),
        ({"privacy": replace(PRIVACY, delta=1e-4)}, "delta 0.001, got 0.0001"),
        ({"config": replace(CONFIG, batch_size=30)}, "batch_size 20, got 30"),
        ({"config": replace(CONFIG, learning_rate=0.1)}, "learning_rate 0.3, got 0.1"),
        ({"config": replace(CONFIG, epochs=5)}, "epochs 4, got 5"),
        ({"data": CHANGED}, "other data"),
        ({"key": jax.random.key(1)}, "another key"),
    ],
)
def test_a_run_continues_only_as_it_began(tmp_path, change, words):
    path = tmp_path / "run"
    interrupted(path, 1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"run: the run began with {words}; continue it as it began"):
        run(path, **change)
    assert path.read_bytes() == before


def test_other_versions_of_the_generators_are_refused(tmp_path, monkeypatch):
    interrupted(tmp_path / "run", 1)
    monkeypatch.setattr(np, "__version__", "9.9")
    with pytest.raises(
        ValueError, match=r"the run began with draws of jaxmlp .*, got of jaxmlp .* NumPy 9\.9 in float32"
    ):
        run(tmp_path / "run")


def test_another_file_is_one_line(tmp_path):
    path = tmp_path / "run"
    write(path, {}, {"history": []})
    with pytest.raises(ValueError, match="run: not a checkpoint of private training by this version of jaxmlp"):
        run(path)
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="run: not a safetensors file"):
        run(path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run(tmp_path / "none" / "run")


def test_a_checkpoint_without_its_secret_is_one_line(tmp_path):
    path = tmp_path / "run"
    interrupted(path, 1)
    tensors, header = read(path)
    del tensors["secret"]
    write(path, tensors, header)
    with pytest.raises(ValueError, match="a damaged checkpoint of private training: 'secret' is missing"):
        run(path)


VICTIM = """
import hashlib, json, time
import jax, numpy as np
from jaxmlp import MLP, Dataset, TrainConfig
from jaxmlp.private import Privacy, train

def callback(trained):
    numbers = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(trained.params)])
    print(json.dumps([len(trained.history), trained.guarantee.steps, hashlib.sha256(numbers).hexdigest()]), flush=True)
    time.sleep(0.05)  # so that kills hit epochs, not only what comes before

rng = np.random.default_rng(0)
data = Dataset(rng.normal(size=({n}, 5)), rng.integers(0, 3, {n}))
train({mlp}, data, {privacy}, {config}, key=jax.random.key(0), checkpoint={path!r}, callback=callback)
print("ended", flush=True)
"""


def test_a_killed_run_makes_the_same_releases_again_and_counts_all_that_were_seen(tmp_path):
    path, config = tmp_path / "run", replace(CONFIG, epochs=12)
    program = VICTIM.format(n=N, mlp=MLP_, privacy=PRIVACY, config=config, path=str(path))
    file, moments = Checkpoint.of(path, MLP_, DATA, PRIVACY, config, KEY), random.Random(0)
    digests, secret, has_ended, kills = {}, None, False, 0
    while not has_ended:
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            lines = [process.stdout.readline()]
            if kills < int(os.environ.get("KILLS", "2")):
                time.sleep(moments.uniform(0, 0.5))
                process.send_signal(signal.SIGKILL)
                kills += 1
            lines += process.stdout.readlines()
        for line in lines:
            has_ended = has_ended or line == "ended\n"
            if line.endswith("]\n"):
                epoch, steps, digest = json.loads(line)
                assert digests.setdefault(epoch, digest) == digest
                assert steps == 3 * epoch
        kept = file.load(MLP_)
        assert len(kept.history) >= max(digests)
        secret = kept.secret if secret is None else secret
    whole = train(MLP_, DATA, PRIVACY, config, key=KEY, secret=secret)
    same(run(path, config=config), whole)
