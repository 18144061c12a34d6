"""What compilers for devices that are not here make of a step; `pip install jaxmlp[accelerators]`."""

import warnings

import jax
import pytest

from experiments.accelerators.counts import step_counts
from experiments.accelerators.programs import block
from experiments.accelerators.targets import TARGETS, compiled, device_of
from jaxmlp import MLP

# Operations of a step of 64-32-10, batch 32, by networks side by side, as JAX 0.10.2 and libtpu 0.0.52 make them.
MOST = {"H100": {1: 15, 64: 18}, "TPU v5e": {1: 16, 64: 24}}
COMPILERS = {"H100": "jax_cuda12_plugin", "TPU v5e": "libtpu"}


@pytest.mark.parametrize("lanes", [1, 64])
@pytest.mark.parametrize("name", MOST)
def test_a_step_has_no_more_operations_than_before_and_its_memory_was_planned(name, lanes):
    pytest.importorskip(COMPILERS[name], reason=f"needs {COMPILERS[name]}: pip install jaxmlp[accelerators]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no such device
        program, group = block(MLP((64, 32, 10)), 32, 1437, lanes, device_of(TARGETS[name]))
        made = compiled(program, device_of(TARGETS[name]))
    assert step_counts(made.as_text(), 44).operations <= MOST[name][lanes]
    if name == "H100":  # a TPU adds padding, of up to 2 MB here
        memory = made.memory_analysis()
        taken = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        (inputs,) = program.arguments
        taken -= sum(4 * leaf.size for leaf in jax.tree.leaves(inputs.examples))
        assert taken <= group.memory <= 1.5 * taken
