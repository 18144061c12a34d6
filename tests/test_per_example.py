"""What factors tell of every example's gradient, against the gradients themselves.

Truth is every single gradient, by autodiff in float64, and NumPy that follows the definition of each statistic. One
table, `STATISTICS`, holds every function of the module beside that definition; a function added there goes through all
that is asked here. Networks are run operation by operation and all layers are as wide, so that JAX compiles few
operations; the properties, which need many batches of one shape, share one compiled program a shape.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxmlp import per_example
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.backpropagation import Factors, backprop, mean_gradient
from jaxmlp.losses import LOSSES
from jaxmlp.network import MLP, Layer, forward, loss
from jaxmlp.per_example import Clipped, Kronecker, Moments, NoiseScale

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

HIDDEN = [name for name in ACTIVATIONS if ACTIVATIONS[name].derivative is not None]
PAIRS = [(name, output) for name, entry in LOSSES.items() for output in entry.outputs]


class Batch(NamedTuple):
    """What the functions under test are given: factors of one batch and of another, and their other arguments."""

    factors: tuple[Factors, ...]
    other: tuple[Factors, ...]
    weights: Any  # [B]
    direction: tuple[Layer, ...]
    max_norm: Any  # some gradients are longer
    max_norms: Any  # [L]


class Truth(NamedTuple):
    """The same in float64 NumPy, with gradients in the place of factors: L layers of w: [B, n_l, n_{l-1}], b: [B, n_l].

    And what K-FAC is defined by: delta, which is the gradient by the bias, and the layers' inputs from `forward`.
    """

    gradients: tuple[Layer, ...]
    other: tuple[Layer, ...]
    y_in: tuple[np.ndarray, ...]
    weights: np.ndarray
    direction: tuple[Layer, ...]
    max_norm: np.ndarray
    max_norms: np.ndarray


class Statistic(NamedTuple):
    """A function of the module; its definition; and, where an error is not relative to the result, the size it is to.

    `naive` gives the same tree. `terms` gives, leaf by leaf, the size of what is added up to the result: rounding is
    relative to that, and not to a sum in which the terms may cancel. Otherwise it is the norm of the leaf.
    """

    ours: Callable[[Batch], Any]
    naive: Callable[[Truth], Any]
    terms: Callable[[Truth], list] = lambda truth: []


# ----- the definitions, written naively -----


def rows(layers) -> np.ndarray:
    """Bring gradients to one row an example: [B, number of parameters]."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for layer in layers for leaf in layer], axis=1)


def length(array) -> float:
    return float(np.linalg.norm(array))


def weigh(layers, weights):
    """Sum up every leaf's gradients, the weights one list for all layers or one list a layer."""
    by_layer = weights if np.ndim(weights) == 2 else [weights] * len(layers)
    return tuple(
        Layer(*(sum(c * g for c, g in zip(each, leaf, strict=True)) for leaf in layer))
        for layer, each in zip(layers, by_layer, strict=True)
    )


def weighed_terms(layers, weights) -> list[float]:
    return [sum(abs(c) * length(g) for c, g in zip(weights, leaf, strict=True)) for layer in layers for leaf in layer]


def lengths_by_layer(truth: Truth) -> np.ndarray:
    return np.array([[length(row) for row in rows([layer])] for layer in truth.gradients])


def lengths(truth: Truth) -> np.ndarray:
    return np.array([length(row) for row in rows(truth.gradients)])


def over_the_batch(statistic: Callable, truth: Truth) -> tuple[Layer, ...]:
    return tuple(Layer(*(statistic(leaf, axis=0) for leaf in layer)) for layer in truth.gradients)


def clipped_naively(truth: Truth, limit, by_layer: bool) -> Clipped:
    size = lengths_by_layer(truth) if by_layer else lengths(truth)
    limit = np.broadcast_to(np.reshape(limit, (-1, 1) if by_layer else ()), size.shape)
    factor = np.array([min(1, c / g) if g > 0 else 1 for c, g in zip(limit.flat, size.flat, strict=True)])
    mean = weigh(truth.gradients, factor.reshape(size.shape) / size.shape[-1])
    return Clipped(mean, (size > limit).sum(-1))


def clipped_terms(truth: Truth) -> list[float]:
    # No clipped gradient is longer than it was; of the count, which is to be right, an error of 1e-12 is none.
    size = lengths(truth)
    return [*weighed_terms(truth.gradients, np.full(size.shape, 1 / size.size)), 1]


def angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    sizes = np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    return np.divide(one @ other.T, sizes, out=np.zeros(sizes.shape), where=sizes > 0)


def noise_scale_naively(truth: Truth) -> NoiseScale:
    """McCandlish et al. 2018, appendix A.1, of |g|^2 for batches of 1 and of B."""
    small, large, n = noise_scale_parts(truth)
    squared_norm = (n * large - small) / (n - 1)
    trace = (small - large) / (1 - 1 / n)
    return NoiseScale(trace / squared_norm if squared_norm > 0 else np.inf, trace, squared_norm)


def noise_scale_parts(truth: Truth) -> tuple:
    g = rows(truth.gradients)
    return (g**2).sum(1).mean(), (g.mean(0) ** 2).sum(), len(g)


