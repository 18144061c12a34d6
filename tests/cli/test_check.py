"""`jaxmlp check`: the library, a trained network, a function of the user; what it prints, writes and refuses."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from jaxmlp import load
from jaxmlp.checking import check_gradient
from jaxmlp.data import read
from jaxmlp.equivalences import Equivalence, of_library

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

MODULE = """
import jax
import jax.numpy as jnp
print("imported")
def loss(w, x): return ((x @ w) ** 2).sum()
def gradient(w, x): return 2 * x.T @ (x @ w)
def half(w, x): return x.T @ (x @ w)
def example(): return jnp.array([1.0, 2.0]), jnp.array([[1.0, -1.0], [0.5, 2.0]])
at = example()
z = jnp.array([1.0, 2.0])
number = 5
def raises(w, x): raise KeyError("of my own")
def raises_below(w, x): return raises(w, x)
@jax.custom_vjp
def sine(z): return jnp.sin(z)
sine.defvjp(lambda z: (sine(z), z), lambda z, c: (-jnp.cos(z) * c,))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's in the folder where the program runs."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import jax\nx = 1 / 0\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("mine", "broken", "leaving"):
        sys.modules.pop(name, None)


def test_a_right_gradient_is_right_and_a_function_may_give_its_arguments(jaxmlp, mine):
    done = jaxmlp("check", "mine:loss", "--at", "mine:example", "--gradient", "mine:gradient", "--no-cache")
    assert (done.code, done.out.splitlines()[0]) == (0, "gradient of loss: RIGHT")
    assert "imported" not in done.out  # what the user's code prints is no part of the answer


def test_a_wrong_gradient_is_reported_and_drawn(jaxmlp, mine):
    argv = ("--at", "mine:at", "--gradient", "mine:half", "--plot", "a.png", "--no-cache")
    done = jaxmlp("check", "mine:loss", *argv)
    assert done.code == 1
    assert "WRONG" in done.out
    assert "0.5 times" in done.out
    values = json.loads(jaxmlp("check", "mine:loss", *argv, "--json").out)
    assert (values["verdict"], values["plot"]) == ("wrong", "a.png")
    assert values["leaves"][0]["name"] == "w"  # as the function itself calls it
    assert (mine / "a.png").read_bytes()[1:4] == b"PNG"


def test_a_custom_rule_is_checked_and_json_prints_nothing_else(jaxmlp, mine):
    done = jaxmlp("check", "mine:sine", "--at", "mine:z", "--json", "--plot", "a.png", "--no-cache")
    assert done.code == 1
    assert json.loads(done.out)["subject"] == "custom rules of sine"
    assert (mine / "a.png").exists()


