"""An audit of one noised step: a lower bound of the epsilon that it has, beside the upper bound that is claimed."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp._validation import whole_number
from jaxmlp.backpropagation import backprop
from jaxmlp.network import MLP, Params, init
from jaxmlp.per_example import dots
from jaxmlp.private.accounting import epsilons
from jaxmlp.private.mechanism import Mechanism
from jaxmlp.private.step import Numbers, gradient
from jaxmlp.training.examples import Examples

__all__ = ["Audit", "audit", "check_fractions"]

_GUESSES = (0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the canaries; the best one is paid for, see `audit`
_LARGEST = 20.0  # no epsilon is proved beyond this


class Audit(NamedTuple):
    """The result of an audit.

    Attributes
    ----------
    lower
        Epsilon is at least this, with the confidence; 0 if nothing was found.
    claimed
        What the account says, at most.
    guesses, right
        For how many canaries, or runs, this bound guesses whether they were in, and how many of the guesses are right.
    confidence
        With this probability `lower` is below the true epsilon.
    """

    lower: float
    claimed: float
    guesses: int
    right: int
    confidence: float

    def __str__(self) -> str:
        """Say what was found."""
        found = "is broken" if self.lower > self.claimed else "stands"
        return (
            f"the claim of epsilon {self.claimed:.2f} {found}: it is at least {self.lower:.2f}, with confidence "
            f"{self.confidence:.0%} ({self.right} of {self.guesses} guesses are right)"
        )


def audit(
    mlp: MLP,
    noise_multiplier: float,
    *,
    key: Array,
    delta: float = 1e-5,
    n_canaries: int = 1000,
    confidence: float = 0.95,
    clip: float = 0.1,
    gradient: Callable[[MLP, Params, Examples, Array, Numbers, Array], Params] = gradient,
) -> Audit:
    """Audit one step in one run (Steinke, Nasr & Jagielski 2023, arXiv 2305.08846).

    Canaries, examples with random inputs and targets, are each in the batch with probability 1/2. Who sees the noised
    gradient scores each by its own clipped gradient's dot product with it, and guesses that the highest are in and the
    lowest out. More right guesses than (epsilon, delta) allows prove that epsilon is larger. Several numbers of guesses
    are tried, and the confidence is shared out among them.

    With 1,000 canaries no bound exceeds about 5, so audit a claim of 2 or less. A high bound proves a fault; a low one
    proves nothing.

    Parameters
    ----------
    noise_multiplier, delta, clip
        Of the step, whose batch is all examples. They make the claim.
    gradient
        The step: this library's, or another with the same arguments.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> result = audit(MLP((50, 20, 10)), 2.5, key=jax.random.key(0))
    >>> result.lower <= result.claimed
    True
    """
    n = whole_number("n_canaries", n_canaries, 100, 10**6)
    check_fractions(delta=delta, confidence=confidence)
    keys = jax.random.split(key, 5)
    params = init(mlp, keys[0])
    canaries = _canaries(mlp, n, keys[1])
    is_in = np.asarray(jax.random.bernoulli(keys[2], shape=(n,)))
    mechanism = Mechanism(n, n, noise_multiplier, clip)
    noised = gradient(mlp, params, canaries, jnp.asarray(is_in), Numbers.of(mechanism), keys[3])
    _, _, factors = jax.vmap(partial(backprop, mlp, params))(canaries.x, canaries.t)
    order = np.argsort(np.asarray(dots(factors, noised)))
    found = []
    for share in _GUESSES:
        k = int(share * n)
        right = int(is_in[order[n - k :]].sum() + (~is_in[order[:k]]).sum())
        lower = _lower_bound(n, 2 * k, right, delta, (1 - confidence) / len(_GUESSES))
        found.append(Audit(lower, epsilons(mechanism, [1], delta)[0], 2 * k, right, confidence))
    return max(found, key=lambda one: one.lower)


def check_fractions(**values: float) -> None:
    """Raise a `ValueError` that names a number that is not between 0 and 1."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be above 0 and below 1, got {value!r}")


def _canaries(mlp: MLP, n: int, key: Array) -> Examples:
    of_x, of_t = jax.random.split(key)
    n_in, n_out = mlp.sizes[0], mlp.sizes[-1]
    x = jax.random.normal(of_x, (n, n_in))
    if mlp.output == "softmax":
        return Examples(x, jax.random.randint(of_t, (n,), 0, n_out), None)
    return Examples(x, jax.random.bernoulli(of_t, shape=(n, n_out)).astype(x.dtype), None)


def _lower_bound(n_canaries: int, guesses: int, right: int, delta: float, p_value: float) -> float:
    """Return the largest epsilon under which so many right guesses have a probability below `p_value`."""
    from scipy.optimize import brentq

    def excess(epsilon: float) -> float:
        return _probability(n_canaries, guesses, right, epsilon, delta) - p_value

    if excess(0.0) >= 0:
        return 0.0
    return _LARGEST if excess(_LARGEST) < 0 else float(brentq(excess, 0.0, _LARGEST, xtol=1e-6))


def _probability(n_canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the most probability of `right` or more right guesses under (epsilon, delta): theorem 3.1 there."""
    from scipy.stats import binom

    of_one = binom(guesses, 1 / (1 + np.exp(-epsilon)))
    below = np.cumsum(of_one.pmf(np.arange(right - 1, -1, -1))) / np.arange(1, right + 1)
    return float(of_one.sf(right - 1) + 2 * n_canaries * delta * below.max(initial=0.0))
