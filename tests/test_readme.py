"""The README keeps its word: its Python runs, and its commands exist."""

import re
from pathlib import Path

import jax
import numpy as np

from jaxmlp import backprop, outer
from jaxmlp.cli.arguments import parse

COMMANDS = ("train", "evaluate", "predict", "examples", "check", "sweep", "info")
README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_of_the_readme_runs_and_its_numbers_are_true(capsys):
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(programs) == 2
    names = {}
    for program in programs:
        exec(program, names)
        assert float(capsys.readouterr().out.split()[0]) > 0.9
    # "every example's own gradient norm", against the gradient itself
    example = backprop(names["mlp"], names["trained"].params, names["x"][3], names["t"][3])
    gradient = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(outer(example.factors))])
    np.testing.assert_allclose(names["norms"][3], np.linalg.norm(gradient), rtol=1e-5)


def test_every_command_of_the_readme_can_be_typed():
    commands = [command.split() for command in re.findall(rf"jaxmlp ((?:{'|'.join(COMMANDS)}) [^\n`]+)", README)]
    assert {words[0] for words in commands} == set(COMMANDS)
    for words in commands:
        assert parse(words).command.startswith(words[0])
