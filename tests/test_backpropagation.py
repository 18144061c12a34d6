"""The hand-written backward pass against autodiff in float64, central differences and a second framework.

Every activation as a hidden layer, with every loss and output that make sense together: 130 networks, each run on
one batch of examples that differ in weights too. Nothing is compiled for those (a program each would take a
minute): JAX runs them operation by operation, under `vmap`, and all layers are as wide so that it compiles few
operations. Other depths and widths have a test of their own.
"""

from functools import cache, partial
from itertools import pairwise, product

import autograd
import autograd.numpy as anp
import autograd.scipy.special as autograd_special
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.backpropagation import backprop, loss_and_gradient, mean_gradient, outer
from jaxmlp.losses import LOSSES
from jaxmlp.network import MLP, Layer, forward, init, loss

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

HIDDEN = [name for name in ACTIVATIONS if ACTIVATIONS[name].derivative is not None]
PAIRS = [(name, output) for name, entry in LOSSES.items() for output in entry.outputs]
EVERY_COMBINATION = pytest.mark.parametrize(
    "mlp",
    [MLP((6, 6, 6), hidden, output, name) for hidden, (name, output) in product(HIDDEN, PAIRS)],
    ids=lambda mlp: f"{mlp.activation}-{mlp.output}-{mlp.loss}",
)

# Every activation as a hidden layer, and every pair, once.
ONE_EACH = [MLP((6, 6, 6), hidden) for hidden in HIDDEN] + [MLP((6, 6, 6), "tanh", o, name) for name, o in PAIRS]
ONE_EACH_OF_ALL = pytest.mark.parametrize("mlp", ONE_EACH, ids=lambda mlp: f"{mlp.activation}-{mlp.output}-{mlp.loss}")

# Examples of one batch, each with weights of its own, by what is special about them.
KINDS = {"random": slice(0, 8), "zero": slice(8, 10), "equal": slice(10, 12), "large": slice(12, 16)}
N = 16


@cache
def examples(sizes: tuple[int, ...], kind_of_target: str, seed: int = 0) -> tuple:
    """Draw params, x and t, each with an axis of N examples in front, in float32, so that every type holds them.

    zero: all weights and biases are 0, so that every z is exactly 0, where relu and its like have their kink.
    equal: all inputs and all weights of a layer are equal, so that the outputs tie. large: weights, in the last two
    examples inputs, 30 times (1000 times) as large, so that activations saturate.
    """
    rng = np.random.default_rng([seed, *sizes])
    x = rng.normal(size=(N, sizes[0]))
    x[KINDS["equal"]] = 0.7
    x[14:] *= 1000
    params = []
    for n_in, n_out in pairwise(sizes):
        w = rng.normal(size=(N, n_out, n_in)) * (1.5 / np.sqrt(n_in))
        b = 0.3 * rng.normal(size=(N, n_out))
        w[KINDS["zero"]], b[KINDS["zero"]] = 0, 0
        w[KINDS["equal"]], b[KINDS["equal"]] = 0.4 / n_in, -0.1
        w[12:14] *= 30
        params.append(Layer(w.astype(np.float32), b.astype(np.float32)))
    labels = np.eye(sizes[-1])[rng.integers(0, sizes[-1], N)]
    soft = np.round(rng.uniform(size=(N, sizes[-1])) * 16) / 16
    if kind_of_target == "cross_entropy":  # of sum 1, exactly
        soft = 0.25 * labels + 0.75 * np.eye(sizes[-1])[rng.integers(0, sizes[-1], N)]
    t = np.where(np.arange(N)[:, None] % 2, labels, soft)
    return tuple(params), x.astype(np.float32), t.astype(np.float32)


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def batch_of(mlp: MLP, dtype: str = "float64", seed: int = 0) -> tuple:
    params, x, t = examples(mlp.sizes, mlp.loss, seed)
    if mlp.output == "exp":  # does not saturate, but leaves all numbers: keep its |z| below 2
        z = jax.vmap(partial(forward, mlp))(params, x).z[-1]
        shrink = 2 / np.maximum(2, np.abs(np.asarray(z, np.float64)).max(1))
        last = Layer(*((leaf.T * shrink).T.astype(np.float32) for leaf in params[-1]))
        params = (*params[:-1], last)
    return cast((params, x, t), dtype)


