"""What a sweep will run, as a plain value: groups that are compiled once, blocks that run and are kept as a whole.

What is compiled into a program (sizes, activation, loss, batch size, ...) makes the groups; all other numbers are
traced, so that any networks of a group run side by side.
"""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax

from jaxmlp.network import MLP
from jaxmlp.sweep.space import Trial

__all__ = ["Block", "Group", "Plan", "chunked", "make_plan"]

# The trials of one program run, chunk by chunk; those of a chunk side by side.
Block: TypeAlias = tuple[tuple[int, ...], ...]


class _Machine(NamedTuple):
    """How fast a device is, for estimates only, and how many networks it likes side by side."""

    flops: float  # a second, in the products of small networks
    seconds_a_step: float  # what a step costs beside them
    most_lanes: int
    lane_bytes: int  # parameters of all lanes that its fast memory holds
    alone_bytes: float  # parameters of a network whose products alone keep it busy


# Of ten networks on two processors, those of more than 8,000 parameters were up to a fifth faster alone than eight side
# by side, and smaller ones up to a third slower.
_CPU = _Machine(flops=3e10, seconds_a_step=2e-5, most_lanes=8, lane_bytes=2**19, alone_bytes=2**15)
_ACCELERATOR = _Machine(flops=3e12, seconds_a_step=1e-4, most_lanes=4096, lane_bytes=2**30, alone_bytes=math.inf)
# A block is what a kill or a Ctrl-C loses at most, and short enough to be seen to move on.
_BLOCK_SECONDS = 20.0
# Of the memory that is free.
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class Group:
    """The trials that one compiled program trains.

    Attributes
    ----------
    mlp, batch_size, epochs, nesterov
        What they have in common.
    has_clip
        Whether gradients are clipped, each to its trial's own norm.
    n_lanes
        How many networks run side by side.
    is_shared
        Whether those share their batch order, as trials of one seed do.
    blocks
        What is run, and kept, as a whole: chunks of at most `n_lanes` trial numbers.
    memory
        Bytes on all devices, estimated.
    seconds
        Estimated, without compilation.
    """

    mlp: MLP
    batch_size: int
    epochs: int
    nesterov: bool
    has_clip: bool
    n_lanes: int
    is_shared: bool
    blocks: tuple[Block, ...]
    memory: int
    seconds: float

    @property
    def n_trials(self) -> int:
        """Return how many trials there are in all blocks."""
        return sum(len(chunk) for block in self.blocks for chunk in block)


@dataclass(frozen=True)
class Plan:
    """What a sweep will run; `print` it.

    Attributes
    ----------
    groups
        One for each program.
    n_devices, platform
        Where: "cpu", "gpu" or "tpu".
    """

    groups: tuple[Group, ...]
    n_devices: int
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
        """Make a plan of what `to_json` returned."""
        groups = [
            Group(
                **group
                | {
                    "mlp": MLP(**group["mlp"]),
                    "blocks": tuple(tuple(tuple(chunk) for chunk in block) for block in group["blocks"]),
                }
            )
            for group in value["groups"]
        ]
        return cls(tuple(groups), value["n_devices"], value["platform"])

    def __str__(self) -> str:
        """Return a line for each group, and one for all."""
        devices = f"{self.n_devices} {self.platform} device{'s' * (self.n_devices != 1)}"
        lines = [f"{_counted(self.n_trials, 'trial')} in {_counted(len(self.groups), 'program')} on {devices}"]
        for group in self.groups:
            sizes, hidden = "-".join(map(str, group.mlp.sizes)), ", ".join(sorted(set(group.mlp.activations[:-1])))
            lines.append(
                f"  {sizes}{f' {hidden}' if hidden else ''}, batch {group.batch_size}, {group.epochs} epochs: "
                f"{_counted(group.n_trials, 'trial')} in {_counted(len(group.blocks), 'block')}, "
                f"{group.n_lanes} side by side, about {_bytes(group.memory)} and {_seconds(group.seconds)}"
            )
        return "\n".join(lines)


def make_plan(
    trials: Sequence[Trial],
    n_examples: int,
    data_bytes: int,
    devices: Sequence[jax.Device],
    *,
    memory: int | None = None,
    lanes: int | None = None,
    trials_a_block: int | None = None,
) -> Plan:
    """Plan the trials.

    Parameters
    ----------
    trials
        Checked, see `jaxmlp.sweep.space.trials`.
    n_examples, data_bytes
        Of the training data; of all data that lie on each device.
    devices
        Where to run.
    memory
        Bytes that may be used; half of what is free if None.
    lanes
        How many networks run side by side; chosen if None.
    trials_a_block
        At most so many, but at least a chunk on each device; chosen if None.

    Raises
    ------
    ValueError
        If not even one network of a group fits the memory.
    """
    for name, value in (("memory", memory), ("lanes", lanes), ("trials_a_block", trials_a_block)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name} must be a whole number, 1 or larger, got {value!r}")
    machine = _CPU if devices[0].platform == "cpu" else _ACCELERATOR
    memory = _free_memory(devices) if memory is None else memory
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        config = trial.config
        key = (trial.mlp, config.batch_size, config.epochs, config.nesterov, config.clip is None)
        groups.setdefault(key, []).append(trial)
    room = memory - data_bytes * len(devices)
    made = [
        _group(members, n_examples, room, len(devices), machine, lanes, trials_a_block) for members in groups.values()
    ]
    return Plan(tuple(made), len(devices), devices[0].platform)


