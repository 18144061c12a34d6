"""Gradients with a known fault: what a check of gradients has to catch, and what it should call it.

Each is written wrong in the line in which people write it wrong, in a backward pass by hand, in a fused rule or in a
formula, beside the function and its right gradient. Nothing here knows how the checker works. Functions close over
float32 data: they compute in float64 where they are handed float64 parameters, and in float32 otherwise.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, nn
from jax.typing import ArrayLike

from jaxmlp import MLP, Layer, loss, loss_and_gradient

__all__ = ["DTYPES", "FAULTS", "PROBLEMS", "Fault", "Problem", "Tree", "batch_loss", "like", "precision"]

Tree: TypeAlias = Any
Gradient: TypeAlias = Callable[[Tree], Tree]

DTYPES = ("float64", "float32")
SIZES = {"float64": (1.0, 1e-6), "float32": (1.0, 1e-3)}


def precision(dtype: Any) -> AbstractContextManager[None]:
    """Return the context in which parameters of a dtype are made and used: 64 bits where it has 64, and only there."""
    return jax.enable_x64(jnp.dtype(dtype).itemsize == 8)


class Problem(NamedTuple):
    """A function, its right gradient, and a point.

    Attributes
    ----------
    f
        A pytree to a scalar.
    right
        Its gradient: by hand where that is short, else of autodiff, without any rule that the fault is in.
    params
        Of a dtype (in the context of `precision`) to the pytree.
    """

    f: Callable[[Tree], Array]
    right: Gradient
    params: Callable[[Any], Tree]


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes
    ----------
    name
        What was done wrong, where.
    kinds
        The explanations that are right, the best first; with "none" among them, no explanation is expected.
    f, right, params
        The problem's.
    wrong
        The faulty gradient, as written.
    structural
        A wrong formula: any share of it can be mixed with the right one. Otherwise it is there or not.
    dtypes
        Of parameters for which the fault exists.
    single
        f computes in float32 whatever it is given: no smaller share can be told from rounding than in float32.
    rule
        f has a custom rule and `wrong` is what autodiff makes of it.
    """

    name: str
    kinds: tuple[str, ...]
    f: Callable[[Tree], Array]
    right: Gradient
    params: Callable[[Any], Tree]
    wrong: Gradient
    structural: bool = True
    dtypes: tuple[str, ...] = DTYPES
    single: bool = False
    rule: bool = False

    def sizes(self, dtype: str) -> tuple[float, ...]:
        """Return the shares in which the fault is planted, the whole first."""
        if not self.structural:
            return (1.0,)
        return SIZES["float32" if self.single else dtype]

    def gradient(self, size: float) -> Gradient:
        """Return right + size * (wrong - right); of size 1 the fault itself."""
        if size == 1:
            return self.wrong

        def mixed(params: Tree) -> Tree:
            return jax.tree.map(lambda r, w: r + size * (w - r), self.right(params), self.wrong(params))

        return mixed


def like(params: Tree, gradient: Tree) -> Tree:
    """Bring a gradient to the structure and the dtypes of the parameters, as autodiff does."""
    leaves = jax.tree.leaves(gradient)
    pairs = zip(leaves, jax.tree.leaves(params), strict=True)
    return jax.tree.unflatten(jax.tree.structure(params), [g.astype(p.dtype) for g, p in pairs])


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _of(tree: Tree) -> Callable[[Any], Tree]:
    return lambda dtype: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def _times(factor: float, right: Gradient) -> Gradient:
    return lambda params: jax.tree.map(lambda leaf: factor * leaf, right(params))


def _edited(right: Gradient, edit: Callable[[list[Array]], list[Array]]) -> Gradient:
    """Return the right gradient with its list of leaves edited."""

    def wrong(params: Tree) -> Tree:
        leaves, structure = jax.tree.flatten(right(params))
        return jax.tree.unflatten(structure, edit(leaves))

    return wrong


def _leaf(right: Gradient, number: int, edit: Callable[[Array], Array]) -> Gradient:
    """Return the right gradient with one leaf edited."""
    return _edited(right, lambda leaves: [*leaves[:number], edit(leaves[number]), *leaves[number + 1 :]])


# Networks. As many examples as hidden units, and square weights: the faults must not betray themselves by a shape.

BATCH = 8
TANH = MLP((6, 8, 8, 4), "tanh")
SIGMOID = MLP((5, 8, 3), "sigmoid", "sigmoid", "quadratic")
GELU = MLP((64, 32, 10), "gelu")
DEEPER = MLP((48, 40, 24, 10), "tanh")


