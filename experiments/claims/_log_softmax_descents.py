"""Descents by three gradients of log-softmax with cross-entropy, and measurements along their ways."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, nn
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxmlp import MLP, forward, loss_and_gradient, sgd
from jaxmlp.network import Params

__all__ = ["AUTODIFF", "EVERY", "OURS", "REWRITTEN", "Descent", "Seen", "descend", "normalised", "see", "train"]

AUTODIFF, OURS, REWRITTEN = "autodiff of log-softmax", "delta of jaxmlp", "autodiff of the rewritten loss"
EVERY = 40  # steps from one look at a descent to the next


class Descent(NamedTuple):
    """Weights every so many steps, and the norm of the gradient at every step."""

    params: Params
    norms: Array


class Seen(NamedTuple):
    """Measurements at some weights of a descent; angles by gradient, in degrees."""

    angles: dict[str, Array]
    share_zero: Array  # of examples, whose own delta is exactly 0 by autodiff
    zero_from: Array  # the smallest margin of those, and the largest of the others
    zero_not_to: Array
    loss: Array
    margin: Array  # the smallest
    logit: Array  # the largest, of either sign


def log_softmax_loss(mlp: MLP, params: Params, x: Array, t: Array) -> Array:
    return textbook(logits(mlp, params, x), t).mean()


def textbook(z: Array, t: Array) -> Array:
    return -jnp.take_along_axis(nn.log_softmax(z), t[:, None], axis=1)[:, 0]


def rewritten_loss(mlp: MLP, params: Params, x: Array, t: Array) -> Array:
    return nn.softplus(-margins(logits(mlp, params, x), t)).mean()


def margins(z: Array, t: Array) -> Array:
    own = jnp.take_along_axis(z, t[:, None], axis=1)
    return own[:, 0] - nn.logsumexp(z, axis=1, where=jnp.arange(z.shape[1]) != t[:, None])


def logits(mlp: MLP, params: Params, x: Array) -> Array:
    return jax.vmap(lambda x: forward(mlp, params, x).z[-1])(x)


GRADIENTS: dict[str, Callable[..., Params]] = {
    AUTODIFF: jax.grad(log_softmax_loss, argnums=1),
    OURS: lambda mlp, params, x, t: loss_and_gradient(mlp, params, x, t)[1],
    REWRITTEN: jax.grad(rewritten_loss, argnums=1),
}


@partial(jax.jit, static_argnames=("mlp", "name", "steps"))
@partial(jax.vmap, in_axes=(None, None, 0, None, None, 0, 0))
def descend(mlp: MLP, name: str, params: Params, eta: ArrayLike, steps: int, x: Array, t: Array) -> Descent:
    """Move by eta g / |g|, and stay where g is 0."""

    def step(params: Params, _: None) -> tuple[Params, Array]:
        norm, unit = normalised(GRADIENTS[name](mlp, params, x, t))
        return jax.tree.map(lambda w, u: w - eta * u, params, unit), norm

    def stretch(params: Params, _: None) -> tuple[Params, Descent]:
        after, norms = lax.scan(step, params, length=EVERY)
        return after, Descent(params, norms)

    passed = lax.scan(stretch, params, length=steps // EVERY)[1]
    return Descent(passed.params, passed.norms.ravel())


def normalised(gradient: Params) -> tuple[Array, Params]:
    """Return the norm and the direction; squares of float32 below 1e-22 are 0, so that scaling comes first."""
    largest = jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(gradient)]))
    scaled = jax.tree.map(lambda leaf: leaf / jnp.where(largest > 0, largest, 1), gradient)
    norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(scaled)))
    return largest * norm, jax.tree.map(lambda leaf: leaf / jnp.where(norm > 0, norm, 1), scaled)


@partial(jax.jit, static_argnames="mlp")
@partial(jax.vmap, in_axes=(None, 0, 0, 0))
def see(mlp: MLP, params: Params, x: Array, t: Array) -> Seen:
    """Look at float32 weights along their first axis; to be called under x64, for the truth."""

    def at(params: Params) -> Seen:
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        loss, truth = jax.value_and_grad(rewritten_loss, argnums=1)(mlp, wide, x.astype(jnp.float64), t)
        z = logits(mlp, params, x)
        delta = jax.grad(lambda z: textbook(z, t).sum())(z)
        is_zero, margin = jnp.take_along_axis(delta, t[:, None], axis=1)[:, 0] == 0, margins(z.astype(jnp.float64), t)
        return Seen(
            {name: angle(gradient(mlp, params, x, t), truth) for name, gradient in GRADIENTS.items()},
            is_zero.mean(),
            jnp.where(is_zero, margin, jnp.inf).min(),
            jnp.where(is_zero, -jnp.inf, margin).max(),
            loss,
            margin.min(),
            jnp.abs(z).max(),
        )

    return lax.map(at, params)


def angle(a: Params, b: Params) -> Array:
    """Return the angle between two trees in degrees: by float64, and by tan of its half, also where it is tiny."""
    wide = (ravel_pytree(tree)[0].astype(jnp.float64) for tree in (a, b))
    (size_a, a), (size_b, b) = map(normalised, wide)
    less, more = normalised(a - b)[0], normalised(a + b)[0]
    return jnp.where((size_a > 0) & (size_b > 0), jnp.rad2deg(2 * jnp.arctan2(less, more)), jnp.nan)


@partial(jax.jit, static_argnames=("mlp", "name"))
@partial(jax.vmap, in_axes=(None, None, 0, 0, 0, 0))
def train(mlp: MLP, name: str, params: Params, x: Array, t: Array, batches: Array) -> Params:
    """Run plain SGD with momentum over batches of rows, [steps, B]; return the last weights, [1, ...] each."""

    def step(carry: tuple[Params, sgd.State], rows: Array) -> tuple[tuple[Params, sgd.State], None]:
        gradient = GRADIENTS[name](mlp, carry[0], x[rows], t[rows])
        return sgd.update(*carry, gradient, learning_rate=0.1, momentum=0.9), None

    return jax.tree.map(lambda leaf: leaf[None], lax.scan(step, (params, sgd.init(params)), batches)[0][0])
