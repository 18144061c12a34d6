"""read: it finds the reader of a source; and what is true of every reader."""

import subprocess
import sys

import numpy as np
import pytest

from jaxmlp.data import read


def test_a_mistyped_data_set_is_answered_with_the_nearest(refusal):
    sentence = refusal(lambda: read("irsi"), FileNotFoundError)
    for part in ["unknown data set 'irsi'", "did you mean 'iris'?", "no such file or folder"]:
        assert part in sentence


@pytest.mark.parametrize("name", ["missing.csv", "no/such/folder", "two\nlines", "nul\0byte"])
def test_a_missing_file_raises_file_not_found_error(name, refusal):
    assert "no such file or folder" in refusal(lambda: read(name), FileNotFoundError)


def test_a_device_is_refused_as_no_regular_file(refusal):
    assert "/dev/null: not a regular file" in refusal(lambda: read("/dev/null"))


def test_a_name_that_no_file_can_have_is_refused(refusal):
    refusal(lambda: read("x" * 10_000 + ".csv"))


@pytest.mark.parametrize(("name", "parts"), [("a.cvs", ["'.cvs'", "'.csv'"]), ("a", ["''", ".npz, .parquet"])])
def test_an_unknown_suffix_lists_the_known_ones(name, parts, tmp_path, refusal):
    (tmp_path / name).write_text("")
    sentence = refusal(lambda: read(tmp_path / name))
    for part in [str(tmp_path / name), "unknown kind of data file", *parts]:
        assert part in sentence


def test_a_file_name_of_two_lines_is_shown_on_one(tmp_path, refusal):
    (tmp_path / "two\nlines.csv").write_text("")
    assert r"two\nlines.csv" in refusal(lambda: read(tmp_path / "two\nlines.csv"))


def test_a_mistyped_task_is_answered_with_the_nearest(refusal):
    assert "unknown task 'value', did you mean 'values'?" in refusal(lambda: read("iris", task="value"))


@pytest.mark.parametrize(
    "options", [{"target": "kind"}, {"drop": ["a"]}, {"missing": ["-"]}, {"missing": []}, {"separator": ";"}]
)
def test_options_of_a_table_are_only_for_tables(options, tmp_path, refusal):
    np.savez(tmp_path / "data.npz", x=[[1.0], [2.0]], y=[0, 1])
    for source in ("iris", tmp_path, tmp_path / "data.npz"):
        sentence = refusal(lambda source=source: read(source, **options))
        assert sentence == f"{source} is not a table: leave out {next(iter(options))}"


def test_named_features_are_selected_by_name(refusal):
    iris = read("iris")
    names = iris.feature_names[::-1][:2]
    assert np.array_equal(read("iris", features=names).x, iris.x[:, [3, 2]])
    digits = read("digits")
    assert read("digits", features=digits.feature_names).image_shape == (8, 8)
    assert read("digits", features=digits.feature_names[::-1]).image_shape is None
    assert "nearest column is 'petal width (cm)'" in refusal(lambda: read("iris", features=["petal widht (cm)"]))


def test_features_without_names_are_only_counted(tmp_path, refusal):
    np.savez(tmp_path / "data.npz", x=[[1.0, 2.0], [3.0, 4.0]], y=[0, 1])
    assert read(tmp_path / "data.npz", features=["a", "b"]).x.shape == (2, 2)
    sentence = refusal(lambda: read(tmp_path / "data.npz", features=["a", "b", "c"]))
    for part in ["data.npz", "2 features", "expected 3"]:
        assert part in sentence


@pytest.mark.parametrize(("package", "name"), [("polars", "data.csv"), ("polars", "data.parquet"), ("sklearn", "iris")])
def test_a_missing_package_is_answered_with_the_line_that_installs_it(package, name, tmp_path, monkeypatch, refusal):
    for module in {package, *(module for module in sys.modules if module.partition(".")[0] == package)}:
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "data.csv").write_text("a\n1\n")
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    source = name if name == "iris" else tmp_path / name
    sentence = refusal(lambda: read(source, labelled=False), ModuleNotFoundError)
    assert "pip install 'jaxmlp[cli]'" in sentence


def test_importing_jaxmlp_data_imports_neither_polars_nor_scikit_learn():
    code = "import sys, jaxmlp.data; sys.exit('polars' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
