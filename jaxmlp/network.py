"""What a network is: its static configuration, its parameters, and the forward pass of one example.

    z_l = w_l y_{l-1} + b_l,   y_l = phi_l(z_l),   y_0 = x,   L = loss(y_L, t)

Functions take ONE example; batch them with `jax.vmap`.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import index
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmlp._validation import unknown_name
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.losses import LOSSES, target_row

__all__ = ["MLP", "Forward", "Layer", "Params", "check_params", "forward", "init", "loss", "predict"]


class Layer(NamedTuple):
    """One layer's parameters, and whatever has their shape (gradients, steps): w: [n_out, n_in], b: [n_out]."""

    w: Array
    b: Array


Params: TypeAlias = tuple[Layer, ...]


class Forward(NamedTuple):
    """All z_1..z_L and y_0..y_L of one example, each [n_l]: `y[0]` is the input and `y[-1]` the output."""

    z: tuple[Array, ...]
    y: tuple[Array, ...]


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron's static configuration: hashable, so that `jax.jit` takes it as a static argument.

    Parameters
    ----------
    sizes
        Widths of the input, of the hidden layers, and of the output.
    activation
        Of the hidden layers: one name for all, or a tuple with one each (see `jaxmlp.activations.ACTIVATIONS`).
    output
        The output layer's activation.
    loss
        `"quadratic"` (with any output), `"cross_entropy"` (softmax) or `"binary_cross_entropy"` (sigmoid).

    Raises
    ------
    ValueError
        For a width below 1, an unknown name, or a loss that makes no sense with the output.

    Examples
    --------
    >>> MLP((64, 32, 10)).activations
    ('relu', 'softmax')
    """

    sizes: tuple[int, ...]
    activation: str | tuple[str, ...] = "relu"
    output: str = "softmax"
    loss: str = "cross_entropy"

    def __post_init__(self) -> None:
        """Bring lists to tuples, and check everything once."""
        object.__setattr__(self, "sizes", _whole_numbers(self.sizes))
        if isinstance(self.activation, list):
            object.__setattr__(self, "activation", tuple(self.activation))
        _check_configuration(self)

    @property
    def activations(self) -> tuple[str, ...]:
        """Every layer's activation, L names, the output's last."""
        hidden = self.activation
        if isinstance(hidden, str):
            hidden = (hidden,) * (len(self.sizes) - 2)
        return (*hidden, self.output)

    @property
    def n_parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(n_out * (n_in + 1) for n_in, n_out in pairwise(self.sizes))


def _whole_numbers(sizes: Any) -> tuple[int, ...]:
    """Bring sizes to Python's own integers, which hash and compare alike wherever they came from."""
    try:
        numbers = tuple(index(n) for n in sizes if not isinstance(n, bool))
        if len(numbers) == len(sizes) >= 2 and min(numbers) >= 1:
            return numbers
    except TypeError:
        pass
    raise ValueError(f"sizes must be two or more whole numbers, each 1 or larger, got {sizes!r}")


def _check_configuration(mlp: MLP) -> None:
    sizes, hidden = mlp.sizes, mlp.activations[:-1]
    if len(hidden) != len(sizes) - 2:
        raise ValueError(
            f"activation must be one name, or one for each of the {len(sizes) - 2} hidden layers, got {hidden}"
        )
    for name in mlp.activations:
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise ValueError(unknown_name("activation", name, ACTIVATIONS))
    if "softmax" in hidden:
        raise ValueError("softmax is an output only, got it as the activation of a hidden layer")
    if not isinstance(mlp.loss, str) or mlp.loss not in LOSSES:
        raise ValueError(unknown_name("loss", mlp.loss, LOSSES))
    if mlp.output not in LOSSES[mlp.loss].outputs:
        pairs = "; ".join(f"{name} with {', '.join(entry.outputs)}" for name, entry in LOSSES.items())
        raise ValueError(f"loss {mlp.loss!r} makes no sense with output {mlp.output!r}; the pairs are: {pairs}")


def init(mlp: MLP, key: Array, *, scale: ArrayLike = 1.0, dtype: Any = None) -> Params:
    """Draw random weights suited to each layer's activation; biases are zero.

    w_l is normal with standard deviation `scale * gain_l / sqrt(n_{l-1})`, where the gain undoes what the
    layer's activation does to the size of a standard normal signal (He et al. 2015, arXiv 1502.01852).

    With an identity output every w_l is also multiplied by 0.1^(1/L), which makes the outputs a tenth as large. The
    curvature of the quadratic loss along one layer's weights grows with the squares of the other layers' weights, and
    descent is stable up to a learning rate of 2 / curvature (LeCun et al. 1998, "Efficient BackProp"). At full size the
    default learning rate exceeds that on tables with long tails: see `experiments/choose_defaults.py`.

    Parameters
    ----------
    mlp
        Static.
    key
        Of `jax.random.key`.
    scale
        Multiplies every weight; may be traced.
    dtype
        Of the parameters; JAX's default float if None.

    Returns
    -------
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.

    Examples
    --------
    >>> params = init(MLP((4, 3, 2)), jax.random.key(0))
    >>> [layer.w.shape for layer in params]
    [(3, 4), (2, 3)]
    """
    return _draw(mlp, key, scale, jnp.dtype(dtype or jnp.result_type(float)))