def by_hand(mlp: MLP, params, x, t):
    return jax.vmap(lambda p, x, t: outer(backprop(mlp, p, x, t).factors))(params, x, t)


def by_autodiff(mlp: MLP, params, x, t):
    return jax.vmap(jax.grad(partial(loss, mlp)))(params, x, t)


def norms(leaf):
    """Return each example's norm: [N]."""
    return jnp.sqrt((leaf.reshape(len(leaf), -1) ** 2).sum(1))


def sizes_of_terms(mlp: MLP, params, x, t) -> tuple[tuple[Layer, ...], jax.Array]:
    """Bound the terms that a leaf of the gradient is summed up from: norms, [N], a leaf; and the largest |z|, [N].

    Rounding errors are relative to these and not to the gradient, which may be a small difference of them: y - t at a
    right answer; a product with w^T whose terms cancel; or, from |z| = 3 on, phi', which autodiff of tanh
    takes as 1 - y^2, a difference from 1. (Ours does not cancel; the tails are held to mpmath elsewhere.)
    """
    z, y = jax.vmap(partial(forward, mlp))(params, x)

    def through(name, z, y, g):
        if name == "softmax":
            return y * (g + (y * g).sum(1, keepdims=True))
        if name == "exp":
            return g * y
        return g * jnp.maximum(jnp.abs(ACTIVATIONS[name].derivative(z)), jnp.abs(z) > 3)

    delta = jnp.abs(y[-1]) + jnp.abs(t)
    if mlp.loss == "quadratic":
        delta = through(mlp.output, z[-1], y[-1], delta)
    deltas = [delta]
    for layer in reversed(range(len(params) - 1)):
        g = jnp.einsum("nji,nj->ni", jnp.abs(params[layer + 1].w), deltas[-1])
        deltas.append(through(mlp.activations[layer], z[layer], y[layer + 1], g))
    scales = tuple(
        Layer(norms(delta) * norms(y_in), norms(delta)) for delta, y_in in zip(reversed(deltas), y[:-1], strict=True)
    )
    return scales, jnp.max(jnp.stack([jnp.abs(one).max(1) for one in z]), axis=0)


def by_hand_by_autodiff_and_terms(mlp: MLP, params, x, t) -> tuple:
    batch = params, x, t
    return by_hand(mlp, *batch), by_autodiff(mlp, *batch), sizes_of_terms(mlp, *batch)


@cache
def in_float64(mlp: MLP) -> tuple:
    """Compute once what four tests of a combination need."""
    return by_hand_by_autodiff_and_terms(mlp, *batch_of(mlp))


def assert_agree(ours, theirs, terms) -> None:
    """Hold every leaf of every example's gradient to 1e-12 of its terms.

    1e-12 is 4,500 eps: sums of up to 64 terms, up to 5 layers there and back. Two ways of summing up z differ by
    about eps |z|, and by that much exp(z) relatively: hence the factor for large z. What underflows is let go.
    """
    scales, largest_z = terms
    allowed = 1e-12 * np.maximum(1, largest_z)
    tiny = float(np.finfo(np.float64).tiny)
    for number, leaves in enumerate(zip(ours, theirs, scales, strict=True)):
        for name, our, their, scale in zip("wb", *leaves, strict=True):
            excess = np.asarray(norms(our - their)) / (allowed * scale + tiny)
            assert np.all(excess <= 1), f"{name} of layer {number + 1}: {excess} times the bound"


@pytest.mark.usefixtures("x64")
@EVERY_COMBINATION
def test_gradient_matches_autodiff(mlp):
    assert_agree(*in_float64(mlp))


