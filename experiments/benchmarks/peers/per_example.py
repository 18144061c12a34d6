"""A step of SGD that also learns something of every example's gradient, in jaxmlp and in each of its peers.

Every entry of `PEERS` makes of a `Problem` a function that runs one step to its end, on the device too. All do the
same work on the same batch from the same weights, each in the fastest way we know that still is that library's own.
What a step returns is the same list of arrays for every peer, by its kind of work:

    plain, clipped, private    the updated parameters w_1, b_1, w_2, b_2, ...
    norms             one array, [B]
    variance          the variances of all parameters' gradients, shaped and ordered like the parameters
    gradients         every example's gradient, in that order, [B, ...]; nothing is updated

Gradients are of each example's own loss, means are over the batch, and only private steps add noise.
"""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.benchmarks.peers.per_example_jax import JAX_PRIVACY_STEPS, OUR_STEPS, VMAP_STEPS
from experiments.benchmarks.peers.per_example_problem import Start
from experiments.benchmarks.peers.per_example_torch import BACKPACK_STEPS, GHOST_STEPS, OPACUS_STEPS, TORCH_STEPS

__all__ = ["OURS", "PEERS", "VMAP", "Peer"]

OURS, VMAP, TORCH = "jaxmlp", "vmap", "torch"


class Peer(NamedTuple):
    """A peer: its title, what it imports, whose plain step is its 1.0, and what makes a `Step`, by kind of work."""

    title: str
    modules: tuple[str, ...]
    baseline: str
    starts: Mapping[str, Start]


PEERS = {
    OURS: Peer("jaxmlp", ("jaxmlp",), OURS, OUR_STEPS),
    VMAP: Peer("JAX, vmap(grad)", ("jax",), VMAP, VMAP_STEPS),
    "jax-privacy": Peer("jax_privacy", ("jax_privacy",), VMAP, JAX_PRIVACY_STEPS),
    TORCH: Peer("PyTorch", ("torch",), TORCH, TORCH_STEPS),
    "opacus": Peer("Opacus, default", ("torch", "opacus"), TORCH, OPACUS_STEPS),
    "opacus-ghost": Peer("Opacus, ghost clipping", ("torch", "opacus"), TORCH, GHOST_STEPS),
    "backpack": Peer("BackPACK", ("torch", "backpack"), TORCH, BACKPACK_STEPS),
}
