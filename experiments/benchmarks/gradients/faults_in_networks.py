"""Faults in backward passes of networks.

There are as many examples as hidden units, and weights are square, so that no fault betrays itself by a shape.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, nn
from jax.typing import ArrayLike

from experiments.benchmarks.gradients.fault import (
    Gradient,
    Problem,
    Tree,
    at_dtype,
    edited,
    normal,
    planted,
    times,
    with_leaf,
)
from jaxmlp import MLP, Layer, loss, loss_and_gradient

BATCH = 8
TANH = MLP((6, 8, 8, 4), "tanh")
SIGMOID = MLP((5, 8, 3), "sigmoid", "sigmoid", "quadratic")
GELU = MLP((64, 32, 10), "gelu")
DEEPER = MLP((48, 40, 24, 10), "tanh")


def batch_loss(mlp: MLP, x: ArrayLike, t: ArrayLike, params: Tree) -> Array:
    """Return the mean loss of a batch: what `loss_and_gradient` is the gradient of."""
    return jax.vmap(partial(loss, mlp, params))(jnp.asarray(x), jnp.asarray(t)).mean()


def mean_gradient(mlp: MLP, x: np.ndarray, t: np.ndarray, params: Tree) -> Tree:
    return loss_and_gradient(mlp, params, jnp.asarray(x), jnp.asarray(t))[1]


def _weights(mlp: MLP, seed: int) -> Tree:
    sizes = mlp.sizes
    return tuple(
        Layer(normal(seed + layer, n_out, n_in) / n_in**0.5, 0.3 * normal(seed + 50 + layer, n_out))
        for layer, (n_in, n_out) in enumerate(pairwise(sizes))
    )


def _network(mlp: MLP, seed: int, batch: int) -> tuple[Problem, np.ndarray, np.ndarray]:
    x, n_out = normal(seed, batch, mlp.sizes[0]), mlp.sizes[-1]
    t = np.arange(batch) % n_out if mlp.loss == "cross_entropy" else np.abs(np.tanh(normal(seed + 1, batch, n_out)))
    f, right = partial(batch_loss, mlp, x, t), partial(mean_gradient, mlp, x, t)
    return Problem(f, right, at_dtype(_weights(mlp, seed))), x, t


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
    start = at_dtype(_weights(TANH, 170))(params[0].w.dtype)
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
summed_net = Problem(lambda params: BATCH * tanh_net.f(params), times(BATCH, tanh_net.right), tanh_net.params)
_first_example = (TANH, X[:1], T[:1])
single_example = Problem(partial(batch_loss, *_first_example), partial(mean_gradient, *_first_example), tanh_net.params)
_second_example = partial(mean_gradient, TANH, X[1:2], T[1:2])
_without_last_example = partial(mean_gradient, DEEPER, X_DEEPER[:-1], T_DEEPER[:-1])


def _at(index: tuple[int, ...], factor: float) -> Callable[[Array], Array]:
    return lambda leaf: leaf.at[index].multiply(factor)


def _swap(leaf: Array) -> Array:
    return leaf[jnp.array([1, 0, *range(2, len(leaf))])]


def _without_first_layer(leaves: list[Array]) -> list[Array]:
    return [*map(jnp.zeros_like, leaves[:2]), *leaves[2:]]


def _noisy(leaves: list[Array]) -> list[Array]:
    return [leaf + 0.02 * jnp.asarray(normal(44 + i, *leaf.shape), leaf.dtype) for i, leaf in enumerate(leaves)]


_NETWORK = planted(
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
    ("1/B twice", "factor", times(1 / BATCH, tanh_net.right)),
    ("the step, -eta times it", "factor sign", times(-0.01, tanh_net.right)),
    ("uphill for downhill", "sign", times(-1, tanh_net.right)),
    ("one bias with its sign wrong", "sign", with_leaf(tanh_net.right, 3, jnp.negative)),
    ("one bias detached", "zero", with_leaf(tanh_net.right, 1, jnp.zeros_like)),
    ("nothing arrives", "zero", lambda params: jax.tree.map(jnp.zeros_like, params)),
    ("two biases swapped", "permuted", edited(tanh_net.right, lambda g: [g[0], g[3], g[2], g[1], *g[4:]])),
    ("two units swapped", "permuted", with_leaf(tanh_net.right, 2, _swap)),
    ("a bias rolled", "permuted", with_leaf(tanh_net.right, 3, lambda leaf: jnp.roll(leaf, 1))),
    ("inputs reversed", "permuted", with_leaf(tanh_net.right, 0, lambda leaf: leaf[:, ::-1])),
    ("noise", "noise", edited(tanh_net.right, _noisy)),
    ("decay that the loss lacks", "extra_term", partial(_decayed, 1, 0)),
    ("labels rolled", "other_example", partial(mean_gradient, TANH, X, np.roll(T, 1))),
    ("an example missing", "other_example dropped_term", _weighted(np.where(np.arange(BATCH) == 5, 0, 1))),
    ("an example twice", "other_example extra_term", _weighted(np.where(np.arange(BATCH) == 2, 2, 1))),
)

_OTHER_NETWORKS = [
    *planted("summed network", summed_net, ("mean for sum", "factor", tanh_net.right)),
    *planted("network of one example", single_example, ("another's", "other_example", _second_example)),
    *planted(
        "sigmoid network",
        sigmoid_net,
        ("no phi' at the output", "missing_derivative", _sigmoid_lines(output=lambda z, t: nn.sigmoid(z) - t)),
        ("phi' of layer 1 at y", "derivative_at_output", _sigmoid_lines(slope=_sigmoid_slope)),
        ("t - y", "sign", _sigmoid_lines(output=lambda z, t: -_sigmoid_output(z, t))),
        ("2 (y - t)", "factor", times(2, sigmoid_net.right)),
        ("1/2 left over", "factor", times(0.5, sigmoid_net.right)),
        ("mean over outputs", "factor", times(1 / 3, sigmoid_net.right)),
    ),
    *planted(
        "network with decay",
        decayed_net,
        ("no decay", "dropped_term", tanh_net.right),
        ("twice the decay", "extra_term dropped_term", partial(_decayed, 2, 0)),
        ("decay with its sign wrong", "dropped_term extra_term", partial(_decayed, -1, 0)),
        ("biases decay too", "extra_term", partial(_decayed, 1, 1)),
    ),
    *planted(
        "gelu network",
        gelu_net,
        ("eta times it", "factor", times(0.01, gelu_net.right)),
        ("one weight's sign", "none sign noise", with_leaf(gelu_net.right, 0, _at((7, 31), -1))),
    ),
    *planted(
        "deeper network",
        deeper_net,
        ("first layer detached", "zero", edited(deeper_net.right, _without_first_layer)),
        ("an example missing", "other_example dropped_term", times(15 / 16, _without_last_example)),
        ("one weight's twice", "none factor noise", with_leaf(deeper_net.right, 2, _at((5, 17), 2))),
        ("one weight's missing", "none zero dropped_term", with_leaf(deeper_net.right, 0, _at((30, 20), 0))),
    ),
]

FAULTS = (*_NETWORK, *_OTHER_NETWORKS)
