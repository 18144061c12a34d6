"""Right gradients, any number of them: what a check of gradients must never call wrong.

They are right to working precision, by an honest algorithm, where that is hard to see: at kinks with any valid
subgradient, at minima where all of the gradient is rounding, in sums taken in another order, in ill-conditioned
solves, and where numbers are very large or very small. Every instance follows from (seed, index) alone. Functions
come from small pools, so that programs are compiled once and met again with other parameters.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, nn

from experiments.benchmarks.gradients.fault import Tree, like, precision
from experiments.benchmarks.gradients.faults import PROBLEMS
from experiments.benchmarks.gradients.faults_in_networks import batch_loss
from experiments.benchmarks.gradients.made import Function, Made, pick, signs
from experiments.benchmarks.gradients.right_at_kinks import kinks
from jaxmlp import MLP, Layer, loss_and_gradient
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.losses import LOSSES

__all__ = ["FAMILIES", "Right", "right_gradient"]


class Right(NamedTuple):
    """A function, its right gradient, and a point.

    Attributes
    ----------
    family
        Of `FAMILIES`.
    name
        What it is, with the dtype of the parameters.
    f, gradient
        A pytree to a scalar, and to its gradient.
    params
        NumPy arrays of the dtype; to be made JAX's in the context of `precision`.
    dtype
        "float64", "float32" or "bfloat16".
    """

    family: str
    name: str
    f: Function
    gradient: Function
    params: Tree
    dtype: str


# Networks


@lru_cache
def _network(number: int) -> tuple[str, MLP, Function, Function]:
    """Return one of the pool's networks, with a batch."""
    random = np.random.default_rng((1, number))
    loss = pick(random, sorted(LOSSES))
    output = pick(random, tuple(LOSSES[loss].outputs))
    hidden = [name for name, phi in ACTIVATIONS.items() if phi.derivative is not None]
    widths = pick(random, ((4, 3), (5, 6, 3), (6, 8, 8, 4), (3, 5, 4, 4, 2), (8, 16, 5), (2, 30, 1)))
    mlp = MLP(widths, tuple(pick(random, hidden) for _ in widths[2:]), output, loss)
    batch = pick(random, (1, 3, 8, 17))
    x = random.standard_normal((batch, widths[0])).astype(np.float32)
    t = random.random((batch, widths[-1])).astype(np.float32)
    if loss == "cross_entropy":
        t = random.integers(0, widths[-1], batch)
    name = f"{'-'.join(map(str, widths))}, {', '.join(mlp.activations)}, {loss}, batch of {batch}"
    return name, mlp, partial(batch_loss, mlp, x, t), partial(_network_gradient, mlp, x, t)


def _network_gradient(mlp: MLP, x: np.ndarray, t: np.ndarray, params: Tree) -> Tree:
    return loss_and_gradient(mlp, params, jnp.asarray(x), jnp.asarray(t))[1]


def _networks(random: np.random.Generator, dtype: str) -> Made:
    name, mlp, f, gradient = _network(int(random.integers(60)))
    scale = pick(random, (0.1, 1, 1, 1, 3))
    params = tuple(
        Layer(scale * random.standard_normal((n_out, n_in)) / n_in**0.5, 0.3 * random.standard_normal(n_out))
        for n_in, n_out in pairwise(mlp.sizes)
    )
    return Made(name, f, gradient, params)


# Formulas: the functions of the faults, with the gradients that are right there, elsewhere

_FORMULAS = (
    *("quadratic", "logistic regression", "log-sum-exp", "layer norm", "attention", "network with decay"),
    *("log-determinant", "linear solve", "convolution", "pendulum", "NumPy, called back"),
    *("network in float32", "logistic regression in float32"),
    *("log-variance", "large logits", "small angles", "small lengths", "flattening", "saturated"),
)
_WITH_BFLOAT16 = _FORMULAS[:6]
_NEAR = {"log-variance": 1e-2, "linear solve": 0.1}  # how far to move: not to where it is ill-conditioned


def _formulas(random: np.random.Generator, dtype: str) -> Made:
    name = pick(random, _WITH_BFLOAT16 if dtype == "bfloat16" else _FORMULAS)
    problem, share = PROBLEMS[name], _NEAR.get(name, 0.3)
    with precision("float32"):
        start = jax.tree.map(np.asarray, problem.params("float32"))
    params = jax.tree.map(
        lambda p: p.astype(np.float64) * (1 + share * random.uniform(-1, 1, p.shape)),
        start,
    )
    return Made(name, problem.f, problem.right, params)


# Compositions

