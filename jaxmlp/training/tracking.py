"""Gradient statistics during training: a few numbers from every step, summarised in one row of history per epoch."""

import math
from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.network import Params
from jaxmlp.training.config import TRACKED, TrainConfig

__all__ = ["StepStatistics", "epoch_statistics", "sampled_steps", "step_statistics"]

_NEED_THE_MEAN = {"noise_scale", "variance", "diversity"}
_NAME_OF_COLUMN = {column: name for name, columns in TRACKED.items() for column in columns}
_MOST_SAMPLES = 128
_QUANTILES = {"norm_q10": 0.1, "norm_median": 0.5, "norm_q90": 0.9, "norm_max": 1.0}


class StepStatistics(NamedTuple):
    """Statistics of one step's gradients; for an epoch the arrays have a leading axis of steps.

    `norms` [B] are the examples' gradient norms before weights and clipping. With gradients g_b, weighted and clipped,
    `mean_square` is the mean of |g_b|^2, and `squared_mean` is |mean of g_b|^2, nan at steps that are not sampled. Both
    are None if not needed.
    """

    norms: Array
    mean_square: Array | None
    squared_mean: Array | None


def sampled_steps(n_steps: int) -> np.ndarray:
    """Return at which steps of an epoch |mean of g_b|^2 is computed, evenly spread: [n_steps] booleans.

    Computing it reads the whole gradient once more; at every step that would take a tenth of a small network's time.

    >>> sampled_steps(300).sum()
    np.int64(100)
    """
    return np.arange(n_steps) % math.ceil(n_steps / _MOST_SAMPLES) == 0


def step_statistics(
    track: Collection[str], norms: Array, weights: Array | None, gradient: Params, sampled: Array | bool
) -> StepStatistics | None:
    """Return the statistics of one step that the names in `track` need; None if they need none.

    `norms` [B] are the examples' gradient norms; `weights` [B] include clipping, None means all 1. `gradient` is the
    mean of the weighted gradients. `sampled` says whether to square it too, see `sampled_steps`.
    """
    if not set(track) - {"curvature"}:
        return None
    if not _NEED_THE_MEAN & set(track):
        return StepStatistics(norms, None, None)
    lengths = norms if weights is None else weights * norms
    squared_mean = lax.cond(sampled, _squared_norm, lambda gradient: jnp.full((), jnp.nan, norms.dtype), gradient)
    return StepStatistics(norms, jnp.mean(lengths**2), squared_mean)


def _squared_norm(gradient: Params) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), gradient))


def epoch_statistics(config: TrainConfig, statistics: StepStatistics | None) -> dict[str, float | None]:
    """Return an epoch's columns of history from the statistics of its steps.

    Noise scale and diversity are ratios of parts averaged over the steps (see `jaxmlp.per_example.noise_scale`); they
    are None where the estimate of |G|^2, their denominator, is not positive. Values that are not finite become None.
    """
    if statistics is None:
        return {}
    row: dict[str, float | None] = {}
    norms = np.asarray(statistics.norms)
    if "norms" in config.track:
        with np.errstate(invalid="ignore"):  # norms may be infinite
            quantiles = np.quantile(norms.astype(np.float64), list(_QUANTILES.values()))
        row |= dict(zip(_QUANTILES, quantiles.tolist(), strict=True))
    if "clipped" in config.track:
        row["share_clipped"] = float(np.mean(norms > np.asarray(config.clip, norms.dtype)))
    if statistics.squared_mean is not None:
        noise = _noise_columns(statistics, norms.shape[1])
        row |= {column: value for column, value in noise.items() if _NAME_OF_COLUMN[column] in config.track}
    return {column: None if value is None or not math.isfinite(value) else value for column, value in row.items()}


def _noise_columns(statistics: StepStatistics, batch_size: int) -> dict[str, float | None]:
    squares, squared_means = (np.asarray(part, np.float64) for part in statistics[1:])
    sampled = sampled_steps(len(squares))
    square, squared_mean = float(squares[sampled].mean()), float(squared_means[sampled].mean())
    if not math.isfinite(square - squared_mean):
        return dict.fromkeys(("noise_scale", "gradient_variance", "diversity"))
    trace = max(square - squared_mean, 0.0) * batch_size / max(batch_size - 1, 1)
    return {
        "noise_scale": _ratio(trace, squared_mean - trace / batch_size),
        "gradient_variance": trace,
        "diversity": _ratio(square / batch_size, squared_mean),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
