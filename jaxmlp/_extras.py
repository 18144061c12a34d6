"""Packages that belong to an extra, imported when something needs them."""

from importlib import import_module
from typing import Any

_PACKAGES = {"sklearn": "scikit-learn", "dp_accounting": "dp-accounting"}  # where it differs from the module's name


def optional(module: str, extra: str = "cli") -> Any:
    """Return an imported module; the error for a missing package says how to install the extra.

    >>> optional("no_such_package.part", "sweep")
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_package is not installed, try: pip install 'jaxmlp[sweep]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        name = (error.name or module).partition(".")[0]
        package = _PACKAGES.get(name, name)
        raise ModuleNotFoundError(f"{package} is not installed, try: pip install 'jaxmlp[{extra}]'") from error
