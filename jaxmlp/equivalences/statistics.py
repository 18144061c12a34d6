"""Rows for the statistics of `per_example`, against naive formulas on every example's gradient by `jax.grad`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import per_example
from jaxmlp.backpropagation import backprop
from jaxmlp.equivalences.rows import Equivalence, Tree, equal_rows, normal, normal_like
from jaxmlp.network import MLP, Layer, Params, forward, loss
from jaxmlp.per_example import BatchFactors

_mean, _variance = partial(jnp.mean, axis=0), partial(jnp.var, axis=0)
Statistic = Callable[[BatchFactors, Array, Params], Tree]


class _Naive(NamedTuple):
    """The gradients of B examples: as a tree of [B, ...], as a matrix [B, n] for each layer, as one matrix [B, P]."""

    tree: Params
    layers: list[Array]
    flat: Array
    y_in: tuple[Array, ...]


# Each statistic of the factors f, and its naive formula on all B gradients g, which needs memory for all.
# `c`: [B], and v has the shapes of the parameters.
STATISTICS: dict[str, tuple[Statistic, Callable[[_Naive, Array, Params], Tree]]] = {
    "gradients": (lambda f, c, v: per_example.gradients(f), lambda g, c, v: g.tree),
    "norms": (lambda f, c, v: per_example.norms(f), lambda g, c, v: _norms(g.flat)),
    "norms by layer": (
        lambda f, c, v: per_example.norms(f, by_layer=True),
        lambda g, c, v: jnp.stack([_norms(layer) for layer in g.layers]),
    ),
    "weighted_sum": (
        lambda f, c, v: per_example.weighted_sum(f, c),
        lambda g, c, v: _weighted_sum(g, [c] * len(g.layers)),
    ),
    "weighted_mean": (
        lambda f, c, v: per_example.weighted_mean(f, c),
        lambda g, c, v: _weighted_sum(g, [c / len(c)] * len(g.layers)),
    ),
    # Half of the gradients exceed the clipping norm.
    "clipping_weights": (
        lambda f, c, v: per_example.clipping_weights(per_example.norms(f), jnp.median(per_example.norms(f))),
        lambda g, c, v: _clip(g.flat, jnp.median(_norms(g.flat))),
    ),
    "clipped_mean": (
        lambda f, c, v: per_example.clipped_mean(f, jnp.median(per_example.norms(f))).gradient,
        lambda g, c, v: _weighted_sum(g, [_clip(g.flat, jnp.median(_norms(g.flat))) / len(c)] * len(g.layers)),
    ),
    "clipped_mean by layer": (
        lambda f, c, v: per_example.clipped_mean(f, jnp.median(per_example.norms(f)) / 2, by_layer=True).gradient,
        lambda g, c, v: _weighted_sum(g, [_clip(layer, jnp.median(_norms(g.flat)) / 2) / len(c) for layer in g.layers]),
    ),
    "variance": (lambda f, c, v: per_example.variance(f), lambda g, c, v: jax.tree.map(_variance, g.tree)),
    "mean_and_variance": (
        lambda f, c, v: tuple(per_example.mean_and_variance(f)),
        lambda g, c, v: tuple(jax.tree.map(moment, g.tree) for moment in (_mean, _variance)),
    ),
    "gram": (lambda f, c, v: per_example.gram(f), lambda g, c, v: g.flat @ g.flat.T),
    "cosines": (lambda f, c, v: per_example.cosines(f), lambda g, c, v: _unit(g.flat) @ _unit(g.flat).T),
    "dots": (
        lambda f, c, v: per_example.dots(f, v),
        lambda g, c, v: sum(
            jnp.tensordot(a, b, b.ndim) for a, b in zip(*map(jax.tree.leaves, (g.tree, v)), strict=True)
        ),
    ),
    "noise_scale": (lambda f, c, v: tuple(per_example.noise_scale(f)), lambda g, c, v: _noise_scale(g.flat)),
    "kronecker": (
        lambda f, c, v: [tuple(pair) for pair in per_example.kronecker(f)],
        lambda g, c, v: [
            (layer.b.T @ layer.b / len(c), _with_one(y).T @ _with_one(y) / len(c))
            for layer, y in zip(g.tree, g.y_in, strict=True)
        ],
    ),
    "diversity": (
        lambda f, c, v: per_example.diversity(f),
        lambda g, c, v: jnp.sum(g.flat**2) / jnp.sum(g.flat.sum(0) ** 2),
    ),
}


def rows_of_statistics(mlp: MLP, params: Params, x: Array, t: Array, seed: int) -> Iterator[Equivalence]:
    """List rows: every statistic of `per_example` against its naive formula."""
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
    yield from equal_rows("statistics", pairs, truth, params, x, c, v)


def _naive(mlp: MLP, params: Params, x: Array, t: Array) -> _Naive:
    tree = jax.vmap(jax.grad(partial(loss, mlp)), (None, 0, 0))(params, x, t)
    layers = [jnp.concatenate([w.reshape(len(x), -1), b], axis=1) for w, b in tree]
    y = jax.vmap(partial(forward, mlp, params))(x).y
    return _Naive(tree, layers, jnp.concatenate(layers, axis=1), y[:-1])


def _norms(rows: Array) -> Array:
    return jnp.linalg.norm(rows, axis=1)


def _clip(rows: Array, limit: Array) -> Array:
    return jnp.where(_norms(rows) > limit, limit / _norms(rows), 1)  # a gradient of zeros stays as it is


def _weighted_sum(g: _Naive, weights: list[Array]) -> Params:
    layers = zip(g.tree, weights, strict=True)
    return tuple(Layer(*(jnp.tensordot(c, leaf, 1) for leaf in layer)) for layer, c in layers)


def _unit(rows: Array) -> Array:
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.where(norms > 0, rows / norms, 0)


def _with_one(rows: Array) -> Array:
    return jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)


def _noise_scale(rows: Array) -> tuple[Array, Array, Array]:
    trace = rows.var(0, ddof=1).sum()
    squared_norm = jnp.sum(rows.mean(0) ** 2) - trace / len(rows)
    return jnp.where(squared_norm > 0, trace / squared_norm, jnp.inf), trace, squared_norm
