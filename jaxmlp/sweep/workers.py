"""The workers of a sweep: the devices that programs are called on, each worker in a thread of its own."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

__all__ = ["all_workers", "in_same_mode", "machine_of", "n_cores"]


def all_workers() -> tuple[jax.Device, ...]:
    """Return a worker for each local accelerator, or one for each core of the CPU that this process may use.

    The CPU is one device, listed once a core: a program that is called from several threads runs on as many cores.
    """
    devices = jax.local_devices()
    return (devices[0],) * n_cores() if devices[0].platform == "cpu" else tuple(devices)


def n_cores() -> int:
    """Return how many cores this process may use: its affinity, the quota of its container, and OMP_NUM_THREADS."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    limits = [n or 1, _quota(), int(allowed) if allowed.isdecimal() else 0]
    return min(limit for limit in limits if limit)


def _quota() -> int:
    """Return how many cores the container may use, 0 if there is no limit."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))  # the first word is "max" if there is no limit
    return 0


def machine_of(workers: Sequence[jax.Device]) -> dict[str, Any]:
    """Return what a network's last digits may depend on: JAX's version, and the kind and number of devices or cores."""
    return {"jax": jax.__version__, "kind": workers[0].device_kind, "number": len(workers)}


def in_same_mode(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let another thread call a function as this one would: JAX's context managers hold for their own thread only."""
    config: Any = jax.config
    x64, without_jit = config.jax_enable_x64, config.jax_disable_jit
    precision, device = config.jax_default_matmul_precision, config.jax_default_device

    def called(*args: Any) -> Any:
        with (
            jax.enable_x64(x64),
            jax.disable_jit(without_jit),
            jax.default_matmul_precision(precision),
            jax.default_device(device),
        ):
            return function(*args)

    return called
