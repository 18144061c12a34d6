"""`prepare`: splits a `Source`, then scales all parts by the statistics of the training part."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.data._quoting import plain, quoted
from jaxmlp.data._scale import SCALINGS
from jaxmlp.data.columns import Columns
from jaxmlp.data.dataset import Dataset
from jaxmlp.data.encoding import Encoding
from jaxmlp.data.scaling import KINDS, Scaling
from jaxmlp.data.source import Source

_PARTS = {"test": "test", "validate": "validation"}  # the part that is held out for each purpose


class Part(NamedTuple):
    """Some examples of a source, not scaled: inputs [N, n] and targets.

    `rows` [N] holds their positions in the source's x, or in its x_test if this is the source's own test part.
    """

    x: Any
    t: NDArray[Any]
    rows: NDArray[np.int64]


class Split(NamedTuple):
    """The parts of a source: to learn from, to choose by (None if nothing is to be chosen), and to report."""

    train: Part
    validation: Part | None
    test: Part


class Prepared(NamedTuple):
    """Checked and scaled data, and the encoding that scaled them and scales new data."""

    train: Dataset
    validation: Dataset | None
    test: Dataset
    encoding: Encoding


def prepare(
    source: Source,
    *,
    scaling: str | None = None,
    numbers: Collection[str] = (),
    categories: Collection[str] = (),
    test_fraction: float = 0.2,
    validation_fraction: float | None = None,
    seed: int = 0,
) -> Prepared:
    """Return the parts of a source, encoded by the statistics of the training part.

    Parameters
    ----------
    scaling : str or None
        For arrays "standard" (the default), "minmax", "bytes" or "none", see `Scaling.fit`: column by column, or one
        factor for all pixels of images. For tables not "bytes", but also "robust" or "piecewise" (the default), see
        `Columns.fit`. Real-valued targets are always standardised.
    numbers, categories
        Columns of a table to take for numbers or for categories, whatever they look like.
    test_fraction, validation_fraction, seed
        See `split`, also for the errors raised.

    Examples
    --------
    >>> from jaxmlp.data import read
    >>> iris = prepare(read("iris"), validation_fraction=0.25)
    >>> len(iris.train), len(iris.validation), len(iris.test), iris.encoding.class_names
    (90, 30, 30, ('setosa', 'versicolor', 'virginica'))
    """
    parts = split(source, test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed)
    inputs = _fit_inputs(source, parts.train.x, scaling, numbers, categories)
    names = inputs.names if isinstance(inputs, Columns) else source.feature_names
    encoding = Encoding(
        feature_count=len(names) or source.x.shape[1],
        feature_names=names,
        class_names=source.class_names,
        inputs=inputs,
        targets=Scaling.fit(parts.train.t, "standard") if source.class_names is None else None,
    )

    def encoded(part: Part) -> Dataset:
        return encoding.encode(part.x, part.t, source.class_names)

    validation = None if parts.validation is None else encoded(parts.validation)
    return Prepared(encoded(parts.train), validation, encoded(parts.test), encoding)


def _fit_inputs(
    source: Source, x: Any, scaling: str | None, numbers: Collection[str], categories: Collection[str]
) -> Scaling | Columns:
    known = KINDS if not source.is_table else SCALINGS
    if scaling is not None and scaling not in known:
        raise ValueError(unknown_name("scaling", scaling, known))
    if source.is_table:
        said: Any = {"numbers": numbers, "categories": categories, "missing": source.missing}
        return Columns.fit(x, scaling=scaling or "piecewise", **said)
    if given := [name for name, columns in (("numbers", numbers), ("categories", categories)) if columns]:
        raise ValueError(f"{plain(source.name)} is not a table: leave out {', '.join(given)}")
    # Scaling pixel by pixel would magnify the noise of border pixels that are nearly always empty.
    is_image = source.image_shape is not None or (not source.feature_names and x.dtype.kind in "iu")
    return Scaling.fit(x, scaling or "standard", shared=is_image)


def split(
    source: Source, *, test_fraction: float = 0.2, validation_fraction: float | None = None, seed: int = 0
) -> Split:
    """Return the training, validation and test part of a source.

    The test part is the source's own; if it has none, it is drawn. The validation part is drawn from the training part.
    Every class is divided in the same proportion.

    Parameters
    ----------
    test_fraction
        The share of all examples in the test part, between 0 and 1.
    validation_fraction
        The share of the training part that becomes the validation part, between 0 and 1; None draws none.
    seed
        Seed of the draws, from 0 to 2**32 - 1. The test part does not depend on `validation_fraction`.

    Raises
    ------
    ValueError
        If an option is out of range, or if there are no targets, or too few examples or classes to learn, to validate
        and to test.

    Examples
    --------
    >>> from jaxmlp.data import read
    >>> [np.bincount(part.t).tolist() for part in split(read("iris"), test_fraction=0.1, validation_fraction=0.2)]
    [[36, 36, 36], [9, 9, 9], [5, 5, 5]]
    """
    for name, fraction in (("test_fraction", test_fraction), ("validation_fraction", validation_fraction)):
        if fraction is not None and not 0 < fraction < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {fraction}")
    seed = whole_number("seed", seed, 0, 2**32 - 1)
    t = _targets(source)
    train, validation = whole(source.x, t), None
    if source.x_test is None:
        train, test = _divided(source, train, test_fraction, seed, "test")
    else:
        test = whole(source.x_test, source.t_test)
    if validation_fraction is not None:
        train, validation = _divided(source, train, validation_fraction, seed, "validate")
    return Split(train, validation, test)


def whole(x: Any, t: Any) -> Part:
    """Return all examples of x and t as a part.

    >>> whole(np.ones((3, 2)), np.array([0, 1, 1])).rows
    array([0, 1, 2])
    """
    return Part(x, t, np.arange(len(x)))


def _targets(source: Source) -> NDArray[Any]:
    """Return the targets of a source, checked."""
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
    if source.class_names is None and len(source.t) > 1 and (source.t == source.t[:1]).all():
        raise ValueError(f"{plain(source.name)}: every target is {plain(source.t[0])}, expected two values or more")
    return source.t


def _divided(source: Source, part: Part, fraction: float, seed: int, purpose: str) -> tuple[Part, Part]:
    """Return what is left of a part to train with, and the share of it that is held out for a purpose."""
    held_out = math.ceil(fraction * len(part.t))
    _check_counts(source, part.t, held_out, purpose)
    stratify = None if source.class_names is None else part.t
    sides = optional("sklearn.model_selection").train_test_split(
        np.arange(len(part.t)), test_size=held_out, random_state=seed, stratify=stratify
    )
    left, taken = (Part(part.x[side], part.t[side], part.rows[side]) for side in sides)
    return left, taken


def _check_counts(source: Source, t: NDArray[Any], held_out: int, purpose: str) -> None:
    """Raise a ValueError if the examples are too few for every class to be in both parts."""
    least = 1
    if source.class_names is not None:
        classes, counts = np.unique(t, return_counts=True)
        least = len(classes)
        if counts.min() < 2:
            name = source.class_names[classes[np.argmin(counts)]]
            of = "training " if purpose == "validate" else ""
            hint = " (--task values takes the targets as real values)" if _is_number(name) else ": leave it out"
            raise ValueError(
                f"{plain(source.name)}: only one {of}example of class {quoted(name)}, expected two or more "
                f"to train and to {purpose} with{hint}"
            )
    if min(held_out, len(t) - held_out) < least:
        raise ValueError(
            f"{plain(source.name)}: {len(t) - held_out} examples to train and {held_out} to {purpose} with, expected "
            f"at least {least} of both: change the {_PARTS[purpose]} fraction or bring more examples"
        )


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
