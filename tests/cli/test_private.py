"""`jaxmlp train --private`: what is promised is kept with the model, and what would break it is refused."""

import json
from pathlib import Path

import jax
import pytest

from jaxmlp import MLP, Network, init, save
from jaxmlp.cli import main
from jaxmlp.private import Guarantee

PRIVATE = ["--private", "--noise-multiplier", "4", "--epochs", "2"]


def run(capsys, *words):
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def trained(tmp_path, capsys):
    out = str(tmp_path / "run")
    code, printed, progress = run(capsys, "train", "digits", *PRIVATE, "--delta", "1e-5", "--out", out)
    assert code == 0
    return out, printed, progress


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
    assert json.loads(shown)["accuracy"] > 0.2


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
    assert error == f"jaxmlp train: error: {trained[0]}: holds files but no run, expected a new or an empty folder\n"
    assert (Path(trained[0]) / "model.safetensors").read_bytes() == before


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
        (["--private", "--epsilon", "3", "--resume"], "--private: leave out --resume"),
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
