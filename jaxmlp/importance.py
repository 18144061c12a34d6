"""Which columns a model relies on: permutation importance (Breiman 2001, Machine Learning 45, section 10).

A column's values are shuffled among the examples, so that the column says nothing about its own example. What the model
loses in accuracy or R2 is the column's importance. Nothing is trained, and nothing is encoded again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp._intervals import interval
from jaxmlp._validation import whole_number
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Network, Params, check_params, forward
from jaxmlp.training.boundary import check_fit
from jaxmlp.training.epoch import batch_order
from jaxmlp.training.evaluation import BLOCK, Measures, evaluation_of, measures_of_mean
from jaxmlp.training.examples import Examples, arrays, expand, in_blocks
from jaxmlp.training.history import Evaluation

__all__ = ["Importance", "permutation_importance"]


class Importance(NamedTuple):
    """How much accuracy (for classes) or R2 (for real values) is lost when a column is shuffled.

    Attributes
    ----------
    column
        Its name.
    mean, low, high
        What the repeats lost on average, and the mean's 95 % interval (Student's t; nan for one repeat). It tells how
        exact the mean is for these examples, not how far other examples would differ.
    lost
        What each repeat lost.
    """

    column: str
    mean: float
    low: float
    high: float
    lost: tuple[float, ...]


def permutation_importance(
    networks: Sequence[Network],
    data: Dataset,
    groups: Mapping[str, slice],
    *,
    key: Array,
    repeats: int = 10,
    callback: Callable[[str], object] | None = None,
) -> list[Importance]:
    """Return the importance of every raw column, the largest first.

    Parameters
    ----------
    networks
        One or more, as `Model.networks`; their mean output is what is scored.
    data
        The examples to score, best ones that were not trained on.
    groups
        For each raw column the columns of `data.x` that encode it, as `Encoding.groups`. They are shuffled together.
    key
        Determines the permutations, which all columns share.
    repeats
        How many permutations of each column.
    callback
        Called with a column's name before it is shuffled.

    Notes
    -----
    One program is compiled, whatever the number of columns and repeats. The importance of columns that say the same is
    small, because each stands in for the other.

    Raises
    ------
    ValueError
        If the data do not fit the networks, there are fewer than two examples, or `repeats` is below 1.

    Examples
    --------
    >>> from jaxmlp.network import Layer
    >>> network = Network(MLP((2, 2)), (Layer(jnp.array([[0.0, 0.0], [9.0, 0.0]]), jnp.array([1.0, 0.0])),))
    >>> data = Dataset([[0.0, 5.0], [1.0, 6.0]] * 50, [0, 1] * 50)
    >>> columns = {"relevant": slice(0, 1), "unused": slice(1, 2)}
    >>> found = permutation_importance([network], data, columns, key=jax.random.key(0))
    >>> [(each.column, round(each.mean, 1)) for each in found]
    [('relevant', 0.5), ('unused', 0.0)]
    """
    repeats = whole_number("repeats", repeats, 1)
    for network in networks:
        check_fit(network.mlp, data)
        check_params(*network)
    if len(data) < 2:
        raise ValueError("data must have two examples or more to shuffle, got one")
    stacks = _stacked(networks)
    examples, n_columns = arrays(networks[0].mlp, data), data.x.shape[1]
    orders = np.stack([batch_order(key, repeat, len(data), len(data))[0] for repeat in range(repeats)])

    def scores(group: slice) -> np.ndarray:
        is_shuffled = np.zeros(n_columns, bool)
        is_shuffled[group] = True
        measured = _shuffled_measures(tuple(stacks), tuple(stacks.values()), examples, is_shuffled, orders)
        rows = [Measures(*row) for row in zip(*map(np.asarray, measured), strict=True)]
        return np.array([_score(evaluation_of(networks[0].mlp, examples, row)) for row in rows])

    whole = scores(slice(0))  # by the same program, so that a column without effect loses exactly 0
    found = []
    for column, group in groups.items():
        if callback:
            callback(column)
        lost = (whole - scores(group)).tolist()
        found.append(Importance(column, *interval(lost), tuple(lost)))
    return sorted(found, key=lambda each: -each.mean)


def _stacked(networks: Sequence[Network]) -> dict[MLP, Params]:
    """Return the parameters of all networks of each shape, with a leading axis."""
    of_shape: dict[MLP, list[Params]] = {}
    for mlp, params in networks:
        of_shape.setdefault(mlp, []).append(params)
    return {mlp: jax.tree.map(lambda *leaves: jnp.stack(leaves), *several) for mlp, several in of_shape.items()}


def _score(evaluation: Evaluation) -> float:
    score = evaluation.r2 if evaluation.accuracy is None else evaluation.accuracy
    assert score is not None
    return score


@partial(jax.jit, static_argnames="mlps")
def _shuffled_measures(
    mlps: tuple[MLP, ...], stacks: tuple[Params, ...], examples: Examples, is_shuffled: Array, orders: Array
) -> Measures:
    """Return the measures for each order of the shuffled columns, with a leading axis R: orders are [R, N]."""

    def measured(order: Array) -> Measures:
        z = [lax.map(partial(output_z, mlp, order), stack) for mlp, stack in zip(mlps, stacks, strict=True)]
        return measures_of_mean(mlps[0], list(jnp.concatenate(z)), examples)

    def output_z(mlp: MLP, order: Array, params: Params) -> Array:
        def of_one(x: Array, row: Array) -> Array:
            shuffled = jnp.where(is_shuffled, examples.x[row], x)
            return forward(mlp, params, expand(examples.expansion, shuffled)).z[-1]

        return in_blocks(jax.vmap(of_one), examples.x, order, size=BLOCK)

    return lax.map(measured, orders)
