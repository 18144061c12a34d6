"""Products with the Hessian and the Gauss-Newton matrix, written by hand, against autodiff in float64.

As in the tests of backpropagation, each example has weights of its own, and all runs operation by operation under
`vmap`, with layers of one width: a program for each network would take a minute to compile. One network for each
loss and output, of two hidden layers, so that every activation is a first and a second one. Depths, widths and batches
of several examples have networks of their own.
"""

from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.curvature import (
    gauss_newton_vector_product,
    hessian_vector_product,
    taylor,
)
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Layer, Params, forward, loss

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

HIDDEN = [name for name in ACTIVATIONS if ACTIVATIONS[name].derivative is not None]
PAIRS = [(name, output) for name, entry in LOSSES.items() for output in entry.outputs]
MIXED = [
    MLP((6, 6, 6, 6), (HIDDEN[number % len(HIDDEN)], HIDDEN[(number + 3) % len(HIDDEN)]), output, name)
    for number, (name, output) in enumerate(PAIRS)
]
EVERY_NETWORK = pytest.mark.parametrize("mlp", MIXED, ids=lambda mlp: "-".join((*mlp.activations, mlp.loss)))


# ----- the truth: autodiff of the mean loss -----


def mean_loss(mlp: MLP, x, t, params: Params):
    return jax.vmap(partial(loss, mlp, params))(x, t).mean()


def hessian_product_by_autodiff(mlp: MLP, params: Params, x, t, direction: Params) -> Params:
    return jax.jvp(jax.grad(partial(mean_loss, mlp, x, t)), (params,), (direction,))[1]


def dense_hessian(mlp: MLP, params: Params, x, t) -> np.ndarray:
    flat, unravel = ravel_pytree(params)
    hessian = jax.hessian(lambda flat: mean_loss(mlp, x, t, unravel(flat)))
    return np.asarray(jax.jit(hessian)(flat))


def gauss_newton_product_by_autodiff(mlp: MLP, params: Params, x, t, direction: Params) -> Params:
    """J^T H_L J v: of y_L for the quadratic loss, of z_L for the others, whose loss is written here once more."""

    def outputs(params: Params):
        z, y = jax.vmap(partial(forward, mlp, params))(x)
        return y[-1] if mlp.loss == "quadratic" else z[-1]

    def of_outputs(outputs):
        if mlp.loss == "quadratic":
            return 0.5 * jnp.sum((outputs - t) ** 2) / len(x)
        if mlp.loss == "cross_entropy":
            return -jnp.sum(t * jax.nn.log_softmax(outputs)) / len(x)
        if mlp.loss == "poisson":
            return jnp.sum(jnp.exp(outputs) - t * outputs) / len(x)
        return -jnp.sum(t * jax.nn.log_sigmoid(outputs) + (1 - t) * jax.nn.log_sigmoid(-outputs)) / len(x)

    at, change = jax.jvp(outputs, (params,), (direction,))
    curved = jax.jvp(jax.grad(of_outputs), (at,), (change,))[1]
    return jax.vjp(outputs, params)[1](curved)[0]


class Products(NamedTuple):
    """Hv and Gv, by hand and by autodiff."""

    hessian: Params
    hessian_by_autodiff: Params
    gauss_newton: Params
    gauss_newton_by_autodiff: Params


def all_products(mlp: MLP, params: Params, x, t, direction: Params) -> Products:
    given = mlp, params, x, t, direction
    return Products(
        hessian_vector_product(*given),
        hessian_product_by_autodiff(*given),
        gauss_newton_vector_product(*given),
        gauss_newton_product_by_autodiff(*given),
    )


