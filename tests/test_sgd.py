"""Momentum SGD against eq. (3) written naively in NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import sgd
from jaxmlp.network import Layer


def trees(n_steps: int) -> tuple[list, list]:
    """Draw parameters of two layers, and a gradient for every step."""
    rng = np.random.default_rng(0)

    def draw():
        return [[rng.normal(size=shape) for shape in layer] for layer in (((3, 2), (3,)), ((1, 3), (1,)))]

    return draw(), [draw() for _ in range(n_steps)]


def as_params(tree: list) -> tuple[Layer, ...]:
    return tuple(Layer(jnp.asarray(w), jnp.asarray(b)) for w, b in tree)


def naive(params: list, gradients: list, eta: float, alpha: float, decay: float, nesterov: bool) -> tuple[list, list]:
    params = [[leaf.copy() for leaf in layer] for layer in params]
    dw = [[np.zeros_like(leaf) for leaf in layer] for layer in params]
    for gradient in gradients:
        for layer in range(2):
            for leaf in range(2):
                g = gradient[layer][leaf] + (decay * params[layer][leaf] if leaf == 0 else 0)  # biases do not decay
                dw[layer][leaf] = -eta * g + alpha * dw[layer][leaf]
                params[layer][leaf] += alpha * dw[layer][leaf] - eta * g if nesterov else dw[layer][leaf]
    return params, dw


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_many_steps_match_equation_3(alpha, decay, nesterov):
    start, gradients = trees(40)
    params = as_params(start)
    state = sgd.init(params)
    for gradient in gradients:
        params, state = sgd.update(
            params,
            state,
            as_params(gradient),
            learning_rate=0.1,
            momentum=alpha,
            weight_decay=decay,
            nesterov=nesterov,
        )
    expected, dw = naive(start, gradients, 0.1, alpha, decay, nesterov)
    # 40 steps of 4 roundings, of numbers below 10, each carried on by at most 1 / (1 - 0.9).
    for ours, theirs in ((params, expected), (state.dw, dw)):
        chex.assert_trees_all_close(ours, as_params(theirs), rtol=0, atol=1e-12)


def test_state_before_the_first_step_is_zero():
    params = as_params(trees(0)[0])
    dw = sgd.init(params).dw
    chex.assert_trees_all_equal_shapes_and_dtypes(dw, params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(dw))


def test_nesterov_without_momentum_is_plain_descent():
    start, (gradient,) = trees(1)
    params, gradient = as_params(start), as_params(gradient)
    plain, looking_ahead = (
        sgd.update(params, sgd.init(params), gradient, learning_rate=0.1, nesterov=nesterov)
        for nesterov in (False, True)
    )
    chex.assert_trees_all_equal(plain, looking_ahead)


@pytest.mark.usefixtures("x64")
def test_learning_rate_and_momentum_can_be_mapped_over():
    start, (gradient,) = trees(1)
    params, gradient = as_params(start), as_params(gradient)
    state = sgd.State(gradient)
    rates, momenta = jnp.array([0.1, 0.2, 0.4]), jnp.array([0.0, 0.5, 0.9])
    both, _ = jax.vmap(lambda eta, alpha: sgd.update(params, state, gradient, learning_rate=eta, momentum=alpha))(
        rates, momenta
    )
    for number, (eta, alpha) in enumerate(zip(rates, momenta, strict=True)):
        expected = jax.tree.map(lambda p, g, eta=eta, alpha=alpha: p - eta * g + alpha * g, params, gradient)
        one = jax.tree.map(lambda leaf, number=number: leaf[number], both)
        chex.assert_trees_all_close(one, expected, rtol=0, atol=1e-14)  # 3 roundings of numbers below 4


def test_another_learning_rate_momentum_or_decay_does_not_compile_anew():
    start, (gradient,) = trees(1)
    params, gradient = as_params(start), as_params(gradient)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(params, state, gradient, eta, alpha, decay):
        return sgd.update(params, state, gradient, learning_rate=eta, momentum=alpha, weight_decay=decay)

    weights = set()
    for numbers in [(0.1, 0.9, 0.0), (0.2, 0.9, 0.0), (0.2, 0.5, 0.0), (0.2, 0.5, 0.1)]:
        moved, _ = update(params, sgd.State(gradient), gradient, *numbers)
        weights.add(float(moved[0].w[0, 0]))
    assert len(weights) == 4  # they were not ignored either


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("gradient_dtype", ["float32", "bfloat16"])
def test_parameters_and_state_keep_their_type(dtype, gradient_dtype):
    drawn = as_params(trees(0)[0])
    params, gradient = (jax.tree.map(lambda leaf, t=t: leaf.astype(t), drawn) for t in (dtype, gradient_dtype))
    numbers = {"learning_rate": np.float64(0.1), "momentum": 0.9, "weight_decay": np.float64(0.1)}
    with jax.numpy_dtype_promotion("strict" if dtype == gradient_dtype else "standard"):
        moved, state = sgd.update(params, sgd.init(params), gradient, **numbers)
    chex.assert_trees_all_equal_dtypes(moved, state.dw, params)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_step_on_flat_ground_tends_to_the_effective_learning_rate(alpha):
    params = (Layer(jnp.zeros((1, 1)), jnp.zeros(1)),)
    gradient, state = jax.tree.map(jnp.ones_like, params), sgd.init(params)
    for _ in range(400):  # 0.9^400 = 5e-19
        params, state = sgd.update(params, state, gradient, learning_rate=0.01, momentum=alpha)
    effective = sgd.effective_learning_rate(0.01, alpha)
    assert effective == pytest.approx(0.01 / (1 - alpha), rel=1e-15)
    # A step of 2 roundings of float32, carried on by 1 / (1 - alpha) <= 10.
    assert float(state.dw[0].w[0, 0]) == pytest.approx(-effective, rel=20 * 2.0**-23)


@pytest.mark.parametrize(
    "shape", [lambda leaf: jnp.stack([leaf, leaf]), jnp.mean, lambda leaf: leaf[:1]], ids=["batch", "number", "row"]
)
def test_a_gradient_or_state_of_another_shape_is_refused_where_it_would_broadcast(shape):
    start, (gradient,) = trees(1)
    params, gradient = as_params(start), as_params(gradient)
    other = jax.tree.map(shape, gradient)
    with pytest.raises(ValueError, match=r"^gradient must be shaped like the parameters, "):
        sgd.update(params, sgd.init(params), other, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"^state must be shaped like the parameters, "):
        sgd.update(params, sgd.State(other), gradient, learning_rate=0.1)