# The command line, and the words that the error line must have.
REFUSED = {
    "a mistyped function": (["mine:los", "--at", "mine:at"], ["'los'", "did you mean 'loss'"]),
    "a mistyped module": (["mien:loss", "--at", "mine:at"], ["'mien'", "did you mean 'mine'"]),
    "no arguments": (["mine:loss"], ["--at"]),
    "no module": (["mine:loss", "--at", "at"], ["--at", "module:name", "'at'"]),
    "no function": (["mine:number", "--at", "mine:at"], ["mine:number", "int"]),
    "too few arguments": (["mine:loss", "--at", "mine:z"], ["(w, x)", "gives 1"]),
    "no rule": (["mine:loss", "--at", "mine:at"], ["custom_vjp"]),
    "integers": (["mine:sine", "--at", "mine:number"], ["floating"]),
    "arguments of nothing": (["--at", "mine:at"], ["--at", "MODULE:FUNCTION"]),
    "a model alone": (["run"], ["MODEL SOURCE"]),
    "a column of nothing": (["--target", "kind"], ["--target"]),
    "an empty name": ([""], ["empty"]),
    "a missing model": (["no.safetensors", "iris"], ["no.safetensors"]),
    "a picture of another kind": (["--plot", "a.pdf"], ["a.pdf", "PNG"]),
    "a picture nowhere": (["--plot", "no/a.png"], ["no/a.png", "no folder"]),
    "a negative seed": (["--seed", "-1"], ["--seed", "-1"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line(jaxmlp, mine, name):
    argv, words = REFUSED[name]
    done = jaxmlp("check", *argv, "--no-cache")
    assert (done.code, done.out) == (2, "")
    lines = [line for line in done.err.splitlines() if line != "imported"]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("mine:raises", "mine.py:12: KeyError: 'of my own'"),
        ("mine:raises_below", "mine.py:12: KeyError: 'of my own'"),
        ("broken:loss", "broken.py:2: ZeroDivisionError: division by zero"),
        ("leaving:loss", "leaving.py:1: SystemExit: 0"),
    ],
)
def test_an_exception_of_the_users_code_is_shown_in_a_line_of_its_own(jaxmlp, mine, what, line):
    done = jaxmlp("check", what, "--at", "mine:at", "--no-cache")
    assert (done.code, done.out) == (2, "")
    own, ours = [text for text in done.err.splitlines() if text != "imported"]
    assert own.endswith(line)
    assert own.startswith(str(mine))
    assert ours.startswith(f"jaxmlp check: error: {what.partition(':')[0]}")


@pytest.fixture
def few_rows(monkeypatch):
    """A table of two rows, the first of which can be wrong or undecided."""

    def of(verdict):
        first, second = (row for row in of_library() if row.name.startswith("identity, "))

        def gradient(at):
            return {name: 2 * value for name, value in first.claim.gradient(at).items()}

        def check():
            report = check_gradient(*first.claim._replace(gradient=gradient))
            assert report.verdict == "wrong"
            return dataclasses.replace(report, verdict=verdict)

        if verdict != "right":
            first = Equivalence(first.group, first.name, check, first.claim)
        monkeypatch.setattr("jaxmlp.cli.check.of_library", lambda seed: iter([first, second]))
        return first.name, second.name

    return of


def test_a_library_that_is_right_ends_in_a_table(jaxmlp, few_rows):
    _, last = few_rows("right")
    done = jaxmlp("check", "--no-cache", "--plot", "a.png")
    assert done.code == 0
    assert "2 checks: all right" in done.out
    assert done.out.count(" right ") == 2
    assert f"drawn in a.png: {last}" in done.out
    assert "check 1/2" in done.err


@pytest.mark.parametrize("verdict", ["wrong", "undecided"])
def test_a_library_that_is_not_right_ends_in_the_report_and_its_picture(jaxmlp, few_rows, tmp_path, verdict):
    failed, _ = few_rows(verdict)
    done = jaxmlp("check", "--no-cache", "--json", "--plot", "a.png")
    assert (done.code, done.err) == (1, "")
    values = json.loads(done.out)
    assert (values["checks"], values["failed"]) == (2, 1)
    assert [row["verdict"] for row in values["rows"]] == [verdict, "right"]
    assert values["drawn"] == failed
    assert (tmp_path / "a.png").exists()
    done = jaxmlp("check", "--no-cache")
    assert done.code == 1
    assert f"2 checks: 1 {verdict}\n" in done.out
    assert f": {verdict.upper()}\n" in done.out


def test_a_trained_network_is_right_on_its_own_data_at_its_own_weights(jaxmlp):
    jaxmlp("train", "iris", "--epochs", "1", "--hidden", "none", "--out", "run", "--quiet")
    done = jaxmlp("check", "run", "iris", "--no-cache", "--json")
    assert done.code == 0
    rows = json.loads(done.out)["rows"]
    assert {row["group"] for row in rows} == {"networks", "statistics"}
    # Of iris a check takes all 150 examples, so the gradient of their mean loss has a closed form.
    model, source = load("run/model.safetensors"), read("iris")
    data = model.encoding.encode(source.x, source.t, source.class_names)
    x, (layer,) = np.asarray(data.x, np.float64), model.networks[0].params
    y = np.exp(x @ np.asarray(layer.w, np.float64).T + np.asarray(layer.b, np.float64))
    delta = y / y.sum(axis=1, keepdims=True) - np.eye(3)[np.asarray(data.t)]
    expected = {"params[0].w": delta.T @ x / 150, "params[0].b": delta.mean(axis=0)}
    assert {leaf["name"] for leaf in rows[0]["report"]["leaves"]} == expected.keys()
    for leaf in rows[0]["report"]["leaves"]:
        # Rounding in float64 is all that differs.
        assert leaf["given"] == pytest.approx(expected[leaf["name"]][tuple(leaf["at"])], rel=1e-9)
