"""Rows for the statistics of `per_example`, beside the naive formulas on every example's gradient by `jax.grad`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import per_example
from jaxmlp.backpropagation import backprop
from jaxmlp.equivalences.numbers import Tree, normal, normal_like
from jaxmlp.equivalences.rows import Equivalence, equality_rows
from jaxmlp.network import MLP, Params, forward, loss
from jaxmlp.per_example import BatchFactors

Statistic = Callable[[BatchFactors, Array, Params], Tree]


class _Naive(NamedTuple):
    """The gradients of B examples: as a tree of [B, ...], as a matrix [B, n] for each layer, as one matrix [B, P]."""

    tree: Params
    layers: list[Array]
    flat: Array
    y_in: tuple[Array, ...]


# Each statistic of `per_example` beside the plain formula, which needs memory for B gradients. `c`: [B], and v has the
# shapes of the parameters.
STATISTICS: dict[str, tuple[Statistic, Callable[[_Naive, Array, Params], Tree]]] = {
    "gradients": (lambda factors, c, v: per_example.gradients(factors), lambda g, c, v: g.tree),
    "norms": (lambda factors, c, v: per_example.norms(factors), lambda g, c, v: jnp.linalg.norm(g.flat, axis=1)),
    "norms by layer": (
        lambda factors, c, v: per_example.norms(factors, by_layer=True),
        lambda g, c, v: jnp.stack([jnp.linalg.norm(layer, axis=1) for layer in g.layers]),
    ),
    "weighted_sum": (
        lambda factors, c, v: per_example.weighted_sum(factors, c),
        lambda g, c, v: jax.tree.map(lambda leaf: jnp.tensordot(c, leaf, 1), g.tree),
    ),
    "weighted_mean": (
        lambda factors, c, v: per_example.weighted_mean(factors, c),
        lambda g, c, v: jax.tree.map(lambda leaf: jnp.tensordot(c, leaf, 1) / len(c), g.tree),
    ),
    "clipping_weights": (
        lambda factors, c, v: per_example.clipping_weights(
            per_example.norms(factors), _median(per_example.norms(factors))
        ),
        lambda g, c, v: _clip(g.flat, _median(jnp.linalg.norm(g.flat, axis=1))),
    ),
    "clipped_mean": (
        lambda factors, c, v: per_example.clipped_mean(factors, _median(per_example.norms(factors))).gradient,
        lambda g, c, v: _mean(g.tree, [_clip(g.flat, _median(jnp.linalg.norm(g.flat, axis=1)))] * len(g.layers)),
    ),
    "clipped_mean by layer": (
        lambda factors, c, v: (
            per_example.clipped_mean(factors, _median(per_example.norms(factors)) / 2, by_layer=True).gradient
        ),
        lambda g, c, v: _mean(
            g.tree, [_clip(layer, _median(jnp.linalg.norm(g.flat, axis=1)) / 2) for layer in g.layers]
        ),
    ),
    "variance": (
        lambda factors, c, v: per_example.variance(factors),
        lambda g, c, v: jax.tree.map(lambda leaf: leaf.var(0), g.tree),
    ),
    "mean_and_variance": (
        lambda factors, c, v: tuple(per_example.mean_and_variance(factors)),
        lambda g, c, v: (
            jax.tree.map(lambda leaf: leaf.mean(0), g.tree),
            jax.tree.map(lambda leaf: leaf.var(0), g.tree),
        ),
    ),
    "gram": (lambda factors, c, v: per_example.gram(factors), lambda g, c, v: g.flat @ g.flat.T),
    "cosines": (
        lambda factors, c, v: per_example.cosines(factors),
        lambda g, c, v: _unit(g.flat) @ _unit(g.flat).T,
    ),
    "dots": (
        lambda factors, c, v: per_example.dots(factors, v),
        lambda g, c, v: sum(
            jnp.tensordot(a, b, b.ndim) for a, b in zip(*map(jax.tree.leaves, (g.tree, v)), strict=True)
        ),
    ),
    "noise_scale": (
        lambda factors, c, v: tuple(per_example.noise_scale(factors)),
        lambda g, c, v: _noise_scale(g.flat),
    ),
    "kronecker": (
        lambda factors, c, v: [tuple(pair) for pair in per_example.kronecker(factors)],
        lambda g, c, v: [
            (layer.b.T @ layer.b / len(c), _with_one(y).T @ _with_one(y) / len(c))
            for layer, y in zip(g.tree, g.y_in, strict=True)
        ],
    ),
    "diversity": (
        lambda factors, c, v: per_example.diversity(factors),
        lambda g, c, v: jnp.sum(g.flat**2) / jnp.sum(g.flat.sum(0) ** 2),
    ),
}


def rows_of_statistics(mlp: MLP, params: Params, x: Array, t: Array, seed: int) -> Iterator[Equivalence]:
    """List every statistic of `per_example` beside its naive formula."""
    rng = np.random.default_rng(seed)
    c, v = normal((len(x),), rng), normal_like(params, rng)

    def given(statistic: Statistic, params: Params, x: Array, c: Array, v: Params) -> Tree:
        return statistic(jax.vmap(partial(backprop, mlp, params))(x, t).factors, c, v)

    def expected(formula: Callable[..., Tree], params: Params, x: Array, c: Array, v: Params) -> Tree:
        return formula(_naive(mlp, params, x, t), c, v)

    pairs = {
        name: (partial(given, statistic), partial(expected, formula))
        for name, (statistic, formula) in STATISTICS.items()
        if len(x) > 1 or name != "noise_scale"
    }
    truth = "the naive formula on every example's gradient by autodiff"
    yield from equality_rows("statistics", pairs, truth, params, x, c, v)


def _naive(mlp: MLP, params: Params, x: Array, t: Array) -> _Naive:
    tree = jax.vmap(jax.grad(partial(loss, mlp)), (None, 0, 0))(params, x, t)
    layers = [jnp.concatenate([w.reshape(len(x), -1), b], axis=1) for w, b in tree]
    y = jax.vmap(partial(forward, mlp, params))(x).y
    return _Naive(tree, layers, jnp.concatenate(layers, axis=1), y[:-1])


def _median(norms: Array) -> Array:
    """Return a clipping norm that half of the gradients exceed."""
    return jnp.median(norms)


def _clip(rows: Array, limit: Array) -> Array:
    norms = jnp.linalg.norm(rows, axis=1)
    return jnp.where(norms > limit, limit / norms, 1)  # a gradient of zeros stays as it is


def _mean(tree: Params, weights: list[Array]) -> Params:
    return tuple(
        type(layer)(*(jnp.tensordot(c, leaf, 1) / len(c) for leaf in layer))
        for layer, c in zip(tree, weights, strict=True)
    )


def _unit(rows: Array) -> Array:
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.where(norms > 0, rows / norms, 0)


def _with_one(rows: Array) -> Array:
    return jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)


def _noise_scale(rows: Array) -> tuple[Array, Array, Array]:
    trace = rows.var(0, ddof=1).sum()
    squared_norm = jnp.sum(rows.mean(0) ** 2) - trace / len(rows)
    return jnp.where(squared_norm > 0, trace / squared_norm, jnp.inf), trace, squared_norm
