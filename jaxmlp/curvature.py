"""The second-order part of eq. (1), by hand: L(w + dw) ~ L(w) + grad L . dw + 1/2 dw^T H dw.

Products with the Hessian H use Pearlmutter's R-operator: R{.} is the change of a quantity when the parameters move in
the direction (v.w, v.b). By the product rule, eq. (4) to (8) become

    forward     R{z_l} = v.w_l y_{l-1} + w_l R{y_{l-1}} + v.b_l,      R{y_l} = phi'(z_l) R{z_l},      R{y_0} = 0
    (4)         R{delta_L} from the loss
    (7)         R{delta_l} = (v.w_{l+1}^T delta_{l+1} + w_{l+1}^T R{delta_{l+1}}) phi'(z_l)
                             + (w_{l+1}^T delta_{l+1}) phi''(z_l) R{z_l}
    (8)         R{grad w_l} = R{delta_l} outer y_{l-1} + delta_l outer R{y_{l-1}},      R{grad b_l} = R{delta_l}

All functions take a batch, x: [B, n_0] and B targets t, and its mean loss; mlp, params, x and t are those of
`jaxmlp.network`. There is no autodiff here; the tests compare with `jax.jvp` of `jax.grad`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.backpropagation import Factors, loss_and_gradient, mean_gradient, pull_back
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Layer, Params, forward, loss

__all__ = [
    "Eigenpair",
    "NoEigenvalue",
    "Taylor",
    "critical_learning_rate",
    "gauss_newton_vector_product",
    "hessian_vector_product",
    "largest_eigenvalue",
    "taylor",
]


class Taylor(NamedTuple):
    """Eq. (1) for one step: the loss before it, its first- and second-order predictions, and the loss after it."""

    loss: Array
    first_order: Array
    second_order: Array
    actual: Array


class Eigenpair(NamedTuple):
    """The largest eigenvalue of the Hessian, and its unit eigenvector, shaped like the parameters."""

    value: float
    vector: Params


class NoEigenvalue(ValueError):
    """The curvature is not finite, or the iteration for its largest eigenvalue did not converge."""


class _Changes(NamedTuple):
    """One example's z_l and y_{l-1}, and their changes along a direction: tuples of L arrays."""

    z: tuple[Array, ...]
    y_in: tuple[Array, ...]
    rz: tuple[Array, ...]
    ry_in: tuple[Array | None, ...]  # None for the input: it does not change, which saves a product


def hessian_vector_product(mlp: MLP, params: Params, x: Array, t: Array, direction: Params) -> Params:
    """Return H v, shaped like the parameters, for the Hessian H of the mean loss and a direction v (Pearlmutter 1994).

    It takes about two and a half times the arithmetic of the gradient, and twice its memory. A direction that is not
    shaped like the parameters, or an x that is not a batch, is a ValueError.

    >>> mlp = MLP((1, 1), output="identity", loss="quadratic")
    >>> params = (Layer(jnp.array([[2.0]]), jnp.array([0.0])),)
    >>> along_w = (Layer(jnp.array([[1.0]]), jnp.array([0.0])),)
    >>> (product,) = hessian_vector_product(mlp, params, jnp.array([[3.0]]), jnp.array([1.0]), along_w)
    >>> print(product.w, product.b)
    [[9.]] [3.]
    """
    _check_batch(mlp, params, x, t, direction)
    factors, changes = jax.vmap(partial(_r_backprop, mlp, params, direction))(x, t)
    return tuple(map(_product_rule, factors, changes))


def _product_rule(factors: Factors, changes: tuple[Array, Array | None]) -> Layer:
    """Return the means of R{grad w} and R{grad b} over the batch: eq. (8)."""
    (delta, y_in), (r_delta, r_y_in) = factors, changes
    delta, r_delta = delta / len(delta), r_delta / len(delta)
    w = r_delta.T @ y_in
    return Layer(w if r_y_in is None else w + delta.T @ r_y_in, r_delta.sum(0))


