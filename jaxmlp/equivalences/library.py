"""What of this library must equal what, as a table: the library checks itself by the means that it offers to others.

Every row holds something written by hand against what it is to be: a derivative against autodiff and differences of its
function (`jaxmlp.checking`), a statistic of every example's gradient against the naive formula on B gradients that
`jax.grad` gives. The rows are made of `ACTIVATIONS` and `LOSSES`: an entry there is a handful of rows here.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import cycle, islice, pairwise
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import per_example
from jaxmlp.activations import ACTIVATIONS, Activation
from jaxmlp.backpropagation import backprop, loss_and_gradient
from jaxmlp.checking import LeafError, PointCheck, Report, check_gradient
from jaxmlp.checking._decision import ROUNDINGS
from jaxmlp.checking._functions import to_float64, to_numpy
from jaxmlp.checking._rounding import epsilon, scale, spread, threshold
from jaxmlp.curvature import gauss_newton_vector_product, hessian_vector_product
from jaxmlp.losses import LOSSES, Loss
from jaxmlp.network import MLP, Layer, Params, forward, loss
from jaxmlp.per_example import BatchFactors

__all__ = ["Claim", "Equivalence", "networks", "of_library", "of_model", "rounding_units"]

Tree = Any
_DEPTHS = 4
_EXAMPLES = 256  # of a model's own data: what is right for these is right for all
_NUMBERS = 2**24  # in all gradients that are formed one by one: 128 MiB in float64


class Claim(NamedTuple):
    """A gradient, and what it is claimed to be the gradient of, at parameters: what `check_gradient` takes."""

    f: Callable[[Tree], Array]
    gradient: Callable[[Tree], Tree]
    params: Tree


class Equivalence(NamedTuple):
    """A row of the table: its group and name, how to check it, and the claim behind it, if it is of a gradient."""

    group: str
    name: str
    check: Callable[[], Report]
    claim: Claim | None = None


def of_library(*, n_networks: int | None = None, seed: int = 0) -> Iterator[Equivalence]:
    """List what of the library must equal what; a row is computed when its `check` is called.

    Parameters
    ----------
    n_networks
        How many of `networks` to check; all if None. The first four have one to four layers.
    seed
        Of the numbers that it is checked with.

    Yields
    ------
    row
        An `Equivalence`. A check takes half a second to some seconds, nearly all of it for compiling.

    Examples
    --------
    >>> rows = {row.name: row for row in of_library()}
    >>> bool(rows["tanh, first derivative"].check())
    True
    """
    rng = np.random.default_rng(seed)
    for name, activation in ACTIVATIONS.items():
        yield from _of_activation(name, activation, rng)
    for name, entry in LOSSES.items():
        for output in entry.outputs:
            yield from _of_loss(f"{name} of {output}", entry, ACTIVATIONS[output], rng)
    for mlp in islice(networks(), n_networks):
        yield from _of_network(mlp, _params(mlp, rng), *_examples(mlp, rng), seed)
    # The output is one that no example leaves without a gradient: of zeros every formula gives zeros.
    deepest = max(networks(), key=lambda mlp: (len(mlp.sizes), mlp.loss == "cross_entropy"))
    yield from _of_examples(deepest, _params(deepest, rng), *_examples(deepest, rng), seed)


def of_model(
    mlp: MLP, params: Params, x: Array | np.ndarray, t: Array | np.ndarray, *, seed: int = 0
) -> Iterator[Equivalence]:
    """List what must equal what for one network on its own data, of which 256 examples are drawn.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    x, t
        [N, n_0], and N targets of any kind that `backprop` takes.
    seed
        Of the draw, and of the directions of the checks.

    Yields
    ------
    row
        An `Equivalence`.

    Examples
    --------
    >>> from jaxmlp.network import init
    >>> mlp = MLP((4, 3, 2))
    >>> rows = of_model(mlp, init(mlp, jax.random.key(0)), np.ones((5, 4), np.float32), np.array([0, 1, 1, 0, 1]))
    >>> bool(next(rows).check())
    True
    """
    order = np.random.default_rng(seed).permutation(len(x))
    x, t = np.asarray(x), np.asarray(t)
    drawn = order[:_EXAMPLES]
    yield from _of_network(mlp, params, jnp.asarray(x[drawn]), _exact(mlp, t[drawn]), seed)
    few = order[: max(2, min(64, _NUMBERS // mlp.n_parameters))]
    yield from _of_examples(mlp, params, jnp.asarray(x[few]), _exact(mlp, t[few]), seed)


def networks() -> Iterator[MLP]:
    """Make small networks that have together every pair of loss and output, and every activation of a hidden layer.

    They are of one to four layers, in turn.

    >>> [len(mlp.activations) for mlp in networks()][:5]
    [1, 2, 3, 4, 1]
    """
    hidden = cycle(name for name, activation in ACTIVATIONS.items() if activation.derivative is not None)
    pairs = [(name, output) for name, entry in LOSSES.items() for output in entry.outputs]
    for (name, output), depth in zip(pairs, cycle(range(1, _DEPTHS + 1)), strict=False):
        yield MLP((5, *[4] * (depth - 1), 3), tuple(islice(hidden, depth - 1)), output, name)


def rounding_units(report: Report) -> float:
    """Return the largest relative error of a leaf, in roundings of the dtype that was computed in.

    The norm of the error over the norm of the leaf, over the distance from 1 to the next number; nan without leaves,
    inf where a number is missing.

    >>> rounding_units(check_gradient(lambda w: w**2, lambda w: 2 * w, jnp.array(3.0))) < 4
    True
    """
    units = [leaf.relative / epsilon(leaf.dtype) for leaf in report.leaves]
    return max((math.inf if math.isnan(unit) else unit for unit in units), default=math.nan)


def _of_activation(name: str, activation: Activation, rng: np.random.Generator) -> Iterator[Equivalence]:
    """List phi' and phi - t beside phi, and phi'' beside phi'."""
    z = _weighted_inputs(rng)
    g, u, t = (_normal(z.shape, rng) for _ in range(3))
    phi, pullback = jax.vmap(activation.phi), jax.vmap(activation.pullback)
    change, error = jax.vmap(activation.pullback_change), jax.vmap(activation.error)

    def value(at: dict[str, Array]) -> Array:
        return jnp.vdot(g, phi(at["z"])) + 0.5 * jnp.sum((phi(at["z of phi - t"]) - t) ** 2)

    def first(at: dict[str, Array]) -> dict[str, Array]:
        z, other = at["z"], at["z of phi - t"]
        return {"z": pullback(z, _like(g, z)), "z of phi - t": pullback(other, error(other, _like(t, z)))}

    def second(at: dict[str, Array]) -> dict[str, Array]:
        # J is symmetric, and so is the Hessian of g . phi: the change along u is the gradient of u . J g.
        z, g = at["z"], at["g"]
        return {
            "z": change(z, g, _like(u, z), jnp.zeros_like(g)),
            "g": change(z, g, jnp.zeros_like(z), _like(u, g)),
        }

    at = {"z": z, "z of phi - t": z}
    yield _claimed("activations", f"{name}, first derivative", value, first, at, "at")
    slope = Claim(lambda at: jnp.vdot(u, pullback(at["z"], at["g"])), second, {"z": z, "g": g})
    yield _claimed("activations", f"{name}, second derivative", *slope, "at")


def _of_loss(name: str, entry: Loss, output: Activation, rng: np.random.Generator) -> Iterator[Equivalence]:
    """List delta beside the loss, its change beside delta, and the part of it that is never negative beside it."""
    z = _weighted_inputs(rng)
    t = _target_rows(z.shape, rng)
    u = _normal(z.shape, rng)
    value, delta = (jax.vmap(partial(part, output)) for part in (entry.value, entry.delta))
    change, gauss_newton = (jax.vmap(partial(part, output)) for part in (entry.delta_change, entry.gauss_newton))

    def gradient(z: Array) -> Array:
        return delta(z, _like(t, z))

    def product(z: Array) -> Array:
        return change(z, _like(t, z), _like(u, z))

    def without_residual(z: Array, u: Array) -> Array:
        # At t = y no residual is left, and with it nothing of the Hessian but this part.
        here = jax.vmap(output.phi)(z)
        return jax.jvp(jax.grad(lambda z: value(z, here).sum()), (z,), (u,))[1]

    yield _claimed("losses", f"{name}, delta", lambda z: value(z, _like(t, z)).sum(), gradient, z, "z")
    yield _claimed("losses", f"{name}, change of delta", lambda z: jnp.vdot(u, delta(z, _like(t, z))), product, z, "z")
    # Beside the kinks, where no product with a Hessian is the only one.
    yield from _comparisons(
        "losses",
        {f"{name}, Gauss-Newton": (gauss_newton, without_residual)},
        "autodiff of the loss at t = y",
        z[-3:],
        u[-3:],
    )


def _of_network(mlp: MLP, params: Params, x: Array, t: Array, seed: int) -> Iterator[Equivalence]:
    """List the gradient beside the loss, and both second-order products beside autodiff's."""
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda leaf: _normal(leaf.shape, rng).astype(leaf.dtype), params)

    def mean_loss(params: Params) -> Array:
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    def gradient(params: Params) -> Params:
        return loss_and_gradient(mlp, params, x, t)[1]

    def hessian(params: Params, direction: Params) -> Params:
        return jax.jvp(jax.grad(mean_loss), (params,), (direction,))[1]

    name = _name(mlp)
    yield _claimed("networks", f"{name}, gradient", mean_loss, gradient, params, "params")
    products = {
        f"{name}, Hessian times v": (lambda w, v: hessian_vector_product(mlp, w, x, t, v), hessian),
        f"{name}, Gauss-Newton times v": (
            lambda w, v: gauss_newton_vector_product(mlp, w, x, t, v),
            lambda w, v: _gauss_newton(mlp, w, x, v),
        ),
    }
    yield from _comparisons("networks", products, "autodiff of the loss, twice", params, direction)


