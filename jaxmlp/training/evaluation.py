"""How well a network does on a data set: loss, accuracy, coefficient of determination."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.data import Dataset
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Params, forward
from jaxmlp.training.examples import Examples, arrays, check_fit, in_blocks, is_classification

__all__ = [
    "Evaluation",
    "evaluate",
    "evaluate_checked",
    "measures",
    "outputs",
    "scores",
]

_BLOCK = 2048  # examples at a time: bounds the memory for hidden layers, and is large enough for full speed


class Evaluation(NamedTuple):
    """Mean loss over a data set, and either accuracy (classes) or r2 (real values); the other is None."""

    loss: float
    accuracy: float | None
    r2: float | None


def evaluate(mlp: MLP, params: Params, data: Dataset) -> Evaluation:
    """Evaluate a network on a data set.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer`.
    data
        x: [N, n_0] and N targets; with weights every mean here is a weighted one.

    Returns
    -------
    Evaluation(loss, accuracy, r2)
        The mean loss; for classes the share of right ones (of right labels, with `binary_cross_entropy`); for
        real values 1 - (squared errors) / (squared deviations from the mean), averaged over the outputs.

    Raises
    ------
    ValueError
        If the data do not fit the network.

    Examples
    --------
    >>> from jaxmlp.network import init
    >>> mlp = MLP((2, 2))
    >>> data = Dataset(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1]))
    >>> params = jax.tree.map(jnp.zeros_like, init(mlp, jax.random.key(0)))
    >>> params = (params[0]._replace(w=jnp.eye(2)),)
    >>> evaluate(mlp, params, data).accuracy
    1.0
    """
    check_fit(mlp, data)
    return evaluate_checked(mlp, params, arrays(mlp, data))


def evaluate_checked(mlp: MLP, params: Params, examples: Examples) -> Evaluation:
    """Evaluate on arrays of which `check_fit` is known to hold, as training does after every epoch."""
    return scores(mlp, examples, *_compiled_measures(mlp, params, examples))


def scores(mlp: MLP, examples: Examples, loss: Any, right: Any, r2: Any) -> Evaluation:
    """Make what `measures` returned, on the host, the scores that suit the targets."""
    if is_classification(mlp, examples.t):
        return Evaluation(float(loss), float(np.average(right, axis=0, weights=examples.weights).mean()), None)
    return Evaluation(float(loss), None, float(r2))


def outputs(mlp: MLP, params: Params, x: Array) -> Array:
    """Return the outputs y_L: [N, n_L] for x: [N, n_0], in blocks, so that memory stays bounded.

    >>> from jaxmlp.network import init
    >>> mlp = MLP((4, 3, 2))
    >>> outputs(mlp, init(mlp, jax.random.key(0)), jnp.ones((5, 4))).shape
    (5, 2)
    """
    return _outputs(mlp, params, x)[1]


@partial(jax.jit, static_argnames="mlp")
def _outputs(mlp: MLP, params: Params, x: Array) -> tuple[Array, Array]:
    def output(x: Array) -> tuple[Array, Array]:
        z, y = forward(mlp, params, x)
        return z[-1], y[-1]

    return in_blocks(jax.vmap(output), x, size=_BLOCK)


def measures(mlp: MLP, params: Params, examples: Examples) -> tuple[Array, Array, Array]:
    """Compute the mean loss, which examples (or labels) are right, and r2; to be compiled by its caller."""
    x, t, weights = examples
    z, y = _outputs(mlp, params, x)
    rows = jax.vmap(partial(target_row, output_name=mlp.output))(t, z)
    losses = jax.vmap(partial(LOSSES[mlp.loss].value, ACTIVATIONS[mlp.output]))(z, rows)
    if (t.ndim == 2 and mlp.loss == "binary_cross_entropy") or y.shape[1] == 1:
        right = (y > 0.5) == (rows > 0.5)
    else:
        right = y.argmax(1) == rows.argmax(1)
    return _mean(losses, weights), right, _r2(y, rows, weights)


_compiled_measures = jax.jit(measures, static_argnames="mlp")


def _mean(values: Array, weights: Array | None) -> Array:
    """Average over the examples; without weights nothing is multiplied by 1."""
    return values.mean(0) if weights is None else jnp.average(values, axis=0, weights=weights)


def _r2(y: Array, t: Array, weights: Array | None) -> Array:
    errors, deviations = _mean((y - t) ** 2, weights), _mean((t - _mean(t, weights)) ** 2, weights)
    # Where all targets are equal there is nothing to explain: 1 for the right constant, else 0, as scikit-learn has it.
    explained = 1 - errors / jnp.where(deviations > 0, deviations, 1)
    return jnp.where(deviations > 0, explained, errors == 0).mean()
