"""Searches of hyperparameters by cross-validation in jaxmlp, scikit-learn and skorch.

    python -m experiments.benchmarks.search --data FOLDER

The tables below, `FACTORS` and those after it, state the claims; the last lines of the output say whether this machine
confirms each entry. `pip install jaxmlp[bench]` installs the peers; a missing peer is left out. Without `--data` (a
folder of IDX files of Fashion-MNIST) the images are random.

Comparison. All run the same search: scikit-learn's `GridSearchCV` or `HalvingRandomSearchCV` with every core, over its
`MLPClassifier(solver="sgd")` or skorch's `NeuralNetClassifier`, and jaxmlp's classes of the same names. The candidates,
folds, batches and epochs are the same; nothing stops early, and there is no refit. jaxmlp and scikit-learn train in the
dtype of the case, from the same initial weights and in the same order; skorch in float32. The last column, the best
mean accuracy of a candidate over the folds, shows that all do the same work.

Timing. Peers take turns, round by round, each turn in a fresh process. The first call begins with the data in memory
and modules imported, and includes tracing and compilation, or the start of workers. The later call is of as many other
candidates in the same process, so workers are warm and programs compiled. A time is the median of the rounds. Memory is
the most that the process and its workers had, in the sum; pages that processes share count in each.

GFLOP/s count only the matrix products of training: 2 operations for each multiply-add, forward, for the gradient, and
for the deltas of hidden layers. The peak is the best rate of large square products in float32, measured once a round;
in float64 it is half of that.
"""

import os
from collections.abc import Iterable
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._report import print_table
from experiments._timing import Clock, in_fresh_process, peak_memory, spread, square_products
from experiments.benchmarks._benchmark import (
    Verdict,
    begin,
    busy,
    finish,
    installed,
    is_disturbed,
    options,
    parser,
    reason,
)
from experiments.benchmarks._cases import load
from experiments.benchmarks.peers.search import OURS, PEERS, SKLEARN, Search


class Case(NamedTuple):
    """A search: what it is of, the peers that are left out, and a title."""

    title: str
    data: str
    hidden: tuple[int, ...] = (100,)
    batch_size: int = 200
    epochs: int = 50
    shape: tuple[int, int, int] = (8, 8, 2)  # learning rates, decays, momenta
    dtype: str = "float64"
    n_candidates: int = 0
    folds: int = 5
    without: tuple[str, ...] = ()


CASES = {
    "digits-5": Case("digits, 64-100-10, 5 epochs", "digits", epochs=5, without=("skorch",)),
    "digits-5-float32": Case("digits, 64-100-10, float32, 5 epochs", "digits", epochs=5, dtype="float32"),
    "digits": Case("digits, 64-100-10, 50 epochs", "digits", without=("skorch",)),
    "digits-float32": Case("digits, 64-100-10, float32, 50 epochs", "digits", dtype="float32", without=("skorch",)),
    "digits-small": Case("digits, 64-32-10, float32, 50 epochs", "digits", (32,), dtype="float32", without=("skorch",)),
    "digits-batch-32": Case(
        "digits, 64-32-10, batch 32, float32, 50 epochs", "digits", (32,), 32, shape=(8, 4, 2), dtype="float32",
        without=("skorch",),
    ),
    "caravan": Case(
        "Caravan, StandardScaler and 85-100-1, 20 epochs", "caravan", epochs=20, shape=(8, 4, 1), without=("skorch",)
    ),
    "halving": Case(
        "digits, 64-32-10, batch 32, halving of 500", "digits", (32,), 32, 54, n_candidates=500, folds=3,
        without=("skorch",),
    ),
    "images": Case(
        "Fashion-MNIST, 784-100-10, float32, 5 epochs", "images", epochs=5, shape=(5, 4, 1), dtype="float32", folds=3,
        without=("skorch",),
    ),
}  # fmt: skip

