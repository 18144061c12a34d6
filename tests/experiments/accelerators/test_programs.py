"""What every program of the library must be so that an accelerator can run it. Lowering needs none; nothing is run."""

import re
from functools import cache

import jax
import pytest
from jax import export

from experiments.accelerators.programs import batch_programs, block, data_programs, epoch, networks, private_epoch
from jaxmlp import MLP
from jaxmlp.training.config import TRACKED

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
MLP_ = MLP((5, 4, 3))
N = 2053  # more than a block of examples, and the size of nothing else
# jaxlib's own kernels for random numbers on GPUs, which XLA's compilers know.
KNOWN_CALLS = {"cu_threefry2x32_ffi", "hip_threefry2x32_ffi"}
# What may have a float64 result: a Python number that is then converted, which compilers fold.
UNCOMPUTED = {"constant", "broadcast_in_dim", "select", "call"}


def programs():
    """Return all programs; those of sweeps, whose floats are all float64 where JAX's default float is, apart."""
    blocks = {
        f"block, {lanes} lanes, {'one order' if shared else 'an order each'}": block(
            MLP_, 7, N, lanes, jax.devices()[0], shared=shared, n_validation=6
        )[0]
        for lanes in (2, 4)
        for shared in (True, False)
    }
    blocks["block, 1 lane"] = block(MLP_, 7, N, 1, jax.devices()[0])[0]
    epochs = {
        "plain": epoch(MLP_, 7, N),
        "clipped": epoch(MLP_, 7, N, clip=True),
        "weighted": epoch(MLP_, 7, N, weighted=True),
        "compact": epoch(MLP_, 7, N, compact=True),
        "tracked": epoch(MLP_, 7, N, clip=True, track=tuple(TRACKED)),
        "private": private_epoch(MLP_, 7, N),
        "networks": networks(MLP_, 7, N, 3),
    }
    return epochs | data_programs(MLP_, N) | batch_programs(MLP_, 6), blocks


PLAIN, BLOCKS = programs()


@cache
def exported(name):
    """Export a program for the four platforms, with 64-bit types on unless it is a sweep's."""
    program = (PLAIN | BLOCKS)[name]
    function = jax.jit(program.function, donate_argnums=program.donated)
    with jax.enable_x64(name in PLAIN):
        return export.export(function, platforms=PLATFORMS)(*program.arguments)


@pytest.fixture(params=[*PLAIN, *BLOCKS])
def program(request):
    return exported(request.param)


def made(program, type_):
    """Return the names of the operations whose result has a type, written as a regular expression."""
    found = re.findall(rf'^ *%\S+ = "?([\w.]+).*{type_}>(?: loc.*)?$', program.mlir_module(), re.MULTILINE)
    return {name.split(".")[-1] for name in found}


def test_a_program_is_the_same_text_for_every_platform(program):
    assert program.platforms == PLATFORMS


def test_a_program_calls_neither_the_host_nor_code_of_one_platform(program):
    assert set(re.findall(r"custom_call @(\w+)", program.mlir_module())) <= KNOWN_CALLS


def test_float32_stays_float32_where_float64_is_on(program):
    assert not [aval for aval in program.out_avals if aval.dtype == "float64"]
    assert made(program, "f64") <= UNCOMPUTED


def test_no_operation_makes_another_data_set(program):
    """The gather of a batch, or the slice of a block, reads the argument itself, in a loop or before it."""
    assert made(program, rf"tensor<(?:\d+x)?{N}x[25]xf\d+") <= {"while"}
