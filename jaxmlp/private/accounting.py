"""What mechanisms cost in (epsilon, delta), by Google's `dp-accounting`: nothing of the accounts is our own.

All are accounts of privacy loss distributions (PLD) of the exact event, `TruncatedSubsampledGaussianDpEvent`. The
neighbours of a data set have one example replaced by none (`REPLACE_SPECIAL`), so N is public.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxmlp._extras import optional
from jaxmlp.private.mechanism import Mechanism

__all__ = ["ACCOUNTANT", "ORDERS", "RELATION", "SAMPLING", "epsilons", "noise_multiplier_for", "renyi_epsilon"]

ACCOUNTANT = "dp-accounting {version}, privacy loss distributions"
RELATION = "one example replaced by none"
ORDERS = (*range(2, 64), 128, 256, 512)  # of Renyi divergences; where an order is no whole number, a sum may not end
SAMPLING = "Poisson, batches of at most {largest_batch:,}"

_LEAST_NOISE, _MOST_NOISE = 0.1, 1e5
_TOLERANCE = 1e-3  # relative, of a noise multiplier that is solved for
_TRUNCATION = 1e-4  # relative; the truncation of batches costs less of epsilon


def epsilons(mechanism: Mechanism, steps: Sequence[int], delta: float) -> list[float]:
    """Return the epsilon that is spent after each of these numbers of steps, ascending: the curve of a run.

    >>> mechanism = Mechanism(1_000, 100, noise_multiplier=4.0, clip=1.0)
    >>> [round(epsilon, 3) for epsilon in epsilons(mechanism, range(0, 101, 50), delta=1e-5)]
    [0.0, 0.684, 0.983]
    """
    distributions, relation = _of_dp_accounting()
    one = distributions.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=mechanism.n_examples,
        sampling_probability=mechanism.probability,
        truncated_batch_size=mechanism.largest_batch,
        noise_multiplier=mechanism.noise_multiplier,
        value_discretization_interval=_interval(max(steps)),
        neighboring_relation=relation,
    )
    found, composed, n_before = [], None, 0
    for n in steps:
        if n > n_before:
            further = one.self_compose(n - n_before)
            composed, n_before = further if composed is None else composed.compose(further), n
        found.append(0.0 if composed is None else float(composed.get_epsilon_for_delta(delta)))
    return found


def noise_multiplier_for(epsilon: float, delta: float, *, n_examples: int, batch_size: int, steps: int) -> float:
    """Return the least noise multiplier, to 0.1 %, with which so many steps spend at most epsilon.

    Raise a ValueError if there is none up to 100,000.

    >>> sigma = noise_multiplier_for(1.0, 1e-5, n_examples=1_000, batch_size=100, steps=100)
    >>> epsilons(Mechanism(1_000, 100, sigma, clip=1.0), [100], 1e-5)[0] <= 1.0
    True
    """
    from scipy.optimize import brentq

    def excess(noise_multiplier: float) -> float:
        one = distributions.from_gaussian_mechanism(
            noise_multiplier,
            sampling_prob=mechanism.probability,
            value_discretization_interval=_interval(steps),
            neighboring_relation=relation,
        )
        return float(one.self_compose(steps).get_epsilon_for_delta(delta)) - epsilon * (1 - _TRUNCATION)

    mechanism = Mechanism(n_examples, batch_size, _MOST_NOISE, clip=1.0)
    distributions, relation = _of_dp_accounting()
    high = _by_renyi(epsilon, delta, mechanism, steps)
    if excess(high) > 0:
        raise ValueError(
            f"no noise multiplier up to {_MOST_NOISE:g} spends epsilon {epsilon:g} or less at delta {delta:g} in "
            f"{steps:,} steps: ask for fewer epochs, or a larger epsilon or delta"
        )
    low = high
    while excess(low) <= 0 and low > _LEAST_NOISE:
        low = max(low / 1.5, _LEAST_NOISE)
    if excess(low) > 0:
        high = brentq(excess, low, high, rtol=_TOLERANCE / 2) * (1 + _TOLERANCE / 2)
    mechanism = replace(mechanism, noise_multiplier=high)
    while epsilons(mechanism, [steps], delta)[0] > epsilon:
        mechanism = replace(mechanism, noise_multiplier=mechanism.noise_multiplier * (1 + _TOLERANCE))
    return mechanism.noise_multiplier


def renyi_epsilon(mechanism: Mechanism, steps: int, delta: float) -> float:
    """Return epsilon by Renyi divergences, an older and looser account, in which batches have no largest size.

    >>> round(renyi_epsilon(Mechanism(1_000, 100, noise_multiplier=4.0, clip=1.0), 100, delta=1e-5), 3)
    1.082
    """
    dp, renyi = optional("dp_accounting", "private"), optional("dp_accounting.rdp", "private")
    event = dp.PoissonSampledDpEvent(mechanism.probability, dp.GaussianDpEvent(mechanism.noise_multiplier))
    return float(renyi.RdpAccountant(ORDERS).compose(event, steps).get_epsilon(delta))


def _by_renyi(epsilon: float, delta: float, mechanism: Mechanism, steps: int) -> float:
    """Return a noise multiplier that is enough by the account of Renyi divergences: a quick start, and too much."""
    from scipy.optimize import brentq

    def excess(logarithm: float) -> float:
        return renyi_epsilon(replace(mechanism, noise_multiplier=math.exp(logarithm)), steps, delta) - epsilon

    low, high = math.log(_LEAST_NOISE), math.log(_MOST_NOISE)
    if excess(high) > 0:
        return _MOST_NOISE
    return math.exp(low if excess(low) <= 0 else brentq(excess, low, high, xtol=_TOLERANCE) + _TOLERANCE)


def _interval(steps: int) -> float:
    """Return the interval of privacy losses; a wider one is quicker, and only makes epsilon larger, by 0.02 % here."""
    return 1e-3 / math.sqrt(max(steps / 500, 1))


def version() -> str:
    """Return the version of `dp-accounting`."""
    from importlib.metadata import version

    return version("dp-accounting")


def _of_dp_accounting() -> tuple[Any, Any]:
    distributions = optional("dp_accounting.pld.privacy_loss_distribution", "private")
    return distributions, optional("dp_accounting", "private").NeighboringRelation.REPLACE_SPECIAL
