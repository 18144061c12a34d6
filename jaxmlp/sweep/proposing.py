"""What an Optuna study proposes: a space of ours as its distributions, and its parameters as values of ours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxmlp.sweep.space import Distribution, Space, axis_values, check_name

if TYPE_CHECKING:
    import optuna

__all__ = ["Axes"]


@dataclass(frozen=True)
class Axes:
    """What a study proposes for each hyperparameter.

    Attributes
    ----------
    axes
        For each name a distribution, or the values to choose from by the words that Optuna keeps for them.
    seeds
        The seeds that every setting is trained with; None if the space has none.
    """

    axes: dict[str, Distribution | dict[Any, Any]]
    seeds: tuple[int, ...] | None

    @classmethod
    def of(cls, space: Mapping[str, Distribution | Iterable[Any]]) -> "Axes":
        """Return the axes of a space as `random` takes it; raise its errors."""
        if not isinstance(space, Mapping):
            example = "{'learning_rate': sweep.log_uniform(0.001, 1)}"
            raise TypeError(f"space must be a dict of names, as {example}, got {type(space).__name__}")
        axes: dict[str, Distribution | dict[Any, Any]] = {}
        for name, axis in space.items():
            if name != "seed":
                check_name(name)
                axes[name] = axis if isinstance(axis, Distribution) else _choices(name, axis_values(name, axis))
        if not axes:
            raise ValueError("a space must have at least one hyperparameter to propose, got none")
        return cls(axes, axis_values("seed", space["seed"]) if "seed" in space else None)

    @property
    def n_seeds(self) -> int:
        """Return how many networks are trained for a setting."""
        return len(self.seeds or [0])

    def space(self, settings: Iterable[Sequence[Any]]) -> Space:
        """Return the space of some settings, each with every seed."""
        if self.seeds is None:
            return Space(tuple(self.axes), tuple(map(tuple, settings)))
        return Space((*self.axes, "seed"), tuple((*setting, seed) for setting in settings for seed in self.seeds))

    def ends(self) -> Space:
        """Return every choice and both bounds of each hyperparameter, each beside the first of all others."""
        of_each = [
            (axis.low, axis.high) if isinstance(axis, Distribution) else (*axis.values(),)
            for axis in self.axes.values()
        ]
        first = [ends[0] for ends in of_each]
        return self.space([(*first[:i], end, *first[i + 1 :]) for i, ends in enumerate(of_each) for end in ends])

    def to_json(self) -> dict[str, Any]:
        """Return what may not change while a study goes on: the bounds of a distribution may."""
        return {n: axis.kind if isinstance(axis, Distribution) else [*axis] for n, axis in self.axes.items()}

    def suggest(self, trial: "optuna.Trial") -> None:
        """Ask for the parameters of a trial."""
        for name, axis in self.axes.items():
            try:
                if not isinstance(axis, Distribution):
                    trial.suggest_categorical(name, tuple(axis))
                elif axis.kind == "integers":
                    trial.suggest_int(name, int(axis.low), int(axis.high))
                else:
                    trial.suggest_float(name, axis.low, axis.high, log=axis.kind == "log_uniform")
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def setting(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values that a trial's parameters stand for, in the order of the axes."""
        return tuple(
            params[name] if isinstance(axis, Distribution) else axis[params[name]] for name, axis in self.axes.items()
        )


def _choices(name: str, values: Iterable[Any]) -> dict[Any, Any]:
    """Return values by what Optuna keeps: widths and names of layers are words, as they are typed in the terminal.

    >>> _choices("hidden", [(64, 32), ()])
    {'64:32': (64, 32), 'none': ()}
    """
    choices: dict[Any, Any] = {}
    for value in values:
        word = (":".join(map(str, value)) or "none") if isinstance(value, tuple) else value
        if word in choices:
            raise ValueError(f"{name} must have distinct values, got {word!r} twice")
        choices[word] = value
    return choices