_UNARY: tuple[Callable[[Array], Array], ...] = (
    jnp.sin,
    jnp.tanh,
    jnp.arctan,
    nn.softplus,
    nn.sigmoid,
    lambda x: jnp.exp(-x * x),
    lambda x: jnp.log1p(x * x),
    lambda x: jnp.sqrt(1 + x * x),
    lambda x: x / (1 + x * x),
    lambda x: x * x,
)
_BINARY: tuple[Callable[[Array, Array], Array], ...] = (
    lambda x, y: x * y,
    lambda x, y: x + y,
    lambda x, y: x - 2 * y,
    lambda x, y: x / (1 + y * y),
    lambda x, y: jnp.cos(x + y),
)


@lru_cache
def _composition(number: int) -> tuple[Function, Function]:
    random = np.random.default_rng((2, number))
    depth, steps = int(random.integers(1, 6)), []
    for _ in range(depth):
        steps.append((pick(random, _UNARY), pick(random, _BINARY), pick(random, _UNARY)))
    weights = random.standard_normal(6).astype(np.float32)

    def f(params: Tree) -> Array:
        x, y = params
        for first, both, second in steps:
            x, y = both(first(x), y), second(y) + 0.3 * x
        return jnp.asarray(weights, x.dtype) @ (x * jnp.tanh(y))

    return f, jax.grad(f)


def _compositions(random: np.random.Generator, dtype: str) -> Made:
    number = int(random.integers(60))
    params = (random.standard_normal(6), random.standard_normal(6))
    return Made(f"composition {number}", *_composition(number), params)


# Minima

_X_LEAST, _T_LEAST = signs(60, 7).reshape(15, 4), signs(15, 8)
_W_LEAST = np.linalg.lstsq(_X_LEAST.astype(np.float64), _T_LEAST.astype(np.float64))[0]
_CENTRE = signs(5, 9)


def _least_squares(w: Array) -> Array:
    return 0.5 * jnp.mean((jnp.asarray(_X_LEAST, w.dtype) @ w - jnp.asarray(_T_LEAST, w.dtype)) ** 2)


def _least_squares_gradient(w: Array) -> Array:
    x = jnp.asarray(_X_LEAST, w.dtype)
    return x.T @ (x @ w - jnp.asarray(_T_LEAST, w.dtype)) / len(x)


def _bowl(x: Array) -> Array:
    return 0.5 * jnp.sum((x - jnp.asarray(_CENTRE, x.dtype)) ** 2)


def _rosenbrock(x: Array) -> Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _rosenbrock_gradient(x: Array) -> Array:
    inner = x[1:] - x[:-1] ** 2
    return jnp.zeros_like(x).at[:-1].add(-400 * x[:-1] * inner - 2 * (1 - x[:-1])).at[1:].add(200 * inner)


def _fourth_power(x: Array) -> Array:
    return jnp.sum((x - 1) ** 4)


_MINIMA: dict[str, tuple[Function, Function, np.ndarray]] = {
    "least squares": (_least_squares, _least_squares_gradient, _W_LEAST),
    "bowl": (_bowl, lambda x: x - jnp.asarray(_CENTRE, x.dtype), _CENTRE),
    "rosenbrock": (_rosenbrock, _rosenbrock_gradient, np.ones(5)),
    "fourth power": (_fourth_power, lambda x: 4 * (x - 1) ** 3, np.ones(5)),
}


def _minima(random: np.random.Generator, dtype: str) -> Made:
    name = pick(random, tuple(_MINIMA))
    f, gradient, minimum = _MINIMA[name]
    distance = pick(random, (0, 0, 1e-12, 1e-9, 1e-6, 1e-4, 1e-2))
    return Made(f"{name}, {distance} away", f, gradient, minimum + distance * random.standard_normal(len(minimum)))


# Long sums

_ORDERS = ("reversed", "pairwise", "strided", "sequential")


@lru_cache
def _sum(n: int, order: str) -> tuple[Function, Function]:
    def data(dtype: Any) -> Array:
        # Computed, not kept: a million constants would be compiled into the program.
        return (1 + jnp.arange(n) % 997).astype(dtype) / 997

    def f(w: Array) -> Array:
        return jnp.sum(nn.softplus(w[0] + w[1] * data(w.dtype)) * (1 + w[2] ** 2)) / n

    def gradient(w: Array) -> Array:
        x = data(w.dtype)
        z = w[0] + w[1] * x
        s = nn.sigmoid(z) * (1 + w[2] ** 2)
        return jnp.stack([_ordered(one, order) for one in (s, s * x, 2 * w[2] * nn.softplus(z))]) / n

    return f, gradient


