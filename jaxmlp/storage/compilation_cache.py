"""Compiled programs on disk, so that a later process does not compile them again."""

from os import PathLike
from pathlib import Path

import jax


def use_compilation_cache(folder: str | PathLike[str]) -> None:
    """Save compiled programs to a folder, and load them from there instead of compiling again.

    The folder is made if it does not exist; `~` is the home folder. Several processes may share it. Call this before
    the first computation. It changes JAX's own settings for the whole process, so the library never calls it by itself.
    For example `jaxmlp.use_compilation_cache("~/.cache/my-experiments")`.
    """
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
    # JAX's default keeps only programs that took more than a second to compile; most of ours take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
