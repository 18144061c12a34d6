"""Data sets: read from a name, a file or a folder, split, scaled, and checked before any training begins.

`read` answers with a `Source`, the numbers as the file holds them; `prepare` makes of it what a network
trains on: a checked training part and test part, and the `Encoding` that a saved model needs to meet new data.
"""

from jaxmlp.data.dataset import Dataset, fingerprint
from jaxmlp.data.embedded import EMBEDDED
from jaxmlp.data.encoding import Encoding
from jaxmlp.data.preparing import Part, Prepared, Split, prepare, split, whole
from jaxmlp.data.reading import is_table, read
from jaxmlp.data.scaling import Scaling
from jaxmlp.data.source import Source

__all__ = [
    "EMBEDDED",
    "Dataset",
    "Encoding",
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
