"""An audit of whole trainings: many with one example and many without it, as lanes of one program."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from numpy.typing import NDArray

from jaxmlp import sgd
from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.backpropagation import backprop
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, Layer, Params, init, loss
from jaxmlp.per_example import clipping_weights, dots, norms
from jaxmlp.private.accounting import epsilons
from jaxmlp.private.auditing import Audit, check_fractions
from jaxmlp.private.mechanism import Mechanism
from jaxmlp.private.step import Numbers, gradient
from jaxmlp.training.boundary import check_fit
from jaxmlp.training.examples import Examples, arrays, batch

__all__ = ["audit_runs"]

_SCORES = ("direction", "loss")
_LANES = 256  # side by side


def audit_runs(
    mlp: MLP,
    data: Dataset,
    mechanism: Mechanism,
    *,
    steps: int,
    learning_rate: float,
    key: Array,
    momentum: float = 0.0,
    canary: int = 0,
    score: str = "direction",
    n_runs: int = 1000,
    delta: float = 1e-5,
    confidence: float = 0.95,
    gradient: Callable[[MLP, Params, Examples, Array, Numbers, Array], Params] = gradient,
) -> Audit:
    """Audit trainings with one example and without it (Jagielski et al. 2020, Nasr et al. 2021).

    All runs have the same data and initial weights, and batches and noise of their own. An adversary gives each run a
    score, and guesses from a threshold whether the example was there. One half of the runs chooses the score, the
    threshold, and which side of it to trust. The other half gives intervals of how often the guess is right with the
    example and wrong without it (Clopper and Pearson 1934), and so a lower bound of epsilon.

    With n runs of each kind the bound is at most log(n / 7.4), so audit a small claim. A high bound proves a fault; a
    low one proves nothing. (arXiv 2006.07709, 2101.04535)

    Parameters
    ----------
    data, canary
        Training examples, and the row of the one that is left out; an outlier is seen best.
    mechanism
        Draws the batches and makes the claim, of `steps` steps at `delta`.
    score
        `"direction"`: the clipped gradient of the example, along the noised gradient of every step, in all parameters
        or in some layer's weights or biases: what an adversary sees against whom the account holds. `"loss"`: the
        example's loss after the last step, lower if it was there.
    n_runs
        How many runs have the example; as many do not.
    gradient
        The step: this library's, or another with the same arguments.

    Raises
    ------
    ValueError
        If a number is out of range, or the arguments do not fit each other.

    Examples
    --------
    >>> data = Dataset(10 * np.eye(3), np.array([0, 1, 1]))
    >>> mechanism = Mechanism(3, 3, noise_multiplier=5.0, clip=0.1)
    >>> result = audit_runs(MLP((3, 2)), data, mechanism, steps=2, learning_rate=1.0, key=jax.random.key(0), n_runs=100)
    >>> result.lower <= result.claimed
    True
    """
    check_fit(mlp, data)
    if mechanism.n_examples != len(data):
        raise ValueError(f"mechanism must be of the {len(data)} examples of data, got one of {mechanism.n_examples}")
    if score not in _SCORES:
        raise ValueError(unknown_name("score", score, _SCORES))
    canary, n = whole_number("canary", canary, 0, len(data) - 1), whole_number("n_runs", n_runs, 20, 10**6)
    steps = whole_number("steps", steps, 1)
    check_fractions(delta=delta, confidence=confidence)
    of_params, of_batches, of_noise = jax.random.split(key, 3)
    n_lanes = -(-2 * n // _LANES) * _LANES  # full blocks, because another size would be compiled too
    rows, is_drawn = mechanism.draw(of_batches, range(n_lanes * steps))
    rows, is_drawn = (each.reshape(n_lanes, steps, -1) for each in (rows, is_drawn))
    is_drawn &= (np.arange(n_lanes) < n)[:, None, None] | (rows != canary)
    run = _Run(mlp, steps, score, gradient)
    numbers = (Numbers.of(mechanism), learning_rate, momentum)
    keys = jax.random.split(of_noise, n_lanes)
    scores = np.asarray(_scores(run, init(mlp, of_params), arrays(mlp, data), canary, numbers, rows, is_drawn, keys))
    lower, right = _lower_bound(scores[:n], scores[n : 2 * n], delta, 1 - confidence)
    return Audit(lower, epsilons(mechanism, [steps], delta)[0], 2 * (n - n // 2), right, confidence)


class _Run(NamedTuple):
    """What is compiled into a run."""

    mlp: MLP
    steps: int
    score: str
    gradient: Callable[[MLP, Params, Examples, Array, Numbers, Array], Params]


@partial(jax.jit, static_argnames="run")
def _scores(
    run: _Run,
    params: Params,
    examples: Examples,
    canary: ArrayLike,
    numbers: tuple[Numbers, ArrayLike, ArrayLike],
    rows: Array,
    is_drawn: Array,
    keys: Array,
) -> Array:
    """Return the scores of each lane, [lanes, K]: the higher, the more the example seems to have been there."""
    mlp, (of_step, learning_rate, momentum) = run.mlp, numbers
    one = batch(examples, jnp.asarray([canary]))
    update = partial(sgd.update, learning_rate=learning_rate, momentum=momentum)

    def pulls(params: Params, noised: Params) -> Array:
        """Return the product of the two gradients in each layer's weights, in each layer's biases, and in all."""
        _, _, factors = jax.vmap(partial(backprop, mlp, params))(one.x, one.t)
        parts = [
            dots((pair,), (only,))[0] for pair, layer in zip(factors, noised, strict=True) for only in _parts(layer)
        ]
        return jnp.stack([*parts, sum(parts)]) * clipping_weights(norms(factors), of_step.clip)

    def lane(drawn: tuple[Array, Array, Array]) -> Array:
        rows, is_drawn, key = drawn

        def step(carry: tuple[Params, sgd.State], of_one: tuple[Array, ...]) -> tuple[tuple[Params, sgd.State], Array]:
            rows, is_drawn, key = of_one
            noised = run.gradient(mlp, carry[0], batch(examples, rows), is_drawn, of_step, key)
            return update(*carry, noised), pulls(carry[0], noised)

        (after, _), of_steps = lax.scan(
            step, (params, sgd.init(params)), (rows, is_drawn, jax.random.split(key, run.steps))
        )
        return of_steps.sum(0) if run.score == "direction" else -loss(mlp, after, one.x[0], one.t[0])[None]

    return lax.map(lane, (rows, is_drawn, keys), batch_size=_LANES)


def _parts(layer: Layer) -> tuple[Layer, Layer]:
    return layer._replace(b=jnp.zeros_like(layer.b)), layer._replace(w=jnp.zeros_like(layer.w))


def _lower_bound(
    present: NDArray[np.floating], absent: NDArray[np.floating], delta: float, p: float
) -> tuple[float, int]:
    """Return a lower bound of epsilon from scores [n, K] with the example and without it, and the right guesses.

    If P[S | present] <= e^epsilon P[S | absent] + delta for every event S, and the other way round, then epsilon is at
    least log((P[S | present] - delta) / P[S | absent]).
    """
    half, chosen = len(present) // 2, []
    for column, (with_it, without_it) in enumerate(zip(present[:half].T, absent[:half].T, strict=True)):
        thresholds = np.concatenate([with_it, without_it])
        bounds = _bounds(*_above(with_it, without_it, thresholds), half, delta, p)
        side, place = np.unravel_index(np.argmax(bounds), bounds.shape)
        chosen.append((bounds[side, place], side, column, thresholds[place]))
    _, side, column, threshold = max(chosen)
    hits, misses = _above(present[half:, column], absent[half:, column], np.array([threshold]))
    n = len(present) - half
    return max(float(_bounds(hits, misses, n, delta, p)[side, 0]), 0.0), int(hits[0] + n - misses[0])


def _above(
    present: NDArray[np.floating], absent: NDArray[np.floating], thresholds: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many scores of each kind are above each threshold."""
    counts = [len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right") for scores in (present, absent)]
    return counts[0], counts[1]


def _bounds(hits: NDArray[np.int64], misses: NDArray[np.int64], n: int, delta: float, p: float) -> NDArray[np.floating]:
    """Return the bounds [2, thresholds] by scores above a threshold, and by scores below; each has an error of p."""
    from scipy.stats import beta

    bounds = []
    for often, seldom in ((hits, misses), (n - misses, n - hits)):
        low = np.where(often > 0, beta.ppf(p / 2, np.maximum(often, 1), n - often + 1), 0.0)
        high = np.where(seldom < n, beta.ppf(1 - p / 2, seldom + 1, np.maximum(n - seldom, 1)), 1.0)
        bounds.append(np.log(np.maximum(low - delta, np.finfo(float).tiny) / high))
    return np.stack(bounds)
