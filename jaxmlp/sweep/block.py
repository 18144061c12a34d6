"""A block of trials, trained together epoch by epoch: `jaxmlp.train`, with many networks in one program.

The program is that of `jaxmlp.sweep.lanes`; what happens between epochs is `jaxmlp.training`'s own. A trial that ends
early leaves its lane, and those that go on are packed together again.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp.network import Params
from jaxmlp.sweep import lanes
from jaxmlp.sweep.planning import Block, Group, chunked
from jaxmlp.sweep.space import Trial
from jaxmlp.training.config import learning_rates
from jaxmlp.training.epoch import Hyperparameters, batch_order, epoch_numbers, start
from jaxmlp.training.evaluation import evaluation_of
from jaxmlp.training.examples import Examples
from jaxmlp.training.history import Epoch, Trained
from jaxmlp.training.loop import after_epoch, curvature_after_epoch
from jaxmlp.training.tracking import epoch_statistics

__all__ = ["Setting", "begin", "prepare", "run_block"]


class Setting(NamedTuple):
    """What all blocks of a sweep have in common.

    Attributes
    ----------
    trials
        By number.
    keys
        Of each seed.
    data
        The training examples, on the host.
    examples, test
        The training and test examples, on all devices; `test` may be None.
    devices
        Where to run.
    """

    trials: Mapping[int, Trial]
    keys: Mapping[int, Array]
    data: Examples
    examples: Examples
    test: Examples | None
    devices: tuple[jax.Device, ...]


def begin(trials: Sequence[Trial]) -> dict[int, Trained]:
    """Draw what trials of one network start with: what `train` would, one after another."""
    drawn: dict[tuple[int, float], tuple[Params, sgd.State]] = {}
    for trial in trials:
        point = (trial.seed, trial.config.init_scale)
        if point not in drawn:
            params, state = start(trial.mlp, jax.random.key(trial.seed), trial.config.init_scale)
            drawn[point] = jax.tree.map(np.asarray, (params, state))
    starts = {trial.number: drawn[trial.seed, trial.config.init_scale] for trial in trials}
    return {number: Trained(params, state, (), params, 0, "running") for number, (params, state) in starts.items()}


def prepare(setting: Setting, group: Group) -> None:
    """Compile what a group's blocks will run, ahead of them."""
    _program(setting, group, _Shape.of(setting, group.blocks))


def run_block(
    setting: Setting,
    group: Group,
    block: Block,
    trained: Mapping[int, Trained],
    until: int,
    callback: Callable[[Mapping[int, Trained]], object] | None = None,
) -> dict[int, Trained]:
    """Train a block's trials up to an epoch, or to their own ends; halved where memory runs out.

    Parameters
    ----------
    setting, group, block
        What is to be run.
    trained
        How far each trial is, all after the same epoch.
    until
        The last epoch, counted from 1.
    callback
        Called with the trials so far after every epoch.

    Raises
    ------
    jax.errors.JaxRuntimeError, MemoryError
        If not even one network at a time fits the memory.
    """
    try:
        return _run(setting, group, block, trained, until, callback)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
            raise
        halves = _halves(block)
        if not halves:
            raise
    results: dict[int, Trained] = {}
    for half in halves:
        of_half = {number: trained[number] for chunk in half for number in chunk}
        results |= run_block(setting, group, half, of_half, until, callback)
    return results


