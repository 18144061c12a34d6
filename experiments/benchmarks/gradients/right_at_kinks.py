"""Right gradients at kinks: every share that is drawn here lies in the kink's subdifferential."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from experiments.benchmarks.gradients.fault import Tree
from experiments.benchmarks.gradients.made import Function, Made, pick, signs

__all__ = ["kinks"]

_SHARES = (0.0, 0.3, 0.5, 1.0)


def _on_kinks(random: np.random.Generator, n: int) -> np.ndarray:
    """Return points of which some lie on the kink at 0, some next to it, and the others anywhere."""
    near = random.choice([-1.0, 1.0], n) * 10.0 ** random.uniform(-12, -2, n)
    where = random.integers(0, 3, n)
    return np.select([where == 0, where == 1], [np.zeros(n), near], random.standard_normal(n))


@lru_cache
def _kink(kind: str, share: float) -> tuple[Function, Function]:
    return {"relu": _relu, "abs": _absolute, "max": _maximum, "hinge": _hinge, "network at 0": _network_at_zero}[kind](
        share
    )


def _step(z: Array, share: float) -> Array:
    """Return the slope of relu, `share` at 0."""
    return jnp.where(z == 0, share, z > 0).astype(z.dtype)


def _relu(share: float) -> tuple[Function, Function]:
    c = signs(9)
    return lambda x: jnp.asarray(c, x.dtype) @ nn.relu(x), lambda x: jnp.asarray(c, x.dtype) * _step(x, share)


def _absolute(share: float) -> tuple[Function, Function]:
    c = signs(9)
    return (
        lambda x: jnp.asarray(c, x.dtype) @ jnp.abs(x),
        lambda x: jnp.asarray(c, x.dtype) * (2 * _step(x, share) - 1),
    )


def _maximum(share: float) -> tuple[Function, Function]:
    """Pool by threes; tied maxima share the slope, the first of them `share` more of it."""
    c = signs(4)

    def gradient(x: Array) -> Array:
        groups = x.reshape(4, 3)
        tied = (groups == groups.max(1, keepdims=True)).astype(x.dtype)
        first = jnp.cumsum(tied, 1) * tied == 1
        parts = share * first + (1 - share) * tied / tied.sum(1, keepdims=True)
        return (jnp.asarray(c, x.dtype)[:, None] * parts.astype(x.dtype)).reshape(12)

    return lambda x: jnp.asarray(c, x.dtype) @ x.reshape(4, 3).max(1), gradient


# Of eighths, the first a power of 2: margins can be made exactly 1 in every dtype.
_X_HINGE = np.random.default_rng(4).integers(-8, 9, (6, 4)).astype(np.float32) / 8
_X_HINGE[:, 0] = (0.5, -1, 0.25, 1, -0.5, 0.5)


def _hinge(share: float) -> tuple[Function, Function]:
    x = jnp.asarray

    def f(w: Array) -> Array:
        return nn.relu(1 - x(_X_HINGE, w.dtype) @ w).sum()

    def gradient(w: Array) -> Array:
        return -_step(1 - x(_X_HINGE, w.dtype) @ w, share) @ x(_X_HINGE, w.dtype)

    return f, gradient


def _network_at_zero(share: float) -> tuple[Function, Function]:
    """A layer of relu whose weights are 0, or whose units sleep: all examples lie on one kink of each unit."""
    x, c = np.abs(signs(20, 5).reshape(5, 4)), signs(3, 6)

    def f(params: Tree) -> Array:
        w, b = params
        return (nn.relu(jnp.asarray(x, w.dtype) @ w.T + b) @ jnp.asarray(c, w.dtype)).mean()

    def gradient(params: Tree) -> Tree:
        w, b = params
        delta = _step(jnp.asarray(x, w.dtype) @ w.T + b, share) * jnp.asarray(c, w.dtype) / 5
        return delta.T @ jnp.asarray(x, w.dtype), delta.sum(0)

    return f, gradient


def kinks(random: np.random.Generator, dtype: str) -> Made:
    kind, share = pick(random, ("relu", "abs", "max", "hinge", "network at 0")), pick(random, _SHARES)
    if kind == "max":
        levels = random.standard_normal((4, 1)) + np.abs(_on_kinks(random, 12)).reshape(4, 3) * random.integers(0, 2)
        params = np.broadcast_to(levels, (4, 3)).reshape(12)
    elif kind == "hinge":
        params = np.array([1 / _X_HINGE[int(random.integers(6)), 0], 0, 0, 0])
    elif kind == "network at 0":
        awake = random.integers(0, 2, 3)
        params = (awake[:, None] * random.standard_normal((3, 4)), awake * random.standard_normal(3))
    else:
        params = _on_kinks(random, 9)
    return Made(f"{kind}, {share} of the slope", *_kink(kind, share), params)