def chunked(trials: Iterable[Trial], n_lanes: int, is_shared: bool) -> list[tuple[int, ...]]:
    """Cut trials into chunks of at most `n_lanes`, each of one seed if it is to share its batch order.

    Examples
    --------
    >>> from jaxmlp import TrainConfig
    >>> some = [Trial(i, {}, MLP((2, 2)), TrainConfig(), seed=i % 2) for i in range(5)]
    >>> chunked(some, 2, is_shared=True)
    [(0, 2), (4,), (1, 3)]
    """
    rows: dict[int, list[int]] = {}
    for trial in trials:
        rows.setdefault(trial.seed if is_shared else 0, []).append(trial.number)
    return [tuple(row[i : i + n_lanes]) for row in rows.values() for i in range(0, len(row), n_lanes)]


def _group(
    trials: list[Trial],
    n_examples: int,
    memory: int,
    n_devices: int,
    machine: _Machine,
    lanes: int | None,
    trials_a_block: int | None,
) -> Group:
    first = trials[0]
    mlp, config = first.mlp, first.config
    n_steps = n_examples // config.batch_size
    n_lanes, is_shared = (lanes, _is_shared(trials, lanes)) if lanes else _lanes(trials, n_devices, machine)
    kept = _kept_bytes(mlp, n_steps)
    working = _working_bytes(mlp, config.batch_size)
    while n_lanes > 1 and n_devices * n_lanes * (kept + working) > memory:
        n_lanes //= 2
    if n_devices * n_lanes * (kept + working) > memory:
        raise ValueError(
            f"sizes {mlp.sizes} with batch_size {config.batch_size} need about {_bytes(n_devices * (kept + working))} "
            f"beside the data, and {_bytes(max(memory, 0))} may be used; try fewer devices or a smaller network"
        )
    chunks = chunked(trials, n_lanes, is_shared)
    lane_seconds = config.epochs * n_steps * _flops(mlp, config.batch_size) / machine.flops
    chunk_seconds = n_lanes * lane_seconds + config.epochs * n_steps * machine.seconds_a_step
    by_memory = (memory - n_devices * n_lanes * working) // (n_lanes * kept)
    by_time = n_devices * max(1, int(_BLOCK_SECONDS / chunk_seconds))
    wanted = len(chunks) if trials_a_block is None else trials_a_block // n_lanes
    # Blocks of one size, a multiple of the devices, that the last one is not nearly empty.
    n_blocks = math.ceil(len(chunks) / max(n_devices, min(by_memory, by_time, wanted)))
    a_block = math.ceil(len(chunks) / n_blocks / n_devices) * n_devices
    blocks = tuple(tuple(chunks[i : i + a_block]) for i in range(0, len(chunks), a_block))
    n_rows = n_devices * math.ceil(len(blocks[0]) / n_devices)
    return Group(
        mlp,
        config.batch_size,
        config.epochs,
        config.nesterov,
        config.clip is not None,
        n_lanes,
        is_shared,
        blocks,
        n_lanes * (n_rows * kept + n_devices * working),
        sum(math.ceil(len(block) / n_devices) for block in blocks) * chunk_seconds,
    )


def _lanes(trials: list[Trial], n_devices: int, machine: _Machine) -> tuple[int, bool]:
    """Choose how many networks run side by side: as many as the fast memory holds, but leave no device idle."""
    of_one = 4 * trials[0].mlp.n_parameters
    most = max(1, min(machine.most_lanes, machine.lane_bytes // of_one)) if of_one < machine.alone_bytes else 1
    most = 2 ** int(math.log2(min(most, math.ceil(len(trials) / n_devices))))
    is_shared = _is_shared(trials, most)
    if not is_shared:
        return most, False
    # The fewest lanes with which the busiest device has as few chunks to run.
    candidates = range(1, most + 1)
    rounds = {lanes: math.ceil(len(chunked(trials, lanes, True)) / n_devices) for lanes in candidates}
    return min(lanes for lanes in candidates if rounds[lanes] == min(rounds.values())), True


def _is_shared(trials: list[Trial], n_lanes: int) -> bool:
    """Tell whether chunks of one seed each are full enough: an order of its own makes a lane dearer, but not twice."""
    return len(chunked(trials, n_lanes, True)) <= 1.5 * math.ceil(len(trials) / n_lanes)


def _flops(mlp: MLP, batch_size: int) -> int:
    """Return the operations of one step's matrix products, three to a layer: the first has no delta to send back."""
    products = [n_in * n_out for n_in, n_out in pairwise(mlp.sizes)]
    return 2 * batch_size * (3 * sum(products) - products[0])


def _kept_bytes(mlp: MLP, n_steps: int) -> int:
    """Return the bytes of a lane between epochs: parameters and last step, before and after, and every loss."""
    return 4 * (4 * mlp.n_parameters + 2 * n_steps)


def _working_bytes(mlp: MLP, batch_size: int) -> int:
    """Return the bytes of a lane while it runs: parameters, step, gradient; z, y, delta of a batch; inputs, test."""
    return 4 * (5 * mlp.n_parameters + 4 * batch_size * sum(mlp.sizes) + 2048 * sum(mlp.sizes[1:]))


def _free_memory(devices: Sequence[jax.Device]) -> int:
    if devices[0].platform != "cpu":
        stats = devices[0].memory_stats() or {}
        free = stats.get("bytes_limit", 2**33) - stats.get("bytes_in_use", 0)
        return int(_SHARE_OF_MEMORY * free * len(devices))
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux: what the machine has, of which others use a part
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**32
    return int(_SHARE_OF_MEMORY * free)


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def _seconds(n: float) -> str:
    return f"{n:.1f} s" if n < 100 else f"{n / 60:.0f} min" if n < 6000 else f"{n / 3600:.1f} h"
