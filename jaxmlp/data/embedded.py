"""The data sets that need no file: five small classics that come with scikit-learn."""

from typing import NamedTuple

import numpy as np

from jaxmlp._extras import optional
from jaxmlp.data.source import Request, Source
from jaxmlp.data.targets import encode_targets

__all__ = ["EMBEDDED", "Embedded"]


class Embedded(NamedTuple):
    """The function of `sklearn.datasets` that loads a set, its options, and one line about the set."""

    loader: str
    options: dict[str, bool]
    description: str
    image_shape: tuple[int, int] | None = None


EMBEDDED: dict[str, Embedded] = {
    "digits": Embedded("load_digits", {}, "1,797 handwritten digits of 8 x 8 pixels, 10 classes", (8, 8)),
    "iris": Embedded("load_iris", {}, "150 iris flowers, 4 measurements, 3 classes"),
    "wine": Embedded("load_wine", {}, "178 wines, 13 chemical measurements, 3 classes"),
    "breast_cancer": Embedded("load_breast_cancer", {}, "569 tumours, 30 measurements, 2 classes"),
    # Not scaled, because a model should take the measurements of a new patient as they are.
    "diabetes": Embedded("load_diabetes", {"scaled": False}, "442 patients, 10 measurements, real values"),
}
"""The embedded data sets by name."""


def read_embedded(name: str, request: Request) -> Source:
    """Read the embedded data set called `name`."""
    entry = EMBEDDED[name]
    bunch = getattr(optional("sklearn.datasets"), entry.loader)(**entry.options)
    names = bunch.get("target_names")
    t, class_names = encode_targets(bunch.target, request.task, lambda row: f"{name}: target[{row}]")
    if class_names is not None and names is not None:
        class_names = tuple(str(names[int(label)]) for label in class_names)
    return Source(
        name=name,
        x=bunch.data.astype(np.float32),
        t=t,
        feature_names=tuple(map(str, bunch.feature_names)),
        class_names=class_names,
        image_shape=entry.image_shape,
    )
