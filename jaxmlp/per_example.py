"""Statistics of the gradient of each example in a batch, for about the price of one ordinary step.

All functions take `factors`, as `jax.vmap` of `backprop` returns them: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].
They describe the gradient g_b of each example's own loss: only a mean divides by B. As g_b = (delta_b outer y_b,
delta_b), eq. (8), they need row sums and matrix products, not the gradient of a single example:

    |g_b|^2   = sum_l |delta_b|^2 (|y_b|^2 + 1)            <g_a, g_b> = sum_l <delta_a, delta_b> (<y_a, y_b> + 1)
    sum_b c_b g_b = (c delta)^T y                          <g_b, v>   = sum_l <delta_b, v.w y_b + v.b>

Only `gradients` forms the gradients. Costs are given in products: a product is the matrix product of the mean gradient,
B n_l n_{l-1} multiply-adds a layer. All functions work under `jit`, `vmap` and `scan`, have results in the dtype of the
factors, and raise a ValueError for the factors of one example, or for other arguments of the wrong shape.
"""

from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmlp._validation import pair_shapes
from jaxmlp.backpropagation import Factors, check_batch, outer, product
from jaxmlp.network import Layer, Params

__all__ = [
    "Clipped",
    "Kronecker",
    "Moments",
    "NoiseScale",
    "clipped_mean",
    "clipping_weights",
    "cosines",
    "diversity",
    "dots",
    "gradients",
    "gram",
    "kronecker",
    "mean_and_variance",
    "noise_scale",
    "norms",
    "variance",
    "weighted_mean",
    "weighted_sum",
]

BatchFactors: TypeAlias = tuple[Factors, ...]
_sum = partial(reduce, add)


class Clipped(NamedTuple):
    """The mean of clipped gradients, shaped like the parameters, and the number that were clipped."""

    gradient: Params
    n_clipped: Array


class Moments(NamedTuple):
    """The mean and the variance of every parameter's gradient, both shaped like the parameters."""

    mean: Params
    variance: Params


class NoiseScale(NamedTuple):
    """The simple noise scale tr(Sigma) / |G|^2, in examples, with unbiased estimates of both parts.

    tr(Sigma) is the variance of one example's gradient, summed over all parameters, and G is the gradient over
    infinitely many examples. The estimate of |G|^2 can be negative if noise hides the gradient; the noise scale is then
    infinite. Without noise it is 0.
    """

    noise_scale: Array
    trace: Array
    squared_norm: Array


class Kronecker(NamedTuple):
    """One layer's E[delta delta^T]: [n_l, n_l] and E[y y^T]: [n_{l-1} + 1, n_{l-1} + 1], where y ends with a 1."""

    delta: Array
    y_in: Array


def gradients(factors: BatchFactors) -> Params:
    """Return the gradient of each example, L `Layer(w: [B, n_l, n_{l-1}], b: [B, n_l])`: `vmap` of `outer`.

    The result takes B times the parameters' memory.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(gradients(factors)[0].w)
    [[[1. 0.]]
     [[0. 6.]]]
    """
    check_batch(factors)
    return jax.vmap(outer)(factors)


def norms(factors: BatchFactors, *, by_layer: bool = False) -> Array:
    """Return the gradient norm of each example, shape [B].

    sqrt(sum_l |delta|^2 (|y|^2 + 1)) (Goodfellow 2015, arXiv 1510.01799). It is right even where its square underflows,
    such as 1e-30 in float32. (The inputs y are squared without scaling, and must be below 1e19.)
    With `by_layer`, which is static, return the norm of each layer's part, shape [L, B].

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(norms(factors))
    [1.4142135 6.7082043]
    """
    check_batch(factors)
    layers = jnp.stack([_norm(delta) * jnp.sqrt(jnp.sum(y_in**2, axis=1) + 1) for delta, y_in in factors])
    return layers if by_layer else _norm(layers.T)


def weighted_sum(factors: BatchFactors, weights: ArrayLike) -> Params:
    """Return sum_b weights_b g_b, shaped like the parameters, for weights [B] of any sign: one product.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(weighted_sum(factors, jnp.array([1.0, 0.5]))[0].w)
    [[1. 3.]]
    """
    n_examples, weights = check_batch(factors), jnp.asarray(weights)
    if weights.shape != (n_examples,):
        raise ValueError(f"weights must have shape [{n_examples}], one for each example, got shape {weights.shape}")
    return tuple(_weighted(layer, weights) for layer in factors)


