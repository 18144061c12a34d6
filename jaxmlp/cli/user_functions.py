"""Import the user's own objects by names such as `package.module:function`, and report exceptions of their code."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

__all__ = ["UserError", "arguments_for", "imported", "imported_function", "user_code"]


class UserError(ValueError):
    """The user's code raised an exception; the message says what the program was doing."""

    @property
    def line(self) -> str:
        """Return the exception as one line, with its place in the user's code."""
        error = self.__cause__
        own = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return f"{_place(error)}{own.splitlines()[0]}"


def _place(error: BaseException | None) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    package = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    theirs = [frame for frame in frames if not frame.filename.startswith((package, sys.prefix, sys.base_prefix, "<"))]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}: " if theirs else ""


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Raise a `UserError` for exceptions of the user's code, and print its output to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, UserError):
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything; an exit would look like success
        raise UserError(doing) from error


def imported(option: str, name: str) -> Any:
    """Return the object that `module:name` names; the current folder is searched as well."""
    module_name, separator, path = name.partition(":")
    if not (separator and module_name and path):
        raise ValueError(f"{option} must be module:name, such as my_package.losses:loss, got {name!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with user_code(f"{module_name} raised this when it was imported"):
            found: Any = import_module(module_name)
    except UserError as error:
        missing = error.__cause__
        parts = module_name.split(".")
        packages = {".".join(parts[: n + 1]) for n in range(len(parts))}
        if isinstance(missing, ModuleNotFoundError) and missing.name in packages:
            known = sorted(path.stem for path in Path.cwd().glob("*.py"))
            near = _nearest(module_name, known)
            raise ValueError(f"{option}: no module {missing.name!r} here or among installed packages{near}") from error
        raise
    for part in path.split("."):
        if not hasattr(found, part):
            known = [name for name in dir(found) if not name.startswith("_")]
            raise ValueError(f"{option}: {module_name} has no {part!r}{_nearest(part, known)}")
        found = getattr(found, part)
    return found


def _nearest(given: str, known: list[str]) -> str:
    nearest = get_close_matches(given, known, n=1)
    return f", did you mean {nearest[0]!r}?" if nearest else ""


def imported_function(option: str, name: str) -> Callable[..., Any]:
    """Return the function that `module:name` names."""
    function = imported(option, name)
    if not callable(function):
        raise ValueError(f"{option}: {name} must be a function, got {type(function).__name__}")
    return function


def arguments_for(function: Callable[..., Any], name: str, at_name: str) -> tuple[Any, ...]:
    """Return the arguments that --at names: a tuple, a single argument, or a function that returns either."""
    found = imported("--at", at_name)
    if callable(found):
        with user_code(f"{at_name} raised this when it was called for the arguments"):
            found = found()
    # A named tuple is one argument; so is a plain tuple if the function accepts only one.
    args = found if type(found) is tuple else (found,)
    for given in (args, (found,)):
        if _takes(function, given):
            return given
    raise ValueError(f"--at: {name} takes {signature(function)}, but {at_name} gives {len(args)}")


def _takes(function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    try:
        signature(function).bind(*args)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True
