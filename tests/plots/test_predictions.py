"""The pictures of predictions: their points are what they claim to be."""

from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

from jaxmlp.plots.predictions import draw_calibration, draw_predicted_against_true


def test_a_point_of_calibration_is_a_bin_with_its_share_and_interval():
    rng = np.random.default_rng(0)
    probability = np.concatenate([rng.uniform(0.3, 0.8, 500), [0.0, 1.0]])
    right = rng.random(len(probability)) < probability
    above, below = draw_calibration(right, probability, "title").axes
    points = above.get_lines()[1].get_xydata()
    segments = above.collections[0].get_segments()
    counts, edges = np.histogram(probability, np.linspace(0, 1, 11))
    filled = [pair for pair, count in zip(pairwise(edges), counts, strict=True) if count]
    for (low, high), point, segment in zip(filled, points, segments, strict=True):
        inside = (probability >= low) & ((probability < high) | (high == 1))
        np.testing.assert_allclose(point, [probability[inside].mean(), right[inside].mean()])
        interval = binomtest(int(right[inside].sum()), int(inside.sum())).proportion_ci(0.95, "wilson")
        np.testing.assert_allclose(segment[:, 1], interval, atol=1e-4)
    assert sum(bar.get_height() for bar in below.patches) == len(probability)


def test_predicted_values_stand_against_true_ones_and_the_line_is_the_diagonal():
    t, y = np.array([1.0, 2.0, 5.0]), np.array([1.5, 2.0, 9.0])
    points, diagonal = draw_predicted_against_true(t, y).axes[0].get_lines()
    np.testing.assert_array_equal(points.get_xydata(), np.stack([t, y], axis=1))
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
