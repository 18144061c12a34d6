"""The cost of scoring every example of a data set, and of tangent kernels.

Claims, on 784-512-512-10: the four scores of 60,000 examples take at most the time of one epoch of training (batch 128)
and 300 MB beyond the data; the tangent kernel of 2,000 by 2,000 examples, every output's and the trace, at most 10 s
and 1 GB. Beside it, at 64 examples, where they still fit: the same kernel from plain Jacobians (`jax.jacrev`).

    python -m experiments.benchmarks.influence --data FOLDER

Times are medians of rounds in which all take turns, after one that does not count. The large kernel is timed by itself,
with its compilation. Memory is the growth of a fresh process's peak over data, parameters and JAX; compilation and the
result are included. Without `--data` (a folder of IDX files, such
as Fashion-MNIST) the data are random.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments._report import print_table
from experiments._timing import Clock, in_fresh_process, in_turn, peak_memory
from experiments.benchmarks._benchmark import Verdict, begin, busy, finish, is_disturbed, options, parser
from experiments.benchmarks._cases import epoch_by_epoch, load
from jaxmlp import MLP, Dataset, TrainConfig, forward, init
from jaxmlp.influence import scores, tangent_kernel

WIDE = MLP((784, 512, 512, 10))
LARGE, SMALL = 2000, 64  # examples on each side of a kernel


def kernel_of_jacobians(params: Any, x: Any) -> Any:
    """Return [n_L, N, N] from the Jacobians of all outputs: N n_L times the memory of the parameters."""
    jacobians = jax.vmap(jax.jacrev(lambda params, x: forward(WIDE, params, x).z[-1]), in_axes=(None, 0))(params, x)
    leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jacobians)]
    return sum(jnp.einsum("nkp,mkp->knm", leaf, leaf) for leaf in leaves)


Task = Callable[[], Any]


def tasks(folder: Path | None, quick: bool) -> dict[str, Task]:
    """Return the measured tasks by name, on data in memory."""
    x, t = load(folder, quick)
    data = Dataset(*jax.device_put((x, t), may_alias=True))
    params = jax.block_until_ready(init(WIDE, jax.random.key(0)))
    config = TrainConfig(batch_size=128, learning_rate=0.01, schedule="constant")
    few, many = jnp.asarray(x[:SMALL]), jnp.asarray(x[:LARGE])
    jacobians = jax.jit(kernel_of_jacobians)
    return {
        "epoch": epoch_by_epoch(WIDE, data, config),
        "scores": lambda: scores(WIDE, params, data),
        "small": lambda: tangent_kernel(WIDE, params, few).outputs,
        "jacobians": lambda: np.asarray(jacobians(params, few)),
        "large": lambda: tangent_kernel(WIDE, params, many),
    }


def memory_growth(name: str, folder: Path | None, quick: bool) -> float:
    """Return the growth of the peak by a task in MB, for a process that has run nothing yet."""
    task = tasks(folder, quick)[name]
    before = peak_memory(forget=True)
    task()
    return peak_memory() - before


def seconds_of(task: Task) -> float:
    start = perf_counter()
    task()
    return perf_counter() - start


def check(small: np.ndarray, jacobians: np.ndarray) -> None:
    """Raise a `ValueError` if the tangent kernel is not that of plain Jacobians."""
    if not np.allclose(small, jacobians, rtol=1e-3, atol=1e-3 * np.abs(jacobians).max()):
        raise ValueError("the tangent kernel must agree with that of plain Jacobians to one part in a thousand")


def measure(all_tasks: dict[str, Task], rounds: int) -> tuple[dict[str, float], float]:
    """Return the seconds of each task, and how many cores other processes kept busy meanwhile."""
    in_rounds = {name: partial(seconds_of, task) for name, task in all_tasks.items() if name != "large"}
    for task in in_rounds.values():
        task()
    clock = Clock()
    seconds = {name: median(one.values) for name, one in in_turn(in_rounds, rounds).items()}
    return seconds | {"large": seconds_of(all_tasks["large"])}, clock.cores_of_others()


TITLES = {
    "epoch": "an epoch of training, batch 128",
    "scores": "scores of all its examples",
    "small": f"tangent kernel, {SMALL} x {SMALL}",
    "jacobians": f"the same from plain Jacobians, {SMALL} x {SMALL}",
    "large": f"tangent kernel, {LARGE:,} x {LARGE:,}, compilation included",
}


def verdicts(seconds: dict[str, float], megabytes: dict[str, float], undisturbed: bool) -> list[Verdict]:
    """Judge the claims."""
    share, large = seconds["scores"] / seconds["epoch"], f"kernel of {LARGE:,} x {LARGE:,}"
    claims = [
        ("scores in at most one epoch's time", f"{share:.2f}", share <= 1),
        ("scores in at most 300 MB beyond the data", f"{megabytes['scores']:.0f} MB", megabytes["scores"] <= 300),
        (f"{large} in at most 10 s", f"{seconds['large']:.1f} s", seconds["large"] <= 10),
        (f"{large} in at most 1 GB", f"{megabytes['large']:.0f} MB", megabytes["large"] <= 1000),
    ]
    return [Verdict(*claim, undisturbed) for claim in claims]


def main() -> None:
    quick = "6,400 examples, two rounds"
    asked = options(parser("influence", __doc__, quick=quick, rounds=7, data="random data"))
    about, all_tasks = begin(asked), tasks(asked.data, asked.quick)
    check(all_tasks["small"](), all_tasks["jacobians"]())
    megabytes = {name: in_fresh_process(memory_growth, name, asked.data, asked.quick) for name in TITLES}
    seconds, cores_of_others = measure(all_tasks, asked.rounds)
    rows = [(title, f"{seconds[name]:.3f}", f"{megabytes[name]:.0f}") for name, title in TITLES.items()]
    print_table("784-512-512-10", ("", "s", "MB more"), rows)
    print(busy(cores_of_others))
    results = {"seconds": seconds, "megabytes": megabytes, "cores_of_others": cores_of_others}
    judged = verdicts(seconds, megabytes, not is_disturbed(cores_of_others))
    finish(asked, about, judged, results=results)


if __name__ == "__main__":
    main()
