"""Rows for derivatives written by hand: phi', delta, gradients and second-order products, beside what they must equal.

The truth is autodiff, confirmed by differences of the function itself (`check_gradient`).
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.activations import ACTIVATIONS, Activation
from jaxmlp.backpropagation import loss_and_gradient
from jaxmlp.curvature import gauss_newton_vector_product, hessian_vector_product
from jaxmlp.equivalences.numbers import in_dtypes_of, normal, normal_like, target_rows, weighted_inputs
from jaxmlp.equivalences.rows import Claim, Equivalence, equality_rows, gradient_row
from jaxmlp.losses import LOSSES, Loss
from jaxmlp.network import MLP, Params, forward, loss


def rows_of_activation(name: str, activation: Activation, rng: np.random.Generator) -> Iterator[Equivalence]:
    """List phi' and phi - t beside phi, and phi'' beside phi'."""
    z = weighted_inputs(rng)
    g, u, t = (normal(z.shape, rng) for _ in range(3))
    phi, pullback = jax.vmap(activation.phi), jax.vmap(activation.pullback)
    change, error = jax.vmap(activation.pullback_change), jax.vmap(activation.error)

    def value(at: dict[str, Array]) -> Array:
        return jnp.vdot(g, phi(at["z"])) + 0.5 * jnp.sum((phi(at["z of phi - t"]) - t) ** 2)

    def first(at: dict[str, Array]) -> dict[str, Array]:
        z, other = at["z"], at["z of phi - t"]
        return {"z": pullback(z, in_dtypes_of(z, g)), "z of phi - t": pullback(other, error(other, in_dtypes_of(z, t)))}

    def second(at: dict[str, Array]) -> dict[str, Array]:
        # J is symmetric, and so is the Hessian of g . phi: the change along u is the gradient of u . J g.
        z, g = at["z"], at["g"]
        return {
            "z": change(z, g, in_dtypes_of(z, u), jnp.zeros_like(g)),
            "g": change(z, g, jnp.zeros_like(z), in_dtypes_of(g, u)),
        }

    slope = Claim(lambda at: jnp.vdot(u, pullback(at["z"], at["g"])), second, {"z": z, "g": g})
    at = {"z": z, "z of phi - t": z}
    yield gradient_row("activations", f"{name}, first derivative", Claim(value, first, at), "at")
    yield gradient_row("activations", f"{name}, second derivative", slope, "at")


def rows_of_loss(name: str, entry: Loss, output: Activation, rng: np.random.Generator) -> Iterator[Equivalence]:
    """List delta beside the loss, the change of delta beside delta, and the Gauss-Newton part beside autodiff."""
    z = weighted_inputs(rng)
    t = target_rows(z.shape, rng)
    u = normal(z.shape, rng)
    value, delta = (jax.vmap(partial(part, output)) for part in (entry.value, entry.delta))
    change, gauss_newton = (jax.vmap(partial(part, output)) for part in (entry.delta_change, entry.gauss_newton))

    def total(z: Array) -> Array:
        return value(z, in_dtypes_of(z, t)).sum()

    def gradient(z: Array) -> Array:
        return delta(z, in_dtypes_of(z, t))

    def product(z: Array) -> Array:
        return change(z, in_dtypes_of(z, t), in_dtypes_of(z, u))

    def without_residual(z: Array, u: Array) -> Array:
        # At t = y there is no residual, and the Hessian has only the Gauss-Newton part.
        here = jax.vmap(output.phi)(z)
        return jax.jvp(jax.grad(lambda z: value(z, here).sum()), (z,), (u,))[1]

    yield gradient_row("losses", f"{name}, delta", Claim(total, gradient, z), "z")
    slope = Claim(lambda z: jnp.vdot(u, gradient(z)), product, z)
    yield gradient_row("losses", f"{name}, change of delta", slope, "z")
    pairs = {f"{name}, Gauss-Newton": (lambda z, u: gauss_newton(z, jax.vmap(output.phi)(z), u), without_residual)}
    # The last rows of z have no kinks; at a kink the product with the Hessian is not unique.
    yield from equality_rows("losses", pairs, "autodiff of the loss at t = y", z[-3:], u[-3:])


def rows_of_network(mlp: MLP, params: Params, x: Array, t: Array, seed: int) -> Iterator[Equivalence]:
    """List the gradient beside the loss, and both second-order products beside those of autodiff."""
    direction = normal_like(params, np.random.default_rng(seed))

    def mean_loss(params: Params) -> Array:
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    def gradient(params: Params) -> Params:
        return loss_and_gradient(mlp, params, x, t)[1]

    def hessian(params: Params, direction: Params) -> Params:
        return jax.jvp(jax.grad(mean_loss), (params,), (direction,))[1]

    hidden = ", ".join(dict.fromkeys(mlp.activations[:-1]))
    name = f"{mlp.loss} of {mlp.output}" + (f" behind {hidden}" if hidden else "")
    yield gradient_row("networks", f"{name}, gradient", Claim(mean_loss, gradient, params), "params")
    products = {
        f"{name}, Hessian times v": (lambda w, v: hessian_vector_product(mlp, w, x, t, v), hessian),
        f"{name}, Gauss-Newton times v": (
            lambda w, v: gauss_newton_vector_product(mlp, w, x, t, v),
            lambda w, v: _gauss_newton(mlp, w, x, v),
        ),
    }
    yield from equality_rows("networks", products, "autodiff of the loss, twice", params, direction)


def _gauss_newton(mlp: MLP, params: Params, x: Array, direction: Params) -> Params:
    """Multiply by J^T H J of the mean loss by autodiff: J of z_L, and H of the loss as a function of z_L, at t = y."""

    def last(params: Params) -> Array:
        return jax.vmap(partial(forward, mlp, params))(x).z[-1]

    value = partial(LOSSES[mlp.loss].value, ACTIVATIONS[mlp.output])
    # At t = y there is no residual, so H has only the Gauss-Newton part.
    rows = jax.vmap(partial(forward, mlp, params))(x).y[-1]
    z, moved = jax.jvp(last, (params,), (direction,))
    curved = jax.jvp(jax.grad(lambda z: jax.vmap(value)(z, rows).mean()), (z,), (moved,))[1]
    return jax.vjp(last, params)[1](curved)[0]
