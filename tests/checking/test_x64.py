"""Functions that close over NumPy arrays of 64 bits are checked as all others are, and run afterwards as before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import (
    check_batched,
    check_gradient,
    check_hessian_vector_product,
    check_vjp,
    gradient_checker,
    taylor_test,
)
from jaxmlp.checking._functions import x64_scope

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

W = jnp.array([0.5, -1.0, 2.0])


def _floats():
    x = np.arange(12.0).reshape(4, 3)
    return lambda w: jnp.sin(x @ w).sum()


def _labels():
    t = np.array([1, 2, 0, 1])
    return lambda w: jax.vmap(lambda k: jax.nn.one_hot(k, 3) @ jnp.sin(w))(t).sum()


@pytest.fixture
def f():
    """A function that closes over floats and labels of 64 bits."""
    parts = _floats(), _labels()
    return lambda w: sum(part(w) for part in parts)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_a_checker_is_right_twice_and_leaves_the_function_as_it_was(f, wrap):
    f = wrap(f)
    gradient = wrap(jax.grad(f))
    before = f(W), gradient(W)
    check = gradient_checker(f, gradient, W)
    assert check(W)
    assert check(W + 1, seed=1)
    assert not check_gradient(f, lambda w: 1.01 * gradient(w), W, explain=False)
    np.testing.assert_array_equal(f(W), before[0])
    np.testing.assert_array_equal(gradient(W), before[1])
    assert jax.jit(f)(W).dtype == jnp.float32


def test_the_other_checks_are_right_and_leave_the_function_as_it_was(f):
    before = f(W)
    assert check_hessian_vector_product(f, lambda w, v: jax.jvp(jax.grad(f), (w,), (v,))[1], W)
    assert check_vjp(f, lambda w: jax.vjp(f, w), W)
    assert round(taylor_test(f, jax.grad(f), W).slope) == 2
    assert check_batched(f, lambda rows: jnp.stack([f(row) for row in rows]), jnp.stack([W, 2 * W]))
    np.testing.assert_array_equal(f(W), before)


def test_caches_are_cleared_for_functions_that_close_over_64_bits_and_no_others():
    x = np.ones((4, 3), np.float32)
    for function in (lambda w: (x @ w).sum(), lambda w: (jnp.asarray(x) @ w).sum(), lambda w: float(w.sum())):
        assert x64_scope((function, W)) is jax.enable_x64
    for function in (_floats(), _labels()):
        assert x64_scope((function, W)) is not jax.enable_x64
