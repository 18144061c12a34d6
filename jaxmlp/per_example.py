"""What the factors of a batch tell of every single example's gradient, for about the price of one ordinary step.

All functions take the factors that `jax.vmap` of `backprop` gives, L pairs delta: [B, n_l], y_in: [B, n_{l-1}], and
speak of the gradients of each example's OWN loss: nothing is divided by B but where a mean is the answer. With
g_b = (delta outer y, delta) as in eq. (8), what looks like B gradients is row sums and matrix products:

    |g_b|^2   = sum_l |delta_b|^2 (|y_b|^2 + 1)            <g_a, g_b> = sum_l <delta_a, delta_b> (<y_a, y_b> + 1)
    sum_b c_b g_b = (c delta)^T y                          <g_b, v>   = sum_l <delta_b, v.w y_b + v.b>

Only `gradients` forms what it names. "A product" below is one matrix product of the size of the mean gradient's,
B n_l n_{l-1} multiply-adds a layer. All work under `jit`, `vmap` and `scan`.
"""

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmlp.backpropagation import Factors, outer
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


class Clipped(NamedTuple):
    """A mean of clipped gradients, shaped like the parameters, and how many were clipped: a count, or [L] by layer."""

    gradient: Params
    n_clipped: Array


class Moments(NamedTuple):
    """Mean and variance of every weight's gradient, both shaped like the parameters."""

    mean: Params
    variance: Params


class NoiseScale(NamedTuple):
    """The simple noise scale tr(Sigma) / |G|^2, in examples, and unbiased estimates of both its parts.

    Attributes
    ----------
    noise_scale
        `trace / squared_norm`; infinite where the estimate of |G|^2 is not positive, the gradient being lost in the
        noise; 0 where there is no noise.
    trace
        tr(Sigma): the variance of one example's gradient, summed over all parameters.
    squared_norm
        |G|^2, of the gradient over infinitely many examples. An unbiased estimate can be negative.
    """

    noise_scale: Array
    trace: Array
    squared_norm: Array


class Kronecker(NamedTuple):
    """One layer's two covariances: E[delta delta^T]: [n_l, n_l], E[y y^T]: [n_{l-1} + 1, n_{l-1} + 1], y with a 1."""

    delta: Array
    y_in: Array


def gradients(factors: BatchFactors) -> Params:
    """Form every example's gradient, eq. (8): `vmap(outer)`.

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].

    Returns
    -------
    gradients
        L `Layer(w: [B, n_l, n_{l-1}], b: [B, n_l])`: B times the memory of the parameters, one multiplication for
        each number in it.

    Raises
    ------
    ValueError
        As every function here, if the factors are one example's.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(gradients(factors)[0].w)
    [[[1. 0.]]
     [[0. 6.]]]
    """
    _check_batch(factors)
    return jax.vmap(outer)(factors)


def norms(factors: BatchFactors, *, by_layer: bool = False) -> Array:
    """Compute every example's gradient norm.

    sqrt(sum_l |delta|^2 (|y|^2 + 1)) (Goodfellow 2015, arXiv 1510.01799), from deltas brought to size 1 first: a
    gradient of 1e-30 has its norm in float32 too, though its square underflows. (An input y, whose squares are summed
    as they are, must be below 1e19.)

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].
    by_layer
        Static. Each layer's own norm.

    Returns
    -------
    norms
        [B], or [L, B] by layer. Costs row sums, no product; B numbers of memory a layer.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(norms(factors))
    [1.4142135 6.7082043]
    """
    _check_batch(factors)
    layers = jnp.stack([_norm(delta) * jnp.sqrt(jnp.sum(y_in**2, axis=1) + 1) for delta, y_in in factors])
    return layers if by_layer else _norm(layers.T)


