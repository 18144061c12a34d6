"""A row of numbers for each program and target: what the compiler made, and the roofline that follows."""

import sys
import time
from itertools import pairwise
from typing import Any

import jax

from experiments.accelerators.counts import step_counts
from experiments.accelerators.programs import Program, batch_programs, block, data_programs, epoch, private_epoch
from experiments.accelerators.targets import TARGETS, Target, compiled, device_of
from jaxmlp import MLP
from jaxmlp.training.config import TRACKED

__all__ = ["rows_of"]

SMALL, MIDDLE, WIDE = MLP((64, 32, 10)), MLP((64, 128, 10)), MLP((784, 512, 512, 10))
LANES = (1, 64, 1024, 4096)
IMAGES = {64: 1437, 784: 60_000}
N_BATCH = 1024  # of programs without steps
# A thousand gradients are 2.7 GB; the others do all of their work in loops, whose passes are not counted.
LEFT_OUT = {"gradients", "influences", "importance"}


def rows_of(name: str) -> list[dict[str, Any]]:
    """Compile everything for a target; return a row of numbers for each program."""
    jax.config.update("jax_platforms", "cpu")  # so that JAX does not look for the device
    target = TARGETS[name]
    device = device_of(target)
    rows = []
    for given, batch_size, lanes in [(WIDE, 128, 1), *((mlp, 32, n) for mlp in (SMALL, MIDDLE) for n in LANES)]:
        program, group = block(given, batch_size, IMAGES[given.sizes[0]], lanes, device)
        about = {"program": "sweep", "sizes": given.sizes, "batch_size": batch_size, "lanes": lanes}
        rows.append(about | _row(target, program, device, given, batch_size, lanes) | {"planned_bytes": group.memory})
    n = IMAGES[64]
    epochs = {
        "epoch": epoch(SMALL, 32, n),
        "epoch, weighted": epoch(SMALL, 32, n, weighted=True),
        "epoch, clipped": epoch(SMALL, 32, n, clip=True),
        "epoch, tracked": epoch(SMALL, 32, n, clip=True, track=tuple(TRACKED)),
        "epoch, private": private_epoch(SMALL, 32, n),
        "epoch, 784-512-512-10": epoch(WIDE, 128, IMAGES[784]),
    }
    for label, program in epochs.items():
        mlp, batch_size = (WIDE, 128) if "784" in label else (SMALL, 32)
        about = {"program": label, "sizes": mlp.sizes, "batch_size": batch_size, "lanes": 1}
        rows.append(about | _row(target, program, device, mlp, batch_size, 1))
    for label, program in (data_programs(WIDE, N_BATCH) | batch_programs(WIDE, N_BATCH)).items():
        if label not in LEFT_OUT:
            about = {"program": label, "sizes": WIDE.sizes, "batch_size": N_BATCH, "lanes": 1}
            rows.append(about | _row(target, program, device))
    return [{"target": name} | row for row in rows]


def _row(
    target: Target, program: Program, device: Any, mlp: MLP | None = None, batch_size: int = 0, lanes: int = 1
) -> dict[str, Any]:
    """Compile a program; return its counts, of a step if it trains a network, and the roofline that follows."""
    start = time.perf_counter()
    n_steps = None if mlp is None else IMAGES[mlp.sizes[0]] // batch_size
    try:
        made = compiled(program, device)
        seconds = time.perf_counter() - start
        counts, memory = step_counts(made.as_text(), n_steps), made.memory_analysis()
    except jax.errors.JaxRuntimeError as error:  # such as too little memory, or a fault of the compiler: a result, too
        return {"error": str(error).splitlines()[0][:200]}
    row: dict[str, Any] = {
        "operations": counts.operations,
        "bytes": counts.bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "compile_seconds": seconds,
    }
    if mlp is not None:
        products = [n_in * n_out for n_in, n_out in pairwise(mlp.sizes)]
        flops = 2 * lanes * batch_size * (3 * sum(products) - products[0])
        row |= {"flops": flops, "least_bytes": 4 * (4 * lanes * mlp.n_parameters + batch_size * mlp.sizes[0])}
        row["bound_seconds"] = max(counts.bytes / target.bandwidth, flops / target.flops)
        row["bound_by"] = "bytes" if counts.bytes / target.bandwidth > flops / target.flops else "products"
    print(f"{target.platform}: {counts.operations} operations, {seconds:.1f} s", file=sys.stderr)
    return row
