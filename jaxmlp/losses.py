"""Losses L(y, t) of one example, each with its delta_L = dL/dz_L: eq. (4) to (6).

Every loss is computed from z, the weighted input of the output layer, because y may have been rounded to 0 or 1, where
log y or log(1 - y) is infinite. A loss is an entry of `LOSSES`: networks, checks, sweeps and saved models know it by
that name.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, nn
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from jaxmlp.activations import ACTIVATIONS, Activation, softmax_terms

__all__ = ["LOSSES", "Loss", "takes_values", "target_row"]


class Loss(NamedTuple):
    """A loss and its derivatives, for one example.

    All are functions of the output activation, z: [n] and the target row t: [n].

    Attributes
    ----------
    value
        (output, z, t) -> the scalar loss.
    delta
        (output, z, t) -> delta_L = dL/dz, [n].
    delta_change
        (output, z, t, dz) -> the change of delta_L when z changes by dz, [n]: the Hessian of the loss in z, times dz.
    gauss_newton
        (output, z, t, dz) -> the same product without the curvature of the output activation, [n]; its inner product
        with dz is never negative. J^T J dz for the quadratic loss, with the Jacobian J of y; `delta_change` for losses
        that are convex in z.
    outputs
        The names of the output activations that this loss accepts.

    Examples
    --------
    Add your own loss before you make a network with it:

    >>> from jaxmlp.network import MLP
    >>> def product(output, z, t, dz):
    ...     return dz / jnp.cosh(z - t) ** 2
    >>> LOSSES["log_cosh"] = Loss(
    ...     value=lambda output, z, t: jnp.sum(jnp.log(jnp.cosh(z - t))),
    ...     delta=lambda output, z, t: jnp.tanh(z - t),
    ...     delta_change=product,
    ...     gauss_newton=product,
    ...     outputs=["identity"],
    ... )
    >>> MLP((4, 8, 1), output="identity", loss="log_cosh").loss
    'log_cosh'
    >>> del LOSSES["log_cosh"]
    """

    value: Callable[[Activation, Array, Array], Array]
    delta: Callable[[Activation, Array, Array], Array]
    delta_change: Callable[[Activation, Array, Array, Array], Array]
    gauss_newton: Callable[[Activation, Array, Array, Array], Array]
    outputs: Collection[str]


def _quadratic(output: Activation, z: Array, t: Array) -> Array:
    return 0.5 * jnp.sum(output.error(z, t) ** 2)


def _quadratic_delta(output: Activation, z: Array, t: Array) -> Array:
    return output.pullback(z, output.error(z, t))  # (4); with sigmoid (5): (y - t) (1 - y) y


def _quadratic_delta_change(output: Activation, z: Array, t: Array, dz: Array) -> Array:
    return output.pullback_change(z, output.error(z, t), dz, output.pullback(z, dz))


def _quadratic_gauss_newton(output: Activation, z: Array, t: Array, dz: Array) -> Array:
    return output.pullback(z, output.pullback(z, dz))


def _cross_entropy(output: Activation, z: Array, t: Array) -> Array:
    _, _, minus_log_y, _ = softmax_terms(z)
    return jnp.sum(t * minus_log_y)  # no negative term: nothing cancels


def _binary_cross_entropy(output: Activation, z: Array, t: Array) -> Array:
    return jnp.sum(t * nn.softplus(-z) + (1 - t) * nn.softplus(z))


def _poisson(output: Activation, z: Array, t: Array) -> Array:
    # Half the deviance: at y = t it is 0.
    return jnp.sum(jnp.exp(z) - t * z + xlogy(t, t) - t)


def _error_delta(output: Activation, z: Array, t: Array) -> Array:
    return output.error(z, t)  # y - t, as in (6): the loss cancels the derivative of the output


def _error_delta_change(output: Activation, z: Array, t: Array, dz: Array) -> Array:
    return output.pullback(z, dz)  # the change of y


LOSSES: dict[str, Loss] = {
    # The table itself, so that it includes activations that are added later.
    "quadratic": Loss(_quadratic, _quadratic_delta, _quadratic_delta_change, _quadratic_gauss_newton, ACTIVATIONS),
    "cross_entropy": Loss(_cross_entropy, _error_delta, _error_delta_change, _error_delta_change, ("softmax",)),
    "binary_cross_entropy": Loss(
        _binary_cross_entropy, _error_delta, _error_delta_change, _error_delta_change, ("sigmoid",)
    ),
    "poisson": Loss(_poisson, _error_delta, _error_delta_change, _error_delta_change, ("exp",)),
}

_OF_VALUES = {"identity", "exp"}


def takes_values(loss: str) -> bool:
    """Tell whether the targets of a loss are real values; else they are classes, labels or probabilities.

    >>> takes_values("quadratic"), takes_values("cross_entropy")
    (True, False)
    """
    return not _OF_VALUES.isdisjoint(LOSSES[loss].outputs)


def target_row(t: ArrayLike, z: Array, output_name: str) -> Array:
    """Return one example's target as a row [n] of z's dtype; a class becomes one-hot, a bare number a row of one.

    Parameters
    ----------
    t
        An integer class (a row of zeros if it is not in 0..n-1), a one-hot or soft row [n], or real values [n] (a bare
        number if n = 1).
    z
        [n]: sets the length and the dtype of the row.
    output_name
        The name of the output activation. With softmax, an integer is a class even if n = 1.

    Raises
    ------
    ValueError
        If t is none of these.

    Examples
    --------
    >>> print(target_row(2, jnp.zeros(3), "softmax"))
    [0. 0. 1.]
    """
    t = jnp.asarray(t)
    is_class = t.ndim == 0 and not jnp.issubdtype(t.dtype, jnp.inexact)
    if is_class and (z.shape[-1] > 1 or output_name == "softmax"):
        return nn.one_hot(t.astype(int), z.shape[-1], dtype=z.dtype)
    if t.shape not in [z.shape, ()] or t.size != z.size:
        raise ValueError(
            f"t must be one example's target, an integer class or a row of shape {z.shape}, "
            f"got shape {t.shape} and dtype {t.dtype}; batch with jax.vmap"
        )
    return t.astype(z.dtype).reshape(z.shape)
