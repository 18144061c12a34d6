"""The outputs of fitted networks for any number of rows, in blocks of few different lengths."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array, nn
from scipy import sparse

from jaxmlp.activations import ACTIVATIONS, softmax_terms
from jaxmlp.data import Expansion
from jaxmlp.network import MLP, Params, networks
from jaxmlp.training.evaluation import BLOCK, mean_output, output_z

__all__ = ["log_outputs", "outputs"]

_SHORTEST = 16


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
    with jax.enable_x64(dtype == np.float64):
        given = [(mlp, jax.device_put(of_one)) for mlp, of_one in networks(mlp, params)]
        parts = []
        for start in range(0, max(x.shape[0], 1), BLOCK):
            block = x[start : start + BLOCK]
            block = (block.toarray() if sparse.issparse(block) else block).astype(dtype, copy=False)
            n = len(block)
            longer: Any = np.zeros((max(_SHORTEST, 1 << max(n - 1, 0).bit_length()), block.shape[1]), dtype)
            longer[:n] = block  # a program is compiled for each length
            z = [output_z(mlp, of_one, longer, expansion) for mlp, of_one in given]
            parts.append(np.asarray(_last(mlp, z, is_log=is_log))[..., :n, :])
        return np.concatenate(parts, axis=-2)


@partial(jax.jit, static_argnames=("mlp", "is_log"))
def _last(mlp: MLP, z: list[Array], *, is_log: bool) -> Array:
    name, of_mean = (mlp.output, z[0]) if len(z) == 1 else mean_output(mlp, jax.numpy.stack(z))
    if not is_log:
        return jax.vmap(ACTIVATIONS[name].phi)(of_mean)
    if name == "softmax":
        return -jax.vmap(softmax_terms)(of_mean)[2]
    return -jax.numpy.stack([nn.softplus(-of_mean), nn.softplus(of_mean)])
