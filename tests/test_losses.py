"""Every loss of the table, its delta and its curvature, against NumPy and autodiff, and mpmath far into the tails."""

from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from mpmath import mp

from jaxmlp.activations import ACTIVATIONS, elementwise
from jaxmlp.backpropagation import loss_and_gradient
from jaxmlp.curvature import gauss_newton_vector_product
from jaxmlp.losses import LOSSES, Loss, target_row
from jaxmlp.network import MLP, init, loss

PAIRS = [(name, output) for name, entry in LOSSES.items() for output in entry.outputs]
EVERY_PAIR = pytest.mark.parametrize(("name", "output"), PAIRS)
EPS = float(np.finfo(np.float64).eps)
MARGIN = {"float32": 85.0, "float64": 700.0}  # exp(-margin) is still a normal number

# L(y, t) as the literature writes it.
FORMULAS = {
    "quadratic": lambda y, t: 0.5 * np.sum((y - t) ** 2),
    "cross_entropy": lambda y, t: -np.sum(t * np.log(y)),
    "binary_cross_entropy": lambda y, t: -np.sum(t * np.log(y) + (1 - t) * np.log(1 - y)),
    "poisson": lambda y, t: np.sum(scipy.special.xlogy(t, t / y) - t + y),
}


def plain_value_and_delta(name: str, output: str, z, t):
    entry, activation = LOSSES[name], ACTIVATIONS[output]
    return jax.vmap(lambda z, t: (entry.value(activation, z, t), entry.delta(activation, z, t)))(z, t)


def plain_changes(name: str, output: str, z, t, dz):
    entry, activation = LOSSES[name], ACTIVATIONS[output]
    delta_change = jax.vmap(partial(entry.delta_change, activation))(z, t, dz)
    return delta_change, jax.vmap(partial(entry.gauss_newton, activation))(z, t, dz)


WITHOUT_OPTIMISATION = {"xla_backend_optimization_level": 0}  # compiles twice as fast
value_and_delta = jax.jit(plain_value_and_delta, static_argnums=(0, 1), compiler_options=WITHOUT_OPTIMISATION)


def rows(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(20, 4)), np.zeros((2, 4)), np.tile([[2.0, 2.0, -1.0, 2.0]], (2, 1))])
    t = rng.uniform(size=(24, 4))
    if name == "cross_entropy":
        t /= t.sum(1, keepdims=True)
    t[::2] = np.eye(4)[rng.integers(0, 4, 12)]
    return z, t


@cache
def values_deltas_and_slopes() -> dict:
    """Value and delta of every pair, and what autodiff makes of the value, compiled together to save time."""

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def all_pairs(examples):
        found = {}
        for name, output in PAIRS:
            z, t = examples[name]
            slopes = jax.grad(lambda z, t=t, pair=(name, output): plain_value_and_delta(*pair, z, t)[0].sum())(z)
            found[f"{name}/{output}"] = (*plain_value_and_delta(name, output, z, t), slopes)
        return found

    return all_pairs({name: rows(name) for name in LOSSES})


@pytest.mark.usefixtures("x64")
@EVERY_PAIR
def test_value_is_the_formula(name, output):
    z, t = rows(name)
    values, _, _ = values_deltas_and_slopes()[f"{name}/{output}"]
    y = np.asarray(jax.vmap(ACTIVATIONS[output].phi)(jnp.asarray(z)))  # held to closed forms by its own tests
    formula = [FORMULAS[name](*row) for row in zip(y, t, strict=True)]
    # Sums of 8 terms below 10; log(1 - y) loses another factor 1/(1 - y), below 20 here.
    np.testing.assert_allclose(values, formula, rtol=0, atol=500 * EPS)


def test_every_loss_of_the_table_has_a_formula_here():
    assert set(FORMULAS) == set(LOSSES)


def test_quadratic_loss_makes_sense_with_every_activation():
    assert set(LOSSES["quadratic"].outputs) == set(ACTIVATIONS)


def test_an_activation_that_is_added_is_an_output_of_the_quadratic_loss_alone(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "sine", elementwise(jnp.sin, jnp.cos))
    assert [name for name, entry in LOSSES.items() if "sine" in entry.outputs] == ["quadratic"]


