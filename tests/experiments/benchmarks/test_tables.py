"""Properties of the benchmark of tables: its splits, what it keeps, and how it ranks."""

from argparse import Namespace
from time import perf_counter, sleep

import numpy as np
import polars as pl
import pytest

from experiments._timing import in_fresh_process
from experiments.benchmarks import _fits, _ranking, tables
from experiments.benchmarks._fits import Fit, keep, kept
from experiments.benchmarks._ranking import CONSTANT, compare, seconds, standings
from experiments.benchmarks._tables import DEVELOPMENT, REPORT, TABLES, Table, split
from experiments.benchmarks._tables_page import HALVES, all_tables, draw, write_page
from experiments.benchmarks.peers.tables import PEERS, Fitted, Peer
from jaxmlp import data

TASKS = {"classes": "species", "values": "weight"}


def _fits_of(scores, split=0):
    """Return fits from scores by learner and table."""
    fits = [Fit(t, learner, split, y, 1.0, 0.0) for learner, row in scores.items() for t, y in row.items()]
    return {(fit.table, fit.learner, fit.split): fit for fit in fits}


@pytest.fixture
def mixed():
    """Return a table of numbers, text and a date with holes, in which both targets follow from the features."""
    random = np.random.default_rng(0)
    n = 200
    length, place = random.normal(size=n), random.choice(["sea", "lake", "river"], n)
    return pl.DataFrame(
        {
            "length": np.where(random.random(n) < 0.1, np.nan, length),
            "place": [None if random.random() < 0.1 else name for name in place],
            "day": pl.date_range(pl.date(2020, 1, 1), pl.date(2021, 12, 31), "1d", eager=True)[:n],
            "species": np.where(place == "sea", "cod", "trout"),
            "weight": 3 * length + (place == "sea"),
        }
    ).with_columns(pl.col("length").fill_nan(None))


def test_each_table_belongs_to_one_half():
    assert sorted(DEVELOPMENT + REPORT) == sorted(TABLES)
    assert len(TABLES) == 20
    assert len(REPORT) == 10


def test_classes_have_the_same_share_in_both_parts_of_a_split():
    frame = pl.DataFrame({"t": ["a"] * 80 + ["b"] * 20})
    seen, unseen = split(frame, Table("", "t", "classes"), 3)
    assert sorted([*seen, *unseen]) == list(range(100))
    assert (frame[unseen]["t"] == "b").sum() == 4


@pytest.mark.parametrize("task", TASKS)
def test_jaxmlp_draws_the_test_part_of_the_benchmark(task, mixed):
    table = Table("", TASKS[task], task)
    _, unseen = split(mixed, table, 3)
    drawn = data.split(data.from_frame(mixed, target=table.target), seed=3).test.rows
    assert sorted(drawn) == sorted(unseen)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["sklearn-mlp", "hist", CONSTANT])
def test_a_learner_predicts_targets_of_rows_with_holes_and_unseen_text(name, task, mixed):
    target = TASKS[task]
    seen = np.arange(150)
    table = Table("", target, task)
    rows = mixed[150:].drop(target).with_columns(place=pl.lit("a pond"))
    y = PEERS[name].fit(mixed, seen, table, 0).predict(rows)
    assert y.shape == (50,)
    assert set(y) <= {"cod", "trout"} if task == "classes" else np.isfinite(y).all()


def _by_heart(frame, seen, table, _):
    """Return what knows the targets of the rows for training, and only those."""
    known = dict(zip(frame["weight"][seen], frame[table.target][seen], strict=True))
    return Fitted(lambda rows: np.array([known.get(weight, "?") for weight in rows["weight"]]))


def test_a_learner_is_scored_on_rows_that_it_has_not_seen(mixed, monkeypatch):
    monkeypatch.setitem(TABLES, "mixed", Table("", "species", "classes"))
    monkeypatch.setitem(PEERS, "by heart", Peer("", (), _by_heart))
    monkeypatch.setattr(_fits, "load", lambda _: mixed)
    assert _fits.score("mixed", "by heart", 0)[0] == 0.0


def test_a_program_that_reports_another_score_was_tested_on_other_rows(mixed, monkeypatch):
    monkeypatch.setitem(TABLES, "mixed", Table("", "species", "classes"))
    monkeypatch.setitem(PEERS, "liar", Peer("", (), lambda *_: Fitted(lambda rows: np.full(len(rows), "cod"), 1.0)))
    monkeypatch.setattr(_fits, "load", lambda _: mixed)
    with pytest.raises(ValueError, match="it was tested on other rows"):
        _fits.score("mixed", "liar", 0)


def test_fits_are_kept_and_replace_older_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(_fits, "FOLDER", tmp_path)
    monkeypatch.setattr(_fits, "RESULTS", tmp_path)
    for fit in (Fit("ames", "hist", 0, 0.9, 1.0, 0.0), Fit("ames", "hist", 1, None, None, 0.0, "TimeoutError")):
        keep(fit)
    keep(newer := Fit("ames", "hist", 0, 0.8, 2.0, 0.0))
    assert kept()["ames", "hist", 0] == newer
    assert kept()["ames", "hist", 1].failure == "TimeoutError"
    assert kept(_fits.QUIET) == {}


