"""Which training examples matter: scores of a whole data set, what helped and harmed a test example, tangent kernels.

All of it is made of factors, block by block: however many examples there are, memory holds a block and the answer.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.backpropagation import Factors, backprop, pull_back
from jaxmlp.data import Dataset
from jaxmlp.losses import target_row
from jaxmlp.network import MLP, Params, check_params, forward
from jaxmlp.per_example import gram, norms
from jaxmlp.training.examples import arrays, check_fit, in_blocks, is_classification

__all__ = ["Influences", "Scores", "TangentKernel", "scores", "suspects", "tangent_kernel", "tracin"]

_BLOCK = 1024  # examples at a time: large enough for full speed


class Scores(NamedTuple):
    """What each of N examples looks like to a network: arrays [N].

    Attributes
    ----------
    norms
        The gradient's norm: GraNd (Paul et al. 2021, arXiv 2107.07075).
    error_norms
        |y - t|: EL2N (the same paper).
    losses
        The example's own loss. Of cross-entropy -log of what the network gives the label: the higher, the less it
        believes it.
    margins
        z of the right output less the largest other z, or, where each output is a label of its own, the least of z
        signed so that more is better: negative where the network is wrong. None where targets are real values.
    """

    norms: np.ndarray
    error_norms: np.ndarray
    losses: np.ndarray
    margins: np.ndarray | None


class Influences(NamedTuple):
    """For each of T test examples the training examples that moved its loss most: arrays [T, top], most first.

    Attributes
    ----------
    helped, harmed
        Rows of the training data.
    helped_by, harmed_by
        Their influence: positive where training on the example lowers the test example's loss, negative where it
        raises it.
    """

    helped: np.ndarray
    helped_by: np.ndarray
    harmed: np.ndarray
    harmed_by: np.ndarray


class TangentKernel(NamedTuple):
    """The kernel of every output with itself: [n_L, N, M], and its sum over the outputs, the trace: [N, M]."""

    outputs: np.ndarray
    trace: np.ndarray


def scores(mlp: MLP, params: Params, data: Dataset) -> Scores:
    """Score every example of a data set; memory beyond the data is bounded, whatever their number.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    data
        x: [N, n_0] and N targets.

    Returns
    -------
    Scores(norms, error_norms, losses, margins)
        [N] each. Costs a forward and a backward pass without eq. (8): less than an epoch of training.

    Raises
    ------
    ValueError
        If the data do not fit the network.

    Examples
    --------
    >>> from jaxmlp.network import Layer
    >>> data = Dataset(np.eye(2), np.array([0, 0]))
    >>> scores(MLP((2, 2)), (Layer(3 * jnp.eye(2), jnp.zeros(2)),), data).margins
    array([ 3., -3.], dtype=float32)
    """
    check_fit(mlp, data)
    x, t, _ = arrays(mlp, data)
    return Scores(*jax.tree.map(np.asarray, _scores(mlp, params, x, t, is_classification(mlp, data.t))))


@partial(jax.jit, static_argnames=("mlp", "with_margins"))
def _scores(mlp: MLP, params: Params, x: Array, t: Array, with_margins: bool) -> tuple[Array | None, ...]:
    def error_and_margin(x: Array, t: Array) -> tuple[Array, Array | None]:
        z = forward(mlp, params, x).z[-1]
        row = target_row(t, z, mlp.output)
        error = jnp.linalg.norm(ACTIVATIONS[mlp.output].error(z, row))
        return error, _margin(mlp, z, row, is_class=jnp.ndim(t) == 0) if with_margins else None

    def of_block(x: Array, t: Array) -> tuple[Array | None, ...]:
        losses, _, factors = jax.vmap(partial(backprop, mlp, params))(x, t)
        errors, margins = jax.vmap(error_and_margin)(x, t)  # the compiler sees that it has this forward pass already
        return norms(factors), errors, losses, margins

    return in_blocks(of_block, x, t, size=_BLOCK)


def _margin(mlp: MLP, z: Array, t: Array, is_class: bool) -> Array:
    if len(z) == 1 or (mlp.loss == "binary_cross_entropy" and not is_class):
        return jnp.min(jnp.where(t > 0.5, z, -z))
    is_right = jnp.arange(len(z)) == t.argmax()
    return z[t.argmax()] - jnp.max(jnp.where(is_right, -jnp.inf, z))


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tell which examples are likely to be mislabelled.

    A class is confident of an example if its probability is at least what it is on average over the examples labelled
    so. Suspected is who has, of all confident classes, the most probable one that is not its label: confident learning
    (Northcutt et al. 2021, arXiv 1911.00068). A class that no example has is never confident.

    Parameters
    ----------
    probabilities
        [N, n_L]: the outputs of a network, best of one that was not trained with these examples.
    labels
        [N] integers from 0 to n_L - 1.

    Returns
    -------
    suspected
        [N] booleans.

    Raises
    ------
    ValueError
        If the shapes are not these, or a label is none of the classes.

    Examples
    --------
    >>> suspects(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.45, 0.55]]), np.array([0, 1, 0, 0]))
    array([False, False,  True, False])
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        shapes = f"{probabilities.shape} and {labels.shape}"
        raise ValueError(f"probabilities and labels must be [N, n_L] and [N], got shapes {shapes}")
    n_classes = probabilities.shape[1]
    if labels.dtype.kind not in "iu" or not np.isin(labels, range(n_classes)).all():
        raise ValueError(f"labels must be integers from 0 to {n_classes - 1}, got {labels.min()} to {labels.max()}")
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, weights=of_label, minlength=n_classes)
    thresholds = np.divide(sums, counts, out=np.full(n_classes, np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    return (confident.max(1) >= 0) & (confident.argmax(1) != labels)


def tracin(
    mlp: MLP,
    checkpoints: Sequence[Params],
    train: Dataset,
    test: Dataset,
    top: int = 10,
    *,
    learning_rates: Sequence[float] | None = None,
) -> Influences:
    """Find the training examples that helped and harmed each test example most.

    Influence is sum_c eta_c <grad L_train(w_c), grad L_test(w_c)> over checkpoints c, all layers included: by how much
    training on the one lowered the loss of the other (TracInCP of Pruthi et al. 2020, arXiv 2002.08484).

    Parameters
    ----------
    mlp
        Static.
    checkpoints
        One or more parameters along a training run, such as a callback of `train` can collect.
    train, test
        N and T examples.
    top
        How many to find, at most N.
    learning_rates
        eta_c at each checkpoint; 1 if None.

    Returns
    -------
    Influences(helped, helped_by, harmed, harmed_by)
        [T, top] each. Streamed: memory does not grow with N. Costs a forward and a backward pass over the training
        data for each checkpoint and 512 test examples, and two small products a layer.

    Raises
    ------
    ValueError
        If data or checkpoints do not fit the network, there are no checkpoints, or `top` is not from 1 to N.

    Examples
    --------
    >>> from jaxmlp.network import Layer
    >>> mlp, zero = MLP((2, 2)), (Layer(jnp.zeros((2, 2)), jnp.zeros(2)),)
    >>> train = Dataset(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 0, 1]))
    >>> influences = tracin(mlp, [zero], train, Dataset(np.array([[1.0, 0.0]]), np.array([0])), top=1)
    >>> influences.helped, influences.harmed
    (array([[0]], dtype=int32), array([[2]], dtype=int32))
    """
    check_fit(mlp, train)
    check_fit(mlp, test)
    if not isinstance(top, int | np.integer) or not 1 <= top <= len(train):
        raise ValueError(f"top must be a whole number from 1 to the {len(train)} training examples, got {top}")
    rates = [1.0] * len(checkpoints) if learning_rates is None else learning_rates
    if len(checkpoints) != len(rates) or not len(rates):
        given = f"{len(checkpoints)} checkpoints and {len(rates)} learning rates"
        raise ValueError(f"one or more checkpoints, and a learning rate each, expected, got {given}")
    for number, params in enumerate(checkpoints):
        check_params(mlp, params, f"checkpoints[{number}]")
    run = jax.tree.map(lambda *leaves: jnp.stack(leaves), *checkpoints)
    etas = jnp.asarray(rates, run[0].w.dtype)
    found = _tracin(mlp, run, etas, arrays(mlp, train)[:2], arrays(mlp, test)[:2], top)
    return Influences(*map(np.asarray, found))


@partial(jax.jit, static_argnames=("mlp", "top"))
def _tracin(
    mlp: MLP, run: Params, etas: Array, train: tuple[Array, Array], test: tuple[Array, Array], top: int
) -> tuple[Array, ...]:
    def factors(params: Params, x: Array, t: Array) -> tuple[Factors, ...]:
        return jax.vmap(partial(backprop, mlp, params))(x, t).factors

    def of_tests(x: Array, t: Array) -> tuple[Array, ...]:
        tests = lax.map(lambda params: factors(params, x, t), run)

        def influence(rows: Array) -> Array:
            """Return the influence of some training examples on these test examples: [tests, rows]."""

            def add(total: Array, checkpoint: tuple[Array, Params, tuple[Factors, ...]]) -> tuple[Array, None]:
                eta, params, tests = checkpoint
                return total + eta * gram(tests, factors(params, train[0][rows], train[1][rows])), None

            return lax.scan(add, jnp.zeros((len(x), len(rows)), etas.dtype), (etas, run, tests))[0]

        return _extremes(influence, len(train[0]), len(x), top, etas.dtype)

    return in_blocks(of_tests, *test, size=_BLOCK // 2)


def _extremes(
    influence: Callable[[Array], Array], n_train: int, n_tests: int, top: int, dtype: DTypeLike
) -> tuple[Array, ...]:
    """Run through the training examples in blocks, and keep the `top` largest and smallest influences on each test."""
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


def tangent_kernel(mlp: MLP, params: Params, x: Array, other: Array | None = None) -> TangentKernel:
    """Compute the empirical neural tangent kernel (Jacot et al. 2018, arXiv 1806.07572).

    K_k(x, x') = <grad z_k(x), grad z_k(x')> for every output k, over all parameters; of z_L, before the output's
    activation, as is the custom. With delta^k_l, the gradient of z_k with respect to z_l by eq. (7), it is the sum over
    layers of <delta^k_l, delta'^k_l> (<y_{l-1}, y'_{l-1}> + 1): Gram products, and no Jacobian.

    Parameters
    ----------
    mlp
        Static.
    params
        A tuple of L `Layer(w: [n_l, n_{l-1}], b: [n_l])`.
    x, other
        [N, n_0] and [M, n_0]; x with itself if None.

    Returns
    -------
    TangentKernel(outputs, trace)
        [n_L, N, M] and [N, M]; beside them memory holds blocks of at most 1,024 by 1,024 examples. Costs n_L backward
        passes for each of the N and, once a block of those, of the M; and n_L N M sum_l n_l multiply-adds.

    Raises
    ------
    ValueError
        If x or other is not [N, n_0].

    Examples
    --------
    Without hidden layers it is <x, x'> + 1, for every output alike:

    >>> from jaxmlp.network import Layer
    >>> kernel = tangent_kernel(MLP((2, 3)), (Layer(jnp.zeros((3, 2)), jnp.zeros(3)),), np.array([[3.0, 4.0]]))
    >>> print(kernel.outputs[0], kernel.trace)
    [[26.]] [[78.]]
    """
    other = x if other is None else other
    for name, given in (("x", x), ("other", other)):
        if np.ndim(given) != 2 or np.shape(given)[1] != mlp.sizes[0] or not len(given):
            raise ValueError(f"{name} must be [N, {mlp.sizes[0]}], of one row or more, got shape {np.shape(given)}")
    kernel = np.empty((mlp.sizes[-1], len(x), len(other)), params[0].w.dtype)
    for rows in _even_blocks(len(x)):
        left = _output_factors(mlp, params, jnp.asarray(x[rows]))
        for columns in _even_blocks(len(other)):
            right = _output_factors(mlp, params, jnp.asarray(other[columns]))
            kernel[:, rows, columns] = _kernel(left, right)
    return TangentKernel(kernel, kernel.sum(0))


def _even_blocks(n_examples: int) -> list[slice]:
    """Cut the examples into blocks of nearly one size: two sizes at most are compiled."""
    size = -(-n_examples // -(-n_examples // _BLOCK))
    return [slice(start, min(start + size, n_examples)) for start in range(0, n_examples, size)]


@partial(jax.jit, static_argnames="mlp")
def _output_factors(mlp: MLP, params: Params, x: Array) -> tuple[Factors, ...]:
    """Return the factors of every output's gradient: delta: [n_L, N, n_l], and y_in: [N, n_{l-1}] for all of them."""

    def of_one(x: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        z, y = forward(mlp, params, x)
        every_output = jnp.eye(mlp.sizes[-1], dtype=z[-1].dtype)
        return jax.vmap(partial(pull_back, mlp, params, z))(every_output), y[:-1]

    deltas, y_in = jax.vmap(of_one, out_axes=(1, 0))(x)
    return tuple(map(Factors, deltas, y_in))


@jax.jit
def _kernel(left: tuple[Factors, ...], right: tuple[Factors, ...]) -> Array:
    # In the last layer delta is the output's own unit row, of which the product is 1.
    last = left[-1].y_in @ right[-1].y_in.T + 1
    hidden = [
        jnp.einsum("kni,kmi->knm", a.delta, b.delta) * (a.y_in @ b.y_in.T + 1)
        for a, b in zip(left[:-1], right[:-1], strict=True)
    ]
    return sum(hidden, start=jnp.broadcast_to(last, (left[-1].delta.shape[0], *last.shape)))