def noise_scale_terms(truth: Truth) -> list:
    small = noise_scale_parts(truth)[0]
    ratio, trace, squared_norm = noise_scale_naively(truth)
    return [ratio * (small / trace + small / abs(squared_norm)), small, small]


def kronecker_naively(truth: Truth) -> tuple[Kronecker, ...]:
    with_one = [np.hstack([y, np.ones((len(y), 1))]) for y in truth.y_in]
    pairs = [(layer.b, y) for layer, y in zip(truth.gradients, with_one, strict=True)]
    return tuple(
        Kronecker(*(np.mean([np.outer(row, row) for row in array], axis=0) for array in pair)) for pair in pairs
    )


def diversity_naively(truth: Truth) -> float:
    g = rows(truth.gradients)
    return (g**2).sum() / (g.sum(0) ** 2).sum()


def diversity_terms(truth: Truth) -> list:
    # The sum below the line, squared, is off by 1e-12 of all the gradients' lengths.
    return [diversity_naively(truth) * lengths(truth).sum() / length(rows(truth.gradients).sum(0))]


STATISTICS: dict[str, Statistic] = {
    "gradients": Statistic(lambda b: per_example.gradients(b.factors), lambda t: t.gradients),
    "norms": Statistic(lambda b: per_example.norms(b.factors), lengths),
    "norms by layer": Statistic(lambda b: per_example.norms(b.factors, by_layer=True), lengths_by_layer),
    "weighted_sum": Statistic(
        lambda b: per_example.weighted_sum(b.factors, b.weights),
        lambda t: weigh(t.gradients, t.weights),
        lambda t: weighed_terms(t.gradients, t.weights),
    ),
    "weighted_mean": Statistic(
        lambda b: per_example.weighted_mean(b.factors, b.weights),
        lambda t: weigh(t.gradients, t.weights / len(t.weights)),
        lambda t: weighed_terms(t.gradients, t.weights / len(t.weights)),
    ),
    "clipped_mean": Statistic(
        lambda b: per_example.clipped_mean(b.factors, b.max_norm),
        lambda t: clipped_naively(t, t.max_norm, by_layer=False),
        clipped_terms,
    ),
    "clipped_mean by layer": Statistic(
        lambda b: per_example.clipped_mean(b.factors, b.max_norm, by_layer=True),
        lambda t: clipped_naively(t, t.max_norm, by_layer=True),
        clipped_terms,
    ),
    "clipped_mean to a norm a layer": Statistic(
        lambda b: per_example.clipped_mean(b.factors, b.max_norms, by_layer=True),
        lambda t: clipped_naively(t, t.max_norms, by_layer=True),
        clipped_terms,
    ),
    "variance": Statistic(
        lambda b: per_example.variance(b.factors),
        lambda t: over_the_batch(np.var, t),
        lambda t: [length((leaf**2).mean(0)) for layer in t.gradients for leaf in layer],
    ),
    "mean_and_variance": Statistic(
        lambda b: per_example.mean_and_variance(b.factors),
        lambda t: Moments(over_the_batch(np.mean, t), over_the_batch(np.var, t)),
        lambda t: [length((abs(leaf) ** power).mean(0)) for power in (1, 2) for layer in t.gradients for leaf in layer],
    ),
    "gram": Statistic(
        lambda b: per_example.gram(b.factors),
        lambda t: rows(t.gradients) @ rows(t.gradients).T,
    ),
    "gram of two batches": Statistic(
        lambda b: per_example.gram(b.factors, b.other),
        lambda t: rows(t.gradients) @ rows(t.other).T,
        lambda t: [length(rows(t.gradients)) * length(rows(t.other))],
    ),
    "cosines": Statistic(
        lambda b: per_example.cosines(b.factors),
        lambda t: angles(rows(t.gradients), rows(t.gradients)),
    ),
    "cosines of two batches": Statistic(
        lambda b: per_example.cosines(b.factors, b.other),
        lambda t: angles(rows(t.gradients), rows(t.other)),
        lambda t: [1],
    ),
    "dots": Statistic(
        lambda b: per_example.dots(b.factors, b.direction),
        lambda t: rows(t.gradients) @ np.concatenate([leaf.ravel() for layer in t.direction for leaf in layer]),
        lambda t: [length(rows(t.gradients)) * sum(length(leaf) for layer in t.direction for leaf in layer)],
    ),
    "noise_scale": Statistic(lambda b: per_example.noise_scale(b.factors), noise_scale_naively, noise_scale_terms),
    "kronecker": Statistic(lambda b: per_example.kronecker(b.factors), kronecker_naively),
    "diversity": Statistic(lambda b: per_example.diversity(b.factors), diversity_naively, diversity_terms),
}
EVERY_STATISTIC = pytest.mark.parametrize("name", STATISTICS)


def test_every_function_of_the_module_is_in_the_table():
    # clipping_weights takes norms, no factors: it has tests of its own.
    functions = {name for name in per_example.__all__ if name[0].islower()} - {"clipping_weights"}
    assert {name.split()[0] for name in STATISTICS} == functions


