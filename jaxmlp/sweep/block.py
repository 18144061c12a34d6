"""A block of trials, trained together epoch by epoch: `jaxmlp.train` for many networks in one program.

`jaxmlp.sweep.lanes` has the program; between epochs the functions of `jaxmlp.training` are called. A trial that ends
early leaves its lane, and the others are packed together. `planning` defines block, chunk and lane.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import sgd
from jaxmlp.network import MLP, Params
from jaxmlp.sweep import lanes
from jaxmlp.sweep.job import Job
from jaxmlp.sweep.planning import Block, Group, chunked, n_slots
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.workers import in_same_mode
from jaxmlp.training.config import TrainConfig, learning_rates
from jaxmlp.training.epoch import Hyperparameters, epoch_numbers, start
from jaxmlp.training.evaluation import evaluation_of
from jaxmlp.training.history import Epoch, Trained
from jaxmlp.training.loop import after_epoch, curvature_after_epoch
from jaxmlp.training.tracking import epoch_statistics

__all__ = ["Shape", "begin", "key_and_inputs", "prepare", "run_block", "tested"]


def begin(trials: Sequence[Trial]) -> dict[int, Trained]:
    """Return each trial at its start: the initial weights that `train` would draw."""

    @cache
    def drawn(mlp: MLP, seed: int, scale: float) -> Any:
        return jax.tree.map(np.asarray, start(mlp, jax.random.key(seed), scale))

    starts = {trial.number: drawn(trial.mlp, trial.seed, trial.config.init_scale) for trial in trials}
    return {number: Trained(params, state, (), params, 0, "running") for number, (params, state) in starts.items()}


def prepare(job: Job, group: Group) -> None:
    """Compile the program of a group's blocks before they run."""
    _programs(job, group, Shape.of(job, group))


def run_block(
    job: Job,
    group: Group,
    block: Block,
    trained: Mapping[int, Trained],
    until: int,
    callback: Callable[[Mapping[int, Trained]], Collection[int]],
) -> dict[int, Trained]:
    """Train a block's trials up to an epoch, or to their own ends; if memory runs out, one half after the other.

    All trials must be after the same epoch. `callback` is called after every epoch with the trials so far: their
    history and status are current, their arrays as they were last copied out of the lanes. It returns the numbers of
    running trials to stop.
    """
    try:
        return _run(job, group, block, trained, until, callback)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        halves = _halves(block)
        if not halves or not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
            raise
    results: dict[int, Trained] = {}
    for half in halves:
        of_half = {number: trained[number] for chunk in half for number in chunk}
        results |= run_block(job, group, half, of_half, until, callback)
    return results


