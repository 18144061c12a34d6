"""The outputs of fitted networks for any number of rows, in blocks of few different lengths."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, nn
from scipy import sparse

from jaxmlp.activations import ACTIVATIONS, softmax_terms
from jaxmlp.data import Expansion
from jaxmlp.network import MLP, Params
from jaxmlp.training.evaluation import BLOCK, mean_output, output_z

__all__ = ["log_outputs", "outputs"]

_LENGTHS = (64, 128, 256, 384, 512, 768, 1024, BLOCK)  # a program is compiled for each
_MOST_BYTES = 2**28  # of a block: sparse rows may be a million columns wide


def outputs(mlp: MLP, params: Params, x: Any, expansion: Expansion | None = None) -> np.ndarray:
    """Return the mean outputs [N, n_L] of one or more networks for x: [N, n_0], an array or a sparse matrix."""
    return _in_blocks(mlp, params, x, expansion, is_log=False)


def log_outputs(mlp: MLP, params: Params, x: Any, expansion: Expansion | None = None) -> np.ndarray:
    """Return the logarithms of mean probabilities, and of their complements if the outputs are sigmoids.

    [N, n_L] with softmax, [2, N, n_L] with sigmoid: log y, log(1 - y). None is infinite where y was rounded to 0 or 1.
    """
    return _in_blocks(mlp, params, x, expansion, is_log=True)


def _in_blocks(mlp: MLP, params: Params, x: Any, expansion: Expansion | None, *, is_log: bool) -> np.ndarray:
    dtype = params[0].w.dtype
    bytes_a_row = dtype.itemsize * x.shape[1]
    size = max((n for n in _LENGTHS if n * bytes_a_row <= _MOST_BYTES), default=_LENGTHS[0])
    with jax.enable_x64(dtype == np.float64):
        on_device = jax.device_put(params)
        parts = []
        for start in range(0, max(x.shape[0], 1), size):
            block = x[start : start + size]
            block = block.toarray() if sparse.issparse(block) else block
            longer = np.zeros((next(n for n in _LENGTHS if n >= len(block)), block.shape[1]), dtype)
            longer[: len(block)] = block
            y = _compiled(mlp, on_device, longer, expansion, is_log=is_log)
            parts.append(np.asarray(y)[..., : len(block), :])
        return np.concatenate(parts, axis=-2)


@partial(jax.jit, static_argnames=("mlp", "is_log"))
def _compiled(mlp: MLP, params: Params, x: Array, expansion: Expansion | None, *, is_log: bool) -> Array:
    if params[0].b.ndim == 1:
        name, z = mlp.output, output_z(mlp, params, x, expansion)
    else:  # in turn, because memory then holds the hidden layers of one network
        name, z = mean_output(mlp, lax.map(lambda one: output_z(mlp, one, x, expansion), params))
    if not is_log:
        return jax.vmap(ACTIVATIONS[name].phi)(z)
    if name == "softmax":
        return -jax.vmap(softmax_terms)(z)[2]
    return -jnp.stack([nn.softplus(-z), nn.softplus(z)])
