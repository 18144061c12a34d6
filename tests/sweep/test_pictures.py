"""Pictures and the numbers of the report show the trials that there are, the best ones as the best."""

import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxmlp import TrainConfig, sweep
from jaxmlp.sweep.metrics import OVER
from jaxmlp.sweep.report._axes import hold, scale
from jaxmlp.sweep.report._importance import Importance, importance
from jaxmlp.sweep.report._pictures import PICTURES, best_rows
from jaxmlp.sweep.report.html_page import _checked, _data, _facts

RATES, HIDDEN, SEEDS = [0.001, 0.01, 0.1], [(8,), (16, 16), ()], [0, 1]
SPACE = sweep.grid(learning_rate=RATES, hidden=HIDDEN, seed=SEEDS)
RNG = np.random.default_rng(0)
VALUES = {number: float(value) for number, value in enumerate(RNG.uniform(0.5, 0.9, len(SPACE)))}
DIVERGED = (4, 16, 17)  # 16 and 17 are all seeds of a setting
NOTHING = Importance([], None, "")
METRICS = pytest.mark.parametrize("metric", ["validation_accuracy", "validation_loss"])


@pytest.fixture
def swept(results_of):
    """Return made-up results with three diverged trials, and their table as pictures take it."""

    def make(metric="validation_accuracy", diverged=DIVERGED):
        outcomes = {n: {"status": "diverged"} if n in diverged else {metric: value} for n, value in VALUES.items()}
        results = results_of(SPACE, outcomes, metric)
        return results, _checked(results)

    return make


def better_first(metric):
    rows = [number for number in VALUES if number not in DIVERGED]
    return sorted(rows, key=VALUES.__getitem__, reverse=metric == "validation_accuracy")


@METRICS
def test_the_best_rows_are_the_best_trials_and_no_diverged_one_is_among_them(swept, metric):
    _, table = swept(metric)
    assert best_rows(table, metric, 5) == better_first(metric)[:5]
    assert best_rows(table, metric, 100) == better_first(metric)
    assert len(best_rows(swept(metric, range(18))[1], metric, 3)) == 3


@METRICS
def test_the_report_names_the_best_setting_and_says_that_its_score_is_too_good(swept, metric):
    results, table = swept(metric)
    found = results._settings(metric, OVER)
    facts, best = _facts(results, table, found), results.best(metric)
    assert facts.startswith("18 trials: 15 finished, 3 diverged.")
    rate, hidden = best.hyperparameters.values()
    words = (
        f"Best setting by {metric.replace('_', ' ')}: learning_rate = {rate:.4g}, hidden = {':'.join(map(str, hidden))}"
    )
    assert (
        f"{words}, with {best.mean:.4g} (95 %: {best.low:.4g} to {best.high:.4g}), the mean of 2 of 2 trials (" in facts
    )
    n = len(results.ranked(metric))
    assert facts.endswith(f"(the best of {n} on the same data, so it is too optimistic).")


def test_the_report_names_the_test_of_the_best_setting(results_of):
    outcomes = {n: {"validation_accuracy": value, "test_accuracy": value / 2} for n, value in VALUES.items()}
    results = results_of(SPACE, outcomes)
    test = results.best().test
    words = f"optimistic); its test accuracy: {test.mean:.4g} (95 %: {test.low:.4g} to {test.high:.4g})."
    assert _facts(results, results.table(), results._settings(results.metric, OVER)).endswith(words)


@METRICS
def test_parallel_coordinates_draw_a_line_for_each_trial_through_its_values_the_best_one_on_top(swept, metric):
    results, table = swept(metric)
    figure = PICTURES["parallel_coordinates"](results, table, NOTHING)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert len(lines) == len(SPACE)
    heights = [line.get_ydata()[-1] for line in lines]
    assert heights == sorted(heights)
    # Trials can be told by where their lines cross the axes: by place of width, and by logarithm of the rate.
    drawn = [tuple(np.round(line.get_ydata()[:2], 6)) for line in lines if line.get_ydata()[-1] >= 0]
    places = {typed: place / 2 for place, typed in enumerate(["8", "16:16", "none"])}
    words = [":".join(map(str, hidden)) or "none" for hidden in HIDDEN]
    of_trial = {
        number: (round(math.log10(rate / 0.001) / 2, 6), places[words[HIDDEN.index(hidden)]])
        for number, (rate, hidden, _) in enumerate(SPACE.rows)
    }
    assert drawn == [of_trial[number] for number in reversed(better_first(metric))]
    lost = [line for line in lines if line.get_ydata()[-1] < 0]
    assert [line.get_linestyle() for line in lost] == [":"] * len(DIVERGED)


def test_learning_curves_are_those_of_the_five_best_trials(swept):
    figure = PICTURES["learning_curves"](*swept(), NOTHING)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [f"trial {number}" for number in better_first("validation_accuracy")[:5]]
    panel = next(axes for axes in figure.axes if axes.get_ylabel() == "validation accuracy")
    for number, line in zip(better_first("validation_accuracy"), panel.get_lines(), strict=False):
        assert line.get_xdata().tolist() == [1, 2, 3]
        np.testing.assert_allclose(line.get_ydata(), VALUES[number])


