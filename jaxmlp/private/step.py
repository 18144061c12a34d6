"""One step's noised gradient, and an epoch of steps as one compiled program."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxmlp import sgd
from jaxmlp.backpropagation import backprop
from jaxmlp.network import MLP, Params
from jaxmlp.per_example import clipping_weights, norms, weighted_sum
from jaxmlp.private.mechanism import Mechanism
from jaxmlp.training.examples import Examples, batch

__all__ = ["Numbers", "gradient", "run_epoch"]

_ROUNDING = 1e-4  # relative; norms in float32 are off by less, so no clipped gradient is longer than C


class Numbers(NamedTuple):
    """The traced numbers of a mechanism: C, sigma and B."""

    clip: ArrayLike
    noise_multiplier: ArrayLike
    batch_size: ArrayLike

    @classmethod
    def of(cls, mechanism: Mechanism) -> "Numbers":
        """Return the numbers of a mechanism."""
        return cls(mechanism.clip, mechanism.noise_multiplier, mechanism.batch_size)


def gradient(mlp: MLP, params: Params, drawn: Examples, is_drawn: Array, numbers: Numbers, key: Array) -> Params:
    """Return (sum_b min(1, C / |g_b|) g_b + sigma C xi) / B for the drawn examples of a batch, xi standard normal.

    `drawn` has the rows of a batch, whose places that are not drawn hold any rows. An example whose gradient has an
    infinite norm, or none, counts as 0: it can then not tell whether it is there. How many those are is not returned,
    because no noise would hide it.

    The noise is as good as its generator and its arithmetic. JAX's threefry is no cipher of proven strength; who knows
    the key knows the noise. float32 has holes that may tell neighbours apart (Mironov 2012; Holohan and Braghin 2021).
    They are widest in the tails: JAX's normal in float32 has 2^23 values, from -5.42 to 5.22, of which five are beyond
    5. Who knows all other examples could recognise a sum by such a value. The guarantee is that of real numbers.
    """
    _, _, factors = jax.vmap(partial(backprop, mlp, params))(drawn.x, drawn.t)
    lengths = norms(factors)
    counts = is_drawn & jnp.isfinite(lengths)
    # 0 times nan is nan: what does not count must be 0 itself.
    factors = jax.tree.map(lambda array: jnp.where(counts[:, None], array, 0), factors)
    clip = jnp.asarray(numbers.clip, lengths.dtype)
    weights = jnp.where(counts, clipping_weights(lengths, clip * (1 - _ROUNDING)), 0)
    sums, structure = jax.tree.flatten(weighted_sum(factors, weights))

    # Array by array: drawn for all in one vector, the noise took ten times as long on a CPU.
    def noised(total: Array, key: Array) -> Array:
        noise = jax.random.normal(key, total.shape, total.dtype)
        return (total + numbers.noise_multiplier * clip * noise) / numbers.batch_size

    return jax.tree.unflatten(structure, map(noised, sums, jax.random.split(key, len(sums))))


@partial(jax.jit, static_argnames=("mlp", "nesterov"))
def run_epoch(
    mlp: MLP,
    params: Params,
    state: sgd.State,
    examples: Examples,
    batches: tuple[np.ndarray, np.ndarray],
    steps: np.ndarray,
    rates: np.ndarray,
    numbers: Numbers,
    momentum: ArrayLike,
    weight_decay: ArrayLike,
    key: Array,
    *,
    nesterov: bool = False,
) -> tuple[Params, sgd.State]:
    """Run the steps of some batches, as `Mechanism.draw` returns them; `steps` are their numbers, [S]."""
    update = partial(sgd.update, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def step(carry: tuple[Params, sgd.State], of_step: tuple[Array, ...]) -> tuple[tuple[Params, sgd.State], None]:
        params, state = carry
        rows, is_drawn, number, rate = of_step
        noised = gradient(mlp, params, batch(examples, rows), is_drawn, numbers, jax.random.fold_in(key, number))
        return update(params, state, noised, learning_rate=rate), None

    of_steps = (*map(jnp.asarray, batches), jnp.asarray(steps), jnp.asarray(rates))
    return lax.scan(step, (params, state), of_steps)[0]
