"""Packages of an extra: a missing one is answered with the line that installs it."""

import subprocess
import sys

import pytest

from jaxmlp import Dataset, sweep
from jaxmlp._extras import optional


def hide(package, monkeypatch):
    for module in {package, *(module for module in sys.modules if module.partition(".")[0] == package)}:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(("module", "package"), [("sklearn.datasets", "scikit-learn"), ("plotly.offline", "plotly")])
def test_a_missing_package_has_its_pip_name_in_the_error(module, package, monkeypatch):
    hide(module.partition(".")[0], monkeypatch)
    with pytest.raises(ImportError) as caught:
        optional(module, "sweep")
    assert str(caught.value) == f"{package} is not installed, try: pip install 'jaxmlp[sweep]'"


def test_a_package_that_is_installed_but_broken_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
        optional("broken_package")


def test_the_table_of_a_sweep_names_the_extra_that_it_needs(monkeypatch):
    hide("polars", monkeypatch)
    results = sweep.run(sweep.grid(learning_rate=[0.1, 0.2]), Dataset([[0.0], [1.0]] * 16, [0, 1] * 16))
    with pytest.raises(ImportError, match=r"polars is not installed, try: pip install 'jaxmlp\[sweep\]'"):
        results.table()


def test_estimators_name_the_extra_that_they_need():
    code = "import sys; sys.modules['sklearn'] = None; import jaxmlp; from jaxmlp.estimators import MLPClassifier"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1].endswith("scikit-learn is not installed, try: pip install 'jaxmlp[sklearn]'")


def test_an_older_scikit_learn_is_named():
    code = "import sklearn; sklearn.__version__ = '1.5.2'; import jaxmlp.estimators"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = "scikit-learn is 1.5.2, expected 1.6 or newer, try: pip install 'jaxmlp[sklearn]'"
    assert ended.stderr.splitlines()[-1] == f"ImportError: {expected}"


def test_optimize_names_the_extra_that_it_needs(monkeypatch):
    hide("optuna", monkeypatch)
    data = Dataset([[0.0], [1.0]] * 16, [0, 1] * 16)
    with pytest.raises(ImportError, match=r"^optuna is not installed, try: pip install 'jaxmlp\[optuna\]'$"):
        sweep.optimize(None, {"momentum": [0.5, 0.9]}, data, n_trials=2, validation=data)


@pytest.mark.parametrize("command", ["datasets", "train iris", "evaluate run iris", "sweep iris"])
def test_a_command_whose_package_is_missing_ends_in_the_line_that_installs_it(command):
    code = f"import sys; sys.modules['rich'] = None; import jaxmlp.cli; sys.exit(jaxmlp.cli.main({command.split()}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    name = command.split()[0]
    assert ended.stderr == f"jaxmlp {name}: error: rich is not installed, try: pip install 'jaxmlp[cli]'\n"
    assert ended.returncode == 2