def _ordered(terms: Array, order: str) -> Array:
    if order == "sequential":
        return lax.scan(lambda total, term: (total + term, None), jnp.zeros((), terms.dtype), terms)[0]
    if order == "pairwise":
        while terms.size > 1:
            terms = jnp.pad(terms, (0, terms.size % 2))
            terms = terms[::2] + terms[1::2]
        return terms[0]
    return jnp.sum(terms[::-1] if order == "reversed" else terms.reshape(-1, 100).sum(0))


def _sums(random: np.random.Generator, dtype: str) -> Made:
    order = pick(random, _ORDERS)
    # One after the other, float32 loses a digit per decade: past 1e4 terms that is no longer an honest sum.
    most = {"sequential": 2 if dtype == "float32" else 3}.get(order, 4)
    n = pick(random, (1000, 10_000, 100_000, 1_000_000)[:most])
    return Made(f"{n} terms, {order}", *_sum(n, order), random.standard_normal(3))


# Ill-conditioned


@lru_cache
def _hilbert(n: int, kind: str) -> tuple[Function, Function]:
    def h(dtype: Any) -> Array:
        i = jnp.arange(n, dtype=dtype)
        return 1 / (i[:, None] + i + 1)

    if kind == "energy":
        return lambda b: 0.5 * b @ jnp.linalg.solve(h(b.dtype), b), lambda b: jnp.linalg.solve(h(b.dtype), b)
    return lambda x: 0.5 * jnp.sum((h(x.dtype) @ x) ** 2), lambda x: h(x.dtype).T @ (h(x.dtype) @ x)


def _ill_conditioned(random: np.random.Generator, dtype: str) -> Made:
    n, kind = int(random.integers(2, 9 if dtype == "float64" else 5)), pick(random, ("energy", "residual"))
    x = random.standard_normal(n)
    if kind == "energy":  # a right-hand side whose solution is of size 1
        i = np.arange(n)
        x = (1 / (i[:, None] + i + 1)) @ x
    return Made(f"Hilbert {n} x {n}, {kind}", *_hilbert(n, kind), x)


# Scales

_SCALES = (1e-8, 1e-4, 1.0, 1e4, 1e8)


@lru_cache
def _scaled(output: float, first: float, second: float) -> tuple[Function, Function]:
    """Return output * sum log cosh(c x / first) + x y: smooth, and of the same shape at every scale."""
    c = 1 + 0.2 * np.abs(signs(6, 10))

    def f(params: Tree) -> Array:
        a, b = params["a"] / first, params["b"] / second
        return output * jnp.sum(jnp.logaddexp(c * a, -c * a) + jnp.sin(a) * b + 0.5 * b**2)

    def gradient(params: Tree) -> Tree:
        a, b = params["a"] / first, params["b"] / second
        return like(
            params,
            {"a": output * (c * jnp.tanh(c * a) + jnp.cos(a) * b) / first, "b": output * (jnp.sin(a) + b) / second},
        )

    return f, gradient


def _scales(random: np.random.Generator, dtype: str) -> Made:
    scales = [1.0, 1.0, 1.0]
    for place in random.choice(3, pick(random, (1, 1, 2)), replace=False):
        scales[place] = pick(random, _SCALES)
    output, first, second = scales
    params = {"a": first * random.standard_normal(6), "b": second * random.standard_normal(6)}
    return Made(f"output {output:g}, leaves {first:g} and {second:g}", *_scaled(*scales), params)


_ALL, _WITHOUT_BFLOAT16 = ("float64", "float32", "bfloat16"), ("float64", "float32")
FAMILIES: dict[str, tuple[Callable[[np.random.Generator, str], Made], float, tuple[str, ...]]] = {
    "networks": (_networks, 0.28, _ALL),
    "formulas": (_formulas, 0.18, _ALL),
    "compositions": (_compositions, 0.12, _ALL),
    "kinks": (kinks, 0.14, _ALL),
    "minima": (_minima, 0.1, _ALL),
    "long sums": (_sums, 0.04, _WITHOUT_BFLOAT16),
    "ill-conditioned": (_ill_conditioned, 0.04, _WITHOUT_BFLOAT16),
    "scales": (_scales, 0.1, _ALL),
}


def right_gradient(seed: int, index: int) -> Right:
    """Make one instance; the family and the dtype are drawn too, of the shares that `FAMILIES` gives."""
    random = np.random.default_rng((seed, index))
    shares = [share for _, share, _ in FAMILIES.values()]
    family = list(FAMILIES)[int(random.choice(len(shares), p=np.array(shares) / sum(shares)))]
    make, _, dtypes = FAMILIES[family]
    dtype = pick(random, (*dtypes[:1], *dtypes))  # float64 twice as often as others
    name, f, gradient, params = make(random, dtype)
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.dtype(dtype)), params)
    return Right(family, f"{name}, {dtype}, number {index}", f, gradient, rounded, dtype)