def weighted_mean(factors: BatchFactors, weights: ArrayLike) -> Params:
    """Return `weighted_sum` divided by B (not by the sum of the weights).

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(weighted_mean(factors, jnp.array([1.0, 0.5]))[0].w)
    [[0.5 1.5]]
    """
    return weighted_sum(factors, _as_floats(weights) / check_batch(factors))


def clipping_weights(norms: ArrayLike, max_norm: ArrayLike) -> Array:
    """Return weights for norms of any shape: `max_norm / norm` where the norm exceeds `max_norm`, else exactly 1.

    A norm that overflowed gets the weight nan: the weight 0 would silently drop a finite gradient.

    >>> print(clipping_weights(jnp.array([0.0, 1.0, 4.0]), 2.0))
    [1.  1.  0.5]
    """
    norms = _as_floats(norms)
    max_norm = jnp.asarray(max_norm, norms.dtype)
    weights = jnp.where(norms > max_norm, max_norm / norms, 1)
    return jnp.where(jnp.isinf(norms) & jnp.isfinite(max_norm), jnp.nan, weights)


def clipped_mean(factors: BatchFactors, max_norm: ArrayLike, *, by_layer: bool = False) -> Clipped:
    """Return the mean of the gradients after each is clipped (Abadi et al. 2016, arXiv 1607.00133; here without noise).

    A gradient that is longer than `max_norm` is scaled down to it. `max_norm` must be positive, and may be infinite; a
    traced value is not checked. With `by_layer`, which is static, each layer's part of a gradient is clipped by itself,
    `max_norm` may be [L], and `n_clipped` is [L]. One product, like the plain mean.

    >>> factors = (Factors(jnp.array([[3.0], [0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])),)
    >>> gradient, n_clipped = clipped_mean(factors, 1.0)
    >>> print(gradient[0].w, n_clipped)
    [[0.3535534 0.       ]] 1
    """
    n_examples = check_batch(factors)
    lengths = norms(factors, by_layer=True) if by_layer else norms(factors)[None]
    limit = _positive(max_norm, len(factors) if by_layer else None, lengths.dtype)
    weights = clipping_weights(lengths, limit) / n_examples
    gradient = tuple(map(_weighted, factors, weights if by_layer else [weights[0]] * len(factors)))
    n_clipped = jnp.sum(lengths > limit, axis=1)
    return Clipped(gradient, n_clipped if by_layer else n_clipped[0])


def variance(factors: BatchFactors) -> Params:
    """Return the variance over the batch of every parameter's gradient, shaped like the parameters.

    Like `numpy.var` it divides by B. The difference E[delta^2 y^2] - E[delta y]^2 would cancel if the mean is large. So
    the means are taken out first, delta = delta_mean + d and y = y_mean + e. With p = delta^2 - delta_mean^2
    = (2 delta_mean + d) d, q = (2 y_mean + e) e and C = E[d e],

        Var = E[p q] + y_mean^2 E[d^2] + delta_mean^2 E[e^2] - (2 delta_mean y_mean + C) C

    where every term is as small as the variations d and e. Two products, and memory for two batches of factors.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(variance(factors)[0].w, variance(factors)[0].b)
    [[0.25 9.  ]] [1.]
    """
    return mean_and_variance(factors).variance


def mean_and_variance(factors: BatchFactors) -> Moments:
    """Return the mean and the variance of every parameter's gradient, in two products.

    `mean_gradient` and `variance` take three. The mean is delta_mean y_mean + C, with C as in `variance`.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> mean, variance = mean_and_variance(factors)
    >>> print(mean[0].w, variance[0].w)
    [[0.5 3. ]] [[0.25 9.  ]]
    """
    check_batch(factors)
    return Moments(*zip(*map(_mean_and_variance, factors), strict=True))


def _mean_and_variance(layer: Factors) -> tuple[Layer, Layer]:
    n_examples = len(layer.delta)
    mean, y_mean = layer.delta.mean(0), layer.y_in.mean(0)
    d, e = layer.delta - mean[None], layer.y_in - y_mean[None]
    of_products = ((2 * mean[None] + d) * d).T @ ((2 * y_mean[None] + e) * e) / n_examples
    covariance = d.T @ e / n_examples
    of_means, d_squared = jnp.outer(mean, y_mean), (d**2).mean(0)
    of_factors = jnp.outer(d_squared, y_mean**2) + jnp.outer(mean**2, (e**2).mean(0))
    variance = jnp.maximum(of_products + of_factors - (2 * of_means + covariance) * covariance, 0)
    return Layer(of_means + covariance, mean), Layer(variance, d_squared)


