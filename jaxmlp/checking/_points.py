"""The other points at which a gradient is checked: near the user's own, and where formulas are known to break."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Draws(NamedTuple):
    """Random numbers in the shapes of the parameters: normal for the directions and a step, and -1, 0 or 1."""

    directions: list[Any]
    step: Any
    tied: Any


def draws(params: Any, n_directions: int, seed: int) -> Draws:
    """Draw the random numbers of a check; the same for the same seed."""
    rng = np.random.default_rng(seed)
    return Draws(
        [jax.tree.map(lambda w: _normal(w, rng), params) for _ in range(n_directions)],
        jax.tree.map(lambda w: _normal(w, rng), params),
        # As many of each as fit: no draw leaves the zeros out of a small leaf.
        jax.tree.map(lambda w: rng.permutation(np.resize([0, 1, -1], np.size(w))).reshape(np.shape(w)), params),
    )


def points(params: Any, units: Any, drawn: Draws) -> dict[str, Any]:
    """Return the other points by name: float64 trees like `params`, with values of a few bits, exact in every dtype.

    "a point nearby" is a tenth of each leaf's size away; "ties and zeros" has only -1, 0 and 1 in the leaf's unit;
    "large values" are sixteen times as large.
    """
    return {
        "a point nearby": jax.tree.map(lambda w, s, v: _short(w + 0.1 * s * v), params, units, drawn.step),
        "ties and zeros": jax.tree.map(lambda s, v: s * v, units, drawn.tied),
        "large values": jax.tree.map(lambda w: 16 * w, params),
    }


def size(leaf: np.ndarray) -> float:
    """Return the unit of steps in a leaf: its root mean square as a power of 2, or 1 for a leaf of zeros."""
    leaf = np.asarray(leaf, np.float64)
    top = float(np.abs(leaf).max(initial=0.0))
    if not 0 < top < np.inf:
        return 1.0
    # Scale first if the squares would overflow or underflow.
    unit = 1.0 if 1e-100 < top < 1e100 else 2.0 ** np.floor(np.log2(top))
    return float(unit * 2.0 ** np.round(np.log2(np.mean(np.square(leaf if unit == 1 else leaf / unit))) / 2))


def direction(params: Any, rng: np.random.Generator) -> Any:
    """Draw normal numbers in the shapes of `params`, in each leaf's own unit."""
    return jax.tree.map(lambda w: size(w) * _normal(w, rng), params)


def _normal(leaf: Any, rng: np.random.Generator) -> np.ndarray:
    # float32 takes half the time.
    return np.asarray(rng.standard_normal(np.shape(leaf), np.float32), np.float64)


def _short(values: np.ndarray) -> np.ndarray:
    """Round to 8 bits by Veltkamp's splitting: adding a large number pushes the other bits out."""
    pushed = values * (2.0**45 + 1)
    return pushed - (pushed - values)