def test_a_process_that_takes_too_long_is_ended():
    start = perf_counter()
    with pytest.raises(TimeoutError, match="longer than"):
        in_fresh_process(sleep, 60, limit=0.1)
    assert perf_counter() - start < 50


def test_an_error_in_a_fresh_process_is_raised_here():
    with pytest.raises(ValueError, match="sleep length"):
        in_fresh_process(sleep, -1)


def test_equal_scores_share_a_rank_and_both_win():
    found = standings({"a": np.array([0.9]), "b": np.array([0.9]), "c": np.array([0.8])}, np.array([0.5]))
    assert [found[name].rank for name in "abc"] == [1.5, 1.5, 3.0]
    assert [found[name].wins for name in "abc"] == [1, 1, 0]


def test_normalised_scores_reach_from_the_worst_or_a_constant_prediction_to_the_best():
    means = {"a": np.array([0.9, 0.94, 0.3]), "b": np.array([0.6, 0.92, 0.3]), "c": np.array([0.9, 0.93, 0.3])}
    found = standings(means, constant=np.array([0.5, 0.95, 0.3]))
    assert found["a"].normalised == 1.0
    assert found["b"].normalised == pytest.approx((0.25 + 0 + 1) / 3, abs=1e-4)
    assert found["c"].normalised == pytest.approx((1 + 0.5 + 1) / 3, abs=1e-4)


def test_learners_are_compared_on_tables_that_all_have_fitted():
    names = ("p", "q", "r")
    full = dict.fromkeys(names, 0.5)
    fits = _fits_of({"a": full, "b": {"p": 0.6, "q": 0.7}, "few": {"p": 0.9}, CONSTANT: dict.fromkeys(names, 0.1)})
    found = compare(fits, names, ["a", "b", "few", CONSTANT], 1)
    assert found.tables == ("p", "q")
    assert list(found.standings) == ["a", "b"]
    assert found.standings["b"].rank == 1.0
    assert compare(fits, names, ["a", "b"], 2).standings == {}


def test_seconds_on_a_quiet_machine_come_first():
    fits = [Fit("p", "a", 0, 0.5, 9.0, 1.0), Fit("p", "a", 1, 0.5, 2.0, 0.0), Fit("p", "b", 0, 0.5, 3.0, 1.0)]
    assert seconds(fits) == {("p", "a"): _ranking.Seconds(2.0, True), ("p", "b"): _ranking.Seconds(3.0, False)}


def test_the_page_shows_scores_failures_and_claims(tmp_path):
    shares = {"default": 0.9, "sklearn-mlp": 0.8, "hist": 0.85, CONSTANT: 0.0}
    fits = {}
    for number in range(5):
        fits |= _fits_of({name: dict.fromkeys(TABLES, share) for name, share in shares.items()}, number)
    fits["ames", "tabm", 0] = Fit("ames", "tabm", 0, None, None, 0.0, "TimeoutError: longer than 300 s")
    taken = seconds(fits.values())
    compared = {half: [compare(fits, names, list(PEERS), n) for n in (5, 1)] for half, names in HALVES.items()}
    claims = tables.verdicts(fits, compared, taken)
    assert [claim.measured for claim in claims] == ["20 of 20", "1.00, 2.00", "-0.075 on ames", "1.00 on 20 tables"]
    assert all(claim.reached for claim in claims)
    write_page("What is measured.", {"jax": "0.10"}, claims, all_tables(fits, taken, compared), tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| ames (R2) | 0.900 ± 0.000 | 0.800 ± 0.000 | 0.850 ± 0.000 | - | 0.000 ± 0.000 |" in page
    assert "| ames | TabM-D | TimeoutError: longer than 300 s |" in page
    assert len(draw(compared, taken).axes) == 4


@pytest.mark.parametrize(("cores", "found"), [(0.0, 1), (1.5, 0)])
def test_seconds_on_a_busy_machine_are_not_kept_as_quiet(cores, found, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_fits, "FOLDER", tmp_path)
    monkeypatch.setattr(_fits, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "load", lambda _: [])
    monkeypatch.setattr(tables, "fit_anew", lambda *key: Fit(*key[:3], 0.5, 1.0, cores))
    asked = Namespace(quiet=True, again=False, cases=["ames"], peers=["hist"], splits=1, limit=9)
    tables.fit_all(asked)
    assert len(kept(_fits.QUIET)) == found
    assert "0.5000 in 1.0 s" in capsys.readouterr().out


def test_tables_larger_than_two_that_took_too_long_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(_fits, "FOLDER", tmp_path)
    monkeypatch.setattr(_fits, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: range(len(name)))
    monkeypatch.setattr(tables, "fit_anew", lambda *key: Fit(*key[:3], None, None, 0.0, "TimeoutError: late"))
    asked = Namespace(quiet=False, again=False, cases=["german", "hr", "ames"], peers=["hist"], splits=2, limit=9)
    tables.fit_all(asked)
    failures = [kept()[table, "hist", split].failure for table in ("hr", "ames", "german") for split in range(2)]
    assert failures == ["TimeoutError: late"] * 3 + ["not run: ames, hr took too long"] * 3