def gram(factors: BatchFactors, other: BatchFactors | None = None) -> Array:
    """Return the inner products of all pairs of gradients, [B, B'], of two batches or of one with itself.

    `other` holds the factors of B' examples of the same network. The cost: B B' (n_l + n_{l-1}) multiply-adds a layer.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(gram(factors))
    [[ 2.  3.]
     [ 3. 45.]]
    """
    other = factors if other is None else other
    check_batch(factors)
    check_batch(other)
    sizes = [[(f.y_in.shape[1], f.delta.shape[1]) for f in batch] for batch in (factors, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"factors and other must be of one network, got layers of sizes {sizes[0]} and {sizes[1]}")
    return _sum((a.delta @ b.delta.T) * (a.y_in @ b.y_in.T + 1) for a, b in zip(factors, other, strict=True))


def cosines(factors: BatchFactors, other: BatchFactors | None = None) -> Array:
    """Return the cosines between all pairs of gradients, [B, B'], like `gram`; 0 for a gradient of 0.

    >>> factors = (Factors(jnp.array([[1.0], [-3.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])),)
    >>> print(cosines(factors).round(3))
    [[ 1.    -0.707]
     [-0.707  1.   ]]
    """
    return jnp.clip(gram(_to_unit_norm(factors), None if other is None else _to_unit_norm(other)), -1, 1)


def dots(factors: BatchFactors, direction: Params) -> Array:
    """Return the inner product of each gradient with a direction, [B]: the slope of each example's loss along it.

    The direction is shaped like the parameters. One product.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(dots(factors, (Layer(jnp.array([[1.0, 1.0]]), jnp.array([10.0])),)))
    [11. 36.]
    """
    check_batch(factors)
    expected = [((f.delta.shape[1], f.y_in.shape[1]), f.delta.shape[1:]) for f in factors]
    try:
        given: Any = pair_shapes(direction)
    except TypeError as error:
        given = error
    if given != expected:
        raise ValueError(f"direction must be shaped like the parameters, layers of {expected}, got {given}")
    layers = zip(factors, direction, strict=True)
    return _sum(jnp.sum(f.delta * (f.y_in @ w.T + b[None]), axis=1) for f, (w, b) in layers)


def noise_scale(factors: BatchFactors) -> NoiseScale:
    """Return the simple noise scale: the batch size at which the noise is as large as the gradient.

    tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.9), both unbiased, from 2 examples or more.
    The trace is a sum of squares around the mean, which is taken out of both factors as in `variance`. For several
    batches, average both parts before you divide: the mean of ratios is biased. One product.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(*noise_scale(factors))
    6.8333335 20.5 3.0
    """
    n_examples = check_batch(factors)
    if n_examples < 2:
        raise ValueError("noise_scale needs a batch of 2 examples or more, got 1")
    scaled, scale = _largest_to_one(factors)
    trace, squared_mean = map(_sum, zip(*map(_spread_and_squared_mean, scaled), strict=True))
    trace = jnp.maximum(trace, 0) * n_examples / (n_examples - 1)
    squared_norm = squared_mean - trace / n_examples
    ratio = jnp.where(squared_norm <= 0, jnp.inf, trace / jnp.where(squared_norm > 0, squared_norm, 1))
    # Multiply by scale twice: scale**2 may be infinite where the trace is 0.
    return NoiseScale(jnp.where(trace == 0, 0, ratio), trace * scale * scale, squared_norm * scale * scale)


def _spread_and_squared_mean(layer: Factors) -> tuple[Array, Array]:
    """Return E|g - E g|^2 and |E g|^2 of one layer."""
    delta, y = layer
    mean, y_mean = delta.mean(0), y.mean(0)
    d, e = delta - mean[None], y - y_mean[None]
    # g - mean y_mean = d y + mean e, whose mean is the covariance of d and e; the 1 is for the bias, |d|^2.
    rows = jnp.sum(d**2, 1) * (jnp.sum(y**2, 1) + 1) + 2 * (d @ mean) * jnp.sum(y * e, 1)
    covariance = d.T @ e / len(delta)
    spread = rows.mean() + jnp.sum(mean**2) * jnp.sum(e**2, 1).mean() - jnp.sum(covariance**2)
    return spread, jnp.sum((covariance + jnp.outer(mean, y_mean)) ** 2) + jnp.sum(mean**2)


def kronecker(factors: BatchFactors) -> tuple[Kronecker, ...]:
    """Return two small covariances of each layer; K-FAC approximates its Fisher matrix by their Kronecker product.

    E[delta delta^T] and E[y y^T], where y ends with a 1 for the bias (Martens & Grosse 2015, arXiv 1503.05671). The
    targets of the data give the empirical Fisher matrix; for the true one, draw targets from the network's output.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [2.0]])),)
    >>> print(*kronecker(factors)[0])
    [[5.]] [[2.5 1.5]
     [1.5 1. ]]
    """
    n_examples = check_batch(factors)
    with_one = [(delta, jnp.pad(y_in, ((0, 0), (0, 1)), constant_values=1)) for delta, y_in in factors]
    return tuple(Kronecker(*(rows.T @ rows / n_examples for rows in pair)) for pair in with_one)


def diversity(factors: BatchFactors) -> Array:
    """Return the gradient diversity sum_b |g_b|^2 / |sum_b g_b|^2, a scalar (Yin et al. 2018, arXiv 1706.05699).

    It is 1/B for equal gradients (also if all are 0), 1 for orthogonal ones, infinite if they cancel. B times the
    diversity bounds the batch size up to which learning gets faster. One product.

    >>> factors = (Factors(jnp.array([[1.0], [1.0]]), jnp.array([[2.0, 0.0], [2.0, 0.0]])),)
    >>> print(diversity(factors))
    0.5
    """
    n_examples = check_batch(factors)
    scaled, _ = _largest_to_one(factors)
    squares = jnp.sum(norms(scaled) ** 2)
    total = weighted_sum(scaled, jnp.ones(n_examples))
    squared_sum = _sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(total))
    ratio = jnp.where(squared_sum == 0, jnp.inf, squares / jnp.where(squared_sum == 0, 1, squared_sum))
    return jnp.where(squares == 0, 1 / n_examples, ratio)


