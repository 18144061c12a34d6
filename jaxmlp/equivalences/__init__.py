"""A table of the library's hand-written formulas and of what they must equal, checked with `jaxmlp.checking`.

Each row compares a formula with an independent truth: a derivative with autodiff and differences of its function, a
statistic of per-example gradients with the naive formula. The rows follow `ACTIVATIONS` and `LOSSES`, so a new entry is
checked without a line here.
"""

from collections.abc import Iterator
from itertools import cycle, islice

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.activations import ACTIVATIONS
from jaxmlp.equivalences.derivatives import rows_of_activation, rows_of_loss, rows_of_network
from jaxmlp.equivalences.rows import Claim, Equivalence, drawn, exact_targets, rounding_units
from jaxmlp.equivalences.statistics import rows_of_statistics
from jaxmlp.losses import LOSSES
from jaxmlp.network import MLP, Params

__all__ = ["Claim", "Equivalence", "networks", "of_library", "of_model", "rounding_units"]

_EXAMPLES = 256  # drawn from a network's data: enough to detect a wrong formula
_NUMBERS = 2**24  # in all gradients of examples together: 128 MiB in float64


def of_library(*, n_networks: int | None = None, seed: int = 0) -> Iterator[Equivalence]:
    """List every equivalence of the library; nothing is computed before a row's `check` is called.

    A check takes half a second to a few seconds, mostly to compile. The rows use the first `n_networks` of `networks`,
    all if None; the first four have one to four layers. `seed` draws the numbers to check at.

    >>> rows = {row.name: row for row in of_library()}
    >>> bool(rows["tanh, first derivative"].check())
    True
    """
    rng = np.random.default_rng(seed)
    for name, activation in ACTIVATIONS.items():
        yield from rows_of_activation(name, activation, rng)
    for name, entry in LOSSES.items():
        for output in entry.outputs:
            yield from rows_of_loss(f"{name} of {output}", entry, ACTIVATIONS[output], rng)
    for mlp in islice(networks(), n_networks):
        yield from rows_of_network(mlp, *drawn(mlp, rng), seed)
    # With cross-entropy no gradient is zero; at zero, wrong formulas give zeros too.
    deepest = max(networks(), key=lambda mlp: (len(mlp.sizes), mlp.loss == "cross_entropy"))
    yield from rows_of_statistics(deepest, *drawn(deepest, rng), seed)


def of_model(
    mlp: MLP, params: Params, x: Array | np.ndarray, t: Array | np.ndarray, *, seed: int = 0
) -> Iterator[Equivalence]:
    """List the equivalences of one network on its own data, x: [N, n_0] and N targets of any kind, as `of_library`.

    `seed` draws 256 examples from the data, and the directions of the checks.

    >>> from jax.random import key
    >>> from jaxmlp.network import init
    >>> mlp = MLP((4, 3, 2))
    >>> rows = of_model(mlp, init(mlp, key(0)), np.ones((5, 4), np.float32), np.array([0, 1, 1, 0, 1]))
    >>> bool(next(rows).check())
    True
    """
    order = np.random.default_rng(seed).permutation(len(x))
    x, t = np.asarray(x), np.asarray(t)
    some = order[:_EXAMPLES]
    yield from rows_of_network(mlp, params, jnp.asarray(x[some]), exact_targets(mlp, t[some]), seed)
    few = order[: max(2, min(64, _NUMBERS // mlp.n_parameters))]
    yield from rows_of_statistics(mlp, params, jnp.asarray(x[few]), exact_targets(mlp, t[few]), seed)


def networks() -> Iterator[MLP]:
    """Make small networks, of one to four layers in turn.

    Together they have every pair of loss and output, and every hidden activation.

    >>> [len(mlp.activations) for mlp in networks()][:5]
    [1, 2, 3, 4, 1]
    """
    hidden = cycle(name for name, activation in ACTIVATIONS.items() if activation.derivative is not None)
    pairs = [(name, output) for name, entry in LOSSES.items() for output in entry.outputs]
    for (name, output), depth in zip(pairs, cycle([1, 2, 3, 4]), strict=False):
        yield MLP((5, *[4] * (depth - 1), 3), tuple(islice(hidden, depth - 1)), output, name)
