"""The planted faults of the audits are what their names say, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.private_audit import OF_RUNS, STEPS_OF, FullBatches, examples
from jaxmlp import init
from jaxmlp.data import read
from jaxmlp.private import Numbers, gradient
from jaxmlp.training.examples import arrays, batch

EXPECTED = {
    "no noise": Numbers(0.1, 0.0, 100),
    "a quarter of the noise": Numbers(0.1, 0.5, 100),
    "noise divided by B twice": Numbers(0.1, 0.02, 100),
    "clipped at 8 C": Numbers(0.8, 0.25, 100),
}


@pytest.fixture(scope="module")
def arguments():
    drawn = batch(arrays(OF_RUNS, examples()), np.arange(8))
    return OF_RUNS, init(OF_RUNS, jax.random.key(0)), drawn, jnp.ones(8, bool)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_in_numbers_is_the_right_step_with_those_numbers(arguments, name):
    faulty = STEPS_OF[name](*arguments, Numbers(0.1, 2.0, 100), jax.random.key(1))
    right = gradient(*arguments, EXPECTED[name], jax.random.key(1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), faulty, right)


def test_faults_in_the_noise_itself(arguments):
    numbers = Numbers(0.1, 2.0, 100)
    faulty = {name: STEPS_OF[name](*arguments, numbers, jax.random.key(1)) for name in list(STEPS_OF)[-2:]}
    exact = gradient(*arguments, numbers._replace(noise_multiplier=0.0), jax.random.key(1))
    right = gradient(*arguments, numbers, jax.random.key(1))
    other = STEPS_OF["the same noise in every run"](*arguments, numbers, jax.random.key(2))
    for layer in range(2):
        np.testing.assert_array_equal(faulty["biases without noise"][layer].b, exact[layer].b)
        np.testing.assert_array_equal(faulty["biases without noise"][layer].w, right[layer].w)
        np.testing.assert_array_equal(faulty["the same noise in every run"][layer].w, other[layer].w)


def test_full_batches_have_every_example_in_every_step():
    rows, is_drawn = FullBatches(100, 10, 1.0, 0.1).draw(jax.random.key(0), range(3))
    assert is_drawn.all()
    assert [sorted(row) for row in rows.tolist()] == [list(range(100))] * 3


def test_only_the_first_image_has_a_wrong_class():
    np.testing.assert_array_equal(np.flatnonzero(examples().t != read("digits").t[:100]), [0])
