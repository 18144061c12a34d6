"""The terminal program on real data: every command, what it prints and what it leaves."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
import safetensors
from matplotlib.image import imread

from jaxmlp import MLP, TrainConfig, load, train
from jaxmlp.data import EMBEDDED, Dataset, prepare, read
from jaxmlp.plots import curves
from jaxmlp.storage.checkpoint import load_training
from jaxmlp.storage.run_folder import RUN_FILES
from jaxmlp.training.evaluation import evaluate_networks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

QUICK = ("--epochs", "3", "--hidden", "16")


def write_csv(path, rows=40, text_target=True):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 2))
    names = ["no", "yes"]
    lines = ["height,width,answer"]
    for a, b in x:
        lines.append(f"{a:.6f},{b:.6f},{names[int(a + b > 0)] if text_target else f'{2 * a - b + 100:.6f}'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_training_leaves_a_whole_run_folder(jaxmlp, tmp_path):
    done = jaxmlp("train", "iris", *QUICK)
    assert done.code == 0
    folder = tmp_path / "runs" / "iris-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "curves.png",
        "history.csv",
        "model.safetensors",
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(RUN_FILES)
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert set(rows[0]) == {"epoch", "learning_rate", "train_loss", "seconds"}
    assert "epoch 3/3" in done.err
    assert f"{float(rows[-1]['train_loss']):.4g}" in done.out
    assert "test accuracy" in done.out


@pytest.mark.parametrize("options", [("--patience", "3"), ("--validation-fraction", "0.25")])
def test_a_validation_part_is_drawn_from_the_training_part_if_it_is_asked_for_or_something_watches_it(jaxmlp, options):
    values = json.loads(jaxmlp("train", "iris", *QUICK, *options, "--out", "run", "--json").out)
    saved = load("run/model.safetensors").about["options"]["validation_fraction"]
    assert saved == (0.2 if "--patience" in options else 0.25)
    parts = prepare(read("iris"), validation_fraction=saved)
    config = TrainConfig(epochs=3, patience=3 if "--patience" in options else None)
    key, keywords = jax.random.key(0), {"validation": parts.validation, "test": parts.test}
    trained = train(MLP((4, 16, 3)), parts.train, config, key=key, **keywords)
    np.testing.assert_array_equal(load("run/model.safetensors").networks[0].params[0].w, trained.params[0].w)
    assert values["validation_loss"] == trained.history[trained.best_epoch - 1].validation_loss
    assert (values["test_loss"], values["test_accuracy"]) == trained.test[:2]
    assert json.loads(jaxmlp("evaluate", "run", "iris", "--json").out)["examples"] == 30
    assert jaxmlp("train", "iris", *QUICK, *options, "--out", "run", "--resume").code == 0


def test_the_picture_of_a_run_shows_its_history_and_the_epoch_that_was_kept(jaxmlp, tmp_path):
    options = ("--epochs", "8", "--patience", "2", "--learning-rate", "3", "--hidden", "8", "--out", "run")
    jaxmlp("train", "iris", *options)
    trained = load_training(tmp_path / "run" / "checkpoint.safetensors", MLP((4, 8, 3)))
    assert trained.best_epoch < len(trained.history)
    shown = imread(tmp_path / "run" / "curves.png")
    expected = curves(trained.history, "iris: 4-8-3, relu", trained.best_epoch)
    np.testing.assert_array_equal(shown, imread(io.BytesIO(expected)))


def test_json_prints_one_object_with_the_promised_fields(jaxmlp):
    done = jaxmlp("train", "iris", *QUICK, "--json")
    values = json.loads(done.out)
    assert done.err == ""
    assert {"train_loss", "test_loss", "test_accuracy", "epochs", "parameters", "seconds", "out"} <= set(values)
    assert values["epochs"] == 3
    assert values["parameters"] == 4 * 16 + 16 + 16 * 3 + 3


def test_a_class_without_a_training_example_is_noted(jaxmlp, tmp_path):
    x, t = np.eye(20), np.arange(20)
    for n_classes, expected in ((2, []), (3, ["2"]), (4, ["2", "3"])):
        np.savez(tmp_path / "data.npz", x_train=x, y_train=t % 2, x_test=x, y_test=t % n_classes)
        values = json.loads(jaxmlp("train", "data.npz", *QUICK, "--json").out)
        said = f"classes without a training example: {', '.join(expected)}; in the test they count as wrong"
        assert values["notes"] == ([said] if expected else [])


def test_real_values_are_scored_by_r2(jaxmlp):
    values = json.loads(jaxmlp("train", "diabetes", *QUICK, "--json").out)
    assert "test_r2" in values
    assert "test_accuracy" not in values


def test_quiet_prints_nothing(jaxmlp):
    done = jaxmlp("train", "iris", *QUICK, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_the_terminal_trains_the_same_network_as_three_lines_of_python(jaxmlp):
    jaxmlp("train", "iris", *QUICK, "--seed", "5", "--out", "run", "--learning-rate", "0.1")
    data = prepare(read("iris"), seed=5)
    config = TrainConfig(epochs=3, learning_rate=0.1)
    trained = train(MLP((4, 16, 3)), data.train, config, key=jax.random.key(5))
    for saved, here in zip(load("run/model.safetensors").networks[0].params, trained.params, strict=True):
        np.testing.assert_array_equal(saved.w, here.w)
        np.testing.assert_array_equal(saved.b, here.b)


def test_every_option_reaches_the_run(jaxmlp, tmp_path):
    options = {
        "hidden": ("8,6", [8, 6]),
        "activation": ("tanh,gelu", ["tanh", "gelu"]),
        "loss": ("quadratic", "quadratic"),
        "output": ("softmax", "softmax"),
        "scaling": ("minmax", "minmax"),
        "test-fraction": ("0.3", 0.3),
        "validation-fraction": ("0.25", 0.25),
        "seed": ("7", 7),
        "epochs": ("2", 2),
        "batch-size": ("16", 16),
        "learning-rate": ("0.03", 0.03),
        "momentum": ("0.5", 0.5),
        "weight-decay": ("0.01", 0.01),
        "schedule": ("step", "step"),
        "warmup-epochs": ("0.5", 0.5),
        "step-epochs": ("3", 3.0),
        "step-factor": ("0.5", 0.5),
        "init-scale": ("0.7", 0.7),
        "patience": ("1", 1),
        "clip": ("0.5", 0.5),
        "class-weights": ("balanced", "balanced"),
        "track": ("noise_scale,norms", ["noise_scale", "norms"]),
    }
    argv = [word for name, (text, _) in options.items() for word in (f"--{name}", text)]
    assert jaxmlp("train", "iris", *argv, "--nesterov", "--out", "run").code == 0
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    for name, (_, value) in options.items():
        assert saved[name.replace("-", "_")] == value, name
    assert saved["nesterov"] is True
    mlp = load("run/model.safetensors").networks[0].mlp
    assert mlp == MLP((4, 8, 6, 3), ("tanh", "gelu"), "softmax", "quadratic")


def test_clipping_weights_and_tracking_train_the_same_network_as_python_and_resume(jaxmlp, tmp_path):
    tracked = ("--clip", "0.5", "--class-weights", "balanced", "--track", "norms,noise_scale")
    values = json.loads(jaxmlp("train", "wine", *QUICK, *tracked, "--out", "run", "--json").out)
    data = prepare(read("wine"))
    weighted = Dataset(data.train.x, data.train.t, "balanced")
    config = TrainConfig(epochs=3, clip=0.5, track=("norms", "noise_scale"))
    trained = train(MLP((13, 16, 3)), weighted, config, key=jax.random.key(0))
    np.testing.assert_array_equal(load("run/model.safetensors").networks[0].params[0].w, trained.params[0].w)
    columns = ["norm_q10", "norm_median", "norm_q90", "norm_max", "noise_scale"]
    with open(tmp_path / "run" / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-5:] == columns
    assert [float(rows[-1][name]) for name in columns] == [getattr(trained.history[-1], name) for name in columns]
    assert all(values[name] == getattr(trained.history[-1], name) for name in columns)
    assert jaxmlp("train", "wine", "--out", "run", "--resume", "--track", "noise_scale,norms").code == 0
    refused = jaxmlp("train", "wine", "--out", "run", "--resume", "--track", "norms")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "began with --track norms,noise_scale, got norms" in refused.err


def test_hidden_none_trains_a_network_without_hidden_layers(jaxmlp):
    assert jaxmlp("train", "iris", "--epochs", "1", "--hidden", "none", "--out", "run").code == 0
    assert load("run/model.safetensors").networks[0].mlp.sizes == (4, 3)


def test_a_set_smaller_than_a_batch_trains_by_default(jaxmlp, tmp_path):
    write_csv(tmp_path / "small.csv", rows=20)
    assert jaxmlp("train", "small.csv", "--target", "answer", *QUICK).code == 0


@pytest.mark.parametrize("name", EMBEDDED)
def test_evaluating_on_the_training_source_uses_the_held_out_part(jaxmlp, name):
    trained = json.loads(jaxmlp("train", name, *QUICK, "--json", "--out", "run").out)
    values = json.loads(jaxmlp("evaluate", "run", name, "--json").out)
    assert values["origin"] == "held out in training"
    # Compiled for other shapes, sums may be ordered otherwise: float32 rounding.
    if name == "diabetes":
        assert values["r2"] == pytest.approx(trained["test_r2"], abs=1e-5)
        assert values["mean_absolute_error"] <= values["root_mean_squared_error"]
    else:
        assert values["log_loss"] == pytest.approx(trained["test_loss"], rel=1e-5)
        assert values["accuracy"] == trained["test_accuracy"]
        confusion = np.array(values["confusion"])
        assert confusion.sum() == values["examples"]
        assert np.trace(confusion) / confusion.sum() == pytest.approx(values["accuracy"])


def test_a_csv_trains_evaluates_and_predicts_by_column_names(jaxmlp, tmp_path):
    frame = pl.read_csv(write_csv(tmp_path / "flowers.csv", rows=200))
    assert jaxmlp("train", "flowers.csv", "--target", "answer", "--epochs", "20", "--out", "run").code == 0
    # Other columns, another order, no target: the model takes what it was trained with.
    frame.select(pl.lit(3).alias("id"), "width", "height").write_csv(tmp_path / "new.csv")
    assert jaxmlp("predict", "run", "new.csv", "--probabilities", "--out", "predicted.csv").code == 0
    predicted = pl.read_csv(tmp_path / "predicted.csv")
    assert predicted.columns == ["prediction", "p_no", "p_yes"]
    right = (predicted["prediction"] == frame["answer"]).mean()
    assert right > 0.9
    np.testing.assert_allclose(predicted["p_no"] + predicted["p_yes"], 1, atol=1e-6)
    values = json.loads(jaxmlp("evaluate", "run", "flowers.csv", "--json").out)
    assert values["classes"] == ["no", "yes"]


def test_predicted_values_are_in_the_targets_own_units(jaxmlp, tmp_path):
    frame = pl.read_csv(write_csv(tmp_path / "prices.csv", rows=200, text_target=False))
    jaxmlp("train", "prices.csv", "--target", "answer", "--epochs", "40", "--out", "run")
    jaxmlp("predict", "run", "prices.csv")
    predicted = pl.read_csv(tmp_path / "predictions.csv")
    assert float((predicted["prediction"] - frame["answer"]).abs().mean()) < 0.5  # of a spread of 2 around 100


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Classes and values, each with a test part of its own; a network of each; and other data of the same kind."""
    from jaxmlp.cli import main

    folder = tmp_path_factory.mktemp("parts")
    x = np.random.default_rng(0).normal(size=(90, 3))
    classes, values = (x[:, 0] > 0).astype(int) + (x[:, 0] > 1), 10 * x[:, 0] ** 3
    for name, t in (("classes", np.array(["low", "mid", "top"])[classes]), ("values", values)):
        np.savez(folder / f"{name}.npz", x=x[:70], y=t[:70], x_test=x[70:], y_test=t[70:])
        np.savez(folder / f"other_{name}.npz", x=x[:60], y=t[:60])
        argv = ["train", str(folder / f"{name}.npz"), *QUICK, "--out", str(folder / name), "--quiet", "--no-cache"]
        assert main(argv) == 0
    return folder


