"""In miniature: the variance of a batch's gradient, and what batch sizes cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.claims import batch_size as experiment
from experiments.claims._experiment import Options
from jaxmlp import init, loss_and_gradient
from jaxmlp.training.examples import Examples


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


def test_variance_is_the_trace_over_b_and_less_where_nothing_is_drawn_twice(outcome):
    sizes = np.array(outcome.numbers["batch sizes"])
    n = sizes[-1]
    twice, once = (outcome.numbers["variance"][how] * sizes for how in ("drawn twice", "drawn once"))
    # 2,000 draws of a sum of squares in which a few directions count: some 2 %
    np.testing.assert_allclose(twice, np.ones_like(twice), atol=0.06)
    np.testing.assert_allclose(once, np.broadcast_to((n - sizes) / (n - 1), once.shape), atol=0.06)
    np.testing.assert_allclose(once[:, -1], 0, atol=1e-4)


def test_variance_by_inner_products_is_that_of_gradients():
    x, t = jax.random.normal(jax.random.key(1), (6, 64)), jnp.arange(6)
    params = init(experiment.NETWORK, jax.random.key(0))
    gradient = jax.jit(lambda x, t: loss_and_gradient(experiment.NETWORK, params, x, t)[1])
    one_by_one = [gradient(x[i : i + 1], t[i : i + 1]) for i in range(6)]
    rows = np.stack([np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(each)]) for each in one_by_one])
    pairs = np.stack([(rows[i] + rows[j]) / 2 for i in range(6) for j in range(i)]) - rows.mean(0)
    exact = (pairs**2).sum(1).mean() / ((rows - rows.mean(0)) ** 2).sum(1).mean()
    _, once = experiment.variance(params, jax.random.key(2), Examples(x, t, None), sizes=(2,))
    np.testing.assert_allclose(exact, (6 - 2) / (6 - 1) / 2, rtol=1e-4)
    np.testing.assert_allclose(once[0], exact, rtol=0.05)


def test_more_examples_a_step_take_fewer_steps_and_more_examples(outcome):
    steps = outcome.numbers["steps"].mean(0)
    assert (np.diff(steps) < 0).all()
    assert (np.diff(steps * outcome.numbers["batch sizes"]) > 0).all()


def test_arrival_is_interpolated_between_looks_and_infinite_where_there_is_none():
    loss = experiment.LOSS
    np.testing.assert_allclose(experiment.arrival(loss * np.array([[4, 2, 0.5, 3], [4, 3, 2, 2]])), [2.5, np.inf])


def test_hyperbola_finds_what_made_it():
    sizes = 2.0 ** np.arange(8)
    np.testing.assert_allclose(experiment.hyperbola(sizes, 40 * (1 + 20 / sizes)), [40, 20], rtol=1e-4)


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 7
    assert [claim.verdict for claim in outcome.claims[:1]] == ["held"]
