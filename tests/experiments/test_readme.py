"""The page of the experiments shows their docstrings and their results; `python -m experiments` knows their names."""

import doctest
import json

import pytest

from experiments import _readme, _timing
from experiments.__main__ import main
from experiments._report import RESULTS


@pytest.mark.parametrize("module", [_readme, _timing])
def test_examples_of_docstrings(module):
    assert doctest.testmod(module, raise_on_error=True).attempted > 0


def test_an_unknown_experiment_is_one_line_with_the_nearest_name(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["experiments", "momentun"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "unknown experiment 'momentun', did you mean 'momentum'?" in printed


MEASURED = [name for name in _readme.NAMES if (RESULTS / f"{name}.json").exists()]


@pytest.mark.parametrize("name", MEASURED)
def test_the_page_shows_what_was_measured(name):
    written = json.loads((RESULTS / f"{name}.json").read_text())
    page = (RESULTS.parent / "README.md").read_text()
    assert _readme.docstring(name).partition("\n")[2] in page
    assert written["finding"] in page
    for claim in written["claims"]:
        assert _readme._cell(claim["measured"]) in page
    assert (RESULTS / f"{name}.png").stat().st_size > 10_000


def test_the_page_is_made_of_the_results():
    assert (RESULTS.parent / "README.md").read_text() == _readme.readme()
