"""Where the program keeps what it compiled: in the user's cache folder, unless told not to."""

from argparse import Namespace

from platformdirs import user_cache_path

from jaxmlp.storage.compilation_cache import use_compilation_cache

__all__ = ["keep_compiled_programs"]


def keep_compiled_programs(arguments: Namespace) -> None:
    """Turn the compilation cache on, unless --no-cache."""
    if not arguments.no_cache:
        use_compilation_cache(user_cache_path("jaxmlp", appauthor=False) / "compiled")
