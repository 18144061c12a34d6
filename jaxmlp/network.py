"""A network: its static configuration, its parameters, and the forward pass of one example.

    z_l = w_l y_{l-1} + b_l,   y_l = phi_l(z_l),   y_0 = x,   L = loss(y_L, t)

Functions take ONE example; batch them with `jax.vmap`. The whole library uses these names:

    mlp      an `MLP`, static under `jax.jit`
    params   the parameters, a tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`: a plain pytree
    x        an example's input, [n_0]; a batch of B has [B, n_0]
    t        its target: an integer class, a one-hot or soft row [n_L], or real values [n_L] (a bare number if n_L = 1);
             a batch has B of them

Functions raise a ValueError if x, t or params do not fit the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmlp._validation import pair_shapes, unknown_name, whole_number
from jaxmlp.activations import ACTIVATIONS, Activation
from jaxmlp.losses import LOSSES, Loss, target_row

__all__ = [
    "MLP",
    "Forward",
    "Layer",
    "Network",
    "Params",
    "check_params",
    "forward",
    "init",
    "loss",
    "networks",
    "predict",
    "unstacked",
]


class Layer(NamedTuple):
    """One layer's parameters, or a gradient or step of that shape: w: [n_out, n_in], b: [n_out]."""

    w: Array
    b: Array


Params: TypeAlias = tuple[Layer, ...]


class Forward(NamedTuple):
    """All z_1..z_L and y_0..y_L of one example, each [n_l]: `y[0]` is the input and `y[-1]` the output."""

    z: tuple[Array, ...]
    y: tuple[Array, ...]


@dataclass(frozen=True)
class MLP:
    """The configuration of a multilayer perceptron: frozen and hashable, a static argument of `jax.jit`.

    Parameters
    ----------
    sizes
        Widths of the input, the hidden layers and the output.
    activation
        The name of the hidden layers' activation, or a tuple with a name for each (see
        `jaxmlp.activations.ACTIVATIONS`).
    output
        The name of the output layer's activation.
    loss
        `"quadratic"` (with any output), `"cross_entropy"` (softmax), `"binary_cross_entropy"` (sigmoid), `"poisson"`
        (exp: the mean of counts; half the deviance), or the name of another entry of `jaxmlp.losses.LOSSES`.

    Raises
    ------
    ValueError
        If a width is below 1, a name is unknown, or the loss does not go with the output.

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
        """Turn lists into tuples, and check everything once."""
        object.__setattr__(self, "sizes", _checked_sizes(self.sizes))
        if isinstance(self.activation, list):
            object.__setattr__(self, "activation", tuple(self.activation))
        _check_configuration(self)

    @property
    def activations(self) -> tuple[str, ...]:
        """The names of all L activations, the output's last."""
        hidden = self.activation
        return (*((hidden,) * (len(self.sizes) - 2) if isinstance(hidden, str) else hidden), self.output)

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(n_out * (n_in + 1) for n_in, n_out in pairwise(self.sizes))


class Network(NamedTuple):
    """A network: its configuration and its parameters."""

    mlp: MLP
    params: Params


def networks(mlp: MLP, params: Params) -> tuple[Network, ...]:
    """Return the networks of these parameters: one, or K if all arrays have a leading axis K, as `jaxmlp.train` makes.

    >>> mlp = MLP((2, 3))
    >>> len(networks(mlp, (Layer(np.ones((8, 3, 2)), np.ones((8, 3))),)))
    8
    """
    leaves = jax.tree.leaves(params)
    if not leaves or np.ndim(leaves[0]) != 3:
        return (Network(mlp, params),)
    return tuple(Network(mlp, of_one) for of_one in unstacked(params, len(leaves[0])))


@partial(jax.jit, static_argnums=1)  # one program, because each array alone would compile its own
def unstacked(tree: Any, n: int) -> list[Any]:
    """Return n trees for a tree whose arrays have a leading axis n."""
    return [jax.tree.map(itemgetter(k), tree) for k in range(n)]


def _checked_sizes(sizes: Any) -> tuple[int, ...]:
    """Return the sizes as a tuple of Python integers, so that equal sizes hash and compare as equal."""
    try:
        if len(sizes) >= 2:
            return tuple(whole_number("sizes", n, least=1) for n in sizes)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"sizes must be two or more whole numbers, each 1 or larger, got {sizes!r}")