@pytest.mark.usefixtures("x64")
def test_gauss_newton_product_of_an_added_loss_sees_the_targets(monkeypatch):
    def product(output, z, t, dz):
        return dz / jnp.cosh(z - t) ** 2

    added = Loss(
        lambda output, z, t: jnp.sum(jnp.log(jnp.cosh(z - t))),
        lambda output, z, t: jnp.tanh(z - t),
        product,
        product,
        ["identity"],
    )
    monkeypatch.setitem(LOSSES, "log_cosh", added)
    mlp = MLP((3, 2), output="identity", loss="log_cosh")  # linear: the Gauss-Newton matrix is the Hessian
    params = init(mlp, jax.random.key(0))
    x, t = jax.random.normal(jax.random.key(1), (5, 3)), jax.random.normal(jax.random.key(2), (5, 2))

    def mean_loss(params):
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    chex.assert_trees_all_close(loss_and_gradient(mlp, params, x, t)[1], jax.grad(mean_loss)(params), rtol=1e-12)
    expected = jax.jvp(jax.grad(mean_loss), (params,), (params,))[1]
    chex.assert_trees_all_close(gauss_newton_vector_product(mlp, params, x, t, params), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@EVERY_PAIR
def test_delta_is_autodiff_of_the_value(name, output):
    _, deltas, slopes = values_deltas_and_slopes()[f"{name}/{output}"]
    np.testing.assert_allclose(deltas, slopes, rtol=0, atol=64 * EPS)  # numbers below 4, 16 roundings


@pytest.mark.usefixtures("x64")
def test_delta_of_softmax_cross_entropy_is_y_minus_t():
    z, t = rows("cross_entropy")
    _, deltas = value_and_delta("cross_entropy", "softmax", jnp.asarray(z), jnp.asarray(t))
    np.testing.assert_allclose(deltas, scipy.special.softmax(z, axis=1) - t, rtol=0, atol=8 * EPS)  # numbers below 1


@pytest.mark.usefixtures("x64")
def test_delta_of_sigmoid_binary_cross_entropy_is_y_minus_t():
    z, t = rows("binary_cross_entropy")
    _, deltas = value_and_delta("binary_cross_entropy", "sigmoid", jnp.asarray(z), jnp.asarray(t))
    np.testing.assert_allclose(deltas, scipy.special.expit(z) - t, rtol=0, atol=8 * EPS)  # numbers below 1


@pytest.mark.usefixtures("x64")
def test_delta_of_quadratic_with_sigmoid_is_equation_5():
    z, t = rows("quadratic")
    _, deltas = value_and_delta("quadratic", "sigmoid", jnp.asarray(z), jnp.asarray(t))
    y = scipy.special.expit(z)
    np.testing.assert_allclose(deltas, (y - t) * (1 - y) * y, rtol=0, atol=8 * EPS)  # numbers below 1


@pytest.mark.usefixtures("x64")
def test_delta_of_quadratic_with_identity_is_y_minus_t():
    z, t = rows("quadratic")
    _, deltas = value_and_delta("quadratic", "identity", jnp.asarray(z), jnp.asarray(t))
    np.testing.assert_array_equal(deltas, z - t)


class Curvatures(NamedTuple):
    """Products with the loss's Hessian in z and its part that is never negative, beside those of autodiff."""

    delta_change: jax.Array
    by_autodiff: jax.Array
    gauss_newton: jax.Array
    gauss_newton_by_autodiff: jax.Array
    delta_change_without_residual: jax.Array


@cache
def directions() -> np.ndarray:
    return np.random.default_rng(1).uniform(-2, 2, (24, 4))


def curvatures(name: str, output: str, z, t, dz) -> Curvatures:
    """Compute all of them for one example."""
    entry, activation = LOSSES[name], ACTIVATIONS[output]

    def hessian_product(of_loss, at, change):
        return jax.jvp(jax.grad(of_loss), (at,), (change,))[1]

    by_autodiff = hessian_product(lambda z: entry.value(activation, z, t), z, dz)
    if name == "quadratic":  # J^T H_L J, of y
        y, dy = jax.jvp(activation.phi, (z,), (dz,))
        of_y = hessian_product(lambda y: 0.5 * jnp.sum((y - t) ** 2), y, dy)
        (positive,) = jax.vjp(activation.phi, z)[1](of_y)
    else:  # of z
        positive = by_autodiff
    return Curvatures(
        entry.delta_change(activation, z, t, dz),
        by_autodiff,
        entry.gauss_newton(activation, z, t, dz),
        positive,
        entry.delta_change(activation, z, activation.phi(z), dz),
    )


@cache
def curvatures_of_all_pairs() -> dict[str, Curvatures]:
    """Compiled together, to save time."""

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def all_pairs(examples, dz):
        return {
            f"{name}/{output}": jax.vmap(partial(curvatures, name, output))(*examples[name], dz)
            for name, output in PAIRS
        }

    return all_pairs({name: rows(name) for name in LOSSES}, directions())


# Numbers below 16, products of |dz| <= 2, |y - t| <= 4 and derivatives of at most 2: 32 roundings on either side.
OF_CURVATURE = {"rtol": 0, "atol": 1024 * EPS}


@pytest.mark.usefixtures("x64")
@EVERY_PAIR
def test_delta_change_is_the_product_with_the_hessian_of_the_value(name, output):
    found = curvatures_of_all_pairs()[f"{name}/{output}"]
    np.testing.assert_allclose(found.delta_change, found.by_autodiff, **OF_CURVATURE)


@pytest.mark.usefixtures("x64")
@EVERY_PAIR
def test_gauss_newton_is_the_product_with_the_hessian_of_a_loss_that_is_convex(name, output):
    found = curvatures_of_all_pairs()[f"{name}/{output}"]
    np.testing.assert_allclose(found.gauss_newton, found.gauss_newton_by_autodiff, **OF_CURVATURE)


@pytest.mark.usefixtures("x64")
@EVERY_PAIR
def test_gauss_newton_equals_delta_change_where_the_residual_is_zero(name, output):
    found = curvatures_of_all_pairs()[f"{name}/{output}"]
    np.testing.assert_allclose(found.gauss_newton, found.delta_change_without_residual, **OF_CURVATURE)


@pytest.mark.usefixtures("x64")
@EVERY_PAIR
def test_gauss_newton_is_never_negative(name, output):
    along = directions() * np.asarray(curvatures_of_all_pairs()[f"{name}/{output}"].gauss_newton)
    assert np.all(along.sum(1) >= -64 * EPS)  # four terms below 16 each, where they cancel


MAGNITUDES = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 30)])


