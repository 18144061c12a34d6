"""The best setting is the one with the best mean, whatever single trials did."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxmlp import TrainConfig, sgd, sweep
from jaxmlp._intervals import interval
from jaxmlp.sweep.metrics import METRICS, REPORTED, bounds, numbered
from jaxmlp.sweep.report import write_pictures, write_report
from jaxmlp.sweep.space import NAMES
from jaxmlp.sweep.store import _TABLES, Row, Store, is_cut_short
from jaxmlp.sweep.tables import column, stopped_by
from jaxmlp.training.history import Epoch, Evaluation, Trained

RATES, SEEDS = [0.1, 0.2, 0.3], [0, 1, 2, 3]
BETTER_HIGH = ("validation_accuracy", "validation_r2")
SPACE = sweep.grid(learning_rate=RATES, seed=SEEDS)
# Far apart and never equal, so that no rounding decides which is best.
scores = st.lists(st.integers(0, 999), min_size=12, max_size=12, unique=True).map(
    lambda whole: [n / 1000 for n in whole]
)


@pytest.mark.parametrize("metric", METRICS)
@given(scores)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_settings_are_ranked_by_their_mean_over_seeds(results_of, metric, values):
    results = results_of(SPACE, {number: {metric: value} for number, value in enumerate(values)}, metric)
    by_setting = np.reshape(values, (3, 4))
    order = np.argsort(by_setting.mean(1))
    if np.min(np.diff(np.sort(by_setting.mean(1)))) < 1e-9:
        return  # a tie, where either may be first
    found = results.ranked()
    expected = order[::-1] if metric in BETTER_HIGH else order
    assert [each.hyperparameters["learning_rate"] for each in found] == [RATES[place] for place in expected]
    assert results.best() == found[0]
    for each in found:
        row = by_setting[RATES.index(each.hyperparameters["learning_rate"])]
        assert each.mean == pytest.approx(row.mean())
        ends = np.clip(stats.t.interval(0.95, 3, row.mean(), stats.sem(row)), *bounds(metric))
        assert (each.low, each.high) == pytest.approx(ends)
        of_trials = [values[number] for number in each.trials]
        assert sorted(of_trials) == sorted(row)
        assert of_trials == sorted(of_trials, reverse=metric in BETTER_HIGH)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
@settings(deadline=None)
def test_an_interval_is_that_of_students_t_with_one_degree_of_freedom_less_than_numbers(values):
    mean, low, high = interval(values)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    np.testing.assert_allclose([mean, high - mean, mean - low], [np.mean(values), half, half], rtol=1e-6, atol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_an_interval_stays_within_bounds_and_holds_its_mean(values):
    free, bounded = interval(values), interval(values, 0, 1)
    assert 0 <= bounded.low <= bounded.mean == free.mean <= bounded.high <= 1
    assert bounded.low in (free.low, 0)
    assert bounded.high in (free.high, 1)
    beyond = interval([-1.0, -1.0, -1.0 - values[0]], 0, 1)
    assert beyond.low <= beyond.mean <= beyond.high


@pytest.mark.parametrize("metric", [*METRICS, *REPORTED])
def test_intervals_of_settings_respect_the_bounds_of_their_metric(results_of, metric):
    """Two seeds far apart, for which Student's interval is wider than all possible values."""
    space = sweep.grid(seed=[0, 1])
    low, high = bounds(metric)
    both = {number: dict.fromkeys((*METRICS, *REPORTED), 0.8 + 0.2 * number) for number in range(2)}
    ranked = metric if metric in METRICS else metric.replace("test", "validation")
    best = results_of(space, both).best(ranked)
    found = best if metric in METRICS else best.test
    assert (found.low == low) == math.isfinite(low)
    assert (found.high == high) == math.isfinite(high)


def test_a_mean_that_is_not_finite_has_no_interval():
    for values in ([-math.inf, 1.0], [math.inf, math.inf], [math.nan, 1.0]):
        assert list(map(math.isnan, interval(values)[1:])) == [True, True]


def test_a_single_number_has_no_interval():
    mean, low, high = interval([0.25])
    assert mean == 0.25
    assert math.isnan(low)
    assert math.isnan(high)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["a", "b"])), max_size=12))
