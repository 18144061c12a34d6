"""Accounts equal independent calls of dp-accounting, and published numbers."""

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from jaxmlp.private import Mechanism, epsilons, noise_multiplier_for

RELATION = dp.NeighboringRelation.REPLACE_SPECIAL


@pytest.mark.parametrize(
    ("n", "batch", "sigma", "steps"), [(1000, 100, 1.5, 50), (300, 300, 8.0, 10), (5000, 50, 1.0, 100)]
)
def test_equals_the_accountant(n, batch, sigma, steps):
    mechanism = Mechanism(n, batch, sigma, clip=1.0)
    event = dp.TruncatedSubsampledGaussianDpEvent(n, batch / n, mechanism.largest_batch, sigma)
    ends = [1, steps // 2, steps]
    theirs = [PLDAccountant(RELATION).compose(event, end).get_epsilon(1e-5) for end in ends]
    np.testing.assert_allclose(epsilons(mechanism, ends, 1e-5), theirs, rtol=1e-3)


def test_truncation_is_accounted_and_costs_next_to_nothing():
    mechanism = Mechanism(60_000, 256, 1.1, clip=1.0)
    poisson = dp.PoissonSampledDpEvent(256 / 60_000, dp.GaussianDpEvent(1.1))
    plain = PLDAccountant(RELATION).compose(poisson, 14_062).get_epsilon(1e-5)
    (ours,) = epsilons(mechanism, [14_062], 1e-5)
    assert plain < ours < plain * (1 + 1e-4)
    # Renyi accounts are an upper bound, and shuffled batches accounted as such would cost far more.
    assert ours < RdpAccountant().compose(poisson, 14_062).get_epsilon(1e-5)


def test_a_tight_truncation_costs_what_dp_accounting_says():
    class Tight(Mechanism):
        largest_batch = 105

    event = dp.TruncatedSubsampledGaussianDpEvent(1000, 0.1, 105, 1.5)
    theirs = PLDAccountant(RELATION).compose(event, 20).get_epsilon(1e-5)
    loose, tight = (epsilons(kind(1000, 100, 1.5, clip=1.0), [20], 1e-5)[0] for kind in (Mechanism, Tight))
    assert tight == pytest.approx(theirs, rel=1e-3)
    assert tight > 1.01 * loose


def test_agrees_with_published_numbers():
    # MNIST in section 4 of Abadi et al., arXiv 1607.00133: by moments, an upper bound, epsilon is 1.26.
    q, sigma, steps, delta = 0.01, 4.0, 10_000, 1e-5
    (ours,) = epsilons(Mechanism(60_000, 600, sigma, clip=1.0), [steps], delta)
    assert ours < 1.26
    # In the limit of many steps (Bu, Dong, Long & Su 2020, arXiv 1911.11607) it is that of one Gaussian step.
    mu = q * np.sqrt(steps * np.expm1(sigma**-2))

    def excess(epsilon):
        return norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta

    assert ours == pytest.approx(brentq(excess, 0.01, 10), rel=0.03)


@pytest.mark.parametrize(("epsilon", "steps"), [(0.3, 40), (4.0, 20)])
def test_the_noise_that_is_solved_for_is_enough_and_the_least(epsilon, steps):
    sigma = noise_multiplier_for(epsilon, 1e-4, n_examples=1000, batch_size=100, steps=steps)
    (spent,) = epsilons(Mechanism(1000, 100, sigma, clip=1.0), [steps], 1e-4)
    assert spent <= epsilon
    (with_less,) = epsilons(Mechanism(1000, 100, sigma * 0.995, clip=1.0), [steps], 1e-4)
    assert with_less > epsilon


def test_no_noise_that_is_enough_is_one_line():
    with pytest.raises(ValueError, match=r"no noise multiplier up to 100000 spends epsilon 1e-06 or less"):
        noise_multiplier_for(1e-6, 1e-12, n_examples=100, batch_size=100, steps=1000)
