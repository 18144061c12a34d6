"""Which examples matter: scores of every example, influence of training on test examples, tangent kernels.

Everything is computed from the factors, in blocks of examples: memory holds one block and the result. `mlp` and
`params` are those of `jaxmlp.network`; a ValueError says which data or parameters do not fit the network.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxmlp._validation import whole_number
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.backpropagation import Factors, backprop, pull_back
from jaxmlp.data import Dataset
from jaxmlp.data.arrays import as_array, as_inputs
from jaxmlp.losses import LOSSES, target_row
from jaxmlp.network import MLP, Network, Params, check_params, forward
from jaxmlp.per_example import gram, norms
from jaxmlp.training.boundary import check_fit
from jaxmlp.training.evaluation import mean_output, output_z
from jaxmlp.training.examples import Examples, arrays, expand, expanded, in_blocks, is_classification

__all__ = [
    "Influences",
    "Scores",
    "TangentKernel",
    "network_influences",
    "network_scores",
    "scores",
    "suspects",
    "tangent_kernel",
    "tracin",
]

_BLOCK = 1024  # examples at a time; larger blocks are no faster


class Scores(NamedTuple):
    """Four scores of each of N examples: arrays [N].

    `norms` are gradient norms (GraNd) and `error_norms` are |y - t| (EL2N; Paul et al. 2021, arXiv 2107.07075). With
    cross-entropy, `losses` are -log of the label's probability. `margins` are negative where the network is wrong: for
    classes, z of the right output minus the largest other z; for independent binary labels, the smallest of z where the
    label is 1 and -z where it is 0; None for real values.
    """

    norms: np.ndarray
    error_norms: np.ndarray
    losses: np.ndarray
    margins: np.ndarray | None


class Influences(NamedTuple):
    """The training examples that changed the loss of each of T test examples most: arrays [T, top], largest first.

    `helped` and `harmed` are rows of the training data. `helped_by` and `harmed_by` are their influences: positive if
    training on the example lowers the test example's loss, negative if it raises it.
    """

    helped: np.ndarray
    helped_by: np.ndarray
    harmed: np.ndarray
    harmed_by: np.ndarray


class TangentKernel(NamedTuple):
    """The kernel of each output, [n_L, N, M], and its sum over outputs, the trace, [N, M]."""

    outputs: np.ndarray
    trace: np.ndarray


def scores(mlp: MLP, params: Params, data: Dataset) -> Scores:
    """Return the gradient norm, error norm, loss and margin of every example, [N] each.

    It costs a forward pass and eq. (4) to (7), less than an epoch of training.

    >>> from jaxmlp.network import Layer
    >>> data = Dataset(np.eye(2), np.array([0, 0]))
    >>> scores(MLP((2, 2)), (Layer(3 * jnp.eye(2), jnp.zeros(2)),), data).margins
    array([ 3., -3.], dtype=float32)
    """
    return network_scores([Network(mlp, params)], data)


def network_scores(networks: Sequence[Network], data: Dataset) -> Scores:
    """Return the scores of the mean output of networks; the gradient norms are the mean over the networks.

    Their hidden layers may differ, but not their inputs, outputs and loss. See `scores`.
    """
    for mlp, params in networks:
        check_fit(mlp, data)
        check_params(mlp, params)
    mlp = networks[0].mlp
    examples, with_margins = arrays(mlp, data), is_classification(mlp, data.t)
    found = [_scores(*network, examples, with_margins) for network in networks]
    if len(networks) == 1:
        return Scores(*jax.tree.map(np.asarray, found[0]))
    z = [output_z(*network, examples.x, examples.expansion) for network in networks]
    errors, losses, margins = _scores_of_mean(mlp, z, examples.t, with_margins)
    mean_norms = jnp.stack([of_one[0] for of_one in found]).mean(axis=0)
    return Scores(*jax.tree.map(np.asarray, (mean_norms, errors, losses, margins)))


@partial(jax.jit, static_argnames=("mlp", "with_margins"))
def _scores(mlp: MLP, params: Params, examples: Examples, with_margins: bool) -> tuple[Array | None, ...]:
    x, t, _, expansion = examples

    def error_and_margin(x: Array, t: Array) -> tuple[Array, Array | None]:
        z = forward(mlp, params, x).z[-1]
        row = target_row(t, z, mlp.output)
        error = jnp.linalg.norm(ACTIVATIONS[mlp.output].error(z, row))
        return error, _margin(mlp, z, row, is_class=jnp.ndim(t) == 0) if with_margins else None

    def block_scores(x: Array, t: Array) -> tuple[Array | None, ...]:
        x = jax.vmap(partial(expand, expansion))(x)
        losses, _, factors = jax.vmap(partial(backprop, mlp, params))(x, t)
        errors, margins = jax.vmap(error_and_margin)(x, t)  # XLA merges this forward pass with that of `backprop`
        return norms(factors), errors, losses, margins

    return in_blocks(block_scores, x, t, size=_BLOCK)


@partial(jax.jit, static_argnames=("mlp", "with_margins"))
def _scores_of_mean(mlp: MLP, z: list[Array], t: Array, with_margins: bool) -> tuple[Array | None, ...]:
    output, of_mean = mean_output(mlp, jnp.stack(z))

    def of_one(z: Array, t: Array) -> tuple[Array | None, ...]:
        row = target_row(t, z, mlp.output)
        error = jnp.linalg.norm(ACTIVATIONS[output].error(z, row))
        loss = LOSSES[mlp.loss].value(ACTIVATIONS[output], z, row)
        return error, loss, _margin(mlp, z, row, is_class=jnp.ndim(t) == 0) if with_margins else None

    return jax.vmap(of_one)(of_mean, t)


def _margin(mlp: MLP, z: Array, t: Array, is_class: bool) -> Array:
    if len(z) == 1 or (mlp.loss == "binary_cross_entropy" and not is_class):
        return jnp.min(jnp.where(t > 0.5, z, -z))
    is_right = jnp.arange(len(z)) == t.argmax()
    return z[t.argmax()] - jnp.max(jnp.where(is_right, -jnp.inf, z))


def suspects(probabilities: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return which examples are probably mislabelled, [N] booleans (Northcutt et al. 2021, arXiv 1911.00068).

    This is confident learning. The threshold of a class is its mean probability over the examples with this label.
    An example belongs to the most probable class whose threshold it reaches; it is suspected if that is not its
    label. An example that reaches no threshold is not suspected, and no example belongs to a class that is never a
    label.

    Parameters
    ----------
    probabilities
        [N, n_L], finite: outputs of a network, preferably one that was not trained on these examples.
    labels
        [N] integers from 0 to n_L - 1.

    Examples
    --------
    >>> suspects(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.45, 0.55]]), np.array([0, 1, 0, 0]))
    array([False, False,  True, False])
    """
    probabilities, labels = (
        np.asarray(as_array(name, given)) for name, given in (("probabilities", probabilities), ("labels", labels))
    )
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        shapes = f"{probabilities.shape} and {labels.shape}"
        raise ValueError(f"probabilities and labels must be [N, n_L] and [N], got shapes {shapes}")
    n_classes = probabilities.shape[1]
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be from 0 to {n_classes - 1}, got {labels.min()} to {labels.max()}")
    if not np.isfinite(probabilities).all():
        row = int(np.flatnonzero(~np.isfinite(probabilities).all(1))[0])
        raise ValueError(f"probabilities must be finite, got {probabilities[row].tolist()} in row {row}")
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, weights=of_label, minlength=n_classes)
    thresholds = np.divide(sums, counts, out=np.full(n_classes, np.inf), where=counts > 0)
    reached = np.where(probabilities >= thresholds, probabilities, -1)
    return (reached.max(1) >= 0) & (reached.argmax(1) != labels)