@cache
def far_out(dtype: str) -> dict:
    """All of every pair for |z| up to 10,000, compiled together to save time."""
    z = np.tile(np.stack([MAGNITUDES, -MAGNITUDES, MAGNITUDES / 2], axis=1), (3, 1))
    t = np.repeat(np.eye(3), len(MAGNITUDES), axis=0)

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def all_pairs(z, t):
        return {
            f"{name}/{output}": (*plain_value_and_delta(name, output, z, t), *plain_changes(name, output, z, t, t))
            for name, output in PAIRS
        }

    return all_pairs(jnp.asarray(z, dtype), jnp.asarray(t, dtype))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@EVERY_PAIR
def test_everything_is_finite_and_of_the_same_type_up_to_ten_thousand(name, output, dtype):
    # The square of exp(z) leaves the type's numbers at half of their logarithm.
    reach = 0.49 * np.log(float(jnp.finfo(dtype).max)) if output == "exp" else np.inf
    rows = np.tile(reach > MAGNITUDES, 3)
    for result in far_out(dtype)[f"{name}/{output}"]:
        assert result.dtype == dtype
        assert np.isfinite(np.asarray(result, np.float64)[rows]).all()


# ----- tails, against mpmath -----


@pytest.fixture
def digits(dtype: str) -> Iterator[None]:
    """Let mpmath see what is left of 1 in 1 - exp(-margin), and 20 digits of it."""
    with mp.workdps({"float32": 60, "float64": 330}[dtype]):
        yield