def test_rows_have_the_number_of_their_setting_and_nothing_else_decides(rows):
    numbers = numbered(("momentum", "seed", "schedule"), rows)
    for row, number in zip(rows, numbers, strict=True):
        for other, its_number in zip(rows, numbers, strict=True):
            assert (number == its_number) == ((row[0], row[2]) == (other[0], other[2]))
    assert numbered(("momentum", "seed", "schedule"), rows, over=()) == [
        list(dict.fromkeys(rows)).index(r) for r in rows
    ]


def test_another_hyperparameter_can_be_averaged_over(results_of):
    accuracy = dict(enumerate([0.1, 0.9, 0.2, 0.3, 0.5, 0.5, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4]))
    results = results_of(SPACE, {number: {"validation_accuracy": value} for number, value in accuracy.items()})
    means = np.reshape(list(accuracy.values()), (3, 4)).mean(0)
    best = results.best(over="learning_rate")
    assert best.hyperparameters == {"seed": int(np.argmax(means))}
    assert best.mean == pytest.approx(means.max())
    assert results.best(over=None).trials == (1,)


def test_a_setting_with_a_diverged_trial_is_left_out_and_so_are_trials_that_a_halving_stopped(results_of):
    accuracy = {number: {"validation_accuracy": 0.9 if number < 4 else 0.5 + number / 100} for number in range(12)}
    diverged = accuracy | {2: {"status": "diverged"}}
    assert results_of(SPACE, diverged).best().trials == (11, 10, 9, 8)
    # The three best of the first setting were stopped at a rung: they count for nothing, and the fourth is but one.
    cut = {"status": "stopped", "epochs": 1, "validation_accuracy": 0.99}
    results = results_of(SPACE, accuracy | dict.fromkeys((0, 1, 2), cut) | {3: {"validation_accuracy": 0.7}})
    assert results.best().trials == (11, 10, 9, 8)
    last = results.ranked()[-1]
    assert (last.mean, last.trials, last.n_asked) == (0.7, (3,), 4)
    assert results.best(over=None).trials == (3,)
    # What its own patience stopped is an outcome.
    by_patience = dict.fromkeys(range(4), cut | {"epochs": 2, "best_epoch": 1})
    config = TrainConfig(epochs=3, patience=1)
    assert results_of(SPACE, accuracy | by_patience, config=config).best().trials == (0, 1, 2, 3)


def test_the_error_without_a_best_setting_says_why(results_of):
    some = {0: {"validation_accuracy": 0.5}, **{number: {"status": "diverged"} for number in range(1, 8)}}
    said = pytest.warns(UserWarning, match=r"^\d+ of 12 trials have ended$")
    with said, pytest.raises(ValueError, match=r"^validation_r2 was not measured in this sweep$"):
        results_of(SPACE, some).best("validation_r2")
    with (
        said,
        pytest.raises(
            ValueError, match=r"^no setting has a validation_accuracy: 8 of 12 trials: 1 finished, 7 diverged$"
        ),
    ):
        results_of(SPACE, some).best()
    with said, pytest.raises(ValueError, match=r"^no setting has a validation_accuracy: 0 of 12 trials$"):
        results_of(SPACE, {}).best()
    all_diverged = {number: {"status": "diverged"} for number in range(12)}
    advice = "diverged: try lower learning rates, or scale the inputs"
    with pytest.raises(ValueError, match=f"^every trial {advice}$"):
        results_of(SPACE, all_diverged).best()
    with said, pytest.raises(ValueError, match=rf"^every trial so far \(1 of 12\) {advice}$"):
        results_of(SPACE, {3: {"status": "diverged"}}).best()


def test_a_metric_that_overflows_is_not_called_unmeasured(results_of):
    """R2 of values whose squares are infinite is infinite or no number; no trial of another kind of target has it."""
    without = {number: {"validation_loss": math.inf} for number in range(12)}
    beyond = {number: {"validation_loss": math.inf, "validation_r2": -math.inf} for number in range(12)}
    best = results_of(SPACE, beyond).best("validation_r2")
    assert (best.mean, len(best.trials)) == (-math.inf, 4)
    said = r"^validation_r2 is not a number in any trial: values are too large; scale the targets$"
    with pytest.raises(ValueError, match=said):
        results_of(SPACE, without).best("validation_r2")
    with pytest.raises(ValueError, match=r"^validation_accuracy was not measured in this sweep$"):
        results_of(SPACE, beyond).best("validation_accuracy")


