"""Is each default for tables still the right one? One change at a time, on the tables that chose them.

    pip install 'jaxmlp[bench]' && python -m experiments.choose_table_defaults

**Defaults.** How numbers become inputs (`--scaling`, the `BOUND` of the smooth clip, the number of `BINS`),
`TABLE_HIDDEN`, `TABLE_NETWORKS` and `TrainConfig.for_table` were chosen on the development half of
`benchmarks/_tables.py`. The report half has no part in it, neither then nor here.

**Fits.** At most 6,000 rows of a table, two splits, one network. Other numbers of networks are compared with the
default's four.

**Gain.** 100 log(error of the default / error of the change): 1 is about 1 % less error. The error is the share of
wrong classes, or 1 - R2, on the test part, averaged over the splits; it is 1 for a network that diverged or is worse
than the mean target. So a table counts alike whether its error is large or small. ± is half of a 95 % interval over
tables (Student's t). A change is called better or worse if its interval is on one side of 0. By chance, so is about one
in 20 changes that make no difference.

Fits are kept in runs/choose_table_defaults, and the next run continues. A kept fit is known by its settings, not by the
version of jaxmlp: `--again` fits anew.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

from experiments._options import Parser
from experiments._report import RESULTS, environment, print_table, write_json
from experiments.benchmarks._benchmark import PARTS
from experiments.benchmarks._tables import DEVELOPMENT, TABLES, load
from experiments.choose_defaults import network
from experiments.claims._experiment import interval
from jaxmlp import TrainConfig, train
from jaxmlp._extras import optional
from jaxmlp.data import Source, _scale, from_frame, prepare, split
from jaxmlp.training import examples
from jaxmlp.training.config import TABLE_HIDDEN, TABLE_NETWORKS

SPLITS, MOST_ROWS = 2, 6_000


class Settings(NamedTuple):
    """What a change may change; a bound and a number of bins are constants of jaxmlp, not options."""

    scaling: str
    bound: float
    bins: int
    hidden: tuple[int, ...]
    networks: int
    config: TrainConfig


class Change(NamedTuple):
    """Another value of one of the settings, or of a field of their configuration; a fraction multiplies the default."""

    name: str
    value: Any

    def __str__(self) -> str:
        """Return its name in the tables."""
        times = "× " if isinstance(self.value, Fraction) else ""
        value = ":".join(map(str, self.value)) if isinstance(self.value, tuple) else self.value
        return f"{self.name.replace('_', ' ')} {times}{value}"

    def __call__(self, default: Settings) -> Settings:
        """Return the settings with this change.

        >>> Change("batch_size", Fraction(1, 2))(defaults(4_800)).config.batch_size
        40
        """
        if self.name in Settings._fields:
            return default._replace(**{self.name: self.value})
        before = getattr(default.config, self.name)
        return default._replace(config=replace(default.config, **{self.name: type(before)(before * self.value)}))


THIRD, QUARTER, HALF = Fraction(1, 3), Fraction(1, 4), Fraction(1, 2)
CHANGES = [
    *(Change("scaling", name) for name in ("robust", "standard", "minmax", "none")),
    *(Change("bound", bound) for bound in (3, 30, 300)),
    *(Change("bins", bins) for bins in (8, 32)),
    *(Change("learning_rate", factor) for factor in (THIRD, 1 / THIRD)),
    *(Change("weight_decay", factor) for factor in (QUARTER, 1 / QUARTER)),
    *(Change(name, factor) for name in ("batch_size", "epochs") for factor in (HALF, 1 / HALF)),
    *(Change("hidden", hidden) for hidden in ((128, 128), (512,), (256, 256, 256))),
]
ONE, SEVERAL, MANY = (Change("networks", number) for number in (1, TABLE_NETWORKS, 8))
Scores: TypeAlias = dict[str, list[float]]  # by table: one for each split


def defaults(n_examples: int) -> Settings:
    """Return the defaults for this many training examples, with one network."""
    return Settings("piecewise", examples.BOUND, _scale.BINS, TABLE_HIDDEN, 1, TrainConfig.for_table(n_examples))


@cache
def source(table: str) -> Source:
    """Return a table, or a sample of its rows."""
    frame = load(table)
    if len(frame) > MOST_ROWS:
        frame = frame[np.sort(np.random.default_rng(0).choice(len(frame), MOST_ROWS, replace=False))]
    return from_frame(frame, target=TABLES[table].target)


@contextmanager
def constants(bound: float, bins: int) -> Iterator[None]:
    """Set the constants of the encoding for a while; programs are compiled with a bound, and so are forgotten."""
    is_other = bound != examples.BOUND
    with patch.object(examples, "BOUND", bound), patch.object(_scale, "BINS", bins):
        try:
            if is_other:
                jax.clear_caches()
            yield
        finally:
            if is_other:
                jax.clear_caches()


def score(table: str, seed: int, settings: Settings) -> float:
    """Train on a split as `jaxmlp train` does; return accuracy or R2 on its test part, 0 if training diverged."""
    with constants(settings.bound, settings.bins), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of divergence
        data = prepare(source(table), scaling=settings.scaling, seed=seed)
        keys = [jax.random.key(seed + number) for number in range(settings.networks)]
        key = keys[0] if len(keys) == 1 else jnp.stack(keys)
        trained = train(network(data, settings.hidden), data.train, settings.config, key=key, test=data.test)
    value = trained.test.r2 if trained.test.accuracy is None else trained.test.accuracy
    return 0.0 if trained.status == "diverged" else max(0.0, round(value, 5))


def gains(scores: Scores, default: Scores) -> np.ndarray:
    """Return the gain of each table.

    >>> print(gains({"hr": [0.8, 0.84], "Wage": [0.3, 0.3]}, {"hr": [0.8, 0.8], "Wage": [0.3, 0.3]}).round(1))
    [10.5  0. ]
    """
    error, before = (1 - np.array(list(by_table.values())).mean(1) for by_table in (scores, default))
    return 100 * np.log(before / error)


def compared(changes: Sequence[Change], found: dict[Change, Scores], default: Change) -> list[list[object]]:
    """Return a row for each change: its mean gain, what the interval says, and the gain of each table."""
    rows = []
    for change in changes:
        gain = interval(of_tables := gains(found[change], found[default]))
        word = "better" if gain.mean > gain.half else "worse" if -gain.mean > gain.half else ""
        rows.append([change, gain, word, *(f"{of_table:+z.1f}" for of_table in of_tables)])
    return rows


def main() -> None:
    parser = Parser("experiments.choose_table_defaults", __doc__)
    parser.add_argument("--again", action="store_true", help="fit also what is kept")
    parser.add_argument("--quick", action="store_true", help="a smoke test: two tables, one split, a few changes")
    asked = parser.parse_args()
    tables, n_splits, changes = (["Wage", "Chile"], 1, CHANGES[::6]) if asked.quick else (DEVELOPMENT, SPLITS, CHANGES)
    memory = optional("joblib", "bench").Memory("runs/choose_table_defaults", verbose=0)
    if asked.again:
        memory.clear()
    kept, found = memory.cache(score), {}
    before = {table: defaults(len(split(source(table)).train.t)) for table in tables}
    for change in (ONE, *changes, SEVERAL, MANY):
        print(f"{change} ...", flush=True)
        found[change] = {table: [kept(table, n, change(before[table])) for n in range(n_splits)] for table in tables}
    rows = [[one, *(f"{np.mean(values):.4f}" for values in found[one].values())] for one in (ONE, SEVERAL)]
    print_table("Accuracy or R2 of the default", ["", *tables], rows)
    for default, others in ((ONE, changes), (SEVERAL, [ONE, MANY])):
        header = ["", "gain", "", *tables]
        print_table(f"Gain over the default, {default}", header, compared(others, found, default))
    values = {"environment": environment("jaxmlp"), "defaults": {table: str(one) for table, one in before.items()}}
    values["scores"] = {str(change): scores for change, scores in found.items()}
    write_json("choose_table_defaults", values, PARTS if asked.quick else RESULTS)


if __name__ == "__main__":
    main()
