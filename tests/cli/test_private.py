"""`jaxmlp train --private`: what is promised is kept with the model, and what would break it is refused."""

import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path

import jax
import pytest

from jaxmlp import MLP, Network, init, load, save
from jaxmlp.cli import main
from jaxmlp.data import fingerprint, read, split
from jaxmlp.private import Guarantee

PRIVATE = ["--private", "--noise-multiplier", "4", "--epochs", "2"]


def run(capsys, *words):
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out, printed, progress = str(tmp_path_factory.mktemp("trained") / "run"), StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(progress):
        assert main(["train", "digits", *PRIVATE, "--delta", "1e-5", "--out", out]) == 0
    return out, printed.getvalue(), progress.getvalue()


def test_the_guarantee_is_printed_and_kept_with_the_model(trained, capsys):
    out, printed, progress = trained
    assert "differentially private: with one example replaced by none of the 1,437 training examples" in printed
    assert "epoch 2/2  epsilon " in progress
    code, shown, _ = run(capsys, "info", out, "--json")
    assert code == 0
    kept = Guarantee(**json.loads(shown)["about"]["guarantee"])
    assert (kept.delta, kept.noise_multiplier, kept.clip, kept.steps) == (1e-5, 4.0, 0.1, 12)
    _, shown, _ = run(capsys, "info", out)
    assert " ".join(str(kept).split()) in " ".join(shown.split())