def _gauss_newton(mlp: MLP, params: Params, x: Array, direction: Params) -> Params:
    """Multiply by J^T H J of the mean loss, by autodiff: J of z_L, or of y_L for the quadratic loss."""
    is_quadratic = mlp.loss == "quadratic"

    def last(params: Params) -> Array:
        z, y = jax.vmap(partial(forward, mlp, params))(x)
        return y[-1] if is_quadratic else z[-1]

    value = partial(LOSSES[mlp.loss].value, ACTIVATIONS["identity" if is_quadratic else mlp.output])
    # This loss's Hessian is the same for all targets, and y = t is one that all kinds of targets can be.
    rows = jax.vmap(partial(forward, mlp, params))(x).y[-1]
    outputs, moved = jax.jvp(last, (params,), (direction,))
    curved = jax.jvp(jax.grad(lambda z: jax.vmap(value)(z, rows).mean()), (outputs,), (moved,))[1]
    return jax.vjp(last, params)[1](curved)[0]


Statistic = Callable[[BatchFactors, Array, Params], Tree]


class _Naive(NamedTuple):
    """B gradients formed one by one: as trees with a B before, as matrices [B, n] by layer, and as one [B, P]."""

    tree: Params
    layers: list[Array]
    flat: Array
    y_in: tuple[Array, ...]


