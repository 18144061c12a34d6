"""The picture of scores against epsilon: a point for each trial, and a line through the means of each setting."""

import numpy as np
import pytest

from jaxmlp.plots.privacy import draw_score_against_epsilon

EPSILON = [3.0, 1.0, 3.0, 1.0, 8.0, 8.0]
SCORES = [0.8, 0.6, 0.9, 0.5, 0.95, None]
SETTINGS = ["rate 1", "rate 1", "rate 1", "rate 2", "rate 2", "rate 3"]


def test_points_are_trials_and_lines_are_means_in_the_order_of_epsilon():
    (axes,) = draw_score_against_epsilon(EPSILON, SCORES, SETTINGS, "accuracy", "title").axes
    points, first, others, second = (line.get_xydata().tolist() for line in axes.get_lines())
    assert sorted(points) == [[1.0, 0.6], [3.0, 0.8], [3.0, 0.9]]
    np.testing.assert_allclose(first, [[1.0, 0.6], [3.0, 0.85]])
    assert sorted(others) == second == [[1.0, 0.5], [8.0, 0.95]]
    # A setting without a score is not drawn, and not in the legend.
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["rate 1", "rate 2"]
    assert (axes.get_ylabel(), axes.get_xscale()) == ("accuracy", "log")


def test_a_single_setting_needs_no_legend():
    (axes,) = draw_score_against_epsilon(EPSILON[:3], SCORES[:3], SETTINGS[:3], "accuracy").axes
    assert axes.get_legend() is None


def test_nothing_to_draw_is_one_line():
    with pytest.raises(ValueError, match="no trial has a score to draw"):
        draw_score_against_epsilon([1.0], [None], ["rate 1"], "accuracy")