def assert_is_naive(name: str, ours, truth: Truth) -> None:
    """Hold every leaf to 1e-12 of its terms.

    1e-12 is 4,500 eps: sums of up to 200 terms, of gradients that come out of up to 3 layers there and back, in NumPy
    and here.
    """
    naive = STATISTICS[name].naive(truth)
    assert jax.tree.structure(ours) == jax.tree.structure(naive)
    leaves = jax.tree.leaves(naive)
    sizes = STATISTICS[name].terms(truth) or [length(leaf) for leaf in leaves]
    for our, their, size in zip(jax.tree.leaves(ours), leaves, sizes, strict=True):
        assert our.shape == np.shape(their)
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-12 * size if np.isfinite(size) else 0, err_msg=name)


def middle(norms: np.ndarray) -> np.ndarray:
    """Return a norm halfway between the middle two, so that rounding does not change how many are longer."""
    ordered = np.sort(norms, axis=-1)
    half = norms.shape[-1] // 2
    return (ordered[..., half - 1] + ordered[..., half]) / 2


def arguments(sizes: tuple[int, ...], n: int) -> tuple:
    rng = np.random.default_rng([n, *sizes])
    direction = tuple(Layer(rng.normal(size=(o, i)), rng.normal(size=o)) for i, o in pairwise(sizes))
    return rng.normal(size=n), direction


def batch_and_truth(factors, other, gradients, other_gradients, y_in) -> tuple[Batch, Truth]:
    sizes = tuple(y.shape[1] for y in y_in) + gradients[-1].b.shape[1:]
    weights, direction = arguments(sizes, len(y_in[0]))
    truth = Truth(gradients, other_gradients, y_in, weights, direction, np.ones(()), np.ones(()))
    max_norm, max_norms = middle(lengths(truth)), middle(lengths_by_layer(truth))
    batch = Batch(factors, other, weights, direction, max_norm, max_norms)
    return batch, truth._replace(max_norm=max_norm, max_norms=max_norms)


# ----- truth -----

N, N_OTHER, WIDTH = 8, 5, 6

# Every pair of loss and output, every activation as a hidden layer, and every depth from 1 to 3.
_hidden = cycle(HIDDEN)
NETWORKS = [
    MLP((WIDTH,) * (2 + n % 3), tuple(next(_hidden) for _ in range(n % 3)), output, name)
    for n, (name, output) in enumerate(PAIRS)
]


def test_networks_are_of_every_activation_pair_and_depth():
    assert {name for mlp in NETWORKS for name in mlp.activations[:-1]} == set(HIDDEN)
    assert [(mlp.loss, mlp.output) for mlp in NETWORKS] == PAIRS
    assert {len(mlp.activations) for mlp in NETWORKS} == {1, 2, 3}


@cache
def network_batch(mlp: MLP) -> tuple[Batch, Truth]:
    """Compute once what all tests of a network need: its factors by hand, and its gradients by autodiff."""
    rng = np.random.default_rng(list(map(ord, mlp.output + mlp.loss)))
    params = tuple(
        Layer(jnp.asarray(rng.normal(size=(o, i)) * (1.5 / np.sqrt(i))), jnp.asarray(0.3 * rng.normal(size=o)))
        for i, o in pairwise(mlp.sizes)
    )
    x = jnp.asarray(rng.normal(size=(N + N_OTHER, WIDTH)))
    t = jnp.asarray(rng.dirichlet(np.ones(WIDTH), N + N_OTHER))  # positive and of sum 1: a target of every loss
    factors = jax.vmap(partial(backprop, mlp, params))(x, t).factors
    gradients = jax.vmap(jax.grad(partial(loss, mlp)), (None, 0, 0))(params, x, t)
    y = jax.vmap(partial(forward, mlp, params))(x).y
    factors, gradients, y_in = jax.tree.map(np.asarray, (factors, gradients, y[:-1]))
    here, there = (partial(jax.tree.map, lambda leaf, part=part: leaf[part]) for part in (slice(N), slice(N, None)))
    batch, truth = batch_and_truth(here(factors), there(factors), here(gradients), there(gradients), here(y_in))
    return jax.tree.map(jnp.asarray, batch), truth


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mlp", NETWORKS, ids=lambda mlp: f"{'-'.join(mlp.activations)}-{mlp.loss}")
@EVERY_STATISTIC
def test_statistic_matches_the_gradients_of_autodiff(name, mlp):
    batch, truth = network_batch(mlp)
    assert_is_naive(name, STATISTICS[name].ours(batch), truth)


# ----- under the transformations of JAX -----

# One network for most of what follows, so that there is little to compile: no two widths are alike, so that a wrong
# axis shows; B is a power of two, so that means are exact.
SIZES = (2, 3, 1)
B = 4


def everything(batch: Batch, names: tuple[str, ...] = tuple(STATISTICS)) -> dict[str, Any]:
    return {name: STATISTICS[name].ours(batch) for name in names}


compiled_everything = jax.jit(everything, static_argnums=1)
compiled_clipping = jax.jit(per_example.clipped_mean, static_argnames="by_layer")
compiled_norms = jax.jit(per_example.norms, static_argnames="by_layer")