def batch_loss(mlp: MLP, x: ArrayLike, t: ArrayLike, params: Tree) -> Array:
    """Return the mean loss of a batch: what `loss_and_gradient` is the gradient of."""
    return jax.vmap(partial(loss, mlp, params))(jnp.asarray(x), jnp.asarray(t)).mean()


def _mean_gradient(mlp: MLP, x: np.ndarray, t: np.ndarray, params: Tree) -> Tree:
    return loss_and_gradient(mlp, params, jnp.asarray(x), jnp.asarray(t))[1]


def _weights(mlp: MLP, seed: int) -> Tree:
    sizes = mlp.sizes
    return tuple(
        Layer(_normal(seed + layer, n_out, n_in) / n_in**0.5, 0.3 * _normal(seed + 50 + layer, n_out))
        for layer, (n_in, n_out) in enumerate(pairwise(sizes))
    )


def _network(mlp: MLP, seed: int, batch: int) -> tuple[Problem, np.ndarray, np.ndarray]:
    x, n_out = _normal(seed, batch, mlp.sizes[0]), mlp.sizes[-1]
    t = np.arange(batch) % n_out if mlp.loss == "cross_entropy" else np.abs(np.tanh(_normal(seed + 1, batch, n_out)))
    f, right = partial(batch_loss, mlp, x, t), partial(_mean_gradient, mlp, x, t)
    return Problem(f, right, _of(_weights(mlp, seed))), x, t


tanh_net, X, T = _network(TANH, 100, BATCH)
sigmoid_net, X_SIGMOID, T_SIGMOID = _network(SIGMOID, 200, BATCH)
gelu_net, _, _ = _network(GELU, 300, 16)
deeper_net, X_DEEPER, T_DEEPER = _network(DEEPER, 400, 16)


class _Lines(NamedTuple):
    """The lines of a backward pass of a batch, right: a fault is one of them written otherwise.

    `layer` counts from 0, the input side; delta: [B, n_out], y_in: [B, n_in], w: [n_out, n_in].
    """

    phi: Callable[[Array], Array] = jnp.tanh
    slope: Callable[[int, Array, Array], Array] = lambda layer, z, y: 1 - y**2
    output: Callable[[Array, Array], Array] = lambda z, t: nn.softmax(z) - t
    pull: Callable[[int, Array, Array, Array], Array] = lambda layer, w, delta, gradient: delta @ w
    weights: Callable[[int, Array, Array], Array] = lambda layer, delta, y_in: delta.T @ y_in / len(delta)
    biases: Callable[[int, Array], Array] = lambda layer, delta: delta.mean(0)


def _backward(x: np.ndarray, t: np.ndarray, lines: _Lines, params: Tree) -> Tree:
    z, y = [], [jnp.asarray(x, params[0].w.dtype)]
    for w, b in params:
        z.append(y[-1] @ w.T + b)
        y.append(lines.phi(z[-1]))
    row = nn.one_hot(jnp.asarray(t), z[-1].shape[1], dtype=z[-1].dtype) if t.ndim == 1 else jnp.asarray(t, z[-1].dtype)
    delta, gradient = lines.output(z[-1], row), []
    for layer in reversed(range(len(params))):
        gradient.append(Layer(lines.weights(layer, delta, y[layer]), lines.biases(layer, delta)))
        if layer > 0:
            pulled = lines.pull(layer, params[layer].w, delta, gradient[-1].w)
            delta = pulled * lines.slope(layer - 1, z[layer - 1], y[layer])
    return tuple(reversed(gradient))


def _tanh_lines(**lines: Any) -> Gradient:
    return partial(_backward, X, T, _Lines(**lines))


def _sigmoid_lines(**lines: Any) -> Gradient:
    rest = {"phi": nn.sigmoid, "slope": lambda layer, z, y: y * (1 - y), "output": _sigmoid_output}
    return partial(_backward, X_SIGMOID, T_SIGMOID, _Lines(**(rest | lines)))


def _sigmoid_output(z: Array, t: Array) -> Array:
    y = nn.sigmoid(z)
    return (y - t) * y * (1 - y)


def _slope_where(wrong_layer: int, wrong: Callable[[Array, Array], Array]) -> Callable[[int, Array, Array], Array]:
    return lambda layer, z, y: wrong(z, y) if layer == wrong_layer else 1 - y**2


def _tanh_slope(z: Array, y: Array) -> Array:
    return 1 - jnp.tanh(y) ** 2


def _sigmoid_slope(layer: int, z: Array, y: Array) -> Array:
    return nn.sigmoid(y) * (1 - nn.sigmoid(y))


