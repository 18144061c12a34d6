"""Losses L(y, t) of one example, each beside its delta_L = dL/dz_L: eq. (4) to (6).

Every loss is computed from z, the output layer's weighted input, and not from y: the logarithm of a y that was
rounded to 0 or 1 is lost. Adding a loss is adding an entry to `LOSSES`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, nn
from jax.typing import ArrayLike

from jaxmlp.activations import ACTIVATIONS, Activation, softmax_terms

__all__ = ["LOSSES", "Loss", "target_row"]


class Loss(NamedTuple):
    """What the library knows of one loss, for one example.

    Attributes
    ----------
    value
        (output, z, t) to the scalar loss, for the output activation, z: [n] and the target row t: [n].
    delta
        (output, z, t) to delta_L = dL/dz, [n].
    delta_change
        (output, z, t, dz) to the change of delta_L where z changes by dz, [n]: the product with the loss's Hessian.
    gauss_newton
        (output, z, dz) to its part that is never negative, [n]: what is left where the residual y - t is 0.
    outputs
        The output activations with which this loss makes sense.
    """

    value: Callable[[Activation, Array, Array], Array]
    delta: Callable[[Activation, Array, Array], Array]
    delta_change: Callable[[Activation, Array, Array, Array], Array]
    gauss_newton: Callable[[Activation, Array, Array], Array]
    outputs: tuple[str, ...]


def _quadratic(output: Activation, z: Array, t: Array) -> Array:
    return 0.5 * jnp.sum(output.error(z, t) ** 2)


def _quadratic_delta(output: Activation, z: Array, t: Array) -> Array:
    return output.pullback(z, output.error(z, t))  # (4); with sigmoid (5): (y - t) (1 - y) y


def _quadratic_delta_change(output: Activation, z: Array, t: Array, dz: Array) -> Array:
    return output.pullback_change(z, output.error(z, t), dz, output.pullback(z, dz))


def _quadratic_gauss_newton(output: Activation, z: Array, dz: Array) -> Array:
    return output.pullback(z, output.pullback(z, dz))


def _cross_entropy(output: Activation, z: Array, t: Array) -> Array:
    _, _, minus_log_y, _ = softmax_terms(z)
    return jnp.sum(t * minus_log_y)  # no negative term: nothing cancels


def _binary_cross_entropy(output: Activation, z: Array, t: Array) -> Array:
    return jnp.sum(t * nn.softplus(-z) + (1 - t) * nn.softplus(z))


def _error_delta(output: Activation, z: Array, t: Array) -> Array:
    return output.error(z, t)  # (6) y - t: the loss cancels the derivative of the output


def _error_delta_change(output: Activation, z: Array, t: Array, dz: Array) -> Array:
    return output.pullback(z, dz)  # that of y: no residual is left


def _error_gauss_newton(output: Activation, z: Array, dz: Array) -> Array:
    return output.pullback(z, dz)


LOSSES: dict[str, Loss] = {
    "quadratic": Loss(
        _quadratic, _quadratic_delta, _quadratic_delta_change, _quadratic_gauss_newton, tuple(ACTIVATIONS)
    ),
    "cross_entropy": Loss(_cross_entropy, _error_delta, _error_delta_change, _error_gauss_newton, ("softmax",)),
    "binary_cross_entropy": Loss(
        _binary_cross_entropy, _error_delta, _error_delta_change, _error_gauss_newton, ("sigmoid",)
    ),
}


def target_row(t: ArrayLike, z: Array, output_name: str) -> Array:
    """Return the target as a row like z: a class becomes one-hot, a bare number a row of one.

    Parameters
    ----------
    t
        An integer class (scalar; one that is none of the n becomes a row of zeros), a one-hot or soft row [n],
        or, where n = 1, a real value (scalar).
    z
        [n]: gives the row's length and dtype.
    output_name
        The output activation's: with softmax a lone output is still a class.

    Returns
    -------
    row
        [n], of z's dtype.

    Raises
    ------
    ValueError
        If t fits neither.

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
