"""Evaluation of a network on a data set: its outputs, mean loss, accuracy, coefficient of determination (R2)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.data import Dataset, Expansion
from jaxmlp.losses import LOSSES, takes_values, target_row
from jaxmlp.network import MLP, Network, Params, check_params, forward, networks
from jaxmlp.training.boundary import check_fit
from jaxmlp.training.examples import Examples, arrays, expand, in_blocks, is_classification
from jaxmlp.training.history import Evaluation

__all__ = [
    "BLOCK",
    "Measures",
    "evaluate",
    "evaluate_examples",
    "evaluate_networks",
    "evaluation_of",
    "mean_output",
    "measures",
    "measures_of_mean",
    "output_z",
    "outputs",
]

BLOCK = 2048  # examples at a time: bounds the memory for hidden layers, and is large enough for full speed


class Measures(NamedTuple):
    """What the device computes for an `Evaluation`: mean loss, which examples or labels are right, and r2."""

    loss: Array
    right: Array
    r2: Array


def evaluate(mlp: MLP, params: Params, data: Dataset) -> Evaluation:
    """Evaluate a network on a data set; raises the errors of `train` for arguments that do not fit.

    The parameters of K networks, as `train` returns them for K keys, are evaluated by the mean of the outputs.

    Accuracy is the fraction of right classes (of right labels with `binary_cross_entropy`). r2 is 1 - (squared
    errors) / (squared deviations from the mean), averaged over the outputs. With weights all means are weighted means.

    >>> from jaxmlp.network import Layer
    >>> data = Dataset([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    >>> evaluate(MLP((2, 2)), (Layer(jnp.eye(2), jnp.zeros(2)),), data).accuracy
    1.0
    """
    return evaluate_networks(networks(mlp, params), data)


def evaluate_networks(networks: Sequence[Network], data: Dataset) -> Evaluation:
    """Evaluate the mean output of networks: the mean of their probabilities, or of their values.

    Their hidden layers may differ, but not their inputs, outputs and loss. See `evaluate`.
    """
    for mlp, params in networks:
        check_fit(mlp, data)
        check_params(mlp, params)
    return evaluate_examples(networks, arrays(networks[0].mlp, data))


def evaluate_examples(networks: Sequence[Network], examples: Examples) -> Evaluation:
    """Evaluate on examples that are on the device and known to fit, as training does after every epoch."""
    mlp, params = networks[0]
    if len(networks) == 1:
        return evaluation_of(mlp, examples, _compiled_measures(mlp, params, examples))
    # One by one: networks of the same sizes share a program, and memory holds the hidden layers of one.
    z = [output_z(*network, examples.x, examples.expansion) for network in networks]
    return evaluation_of(mlp, examples, measures_of_mean(mlp, z, examples))


def evaluation_of(mlp: MLP, examples: Examples, measures: Measures) -> Evaluation:
    """Convert measures, brought to the host, to an `Evaluation` with the score that suits the targets."""
    loss, right, r2 = map(np.asarray, measures)
    if is_classification(mlp, examples.t):
        accuracy = np.average(right, axis=0, weights=examples.weights).mean()
        return Evaluation(float(loss), min(float(accuracy), 1.0), None)  # weights may round it above 1
    return Evaluation(float(loss), None, float(r2))


def outputs(mlp: MLP, params: Params, x: Array, expansion: Expansion | None = None) -> Array:
    """Return the outputs y_L: [N, n_L] for x: [N, n_0], in blocks, so that memory stays bounded.

    With an expansion x holds compact columns, [N, C].

    >>> from jaxmlp.network import init
    >>> mlp = MLP((4, 3, 2))
    >>> outputs(mlp, init(mlp, jax.random.key(0)), jnp.ones((5, 4))).shape
    (5, 2)
    """
    return _outputs(mlp, params, x, expansion)[1]


def output_z(mlp: MLP, params: Params, x: Array, expansion: Expansion | None = None) -> Array:
    """Return z_L: [N, n_L], of which `outputs` returns phi(z_L); no rounding to 0 or 1 is in it yet."""
    return _outputs(mlp, params, x, expansion)[0]


@partial(jax.jit, static_argnames="mlp")
def _outputs(mlp: MLP, params: Params, x: Array, expansion: Expansion | None) -> tuple[Array, Array]:
    def output(x: Array) -> tuple[Array, Array]:
        z, y = forward(mlp, params, expand(expansion, x))
        return z[-1], y[-1]

    return in_blocks(jax.vmap(output), x, size=BLOCK)


def measures(mlp: MLP, params: Params, examples: Examples) -> Measures:
    """Compute the `Measures` of a network; to be compiled by the caller."""
    z, y = _outputs(mlp, params, examples.x, examples.expansion)
    return _measures_of(mlp, mlp.output, z, y, examples)


_compiled_measures = jax.jit(measures, static_argnames="mlp")


@partial(jax.jit, static_argnames="mlp")
def measures_of_mean(mlp: MLP, z: list[Array], examples: Examples) -> Measures:
    """Compute the `Measures` of the mean output of networks, given z_L: [N, n_L] of each."""
    output, of_mean = mean_output(mlp, jnp.stack(z))
    return _measures_of(mlp, output, of_mean, jax.vmap(ACTIVATIONS[output].phi)(of_mean), examples)


def mean_output(mlp: MLP, z: Array) -> tuple[str, Array]:
    """Return the name of an output and z: [N, n_L], such that phi(z) is the mean of the outputs of z: [K, N, n_L].

    Losses are computed from z, because a probability may have been rounded to 0 or 1.

    >>> labels = MLP((2, 1), output="sigmoid", loss="binary_cross_entropy")
    >>> print(*mean_output(labels, jnp.array([[[40.0]], [[-40.0]]])))
    sigmoid [[0.]]
    """
    if mlp.output == "softmax":
        return "softmax", nn.logsumexp(nn.log_softmax(z), axis=0)  # log K is left out: softmax ignores a constant
    if mlp.output == "sigmoid":
        return "sigmoid", nn.logsumexp(nn.log_sigmoid(z), axis=0) - nn.logsumexp(nn.log_sigmoid(-z), axis=0)
    if mlp.output == "exp":
        return "exp", nn.logsumexp(z, axis=0) - jnp.log(len(z))
    if takes_values(mlp.loss):  # then the loss is a function of y alone
        return "identity", jax.vmap(jax.vmap(ACTIVATIONS[mlp.output].phi))(z).mean(axis=0)
    raise ValueError(f"loss {mlp.loss!r} of several networks needs output softmax or sigmoid, got {mlp.output!r}")


def _measures_of(mlp: MLP, output: str, z: Array, y: Array, examples: Examples) -> Measures:
    t = examples.t
    weights = None if examples.weights is None else examples.weights.astype(z.dtype)
    rows = jax.vmap(partial(target_row, output_name=mlp.output))(t, z)
    losses = jax.vmap(partial(LOSSES[mlp.loss].value, ACTIVATIONS[output]))(z, rows)
    if (t.ndim == 2 and mlp.loss == "binary_cross_entropy") or y.shape[1] == 1:
        right = (y > 0.5) == (rows > 0.5)
    else:
        right = y.argmax(1) == rows.argmax(1)
    return Measures(jnp.average(losses, axis=0, weights=weights), right, _r2(y, rows, weights))


def _r2(y: Array, t: Array, weights: Array | None) -> Array:
    mean = partial(jnp.average, axis=0, weights=weights)
    errors, deviations = mean((y - t) ** 2), mean((t - mean(t)[None]) ** 2)
    # Equal targets have no deviation to explain: r2 is then 1 for the right constant, else 0, as in scikit-learn.
    explained = 1 - errors / jnp.where(deviations > 0, deviations, 1)
    return jnp.where(deviations > 0, explained, jnp.where(errors == 0, 1.0, 0.0)).mean()
