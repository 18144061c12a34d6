"""`Encoding`: the names and the scaling that a trained network needs to treat new data like its training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxmlp.data import _cells
from jaxmlp.data._foreign import as_polars
from jaxmlp.data._quoting import listed, plain, quoted
from jaxmlp.data.arrays import as_array, as_inputs, check_finite, column_names, take_columns
from jaxmlp.data.columns import Columns
from jaxmlp.data.dataset import Dataset
from jaxmlp.data.expansion import Expansion
from jaxmlp.data.scaling import Scaling

if TYPE_CHECKING:
    from jaxmlp.data.arrays import Array


@dataclass(frozen=True, eq=False)
class Encoding:
    """How raw inputs and targets become numbers to train on.

    Parameters
    ----------
    feature_count
        n, the number of raw inputs.
    feature_names
        Names of the n raw inputs; empty if they have none.
    class_names
        Names of the classes, in the order of the network's outputs; None for real values.
    inputs
        Scaling of arrays, or the columns of tables.
    targets
        Scaling of real values, so that one learning rate suits any unit; None for classes.

    Examples
    --------
    >>> same = Scaling([0.0], [1.0])
    >>> encoding = Encoding(2, ("height", "width"), ("cat", "dog"), inputs=same, targets=None)
    >>> encoding.encode(np.ones((1, 2)), np.array([0]), ("dog",)).t
    array([1])
    """

    feature_count: int
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    inputs: Scaling | Columns
    targets: Scaling | None

    def __post_init__(self) -> None:
        """Check that names and scalings fit together."""
        if self.feature_count < 1 or len(self.feature_names) not in (0, self.feature_count):
            raise ValueError(f"{len(self.feature_names)} feature names for {self.feature_count} features")
        if isinstance(self.inputs, Columns):
            if self.feature_names != self.inputs.names:
                raise ValueError(f"feature_names must be those of the columns, got {listed(self.feature_names)}")
        elif self.inputs.offset.size not in (1, self.feature_count):
            raise ValueError(f"inputs must scale {self.feature_count} features, got {self.inputs.offset.size}")
        if (self.class_names is None) == (self.targets is None):
            raise ValueError("an encoding must have either class_names or a scaling of its targets")
        if self.class_names is not None and len(set(self.class_names)) < max(2, len(self.class_names)):
            raise ValueError(f"class_names must be two or more distinct names, got {listed(self.class_names)}")

    @property
    def expansion(self) -> Expansion | None:
        """Return how encoded inputs become the inputs of a network; None if they are these inputs."""
        return self.inputs.expansion if isinstance(self.inputs, Columns) else None

    @property
    def n_inputs(self) -> int:
        """Return n_0, the number of inputs of the network."""
        return self.inputs.n_inputs if isinstance(self.inputs, Columns) else self.feature_count

    @property
    def groups(self) -> dict[str, slice]:
        """Return which encoded columns each raw one has; a raw one without a name goes by its number, from 0."""
        if isinstance(self.inputs, Columns):
            return self.inputs.groups
        names = self.feature_names or map(str, range(self.feature_count))
        return {name: slice(place, place + 1) for place, name in enumerate(names)}

    def encode_inputs(self, x: Any) -> NDArray[np.float32]:
        """Return inputs [N, n] scaled, or the compact columns [N, m] of a table, for raw ones.

        Where the features have names, the columns of a frame (pandas, polars, pyarrow) are taken by name: their order
        does not matter, and others are left out. Raises a `ValueError` if x is not [N, n], lacks a feature, has an
        entry that is not finite (or infinite, in a table), or is an array where a table is needed.
        """
        scaled, columns = self._scale_inputs(x)
        check_finite("x", scaled, columns)
        return scaled

    def encode(self, x: Any, t: Any, class_names: tuple[str, ...] | None = None) -> Dataset:
        """Return a `Dataset` to train or test a network on.

        x and t are raw, as in `encode_inputs` and in a `Source`; the `class_names` of t are matched by name to those of
        the encoding. Raises a `ValueError` if the number of features or values differs, one side has classes and the
        other real values, or a class is unknown.
        """
        inputs = self._scale_inputs(x)[0]
        return Dataset(inputs, self._encode_targets(as_array("t", t), class_names), expansion=self.expansion)

    def _scale_inputs(self, x: Any) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        if isinstance(self.inputs, Columns):
            return self.inputs.encode(as_polars("x", x)), ()
        x, columns = _as_numbers(x), column_names(x)
        if columns and self.feature_names:
            x, columns = take_columns("x", x, self.feature_names), self.feature_names
        return self.inputs(as_inputs("x", x, self.feature_count)), columns

    def _encode_targets(self, t: Array, class_names: tuple[str, ...] | None) -> NDArray[Any]:
        if self.targets is not None:
            if class_names is not None:
                raise ValueError(f"the targets are the classes {listed(class_names)}, expected real values")
            if (count := t[:1].size) != self.targets.offset.size:
                raise ValueError(f"{self.targets.offset.size} values expected for each example, got {count}")
            return self.targets(t)
        if self.class_names is None or class_names is None:
            raise ValueError(f"the targets are real values, expected the classes {listed(self.class_names or ())}")
        if t.ndim != 1 or t.dtype.kind not in "iu" or not len(t) or t.min() < 0 or t.max() >= len(class_names):
            raise ValueError(f"t must be positions in class_names, [N] integers from 0 to {len(class_names) - 1}")
        position = {name: index for index, name in enumerate(self.class_names)}
        order = np.array([position.get(name, -1) for name in class_names])
        t_known = order[np.asarray(t)]
        if (t_known < 0).any():
            row = int(np.argmin(t_known))
            name, known = quoted(class_names[t[row]]), listed(self.class_names)
            raise ValueError(f"class {name} of example {row} is not among the network's classes: {known}")
        return t_known

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as plain JSON values, from which `from_json` restores it to the last bit."""

        def lists(scaling: Scaling) -> dict[str, list[float]]:
            return {"offset": scaling.offset.tolist(), "factor": scaling.factor.tolist()}

        return {
            "feature_count": self.feature_count,
            "feature_names": list(self.feature_names),
            "class_names": None if self.class_names is None else list(self.class_names),
            "inputs": self.inputs.to_json() if isinstance(self.inputs, Columns) else lists(self.inputs),
            "targets": None if self.targets is None else lists(self.targets),
        }

    @classmethod
    def from_json(cls, saved: object) -> Encoding:
        """Return the encoding that `to_json` saved; raise a `ValueError` for anything else.

        >>> same = Scaling([0.0], [1.0])
        >>> saved = Encoding(1, (), None, inputs=same, targets=same).to_json()
        >>> Encoding.from_json(saved).to_json() == saved
        True
        """
        match saved:
            case {
                "feature_count": int(count),
                "feature_names": list(names),
                "class_names": (list() | None) as classes,
                "inputs": dict(inputs),
                "targets": (dict() | None) as targets,
            }:
                return cls(
                    count,
                    _names("feature_names", names),
                    None if classes is None else _names("class_names", classes),
                    Columns.from_json(inputs) if "columns" in inputs else _scaling("inputs", inputs),
                    None if targets is None else _scaling("targets", targets),
                )
        expected = "feature_count, feature_names, class_names, inputs and targets"
        raise ValueError(f"a saved encoding must have {expected}, got {plain(saved)}")


def _as_numbers(x: Any) -> Any:
    """Return a frame of polars with text that is numbers as numbers, because a CSV file is all text."""
    if not hasattr(x, "get_column"):
        return x

    def converted(raw: Any, cells: Any) -> Any:
        if str(cells.dtype) != "String":
            return raw
        numbers = _cells.numbers(cells)
        return numbers if numbers.null_count() == cells.null_count() else raw  # `as_inputs` names the other text

    return type(x)(dict(zip(x.columns, map(converted, x, _cells.cleaned(x, ())), strict=True)))


def _scaling(side: str, saved: dict[str, Any]) -> Scaling:
    for name in ("offset", "factor"):
        numbers = saved.get(name)
        if not (isinstance(numbers, list) and all(type(number) in (int, float) for number in numbers)):
            raise ValueError(f"{side}.{name} must be a list of numbers, got {plain(numbers)}")
    try:
        return Scaling(saved["offset"], saved["factor"])
    except OverflowError as error:
        raise ValueError(f"{side} must be numbers within the range of float64") from error


def _names(name: str, saved: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(entry, str) for entry in saved):
        raise ValueError(f"{name} must be a list of strings, got {plain(saved)}")
    return tuple(saved)
