"""`Expansion`: how the few columns of a table become the many inputs of a network.

A table is kept compact, and a network's inputs are made from it batch by batch, on the device: the expanded table is
often 50 times as large and mostly 0. `jaxmlp.training.examples.expand` does it for one example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxmlp.data.arrays import Array

__all__ = ["BOUND", "Expansion", "check_expansion"]

BOUND = 10.0
"""The largest size of a smoothly clipped number; RealMLP has 3. `experiments.choose_table_defaults` compares bounds."""


_KINDS = {"smooth": ("b", "booleans"), "bin_low": ("f", "floats"), "bin_factor": ("f", "floats")}


class Expansion(NamedTuple):
    """How C compact columns x become the n_0 inputs of a network; a pytree of small arrays.

    The inputs are, in this order:

    - P columns passed on, x[passed]; those that are `smooth` as x / sqrt(1 + (x/c)^2), which lies between -c and c, the
      `BOUND` (as in RealMLP, arXiv 2407.04491);
    - Q bins of a piecewise linear encoding, (x[bin_column] - bin_low) * bin_factor clipped to [0, 1] (Gorishniy et
      al. 2022, arXiv 2203.05556);
    - R codes, 1 where x[code_column] equals the code and else 0 (one-hot).

    Attributes
    ----------
    passed : [P] int
    smooth : [P] bool
    bin_column : [Q] int
    bin_low, bin_factor : [Q] float
    code_column : [R] int
    code : [R] int

    Examples
    --------
    A number, passed smoothly clipped and in two bins, and a column with three categories:

    >>> number = {"passed": [0], "smooth": [True], "bin_column": [0, 0], "bin_low": [0.0, 1.0], "bin_factor": [1.0, 2]}
    >>> category = {"code_column": [1, 1, 1], "code": [0, 1, 2]}
    >>> Expansion(**{name: np.array(value) for name, value in (number | category).items()}).n_inputs
    6
    """

    passed: Array
    smooth: Array
    bin_column: Array
    bin_low: Array
    bin_factor: Array
    code_column: Array
    code: Array

    @property
    def n_inputs(self) -> int:
        """Return n_0, the number of inputs of the network."""
        return len(self.passed) + len(self.bin_column) + len(self.code_column)


def check_expansion(expansion: Expansion, n_columns: int) -> None:
    """Raise an error if the expansion is none, or does not fit inputs of `n_columns` columns."""
    if not isinstance(expansion, Expansion):
        raise TypeError(f"expansion must be an Expansion, got {type(expansion).__name__}")
    arrays = {name: np.asarray(array) for name, array in expansion._asdict().items()}
    for name, array in arrays.items():
        kinds, as_text = _KINDS.get(name, ("iu", "integers"))
        if array.ndim != 1 or array.dtype.kind not in kinds:
            raise ValueError(f"expansion.{name} must be one row of {as_text}, got {array.dtype} of shape {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"expansion.{name} must be finite")
    for names in (("passed", "smooth"), ("bin_column", "bin_low", "bin_factor"), ("code_column", "code")):
        lengths = [arrays[name].size for name in names]
        if len(set(lengths)) > 1:
            raise ValueError(f"expansion must have equally many {', '.join(names)}, got {lengths}")
    columns = np.concatenate([arrays[name] for name in ("passed", "bin_column", "code_column")])
    if not len(columns):
        raise ValueError("expansion must make at least one input")
    if columns.min() < 0 or columns.max() >= n_columns:
        raise ValueError(f"expansion takes columns {columns.min()} to {columns.max()} of x, which has {n_columns}")
