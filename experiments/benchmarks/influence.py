"""What it costs to score every example of a data set, and to compute tangent kernels.

Claims, on 784-512-512-10: the four scores of 60,000 examples take at most the time of one epoch of training (batch 128)
and 300 MB beyond the data; the tangent kernel of 2,000 by 2,000 examples, every output's and the trace, at most 10 s
and 1 GB. Beside it, at 64 examples, where they still fit: the same kernel from plain Jacobians (`jax.jacrev`).

    python -m experiments.benchmarks.influence --data FOLDER

Times are medians of rounds in which all take turns, after one that does not count, but for the large kernel, which is
timed by itself with its compilation. Memory is by how much the peak of a fresh process grows over what it was with
data, parameters and JAX in it; compilation and the answer are included. Without `--data` (a folder of IDX files, such
as Fashion-MNIST) the data are random.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments._report import (
    MOST_CORES_OF_OTHERS,
    Verdict,
    environment,
    print_table,
    print_verdicts,
    write_json,
)
from experiments._timing import in_fresh_process, in_turn, peak_memory, seconds_of_others
from experiments.benchmarks._cases import load
from jaxmlp import MLP, Dataset, TrainConfig, forward, init, train
from jaxmlp.influence import scores, tangent_kernel

WIDE = MLP((784, 512, 512, 10))
LARGE, SMALL = 2000, 64  # examples on each side of a kernel


def kernel_of_jacobians(params: Any, x: Any) -> Any:
    """Return [n_L, N, N] from the Jacobians of all outputs: N n_L times the memory of the parameters."""
    jacobians = jax.vmap(jax.jacrev(lambda params, x: forward(WIDE, params, x).z[-1]), in_axes=(None, 0))(params, x)
    leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jacobians)]
    return sum(jnp.einsum("nkp,mkp->knm", leaf, leaf) for leaf in leaves)


def tasks(folder: Path | None) -> dict[str, Any]:
    """Return what is measured, by name, on data that lie in memory."""
    x, t = load(folder, quick=False)
    data = Dataset(*jax.device_put((x, t), may_alias=True))
    params = jax.block_until_ready(init(WIDE, jax.random.key(0)))
    config = TrainConfig(epochs=1, batch_size=128, learning_rate=0.01, schedule="constant")
    trained = None

    def epoch() -> None:
        nonlocal trained
        longer = config if trained is None else replace(config, epochs=len(trained.history) + 1)
        trained = train(WIDE, data, longer, key=jax.random.key(0), resume=trained)

    few, many = jnp.asarray(x[:SMALL]), jnp.asarray(x[:LARGE])
    jacobians = jax.jit(kernel_of_jacobians)
    return {
        "epoch": epoch,
        "scores": lambda: scores(WIDE, params, data),
        "small": lambda: tangent_kernel(WIDE, params, few).outputs,
        "jacobians": lambda: np.asarray(jacobians(params, few)),
        "large": lambda: tangent_kernel(WIDE, params, many),
    }


def memory_growth(name: str, folder: Path | None) -> float:
    """Return by how many MB a task raises the peak; for a process that has run nothing yet."""
    task = tasks(folder)[name]
    before = peak_memory(forget=True)
    task()
    return peak_memory() - before


def seconds_of(task: Any) -> float:
    start = perf_counter()
    task()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of IDX files; random data if left out")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="5 or more to be believed")
    options = parser.parse_args()
    all_tasks = tasks(options.data)
    large = all_tasks.pop("large")
    small, jacobians = all_tasks["small"](), all_tasks["jacobians"]()
    if not np.allclose(small, jacobians, rtol=1e-3, atol=1e-3 * np.abs(jacobians).max()):
        raise ValueError("the tangent kernel must agree with that of plain Jacobians to one part in a thousand")
    megabytes = {name: in_fresh_process(memory_growth, name, options.data) for name in (*all_tasks, "large")}
    for task in all_tasks.values():
        task()
    began, others = perf_counter(), seconds_of_others()
    timed = in_turn({name: partial(seconds_of, task) for name, task in all_tasks.items()}, options.rounds)
    seconds = {name: median(one.seconds) for name, one in timed.items()} | {"large": seconds_of(large)}
    busy = (seconds_of_others() - others) / (perf_counter() - began)
    titles = {
        "epoch": "an epoch of training, batch 128",
        "scores": "scores of all its examples",
        "small": f"tangent kernel, {SMALL} x {SMALL}",
        "jacobians": f"the same from plain Jacobians, {SMALL} x {SMALL}",
        "large": f"tangent kernel, {LARGE:,} x {LARGE:,}, compilation included",
    }
    rows = [(title, f"{seconds[name]:.3f}", f"{megabytes[name]:.0f}") for name, title in titles.items()]
    print_table("784-512-512-10", ("", "s", "MB more"), rows)
    share = seconds["scores"] / seconds["epoch"]
    claims = [
        ("scores in at most one epoch's time", f"{share:.2f}", share <= 1),
        ("scores in at most 300 MB beyond the data", f"{megabytes['scores']:.0f} MB", megabytes["scores"] <= 300),
        (f"kernel of {LARGE:,} x {LARGE:,} in at most 10 s", f"{seconds['large']:.1f} s", seconds["large"] <= 10),
        (
            f"kernel of {LARGE:,} x {LARGE:,} in at most 1 GB",
            f"{megabytes['large']:.0f} MB",
            megabytes["large"] <= 1000,
        ),
    ]
    print_verdicts([Verdict(*claim, not busy > MOST_CORES_OF_OTHERS) for claim in claims])
    results = {"seconds": seconds, "megabytes": megabytes, "cores_of_others": busy}
    write_json("influence", {"environment": environment("jaxmlp"), "results": results})


if __name__ == "__main__":
    main()