def outer(factors) -> tuple[Layer, ...]:
    """Form the gradients of factors: `gradients`, naively."""
    return tuple(Layer(np.asarray(d)[:, :, None] * np.asarray(y)[:, None, :], np.asarray(d)) for d, y in factors)


def truth_of(factors, other) -> tuple[Batch, Truth]:
    return batch_and_truth(factors, other, outer(factors), outer(other), tuple(np.asarray(y) for _, y in factors))


def normal_factors(sizes: tuple[int, ...], n: int, seed: int = 0) -> tuple[Factors, ...]:
    rng = np.random.default_rng([seed, n, *sizes])
    return tuple(Factors(rng.normal(size=(n, o)), rng.normal(size=(n, i))) for i, o in pairwise(sizes))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", ["jit", "vmap in scan"])
def test_every_statistic_is_the_same_under(transform):
    several = [truth_of(normal_factors(SIZES, B, seed), normal_factors(SIZES, B, seed + 9)) for seed in range(4)]
    batches = [batch for batch, _ in several]
    if transform == "jit":  # max_norm is traced in both
        results = [compiled_everything(batch, tuple(STATISTICS)) for batch in batches]
    else:  # two steps, of two networks each
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 2, *np.shape(leaves[0])), *batches)
        steps = partial(jax.lax.scan, lambda carry, pair: (carry, jax.vmap(everything)(pair)), None)
        _, stacked = jax.jit(steps)(stacked)
        results = [jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[divmod(n, 2)], stacked) for n in range(4)]
    for result, (_, truth) in zip(results, several, strict=True):
        for name in STATISTICS:
            assert_is_naive(name, result[name], truth)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("by_layer", [False, True])
def test_clipping_norm_can_be_mapped_over(by_layer):
    factors = normal_factors(SIZES, B)
    limits = jnp.array([[0.1, 1.0], [10.0, jnp.inf]]) if by_layer else jnp.array([0.1, 1.0, 10.0, jnp.inf])
    clip = partial(compiled_clipping, by_layer=by_layer)
    mapped = jax.vmap(clip, (None, 0))(factors, limits)
    for n, limit in enumerate(limits):
        one = clip(factors, limit)
        # A batched product may add up its 4 terms in another order: some eps of numbers of order 1.
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[n], mapped), one, rtol=0, atol=1e-14
        )


@pytest.mark.usefixtures("x64")
def test_every_statistic_is_of_the_type_of_the_factors():
    batch, _ = truth_of(normal_factors(SIZES, B), normal_factors(SIZES, B))
    low = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), batch)
    # Weights and clipping norms often have a type of their own, which must not decide.
    low = low._replace(weights=batch.weights, max_norm=batch.max_norm, max_norms=batch.max_norms)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):  # as many users set them
        results = jax.eval_shape(everything, low)
    for name, result in results.items():
        counts = [result.n_clipped] if isinstance(result, Clipped) else []
        types = {leaf.dtype for leaf in jax.tree.leaves(result)} - {count.dtype for count in counts}
        assert types == {jnp.dtype("bfloat16")}, name


# ----- memory -----


def sizes_of_results(jaxpr: Jaxpr) -> list[int]:
    """List the number of elements of every intermediate value, also in programs within the program."""
    sizes = []
    for equation in jaxpr.eqns:
        sizes += [int(np.prod(variable.aval.shape)) for variable in equation.outvars]
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr))
        for program in inner:
            if isinstance(program, Jaxpr | ClosedJaxpr):
                sizes += sizes_of_results(program.jaxpr if isinstance(program, ClosedJaxpr) else program)
    return sizes


@EVERY_STATISTIC
def test_only_gradients_makes_a_value_as_large_as_all_gradients_of_a_layer(name):
    # 16 x 16 x 16 numbers are a layer's gradients; all else is of two of these axes, or a few more for the bias.
    n = 16
    factors = tuple(Factors(jnp.ones((n, n)), jnp.ones((n, n))) for _ in range(2))
    direction = tuple(Layer(jnp.ones((n, n)), jnp.ones(n)) for _ in range(2))
    batch = Batch(factors, factors, jnp.ones(n), direction, jnp.ones(()), jnp.ones(2))
    sizes = sizes_of_results(jax.make_jaxpr(STATISTICS[name].ours)(batch).jaxpr)
    if name == "gradients":
        assert max(sizes) == n**3
    else:
        assert max(sizes) <= (n + 1) ** 2


# ----- properties -----

PROPERTY = settings(
    max_examples=60,
    deadline=None,  # the first example compiles
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # of x64 there is nothing an example could change
)
EIGHTHS = st.integers(-32, 32)


@st.composite
def drawn_factors(draw, n: int = B) -> tuple[Factors, ...]:
    """Draw factors of eighths up to 4: sums of products of four such numbers are exact in float64.

    Rows, layers and all of delta are 0 in some.
    """
    factors = []
    for n_in, n_out in pairwise(SIZES):
        delta, y = (draw(hnp.arrays(np.int8, (n, width), elements=EIGHTHS)) / 8 for width in (n_out, n_in))
        alive = draw(st.sampled_from([np.ones(n), np.arange(n) % 2, np.arange(n) == 0, np.zeros(n)]))
        factors.append(Factors(delta * alive[:, None], y))
    return tuple(factors)