def _check_configuration(mlp: MLP) -> None:
    names = mlp.activation if type(mlp.activation) is tuple else (mlp.activation,)
    for name in (*names, mlp.output):
        _check_name("activation", name, ACTIVATIONS, "activations.ACTIVATIONS with `elementwise`")
    _check_name("loss", mlp.loss, LOSSES, "losses.LOSSES as a `Loss`")
    *hidden, _ = mlp.activations
    n_hidden = len(mlp.sizes) - 2
    if len(hidden) != n_hidden:
        raise ValueError(f"activation must be one name, or one for each of the {n_hidden} hidden layers, got {names}")
    for name in hidden:
        if ACTIVATIONS[name].derivative is None:
            raise ValueError(f"{name} is only for outputs, got it as the activation of a hidden layer")
    if mlp.output not in LOSSES[mlp.loss].outputs:
        pairs = "; ".join(f"{name} with {', '.join(entry.outputs)}" for name, entry in LOSSES.items())
        raise ValueError(f"loss {mlp.loss!r} does not go with output {mlp.output!r}; the pairs are: {pairs}")


def _check_name(what: str, given: Any, table: Mapping[str, Any], place: str) -> None:
    if callable(given) or isinstance(given, Activation | Loss):
        name = getattr(given, "__name__", type(given).__name__)
        hint = f"write {name!r}" if name in table else f"add it to jaxmlp.{place}, and write its name there"
        raise ValueError(f"{what} must be a name, got the function {name}; {hint}")
    if not isinstance(given, str) or given not in table:
        raise ValueError(unknown_name(what, given, table))
    if not isinstance(table[given], Activation | Loss):
        raise ValueError(f"{what} {given!r} must be in jaxmlp.{place}, got a {type(table[given]).__name__} there")


def init(mlp: MLP, key: Array, *, scale: ArrayLike = 1.0, dtype: Any = None) -> Params:
    """Draw random weights suited to each layer's activation; biases are zero.

    w_l is normal with standard deviation `scale * gain_l / sqrt(n_{l-1})`. The gain of the layer's activation keeps the
    size of a standard normal signal (He et al. 2015, arXiv 1502.01852).

    With an identity output every w_l is also multiplied by 0.1^(1/L), which makes the outputs a tenth as large. The
    curvature of the quadratic loss along one layer's weights grows with the squares of the other layers' weights, and
    descent is stable up to a learning rate of 2 / curvature (LeCun et al. 1998, "Efficient BackProp"). At full size the
    default learning rate exceeds this bound on tables with long tails: see `experiments/choose_defaults.py`.

    Parameters
    ----------
    key
        From `jax.random.key`.
    scale
        Multiplies every weight; may be traced.
    dtype
        The dtype of the parameters; by default JAX's default float.

    Examples
    --------
    >>> params = init(MLP((4, 3, 2)), jax.random.key(0))
    >>> [layer.w.shape for layer in params]
    [(3, 4), (2, 3)]
    """
    return _draw(mlp, key, scale, jnp.dtype(dtype or jnp.result_type(float)))


_IDENTITY_OUTPUT_SIZE = 0.1  # chosen by experiments/choose_defaults.py


# One program and one draw for all layers: compiling draws takes most of the start of a small network.
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
    """Compute all z and y of one example, in the dtype of the parameters.

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
    """Raise a ValueError if the parameters do not fit the network.

    >>> check_params(MLP((2, 3)), (Layer(np.ones((3, 1)), np.ones(3)),))
    Traceback (most recent call last):
    ValueError: params must fit sizes (2, 3), got layers of shapes [((3, 1), (3,))]
    """
    try:
        shapes = pair_shapes(params)
    except TypeError as error:
        raise ValueError(f"{name} must be a tuple of Layer(w, b), as init returns, got {error}") from None
    if shapes != [((n_out, n_in), (n_out,)) for n_in, n_out in pairwise(mlp.sizes)]:
        raise ValueError(f"{name} must fit sizes {mlp.sizes}, got layers of shapes {shapes}")
    if not all(isinstance(layer, Layer) for layer in params):
        raise ValueError(f"{name} must be a tuple of Layer(w, b), as init returns, got pairs that are not Layer")
    for leaf in jax.tree.leaves(params):  # x is cast to their dtype: integers would cut off its fractions
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating-point numbers, got {leaf.dtype}: try astype(float)")


def predict(mlp: MLP, params: Params, x: Array) -> Array:
    """Return the output y_L: [n_L] of one example.

    Use `jax.vmap` for a batch:

    >>> mlp = MLP((4, 3, 2))
    >>> params = init(mlp, jax.random.key(0))
    >>> jax.vmap(partial(predict, mlp, params))(jnp.ones((5, 4))).shape
    (5, 2)
    """
    return forward(mlp, params, x).y[-1]


def loss(mlp: MLP, params: Params, x: Array, t: ArrayLike) -> Array:
    """Return the loss of one example, a scalar.

    With ten equal outputs it is log 10:

    >>> mlp = MLP((4, 10))
    >>> print(loss(mlp, init(mlp, jax.random.key(0), scale=0.0), jnp.ones(4), 7))
    2.3025851
    """
    z = forward(mlp, params, x).z[-1]
    return LOSSES[mlp.loss].value(ACTIVATIONS[mlp.output], z, target_row(t, z, mlp.output))