def _r_backprop(
    mlp: MLP, params: Params, direction: Params, x: Array, t: ArrayLike
) -> tuple[tuple[Factors, ...], tuple[tuple[Array, Array | None], ...]]:
    """Return the factors of one example, and R{.} of both factors of every layer."""
    z, y_in, rz, ry_in = _r_forward(mlp, params, direction, x)
    phi = [ACTIVATIONS[name] for name in mlp.activations]
    loss = LOSSES[mlp.loss]
    t = target_row(t, z[-1], mlp.output)

    deltas = [loss.delta(phi[-1], z[-1], t)]  # (4)
    r_deltas = [loss.delta_change(phi[-1], z[-1], t, rz[-1])]
    for layer in reversed(range(len(params) - 1)):
        w, v = params[layer + 1].w, direction[layer + 1].w
        g, rg = deltas[-1] @ w, deltas[-1] @ v + r_deltas[-1] @ w
        deltas.append(phi[layer].pullback(z[layer], g))  # (7)
        r_deltas.append(phi[layer].pullback_change(z[layer], g, rz[layer], rg))

    return tuple(map(Factors, reversed(deltas), y_in)), tuple(zip(reversed(r_deltas), ry_in, strict=True))


def _r_forward(mlp: MLP, params: Params, direction: Params, x: Array) -> _Changes:
    z, y = forward(mlp, params, x)
    rzs: list[Array] = []
    ry_in: list[Array | None] = [None]
    for (w, _), v, y_before, z_here, name in zip(params, direction, y[:-1], z, mlp.activations, strict=True):
        rz = v.w @ y_before + v.b
        if ry_in[-1] is not None:
            rz = rz + w @ ry_in[-1]
        rzs.append(rz)
        ry_in.append(ACTIVATIONS[name].pullback(z_here, rz))
    return _Changes(z, y[:-1], tuple(rzs), tuple(ry_in[:-1]))


def gauss_newton_vector_product(mlp: MLP, params: Params, x: Array, t: Array, direction: Params) -> Params:
    """Return G v, shaped like the parameters, for the generalised Gauss-Newton matrix G (Schraudolph 2002).

    G is the mean of J^T H_L J, where J is the Jacobian of z_L (of y_L for the quadratic loss) with respect to the
    parameters, and H_L the Hessian of the loss with respect to z_L (y_L). It is the Hessian without the curvature of
    the network, and positive semidefinite. With the losses of this library it does not depend on t. It takes less than
    twice the arithmetic of the gradient. Errors are as for `hessian_vector_product`.

    >>> mlp = MLP((1, 1), output="identity", loss="quadratic")
    >>> params = (Layer(jnp.array([[2.0]]), jnp.array([0.0])),)
    >>> along_w = (Layer(jnp.array([[1.0]]), jnp.array([0.0])),)
    >>> (product,) = gauss_newton_vector_product(mlp, params, jnp.array([[3.0]]), jnp.array([1.0]), along_w)
    >>> print(product.w, product.b)
    [[9.]] [3.]
    """
    _check_batch(mlp, params, x, t, direction)

    def factors(x: Array, t: ArrayLike) -> tuple[Factors, ...]:
        z, y_in, rz, _ = _r_forward(mlp, params, direction, x)
        t = target_row(t, z[-1], mlp.output)
        last = LOSSES[mlp.loss].gauss_newton(ACTIVATIONS[mlp.output], z[-1], t, rz[-1])
        return tuple(map(Factors, pull_back(mlp, params, z, last), y_in))

    return mean_gradient(jax.vmap(factors)(x, t))


def taylor(mlp: MLP, params: Params, x: Array, t: Array, step: Params) -> Taylor:
    """Compare the loss after a step dw with the predictions of eq. (1).

    The result holds mean losses: L(w); L + grad L . dw; L + grad L . dw + 1/2 dw^T H dw; L(w + dw). A step that
    is not shaped like the parameters, or an x that is not a batch, is a ValueError.

    The loss (2 w)^2 / 2 is quadratic in w, so the second-order prediction is exact:

    >>> mlp = MLP((1, 1), output="identity", loss="quadratic")
    >>> params, step = ((Layer(jnp.array([[w]]), jnp.array([0.0])),) for w in (1.0, 0.5))
    >>> print(*taylor(mlp, params, jnp.array([[2.0]]), jnp.array([0.0]), step))
    2.0 4.0 4.5 4.5
    """
    _check_batch(mlp, params, x, t, step, "step")
    before, slope = loss_and_gradient(mlp, params, x, t)
    first_order = before + _inner(slope, step)
    second_order = first_order + _inner(step, hessian_vector_product(mlp, params, x, t, step)) / 2
    after = jax.tree.map(jnp.add, params, step)
    return Taylor(before, first_order, second_order, jax.vmap(partial(loss, mlp, after))(x, t).mean())


