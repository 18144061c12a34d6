"""The surroundings of a command: encodings, Ctrl-C, devices, and the folder for compiled programs."""

import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from argparse import Namespace

import jax
import numpy as np
import pytest

from jaxmlp._interrupts import Terminated, interrupts_kept, termination_as_interrupt
from jaxmlp.cli import datasets
from jaxmlp.cli.startup import error_line, keep_compiled_programs, say, warnings_noted

CLASSES = ["größe €", "日本", "ż·…"]
# Every command, with names that only UTF-8 can encode; the last four fail.
COMMANDS = [
    ["--help"],
    *([command, "--help"] for command in ("train", "evaluate", "predict", "examples", "info", "check", "sweep")),
    ["datasets"],
    ["train", "data.csv", "--target", "klasse", "--epochs", "2", "--out", "rün", "--no-cache"],
    ["evaluate", "rün", "data.csv", "--no-cache"],
    ["evaluate", "rün", "data.csv", "--no-cache", "--json"],
    ["info", "rün"],
    ["predict", "rün", "data.csv", "--out", "töne.csv", "--no-cache"],
    ["examples", "rün", "data.csv", "--no-cache"],
    ["examples", "rün", "data.csv", "--influence", "1", "--no-cache"],
    ["sweep", "data.csv", "--target", "klasse", "--epochs", "1", "--seeds", "2", "--out", "swöp", "--no-cache"],
    ["sweep", "best", "swöp"],
    ["sweep", "export", "swöp", "--to", "töne.csv"],
    ["check", "rün", "data.csv", "--at", "日:本"],
    ["train", "nö.csv"],
    ["train", "data.csv", "--target", "日"],
    ["info", "\udcff"],
]
RUN_ALL = """
import json, sys
from jaxmlp.cli import main
for argv in json.loads(sys.argv[1]):
    try:
        code = main(argv)
    except SystemExit as left:
        code = left.code
    print(code, file=sys.stderr)
"""