def _pull_transposed(layer: int, w: Array, delta: Array, gradient: Array) -> Array:
    return delta @ (w.T if layer == 1 else w)


def _weights_transposed(layer: int, delta: Array, y_in: Array) -> Array:
    return (y_in.T @ delta if layer == 1 else delta.T @ y_in) / len(delta)


def _weighted(weights: np.ndarray) -> Gradient:
    """Return the mean gradient with a weight for each example: 1 for all is right."""
    return _tanh_lines(output=lambda z, t: (nn.softmax(z) - t) * jnp.asarray(weights, z.dtype)[:, None])


def _step_ahead(params: Tree) -> Tree:
    gradient = tanh_net.right(params)
    return tanh_net.right(jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient))


def _of_the_start(params: Tree) -> Tree:
    start = _of(_weights(TANH, 170))(params[0].w.dtype)
    return tanh_net.right(start)


DECAY = 0.1


def _penalty(params: Tree) -> Array:
    return 0.5 * DECAY * sum(jnp.sum(layer.w**2) for layer in params)


def _decayed(on_w: float, on_b: float, params: Tree) -> Tree:
    gradient = tanh_net.right(params)
    return tuple(
        Layer(g.w + DECAY * on_w * p.w, g.b + DECAY * on_b * p.b) for g, p in zip(gradient, params, strict=True)
    )


decayed_net = Problem(lambda params: tanh_net.f(params) + _penalty(params), partial(_decayed, 1, 0), tanh_net.params)
summed_net = Problem(lambda params: BATCH * tanh_net.f(params), _times(BATCH, tanh_net.right), tanh_net.params)
_first_example = (TANH, X[:1], T[:1])
single_example = Problem(
    partial(batch_loss, *_first_example), partial(_mean_gradient, *_first_example), tanh_net.params
)
_second_example = partial(_mean_gradient, TANH, X[1:2], T[1:2])
_without_last_example = partial(_mean_gradient, DEEPER, X_DEEPER[:-1], T_DEEPER[:-1])


# Functions that are no networks.


_Q, _B = _normal(1, 12, 12), _normal(2, 12)


def _quadratic(x: Array) -> Array:
    return 0.5 * x @ jnp.asarray(_Q) @ x - jnp.asarray(_B) @ x


def _quadratic_gradient(x: Array) -> Array:
    return like(x, 0.5 * (_Q @ x + _Q.T @ x) - _B)  # not (Q + Q^T) x: that sum would be rounded to float32


quadratic = Problem(_quadratic, _quadratic_gradient, _of(_normal(3, 12)))

X_LOGISTIC, T_LOGISTIC, RIDGE = _normal(4, 20, 7), (_normal(5, 20) > 0).astype(np.float32), 0.1


def _logistic(params: Tree) -> Array:
    x, t = jnp.asarray(X_LOGISTIC), jnp.asarray(T_LOGISTIC)
    z = x @ params["w"] + params["b"]
    return jnp.mean(nn.softplus(z) - t * z) + 0.5 * RIDGE * jnp.sum(params["w"] ** 2)


def _logistic_lines(
    params: Tree, delta: Callable[[Array, Array], Array] = lambda y, t: y - t, ridge: float = RIDGE
) -> Tree:
    x, t = jnp.asarray(X_LOGISTIC), jnp.asarray(T_LOGISTIC)
    d = delta(nn.sigmoid(x @ params["w"] + params["b"]), t)
    return like(params, {"b": d.mean(), "w": x.T @ d / len(d) + ridge * params["w"]})


logistic = Problem(_logistic, _logistic_lines, _of({"w": _normal(6, 7), "b": _normal(7)}))


def _log_sum_exp(z: Array) -> Array:
    return nn.logsumexp(z, axis=1) @ jnp.asarray(1 + 0.3 * _normal(8, 6))


def _log_sum_exp_gradient(z: Array, axis: int = 1) -> Array:
    return like(z, nn.softmax(z, axis=axis) * jnp.asarray(1 + 0.3 * _normal(8, 6))[:, None])


log_sum_exp = Problem(_log_sum_exp, _log_sum_exp_gradient, _of(_normal(9, 6, 6)))


def _log_determinant(m: Array) -> Array:
    factor = jnp.linalg.cholesky(m @ m.T + jnp.eye(len(m), dtype=m.dtype))
    return 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))


def _log_determinant_gradient(m: Array) -> Array:
    return 2 * jnp.linalg.solve(m @ m.T + jnp.eye(len(m), dtype=m.dtype), m)


log_determinant = Problem(_log_determinant, _log_determinant_gradient, _of(_normal(10, 6, 6)))


