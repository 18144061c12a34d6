"""The best of a random number of private trials, with an account of the choice (Papernot & Steinke 2022).

To publish the best of k trials costs more than one of them (Liu & Talwar 2019, arXiv 1811.07971), but far less than all
of them, if k itself is drawn at random, the trials are too, and nothing of the others is seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from jaxmlp.data import Prepared
from jaxmlp.network import MLP, Network
from jaxmlp.private.accounting import version
from jaxmlp.private.guarantee import Guarantee
from jaxmlp.private.mechanism import Privacy
from jaxmlp.private.planned import planned
from jaxmlp.private.renyi import Steps, epsilon_of_best
from jaxmlp.private.trials import best_of, run_planned
from jaxmlp.sweep.job import Data, Parts, parts_of
from jaxmlp.sweep.space import Axes, Space
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import Evaluation

__all__ = ["RandomNumber", "Selected", "select"]

_ACCOUNTANT = "dp-accounting {version}, Renyi divergences"
_CHOICE = (
    "the best, by its score on validation examples, of a random number of trials (negative binomial without 0, shape "
    "{shape:g}, mean {mean:g}), each drawn at random; one trial alone spends epsilon {alone:.3g} or less"
)


@dataclass(frozen=True)
class RandomNumber:
    """A negative binomial distribution without 0: how many trials there are. It is drawn from, and accounted.

    A Poisson number is not offered, because it may be 0, and to draw again is not what its account covers.

    Parameters
    ----------
    mean
        The mean, above 1.
    shape
        1 is the geometric distribution; 0 the logarithmic one, which costs less epsilon and is a small number more
        often; a larger shape costs more and is closer to the mean.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> number = RandomNumber(mean=4.0)
    >>> sum(number.draw(Random(seed)) for seed in range(1000)) / 1000
    3.928
    """

    mean: float = 10.0
    shape: float = 1.0

    def __post_init__(self) -> None:
        """Check both numbers."""
        for name, low, high in (("mean", 1.001, 10_000), ("shape", 0, 10)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} must be at least {low} and at most {high:,}, got {value!r}")

    @property
    def gamma(self) -> float:
        """The distribution's parameter in (0, 1): the probability to stop, if it is geometric."""
        from scipy.optimize import brentq

        # The mean is P(1) / gamma^(shape + 1).
        def excess(logarithm: float) -> float:
            gamma = math.exp(logarithm)
            return self._probability_of_1(gamma) / gamma ** (self.shape + 1) - self.mean

        return math.exp(brentq(excess, -30, -1e-9, xtol=1e-13))

    def _probability_of_1(self, gamma: float) -> float:
        if self.shape == 0:
            return (1 - gamma) / -math.log(gamma)
        return self.shape * (1 - gamma) * gamma**self.shape / -math.expm1(self.shape * math.log(gamma))

    def draw(self, generator: Random | None = None) -> int:
        """Return a number from 1 on; None draws it by the operating system's generator."""
        gamma, k = self.gamma, 1
        left, probability = (generator or SystemRandom()).random(), self._probability_of_1(gamma)
        while left >= probability > 0:  # 0 by rounding, once in 10^16 draws
            left -= probability
            probability *= (1 - gamma) * (k + self.shape) / (k + 1)
            k += 1
        return k


class Selected(NamedTuple):
    """The best of a random number of private trials.

    How many there were must stay unknown, so do not publish how long the call took.

    Attributes
    ----------
    network, values
        The trained network, and the hyperparameters of its trial.
    guarantee
        What the choice promises; it covers the network, its hyperparameters and its validation.
    epsilon_of_one
        What a single trial of the space spends at most, in which nothing is chosen.
    validation, test
        Evaluations of the network. No guarantee covers these examples themselves.
    """

    network: Network
    values: dict[str, Any]
    guarantee: Guarantee
    epsilon_of_one: float
    validation: Evaluation
    test: Evaluation | None


