"""`tune`: search settings of training within seconds or trials, and train the best few of them as one model.

1. The default setting is timed, and trained shortly with each encoding of numbers: the best by validation is kept.
2. A sweep with halving compares settings, the default among them, by validation.
3. The best few settings are trained anew, each with several seeds, on the training and validation examples together.
   The mean of these networks is the model. It is evaluated once on the test examples, which nothing else looks at.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.data import Encoding, Prepared, Source, prepare
from jaxmlp.network import MLP, Network
from jaxmlp.sweep.budget import Budget, Costs, Decisions
from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.metrics import score
from jaxmlp.sweep.progress import Progress, StopSweep
from jaxmlp.sweep.results import Results, load
from jaxmlp.sweep.running import run
from jaxmlp.sweep.space import Space, log_uniform, plain, random
from jaxmlp.sweep.workers import all_workers
from jaxmlp.training.config import TABLE_HIDDEN, TrainConfig
from jaxmlp.training.evaluation import evaluate_networks
from jaxmlp.training.history import Epoch, Evaluation
from jaxmlp.training.loop import train

__all__ = ["SEARCHED", "Tuned", "tune"]

SEARCHED = ("learning_rate", "weight_decay", "hidden")
"""The hyperparameters that are searched."""

_HIDDEN = [TABLE_HIDDEN, (128, 128), (256, 256, 256)]
_SCALINGS = ("piecewise", "robust")
_LEARNING_RATES = (0.005, 0.1)
_DECAY, _DECAY_FACTOR = 1e-3, 5.0  # weight decay is searched around its default, or around 1e-3 if that is 0
_FACTOR = 3  # of the halving, which compares trials at a ninth, a third and the end of their epochs
_MOST_SETTINGS, _TRIALS_A_SETTING = 4, 6  # one setting is chosen for every six trials


class Tuned(NamedTuple):
    """The result of `tune`.

    Attributes
    ----------
    networks
        The networks whose mean output is the model.
    encoding
        How raw inputs become theirs.
    settings
        The hyperparameters that were chosen, the best first.
    test
        Evaluation of the mean output on the test examples.
    search
        The sweep that the settings were chosen from, if `out` was given; None if there was only time for the default.
    """

    networks: tuple[Network, ...]
    encoding: Encoding
    settings: tuple[dict[str, Any], ...]
    test: Evaluation
    search: Results | None


def tune(
    source: Source,
    *,
    seconds: float | None = None,
    trials: int | None = None,
    mlp: MLP | None = None,
    config: TrainConfig | None = None,
    searched: Sequence[str] = SEARCHED,
    scaling: str | None = None,
    validation_fraction: float = 0.2,
    weights: Literal["balanced"] | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    about: Mapping[str, Any] | None = None,
    callback: Callable[[str, Progress], object] | None = None,
    **preparing: Any,
) -> Tuned:
    """Return networks that suit a source, found within a budget.

    Parameters
    ----------
    source
        What `jaxmlp.data.read` or `from_frame` returns.
    seconds, trials
        The budget, one of both. A network that takes longer than all seconds is trained to its end all the same. With
        trials the result is reproducible.
    mlp, config
        The default setting, and all that is not searched. If None: what suits the source. A patience is ignored.
    searched
        The hyperparameters to search, some of `SEARCHED`.
    scaling
        The encoding of numbers, see `jaxmlp.data.prepare`. If None, "piecewise" and "robust" are compared for tables.
    validation_fraction
        The share of the training part to choose by.
    weights
        The weights of the training examples, see `jaxmlp.Dataset`: "balanced" or None.
    seed
        Seed of the split, the settings and the networks.
    out
        A folder for the search (`sweep`) and the networks (`networks`), both sweeps. Repeating the call continues an
        interrupted tuning.
    about
        Plain JSON values that are kept with both.
    callback
        Called with "sweep" or "networks" and its `Progress`.
    **preparing
        Further options of `jaxmlp.data.prepare`.

    Raises
    ------
    ValueError
        If there is no budget or two, a name is unknown, every network diverged, or `out` holds another tuning; also as
        `prepare` and `run` do.

    Examples
    --------
    >>> from jaxmlp.data import read
    >>> tuned = tune(read("iris"), trials=6, config=TrainConfig(epochs=9), searched=["learning_rate"])
    >>> len(tuned.networks), tuned.test.accuracy > 0.8
    (8, True)
    """
    seed = whole_number("seed", seed, 0, 2**31 - 1)
    for name in searched:
        if name not in SEARCHED:
            raise ValueError(unknown_name("hyperparameter", name, SEARCHED))
    folder, budget = None if out is None else Path(out), Budget(seconds, trials)
    kept = Decisions(folder, budget).kept
    scalings = _SCALINGS if scaling is None and source.is_table else (scaling,)
    prepared = partial(_prepared, source, weights=weights, seed=seed, **preparing)
    parts = {name: prepared(scaling=name, validation_fraction=validation_fraction) for name in scalings}
    default = _default(parts[scalings[0]], mlp, config, is_table=source.is_table)
    tuning = _Tuning(*default, tuple(searched), seed, budget, kept, folder, dict(about or {}), callback)
    costs = Costs(*kept("costs", lambda: tuning.measured(parts[scalings[0]])))
    chosen = kept("scaling", lambda: tuning.scaling(parts, costs))
    settings = [plain(each) for each in kept("settings", lambda: tuning.settings(parts[chosen], costs))]
    whole = prepared(scaling=chosen, validation_fraction=None)
    ratio = len(whole.train) / len(parts[chosen].train)
    networks = tuning.networks(whole, settings, costs.times(ratio))
    search = load(folder / "sweep") if folder is not None and (folder / "sweep").exists() else None
    return Tuned(networks, whole.encoding, tuple(settings), evaluate_networks(networks, whole.test), search)


def _prepared(source: Source, *, weights: Literal["balanced"] | None, **options: Any) -> Prepared:
    parts = prepare(source, **options)
    return parts if weights is None else parts._replace(train=replace(parts.train, weights=weights))


def _default(data: Prepared, mlp: MLP | None, config: TrainConfig | None, *, is_table: bool) -> tuple[MLP, TrainConfig]:
    """Return the default setting; the network's number of inputs is set later."""
    classes, n = data.encoding.class_names, len(data.train)
    if mlp is None:
        hidden, n_out = TABLE_HIDDEN if is_table else (128,), len(classes or data.train.t[0].ravel())
        mlp = MLP((1, *hidden, n_out), **({"output": "identity", "loss": "quadratic"} if classes is None else {}))
    if config is None:
        config = TrainConfig.for_table(n) if is_table else TrainConfig(batch_size=min(TrainConfig.batch_size, n))
    return mlp, replace(config, patience=None)


