"""The noised gradient: exact without noise, bounded by every example, and noised as the account has it."""

from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from jaxmlp import MLP, init
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.losses import LOSSES
from jaxmlp.network import forward
from jaxmlp.private import Numbers, gradient
from jaxmlp.training.examples import Examples

MLP_ = MLP((5, 4, 3), "tanh")
B = 6


def batch_of(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return Examples(jnp.asarray(rng.normal(size=(B, 5)), dtype), jnp.asarray(rng.integers(0, 3, B)), None)


def loss(params, x, t):
    z, _ = forward(MLP_, params, x)
    return LOSSES["cross_entropy"].value(ACTIVATIONS["softmax"], z[-1], jax.nn.one_hot(t, 3))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def naive(params, drawn, is_drawn, clip):
    """Return the sum of clipped gradients, one `jax.grad` after another."""
    total = 0.0
    for x, t, is_in in zip(drawn.x, drawn.t, is_drawn, strict=True):
        of_one = flat(jax.grad(loss)(params, x, t))
        total = total + is_in * of_one * min(1.0, clip / np.linalg.norm(of_one))
    return total


def test_is_the_sum_of_clipped_gradients_over_the_expected_batch():
    with jax.enable_x64(True):
        params = init(MLP_, jax.random.key(0))
        drawn, is_drawn = batch_of(0), jnp.arange(B) < 4
        for clip in (1e-3, 0.3, 1e3):
            ours = flat(gradient(MLP_, params, drawn, is_drawn, Numbers(clip, 0.0, 10), jax.random.key(1)))
            # Clipped to a hair less than C, see _ROUNDING.
            np.testing.assert_allclose(
                ours, naive(params, drawn, is_drawn, clip * (1 - 1e-4)) / 10, rtol=1e-12, atol=1e-16
            )


def test_noise_has_the_deviation_of_the_account_everywhere():
    params, drawn = init(MLP_, jax.random.key(0)), batch_of(0, np.float32)
    clip, sigma, n_expected = 0.5, 3.0, 10
    noised = jax.jit(
        jax.vmap(partial(gradient, MLP_, params, drawn, jnp.zeros(B, bool), Numbers(clip, sigma, n_expected)))
    )
    noise = noised(jax.random.split(jax.random.key(0), 10_000))
    of_all = np.concatenate([np.reshape(leaf, (10_000, -1)) for leaf in jax.tree.leaves(noise)], axis=1)
    scaled = of_all.astype(np.float64) * n_expected / (sigma * clip)
    n = scaled.size
    low, high = stats.chi2(n).ppf([5e-5, 1 - 5e-5]) / n
    assert low < np.mean(scaled**2) < high
    # No weight or bias has less or more, none is shared, and none comes back in another step.
    of_each = np.sum(scaled**2, axis=0)
    assert stats.chi2(10_000).sf(of_each.max()) > 1e-6
    assert stats.chi2(10_000).cdf(of_each.min()) > 1e-6
    correlations = np.corrcoef(scaled.T) - np.eye(scaled.shape[1])
    assert np.abs(correlations).max() < 6 / np.sqrt(10_000)
    assert abs(np.corrcoef(scaled[1:].ravel(), scaled[:-1].ravel())[0, 1]) < 6 / np.sqrt(n)
    assert stats.kstest(scaled[:200].ravel(), "norm").pvalue > 1e-4


@given(
    scale=st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e6, 1e15, 1e19, 1e30, 3e38]),
    bad=st.sampled_from([None, np.nan, np.inf, -np.inf]),
    seed=st.integers(0, 2**16),
    clip=st.sampled_from([1e-4, 0.1, 1.0, 50.0]),
)
def test_no_example_moves_the_sum_by_more_than_the_clip(scale, bad, seed, clip):
    params, drawn = init(MLP_, jax.random.key(seed)), batch_of(seed, np.float32)
    x = drawn.x.at[2].multiply(scale)
    x = x if bad is None else x.at[2, 1].set(bad)
    sums = [
        flat(_sum(params, drawn._replace(x=x), jnp.ones(B, bool).at[2].set(is_in), clip)).astype(np.float64)
        for is_in in (True, False)
    ]
    assert np.isfinite(sums).all()
    rounding = B * clip * 2**-22  # of two sums in float32
    assert np.linalg.norm(sums[0] - sums[1]) <= clip + rounding - 5e-5 * clip


@jax.jit
def _sum(params, drawn, is_drawn, clip):
    return gradient(MLP_, params, drawn, is_drawn, Numbers(clip, 0.0, 1.0), jax.random.key(0))


def test_places_that_are_not_drawn_do_not_count():
    params, drawn = init(MLP_, jax.random.key(0)), batch_of(0, np.float32)
    is_drawn = jnp.arange(B) < 3
    others = drawn._replace(x=drawn.x.at[3:].set(jnp.nan), t=drawn.t.at[3:].set(0))
    np.testing.assert_array_equal(flat(_sum(params, drawn, is_drawn, 0.1)), flat(_sum(params, others, is_drawn, 0.1)))
    assert not flat(_sum(params, drawn, jnp.zeros(B, bool), 0.1)).any()


@pytest.mark.parametrize("clip", [0.05, 10.0])
def test_the_sum_is_divided_by_the_expected_batch_not_by_the_drawn(clip):
    params, drawn = init(MLP_, jax.random.key(0)), batch_of(0, np.float32)
    for n_drawn in (1, 5):
        is_drawn = jnp.arange(B) < n_drawn
        numbers = [Numbers(clip, 0.0, n_expected) for n_expected in (1.0, 7.0)]
        of_one, of_seven = (flat(gradient(MLP_, params, drawn, is_drawn, each, jax.random.key(0))) for each in numbers)
        np.testing.assert_allclose(7 * of_seven, of_one, rtol=1e-6)
