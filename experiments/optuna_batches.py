"""What a search for settings finds in how many seconds, when Optuna proposes batches, single trials, or nothing.

    python -m experiments.optuna_batches [--trials 256] [--seeds 5]

All search the same space for the prices of houses (`ames`, 2,930 rows; `pip install jaxmlp[bench,optuna]`):

- Batches: `sweep.optimize` asks Optuna's TPE for 64 or for 16 trials at a time, which train as one sweep.
- One at a time: TPE in Optuna's own loop, in which `jaxmlp.train` trains one network after another.
- Random: `sweep.run` of `sweep.random`, all in one sweep.

A search begins with data in memory and libraries imported, and includes all compilation. Each has its own process. The
rows are split once, and all networks have one seed; the seeds are those of the samplers. The highest R2 on the
validation rows is searched for. The table also has the best trial's R2 on the test rows, by which nothing was chosen.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf, nan
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._options import Parser, count
from experiments._report import RESULTS, environment, print_table, write_json
from experiments._timing import Clock, in_fresh_process
from experiments.benchmarks._tables import TABLES, load
from jaxmlp import MLP, TrainConfig, sweep, train
from jaxmlp.data import Prepared, from_frame, prepare

CONFIG = TrainConfig(epochs=20)
SPACE: dict[str, Any] = {
    "learning_rate": sweep.log_uniform(1e-3, 0.3),
    "momentum": sweep.uniform(0, 0.98),
    "weight_decay": sweep.log_uniform(1e-5, 1),
    "hidden": [(8,), (16,), (16, 16)],
}


WORDS = {"8": (8,), "16": (16,), "16:16": (16, 16)}  # what Optuna can keep for the widths


class Found(NamedTuple):
    """A search: after which seconds it had a better validation R2, all its seconds, and the best trial's test R2."""

    best: list[tuple[float, float]]
    seconds: float
    test: float


class Watch:
    """Notes the best values, and when each was found."""

    def __init__(self) -> None:
        """Start the clock."""
        self.best: list[tuple[float, float]] = []
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds since the start."""
        return time.perf_counter() - self._began

    def note(self, value: float) -> None:
        """Note the best value now."""
        if not self.best or value > self.best[-1][1]:
            self.best.append((self.seconds, value))

    def progress(self, progress: sweep.Progress) -> None:
        """Note the best value of a sweep's progress."""
        if progress.best is not None:
            self.note(progress.best[0])


def study(seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, pruner = optuna.samplers.TPESampler(seed=seed), optuna.pruners.NopPruner()
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)


def network(data: Prepared, hidden: tuple[int, ...] = (8,)) -> MLP:
    return MLP((data.train.n_inputs, *hidden, 1), output="identity", loss="quadratic")


def in_batches(data: Prepared, n_trials: int, seed: int, config: TrainConfig, size: int) -> Found:
    asked, watch = study(seed), Watch()
    parts = {"validation": data.validation, "test": data.test, "mlp": network(data)}
    options = {"n_trials": n_trials, "batch": size, "callback": watch.progress}
    results = sweep.optimize(asked, SPACE, data.train, config, **parts, **options)
    return Found(watch.best, watch.seconds, results.best().test.mean)