def evaluated(jaxmlp, parts, kind, name):
    """Return the JSON of `evaluate`, and the outputs and targets of the part that it measured."""
    values = json.loads(jaxmlp("evaluate", str(parts / kind), str(parts / name), "--json").out)
    source, model = read(parts / name), load(parts / kind / "model.safetensors")
    x, t = (source.x, source.t) if source.x_test is None else (source.x_test, source.t_test)
    assert values["origin"] == ("all examples" if source.x_test is None else "the test part")
    assert values["examples"] == len(x)
    return values, model.predict(x), t


@pytest.mark.parametrize("name", ["classes.npz", "other_classes.npz"])
def test_the_confusion_matrix_has_true_classes_as_rows(jaxmlp, parts, name):
    values, y, t = evaluated(jaxmlp, parts, "classes", name)
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (t, y.argmax(1)), 1)
    assert (expected != expected.T).any()
    assert values["confusion"] == expected.tolist()
    assert values["classes"] == ["low", "mid", "top"]
    assert values["accuracy"] == pytest.approx((t == y.argmax(1)).mean())


@pytest.mark.parametrize("name", ["values.npz", "other_values.npz"])
def test_errors_of_values_are_in_the_targets_units(jaxmlp, parts, name):
    values, y, t = evaluated(jaxmlp, parts, "values", name)
    error = y[:, 0] - t
    assert values["mean_absolute_error"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert values["root_mean_squared_error"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert values["r2"] == pytest.approx(1 - (error**2).sum() / ((t - t.mean()) ** 2).sum(), abs=1e-5)


def test_predict_uses_the_test_part_if_there_is_one(jaxmlp, parts):
    for name, rows in (("values.npz", 20), ("other_values.npz", 60)):
        assert jaxmlp("predict", str(parts / "values"), str(parts / name)).code == 0
        assert len(pl.read_csv("predictions.csv")) == rows
    jaxmlp("predict", str(parts / "values"), str(parts / "values.npz"))
    expected = load(parts / "values" / "model.safetensors").predict(read(parts / "values.npz").x_test)[:, 0]
    np.testing.assert_allclose(pl.read_csv("predictions.csv")["prediction"], expected, rtol=1e-5)


def test_predictions_do_not_overwrite_data_or_model(jaxmlp, tmp_path):
    write_csv(tmp_path / "data.csv")
    assert jaxmlp("train", "data.csv", "--target", "answer", *QUICK, "--out", "run").code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in ("data.csv", "run/model.safetensors", "run/history.csv"):
        done = jaxmlp("predict", "run", "data.csv", "--out", out)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "choose another --out" in done.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_evaluation_uses_the_task_of_training(jaxmlp, tmp_path):
    lines = [f"{i % 7},{i % 5}" for i in range(60)]
    (tmp_path / "counts.csv").write_text("\n".join(["a,count", *lines]) + "\n")
    argv = ("train", "counts.csv", "--target", "count", "--task", "values", *QUICK, "--out", "run")
    assert jaxmlp(*argv).code == 0
    assert "r2" in json.loads(jaxmlp("evaluate", "run", "counts.csv", "--json").out)


def test_progress_and_result_show_the_numbers_of_history(jaxmlp, tmp_path):
    options = ("--epochs", "30", "--hidden", "16", "--patience", "2", "--learning-rate", "0.3")
    done = jaxmlp("train", "wine", *options, "--out", "run")
    with open(tmp_path / "run" / "history.csv") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    best = min(rows, key=lambda row: row["validation_loss"])
    assert len(rows) < 30
    assert best is not rows[-1]
    shown = dict(line.rsplit(maxsplit=1) for line in done.out.splitlines())
    assert shown["status"] == "stopped"
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        assert shown[name.replace("_", " ")] == f"{best[name]:.4g}"
    lines = done.err.splitlines()
    assert [int(re.match(r"epoch (\d+)/30 ", line)[1]) for line in lines] == [
        row["epoch"] for row in rows if row["epoch"] % 3 == 0 or row is rows[-1]
    ]
    assert {"test loss", "test accuracy"} <= set(shown)
    assert f"loss {rows[-1]['train_loss']:.4f}  validation {rows[-1]['validation_loss']:.4f}  accuracy" in lines[-1]


@pytest.mark.parametrize(
    ("width", "shown", "hidden"),
    [(40, [], ["/s", "validation"]), (70, ["/s"], ["validation"]), (120, ["examples/s", "validation"], [])],
)
def test_the_live_line_of_training_fits_the_terminal_and_cuts_no_score(jaxmlp, monkeypatch, width, shown, hidden):
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": str(width), "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    done = jaxmlp("train", "iris", *QUICK, "--patience", "3", "--out", "run")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.err))
    assert max(map(len, lines)) <= width
    last = [line for line in lines if line][-1]
    with open("run/history.csv") as file:
        row = list(csv.DictReader(file))[-1]
    assert last.startswith(f"epoch 3/3  loss {float(row['train_loss']):.4f}")
    assert f"accuracy {float(row['validation_accuracy']):.4f}" in last
    assert all(word in last for word in shown)
    assert not any(word in last for word in hidden)


