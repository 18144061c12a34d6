"""The README keeps its word: its Python runs, and its commands exist."""

import re
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

from jaxmlp import backprop, outer
from jaxmlp.cli.arguments import parse

COMMANDS = ("train", "evaluate", "predict", "examples", "check", "sweep", "info")
README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_of_the_readme_runs_from_top_to_bottom_and_what_it_says_is_true(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "```py\n" not in README  # which this would leave out
    programs = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", README, re.DOTALL)
    if find_spec("optax") is None:
        programs = [each for each in programs if "import optax" not in each[0]]
    names = {"__name__": "model"}
    printed = []
    for program, output in programs:
        exec(compile(program, "model.py", "exec"), names)
        printed.append(capsys.readouterr().out)
        assert output.partition("\n\n")[0] in printed[-1]  # the digits are those of one machine
    assert float(printed[0].split()[0]) > 0.9  # the accuracy
    result = names["result"]
    assert result.guarantee.epsilon <= 8.0
    assert result.test.accuracy > 0.85
    # "every example's own gradient norm", against the gradient itself
    example = backprop(names["mlp"], names["trained"].params, names["x"][3], names["t"][3])
    gradient = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(outer(example.factors))])
    np.testing.assert_allclose(names["norms"][3], np.linalg.norm(gradient), rtol=1e-5)
    assert names["search"].best_score_ > 0.9
    assert not names["report"]
    assert names["results"].best().mean > 0.9
    assert (tmp_path / "rates.html").exists()


def test_every_command_of_the_readme_can_be_typed():
    commands = [command.split() for command in re.findall(rf"jaxmlp ((?:{'|'.join(COMMANDS)}) [^\n`]+)", README)]
    assert {words[0] for words in commands} == set(COMMANDS)
    for words in commands:
        assert parse(words).command.startswith(words[0])
