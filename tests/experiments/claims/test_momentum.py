"""In miniature: effective rates on flat ground, limits on curved ground, and how far equal rates are alike."""

import numpy as np
import pytest

from experiments.claims import momentum as experiment
from experiments.claims._experiment import Options


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


def test_steps_on_a_plateau_go_at_eta_times_a_geometric_sum(outcome):
    rates = outcome.numbers["plateau"]["rate in eta"]
    expected = [[sum(alpha**s for s in range(t)) for t in experiment.SHOWN] for alpha in experiment.ALPHAS]
    # What the gradient changes in 1 / (1 - alpha) steps of 1e-4 / kappa is 1 % at alpha = 0.99.
    np.testing.assert_allclose(rates, np.broadcast_to(expected, rates.shape), rtol=0.015)


def test_oscillators_have_the_limits_of_the_closed_forms(outcome):
    made = outcome.numbers["oscillators"]
    few = slice(-1)  # at 0.99 the miniature has too few steps
    np.testing.assert_allclose(made["stable"][few], 1, atol=0.005)
    np.testing.assert_allclose(made["turns"][few], 1, atol=0.03)
    np.testing.assert_allclose(made["shrinks"], np.sqrt(experiment.ALPHAS[1:]), rtol=0.005)
    np.testing.assert_allclose(made["best"], [0.27, 0.669, 0.881], atol=0.011)  # the grid is of hundredths


def test_what_a_step_leaves_is_the_larger_root_of_the_characteristic_polynomial(outcome):
    made = outcome.numbers["oscillators"]
    alpha, curvature = experiment.MAPPED, made["curvatures"][:, None]
    half = (1 + alpha - curvature) / 2
    roots = half + np.array([1, -1])[:, None, None] * np.sqrt(half**2 - alpha + 0j)
    np.testing.assert_allclose(made["map"], np.abs(roots).max(0), rtol=0.02)


def test_curves_of_a_small_rate_are_alike_up_to_the_usual_momentum_but_not_to_the_largest(outcome):
    smallest = outcome.numbers["swept"]["alike up to"][0]
    assert 0.9 <= smallest < 0.995


def test_alike_is_what_every_smaller_alpha_is_too():
    departures = np.zeros((1, len(experiment.SWEPT), 2))
    departures[0, 2] = 0.2
    np.testing.assert_array_equal(experiment.alike_up_to(departures), [experiment.SWEPT[1]])


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 8
    assert [claim.verdict for claim in outcome.claims[:2]] == ["held"] * 2