def weighted_sum(factors: BatchFactors, weights: Array) -> Params:
    """Sum up the gradients, each times its weight.

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].
    weights
        [B], of any sign.

    Returns
    -------
    gradient
        sum_b weights_b g_b, shaped like the parameters: one product, the weights on the rows of delta.

    Raises
    ------
    ValueError
        If there are not B weights.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(weighted_sum(factors, jnp.array([1.0, 0.5]))[0].w)
    [[1. 3.]]
    """
    n_examples, weights = _check_batch(factors), jnp.asarray(weights)
    if weights.shape != (n_examples,):
        raise ValueError(f"weights must be [{n_examples}], one an example, got shape {weights.shape}")
    return tuple(_weighted(layer, weights) for layer in factors)


def weighted_mean(factors: BatchFactors, weights: Array) -> Params:
    """Average the gradients, each times its weight: `weighted_sum` over B (not over the sum of the weights).

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(weighted_mean(factors, jnp.array([1.0, 0.5]))[0].w)
    [[0.5 1.5]]
    """
    return weighted_sum(factors, jnp.asarray(weights) / _check_batch(factors))


def clipping_weights(norms: Array, max_norm: ArrayLike) -> Array:
    """Return what brings every norm above `max_norm` down to it: exactly 1 for all others; any shape.

    >>> print(clipping_weights(jnp.array([0.0, 1.0, 4.0]), 2.0))
    [1.  1.  0.5]
    """
    norms = jnp.asarray(norms) * 1.0  # of whole numbers, floats
    # A gradient too long for its type cannot be scaled down; its weight says so instead of silently being 0.
    weights = jnp.where(norms > max_norm, max_norm / norms, 1).astype(norms.dtype)
    return jnp.where(jnp.isinf(norms) & jnp.isfinite(max_norm), jnp.nan, weights)


def clipped_mean(factors: BatchFactors, max_norm: ArrayLike, *, by_layer: bool = False) -> Clipped:
    """Average the gradients, each clipped to a norm first (Abadi et al. 2016, arXiv 1607.00133; here without noise).

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].
    max_norm
        C: a gradient longer than that is scaled down to it. May be traced, and infinite; by layer also [L].
    by_layer
        Static. Clip each layer's part of a gradient by itself.

    Returns
    -------
    Clipped(gradient, n_clipped)
        The mean, and the count of clipped gradients, [L] counts by layer. One product, as the plain mean.

    Raises
    ------
    ValueError
        If `max_norm` is not positive (where it is traced, nobody can tell).

    Examples
    --------
    >>> factors = (Factors(jnp.array([[3.0], [0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])),)
    >>> gradient, n_clipped = clipped_mean(factors, 1.0)
    >>> print(gradient[0].w, n_clipped)
    [[0.3535534 0.       ]] 1
    """
    n_examples = _check_batch(factors)
    limit = _positive(max_norm, len(factors) if by_layer else None)
    lengths = norms(factors, by_layer=True) if by_layer else norms(factors)[None]
    weights = clipping_weights(lengths, limit) / n_examples
    gradient = tuple(map(_weighted, factors, weights if by_layer else [weights[0]] * len(factors)))
    n_clipped = jnp.sum(lengths > limit, axis=1)
    return Clipped(gradient, n_clipped if by_layer else n_clipped[0])


def variance(factors: BatchFactors) -> Params:
    """Compute the variance over the batch of every weight's gradient.

    E[delta^2 y^2] - E[delta y]^2 would be a difference of large numbers where the mean is large. So the means are taken
    out of both factors first, delta = delta_mean + d and y = y_mean + e. With what then varies of their squares,
    p = delta^2 - delta_mean^2 = (2 delta_mean + d) d and q = (2 y_mean + e) e, and C = E[d e],

        Var = E[p q] + y_mean^2 E[d^2] + delta_mean^2 E[e^2] - (2 delta_mean y_mean + C) C

    where every term is as small as what d and e vary. Two products, as the formula that cancels needs.

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].

    Returns
    -------
    variance
        E|g - E g|^2 over the B examples (divided by B, as `numpy.var` does), shaped like the parameters. Two more
        batches of factors in memory.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(variance(factors)[0].w, variance(factors)[0].b)
    [[0.25 9.  ]] [1.]
    """
    return mean_and_variance(factors).variance


