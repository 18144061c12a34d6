"""The version, read from here by the package, its files and its build."""

__version__ = "0.1.0"