def _halves(block: Block) -> list[Block]:
    """Cut a block in two: between chunks, or a single chunk between lanes."""
    if len(block) > 1:
        return [block[: len(block) // 2], block[len(block) // 2 :]]
    half = len(block[0]) // 2
    return [(block[0][:half],), (block[0][half:],)] if half else []


class Shape(NamedTuple):
    """The shape of a program's arrays: chunks of each worker, lanes of each chunk, and batch orders."""

    n_workers: int
    n_chunks: int
    n_lanes: int
    n_orders: int

    @classmethod
    def of(cls, job: Job, group: Group) -> "Shape":
        """Return the shape of a group's program."""
        n_chunks = n_slots(math.ceil(group.n_chunks / len(job.workers)))
        n_orders = len({job.trials[n].order for block in group.blocks for chunk in block for n in chunk})
        most = group.n_chunks * (1 if group.is_shared else group.n_lanes)
        return cls(len(job.workers), n_chunks, group.n_lanes, min(n_orders, most))


class _Layout(NamedTuple):
    """Which trial is in which lane of which chunk."""

    who: np.ndarray  # [D C, n] trial numbers, a worker's chunks one after another; empty lanes repeat a trial
    n_chunks: np.ndarray  # [D]: how many chunks of each worker have trials, first those of which some have
    place: dict[int, int]  # the index of each trial into `who`, flattened

    @classmethod
    def of(cls, block: Block, shape: Shape) -> "_Layout":
        """Deal the chunks out to the workers."""
        who = np.full((shape.n_workers * shape.n_chunks, shape.n_lanes), block[0][0])
        place: dict[int, int] = {}
        for i, chunk in enumerate(block):
            row = i % shape.n_workers * shape.n_chunks + i // shape.n_workers
            who[row] = [*chunk, *[chunk[0]] * (shape.n_lanes - len(chunk))]
            place |= {number: row * shape.n_lanes + lane for lane, number in enumerate(chunk)}
        counts = [len(range(worker, len(block), shape.n_workers)) for worker in range(shape.n_workers)]
        return cls(who, np.array(counts, np.int32), place)


class _Lanes:
    """Parameters and states of all lanes, [C, n, ...] of each worker; copied to the host when first asked for.

    `place` has each trial's index into the lanes, flattened.
    """

    def __init__(self, trees: Sequence[tuple[Params, sgd.State]], place: Mapping[int, int]) -> None:
        self._trees, self.place = trees, place

    @cached_property
    def on_host(self) -> Any:
        """Return the tree on the host, [D C n, ...]."""
        return _gathered(self._trees)

    def copied(self, number: int, trained: Trained) -> Trained:
        """Return a trial with a copy of its lane's arrays: a view would hold the arrays of all lanes."""
        params, state = jax.tree.map(lambda leaf: leaf[self.place[number]].copy(), self.on_host)
        is_best = trained.best_epoch == len(trained.history)
        return trained._replace(params=params if is_best else trained.params, state=state, last_params=params)


def _run(
    job: Job,
    group: Group,
    block: Block,
    starts: Mapping[int, Trained],
    until: int,
    callback: Callable[[Mapping[int, Trained]], Collection[int]],
) -> dict[int, Trained]:
    trained = dict(starts)
    running = _running(trained, until)
    if not running:
        return tested(job, group, trained)
    if block not in group.blocks:  # a half of one
        group = group.fitted_to(block)
    shape = Shape.of(job, group)
    programs = _programs(job, group, shape)
    layout = _Layout.of(_packed(job, group, running, shape), shape)
    numbers = sorted(running)
    trees = [(trained[number].last_params, trained[number].state) for number in numbers]
    where = np.searchsorted(numbers, layout.who)
    states = lanes.split(job.workers, jax.tree.map(lambda *leaves: np.stack(leaves)[where], *trees))
    drawn: _Drawn | None = _draw(job, group, shape, layout, len(trained[running[0]].history))
    after: _Lanes | None = None
    with ThreadPoolExecutor(shape.n_workers) as pool:
        while drawn is not None and running:
            began = time.perf_counter()
            working = [
                pool.submit(in_same_mode(_computed), program, inputs._replace(params=params, state=state))
                for program, inputs, (params, state), n in zip(
                    programs, drawn.inputs, states, layout.n_chunks, strict=False
                )
                if n
            ]
            # Draw while the workers compute.
            coming = _draw(job, group, shape, layout, drawn.epoch + 1) if drawn.epoch + 1 < until else None
            outputs = [each.result() for each in working]
            states = [(each.params, each.state) for each in outputs]
            before, after = after, _Lanes(states, layout.place)
            rows = _rows(job, after, outputs, running, drawn)
            seconds = (time.perf_counter() - began) / len(running)
            for number, (epoch, is_diverged) in zip(running, rows, strict=True):
                row = epoch._replace(seconds=seconds), is_diverged
                trained[number] = _after(number, trained[number], job.trials[number].config, row, before, after)
            for number in callback(trained):
                trained[number] = after.copied(number, trained[number])._replace(status="stopped")
            running = _running({number: trained[number] for number in running}, until)
            packed = _packed(job, group, running, shape)
            if coming and running and math.ceil(len(packed) / shape.n_workers) < layout.n_chunks.max():
                layout = _Layout.of(packed, shape)
                where = np.vectorize(after.place.__getitem__)(layout.who)
                states = lanes.split(job.workers, jax.tree.map(lambda leaf, at=where: leaf[at], after.on_host))
                coming = _draw(job, group, shape, layout, drawn.epoch + 1)
            drawn = coming
    going_on = [number for number in layout.place if trained[number].status == "running"]
    trained |= {number: after.copied(number, trained[number]) for number in going_on if after}
    return tested(job, group, trained)


def _computed(program: Callable[[lanes.Inputs], lanes.Outputs], inputs: lanes.Inputs) -> lanes.Outputs:
    return jax.block_until_ready(program(inputs))


def tested(job: Job, group: Group, trained: Mapping[int, Trained]) -> dict[int, Trained]:
    """Return trials with the test of those that have ended, as `train` makes it: once, with the kept parameters."""
    results = dict(trained)
    ended = [n for n, each in trained.items() if each.status in ("finished", "stopped") and each.test is None]
    if job.test is None or not ended:
        return results
    chunks = [ended[i : i + group.n_lanes] for i in range(0, len(ended), group.n_lanes)]
    measured = []
    for chunk in chunks:
        # A chunk that is not full repeats a trial, so that every chunk has the same program.
        filled = [trained[number].params for number in [*chunk, *chunk[:1] * (group.n_lanes - len(chunk))]]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
        measured.append(lanes.measure(group.mlp, stacked, job.test))
    for chunk, of_chunk in zip(chunks, jax.tree.map(np.asarray, measured), strict=True):
        for lane, number in enumerate(chunk):
            of_lane = jax.tree.map(lambda leaf, lane=lane: leaf[lane], of_chunk)
            results[number] = trained[number]._replace(test=evaluation_of(group.mlp, job.test, of_lane))
    return results


def _after(
    number: int, trained: Trained, config: TrainConfig, row: tuple[Epoch, bool], before: _Lanes | None, after: _Lanes
) -> Trained:
    """Return a trial after an epoch; copy its arrays out of its lane only if they are needed."""
    epoch, is_diverged = row
    if is_diverged:  # fall back to the epoch before
        return after_epoch(before.copied(number, trained) if before else trained, config, epoch, None)
    trained = after_epoch(trained, config, epoch, (trained.last_params, trained.state))
    is_kept = config.patience is not None and trained.best_epoch == len(trained.history)
    return after.copied(number, trained) if is_kept or trained.status != "running" else trained


def _running(trained: Mapping[int, Trained], until: int) -> list[int]:
    return [n for n, each in trained.items() if each.status == "running" and len(each.history) < until]


def _packed(job: Job, group: Group, running: Sequence[int], shape: Shape) -> Block:
    return tuple(chunked([job.trials[number] for number in running], shape.n_lanes, group.is_shared))


class _Drawn(NamedTuple):
    """An epoch's random orders and learning rates, drawn on the host."""

    epoch: int  # counted from 0
    rates: dict[int, np.ndarray]  # each trial's learning rates, [steps]
    inputs: list[lanes.Inputs]  # of each worker, without parameters and states


def _draw(job: Job, group: Group, shape: Shape, layout: _Layout, epoch: int) -> _Drawn:
    trials = {number: job.trials[number] for number in sorted(layout.place)}
    of_all = sorted({trial.order for trial in trials.values()})
    drawn = {order: job.batches(order, epoch, group.batch_size) for order in of_all}
    orders = [*drawn, *[next(iter(drawn))] * (shape.n_orders - len(drawn))]
    held = None if job.folds is None else np.stack([job.folds.validation[fold] for _, fold in orders])
    n_steps = len(drawn[orders[0]])
    rates = {number: learning_rates(trial.config, epoch, n_steps) for number, trial in trials.items()}
    of_trials = [epoch_numbers(trial.config, rates[number]) for number, trial in trials.items()]
    where, dtype = np.searchsorted(list(trials), layout.who), jax.numpy.result_type(float)
    place = {order: i for i, order in enumerate(drawn)}
    which = np.array([place[trial.order] for trial in trials.values()], np.int32)[where]

    def of_lanes(column: Sequence[Any]) -> Any:
        return None if column[0] is None else np.asarray(column, dtype)[where]

    # By column: a tree map over one tree for each trial takes four times as long.
    numbers = Hyperparameters(*map(of_lanes, zip(*of_trials, strict=True)))
    of_workers = lanes.split(job.workers, (layout.n_chunks, numbers, which[:, 0] if group.is_shared else which))
    of_orders = lanes.put(job.workers, (np.stack([drawn[order] for order in orders]), held))
    shared = zip(of_orders, job.examples, job.validation, strict=True)
    inputs = [
        lanes.Inputs(n_chunks, (), sgd.State(()), numbers, which, rows, rows_held, examples, validation)
        for (n_chunks, numbers, which), ((rows, rows_held), examples, validation) in zip(
            of_workers, shared, strict=True
        )
    ]
    return _Drawn(epoch, rates, inputs)


def _programs(job: Job, group: Group, shape: Shape) -> list[Callable[[lanes.Inputs], lanes.Outputs]]:
    """Return the program of each worker, which those of the same device share."""
    of_device = {worker: _program(job, group, shape, worker) for worker in dict.fromkeys(job.workers)}
    return [of_device[worker] for worker in job.workers]


def _program(job: Job, group: Group, shape: Shape, device: jax.Device) -> Callable[[lanes.Inputs], lanes.Outputs]:
    key, inputs = key_and_inputs(job, group, shape, device)
    leaves, tree = jax.tree.flatten(inputs)
    return lanes.program(key, (tuple((leaf.shape, leaf.dtype) for leaf in leaves), tree))


def key_and_inputs(job: Job, group: Group, shape: Shape, device: jax.Device) -> tuple[lanes.Program, lanes.Inputs]:
    """Return what is compiled into a group's program, and the shapes and dtypes of its arguments."""
    first = job.trials[group.blocks[0][0][0]]
    key = lanes.Program(group.mlp, group.nesterov, first.config.track, shape.n_lanes, group.is_shared, device)
    n_train, n_held = (len(job.data.x), 0) if job.folds is None else job.folds.sizes()[first.order[1]]
    n_steps = n_train // group.batch_size
    start_of = jax.eval_shape(lambda: start(group.mlp, jax.random.key(0), 1.0))
    dtype = jax.tree.leaves(start_of)[0].dtype

    def of_lanes(*lengths: int) -> Any:
        return jax.ShapeDtypeStruct((shape.n_chunks, shape.n_lanes, *lengths), dtype)

    params, state = jax.tree.map(lambda leaf: of_lanes(*leaf.shape), start_of)
    which = shape.n_chunks, *[shape.n_lanes] * (not group.is_shared)
    inputs = lanes.Inputs(
        jax.ShapeDtypeStruct((1,), np.int32),  # type: ignore[arg-type]
        params,
        state,
        Hyperparameters(of_lanes(n_steps), of_lanes(), of_lanes(), of_lanes() if group.has_clip else None),
        jax.ShapeDtypeStruct(which, np.int32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((shape.n_orders, n_steps, group.batch_size), np.int32),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((shape.n_orders, n_held), np.int32) if n_held else None,  # type: ignore[arg-type]
        job.examples[0],
        job.validation[0],
    )
    return key, inputs


def _rows(
    job: Job, after: _Lanes, outputs: Sequence[lanes.Outputs], running: Sequence[int], drawn: _Drawn
) -> list[tuple[Epoch, bool]]:
    """Return each running trial's row of history, as `train` makes it but without time, and if it diverged."""
    losses, statistics, measures = _gathered([(each.losses, each.statistics, each.measures) for each in outputs])
    means = losses.mean(axis=-1, dtype=np.float64)
    finite = np.isfinite(losses).all(axis=-1) & np.concatenate([_finite(each.params) for each in outputs])
    rows = []
    for number in running:
        trial, place = job.trials[number], after.place[number]
        diverged = not finite[place]
        score: Any = (None, None, None)
        if measures is not None and not diverged:
            validation: Any = job.validation_of(trial)
            score = evaluation_of(trial.mlp, validation, jax.tree.map(lambda part, place=place: part[place], measures))
        tracked = epoch_statistics(trial.config, jax.tree.map(lambda leaf, place=place: leaf[place], statistics))
        if "curvature" in trial.config.track and not diverged:
            params = jax.tree.map(lambda leaf, place=place: leaf[place], after.on_host[0])
            data, key = job.data_of(trial), job.keys[trial.seed]
            tracked["top_eigenvalue"] = curvature_after_epoch(trial.mlp, params, data, key)
        rate, mean = float(drawn.rates[number][0]), float(means[place])
        columns: dict[str, Any] = {"seconds": 0.0, **tracked}
        rows.append((Epoch(drawn.epoch + 1, rate, mean, *score, **columns), diverged))
    return rows


def _gathered(trees: Sequence[Any]) -> Any:
    """Return the workers' arrays [C, n, ...] on the host, as [D C n, ...]."""
    return jax.tree.map(lambda *leaves: np.concatenate([_flat(np.asarray(leaf)) for leaf in leaves]), *trees)


def _flat(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])


def _finite(params: Params) -> np.ndarray:
    """Tell which lanes of a worker, [C, n, ...], are finite: [C n]."""
    leaves = [_flat(np.asarray(leaf)) for leaf in jax.tree.leaves(params)]
    return np.logical_and.reduce([np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves])