def test_whatever_is_read_of_an_unfinished_sweep_says_so(results_of, tmp_path):
    half = {number: {"validation_accuracy": number / 100} for number in range(6)}
    uses = [
        lambda results: results.best(),
        lambda results: results.ranked("train_loss"),
        lambda results: results.export(tmp_path / "trials.csv"),
        lambda results: results.settings(),
        lambda results: results.report(tmp_path / "report.html"),
        lambda results: write_report(results, tmp_path / "report.html"),
        lambda results: write_pictures(results, tmp_path),
    ]
    for use in uses:
        with pytest.warns(UserWarning, match=r"^6 of 12 trials have ended$") as said:
            use(results_of(SPACE, half))
        assert [each.filename for each in said] == [__file__]
    assert "6 of 12 trials have ended: 6 finished." in (tmp_path / "report.html").read_text()
    whole = results_of(SPACE, half | {number: {"validation_accuracy": 0.1} for number in range(6, 12)})
    for use in uses:
        use(whole)  # warnings are errors here


def test_an_infinite_loss_is_a_value_and_the_worst_one(results_of):
    losses = {number: {"validation_loss": math.inf if number == 0 else 2.0} for number in range(12)}
    found = results_of(SPACE, losses, "validation_loss").ranked()
    assert [each.mean for each in found] == [2.0, 2.0, math.inf]


def test_an_outcome_has_the_metrics_of_the_epoch_whose_parameters_are_kept():
    curve = tuple(Epoch(e, 0.1, 1.0 / e, 2.0 + e, e / 10, None, 0.5) for e in (1, 2, 3))
    store = Store(None)
    for table in _TABLES:
        store._file.execute(f"create table {table}")
    store.commit({0: Trained((), sgd.State(()), curve, (), 2, "finished", Evaluation(0.7, None, 0.3))})
    assert store.rows() == [(0, "finished", 3, 2, 1.5, 0.5, 4.0, 0.2, None, 0.7, None, 0.3)]


LAYERS = {"hidden": [(128,), (64, 64), (), (64,)], "activation": ["relu", ("tanh", "relu"), "tanh", "relu"]}


def test_values_of_each_layer_are_one_text_in_tables_csv_and_parquet(results_of, tmp_path):
    space = sweep.Space(("hidden", "seed"), tuple((hidden, seed) for hidden in LAYERS["hidden"] for seed in (0, 1)))
    results = results_of(space, {number: {"validation_accuracy": number / 10} for number in range(8)})
    table = results.table()
    means = table.group_by("hidden").agg(pl.col("validation_accuracy").mean()).sort("validation_accuracy")
    assert means["hidden"].to_list() == ["128", "64:64", "none", "64"]
    assert results.settings()["hidden"].to_list() == ["64", "none", "64:64", "128"]
    assert results.trial(2).values["hidden"] == results.best(over=None).hyperparameters["hidden"] + (64,) == (64, 64)
    results.export(tmp_path / "trials.csv")
    results.export(tmp_path / "trials.parquet")
    assert pl.read_csv(tmp_path / "trials.csv")["hidden"].to_list() == table["hidden"].to_list()
    assert pl.read_parquet(tmp_path / "trials.parquet").equals(table)
    space = sweep.Space(("hidden", "activation"), (((3, 3), ("tanh", "relu")), ((3,), "tanh")))
    table = results_of(space, {0: {"validation_accuracy": 0.1}, 1: {"validation_accuracy": 0.2}}).table()
    assert table["activation"].to_list() == ["tanh:relu", "tanh"]


def test_the_table_of_settings_has_the_means_of_best_and_names_what_has_none(results_of):
    values = {number: {"validation_accuracy": 0.5 + number / 100, "test_accuracy": 0.5} for number in range(12)}
    cut = {"status": "stopped", "epochs": 1, "validation_accuracy": 0.99}
    outcomes = values | {2: {"status": "diverged"}} | dict.fromkeys((4, 5, 6), cut)
    results = results_of(SPACE, outcomes)
    table, ranked = results.settings(), results.ranked()
    assert table["learning_rate"].to_list() == [0.3, 0.2, 0.1]
    assert table.select("n", "n_asked", "diverged").rows() == [(4, 4, 0), (1, 4, 0), (3, 4, 1)]
    assert table["best_trial"].to_list() == [11, 7, 3]
    best = results.best()
    ends = (best.mean, best.low, best.high, best.test.mean, best.test.low, best.test.high)
    columns = ["validation_accuracy", "low", "high", "test_accuracy", "test_low", "test_high"]
    assert table.select(columns).row(0) == ends
    assert table.select(columns).row(1) == (ranked[1].mean, None, None, 0.5, None, None)
    assert table.select(columns).row(2) == (None,) * 6
    over_rates = results.settings(over=["learning_rate", "seed"])
    assert over_rates.select("n", "n_asked", "diverged").rows() == [(8, 12, 1)]
    assert results.settings("train_loss", over=None)["n"].to_list().count(1) == 9 - 1