def test_a_given_batch_size_is_not_reduced(jaxmlp):
    done = jaxmlp("train", "iris", "--batch-size", "121", "--epochs", "1")
    assert done.code == 2
    assert "batch_size must be at most the 120 training examples, got 121" in done.err


def test_binary_cross_entropy_has_sigmoid_outputs(jaxmlp):
    assert jaxmlp("train", "iris", *QUICK, "--loss", "binary_cross_entropy", "--out", "run").code == 0
    mlp = load("run/model.safetensors").networks[0].mlp
    assert (mlp.output, mlp.loss) == ("sigmoid", "binary_cross_entropy")


def test_info_shows_layers_scaling_classes_and_training(jaxmlp):
    jaxmlp("train", "iris", *QUICK, "--out", "run")
    shown = jaxmlp("info", "run")
    assert shown.code == 0
    for word in ("relu", "softmax", "cross_entropy", "petal width", "versicolor", "learning rate", "iris"):
        assert word in shown.out
    layers = [re.fullmatch(r" *\d+ .* ([\d,]+)", line) for line in shown.out.splitlines()[1:3]]
    assert [int(layer[1]) for layer in layers] == [16 * 5, 3 * 17]
    values = json.loads(jaxmlp("info", "run", "--json").out)
    assert values["networks"][0]["sizes"] == [4, 16, 3]


