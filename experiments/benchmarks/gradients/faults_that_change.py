"""Gradients that change with every call."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.benchmarks.gradients.fault import (
    Tree,
    planted,
)
from experiments.benchmarks.gradients.faults_in_formulas import quadratic
from experiments.benchmarks.gradients.faults_in_networks import tanh_net

_GENERATOR = np.random.default_rng(43)


def _draw(leaf: Array, draw: Callable[[tuple[int, ...]], np.ndarray]) -> Array:
    shape = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.pure_callback(lambda: np.asarray(draw(leaf.shape), leaf.dtype), shape, vmap_method="sequential")


def _jittering(params: Tree) -> Tree:
    gradient = tanh_net.right(params)
    return jax.tree.map(lambda g: g * (1 + 0.05 * _draw(g, _GENERATOR.standard_normal)), gradient)


def _dropping_out(params: Tree) -> Tree:
    return tuple(
        layer._replace(w=layer.w * _draw(layer.w, lambda shape: 2.0 * (_GENERATOR.random(shape) < 0.5)))
        for layer in tanh_net.right(params)
    )


def _drawing_in_python(params: Tree) -> Tree:
    """Draw with NumPy, whose numbers a compiled program keeps: the same for every call, or others, as it is called."""
    x = quadratic.right(params)
    return x + 0.05 * jnp.asarray(_GENERATOR.standard_normal(x.shape), x.dtype)


FAULTS = [
    *planted(
        "network",
        tanh_net,
        ("rounded at random", "non_deterministic", _jittering),
        ("dropout left on", "non_deterministic", _dropping_out),
        structural=False,
    ),
    *planted(
        "quadratic", quadratic, ("NumPy's noise", "noise non_deterministic", _drawing_in_python), structural=False
    ),
]