def test_tables_name_what_is_fixed_what_is_none_and_what_ended_a_trial(results_of):
    space = sweep.grid(clip=[None, 0.5], patience=[None, 2])
    outcomes = {
        0: {"status": "diverged", "epochs": 1},
        1: {"status": "stopped", "epochs": 3, "best_epoch": 1, "validation_accuracy": 0.5},
        2: {"status": "stopped", "epochs": 3, "best_epoch": 3, "validation_accuracy": 0.5},
        3: {"validation_accuracy": 0.5, "epochs": 9},
    }
    results = results_of(space, outcomes, config=TrainConfig(epochs=9))
    table = results.table(fixed=True)
    assert table["clip"].to_list() == [None, None, 0.5, 0.5]
    assert table["stopped_by"].to_list() == ["divergence", "patience", "halving", None]
    assert table["best_epoch"].to_list() == [None, 1, 3, 9]
    assert results.fixed["epochs"] == 9
    assert set(results.fixed) == set(NAMES) - {"clip", "patience"}
    assert table["hidden"].to_list() == ["4"] * 4
    assert results.settings(fixed=True).select("seed", "activation").rows() == [(0, "relu")] * 4
    # `epochs` is in both: those that the trial had.
    assert set(results.table().columns) == set(table.columns) - set(results.fixed) | {"epochs"}


def test_the_curves_of_all_trials_are_one_table_that_joins_the_table_of_trials(results_of):
    results = results_of(SPACE, {n: {"validation_accuracy": n / 10, "epochs": 1 + n % 3} for n in (7, 1, 4)})
    curves = results.curves()
    assert curves.select("trial", "epoch").rows() == [(1, 1), (1, 2), (4, 1), (4, 2), (7, 1), (7, 2)]
    assert curves.equals(pl.concat([results.curves(n) for n in (1, 4, 7)]))
    last = curves.filter(pl.col("epoch") == pl.col("epoch").max().over("trial"))
    joined = last.join(results.table(), on="trial", suffix="_kept")
    assert joined["validation_accuracy"].equals(joined["validation_accuracy_kept"])


def test_results_show_how_many_trials_ended_and_the_best_setting(results_of):
    accuracy = {number: {"validation_accuracy": number / 100} for number in range(12)} | {0: {"status": "diverged"}}
    shown = "12 of 12 trials: 11 finished, 1 diverged"
    best = "best validation_accuracy 0.095, the mean of 4 of 4: learning_rate=0.3"
    assert repr(results_of(SPACE, accuracy)) == f"<Results of sweep: {shown}; {best}>"
    assert repr(results_of(SPACE, {})) == "<Results of sweep: 0 of 12 trials>"


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_a_stopped_trial_is_cut_short_unless_its_patience_ran_out(best_epoch, waited, patience):
    row = Row(0, "stopped", best_epoch + waited, best_epoch, 1.0, *[None] * len(METRICS))
    assert is_cut_short(row, TrainConfig(epochs=100, patience=patience)) == (waited < patience)
    assert is_cut_short(row, TrainConfig(epochs=100))
    config = TrainConfig(epochs=100, patience=patience)
    assert not is_cut_short(row._replace(status="finished"), config)
    assert stopped_by(row, config) == ("halving" if waited < patience else "patience")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], pl.Int64),
        ([1, 0.5], pl.Float64),
        ([None, 0.5], pl.Float64),
        ([None, None], pl.Null),
        (["tanh", "relu"], pl.String),
        ([True, False], pl.Boolean),
        ([(64,), (), None], pl.String),
        (["tanh", ("relu", "tanh")], pl.String),
    ],
)
def test_a_column_of_hyperparameters_has_their_type(values, dtype):
    found = column(values)
    assert found.dtype == dtype
    assert found.null_count() == values.count(None)
