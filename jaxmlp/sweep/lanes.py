"""One epoch of many networks as one program: lanes side by side under `vmap`, chunks in turn, on every device.

`planning` defines chunk and lane. The lanes of a chunk share a batch order where possible: their first layers are then
one matrix product. Each lane is `jaxmlp.training.epoch.run_epoch`; a single lane runs without `vmap`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmlp import sgd
from jaxmlp.network import MLP, Params
from jaxmlp.training.epoch import Hyperparameters, run_epoch
from jaxmlp.training.evaluation import Measures, measures
from jaxmlp.training.examples import Examples, taken
from jaxmlp.training.tracking import StepStatistics

__all__ = ["Inputs", "Outputs", "Program", "measure", "program", "replicate", "split"]


class Program(NamedTuple):
    """The values that are compiled into the epoch of a block; see also `jaxmlp.training.epoch.run_epoch`."""

    mlp: MLP
    nesterov: bool
    track: tuple[str, ...]
    n_lanes: int  # of a chunk
    is_shared: bool  # whether a chunk has one batch order for all of its lanes
    devices: tuple[jax.Device, ...]


class Inputs(NamedTuple):
    """The program's arguments, for D devices, C chunks on each, n lanes and S batch orders.

    `params`, `state` and `numbers` are [D C, n, ...].
    """

    n_chunks: Array | np.ndarray  # [D]: how many chunks each device runs; the others are skipped
    params: Params
    state: sgd.State
    numbers: Hyperparameters
    which: Array | np.ndarray  # [D C] or [D C, n]: the index of each chunk's or lane's batch order
    orders: Array | np.ndarray  # [S, steps, B]
    held: Array | np.ndarray | None  # [S, N]: with folds, the rows of the examples that are held out to validate on
    examples: Examples
    validation: Examples | None


class Outputs(NamedTuple):
    """The program's results, all [D C, n, ...]: after the epoch, for every step, and on the validation data."""

    params: Params
    state: sgd.State
    losses: Array  # [D C, n, steps]: the mean loss of every batch
    statistics: StepStatistics | None
    measures: Measures | None


_SPLIT, _WHOLE = PartitionSpec("devices"), PartitionSpec()
_PLACES: Any = Inputs(*[_SPLIT] * 5, *[_WHOLE] * 4)  # type: ignore[arg-type]


def replicate(devices: tuple[jax.Device, ...], tree: Any) -> Any:
    """Copy the host's arrays whole to every device."""
    return jax.device_put(tree, _sharding(devices, _WHOLE), may_alias=True)


def split(devices: tuple[jax.Device, ...], tree: Any) -> Any:
    """Copy the host's arrays [D C, ...] to the devices, C rows to each."""
    return jax.device_put(tree, _sharding(devices, _SPLIT), may_alias=True)


def program(key: Program, shapes: Any) -> Callable[[Inputs], Outputs]:
    """Return the compiled epoch of a block for inputs of these shapes, given as a hashable `(leaves, tree)`.

    It is compiled ahead of time, so that another thread can do it, and cached, as `jax.jit` would do.
    """
    config: Any = jax.config
    if config.jax_disable_jit:
        return _on_devices(key)
    return _compiled(key, shapes, config.jax_default_matmul_precision)


@cache
def _compiled(key: Program, shapes: Any, precision: str | None) -> Callable[[Inputs], Outputs]:
    """Compile a program; `precision`, which is JAX's setting, is only part of the cache's key."""
    leaves, tree = shapes
    inputs = Inputs(*jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves]))

    def placed(part: Any, place: PartitionSpec) -> Any:
        sharding = _sharding(key.devices, place)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), part)

    structs = Inputs(*map(placed, inputs, _PLACES))
    return jax.jit(_on_devices(key)).lower(structs).compile()


@cache
def _sharding(devices: tuple[jax.Device, ...], place: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), ("devices",)), place)


def _on_devices(key: Program) -> Callable[[Inputs], Outputs]:
    run = partial(_block_epoch, key)
    if len(key.devices) == 1:
        return run
    mesh = _sharding(key.devices, _SPLIT).mesh
    # Devices do not communicate here, so JAX need not check how values vary among them.
    return jax.shard_map(run, mesh=mesh, in_specs=(_PLACES,), out_specs=_SPLIT, check_vma=False)


@partial(jax.jit, static_argnames="mlp")
def measure(mlp: MLP, params: Params, examples: Examples) -> Measures:
    """Measure networks side by side, parameters [n, ...]; a single one as `jaxmlp.train` does, without `vmap`."""
    if len(params[0].w) > 1:
        return jax.vmap(lambda one: measures(mlp, one, examples))(params)
    one = measures(mlp, jax.tree.map(lambda leaf: leaf[0], params), examples)
    return jax.tree.map(lambda leaf: leaf[None], one)


def _block_epoch(key: Program, inputs: Inputs) -> Outputs:
    """Run a device's chunks in turn."""

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