def tracin(
    mlp: MLP,
    checkpoints: Sequence[Params],
    train: Dataset,
    test: Dataset,
    top: int = 10,
    *,
    learning_rates: Sequence[float] | None = None,
) -> Influences:
    """Return the training examples that helped and harmed each test example most (TracInCP).

    The influence of a training example on a test example is the sum over checkpoints c of
    eta_c <grad L_train(w_c), grad L_test(w_c)>, over all layers: how much training on the first lowered the loss of the
    second, to first order (Pruthi et al. 2020, arXiv 2002.08484).

    Parameters
    ----------
    checkpoints
        One or more parameters from a training run; a callback of `train` can collect them.
    train, test
        N and T examples.
    top
        Number of examples to return, 1 to N.
    learning_rates
        eta_c of each checkpoint, finite; 1 if None.

    Returns
    -------
    Influences
        [T, top] each. Memory does not grow with N. Each checkpoint and 512 test examples cost a forward and a
        backward pass over the training data, and two matrix products a layer.

    Examples
    --------
    >>> from jaxmlp.network import Layer
    >>> mlp, zero = MLP((2, 2)), (Layer(jnp.zeros((2, 2)), jnp.zeros(2)),)
    >>> train = Dataset(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 0, 1]))
    >>> influences = tracin(mlp, [zero], train, Dataset(np.array([[1.0, 0.0]]), np.array([0])), top=1)
    >>> influences.helped, influences.harmed
    (array([[0]], dtype=int32), array([[2]], dtype=int32))
    """
    check_fit(mlp, train, "train")
    rates = np.ones(len(checkpoints)) if learning_rates is None else np.asarray(learning_rates)
    if not len(checkpoints):
        raise ValueError("checkpoints must be one or more parameters of the network, got none")
    for number, params in enumerate(checkpoints):
        check_params(mlp, params, f"checkpoints[{number}]")
    if rates.shape != (len(checkpoints),) or not np.isfinite(rates).all():
        got = rates.tolist()
        raise ValueError(
            f"learning_rates must be one finite number for each of {len(checkpoints)} checkpoints, got {got}"
        )
    return _influences([Network(mlp, params) for params in checkpoints], rates, train, test, top)


