"""Where a gradient is checked besides the user's own point: near it, and where formulas are known to break."""

from typing import Any

import jax
import numpy as np


def points(params: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Draw the points, as float64 trees like `params`; their values are numbers of a few bits, exact in every dtype.

    "near" is a tenth of each leaf's size away; "ties and zeros" has three quarters of all values equal to another or 0;
    "large values" are sixteen times as large.
    """
    return {
        "a point nearby": jax.tree.map(lambda w: _short(w + 0.1 * size(w) * rng.standard_normal(w.shape)), params),
        "ties and zeros": jax.tree.map(lambda w: size(w) * rng.integers(-1, 2, w.shape).astype(np.float64), params),
        "large values": jax.tree.map(lambda w: 16 * w, params),
    }


def size(leaf: np.ndarray) -> float:
    """Return a leaf's root mean square as a power of 2, and 1 for a leaf of zeros: the unit that steps are made in."""
    leaf = np.asarray(leaf, np.float64)
    rms = np.sqrt(np.mean(np.square(leaf))) if leaf.size else 0.0
    return float(2.0 ** np.round(np.log2(rms))) if np.isfinite(rms) and rms > 0 else 1.0


def direction(params: Any, rng: np.random.Generator) -> Any:
    """Draw normal numbers like `params`, in each leaf's own unit."""
    return jax.tree.map(lambda w: size(w) * rng.standard_normal(np.shape(w)), params)


def _short(values: np.ndarray) -> np.ndarray:
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.round(fraction * 256) / 256, exponent)