def _solve(params: Tree) -> Array:
    return 0.5 * jnp.sum((jnp.linalg.solve(params["a"], params["b"]) - jnp.asarray(_normal(11, 6))) ** 2)


def _solve_lines(
    params: Tree,
    adjoint: Callable[[Array], Array] = lambda a: a.T,
    product: Callable[[Array, Array], Array] = lambda back, x: -jnp.outer(back, x),
) -> Tree:
    x = jnp.linalg.solve(params["a"], params["b"])
    back = jnp.linalg.solve(adjoint(params["a"]), x - jnp.asarray(_normal(11, 6)))
    return {"a": product(back, x), "b": back}


solve = Problem(
    _solve, _solve_lines, _of({"a": _normal(12, 6, 6) + 4 * np.eye(6, dtype=np.float32), "b": _normal(13, 6)})
)


def _layer_norm(params: Tree) -> Array:
    x = params["x"]
    centred = x - x.mean(1, keepdims=True)
    normed = centred / jnp.sqrt(jnp.mean(centred**2, 1, keepdims=True) + 1e-5)
    return jnp.sum(jnp.asarray(_normal(14, 5, 6)) * jnp.tanh(params["gain"] * normed + params["shift"]))


def _layer_norm_lines(params: Tree, mean_term: float = 1.0, variance_term: float = 1.0, n: int = 6) -> Tree:
    x = params["x"]
    centred = x - x.mean(1, keepdims=True)
    deviation = jnp.sqrt(jnp.sum(centred**2, 1, keepdims=True) / n + 1e-5)
    normed = centred / deviation
    delta = jnp.asarray(_normal(14, 5, 6)) * (1 - jnp.tanh(params["gain"] * normed + params["shift"]) ** 2)
    d = delta * params["gain"]
    along = jnp.mean(d * normed, 1, keepdims=True)
    d = (d - mean_term * d.mean(1, keepdims=True) - variance_term * normed * along) / deviation
    return like(params, {"gain": jnp.sum(delta * normed, 0), "shift": delta.sum(0), "x": d})


layer_norm = Problem(
    _layer_norm,
    _layer_norm_lines,
    _of({"x": _normal(15, 5, 6), "gain": 1 + 0.3 * _normal(16, 6), "shift": _normal(17, 6)}),
)

X_TOKENS, T_TOKENS, WIDTH = _normal(18, 6, 5), _normal(19, 6, 4), 4


def _attend(params: Tree) -> tuple[Array, ...]:
    x = jnp.asarray(X_TOKENS)
    q, k, v = x @ params["q"], x @ params["k"], x @ params["v"]
    return x, q, k, v, nn.softmax(q @ k.T / WIDTH**0.5)


def _attention(params: Tree) -> Array:
    *_, v, a = _attend(params)
    return 0.5 * jnp.sum((a @ v - jnp.asarray(T_TOKENS)) ** 2)


def _attention_lines(
    params: Tree,
    softmax: Callable[[Array, Array], Array] = lambda a, da: a * (da - jnp.sum(a * da, 1, keepdims=True)),
    scale: float = WIDTH**-0.5,
    keys: Callable[[Array], Array] = lambda ds: ds.T,
    values: Callable[[Array], Array] = lambda a: a.T,
) -> Tree:
    x, q, k, v, a = _attend(params)
    out = a @ v - jnp.asarray(T_TOKENS)
    ds = softmax(a, out @ v.T) * scale
    return like(params, {"k": x.T @ keys(ds) @ q, "q": x.T @ ds @ k, "v": x.T @ values(a) @ out})


attention = Problem(
    _attention, _attention_lines, _of({name: 0.7 * _normal(20 + i, 5, 4) for i, name in enumerate("qkv")})
)

X_IMAGE, SIDE = _normal(23, 3, 7, 7, 2), 7


def _convolve(params: Tree) -> Array:
    x = jnp.asarray(X_IMAGE, params["kernel"].dtype)
    z = lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return z + params["bias"]


def _convolution(params: Tree) -> Array:
    return jnp.mean(nn.softplus(_convolve(params)) ** 2)


def _convolution_lines(
    params: Tree,
    place: Callable[[int], int] = lambda i: i,
    pad: str = "constant",
    bias: Callable[[Array], Array] = lambda delta: delta.sum((0, 1, 2)),
) -> Tree:
    z = _convolve(params)
    delta = 2 * nn.softplus(z) * nn.sigmoid(z) / z.size
    x = jnp.pad(jnp.asarray(X_IMAGE, z.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)), mode=pad)
    windows = [[x[:, place(i) :, place(j) :][:, :SIDE, :SIDE] for j in range(3)] for i in range(3)]
    kernel = jnp.stack([jnp.stack([jnp.einsum("nhwi,nhwo->io", one, delta) for one in row]) for row in windows])
    return {"bias": bias(delta), "kernel": kernel}


