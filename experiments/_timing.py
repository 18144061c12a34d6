"""What the benchmarks share: epochs timed in turn, first calls in fresh processes, and what the machine can do.

Times of one run are comparable, times of two runs are not: so everything that is compared takes turns, and the
machine's own peak is measured between the turns.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from math import nan
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "Timed",
    "cores",
    "in_fresh_process",
    "in_turn",
    "is_installed",
    "peak_memory",
    "seconds_of_others",
    "spread",
    "square_products",
    "torch_device",
]

Answer = TypeVar("Answer")


class Timed(NamedTuple):
    """All turns of one task: their wall times, and what each returned."""

    seconds: list[float]
    values: list[float]


def in_turn(tasks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timed]:
    """Run every task once, then every task once more, and so on: whatever disturbs the machine disturbs all.

    A task has finished its work, on the device too, when it returns.
    """
    timed = {name: Timed([], []) for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = perf_counter()
            value = task()
            timed[name].seconds.append(perf_counter() - start)
            timed[name].values.append(value)
    return timed


def in_fresh_process(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Call a module's function in a new interpreter, where nothing is imported or compiled yet."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def is_installed(package: str) -> bool:
    return find_spec(package) is not None


def cores() -> int:
    """Count the cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds_of_others() -> float:
    """Return the processor time that all other processes have had so far; nan where the system does not say.

    Of use as a difference. PyTorch's and scikit-learn's threads wait for each other in a busy loop: where others
    want the cores too, their epochs have been seen to take ten times as long, and JAX's half as long again.
    """
    counters = Path("/proc/stat")
    if not counters.exists():
        return nan
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counters.read_text().split(maxsplit=9)[1:9])
    busy = user + nice + system + irq + softirq + steal  # the last: by other machines on the same processor
    return busy / os.sysconf("SC_CLK_TCK") - process_time()


def peak_memory(forget: bool = False) -> float:
    """Return the most main memory that this process has had so far, in MB; nan where the system does not say.

    Not `ru_maxrss`: Linux hands a parent's peak on to its child.

    Parameters
    ----------
    forget
        Begin anew: from here on, the peak is that of what is still in use now.
    """
    status = Path("/proc/self/status")
    if forget and status.exists():
        Path("/proc/self/clear_refs").write_text("5")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), nan)


def torch_device() -> Any:
    """Return the device that PyTorch should use, with PyTorch set up as JAX is: every core, and TF32 on a GPU."""
    import torch

    torch.set_num_threads(cores())
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def square_products(sizes: tuple[int, ...] = (1024, 2048)) -> dict[str, Callable[[], float]]:
    """Return tasks that measure the peak: each answers with the GFLOP/s of a float32 n x n product, 2 n^3 a run.

    PyTorch has its own library for products, so the peak is the better of two; but only of the same device.
    """
    import jax

    random = np.random.default_rng(0)
    product = jax.jit(lambda a: a @ a)
    with_torch = is_installed("torch") and (torch_device().type == "cpu") == (jax.default_backend() == "cpu")
    tasks: dict[str, Callable[[], float]] = {}
    for n in sizes:
        a = random.standard_normal((n, n), np.float32)
        runs = {"JAX": partial(_run_in_jax, product, jax.device_put(a))}
        if with_torch:
            runs["PyTorch"] = partial(_run_in_torch, a=_in_torch(a))
        for library, run in runs.items():
            run()  # compiles, and starts the threads
            tasks[f"{library}, {n} x {n}"] = partial(_rate, run, 2e-9 * n**3)
    return tasks


def _run_in_jax(product: Callable[[Any], Any], a: Any) -> None:
    product(a).block_until_ready()


def _in_torch(a: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(a).to(torch_device())


def _run_in_torch(a: Any) -> None:
    import torch

    torch.mm(a, a)
    if a.is_cuda:
        torch.cuda.synchronize()


def _rate(run: Callable[[], None], gflop: float, seconds: float = 0.2) -> float:
    start, runs = perf_counter(), 0
    while (elapsed := perf_counter() - start) < seconds:
        run()
        runs += 1
    return runs * gflop / elapsed


def spread(seconds: list[float]) -> tuple[str, str]:
    """Format times as their median, and their range.

    >>> spread([0.5, 0.25, 1.0])
    ('0.500', '0.250-1.000')
    """
    return f"{median(seconds):.3f}", f"{min(seconds):.3f}-{max(seconds):.3f}"