def argued(factors, max_norm: float = 2.0) -> Batch:
    """Give factors arguments of the right shapes and of their type: small whole numbers."""
    n, kind = factors[0].delta.shape[0], factors[0].delta.dtype
    direction = tuple(Layer(np.ones((d.shape[1], y.shape[1]), kind), np.ones(d.shape[1], kind)) for d, y in factors)
    limits = np.asarray(max_norm, kind), np.full(len(factors), max_norm, kind)
    return Batch(factors, factors, np.arange(-1, n - 1).astype(kind), direction, *limits)


def all_of(factors, max_norm: float = 2.0, names: tuple[str, ...] = tuple(STATISTICS)) -> dict[str, Any]:
    return jax.tree.map(np.asarray, compiled_everything(argued(factors, max_norm), names))


def scaled(factors, c: float):
    return tuple(Factors(delta * delta.dtype.type(c), y) for delta, y in factors)


DEGREES = {  # of each statistic in delta: what c times the gradients make of it, where the limits of clipping grow too
    "gradients": 1,
    "norms": 1,
    "norms by layer": 1,
    "weighted_sum": 1,
    "weighted_mean": 1,
    "clipped_mean": 1,
    "clipped_mean by layer": 1,
    "clipped_mean to a norm a layer": 1,
    "variance": 2,
    "gram": 2,
    "cosines": 0,
    "dots": 1,
    "diversity": 0,
}


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors(), power=st.integers(-200, 200), sign=st.sampled_from([-1, 1]))
def test_statistics_of_scaled_gradients_are_scaled(factors, power, sign):
    # A power of two rounds nothing, and squares of 2^200 are far from overflow: all of this is exact.
    c = sign * 2.0**power
    before, after = all_of(factors), all_of(scaled(factors, c), 2.0 * abs(c))
    odd = {"norms", "norms by layer"}
    for name, degree in DEGREES.items():
        factor = abs(c) if name in odd else c**degree
        one, other = (x[name].gradient if name.startswith("clipped") else x[name] for x in (before, after))
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf, factor=factor: factor * leaf, one), other)
        if name.startswith("clipped"):
            np.testing.assert_array_equal(before[name].n_clipped, after[name].n_clipped)
    ratio, trace, squared_norm = before["noise_scale"]
    chex.assert_trees_all_equal(NoiseScale(ratio, c**2 * trace, c**2 * squared_norm), after["noise_scale"])
    for one, other in zip(before["kronecker"], after["kronecker"], strict=True):
        chex.assert_trees_all_equal(Kronecker(c**2 * one.delta, one.y_in), other)


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors(), power=st.integers(-900, 900))
def test_ratios_and_norms_are_the_same_where_squares_overflow_or_underflow(factors, power):
    # In float64 a number of 2^600 has no square, nor has one of 2^-600. Exact, as above.
    before, after = all_of(factors), all_of(scaled(factors, 2.0**power))
    for name in ("cosines", "cosines of two batches", "diversity"):
        np.testing.assert_array_equal(before[name], after[name])
    np.testing.assert_array_equal(before["noise_scale"].noise_scale, after["noise_scale"].noise_scale)
    for name in ("norms", "norms by layer"):
        np.testing.assert_array_equal(2.0**power * before[name], after[name])


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors(), order=st.permutations(range(B)))
def test_examples_in_another_order_have_their_statistics_in_that_order(factors, order):
    order = np.array(order)
    before = all_of(factors)
    after = all_of(jax.tree.map(lambda leaf: leaf[order], factors))
    expected = {name: before[name] for name in ("variance", "kronecker", "noise_scale", "diversity", "clipped_mean")}
    expected |= {name: before[name][order] for name in ("norms", "dots")}
    expected |= {name: before[name][order][:, order] for name in ("gram", "cosines")}
    # The sums are exact in any order; what is rounded before it is summed up, by a root or a division, by some eps.
    for name, value in expected.items():
        chex.assert_trees_all_close(after[name], value, rtol=1e-13, atol=1e-13, custom_message=name)


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors(n=1))
def test_one_example_has_no_variance(factors):
    names = ("gradients", "norms", "clipped_mean", "variance", "cosines", "diversity")  # noise_scale needs two
    result = all_of(factors, names=names)
    chex.assert_trees_all_equal(result["variance"], jax.tree.map(np.zeros_like, result["variance"]))  # exactly
    # |g|^2 / |g|^2, or 1/B if g = 0: the root in the norm is rounded.
    np.testing.assert_allclose(result["diversity"], 1, rtol=1e-14)
    is_zero = result["norms"] == 0
    np.testing.assert_allclose(result["cosines"], np.where(is_zero, 0, 1)[None], rtol=0, atol=1e-14)
    g = jax.tree.map(lambda leaf: leaf[0], result["gradients"])
    shrink = 1.0 if is_zero[0] else min(1.0, 2.0 / result["norms"][0])
    clipped = result["clipped_mean"]
    chex.assert_trees_all_close(clipped.gradient, jax.tree.map(lambda leaf: shrink * leaf, g), rtol=1e-14)
    assert clipped.n_clipped == (result["norms"][0] > 2)


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors())
def test_a_batch_taken_twice_is_as_varied_and_half_as_diverse(factors):
    once = all_of(factors)
    names = ("clipped_mean", "variance", "noise_scale", "kronecker", "diversity")
    twice = all_of(jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), factors), names=names)
    # B and 2B are powers of two: only what a root or the division in the middle rounds differs, by some eps.
    for name in ("variance", "kronecker", "clipped_mean"):
        one, two = (x[name].gradient if name == "clipped_mean" else x[name] for x in (once, twice))
        chex.assert_trees_all_close(one, two, rtol=1e-13, atol=1e-13, custom_message=name)
    np.testing.assert_allclose(twice["diversity"], once["diversity"] / 2, rtol=1e-13)
    assert twice["clipped_mean"].n_clipped == 2 * once["clipped_mean"].n_clipped
    # Of the mean's own square: |E g|^2 = squared_norm + trace / B; and the trace that is not corrected for its bias.
    for f in (lambda s, n: s.squared_norm + s.trace / n, lambda s, n: s.trace * (n - 1) / n):
        one, two = f(once["noise_scale"], B), f(twice["noise_scale"], 2 * B)
        atol = 1e-13 * max(1.0, abs(one), once["noise_scale"].trace)
        np.testing.assert_allclose(one, two, rtol=0, atol=atol)


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(
    factors=drawn_factors(),
    power=st.sampled_from([0, -600, -1074]),  # 1; squares underflow; numbers are subnormal, which XLA may take for 0
    no_input=st.booleans(),
)
def test_gradients_of_zero_give_no_nan(factors, power, no_input):
    factors = scaled(factors, 2.0**power)
    if no_input:
        factors = tuple(Factors(delta, np.zeros_like(y)) for delta, y in factors)
    zero = scaled(factors, 0.0)
    for batch in (factors, zero):
        for name, result in all_of(batch).items():
            assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(result)), name
    result = all_of(zero)
    assert result["diversity"] == 1 / B
    assert result["noise_scale"] == (0, 0, 0)
    for name in ("norms", "cosines", "gram", "clipped_mean", "variance", "dots"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(result[name])), name


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors())
def test_gradients_that_cancel_are_of_infinite_diversity_and_noise(factors):
    signs = np.array([[1], [-1], [1], [-1]])
    factors = tuple(Factors(delta[[0, 0, 2, 2]] * signs, y[[0, 0, 2, 2]]) for delta, y in factors)
    result = all_of(factors)  # the sums are exactly 0
    is_zero = result["norms"].max() == 0
    assert result["diversity"] == (1 / B if is_zero else np.inf)
    assert result["noise_scale"].noise_scale == (0 if is_zero else np.inf)
    assert is_zero or result["noise_scale"].squared_norm < 0


