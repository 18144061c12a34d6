"""Faults in fused functions with a derivative rule of their own.

The right gradient is autodiff's, of the same function without the rule.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, nn

from experiments.benchmarks.gradients.fault import (
    Fault,
    Tree,
    at_dtype,
    normal,
)
from experiments.benchmarks.gradients.faults_in_formulas import X_LOGISTIC


def _fused_cross_entropy(backward: Callable[[Array, Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def value(z: Array, t: Array) -> Array:
        return nn.logsumexp(z, axis=1) - jnp.sum(z * t, 1)

    fused = jax.custom_vjp(value)
    fused.defvjp(lambda z, t: (value(z, t), (nn.softmax(z), t)), lambda kept, g: (backward(*kept, g), None))
    return fused


def _classifier(cross_entropy: Callable[[Array, Array], Array], params: Tree) -> Array:
    w, b = params
    z = jnp.asarray(X_LOGISTIC, w.dtype) @ w + b
    return cross_entropy(z, nn.one_hot(jnp.arange(20) % 3, 3, dtype=z.dtype)).mean()


def _bias_gelu(backward: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Callable[[Array, Array], Array]:
    def value(z: Array, b: Array) -> Array:
        return nn.gelu(z + b)

    fused = jax.custom_vjp(value)
    fused.defvjp(lambda z, b: (value(z, b), (z, b)), lambda kept, g: backward(*kept, g))
    return fused


def _gelu_slope(z: Array) -> Array:
    return jax.jvp(nn.gelu, (z,), (jnp.ones_like(z),))[1]


def _gelu_layer(bias_gelu: Callable[[Array, Array], Array], params: Tree) -> Array:
    y = bias_gelu(jnp.asarray(normal(30, 6, 5), params["w"].dtype) @ params["w"], params["b"])
    return jnp.mean((y - jnp.asarray(normal(31, 6, 6), y.dtype)) ** 2)


_CLASSIFIER = at_dtype((normal(32, 7, 3), 0.3 * normal(33, 3)))
_GELU_LAYER = at_dtype({"w": normal(34, 5, 6), "b": 0.5 * normal(35, 6)})


def _classifier_fault(name: str, kinds: str, backward: Callable[[Array, Array, Array], Array]) -> Fault:
    f = partial(_classifier, _fused_cross_entropy(backward))
    naive = partial(_classifier, lambda z, t: nn.logsumexp(z, axis=1) - jnp.sum(z * t, 1))
    return Fault(f"fused cross-entropy: {name}", (kinds,), f, jax.grad(naive), _CLASSIFIER, jax.grad(f), rule=True)


def _gelu_fault(name: str, kinds: str, backward: Callable[..., tuple[Array, Array]]) -> Fault:
    f = partial(_gelu_layer, _bias_gelu(backward))
    right = jax.grad(partial(_gelu_layer, lambda z, b: nn.gelu(z + b)))
    return Fault(f"fused bias and gelu: {name}", (kinds,), f, right, _GELU_LAYER, jax.grad(f), rule=True)


def _gelu_at_output(z: Array, b: Array, g: Array) -> tuple[Array, Array]:
    delta = g * _gelu_slope(nn.gelu(z + b))
    return delta, delta.sum(0)


def _gelu_bias_bare(z: Array, b: Array, g: Array) -> tuple[Array, Array]:
    return g * _gelu_slope(z + b), g.sum(0)


def _gelu_bias_across(z: Array, b: Array, g: Array) -> tuple[Array, Array]:
    delta = g * _gelu_slope(z + b)
    return delta, delta.sum(1)


FAULTS = [
    _classifier_fault("forgets what comes from above", "factor", lambda y, t, g: y - t),
    _classifier_fault("y for y - t", "dropped_term", lambda y, t, g: g[:, None] * y),
    _classifier_fault("t - y", "sign", lambda y, t, g: g[:, None] * (t - y)),
    _gelu_fault("slope at y", "derivative_at_output", _gelu_at_output),
    _gelu_fault("bias without slope", "missing_derivative", _gelu_bias_bare),
    _gelu_fault("bias summed over units", "wrong_axis", _gelu_bias_across),
]
