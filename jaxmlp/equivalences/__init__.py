"""What the library claims to be equal, as a table: it checks itself with `jaxmlp.checking`, as its users check theirs.

Each row sets something written by hand beside an independent truth: a derivative beside autodiff and differences of its
function, a statistic of per-example gradients beside the naive formula. `ACTIVATIONS` and `LOSSES` make the rows, so a
new entry is checked without a line here.
"""

from jaxmlp.equivalences.rows import Claim, Equivalence, rounding_units
from jaxmlp.equivalences.table import networks, of_library, of_model

__all__ = ["Claim", "Equivalence", "networks", "of_library", "of_model", "rounding_units"]