# Each statistic of `per_example` beside the formula by which anybody would compute it, were memory free. `c` are B
# numbers, and v is shaped like the parameters.
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


def _of_examples(mlp: MLP, params: Params, x: Array, t: Array, seed: int) -> Iterator[Equivalence]:
    """List every statistic of `per_example` beside the naive formula."""
    rng = np.random.default_rng(seed)
    c, v = _normal((len(x),), rng), jax.tree.map(lambda leaf: _normal(leaf.shape, rng).astype(leaf.dtype), params)

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
    yield from _comparisons("statistics", pairs, truth, params, x, c, v)


def _naive(mlp: MLP, params: Params, x: Array, t: Array) -> _Naive:
    tree = jax.vmap(jax.grad(partial(loss, mlp)), (None, 0, 0))(params, x, t)
    layers = [jnp.concatenate([w.reshape(len(x), -1), b], axis=1) for w, b in tree]
    y = jax.vmap(partial(forward, mlp, params))(x).y
    return _Naive(tree, layers, jnp.concatenate(layers, axis=1), y[:-1])


def _median(norms: Array) -> Array:
    """Return a limit that half of the gradients exceed, by far enough that rounding does not choose between them."""
    half = jnp.sort(norms)
    return (half[(len(half) - 1) // 2] + half[len(half) // 2]) / 2


def _clip(rows: Array, limit: Array) -> Array:
    norms = jnp.linalg.norm(rows, axis=1)
    return jnp.where(norms > limit, limit / norms, 1)  # of a gradient of zeros nothing is left to clip


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


Pair = tuple[Callable[..., Tree], Callable[..., Tree]]


def _comparisons(group: str, pairs: Mapping[str, Pair], truth: str, *args: Tree) -> Iterator[Equivalence]:
    """List functions beside what they must equal; one program computes them all, most of the work being to compile."""

    @cache
    def reports() -> dict[str, Report]:
        return _compared(pairs, f"{truth}, in float64", *args)

    for name in pairs:
        yield Equivalence(group, name, partial(lambda name: reports()[name], name))


def _compared(pairs: Mapping[str, Pair], truth: str, *args: Tree) -> dict[str, Report]:
    """Compare the two functions of every pair in float64, by what rounding can do to them."""
    # Of a statistic that is infinite, such as the noise scale of a gradient lost in noise, nobody needs a warning.
    with jax.enable_x64(True), np.errstate(invalid="ignore"):
        wide = to_float64(args)
        results = jax.jit(lambda *args: {name: [side(*args) for side in pair] for name, pair in pairs.items()})(*wide)
        reports = {name: _report(name, truth, *results[name]) for name in pairs}
        for name, report in reports.items():
            if not report:
                try:
                    off = [spread(side)(0, *wide) for side in pairs[name]]
                except Exception:  # an operation that rounding cannot be imitated of: then it stays as it is
                    continue
                reports[name] = _report(name, truth, *results[name], *off)
    return reports


def _report(name: str, truth: str, given: Tree, expected: Tree, *off: Tree) -> Report:
    paths = jax.tree_util.tree_flatten_with_path(given)[0]
    names = [name + jax.tree_util.keystr(path) for path, _ in paths]
    spreads: list[Any] = [sum(leaves) for leaves in zip(*map(to_numpy, off), strict=True)] or [0.0] * len(names)
    leaves = tuple(map(_leaf_error, names, to_numpy(given), to_numpy(expected), spreads))
    verdict: Literal["right", "wrong"] = "wrong" if any(leaf.wrong for leaf in leaves) else "right"
    return Report(name, verdict, truth, leaves, points=(PointCheck("the given arguments", verdict),))


def _leaf_error(name: str, given: np.ndarray, expected: np.ndarray, off: np.ndarray | float) -> LeafError:
    size = np.where(np.isfinite(expected), expected, 0)
    allowed = ROUNDINGS * epsilon(np.float64) * scale(size) + threshold(expected.size) * off
    with np.errstate(invalid="ignore"):  # the same infinity on both sides is no difference
        gap = np.where(given == expected, 0.0, np.abs(given - expected))
    wrong = ~(gap <= allowed)
    excess = np.where(np.isnan(gap), np.inf, gap) / np.maximum(allowed, np.finfo(np.float64).tiny)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), given.shape))
    norms = float(np.linalg.norm(gap)), float(np.linalg.norm(size))
    relative = norms[0] / norms[1] if norms[1] else (math.inf if norms[0] else 0.0)
    worst, truth, room = (float(array[index]) for array in (given, expected, allowed))
    return LeafError(name, given.shape, "float64", index, worst, truth, room, relative, int(wrong.sum()))