def mean_and_variance(factors: BatchFactors) -> Moments:
    """Compute mean and variance of every weight's gradient in two products, one less than by `gradient` and `variance`.

    The mean is delta_mean y_mean + C, with C as in `variance`.

    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> mean, variance = mean_and_variance(factors)
    >>> print(mean[0].w, variance[0].w)
    [[0.5 3. ]] [[0.25 9.  ]]
    """
    _check_batch(factors)
    layers = map(_mean_and_variance, factors)
    return Moments(*zip(*layers, strict=True))


def _mean_and_variance(layer: Factors) -> tuple[Layer, Layer]:
    n_examples = len(layer.delta)
    mean, y_mean = layer.delta.mean(0), layer.y_in.mean(0)
    d, e = layer.delta - mean, layer.y_in - y_mean
    of_products = ((2 * mean + d) * d).T @ ((2 * y_mean + e) * e) / n_examples
    covariance = d.T @ e / n_examples
    d_squared, e_squared = (d**2).mean(0), (e**2).mean(0)
    of_factors = jnp.outer(d_squared, y_mean**2) + jnp.outer(mean**2, e_squared)
    of_means = jnp.outer(mean, y_mean)
    variance = jnp.maximum(of_products + of_factors - (2 * of_means + covariance) * covariance, 0)
    return Layer(of_means + covariance, mean), Layer(variance, d_squared)


def gram(factors: BatchFactors, other: BatchFactors | None = None) -> Array:
    """Compute the inner products of all pairs of gradients.

    Parameters
    ----------
    factors, other
        Of two batches of the same network, of B and B' examples; of one with itself if `other` is None.

    Returns
    -------
    products
        [B, B']. Two products of shape [B, B'] a layer, B B' (n_l + n_{l-1}) multiply-adds, and B B' numbers of memory.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(gram(factors))
    [[ 2.  3.]
     [ 3. 45.]]
    """
    other = factors if other is None else other
    _check_batch(factors)
    _check_batch(other)
    _check_same(factors, other)
    pairs = zip(factors, other, strict=True)
    return _sum((a.delta @ b.delta.T) * (a.y_in @ b.y_in.T + 1) for a, b in pairs)


def cosines(factors: BatchFactors, other: BatchFactors | None = None) -> Array:
    """Compute the cosines between all pairs of gradients: [B, B'], as `gram`; 0 where a gradient is 0.

    >>> factors = (Factors(jnp.array([[1.0], [-3.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])),)
    >>> print(cosines(factors).round(3))
    [[ 1.    -0.707]
     [-0.707  1.   ]]
    """
    return jnp.clip(gram(_to_unit_norm(factors), other and _to_unit_norm(other)), -1, 1)


def dots(factors: BatchFactors, direction: Params) -> Array:
    """Compute every gradient's inner product with one direction: the slope of every example's loss along it.

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].
    direction
        Shaped like the parameters.

    Returns
    -------
    products
        [B]. One product, and B n_l numbers of memory.

    Raises
    ------
    ValueError
        If the direction has another shape.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(dots(factors, (Layer(jnp.array([[1.0, 1.0]]), jnp.array([10.0])),)))
    [11. 36.]
    """
    _check_batch(factors)
    expected = [((f.delta.shape[1], f.y_in.shape[1]), f.delta.shape[1:]) for f in factors]
    given = [(jnp.shape(w), jnp.shape(b)) for w, b in direction]
    if given != expected:
        raise ValueError(f"direction must be shaped like the parameters, layers of {expected}, got {given}")
    pairs = zip(factors, direction, strict=True)
    return _sum(jnp.sum(f.delta * (f.y_in @ v.w.T + v.b), axis=1) for f, v in pairs)