def test_the_model_predicts(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, shown, _ = run(capsys, "evaluate", trained[0], "digits", "--json")
    assert code == 0
    values = json.loads(shown)
    assert values["accuracy"] > 0.2
    assert (values["examples"], values["origin"]) == (360, "held out in training")


def test_two_runs_have_different_noise(tmp_path, capsys):
    for name in ("a", "b"):
        assert run(capsys, "train", "iris", *PRIVATE, "--out", str(tmp_path / name))[0] == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert models[0] != models[1]


def test_what_learned_from_examples_is_named(tmp_path, capsys):
    words = ["--out", str(tmp_path / "run"), "--json", "--validation-fraction", "0.2"]
    code, shown, _ = run(capsys, "train", "diabetes", *PRIVATE, "--scaling", "standard", *words)
    assert code == 0
    assert [note for note in json.loads(shown)["notes"] if note.startswith("outside of the guarantee")] == [
        "outside of the guarantee: the standard scaling, learned from the training examples (--scaling bytes or none "
        "learn nothing)",
        "outside of the guarantee: the scale of the targets, learned from the training examples",
        "outside of the guarantee: what is measured on validation examples",
    ]


def test_a_folder_that_holds_a_run_is_refused_before_epsilon_is_spent(trained, capsys):
    before = (Path(trained[0]) / "model.safetensors").read_bytes()
    code, _, error = run(capsys, "train", "digits", *PRIVATE, "--out", trained[0])
    assert code == 2
    assert error.startswith(f"jaxmlp train: error: {trained[0]}: holds a run already; continue it with --resume")
    assert (Path(trained[0]) / "model.safetensors").read_bytes() == before


def test_class_names_are_said_to_be_public(trained):
    assert "outside of the guarantee: the names of the classes, taken as public" in trained[2]
    assert "the names of classes and columns as public" in " ".join(trained[1].split())


def test_the_model_holds_no_digest_of_training_examples(trained, tmp_path, monkeypatch):
    # Kept numbers must not change with one training example but through the noised parameters.
    kept = load(Path(trained[0]) / "model.safetensors").about
    assert "data" not in kept
    source = read("digits")
    parts = split(source)
    changed = source.x.copy()
    changed[parts.train.rows[0]] = 0
    assert kept["held_out"] == fingerprint(split(replace(source, x=changed)).test)
    changed[parts.test.rows[0]] = 0
    assert kept["held_out"] != fingerprint(split(replace(source, x=changed)).test)


def interrupt(monkeypatch, *, after):
    """Press Ctrl-C in the last callback of so many epochs."""
    private = import_module("jaxmlp.cli.private")
    whole = private.train

    def train(*arguments, callback, **others):
        def interrupted(trained):
            callback(trained)
            if len(trained.history) == after:
                raise KeyboardInterrupt

        return whole(*arguments, callback=interrupted, **others)

    monkeypatch.setattr(private, "train", train)


LONG = ["--private", "--noise-multiplier", "4", "--epochs", "4", "--delta", "1e-5", "--clip", "0.2"]


def test_an_interrupted_run_continues(tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt(patched, after=2)
        code, _, error = run(capsys, "train", "digits", *LONG, "--out", out)
    assert code == 130
    again = f"jaxmlp train digits --private --out {out} --resume"
    assert re.search(rf"interrupted after epoch 2, epsilon \d\.\d+; continue with: {re.escape(again)}\n$", error)
    copy = shutil.copytree(out, tmp_path / "copy")  # with the same secret
    for folder in (out, str(copy)):
        code, printed, progress = run(capsys, "train", "digits", "--private", "--out", folder, "--resume")
        assert code == 0
        assert "epoch 2/4" not in progress
        assert "epoch 3/4" in progress
        assert "24 steps of DP-SGD: gradients clipped to 0.2" in " ".join(printed.split())
    models = [(Path(folder) / "model.safetensors").read_bytes() for folder in (out, copy)]
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--private", "--noise-multiplier", "5"], "the run began with --noise-multiplier 4, got 5"),
        (["--private", "--epsilon", "3"], "the run began without --epsilon, got 3"),
        (["--private", "--delta", "1e-6"], "the run began with --delta 1e-05, got 1e-06"),
        (["--private", "--clip", "1"], "the run began without --clip, got 1"),
        (["--private", "--batch-size", "100"], "the run began with --batch-size 256, got 100"),
        (["--private", "--epochs", "3"], "the run began with --epochs 2, got 3"),
        ([], "the run began with --private; continue it with --private"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(trained, words, line, capsys):
    code, _, error = run(capsys, "train", "digits", *words, "--out", trained[0], "--resume")
    assert code == 2
    assert error.startswith(f"jaxmlp train: error: {trained[0]}: {line}")
    assert error.count("\n") == 1


def test_a_run_is_not_resumed_with_other_data_nor_as_private(trained, tmp_path, capsys):
    code, _, error = run(capsys, "train", "iris", "--private", "--out", trained[0], "--resume")
    assert (code, error.count("\n")) == (2, 1)
    assert "the run began with other data" in error
    plain = str(tmp_path / "plain")
    assert run(capsys, "train", "iris", "--epochs", "1", "--out", plain)[0] == 0
    code, _, error = run(capsys, "train", "iris", "--private", "--epsilon", "3", "--out", plain, "--resume")
    assert (code, error.count("\n")) == (2, 1)
    assert "the run began without --private" in error


def test_what_a_user_keeps_under_the_same_name_is_no_guarantee(tmp_path, capsys):
    mlp = MLP((2, 2))
    save(tmp_path / "model.safetensors", Network(mlp, init(mlp, jax.random.key(0))), about={"guarantee": True})
    code, shown, error = run(capsys, "info", str(tmp_path / "model.safetensors"))
    assert (code, error) == (0, "")
    assert "differentially private" not in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--epsilon", "3"], "--epsilon is for private training: add --private"),
        (["--private"], "give one of epsilon and noise_multiplier, got neither: try epsilon=3.0"),
        (["--private", "--epsilon", "-1"], "epsilon must be positive and finite, got -1.0"),
        (["--private", "--epsilon", "3", "--delta", "0.5"], "delta must be below 1 / N = 0.0007 for N = 1437 examples"),
        (["--private", "--epsilon", "3", "--batch-size", "2000"], "batch_size must be at most the 1437"),
        (["--private", "--epsilon", "3", "--patience", "2"], "--private: leave out --patience; it stops by the loss"),
        (["--private", "--epsilon", "3", "--track", "norms"], "--private: leave out --track"),
        (["--private", "--epsilon", "3", "--networks", "4"], "--private: leave out --networks; each network would"),
        (["--private", "--epsilon", "3", "--class-weights", "balanced"], "--private: leave out --class-weights"),
        (["--private", "--epsilon", "3", "--tune", "9"], "--private: leave out --tune; each trial would"),
        (["--private", "--epsilon", "1e-6", "--delta", "1e-12"], "no noise multiplier up to 100000 spends epsilon"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, line, tmp_path, capsys):
    out = tmp_path / "run"
    code, printed, error = run(capsys, "train", "digits", *words, "--out", str(out))
    assert (code, printed) == (2, "")
    assert error.startswith("jaxmlp train: error: ")
    assert line in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("words", [["--private", "--epsilon", "3"], ["--private"], ["--noise-multiplier", "2"]])
def test_a_sweep_of_private_trials_is_for_python(words, tmp_path, capsys):
    out = tmp_path / "sweep"
    code, printed, error = run(capsys, "sweep", "digits", "--grid", "epochs=1,2", *words, "--out", str(out))
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert "private trials are run in Python: jaxmlp.private.select counts the choice of the best" in error
    assert not out.exists()