def _weighted(layer: Factors, weights: Array) -> Layer:
    weighted = weights[:, None].astype(layer.delta.dtype) * layer.delta
    return Layer(product(weighted, layer.y_in), weighted.sum(0))


def _as_floats(numbers: ArrayLike) -> Array:
    numbers = jnp.asarray(numbers)
    return numbers if jnp.issubdtype(numbers.dtype, jnp.floating) else numbers.astype(float)


def _norm(rows: Array) -> Array:
    """Return the Euclidean norm of each row, [B]; the squares neither underflow nor overflow."""
    scale = _scale(jnp.max(jnp.abs(rows), axis=1))
    return scale * jnp.sqrt(jnp.sum((rows / scale[:, None]) ** 2, axis=1))


def _scale(size: Array) -> Array:
    """Return the power of two that brings this size to 1..2 by exact division; 1 if it is not finite."""
    limits = jnp.finfo(size.dtype)
    exponent = jnp.clip(jnp.frexp(size)[1] - 1, limits.minexp, limits.maxexp - 2)
    return jnp.where(jnp.isfinite(size), jnp.ldexp(jnp.ones_like(size), exponent), 1)


def _largest_to_one(factors: BatchFactors) -> tuple[BatchFactors, Array]:
    """Divide all gradients by one power of two, so that the longest has norm 1 to 2; return quotients and power."""
    scale = _scale(jnp.max(norms(factors)))
    return tuple(Factors(delta / scale, y_in) for delta, y_in in factors), scale


def _to_unit_norm(factors: BatchFactors) -> BatchFactors:
    """Scale each gradient that is not 0 to norm 1."""
    lengths = norms(factors)[:, None]
    # Divide in two steps: the reciprocal of a length may overflow where both quotients do not.
    scale = _scale(lengths)
    length = jnp.where(lengths > 0, lengths / scale, 1)
    return tuple(Factors(delta / scale / length, y_in) for delta, y_in in factors)


def _positive(max_norm: ArrayLike, n_layers: int | None, dtype: np.dtype) -> Array:
    """Return the clipping norm as [1, 1], or by layer [L, 1]; a traced value is not checked."""
    wanted = "a number" if n_layers is None else f"a number, or [{n_layers}], one for each layer"
    try:
        limit = jnp.asarray(max_norm, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"max_norm must be {wanted}, got {max_norm!r}") from error
    if limit.shape not in [(), (n_layers,)]:
        raise ValueError(f"max_norm must be {wanted}, got shape {limit.shape}")
    if not isinstance(limit, jax.core.Tracer) and not (np.asarray(limit) > 0).all():
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    return limit.reshape(-1, 1)
