"""One epoch of many networks as one program of a device: lanes side by side under `vmap`, chunks in turn.

`planning` defines worker, chunk and lane. Every worker calls the program of its device in a thread of its own. So a
network's numbers depend on no other chunk, and not on how many workers there are.

The lanes of a chunk share a batch order where possible: their first layers are then one matrix product. Each lane is
`jaxmlp.training.epoch.run_epoch`; a single lane runs without `vmap`.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import SingleDeviceSharding

from jaxmlp import sgd
from jaxmlp.network import MLP, Params
from jaxmlp.training.epoch import Hyperparameters, run_epoch
from jaxmlp.training.evaluation import Measures, measures
from jaxmlp.training.examples import Examples, taken
from jaxmlp.training.tracking import StepStatistics

__all__ = ["Inputs", "Outputs", "Program", "block_epoch", "measure", "program", "put", "split"]


class Program(NamedTuple):
    """The values that are compiled into the epoch of a block; see also `jaxmlp.training.epoch.run_epoch`."""

    mlp: MLP
    nesterov: bool
    track: tuple[str, ...]
    n_lanes: int  # of a chunk
    is_shared: bool  # whether a chunk has one batch order for all of its lanes
    device: jax.Device


class Inputs(NamedTuple):
    """The program's arguments, for C chunks of n lanes and S batch orders.

    `params`, `state` and `numbers` are [C, n, ...].
    """

    n_chunks: Array | np.ndarray  # [1]: how many chunks there are; the others of C are skipped
    params: Params
    state: sgd.State
    numbers: Hyperparameters
    which: Array | np.ndarray  # [C] or [C, n]: the index of each chunk's or lane's batch order
    orders: Array | np.ndarray  # [S, steps, B]
    held: Array | np.ndarray | None  # [S, N]: with folds, the rows of the examples that are held out to validate on
    examples: Examples
    validation: Examples | None


class Outputs(NamedTuple):
    """The program's results, all [C, n, ...]: after the epoch, for every step, and on the validation data."""

    params: Params
    state: sgd.State
    losses: Array  # [C, n, steps]: the mean loss of every batch
    statistics: StepStatistics | None
    measures: Measures | None


def put(workers: Sequence[jax.Device], tree: Any) -> list[Any]:
    """Copy the host's arrays whole to every worker's device, once to each device."""
    copies = {device: jax.device_put(tree, device, may_alias=True) for device in dict.fromkeys(workers)}
    return [copies[device] for device in workers]


def split(workers: Sequence[jax.Device], tree: Any) -> list[Any]:
    """Copy the host's arrays [D C, ...] to the D workers' devices, C rows to each."""

    def rows(leaf: np.ndarray, worker: int) -> np.ndarray:
        n = len(leaf) // len(workers)
        return leaf[worker * n : (worker + 1) * n]

    return [
        jax.device_put(jax.tree.map(lambda leaf, w=w: rows(leaf, w), tree), device, may_alias=True)
        for w, device in enumerate(workers)
    ]


def program(key: Program, shapes: Any) -> Callable[[Inputs], Outputs]:
    """Return the compiled epoch of a block for inputs of these shapes, given as a hashable `(leaves, tree)`.

    It is compiled ahead of time, so that another thread can do it, and cached, as `jax.jit` would do.
    """
    config: Any = jax.config
    if config.jax_disable_jit:
        return partial(block_epoch, key)
    return _compiled(key, shapes, config.jax_default_matmul_precision)


@cache
def _compiled(key: Program, shapes: Any, precision: str | None) -> Callable[[Inputs], Outputs]:
    """Compile a program; `precision`, which is JAX's setting, is only part of the cache's key."""
    leaves, tree = shapes
    sharding = SingleDeviceSharding(key.device)
    structs = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf, sharding=sharding) for leaf in leaves])
    return jax.jit(partial(block_epoch, key)).lower(structs).compile()


@partial(jax.jit, static_argnames="mlp")
def measure(mlp: MLP, params: Params, examples: Examples) -> Measures:
    """Measure networks side by side, parameters [n, ...]; a single one as `jaxmlp.train` does, without `vmap`."""
    if len(params[0].w) > 1:
        return jax.vmap(lambda one: measures(mlp, one, examples))(params)
    one = measures(mlp, jax.tree.map(lambda leaf: leaf[0], params), examples)
    return jax.tree.map(lambda leaf: leaf[None], one)


def block_epoch(key: Program, inputs: Inputs) -> Outputs:
    """Run the chunks in turn."""

    def lane(params: Params, state: sgd.State, numbers: Hyperparameters, order: Array, held: Array | None) -> Outputs:
        params, state, losses, statistics = run_epoch(
            key.mlp, params, state, inputs.examples, order, numbers, nesterov=key.nesterov, track=key.track
        )
        validation = inputs.validation if held is None else taken(inputs.examples, held)
        measured = None if validation is None else measures(key.mlp, params, validation)
        return Outputs(params, state, losses, statistics, measured)

    def chunk(params: Params, state: sgd.State, numbers: Hyperparameters, which: Array) -> Outputs:
        order, held = inputs.orders[which], None if inputs.held is None else inputs.held[which]
        if key.n_lanes == 1:
            one: Any = jax.tree.map(lambda leaf: leaf[0], (params, state, numbers))
            held = None if held is None else held.reshape(-1)
            outputs: Any = lane(one[0], one[1], one[2], order.reshape(order.shape[-2:]), held)
            return jax.tree.map(lambda leaf: leaf[None], outputs)
        of_order = None if key.is_shared else 0
        return jax.vmap(lane, in_axes=(0, 0, 0, of_order, of_order))(params, state, numbers, order, held)

    return _map_first(inputs.n_chunks[0], chunk, (inputs.params, inputs.state, inputs.numbers, inputs.which))


def _map_first(n: Array, function: Callable[..., Any], rows: tuple[Any, ...]) -> Any:
    """Map over the first `n` rows; n is traced, so fewer rows take less time in the same program."""
    function = jax.jit(function)  # so that it is traced once, for its shapes and for the loop

    def row(i: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], rows)

    shapes = jax.eval_shape(lambda: function(*row(0)))
    n_rows = jax.tree.leaves(rows)[0].shape[0]
    blank = jax.tree.map(lambda leaf: jnp.zeros((n_rows, *leaf.shape), leaf.dtype), shapes)

    def body(i: Array, results: Any) -> Any:
        return jax.tree.map(lambda whole, part: whole.at[i].set(part), results, function(*row(i)))

    return lax.fori_loop(0, n, body, blank)