_IDENTITY_OUTPUT_SIZE = 0.1  # chosen by experiments/choose_defaults.py


# One program and one draw for all layers: compiling a draw is most of what a small network's start costs.
@partial(jax.jit, static_argnames=("mlp", "dtype"))
def _draw(mlp: MLP, key: Array, scale: ArrayLike, dtype: Any) -> Params:
    shapes = [(n_out, n_in) for n_in, n_out in pairwise(mlp.sizes)]
    ends = np.cumsum([n_out * n_in for n_out, n_in in shapes])
    pieces = jnp.split(jax.random.normal(key, (ends[-1],), dtype), ends[:-1])
    # Equal shares: all curvatures fall alike, and the signal of a deep network does not vanish.
    share = _IDENTITY_OUTPUT_SIZE ** (1 / len(shapes)) if mlp.output == "identity" else 1.0
    layers = []
    for normal, shape, name in zip(pieces, shapes, mlp.activations, strict=True):
        deviation = jnp.asarray(scale, dtype) * (share * ACTIVATIONS[name].gain / shape[1] ** 0.5)
        layers.append(Layer(deviation * normal.reshape(shape), jnp.zeros(shape[0], dtype)))
    return tuple(layers)


def forward(mlp: MLP, params: Params, x: Array) -> Forward:
    """Compute all z and y of one example.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    x
        [n_0].

    Returns
    -------
    Forward(z, y)
        z_1..z_L and y_0..y_L, each [n_l], of the parameters' dtype.

    Raises
    ------
    ValueError
        If x is not one example, or the parameters are not this network's.

    Examples
    --------
    >>> mlp = MLP((2, 2, 1), "relu", "identity", "quadratic")
    >>> params = (Layer(jnp.eye(2), jnp.array([0.0, -1.0])), Layer(jnp.ones((1, 2)), jnp.zeros(1)))
    >>> z, y = forward(mlp, params, jnp.array([3.0, 0.5]))
    >>> print(*z)
    [ 3.  -0.5] [3.]
    >>> print(*y)
    [3.  0.5] [3. 0.] [3.]
    """
    check_params(mlp, params)
    if jnp.shape(x) != mlp.sizes[:1]:
        raise ValueError(f"x must be one example of shape {mlp.sizes[:1]}, got {jnp.shape(x)}; batch with jax.vmap")
    z, y = [], [jnp.asarray(x, params[0].w.dtype)]  # squares of uint8 would overflow
    for (w, b), name in zip(params, mlp.activations, strict=True):
        z.append(w @ y[-1] + b)
        y.append(ACTIVATIONS[name].phi(z[-1]))
    return Forward(tuple(z), tuple(y))


def check_params(mlp: MLP, params: Params, name: str = "params") -> None:
    """Raise a ValueError that says how, if the parameters are not this network's.

    >>> check_params(MLP((2, 3)), (Layer(np.ones((3, 1)), np.ones(3)),))
    Traceback (most recent call last):
    ValueError: params must fit sizes (2, 3), got layers of shapes [((3, 1), (3,))]
    """
    try:
        shapes = [(jnp.shape(w), jnp.shape(b)) for w, b in params]
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a tuple of Layer(w, b), as init returns, got {type(params).__name__}"
        ) from None
    if shapes != [((n_out, n_in), (n_out,)) for n_in, n_out in pairwise(mlp.sizes)]:
        raise ValueError(f"{name} must fit sizes {mlp.sizes}, got layers of shapes {shapes}")


def predict(mlp: MLP, params: Params, x: Array) -> Array:
    """Return the output y_L: [n_L] alone, for one example x: [n_0].

    >>> mlp = MLP((4, 3, 2))
    >>> predict(mlp, init(mlp, jax.random.key(0)), jnp.ones(4)).shape
    (2,)
    """
    return forward(mlp, params, x).y[-1]


def loss(mlp: MLP, params: Params, x: Array, t: ArrayLike) -> Array:
    """Return the loss of one example, a scalar.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    x
        [n_0].
    t
        An integer class, a one-hot or soft row [n_L], or real values [n_L] (a bare number if n_L = 1).

    Raises
    ------
    ValueError
        If x or t is not one example's.

    Examples
    --------
    Ten outputs, all equal, are a loss of log 10:

    >>> mlp = MLP((4, 10))
    >>> print(loss(mlp, init(mlp, jax.random.key(0), scale=0.0), jnp.ones(4), 7))
    2.3025851
    """
    z = forward(mlp, params, x).z[-1]
    return LOSSES[mlp.loss].value(ACTIVATIONS[mlp.output], z, target_row(t, z, mlp.output))
