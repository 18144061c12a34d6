"""Bad input: exit code 2, one line on standard error that names what was given, and nothing left behind."""

import gzip
import json
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy


def idx(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def write_images(folder, n=8, labels=None):
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.arange(n * 4).reshape(n, 2, 2)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(n) % 2 if labels is None else labels))
    return folder


@pytest.fixture
def files(tmp_path):
    """Broken and sound files to point the program at."""
    texts = {
        "good.csv": "a,b,kind\n" + "1,2,x\n3,4,y\n" * 10,
        "empty.csv": "",
        "header.csv": "a,b,kind\n",
        "holes.csv": "a,b,kind\n" + ",,\n" * 10,
        "infinite.csv": "a,b,kind\n1,2,x\n3,inf,y\n",
        "ragged.csv": "a,b,kind\n1,2,x\n3,4\n",
        "single.csv": "a,b,kind\n" + "1,2,x\n" * 10,
        "notes.txt": "hello",
        "hello.safetensors": "hello",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    np.savez(tmp_path / "pickled.npz", x=np.array([{}, {}], dtype=object), y=[0, 1])
    np.savez(tmp_path / "lengths.npz", x=np.ones((3, 2)), y=[0, 1])
    (tmp_path / "foreign.safetensors").write_bytes(safetensors.numpy.save({"w": np.ones(2)}))
    write_images(tmp_path / "images")
    magic = write_images(tmp_path / "magic")
    (magic / "train-images-idx3-ubyte").write_bytes(b"\0\0\x0d\3" + idx(np.zeros((8, 2, 2)))[4:])
    lying = write_images(tmp_path / "lying")
    (lying / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 2**31, 2**15, 2**15))
    truncated = write_images(tmp_path / "truncated")
    (truncated / "train-images-idx3-ubyte").unlink()
    (truncated / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.ones((8, 2, 2))))[:-12])
    write_images(tmp_path / "counts", labels=[0, 1, 0])
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.tex").write_text("")
    (tmp_path / "nothing").mkdir()
    return tmp_path


