"""For pytest: a failing `assert check_gradient(...)` shows the report, whole and once; and a fixture `assert_gradient`.

pytest finds it by itself where this package is installed. It imports nothing before a test does: not even JAX.
"""

import sys
from collections.abc import Callable, Generator
from functools import wraps
from types import CodeType
from typing import Any, NamedTuple

import pytest

__all__ = ["assert_gradient", "pytest_runtest_makereport", "pytest_runtest_setup"]

_REPORT = "jaxmlp.checking.report"


class _Asked(NamedTuple):
    """A report that was asked whether it is true, and was not: where that was."""

    report: Any
    code: CodeType
    line: int


_last: list[_Asked] = []  # one at most


@pytest.fixture
def assert_gradient() -> Callable[..., None]:
    """Give `jaxmlp.checking.assert_gradient`, imported when a test asks for it."""
    from jaxmlp.checking import assert_gradient

    return assert_gradient


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Listen from now on which report was found wrong, if the test's module has imported the checker."""
    _last.clear()
    _listen()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Put the report of a check that failed in the place of what pytest makes of its `assert`."""
    error = call.excinfo.value if call.excinfo else None
    if call.excinfo is not None and isinstance(error, AssertionError):
        frame = call.excinfo.traceback[-1]
        if (report := _asserted(frame)) is not None:
            error.args = ("\n".join([*_own_message(error, str(report)), str(report)]),)
    _last.clear()
    return (yield)


def _listen() -> None:
    """Wrap `Report.__bool__`: a plain `assert check_gradient(...)` keeps its report nowhere else."""
    module = sys.modules.get(_REPORT)
    if module is None or hasattr(module.Report.__bool__, "__wrapped__"):
        return
    is_right = module.Report.__bool__

    @wraps(is_right)
    def asked(report: Any) -> bool:
        answer = is_right(report)
        caller = sys._getframe(1)
        # A report that is printed asks itself, too.
        if not answer and caller.f_globals.get("__name__") != _REPORT:
            _last[:] = [_Asked(report, caller.f_code, caller.f_lineno)]
        return answer

    module.Report.__bool__ = asked


def _asserted(frame: Any) -> Any:
    """Return the report that the failing statement asked, or None: another one may be wrong, and meant to be."""
    module = sys.modules.get(_REPORT)
    if module is None:
        return None
    first, statement = frame.lineno, frame.statement
    lines = range(first + 1, first + 1 + len(statement.lines))  # counted from 1
    if _last and _last[0].code is frame.frame.code.raw and _last[0].line in lines:
        return _last[0].report
    # Where the test itself was the first to import the checker: what pytest's rewritten assert keeps.
    values = frame.frame.f_locals
    name = str(statement).strip().removeprefix("assert").strip()
    kept = [values.get(name), *(value for key, value in values.items() if key.startswith("@py_assert"))]
    return next((value for value in kept if isinstance(value, module.Report) and not value), None)


def _own_message(error: AssertionError, report: str) -> list[str]:
    """Return the lines of the test's own message, before those by which pytest shows the values in an assert."""
    text = str(error.args[0]) if error.args else ""
    own, separator, _ = ("\n" + text).rpartition("\nassert ")
    # Of a test that says `assert report, str(report)` nothing is its own.
    known = {line.strip() for line in report.splitlines()}
    return [line for line in (own if separator else text).strip().splitlines() if line.strip() not in known]
