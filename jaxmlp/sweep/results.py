"""What a sweep found: a table of its trials, the best settings, their curves and models."""

import warnings
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxmlp._extras import optional
from jaxmlp._intervals import interval
from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.network import MLP, Params
from jaxmlp.storage.checkpoint import Model
from jaxmlp.storage.files import write_whole
from jaxmlp.sweep.metrics import METRICS, REPORTED, Setting, bounds, is_better_high, numbered, on_test, score
from jaxmlp.sweep.space import NAMES, Space, Trial, plain, trials
from jaxmlp.sweep.store import Row, Store, is_cut_short
from jaxmlp.sweep.store_checks import check_outcomes
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import STATUSES, Epoch

if TYPE_CHECKING:
    import polars

__all__ = ["Results", "load", "warn_if_unfinished", "with_typed_layers"]

_TYPES = {str: "String", bool: "Boolean", int: "Int64", float: "Float64"}


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

    def __init__(self, store: Store, listed: Sequence[Trial] | None = None) -> None:
        """Read the description of a sweep from its store, and its trials if they are not given."""
        self._store = store
        self.folder = store.folder
        self.names: tuple[str, ...] = tuple(store.about("names"))
        self.metric: str = store.about("metric")
        self.about: dict[str, Any] = store.about("about")
        self.title = store.folder.name if store.folder else "sweep"
        self._space = Space(self.names, plain(store.about("rows")))
        if listed is None:
            mlp, config = MLP(**plain(store.about("mlp"))), TrainConfig(**plain(store.about("config")))
            listed = trials(self._space, mlp, config)
        self._trials = listed

    def __len__(self) -> int:
        """Return how many trials the sweep has, finished or not."""
        return len(self._trials)

    def __str__(self) -> str:
        """Say how many trials have ended, and how."""
        counts = self.counts()
        ended = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        return f"{sum(counts.values())} of {len(self)} trials{f': {ended}' if ended else ''}"

    @property
    def unfinished(self) -> str | None:
        """Return in words how many trials have ended, None if all have.

        Then `settings`, `best`, `export` and reports say these words in a UserWarning: more trials may change them.
        """
        n = len(self.rows())
        return None if n == len(self) else f"{n:,} of {len(self):,} trials have ended"

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

    def table(self) -> "polars.DataFrame":
        """Return a data frame with a row for each trial.

        Its columns: trial; the hyperparameters by name; train_loss, and validation_loss, validation_accuracy,
        validation_r2, test_loss, test_accuracy and test_r2 where there are any; epochs; status ("finished", "stopped",
        "diverged"); seconds (a trial's share of its block's time). The metrics are those of the epoch whose parameters
        are kept, and null where the trial diverged.

        Widths (`hidden`) are lists, [64, 64], and so are activations where some trial has one for each layer. Polars
        groups and sorts by lists; in pandas group by `frame["hidden"].map(tuple)`.

        Examples
        --------
        >>> from jaxmlp import Dataset, sweep
        >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
        >>> results = sweep.run(sweep.grid(learning_rate=[0.01, 0.1]), data)
        >>> results.table().columns
        ['trial', 'learning_rate', 'train_loss', 'epochs', 'status', 'seconds']
        """
        pl = optional("polars", "sweep")
        rows = self.rows()
        columns: dict[str, Any] = {"trial": pl.Series([row.trial for row in rows], dtype=pl.Int64)}
        for i, name in enumerate(self.names):
            columns[name] = _column([self._space.rows[row.trial][i] for row in rows])
        for name in (*METRICS, *REPORTED):
            values = [getattr(row, name) for row in rows]
            if name == "train_loss" or any(value is not None for value in values):
                columns[name] = pl.Series(values, dtype=pl.Float64)
        for name, kind in (("epochs", pl.Int64), ("status", pl.String), ("seconds", pl.Float64)):
            columns[name] = pl.Series([getattr(row, name) for row in rows], dtype=kind)
        return pl.DataFrame(columns)

    def settings(self, metric: str | None = None, over: str | None = "seed") -> list[Setting]:
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
            A hyperparameter to average over. If it is None, or does not vary, every trial is a setting.
        """
        warn_if_unfinished(self)
        return self._settings(metric, over)

    def _settings(self, metric: str | None, over: str | None) -> list[Setting]:
        metric = self.metric if metric is None else metric
        if over is not None and over not in NAMES:
            raise ValueError(unknown_name("hyperparameter", over, NAMES))
        if metric not in METRICS:
            if metric in REPORTED:
                raise ValueError(f"{metric} is for reporting: choose by validation_{metric.removeprefix('test_')}")
            raise ValueError(unknown_name("metric", metric, METRICS))
        rows = [row for row in self.rows() if not is_cut_short(row, self.trial(row.trial).config)]
        numbers = numbered(self.names, self._space.rows, over)
        n_asked = Counter(numbers)
        groups: dict[int, list[Row]] = {}
        for row in rows:
            groups.setdefault(numbers[row.trial], []).append(row)
        found = []
        for number, group in groups.items():
            if all(getattr(row, metric) is not None for row in group):
                group.sort(key=lambda row: -score(row, metric))
                shared = {name: value for name, value in self.trial(group[0].trial).values.items() if name != over}
                mean_and_ends = interval([getattr(row, metric) for row in group], *bounds(metric))
                tests = [test for row in group if (test := getattr(row, on_test(metric))) is not None]
                test = interval(tests, *bounds(on_test(metric))) if len(tests) == len(group) else None
                of_group = tuple(row.trial for row in group)
                found.append(Setting(shared, metric, *mean_and_ends, of_group, n_asked[number], test))
        sign = -1 if is_better_high(metric) else 1
        return sorted(found, key=lambda setting: (len(setting.trials) < setting.n_asked, sign * setting.mean))

    def best(self, metric: str | None = None, over: str | None = "seed") -> Setting:
        """Return the best of `settings`; a ValueError says why there is none.

        The reasons: an unknown name, an unmeasured metric, no ended trial, or a diverged trial in every setting.
        """
        found = self._settings(metric, over)
        warn_if_unfinished(self)
        if found:
            return found[0]
        metric = self.metric if metric is None else metric
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
        return self._store.about("validation") is not None and suits.get(metric, True)

    def curves(self, trial: int) -> "polars.DataFrame":
        """Return a trial's epochs: a data frame with the columns of `jaxmlp.Epoch` that it has."""
        pl = optional("polars", "sweep")
        epochs = self.history(trial)
        columns = {name: [getattr(epoch, name) for epoch in epochs] for name in Epoch._fields}
        required = [name for name in Epoch._fields if name not in Epoch._field_defaults]
        return pl.DataFrame({n: v for n, v in columns.items() if n in required or any(x is not None for x in v)})

    def history(self, trial: int) -> list[Epoch]:
        """Return a trial's epochs, as `Trained.history` has them."""
        self.trial(trial)
        return self._store.curve(trial)

    def params(self, trial: int) -> Params:
        """Return a trial's parameters; raise a ValueError if `run` did not keep them (see its `keep`)."""
        return jax.tree.map(jnp.asarray, self.model(trial).networks[0].params)

    def model(self, trial: int) -> Model:
        """Return a trial's model, which takes raw inputs if `run` was given the encoding; raises like `params`."""
        model = self._store.load_model(self.trial(trial))
        if model is None:
            raise ValueError(f"the parameters of trial {trial} were not kept; run the sweep with keep='all'")
        return model

    def export(self, path: str | PathLike[str]) -> None:
        """Write the table to a `.parquet` or `.csv` file, whole or not at all.

        CSV has no lists: there `hidden` is text, `64:64` or `none`, as it is typed in the terminal.
        """
        warn_if_unfinished(self)
        path, content = Path(path), BytesIO()
        if path.suffix.lower() == ".parquet":
            self.table().write_parquet(content)
        elif path.suffix.lower() == ".csv":
            with_typed_layers(self.table()).write_csv(content)
        else:
            raise ValueError(f"{path}: must end in .parquet or .csv")
        write_whole(path, content.getvalue())


