"""Data sets: read from a name, a file or a folder, split, scaled, and checked before training begins.

`read` and `from_frame` return a `Source`: the data as they are in the file or frame. `prepare` returns its training
part and test part, checked and encoded, and the `Encoding` with which a saved model treats new data in the same way.
"""

from jaxmlp.data._cells import MISSING
from jaxmlp.data.columns import Columns
from jaxmlp.data.dataset import Dataset, fingerprint
from jaxmlp.data.encoding import Encoding
from jaxmlp.data.expansion import Expansion
from jaxmlp.data.preparing import Part, Prepared, Split, prepare, split, whole
from jaxmlp.data.reading import EMBEDDED, is_table, read
from jaxmlp.data.scaling import Scaling
from jaxmlp.data.source import Source
from jaxmlp.data.tables import from_frame, read_columns

__all__ = [
    "EMBEDDED",
    "MISSING",
    "Columns",
    "Dataset",
    "Encoding",
    "Expansion",
    "Part",
    "Prepared",
    "Scaling",
    "Source",
    "Split",
    "fingerprint",
    "from_frame",
    "is_table",
    "prepare",
    "read",
    "read_columns",
    "split",
    "whole",
]