# The command line, and the words that the error line must have.
REFUSED = {
    "no command": ([], ["COMMAND"]),
    "a mistyped command": (["trian"], ["trian", "did you mean 'train'"]),
    "no source": (["train"], ["SOURCE is missing; see jaxmlp train --help"]),
    "a mistyped set": (["train", "digit"], ["digit", "digits"]),
    "a missing file": (["train", "no.csv", "--target", "a"], ["no.csv"]),
    "an unknown kind of file": (["train", "notes.txt"], ["notes.txt", ".csv"]),
    "an empty file": (["train", "empty.csv", "--target", "kind"], ["empty.csv"]),
    "a header only": (["train", "header.csv", "--target", "kind"], ["header.csv", "row"]),
    "rows without a value": (["train", "holes.csv", "--target", "kind"], ["holes.csv: no row has a target 'kind'"]),
    "an infinite feature": (["train", "infinite.csv", "--target", "kind"], ["infinite.csv", "row 3", "'b'", "inf"]),
    "a ragged row": (["train", "ragged.csv", "--target", "kind"], ["ragged.csv", "row 3"]),
    "a single class": (["train", "single.csv", "--target", "kind"], ["single.csv", "'x'", "two classes"]),
    "no target": (["train", "good.csv"], ["good.csv", "--target", "kind"]),
    "a mistyped target": (["train", "good.csv", "--target", "kinds"], ["'kinds'", "did you mean 'kind'"]),
    "a target without a table": (["train", "iris", "--target", "kind"], ["iris"]),
    "pickled arrays": (["train", "pickled.npz"], ["pickled.npz", "x"]),
    "lengths that differ": (["train", "lengths.npz"], ["lengths.npz", "3", "2"]),
    "a wrong magic": (["train", "magic"], ["train-images-idx3-ubyte", "magic"]),
    "a lying header": (["train", "lying"], ["train-images-idx3-ubyte"]),
    "a truncated gzip": (["train", "truncated"], ["train-images-idx3-ubyte.gz"]),
    "counts that differ": (["train", "counts"], ["8", "3"]),
    "an empty folder": (["train", "nothing"], ["nothing"]),
    "a rate of 0": (["train", "iris", "--learning-rate", "0"], ["learning_rate", "positive", "0"]),
    "a rate of nan": (["train", "iris", "--learning-rate", "nan"], ["learning_rate", "nan"]),
    "a rate in words": (["train", "iris", "--learning-rate", "fast"], ["--learning-rate", "'fast'"]),
    "a negative rate": (["train", "iris", "--learning-rate", "-1"], ["learning_rate", "-1"]),
    "momentum 1": (["train", "iris", "--momentum", "1"], ["momentum", "below 1"]),
    "negative decay": (["train", "iris", "--weight-decay", "-0.1"], ["weight_decay", "-0.1"]),
    "batch 0": (["train", "iris", "--batch-size", "0"], ["batch_size", "0"]),
    "a batch larger than the data": (["train", "iris", "--batch-size", "1000"], ["batch_size", "120", "1000"]),
    "no epochs": (["train", "iris", "--epochs", "0"], ["epochs", "0"]),
    "half an epoch": (["train", "iris", "--epochs", "0.5"], ["--epochs", "whole number", "'0.5'"]),
    "width 0": (["train", "iris", "--hidden", "64,0"], ["--hidden", "64,0"]),
    "no patience": (["train", "iris", "--patience", "0"], ["patience", "0"]),
    "a warm-up of inf": (["train", "iris", "--warmup-epochs", "inf"], ["warmup_epochs", "inf"]),
    "a negative seed": (["train", "iris", "--seed", "-1"], ["seed", "-1"]),
    "all held out": (["train", "iris", "--test-fraction", "1"], ["test_fraction", "1"]),
    "an unknown activation": (["train", "iris", "--activation", "rellu"], ["rellu", "did you mean 'relu'"]),
    "too many activations": (["train", "iris", "--activation", "relu,tanh"], ["activation", "1 hidden"]),
    "an unknown loss": (["train", "iris", "--loss", "hinge"], ["hinge", "cross_entropy"]),
    "a senseless pair": (["train", "iris", "--output", "tanh"], ["tanh", "cross_entropy with softmax"]),
    "classes' loss on values": (["train", "diabetes", "--loss", "cross_entropy"], ["cross_entropy", "real values"]),
    "an unknown schedule": (["train", "iris", "--schedule", "cosin"], ["cosin", "did you mean 'cosine'"]),
    "an unknown scaling": (["train", "iris", "--scaling", "std"], ["std", "standard"]),
    "an unknown task": (["train", "iris", "--task", "class"], ["class", "classes"]),
    "a mistyped option": (["train", "iris", "--epoch", "3"], ["--epoch", "did you mean '--epochs'"]),
    "an option without its value": (["train", "iris", "--epochs"], ["--epochs requires a value"]),
    "a value for a flag": (["train", "iris", "--json=3"], ["--json takes no value, got '3'"]),
    "one word too many": (["info", "a", "b"], ["unexpected argument b; see jaxmlp info --help"]),
    "a folder below a file": (["train", "iris", "--out", "good.csv/run"], ["good.csv/run: Not a directory"]),
    "a table for a picture": (["predict", "nothing", "iris", "--out", "p.png"], ["p.png", "CSV file, like p.csv"]),
    "an occupied folder": (["train", "iris", "--out", "occupied"], ["occupied", "files"]),
    "a file for a folder": (["train", "iris", "--out", "good.csv"], ["good.csv", "file"]),
    "an empty source": (["train", ""], ["SOURCE is empty"]),
    "an empty option": (["train", "iris", "--loss", ""], ["--loss is empty"]),
    "a device": (["train", "/dev/null"], ["/dev/null", "not a regular file"]),
    "a network too large to index": (["train", "iris", "--hidden", "99999999,99999999"], ["parameters, more than"]),
    "a width too large to index": (["train", "iris", "--hidden", "1" + "0" * 30], ["parameters, more than"]),
    "a width of 5,000 digits": (["train", "iris", "--hidden", "9" * 5000], ["--hidden", "999..."]),
    "a rate beyond float32": (["train", "iris", "--learning-rate", "1e39"], ["learning_rate", "float32"]),
    "no networks": (["train", "iris", "--networks", "0"], ["--networks must be a whole number, 1 or larger, got 0"]),
    "statistics of several networks": (
        ["train", "iris", "--networks", "2", "--track", "norms"],
        ["track follows the gradients of one network, got 2 keys"],
    ),
    "to resume nowhere": (["train", "iris", "--resume"], ["--out"]),
    "a missing model": (["evaluate", "no.safetensors", "iris"], ["no.safetensors"]),
    "a model that is none": (["info", "hello.safetensors"], ["hello.safetensors", "not a safetensors file"]),
    "somebody else's model": (["info", "foreign.safetensors"], ["foreign.safetensors", "jaxmlp"]),
    "a folder without a model": (["predict", "nothing", "iris"], ["nothing", "model.safetensors"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line(jaxmlp, files, name):
    argv, words = REFUSED[name]
    before = sorted(files.rglob("*"))
    done = jaxmlp(*argv)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    for word in words:
        assert word in done.err
    assert sorted(files.rglob("*")) == before


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    from jaxmlp.cli import main

    folder = tmp_path_factory.mktemp("trained") / "run"
    argv = ["train", "iris", "--epochs", "2", "--out", str(folder), "--quiet", "--no-cache"]
    assert main(argv) == 0
    return folder


def test_another_run_is_not_overwritten(jaxmlp, run_folder):
    before = (run_folder / "model.safetensors").read_bytes()
    done = jaxmlp("train", "iris", "--out", str(run_folder))
    assert done.code == 2
    assert "--resume" in done.err
    assert (run_folder / "model.safetensors").read_bytes() == before


def test_a_run_is_not_resumed_with_other_options_or_data(jaxmlp, run_folder):
    for argv, word in ((["iris", "--epochs", "1"], "--epochs 2, got 1"), (["wine"], "data")):
        done = jaxmlp("train", *argv, "--out", str(run_folder), "--resume")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert word in done.err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"options": 3, "data": "x"}', "[" * 100_000])
def test_a_damaged_configuration_is_refused(jaxmlp, run_folder, tmp_path, content):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    done = jaxmlp("train", "iris", "--out", "run", "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "config.json" in done.err


@pytest.mark.parametrize("name", ["epochs", "seed", "test_fraction", "hidden", "activation", "schedule", "loss"])
@pytest.mark.parametrize("value", ["many", [1], {}, -1.5])
def test_an_impossible_saved_option_is_refused(jaxmlp, run_folder, tmp_path, name, value):
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["options"][name] = value
    path.write_text(json.dumps(config))
    done = jaxmlp("train", "iris", "--out", "run", "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("change", [{"status": "?"}, {"best_epoch": 7}, {"history": [[1]]}, {"history": None}])
def test_a_damaged_checkpoint_is_refused(jaxmlp, run_folder, tmp_path, change):
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["jaxmlp"]) | change
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load_file(path), {"jaxmlp": json.dumps(header)}))
    done = jaxmlp("train", "iris", "--out", "run", "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "checkpoint.safetensors" in done.err


@pytest.mark.parametrize("options", [None, "x", [], -1, {}])
def test_a_model_with_other_notes_about_its_training_is_refused_or_used(jaxmlp, run_folder, tmp_path, options):
    path = tmp_path / "model.safetensors"
    shutil.copy(run_folder / "model.safetensors", path)
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["jaxmlp"])
    header["about"]["options"] = options
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load_file(path), {"jaxmlp": json.dumps(header)}))
    for argv in (["info", str(path)], ["evaluate", str(path), "iris"], ["predict", str(path), "iris"]):
        done = jaxmlp(*argv)
        assert (done.code, done.err.count("\n")) == ((0, 0) if options == {} else (2, 1))


