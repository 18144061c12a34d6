"""Accelerators that programs are compiled for without having one, and what their makers publish about them."""

import os
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding

from experiments.accelerators.programs import Program

__all__ = ["TARGETS", "Target", "compiled"]


class Target(NamedTuple):
    """A device, with figures from its datasheet: none of them is measured here."""

    platform: str
    topology: dict[str, str]
    bandwidth: float  # bytes of its main memory a second
    flops: float  # operations a second in matrix products, in JAX's default precision for float32
    precision: str  # of these products
    memory: float  # bytes
    source: str


# XLA's GpuTargetConfigProto of an H100 SXM.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 } threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132
  fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048
  shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3"
"""

TARGETS = {
    "H100": Target(
        "cuda",
        {"topology_name": "1x1x1", "topology": "1x1x1", "target_config": _H100},
        bandwidth=3.35e12,
        flops=494e12,
        precision="TF32",
        memory=80e9,
        source="NVIDIA H100 SXM datasheet, without sparsity",
    ),
    "TPU v5e": Target(
        "tpu",
        {"topology_name": "v5e:2x2"},
        bandwidth=819e9,
        flops=197e12,
        precision="bfloat16",
        memory=16e9,
        source="Google Cloud TPU v5e",
    ),
    "TPU v6e": Target(
        "tpu",
        {"topology_name": "v6e:2x2"},
        bandwidth=1640e9,
        flops=918e12,
        precision="bfloat16",
        memory=32e9,
        source="Google Cloud TPU v6e",
    ),
}


def device_of(target: Target) -> jax.Device:
    """Return a device that XLA compiles for, but that is not there."""
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    return topologies.get_topology_desc(platform=target.platform, **target.topology).devices[0]


def compiled(program: Program, device: jax.Device) -> Any:
    """Compile a program for a device."""
    sharding = SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), program.arguments
    )
    return jax.jit(program.function, donate_argnums=program.donated).lower(*arguments).compile()