# The claims: how many times as long as ours scikit-learn's warm workers take, at least; ours without compilation, and
# with it. Nowhere are they faster.
FACTORS = {"digits": 10.0, "digits-float32": 10.0, "digits-small": 10.0, "digits-batch-32": 10.0}
FACTORS_FIRST = {"digits-5": 4.0, "digits-5-float32": 4.0}


class Calls(NamedTuple):
    """One turn: seconds of the first call and of the later one, megabytes at the most, and the best accuracy."""

    first: float
    later: float
    memory: float
    accuracy: float


class Outcome(NamedTuple):
    """One case: the turns of each peer, the work of a call in GFLOP, the peak of the machine, and its other load."""

    turns: dict[str, list[Calls]]
    failures: dict[str, str]
    gflop: float
    peak: float
    cores_of_others: float

    def of(self, name: str, field: str) -> float:
        """Return the median over the rounds."""
        return median(getattr(turn, field) for turn in self.turns[name])


def turn(name: str, search: Search) -> Calls:
    """Take a turn, in a process that has computed nothing yet."""
    run = PEERS[name].start()
    start = perf_counter()
    run(search)
    first = perf_counter() - start
    start = perf_counter()
    accuracy = run(search.again(1))
    return Calls(first, perf_counter() - start, peak_memory() + _memory_of_workers(), accuracy)


def _memory_of_workers() -> float:
    """Return the sum of the most main memory that each process below this one has had, in MB."""
    total = 0.0
    parents = [os.getpid()]
    while parents:
        children = Path(f"/proc/{parents.pop()}/task").glob("*/children")
        for child in (int(each) for path in children for each in path.read_text().split()):
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            total += next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)
            parents.append(child)
    return total


def peak() -> float:
    return max(task() for task in square_products().values())


def measure(case: Case, search: Search, names: Iterable[str], rounds: int) -> Outcome:
    turns: dict[str, list[Calls]] = {name: [] for name in names if name not in case.without}
    failures: dict[str, str] = {}
    peaks = []
    clock = Clock()
    for _ in range(rounds):
        peaks.append(in_fresh_process(peak))
        for name in [name for name in turns if name not in failures]:
            try:
                turns[name].append(in_fresh_process(turn, name, search))
            except Exception as error:
                if name == OURS:
                    raise
                failures[name] = reason(error)
    return Outcome(turns, failures, gflop(search), max(peaks), clock.cores_of_others())


def gflop(search: Search) -> float:
    """Return the operations of a search's products in units of 1e9; those of a halving from its last rung backwards."""
    n_classes = int(search.y.max()) + 1
    first, *others = (
        a * b for a, b in pairwise((search.x.shape[1], *search.hidden, 1 if n_classes == 2 else n_classes))
    )
    of_row = 2e-9 * (2 * first + 3 * sum(others))
    epochs, candidates = search.epochs, prod(map(len, search.grid.values()))
    if search.n_candidates:
        rungs = [(search.n_candidates / 3**i, 2 * 3**i) for i in range(20) if 2 * 3**i <= epochs]
        epochs, candidates = 1, sum(number * of_each for number, of_each in rungs)
    return of_row * candidates * epochs * (search.folds - 1) * len(search.x)