def load(folder: str | PathLike[str]) -> Results:
    """Open the results of a sweep that was run with `out=folder`, finished or not.

    Raises a FileNotFoundError if there is none, and a ValueError if the file is something else or damaged.
    """
    store = Store.open(Path(folder))
    results = Results(store)
    check_outcomes(store, [results.trial(number) for number in range(len(results))])
    return results


def warn_if_unfinished(results: Results) -> None:
    """Warn that a sweep has not ended, as the caller of the calling function shall read."""
    if results.unfinished is not None:
        warnings.warn(results.unfinished, UserWarning, stacklevel=3)


def with_typed_layers(table: "polars.DataFrame") -> "polars.DataFrame":
    """Return a table whose lists are text, as it is typed in the terminal: `64:64` for [64, 64], `none` for []."""
    pl = optional("polars", "sweep")
    lists = {name: table[name].to_list() for name, kind in table.schema.items() if isinstance(kind, pl.List)}
    texts = {name: [":".join(map(str, entries)) or "none" for entries in column] for name, column in lists.items()}
    return table.with_columns(pl.Series(name, column, pl.String) for name, column in texts.items())


def _column(values: list[Any]) -> Any:
    """Return a hyperparameter's values as a column: lists if some value has one entry for each layer."""
    pl = optional("polars", "sweep")
    if any(isinstance(value, tuple) for value in values):
        lists = [list(value) if isinstance(value, tuple) else [value] for value in values]
        has_text = any(isinstance(entry, str) for entries in lists for entry in entries)
        return pl.Series(lists, dtype=pl.List(pl.String if has_text else pl.Int64))
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    return pl.Series(values, dtype=getattr(pl, _TYPES[kinds.pop()]) if len(kinds) == 1 else None, strict=False)
