"""What a sweep found: a table of its trials, the best of them, their curves and parameters."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name
from jaxmlp.network import MLP, Params
from jaxmlp.sweep.space import NAMES, Space, Trial, trials
from jaxmlp.sweep.store import Row, Store
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import Epoch

if TYPE_CHECKING:
    import polars

__all__ = ["METRICS", "Best", "Results", "default_metric", "is_cut_short", "load", "score"]

METRICS = ("train_loss", "test_loss", "test_accuracy", "test_r2")
_TYPES = {str: "String", bool: "Boolean", int: "Int64", float: "Float64"}


class Best(NamedTuple):
    """The best setting.

    Attributes
    ----------
    hyperparameters
        Of the setting, without what was averaged over.
    metric
        What it is best in.
    mean, low, high
        The metric's mean over the setting's trials, and a 95 % interval of it (Student's t; of one trial nan).
    trials
        Their numbers, the best first.
    """

    hyperparameters: dict[str, Any]
    metric: str
    mean: float
    low: float
    high: float
    trials: tuple[int, ...]


class Results:
    """The trials of a sweep.

    Attributes
    ----------
    names
        Of the hyperparameters that varied.
    metric
        What trials are ranked by, unless told otherwise.
    title
        Of pictures and reports.
    folder
        Where they are kept; None if only in memory.
    """

    def __init__(self, store: Store, listed: Sequence[Trial] | None = None) -> None:
        """Read what a store says of its sweep; of its trials only where they are not given."""
        self._store = store
        self.folder = store.folder
        self.names: tuple[str, ...] = tuple(store.about("names"))
        self.metric: str = store.about("metric")
        self.title = store.folder.name if store.folder else "sweep"
        self._space = Space(self.names, tuple(tuple(map(_tuple, row)) for row in store.about("rows")))
        self._trials = listed if listed is not None else self._read_trials()

    def _read_trials(self) -> list[Trial]:
        config = {name: _tuple(value) for name, value in self._store.about("config").items()}
        mlp = {name: _tuple(value) for name, value in self._store.about("mlp").items()}
        return trials(self._space, MLP(**mlp), TrainConfig(**config))

    def __len__(self) -> int:
        """Return how many trials the sweep has, finished or not."""
        return len(self._trials)

    def __str__(self) -> str:
        """Say how many trials ended how, and which was the best."""
        rows = self.rows()
        counts = {status: sum(row.status == status for row in rows) for status in ("finished", "stopped", "diverged")}
        ended = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        return f"{len(rows)} of {len(self)} trials{f': {ended}' if ended else ''}"

    def rows(self) -> list[Row]:
        """Return the outcome of every trial that has one, by number."""
        return [row for row in self._store.rows() if row.status != "paused"]

    def trial(self, number: int) -> Trial:
        """Return a trial's values, network and configuration."""
        if not 0 <= number < len(self._trials):
            raise ValueError(f"trial must be 0 to {len(self._trials) - 1}, got {number}")
        return self._trials[number]

    def table(self) -> "polars.DataFrame":
        """Return a data frame, one row a trial.

        Its columns: trial, the hyperparameters by name, train_loss, test_loss, test_accuracy and test_r2 where there
        are any, epochs, status ("finished", "stopped", "diverged"), and seconds (a trial's share of its block's time).
        The metrics are those of the epoch whose parameters are kept, and null where the trial diverged.

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
            columns[name] = _series([self._space.rows[row.trial][i] for row in rows])
        for name in METRICS:
            values = [getattr(row, name) for row in rows]
            if name == "train_loss" or any(value is not None for value in values):
                columns[name] = pl.Series(values, dtype=pl.Float64)
        columns["epochs"] = pl.Series([row.epochs for row in rows], dtype=pl.Int64)
        columns["status"] = pl.Series([row.status for row in rows], dtype=pl.String)
        columns["seconds"] = pl.Series([row.seconds for row in rows], dtype=pl.Float64)
        return pl.DataFrame(columns)

    def best(self, metric: str | None = None, over: str | None = "seed") -> Best:
        """Return the best setting: trials that differ in `over` only are averaged first.

        Parameters
        ----------
        metric
            One of "train_loss", "test_loss", "test_accuracy", "test_r2"; `self.metric` if None. Losses are best low.
        over
            A hyperparameter to average over; None, or one that does not vary: every trial is a setting.

        Raises
        ------
        ValueError
            If a name is unknown, the metric was not measured, or every setting has a diverged trial. A setting with a
            diverged trial is never the best.
        """
        if over is not None and over not in NAMES:
            raise ValueError(unknown_name("hyperparameter", over, NAMES))
        metric = self.metric if metric is None else metric
        if metric not in METRICS:
            raise ValueError(unknown_name("metric", metric, METRICS))
        settings: dict[tuple[Any, ...], list[Row]] = {}
        averaged = self.names.index(over) if over in self.names else None
        for row in self.rows():
            if not is_cut_short(row, self.trial(row.trial).config):
                values = self._space.rows[row.trial]
                settings.setdefault(tuple(v for i, v in enumerate(values) if i != averaged), []).append(row)
        scored = {
            setting: [score(row, metric) for row in rows]
            for setting, rows in settings.items()
            if all(row.status != "diverged" for row in rows)
        }
        if not scored:
            raise ValueError(f"no setting has a {metric}: all {len(self.rows())} trials diverged or none has ended")
        if all(value == -float("inf") for values in scored.values() for value in values):
            raise ValueError(f"{metric} was not measured in this sweep")
        setting = max(scored, key=lambda each: sum(scored[each]) / len(scored[each]))
        ranked = sorted(settings[setting], key=lambda row: score(row, metric), reverse=True)
        names = [name for name in self.names if name != over]
        mean, low, high = _interval([getattr(row, metric) for row in ranked])
        numbers = tuple(row.trial for row in ranked)
        return Best(dict(zip(names, setting, strict=True)), metric, mean, low, high, numbers)

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
        """Return a trial's parameters.

        Raises
        ------
        ValueError
            If they were not kept: `run` keeps those of the best few, or with `keep="all"` of all.
        """
        self.trial(trial)
        params = self._store.load_model(trial)
        if params is None:
            raise ValueError(f"the parameters of trial {trial} were not kept, which keep='all' would have done")
        return jax.tree.map(jnp.asarray, params)

    def export(self, path: str | PathLike[str]) -> None:
        """Write the table to a `.parquet` or `.csv` file, whole or not at all."""
        import io

        from jaxmlp.storage.files import write_whole

        path = Path(path)
        writers = {".parquet": "write_parquet", ".csv": "write_csv"}
        if path.suffix.lower() not in writers:
            raise ValueError(f"{path}: must end in .parquet or .csv")
        content = io.BytesIO()
        getattr(self.table(), writers[path.suffix.lower()])(content)
        write_whole(path, content.getvalue())


def load(folder: str | PathLike[str]) -> Results:
    """Open the results of a sweep that was run with `out=folder`, finished or not.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none.
    """
    return Results(Store.open(Path(folder)))


def score(row: Row | Epoch, metric: str) -> float:
    """Return a number that is larger where a trial is better, and minus infinity where there is none."""
    value = getattr(row, metric)
    if value is None or value != value:
        return -float("inf")
    return -float(value) if metric.endswith("loss") else float(value)


def is_cut_short(row: Row, config: TrainConfig) -> bool:
    """Tell whether a halving stopped a trial, and not its own patience: that is no outcome of its setting."""
    return row.status == "stopped" and (config.patience is None or row.epochs - row.best_epoch < config.patience)


def default_metric(rows: Sequence[Row | Epoch]) -> str:
    """Return what to rank by: the score on test data, else the training loss."""
    for name in ("test_accuracy", "test_r2"):
        if any(getattr(row, name) is not None for row in rows):
            return name
    return "train_loss"


def _interval(values: list[float]) -> tuple[float, float, float]:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    from scipy.stats import t  # it takes a third of a second to import

    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    half = float(t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return mean, mean - half, mean + half


def _series(values: list[Any]) -> Any:
    """Make a column of a hyperparameter's values; widths are written as they are typed."""
    pl = optional("polars", "sweep")
    shown = [",".join(map(str, value)) or "none" if isinstance(value, tuple) else value for value in values]
    kinds = {type(value) for value in shown if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    return pl.Series(shown, dtype=getattr(pl, _TYPES[kinds.pop()]) if len(kinds) == 1 else None, strict=False)


def _tuple(value: Any) -> Any:
    return tuple(_tuple(entry) for entry in value) if isinstance(value, list) else value
