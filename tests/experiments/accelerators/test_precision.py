"""`jax.default_matmul_precision` holds for every product of every program, and in the threads of a sweep."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest

from experiments.accelerators.programs import block, data_programs, epoch, networks, private_epoch
from jaxmlp import MLP, Dataset, TrainConfig, sweep, train
from jaxmlp.sweep.workers import in_same_mode
from jaxmlp.training.epoch import step_gradient

MLP_ = MLP((5, 4, 3))
PROGRAMS = {
    "epoch": epoch(MLP_, 7, 21),
    "clipped": epoch(MLP_, 7, 21, clip=True),
    "private": private_epoch(MLP_, 7, 21),
    "networks": networks(MLP_, 7, 21, 3),
    "block": block(MLP_, 7, 21, 2, jax.devices()[0], n_validation=6)[0],
    "measures": data_programs(MLP_, 21)["measures"],
}
CONFIG = TrainConfig(epochs=1, batch_size=7)
DATA = Dataset(np.ones((21, 5), np.float32), np.arange(21) % 3)


def precisions(program) -> set[str]:
    """Return the precisions of all products in a program's text."""
    text = jax.jit(program.function).lower(*program.arguments).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) >= 2
    return {found[1] if (found := re.search(r"precision = \[(\w+), \1\]", line)) else "" for line in products}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("asked", "written"), [("bfloat16", "DEFAULT"), ("tensorfloat32", "HIGH"), ("float32", "HIGHEST")]
)
def test_every_product_of_a_program_has_the_precision_that_jax_is_set_to(name, asked, written):
    with jax.default_matmul_precision(asked):
        assert precisions(PROGRAMS[name]) == {written}


def test_another_thread_lowers_with_the_precision_of_this_one():
    with jax.default_matmul_precision("tensorfloat32"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_same_mode(precisions), PROGRAMS["block"]).result() == {"HIGH"}


@pytest.mark.parametrize("what", ["train", "sweep"])
def test_training_is_compiled_with_the_precision_of_its_caller(what, monkeypatch):
    seen = set()

    def watched(*args: Any) -> Any:
        config: Any = jax.config
        seen.add(config.jax_default_matmul_precision)
        return step_gradient(*args)

    monkeypatch.setattr("jaxmlp.training.epoch.step_gradient", watched)
    for precision in ("tensorfloat32", "float32"):
        seen.clear()
        with jax.default_matmul_precision(precision):
            if what == "train":
                train(MLP_, DATA, CONFIG, key=jax.random.key(0))
            else:
                sweep.run(sweep.grid(learning_rate=[0.1, 0.2]), DATA, CONFIG, mlp=MLP_)
        assert seen == {precision}
