"""The audit finds what breaks privacy outright, and lets the right step stand."""

import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog

from jaxmlp import MLP
from jaxmlp.private import audit, gradient, noise_multiplier_for
from jaxmlp.private.auditing import _lower_bound, _probability

MLP_ = MLP((200, 30, 10), "tanh")
SIGMA = noise_multiplier_for(1.5, 1e-5, n_examples=1000, batch_size=1000, steps=1)


def changed(**factors):
    def faulty(mlp, params, drawn, is_drawn, numbers, key):
        values = {name: getattr(numbers, name) * factor for name, factor in factors.items()}
        return gradient(mlp, params, drawn, is_drawn, numbers._replace(**values), key)

    return faulty


def without_noise_on_biases(mlp, params, drawn, is_drawn, numbers, key):
    noised, exact = (
        gradient(mlp, params, drawn, is_drawn, each, key) for each in (numbers, numbers._replace(noise_multiplier=0.0))
    )
    return tuple(a._replace(b=b.b) for a, b in zip(noised, exact, strict=True))


FAULTS = {
    "no noise": changed(noise_multiplier=0.0),
    "a quarter of the noise": changed(noise_multiplier=0.25),
    "noise divided by B twice": changed(noise_multiplier=1e-3),
    "clipped to 8 C": changed(clip=8.0, noise_multiplier=1 / 8),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name):
    found = audit(MLP_, SIGMA, key=jax.random.key(0), gradient=FAULTS[name])
    assert found.lower > found.claimed
    assert "is broken" in str(found)


def test_the_right_step_stands():
    found = [audit(MLP_, SIGMA, key=jax.random.key(seed)) for seed in range(8)]
    assert all(each.lower <= each.claimed for each in found)
    assert max(each.lower for each in found) > 0  # canaries are seen, though not enough of them
    assert "stands" in str(found[0])


def test_the_bound_of_pure_epsilon_is_that_of_a_binomial_test():
    # Without delta, guesses are right as independent coins with e^eps / (1 + e^eps) are, at the most.
    for right in (60, 75, 95):
        bound = _lower_bound(1000, 100, right, 0.0, 0.05)
        interval = stats.binomtest(right, 100, alternative="greater").proportion_ci(0.95, method="exact")
        exact = np.log(interval.low / (1 - interval.low))
        assert bound == pytest.approx(max(exact, 0.0), abs=1e-5)


@pytest.mark.parametrize(
    ("m", "guesses", "right", "epsilon", "delta"),
    [(1000, 100, 80, 0.5, 1e-5), (1000, 100, 80, 0.5, 1e-3), (500, 20, 20, 1.0, 1e-4), (200, 200, 130, 0.3, 1e-3)],
)
def test_the_probability_is_the_worst_that_epsilon_and_delta_allow(m, guesses, right, epsilon, delta):
    # Theorem 3.1 of Steinke et al. 2023: so many guesses are right with the probability of W + F >= right at the most,
    # W binomial, F from 0 to m, of mean 2 m delta or less. The worst F is the solution of a linear program.
    p = Fraction(1 / (1 + np.exp(-epsilon)))
    of_w = [math.comb(guesses, k) * p**k * (1 - p) ** (guesses - k) for k in range(guesses + 1)]
    reached = [float(sum(of_w[max(right - more, 0) :])) for more in range(right + 1)]
    more = np.arange(right + 1)
    worst = linprog(
        -np.array(reached),
        A_ub=more[None],
        b_ub=[2 * m * delta],
        A_eq=np.ones((1, right + 1)),
        b_eq=[1],
        method="highs",
    )
    found = _probability(m, guesses, right, epsilon, delta)
    assert found == pytest.approx(-worst.fun, rel=1e-6)
    assert found > reached[0]


def test_a_larger_delta_explains_more():
    of_deltas = [_probability(1000, 100, 80, 0.5, delta) for delta in (0.0, 1e-5, 1e-3)]
    assert of_deltas[0] < of_deltas[1] < of_deltas[2]


@pytest.mark.parametrize(("name", "value"), [("delta", 0.0), ("confidence", 1.0), ("n_canaries", 10)])
def test_a_number_out_of_range_is_one_line(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value}$"):
        audit(MLP_, SIGMA, key=jax.random.key(0), **{name: value})