def units_off(computed, truth: list, dtype: str) -> float:
    """Return the largest relative error, in eps."""
    errors = [abs((mp.mpf(float(c)) - t) / t) for c, t in zip(np.asarray(computed).ravel(), truth, strict=True)]
    return float(max(errors)) / float(jnp.finfo(dtype).eps)


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
def test_binary_cross_entropy_is_right_to_eight_units_at_every_margin(dtype):
    z = np.linspace(-MARGIN[dtype], MARGIN[dtype], 81).astype(dtype)[:, None]
    y = [1 / (1 + mp.exp(-mp.mpf(float(margin)))) for margin in z[:, 0]]
    for t in (0, 1):
        values, deltas = value_and_delta("binary_cross_entropy", "sigmoid", jnp.asarray(z), jnp.full_like(z, t))
        assert units_off(values, [-mp.log(p if t else 1 - p) for p in y], dtype) <= 8
        assert units_off(deltas, [p - t for p in y], dtype) <= 8


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
def test_cross_entropy_is_right_to_eight_units_at_every_margin(dtype):
    # Two classes with z_2 = 0: the difference of the two is not rounded.
    margins = np.linspace(-MARGIN[dtype], MARGIN[dtype], 81).astype(dtype)
    z = np.stack([margins, np.zeros_like(margins)], axis=1)
    t = np.tile(np.array([[1, 0]], dtype), (81, 1))
    values, deltas = value_and_delta("cross_entropy", "softmax", jnp.asarray(z), jnp.asarray(t))
    y = [1 / (1 + mp.exp(-mp.mpf(float(margin)))) for margin in margins]
    assert units_off(values, [-mp.log(p) for p in y], dtype) <= 8
    assert units_off(deltas, [number for p in y for number in (p - 1, 1 - p)], dtype) <= 8


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
def test_quadratic_loss_of_a_saturated_output_is_right_to_eight_units(dtype):
    # Value and delta are about exp(-2 margin): half the margin fits.
    z = np.linspace(0, MARGIN[dtype] / 2, 41).astype(dtype)
    e = [mp.exp(-mp.mpf(float(margin))) for margin in z]
    left = [x / (1 + x) for x in e]  # 1 - sigma(z)
    values, deltas = value_and_delta("quadratic", "sigmoid", jnp.asarray(z[:, None]), jnp.ones((41, 1), dtype))
    assert units_off(values, [x**2 / 2 for x in left], dtype) <= 8
    assert units_off(deltas, [-x * x * (1 - x) for x in left], dtype) <= 8
    values, deltas = value_and_delta("quadratic", "tanh", jnp.asarray(z[:, None] / 2), jnp.ones((41, 1), dtype))
    assert units_off(values, [2 * x**2 for x in left], dtype) <= 8  # 1 - tanh(z/2) = 2 (1 - sigma(z))
    assert units_off(deltas, [-8 * x * x * (1 - x) for x in left], dtype) <= 8
    pairs = jnp.stack([jnp.asarray(z), jnp.zeros(41, dtype)], axis=1)
    labels = jnp.tile(jnp.array([[1, 0]], dtype), (41, 1))
    values, deltas = value_and_delta("quadratic", "softmax", pairs, labels)
    assert units_off(values, [x**2 for x in left], dtype) <= 8
    both = [sign * 2 * x * x * (1 - x) for x in left for sign in (-1, 1)]
    assert units_off(deltas, both, dtype) <= 8


def test_delta_is_right_where_autodiff_of_a_log_softmax_loss_gives_exactly_zero():
    z = jnp.array([20.0, 0.0])

    def usual_loss(z):
        return -jax.nn.log_softmax(z)[0]

    assert jax.grad(usual_loss)(z)[0] == 0
    delta = LOSSES["cross_entropy"].delta(ACTIVATIONS["softmax"], z, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(delta, [-np.exp(-20.0), np.exp(-20.0)], rtol=8 * 2.0**-23)  # 1 + e^-20 is 1 to 2e-9


# ----- targets -----


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_class_becomes_a_one_hot_row(dtype):
    for label in range(3):
        row = target_row(np.array(label, dtype), jnp.zeros(3), "softmax")
        np.testing.assert_array_equal(row, np.eye(3)[label])
        assert row.dtype == jnp.float32


@EVERY_PAIR
def test_class_and_its_one_hot_row_are_the_same_target(name, output):
    z = jnp.array([0.3, -2.0, 1.0])
    entry, activation = LOSSES[name], ACTIVATIONS[output]
    by_class, by_row = (target_row(t, z, output) for t in (2, np.array([0, 0, 1])))
    assert entry.value(activation, z, by_class) == entry.value(activation, z, by_row)
    np.testing.assert_array_equal(entry.delta(activation, z, by_class), entry.delta(activation, z, by_row))


def test_row_of_real_numbers_is_taken_as_it_is():
    np.testing.assert_array_equal(target_row([0.5, 0.25, 0.25], jnp.zeros(3), "softmax"), [0.5, 0.25, 0.25])


@pytest.mark.parametrize("t", [1, 1.0, np.float64(1), np.array([1]), np.array([1.0]), True])
def test_bare_number_is_a_row_of_one(t):
    row = target_row(t, jnp.zeros(1), "sigmoid")
    np.testing.assert_array_equal(row, [1.0])
    assert row.dtype == jnp.float32


def test_class_of_a_lone_softmax_output_stays_a_class():
    np.testing.assert_array_equal(target_row(0, jnp.zeros(1), "softmax"), [1.0])


@pytest.mark.parametrize("t", [np.zeros(2), np.zeros((1, 3)), np.zeros((3, 1)), 0.5, np.zeros(0)])
def test_wrong_shape_is_a_value_error_of_one_line(t):
    with pytest.raises(ValueError, match=r"^t must be one example's target.*\(3,\), got shape .* jax\.vmap$"):
        target_row(t, jnp.zeros(3), "softmax")