def select(
    space: Space | Axes | Sequence[Axes],
    data: Data | Prepared,
    privacy: Privacy,
    config: TrainConfig | None = None,
    *,
    validation: Data | None = None,
    number: RandomNumber | None = None,
    mlp: MLP | None = None,
    test: Data | None = None,
    lanes: int | None = None,
    memory: int | None = None,
    secret: Array | None = None,
    generator: Random | None = None,
) -> Selected:
    """Train a random number of random trials of a space privately, and return the best with an account of the choice.

    The account (theorem 2 of Papernot & Steinke 2022, arXiv 2110.03620, by `RepeatAndSelectDpEvent` of dp-accounting)
    is that of the worst trial of the space, so a space of one noise level is best. `privacy.epsilon` is that of one
    trial: the winner's, in its guarantee, is about twice as large. Each call is a new choice, which spends anew: do not
    repeat it until a result pleases.

    The trials are scored by their accuracy or R2 on `validation`. The guarantee covers the training examples, also
    against who sees the winner's score; it does not cover the validation examples. So choose by examples that are not
    private, and never by training examples, whose score no noise hides. What comes before the call (a narrow space that
    an earlier search found, a scaling that was learned) is outside as well.

    Parameters
    ----------
    space, data, privacy, config, mlp, test, lanes, memory, secret
        As for `jaxmlp.private.sweep`. Every trial is drawn from the rows of the space, all equally probable.
    validation
        The examples to choose by.
    number
        How many trials there are; `RandomNumber()` if None.
    generator
        Draws the number and the trials. None is the operating system's. Give one in tests only.

    Raises
    ------
    TypeError, ValueError
        As `jaxmlp.private.sweep` does; if there are no validation examples, or some of them are training examples; if
        the weights of all trials become infinite.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    >>> t = (x[:, 0] > x[:, 1]).astype(int)
    >>> config = TrainConfig(epochs=5, batch_size=100, weight_decay=0.0)
    >>> space, privacy = {"learning_rate": [0.1, 0.5, 2.0]}, Privacy(epsilon=1.0)
    >>> best = select(space, (x[:500], t[:500]), privacy, config, validation=(x[500:], t[500:]))
    >>> best.epsilon_of_one <= 1.0 < best.guarantee.epsilon < 3.5
    True
    """
    parts, _ = parts_of(data, validation, test)
    number = number or RandomNumber()
    _check(parts, number)
    listed = planned(space, parts, privacy, config, mlp)
    steps, delta = [Steps(each.mechanism, each.guarantee.steps) for each in listed], listed[0].guarantee.delta
    epsilon = epsilon_of_best(steps, delta, mean=number.mean, shape=number.shape)
    generator = generator or SystemRandom()
    drawn = [generator.choice(listed) for _ in range(number.draw(generator))]
    drawn = [each._replace(trial=each.trial._replace(number=n)) for n, each in enumerate(drawn)]
    best = best_of(run_planned(drawn, parts, secret, None, lanes=lanes, memory=memory))
    alone = max(each.guarantee.epsilon for each in listed)
    choice = _CHOICE.format(**vars(number), alone=alone)
    accountant = _ACCOUNTANT.format(version=version())
    guarantee = best.guarantee._replace(epsilon=epsilon, choice=choice, accountant=accountant)
    assert best.network is not None
    assert best.validation is not None
    return Selected(best.network, best.values, guarantee, alone, best.validation, best.test)


def _check(parts: Parts, number: RandomNumber) -> None:
    if not isinstance(number, RandomNumber):
        raise TypeError(f"number must be a RandomNumber, as RandomNumber(mean=10.0), got {type(number).__name__}")
    if parts.validation is None:
        raise ValueError("validation is missing: give examples to choose by, that are not private")
    x, of_validation = np.asarray(parts.data.x), np.asarray(parts.validation.x)
    if np.shares_memory(x, of_validation) or np.array_equal(x, of_validation):
        raise ValueError(
            "validation has training examples, whose score no noise hides: give examples that are not private"
        )