def drawn_networks(n: int) -> list[MLP]:
    """Networks of depth 1 to 5 and width 1 to 64, a hidden activation for each layer, every pair of loss and output."""
    rng = np.random.default_rng(5)
    networks = []
    for number in range(n):
        name, output = PAIRS[number % len(PAIRS)]
        depth = 1 + number % 5
        sizes = tuple(int(2**power) for power in rng.uniform(0, 6.1, depth + 1))
        networks.append(MLP(sizes, tuple(rng.choice(HIDDEN, depth - 1).tolist()), output, name))
    extremes = [MLP((1, 1, 1, 1), "tanh"), MLP((64, 1, 64, 1), "gelu", "identity", "quadratic")]
    return networks + extremes


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "mlp", drawn_networks(5), ids=lambda mlp: f"{mlp.sizes}-{'-'.join(mlp.activations)}-{mlp.loss}"
)
def test_gradient_matches_autodiff_at_every_depth_and_width(mlp):
    compiled = jax.jit(by_hand_by_autodiff_and_terms, static_argnums=0)
    assert_agree(*compiled(mlp, *batch_of(mlp)))


@pytest.mark.usefixtures("x64")
@EVERY_COMBINATION
def test_gradient_matches_central_differences(mlp):
    params, x, t = jax.tree.map(lambda leaf: leaf[KINDS["random"]], batch_of(mlp))
    rng = np.random.default_rng(6)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape[1:])), params)
    length = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(direction)))
    direction = jax.tree.map(lambda leaf: leaf / length, direction)

    # L at p - 2h v, p - h v, p + h v, p + 2h v, in one go.
    h = 2.0**-16
    steps = h * jnp.array([-2.0, -1.0, 1.0, 2.0])
    moved = jax.tree.map(lambda leaf, v: leaf[None] + steps.reshape(4, *[1] * leaf.ndim) * v, params, direction)
    values = np.asarray(jax.vmap(lambda p: jax.vmap(partial(loss, mlp))(p, x, t))(moved))
    wide, narrow = (values[3] - values[0]) / (4 * h), (values[2] - values[1]) / (2 * h)
    ours = sum(
        np.asarray((g[KINDS["random"]] * v).reshape(len(x), -1).sum(1))
        for g, v in zip(jax.tree.leaves(in_float64(mlp)[0]), jax.tree.leaves(direction), strict=True)
    )
    # Truncation: h^2/6 L''' for `narrow`, four times that for `wide`, so a third of their difference; allow all of it.
    # Rounding: L comes out of some 100 operations, wrong by at most 50 eps of it (or of 1, its terms), over h.
    rounding = 50 * 2.0**-52 * np.maximum(np.abs(values).max(0), 1) / h
    np.testing.assert_array_less(np.abs(narrow - ours), np.abs(wide - narrow) + rounding)


# ----- the same networks, written once more for HIPS autograd -----

FORWARD = {
    "identity": lambda z: z,
    "sigmoid": autograd_special.expit,
    "tanh": lambda z: 2 * autograd_special.expit(2 * z) - 1,  # its own tanh overflows at large z
    "relu": lambda z: anp.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: anp.where(z >= 0, z, 0.01 * z),
    "elu": lambda z: anp.where(z > 0, z, anp.expm1(anp.where(z > 0, 0.0, z))),
    "softplus": lambda z: anp.logaddexp(0.0, z),
    "silu": lambda z: z * autograd_special.expit(z),
    "gelu": lambda z: z * autograd_special.expit(anp.sqrt(8 / anp.pi) * (z + 0.044715 * z**3)),
    "gelu_exact": lambda z: 0.5 * z * (1 + autograd_special.erf(z / anp.sqrt(2.0))),
    "exp": anp.exp,
    "softmax": lambda z: anp.exp(z - autograd_special.logsumexp(z, axis=-1, keepdims=True)),
}
LOSS_OF_Z = {
    "quadratic": lambda z, y, t: 0.5 * anp.sum((y - t) ** 2),
    "cross_entropy": lambda z, y, t: -anp.sum(t * (z - autograd_special.logsumexp(z, axis=-1, keepdims=True))),
    "binary_cross_entropy": lambda z, y, t: anp.sum(t * anp.logaddexp(0.0, -z) + (1 - t) * anp.logaddexp(0.0, z)),
    "poisson": lambda z, y, t: anp.sum(y - t * z),  # and a term of t alone
}


