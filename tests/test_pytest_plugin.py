"""pytest shows the whole report of a wrong gradient, once, for each form of assert."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

BEGINNING = """
import jax.numpy as jnp
from jaxmlp.checking import gradient_checker
w = jnp.arange(1.0, 4.0)
check = gradient_checker(lambda w: (w**2).sum(), lambda w: w, w)
def half():
    return check(w)
"""

# Tests that fail because of a report.
NAMED = {
    "named": "    report = half()\n    assert report",
    "named_over_lines": "    report = half()\n    assert (\n        report\n    ), str(3)",
    "with_words": "    report = half()\n    assert report, 'words of my own'",
    "with_itself": "    report = half()\n    assert report, str(report)",
}
FAILING = NAMED | {
    "called": "    assert half()",
    "over_lines": "    assert (\n        half()\n    )",
    "among_others": "    right = True\n    assert right and half()",
    "converted": "    assert bool(half())",
    "by_function": "    from jaxmlp.checking import assert_gradient\n"
    "    assert_gradient(lambda w: (w**2).sum(), lambda w: w, w)",
}
# Tests that fail for another reason, beside a report that is meant to be wrong.
UNRELATED = {
    "of_numbers": "    report = half()\n    assert not report\n    x = 3\n    assert x == 2",
    "of_a_flag": "    report = half()\n    assert not report\n    flag = bool(report.notes) and False\n    assert flag",
}


BODIES = BEGINNING + "".join(f"def test_{name}():\n{body}\n" for name, body in (FAILING | UNRELATED).items())
WITH_THE_FIXTURE = """
def test_wrong(assert_gradient):
    assert_gradient(lambda w: (w**2).sum(), lambda w: w, w)
def test_right(assert_gradient):
    assert_gradient(lambda w: (w**2).sum(), lambda w: 2 * w, w)
"""
LIGHT = """
import sys
def test_light():
    assert 'jax' not in sys.modules
    assert 0, 'as it was'
def test_late():
    import jax.numpy as jnp
    from jaxmlp.checking import check_gradient
    w = jnp.arange(1.0, 4.0)
    assert check_gradient(lambda w: (w**2).sum(), lambda w: w, w)
"""


class Shown(NamedTuple):
    """What a run of pytest counted at its end, and the lines that it showed of each test that failed."""

    outcomes: dict[str, int]
    of_test: dict[str, list[str]]


def run(folder: Path, text: str, *options: str) -> Shown:
    """Run in a process of its own, in which pytest finds the plugin by its entry point."""
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    in_haste = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=in_haste)
    shown: dict[str, list[str]] = {}
    name = ""
    for line in done.stdout.splitlines():
        if line.startswith("____"):
            name = line.strip("_ ")
        elif line.startswith("===="):
            name = ""
        elif name and line.startswith("E"):
            shown.setdefault(name.removeprefix("test_"), []).append(line)
    counts = re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1].partition(" in ")[0])
    return Shown({outcome: int(count) for count, outcome in counts}, shown)


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory):
    """With asserts rewritten, as is the default: every form of an assert, and the fixture."""
    return run(tmp_path_factory.mktemp("rewritten"), BODIES + WITH_THE_FIXTURE, "--assert=rewrite")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain"), BODIES, "--assert=plain")


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Without the checker, until a test imports it."""
    return run(tmp_path_factory.mktemp("light"), LIGHT)


def check_shown_whole_and_once(shown, names):
    for name in names:
        text = "\n".join(shown[name])
        assert text.count("gradient of f: WRONG") == 1, name
        assert text.count("rounding allows") == 1, name  # the table's head
        assert text.count("at large values: wrong") == 1, name  # the last line
        assert "\\n" not in text, name
        assert len(shown[name]) < 20, name
    assert "words of my own" in "\n".join(shown["with_words"])
    for name in UNRELATED:
        assert "WRONG" not in "\n".join(shown[name]), name


def test_a_wrong_gradient_is_reported_whole_and_once_for_each_form_of_assert(rewritten):
    assert rewritten.outcomes == {"failed": len(FAILING | UNRELATED) + 1, "passed": 1}
    check_shown_whole_and_once(rewritten.of_test, FAILING)


def test_a_named_report_is_shown_without_rewritten_asserts_too(plain):
    assert plain.outcomes == {"failed": len(FAILING | UNRELATED)}
    check_shown_whole_and_once(plain.of_test, [*NAMED, "by_function"])


def test_a_test_that_is_the_first_to_import_the_checker_is_reported_too(light):
    text = "\n".join(light.of_test["late"])
    assert text.count("gradient of f: WRONG") == 1
    assert "at large values: wrong" in text
    assert "\\n" not in text
    assert len(light.of_test["late"]) < 20


def test_the_fixture_fails_with_the_report_and_passes_without(rewritten):
    assert rewritten.outcomes["passed"] == 1
    assert "right" not in rewritten.of_test
    assert "\n".join(rewritten.of_test["wrong"]).count("gradient of f: WRONG") == 1


def test_the_plugin_imports_nothing_heavy():
    code = "import sys, jaxmlp.pytest_plugin; print([name for name in ('jax', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_tests_that_do_not_check_gradients_do_not_wait_for_jax(light):
    assert light.outcomes == {"failed": 2}
    assert "as it was" in "\n".join(light.of_test["light"])