def process(folder, *command, start=subprocess.run, **environment):
    """Run Python in a process of its own, with quick compilation."""
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | environment
    return start(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_every_command_replaces_characters_that_the_encoding_lacks(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    rows = [f"{a},{b},{CLASSES[int(a > 0) + int(b > 0)]}" for a, b in x]
    (tmp_path / "data.csv").write_text("\n".join(["höhe,幅,klasse", *rows]), "utf-8")
    done = process(tmp_path, "-c", RUN_ALL, json.dumps(COMMANDS), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    out, err = (text.decode("ascii") for text in (done.stdout, done.stderr))
    codes = [int(line) for line in err.splitlines() if line.isdigit()]
    assert codes == [0] * (len(COMMANDS) - 4) + [2] * 4
    for name in CLASSES:
        assert name.encode("ascii", "replace").decode() in out
    (evaluation,) = [line for line in out.splitlines() if line.startswith("{")]
    assert set(json.loads(evaluation)["classes"]) == set(CLASSES)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_in_a_callback_of_the_garbage_collector_is_kept(number, raised):
    def interrupt(phase, info):
        gc.callbacks.remove(interrupt)
        signal.raise_signal(number)

    def collect_and_wait():
        gc.callbacks.append(interrupt)
        gc.collect()
        time.sleep(30)

    handler, hook = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
    before = signal.getsignal(signal.SIGTERM)
    try:
        began = time.monotonic()
        with pytest.raises(raised), termination_as_interrupt() as received, interrupts_kept():
            collect_and_wait()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - began < 15  # a second on a calm machine
    assert sys.unraisablehook is hook
    assert signal.getsignal(signal.SIGTERM) is before
    assert set(received) == {number} - {signal.SIGINT}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ImportError("initialization failed")])
def test_a_ctrl_c_during_an_import_is_an_interruption(jaxmlp, monkeypatch, error):
    def run(arguments):
        raise error from KeyboardInterrupt()

    monkeypatch.setattr(datasets, "run", run)
    assert jaxmlp("datasets") == (130, "", "jaxmlp datasets: interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_ends_training_in_one_line(tmp_path, number, code):
    # A shell lets its background jobs and their children ignore Ctrl-C; this test may run in one.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = ("-m", "jaxmlp", "train", "digits", "--epochs", "100000", "--no-cache", "--out", "run")
        training = process(tmp_path, *command, start=subprocess.Popen)
    finally:
        signal.signal(signal.SIGINT, handler)
    while not (tmp_path / "run" / "checkpoint.safetensors").exists():
        assert training.poll() is None
        time.sleep(0.05)
    training.send_signal(number)
    _, err = training.communicate(timeout=30)
    assert training.returncode == code
    assert err.decode().startswith("interrupted after epoch ")
    assert err.decode().endswith("; continue with: jaxmlp train digits --out run --resume\n")
    assert err.count(b"\n") == 1


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_missing_device_is_reported_in_one_line_and_leaves_no_folder(tmp_path, platform):
    if platform == jax.default_backend():
        pytest.skip("this machine has one")
    done = process(tmp_path, "-m", "jaxmlp", "train", "iris", "--no-cache", JAX_PLATFORMS=platform)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert f"JAX_PLATFORMS={platform} names no device".encode() in done.stderr
    assert b"unset it, or set it to cpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_quiet_hides_that_a_cache_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    command = ("-m", "jaxmlp", "train", "iris", "--epochs", "1", "--quiet")
    done = process(tmp_path, *command, XDG_CACHE_HOME=str(tmp_path / "file"), HOME=str(tmp_path / "file"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.fixture
def jax_config():
    """Restore the options of JAX that the compilation cache has."""
    names = ("compilation_cache_dir", "enable_compilation_cache", "persistent_cache_min_compile_time_secs")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    jax.config.update("jax_enable_compilation_cache", True)  # another test may have run a command with --no-cache
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def cached(**options):
    arguments = Namespace(**{"command": "train", "quiet": False, "json": False, "no_cache": False} | options)
    with warnings_noted(arguments):
        keep_compiled_programs(arguments)
    return arguments.notes


@pytest.mark.usefixtures("jax_config")
def test_the_users_own_cache_folder_and_its_settings_stay(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    assert cached() == []
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 7.0
    assert jax.config.jax_enable_compilation_cache
    cached(no_cache=True)
    assert not jax.config.jax_enable_compilation_cache


@pytest.mark.usefixtures("jax_config")
def test_a_cache_folder_that_cannot_be_written_is_noted_once_and_not_used(tmp_path, capsys):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "below")
    jax.config.update("jax_compilation_cache_dir", folder)
    (said,) = cached()
    assert said.startswith(f"{folder}: Not a directory; compiled programs are not kept")
    assert capsys.readouterr().err == f"jaxmlp train: note: {said}\n"
    assert not jax.config.jax_enable_compilation_cache


def test_a_warning_becomes_one_note_that_json_and_quiet_hide(capsys):
    for options, printed in (({}, "jaxmlp train: note: two lines\n"), ({"json": True}, ""), ({"quiet": True}, "")):
        arguments = Namespace(**{"command": "train", "quiet": False, "json": False} | options)
        with warnings_noted(arguments):
            for _ in range(2):
                warnings.warn("two\n lines", UserWarning, stacklevel=1)
            warnings.warn("of overflow", RuntimeWarning, stacklevel=1)
        assert arguments.notes == ["two lines"]
        assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two\nlines"), "two lines"),
        (OSError("full"), "full"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "not enough memory"),
    ],
)
def test_errors_of_the_user_and_of_the_machine_are_one_line(error, said):
    assert error_line(error).startswith(said)


def test_faults_of_the_program_are_not_hidden():
    assert error_line(RuntimeError("a fault")) is None
    assert error_line(AssertionError()) is None


def test_a_line_without_a_reader_is_no_error(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    say("once")
    say("again")
    sys.stderr.close()