def noise_scale(factors: BatchFactors) -> NoiseScale:
    """Estimate the simple noise scale: the batch size at which noise and gradient are of one size.

    tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.9), both without bias. The trace is a sum of
    squares around the mean, taken out of both factors as in `variance`, and loses nothing where the mean is large.

    Parameters
    ----------
    factors
        Of a batch of 2 or more: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].

    Returns
    -------
    NoiseScale(noise_scale, trace, squared_norm)
        Scalars. One product. Of several batches, average the parts, and divide then: a ratio is biased.

    Raises
    ------
    ValueError
        If the batch is of one example, which says nothing of noise.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])),)
    >>> print(*noise_scale(factors))
    6.8333335 20.5 3.0
    """
    n_examples = _check_batch(factors)
    if n_examples < 2:
        raise ValueError("noise_scale needs a batch of 2 examples or more, got 1")
    scaled, scale = _largest_to_one(factors)
    trace, squared_mean = map(_sum, zip(*map(_spread_and_squared_mean, scaled), strict=True))
    trace = jnp.maximum(trace, 0) * n_examples / (n_examples - 1)
    squared_norm = squared_mean - trace / n_examples
    ratio = jnp.where(squared_norm <= 0, jnp.inf, trace / jnp.where(squared_norm > 0, squared_norm, 1))
    # Not times scale**2, which may be infinite where the trace is 0.
    return NoiseScale(jnp.where(trace == 0, 0, ratio), trace * scale * scale, squared_norm * scale * scale)


def _spread_and_squared_mean(layer: Factors) -> tuple[Array, Array]:
    """Return E|g - E g|^2 and |E g|^2 of one layer."""
    delta, y = layer
    mean, y_mean = delta.mean(0), y.mean(0)
    d, e = delta - mean, y - y_mean
    # |d y + mean e|^2, and |d|^2 for the bias; what the mean of d y + mean e is, is the covariance of d and e.
    rows = jnp.sum(d**2, 1) * (jnp.sum(y**2, 1) + 1) + 2 * (d @ mean) * jnp.sum(y * e, 1)
    covariance = d.T @ e / len(delta)
    spread = rows.mean() + jnp.sum(mean**2) * jnp.sum(e**2, 1).mean() - jnp.sum(covariance**2)
    return spread, jnp.sum((covariance + jnp.outer(mean, y_mean)) ** 2) + jnp.sum(mean**2)


def kronecker(factors: BatchFactors) -> tuple[Kronecker, ...]:
    """Compute the two small covariances of every layer whose Kronecker product K-FAC takes for its Fisher matrix.

    E[delta delta^T] and E[y y^T], y with a 1 behind it for the bias, not centred (Martens & Grosse 2015, arXiv
    1503.05671). With factors of the data's own targets it is the empirical Fisher; for the true one draw the targets
    from the network's output.

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].

    Returns
    -------
    covariances
        L `Kronecker(delta: [n_l, n_l], y_in: [n_{l-1} + 1, n_{l-1} + 1])`: B (n_l^2 + n_{l-1}^2) multiply-adds.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [2.0]])),)
    >>> print(*kronecker(factors)[0])
    [[5.]] [[2.5 1.5]
     [1.5 1. ]]
    """
    n_examples = _check_batch(factors)
    with_one = [jnp.pad(f.y_in, ((0, 0), (0, 1)), constant_values=1) for f in factors]
    return tuple(
        Kronecker(f.delta.T @ f.delta / n_examples, y.T @ y / n_examples)
        for f, y in zip(factors, with_one, strict=True)
    )


def diversity(factors: BatchFactors) -> Array:
    """Compute the gradient diversity sum_b |g_b|^2 / |sum_b g_b|^2 (Yin et al. 2018, arXiv 1706.05699).

    Parameters
    ----------
    factors
        Of a batch: L pairs delta: [B, n_l], y_in: [B, n_{l-1}].

    Returns
    -------
    diversity
        A scalar: 1/B where all gradients are equal (also where all are 0), 1 where they are orthogonal, infinite where
        they cancel. B times it bounds the batch size that still speeds up learning. One product.

    Examples
    --------
    >>> factors = (Factors(jnp.array([[1.0], [1.0]]), jnp.array([[2.0, 0.0], [2.0, 0.0]])),)
    >>> print(diversity(factors))
    0.5
    """
    n_examples = _check_batch(factors)
    scaled, _ = _largest_to_one(factors)
    squares = jnp.sum(norms(scaled) ** 2)
    total = weighted_sum(scaled, jnp.ones(n_examples, scaled[0].delta.dtype))
    squared_sum = _sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(total))
    ratio = jnp.where(squared_sum == 0, jnp.inf, squares / jnp.where(squared_sum == 0, 1, squared_sum))
    return jnp.where(squares == 0, 1 / n_examples, ratio)