def inner(a, b):
    """Return the inner product of two trees, along all axes of their leaves."""
    return sum(jnp.vdot(one, other) for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def length(tree):
    return jnp.sqrt(inner(tree, tree))


# ----- every activation, every loss and output -----

KINDS = {"random": slice(0, 6), "zero": slice(6, 8), "equal": slice(8, 10), "large": slice(10, 12)}
N = 12


def drawn(rng: np.random.Generator, sizes: tuple[int, ...], *front: int) -> Params:
    """Draw weights that keep z of order 1, in float32, so that every type holds them."""
    return tuple(
        Layer(
            (rng.normal(size=(*front, n_out, n_in)) * (1.5 / np.sqrt(n_in))).astype(np.float32),
            (0.3 * rng.normal(size=(*front, n_out))).astype(np.float32),
        )
        for n_in, n_out in pairwise(sizes)
    )


def drawn_targets(rng: np.random.Generator, n: int, n_out: int, name: str) -> np.ndarray:
    """Draw one-hot and soft rows; for cross-entropy they sum to 1."""
    labels, others = (np.eye(n_out)[rng.integers(0, n_out, n)] for _ in range(2))
    soft = 0.25 * labels + 0.75 * others if name == "cross_entropy" else rng.integers(0, 17, (n, n_out)) / 16
    return np.where(np.arange(n)[:, None] % 2, labels, soft).astype(np.float32)


@cache
def examples(name: str) -> tuple:
    """Draw params, x, t and a direction of a network (6, 6, 6, 6), all with an axis of N examples in front.

    zero: all weights and biases are 0, so that every z is exactly 0, where relu and its like have their kink.
    equal: all inputs and all weights of a layer are equal, so that the outputs tie. large: weights are 30 times as
    large, so that activations saturate.
    """
    rng = np.random.default_rng(0)
    params, direction = (drawn(rng, (6, 6, 6, 6), N) for _ in range(2))
    x = rng.normal(size=(N, 6)).astype(np.float32)
    x[KINDS["equal"]] = 0.7
    for w, b in params:
        w[KINDS["zero"]], b[KINDS["zero"]] = 0, 0
        w[KINDS["equal"]], b[KINDS["equal"]] = 0.4 / 6, -0.1
        w[KINDS["large"]] *= 30
    return params, x, drawn_targets(rng, N, 6, name), direction


def examples_of(mlp: MLP) -> tuple:
    """Return the examples of its loss; an output exp does not saturate, so the last of its layers stays small."""
    params, x, t, direction = examples(mlp.loss)
    if mlp.output == "exp":
        z = jax.vmap(partial(forward, mlp))(params, x).z[-1]
        shrink = 2 / np.maximum(2, np.abs(np.asarray(z, np.float64)).max(1))
        params = (*params[:-1], Layer(*((leaf.T * shrink).T.astype(np.float32) for leaf in params[-1])))
    return params, x, t, direction


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def each_in_a_batch_of_one(function, mlp: MLP, params, x, t, direction):
    return jax.vmap(lambda p, x, t, v: function(mlp, p, x[None], t[None], v))(params, x, t, direction)


@cache
def in_float64(mlp: MLP) -> Products:
    """Compute once what several tests of a combination need."""
    return each_in_a_batch_of_one(all_products, mlp, *cast(examples_of(mlp), float))


def assert_products_agree(ours, theirs, direction) -> None:
    """Hold every leaf of every example's product to 1e-12 of what it is summed up from.

    1e-12 is 4,500 eps: sums of up to 64 terms, up to 5 layers there and back, three products of weights for each. The
    terms are as large as v is long, times weights, inputs and derivatives of order 1; or as the product, if longer.
    """
    scale = jnp.maximum(jax.vmap(length)(theirs), jax.vmap(length)(direction))
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        excess = np.asarray(jax.vmap(length)(our - their) / (1e-12 * scale))
        assert np.all(excess <= 1), f"{excess} times the bound"


def of_order_one(tree):
    """Leave out the large examples, of which even autodiff loses the digits."""
    return jax.tree.map(lambda leaf: leaf[: KINDS["large"].start], tree)


@pytest.mark.usefixtures("x64")
@EVERY_NETWORK
def test_hessian_product_matches_autodiff(mlp):
    products, direction = in_float64(mlp), cast(examples_of(mlp)[-1], float)
    assert_products_agree(*map(of_order_one, (products.hessian, products.hessian_by_autodiff, direction)))


@pytest.mark.usefixtures("x64")
@EVERY_NETWORK
def test_gauss_newton_product_matches_autodiff(mlp):
    products, direction = in_float64(mlp), cast(examples_of(mlp)[-1], float)
    assert_products_agree(*map(of_order_one, (products.gauss_newton, products.gauss_newton_by_autodiff, direction)))


@pytest.mark.usefixtures("x64")
@EVERY_NETWORK
def test_gauss_newton_is_positive_semi_definite(mlp):
    ours, direction = in_float64(mlp).gauss_newton, cast(examples_of(mlp)[-1], float)
    # Rounding: 1e-12 of the product, as above, along v.
    allowed = 1e-12 * jax.vmap(length)(ours) * jax.vmap(length)(direction)
    assert np.all(np.asarray(jax.vmap(inner)(direction, ours) + allowed) >= 0)


@pytest.mark.usefixtures("x64")
@EVERY_NETWORK
def test_products_are_finite_where_activations_saturate(mlp):
    products = in_float64(mlp)
    for leaf in jax.tree.leaves((products.hessian, products.gauss_newton)):
        assert np.isfinite(leaf).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mlp", MIXED[1::5], ids=lambda mlp: f"{mlp.output}-{mlp.loss}")
def test_hessian_is_gauss_newton_where_the_residual_is_zero(mlp):
    params, x, _, direction = cast(examples_of(mlp), float)
    at_target = jax.vmap(partial(forward, mlp))(params, x).y[-1]
    ours, theirs = (
        each_in_a_batch_of_one(f, mlp, params, x, at_target, direction)
        for f in (hessian_vector_product, gauss_newton_vector_product)
    )
    assert_products_agree(*map(of_order_one, (ours, theirs, direction)))


# ----- depths, widths and batches -----


def networks() -> list[tuple[MLP, int]]:
    """Networks of depth 1 to 4 and width 1 to 24, a hidden activation for each layer, and the size of a batch."""
    return [
        (MLP((5, 4)), 7),
        (MLP((1, 1), output="identity", loss="quadratic"), 1),
        (MLP((3, 24, 2), "silu", "sigmoid", "binary_cross_entropy"), 16),
        (MLP((2, 5, 1, 4, 3), ("gelu", "tanh", "softplus"), "softmax", "quadratic"), 5),
    ]


EVERY_DEPTH = pytest.mark.parametrize(
    ("mlp", "n"), networks(), ids=[f"{mlp.sizes} with {mlp.loss}" for mlp, _ in networks()]
)


def batch(mlp: MLP, n: int) -> tuple:
    """Draw params, x, t and two directions, in float64."""
    rng = np.random.default_rng(1)
    params, u, v = (cast(drawn(rng, mlp.sizes), float) for _ in range(3))
    x, t = rng.normal(size=(n, mlp.sizes[0])), drawn_targets(rng, n, mlp.sizes[-1], mlp.loss)
    return params, jnp.asarray(x), jnp.asarray(t, float), u, v


class Several(NamedTuple):
    """Products with u, with v, and with 2u - 3v."""

    of_u: Products
    of_v: Products
    of_both: Products


@cache
def several_products(mlp: MLP, n: int) -> Several:
    """Compile one program for all properties of a network."""
    params, x, t, u, v = batch(mlp, n)

    @jax.jit
    def compiled(directions):
        return jax.vmap(partial(all_products, mlp, params, x, t))(directions)

    directions = jax.tree.map(lambda u, v: jnp.stack([u, v, 2 * u - 3 * v]), u, v)
    found = compiled(directions)
    return Several(*(jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(3)))


@pytest.mark.usefixtures("x64")
@EVERY_DEPTH
def test_products_match_autodiff_at_every_depth_width_and_batch(mlp, n):
    *_, u, v = batch(mlp, n)
    for direction, found in zip((u, v), several_products(mlp, n)[:2], strict=True):
        ones = jax.tree.map(lambda leaf: leaf[None], (found, direction))
        assert_products_agree(ones[0].hessian, ones[0].hessian_by_autodiff, ones[1])
        assert_products_agree(ones[0].gauss_newton, ones[0].gauss_newton_by_autodiff, ones[1])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@EVERY_DEPTH
def test_matrix_is_symmetric(mlp, n, matrix):
    *_, u, v = batch(mlp, n)
    of_u, of_v, _ = (getattr(found, matrix) for found in several_products(mlp, n))
    # 1e-12 of either product along the other direction, as above.
    allowed = 1e-12 * float(length(u) * length(of_v) + length(v) * length(of_u))
    assert abs(float(inner(u, of_v) - inner(v, of_u))) <= allowed


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@EVERY_DEPTH
def test_product_is_linear_in_the_direction(mlp, n, matrix):
    of_u, of_v, of_both = (getattr(found, matrix) for found in several_products(mlp, n))
    combined = jax.tree.map(lambda u, v: 2 * u - 3 * v, of_u, of_v)
    off = length(jax.tree.map(jnp.subtract, combined, of_both))
    assert float(off) <= 1e-12 * float(2 * length(of_u) + 3 * length(of_v))  # as above, of either term


@pytest.mark.usefixtures("x64")
def test_gauss_newton_does_not_look_at_the_targets():
    mlp = MIXED[0]
    params, x, t, direction = cast(examples_of(mlp), float)
    others = each_in_a_batch_of_one(gauss_newton_vector_product, mlp, params, x, 1 - t, direction)
    for one, other in zip(jax.tree.leaves(in_float64(mlp).gauss_newton), jax.tree.leaves(others), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("x64")
def test_class_and_its_one_hot_row_have_one_hessian():
    mlp = MLP((5, 4))
    params, x, _, u, _ = batch(mlp, 3)
    labels = jnp.array([0, 3, 1])
    rows = jax.vmap(target_row, (0, None, None))(labels, jnp.zeros(4), "softmax")
    found = [hessian_vector_product(mlp, params, x, t, u) for t in (labels, rows)]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("x64")
def test_product_with_every_unit_vector_under_jit_and_vmap_is_the_dense_hessian():
    mlp = MLP((3, 4, 2), "tanh")
    params, x, t, *_ = batch(mlp, 5)
    _, unravel = ravel_pytree(params)
    along_each = jax.vmap(hessian_vector_product, (None, None, None, None, 0))
    compiled = jax.jit(along_each, static_argnums=0)
    found = compiled(mlp, params, x, t, jax.vmap(unravel)(jnp.eye(26)))
    rows = np.concatenate([np.asarray(leaf).reshape(26, -1) for leaf in jax.tree.leaves(found)], axis=1)
    # Entries below 1, of some 100 roundings.
    np.testing.assert_allclose(rows, dense_hessian(mlp, params, x, t), rtol=0, atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mlp", MIXED[4::7], ids=lambda mlp: "-".join((*mlp.activations, mlp.loss)))
def test_float32_hessian_product_is_at_most_twice_as_far_off_as_autodiff(mlp):
    exact = of_order_one(in_float64(mlp).hessian_by_autodiff)
    given = of_order_one(cast(examples_of(mlp), "float32"))
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(exact))
    functions = (hessian_vector_product, hessian_product_by_autodiff)

    @jax.jit
    def both(*given):
        return tuple(each_in_a_batch_of_one(function, mlp, *given) for function in functions)

    errors = []
    for found in both(*given):
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
        off = [
            np.asarray(leaf, float) - truth for leaf, truth in zip(*map(jax.tree.leaves, (found, exact)), strict=True)
        ]
        errors.append(np.sqrt(sum((leaf.reshape(len(leaf), -1) ** 2).sum(1) for leaf in off)))
    # Both share the forward pass and its errors, and differ by luck in those of the way back: taken over the examples
    # that is less than a factor of 2, and a few roundings where both are all but exact.
    of_ours, of_theirs = (np.sqrt(np.mean(error**2)) for error in errors)
    assert of_ours <= 2 * of_theirs + 4 * 2.0**-23 * largest


@pytest.mark.usefixtures("x64")
def test_products_keep_the_type_of_the_parameters_without_implicit_promotion():
    mlp = MLP((3, 5, 2), "gelu", "sigmoid", "quadratic")
    params, x, t, direction, _ = batch(mlp, 4)  # x and t stay in float64
    params, direction = cast(params, "float32"), cast(direction, "float32")
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):  # as many users set them
        for function in (hessian_vector_product, gauss_newton_vector_product, taylor):
            found = jax.eval_shape(partial(function, mlp), params, x, t, direction)
            assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


@pytest.fixture
def small() -> tuple:
    """A network of 26 parameters, a batch of 5, and a direction, in JAX's default float."""
    mlp = MLP((3, 4, 2), "tanh")
    rng = np.random.default_rng(2)
    params, direction = (cast(drawn(rng, mlp.sizes), float) for _ in range(2))
    return mlp, params, jnp.asarray(rng.normal(size=(5, 3))), jnp.array([0, 1, 1, 0, 1]), direction


@pytest.mark.parametrize("function", [hessian_vector_product, gauss_newton_vector_product, taylor])
def test_direction_of_another_shape_is_a_value_error_of_one_line(function, small):
    mlp, params, x, t, direction = small
    name = "step" if function is taylor else "direction"
    transposed = tuple(Layer(w.T, b) for w, b in direction)
    for wrong in (direction[:1], transposed, direction[0], (Layer(direction[0].w, 0.0), direction[1])):
        with pytest.raises(ValueError, match=rf"^{name} must be shaped like the parameters, .*, got .*\)$"):
            function(mlp, params, x, t, wrong)


@pytest.mark.parametrize("function", [hessian_vector_product, gauss_newton_vector_product, taylor])
def test_x_that_is_not_a_batch_is_a_value_error_of_one_line(function, small):
    mlp, params, x, t, direction = small
    with pytest.raises(ValueError, match=r"^x must be a batch of shape \[B, 3\], got \(3,\)$"):
        function(mlp, params, x[0], t[0], direction)
    with pytest.raises(ValueError, match=r"^x must be one example of shape \(3,\), got \(2,\); batch with jax\.vmap"):
        function(mlp, params, x[:, :2], t, direction)


# ----- what eq. (1) promises -----


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mlp", [MLP((3, 4, 2), "tanh"), MLP((3, 4, 2), "silu", "sigmoid", "quadratic")], ids=repr)
def test_errors_of_first_and_second_order_fall_as_the_square_and_the_cube_of_the_step(mlp):
    params, x, t, u, _ = batch(mlp, 5)
    h = np.geomspace(1e-4, 1e-2, 9)
    steps = jax.tree.map(lambda leaf: jnp.asarray(h).reshape(-1, *[1] * leaf.ndim) * leaf, u)
    before, first_order, second_order, actual = jax.jit(jax.vmap(partial(taylor, mlp, params, x, t)))(steps)
    np.testing.assert_allclose(before, mean_loss(mlp, x, t, params), rtol=1e-14)  # sums of 5 numbers
    for order, promise in ((2, first_order), (3, second_order)):
        slopes = np.diff(np.log(np.abs(np.asarray(actual - promise)))) / np.diff(np.log(h))
        # The next order changes a slope by about h (below 0.01), times a ratio of derivatives of order 1; rounding,
        # 1e-16 of a loss of order 1 in errors of at least 1e-13, by 1e-3 / log(h'/h).
        np.testing.assert_allclose(slopes, order, rtol=0, atol=0.1)


@pytest.mark.usefixtures("x64")
def test_second_order_is_exact_for_a_quadratic_and_first_order_leaves_half_of_the_curvature_out():
    mlp = MLP((3, 2), output="identity", loss="quadratic")
    params, x, t, u, _ = batch(mlp, 5)
    found = taylor(mlp, params, x, t, u)
    np.testing.assert_allclose(found.second_order, found.actual, rtol=1e-14)  # 5 examples of some 10 roundings
    half = inner(u, hessian_product_by_autodiff(mlp, params, x, t, u)) / 2
    np.testing.assert_allclose(found.actual - found.first_order, half, rtol=1e-13)  # the same, less what cancels
    np.testing.assert_allclose(found.actual, mean_loss(mlp, x, t, jax.tree.map(jnp.add, params, u)), rtol=1e-14)
