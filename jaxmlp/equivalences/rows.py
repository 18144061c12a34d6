"""A row of the table: a claim that a gradient is right, or that two functions are equal, and the numbers to check with.

The numbers are random ones, and those at which formulas are known to break.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.checking import Report, check_equal, check_gradient
from jaxmlp.network import MLP, Layer, Params

Tree = Any
Pair = tuple[Callable[..., Tree], Callable[..., Tree]]


class Claim(NamedTuple):
    """The arguments of `check_gradient`: a function, its gradient, and the parameters to check it at."""

    f: Callable[[Tree], Array]
    gradient: Callable[[Tree], Tree]
    params: Tree


class Equivalence(NamedTuple):
    """A row of the table: its group and name, how to check it, and its claim if the row is about a gradient."""

    group: str
    name: str
    check: Callable[[], Report]
    claim: Claim | None = None


def gradient_row(group: str, name: str, claim: Claim, root: str) -> Equivalence:
    """Make the row of a claim; `root` names the parameters in the report."""
    return Equivalence(group, name, partial(check_gradient, *claim, name=name, root=root), claim)


def equal_rows(group: str, pairs: Mapping[str, Pair], truth: str, *args: Tree) -> Iterator[Equivalence]:
    """Make a row for each pair (function, what it must equal); one program computes them all, as compiling is slow."""

    @cache
    def reports() -> dict[str, Report]:
        return check_equal(pairs, *args, truth=truth)

    for name in pairs:
        yield Equivalence(group, name, partial(lambda name: reports()[name], name))


def rounding_units(report: Report) -> float:
    """Return the largest relative error of a leaf, in units of the rounding of its dtype.

    The relative error is the norm of the error over the norm of the leaf; the unit is the distance from 1 to the next
    number. The result is nan if the report has no leaves, and inf if the error of one is nan.

    >>> rounding_units(check_gradient(lambda w: w**2, lambda w: 2 * w, jnp.array(3.0))) < 4
    True
    """
    units = [leaf.relative / float(jnp.finfo(leaf.dtype).eps) for leaf in report.leaves]
    return max((math.inf if math.isnan(unit) else unit for unit in units), default=math.nan)


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw standard normal numbers, float32."""
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def normal_like(params: Params, rng: np.random.Generator) -> Params:
    """Draw standard normal numbers in the shapes and dtypes of the parameters."""
    return jax.tree.map(lambda leaf: normal(leaf.shape, rng).astype(leaf.dtype), params)


def target_rows(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return t: [K, n], one-hot rows and soft rows, which every loss takes."""
    n_rows, n = shape
    hot = np.eye(n)[np.arange(n_rows) % n]
    soft = rng.multinomial(16, [1 / n] * n, n_rows) / 16
    return jnp.asarray(np.where(np.arange(n_rows)[:, None] % 3 < 2, hot, soft), jnp.float32)


def exact_targets(mlp: MLP, t: np.ndarray) -> Array:
    """Return soft targets that sum to exactly 1; else y - t is not the delta of cross-entropy."""
    if mlp.loss != "cross_entropy" or jnp.ndim(t) != 2:
        return jnp.asarray(t)
    rows = np.round(np.asarray(t, np.float64) * 2**16) / 2**16
    rows[np.arange(len(rows)), rows.argmax(1)] += 1 - rows.sum(1)
    return jnp.asarray(rows, jnp.float32)


def drawn(mlp: MLP, rng: np.random.Generator) -> tuple[Params, Array, Array]:
    """Draw parameters and six examples, x: [6, n_0] and t: [6, n_L]; a bias of 0 would hide faults in its use."""
    pairs = pairwise(mlp.sizes)
    params = tuple(Layer(normal((n, n_in), rng) / n_in**0.5, 0.1 * normal((n,), rng)) for n_in, n in pairs)
    return params, normal((6, mlp.sizes[0]), rng), target_rows((6, mlp.sizes[-1]), rng)
