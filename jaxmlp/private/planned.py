"""The trials of a private sweep before they run: each with its mechanism, and with what it will spend."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from jaxmlp.network import MLP
from jaxmlp.private.accounting import epsilons
from jaxmlp.private.guarantee import Guarantee
from jaxmlp.private.mechanism import Mechanism, Privacy
from jaxmlp.private.training import check_accounted, config_for, mechanism_for, steps_of_epoch
from jaxmlp.sweep.job import Parts
from jaxmlp.sweep.running import checked_trials
from jaxmlp.sweep.space import OF_PRIVACY, UNSET, Axes, Space, Trial, check_name, described, grid
from jaxmlp.training.config import TrainConfig

__all__ = ["Planned", "planned"]

_OF_PRIVACY = (*OF_PRIVACY, "clip")


class Planned(NamedTuple):
    """A trial with all of its values, its mechanism, and its guarantee after its last step."""

    trial: Trial
    mechanism: Mechanism
    guarantee: Guarantee


def planned(
    space: Space | Axes | Sequence[Axes], parts: Parts, privacy: Privacy, config: TrainConfig | None, mlp: MLP | None
) -> list[Planned]:
    """Return the trials of a space, checked as `jaxmlp.private.train` checks one: an error names the trial."""
    space = grid(space) if isinstance(space, Mapping | list) else space
    if not isinstance(space, Space):
        raise TypeError(f"space must be made by grid or random, got {type(space).__name__}")
    for name in space.names:
        check_name(name)
    config = config or config_for(len(parts.data))
    check_accounted(parts.data, privacy, config)
    names = [name for name in space.names if name not in _OF_PRIVACY]
    rows = [dict(zip(space.names, row, strict=True)) for row in space.rows]
    others = Space(tuple(names), tuple(tuple(row[name] for name in names) for row in rows))
    listed, _ = checked_trials(others, parts, config, mlp)
    n_examples, found = len(parts.data), []

    @cache  # both parts take seconds; the clip changes nothing
    def account(privacy: Privacy, batch_size: int, epochs: int) -> tuple[Mechanism, int, float]:
        config = TrainConfig(batch_size=batch_size, epochs=epochs)
        mechanism, n_steps = mechanism_for(n_examples, privacy, config), epochs * steps_of_epoch(n_examples, config)
        return mechanism, n_steps, epsilons(mechanism, [n_steps], privacy.delta_for(n_examples))[0]

    for trial, row in zip(listed, rows, strict=True):
        given = {name: row[name] for name in space.names if name in _OF_PRIVACY and row[name] is not UNSET}
        try:
            of_trial = _changed(privacy, given)
            check_accounted(parts.data, of_trial, trial.config)
            of_steps = trial.config.batch_size, trial.config.epochs
            mechanism, n_steps, epsilon = account(replace(of_trial, clip=1.0), *of_steps)
        except ValueError as error:
            raise ValueError(f"{described(trial.number, given | trial.values)}: {error}") from error
        mechanism = replace(mechanism, clip=of_trial.clip)
        guarantee = Guarantee.of(mechanism, n_steps, epsilon, of_trial.delta_for(n_examples))
        whole = vars(of_trial) | trial.values
        values = {name: whole[name] for name in space.names}
        found.append(Planned(trial._replace(values=values), mechanism, guarantee))
    return found


def _changed(privacy: Privacy, given: Mapping[str, Any]) -> Privacy:
    """Return the privacy of a trial: a noise multiplier takes the place of epsilon, and the other way round."""
    blank: dict[str, Any] = dict.fromkeys(OF_PRIVACY) if any(name in given for name in OF_PRIVACY) else {}
    return replace(privacy, **(blank | dict(given)))