def search_of(case: Case, folder: Path | None, quick: bool) -> Search:
    x, y = _data(case.data, folder, quick)
    rates, decays, momenta = (min(n, 2) for n in case.shape) if quick else case.shape
    grid = {
        "learning_rate_init": tuple(np.geomspace(0.003, 0.3, rates).tolist()),
        "alpha": tuple(np.geomspace(1e-5, 1.0, decays).tolist()),
        "momentum": tuple(np.linspace(0.9, 0.5, momenta).tolist()),
    }
    n_candidates = min(case.n_candidates, 6) if quick else case.n_candidates
    if n_candidates:  # drawn without replacement
        grid["learning_rate_init"] = tuple(np.geomspace(0.003, 0.3, 4 * n_candidates // len(grid["alpha"])).tolist())
    epochs = min(case.epochs, 6 if n_candidates else 1) if quick else case.epochs
    return Search(
        x.astype(case.dtype),
        y,
        case.hidden,
        case.batch_size,
        epochs,
        grid,
        case.folds,
        case.data == "caravan",
        n_candidates,
    )


def _data(name: str, folder: Path | None, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    if name == "images":
        return load(folder, quick)
    if name == "caravan":
        from experiments.benchmarks._tables import load as load_table

        table = load_table("Caravan")
        y = table["Purchase"].to_numpy()
        return table.drop("Purchase").to_numpy().astype(float), np.unique(y, return_inverse=True)[1]
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def print_case(case: Case, search: Search, outcome: Outcome) -> None:
    number = search.n_candidates or prod(map(len, search.grid.values()))
    header = ("", "first call, s", "later call, s", "range", "GFLOP/s", "of peak", "MB", "times ours", "accuracy")
    ours = outcome.of(OURS, "later")
    peak = outcome.peak / (2 if case.dtype == "float64" else 1)
    rows = []
    for name, turns in outcome.turns.items():
        if name in outcome.failures:
            print(f"{PEERS[name].title} failed: {outcome.failures[name]}")
            continue
        later = outcome.of(name, "later")
        rate = outcome.gflop / later
        rows.append(
            (
                PEERS[name].title,
                f"{outcome.of(name, 'first'):.2f}",
                *spread([each.later for each in turns]),
                f"{rate:.1f}",
                f"{rate / peak:.0%}",
                f"{outcome.of(name, 'memory'):.0f}",
                f"{later / ours:.2f}",
                f"{turns[0].accuracy:.2%}",
            )
        )
    print_table(f"{case.title}: {number} candidates, {search.folds} folds", header, rows)
    print(f"The products of a call: {outcome.gflop:.0f} GFLOP. Peak: {peak:.0f} GFLOP/s.")
    print(busy(outcome.cores_of_others))


def verdicts(outcomes: dict[str, Outcome]) -> list[Verdict]:
    """Judge the claims of each case in which scikit-learn ran."""
    rows = []
    for name, outcome in outcomes.items():
        if not outcome.turns.get(SKLEARN) or SKLEARN in outcome.failures:
            continue
        fair, warm = not is_disturbed(outcome.cores_of_others), outcome.of(SKLEARN, "later")
        for least, field, words in (
            (FACTORS.get(name, 1.0), "later", "without compilation"),
            (FACTORS_FIRST.get(name, 1.0), "first", "with compilation"),
        ):
            times = warm / outcome.of(OURS, field)
            claim = f"{CASES[name].title}: at least {least:g} times as fast as scikit-learn, {words}"
            rows.append(Verdict(claim, f"{times:.2f}", times >= least, fair))
    return rows


def main() -> None:
    others = [name for name in PEERS if name != OURS]
    quick = "a few candidates, one epoch"
    made = parser("search", __doc__, quick=quick, rounds=2, data="random images", cases=CASES, peers=others)
    asked = options(made)
    if asked.quick:
        asked.rounds, asked.cases = 1, ["digits-5", "caravan", "halving"]
    os.environ["JAX_PLATFORMS"] = "cpu"  # as for the peers; also in the fresh processes
    jax.config.update("jax_platforms", "cpu")
    about = begin(asked, "scikit-learn", "joblib", "skorch", "torch")
    names, outcomes = [OURS, *installed(PEERS, asked.peers)], {}
    for name in asked.cases:
        search = search_of(CASES[name], asked.data, asked.quick)
        outcomes[name] = measure(CASES[name], search, names, asked.rounds)
        print_case(CASES[name], search, outcomes[name])
    cases = {name: _as_json(outcome) for name, outcome in outcomes.items()}
    finish(asked, about, verdicts(outcomes), cases=cases)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    turns = {name: [each._asdict() for each in turns] for name, turns in outcome.turns.items()}
    return outcome._asdict() | {"turns": turns}


if __name__ == "__main__":
    main()
