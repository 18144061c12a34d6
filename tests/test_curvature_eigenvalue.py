"""The largest eigenvalue of the Hessian and its critical learning rate, against dense Hessians and real descents."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import ArpackNoConvergence

from jaxmlp import sgd
from jaxmlp.backpropagation import loss_and_gradient
from jaxmlp.curvature import NoEigenvalue, critical_learning_rate, largest_eigenvalue
from jaxmlp.network import MLP, Layer, Params, forward, init, loss

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def dense_hessian(mlp: MLP, params: Params, x, t) -> np.ndarray:
    """Return the Hessian of the mean loss, by autodiff."""
    flat, unravel = ravel_pytree(params)
    hessian = jax.hessian(lambda flat: jax.vmap(partial(loss, mlp, unravel(flat)))(x, t).mean())
    return np.asarray(jax.jit(hessian)(flat))


def batch(mlp: MLP, n: int) -> tuple[Params, jax.Array, jax.Array]:
    """Draw params, x and one-hot targets, in JAX's default float."""
    rng = np.random.default_rng(1)
    params = tuple(
        Layer(jnp.asarray(rng.normal(size=(o, i)) * (1.5 / np.sqrt(i))), jnp.asarray(0.3 * rng.normal(size=o)))
        for i, o in pairwise(mlp.sizes)
    )
    t = jnp.eye(mlp.sizes[-1])[rng.integers(0, mlp.sizes[-1], n)]
    return params, jnp.asarray(rng.normal(size=(n, mlp.sizes[0]))), t


def length(tree):
    return jnp.linalg.norm(ravel_pytree(tree)[0])


@pytest.fixture
def small() -> tuple:
    """A network of 26 parameters and a batch of 5, in JAX's default float."""
    mlp = MLP((3, 4, 2), "tanh")
    return mlp, *batch(mlp, 5)


def assert_is_the_largest(mlp: MLP, params: Params, x, t, *tolerances: float) -> np.ndarray:
    """Hold value and vector to the dense Hessian, and return its eigenvalues, least first."""
    dense = dense_hessian(mlp, params, x, t)
    eigenvalues = np.linalg.eigvalsh(dense)
    for tolerance in tolerances:
        value, vector = largest_eigenvalue(mlp, params, x, t, key=jax.random.key(0), tolerance=tolerance)
        # A residual r puts an eigenvalue within r of the value; twice the tolerance: Lanczos estimates its residual.
        allowed = 2 * tolerance * abs(eigenvalues[-1]) + 1e-13 * np.abs(eigenvalues).max()
        assert abs(value - eigenvalues[-1]) <= allowed
        flat = np.asarray(ravel_pytree(vector)[0])
        assert np.linalg.norm(flat) == pytest.approx(1, rel=1e-13)  # up to 43 squares
        assert np.linalg.norm(dense @ flat - value * flat) <= allowed
    return eigenvalues


@pytest.mark.usefixtures("x64")
def test_largest_eigenvalue_matches_the_dense_hessian():
    mlp = MLP((4, 5, 3), "tanh")  # 43 parameters: more than Lanczos keeps vectors of
    params, x, t = batch(mlp, 12)
    eigenvalues = assert_is_the_largest(mlp, params, x, t, 1e-3, 1e-8)
    assert eigenvalues[0] < 0 < eigenvalues[-1]


def bent_down(n_bent_up: int) -> tuple:
    """Return a sigmoid's network and batch where (phi')^2 + (phi - t) phi'' is negative but for some examples."""
    mlp = MLP((24, 1), output="sigmoid", loss="quadratic")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 24))
    params = (Layer(jnp.zeros((1, 24)), jnp.array([-3.0])),)  # y = 0.05, bent up where the target is 0
    return mlp, params, jnp.asarray(x), jnp.asarray(np.where(np.arange(60) < n_bent_up, 0.0, 1.0))[:, None]


@pytest.mark.usefixtures("x64")
def test_largest_eigenvalue_is_the_largest_by_sign_not_by_magnitude():
    eigenvalues = assert_is_the_largest(*bent_down(n_bent_up=20), 1e-6)
    assert 0 < 3 * eigenvalues[-1] < -eigenvalues[0]


@pytest.mark.usefixtures("x64")
def test_largest_eigenvalue_is_negative_where_all_are():
    eigenvalues = assert_is_the_largest(*bent_down(n_bent_up=0), 1e-6)
    assert eigenvalues[-1] < 0
    mlp, params, x, t = bent_down(n_bent_up=0)
    value = largest_eigenvalue(mlp, params, x, t, key=jax.random.key(0)).value
    assert critical_learning_rate(value) == np.inf


@pytest.mark.usefixtures("x64")
def test_largest_eigenvalue_of_the_smallest_network_matches_its_two_by_two_hessian():
    mlp = MLP((1, 1), output="identity", loss="quadratic")
    params, x, t = batch(mlp, 4)
    eigenvalues = assert_is_the_largest(mlp, params, x, t, 1e-3)
    row = np.asarray(x)[:, 0]
    closed_form = np.linalg.eigvalsh([[(row**2).mean(), row.mean()], [row.mean(), 1]])
    np.testing.assert_allclose(eigenvalues, closed_form, rtol=1e-13)  # two by two


def test_largest_eigenvalue_of_a_zero_hessian_is_zero():
    mlp = MLP((3, 2), output="relu", loss="quadratic")
    dead = (Layer(jnp.zeros((2, 3)), jnp.full(2, -1.0)),)
    value, vector = largest_eigenvalue(mlp, dead, jnp.ones((4, 3)), jnp.ones((4, 2)), key=jax.random.key(0))
    assert value == 0
    assert float(length(vector)) == pytest.approx(1, rel=8 * 2.0**-23)  # eight numbers of float32