@pytest.mark.parametrize("out", ["folder", "/dev/null"])
def test_predictions_go_to_a_regular_file_or_nowhere(jaxmlp, run_folder, tmp_path, out):
    (tmp_path / "folder").mkdir()
    done = jaxmlp("predict", str(run_folder), "iris", "--out", out)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "not a regular file" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("scaling", "said"), [("standard", "row 1, column 0"), ("none", "output for example 1 is not")]
)
def test_inputs_too_large_for_the_network_have_no_predictions(jaxmlp, tmp_path, scaling, said):
    x = np.random.default_rng(0).random((25, 2))
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(25) % 2)
    argv = ("data.npz", "--scaling", scaling, "--init-scale", "9", "--epochs", "1")
    assert jaxmlp("train", *argv, "--out", "run").code == 0
    np.savez(tmp_path / "huge.npz", x=[[1, 2], [3e38, -3e38]], y=[0, 1])
    for command in ("predict", "evaluate"):
        done = jaxmlp(command, "run", "huge.npz")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert said in done.err


def test_a_model_refuses_data_of_other_features_or_classes(jaxmlp, run_folder, tmp_path):
    header = "sepal length (cm),sepal width (cm),petal length (cm),petal width"
    (tmp_path / "renamed.csv").write_text(f"{header},kind\n1,2,3,4,setosa\n")
    done = jaxmlp("evaluate", str(run_folder), "renamed.csv", "--target", "kind")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "petal width (cm)" in done.err
    (tmp_path / "classes.csv").write_text(f"{header} (cm),kind\n1,2,3,4,rose\n1,2,3,4,setosa\n")
    done = jaxmlp("evaluate", str(run_folder), "classes.csv", "--target", "kind")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "'rose'" in done.err
    done = jaxmlp("evaluate", str(run_folder), "wine")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_predictions_for_a_missing_folder_are_refused(jaxmlp, run_folder):
    done = jaxmlp("predict", str(run_folder), "iris", "--out", "no/such/folder.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no/such" in done.err


def test_a_run_is_not_resumed_with_another_test_part(jaxmlp, tmp_path):
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x, y_test=y)
    argv = ["train", "data.npz", "--epochs", "1", "--out", "run", "--quiet"]
    assert jaxmlp(*argv).code == 0
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=-x, y_test=y)
    done = jaxmlp(*argv, "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "other data" in done.err