def test_diversity_of_orthogonal_gradients_is_one():
    # |g|^2 = 2 and 18, to be summed up without rounding but for a root: 2 eps.
    factors = (Factors(jnp.array([[1.0, 0.0], [0.0, 3.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])),)
    diversity = jax.jit(per_example.diversity)
    np.testing.assert_allclose(diversity(factors), 1, rtol=2 * 2.0**-23)


# ----- clipping -----


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors(), limit=st.floats(0.01, 40), by_layer=st.booleans())
def test_no_clipped_gradient_is_longer_than_the_clipping_norm(factors, limit, by_layer):
    norms = np.atleast_2d(compiled_norms(factors, by_layer=by_layer))
    weights = np.asarray(per_example.clipping_weights(jnp.asarray(norms), limit))
    assert (weights > 0).all()
    assert (weights * norms <= limit * (1 + 2.0**-51)).all()  # a quotient and a product: 2 roundings
    np.testing.assert_array_equal(weights[norms <= limit], 1)  # the others are left as they are
    # And it is these that are averaged: a clipped gradient formed from its weight, one by one.
    gradients = outer(factors)
    by_hand = weigh(gradients, (weights if by_layer else weights[0]) / B)
    result = compiled_clipping(factors, limit, by_layer=by_layer)
    size = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients)))
    for ours, theirs in zip(jax.tree.leaves(result.gradient), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 * size)  # 4 terms, of 3 roundings each
    np.testing.assert_array_equal(np.atleast_1d(result.n_clipped), (norms > limit).sum(1))
    assert np.ndim(result.n_clipped) == by_layer


@pytest.mark.usefixtures("x64")
@PROPERTY
@given(factors=drawn_factors(), by_layer=st.booleans())
def test_mean_clipped_to_a_norm_that_none_exceeds_is_the_mean(factors, by_layer):
    longest = np.max(compiled_norms(factors, by_layer=by_layer), axis=-1)  # and that is not longer than itself
    for limit in (np.inf, np.where(longest > 0, longest, 1)):
        result = compiled_clipping(factors, limit, by_layer=by_layer)
        # Weights are 1, B is a power of two and sums of eighths are exact: nothing is rounded on either way.
        chex.assert_trees_all_equal(result.gradient, mean_gradient(factors))
        assert not result.n_clipped.any()


