"""Which problems train together: groups that see the same batches, cut into parts for the threads."""

import math
import pickle
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.estimators._problem import Problem
from jaxmlp.sweep.workers import n_cores

__all__ = ["Part", "n_threads", "parts", "sharing_x"]


class _Machine(NamedTuple):
    """How many networks to train side by side: as many as `bytes_of_lanes` holds, but each larger one alone."""

    most_lanes: int
    bytes_of_lanes: int
    bytes_alone: float


# Measured on one core, 64-h-10 and batches of 200: as lanes, networks of 2 to 60 kB take 0.6 to 0.9 times as long as
# alone, if all fit 256 kB, and up to 1.3 times with more lanes; those of 80 kB are faster alone.
_CPU = _Machine(32, 2**18, 2**16)
_ACCELERATOR = _Machine(4096, 2**30, math.inf)
_PARTS_A_THREAD = 4  # so that no thread waits long for the last part of another


class Part(NamedTuple):
    """Problems that one thread trains, by their numbers, so many in a block of lanes."""

    numbers: list[int]
    n_lanes: int


def n_threads() -> int:
    """Return how many threads train: one a core of the CPU, or one that uses an accelerator."""
    return n_cores() if jax.default_backend() == "cpu" else 1


def sharing_x(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems with one object for all x that are equal: each fit of a search has its own copy of a fold."""
    found: dict[int, np.ndarray] = {}
    alike: dict[Any, list[np.ndarray]] = {}
    for x in (problem.x for problem in problems):
        if id(x) not in found:
            some = x.shape, _digest(x[:: max(1, len(x) // 8)])
            equal = [other for other in alike.setdefault(some, []) if np.array_equal(x, other)]
            found[id(x)] = equal[0] if equal else x
            alike[some] += [] if equal else [x]
    return [problem._replace(x=found[id(problem.x)]) for problem in problems]


def parts(problems: Sequence[Problem], n_threads: int) -> list[Part]:
    """Deal problems out to parts, the longest first. With one thread, problems that see the same batches are one part.

    Problems of one kind have blocks of equally many lanes, in all parts: these share a program.
    """
    kinds: dict[Hashable, dict[Hashable, list[int]]] = {}
    for number, problem in enumerate(problems):
        kinds.setdefault(_program(problem), {}).setdefault(_batches(problem), []).append(number)
    made = []
    longest = sum(map(_work, problems)) / (n_threads * _PARTS_A_THREAD)
    for groups in kinds.values():
        n_lanes = _n_lanes(problems, list(groups.values()), n_threads)
        for numbers in groups.values():
            # Problems that may run equally long share blocks, which then end as a whole.
            numbers.sort(key=lambda number: -problems[number].control.max_iter)
            n_blocks = math.ceil(len(numbers) / n_lanes)
            work = sum(_work(problems[number]) for number in numbers)
            n_parts = 1 if n_threads == 1 else min(n_blocks, math.ceil(work / longest))
            ends = np.arange(n_parts + 1) * n_blocks // n_parts * n_lanes
            made += [Part(numbers[a:b], n_lanes) for a, b in pairwise(ends)]
    return sorted(made, key=lambda part: -sum(_work(problems[number]) for number in part.numbers))


def _program(problem: Problem) -> Hashable:
    return problem.settings, problem.clip is None


def _batches(problem: Problem) -> Hashable:
    """Return what problems must have in common to see the same batches of the same data."""
    order = pickle.dumps(problem.random_state.get_state(legacy=False)) if problem.settings.shuffle else None
    rows = problem.validation and _digest(problem.validation.rows)
    seen = map(_digest, (problem.targets, problem.rows, problem.weights))
    expansion = tuple(map(_digest, problem.expansion or ()))
    return id(problem.x), order, rows, *seen, *expansion


def _n_lanes(problems: Sequence[Problem], groups: list[list[int]], n_threads: int) -> int:
    """Return how many lanes the blocks of some groups have: few enough to be fast, and no thread without a block."""
    first = problems[groups[0][0]].settings
    machine = _CPU if jax.default_backend() == "cpu" else _ACCELERATOR
    n_bytes = first.mlp.n_parameters * np.dtype(first.dtype).itemsize
    most = min(machine.most_lanes, machine.bytes_of_lanes // n_bytes) if n_bytes <= machine.bytes_alone else 1
    largest = max(map(len, groups))
    most = max(1, min(most, largest, math.ceil(sum(map(len, groups)) / n_threads)))
    return math.ceil(largest / math.ceil(largest / most))


def _work(problem: Problem) -> float:
    n_rows = len(problem.x if problem.rows is None else problem.rows)
    return float(problem.control.max_iter * n_rows * problem.settings.mlp.n_parameters)


def _digest(array: Any) -> Any:
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    return array.shape, array.dtype.str, blake2b(array.data, digest_size=16).digest()
