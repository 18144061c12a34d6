"""What a sweep found: a table of its trials, the best settings, their curves and models."""

import math
import sys
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxmlp._intervals import Interval, interval
from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.data import Prepared
from jaxmlp.network import MLP, Params
from jaxmlp.storage.checkpoint import Model
from jaxmlp.storage.files import write_whole
from jaxmlp.sweep.job import Data, Parts, parts_of
from jaxmlp.sweep.keeping import kept_trials, train_again
from jaxmlp.sweep.metrics import (
    METRICS,
    OVER,
    REPORTED,
    Setting,
    bounds,
    is_better_high,
    label,
    numbered,
    on_test,
    score,
)
from jaxmlp.sweep.space import NAMES, Space, Trial, plain, trials
from jaxmlp.sweep.status import Status, status_of
from jaxmlp.sweep.store import Row, Store, is_cut_short, outcome
from jaxmlp.sweep.store_checks import check_outcomes
from jaxmlp.sweep.tables import curves_table, settings_table, trials_table
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import STATUSES, Epoch

if TYPE_CHECKING:
    import polars

__all__ = ["Results", "load", "warn_if_unfinished"]


class Results:
    """The trials of a sweep.

    Attributes
    ----------
    names, metric
        The hyperparameters that varied, and the metric that ranks trials by default.
    title, folder
        The title of pictures and reports, and the folder of the sweep; None if the sweep is in memory.
    about
        The argument `about` of `run`.
    """

    def __init__(self, store: Store, listed: Sequence[Trial] | None = None, parts: Parts | None = None) -> None:
        """Read the description of a sweep from its store, and its trials if they are not given."""
        self._store, self._parts = store, parts
        self._again: dict[int, Model] = {}  # models that were trained again
        self.folder = store.folder
        self.metric: str = store.about("metric")
        self.about: dict[str, Any] = store.about("about")
        self.title = store.folder.name if store.folder else "sweep"
        if listed is None:
            mlp, config = MLP(**plain(store.about("mlp"))), TrainConfig(**plain(store.about("config")))
            listed = trials(Space(tuple(store.about("names")), plain(store.about("rows"))), mlp, config)
        self._trials = listed
        self.names: tuple[str, ...] = tuple(listed[0].values)

    def __len__(self) -> int:
        """Return how many trials the sweep has, finished or not."""
        return len(self._trials)

    def __str__(self) -> str:
        """Say how many trials have ended, and how."""
        counts = self.counts()
        ended = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        return f"{sum(counts.values())} of {len(self)} trials{f': {ended}' if ended else ''}"

    def __repr__(self) -> str:
        """Say what `str` says, and name the best setting."""
        found = self._ranked(self.metric, OVER)
        if not found:
            return f"<Results of {self.title}: {self}>"
        best = found[0]
        values = ", ".join(f"{name}={value!r}" for name, value in best.hyperparameters.items())
        mean = f"{best.metric} {best.mean:.4g}, the mean of {len(best.trials)} of {best.n_asked}"
        return f"<Results of {self.title}: {self}; best {mean}{f': {values}' if values else ''}>"

    @property
    def unfinished(self) -> str | None:
        """Return in words how many trials have ended, None if all have.

        Then `settings`, `best`, `export` and reports say these words in a UserWarning: more trials may change them.
        """
        n = len(self.rows())
        return None if n == len(self) else f"{n:,} of {len(self):,} trials have ended"

    def status(self) -> Status:
        """Return how far the sweep is, also while other processes run it."""
        return status_of(self._store, self._trials, next(iter(self._ranked(self.metric, OVER)), None))

    def rows(self) -> list[Row]:
        """Return the outcome of every trial that has ended, by number."""
        return [row for row in self._store.rows() if row.status != "paused"]

    def counts(self) -> dict[str, int]:
        """Return how many trials are "finished", "stopped" and "diverged"."""
        statuses = [row.status for row in self.rows()]
        return {status: statuses.count(status) for status in STATUSES if status != "running"}

    def trial(self, number: int) -> Trial:
        """Return a trial's values, network and configuration."""
        return self._trials[whole_number("trial", number, 0, len(self._trials) - 1)]

    @property
    def fixed(self) -> dict[str, Any]:
        """Return the hyperparameters that do not vary, by name."""
        mlp, config = self._trials[0].mlp, self._trials[0].config
        values = {**asdict(config), **asdict(mlp), "hidden": mlp.sizes[1:-1], "seed": 0}
        return {name: values[name] for name in NAMES if name not in self.names}

    def table(self, *, fixed: bool = False) -> "polars.DataFrame":
        """Return a data frame with a row for each trial that has ended.

        Its columns: trial; the hyperparameters by name, also those of `fixed` if asked for; train_loss, and
        validation_loss, validation_accuracy, validation_r2, test_loss, test_accuracy and test_r2 where there are any;
        epochs, how many it had; best_epoch, whose parameters are kept and have these metrics (null if the first epoch
        diverged); status ("finished", "stopped", "diverged"); stopped_by ("patience", "halving", "divergence", or
        null); seconds (a trial's share of its block's time). Metrics are null where the trial diverged.

        Widths (`hidden`) are text as it is typed in the terminal, `64:64` or `none`, and so are activations where some
        trial has one for each layer. A hyperparameter that is None is null.

        Examples
        --------
        >>> from jaxmlp import Dataset, sweep
        >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
        >>> results = sweep.run(sweep.grid(learning_rate=[0.01, 0.1]), data)
        >>> results.table().columns
        ['trial', 'learning_rate', 'train_loss', 'epochs', 'best_epoch', 'status', 'stopped_by', 'seconds']
        >>> results.table(fixed=True)["hidden"].to_list()
        ['128', '128']
        """
        rows = self.rows()
        values = [self.trial(row.trial).values for row in rows]
        columns: dict[str, Any] = {name: [each[name] for each in values] for name in self.names}
        if fixed:
            columns |= {name: [value] * len(rows) for name, value in self.fixed.items()}
        return trials_table(rows, columns, [self.trial(row.trial).config for row in rows])

    def settings(
        self, metric: str | None = None, over: str | Collection[str] | None = OVER, *, fixed: bool = False
    ) -> "polars.DataFrame":
        """Return a data frame with a row for each setting: those of `ranked`, and then the settings that it leaves out.

        Its columns: the hyperparameters by name, as in `table`, also those of `fixed` if asked for; the mean of the
        metric, under its name, with low and high, the ends of its 95 % interval; the same of the test (test_low,
        test_high) if there is one; n, the trials in the mean; n_asked, those in the space; diverged, how many diverged;
        best_trial. Means of settings that `ranked` leaves out are null, and so are the ends for a single trial.

        Examples
        --------
        >>> from jaxmlp import Dataset, sweep
        >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
        >>> results = sweep.run(sweep.grid(learning_rate=[0.01, 0.1], seed=range(3)), data)
        >>> results.settings().columns
        ['learning_rate', 'train_loss', 'low', 'high', 'n', 'n_asked', 'diverged', 'best_trial']
        """
        warn_if_unfinished(self)
        metric = self.metric if metric is None else metric
        found = self._settings(metric, over)
        names = [name for name in self.names if name not in _names(over)]
        columns = {name: [each.hyperparameters[name] for each in found] for name in names}
        if fixed:
            columns |= {name: [value] * len(found) for name, value in self.fixed.items()}
        return settings_table(found, columns, metric)

    def ranked(self, metric: str | None = None, over: str | Collection[str] | None = OVER) -> list[Setting]:
        """Return the settings, the best first: trials that differ in `over` only are averaged.

        Settings of which all trials have ended come first, so that a single lucky seed is not ahead of several. A
        setting with a diverged trial is left out, and so are trials stopped by halving. An unknown name raises a
        ValueError.

        Parameters
        ----------
        metric
            One of "train_loss", "validation_loss", "validation_accuracy", "validation_r2"; `self.metric` if None. A low
            loss is best.
        over
            The hyperparameters to average over, one name or several; those that do not vary change nothing. If it is
            None, every trial is a setting.
        """
        warn_if_unfinished(self)
        return self._ranked(self.metric if metric is None else metric, over)

    def _ranked(self, metric: str, over: str | Collection[str] | None) -> list[Setting]:
        return [setting for setting in self._settings(metric, over) if not math.isnan(setting.mean)]

    def _settings(self, metric: str, over: str | Collection[str] | None) -> list[Setting]:
        """Return every setting of the space, first those that have a mean, the best of them first."""
        for name in _names(over):
            if name not in (*NAMES, *OVER):
                raise ValueError(unknown_name("hyperparameter", name, (*NAMES, *OVER)))
        if metric not in METRICS:
            if metric in REPORTED:
                raise ValueError(f"{metric} is for reporting: choose by validation_{metric.removeprefix('test_')}")
            raise ValueError(unknown_name("metric", metric, METRICS))
        numbers = numbered(self.names, [tuple(trial.values.values()) for trial in self._trials], _names(over))
        n_asked = Counter(numbers)
        groups: dict[int, list[Row]] = {number: [] for number in numbers}
        for row in self.rows():
            if not is_cut_short(row, self.trial(row.trial).config):
                groups[numbers[row.trial]].append(row)
        first = {number: trial for trial, number in reversed([*enumerate(numbers)])}
        found = []
        for number, group in groups.items():
            values = self.trial(first[number]).values
            shared = {name: value for name, value in values.items() if name not in _names(over)}
            diverged = sum(row.status == "diverged" for row in group)
            kept = [row for row in group if getattr(row, metric) is not None]
            kept.sort(key=lambda row: -score(row, metric))
            mean, test = Interval(math.nan, math.nan, math.nan), None
            if kept and len(kept) == len(group):
                mean = interval([getattr(row, metric) for row in kept], *bounds(metric))
                tests = [test for row in kept if (test := getattr(row, on_test(metric))) is not None]
                test = interval(tests, *bounds(on_test(metric))) if len(tests) == len(kept) else None
            of_group = tuple(row.trial for row in kept)
            found.append(Setting(shared, metric, *mean, of_group, n_asked[number], test, diverged))
        sign = -1 if is_better_high(metric) else 1

        def rank(setting: Setting) -> tuple[bool, bool, float]:
            is_without = math.isnan(setting.mean)
            return is_without, len(setting.trials) < setting.n_asked, 0.0 if is_without else sign * setting.mean

        return sorted(found, key=rank)

    def best(self, metric: str | None = None, over: str | Collection[str] | None = OVER) -> Setting:
        """Return the best of `ranked`; a ValueError says why there is none.

        The reasons: an unknown name, an unmeasured metric, no ended trial, or a diverged trial in every setting.
        """
        metric = self.metric if metric is None else metric
        found = self._ranked(metric, over)
        warn_if_unfinished(self)
        if found:
            return found[0]
        ended = [row for row in self.rows() if row.status != "diverged"]
        if ended and all(getattr(row, metric) is None for row in ended):
            if self._is_measured(metric):
                raise ValueError(f"{metric} is not a number in any trial: values are too large; scale the targets")
            raise ValueError(f"{metric} was not measured in this sweep")
        if (n := self.counts()["diverged"]) and not ended:
            so_far = "" if n == len(self) else f" so far ({n} of {len(self)})"
            raise ValueError(f"every trial{so_far} diverged: try lower learning rates, or scale the inputs")
        raise ValueError(f"no setting has a {metric}: {self}")

    def _is_measured(self, metric: str) -> bool:
        """Tell whether a metric suits the targets, and there are validation data if it needs them."""
        if not metric.startswith("validation"):
            return True
        is_accuracy = any(row.validation_accuracy is not None for row in self.rows())
        suits = {"validation_accuracy": is_accuracy, "validation_r2": not is_accuracy}
        held_out = [self._store.about(name) for name in ("validation", "folds")]
        return held_out != [None, None] and suits.get(metric, True)

    def curves(self, trial: int | None = None) -> "polars.DataFrame":
        """Return a data frame with a row for each epoch, of one trial or of all: trial, and `jaxmlp.Epoch`'s columns.

        Columns that no epoch has are left out.

        Examples
        --------
        >>> from jaxmlp import Dataset, TrainConfig, sweep
        >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
        >>> results = sweep.run(sweep.grid(learning_rate=[0.01, 0.1]), data, TrainConfig(epochs=2))
        >>> results.curves().select("trial", "epoch").rows()
        [(0, 1), (0, 2), (1, 1), (1, 2)]
        """
        if trial is not None:
            return curves_table([(trial, epoch) for epoch in self.history(trial)])
        return curves_table(self._store.curves())

    def history(self, trial: int) -> list[Epoch]:
        """Return a trial's epochs, as `Trained.history` has them."""
        self.trial(trial)
        return self._store.curve(trial)

    def params(
        self, trial: int | None = None, *, data: Data | Prepared | None = None, validation: Data | None = None
    ) -> Params:
        """Return the parameters of `model`."""
        model = self.model(trial, data=data, validation=validation)
        return jax.tree.map(jnp.asarray, model.networks[0].params)

    def model(
        self, trial: int | None = None, *, data: Data | Prepared | None = None, validation: Data | None = None
    ) -> Model:
        """Return the model of a trial; if None, of the best trial of the best setting.

        It takes raw inputs if `run` was given the encoding. A model that `run` did not keep (see its `keep`), or whose
        file is deleted or damaged, is trained again, as a UserWarning says. This takes the data of the sweep, which the
        results that `run` returns still have, and to which those of `load` must be given.

        Raises a ValueError if the data are needed and not given, or are other data; and like `best` if no trial is
        given.

        Examples
        --------
        >>> from jaxmlp import Dataset, sweep
        >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
        >>> results = sweep.run(sweep.grid(learning_rate=[0.1, 0.2], seed=range(2)), data, validation=data)
        >>> results.model().predict([[0.0, 1.0]]).argmax()
        np.int64(0)
        """
        number = self.best().trials[0] if trial is None else self.trial(trial).number
        if number in self._again:
            return self._again[number]
        parts = self._parts if data is None else parts_of(data, validation, None)[0]
        try:
            if (model := self._store.load_model(self.trial(number))) is not None:
                return model
            fault = f"the model of trial {number} was {'deleted' if number in self._kept() else 'not kept'}"
        except ValueError as error:
            fault = str(error)
        if (row := {row.trial: row for row in self.rows()}.get(number)) is None:
            raise ValueError(f"trial {number} has not ended; run the sweep to its end")
        if parts is None:
            what = "data=" if self._store.about("validation") is None else "data= and validation="
            raise ValueError(f"{fault}; pass {what} of the sweep to train it again")
        trained = train_again(self._store, self.trial(number), parts)
        again, before = getattr(outcome(number, trained), self.metric), getattr(row, self.metric)
        differs = "" if again == before else f"; now its {label(self.metric)} is {again}, in the sweep {before}"
        warnings.warn(f"{fault}: it is trained again{differs}", UserWarning, stacklevel=2)
        model = self._again[number] = self._store.model_of(self.trial(number), trained.params)
        return model

    def _kept(self) -> set[int]:
        """Return the trials whose models the sweep has kept."""
        by_number = {trial.number: trial for trial in self._trials}
        keep = self._store.about("keep") if self._store.knows("keep") else 0
        return kept_trials(self._store.rows(), by_number, self.metric, keep)

    def export(self, path: str | PathLike[str]) -> None:
        """Write the table to a `.parquet` or `.csv` file, whole or not at all."""
        warn_if_unfinished(self)
        path, content = Path(path), BytesIO()
        if path.suffix.lower() == ".parquet":
            self.table().write_parquet(content)
        elif path.suffix.lower() == ".csv":
            self.table().write_csv(content)
        else:
            raise ValueError(f"{path}: must end in .parquet or .csv")
        write_whole(path, content.getvalue())

    def report(self, path: str | PathLike[str]) -> None:
        """Write the report, one HTML file with tables and pictures: see `jaxmlp.sweep.report.write_report`."""
        from jaxmlp.sweep.report import write_report  # its packages take a second to import

        write_report(self, Path(path))


def load(folder: str | PathLike[str]) -> Results:
    """Open the results of a sweep that was run with `out=folder`, finished or not.

    Raises a FileNotFoundError if there is none, and a ValueError if the file is something else or damaged.
    """
    store = Store.open(Path(folder))
    results = Results(store)
    check_outcomes(store, [results.trial(number) for number in range(len(results))])
    return results


def warn_if_unfinished(results: Results) -> None:
    """Warn that a sweep has not ended, as the user's call of this library shall read."""
    if results.unfinished is not None:
        level, frame = 1, sys._getframe()
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("jaxmlp."):
            level, frame = level + 1, frame.f_back
        warnings.warn(results.unfinished, UserWarning, stacklevel=level)


def _names(over: str | Collection[str] | None) -> tuple[str, ...]:
    return (over,) if isinstance(over, str) else tuple(over or ())
