"""Properties of all experiments: intervals, verdicts, options, results on disk."""

import doctest
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from experiments.claims import _experiment
from experiments.claims._experiment import (
    Claim,
    Interval,
    Options,
    Outcome,
    Table,
    conduct,
    interval,
    judge,
    options_of,
    parser,
)


def test_examples_of_docstrings():
    assert doctest.testmod(_experiment, raise_on_error=True).attempted > 0


def test_interval_is_that_of_students_t():
    values = np.random.default_rng(0).normal(3, 2, (8, 5))
    found = interval(values)
    for column, mean, half in zip(values.T, found.mean, found.half, strict=True):
        low, high = stats.t.interval(0.95, 7, loc=column.mean(), scale=stats.sem(column))
        np.testing.assert_allclose((mean - half, mean + half), (low, high), rtol=1e-12)


def test_one_seed_has_no_interval_and_a_missing_number_no_mean():
    assert str(interval([2.5])) == "2.5 ± nan"
    assert str(interval([2.5, np.nan])) == "-"


@pytest.mark.parametrize(
    ("mean", "half", "written"),
    [(0.9996, 0.0123, "1.000 ± 0.012"), (98765.0, 4321.0, "98800 ± 4300"), (-2.0, 0.5, "-2.00 ± 0.50")],
)
def test_intervals_are_written_with_the_digits_that_they_bear(mean, half, written):
    assert str(Interval(mean, half)) == written


def test_verdicts():
    assert [judge(True), judge(False, True), judge(False)] == ["held", "held within limits", "did not hold"]


@pytest.mark.parametrize("argument", ["0", "-1", "two", "1.5", ""])
def test_seeds_that_cannot_be_are_one_line(argument, capsys):
    with pytest.raises(SystemExit) as ended:
        parser("experiments", None).parse_args([f"--seeds={argument}"])
    assert ended.value.code == 2
    expected = f"python -m experiments: argument --seeds: must be a whole number, 1 or larger, got {argument}\n"
    assert capsys.readouterr().err == expected


def test_a_miniature_has_fewer_seeds_and_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = options_of(parser("experiments", None).parse_args(["--quick"]))
    assert quick.seeds < options_of(parser("experiments", None).parse_args([])).seeds
    results = {path: path.read_bytes() for path in _experiment.RESULTS.iterdir()}
    conduct("momentum", _outcome, quick)
    assert results == {path: path.read_bytes() for path in _experiment.RESULTS.iterdir()}
    written = json.loads((tmp_path / "runs" / "experiments" / "momentum.json").read_text())
    assert written["seeds"] == list(range(quick.seeds))
    assert written["numbers"] == {"rates": [0.1, 0.333333, None], "where": {"a": True}}
    assert written["finding"] == "One.\n\nTwo of it."
    assert (tmp_path / "runs" / "experiments" / "momentum.png").read_bytes()[1:4] == b"PNG"


def _outcome(options: Options) -> Outcome:
    claims = [Claim("a claim", "1 of 1", "held")]
    numbers = {"rates": np.array([0.1, 1 / 3, np.nan]), "where": {"a": np.True_}}
    return Outcome(claims, [Table("A table", ("a",), [(1,)])], "One.\n\n  Two\n  of it.", numbers, Figure())