def _halves(block: Block) -> list[Block]:
    """Cut a block in two: its chunks, or, of a single chunk, its lanes."""
    if len(block) > 1:
        return [block[: len(block) // 2], block[len(block) // 2 :]]
    half = len(block[0]) // 2
    return [(block[0][:half],), (block[0][half:],)] if half else []


class _Shape(NamedTuple):
    """The shape of a program's arrays: chunks on each device, lanes of each, and batch orders."""

    n_devices: int
    n_chunks: int
    n_lanes: int
    n_orders: int

    @classmethod
    def of(cls, setting: Setting, blocks: Sequence[Block]) -> "_Shape":
        """Return what fits all of these blocks; chunks a power of 2, so that sweeps of nearly one size are one."""
        n_devices = len(setting.devices)
        longest = max(math.ceil(len(block) / n_devices) for block in blocks)
        n_lanes = max(len(chunk) for block in blocks for chunk in block)
        n_orders = max(len(_seeds(setting, block)) for block in blocks)
        return cls(n_devices, 2 ** (longest - 1).bit_length(), n_lanes, n_orders)


class _Layout(NamedTuple):
    """Which trial is in which lane of which chunk.

    Attributes
    ----------
    who
        [D C, n] trial numbers: a device's chunks one after another, lanes without a trial doubling another.
    n_chunks
        [D]: how many chunks of each device have trials.
    place
        Of each trial: its index into `who`, flattened.
    """

    who: np.ndarray
    n_chunks: np.ndarray
    place: dict[int, int]

    @classmethod
    def of(cls, block: Block, shape: _Shape) -> "_Layout":
        """Deal the chunks out to the devices."""
        who = np.full((shape.n_devices * shape.n_chunks, shape.n_lanes), block[0][0])
        place: dict[int, int] = {}
        for i, chunk in enumerate(block):
            row = i % shape.n_devices * shape.n_chunks + i // shape.n_devices
            who[row] = [*chunk, *[chunk[0]] * (shape.n_lanes - len(chunk))]
            place |= {number: row * shape.n_lanes + lane for lane, number in enumerate(chunk)}
        counts = [len(range(device, len(block), shape.n_devices)) for device in range(shape.n_devices)]
        return cls(who, np.array(counts, np.int32), place)


class _Arrays:
    """A tree of arrays [D C, n, ...] of all lanes, brought to the host when somebody asks for one."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree

    @cached_property
    def flat(self) -> Any:
        """Return the tree on the host, [D C n, ...]."""
        return jax.tree.map(lambda leaf: _flat(np.asarray(leaf)), self.tree)

    def of(self, place: int) -> Any:
        """Return one lane's tree."""
        return jax.tree.map(lambda leaf: leaf[place].copy(), self.flat)


class _Lane(NamedTuple):
    """A lane's parameters and state, not yet taken out of the arrays of all."""

    arrays: _Arrays
    place: int


def _taken_out(trained: Trained) -> Trained:
    """Return a trial's outcome with arrays of its own."""
    taken: dict[_Lane, Any] = {}

    def part(value: Any, which: int) -> Any:
        if not isinstance(value, _Lane):
            return value
        if value not in taken:
            taken[value] = value.arrays.of(value.place)
        return taken[value][which]

    return trained._replace(
        params=part(trained.params, 0), state=part(trained.state, 1), last_params=part(trained.last_params, 0)
    )


def _run(
    setting: Setting,
    group: Group,
    block: Block,
    starts: Mapping[int, Trained],
    until: int,
    callback: Callable[[Mapping[int, Trained]], object] | None,
) -> dict[int, Trained]:
    trained = dict(starts)
    shape = _Shape.of(setting, group.blocks if block in group.blocks else [block])
    running = _running(trained, until)
    if not running:
        return trained
    program = _program(setting, group, shape)
    layout = _Layout.of(_packed(setting, group, running, shape), shape)
    params, state = lanes.split(setting.devices, _gathered(layout, trained))
    drawn = _draw(setting, group, shape, layout, len(trained[running[0]].history), params)
    while running:
        began = time.perf_counter()
        outputs = program(drawn.inputs._replace(params=params, state=state))
        epoch, params, state = drawn.epoch + 1, outputs.params, outputs.state
        # While the devices are at it.
        coming = _draw(setting, group, shape, layout, epoch, params) if epoch < until else None
        rows = _rows(setting, layout, outputs, running, drawn)
        share = (time.perf_counter() - began) / len(running)
        ends = _Arrays((params, state))
        for number, row in zip(running, rows, strict=True):
            trained[number] = _after(
                trained[number], setting.trials[number], row, share, _Lane(ends, layout.place[number])
            )
        if callback:
            callback(trained)
        running = _running({number: trained[number] for number in running}, until)
        packed = _packed(setting, group, running, shape)
        if coming and running and math.ceil(len(packed) / shape.n_devices) < layout.n_chunks.max():
            before, layout = layout, _Layout.of(packed, shape)
            where = np.vectorize(before.place.__getitem__)(layout.who)
            kept = jax.tree.map(lambda leaf, where=where: leaf[where], ends.flat)
            params, state = lanes.split(setting.devices, kept)
            coming = _draw(setting, group, shape, layout, epoch, params)
        drawn = coming or drawn
    return {number: _taken_out(each) for number, each in trained.items()}


def _after(trained: Trained, trial: Trial, row: "_Row", share: float, lane: _Lane) -> Trained:
    after: Any = None if row.diverged else (lane, lane)
    trained = after_epoch(trained, trial.config, row.epoch._replace(seconds=share), after)
    is_kept = trial.config.patience is not None and trained.best_epoch == len(trained.history)
    # Else the arrays of all lanes would be held for the sake of one.
    return _taken_out(trained) if is_kept or trained.status != "running" else trained


def _running(trained: Mapping[int, Trained], until: int) -> list[int]:
    return [n for n, each in trained.items() if each.status == "running" and len(each.history) < until]


def _packed(setting: Setting, group: Group, running: Sequence[int], shape: _Shape) -> Block:
    return tuple(chunked([setting.trials[number] for number in running], shape.n_lanes, group.is_shared))


def _gathered(layout: _Layout, trained: Mapping[int, Trained]) -> Any:
    """Put the trials' parameters and states where their lanes are."""
    numbers = sorted(layout.place)
    trees = [(trained[number].last_params, trained[number].state) for number in numbers]
    where = np.searchsorted(numbers, layout.who)
    return jax.tree.map(lambda *leaves: np.stack(leaves)[where], *trees)


def _seeds(setting: Setting, block: Block) -> list[int]:
    return sorted({setting.trials[number].seed for chunk in block for number in chunk})


class _Drawn(NamedTuple):
    """What is drawn on the host for an epoch (counted from 0).

    Attributes
    ----------
    epoch
        Its number.
    rates
        Of each trial, [steps].
    inputs
        The program's, without parameters and states.
    """

    epoch: int
    rates: dict[int, np.ndarray]
    inputs: lanes.Inputs


def _draw(setting: Setting, group: Group, shape: _Shape, layout: _Layout, epoch: int, params: Params) -> _Drawn:
    trials = {number: setting.trials[number] for number in sorted(layout.place)}
    n_examples, n_steps = len(setting.data.x), _n_steps(setting, group)
    seeds = sorted({trial.seed for trial in trials.values()})
    orders = [batch_order(setting.keys[seed], epoch, n_examples, group.batch_size) for seed in seeds]
    orders += [orders[0]] * (shape.n_orders - len(orders))
    rates = {number: learning_rates(trial.config, epoch, n_steps) for number, trial in trials.items()}
    of_trials = [epoch_numbers(trial.config, rates[number]) for number, trial in trials.items()]
    where, dtype = np.searchsorted(list(trials), layout.who), jax.tree.leaves(params)[0].dtype
    which = np.searchsorted(seeds, [trial.seed for trial in trials.values()]).astype(np.int32)[where]

    def of_lanes(column: Sequence[Any]) -> Any:
        return None if column[0] is None else np.asarray(column, dtype)[where]

    # By column: a tree map over as many trees as there are trials takes four times as long.
    numbers = Hyperparameters(*map(of_lanes, zip(*of_trials, strict=True)))
    on_host = layout.n_chunks, numbers, which[:, 0] if group.is_shared else which
    n_chunks, numbers, which = lanes.split(setting.devices, on_host)
    shared = lanes.replicate(setting.devices, np.stack(orders)), setting.examples, setting.test
    return _Drawn(epoch, rates, lanes.Inputs(n_chunks, (), sgd.State(()), numbers, which, *shared))


def _n_steps(setting: Setting, group: Group) -> int:
    return len(setting.data.x) // group.batch_size


def _program(setting: Setting, group: Group, shape: _Shape) -> Callable[[lanes.Inputs], lanes.Outputs]:
    track = setting.trials[group.blocks[0][0][0]].config.track
    key = lanes.Program(group.mlp, group.nesterov, track, shape.n_lanes, group.is_shared, setting.devices)
    leaves, tree = jax.tree.flatten(_structs(setting, group, shape))
    return lanes.program(key, (tuple((leaf.shape, leaf.dtype) for leaf in leaves), tree))


def _structs(setting: Setting, group: Group, shape: _Shape) -> lanes.Inputs:
    """Return the shapes and types of a program's inputs."""
    n_rows, n_steps = shape.n_devices * shape.n_chunks, _n_steps(setting, group)
    start_of = jax.eval_shape(lambda: start(group.mlp, jax.random.key(0), 1.0))
    dtype = jax.tree.leaves(start_of)[0].dtype

    def of_lanes(*lengths: int) -> Any:
        return jax.ShapeDtypeStruct((n_rows, shape.n_lanes, *lengths), dtype)

    params, state = jax.tree.map(lambda leaf: of_lanes(*leaf.shape), start_of)
    return lanes.Inputs(
        jax.ShapeDtypeStruct((shape.n_devices,), np.int32),  # type: ignore[arg-type]
        params,
        state,
        Hyperparameters(of_lanes(n_steps), of_lanes(), of_lanes(), of_lanes() if group.has_clip else None),
        jax.ShapeDtypeStruct((n_rows, *[shape.n_lanes] * (not group.is_shared)), np.int32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((shape.n_orders, n_steps, group.batch_size), np.int32),  # type: ignore[arg-type]
        setting.examples,
        setting.test,
    )


class _Row(NamedTuple):
    """An epoch of a trial, its time left out, and whether it diverged."""

    epoch: Epoch
    diverged: bool


def _rows(
    setting: Setting, layout: _Layout, outputs: lanes.Outputs, running: Sequence[int], drawn: _Drawn
) -> list[_Row]:
    """Make of a program's outputs what `train` makes of its own."""
    losses = _flat(np.asarray(outputs.losses))
    statistics, measures = jax.tree.map(lambda leaf: _flat(np.asarray(leaf)), (outputs.statistics, outputs.measures))
    means = losses.mean(axis=-1, dtype=np.float64)
    finite = np.isfinite(losses).all(axis=-1)
    for leaf in jax.tree.leaves(outputs.params):
        finite &= _finite(leaf)
    rows = []
    for number in running:
        trial, place = setting.trials[number], layout.place[number]
        mlp, config = trial.mlp, trial.config
        diverged = not finite[place]
        score: Any = (None, None, None)
        if measures is not None and setting.test is not None and not diverged:
            score = evaluation_of(mlp, setting.test, jax.tree.map(lambda part, place=place: part[place], measures))
        tracked = epoch_statistics(config, jax.tree.map(lambda leaf, place=place: leaf[place], statistics))
        if "curvature" in config.track and not diverged:
            params = _Arrays(outputs.params).of(place)
            key = setting.keys[trial.seed]
            tracked["top_eigenvalue"] = curvature_after_epoch(mlp, params, setting.data, key)
        columns: dict[str, Any] = {"seconds": 0.0, **tracked}
        row = Epoch(drawn.epoch + 1, float(drawn.rates[number][0]), float(means[place]), *score, **columns)
        rows.append(_Row(row, diverged))
    return rows


def _flat(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])


def _finite(leaf: jax.Array) -> np.ndarray:
    """Tell which lanes of [D C, n, ...] are finite: [D C n]."""
    # Part by part: on the host the whole would be a copy.
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    parts = [_flat(np.asarray(shard.data)) for shard in shards]
    return np.concatenate([np.isfinite(part).reshape(len(part), -1).all(axis=1) for part in parts])