def largest_eigenvalue(
    mlp: MLP, params: Params, x: Array, t: Array, *, key: Array, tolerance: float = 1e-3
) -> Eigenpair:
    """Return the largest eigenvalue of the Hessian of the mean loss, by SciPy's restarted Lanczos iteration.

    Largest by sign, not by magnitude: this eigenvalue limits the learning rate.

    Parameters
    ----------
    key
        From `jax.random.key`; draws the iteration's first vector.
    tolerance
        The largest residual |H v - lambda v|, relative to lambda. The error of lambda grows as the residual squared.

    Raises
    ------
    ValueError
        If x is not a batch, or the tolerance is not positive.
    NoEigenvalue
        If the curvature is not finite, or the iteration does not converge. Also a ValueError.

    Examples
    --------
    >>> mlp = MLP((1, 1), output="identity", loss="quadratic")
    >>> params = (Layer(jnp.array([[2.0]]), jnp.array([0.0])),)
    >>> x, t = jnp.array([[3.0]]), jnp.array([1.0])
    >>> print(round(largest_eigenvalue(mlp, params, x, t, key=jax.random.key(0)).value, 4))
    10.0
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    _check_batch(mlp, params, x, t, params)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    flat, unravel = ravel_pytree(params)
    x, t = jnp.asarray(x), jnp.asarray(t)

    def product(vector: np.ndarray) -> np.ndarray:
        return np.asarray(_flat_product(mlp, params, x, t, jnp.asarray(vector.ravel(), flat.dtype)), np.float64)

    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    start = np.random.default_rng(seed).standard_normal(flat.size)
    if not np.isfinite(image := product(start)).all():
        raise NoEigenvalue("the curvature is not finite at these parameters: has the network diverged?")
    if not image.any():
        return Eigenpair(0.0, unravel(jnp.asarray(start / np.linalg.norm(start), flat.dtype)))
    size = np.linalg.norm(image) / np.linalg.norm(start)  # scale H to 1: below 1e-11 ARPACK's tolerance is absolute
    operator = LinearOperator((flat.size, flat.size), matvec=lambda vector: product(vector) / size, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, maxiter=1000)
    except ArpackNoConvergence as error:
        raise NoEigenvalue(f"no eigenvalue with a relative residual of {tolerance:g} in 1000 restarts") from error
    return Eigenpair(float(values[0] * size), unravel(jnp.asarray(vectors[:, 0], flat.dtype)))


@partial(jax.jit, static_argnames="mlp")
def _flat_product(mlp: MLP, params: Params, x: Array, t: Array, vector: Array) -> Array:
    _, unravel = ravel_pytree(params)
    return ravel_pytree(hessian_vector_product(mlp, params, x, t, unravel(vector)))[0]


def critical_learning_rate(eigenvalue: ArrayLike, *, momentum: ArrayLike = 0.0) -> Array:
    """Return 2 (1 + alpha) / lambda: above this learning rate, steps along the top eigenvector grow.

    It is infinite if lambda is not positive. It holds for eq. (3), not for Nesterov's form.

    >>> print(critical_learning_rate(10.0), critical_learning_rate(10.0, momentum=0.9))
    0.2 0.38
    """
    eigenvalue, momentum = jnp.asarray(eigenvalue, float), jnp.asarray(momentum, float)
    return jnp.where(eigenvalue <= 0, jnp.inf, 2 * (1 + momentum) / eigenvalue)


def _inner(a: Params, b: Params) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, a, b))


def _check_batch(mlp: MLP, params: Params, x: Array, t: Array, direction: Params, name: str = "direction") -> None:
    if jnp.ndim(x) != 2:
        raise ValueError(f"x must be a batch of shape [B, {mlp.sizes[0]}], got {jnp.shape(x)}")
    if jnp.shape(t)[:1] != jnp.shape(x)[:1]:
        raise ValueError(f"t must have a target for each of the {len(x)} examples, got shape {jnp.shape(t)}")
    given, expected = (jax.tree.map(jnp.shape, tree) for tree in (direction, params))
    if given != expected:
        raise ValueError(f"{name} must be shaped like the parameters, {expected}, got {given}")
