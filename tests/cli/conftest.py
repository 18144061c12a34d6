"""Run the terminal program in the test's process, in a folder of its own."""

from typing import NamedTuple

import pytest

from jaxmlp.cli import main


class Finished(NamedTuple):
    """The exit code of a command and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def jaxmlp(tmp_path, monkeypatch, capsys):
    """Run a command; the compilation cache stays off, so tests leave nothing in the user's folders."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> Finished:
        cached = argv and argv[0] in ("train", "evaluate", "predict", "importance", "examples")
        try:
            code = main([*argv, *(["--no-cache"] if cached else [])])
        except SystemExit as error:
            code = error.code
        return Finished(code, *capsys.readouterr())

    return run