def _claimed(
    group: str, name: str, f: Callable[[Tree], Array], gradient: Callable[[Tree], Tree], params: Tree, root: str
) -> Equivalence:
    claim = Claim(f, gradient, params)
    return Equivalence(group, name, partial(check_gradient, *claim, name=name, root=root), claim)


def _name(mlp: MLP) -> str:
    hidden = list(dict.fromkeys(mlp.activations[:-1]))
    return f"{mlp.loss} of {mlp.output}" + (f" behind {', '.join(hidden)}" if hidden else "")


def _weighted_inputs(rng: np.random.Generator) -> Array:
    """Return z: [K, n] with ties, zeros, small and large numbers, and random ones."""
    chosen = [[0, 0, 0, 0], [0.5, -0.5, 1, -1], [2, -2, 3, -3], [8, -8, 4, -4], [20, -20, 0.001, -0.001]]
    return jnp.asarray(np.concatenate([chosen, rng.normal(size=(3, 4))]), jnp.float32)


def _target_rows(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return t: [K, n], one-hot rows and soft ones, which all losses take."""
    n_rows, n = shape
    hot = np.eye(n)[np.arange(n_rows) % n]
    soft = rng.multinomial(16, [1 / n] * n, n_rows) / 16
    return jnp.asarray(np.where(np.arange(n_rows)[:, None] % 3 < 2, hot, soft), jnp.float32)


def _exact(mlp: MLP, t: np.ndarray) -> Array:
    """Return soft targets that sum to 1 to the last bit: y - t is the delta of no others."""
    if mlp.loss != "cross_entropy" or jnp.ndim(t) != 2:
        return jnp.asarray(t)
    rows = np.round(np.asarray(t, np.float64) * 2**16) / 2**16
    rows[np.arange(len(rows)), rows.argmax(1)] += 1 - rows.sum(1)
    return jnp.asarray(rows, jnp.float32)


def _params(mlp: MLP, rng: np.random.Generator) -> Params:
    """Draw parameters whose biases are not 0: those would hide what is done to them."""
    pairs = pairwise(mlp.sizes)
    return tuple(Layer(_normal((n, n_in), rng) / n_in**0.5, 0.1 * _normal((n,), rng)) for n_in, n in pairs)


def _examples(mlp: MLP, rng: np.random.Generator) -> tuple[Array, Array]:
    x = _normal((6, mlp.sizes[0]), rng)
    return x, _target_rows((6, mlp.sizes[-1]), rng)


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _like(tree: Tree, other: Tree) -> Tree:
    """Return a tree in the dtypes of another: a check calls functions in several."""
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, other)
