"""`prepare`: splits a `Source`, then scales both parts by the statistics of the training part."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.data._quoting import plain, quoted
from jaxmlp.data.dataset import Dataset
from jaxmlp.data.encoding import Encoding
from jaxmlp.data.scaling import KINDS, Scaling
from jaxmlp.data.source import Source


class Part(NamedTuple):
    """Some examples of a source, not scaled: inputs [N, n] and targets.

    `rows` [N] holds their positions in the source's x, or in its x_test if this is the source's own test part.
    """

    x: NDArray[Any]
    t: NDArray[Any]
    rows: NDArray[np.int64]


class Split(NamedTuple):
    """The training part and the test part of a source."""

    train: Part
    test: Part


class Prepared(NamedTuple):
    """Checked and scaled data, and the encoding that scaled them and scales new data."""

    train: Dataset
    test: Dataset
    encoding: Encoding


def prepare(source: Source, *, scaling: str = "standard", test_fraction: float = 0.2, seed: int = 0) -> Prepared:
    """Return the training part and the test part of a source, scaled by the statistics of the training part.

    Parameters
    ----------
    scaling : "standard", "minmax" or "none"
        The scaling of the inputs, see `Scaling.fit`: column by column, or one factor for all pixels of images.
        Real-valued targets are always standardised.
    test_fraction, seed
        See `split`, also for the errors raised.

    Examples
    --------
    >>> from jaxmlp.data import read
    >>> train, test, encoding = prepare(read("iris"))
    >>> len(train), len(test), encoding.class_names
    (120, 30, ('setosa', 'versicolor', 'virginica'))
    """
    if scaling not in KINDS:
        raise ValueError(unknown_name("scaling", scaling, KINDS))
    parts = split(source, test_fraction=test_fraction, seed=seed)
    # Scaling pixel by pixel would magnify the noise of border pixels that are nearly always empty.
    is_image = source.image_shape is not None or (not source.feature_names and source.x.dtype.kind in "iu")
    encoding = Encoding(
        feature_count=source.x.shape[1],
        feature_names=source.feature_names,
        class_names=source.class_names,
        inputs=Scaling.fit(parts.train.x, scaling, shared=is_image),
        targets=Scaling.fit(parts.train.t, "standard") if source.class_names is None else None,
    )
    train, test = (encoding.encode(part.x, part.t, source.class_names) for part in parts)
    return Prepared(train, test, encoding)


def split(source: Source, *, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Return the source's own training and test part; if it has no test part, draw one.

    Parameters
    ----------
    test_fraction
        The share of examples in the test part, between 0 and 1; every class is divided in this proportion.
    seed
        Seed of the draw, from 0 to 2**32 - 1.

    Raises
    ------
    ValueError
        If an option is out of range, or if there are no targets, or too few examples or classes to learn and to test.

    Examples
    --------
    >>> from jaxmlp.data import read
    >>> np.bincount(split(read("iris"), test_fraction=0.1).test.t)
    array([5, 5, 5])
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    seed = whole_number("seed", seed, 0, 2**32 - 1)
    if not isinstance(source, Source):
        given = type(source).__name__
        raise TypeError(f"source must be a Source, as data.read returns, got {given}; arrays go into Dataset(x, t)")
    if source.t is None:
        raise ValueError(f"{plain(source.name)}: no targets, expected some to learn")
    if (source.x_test is None) != (source.t_test is None):
        raise ValueError(f"{plain(source.name)}: x_test and t_test must be given together, or neither")
    if len(source.x) != len(source.t):
        raise ValueError(f"{plain(source.name)}: {len(source.x)} rows in x but {len(source.t)} in t")
    if source.class_names is not None and len(np.unique(source.t)) < 2:
        only = quoted(source.class_names[source.t[0]])
        raise ValueError(f"{plain(source.name)}: every target is of class {only}, expected two classes or more")
    if source.x_test is not None and source.t_test is not None:
        return Split(whole(source.x, source.t), whole(source.x_test, source.t_test))
    held_out = math.ceil(test_fraction * len(source.t))
    _check_counts(source, source.t, held_out)
    train, test = optional("sklearn.model_selection").train_test_split(
        np.arange(len(source.t)),
        test_size=held_out,
        random_state=seed,
        stratify=None if source.class_names is None else source.t,
    )
    return Split(Part(source.x[train], source.t[train], train), Part(source.x[test], source.t[test], test))


def whole(x: Any, t: Any) -> Part:
    """Return all examples of x and t as a part.

    >>> whole(np.ones((3, 2)), np.array([0, 1, 1])).rows
    array([0, 1, 2])
    """
    return Part(x, t, np.arange(len(x)))


def _check_counts(source: Source, t: NDArray[Any], held_out: int) -> None:
    """Raise a ValueError if the examples are too few for every class to be in both parts."""
    least = 1
    if source.class_names is not None:
        classes, counts = np.unique(t, return_counts=True)
        least = len(classes)
        if counts.min() < 2:
            name = source.class_names[classes[np.argmin(counts)]]
            hint = " (--task values takes the targets as real values)" if _is_number(name) else ""
            raise ValueError(
                f"{plain(source.name)}: only one example of class {quoted(name)}, expected two or more "
                f"to train and to test with{hint}"
            )
    if min(held_out, len(t) - held_out) < least:
        raise ValueError(
            f"{plain(source.name)}: {len(t) - held_out} examples to train and {held_out} to test with, expected "
            f"at least {least} of both: change the test fraction or bring more examples"
        )


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
