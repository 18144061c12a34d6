"""What pytest shows of a gradient that was found wrong: the whole report, once, whatever the form of the assert."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

BEGINNING = """
import jax.numpy as jnp
from jaxmlp.checking import check_gradient
w = jnp.arange(1.0, 4.0)
def half():
    return check_gradient(lambda w: (w**2).sum(), lambda w: w, w)
"""

# What a test may contain that fails because a report does.
FAILING = {
    "called": "    assert half()",
    "named": "    report = half()\n    assert report",
    "over_lines": "    assert (\n        half()\n    )",
    "among_others": "    right = True\n    assert right and half()",
    "with_words": "    report = half()\n    assert report, 'words of my own'",
    "with_itself": "    report = half()\n    assert report, str(report)",
    "by_function": "    from jaxmlp.checking import assert_gradient\n"
    "    assert_gradient(lambda w: (w**2).sum(), lambda w: w, w)",
}
# What fails for another reason, beside a report that is wrong and meant to be.
UNRELATED = {
    "of_numbers": "    report = half()\n    assert not report\n    x = 3\n    assert x == 2",
    "of_a_flag": "    report = half()\n    assert not report\n    flag = bool(report.notes) and False\n    assert flag",
}


def run(pytester, *options):
    """Run in a process of its own, in which the plugin is found as anybody's is: by its entry point."""
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", *options)
    shown: dict[str, list[str]] = {}
    name = ""
    for line in done.outlines:
        if line.startswith("____"):
            name = line.strip("_ ")
        elif line.startswith("===="):
            name = ""
        elif name and line.startswith("E"):
            shown.setdefault(name.removeprefix("test_"), []).append(line)
    return done, shown


@pytest.mark.parametrize("mode", ["rewrite", "plain"])
def test_a_wrong_gradient_is_reported_whole_and_once(pytester, mode):
    bodies = [f"def test_{name}():\n{body}\n" for name, body in (FAILING | UNRELATED).items()]
    pytester.makepyfile(BEGINNING + "".join(bodies))
    done, shown = run(pytester, f"--assert={mode}")
    done.assert_outcomes(failed=len(bodies))
    for name in FAILING:
        text = "\n".join(shown[name])
        assert text.count("gradient of f: WRONG") == 1, name
        assert text.count("rounding allows") == 1, name  # the table's head
        assert text.count("at large values: wrong") == 1, name  # the last line
        assert "\\n" not in text, name
        assert len(shown[name]) < 20, name
    assert "words of my own" in "\n".join(shown["with_words"])
    for name in UNRELATED:
        assert "WRONG" not in "\n".join(shown[name]), name


def test_a_test_that_is_the_first_to_import_the_checker_is_reported_too(pytester):
    lines = [f"    {line}" for line in BEGINNING.strip().splitlines()]
    body = "\n".join(lines)
    pytester.makepyfile(f"def test_late():\n{body}\n    assert half()\n")
    _, shown = run(pytester)
    assert "at large values: wrong" in "\n".join(shown["late"])


def test_the_fixture_fails_with_the_report_and_passes_without(pytester):
    pytester.makepyfile(
        BEGINNING
        + """
def test_wrong(assert_gradient):
    assert_gradient(lambda w: (w**2).sum(), lambda w: w, w)
def test_right(assert_gradient):
    assert_gradient(lambda w: (w**2).sum(), lambda w: 2 * w, w)
"""
    )
    done, shown = run(pytester)
    done.assert_outcomes(failed=1, passed=1)
    assert "\n".join(shown["wrong"]).count("gradient of f: WRONG") == 1


def test_the_plugin_imports_nothing_heavy():
    code = "import sys, jaxmlp.pytest_plugin; print([name for name in ('jax', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_tests_that_do_not_check_gradients_do_not_wait_for_jax(pytester):
    pytester.makepyfile(
        "import sys\ndef test_light():\n    assert 'jax' not in sys.modules\n    assert 0, 'as it was'\n"
    )
    done, shown = run(pytester)
    done.assert_outcomes(failed=1)
    assert "as it was" in "\n".join(shown["light"])
