"""Activations phi with hand-written derivatives phi' and phi''; softmax with its Jacobian product.

1 - y is computed from exp(-|z|), never as a difference from 1: sigmoid, tanh, softmax and their derivatives keep full
relative precision down to underflow, where 1 - y has long been rounded to 0. (The left tails of both gelu lose a few
digits more, because exp(-z^2 / 2) magnifies the rounding of z.)

An activation is an entry of `ACTIVATIONS`: networks, checks, sweeps and saved models know it by that name. Add your own
with `elementwise`, before the first network uses the name: compiled programs do not notice an entry that is replaced.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, nn
from jax.scipy.special import erfc

__all__ = ["ACTIVATIONS", "Activation", "elementwise", "softmax_terms"]


class Activation(NamedTuple):
    """An activation and its derivatives, for one example's z: [n].

    Attributes
    ----------
    phi
        y = phi(z), [n].
    pullback
        (z, g) -> J(z)^T g, all [n], with the Jacobian J of phi: in eq. (4) and (7), it turns the gradient g with
        respect to y into the gradient with respect to z. Elementwise phi: g * phi'(z). Every J here is symmetric, so
        J(z)^T dz is also the change of y when z changes by dz.
    pullback_change
        (z, g, dz, dg) -> the change of pullback(z, g) when z and g change by dz and dg, all [n]; second-order methods
        need it. Elementwise phi: dg * phi'(z) + g * phi''(z) * dz.
    gain
        1 / sqrt(E[phi(z)^2]) for z ~ N(0, 1). Initial weights are multiplied by it, so that z keeps its size from
        layer to layer (He et al. 2015, arXiv 1502.01852, for relu). 1 for softmax and exp, which are only for outputs.
    error
        (z, t) -> phi(z) - t, [n], without cancellation where phi saturates at t.
    derivative
        phi'(z), [n], or None if phi is only for outputs, because it is not elementwise (softmax) or grows too fast
        (exp). At a kink it equals that of `jax.nn`: relu'(0) = 0, leaky_relu'(0) = 1, elu'(0) = 1.
    second_derivative
        phi''(z), [n], or None if phi is only for outputs. At a kink, the value on its left.
    """

    phi: Callable[[Array], Array]
    pullback: Callable[[Array, Array], Array]
    pullback_change: Callable[[Array, Array, Array, Array], Array]
    gain: float
    error: Callable[[Array, Array], Array]
    derivative: Callable[[Array], Array] | None
    second_derivative: Callable[[Array], Array] | None


def elementwise(
    phi: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    second_derivative: Callable[[Array], Array] | None = None,
    *,
    gain: float | None = None,
    error: Callable[[Array, Array], Array] | None = None,
) -> Activation:
    """Return an activation from a function phi of one variable; add it to `ACTIVATIONS`.

    Parameters
    ----------
    phi, derivative, second_derivative
        phi, phi' and phi'', each a function of z: [n]. Autodiff of phi' replaces a missing phi''. Pass
        `jnp.zeros_like` for a piecewise linear phi: products with the Hessian then skip it.
    gain, error
        See `Activation`. By default, the gain is integrated numerically, and the error is phi(z) - t.

    Raises
    ------
    ValueError
        If no gain is given, and the numerical one is not positive and finite.

    Examples
    --------
    >>> from jaxmlp.network import MLP
    >>> ACTIVATIONS["cube"] = elementwise(lambda z: z**3, lambda z: 3 * z**2, lambda z: 6 * z)
    >>> MLP((4, 8, 3), "cube").activations, round(ACTIVATIONS["cube"].gain, 4)
    (('cube', 'softmax'), 0.2582)

    Check a derivative that you wrote by hand:

    >>> from jaxmlp.checking import check_gradient
    >>> cube = ACTIVATIONS.pop("cube")
    >>> bool(check_gradient(lambda z: cube.phi(z).sum(), cube.derivative, jnp.linspace(-2, 2, 5)))
    True
    """

    def bend(z: Array) -> Array:
        return jax.jvp(derivative, (z,), (jnp.ones_like(z),))[1]

    second = bend if second_derivative is None else second_derivative

    def pullback_change(z: Array, g: Array, dz: Array, dg: Array) -> Array:
        change = dg * derivative(z)
        return change if second is jnp.zeros_like else change + g * second(z) * dz

    return Activation(
        phi=phi,
        pullback=lambda z, g: g * derivative(z),
        pullback_change=pullback_change,
        gain=_gain(phi) if gain is None else gain,
        error=error or (lambda z, t: phi(z) - t),
        derivative=derivative,
        second_derivative=second,
    )


def _gain(phi: Callable[[Array], Array]) -> float:
    z = np.linspace(-12, 12, 24_001)  # the density beyond is below 1e-31
    density = np.exp(-(z**2) / 2) / np.sum(np.exp(-(z**2) / 2))
    with np.errstate(all="ignore"):
        square = float(density @ np.asarray(phi(jnp.asarray(z)), float) ** 2)
    if not 0 < square < np.inf:
        raise ValueError(f"phi^2 must have a positive, finite mean for z from -12 to 12, got {square}: pass gain")
    return float(1 / np.sqrt(square))


def _exp_minus_abs(z: Array) -> Array:
    # exp(-abs(z)) would spoil autodiff of everything built on it: abs has derivative 0 at 0.
    return jnp.exp(jnp.where(z > 0, -z, z))


def _sigmoid(z: Array) -> Array:
    e = _exp_minus_abs(z)
    return jnp.where(z > 0, 1, e) / (1 + e)


def _sigmoid_derivative(z: Array) -> Array:
    e = _exp_minus_abs(z)
    return e / (1 + e) ** 2


def _sigmoid_second_derivative(z: Array) -> Array:
    return -_sigmoid_derivative(z) * jnp.tanh(z / 2)  # 1 - 2 sigma(z) = -tanh(z / 2)


def _sigmoid_error(z: Array, t: Array) -> Array:
    # For t in {0, 1} this is (1 - t) sigma(z) - t sigma(-z), exactly.
    e = _exp_minus_abs(z)
    tail = e / (1 + e)
    return jnp.where(z > 0, (1 - t) - tail, tail - t)


def _tanh_derivative(z: Array) -> Array:
    e = _exp_minus_abs(z)
    return (2 * e / (1 + e**2)) ** 2  # exp(-|z|) underflows later than exp(-2 |z|)


def _tanh_second_derivative(z: Array) -> Array:
    return -2 * jnp.tanh(z) * _tanh_derivative(z)


def _tanh_error(z: Array, t: Array) -> Array:
    sign = jnp.where(z > 0, 1, -1).astype(z.dtype)
    e = _exp_minus_abs(2 * z)
    tail = 2 * e / (1 + e)  # 1 - |tanh z|
    return jnp.where(e < 1 / 3, (sign - t) - sign * tail, jnp.tanh(z) - t)


def _silu_derivative(z: Array) -> Array:
    return _sigmoid(z) * (1 + z * _sigmoid(-z))


def _silu_second_derivative(z: Array) -> Array:
    return _sigmoid_derivative(z) * (2 - z * jnp.tanh(z / 2))


def _gelu_argument(z: Array) -> Array:
    # This is 2u; 0.5 (1 + tanh(u)) = sigma(2u) does not cancel in the left tail.
    return 2 * sqrt(2 / pi) * (z + 0.044715 * z**3)


def _gelu(z: Array) -> Array:
    return z * _sigmoid(_gelu_argument(z))


def _gelu_derivative(z: Array) -> Array:
    z = jnp.clip(z, -30, 30)  # beyond, phi' is 0 or 1 to the last bit, and z^3 might overflow
    u = _gelu_argument(z)
    return _sigmoid(u) * (1 + z * _gelu_slope(z) * _sigmoid(-u))


def _gelu_slope(z: Array) -> Array:
    return 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * z**2)  # u'


def _gelu_second_derivative(z: Array) -> Array:
    z = jnp.clip(z, -30, 30)
    u, slope = _gelu_argument(z), _gelu_slope(z)
    bend = 2 * sqrt(2 / pi) * 6 * 0.044715 * z  # u''
    return _sigmoid_derivative(u) * (2 * slope + z * bend - z * slope**2 * jnp.tanh(u / 2))


def _gelu_exact(z: Array) -> Array:
    return 0.5 * z * erfc(-z / sqrt(2))


def _gelu_exact_derivative(z: Array) -> Array:
    return 0.5 * erfc(-z / sqrt(2)) + z * jnp.exp(-(z**2) / 2) / sqrt(2 * pi)


def _gelu_exact_second_derivative(z: Array) -> Array:
    z = jnp.clip(z, -40, 40)  # beyond, exp(-z^2 / 2) is 0
    return (2 - z**2) * jnp.exp(-(z**2) / 2) / sqrt(2 * pi)


def softmax_terms(z: Array) -> tuple[Array, Array, Array, Array]:
    """Return softmax y = softmax(z) with 1 - y and -log y, each to full relative precision.

    With e_i = exp(z_i - max z), the largest of which is exactly 1, everything follows from
    `others` = sum_i e_i - 1, summed without that 1:

        y_i = e_i / (1 + others),   1 - y_i = (others - (e_i - 1)) / (1 + others),
        -log y_i = (max z - z_i) + log1p(others)

    Parameters
    ----------
    z
        [n].

    Returns
    -------
    y, one_minus_y, minus_log_y, is_max
        Each [n]; `is_max` is 1.0 at the maximum (at all of them, if tied), else 0.0.

    Examples
    --------
    In float32, 1 - y would be 0 here:

    >>> y, one_minus_y, minus_log_y, _ = softmax_terms(jnp.array([80.0, 0.0]))
    >>> print(1 - y[0], f"{one_minus_y[0]:.3e} {minus_log_y[0]:.3e}")
    0.0 1.805e-35 1.805e-35
    """
    # Constant for autodiff: the result does not depend on it, and max has a false derivative at a tie.
    largest = lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    is_max = (z == largest).astype(z.dtype)
    e = jnp.exp(z - largest)
    others = jnp.sum(e - is_max, axis=-1, keepdims=True) + (jnp.sum(is_max, axis=-1, keepdims=True) - 1)
    return (
        e / (1 + others),
        (others - (e - 1)) / (1 + others),
        (largest - z) + jnp.log1p(others),
        is_max,
    )


def _softmax_error(z: Array, t: Array) -> Array:
    y, one_minus_y, _, is_max = softmax_terms(z)
    return jnp.where(is_max > 0, (1 - t) - one_minus_y, y - t)


def _softmax_pullback(z: Array, g: Array) -> Array:
    # J^T g = y (g - <y, g>). First subtract g at the largest y, so that <y, g> does not lose digits.
    y, _, _, is_max = softmax_terms(z)
    g = g - jnp.sum(is_max * g, axis=-1, keepdims=True) / jnp.sum(is_max, axis=-1, keepdims=True)
    return y * (g - jnp.sum(y * g, axis=-1, keepdims=True))


def _softmax_pullback_change(z: Array, g: Array, dz: Array, dg: Array) -> Array:
    # The change of y (g - <y, g>), with dy = y (dz - <y, dz>).
    y, dy = softmax_terms(z)[0], _softmax_pullback(z, dz)
    centred = g - jnp.sum(y * g, axis=-1, keepdims=True)
    return dy * centred + _softmax_pullback(z, dg) - y * jnp.sum(dy * centred, axis=-1, keepdims=True)


_LEAK = 0.01

ACTIVATIONS: dict[str, Activation] = {
    "identity": elementwise(lambda z: z, jnp.ones_like, jnp.zeros_like, gain=1.0),
    "sigmoid": elementwise(
        _sigmoid, _sigmoid_derivative, _sigmoid_second_derivative, gain=1.84623, error=_sigmoid_error
    ),
    "tanh": elementwise(jnp.tanh, _tanh_derivative, _tanh_second_derivative, gain=1.59254, error=_tanh_error),
    "relu": elementwise(nn.relu, lambda z: (z > 0).astype(z.dtype), jnp.zeros_like, gain=sqrt(2)),
    "leaky_relu": elementwise(
        lambda z: jnp.where(z >= 0, z, _LEAK * z),
        lambda z: jnp.where(z >= 0, 1, _LEAK).astype(z.dtype),
        jnp.zeros_like,
        gain=sqrt(2 / (1 + _LEAK**2)),
    ),
    # Autodiff of exp(minimum(z, 0)) would take half of its slope at 0.
    "elu": elementwise(
        nn.elu,
        lambda z: jnp.exp(jnp.where(z > 0, 0, z)),
        lambda z: jnp.where(z > 0, 0, jnp.exp(jnp.where(z > 0, 0, z))),
        gain=1.2452,
    ),
    "softplus": elementwise(nn.softplus, _sigmoid, _sigmoid_derivative, gain=1.04187),
    "silu": elementwise(lambda z: z * _sigmoid(z), _silu_derivative, _silu_second_derivative, gain=1.67653),
    "gelu": elementwise(_gelu, _gelu_derivative, _gelu_second_derivative, gain=1.53358),
    "gelu_exact": elementwise(_gelu_exact, _gelu_exact_derivative, _gelu_exact_second_derivative, gain=1.53353),
    "exp": Activation(
        phi=jnp.exp,
        pullback=lambda z, g: g * jnp.exp(z),
        pullback_change=lambda z, g, dz, dg: (dg + g * dz) * jnp.exp(z),
        gain=1.0,
        error=lambda z, t: jnp.exp(z) - t,
        derivative=None,
        second_derivative=None,
    ),
    "softmax": Activation(
        phi=lambda z: softmax_terms(z)[0],
        pullback=_softmax_pullback,
        pullback_change=_softmax_pullback_change,
        gain=1.0,
        error=_softmax_error,
        derivative=None,
        second_derivative=None,
    ),
}
