"""The script that compares defaults for tables trains as the terminal does, and its changes have an effect."""

import doctest
import json

import numpy as np
import polars as pl
import pytest

from experiments import choose_table_defaults
from experiments.choose_table_defaults import CHANGES, Change, compared, defaults, score
from jaxmlp.cli import main
from jaxmlp.data import from_frame

N = 250


@pytest.fixture
def frame(monkeypatch):
    """Return a table with long tails, which `score` finds under any name."""
    random = np.random.default_rng(0)
    x = random.standard_cauchy(N)
    made = pl.DataFrame({"x": x, "kind": random.choice(["a", "b"], N), "t": np.arctan(x) + 0.1 * random.normal(size=N)})
    monkeypatch.setattr(choose_table_defaults, "source", lambda table: from_frame(made, target="t"))
    return made


def test_examples_of_docstrings():
    assert doctest.testmod(choose_table_defaults, raise_on_error=True).attempted > 0


@pytest.mark.parametrize("networks", [1, 2])
def test_the_score_of_the_defaults_is_that_of_the_terminal(networks, frame, tmp_path, capsys):
    frame.write_parquet(tmp_path / "table.parquet")
    options = ["--target", "t", "--seed", "3", "--networks", f"{networks}", "--no-cache", "--json"]
    assert main(["train", str(tmp_path / "table.parquet"), *options, "--out", str(tmp_path / "run")]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = score("table", 3, defaults(N * 4 // 5)._replace(networks=networks))
    assert found == pytest.approx(printed["test_r2"], abs=1e-5)  # it is rounded


def test_a_change_of_a_constant_reaches_compiled_programs_and_is_taken_back(frame):
    settings = Change("epochs", 1 / 10)(defaults(N * 4 // 5))
    before = score("table", 0, settings)
    others = [score("table", 0, Change(name, value)(settings)) for name, value in (("bound", 3), ("bins", 8))]
    assert len({before, *others}) == 3
    assert score("table", 0, settings) == before


def _differences(before, after):
    return [name for name in before if before[name] != after[name]]


def test_each_change_changes_one_setting():
    default = defaults(4_800)
    for change in CHANGES:
        changed = change(default)
        assert len(_differences(default._asdict(), changed._asdict())) == 1
        assert len(_differences(vars(default.config), vars(changed.config))) <= 1
    assert len(set(map(str, CHANGES))) == len(CHANGES)


def test_a_change_is_called_better_where_its_interval_is_above_0():
    found = {
        "default": {"p": [0.5, 0.7], "q": [0.8, 0.8], "r": [0.9, 0.9]},
        "up": {"p": [0.6, 0.8], "q": [0.85, 0.85], "r": [0.93, 0.93]},
        "mixed": {"p": [0.7, 0.8], "q": [0.7, 0.7], "r": [0.9, 0.9]},
        "down": {"p": [0.4, 0.6], "q": [0.75, 0.75], "r": [0.88, 0.88]},
    }
    rows = compared(["up", "mixed", "down"], found, "default")
    assert [row[2] for row in rows] == ["better", "", "worse"]