@pytest.mark.usefixtures("x64")
def test_a_scalar_clips_every_layer_and_a_list_each_to_its_own():
    factors = normal_factors(SIZES, B)
    scalar = compiled_clipping(factors, 1.5, by_layer=True)
    chex.assert_trees_all_equal(scalar, compiled_clipping(factors, np.array([1.5, 1.5]), by_layer=True))
    mixed = compiled_clipping(factors, np.array([1.5, np.inf]), by_layer=True)
    chex.assert_trees_all_equal(mixed.gradient[0], scalar.gradient[0])
    # Weights of 1 and a B of two to a power, but sums of 4 terms in any order: some eps.
    chex.assert_trees_all_close(mixed.gradient[1], mean_gradient(factors)[1], rtol=0, atol=1e-15)
    assert mixed.n_clipped.tolist() == [int(scalar.n_clipped[0]), 0]
    assert scalar.n_clipped[0] > 0


def test_a_gradient_too_long_for_its_type_is_not_silently_dropped():
    # |y|^2 overflows: the norm is infinite, and a weight of 0 would make a gradient of norm 1 one of 0.
    factors = (Factors(jnp.full((1, 1), 1e-10), jnp.full((1, 1), 1e20)),)
    assert np.isnan(per_example.clipped_mean(factors, 1.0).gradient[0].w).all()


def test_norms_that_are_whole_numbers_are_clipped_as_floats():
    np.testing.assert_array_equal(per_example.clipping_weights(np.array([1, 4]), 2.0), [1, 0.5])


# ----- float32 -----


def constant_but_for(deviation: float, seed: int) -> tuple[Factors, ...]:
    """Factors of 1 with noise, in float32: 512 weights and 32 biases, 8 examples."""
    rng = np.random.default_rng(seed)
    return (Factors(*(jnp.asarray(1 + deviation * rng.normal(size=(8, n)), "float32") for n in (32, 16))),)


@jax.jit
def compiled_variance_and_noise_scale(factors):
    return per_example.variance(factors), per_example.noise_scale(factors)


def relative_error(ours, exact) -> float:
    return length(np.asarray(ours, np.float64) - exact) / length(exact)


@pytest.mark.parametrize("seed", range(3))
def test_variance_is_not_lost_where_the_mean_is_10000_times_the_deviation(seed):
    # The mean of 8 numbers near 1 is off by at most 8 u, u = 2^-24, in each factor. What this shifts the products by,
    # 16 u, is not taken out, and adds its square: 9e-13 to a variance of 2e-8, 4.5e-5 of it. (A bias has no mean but
    # its own: (8 u)^2 in 1e-8.) The sums' own roundings are some 16 u relative, 1e-6.
    factors = constant_but_for(1e-4, seed)
    (w, b) = outer(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), factors))[0]
    variance, noise_scale = compiled_variance_and_noise_scale(factors)
    ours = variance[0]
    assert relative_error(ours.w, w.var(0)) <= 1e-4
    assert relative_error(ours.b, b.var(0)) <= 1e-4

    # E[g^2] - E[g]^2, numbers near 1 of float32, is a multiple of u: more than the variance itself.
    low = w.astype(np.float32)
    assert relative_error((low**2).mean(0) - low.mean(0) ** 2, w.var(0)) > 0.5

    g = rows([Layer(w, b)])
    exact_trace = g.var(0, ddof=1).sum()
    assert relative_error(noise_scale.trace, exact_trace) <= 1e-4

    # Naively, 544 less 544: a multiple of 2^-15 = 3e-5, where 1.1e-5 is right.
    low = g.astype(np.float32)
    naive = (low**2).sum(1).mean() - (low.mean(0) ** 2).sum()
    assert relative_error(naive, exact_trace) > 0.5


def test_rounding_takes_no_cosine_beyond_one():
    factors = jax.tree.map(lambda leaf: leaf.astype("float32"), normal_factors((5, 3), 256))
    both_ways = Factors(jnp.concatenate([factors[0].delta, -factors[0].delta]), jnp.tile(factors[0].y_in, (2, 1)))
    cosines = np.asarray(per_example.cosines((both_ways,)))
    assert (np.abs(cosines) <= 1).all()  # an arc cosine of more would be nan
    np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-6)  # some 10 roundings of 2^-24


def test_variance_from_rounding_alone_is_never_negative():
    # delta y is 1 in every example: the variance is 0, and terms of order 1 cancel, to some 1e-7 of either sign.
    delta = np.random.default_rng(0).uniform(0.5, 2, (8, 64)).astype(np.float32)
    variances = jax.vmap(lambda d: per_example.variance((Factors(d[:, None], 1 / d[:, None]),))[0].w)(
        jnp.asarray(delta.T)
    )
    assert (np.asarray(variances) >= 0).all()
    assert np.asarray(variances).max() < 1e-5


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("which", ["delta", "both"])
def test_norms_of_float32_are_right_where_squares_overflow_or_underflow(size, which):
    factors = jax.tree.map(lambda leaf: leaf.astype("float32"), normal_factors((5, 3, 4), N))
    size_of_y = size if which == "both" and size < 1 else 1.0  # what has no norm in float32 is nobody's fault
    factors = tuple(Factors(delta * jnp.float32(size), y * jnp.float32(size_of_y)) for delta, y in factors)
    exact = [rows([layer]) for layer in outer(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), factors))]
    # Norms of up to 5 numbers, a product of two, a norm of two: some 10 roundings of 2^-24 each.
    by_layer = np.array([np.linalg.norm(g, axis=1) for g in exact])
    np.testing.assert_allclose(compiled_norms(factors, by_layer=True), by_layer, rtol=1e-6)
    np.testing.assert_allclose(compiled_norms(factors), np.linalg.norm(by_layer, axis=0), rtol=1e-6)


