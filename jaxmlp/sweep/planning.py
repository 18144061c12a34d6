"""The plan of a sweep, as a plain value: groups of blocks of chunks of lanes.

- A group is the trials with the same compiled values (sizes, activation, loss, batch size, ...): one program is
  compiled for it. All other numbers are traced, so any networks of a group can run side by side.
- A block is the trials of a group that are run and saved as a whole: a kill loses a block at most.
- A worker is a device, or a core of the CPU, on which a thread calls the program.
- A chunk is the trials of a block that one worker runs side by side. A worker runs its chunks one after another.
- A lane is a place in a chunk; its network is trained beside those of the other lanes.
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax

from jaxmlp.network import MLP
from jaxmlp.sweep.metrics import by_setting, counted
from jaxmlp.sweep.space import Trial, plain
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.evaluation import BLOCK

__all__ = ["Block", "Group", "Plan", "chunked", "free_main_memory", "make_plan", "n_slots"]

# A block's trial numbers, chunk by chunk.
Block: TypeAlias = tuple[tuple[int, ...], ...]


class _Machine(NamedTuple):
    """A device: how fast it is, for estimates only, and how many networks to run side by side."""

    flops: float  # operations a second in the matrix products of small networks
    seconds_a_step: float  # the cost of a step without its products
    most_lanes: int
    lane_bytes: int  # the bytes of parameters, over all lanes, that fit its fast memory
    alone_bytes: float  # a network with as many bytes of parameters keeps the device busy alone
    n_workers: int | None  # that lanes are chosen for, None if for those that there are


# Measured on two processors with ten networks: those with more than 8,000 parameters were up to a fifth faster alone
# than eight side by side, smaller ones up to a third slower.
_CPU = _Machine(flops=3e10, seconds_a_step=2e-5, most_lanes=8, lane_bytes=2**19, alone_bytes=2**15, n_workers=4)
_ACCELERATOR = _Machine(
    flops=3e12, seconds_a_step=1e-4, most_lanes=4096, lane_bytes=2**30, alone_bytes=math.inf, n_workers=None
)
# Short, because a kill or a Ctrl-C loses a block, and to show progress.
_BLOCK_SECONDS = 20.0
_SHARE_OF_MEMORY = 0.5  # of the memory that is free


@dataclass(frozen=True)
class Group:
    """The trials that one compiled program trains.

    Attributes
    ----------
    mlp, batch_size, epochs, nesterov, has_clip
        The values that all trials share; with `has_clip` each has its own `clip`.
    n_lanes, n_chunks, is_shared
        How many networks run side by side, how many chunks a block has room for, and whether the lanes of a chunk
        share a batch order; if so, a chunk has one seed and one fold.
    blocks
        Each is a tuple of chunks of at most `n_lanes` trial numbers.
    memory, seconds
        The estimated bytes on all devices, and the estimated time without compilation.
    """

    mlp: MLP
    batch_size: int
    epochs: int
    nesterov: bool
    has_clip: bool
    n_lanes: int
    n_chunks: int
    is_shared: bool
    blocks: tuple[Block, ...]
    memory: int
    seconds: float

    @property
    def n_trials(self) -> int:
        """Return how many trials there are in all blocks."""
        return sum(len(chunk) for block in self.blocks for chunk in block)

    def fitted_to(self, block: Block) -> "Group":
        """Return the group of one block alone, with no more room than it needs."""
        return replace(self, n_lanes=max(map(len, block)), n_chunks=len(block), blocks=(block,))


@dataclass(frozen=True)
class Plan:
    """What a sweep will run; `print` it.

    Attributes
    ----------
    groups
        One for each program.
    n_workers, platform
        The number of workers (devices, or cores of the CPU), and the devices' kind: "cpu", "gpu" or "tpu".
    """

    groups: tuple[Group, ...]
    n_workers: int
    platform: str

    @property
    def n_trials(self) -> int:
        """Return how many trials there are."""
        return sum(group.n_trials for group in self.groups)

    @property
    def memory(self) -> int:
        """Return the bytes that the largest group needs, estimated."""
        return max((group.memory for group in self.groups), default=0)

    @property
    def seconds(self) -> float:
        """Return the estimated time of all groups, without compilation."""
        return sum(group.seconds for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Plan":
        """Return the plan that `to_json` was called on."""
        groups = [Group(**plain(group) | {"mlp": MLP(**group["mlp"])}) for group in value["groups"]]
        return cls(tuple(groups), value["n_workers"], value["platform"])

    def __str__(self) -> str:
        """Return a line for each group, and one for all."""
        workers = counted(self.n_workers, "core" if self.platform == "cpu" else f"{self.platform} device")
        lines = [f"{counted(self.n_trials, 'trial')} in {counted(len(self.groups), 'program')} on {workers}"]
        for group in self.groups:
            sizes, hidden = "-".join(map(str, group.mlp.sizes)), ", ".join(sorted(set(group.mlp.activations[:-1])))
            lines.append(
                f"  {sizes}{f' {hidden}' if hidden else ''}, batch {group.batch_size}, {group.epochs} epochs: "
                f"{counted(group.n_trials, 'trial')} in {counted(len(group.blocks), 'block')}, "
                f"{group.n_lanes} side by side, about {_bytes(group.memory)} and {_seconds(group.seconds)}"
            )
        return "\n".join(lines)


def make_plan(
    trials: Sequence[Trial],
    n_examples: int,
    data_bytes: int,
    workers: Sequence[jax.Device],
    *,
    memory: int | None = None,
    lanes: int | None = None,
    trials_a_block: int | None = None,
    room: int = 0,
    whole_settings: bool = False,
    fold_sizes: Sequence[tuple[int, int]] | None = None,
    n_evaluated: int = 0,
) -> Plan:
    """Plan the trials, for `n_examples` training examples and `data_bytes` of data on each device.

    `memory`, `lanes` and `trials_a_block` are those of `jaxmlp.sweep.run`; a device is listed in `workers` once for
    each of its threads. A block has at least one chunk for each worker, even if that is more than `trials_a_block`. A
    group has room for `room` trials, though it may have fewer: plans with the same room share their programs. With
    `whole_settings` a block has all seeds of its settings, even if that is more than `trials_a_block`. `fold_sizes` are
    the numbers of rows that each fold trains on and validates on. `n_evaluated` is the number of validation or test
    examples, whichever are more. Raises a ValueError if no network of a group fits.
    """
    machine = _CPU if workers[0].platform == "cpu" else _ACCELERATOR
    memory = _free_memory(workers) if memory is None else memory
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        config = trial.config
        n_train, n_held = (n_examples, 0) if fold_sizes is None else fold_sizes[trial.order[1]]
        of_fold = n_train // config.batch_size, n_held
        key = (trial.mlp, config.batch_size, config.epochs, config.nesterov, config.clip is None, *of_fold)
        groups.setdefault(key, []).append(trial)
    limits = memory - data_bytes * len(set(workers)), len(workers), machine, lanes, trials_a_block, room, whole_settings
    made = tuple(
        _group(members, key[-2], key[-1], max(key[-1], n_evaluated), *limits) for key, members in groups.items()
    )
    return Plan(made, len(workers), workers[0].platform)


def chunked(trials: Iterable[Trial], n_lanes: int, is_shared: bool) -> list[tuple[int, ...]]:
    """Return chunks of at most `n_lanes` trial numbers, each with one seed and fold if its lanes share a batch order.

    >>> from jaxmlp import TrainConfig
    >>> some = [Trial(i, {}, MLP((2, 2)), TrainConfig(), seed=i % 2) for i in range(5)]
    >>> chunked(some, 2, is_shared=True)
    [(0, 2), (4,), (1, 3)]
    """
    rows: dict[tuple[int, int], list[int]] = {}
    for trial in trials:
        rows.setdefault(trial.order if is_shared else (0, 0), []).append(trial.number)
    return [tuple(row[i : i + n_lanes]) for row in rows.values() for i in range(0, len(row), n_lanes)]


def n_slots(n_chunks: int) -> int:
    """Return how many chunks a program has room for: a power of 2, so that sweeps of similar size share a program.

    There are at least two: XLA compiles the loop over a single chunk away, and may then round a sum otherwise.

    >>> [n_slots(n) for n in (1, 2, 3, 4, 5)]
    [2, 2, 4, 4, 8]
    """
    return max(2, 1 << (n_chunks - 1).bit_length())


def _group(
    trials: list[Trial],
    n_steps: int,
    n_held: int,
    n_evaluated: int,
    memory: int,
    n_workers: int,
    machine: _Machine,
    lanes: int | None,
    trials_a_block: int | None,
    room: int,
    whole_settings: bool,
) -> Group:
    mlp, config = trials[0].mlp, trials[0].config
    full = list(islice(cycle(trials), max(room, len(trials))))
    n_lanes, is_shared = (lanes, _is_shared(full, lanes)) if lanes else _lanes(full, n_workers, machine)
    kept_bytes, working_bytes = _bytes_of_lane(mlp, config, n_steps, n_evaluated, n_held, machine)
    order_bytes = 4 * n_steps * config.batch_size

    def bytes_of(n_lanes: int, n_chunks: int) -> int:
        n_orders = n_chunks * (1 if is_shared else n_lanes)
        return n_lanes * (n_chunks * kept_bytes + working_bytes) + n_orders * order_bytes

    if (of_one := n_workers * bytes_of(1, n_slots(1))) > memory:
        raise ValueError(
            f"sizes {mlp.sizes} with batch_size {config.batch_size} need about {_bytes(of_one)} "
            f"beside the data, and {_bytes(max(memory, 0))} may be used; try fewer devices or a smaller network"
        )
    while n_workers * bytes_of(n_lanes, n_slots(1)) > memory:
        n_lanes //= 2
    chunks, of_full = (chunked(each, n_lanes, is_shared) for each in (trials, full))
    n_lanes = max(map(len, of_full))
    # A step has three matrix products for each layer, but the first layer passes no delta back.
    products = [n_in * n_out for n_in, n_out in pairwise(mlp.sizes)]
    lane_seconds = 2 * config.batch_size * (3 * sum(products) - products[0]) / machine.flops
    chunk_seconds = config.epochs * n_steps * (n_lanes * lane_seconds + machine.seconds_a_step)
    by_memory = (memory // n_workers - bytes_of(n_lanes, 0)) // (bytes_of(n_lanes, 1) - bytes_of(n_lanes, 0))
    by_time = max(1, int(_BLOCK_SECONDS / chunk_seconds))
    wanted = len(of_full) if trials_a_block is None else trials_a_block // (n_lanes * n_workers)
    # A program has room for a power of 2 of chunks (see `n_slots`): take the largest one up to `by_memory`.
    a_worker = max(1, min(1 << (by_memory.bit_length() - 1), by_time, wanted))
    # Blocks of equal size, so that the last one is not nearly empty.
    n_blocks = math.ceil(len(of_full) / (a_worker * n_workers))
    a_worker = math.ceil(len(of_full) / n_blocks / n_workers)
    n_chunks = a_worker * n_workers
    if whole_settings:
        blocks = _blocks_of_settings(trials, n_lanes, is_shared, n_chunks)
        n_chunks = max(n_chunks, *map(len, blocks))
        a_worker = math.ceil(n_chunks / n_workers)
    else:
        # Setting by setting, so that the first blocks have all seeds of the first settings.
        place = {trial.number: i for i, setting in enumerate(by_setting(trials)) for trial in setting}
        chunks.sort(key=lambda chunk: place[chunk[0]])
        blocks = tuple(tuple(chunks[i : i + n_chunks]) for i in range(0, len(chunks), n_chunks))
    memory_of_all = n_workers * bytes_of(n_lanes, n_slots(a_worker))
    seconds = sum(math.ceil(len(block) / n_workers) for block in blocks) * chunk_seconds
    of_all = mlp, config.batch_size, config.epochs, config.nesterov, config.clip is not None
    return Group(*of_all, n_lanes, n_chunks, is_shared, blocks, memory_of_all, seconds)


def _bytes_of_lane(
    mlp: MLP, config: TrainConfig, n_steps: int, n_evaluated: int, n_held: int, machine: _Machine
) -> tuple[int, int]:
    """Return the bytes of a lane between epochs, and those that it needs in addition while it runs."""
    outputs, of_float = mlp.sizes[1:], jax.dtypes.canonicalize_dtype(float).itemsize
    # Parameters and last step, before and after; rates and losses; which examples were right; norms of all gradients.
    kept = 4 * mlp.n_parameters + 2 * n_steps + bool(config.track) * n_steps * (config.batch_size + 2)
    n_right = n_evaluated * (outputs[-1] if mlp.loss == "binary_cross_entropy" else 1)
    training = 4 * mlp.n_parameters + 2 * config.batch_size * sum(mlp.sizes)
    # Of a block, two layers, or on a CPU one before and after its activation. Then z and y of all examples: several
    # blocks are first stacked, and then joined.
    width = 2 * max(outputs) if machine is _CPU else max(map(sum, pairwise(outputs)), default=outputs[0])
    n_blocks = math.ceil(n_evaluated / BLOCK)
    n_rows = 3 * n_evaluated if n_blocks <= 1 else 2 * (n_blocks * BLOCK + n_evaluated)
    evaluating = 2 * mlp.n_parameters + width * min(BLOCK, n_evaluated) + outputs[-1] * n_rows
    return of_float * kept + n_right, of_float * max(training, evaluating + n_held * mlp.sizes[0])


def _blocks_of_settings(trials: Sequence[Trial], n_lanes: int, is_shared: bool, n_chunks: int) -> tuple[Block, ...]:
    """Return blocks of at most `n_chunks` chunks that split no setting; one that is too large has its own block."""
    parts: list[list[Trial]] = []
    counts: Counter[tuple[int, int]] = Counter()  # of each batch order
    for setting in by_setting(trials):
        of_setting = Counter(trial.order if is_shared else (0, 0) for trial in setting)
        if not parts or sum(math.ceil(n / n_lanes) for n in (counts + of_setting).values()) > n_chunks:
            parts.append([])
            counts = Counter()
        parts[-1] += setting
        counts += of_setting
    return tuple(tuple(chunked(part, n_lanes, is_shared)) for part in parts)


def _lanes(trials: list[Trial], n_workers: int, machine: _Machine) -> tuple[int, bool]:
    """Return how many networks to run side by side, as many as the fast memory holds but leaving no worker idle."""
    # The same for any number of cores, because a network's rounding depends on how many are beside it.
    n_workers = machine.n_workers or n_workers
    of_one = 4 * trials[0].mlp.n_parameters
    most = max(1, min(machine.most_lanes, machine.lane_bytes // of_one)) if of_one < machine.alone_bytes else 1
    most = 2 ** int(math.log2(min(most, math.ceil(len(trials) / n_workers))))
    is_shared = _is_shared(trials, most)
    if not is_shared:
        return most, False
    # The fewest lanes for which the busiest worker has the fewest chunks.
    candidates = range(1, most + 1)
    rounds = {lanes: math.ceil(len(chunked(trials, lanes, True)) / n_workers) for lanes in candidates}
    return min(lanes for lanes in candidates if rounds[lanes] == min(rounds.values())), True


def _is_shared(trials: list[Trial], n_lanes: int) -> bool:
    """Tell whether chunks of one seed each are full enough: a batch order for each lane costs less than double."""
    return len(chunked(trials, n_lanes, True)) <= 1.5 * math.ceil(len(trials) / n_lanes)


def _free_memory(workers: Sequence[jax.Device]) -> int:
    if workers[0].platform == "cpu":
        return int(_SHARE_OF_MEMORY * free_main_memory())
    stats = workers[0].memory_stats() or {}
    free = stats.get("bytes_limit", 2**33) - stats.get("bytes_in_use", 0)
    return int(_SHARE_OF_MEMORY * free * len(set(workers)))


def free_main_memory() -> int:
    """Return the free bytes of main memory; where the system does not say, half of all."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**32


def _bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def _seconds(n: float) -> str:
    return f"{n:.1f} s" if n < 100 else f"{n / 60:.0f} min" if n < 6000 else f"{n / 3600:.1f} h"
