"""The terminal with ordinary tables: text, missing cells, columns in any order, and what it says about them."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn import metrics

from jaxmlp.storage.checkpoint import load

N = 160
QUICK = ("--epochs", "2", "--hidden", "8")


def people(rng):
    """Return a table in which income and city decide the answer; `name` differs in every row, `code` never."""
    city, income = rng.choice(["Bonn", "Rome", "Oslo"], N), rng.lognormal(10, 1, N)
    return pl.DataFrame(
        {
            "number": np.arange(N),
            "name": [f"person {index}" for index in rng.permutation(N)],
            "city": [None if rng.random() < 0.1 else each for each in city],
            "income": [None if rng.random() < 0.1 else each for each in income],
            "born": pl.Series(rng.integers(-5_000, 15_000, N)).cast(pl.Date),
            "member": rng.choice(["yes", "no"], N),
            "code": "A",
            "answer": np.where((city == "Rome") == (income > np.exp(10)), "stay", "go"),
            "amount": np.where(city == "Oslo", 1e9, 1e9 + 500) + income,
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the table, and a model of its classes and of its values."""
    from jaxmlp.cli import main

    folder = tmp_path_factory.mktemp("people")
    frame = people(np.random.default_rng(0))
    path = folder / "people.csv"
    frame.write_csv(path, null_value="NA")
    for name, target in (("classes", "answer"), ("values", "amount")):
        argv = ["train", str(path), "--target", target, "--drop", "amount" if name == "classes" else "answer", *QUICK]
        assert main([*argv, "--out", str(folder / name), "--quiet", "--no-cache"]) == 0
    return SimpleNamespace(frame=frame, path=str(path), classes=str(folder / "classes"), values=str(folder / "values"))


def test_training_shows_what_each_column_is_taken_for(jaxmlp, trained):
    done = jaxmlp("train", trained.path, "--target", "answer", *QUICK, "--drop", "amount", "--categories", "member")
    assert done.code == 0
    shown = {line.split()[0]: line.split()[1] for line in done.err.splitlines()[1:6]}
    assert shown == {"number": "number", "city": "category", "income": "number", "born": "date", "member": "category"}
    left_out = next(line for line in done.err.splitlines() if "left out" in line)
    assert "'name' (differs in every row)" in left_out
    assert "'code' (constant)" in left_out
    assert "target 'answer': 2 classes: go, stay" in done.err


def test_a_table_gets_the_configuration_that_suits_its_size(trained):
    from jaxmlp.training import TrainConfig

    model = load(f"{trained.classes}/model.safetensors")
    options, suited = model.about["options"], TrainConfig.for_table(N * 4 // 5)
    assert options["hidden"] == [8]  # a typed option stays
    assert [options["learning_rate"], options["batch_size"]] == [suited.learning_rate, suited.batch_size]


def test_tracked_statistics_are_of_one_network_where_several_would_suit(jaxmlp, trained):
    argv = ("train", trained.path, "--target", "answer", "--drop", "amount", *QUICK, "--track", "norms")
    done = jaxmlp(*argv, "--out", "tracked")
    assert (done.code, "1 is trained, not 4" in done.err) == (0, True)
    assert len(load("tracked/model.safetensors").networks) == 1
    assert "norm_max" in pl.read_csv("tracked/history.csv").columns
    assert len(load(f"{trained.classes}/model.safetensors").networks) == 4
    refused = jaxmlp(*argv, "--networks", "2")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "track follows the gradients of one network, got 2 keys" in refused.err


def test_columns_are_found_by_name_and_surprises_are_counted(jaxmlp, trained, tmp_path):
    assert jaxmlp("predict", trained.classes, trained.path, "--probabilities", "--out", "before.csv").code == 0
    changed = trained.frame.drop("answer", "amount").with_columns(
        pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("Mars")).otherwise("city").alias("city"),
        pl.when(pl.int_range(pl.len()) < 2).then(None).otherwise("member").alias("member"),
    )
    changed.select(reversed(changed.columns)).write_csv(tmp_path / "new.csv")
    done = jaxmlp("predict", trained.classes, "new.csv", "--probabilities")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert "'city' (unseen categories: 3)" in done.err
    assert "'member' (missing cells: 2)" in done.err
    before, after = pl.read_csv(tmp_path / "before.csv"), pl.read_csv(tmp_path / "predictions.csv")
    assert before[3:].equals(after[3:])
    changed.drop("city").write_csv(tmp_path / "less.csv")
    refused = jaxmlp("predict", trained.classes, "less.csv")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "feature 'city' is missing" in refused.err


