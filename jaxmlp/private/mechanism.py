"""What each step of private training draws: the same object is sampled from and accounted, so both cannot differ."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxmlp._validation import whole_number

__all__ = ["Mechanism", "Privacy"]

_LEAST_NOISE = 0.1
_DEVIATIONS = 6  # a batch is larger than that with a probability of 1e-9, which the account counts


@dataclass(frozen=True)
class Privacy:
    """What private training must promise: (epsilon, delta), or a noise multiplier in place of epsilon.

    Parameters
    ----------
    epsilon
        The most that the whole training may spend; the noise multiplier is solved for.
    delta
        The probability with which the promise may fail. It must be far below 1 / N: a mechanism that publishes one
        example at random has delta = 1 / N. None means 1 / N^1.1.
    noise_multiplier
        sigma: the noise's standard deviation in units of `clip`, in place of `epsilon`.
    clip
        C: the norm that each example's gradient is scaled down to.

    Raises
    ------
    ValueError
        If a number is out of range, or not exactly one of `epsilon` and `noise_multiplier` is given.

    Examples
    --------
    >>> Privacy()
    Traceback (most recent call last):
    ValueError: give one of epsilon and noise_multiplier, got neither: try epsilon=3.0
    """

    epsilon: float | None = None
    delta: float | None = None
    noise_multiplier: float | None = None
    clip: float = 0.1

    def __post_init__(self) -> None:
        """Check every value once."""
        if (self.epsilon is None) == (self.noise_multiplier is None):
            got = "neither" if self.epsilon is None else "both"
            raise ValueError(f"give one of epsilon and noise_multiplier, got {got}: try epsilon=3.0")
        for name in ("epsilon", "noise_multiplier", "clip"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _positive(name, value))
        if self.noise_multiplier is not None and self.noise_multiplier < _LEAST_NOISE:
            raise ValueError(
                f"noise_multiplier must be {_LEAST_NOISE} or larger, got {self.noise_multiplier:g}: with less, a "
                "single step may spend an epsilon of a hundred, which protects nobody"
            )
        if self.delta is not None and not 0 < _positive("delta", self.delta) < 1:
            raise ValueError(f"delta must be above 0 and below 1, got {self.delta!r}")

    def delta_for(self, n_examples: int) -> float:
        """Return delta; it must be below 1 / N for N examples.

        >>> Privacy(epsilon=3.0).delta_for(60_000) < 1 / 60_000
        True
        """
        if self.delta is None:
            return n_examples**-1.1 if n_examples > 1 else 0.5
        if self.delta >= 1 / n_examples:
            raise ValueError(
                f"delta must be below 1 / N = {1 / n_examples:.2g} for N = {n_examples} examples, got {self.delta}: "
                "to publish one example at random would satisfy it"
            )
        return self.delta


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)


@dataclass(frozen=True)
class Mechanism:
    """One step of DP-SGD (Abadi et al. 2016, arXiv 1607.00133), with batches that fit arrays of one size.

    Every example is drawn independently, with the probability q = B / N (Poisson sampling). If more than
    `largest_batch` are drawn, so many of them stay, chosen at random. Each gradient is scaled down to the norm C, the
    gradients are summed, noise of the standard deviation sigma C is added to each number of the sum, and the result is
    divided by B, whatever was drawn.

    Parameters
    ----------
    n_examples, batch_size
        N, and the expected batch size B.
    noise_multiplier, clip
        sigma and C.

    Examples
    --------
    >>> mechanism = Mechanism(60_000, 256, noise_multiplier=1.1, clip=0.1)
    >>> mechanism.largest_batch
    352
    >>> rows, is_drawn = mechanism.draw(jax.random.key(0), range(2))
    >>> rows.shape, is_drawn.sum(1).tolist()
    ((2, 352), [249, 295])
    """

    n_examples: int
    batch_size: int
    noise_multiplier: float
    clip: float

    def __post_init__(self) -> None:
        """Check every value once."""
        whole_number("n_examples", self.n_examples, least=1)
        whole_number("batch_size", self.batch_size, 1, self.n_examples)
        _positive("noise_multiplier", self.noise_multiplier)
        _positive("clip", self.clip)

    @property
    def probability(self) -> float:
        """The probability q of each example to be in a batch."""
        return self.batch_size / self.n_examples

    @property
    def largest_batch(self) -> int:
        """The most examples of a batch, six standard deviations above B, or all."""
        deviation = math.sqrt(self.batch_size * (1 - self.probability))
        return min(self.n_examples, math.ceil(self.batch_size + _DEVIATIONS * deviation))

    def draw(self, key: Array, steps: range) -> tuple[np.ndarray, np.ndarray]:
        """Return the batches of some steps: [S, largest_batch] rows, and which of these are drawn.

        The batch depends on (key, number of the step) alone. A place that is not drawn has the row 0.
        """
        rows = np.zeros((len(steps), self.largest_batch), np.int32)
        is_drawn = np.zeros(rows.shape, bool)
        secret = np.asarray(jax.random.key_data(key)).ravel().tolist()
        for place, step in enumerate(steps):
            # So many rows, each set of them as probable as any other, are what independent draws give.
            generator = np.random.Generator(np.random.Philox([*secret, step]))
            n = min(generator.binomial(self.n_examples, self.probability), self.largest_batch)
            rows[place, :n] = generator.choice(self.n_examples, n, replace=False, shuffle=False)
            is_drawn[place, :n] = True
        return rows, is_drawn
