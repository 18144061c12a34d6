"""`jaxmlp examples`: examples in order of difficulty, suspected labels, and the influence of examples on one."""

import json
import re
import struct
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from jax.flatten_util import ravel_pytree

from jaxmlp import MLP, Network, init, load, save
from jaxmlp.data import fingerprint, prepare, read, split
from jaxmlp.influence import scores
from jaxmlp.network import loss

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

N, CORRUPTED = 300, 10  # an example of which the network is sure
# Names that rich or matplotlib would read as markup, if they were asked to.
NAMES = np.array(["[bold]0", "$1", "[/red]2", "$3_$", "4, four", "five", "6", "seven or the like of it", "8", "9"])
SPLITTING = {"test_fraction": 0.2, "validation_fraction": 0.25, "seed": 0}
SCORES = {"loss": "losses", "error_norm": "error_norms", "norm": "norms", "margin": "margins"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained network, three untrained ones, their data, and the first one's data with a label that is wrong."""
    from jaxmlp.cli import main

    folder = tmp_path_factory.mktemp("trained")
    digits = read("digits")
    x, t = digits.x[: N + 20].astype(np.uint8).reshape(-1, 8, 8), digits.t[: N + 20]
    clean, wrong = t[:N], t[:N].copy()
    wrong[CORRUPTED] = (wrong[CORRUPTED] + 1) % 10
    np.savez(folder / "clean.npz", x=x[:N], y=NAMES[clean])
    np.savez(folder / "wrong.npz", x=x[:N], y=NAMES[wrong])
    np.savez(folder / "parts.npz", x=x[:N], y=NAMES[clean], x_test=x[N:], y_test=NAMES[t[N:]])
    np.savez(folder / "pairs.npz", x=x[:N], y=np.stack([clean, -2.0 * clean], axis=1))
    argv = ["--hidden", "16", "--epochs", "15", "--batch-size", "16", "--out", str(folder / "classes"), "--quiet"]
    assert main(["train", str(folder / "clean.npz"), *argv, "--no-cache"]) == 0
    for name, source, sizes in (
        ("scores", read(folder / "clean.npz"), (64, 10)),
        ("pairs", read(folder / "pairs.npz"), (64, 2)),
        ("values", read("diabetes"), (10, 1)),
    ):
        save_untrained(folder / name, source, MLP(sizes, output="identity", loss="quadratic"))
    return folder


def save_untrained(path, source, mlp):
    about = {"data": fingerprint(source), "options": SPLITTING}
    save(path, Network(mlp, init(mlp, jax.random.key(0))), encoding=prepare(source).encoding, about=about)


def data_of(model, source):
    return model.encoding.encode(source.x, source.t, source.class_names)


@pytest.mark.parametrize("by", SCORES)
def test_every_row_is_written_once_in_the_order_of_its_score(jaxmlp, trained, by):
    done = jaxmlp("examples", str(trained / "classes"), str(trained / "wrong.npz"), "--by", by, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    frame = pl.read_csv("examples.csv")
    assert frame.columns == ["rank", "row", "label", "prediction", "probability", *SCORES, "suspected"]
    model, source = load(trained / "classes" / "model.safetensors"), read(trained / "wrong.npz")
    found = scores(*model.networks[0], data_of(model, source))
    sign = 1 if by == "margin" else -1
    assert frame["row"].to_list() == np.argsort(sign * getattr(found, SCORES[by]), kind="stable").tolist()
    assert frame["rank"].to_list() == list(range(1, N + 1))
    for name, field in SCORES.items():
        np.testing.assert_array_equal(frame[name].cast(pl.Float32), getattr(found, field)[frame["row"]])
    np.testing.assert_allclose(-np.log(frame["probability"]), frame["loss"], atol=1e-4)  # of y rounded near 1
    assert frame["label"].to_list() == [source.class_names[t] for t in source.t[frame["row"]]]


def test_the_corrupted_row_comes_first_and_is_suspected(jaxmlp, trained):
    done = jaxmlp("examples", str(trained / "classes"), str(trained / "wrong.npz"), "--top", "3")
    frame = pl.read_csv("examples.csv")
    first = frame.row(0, named=True)
    assert (first["row"], first["suspected"]) == (CORRUPTED, True)
    assert first["prediction"] == read(trained / "clean.npz").class_names[read(trained / "clean.npz").t[CORRUPTED]]
    assert re.search(rf"^ +1 +{CORRUPTED} .*yes$", done.out, re.MULTILINE)


def test_the_printed_table_agrees_with_the_csv_file(jaxmlp, trained):
    argv = ("examples", str(trained / "classes"), str(trained / "wrong.npz"), "--top", "7")
    values = json.loads(jaxmlp(*argv, "--json").out)
    frame = pl.read_csv("examples.csv")
    wrong = frame.filter(pl.col("label") != pl.col("prediction"))
    assert (values["examples"], values["origin"], values["ranked_by"]) == (N, "all examples", "loss")
    assert (values["wrong"], values["suspected"]) == (len(wrong), frame["suspected"].sum())
    assert [row["row"] for row in values["hardest"]] == frame["row"][:7].to_list()
    counted = Counter(wrong.select("label", "prediction").iter_rows())
    assert {(pair["label"], pair["prediction"]): pair["count"] for pair in values["most_often_wrong"]} == counted
    for pair in values["most_often_wrong"]:
        assert pair["share_of_label"] == pair["count"] / (frame["label"] == pair["label"]).sum()
    shown = jaxmlp(*argv).out
    for text in (str(values["wrong"]), "hardest 7 by loss", "most often wrong", "examples.csv", "examples.png"):
        assert text in shown
    for row in values["hardest"]:
        assert row["label"] in shown
        assert f"{row['loss']:#.4g}" in shown


def test_the_picture_holds_the_hardest_in_their_order(jaxmlp, trained, monkeypatch):
    from jaxmlp.cli import examples

    drawn, contact_sheet = [], examples.contact_sheet

    def recording(images, captions, *args, **options):
        drawn.append((images, captions))
        return contact_sheet(images, captions, *args, **options)

    monkeypatch.setattr(examples, "contact_sheet", recording)
    jaxmlp("examples", str(trained / "classes"), str(trained / "wrong.npz"), "--top", "5", "--out", "hard.csv")
    png = Path("hard.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", png[16:24])) > 200
    ((images, captions),) = drawn
    frame = pl.read_csv("hard.csv").head(5)
    np.testing.assert_array_equal(images, read(trained / "wrong.npz").x[frame["row"]].reshape(5, 8, 8))
    for caption, row, score in zip(captions, frame["row"], frame["loss"], strict=True):
        assert caption.endswith(f"\nrow {row}, {score:#.3g}")
    label, prediction = (str(frame[name][0])[:4] for name in ("label", "prediction"))
    assert label != prediction
    assert re.match(rf"{re.escape(label)}.* → {re.escape(prediction)}", captions[0])


def test_the_option_test_ranks_the_test_part(jaxmlp, trained):
    argv = ("examples", str(trained / "classes"), str(trained / "parts.npz"), "--json")
    assert json.loads(jaxmlp(*argv).out)["origin"] == "the training part"
    values = json.loads(jaxmlp(*argv, "--test").out)
    assert (values["origin"], values["examples"]) == ("the test part", 20)
    assert sorted(pl.read_csv("examples.csv")["row"]) == list(range(20))


def test_real_values_are_in_the_targets_own_units(jaxmlp, trained):
    done = jaxmlp("examples", str(trained / "values"), "diabetes", "--by", "norm")
    assert "most often wrong" not in done.out
    frame = pl.read_csv("examples.csv")
    assert frame.columns == ["rank", "row", "label", "prediction", "loss", "error_norm", "norm"]
    source, model = read("diabetes"), load(trained / "values")
    assert frame["norm"].is_sorted(descending=True)
    np.testing.assert_array_equal(frame["label"], source.t[frame["row"]])
    np.testing.assert_allclose(frame["prediction"], model.predict(source.x)[frame["row"], 0], rtol=1e-5)
    assert not Path("examples.png").exists()


def test_several_real_values_have_a_column_each(jaxmlp, trained):
    done = jaxmlp("examples", str(trained / "pairs"), str(trained / "pairs.npz"), "--top", "2")
    frame = pl.read_csv("examples.csv")
    assert frame.columns[2:6] == ["label_0", "label_1", "prediction_0", "prediction_1"]
    np.testing.assert_array_equal(frame["label_1"], -2 * frame["label_0"])
    assert "prediction 1" in done.out


def test_no_example_is_suspected_if_the_outputs_are_not_probabilities(jaxmlp, trained):
    values = json.loads(jaxmlp("examples", str(trained / "scores"), str(trained / "clean.npz"), "--json").out)
    assert "suspected" not in values
    assert pl.read_csv("examples.csv").columns == ["rank", "row", "label", "prediction", *SCORES]


@partial(jax.jit, static_argnames="mlp")
def gradients(mlp, params, x, t):
    """Return every example's gradient by autodiff, as rows."""

    def gradient(x, t):
        return ravel_pytree(jax.grad(lambda params: loss(mlp, params, x, t))(params))[0]

    return jax.vmap(gradient)(x, t)


@pytest.mark.parametrize(
    ("source_name", "origin"),
    [
        ("clean.npz", "the examples of its training"),
        ("wrong.npz", "all other examples"),
        ("parts.npz", "the training part"),
    ],
)
def test_influences_are_inner_products_of_gradients(jaxmlp, trained, source_name, origin):
    source, model = read(trained / source_name), load(trained / "classes" / "model.safetensors")
    if source_name == "parts.npz":
        index, rows, x, t = 3, np.arange(N), source.x_test, source.t_test
    else:
        parts = split(source, **{name: model.about["options"][name] for name in SPLITTING})
        rows, x, t = np.arange(N) if source_name == "wrong.npz" else parts.train.rows, source.x, source.t
        index = int(rows[0])
        rows = rows[rows != index]
    argv = ("examples", str(trained / "classes"), str(trained / source_name), "--influence", str(index), "--top", "5")
    values = json.loads(jaxmlp(*argv, "--json").out)
    train, tests = (model.encoding.encode(*part, source.class_names) for part in ((source.x, source.t), (x, t)))
    expected = gradients(*model.networks[0], train.x, train.t)[rows]
    expected = np.asarray(expected @ gradients(*model.networks[0], tests.x, tests.t)[index])
    order = np.argsort(-expected)
    frame = pl.read_csv("influence.csv")
    assert frame.columns == ["kind", "rank", "row", "label", "prediction", "influence"]
    assert (values["row"], values["label"]) == (index, source.class_names[t[index]])
    assert (values["training_examples"], values["origin"]) == (len(rows), origin)
    for kind, places in {"helped": order[:5], "harmed": order[::-1][:5]}.items():
        found = frame.filter(pl.col("kind") == kind)
        assert found["row"].to_list() == rows[places].tolist() == [row["row"] for row in values[kind]]
        # Sums of a thousand products in another order: some roundings of the largest.
        np.testing.assert_allclose(found["influence"], expected[places], rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert found["label"].to_list() == [source.class_names[t] for t in source.t[rows[places]]]
    assert Path("influence.png").read_bytes()[1:4] == b"PNG"


def test_helped_examples_have_positive_influence_and_harmed_ones_negative(jaxmlp, trained):
    parts = split(read("diabetes"), **SPLITTING)
    index = int(parts.test.rows[0])
    shown = jaxmlp("examples", str(trained / "values"), "diabetes", "--influence", str(index), "--top", "10000")
    frame = pl.read_csv("influence.csv")
    assert (frame.filter(pl.col("kind") == "helped")["influence"] > 0).all()
    assert (frame.filter(pl.col("kind") == "harmed")["influence"] < 0).all()
    assert sorted(frame["row"]) == sorted(parts.train.rows)  # each of them moved it, one way or the other
    for text in (f"helped row {index} most", f"harmed row {index} most", "the examples of its training"):
        assert text in shown.out


@pytest.mark.parametrize("width", [80, 70, 60, 40])
def test_a_narrow_terminal_shows_the_score_that_ranks_and_cuts_no_line(jaxmlp, trained, monkeypatch, width):
    argv = ("examples", str(trained / "classes"), str(trained / "wrong.npz"), "--by", "norm", "--top", "2")
    assert "error norm" in jaxmlp(*argv).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", jaxmlp(*argv).out)
    assert max(map(len, shown.splitlines())) <= width
    assert "..." not in shown
    header = next(line for line in shown.splitlines() if line.startswith("rank "))
    every = [
        "rank",
        "row",
        "label",
        "prediction",
        "probability",
        "loss",
        "error",
        "norm",
        "norm",
        "margin",
        "suspected",
    ]
    assert {"rank", "row", "label", "prediction", "norm"} <= set(header.split()) <= set(every)
    assert header.split().count("norm") == 1 + header.split().count("error")


# The command line, and the words that the error line must have. {} is the folder with models and data.
REFUSED = {
    "no rows": ("{}/classes {}/clean.npz --top 0", ["--top", "1 or larger", "got 0"]),
    "half a row": ("{}/classes {}/clean.npz --top 0.5", ["--top", "whole number", "0.5"]),
    "an unknown score": ("{}/classes {}/clean.npz --by los", ["'los'", "did you mean 'loss'"]),
    "a margin of values": ("{}/values diabetes --by margin", ["margin", "diabetes", "real values"]),
    "no test part": ("{}/classes {}/clean.npz --test", ["clean.npz", "--test"]),
    "no test part to influence": ("{}/classes {}/clean.npz --test --influence 1", ["clean.npz", "--test"]),
    "a row too far": ("{}/classes {}/clean.npz --influence 300", ["--influence", "0 to 299", "got 300"]),
    "a test row too far": ("{}/classes {}/parts.npz --influence 20", ["test part", "0 to 19", "got 20"]),
    "a negative row": ("{}/classes {}/clean.npz --influence -1", ["--influence", "0 to 299", "got -1"]),
    "a row in words": ("{}/classes {}/clean.npz --influence first", ["--influence", "'first'"]),
    "a folder for a name": ("{}/classes {}/clean.npz --out .", ["a folder, expected the name"]),
    "the model for a table": (
        "{}/classes/model.safetensors {}/clean.npz --out {}/classes/model.safetensors",
        ["model"],
    ),
    "the run's picture": ("{}/classes {}/clean.npz --out {}/classes/curves.csv", ["curves.png", "its run"]),
    "two rankings": ("{}/classes {}/clean.npz --influence 1 --by loss", ["--influence 1", "--by loss"]),
    "a missing folder": ("{}/classes {}/clean.npz --out no/such.csv", ["no/such.csv", "no folder"]),
    "a folder for a file": ("{}/classes {}/clean.npz --out taken", ["taken", "not a regular file"]),
    "a folder for the picture": ("{}/classes {}/clean.npz --out pictures.csv", ["pictures.png", "not a regular file"]),
    "a picture for a table": ("{}/classes {}/clean.npz --out x.PNG", ["x.PNG", "CSV"]),
    "other data": ("{}/classes iris", ["64 features", "(150, 4)"]),
    "a mistyped option": ("{}/classes {}/clean.npz --influences 1", ["'--influences'", "did you mean '--influence'"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line(jaxmlp, trained, tmp_path, name):
    typed, words = REFUSED[name]
    for folder in ("taken", "pictures.png"):
        (tmp_path / folder).mkdir()
    done = jaxmlp("examples", *(word.replace("{}", str(trained)) for word in typed.split()))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in done.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["pictures.png", "taken"]


def test_a_data_file_named_like_the_output_is_not_overwritten(jaxmlp, trained, tmp_path):
    x = read("diabetes")
    frame = pl.DataFrame(x.x, schema=list(x.feature_names)).with_columns(pl.Series("target", x.t))
    frame.write_csv("examples.csv")
    before = (tmp_path / "examples.csv").read_bytes()
    done = jaxmlp("examples", str(trained / "values"), "examples.csv", "--target", "target")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--out" in done.err
    assert (tmp_path / "examples.csv").read_bytes() == before
    assert jaxmlp("examples", str(trained / "values"), "examples.csv", "--target", "target", "--out", "o.csv").code == 0


def test_asking_for_more_examples_than_there_are_shows_all(jaxmlp, trained):
    done = jaxmlp("examples", str(trained / "classes"), str(trained / "clean.npz"), "--top", f"1{30 * '0'}", "--json")
    assert len(json.loads(done.out)["hardest"]) == 300


def test_influence_requires_other_examples(jaxmlp, trained):
    with np.load(trained / "clean.npz") as clean:
        np.savez("one.npz", x=clean["x"][:1], y=clean["y"][:1])
    done = jaxmlp("examples", str(trained / "classes"), "one.npz", "--influence", "0")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "only example" in done.err
    assert jaxmlp("examples", str(trained / "classes"), "one.npz").code == 0
