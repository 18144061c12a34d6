"""Times, memory and the machine's peak, measured so that they can be compared.

Times of one run are comparable, times of two runs are not: whatever is compared takes turns, and the peak of the
machine is measured between the turns.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from math import nan
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "Clock",
    "Race",
    "Timed",
    "cores",
    "in_fresh_process",
    "in_turn",
    "is_installed",
    "median_ratio",
    "peak_memory",
    "race",
    "spread",
    "square_products",
    "torch_device",
    "turn_of",
]

Answer = TypeVar("Answer")


class Timed(NamedTuple):
    """All turns of one task: their wall times in seconds, and what each returned."""

    seconds: list[float]
    values: list[float]


def in_turn(tasks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timed]:
    """Run every task once, then every task once more, and so on, so that a disturbance of the machine disturbs all.

    A task returns when its work is finished, on the device too.
    """
    timed = {name: Timed([], []) for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = perf_counter()
            value = task()
            timed[name].seconds.append(perf_counter() - start)
            timed[name].values.append(value)
    return timed


class Clock:
    """A clock that starts now, and that also knows how busy other processes keep the machine.

    Threads of PyTorch and scikit-learn wait for each other in a busy loop. On a machine that others use, their epochs
    have taken ten times as long, and JAX's half as long again.
    """

    def __init__(self) -> None:
        """Start."""
        self._start, self._others = perf_counter(), _seconds_of_others()

    def cores_of_others(self) -> float:
        """Return how many cores other processes have kept busy, in the mean; nan where the system does not say."""
        return (_seconds_of_others() - self._others) / (perf_counter() - self._start)


def _seconds_of_others() -> float:
    """Return the processor time of all processes but this one and its children that have ended."""
    counters = Path("/proc/stat")
    if not counters.exists():
        return nan
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counters.read_text().split(maxsplit=9)[1:9])
    busy = user + nice + system + irq + softirq + steal  # the last: by other machines on the same processor
    children = os.times().children_user + os.times().children_system
    return busy / os.sysconf("SC_CLK_TCK") - process_time() - children


class Race(NamedTuple):
    """Tasks that took turns: the times of each, and how many cores other processes kept busy."""

    timed: dict[str, Timed]
    cores_of_others: float


def race(tasks: Mapping[str, Callable[[], float]], rounds: int) -> Race:
    """Run tasks in turn, as `in_turn` does, and watch what other processes take of the machine."""
    clock = Clock()
    return Race(in_turn(tasks, rounds), clock.cores_of_others())


def turn_of(call: Callable[[], object], seconds: float = 0.2) -> Callable[[], float]:
    """Return a task for `in_turn`: as many calls as last so long, at least one; it returns the seconds of one."""
    call()  # compiles, and starts the threads
    start = perf_counter()
    call()
    n_calls = max(1, round(seconds / (perf_counter() - start)))

    def turn() -> float:
        start = perf_counter()
        for _ in range(n_calls):
            call()
        return (perf_counter() - start) / n_calls

    return turn


def in_fresh_process(function: Callable[..., Answer], *arguments: Any, limit: float | None = None) -> Answer:
    """Call a module's function in a new interpreter, where nothing is imported or compiled yet.

    Parameters
    ----------
    function, *arguments
        What to call.
    limit
        Seconds after which the process is ended, with a TimeoutError here.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        if not receiver.poll(limit):
            process.kill()
            raise TimeoutError(f"longer than {limit:g} s")
        answer, error = receiver.recv()
    except EOFError:
        raise RuntimeError("the process ended without an answer") from None
    finally:
        process.join()
    if error is not None:
        raise error
    return answer


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((function(*arguments), None))
    except Exception as error:
        sender.send((None, error))


def is_installed(package: str) -> bool:
    return find_spec(package) is not None


def cores() -> int:
    """Return how many cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory(forget: bool = False) -> float:
    """Return the most main memory that this process has had so far, in MB; nan where the system does not say.

    `ru_maxrss` would not do: Linux hands a parent's peak on to its child.

    Parameters
    ----------
    forget
        Start anew: the peak is then that of what is still in use.
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
    """Return tasks that measure the machine's peak: each returns the GFLOP/s of a float32 n x n product, 2 n^3 a run.

    PyTorch has a library of its own for products, so the peak is the better of two, but only of the same device.
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
            tasks[f"{library}, {n} x {n}"] = partial(_rate, turn_of(run), 2e-9 * n**3)
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


def _rate(turn: Callable[[], float], gflop: float) -> float:
    return gflop / turn()


def spread(seconds: list[float]) -> tuple[str, str]:
    """Format times as their median, and their range.

    >>> spread([0.5, 0.25, 1.0])
    ('0.500', '0.250-1.000')
    """
    return f"{median(seconds):.3f}", f"{min(seconds):.3f}-{max(seconds):.3f}"


def median_ratio(seconds: list[float], reference: list[float]) -> float:
    """Return the median over the rounds of how many times as long as the reference a task took.

    >>> median_ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0])
    3.0
    """
    return median(one / other for one, other in zip(seconds, reference, strict=True))