convolution = Problem(
    _convolution, _convolution_lines, _of({"kernel": 0.4 * _normal(24, 3, 3, 2, 4), "bias": 0.3 * _normal(25, 4)})
)


def _pendulum(detach: Callable[[Array], Array], steps: int, params: Tree) -> Array:
    """Return how far 25 steps of Runge and Kutta end from a target; `detach` is put around the inner stages."""

    def slope(state: Array) -> Array:
        x, v = state
        return jnp.stack([v, -params["g"] * jnp.sin(x) - params["friction"] * v])

    def step(state: Array, _: None) -> tuple[Array, None]:
        k1 = slope(state)
        k2 = detach(slope(state + 0.05 * k1))
        k3 = detach(slope(state + 0.05 * k2))
        k4 = slope(state + 0.1 * k3)
        return state + 0.1 * (k1 + 2 * k2 + 2 * k3 + k4) / 6, None

    end, _ = lax.scan(step, params["start"], length=steps)
    return 0.5 * jnp.sum((end - jnp.asarray([0.3, -0.2], end.dtype)) ** 2)


_run_pendulum = partial(_pendulum, lambda k: k, 25)
pendulum = Problem(
    _run_pendulum,
    jax.grad(_run_pendulum),
    _of({"g": np.float32(1.3), "friction": np.float32(0.2), "start": np.array([1.0, 0.4], np.float32)}),
)


# Fused functions with a rule of their own. The right gradient is autodiff's of the same function without the rule.


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
    y = bias_gelu(jnp.asarray(_normal(30, 6, 5), params["w"].dtype) @ params["w"], params["b"])
    return jnp.mean((y - jnp.asarray(_normal(31, 6, 6), y.dtype)) ** 2)


_CLASSIFIER = _of((_normal(32, 7, 3), 0.3 * _normal(33, 3)))
_GELU_LAYER = _of({"w": _normal(34, 5, 6), "b": 0.5 * _normal(35, 6)})


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


# Functions that compute in float32 whatever they are given.


def _in_single(problem: Problem) -> Problem:
    def single(params: Tree) -> Tree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    return Problem(
        lambda params: problem.f(single(params)),
        lambda params: like(params, problem.right(single(params))),
        problem.params,
    )


single_net, single_logistic, single_attention = map(_in_single, (tanh_net, logistic, attention))


# A function that autodiff cannot enter: NumPy, called back.


