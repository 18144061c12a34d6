"""Faults of precision: right formulas in poor arithmetic, and faults of functions that always compute in float32.

The functions themselves are computed well.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from experiments.benchmarks.gradients.fault import (
    Problem,
    Tree,
    at_dtype,
    like,
    normal,
    planted,
    times,
    with_leaf,
)
from experiments.benchmarks.gradients.faults_in_formulas import attention, log_sum_exp, logistic
from experiments.benchmarks.gradients.faults_in_networks import tanh_net


def _in_single(problem: Problem) -> Problem:
    def single(params: Tree) -> Tree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    return Problem(
        lambda params: problem.f(single(params)),
        lambda params: like(params, problem.right(single(params))),
        problem.params,
    )


single_net, single_logistic, single_attention = map(_in_single, (tanh_net, logistic, attention))


def _log_variance(x: Array) -> Array:
    return jnp.log(jnp.mean((x - x.mean()) ** 2))


def _log_variance_gradient(x: Array, variance: Callable[[Array], Array] = jnp.var) -> Array:
    return 2 * (x - x.mean()) / (x.size * variance(x))


log_variance = Problem(_log_variance, _log_variance_gradient, at_dtype(500 + normal(37, 30)))
large_logits = log_sum_exp._replace(params=at_dtype(60 * normal(38, 6, 6)))
small_angles = Problem(
    lambda x: jnp.sum(2 * jnp.sin(x / 2) ** 2), jnp.sin, at_dtype(1e-3 * (1 + np.abs(normal(39, 20))))
)
small_lengths = Problem(
    lambda x: jnp.max(jnp.abs(x)) * jnp.linalg.norm(x / jnp.max(jnp.abs(x))),
    lambda x: x / jnp.max(jnp.abs(x)) / jnp.linalg.norm(x / jnp.max(jnp.abs(x))),
    at_dtype(1e-24 * normal(40, 10)),
)


def _flattening(x: Array) -> Array:
    return jnp.sum(0.5 * jnp.arcsinh(x) - 0.25 / (x + jnp.sqrt(x * x + 1)) ** 2)


flattening = Problem(_flattening, lambda x: 1 / (x + jnp.sqrt(x * x + 1)), at_dtype(300 + 100 * np.abs(normal(41, 20))))
saturated = Problem(
    lambda z: -jnp.sum(nn.sigmoid(-z)), lambda z: nn.sigmoid(z) * nn.sigmoid(-z), at_dtype(13 + np.abs(normal(42, 20)))
)


def _log_variance_naive(x: Array) -> Array:
    return _log_variance_gradient(x, lambda x: jnp.mean(x * x) - x.mean() ** 2)


def _naive_sine(x: Array) -> Array:
    return jnp.sqrt(1 - jnp.cos(x) ** 2)


def _naive_norm(x: Array) -> Array:
    return x / jnp.sqrt(jnp.sum(x * x))


def _naive_difference(x: Array) -> Array:
    return jnp.sqrt(x * x + 1) - x


def _naive_sigmoid_slope(z: Array) -> Array:
    return nn.sigmoid(z) * (1 - nn.sigmoid(z))


def _naive_softmax(z: Array) -> Array:
    e = jnp.exp(z)
    return e / e.sum(1, keepdims=True) * jnp.asarray(1 + 0.3 * normal(8, 6), z.dtype)[:, None]


_SINGLE_ONLY = {"structural": False, "dtypes": ("float32",)}

FAULTS = [
    *planted(
        "network in float32",
        single_net,
        ("a bias halved", "factor", with_leaf(single_net.right, 3, lambda leaf: leaf / 2)),
        single=True,
    ),
    *planted(
        "logistic regression in float32",
        single_logistic,
        ("uphill", "sign", times(-1, single_logistic.right)),
        single=True,
    ),
    *planted(
        "attention in float32",
        single_attention,
        ("values detached", "zero", with_leaf(single_attention.right, 2, jnp.zeros_like)),
        single=True,
    ),
    *planted("log-variance", log_variance, ("E x^2 - (E x)^2", "precision", _log_variance_naive), **_SINGLE_ONLY),
    *planted("large logits", large_logits, ("exp overflows", "precision", _naive_softmax), **_SINGLE_ONLY),
    *planted("small angles", small_angles, ("sqrt(1 - cos^2)", "precision", _naive_sine), **_SINGLE_ONLY),
    *planted("small lengths", small_lengths, ("squares underflow", "precision", _naive_norm), **_SINGLE_ONLY),
    *planted("flattening", flattening, ("sqrt(x^2 + 1) - x", "precision", _naive_difference), **_SINGLE_ONLY),
    *planted("saturated", saturated, ("y (1 - y)", "precision", _naive_sigmoid_slope), **_SINGLE_ONLY),
]
