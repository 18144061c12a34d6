"""In miniature: a gradient off by roundings only, and what the ways to it cost."""

import numpy as np
import pytest

from experiments.claims import backpropagation_is_the_gradient as experiment
from experiments.claims._experiment import Options


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


def test_no_gradient_is_off_by_more_than_roundings(outcome):
    for group in outcome.numbers["errors"].values():
        for both in group.values():
            # A sum of 32 rows of roundings; autodiff does much the same sums in another order.
            assert (both[experiment.OURS] < 32).all()
            assert (both[experiment.OURS] < 4 * both[experiment.AUTODIFF] + 4).all()


def test_only_backpropagation_costs_no_evaluation_a_parameter(outcome):
    costs = outcome.numbers["costs"]
    n = np.array(costs["parameters"])
    # Within a factor of ten of n, and far below it: a busy machine may double any time.
    for name in (experiment.DIFFERENCES, experiment.FORWARD):
        assert (np.median(costs[name], axis=1) > n / 10).all()
    assert (np.median(costs[experiment.OURS], axis=1) < n / 10).all()


def test_differences_keep_some_digits_only(outcome):
    off = np.array(outcome.numbers["costs"]["error of differences"])
    assert ((off > 1e3) & (off < 1e6)).all()  # roundings of a loss near 2, over a step of 2^-8 and entries near 0.01


def test_an_exponent_is_the_slope_in_logarithms():
    sizes = np.array([10, 100, 1000])
    np.testing.assert_allclose(experiment.exponent(sizes, np.array([[3, 1], [3, 10], [3, 100]])), [0, 1], atol=1e-12)


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 6
