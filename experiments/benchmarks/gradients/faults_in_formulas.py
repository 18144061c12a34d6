"""Faults in gradients of functions that are no networks, one of which autodiff cannot enter: NumPy, called back."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, nn

from experiments.benchmarks.gradients.fault import (
    Problem,
    Tree,
    at_dtype,
    edited,
    like,
    normal,
    planted,
    times,
    with_leaf,
)

_Q, _B = normal(1, 12, 12), normal(2, 12)


def _quadratic(x: Array) -> Array:
    return 0.5 * x @ jnp.asarray(_Q) @ x - jnp.asarray(_B) @ x


def _quadratic_gradient(x: Array) -> Array:
    return like(x, 0.5 * (_Q @ x + _Q.T @ x) - _B)  # not (Q + Q^T) x: that sum would be rounded to float32


quadratic = Problem(_quadratic, _quadratic_gradient, at_dtype(normal(3, 12)))

X_LOGISTIC, T_LOGISTIC, RIDGE = normal(4, 20, 7), (normal(5, 20) > 0).astype(np.float32), 0.1


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


logistic = Problem(_logistic, _logistic_lines, at_dtype({"w": normal(6, 7), "b": normal(7)}))


def _log_sum_exp(z: Array) -> Array:
    return nn.logsumexp(z, axis=1) @ jnp.asarray(1 + 0.3 * normal(8, 6))


def _log_sum_exp_gradient(z: Array, axis: int = 1) -> Array:
    return like(z, nn.softmax(z, axis=axis) * jnp.asarray(1 + 0.3 * normal(8, 6))[:, None])


log_sum_exp = Problem(_log_sum_exp, _log_sum_exp_gradient, at_dtype(normal(9, 6, 6)))


def _log_determinant(m: Array) -> Array:
    factor = jnp.linalg.cholesky(m @ m.T + jnp.eye(len(m), dtype=m.dtype))
    return 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))


def _log_determinant_gradient(m: Array) -> Array:
    return 2 * jnp.linalg.solve(m @ m.T + jnp.eye(len(m), dtype=m.dtype), m)


log_determinant = Problem(_log_determinant, _log_determinant_gradient, at_dtype(normal(10, 6, 6)))


def _solve(params: Tree) -> Array:
    return 0.5 * jnp.sum((jnp.linalg.solve(params["a"], params["b"]) - jnp.asarray(normal(11, 6))) ** 2)


def _solve_lines(
    params: Tree,
    adjoint: Callable[[Array], Array] = lambda a: a.T,
    product: Callable[[Array, Array], Array] = lambda back, x: -jnp.outer(back, x),
) -> Tree:
    x = jnp.linalg.solve(params["a"], params["b"])
    back = jnp.linalg.solve(adjoint(params["a"]), x - jnp.asarray(normal(11, 6)))
    return {"a": product(back, x), "b": back}


solve = Problem(
    _solve, _solve_lines, at_dtype({"a": normal(12, 6, 6) + 4 * np.eye(6, dtype=np.float32), "b": normal(13, 6)})
)


def _layer_norm(params: Tree) -> Array:
    x = params["x"]
    centred = x - x.mean(1, keepdims=True)
    normed = centred / jnp.sqrt(jnp.mean(centred**2, 1, keepdims=True) + 1e-5)
    return jnp.sum(jnp.asarray(normal(14, 5, 6)) * jnp.tanh(params["gain"] * normed + params["shift"]))


def _layer_norm_lines(params: Tree, mean_term: float = 1.0, variance_term: float = 1.0, n: int = 6) -> Tree:
    x = params["x"]
    centred = x - x.mean(1, keepdims=True)
    deviation = jnp.sqrt(jnp.sum(centred**2, 1, keepdims=True) / n + 1e-5)
    normed = centred / deviation
    delta = jnp.asarray(normal(14, 5, 6)) * (1 - jnp.tanh(params["gain"] * normed + params["shift"]) ** 2)
    d = delta * params["gain"]
    along = jnp.mean(d * normed, 1, keepdims=True)
    d = (d - mean_term * d.mean(1, keepdims=True) - variance_term * normed * along) / deviation
    return like(params, {"gain": jnp.sum(delta * normed, 0), "shift": delta.sum(0), "x": d})


layer_norm = Problem(
    _layer_norm,
    _layer_norm_lines,
    at_dtype({"x": normal(15, 5, 6), "gain": 1 + 0.3 * normal(16, 6), "shift": normal(17, 6)}),
)

X_TOKENS, T_TOKENS, WIDTH = normal(18, 6, 5), normal(19, 6, 4), 4


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
    _attention, _attention_lines, at_dtype({name: 0.7 * normal(20 + i, 5, 4) for i, name in enumerate("qkv")})
)

X_IMAGE, SIDE = normal(23, 3, 7, 7, 2), 7


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
    _convolution, _convolution_lines, at_dtype({"kernel": 0.4 * normal(24, 3, 3, 2, 4), "bias": 0.3 * normal(25, 4)})
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
    at_dtype({"g": np.float32(1.3), "friction": np.float32(0.2), "start": np.array([1.0, 0.4], np.float32)}),
)


def _in_numpy(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    return np.asarray(np.sum(np.log1p(x * x)) + np.sum(np.sin(x[1:]) * x[:-1]), x.dtype)


def _called_back(x: Array) -> Array:
    return jax.pure_callback(_in_numpy, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="sequential")


def _called_back_gradient(x: Array) -> Array:
    gradient = 2 * x / (1 + x * x)
    return gradient.at[:-1].add(jnp.sin(x[1:])).at[1:].add(jnp.cos(x[1:]) * x[:-1])


called_back = Problem(_called_back, _called_back_gradient, at_dtype(normal(36, 9)))

FAULTS = [
    *planted(
        "quadratic",
        quadratic,
        ("Q x for its symmetric part", "transposed dropped_term", lambda x: _Q @ x - _B),
        ("-b forgotten", "dropped_term", lambda x: 0.5 * (_Q @ x + _Q.T @ x)),
    ),
    *planted(
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
    *planted("log-sum-exp", log_sum_exp, ("over the wrong axis", "wrong_axis", partial(_log_sum_exp_gradient, axis=0))),
    *planted(
        "log-determinant",
        log_determinant,
        ("one of two factors", "factor", times(0.5, _log_determinant_gradient)),
        ("its transpose", "transposed", lambda m: _log_determinant_gradient(m).T),
    ),
    *planted(
        "linear solve",
        solve,
        ("back through a, not its transpose", "transposed", partial(_solve_lines, adjoint=lambda a: a)),
        ("outer product transposed", "transposed", partial(_solve_lines, product=lambda back, x: -jnp.outer(x, back))),
        ("no minus", "sign", partial(_solve_lines, product=jnp.outer)),
    ),
    *planted(
        "layer norm",
        layer_norm,
        ("mean held fixed", "dropped_term", partial(_layer_norm_lines, mean_term=0.0)),
        ("variance held fixed", "dropped_term", partial(_layer_norm_lines, variance_term=0.0)),
        ("variance over n - 1", "none factor dropped_term", partial(_layer_norm_lines, n=5)),
    ),
    *planted(
        "attention",
        attention,
        ("softmax as if elementwise", "dropped_term", partial(_attention_lines, softmax=lambda a, da: a * da)),
        ("no 1/sqrt(d)", "factor dropped_term", partial(_attention_lines, scale=1.0)),
        ("keys not transposed", "transposed", partial(_attention_lines, keys=lambda ds: ds)),
        ("values not transposed", "transposed", partial(_attention_lines, values=lambda a: a)),
        ("queries and keys swapped", "permuted", edited(attention.right, lambda g: [g[1], g[0], g[2]])),
    ),
    *planted(
        "convolution",
        convolution,
        ("kernel flipped", "permuted", partial(_convolution_lines, place=lambda i: 2 - i)),
        ("border repeated, not 0", "none extra_term dropped_term", partial(_convolution_lines, pad="edge")),
        ("bias averaged", "factor", partial(_convolution_lines, bias=lambda delta: delta.mean((0, 1, 2)))),
    ),
    *planted(
        "pendulum",
        pendulum,
        ("inner stages held fixed", "dropped_term", jax.grad(partial(_pendulum, lax.stop_gradient, 25))),
        ("one step too few", "none stale dropped_term", jax.grad(partial(_pendulum, lambda k: k, 24))),
        ("start detached", "zero", with_leaf(pendulum.right, 2, jnp.zeros_like)),
    ),
    *planted(
        "NumPy, called back",
        called_back,
        ("uphill", "sign", times(-1, called_back.right)),
        ("half of the product rule", "none dropped_term", lambda x: (2 * x / (1 + x * x)).at[:-1].add(jnp.sin(x[1:]))),
    ),
]
