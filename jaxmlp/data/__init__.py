"""Data sets: read from a name, a file or a folder, split, scaled, and checked before training begins.

`read` returns a `Source`: the numbers as they are in the file. `prepare` returns its training part and test part,
checked and scaled, and the `Encoding` with which a saved model treats new data in the same way.
"""

from jaxmlp.data.dataset import Dataset, fingerprint
from jaxmlp.data.encoding import Encoding
from jaxmlp.data.expansion import Expansion
from jaxmlp.data.preparing import Part, Prepared, Split, prepare, split, whole
from jaxmlp.data.reading import EMBEDDED, is_table, read
from jaxmlp.data.scaling import Scaling
from jaxmlp.data.source import Source

__all__ = [
    "EMBEDDED",
    "Dataset",
    "Encoding",
    "Expansion",
    "Part",
    "Prepared",
    "Scaling",
    "Source",
    "Split",
    "fingerprint",
    "is_table",
    "prepare",
    "read",
    "split",
    "whole",
]
