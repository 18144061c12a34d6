"""The space of a sweep: the hyperparameters that vary, and the plain list of its trials.

A trial is one training run. It has its own values; all other values come from the network and the `TrainConfig` of the
sweep.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import cache, reduce
from operator import add
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.losses import LOSSES
from jaxmlp.network import MLP
from jaxmlp.training.config import TrainConfig

__all__ = ["Axes", "Distribution", "Space", "Trial", "grid", "integers", "log_uniform", "random", "uniform"]

# All that can vary: these values of the network, the fields of `TrainConfig`, and the seed.
_OF_NETWORK = ("hidden", "activation", "output", "loss")
_OF_TRAINING = tuple(field.name for field in fields(TrainConfig) if field.name != "track")
NAMES = (*_OF_TRAINING, *_OF_NETWORK, "seed")
OF_PRIVACY = ("epsilon", "noise_multiplier")  # of `jaxmlp.private.sweep` alone
FOLD = "fold"  # the name of what `run` adds for its folds
_MOST_TRIALS = 1_000_000


Axes: TypeAlias = Mapping[str, Iterable[Any]]


class _Unset(Enum):
    """The value of a hyperparameter that a trial leaves to the network and the `TrainConfig` of the sweep."""

    UNSET = "unset"


UNSET = _Unset.UNSET


@dataclass(frozen=True)
class Space:
    """The trials of a sweep: the names of the hyperparameters that vary, and for each trial a row of their values.

    `a + b` has the trials of both, each once. A trial has the value of the sweep's network or `TrainConfig` where its
    own space does not name the hyperparameter.

    >>> both = grid(learning_rate=[0.1, 0.2]) + grid(learning_rate=[0.2, 0.4]) + grid(momentum=[0.0, 0.5])
    >>> both.names, len(both)
    (('learning_rate', 'momentum'), 5)
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        """Convert lists and arrays to tuples of Python numbers: a sweep saves its space as JSON."""
        object.__setattr__(self, "rows", plain(self.rows))

    def __len__(self) -> int:
        """Return how many trials there are."""
        return len(self.rows)

    def __add__(self, other: "Space") -> "Space":
        """Return the trials of both spaces, without those that are the same."""
        if not isinstance(other, Space):
            return NotImplemented
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        each = [dict(zip(space.names, row, strict=True)) for space in (self, other) for row in space.rows]
        return Space(names, tuple(dict.fromkeys(tuple(row.get(name, UNSET) for name in names) for row in each)))