def test_datasets_lists_what_is_embedded(jaxmlp):
    shown = jaxmlp("datasets").out
    assert all(name in shown for name in EMBEDDED)
    assert set(json.loads(jaxmlp("datasets", "--json").out)["datasets"]) == set(EMBEDDED)


def test_a_diverged_run_keeps_finite_parameters_and_says_what_to_try(jaxmlp):
    done = jaxmlp("train", "diabetes", "--learning-rate", "1e20", "--epochs", "3", "--out", "run", "--json")
    assert done.code == 1
    assert "epoch 1" in done.err
    assert "lower learning rate" in done.err
    assert done.err.count("\n") == 1
    assert json.loads(done.out)["status"] == "diverged"
    for layer in load("run/model.safetensors").networks[0].params:
        assert np.isfinite(layer.w).all()
    shown = jaxmlp("info", "run", "--json")  # strict JSON knows no NaN
    assert json.loads(shown.out, parse_constant=pytest.fail)["about"]["results"]["train_loss"] is None
    again = jaxmlp("train", "diabetes", "--out", "run", "--resume", "--quiet")
    assert (again.code, again.err) == (1, done.err)


def test_a_resumed_run_ends_with_the_same_bytes_as_an_uninterrupted_one(jaxmlp, tmp_path, monkeypatch):
    jaxmlp("train", "iris", *QUICK, "--out", "whole")
    from jaxmlp.storage.run_folder import Run

    save_checkpoint = Run.save_checkpoint

    def interrupt(self, trained):
        save_checkpoint(self, trained)
        if len(trained.history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", interrupt)
        done = jaxmlp("train", "iris", *QUICK, "--out", "cut")
    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        "interrupted after epoch 2; continue with: jaxmlp train iris --out cut --resume"
    )
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert jaxmlp("train", "iris", "--out", "cut", "--resume").code == 0
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_killed_run_ends_with_the_same_bytes_once_resumed(jaxmlp, tmp_path):
    options = ("digits", "--epochs", "400", "--quiet")
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"

    def written():
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    def killed(is_time):
        """Run in a process of its own, which is killed when it is time, and say whether it was still alive."""
        command = [sys.executable, "-m", "jaxmlp", "train", *options, "--no-cache", "--out", "killed", "--resume"]
        process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})
        while process.poll() is None and not is_time():
            time.sleep(0.01)
        process.kill()
        return process.wait() != 0

    start = time.monotonic()
    assert killed(lambda: time.monotonic() > start + 0.5)  # before it has done anything
    for seconds in (0, 0.1):  # after the first epoch, which is written down; and once the next ones are lost
        before = written()
        assert killed(lambda before=before, seconds=seconds: written() != before and not time.sleep(seconds))
    assert jaxmlp("train", *options, "--out", "killed", "--resume").code == 0
    assert jaxmlp("train", *options, "--out", "whole").code == 0
    assert (tmp_path / "killed/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_model_file_can_be_read_without_jax(jaxmlp):
    jaxmlp("train", "iris", *QUICK, "--out", "run")
    with safetensors.safe_open("run/model.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["jaxmlp"])
        w = file.get_tensor("layers.0.w")
    assert w.shape == (16, 4)
    assert header["encoding"]["class_names"] == ["setosa", "versicolor", "virginica"]


def test_help_does_not_import_jax(tmp_path):
    code = (
        "import sys; from jaxmlp.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('jax', 'polars', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.endswith("[]\n")


def test_help_names_every_activation_and_loss(jaxmlp):
    from jaxmlp.activations import ACTIVATIONS
    from jaxmlp.losses import LOSSES
    from jaxmlp.training.config import SCHEDULES

    shown = jaxmlp("train", "--help").out
    for name in [*ACTIVATIONS, *LOSSES, *SCHEDULES]:
        assert name in shown, name


def in_a_home_of_its_own(folder, *options, **streams):
    """Train in a process whose home and caches are in a folder; return the exit code."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    command = [sys.executable, "-m", "jaxmlp", "train", "iris", *QUICK, *options, "--out", "run"]
    process = subprocess.Popen(command, cwd=folder, env=environment, **streams)
    if process.stderr:
        process.stderr.close()
    return process.wait()


@pytest.fixture(scope="module")
def without_a_reader(tmp_path_factory):
    """Train without a cache while nobody reads standard error; return the folder and the exit code."""
    folder = tmp_path_factory.mktemp("unread")
    code = in_a_home_of_its_own(folder, "--no-cache", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    return folder, code


def test_compiled_programs_are_kept_in_the_users_cache_folder_unless_switched_off(without_a_reader, tmp_path):
    folder, code = without_a_reader
    assert code == 0
    assert not list(folder.rglob("compiled"))
    assert in_a_home_of_its_own(tmp_path, "--quiet") == 0
    (folder,) = tmp_path.rglob("compiled")
    assert any(Path(folder).iterdir())


def test_brackets_in_names_are_shown_as_they_are(jaxmlp, tmp_path):
    lines = [f"{i},{i % 3},{'[/red]' if i % 2 else '[bold]x'}" for i in range(20)]
    (tmp_path / "odd.csv").write_text("\n".join(["temp [C],[/b],kind", *lines]) + "\n")
    done = jaxmlp("train", "odd.csv", "--target", "kind", *QUICK, "--out", "[bold]run")
    assert done.code == 0
    assert "[bold]run" in done.out
    shown = jaxmlp("info", "[bold]run").out + jaxmlp("evaluate", "[bold]run", "odd.csv").out
    for name in ("temp [C]", "[/b]", "[/red]", "[bold]x"):
        assert name in shown


def test_training_continues_if_the_reader_of_its_progress_is_gone(without_a_reader):
    folder, code = without_a_reader
    assert code == 0
    assert (folder / "run" / "model.safetensors").exists()


def test_commands_succeed_with_closed_streams(tmp_path):
    command = f"{sys.executable} -m jaxmlp datasets >&- 2>&- <&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0


def test_networks_of_a_model_are_those_of_the_seeds_that_follow_its_own(jaxmlp, tmp_path):
    assert jaxmlp("train", "iris", *QUICK, "--networks", "3", "--seed", "5", "--out", "run").code == 0
    data, model = prepare(read("iris"), seed=5), load("run/model.safetensors")
    assert len(model.networks) == 3
    for number, (mlp, params) in enumerate(model.networks):
        config = TrainConfig(epochs=3)
        alone = train(mlp, data.train, config, key=jax.random.key(5 + number))
        for saved, here in zip(params, alone.params, strict=True):
            np.testing.assert_array_equal(saved.w, here.w)
    found = json.loads(jaxmlp("evaluate", "run", "iris", "--json").out)
    assert found["accuracy"] == evaluate_networks(model.networks, data.test).accuracy
    assert json.loads(jaxmlp("info", "run", "--json").out)["networks"][2]["sizes"] == [4, 16, 3]
    assert jaxmlp("examples", "run", "iris", "--quiet").code == 0
    assert jaxmlp("examples", "run", "iris", "--influence", "7", "--quiet").code == 0
    again = jaxmlp("train", "iris", "--out", "run", "--resume", "--networks", "2")
    assert "the run began with --networks 3, got 2" in again.err


def test_a_finished_run_goes_on_if_it_is_resumed_with_more_epochs(jaxmlp, tmp_path):
    options = ("--hidden", "16", "--schedule", "constant")
    for folder, epochs in (("long", "4"), ("short", "2"), ("short", "4")):
        assert jaxmlp("train", "iris", *options, "--out", folder, "--resume", "--epochs", epochs).code == 0
    assert Path("short/model.safetensors").read_bytes() == Path("long/model.safetensors").read_bytes()
    assert jaxmlp("train", "iris", "--out", "short", "--resume").code == 0  # keeps the larger number
    assert load_training(Path("short/checkpoint.safetensors"), MLP((4, 16, 3))).best_epoch == 4
    assert "with --epochs 4, got 3" in jaxmlp("train", "iris", "--out", "short", "--resume", "--epochs", "3").err


def test_a_longer_cosine_schedule_says_what_it_does_to_the_learning_rate(jaxmlp):
    jaxmlp("train", "iris", *QUICK, "--out", "run")
    said = jaxmlp("train", "iris", "--out", "run", "--resume", "--epochs", "5").err
    assert "--epochs 5, 3 before: the learning rate goes on as in a cosine schedule of 5, larger at first" in said


def test_a_new_run_says_that_there_was_nothing_to_resume(jaxmlp):
    assert "no run to resume" in jaxmlp("train", "iris", *QUICK, "--out", "new", "--resume").err


def test_predictions_are_written_through_a_link(jaxmlp, tmp_path):
    jaxmlp("train", "iris", *QUICK, "--out", "run")
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert jaxmlp("predict", "run", "iris", "--out", "link.csv").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("prediction\n")


def test_a_tracked_statistic_without_a_value_says_why(jaxmlp):
    # Each example has both labels, so the gradients of a network that cannot tell them apart cancel.
    x, t = np.repeat(np.eye(8), 2, axis=0), np.tile([0, 1], 8)
    np.savez("even.npz", x=x, y=t, x_test=x, y_test=t)
    argv = ("train", "even.npz", "--epochs", "1", "--batch-size", "16", "--hidden", "none", "--init-scale", "1e-6")
    tracked = ("--track", "noise_scale,variance,diversity")
    shown = jaxmlp(*argv, *tracked, "--out", "lost").out
    assert "lost in noise" in shown
    assert "gradient variance" in shown
    assert "lost in noise" in jaxmlp("info", "lost").out
    assert json.loads(jaxmlp(*argv, *tracked, "--out", "json", "--json").out)["noise_scale"] is None
    diverged = jaxmlp(
        "train", "diabetes", "--learning-rate", "1e18", "--track", "noise_scale,norms", "--out", "far"
    ).out
    assert {line.split("  ")[-1].strip() for line in diverged.splitlines() if "no" in line} == {"not finite"}