def by_second_framework(mlp: MLP, params, x, t) -> list:
    """Differentiate the sum of all examples' losses: each has weights of its own, and so its own gradient."""

    def total(params):
        y = x
        for (w, b), name in zip(params, mlp.activations, strict=True):
            z = anp.matmul(w, y[:, :, None])[:, :, 0] + b
            y = FORWARD[name](z)
        return LOSS_OF_Z[mlp.loss](z, y, t)

    return autograd.grad(total)([[np.asarray(w), np.asarray(b)] for w, b in params])


@pytest.mark.usefixtures("x64")
@EVERY_COMBINATION
def test_gradient_matches_a_second_framework(mlp):
    batch = batch_of(mlp)
    theirs = by_second_framework(mlp, batch[0], np.asarray(batch[1]), np.asarray(batch[2]))
    ours, _, terms = in_float64(mlp)
    assert_agree(ours, theirs, terms)


def test_every_entry_of_the_tables_is_written_once_more_here():
    assert set(FORWARD) == set(ACTIVATIONS)
    assert set(LOSS_OF_Z) == set(LOSSES)


# ----- float32 and bfloat16 -----


def assert_no_worse_than_autodiff(mlp: MLP, ours, theirs, dtype: str) -> None:
    _, truth, (terms, _) = in_float64(mlp)
    eps = float(jnp.finfo(dtype).eps)
    for number, leaves in enumerate(zip(*map(jax.tree.leaves, (ours, theirs, truth, terms)), strict=True)):
        our, their, exact, scale = leaves
        assert our.dtype == dtype
        assert np.isfinite(np.asarray(our, np.float64)).all()  # of the large examples too
        relative = [norms(g.astype(float) - exact) / jnp.where(scale > 0, scale, 1) for g in (our, their)]
        for kind in ("random", "zero", "equal"):
            # Both share the forward pass and its errors, and differ by luck in those of the way back: taken over
            # the examples that is less than a factor of 2, and a few roundings where both are all but exact.
            of_ours, of_theirs = (np.sqrt(np.mean(np.asarray(error)[KINDS[kind]] ** 2)) for error in relative)
            assert of_ours <= 2 * of_theirs + 4 * eps, f"leaf {number}, {kind} examples"


@pytest.mark.usefixtures("x64")
@ONE_EACH_OF_ALL
def test_float32_gradient_is_at_most_twice_as_far_off_as_autodiff(mlp):
    batch = batch_of(mlp, "float32")
    assert_no_worse_than_autodiff(mlp, by_hand(mlp, *batch), by_autodiff(mlp, *batch), "float32")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("hidden", HIDDEN)
def test_bfloat16_gradient_is_at_most_twice_as_far_off_as_autodiff(hidden):
    mlp = MLP((6, 6, 6), hidden)
    compiled = jax.jit(lambda *batch: (by_hand(mlp, *batch), by_autodiff(mlp, *batch)))
    assert_no_worse_than_autodiff(mlp, *compiled(*batch_of(mlp, "bfloat16")), "bfloat16")


# ----- under the transformations of JAX -----