@pytest.mark.parametrize("command", ["evaluate", "importance", "examples", "predict"])
def test_every_command_counts_the_cells_that_were_not_understood(jaxmlp, trained, tmp_path, command):
    with_commas = pl.col("income").cast(pl.String).str.replace(".", ",", literal=True)
    trained.frame.with_columns(with_commas).write_csv(tmp_path / "commas.csv", null_value="NA")
    unreadable = N - trained.frame["income"].null_count()
    said = f"unlike in training: 'income' (unreadable cells: {unreadable})"
    done = jaxmlp(command, trained.classes, "commas.csv")
    assert (done.code, f"note: {said}\n" in done.err) == (0, True)
    done = jaxmlp(command, trained.classes, "commas.csv", "--json")
    assert (done.code, done.err) == (0, "")
    assert said in json.loads(done.out)["notes"]


def test_a_column_that_counts_the_rows_of_a_sorted_table_is_no_feature(jaxmlp, tmp_path):
    """A table of noise was sorted by class and then shuffled: its row numbers give the class away, and nothing else."""
    rng, n = np.random.default_rng(0), 500
    number = rng.permutation(n)
    noise = {name: rng.standard_normal(n) for name in "abc"}
    right = {}
    for name, options in (("", []), ("rownames", []), ("rownames", ["--numbers", "rownames"])):
        frame = pl.DataFrame({name: number + 1, **noise, "kind": np.where(number < n // 2, "early", "late")})
        frame.write_csv(tmp_path / "noise.csv")
        argv = (
            "train",
            "noise.csv",
            "--target",
            "kind",
            *options,
            "--epochs",
            "20",
            "--hidden",
            "8",
            "--networks",
            "1",
        )
        done = jaxmlp(*argv, "--json")
        values = json.loads(done.out)
        right[name, *options] = round(values["test_accuracy"] * n / 5)
        assert (f"left out: '{name}' (counts the rows)" in values["notes"]) == (not options)
    low, high = stats.binom.interval(1 - 1e-6, n // 5, 0.5)
    assert low <= right[("",)] <= high
    assert low <= right[("rownames",)] <= high
    assert right["rownames", "--numbers", "rownames"] > high


@pytest.mark.parametrize("command", [("train",), ("sweep", "--seeds", "2"), ("sweep", "--seeds", "2", "--plan")])
def test_every_training_on_a_table_says_what_it_leaves_out(jaxmlp, trained, command):
    argv = (command[0], trained.path, "--target", "answer", "--drop", "amount", *QUICK, *command[1:])
    expected = "left out: 'name' (differs in every row), 'code' (constant)"
    done = jaxmlp(*argv, "--out", "shown")
    assert (done.code, f"note: {expected}\n" in done.err) == (0, True)
    done = jaxmlp(*argv, "--out", "told", "--json")
    assert (done.code, expected in json.loads(done.out)["notes"]) == (0, True)


@pytest.mark.parametrize("command", ["evaluate", "importance", "examples"])
def test_rows_without_a_target_are_counted_where_predictions_are_compared(jaxmlp, trained, tmp_path, command):
    some = pl.when(pl.int_range(pl.len()) >= 7).then("answer").alias("answer")
    trained.frame.with_columns(some).write_csv(tmp_path / "some.csv", null_value="NA")
    done = jaxmlp(command, trained.classes, "some.csv")
    assert (done.code, "note: 7 rows have no target 'answer' and are left out\n" in done.err) == (0, True)


def test_a_row_without_any_value_has_a_prediction_too(jaxmlp, trained, tmp_path):
    header, *rows = (tmp_path / trained.path).read_text().splitlines()
    empty = "," * header.count(",")
    (tmp_path / "new.csv").write_text("\n".join([header, rows[0], empty, "", rows[1]]))
    done = jaxmlp("predict", trained.classes, "new.csv", "--keep", "number")
    assert done.code == 0
    assert pl.read_csv(tmp_path / "predictions.csv")["number"].to_list() == [0, None, 1]


def test_a_feature_is_no_target_of_an_evaluation(jaxmlp, trained):
    refused = jaxmlp("evaluate", trained.classes, trained.path, "--target", "income")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--target income: a feature of the model" in refused.err


@pytest.mark.parametrize("option", ["--drop", "--features", "--numbers", "--categories", "--missing"])
def test_an_empty_list_is_refused(jaxmlp, trained, option):
    refused = jaxmlp("train", trained.path, "--target", "answer", *QUICK, option, "")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"{option}: expected {'texts' if option == '--missing' else 'names of columns'}" in refused.err


@pytest.mark.parametrize(
    ("option", "value"),
    [("drop", "a"), ("missing", "-"), ("numbers", "a"), ("categories", "a"), ("separator", ";"), ("target", "a")],
)
def test_an_option_for_tables_is_refused_where_there_is_no_table(jaxmlp, tmp_path, option, value):
    np.savez(tmp_path / "data.npz", x=np.eye(20), y=np.arange(20) % 2)
    for source in ("digits", "data.npz"):
        refused = jaxmlp("train", source, f"--{option}", value)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert refused.err.endswith(f"error: {source} is not a table: leave out {option}\n")
    refused = jaxmlp("train", "iris", "--drop", "a", "--missing", "-", "--target", "b")
    assert refused.err.endswith("error: iris is not a table: leave out target, drop, missing\n")


def test_how_a_file_was_read_in_training_does_not_keep_other_files_from_being_read(jaxmlp, trained, tmp_path):
    frame = trained.frame.drop("amount").with_columns(pl.col("city").fill_null("-"))
    frame.write_csv(tmp_path / "data.csv", separator="/", null_value="-")
    frame.write_parquet(tmp_path / "data.parquet")
    argv = ("--target", "answer", "--separator", "/", "--missing", "-", *QUICK, "--out", "run")
    assert jaxmlp("train", "data.csv", *argv).code == 0
    written = []
    for kind in ("csv", "parquet"):
        done = jaxmlp("predict", "run", f"data.{kind}", "--keep", "number", "--out", f"{kind}.csv")
        assert (done.code, done.err) == (0, "")
        written.append((tmp_path / f"{kind}.csv").read_text())
    assert written[0] == written[1]
    refused = jaxmlp("predict", "run", "digits")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "leave out" not in refused.err


def test_kept_columns_stand_beside_the_predictions_as_they_are(jaxmlp, trained, tmp_path):
    assert jaxmlp("predict", trained.classes, trained.path, "--keep", "name,city").code == 0
    predicted = pl.read_csv(tmp_path / "predictions.csv", null_values="NA")
    assert predicted.columns == ["name", "city", "prediction"]
    assert predicted.select("name", "city").equals(trained.frame.select("name", "city"))
    refusals = {
        ("--keep", "nmae"): "did you mean 'name'?",
        ("--keep", "name,name"): "named twice",
    }
    for argv, expected in refusals.items():
        refused = jaxmlp("predict", trained.classes, trained.path, *argv, "--out", "other.csv")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert expected in refused.err
    refused = jaxmlp("predict", trained.values, trained.path, "--probabilities")
    assert "the model predicts real values" in refused.err


def test_evaluation_of_classes_agrees_with_scikit_learn(jaxmlp, trained, tmp_path):
    values = json.loads(jaxmlp("evaluate", trained.classes, trained.path, "--json").out)
    assert values["origin"] == "held out in training"
    other = trained.frame.reverse()
    other.write_csv(tmp_path / "other.csv", null_value="NA")
    values = json.loads(jaxmlp("evaluate", trained.classes, "other.csv", "--json", "--picture", "own.png").out)
    assert values["origin"] == "all examples"
    y = load(f"{trained.classes}/model.safetensors").predict(other).astype(np.float64)
    y /= y.sum(axis=1, keepdims=True)  # from float32
    t = (other["answer"] == "stay").to_numpy().astype(int)
    assert values["accuracy"] == metrics.accuracy_score(t, y.argmax(1))
    assert values["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(t, y.argmax(1)))
    assert values["log_loss"] == pytest.approx(metrics.log_loss(t, y))
    assert values["roc_auc"] == pytest.approx(metrics.roc_auc_score(t, y[:, 1]))
    assert (tmp_path / "own.png").read_bytes()[1:4] == b"PNG"


def test_a_class_without_examples_leaves_the_area_under_the_curve_undefined(jaxmlp, trained, tmp_path):
    trained.frame.filter(pl.col("answer") == "go").write_csv(tmp_path / "one.csv")
    values = json.loads(jaxmlp("evaluate", trained.classes, "one.csv", "--json").out)
    assert values["roc_auc"] == "undefined: no example is of class stay"
    assert values["balanced_accuracy"] == values["accuracy"]


def test_errors_of_values_are_float64_in_the_units_of_the_target(jaxmlp, trained, tmp_path):
    trained.frame.reverse().write_csv(tmp_path / "other.csv", null_value="NA")
    values = json.loads(jaxmlp("evaluate", trained.values, "other.csv", "--json").out)
    y = load(f"{trained.values}/model.safetensors").predict(trained.frame.reverse())[:, 0]
    t = trained.frame.reverse()["amount"].to_numpy()
    assert y.dtype == np.float64
    # float32 has steps of 64 at 1e9.
    assert values["mean_absolute_error"] == pytest.approx(np.abs(y - t).mean(), rel=1e-9)
    assert values["root_mean_squared_error"] == pytest.approx(np.sqrt(np.mean((y - t) ** 2)), rel=1e-9)
    assert values["r2"] == pytest.approx(1 - np.sum((y - t) ** 2) / np.sum((t - t.mean()) ** 2), abs=1e-9)


@pytest.mark.parametrize("unit", [1e-299, 1e299])
def test_scores_of_values_do_not_depend_on_their_unit(jaxmlp, tmp_path, unit):
    x = np.arange(60.0)
    pl.DataFrame({"x": x, "y": x * unit}).write_csv(tmp_path / "far.csv")
    assert jaxmlp("train", "far.csv", "--target", "y", *QUICK, "--networks", "1", "--out", "run").code == 0
    pl.DataFrame({"x": x[::-1], "y": x[::-1] * unit}).write_csv(tmp_path / "other.csv")
    values = json.loads(jaxmlp("evaluate", "run", "other.csv", "--json").out)
    y = load("run/model.safetensors").predict(pl.DataFrame({"x": x}))[:, 0] / unit
    assert values["r2"] == pytest.approx(metrics.r2_score(x, y), rel=1e-6)
    assert values["root_mean_squared_error"] == pytest.approx(metrics.root_mean_squared_error(x, y) * unit, rel=1e-6)


def test_a_picture_does_not_replace_an_input(jaxmlp, trained):
    for picture, expected in (("table.csv", "expected the name of a PNG file"), ("no/folder/a.png", "no folder")):
        refused = jaxmlp("evaluate", trained.classes, trained.path, "--picture", picture)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert expected in refused.err


@pytest.mark.parametrize(("kind", "metric"), [("classes", "accuracy"), ("values", "r2")])
def test_importance_of_columns_is_printed_written_and_drawn(jaxmlp, trained, tmp_path, kind, metric):
    done = jaxmlp("importance", getattr(trained, kind), trained.path, "--repeats", "3", "--json")
    values = json.loads(done.out)
    assert (done.code, values["origin"], values["examples"]) == (0, "held out in training", N // 5)
    written = pl.read_csv(tmp_path / "importance.csv")
    assert written.columns == ["column", f"{metric}_lost", "low", "high"]
    assert written.to_dicts() == values["columns"]
    assert written[f"{metric}_lost"].is_sorted(descending=True)
    assert set(written["column"]) == {"number", "city", "income", "born", "member"}
    assert (tmp_path / "importance.png").read_bytes()[1:4] == b"PNG"
    for argv, expected in {("--repeats", "0"): "--repeats", ("--out", "a.png"): "like a.csv"}.items():
        refused = jaxmlp("importance", getattr(trained, kind), trained.path, *argv)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert expected in refused.err


REFUSED = {
    "a column named twice": (["--numbers", "income,income"], "named twice"),
    "the target among the dropped": (["--drop", "answer"], "'answer'"),
    "all features left out": (["--features", "code,name"], "--categories"),
    "text that is said to be numbers": (["--numbers", "city"], "expected a number"),
    "an unknown column": (["--drop", "amuont"], "did you mean 'amount'?"),
    "an unknown scaling": (["--scaling", "robst"], "did you mean 'robust'?"),
}


@pytest.mark.parametrize("given", REFUSED)
def test_bad_columns_are_refused_in_one_line_before_anything_is_written(jaxmlp, trained, tmp_path, given):
    argv, expected = REFUSED[given]
    done = jaxmlp("train", trained.path, "--target", "answer", *QUICK, *argv)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert expected in done.err
    assert not list(tmp_path.iterdir())


def test_info_shows_every_column_and_why_it_is_left_out(jaxmlp, trained):
    lines = {line.split()[0]: line for line in jaxmlp("info", trained.classes).out.splitlines() if line.strip()}
    assert "left out" in lines["name"]
    assert "constant" in lines["code"]
    assert "3 categories" in lines["city"]


def test_tuning_leaves_a_model_with_its_search_and_tests_it_once(jaxmlp, trained, tmp_path):
    argv = ("train", trained.path, "--target", "answer", "--drop", "amount", "--epochs", "3", "--hidden", "8")
    tuned = jaxmlp(*argv, "--tune", "6trials", "--out", "tuned", "--json")
    values = json.loads(tuned.out)
    assert (tuned.code, values["networks"], set(values["settings"][0])) == (0, 8, {"learning_rate", "weight_decay"})
    assert (tmp_path / "tuned" / "sweep" / "report.html").exists()
    evaluated = json.loads(jaxmlp("evaluate", "tuned", trained.path, "--json").out)
    assert evaluated["origin"] == "held out in training"
    assert evaluated["accuracy"] == pytest.approx(values["test_accuracy"])
    again = json.loads(jaxmlp(*argv, "--tune", "6trials", "--out", "tuned", "--json").out)
    assert again["settings"] == values["settings"]
    refusals = {
        ("--tune", "6trials", "--networks", "2"): "leave out --networks",
        ("--tune", "6trials", "--resume"): "repeat the same command",
        ("--tune", "soon"): "like 60 or 10m",
        ("--tune", "6trials", "--out", trained.classes): "holds files but no tuning",
        ("--tune", "60", "--out", "tuned"): "began with 6 trials, got 60 seconds",
    }
    for options, expected in refusals.items():
        refused = jaxmlp(*argv, "--quiet", *options)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert expected in refused.err
