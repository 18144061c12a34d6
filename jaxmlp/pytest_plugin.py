"""A pytest plugin: a failing `assert check_gradient(...)` shows the whole report once; a fixture `assert_gradient`.

pytest finds the plugin by itself where this package is installed. It imports nothing, not even JAX, before a test does.
"""

import re
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest

__all__ = ["assert_gradient", "pytest_runtest_makereport"]


@pytest.fixture
def assert_gradient() -> Callable[..., None]:
    """Give `jaxmlp.checking.assert_gradient`, imported when a test asks for it."""
    from jaxmlp.checking import assert_gradient

    return assert_gradient


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show the report of a failed check in place of pytest's shortened line."""
    error = call.excinfo.value if call.excinfo else None
    # Until a test imports the checker there is no report, so do not import it here.
    checking = sys.modules.get("jaxmlp.checking.report")
    if call.excinfo is not None and isinstance(error, AssertionError) and checking is not None:
        values = _asserted(call.excinfo.traceback[-1])
        report = next((value for value in values if isinstance(value, checking.Report) and not value), None)
        if report is not None:
            error.args = ("\n".join([*_own_message(error, str(report)), str(report)]),)
    return (yield)


def _asserted(frame: Any) -> list[Any]:
    """Return the values of the failing assert: the variable that it names, and those that pytest's rewriting keeps."""
    values = {**frame.frame.f_globals, **frame.frame.f_locals}
    named = re.match(r"assert\b[\s(]*(\w+)[\s)]*(,|$)", str(frame.statement).strip())
    return [values.get(named[1]) if named else None] + [
        v for name, v in values.items() if name.startswith("@py_assert")
    ]


def _own_message(error: AssertionError, report: str) -> list[str]:
    """Return the lines of the test's own message, which come before pytest's lines for the assert."""
    text = str(error.args[0]) if error.args else ""
    own, separator, _ = ("\n" + text).rpartition("\nassert ")
    known = {line.strip() for line in report.splitlines()}  # the message may be the report: assert report, str(report)
    return [line for line in (own if separator else text).strip().splitlines() if line.strip() not in known]