# ----- errors -----

FACTORS = (Factors(np.ones((3, 2)), np.ones((3, 4))), Factors(np.ones((3, 1)), np.ones((3, 2))))
NETWORK = (Layer(np.ones((2, 4)), np.ones(2)), Layer(np.ones((1, 2)), np.ones(1)))
ONE_EXAMPLE = jax.tree.map(lambda leaf: leaf[0], FACTORS)
UNEQUAL = (FACTORS[0], jax.tree.map(lambda leaf: leaf[:2], FACTORS[1]))
NOT_A_BATCH = r"^factors must be those of a batch.*jax\.vmap of backprop.*got shapes \[\(\("


@pytest.mark.parametrize("factors", [ONE_EXAMPLE, UNEQUAL, ()], ids=["one example", "unequal B", "no layer"])
@EVERY_STATISTIC
def test_every_function_refuses_factors_that_are_not_a_batch(name, factors):
    batch = Batch(factors, factors, np.ones(3), NETWORK, 1.0, np.ones(2))
    with pytest.raises(ValueError, match=NOT_A_BATCH if factors else r"^factors must be those.*got shapes \[\]$"):
        STATISTICS[name].ours(batch)


@pytest.mark.parametrize(
    ("factors", "what"),
    [(FACTORS[0], "Factors"), ([FACTORS], "list of tuple"), (FACTORS[0][:1], "tuple of ndarray"), (None, "NoneType")],
)
@EVERY_STATISTIC
def test_every_function_names_an_argument_that_is_not_factors(name, factors, what):
    batch = Batch(factors, factors, np.ones(3), NETWORK, 1.0, np.ones(2))
    with pytest.raises(ValueError, match=rf"^factors must be those of a batch.* returns them, got {what}$"):
        STATISTICS[name].ours(batch)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: per_example.gram(FACTORS, UNEQUAL), NOT_A_BATCH),
        (lambda: per_example.gram(FACTORS, FACTORS[0]), r"^factors must be those of a batch.* got Factors$"),
        (lambda: per_example.dots(FACTORS, NETWORK[0]), r"^direction must be shaped like the parameters.* got Layer$"),
        (lambda: per_example.gram(FACTORS, ONE_EXAMPLE), NOT_A_BATCH),
        (
            lambda: per_example.gram(FACTORS, FACTORS[:1]),
            r"^factors and other must .* \[\(4, 2\)\]$",
        ),
        (lambda: per_example.gram(FACTORS, FACTORS[::-1]), r"^factors and other must be of one network"),
        (lambda: per_example.dots(FACTORS, NETWORK[:1]), r"^direction must be shaped like the parameters"),
        (lambda: per_example.dots(FACTORS, NETWORK[::-1]), r"got \[\(\(1, 2\), \(1,\)\), \(\(2, 4\), \(2,\)\)\]$"),
        (
            lambda: per_example.weighted_sum(FACTORS, np.ones(2)),
            r"^weights must have shape \[3\], .* got shape \(2,\)$",
        ),
        (lambda: per_example.weighted_sum(FACTORS, np.ones((3, 1))), r"^weights must have shape \[3\], .* \(3, 1\)$"),
        (lambda: per_example.weighted_mean(FACTORS, 1.0), r"^weights must have shape \[3\], .* got shape \(\)$"),
        (lambda: per_example.clipped_mean(FACTORS, 0.0), r"^max_norm must be positive, got 0\.0$"),
        (lambda: per_example.clipped_mean(FACTORS, -1), r"^max_norm must be positive, got -1$"),
        (lambda: per_example.clipped_mean(FACTORS, np.nan), r"^max_norm must be positive, got nan$"),
        (
            lambda: per_example.clipped_mean(FACTORS, np.array([1.0, 0.0]), by_layer=True),
            r"^max_norm must be positive, got \[1\. 0\.\]$",
        ),
        (lambda: per_example.clipped_mean(FACTORS, np.ones(2)), r"^max_norm must be a number, got shape \(2,\)$"),
        (
            lambda: per_example.clipped_mean(FACTORS, np.ones(3), by_layer=True),
            r"^max_norm must be a number, or \[2\], one for each layer, got shape \(3,\)$",
        ),
        (
            lambda: per_example.noise_scale(jax.tree.map(lambda leaf: leaf[:1], FACTORS)),
            r"^noise_scale needs a batch of 2 examples or more, got 1$",
        ),
    ],
)
def test_wrong_arguments_are_value_errors_that_say_so(call, message):
    with pytest.raises(ValueError, match=message):
        call()