@dataclass(frozen=True)
class _Tuning:
    """The default setting, what to search, and the budget."""

    mlp: MLP
    config: TrainConfig
    searched: tuple[str, ...]
    seed: int
    budget: Budget
    kept: Callable[[str, Callable[[], Any]], Any]
    folder: Path | None
    about: dict[str, Any]
    callback: Callable[[str, Progress], object] | None

    def network(self, data: Prepared) -> MLP:
        """Return the default network for these data."""
        return replace(self.mlp, sizes=(data.train.n_inputs, *self.mlp.sizes[1:]))

    def history(self, data: Prepared, epochs: int) -> tuple[Epoch, ...]:
        """Train the default setting for some epochs."""
        config, key = replace(self.config, epochs=epochs), jax.random.key(self.seed)
        return train(self.network(data), data.train, config, key=key, validation=data.validation).history

    def measured(self, data: Prepared) -> Costs:
        """Return the costs of the default setting."""
        first, *others = self.history(data, min(2, self.config.epochs))
        seconds = others[0].seconds if others else first.seconds
        return Costs(seconds, first.seconds - seconds, self.config.epochs)

    def scaling(self, parts: Mapping[str | None, Prepared], costs: Costs) -> str | None:
        """Return the encoding with which the default setting is best after a third of the epochs, if there is time."""
        epochs, first = math.ceil(self.config.epochs / 3), next(iter(parts))
        if len(parts) == 1 or not self.budget.allows_comparing(len(parts), costs._replace(epochs=epochs)):
            return first
        metric = "validation_r2" if parts[first].encoding.class_names is None else "validation_accuracy"
        return max(parts, key=lambda name: score(self.history(parts[name], epochs)[-1], metric))

    def settings(self, data: Prepared, costs: Costs) -> list[dict[str, Any]]:
        """Return the best few settings of a search; only the default one if there is no time for more."""
        halving = Halving(_FACTOR, first=math.ceil(self.config.epochs / _FACTOR**2))
        some = self._drawn(16)
        costs = costs.times(self._relative_cost(data, some))
        n = self.kept("trials_searched", lambda: self.budget.n_trials(costs, halving, _n_programs(some)))
        if not (n and self.searched):
            return [self._default_setting]
        watched = {"validation": data.validation, "halving": halving, "keep": 0}
        rows = [(setting, self.seed) for setting in self._drawn(n)]
        search = self._sweep("sweep", data, rows, reserved=self.budget.for_networks(costs), **watched)
        return _best(search) if search.rows() else [self._default_setting]

    def networks(self, data: Prepared, settings: Sequence[dict[str, Any]], costs: Costs) -> tuple[Network, ...]:
        """Train the networks of the model: each setting with one seed, then each with the next."""
        costs = costs.times(self._relative_cost(data, settings))
        n = self.kept("networks", lambda: self.budget.n_networks(costs, _n_programs(settings)))
        rows = [(settings[k % len(settings)], self.seed + k // len(settings)) for k in range(n)]
        trained = self._sweep("networks", data, rows, keep="all")
        numbers = [row.trial for row in trained.rows() if row.status != "diverged"]
        if not numbers:
            raise ValueError("every network of the best settings diverged: are there wrong numbers in a column?")
        return tuple(network for number in numbers for network in trained.model(number).networks)

    @property
    def _default_setting(self) -> dict[str, Any]:
        values = {"hidden": self.mlp.sizes[1:-1], **vars(self.config)}
        return {name: values[name] for name in SEARCHED if name in self.searched} or {"hidden": values["hidden"]}

    def _drawn(self, n: int) -> list[dict[str, Any]]:
        """Return the default setting, and n - 1 others, or all that there are."""
        default = self._default_setting
        decay = self.config.weight_decay or _DECAY
        axes: dict[str, Any] = {
            "learning_rate": log_uniform(*_LEARNING_RATES),
            "weight_decay": log_uniform(decay / _DECAY_FACTOR, decay * _DECAY_FACTOR),
            "hidden": list(dict.fromkeys([self.mlp.sizes[1:-1], *_HIDDEN])),
        }
        if n == 1:
            return [default]
        axes = {name: axes[name] for name in default}
        if list(axes) == ["hidden"]:
            n = min(n, 1 + len(axes["hidden"]))
        space = random(n - 1, method="sobol", draw=self.seed, **axes)
        others = (dict(zip(space.names, row, strict=True)) for row in space.rows)
        return [default, *(each for each in others if each != default)]

    def _relative_cost(self, data: Prepared, settings: Sequence[Mapping[str, Any]]) -> float:
        """Return the mean number of parameters of some settings, relative to that of the default."""
        mlp = self.network(data)
        n_in, *default, n_out = mlp.sizes
        sizes = [(n_in, *setting.get("hidden", default), n_out) for setting in settings]
        return sum((a + 1) * b for each in sizes for a, b in pairwise(each)) / len(settings) / mlp.n_parameters

    def _sweep(
        self,
        name: str,
        data: Prepared,
        rows: Sequence[tuple[dict[str, Any], int]],
        *,
        reserved: float = -math.inf,
        **options: Any,
    ) -> Results:
        """Run settings, each with a seed, as a sweep in a folder of this name; stop where only `reserved` is left."""

        def told(progress: Progress) -> None:
            if self.callback is not None:
                self.callback(name, progress)
            if self.budget.left < reserved:
                raise StopSweep

        if jax.default_backend() == "cpu":
            # All rungs share a program: on a small table compiling takes longer than all else.
            options |= {"lanes": 1, "trials_a_block": len(all_workers())}
        space = Space((*rows[0][0], "seed"), tuple((*setting.values(), seed) for setting, seed in rows))
        options |= {"out": None if self.folder is None else self.folder / name, "about": self.about}
        options |= {"mlp": self.network(data), "encoding": data.encoding, "callback": told}
        return run(space, data.train, self.config, **options)


def _best(search: Results) -> list[dict[str, Any]]:
    """Return the best few settings: those that went furthest, and of these the best by validation."""
    ended = [row for row in search.rows() if row.status != "diverged"]
    if not ended:
        raise ValueError("every trial of the search diverged: are there wrong numbers in a column?")
    ended.sort(key=lambda row: (-row.epochs, -score(row, search.metric), row.trial))
    n = min(_MOST_SETTINGS, max(1, len(ended) // _TRIALS_A_SETTING))
    values = [search.trial(row.trial).values for row in ended[:n]]
    return [{name: value for name, value in each.items() if name != "seed"} for each in values]


def _n_programs(settings: Sequence[Mapping[str, Any]]) -> int:
    return len({setting.get("hidden") for setting in settings})
