"""The audit by many runs finds what breaks privacy, lets the right mechanism stand, and its intervals hold."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmlp import MLP, Dataset
from jaxmlp.private import Mechanism, audit_runs, gradient, noise_multiplier_for
from jaxmlp.private.auditing_by_runs import _bounds, _lower_bound

from .test_auditing import changed, without_noise_on_biases

N, STEPS, MLP_ = 40, 5, MLP((8, 5, 3), "tanh")
RNG = np.random.default_rng(0)
DATA = Dataset(RNG.normal(size=(N, 8)) * np.where(np.arange(N) == 3, 10, 1)[:, None], RNG.integers(0, 3, N))
SIGMA = noise_multiplier_for(1.5, 1e-5, n_examples=N, batch_size=N, steps=STEPS)
OPTIONS = {"steps": STEPS, "learning_rate": 1.0, "canary": 3}


def audited(seed=0, mechanism=None, **options):
    mechanism = mechanism or Mechanism(N, N, SIGMA, 0.1)
    return audit_runs(MLP_, DATA, mechanism, key=jax.random.key(seed), **OPTIONS | options)


def test_the_right_mechanism_stands():
    found = [audited(seed) for seed in range(4)]
    assert all(each.lower <= each.claimed == pytest.approx(1.5, rel=1e-3) for each in found)
    assert max(each.lower for each in found) > 0.05  # the example is seen, though not enough
    assert "stands" in str(found[0])


@pytest.mark.parametrize(
    "fault",
    [
        changed(noise_multiplier=0.25),
        changed(clip=8.0, noise_multiplier=1 / 8),
        without_noise_on_biases,
    ],
    ids=["a quarter of the noise", "clipped to 8 C", "biases without noise"],
)
def test_a_fault_is_found(fault):
    found = audited(gradient=fault)
    assert found.lower > found.claimed
    assert "is broken" in str(found)


def test_batches_that_are_not_drawn_as_accounted_are_found():
    class Full(Mechanism):
        """Every batch has all examples, but the account is that of Poisson batches of a tenth."""

        @property
        def largest_batch(self):
            return self.n_examples

        def draw(self, key, steps):
            return Mechanism(self.n_examples, self.n_examples, 1.0, 1.0).draw(key, steps)

    found = audited(mechanism=Full(N, 4, 1.0, 0.1))
    assert found.lower > found.claimed


def test_the_loss_after_the_last_step_gives_it_away_too():
    found = audited(score="loss", gradient=changed(noise_multiplier=0.0))
    assert found.lower > found.claimed
    assert audited(score="loss").lower <= found.claimed


def test_noise_that_is_the_same_in_every_run_is_found():
    def predictable(mlp, params, drawn, is_drawn, numbers, key):
        return gradient(mlp, params, drawn, is_drawn, numbers, jax.random.key(0))

    found = audited(gradient=predictable)
    assert found.lower > found.claimed


def test_the_bound_is_that_of_two_exact_intervals():
    hits, misses, n, delta, p = np.array([0, 30, 50]), np.array([0, 3, 50]), 50, 1e-3, 0.05
    above, below = _bounds(hits, misses, n, delta, p)

    def exact(often, seldom):
        low = stats.binomtest(int(often), n, alternative="greater").proportion_ci(1 - p / 2, "exact").low
        high = stats.binomtest(int(seldom), n, alternative="less").proportion_ci(1 - p / 2, "exact").high
        return np.log((low - delta) / high) if low > delta else -np.inf

    for place in range(3):
        assert max(above[place], -100) == pytest.approx(max(exact(hits[place], misses[place]), -100))
        assert max(below[place], -100) == pytest.approx(max(exact(n - misses[place], n - hits[place]), -100))


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
def test_the_bound_is_above_epsilon_no_more_often_than_it_may(epsilon):
    # Randomized response is exactly epsilon-private. At a confidence of a half, a threshold that is judged by the runs
    # that chose it breaks its promise in three of four cases.
    rng, truth = np.random.default_rng(0), 1 / (1 + np.exp(-epsilon))
    above = 0
    for _ in range(300):
        present, absent = rng.random((2, 400)) < np.array([[truth], [1 - truth]])
        # Random digits say nothing more, but give many thresholds to choose from.
        scores = np.stack([present, absent]) + 0.9 * rng.random((2, 400))
        above += _lower_bound(*scores[..., None], 0.0, 0.5)[0] > epsilon
    assert stats.binom(300, 0.5).sf(above - 1) > 1e-3


def test_bounds_come_close_to_epsilon_with_many_runs():
    rng, epsilon = np.random.default_rng(0), 1.0
    truth = 1 / (1 + np.exp(-epsilon))
    present, absent = rng.random((2, 20_000)) < np.array([[truth], [1 - truth]])
    lower, right = _lower_bound(present[:, None].astype(float), absent[:, None].astype(float), 0.0, 0.05)
    assert 0.9 < lower < epsilon
    assert right / 20_000 == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": "los"}, "unknown score 'los', did you mean 'loss'"),
        ({"canary": N}, f"canary must be .*{N - 1}.*, got {N}"),
        ({"delta": 0.0}, "delta must be above 0 and below 1, got 0.0"),
        ({"n_runs": 3}, "n_runs must be .*, got 3"),
        ({"mechanism": Mechanism(7, 7, 1.0, 1.0)}, "mechanism must be of the 40 examples of data, got one of 7"),
    ],
)
def test_bad_input_is_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        audited(**options)
