"""Accounts of several trainings equal independent calls of dp-accounting, and bound what exact integrals say."""

from collections import Counter
from itertools import combinations, combinations_with_replacement

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.rdp import RdpAccountant
from scipy.special import logsumexp
from scipy.stats import norm

from jaxmlp.private import Mechanism, epsilons
from jaxmlp.private.accounting import ORDERS
from jaxmlp.private.renyi import Steps, divergences, epsilon_of_all, epsilon_of_best

RELATION = dp.NeighboringRelation.REPLACE_SPECIAL
WHOLE = Mechanism(100, 80, 6.0, clip=1.0)  # whose largest batch has all examples, so that nothing is left out
Y = np.linspace(-60, 60, 1201)
USUAL = Mechanism(60_000, 2_000, 1.6, clip=1.0)


def of_dp_accounting(mechanism, steps):
    gaussian = dp.GaussianDpEvent(mechanism.noise_multiplier)
    return dp.SelfComposedDpEvent(
        dp.PoissonSampledDpEvent(mechanism.batch_size / mechanism.n_examples, gaussian), steps
    )


def tight(largest, *numbers):
    kind = type("Tight", (Mechanism,), {"largest_batch": largest})
    return kind(*numbers, clip=1.0)


@pytest.mark.parametrize(("mean", "shape"), [(10.0, 1.0), (3.0, 0.0), (30.0, 0.5)])
def test_the_best_costs_what_dp_accounting_says(mean, shape):
    for mechanism, steps, tolerance in ((WHOLE, 40, 1e-12), (USUAL, 900, 1e-3)):
        event = RepeatAndSelectDpEvent(of_dp_accounting(mechanism, steps), mean, shape)
        theirs = RdpAccountant(ORDERS, RELATION).compose(event).get_epsilon(1e-5)
        ours = epsilon_of_best([Steps(mechanism, steps)], 1e-5, mean=mean, shape=shape)
        assert ours >= theirs * (1 - 1e-12)
        assert ours == pytest.approx(theirs, rel=tolerance)


def test_all_together_cost_what_dp_accounting_says():
    trainings = [Steps(WHOLE, 40), Steps(Mechanism(100, 80, 12.0, clip=0.5), 10), Steps(WHOLE, 40)]
    accountant = RdpAccountant(ORDERS, RELATION)
    for each in trainings:
        accountant.compose(of_dp_accounting(each.mechanism, each.n))
    assert epsilon_of_all(trainings, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-12)
    assert epsilon_of_all(trainings[:1], 1e-5) < epsilon_of_all(trainings, 1e-5)


def test_the_choice_is_that_of_the_worst_training():
    noisy, worst = Steps(Mechanism(100, 80, 12.0, clip=1.0), 40), Steps(WHOLE, 40)
    numbers = {"delta": 1e-5, "mean": 5.0, "shape": 1.0}
    both, alone = epsilon_of_best([noisy, worst], **numbers), epsilon_of_best([worst], **numbers)
    assert both == alone > epsilon_of_best([noisy], **numbers)
    # Where no training is the worst in all orders, the bound is above that of each.
    few = Steps(Mechanism(60_000, 60_000, 9.0, clip=1.0), 20)
    of_each = [epsilon_of_best([each], **numbers) for each in (Steps(USUAL, 300), few)]
    assert epsilon_of_best([Steps(USUAL, 300), few], **numbers) >= max(of_each)


@pytest.mark.parametrize("steps", [1, 100])
@pytest.mark.parametrize("mechanism", [tight(105, 1000, 100, 2.0), tight(130, 1000, 100, 1.0), USUAL])
def test_one_training_costs_at_least_what_the_exact_account_says(mechanism, steps):
    (exact,) = epsilons(mechanism, [steps], 1e-5)
    assert epsilon_of_all([Steps(mechanism, steps)], 1e-5) >= exact


@pytest.mark.parametrize(
    ("n", "batch", "largest", "sigma"),
    [(2, 1, 1, 1.0), (2, 1, 1, 0.5), (4, 2, 1, 1.0), (4, 2, 2, 1.0), (4, 3, 3, 3.0), (4, 1, 2, 2.0), (4, 2, 4, 0.7)],
)
def test_a_step_diverges_by_no_more_whatever_the_examples_are(n, batch, largest, sigma):
    mechanism = tight(largest, n, batch, sigma)
    bounds = divergences(mechanism)
    for others in combinations_with_replacement((-1, 0, 1), n - 1):
        of_both = [log_density(mechanism, (*others, last)) for last in (1, 0)]
        for p, q in (of_both, of_both[::-1]):
            for order in (2, 3, 6):
                assert divergence(order, p, q) <= bounds[ORDERS.index(order)] + 1e-9


def log_density(mechanism, gradients):
    """Return the logarithm of the density of a step's noised sum, for gradients that are whole numbers.

    It is a mixture over all sets of rows that may be drawn, and over those that stay.
    """
    n, q, sigma = mechanism.n_examples, mechanism.batch_size / mechanism.n_examples, mechanism.noise_multiplier
    weights = Counter()
    for size in range(n + 1):
        for drawn in combinations(range(n), size):
            kept = list(combinations(drawn, min(size, mechanism.largest_batch)))
            for rows in kept:
                weights[sum(gradients[row] for row in rows)] += q**size * (1 - q) ** (n - size) / len(kept)
    means = np.array(list(weights), float)
    return logsumexp(norm.logpdf(Y[:, None], means, sigma), axis=1, b=list(weights.values()))


def divergence(order, p, q):
    """Return the Renyi divergence of two densities; for smooth ones, equal steps are as good as exact."""
    return (logsumexp(order * p - (order - 1) * q) + np.log(Y[1] - Y[0])) / (order - 1)


def test_divergences_are_exact_where_nothing_is_left_out():
    mechanism = Mechanism(4, 2, 1.0, clip=1.0)
    p, q = (log_density(mechanism, (0, 0, 0, last)) for last in (1, 0))
    assert divergences(mechanism)[0] == pytest.approx(divergence(2, p, q), rel=1e-9)
