"""What several private trainings cost together, and the choice of the best of them, by Renyi divergences.

A choice is accounted as Papernot & Steinke 2022 (arXiv 2110.03620) prove it: `RepeatAndSelectDpEvent` of Google's
`dp-accounting`, whose accountant of Renyi divergences takes no batches with a largest size. So the divergence of one
step is put together here, from two that it does take.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlp._extras import optional
from jaxmlp.private.accounting import ORDERS
from jaxmlp.private.mechanism import Mechanism

__all__ = ["Steps", "divergences", "epsilon_of_all", "epsilon_of_best"]


class Steps(NamedTuple):
    """A private training, as far as its account goes: so many steps of a mechanism."""

    mechanism: Mechanism
    n: int


def divergences(mechanism: Mechanism) -> np.ndarray:
    """Return an upper bound of one step's Renyi divergence between neighbours, for each of `ORDERS`.

    Neighbours differ in the gradient of one example, which is 0 in one of them, and draw the same rows. Let K be how
    many others are drawn, before some are left out. If K is below the largest batch, the step is a Gaussian mechanism
    with Poisson sampling. Else the example is in the batch with a probability of at most q, and apart from it, both
    neighbours add the same gradients: a Gaussian mechanism with probability q. K does not depend on the example, and
    exp((alpha - 1) D_alpha) is jointly convex (van Erven & Harremoes 2014, arXiv 1206.2459), so its mean over K is a
    bound.

    >>> mechanism = Mechanism(1_000, 100, noise_multiplier=4.0, clip=1.0)
    >>> bool((np.diff(divergences(mechanism)) > 0).all())
    True
    """
    from scipy.stats import binom

    dp, renyi = optional("dp_accounting", "private"), optional("dp_accounting.rdp", "private")
    gaussian, q = dp.GaussianDpEvent(mechanism.noise_multiplier), mechanism.probability

    def exponents(event: Any) -> np.ndarray:
        accountant = renyi.RdpAccountant(ORDERS, dp.NeighboringRelation.REPLACE_SPECIAL)
        return (orders - 1) * accountant.compose(event).rdp

    orders = np.array(ORDERS)
    others = binom(mechanism.n_examples - 1, q)
    is_full = np.logaddexp(np.log1p(-q) if q < 1 else -np.inf, np.log(q) + exponents(gaussian))
    is_not = exponents(dp.PoissonSampledDpEvent(q, gaussian))
    n = mechanism.largest_batch - 1
    return np.logaddexp(others.logcdf(n) + is_not, others.logsf(n) + is_full) / (orders - 1)


def epsilon_of_all(trainings: Sequence[Steps], delta: float) -> float:
    """Return the epsilon of several trainings on the same examples, if the results of all are seen.

    >>> one = Steps(Mechanism(1_000, 100, noise_multiplier=4.0, clip=1.0), 100)
    >>> round(epsilon_of_all([one], 1e-5), 2), round(epsilon_of_all([one] * 10, 1e-5), 2)
    (1.08, 3.74)
    """
    each = [count * steps.n * divergences(steps.mechanism) for steps, count in Counter(trainings).items()]
    given, accountant = _of_dp_accounting()
    return float(accountant.compose(given(np.sum(each, axis=0))).get_epsilon(delta))


def epsilon_of_best(trainings: Sequence[Steps], delta: float, *, mean: float, shape: float) -> float:
    """Return the epsilon of the best of a random number of trainings, if the results of the others are not seen.

    Each is drawn at random from `trainings`, and their number from a negative binomial distribution without 0, see
    `jaxmlp.private.RandomNumber`. The divergences of one are at most those of the worst.

    >>> one = Steps(Mechanism(1_000, 100, noise_multiplier=4.0, clip=1.0), 100)
    >>> round(epsilon_of_best([one], 1e-5, mean=10.0, shape=1.0), 2)
    2.27
    """
    worst = np.max([each.n * divergences(each.mechanism) for each in set(trainings)], axis=0)
    given, accountant = _of_dp_accounting()
    event = optional("dp_accounting.dp_event", "private").RepeatAndSelectDpEvent(given(worst), mean, shape)
    return float(accountant.compose(event).get_epsilon(delta))


def _of_dp_accounting() -> tuple[Callable[[np.ndarray], Any], Any]:
    """Return an event that has these divergences, and an accountant that takes it."""
    dp, renyi = optional("dp_accounting", "private"), optional("dp_accounting.rdp", "private")

    class Given(dp.DpEvent):  # type: ignore[name-defined,misc]
        def __init__(self, divergences: np.ndarray) -> None:
            object.__setattr__(self, "divergences", divergences)  # an event is frozen

    class Accountant(renyi.RdpAccountant):  # type: ignore[name-defined,misc]
        def _maybe_compose(self, event: Any, count: int, do_compose: bool) -> Any:
            if not isinstance(event, Given):
                return super()._maybe_compose(event, count, do_compose)
            if do_compose:
                self._rdp: np.ndarray = self._rdp + count * event.divergences
            return None

    return Given, Accountant(ORDERS, dp.NeighboringRelation.REPLACE_SPECIAL)