def network_influences(networks: Sequence[Network], train: Dataset, test: Dataset, top: int = 10) -> Influences:
    """Return the mean over networks of the influences that `tracin` finds with each one's parameters.

    Their hidden layers may differ.
    """
    return _influences(networks, np.full(len(networks), 1 / len(networks)), train, test, top)


def _influences(networks: Sequence[Network], rates: np.ndarray, train: Dataset, test: Dataset, top: int) -> Influences:
    for mlp in {network.mlp for network in networks}:
        check_fit(mlp, train, "train")
        check_fit(mlp, test, "test")
    top = whole_number(f"top, of {len(train)} training examples,", top, 1, len(train))
    runs: dict[MLP, tuple[Params, Array]] = {}
    for mlp in {network.mlp: None for network in networks}:
        which = [number for number, network in enumerate(networks) if network.mlp == mlp]
        run = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(networks[number].params for number in which))
        runs[mlp] = run, jnp.asarray(rates[which], run[0].w.dtype)
    parts = [arrays(networks[0].mlp, expanded(part))[:2] for part in (train, test)]
    return Influences(*map(np.asarray, _tracin(tuple(runs), tuple(runs.values()), *parts, top)))


@partial(jax.jit, static_argnames=("mlps", "top"))
def _tracin(
    mlps: tuple[MLP, ...],
    runs: tuple[tuple[Params, Array], ...],
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    top: int,
) -> tuple[Array, ...]:
    """Return influences, summed over runs: of each network stacked parameters and their factors eta."""

    def factors(mlp: MLP, params: Params, x: Array, t: Array) -> tuple[Factors, ...]:
        return jax.vmap(partial(backprop, mlp, params))(x, t).factors

    def influential_rows(x: Array, t: Array) -> tuple[Array, ...]:
        tests = [
            lax.map(lambda params, mlp=mlp: factors(mlp, params, x, t), run)
            for mlp, (run, _) in zip(mlps, runs, strict=True)
        ]

        def influence(rows: Array) -> Array:
            """Return the influence of these training examples on the test examples: [tests, rows]."""
            total = jnp.zeros((len(x), len(rows)), runs[0][1].dtype)
            for mlp, (run, etas), of_tests in zip(mlps, runs, tests, strict=True):

                def add(total: Array, checkpoint: Any, mlp: MLP = mlp) -> tuple[Array, None]:
                    eta, params, of_tests = checkpoint
                    return total + eta * gram(of_tests, factors(mlp, params, train[0][rows], train[1][rows])), None

                total = lax.scan(add, total, (etas, run, of_tests))[0]
            return total

        return _extremes(influence, len(train[0]), len(x), top, runs[0][1].dtype)

    return in_blocks(influential_rows, *test, size=_BLOCK // 2)


def _extremes(
    influence: Callable[[Array], Array], n_train: int, n_tests: int, top: int, dtype: DTypeLike
) -> tuple[Array, ...]:
    """Return the `top` largest and smallest influences on each test example, from one pass over the training blocks."""
    size = min(_BLOCK, n_train)
    nothing = jnp.zeros((n_tests, top), jnp.int32), jnp.full((n_tests, top), -jnp.inf, dtype)

    def merged(kept: tuple[Array, Array], rows: Array, values: Array) -> tuple[Array, Array]:
        rows = jnp.concatenate([kept[0], jnp.broadcast_to(rows, values.shape)], axis=1)
        values, places = lax.top_k(jnp.concatenate([kept[1], values], axis=1), top)
        return jnp.take_along_axis(rows, places, axis=1), values

    def step(
        kept: tuple[tuple[Array, Array], tuple[Array, Array]], start: Array
    ) -> tuple[tuple[tuple[Array, Array], tuple[Array, Array]], None]:
        rows = start + jnp.arange(size, dtype=jnp.int32)
        values = influence(jnp.minimum(rows, n_train - 1))
        helped, harmed = (jnp.where(rows < n_train, signed, -jnp.inf) for signed in (values, -values))
        return (merged(kept[0], rows, helped), merged(kept[1], rows, harmed)), None

    starts = jnp.arange(0, n_train, size, dtype=jnp.int32)
    (helped, harmed), _ = lax.scan(step, (nothing, nothing), starts)
    return *helped, harmed[0], -harmed[1]


def tangent_kernel(mlp: MLP, params: Params, x: ArrayLike, other: ArrayLike | None = None) -> TangentKernel:
    """Return the empirical neural tangent kernel (Jacot et al. 2018, arXiv 1806.07572).

    K_k(x, x') = <grad z_k(x), grad z_k(x')> for each output k, over all parameters, where z is z_L: the output before
    its activation. If delta^k_l is the gradient of z_k with respect to z_l (eq. 7), then

        K_k(x, x') = sum_l <delta^k_l, delta'^k_l> (<y_{l-1}, y'_{l-1}> + 1)

    so Gram matrices are enough, and no Jacobian is formed. `x` is [N, n_0] and `other` [M, n_0], or x if None. Beyond
    the result, memory holds a block of 1,024 by 1,024 examples. The cost is n_L backward passes for each of N examples,
    n_L for each of M examples and block of the N, and n_L N M sum_l n_l multiply-adds.

    Without hidden layers it is <x, x'> + 1 for every output:

    >>> from jaxmlp.network import Layer
    >>> kernel = tangent_kernel(MLP((2, 3)), (Layer(jnp.zeros((3, 2)), jnp.zeros(3)),), np.array([[3.0, 4.0]]))
    >>> print(kernel.outputs[0], kernel.trace)
    [[26.]] [[78.]]
    """
    check_params(mlp, params)
    first = as_inputs("x", x, mlp.sizes[0])
    second = first if other is None else as_inputs("other", other, mlp.sizes[0])
    if not (len(first) and len(second)):
        raise ValueError(f"x and other must have one row or more, got shapes {first.shape} and {second.shape}")
    kernel = np.empty((mlp.sizes[-1], len(first), len(second)), params[0].w.dtype)
    for rows in _even_blocks(len(first)):
        left = _output_factors(mlp, params, jnp.asarray(first[rows]))
        for columns in _even_blocks(len(second)):
            right = _output_factors(mlp, params, jnp.asarray(second[columns]))
            kernel[:, rows, columns] = _kernel(left, right)
    return TangentKernel(kernel, kernel.sum(0))


def _even_blocks(n_examples: int) -> list[slice]:
    """Return blocks of nearly equal size, so that at most two sizes are compiled."""
    size = -(-n_examples // -(-n_examples // _BLOCK))
    return [slice(start, min(start + size, n_examples)) for start in range(0, n_examples, size)]


@partial(jax.jit, static_argnames="mlp")
def _output_factors(mlp: MLP, params: Params, x: Array) -> tuple[Factors, ...]:
    """Return the factors of each output's gradient, delta: [n_L, N, n_l]; all outputs share y_in: [N, n_{l-1}]."""

    def deltas_and_inputs(x: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        z, y = forward(mlp, params, x)
        every_output = jnp.eye(mlp.sizes[-1], dtype=z[-1].dtype)
        return jax.vmap(partial(pull_back, mlp, params, z))(every_output), y[:-1]

    deltas, y_in = jax.vmap(deltas_and_inputs, out_axes=(1, 0))(x)
    return tuple(map(Factors, deltas, y_in))


@jax.jit
def _kernel(left: tuple[Factors, ...], right: tuple[Factors, ...]) -> Array:
    # In the last layer delta is a unit vector, so <delta, delta'> = 1.
    last = left[-1].y_in @ right[-1].y_in.T + 1
    hidden = [
        jnp.einsum("kni,kmi->knm", a.delta, b.delta) * (a.y_in @ b.y_in.T + 1)[None]
        for a, b in zip(left[:-1], right[:-1], strict=True)
    ]
    return sum(hidden, start=jnp.broadcast_to(last, (left[-1].delta.shape[0], *last.shape)))