def _in_numpy(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    return np.asarray(np.sum(np.log1p(x * x)) + np.sum(np.sin(x[1:]) * x[:-1]), x.dtype)


def _called_back(x: Array) -> Array:
    return jax.pure_callback(_in_numpy, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="sequential")


def _called_back_gradient(x: Array) -> Array:
    gradient = 2 * x / (1 + x * x)
    return gradient.at[:-1].add(jnp.sin(x[1:])).at[1:].add(jnp.cos(x[1:]) * x[:-1])


called_back = Problem(_called_back, _called_back_gradient, _of(_normal(36, 9)))


# Right formulas in poor arithmetic. Every f itself is computed well.


def _log_variance(x: Array) -> Array:
    return jnp.log(jnp.mean((x - x.mean()) ** 2))


def _log_variance_gradient(x: Array, variance: Callable[[Array], Array] = jnp.var) -> Array:
    return 2 * (x - x.mean()) / (x.size * variance(x))


log_variance = Problem(_log_variance, _log_variance_gradient, _of(500 + _normal(37, 30)))
large_logits = Problem(_log_sum_exp, _log_sum_exp_gradient, _of(60 * _normal(38, 6, 6)))
small_angles = Problem(lambda x: jnp.sum(2 * jnp.sin(x / 2) ** 2), jnp.sin, _of(1e-3 * (1 + np.abs(_normal(39, 20)))))
small_lengths = Problem(
    lambda x: jnp.max(jnp.abs(x)) * jnp.linalg.norm(x / jnp.max(jnp.abs(x))),
    lambda x: x / jnp.max(jnp.abs(x)) / jnp.linalg.norm(x / jnp.max(jnp.abs(x))),
    _of(1e-24 * _normal(40, 10)),
)


def _flattening(x: Array) -> Array:
    return jnp.sum(0.5 * jnp.arcsinh(x) - 0.25 / (x + jnp.sqrt(x * x + 1)) ** 2)


flattening = Problem(_flattening, lambda x: 1 / (x + jnp.sqrt(x * x + 1)), _of(300 + 100 * np.abs(_normal(41, 20))))
saturated = Problem(
    lambda z: -jnp.sum(nn.sigmoid(-z)), lambda z: nn.sigmoid(z) * nn.sigmoid(-z), _of(13 + np.abs(_normal(42, 20)))
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
    return e / e.sum(1, keepdims=True) * jnp.asarray(1 + 0.3 * _normal(8, 6), z.dtype)[:, None]


# Gradients that are another one with every call.

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


def _at(index: tuple[int, ...], factor: float) -> Callable[[Array], Array]:
    return lambda leaf: leaf.at[index].multiply(factor)


def _swap(leaf: Array) -> Array:
    return leaf[jnp.array([1, 0, *range(2, len(leaf))])]


def _without_first_layer(leaves: list[Array]) -> list[Array]:
    return [*map(jnp.zeros_like, leaves[:2]), *leaves[2:]]


def _noisy(leaves: list[Array]) -> list[Array]:
    return [leaf + 0.02 * jnp.asarray(_normal(44 + i, *leaf.shape), leaf.dtype) for i, leaf in enumerate(leaves)]


PROBLEMS: dict[str, Problem] = {
    "quadratic": quadratic,
    "logistic regression": logistic,
    "log-sum-exp": log_sum_exp,
    "log-determinant": log_determinant,
    "linear solve": solve,
    "layer norm": layer_norm,
    "attention": attention,
    "convolution": convolution,
    "pendulum": pendulum,
    "network with decay": decayed_net,
    "NumPy, called back": called_back,
    "network in float32": single_net,
    "logistic regression in float32": single_logistic,
    "log-variance": log_variance,
    "large logits": large_logits,
    "small angles": small_angles,
    "small lengths": small_lengths,
    "flattening": flattening,
    "saturated": saturated,
}

_SINGLE_ONLY = {"structural": False, "dtypes": ("float32",)}


def _planted(problem_name: str, problem: Problem, *rows: tuple[str, str, Gradient], **options: Any) -> list[Fault]:
    """Return the faults of one problem, of rows (name, kinds, wrong gradient)."""
    return [
        Fault(f"{problem_name}: {name}", tuple(kinds.split()), *problem, wrong, **options)
        for name, kinds, wrong in rows
    ]


_NETWORK = _planted(
    "network",
    tanh_net,
    ("layer 1 without phi'", "missing_derivative", _tanh_lines(slope=_slope_where(0, lambda z, y: jnp.ones_like(y)))),
    ("layer 2 without phi'", "missing_derivative", _tanh_lines(slope=_slope_where(1, lambda z, y: jnp.ones_like(y)))),
    ("phi' of layer 1 at y", "derivative_at_output", _tanh_lines(slope=_slope_where(0, _tanh_slope))),
    ("phi' of layer 2 at y", "derivative_at_output", _tanh_lines(slope=_slope_where(1, _tanh_slope))),
    ("delta of layer 1 negative", "sign dropped_term", _tanh_lines(slope=_slope_where(0, lambda z, y: y**2 - 1))),
    ("delta of layer 2 halved", "factor dropped_term", _tanh_lines(slope=_slope_where(1, lambda z, y: (1 - y**2) / 2))),
    ("biases summed over units", "wrong_axis", _tanh_lines(biases=lambda layer, d: d.mean(1 if layer < 2 else 0))),
    ("biases summed, not averaged", "factor", _tanh_lines(biases=lambda layer, d: d.sum(0))),
    ("back through w, not its transpose", "transposed", _tanh_lines(pull=_pull_transposed)),
    ("y^T delta for delta^T y", "transposed", _tanh_lines(weights=_weights_transposed)),
    ("back through updated weights", "stale", _tanh_lines(pull=lambda layer, w, d, gradient: d @ (w - 0.5 * gradient))),
    ("one of a step ahead", "stale", _step_ahead),
    ("one of the start, always", "stale", _of_the_start),
    ("sum for mean", "factor", summed_net.right),
    ("1/B twice", "factor", _times(1 / BATCH, tanh_net.right)),
    ("the step, -eta times it", "factor sign", _times(-0.01, tanh_net.right)),
    ("uphill for downhill", "sign", _times(-1, tanh_net.right)),
    ("one bias with its sign wrong", "sign", _leaf(tanh_net.right, 3, jnp.negative)),
    ("one bias detached", "zero", _leaf(tanh_net.right, 1, jnp.zeros_like)),
    ("nothing arrives", "zero", lambda params: jax.tree.map(jnp.zeros_like, params)),
    ("two biases swapped", "permuted", _edited(tanh_net.right, lambda g: [g[0], g[3], g[2], g[1], *g[4:]])),
    ("two units swapped", "permuted", _leaf(tanh_net.right, 2, _swap)),
    ("a bias rolled", "permuted", _leaf(tanh_net.right, 3, lambda leaf: jnp.roll(leaf, 1))),
    ("inputs reversed", "permuted", _leaf(tanh_net.right, 0, lambda leaf: leaf[:, ::-1])),
    ("noise", "noise", _edited(tanh_net.right, _noisy)),
    ("decay that the loss lacks", "extra_term", partial(_decayed, 1, 0)),
    ("labels rolled", "other_example", partial(_mean_gradient, TANH, X, np.roll(T, 1))),
    ("an example missing", "other_example dropped_term", _weighted(np.where(np.arange(BATCH) == 5, 0, 1))),
    ("an example twice", "other_example extra_term", _weighted(np.where(np.arange(BATCH) == 2, 2, 1))),
)

_OTHER_NETWORKS = [
    *_planted("summed network", summed_net, ("mean for sum", "factor", tanh_net.right)),
    *_planted("network of one example", single_example, ("another's", "other_example", _second_example)),
    *_planted(
        "sigmoid network",
        sigmoid_net,
        ("no phi' at the output", "missing_derivative", _sigmoid_lines(output=lambda z, t: nn.sigmoid(z) - t)),
        ("phi' of layer 1 at y", "derivative_at_output", _sigmoid_lines(slope=_sigmoid_slope)),
        ("t - y", "sign", _sigmoid_lines(output=lambda z, t: -_sigmoid_output(z, t))),
        ("2 (y - t)", "factor", _times(2, sigmoid_net.right)),
        ("1/2 left over", "factor", _times(0.5, sigmoid_net.right)),
        ("mean over outputs", "factor", _times(1 / 3, sigmoid_net.right)),
    ),
    *_planted(
        "network with decay",
        decayed_net,
        ("no decay", "dropped_term", tanh_net.right),
        ("twice the decay", "extra_term dropped_term", partial(_decayed, 2, 0)),
        ("decay with its sign wrong", "dropped_term extra_term", partial(_decayed, -1, 0)),
        ("biases decay too", "extra_term", partial(_decayed, 1, 1)),
    ),
    *_planted(
        "gelu network",
        gelu_net,
        ("eta times it", "factor", _times(0.01, gelu_net.right)),
        ("one weight's sign", "none sign noise", _leaf(gelu_net.right, 0, _at((7, 31), -1))),
    ),
    *_planted(
        "deeper network",
        deeper_net,
        ("first layer detached", "zero", _edited(deeper_net.right, _without_first_layer)),
        ("an example missing", "other_example dropped_term", _times(15 / 16, _without_last_example)),
        ("one weight's twice", "none factor noise", _leaf(deeper_net.right, 2, _at((5, 17), 2))),
        ("one weight's missing", "none zero dropped_term", _leaf(deeper_net.right, 0, _at((30, 20), 0))),
    ),
]

_NO_NETWORKS = [
    *_planted(
        "quadratic",
        quadratic,
        ("Q x for its symmetric part", "transposed dropped_term", lambda x: _Q @ x - _B),
        ("-b forgotten", "dropped_term", lambda x: 0.5 * (_Q @ x + _Q.T @ x)),
    ),
    *_planted(
        "logistic regression",
        logistic,
        ("t - y", "sign dropped_term", partial(_logistic_lines, delta=lambda y, t: t - y)),
        ("no ridge", "dropped_term", partial(_logistic_lines, ridge=0.0)),
        (
            "the phi' that cancels",
            "none extra_term",
            partial(_logistic_lines, delta=lambda y, t: (y - t) * y * (1 - y)),
        ),
    ),
    *_planted(
        "log-sum-exp", log_sum_exp, ("over the wrong axis", "wrong_axis", partial(_log_sum_exp_gradient, axis=0))
    ),
    *_planted(
        "log-determinant",
        log_determinant,
        ("one of two factors", "factor", _times(0.5, _log_determinant_gradient)),
        ("its transpose", "transposed", lambda m: _log_determinant_gradient(m).T),
    ),
    *_planted(
        "linear solve",
        solve,
        ("back through a, not its transpose", "transposed", partial(_solve_lines, adjoint=lambda a: a)),
        ("outer product transposed", "transposed", partial(_solve_lines, product=lambda back, x: -jnp.outer(x, back))),
        ("no minus", "sign", partial(_solve_lines, product=jnp.outer)),
    ),
    *_planted(
        "layer norm",
        layer_norm,
        ("mean held fixed", "dropped_term", partial(_layer_norm_lines, mean_term=0.0)),
        ("variance held fixed", "dropped_term", partial(_layer_norm_lines, variance_term=0.0)),
        ("variance over n - 1", "none factor dropped_term", partial(_layer_norm_lines, n=5)),
    ),
    *_planted(
        "attention",
        attention,
        ("softmax as if elementwise", "dropped_term", partial(_attention_lines, softmax=lambda a, da: a * da)),
        ("no 1/sqrt(d)", "factor dropped_term", partial(_attention_lines, scale=1.0)),
        ("keys not transposed", "transposed", partial(_attention_lines, keys=lambda ds: ds)),
        ("values not transposed", "transposed", partial(_attention_lines, values=lambda a: a)),
        ("queries and keys swapped", "permuted", _edited(attention.right, lambda g: [g[1], g[0], g[2]])),
    ),
    *_planted(
        "convolution",
        convolution,
        ("kernel flipped", "permuted", partial(_convolution_lines, place=lambda i: 2 - i)),
        ("border repeated, not 0", "none extra_term dropped_term", partial(_convolution_lines, pad="edge")),
        ("bias averaged", "factor", partial(_convolution_lines, bias=lambda delta: delta.mean((0, 1, 2)))),
    ),
    *_planted(
        "pendulum",
        pendulum,
        ("inner stages held fixed", "dropped_term", jax.grad(partial(_pendulum, lax.stop_gradient, 25))),
        ("one step too few", "none stale dropped_term", jax.grad(partial(_pendulum, lambda k: k, 24))),
        ("start detached", "zero", _leaf(pendulum.right, 2, jnp.zeros_like)),
    ),
    *_planted(
        "NumPy, called back",
        called_back,
        ("uphill", "sign", _times(-1, called_back.right)),
        ("half of the product rule", "none dropped_term", lambda x: (2 * x / (1 + x * x)).at[:-1].add(jnp.sin(x[1:]))),
    ),
]

_RULES = [
    _classifier_fault("forgets what comes from above", "factor", lambda y, t, g: y - t),
    _classifier_fault("y for y - t", "dropped_term", lambda y, t, g: g[:, None] * y),
    _classifier_fault("t - y", "sign", lambda y, t, g: g[:, None] * (t - y)),
    _gelu_fault("slope at y", "derivative_at_output", _gelu_at_output),
    _gelu_fault("bias without slope", "missing_derivative", _gelu_bias_bare),
    _gelu_fault("bias summed over units", "wrong_axis", _gelu_bias_across),
]

_ARITHMETIC = [
    *_planted(
        "network in float32",
        single_net,
        ("a bias halved", "factor", _leaf(single_net.right, 3, lambda leaf: leaf / 2)),
        single=True,
    ),
    *_planted(
        "logistic regression in float32",
        single_logistic,
        ("uphill", "sign", _times(-1, single_logistic.right)),
        single=True,
    ),
    *_planted(
        "attention in float32",
        single_attention,
        ("values detached", "zero", _leaf(single_attention.right, 2, jnp.zeros_like)),
        single=True,
    ),
    *_planted("log-variance", log_variance, ("E x^2 - (E x)^2", "precision", _log_variance_naive), **_SINGLE_ONLY),
    *_planted("large logits", large_logits, ("exp overflows", "precision", _naive_softmax), **_SINGLE_ONLY),
    *_planted("small angles", small_angles, ("sqrt(1 - cos^2)", "precision", _naive_sine), **_SINGLE_ONLY),
    *_planted("small lengths", small_lengths, ("squares underflow", "precision", _naive_norm), **_SINGLE_ONLY),
    *_planted("flattening", flattening, ("sqrt(x^2 + 1) - x", "precision", _naive_difference), **_SINGLE_ONLY),
    *_planted("saturated", saturated, ("y (1 - y)", "precision", _naive_sigmoid_slope), **_SINGLE_ONLY),
]

_CHANGING = [
    *_planted(
        "network",
        tanh_net,
        ("rounded at random", "non_deterministic", _jittering),
        ("dropout left on", "non_deterministic", _dropping_out),
        structural=False,
    ),
    *_planted(
        "quadratic", quadratic, ("NumPy's noise", "noise non_deterministic", _drawing_in_python), structural=False
    ),
]

FAULTS: tuple[Fault, ...] = (*_NETWORK, *_OTHER_NETWORKS, *_NO_NETWORKS, *_RULES, *_ARITHMETIC, *_CHANGING)