def one_at_a_time(data: Prepared, n_trials: int, seed: int, config: TrainConfig) -> Found:
    asked, watch, key = study(seed), Watch(), jax.random.key(0)

    def objective(trial: Any) -> float:
        numbers = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.3, log=True),
            "momentum": trial.suggest_float("momentum", 0, 0.98),
            "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1, log=True),
        }
        mlp = network(data, WORDS[trial.suggest_categorical("hidden", list(WORDS))])
        parts = {"key": key, "validation": data.validation, "test": data.test}
        trained = train(mlp, data.train, replace(config, **numbers), **parts)
        trial.set_user_attr("test_r2", trained.test.r2)
        return nan if trained.status == "diverged" else trained.history[-1].validation_r2

    def note(asked: Any, trial: Any) -> None:
        if trial.value is not None:
            watch.note(trial.value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of divergence, by both
        asked.optimize(objective, n_trials, callbacks=[note])
    return Found(watch.best, watch.seconds, asked.best_trial.user_attrs["test_r2"])


def at_random(data: Prepared, n_trials: int, seed: int, config: TrainConfig) -> Found:
    watch = Watch()
    parts = {"validation": data.validation, "test": data.test, "mlp": network(data)}
    space = sweep.random(n_trials, draw=seed, **SPACE)
    results = sweep.run(space, data.train, config, **parts, callback=watch.progress)
    return Found(watch.best, watch.seconds, results.best().test.mean)


SEARCHES: dict[str, Callable[[Prepared, int, int, TrainConfig], Found]] = {
    "TPE, batches of 64": partial(in_batches, size=64),
    "TPE, batches of 16": partial(in_batches, size=16),
    "TPE, one at a time": one_at_a_time,
    "random, one sweep": at_random,
}


def houses() -> Prepared:
    return prepare(from_frame(load("ames"), target=TABLES["ames"].target), validation_fraction=0.2, scaling="robust")


def turn(name: str, n_trials: int, seed: int) -> Found:
    return SEARCHES[name](houses(), n_trials, seed, CONFIG)


def reached(best: list[tuple[float, float]], seconds: np.ndarray) -> np.ndarray:
    """Return the best value after so many seconds, nan before the first."""
    times, values = np.array(best).T
    return np.append(nan, values)[np.searchsorted(times, seconds, side="right")]


def seconds_to(best: list[tuple[float, float]], value: float) -> float:
    """Return when a value was reached, inf if never."""
    return next((time for time, found in best if found >= value), inf)


def medians(of_seeds: list[Found], goal: float) -> list[str]:
    """Return the columns of the table: seconds, seconds to the goal, validation R2, test R2."""
    columns = np.array([(one.seconds, seconds_to(one.best, goal), one.best[-1][1], one.test) for one in of_seeds])
    return [f"{number:.{digits}f}" for number, digits in zip(np.median(columns, axis=0), (1, 1, 4, 4), strict=True)]


def draw(found: dict[str, list[Found]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    last = max(one.seconds for of_seeds in found.values() for one in of_seeds)
    for name, of_seeds in found.items():
        end = median(one.seconds for one in of_seeds)
        seconds = np.geomspace(0.5, end, 400)
        curves = np.array([reached(one.best, seconds) for one in of_seeds])
        has_all = np.isfinite(curves).all(axis=0)
        (line,) = axis.plot(seconds[has_all], np.median(curves[:, has_all], axis=0), label=name)
        axis.fill_between(
            seconds[has_all], *np.quantile(curves[:, has_all], [0, 1], axis=0), color=line.get_color(), alpha=0.15, lw=0
        )
        axis.plot(end, np.median(curves[:, -1]), "o", color=line.get_color())
    lowest = min(one.best[-1][1] for of_seeds in found.values() for one in of_seeds)
    axis.set(xscale="log", xlim=(0.5, 1.2 * last), ylim=(lowest - 0.02, None))
    axis.set(xlabel="seconds, with compilation", ylabel="best R² on validation rows so far")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = Parser("experiments.optuna_batches", __doc__)
    parser.add_argument("--trials", type=count, default=256, metavar="N", help="trials of a search, 256 by default")
    parser.add_argument("--seeds", type=count, default=5, metavar="N", help="seeds of the samplers, 5 by default")
    asked = parser.parse_args()
    found: dict[str, list[Found]] = {name: [] for name in SEARCHES}
    clock = Clock()
    for seed in range(asked.seeds):
        for name in SEARCHES:
            found[name].append(in_fresh_process(turn, name, asked.trials, seed))
            last = found[name][-1]
            words = f"validation {last.best[-1][1]:.4f}, test {last.test:.4f}, {last.seconds:.1f} s"
            print(f"{name}, seed {seed}: {words}", flush=True)
    busy = clock.cores_of_others()
    goal = median(one.best[-1][1] for one in found["random, one sweep"])
    header = ["median of the seeds", "seconds", f"seconds to {goal:.4f}", "validation R2", "test R2"]
    rows = [[name, *medians(of_seeds, goal)] for name, of_seeds in found.items()]
    print_table(f"{asked.trials} trials, {asked.seeds} seeds", header, rows)
    print(f"Other processes kept {busy:.1f} cores busy.")
    values: dict[str, Any] = {"environment": environment("optuna"), "cores_of_others": busy, "config": str(CONFIG)}
    write_json("optuna_batches", values | {"found": {n: [one._asdict() for one in of] for n, of in found.items()}})
    draw(found, RESULTS / "optuna_batches.png")


if __name__ == "__main__":
    main()
