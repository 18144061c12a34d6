"""Rows for derivatives written by hand: phi', delta, gradients and second-order products.

The truth is autodiff, confirmed by differences of the function itself (`check_gradient`).
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.activations import ACTIVATIONS, Activation
from jaxmlp.backpropagation import loss_and_gradient
from jaxmlp.curvature import gauss_newton_vector_product, hessian_vector_product
from jaxmlp.equivalences.rows import Claim, Equivalence, equal_rows, gradient_row, normal, normal_like, target_rows
from jaxmlp.losses import LOSSES, Loss
from jaxmlp.network import MLP, Params, forward, loss


def weighted_inputs(rng: np.random.Generator, activation: Activation) -> Array:
    """Return z: [K, n] with ties, zeros, small and large numbers, and random ones; for exp, large ones are left out."""
    chosen = [[0, 0, 0, 0], [0.5, -0.5, 1, -1], [2, -2, 3, -3], [8, -8, 4, -4], [20, -20, 0.001, -0.001]]
    largest = 4.0 if activation is ACTIVATIONS["exp"] else np.inf
    return jnp.asarray(np.concatenate([chosen, rng.normal(size=(3, 4))]).clip(-largest, largest), jnp.float32)


def _smooth_rows(activation: Activation) -> slice:
    """Return the rows of `weighted_inputs` at which phi' has a derivative: that of relu jumps at 0, the first row."""
    below, above = (activation.pullback(jnp.full(1, z), jnp.ones(1))[0] for z in (-1e-6, 1e-6))
    return slice(int(abs(above - below) > 1e-3), None)


def _batched(part: Callable[..., Array]) -> Callable[..., Array]:
    """Batch a function of one example, to [K, n], in its first argument's dtype: checks use several dtypes."""
    return lambda z, *others: jax.vmap(part)(z, *(other.astype(z.dtype) for other in others))


def rows_of_activation(name: str, activation: Activation, rng: np.random.Generator) -> Iterator[Equivalence]:
    """List rows: phi' and phi - t against phi, phi'' against phi'."""
    z = weighted_inputs(rng, activation)
    g, u, t = (normal(z.shape, rng) for _ in range(3))
    phi, pullback = _batched(activation.phi), _batched(activation.pullback)
    change, error = _batched(activation.pullback_change), _batched(activation.error)

    def value(at: dict[str, Array]) -> Array:
        return jnp.vdot(g, phi(at["z"])) + 0.5 * jnp.sum((phi(at["z of phi - t"]) - t) ** 2)

    def first(at: dict[str, Array]) -> dict[str, Array]:
        z, other = at["z"], at["z of phi - t"]
        return {"z": pullback(z, g), "z of phi - t": pullback(other, error(other, t))}

    def second(at: dict[str, Array]) -> dict[str, Array]:
        # J is symmetric, and so is the Hessian of g . phi: the change along u is the gradient of u . J g.
        z, g = at["z"], at["g"]
        return {"z": change(z, g, u[smooth], jnp.zeros_like(g)), "g": change(z, g, jnp.zeros_like(z), u[smooth])}

    at = {"z": z, "z of phi - t": z}
    smooth = _smooth_rows(activation)
    slope = Claim(lambda at: jnp.vdot(u[smooth], pullback(at["z"], at["g"])), second, {"z": z[smooth], "g": g[smooth]})
    yield gradient_row("activations", f"{name}, first derivative", Claim(value, first, at), "at")
    yield gradient_row("activations", f"{name}, second derivative", slope, "at")


def rows_of_loss(name: str, entry: Loss, output: Activation, rng: np.random.Generator) -> Iterator[Equivalence]:
    """List rows: delta against the loss, its change against delta, the Gauss-Newton part against autodiff."""
    z = weighted_inputs(rng, output)
    t, u = target_rows(z.shape, rng), normal(z.shape, rng)
    parts = entry.value, entry.delta, entry.delta_change, entry.gauss_newton
    value, delta, change, gauss_newton = (_batched(partial(part, output)) for part in parts)

    def without_residual(z: Array, u: Array) -> Array:
        # At t = y there is no residual, and the Hessian has only the Gauss-Newton part.
        here = jax.vmap(output.phi)(z)
        return jax.jvp(jax.grad(lambda z: value(z, here).sum()), (z,), (u,))[1]

    claim = Claim(lambda z: value(z, t).sum(), lambda z: delta(z, t), z)
    smooth = _smooth_rows(output)
    here, along = t[smooth], u[smooth]
    slope = Claim(lambda z: jnp.vdot(along, delta(z, here)), lambda z: change(z, here, along), z[smooth])
    yield gradient_row("losses", f"{name}, delta", claim, "z")
    yield gradient_row("losses", f"{name}, change of delta", slope, "z")
    pairs = {f"{name}, Gauss-Newton": (lambda z, u: gauss_newton(z, jax.vmap(output.phi)(z), u), without_residual)}
    # The last rows of z have no kinks; at a kink the product with the Hessian is not unique.
    yield from equal_rows("losses", pairs, "autodiff of the loss at t = y", z[-3:], u[-3:])


def rows_of_network(mlp: MLP, params: Params, x: Array, t: Array, seed: int) -> Iterator[Equivalence]:
    """List rows: the gradient against the loss, both second-order products against autodiff."""
    direction = normal_like(params, np.random.default_rng(seed))

    def mean_loss(params: Params) -> Array:
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    def hessian(params: Params, direction: Params) -> Params:
        return jax.jvp(jax.grad(mean_loss), (params,), (direction,))[1]

    claim = Claim(mean_loss, lambda params: loss_and_gradient(mlp, params, x, t)[1], params)
    hidden = ", ".join(dict.fromkeys(mlp.activations[:-1]))
    name = f"{mlp.loss} of {mlp.output}" + (f" behind {hidden}" if hidden else "")
    yield gradient_row("networks", f"{name}, gradient", claim, "params")
    gauss_newton = lambda w, v: gauss_newton_vector_product(mlp, w, x, t, v), lambda w, v: _gauss_newton(mlp, w, x, v)
    products = {
        f"{name}, Hessian times v": (lambda w, v: hessian_vector_product(mlp, w, x, t, v), hessian),
        f"{name}, Gauss-Newton times v": gauss_newton,
    }
    yield from equal_rows("networks", products, "autodiff of the loss, twice", params, direction)


def _gauss_newton(mlp: MLP, params: Params, x: Array, direction: Params) -> Params:
    """Return J^T H J v by autodiff: the Jacobian J of z_L, and the Hessian H of the mean loss in z_L at t = y."""

    def last(params: Params) -> Array:
        return jax.vmap(partial(forward, mlp, params))(x).z[-1]

    value = partial(LOSSES[mlp.loss].value, ACTIVATIONS[mlp.output])
    # At t = y there is no residual, so H has only the Gauss-Newton part.
    rows = jax.vmap(partial(forward, mlp, params))(x).y[-1]
    z, moved = jax.jvp(last, (params,), (direction,))
    curved = jax.jvp(jax.grad(lambda z: jax.vmap(value)(z, rows).mean()), (z,), (moved,))[1]
    return jax.vjp(last, params)[1](curved)[0]