def test_panels_show_each_settings_mean_with_its_interval_and_count_what_diverged(swept):
    results, table = swept()
    figure = PICTURES["hyperparameters"](results, table, NOTHING)
    panel = next(axes for axes in figure.axes if axes.get_xlabel() == "learning_rate")
    points = {tuple(point) for line in panel.get_lines() if line.get_marker() == "o" for point in line.get_xydata()}
    expected, ends = set(), []
    for place in range(0, 18, 2):
        values = [VALUES[number] for number in (place, place + 1) if number not in DIVERGED]
        if values:
            expected.add((SPACE.rows[place][0], np.mean(values)))
            half = stats.sem(values) * stats.t.ppf(0.975, 1) if len(values) > 1 else 0
            ends.append(np.clip([np.mean(values) - half, np.mean(values) + half], 0, 1))
    np.testing.assert_allclose(sorted(points), sorted(expected))
    (bars,) = (each for each in panel.collections if len(each.get_segments()) == len(ends))
    drawn = sorted(segment[:, 1].tolist() for segment in bars.get_segments())
    np.testing.assert_allclose(drawn, sorted(map(list, ends)), atol=1e-12)
    assert {text.get_text() for text in panel.texts} == {"1/6", "2/6"}


def test_the_heat_map_shows_means_at_their_places_and_marks_cells_without_one(swept):
    results, table = swept()
    figure = PICTURES["heat_map"](results, table, NOTHING)
    axes = figure.axes[0]
    across, up = ([tick.get_text() for tick in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels()))
    assert (across, up) == (["0.001", "0.01", "0.1"], ["8", "16:16", "none"])
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    for i, typed in enumerate(up):
        for j, rate in enumerate(RATES):
            rows = table.filter(pl.col("learning_rate") == rate, pl.col("hidden") == typed)[
                "validation_accuracy"
            ].drop_nulls()
            np.testing.assert_allclose(drawn[i, j], rows.mean() if len(rows) else np.nan)
    assert len(axes.patches) == 1  # the setting whose seeds all diverged
    assert sorted(text.get_text() for text in axes.texts) == ["✕ 1/2", "✕ 2/2"]


@METRICS
def test_the_best_end_of_the_colours_is_the_dark_one(swept, metric):
    figure = PICTURES["heat_map"](*swept(metric), NOTHING)
    image = figure.axes[0].images[0]
    low, high = (sum(image.cmap(image.norm(value))[:3]) for value in image.get_clim())
    assert (high < low) == (metric == "validation_accuracy")


def test_importance_is_drawn_with_the_most_important_on_top():
    matter = importance(
        pl.DataFrame(
            {"a": [*range(8)] * 4, "b": np.repeat(range(4), 8), "validation_loss": [10.0**a for a in range(8)] * 4}
        ),
        ("a", "b"),
        "validation_loss",
    )
    results = type("Named", (), {"title": ""})
    figure = PICTURES["importance"](results, None, matter)
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["b", "a"]  # from the foot up
    np.testing.assert_allclose([bar.get_width() for bar in figure.axes[0].patches], [b.drop for b in matter.bars[::-1]])


def test_the_numbers_of_the_report_are_those_of_the_table(results_of):
    outcomes = {n: {"status": "diverged"} if n in DIVERGED else {"validation_accuracy": v} for n, v in VALUES.items()}
    results = results_of(SPACE, outcomes, config=TrainConfig(epochs=450))
    table = _checked(results)
    data = _data(results, table, results._settings(results.metric, OVER))
    for name, column in data["columns"].items():
        assert column == table[name].to_list()
    assert data["columns"]["status"].count("diverged") == 3
    named = {"name": "validation_accuracy", "label": "validation accuracy"}
    assert data["metrics"][0] == named | {"isHigh": True, "low": 0, "high": 1}
    assert [each["isHigh"] for each in data["metrics"] if each["name"].endswith("loss")] == [False]
    assert data["chosen"] == [setting.trials[0] for setting in results.ranked()[:5]]
    ranked = data["ranked"]
    means = [setting.mean for setting in results.ranked()]
    assert ranked["columns"]["validation_accuracy"][: len(means)] == means
    for setting, rows in zip(results.ranked(), ranked["trials"], strict=False):
        assert sorted(rows) == sorted(setting.trials)
    assert data["varied"] == ["learning_rate", "hidden"]
    assert data["hasSeeds"]
    assert set(Counter(data["settings"]).values()) == {2}
    assert data["settings"][0] == data["settings"][1] != data["settings"][2]
    np.testing.assert_allclose(data["t"][2:], [stats.t.ppf(0.975, 1)])
    for number, curve in enumerate(data["curves"]):
        assert len(curve["epoch"]) == 200
        assert (curve["epoch"][0], curve["epoch"][-1]) == (1, 450)
        assert max(np.diff(curve["epoch"])) <= 3
        if number not in DIVERGED:
            np.testing.assert_allclose(curve["validation_accuracy"], VALUES[number], rtol=1e-3)


@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=40), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_only_outliers_on_the_worse_side_move_and_to_an_existing_value(values, is_high):
    array = np.array(values)
    held = hold(array, is_high)
    first, third = np.quantile(array, [0.25, 0.75], method="nearest")
    worse = array < first - 3 * (third - first) if is_high else array > third + 3 * (third - first)
    worse &= third > first
    np.testing.assert_array_equal(held[~worse], array[~worse])
    if worse.any():
        assert set(held[worse]) == {array[~worse].min() if is_high else array[~worse].max()}


@pytest.mark.parametrize(
    ("values", "kind", "order"),
    [
        (["128", "64:64", "64", "8"], "category", ["8", "64", "64:64", "128"]),
        ([0.1, None, 0.2], "category", [0.1, 0.2, None]),
        ([0.0, 0.001, 0.01, 0.1], "category", [0.0, 0.001, 0.01, 0.1]),
        ([0.1, 0.3, 0.2], "linear", [0.1, 0.2, 0.3]),
        ([1, 1000], "log", [1, 1000]),
        ([True, False], "category", [False, True]),
    ],
)
def test_an_axis_has_its_values_in_natural_order(values, kind, order):
    assert scale(values) == (kind, order)
