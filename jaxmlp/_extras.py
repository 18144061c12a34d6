"""Packages that only some readers need, imported when they do."""

from importlib import import_module
from typing import Any


def optional(module: str) -> Any:
    """Import `module`, and answer a missing one with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn"}.get(module.partition(".")[0], module.partition(".")[0])
        raise ImportError(f"this needs {package}, try: pip install 'jaxmlp[cli]'") from error