@pytest.mark.usefixtures("x64")
@ONE_EACH_OF_ALL
def test_autodiff_of_delta_is_the_second_derivative_of_the_loss(mlp):
    params, x, t = batch_of(mlp)
    rng = np.random.default_rng(7)
    # H c for a direction c in the biases: as their gradient is delta, it is also the gradient of <c, delta>.
    c = [jnp.asarray(rng.normal(size=b.shape[1:])) for _, b in params]

    def through_delta(params, x, t):
        def inner(params):
            factors = backprop(mlp, params, x, t).factors
            return sum(direction @ delta for direction, (delta, _) in zip(c, factors, strict=True))

        return jax.grad(inner)(params)

    def through_loss(params, x, t):
        direction = tuple(Layer(jnp.zeros_like(w), v) for (w, _), v in zip(params, c, strict=True))
        return jax.jvp(lambda p: jax.grad(partial(loss, mlp))(p, x, t), (params,), (direction,))[1]

    ours, theirs = (jax.vmap(f)(params, x, t) for f in (through_delta, through_loss))
    # 1e-12 of the largest terms: products of c, of weights, of inputs and of derivatives, all of order 1 (but for
    # the large examples, which are left out).
    size = sum(norms(leaf) for leaf in jax.tree.leaves(theirs)) + sum(float(jnp.linalg.norm(v)) for v in c)
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        excess = np.asarray(norms(our - their) / (1e-12 * size))[: KINDS["large"].start]
        assert np.all(excess <= 1), f"{excess} times the bound"


@pytest.mark.usefixtures("x64")
def test_autodiff_of_the_loss_that_backprop_returns_is_its_own_gradient():
    mlp = MLP((6, 6, 6), "tanh")
    batch = batch_of(mlp)
    theirs = jax.vmap(jax.grad(lambda p, x, t: backprop(mlp, p, x, t).loss))(*batch)
    assert_agree(by_hand(mlp, *batch), theirs, sizes_of_terms(mlp, *batch))


@pytest.fixture
def one_batch() -> tuple:
    """One network and a batch of examples that share its weights, in JAX's default float."""
    mlp = MLP((6, 6, 6), "tanh")
    params, x, _ = batch_of(mlp, jnp.result_type(float))
    return mlp, jax.tree.map(lambda leaf: leaf[0], params), x[:8], jnp.arange(8) % 6


def assert_same(ours, theirs, relative: float) -> None:
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=relative * max(1.0, np.abs(their).max()))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", ["jit", "vmap", "scan"])
def test_backprop_gives_the_same_under(transform, one_batch):
    mlp, params, x, t = one_batch
    f = partial(backprop, mlp, params)
    x, t = x[:3], t[:3]
    one_by_one = [f(x[i], t[i]) for i in range(3)]
    plain = jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one)
    if transform == "jit":
        compiled = jax.jit(backprop, static_argnums=0)
        pieces = [compiled(mlp, params, x[i], t[i]) for i in range(3)]
        same = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pieces)
    elif transform == "vmap":
        same = jax.vmap(f)(x, t)
    else:
        _, same = jax.lax.scan(lambda carry, example: (carry, f(*example)), None, (x, t))
    assert_same(same, plain, 1e-14)  # compiled sums run in another order: some 10 eps of the largest number


@pytest.mark.parametrize("precision", ["highest", "float32"])
def test_backprop_matches_float64_under_matmul_precision(precision, one_batch):
    mlp, params, x, t = one_batch
    compiled = jax.jit(jax.vmap(partial(backprop, mlp), (None, 0, 0)))
    with jax.enable_x64(True):
        truth = compiled(cast(params, "float64"), cast(x, "float64"), t)
    with jax.default_matmul_precision(precision):
        ours = compiled(params, x, t)
    assert_same(ours, truth, 32 * 2.0**-23)  # sums of 7 terms, 2 layers there and back


# ----- gradients of batches -----