def test_largest_eigenvalue_in_float32_matches_float64(small):
    mlp, params, x, t = small
    found = largest_eigenvalue(mlp, params, x, t, key=jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(found.vector)} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        eigenvalues = np.linalg.eigvalsh(
            dense_hessian(mlp, *jax.tree.map(lambda leaf: leaf.astype(float), (params, x, t)))
        )
    assert found.value == pytest.approx(eigenvalues[-1], rel=1e-3)  # the tolerance


def test_largest_eigenvalue_is_reproducible_by_its_key(small):
    mlp, params, x, t = small
    first, again, other = (largest_eigenvalue(mlp, params, x, t, key=jax.random.key(seed)) for seed in (1, 1, 2))
    assert first.value == again.value
    for one, same in zip(jax.tree.leaves(first.vector), jax.tree.leaves(again.vector), strict=True):
        np.testing.assert_array_equal(one, same)
    assert first.value == pytest.approx(other.value, rel=1e-3)  # the tolerance
    assert any(
        np.any(one != another)
        for one, another in zip(jax.tree.leaves(first.vector), jax.tree.leaves(other.vector), strict=True)
    )


def test_largest_eigenvalue_refuses_x_that_is_not_a_batch_in_one_line(small):
    mlp, params, x, t = small
    with pytest.raises(ValueError, match=r"^x must be a batch") as caught:
        largest_eigenvalue(mlp, params, x[0], t[0], key=jax.random.key(0))
    assert str(caught.value) == "x must be a batch of shape [B, 3], got (3,)"


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_a_value_error_of_one_line(number, small):
    mlp, params, x, t = small
    diverged = (params[0], params[1]._replace(w=params[1].w.at[0, 0].set(number)))
    with pytest.raises(ValueError, match=r"^the curvature is not finite at these parameters: .*\?$"):
        largest_eigenvalue(mlp, diverged, x, t, key=jax.random.key(0))


def test_iteration_that_does_not_converge_is_an_error_of_its_own_and_one_line(small, monkeypatch):
    def never(*_, **__):
        raise ArpackNoConvergence("no convergence", np.array([]), np.array([]))

    monkeypatch.setattr("scipy.sparse.linalg.eigsh", never)
    mlp, params, x, t = small
    with pytest.raises(NoEigenvalue, match=r"^no eigenvalue with a relative residual of 1e-05 in 1000 restarts$"):
        largest_eigenvalue(mlp, params, x, t, key=jax.random.key(0), tolerance=1e-5)


@pytest.mark.usefixtures("x64")
def test_tolerance_is_relative_however_small_the_hessian():
    # At z = -25 the Hessian is of the order of sigma'^2, 1e-21: below 1e-11 ARPACK itself has an absolute tolerance.
    mlp = MLP((60, 2), output="sigmoid", loss="quadratic")
    params = (Layer(0.1 * init(mlp, jax.random.key(1))[0].w, jnp.full(2, -25.0)),)
    x, t = np.random.default_rng(0).normal(size=(100, 60)), np.zeros((100, 2))
    hessian = dense_hessian(mlp, params, x, t)
    found = largest_eigenvalue(mlp, params, x, t, key=jax.random.key(0), tolerance=1e-8).value
    assert found < 1e-20
    # The error is of the order of the tolerance's square: what is left is rounding.
    assert found / np.linalg.eigvalsh(hessian)[-1] == pytest.approx(1, rel=1e-10)  # approx itself adds 1e-12


# ----- the critical learning rate -----


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_converges_just_below_the_critical_learning_rate_and_diverges_just_above(momentum):
    mlp = MLP((3, 2), output="identity", loss="quadratic")
    minimum, x, _ = batch(mlp, 6)
    t = jax.vmap(partial(forward, mlp, minimum))(x).y[-1]
    value, vector = largest_eigenvalue(mlp, minimum, x, t, key=jax.random.key(0), tolerance=1e-10)
    critical = critical_learning_rate(value, momentum=momentum)

    @jax.jit
    def distance_after_500_steps(learning_rate):
        def step(run, _):
            params, state = run
            _, gradient = loss_and_gradient(mlp, params, x, t)
            return sgd.update(params, state, gradient, learning_rate=learning_rate, momentum=momentum), None

        start = jax.tree.map(jnp.add, minimum, vector)
        (params, _), _ = jax.lax.scan(step, (start, sgd.init(start)), None, 500)
        return length(jax.tree.map(jnp.subtract, params, minimum))

    # Without momentum the distance, 1 at first, is multiplied with 1 - eta lambda = -0.98 or -1.02 in every step:
    # 4e-5 and 2e4 after 500. With momentum it shrinks and grows faster.
    assert float(distance_after_500_steps(0.99 * critical)) < 1e-3
    assert float(distance_after_500_steps(1.01 * critical)) > 1e3


@pytest.mark.parametrize("eigenvalue", [0.0, -1.0, -np.inf])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_critical_learning_rate_is_infinite_where_the_curvature_is_not_positive(eigenvalue, momentum):
    assert critical_learning_rate(eigenvalue, momentum=momentum) == np.inf


def test_critical_learning_rates_of_many_eigenvalues_and_momenta_are_two_and_twice_alpha_over_lambda():
    eigenvalues, momenta = np.array([1.0, 4.0, -2.0, 8.0]), np.array([0.0, 0.5, 0.5, 1.0])
    for function in (critical_learning_rate, jax.jit(critical_learning_rate), jax.vmap(critical_learning_rate)):
        np.testing.assert_array_equal(function(eigenvalues, momentum=momenta), [2.0, 0.75, np.inf, 0.5])
