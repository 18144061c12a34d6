"""`Request` and `Source`: the argument and the result of every reader, before anything is split or scaled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Request", "Source"]


@dataclass(frozen=True)
class Request:
    """The options of `jaxmlp.data.read`, which describes them."""

    target: str | None = None
    task: str | None = None
    features: Sequence[str] | None = None
    labelled: bool = True


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it is in its file.

    Parameters
    ----------
    name : str
        Name of the embedded set, the file or the folder.
    x : [N, n] float32, or uint8 for images
        The inputs, finite.
    t : [N] int64, [N] float32, [N, K] float32, or None
        Targets: positions in `class_names`, real values, rows of real values, or none.
    x_test, t_test : like x and t, or None
        The data set's own test part, if it has one.
    feature_names : tuple of str
        A name for each column of x; empty if they have none.
    class_names : tuple of str, or None
        Names of the classes; None if the targets are real values or missing.
    target : str or None
        The name of the target's column.
    image_shape : (int, int) or None
        Height and width, if each row of x is an image, pixel by pixel.

    Examples
    --------
    >>> import numpy as np
    >>> Source("coins", np.ones((2, 3), np.float32), np.array([0, 1]), class_names=("head", "tail")).x.shape
    (2, 3)
    """

    name: str
    x: NDArray[Any]
    t: NDArray[Any] | None = None
    x_test: NDArray[Any] | None = None
    t_test: NDArray[Any] | None = None
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    target: str | None = None
    image_shape: tuple[int, int] | None = None