@pytest.mark.usefixtures("x64")
def test_gradient_is_the_mean_of_the_outer_products(one_batch):
    mlp, params, x, t = one_batch
    factors = jax.vmap(partial(backprop, mlp, params))(x, t).factors
    mean = jax.tree.map(lambda leaf: leaf.mean(0), jax.vmap(outer)(factors))
    assert_same(mean_gradient(factors), mean, 1e-14)  # 8 terms each


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "output"), [("quadratic", "gelu"), *PAIRS[-2:]])
def test_loss_and_gradient_is_autodiff_of_the_mean_loss(name, output):
    mlp = MLP((6, 6, 6), "tanh", output, name)
    params, x, t = batch_of(mlp)
    params, x, t = jax.tree.map(lambda leaf: leaf[0], params), x[:8], t[:8]

    def mean_loss(params):
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    @jax.jit
    def both(params):
        return loss_and_gradient(mlp, params, x, t), jax.value_and_grad(mean_loss)(params)

    ours, theirs = both(params)
    assert_same(ours, theirs, 1e-13)  # 450 eps: 8 examples of some 50 roundings


@pytest.mark.usefixtures("x64")
def test_one_factor_is_the_gradient_of_the_bias_and_the_other_the_layers_input(one_batch):
    mlp, params, x, t = one_batch
    _, y = forward(mlp, params, x[0])
    result = backprop(mlp, params, x[0], t[0])
    for ours, expected in zip(result.factors, y[:-1], strict=True):
        np.testing.assert_array_equal(ours.y_in, expected)
    np.testing.assert_array_equal(result.y, y[-1])
    np.testing.assert_array_equal(result.loss, loss(mlp, params, x[0], t[0]))
    for (_, b), (delta, _) in zip(outer(result.factors), result.factors, strict=True):
        np.testing.assert_array_equal(b, delta)


@pytest.mark.usefixtures("x64")
def test_quadratic_loss_with_sigmoid_is_equation_5(one_batch):
    _, params, x, _ = one_batch
    mlp = MLP((6, 6, 6), "tanh", "sigmoid", "quadratic")
    t = jnp.array([0.0, 1.0, 0.25, 0.5, 0.75, 1.0])
    _, y, factors = backprop(mlp, params, x[0], t)
    np.testing.assert_allclose(factors[-1].delta, (y - t) * (1 - y) * y, rtol=1e-14)  # z of order 1: few roundings


@pytest.mark.parametrize(("x", "t"), [(jnp.ones((2, 6)), 0), (jnp.ones(6), jnp.zeros((2, 6))), (jnp.ones(4), 0)])
def test_anything_but_one_example_is_a_value_error_of_one_line(x, t, one_batch):
    mlp, params, _, _ = one_batch
    with pytest.raises(ValueError, match=r"^[xt] must be one example.*batch with jax\.vmap$"):
        backprop(mlp, params, x, t)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("given", ["uint8", "float64", "int32"])
def test_factors_have_the_dtype_of_the_parameters_whatever_the_input_is(dtype, given):
    # Squares of uint8 wrap: every statistic of the factors would be wrong without a word.
    mlp = MLP((3, 2))
    x = np.array([200, 0, 255]).astype(given)
    factors = backprop(mlp, init(mlp, jax.random.key(0), dtype=dtype), x, 1).factors
    assert [array.dtype for pair in factors for array in pair] == [jnp.dtype(dtype)] * 2
    np.testing.assert_array_equal(np.asarray(factors[0].y_in, np.float32), x)


def test_one_example_is_not_a_batch_even_if_all_layers_are_equally_wide():
    mlp = MLP((3, 3, 3))
    params = init(mlp, jax.random.key(0))
    factors = backprop(mlp, params, jnp.ones(3), 1).factors
    with pytest.raises(ValueError, match=r"^factors must be those of a batch, .* got shapes \[\(\(3,\), \(3,\)\), "):
        mean_gradient(factors)
    batch = jax.tree.map(lambda factor: factor[None], factors)
    with pytest.raises(ValueError, match=r"^factors must be those of one example, got shapes \[\(1, 3\), .*jax.vmap$"):
        outer(batch)
    for mean, own in zip(jax.tree.leaves(mean_gradient(batch)), jax.tree.leaves(outer(factors)), strict=True):
        assert jnp.array_equal(mean, own)  # a batch of one has its mean gradient
