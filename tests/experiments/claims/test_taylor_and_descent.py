"""In miniature: the exponents of Taylor's remainders, and what the critical rate is critical for."""

import numpy as np
import pytest

from experiments.claims import taylor_and_descent as experiment
from experiments.claims._experiment import Options


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


@pytest.mark.parametrize("place", [experiment.INITIAL, experiment.TRAINED])
def test_what_is_left_out_shrinks_as_eta_squared_and_cubed(outcome, place):
    numbers = outcome.numbers[place]
    np.testing.assert_allclose(numbers[experiment.SECOND], 2, atol=0.1)  # slopes over two decades, the upper end bends
    np.testing.assert_allclose(numbers[experiment.THIRD], 3, atol=0.1)
    np.testing.assert_allclose(numbers[experiment.FALL], 0.999, atol=1e-4)  # 1 - eta kappa / 2, and eta^2 beyond


def test_no_direction_is_curved_more_than_the_top_eigenvector(outcome):
    for place in (experiment.INITIAL, experiment.TRAINED):
        assert (outcome.numbers[place][experiment.RATIO] > 1).all()


def test_distances_along_the_top_eigenvector_grow_from_the_critical_rate_on(outcome):
    rates = outcome.numbers[experiment.TRAINED][experiment.GROWS]
    assert (np.abs(rates - 1) < 0.2).all()  # five steps move to other curvature, hundreds of examples vary it


def test_crossings_are_interpolated_and_missing_where_there_is_none():
    rates, rows = np.array([1.0, 2.0, 3.0]), np.array([[0.0, 4.0, 8.0], [0.0, 0.5, 0.9]])
    np.testing.assert_allclose(experiment.crossing(rates, rows, 1.0), [1.25, np.nan])


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 7
    assert [claim.verdict for claim in outcome.claims[:3]] == ["held"] * 3