def _weighted(layer: Factors, weights: Array) -> Layer:
    weighted = weights[:, None] * layer.delta
    return Layer(weighted.T @ layer.y_in, weighted.sum(0))


def _sum(terms: Iterable[Array]) -> Array:
    return reduce(add, terms)


def _norm(rows: Array) -> Array:
    """Return the Euclidean norm of every row, without the squares' underflow or overflow: [B]."""
    largest = jnp.max(jnp.abs(rows), axis=1)
    scale = _scale(largest)
    return scale * jnp.sqrt(jnp.sum((rows / scale[:, None]) ** 2, axis=1))


def _scale(size: Array) -> Array:
    """Return the power of two to divide by so that this size becomes 1 to 2; 1 where it is not finite.

    A power of two, because dividing by one rounds nothing.
    """
    limits = jnp.finfo(size.dtype)
    exponent = jnp.clip(jnp.frexp(size)[1] - 1, limits.minexp, limits.maxexp - 2)
    return jnp.where(jnp.isfinite(size), jnp.ldexp(jnp.ones_like(size), exponent), 1)


def _largest_to_one(factors: BatchFactors) -> tuple[BatchFactors, Array]:
    """Scale the gradients, all alike, so that the longest has norm 1 to 2; return the factor that was taken out."""
    scale = _scale(jnp.max(norms(factors)))
    return tuple(Factors(delta / scale, y_in) for delta, y_in in factors), scale


def _to_unit_norm(factors: BatchFactors) -> BatchFactors:
    """Scale every gradient to norm 1, but for those that are 0."""
    lengths = norms(factors)[:, None]
    # In two steps: the reciprocal of a length may overflow where both quotients do not.
    scale = _scale(lengths)
    length = jnp.where(lengths > 0, lengths / scale, 1)
    return tuple(Factors(delta / scale / length, y_in) for delta, y_in in factors)


def _check_batch(factors: BatchFactors) -> int:
    """Return B, or say what is wrong with the factors."""
    shapes = [(jnp.shape(delta), jnp.shape(y_in)) for delta, y_in in factors]
    counts = {shape[0] if len(shape) == 2 else 0 for pair in shapes for shape in pair}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            "factors must be of a batch, pairs of shapes [B, n_l] and [B, n_{l-1}] as jax.vmap of backprop gives them, "
            f"got shapes {shapes}"
        )
    return counts.pop()


def _check_same(factors: BatchFactors, other: BatchFactors) -> None:
    sizes = [[(f.y_in.shape[1], f.delta.shape[1]) for f in batch] for batch in (factors, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"both factors must be of one network, got layers of sizes {sizes[0]} and {sizes[1]}")


def _positive(max_norm: ArrayLike, n_layers: int | None) -> Array:
    """Return the clipping norm as [1, 1] or, one a layer, [L, 1]; what can be known of it is checked."""
    wanted = "a number" if n_layers is None else f"a number, or [{n_layers}], one a layer"
    try:
        limit = jnp.asarray(max_norm, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"max_norm must be {wanted}, got {max_norm!r}") from error
    if limit.shape not in [(), (n_layers,)]:
        raise ValueError(f"max_norm must be {wanted}, got shape {limit.shape}")
    try:
        known = np.asarray(limit)
    except jax.errors.TracerArrayConversionError:
        known = np.ones(())
    if not (known > 0).all():
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    return limit.reshape(-1, 1)
