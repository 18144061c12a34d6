"""What all commands share: streams, notes on standard error, and JAX's cache and devices."""

import logging
import os
import sys
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

__all__ = ["error_line", "guard_streams", "keep_compiled_programs", "note", "say", "warnings_noted"]


def guard_streams() -> None:
    """Make printing safe if the caller closed a stream, or the encoding lacks a character."""
    # Python sets a closed stream to None, and print(file=None) would print elsewhere.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    # Python itself escapes such characters on standard error.
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")
    # matplotlib would warn if it cannot write its own cache folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def say(line: str) -> None:
    """Print a line on standard error; continue if its reader has gone."""
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the interpreter would flush the broken one


def note(arguments: Namespace, text: str) -> None:
    """Print a note once, unless under --quiet or --json, and keep it in `arguments.notes`."""
    if text not in arguments.notes:
        arguments.notes.append(text)
        if not (arguments.quiet or arguments.json):
            say(f"jaxmlp {arguments.command}: note: {text}")


@contextmanager
def warnings_noted(arguments: Namespace) -> Iterator[None]:
    """Turn warnings into notes of one line each."""
    arguments.notes = []

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        note(arguments, " ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # commands report divergence and overflow in their results
        setattr(warnings, "showwarning", show)  # noqa: B010 - mypy knows the original's signature
        yield


def keep_compiled_programs(arguments: Namespace) -> None:
    """Keep compiled programs in the folder that JAX_COMPILATION_CACHE_DIR names, or in the user's cache folder."""
    import jax

    from jaxmlp._extras import optional
    from jaxmlp.storage.compilation_cache import use_compilation_cache

    of_user = jax.config.jax_compilation_cache_dir
    folder = Path(of_user or optional("platformdirs").user_cache_path("jaxmlp", appauthor=False) / "compiled")
    if not arguments.no_cache:
        try:
            if "://" not in (of_user or ""):
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
            if not of_user:
                use_compilation_cache(folder)
            return
        except OSError as error:
            advice = "compiled programs are not kept: set JAX_COMPILATION_CACHE_DIR to another folder"
            note(arguments, f"{folder}: {error.strerror}; {advice}")
    if of_user:
        jax.config.update("jax_enable_compilation_cache", False)


def error_line(error: Exception) -> str | None:
    """Return one line that explains an error to the user; None if the error is a fault of the program."""
    if (device := _missing_device()) is not None:
        return device
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error).lower()):
        return "not enough memory for a network of this size: try a narrower --hidden or a smaller --batch-size"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError | OSError | ImportError):
        return " ".join(str(error).split())
    return None


def _missing_device() -> str | None:
    """Return what is wrong with JAX_PLATFORMS, if JAX was asked for certain devices and cannot use them."""
    jax = sys.modules.get("jax")
    if jax is None or not (platforms := jax.config.jax_platforms):
        return None
    try:
        jax.devices()
    except Exception as error:  # JAX raises RuntimeError, and a bare AssertionError for cuda without a GPU
        reason = " ".join(str(error).partition(" (set JAX_PLATFORMS")[0].split()).rstrip(".")
        because = f": {reason}" if reason else ""
        return f"JAX_PLATFORMS={platforms} names no device that JAX can use here{because}; unset it, or set it to cpu"
    return None
