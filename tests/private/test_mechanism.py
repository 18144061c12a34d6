"""Batches are drawn as they are accounted: every example independently, with one probability, up to a largest batch."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmlp.private import Mechanism, Privacy

MECHANISM = Mechanism(500, 40, noise_multiplier=1.0, clip=1.0)


def test_batches_are_poisson_samples():
    rows, is_drawn = MECHANISM.draw(jax.random.key(0), range(4000))
    sizes = is_drawn.sum(1)
    # The number of draws is binomial; cells of few expected batches are joined.
    edges = np.concatenate([[-1], np.arange(25, 57, 2), [500]])
    observed = np.histogram(sizes, edges + 0.5)[0]
    expected = len(sizes) * np.diff(stats.binom(500, 40 / 500).cdf(edges))
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    # Each example is in as many batches as any other.
    times = np.bincount(rows[is_drawn], minlength=500)
    n, q = len(sizes), 40 / 500
    assert stats.chi2(500).sf(np.sum((times - n * q) ** 2) / (n * q * (1 - q))) > 1e-3
    assert all(len(set(row[drawn])) == drawn.sum() for row, drawn in zip(rows, is_drawn, strict=True))


def test_two_examples_are_drawn_independently():
    rows, is_drawn = MECHANISM.draw(jax.random.key(1), range(4000))
    has_one, has_two = (((rows == example) & is_drawn).any(1) for example in (3, 4))
    table = [
        [np.sum(has_one == a) - np.sum((has_one == a) & has_two), np.sum((has_one == a) & has_two)] for a in (0, 1)
    ]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_draws_depend_on_key_and_step_alone():
    rows, is_drawn = MECHANISM.draw(jax.random.key(0), range(8))
    later, later_drawn = MECHANISM.draw(jax.random.key(0), range(5, 8))
    np.testing.assert_array_equal(rows[5:], later)
    np.testing.assert_array_equal(is_drawn[5:], later_drawn)
    assert not np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows, MECHANISM.draw(jax.random.key(1), range(8))[0])


def test_full_batches_hold_every_example():
    rows, is_drawn = Mechanism(7, 7, 1.0, 1.0).draw(jax.random.key(0), range(3))
    assert is_drawn.all()
    assert np.array_equal(np.sort(rows), np.tile(np.arange(7), (3, 1)))


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**6])
def test_the_default_delta_is_below_one_over_n(n):
    assert 0 < Privacy(epsilon=1.0).delta_for(n) < 1 / n


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give one of epsilon and noise_multiplier, got neither"),
        ({"epsilon": 1.0, "noise_multiplier": 1.0}, "give one of epsilon and noise_multiplier, got both"),
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"epsilon": float("nan")}, "epsilon must be positive and finite, got nan"),
        ({"epsilon": "3"}, "epsilon must be positive and finite, got '3'"),
        ({"noise_multiplier": float("inf")}, "noise_multiplier must be positive and finite, got inf"),
        (
            {"noise_multiplier": 0.01},
            "noise_multiplier must be 0.1 or larger, got 0.01: with less, a single step may spend",
        ),
        ({"epsilon": 1.0, "delta": 1.0}, "delta must be above 0 and below 1, got 1.0"),
        ({"epsilon": 1.0, "delta": 0}, "delta must be positive and finite, got 0"),
        ({"epsilon": 1.0, "clip": -1}, "clip must be positive and finite, got -1"),
    ],
)
def test_bad_privacy_is_one_line(arguments, words):
    with pytest.raises(ValueError, match=words):
        Privacy(**arguments)


def test_a_delta_of_one_example_in_n_is_refused():
    with pytest.raises(ValueError, match=r"delta must be below 1 / N = 0\.01 for N = 100 examples, got 0\.01"):
        Privacy(epsilon=1.0, delta=0.01).delta_for(100)


def test_batches_must_not_be_larger_than_the_data():
    with pytest.raises(ValueError, match="batch_size"):
        Mechanism(10, 11, 1.0, 1.0)
