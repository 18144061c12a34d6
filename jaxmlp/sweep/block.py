"""A block of trials, trained together epoch by epoch: `jaxmlp.train`, with many networks in one program.

The program is that of `jaxmlp.sweep.lanes`; what happens between epochs is `jaxmlp.training`'s own. A trial that ends
early leaves its lane, and those that go on are packed together again.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
from chex import PRNGKey

from jaxmlp import sgd
from jaxmlp.config import learning_rates
from jaxmlp.evaluation import Examples, scores
from jaxmlp.history import Epoch, Trained
from jaxmlp.network import Params
from jaxmlp.sweep import lanes
from jaxmlp.sweep.plan import Block, Group, chunked
from jaxmlp.sweep.space import Trial
from jaxmlp.tracking import epoch_statistics
from jaxmlp.training import after_epoch, batch_order, curvature_after_epoch, epoch_numbers, start

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
    keys: Mapping[int, PRNGKey]
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
    shape = _Shape.of(setting, group.blocks)
    layout = _Layout.of(group.blocks[0], shape)
    start_of = jax.eval_shape(lambda: start(group.mlp, jax.random.key(0), 1.0))
    blank = jax.tree.map(lambda leaf: np.zeros((*layout.who.shape, *leaf.shape), leaf.dtype), start_of)
    _program(setting, group, shape, _inputs(setting, group, layout, shape, blank, 0))


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

    def __init__(self, tree: chex.ArrayTree) -> None:
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
    layout = _Layout.of(_packed(setting, group, running, shape), shape) if running else None
    arrays = _gathered(layout, trained) if layout else None
    while running and layout:
        began = time.perf_counter()
        epoch = len(trained[running[0]].history)
        inputs = _inputs(setting, group, layout, shape, arrays, epoch)
        outputs = _program(setting, group, shape, inputs)(inputs)
        rows = _rows(setting, layout, outputs, running, epoch)
        share = (time.perf_counter() - began) / len(running)
        ends = _Arrays((outputs.params, outputs.state))
        for number, row in zip(running, rows, strict=True):
            trained[number] = _after(
                trained[number], setting.trials[number], row, share, _Lane(ends, layout.place[number])
            )
        if callback:
            callback(trained)
        running = _running({number: trained[number] for number in running}, until)
        arrays = ends.tree
        packed = _packed(setting, group, running, shape)
        if running and math.ceil(len(packed) / shape.n_devices) < layout.n_chunks.max():
            before, layout = layout, _Layout.of(packed, shape)
            where = np.vectorize(before.place.__getitem__)(layout.who)
            arrays = jax.tree.map(lambda leaf, where=where: leaf[where], ends.flat)
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


def _inputs(setting: Setting, group: Group, layout: _Layout, shape: _Shape, arrays: Any, epoch: int) -> lanes.Inputs:
    n_examples = len(setting.data.x)
    seed_of = {number: setting.trials[number].seed for number in layout.place}
    seeds = sorted(set(seed_of.values()))
    orders = [batch_order(setting.keys[seed], epoch, n_examples, group.batch_size) for seed in seeds]
    orders += [orders[0]] * (shape.n_orders - len(orders))
    which = np.asarray(np.searchsorted(seeds, np.vectorize(seed_of.__getitem__)(layout.who)), np.int32)
    params, state = arrays
    dtype = jax.tree.leaves(params)[0].dtype
    n_steps = n_examples // group.batch_size
    numbers = sorted(layout.place)
    configs = [setting.trials[number].config for number in numbers]
    of_trials = [epoch_numbers(config, learning_rates(config, epoch, n_steps), dtype) for config in configs]
    where = np.searchsorted(numbers, layout.who)
    of_lanes = jax.tree.map(lambda *leaves: np.stack(leaves)[where], *of_trials)
    return lanes.put(
        setting.devices,
        lanes.Inputs(
            layout.n_chunks,
            params,
            state,
            of_lanes,
            which[:, 0] if group.is_shared else which,
            np.stack(orders),
            setting.examples,
            setting.test,
        ),
    )


def _program(
    setting: Setting, group: Group, shape: _Shape, inputs: lanes.Inputs
) -> Callable[[lanes.Inputs], lanes.Outputs]:
    track = setting.trials[group.blocks[0][0][0]].config.track
    key = lanes.Program(group.mlp, group.nesterov, track, shape.n_lanes, group.is_shared, setting.devices)
    leaves, tree = jax.tree.flatten(inputs)
    return lanes.program(key, (tuple((leaf.shape, leaf.dtype) for leaf in leaves), tree))


class _Row(NamedTuple):
    """An epoch of a trial, its time left out, and whether it diverged."""

    epoch: Epoch
    diverged: bool


def _rows(setting: Setting, layout: _Layout, outputs: lanes.Outputs, running: Sequence[int], epoch: int) -> list[_Row]:
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
            score = scores(mlp, setting.test, *(part[place] for part in measures))
        tracked = epoch_statistics(config, jax.tree.map(lambda leaf, place=place: leaf[place], statistics))
        if "curvature" in config.track and not diverged:
            params = _Arrays(outputs.params).of(place)
            key = setting.keys[trial.seed]
            tracked["top_eigenvalue"] = curvature_after_epoch(mlp, params, setting.data, key)
        rate = float(learning_rates(config, epoch, losses.shape[-1])[0])
        columns: dict[str, Any] = {"seconds": 0.0, **tracked}
        rows.append(_Row(Epoch(epoch + 1, rate, float(means[place]), *score, **columns), diverged))
    return rows


def _flat(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])


def _finite(leaf: jax.Array) -> np.ndarray:
    """Tell which lanes of [D C, n, ...] are finite: [D C n]."""
    # Part by part: on the host the whole would be a copy.
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    parts = [_flat(np.asarray(shard.data)) for shard in shards]
    return np.concatenate([np.isfinite(part).reshape(len(part), -1).all(axis=1) for part in parts])