@dataclass(frozen=True)
class Distribution:
    """A distribution of numbers between two bounds, for `random`; made by `uniform`, `log_uniform` and `integers`."""

    kind: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("low", "high"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        types, words = (int, "whole") if self.kind == "integers" else ((int, float), "finite")
        bounds = (self.low, self.high)
        if not all(isinstance(n, types) and not isinstance(n, bool) and math.isfinite(n) for n in bounds):
            raise ValueError(f"{self.kind} must lie between two {words} numbers, got {self.low!r} and {self.high!r}")
        if self.kind == "log_uniform" and self.low <= 0:
            raise ValueError(f"log_uniform must begin above 0, got {self.low!r}")
        if self.low >= self.high:
            raise ValueError(f"{self.kind} must begin below its end, got {self.low!r} to {self.high!r}")

    @property
    def n_values(self) -> float:
        """Return how many numbers can be drawn; infinity for real ones."""
        return self.high - self.low + 1 if self.kind == "integers" else math.inf

    def at(self, share: float) -> float | int:
        """Return a quantile: the number below which this share (0 to 1) of all draws lies."""
        if self.kind == "log_uniform":
            exponent = math.log(self.low) + share * (math.log(self.high) - math.log(self.low))
            return min(max(math.exp(exponent), self.low), self.high)
        if self.kind == "integers":
            return min(int(self.low + share * (self.high - self.low + 1)), int(self.high))
        return self.low + share * (self.high - self.low)


class Trial(NamedTuple):
    """One training run: `train(mlp, data, config, key=jax.random.key(seed))`; `values` has those that vary.

    With folds, `data` are the rows that fold number `fold` does not hold out.
    """

    number: int
    values: dict[str, Any]
    mlp: MLP
    config: TrainConfig
    seed: int
    fold: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Return what the order of its examples depends on, the seed and the fold (-1 if there are none)."""
        return self.seed, -1 if self.fold is None else self.fold


def uniform(low: float, high: float) -> Distribution:
    """Return the uniform distribution between two bounds.

    >>> random(3, momentum=uniform(0, 0.99)).names
    ('momentum',)
    """
    return Distribution("uniform", low, high)


def log_uniform(low: float, high: float) -> Distribution:
    """Return the distribution of positive numbers whose logarithm is uniform.

    >>> log_uniform(0, 1)
    Traceback (most recent call last):
    ValueError: log_uniform must begin above 0, got 0
    """
    return Distribution("log_uniform", low, high)


def integers(low: int, high: int) -> Distribution:
    """Return the uniform distribution of whole numbers, both bounds included.

    >>> integers(2, 4).at(0.99)
    4
    """
    return Distribution("integers", low, high)


def grid(parts: Axes | Sequence[Axes] | None = None, /, **axes: Iterable[Any]) -> Space:
    """Return the space of all combinations of values; the last axis varies fastest.

    Parameters
    ----------
    parts
        Axes as a dict, or several dicts whose grids add up, as in scikit-learn: for hyperparameters that matter only
        beside certain values of others.
    **axes
        Axes of every part.
        The values of each hyperparameter: any field of `jaxmlp.TrainConfig` except `track`; `hidden` (tuples of
        widths), `activation`, `output` and `loss` of the network; and `seed`, for initial weights and batch order.
        `epsilon` and `noise_multiplier` are for `jaxmlp.private.sweep` alone.

    Raises
    ------
    ValueError
        If a name is unknown, or an axis is empty or not a list of values.

    Warns
    -----
    UserWarning
        If an axis has a single value, which compares nothing, or the same value twice, which is taken once.

    Examples
    --------
    >>> space = grid(learning_rate=[0.01, 0.1], seed=range(4))
    >>> len(space), space.rows[1]
    (8, (0.01, 1))
    >>> schedules = [{"schedule": ["constant", "cosine"]}, {"schedule": ["step"], "step_epochs": [5, 10]}]
    >>> len(grid(schedules, learning_rate=[0.01, 0.1]))
    8
    """
    is_one = parts is None or isinstance(parts, Mapping)
    listed: Any = [parts or {}] if is_one else parts
    if isinstance(listed, str | bytes) or not isinstance(listed, Sequence):
        raise ValueError(f"a grid must be made of dicts of names and their values, got {listed!r}")
    spaces = []
    for part in listed:
        if not isinstance(part, Mapping):
            raise ValueError(f"a grid must be made of dicts of names and their values, got {part!r}")
        if twice := sorted(part.keys() & axes.keys()):
            raise ValueError(f"{twice[0]} is given twice: give all its values in one place")
        if not (of_part := {**part, **axes}):
            raise ValueError("a grid must have at least one hyperparameter, got none")
        values = [axis_values(name, axis, may_be_alone=not is_one) for name, axis in of_part.items()]
        _check_count(math.prod(len(axis) for axis in values))
        spaces.append(Space(tuple(of_part), tuple(itertools.product(*values))))
    if not spaces:
        raise ValueError("a grid must have at least one hyperparameter, got none")
    _check_count(sum(map(len, spaces)))
    return reduce(add, spaces)


def random(n: int, *, method: str = "random", draw: int = 0, **axes: Distribution | Iterable[Any]) -> Space:
    """Return a space of `n` distinct random settings, each with every seed.

    Parameters
    ----------
    n
        The number of settings. A setting that is drawn again is left out, and another is drawn.
    method
        `"random"`: independent draws; `"sobol"`: a scrambled Sobol sequence, which fills the space more evenly
        (Owen 1998), best with a power of 2.
    draw
        The seed of the draws: equal seeds give equal settings.
    **axes
        Distributions (`uniform`, `log_uniform`, `integers`), or lists to draw from. `seed` is not drawn: every setting
        is trained with every seed.

    Raises and warns like `grid`; also raises for an unknown method, and for `n` or `draw` out of range, and warns if
    there are fewer than `n` distinct settings: then each is drawn once.

    Examples
    --------
    >>> space = random(64, learning_rate=log_uniform(1e-3, 1), activation=["tanh", "relu"], seed=range(4))
    >>> len(space)
    256
    """
    n, draw = whole_number("n", n, 1), whole_number("draw", draw, 0)
    if method not in _METHODS:
        raise ValueError(unknown_name("method", method, _METHODS))
    seeds = axis_values("seed", axes.pop("seed")) if "seed" in axes else None
    drawn = {name: axis if isinstance(axis, Distribution) else axis_values(name, axis) for name, axis in axes.items()}
    for name in drawn:
        check_name(name)
    if not drawn:
        raise ValueError("a random space must have at least one hyperparameter to draw, got none")
    _check_count(n * len(seeds or [0]))
    settings = _distinct(n, list(drawn.values()), _METHODS[method](len(drawn), draw))
    if len(settings) < n:
        got = f"n is {n}, but only {len(settings)} settings are distinct: each is drawn once"
        warnings.warn(got, UserWarning, stacklevel=2)
    if seeds is None:
        return Space(tuple(drawn), tuple(settings))
    return Space((*drawn, "seed"), tuple((*setting, seed) for setting in settings for seed in seeds))


def _independent(n_axes: int, draw: int) -> Callable[[int], np.ndarray]:
    """Return a function that draws the next n points, [n, axes], each number from 0 to 1."""
    rng = np.random.default_rng(draw)
    return lambda n: rng.random((n, n_axes))


def _sobol(n_axes: int, draw: int) -> Callable[[int], np.ndarray]:
    from scipy.stats import qmc  # it takes a third of a second to import

    points = qmc.Sobol(n_axes, scramble=True, rng=np.random.default_rng(draw))

    def next_points(n: int) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # if n is no power of 2, which is only a little less even
            return points.random(n)

    return next_points


_METHODS = {"random": _independent, "sobol": _sobol}


def _distinct(
    n: int, axes: Sequence[Distribution | tuple[Any, ...]], next_points: Callable[[int], np.ndarray]
) -> list[tuple[Any, ...]]:
    """Return the first n distinct settings of a stream of points, all that there are if they are fewer.

    So those of a smaller n are the first of a larger one's.
    """
    most = math.prod(axis.n_values if isinstance(axis, Distribution) else len(axis) for axis in axes)
    found: dict[tuple[Any, ...], None] = {}
    while (before := len(found)) < min(n, most):
        # Batches whose length is a power of 2 keep the Sobol sequence even.
        for point in next_points(1 << (n - 1).bit_length()).tolist():
            found[tuple(_at(axis, share) for axis, share in zip(axes, point, strict=True))] = None
        if math.isinf(most) and len(found) == before:
            break  # the bounds of a distribution have but a few floats between them
    return list(found)[:n]


def _at(axis: Distribution | tuple[Any, ...], share: float) -> Any:
    return axis.at(share) if isinstance(axis, Distribution) else axis[min(int(share * len(axis)), len(axis) - 1)]


def check_name(name: str) -> None:
    if name not in (*NAMES, *OF_PRIVACY):
        raise ValueError(unknown_name("hyperparameter", name, NAMES))


def _check_count(n: int) -> None:
    if n > _MOST_TRIALS:
        raise ValueError(f"a space must have at most {_MOST_TRIALS:,} trials, got {n:,}")


def axis_values(name: str, axis: Any, *, may_be_alone: bool = False) -> tuple[Any, ...]:
    """Return the values of an axis, checked, as Python numbers; a whole number of `hidden` is a single layer.

    >>> axis_values("hidden", [32, (64, 64)])
    ((32,), (64, 64))
    """
    check_name(name)
    if isinstance(axis, Distribution):
        raise ValueError(f"{name} must be a list of values here, got a distribution; `random` draws from one")
    if isinstance(axis, str | bytes | Mapping | Set) or not isinstance(axis, Iterable) or getattr(axis, "ndim", 1) == 0:
        raise ValueError(f"{name} must be a list of values, got {axis!r}")
    values = tuple(plain(value) for value in axis)
    if name == "hidden":
        values = tuple((value,) if type(value) is int else value for value in values)
    if not values:
        raise ValueError(f"{name} must have at least one value, got none")
    if len(values) == 1 and not may_be_alone and name not in (*_OF_NETWORK, "seed"):  # allowed, but rarely meant
        warnings.warn(f"{name} has a single value, {values[0]!r}: nothing is compared", UserWarning, stacklevel=4)
    if len(distinct := tuple(dict.fromkeys(values))) < len(values):
        warnings.warn(f"{name} has the same value twice: {list(values)}; it is taken once", UserWarning, stacklevel=4)
    return distinct


def plain(value: Any) -> Any:
    """Convert lists to tuples, and numbers and arrays of NumPy and JAX to Python's, also inside a dict.

    A float32 becomes the shortest number that rounds to it, as NumPy prints it.

    >>> plain(np.float32(0.1))
    0.1
    """
    if hasattr(value, "tolist"):
        kind = getattr(value, "dtype", None)
        if kind is not None and kind.itemsize < 8 and kind.kind in "fV":  # bfloat16 is of kind V
            short = np.asarray(value)
            value = np.array([float(str(number)) for number in short.ravel()]).reshape(short.shape)
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def trials(space: Space, base: MLP, config: TrainConfig) -> list[Trial]:
    """Return every trial with its network and its configuration, checked: an error names the trial and its values.

    `base` and `config` hold the values that the space does not vary, or that a trial leaves unset: these are then among
    the values of the trial. If the loss varies and the output does not, the output follows the loss.

    >>> trials(grid(momentum=[0.5, 1.0]), MLP((2, 3)), TrainConfig())
    Traceback (most recent call last):
    ValueError: trial 1 (momentum=1.0): momentum must be 0 or larger and below 1, got 1.0
    """
    if not isinstance(space.names, tuple | list):  # a space may be made by hand
        raise ValueError(f"the names of a space must be a tuple of names, got {space.names!r}")
    for name in space.names:
        if name in OF_PRIVACY:
            raise ValueError(f"{name} varies in private training alone: use jaxmlp.private.sweep")
        if name != FOLD:
            check_name(name)
    if len(set(space.names)) < len(space.names):
        raise ValueError(f"the names of a space must be distinct, got {', '.join(space.names)}")
    if not space.rows:
        raise ValueError("a space must have at least one trial, got none")
    network = cache(lambda changes: _network(base, dict(changes)))
    found = []
    for number, row in enumerate(space.rows):
        if len(row) != len(space.names):
            raise ValueError(f"trial {number}: must have a value for each of {', '.join(space.names)}, got {row!r}")
        values = {name: value for name, value in zip(space.names, row, strict=True) if value is not UNSET}
        try:
            mlp = network(tuple((name, values[name]) for name in _OF_NETWORK if name in values))
            of_training = {name: value for name, value in values.items() if name in _OF_TRAINING}
            seed = whole_number("seed", values.get("seed", 0), 0, 2**32 - 1)
            changed = replace(config, **of_training)
            whole = {**vars(changed), **vars(mlp), "hidden": mlp.sizes[1:-1], "seed": seed} | values
            values = {name: whole[name] for name in space.names}
            found.append(Trial(number, values, mlp, changed, seed, values.get(FOLD)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{described(number, values)}: {error}") from error
    return found


def described(number: int, values: Mapping[str, Any]) -> str:
    """Return a trial's number and values, for an error line."""
    return f"trial {number} ({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def _network(base: MLP, changes: Mapping[str, Any]) -> MLP:
    values = dict(changes)
    if "hidden" in values:
        hidden = values.pop("hidden")
        if not isinstance(hidden, tuple):
            raise ValueError(f"hidden must be a tuple of widths, got {hidden!r}")
        values["sizes"] = (base.sizes[0], *hidden, base.sizes[-1])
    if "output" not in values and values.get("loss", base.loss) != base.loss and values["loss"] in LOSSES:
        outputs = LOSSES[values["loss"]].outputs
        of_classes = base.output in ("softmax", "sigmoid")
        # A loss that takes several: as the terminal chooses.
        usual = "sigmoid" if of_classes else "identity"
        values["output"] = usual if usual in outputs else next(iter(outputs))
    return replace(base, **values)
