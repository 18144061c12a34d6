"""Compiled programs kept on disk, so that a second start need not compile again."""

from os import PathLike
from pathlib import Path

import jax

__all__ = ["use_compilation_cache"]


def use_compilation_cache(folder: str | PathLike[str]) -> None:
    """Keep every compiled program of this process in a folder, and take from there what is already compiled.

    To be called before the first computation. The setting is JAX's own and holds for the whole process, which
    is why the library never does this by itself.

    Parameters
    ----------
    folder
        Made if it is not there. Any number of processes may share it.

    Examples
    --------
    At the beginning of a script::

        jaxmlp.use_compilation_cache("~/.cache/my-experiments")
    """
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
    # By default only what took longer than a second to compile is kept; our programs take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
