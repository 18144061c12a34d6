"""Sweeps of hyperparameters in jaxmlp, scikit-learn and PyTorch under joblib, torch.func, and JAX's own vmap.

    python -m experiments.benchmarks.sweep --data FOLDER

The tables below, `FACTORS` and those after it, state the claims; the last lines of the output say whether this machine
confirms each entry. `pip install jaxmlp[bench]` installs the peers; a missing peer is left out. Without `--data` (a
folder of IDX files, such as Fashion-MNIST) the larger data are random.

Comparison. All train the same grid of networks (relu, softmax with cross-entropy, float32) by momentum SGD with a
constant learning rate, for the same number of epochs and batches, each epoch in a new random order, without evaluation
in between. Each peer is written as its experienced user would write it, the fastest way we know. All use the CPU with
every core. The best number of threads for a peer (or for each of its workers), one or one a core, is found before the
rounds. The last column, the networks' mean accuracy on the training data, shows that all do the same work; it is not
timed.

Timing. Peers take turns, round by round, each turn in a fresh process, so that threads, devices or workers of one do
not disturb another. The first call begins with arrays in memory and libraries imported, and ends with all networks
trained: it includes the start of workers or devices, tracing and compilation. Later calls in the same process train the
same number of other networks, at least once, and up to five times within two seconds; the time of a turn is their
median. A time in the table is the median of the turns. Tracing and compilation are the difference between our first and
later calls. A first call with a filled cache finds our compiled programs on disk.

GFLOP/s counts only the matrix products that the later calls need, `Problem.gflop`. The peak is the best rate of large
square products, measured once a round.

`GROWTH` shows how time grows with the number of networks, also as a picture. scikit-learn is left out where it would
take more than a minute.
"""

import argparse
import os
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from math import nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._report import RESULTS, print_table
from experiments._timing import Clock, cores, in_fresh_process, spread, square_products
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
from experiments.benchmarks._cases import Case, load
from experiments.benchmarks.peers.sweep import JOBLIB, OURS, PEERS, VMAP, Problem


class Grid(NamedTuple):
    """A sweep: a network with its batch size, the number of learning rates, momenta and seeds, and peers left out."""

    case: Case
    shape: tuple[int, int, int]
    epochs: int = 5
    without: tuple[str, ...] = ()

    @property
    def n_networks(self) -> int:
        """The number of networks."""
        return int(np.prod(self.shape))


SMALL = Case((64, 32, 10), 32)
CASES = {
    "small": Grid(SMALL, (8, 4, 2)),
    "wider": Grid(Case((64, 128, 10), 32), (8, 4, 2)),
    "deeper": Grid(Case((64, 128, 128, 10), 64), (8, 4, 2)),
    "many": Grid(SMALL, (16, 16, 4), without=("torch",)),
    "images": Grid(Case((784, 128, 10), 128), (4, 2, 2), epochs=1),
}
SHAPES = ((1, 1, 1), (4, 1, 1), (4, 4, 1), (8, 4, 2), (8, 8, 4), (16, 16, 4), (32, 32, 4))
GROWTH = [Grid(SMALL, shape) for shape in SHAPES]
LONGEST = 60.0  # seconds of a call of scikit-learn

# The claims. How many times as long as ours warm workers of scikit-learn take, at least: ours without compilation,
# with everything included, and with everything included but for what a filled cache saves.
FACTORS = {"small": 12.0, "wider": 6.0, "deeper": 3.5}
FACTORS_FIRST = {"small": 1.0, "wider": 1.0, "deeper": 1.0, "many": 10.0}
FACTORS_CACHED = {"small": 3.0, "wider": 3.0, "deeper": 3.0}
FACTORS_VMAP = dict.fromkeys(CASES, 2.0)  # against the plain vmap, without compilation and with it
SHARES_OF_PEAK = {"small": 0.55, "wider": 0.65, "deeper": 0.80}  # at least
COMPILATION = 1.0  # seconds for networks of one shape, at most


class Calls(NamedTuple):
    """One turn: seconds of the first call, and of later ones in the median; the accuracy, where asked for."""

    first: float
    later: float
    accuracy: float | None


class Measured(NamedTuple):
    """One peer in one case: its threads, seconds by round, the mean accuracy, and why it failed if it did."""

    threads: int
    first: list[float]
    later: list[float]
    accuracy: list[float]
    failure: str | None = None


class Outcome(NamedTuple):
    """One case.

    Attributes
    ----------
    n_networks, gflop
        The networks that a call trains, and the operations of its products, in units of 1e9.
    peaks
        The best GFLOP/s of each square product.
    peers
        The measurements.
    cached
        Seconds of our first calls with a filled cache.
    cores_of_others
        The mean number of cores that other processes kept busy during the rounds.
    """

    n_networks: int
    gflop: float
    peaks: dict[str, float]
    peers: dict[str, Measured]
    cached: list[float]
    cores_of_others: float

    @property
    def compilation(self) -> float:
        """Seconds that our first call takes longer than later ones."""
        return median(self.peers[OURS].first) - median(self.peers[OURS].later)

    def share(self, name: str) -> float:
        """Return the share of the peak that a peer's later calls reached."""
        return self.gflop / median(self.peers[name].later) / max(self.peaks.values())

    def has(self, name: str) -> bool:
        """Whether a peer was measured."""
        return name in self.peers and not self.peers[name].failure

    def times_ours(self, name: str) -> float:
        """Return how many times as long as ours a peer's later calls took."""
        return median(self.peers[name].later) / median(self.peers[OURS].later)


def calls(name: str, problem: Problem, threads: int, *, cache: str | None = None, is_scored: bool = False) -> Calls:
    """Take a turn, in a process that has computed nothing yet; with a cache, only the first call."""
    for module in PEERS[name].modules:
        import_module(module)
    if cache:
        from jaxmlp import use_compilation_cache

        use_compilation_cache(cache)
    start = perf_counter()
    run = PEERS[name].start(threads)
    accuracy = run(problem)
    first = perf_counter() - start
    later: list[float] = []
    while not cache and (not later or (sum(later) < 2 and len(later) < 5)):
        others = problem.again(len(later) + 1)
        start = perf_counter()
        run(others)
        later.append(perf_counter() - start)
    return Calls(first, median(later) if later else nan, accuracy() if is_scored else None)


def turn(name: str, problem: Problem, threads: int, **options: Any) -> Calls:
    return in_fresh_process(partial(calls, **options), name, problem, threads)


def best_threads(name: str, problem: Problem) -> int:
    """Return the faster number of threads, one or one a core, on a small part, if the peer has a choice."""
    n = 8 * problem.batch_size
    part = problem._replace(
        epochs=1,
        learning_rates=problem.learning_rates[:8],
        momenta=problem.momenta[:4],
        seeds=problem.seeds[:2],
        x=problem.x[:n],
        t=problem.t[:n],
    )
    choices = {1, cores()} if PEERS[name].has_threads else {cores()}
    return min(choices, key=lambda threads: turn(name, part, threads).later)


def peaks() -> dict[str, float]:
    """Return the rate of each square product, for a process of its own: its threads wait in a busy loop."""
    return {name: task() for name, task in square_products().items()}


def enter(name: str, problem: Problem) -> Measured:
    """Return a peer with its threads and no times yet, or with the reason why it failed."""
    try:
        return Measured(best_threads(name, problem), [], [], [])
    except Exception as error:
        if name == OURS:
            raise
        return Measured(0, [], [], [], reason(error))


def measure(problem: Problem, names: Iterable[str], rounds: int) -> Outcome:
    peers = {name: enter(name, problem) for name in names}
    rates, cached = [], []
    with TemporaryDirectory() as folder:
        turn(OURS, problem, cores(), cache=folder)
        clock = Clock()
        for number in range(rounds):
            rates.append(in_fresh_process(peaks))
            cached.append(turn(OURS, problem, cores(), cache=folder).first)
            for name, peer in peers.items():
                if not peer.failure:
                    # Once is enough to know how well its networks do.
                    taken = turn(name, problem, peer.threads, is_scored=number == 0)
                    for values, value in zip((peer.first, peer.later, peer.accuracy), taken, strict=True):
                        values.extend([] if value is None else [value])
    best = {name: max(rate[name] for rate in rates) for name in rates[0]}
    return Outcome(problem.n_networks, problem.gflop, best, peers, cached, clock.cores_of_others())


def problem_of(grid: Grid, data: tuple[np.ndarray, np.ndarray], quick: bool = False) -> Problem:
    """Return the grid on whole batches of the data, because peers treat a last, smaller batch differently."""
    x, t = data
    n = len(x) // grid.case.batch_size * grid.case.batch_size
    rates, momenta, seeds = (min(number, 2) for number in grid.shape) if quick else grid.shape
    # Large enough that all peers' networks learn alike, whatever weights they begin with; small enough to be stable.
    return Problem(
        grid.case.sizes,
        grid.case.batch_size,
        1 if quick else grid.epochs,
        tuple(np.geomspace(0.005, 0.05, rates).tolist()),
        tuple(np.linspace(0, 0.9, momenta).tolist()),
        tuple(range(seeds)),
        x[:n],
        t[:n],
    )


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the training part of the embedded digits: x: [1437, 64] float32, and t: [1437] int64 classes."""
    from jaxmlp.data import prepare, read

    train = prepare(read("digits")).train
    return np.asarray(train.x, np.float32), np.asarray(train.t)


def measure_growth(known: Iterable[Outcome], data: Any, names: list[str], asked: argparse.Namespace) -> list[Outcome]:
    """Measure ours and scikit-learn by the number of networks; take over what the cases have measured."""
    by_number = {outcome.n_networks: outcome for outcome in known}
    names = [name for name in names if name in (OURS, JOBLIB)]
    grown: list[Outcome] = []
    for grid in GROWTH[: 3 if asked.quick else None]:
        if grown and grown[-1].has(JOBLIB):
            expected = median(grown[-1].peers[JOBLIB].later) * grid.n_networks / grown[-1].n_networks
            names = names if expected < LONGEST else [OURS]
        known_one = by_number.get(grid.n_networks)
        grown.append(known_one or measure(problem_of(grid, data), names, asked.rounds))
    return grown


def print_case(title: str, outcome: Outcome) -> None:
    header = ("", "threads", "first call", "later calls", "range", "networks/s", "GFLOP/s", "of peak", "times ours")
    print_table(title, (*header, "accuracy"), [_row(name, outcome) for name in outcome.peers])
    for name, peer in outcome.peers.items():
        if peer.failure:
            print(f"{PEERS[name].title} failed: {peer.failure}")
    rates = "; ".join(f"{name}: {rate:.0f}" for name, rate in outcome.peaks.items())
    print(f"The products of a call: {outcome.gflop:.1f} GFLOP. Peak in GFLOP/s: {rates}.")
    print(
        f"First call of jaxmlp with a filled cache: {median(outcome.cached):.2f} s. "
        f"Tracing and compilation without: {outcome.compilation:.2f} s."
    )
    print(busy(outcome.cores_of_others))


def _row(name: str, outcome: Outcome) -> tuple[str, ...]:
    peer, title = outcome.peers[name], PEERS[name].title
    if peer.failure:
        return (title, "failed", *[""] * 8)
    later = median(peer.later)
    return (
        title,
        str(peer.threads) if PEERS[name].has_threads else "",
        f"{median(peer.first):.3f}",
        *spread(peer.later),
        f"{outcome.n_networks / later:.0f}",
        f"{outcome.gflop / later:.1f}",
        f"{outcome.share(name):.0%}",
        f"{outcome.times_ours(name):.2f}",
        f"{peer.accuracy[0]:.1%}",
    )


def print_growth(grown: list[Outcome]) -> None:
    rows = []
    for outcome in grown:
        ours = outcome.peers[OURS]
        workers = spread(outcome.peers[JOBLIB].later) if outcome.has(JOBLIB) else ("", "")
        cells = (*spread(ours.first), *spread(ours.later), *workers)
        rows.append((f"{outcome.n_networks:,}", *cells, f"{outcome.share(OURS):.0%}"))
    header = ("networks", "jaxmlp, first call", "range", "later calls", "range", "warm joblib", "range", "of peak")
    print_table(f"How time grows: {SMALL}, seconds", header, rows)


def draw_growth(grown: list[Outcome], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for label, name, field, style in (
        ("scikit-learn under joblib, warm workers", JOBLIB, "later", "C1s-"),
        ("jaxmlp, everything included", OURS, "first", "C0o--"),
        ("jaxmlp, without compilation", OURS, "later", "C0o-"),
    ):
        having = [outcome for outcome in grown if outcome.has(name)]
        seconds = [median(getattr(outcome.peers[name], field)) for outcome in having]
        axis.plot([outcome.n_networks for outcome in having], seconds, style, markersize=4, label=label)
    numbers = [outcome.n_networks for outcome in grown]
    axis.set(xscale="log", yscale="log", xlabel=f"networks of {SMALL}, 5 epochs of digits", ylabel="seconds")
    axis.set_xticks(numbers, [f"{n:,}" for n in numbers])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=200)


def verdicts(outcomes: dict[str, Outcome]) -> list[Verdict]:
    """Judge the claims of each case; a peer that did not run has none."""
    rows = []
    for name, outcome in outcomes.items():
        title = f"{outcome.n_networks:,} networks {CASES[name].case}"
        fair, ours = not is_disturbed(outcome.cores_of_others), outcome.peers[OURS]
        factors = [
            (JOBLIB, "later", FACTORS, ours.later, "faster than warm joblib, without compilation"),
            (JOBLIB, "later", FACTORS_FIRST, ours.first, "faster than warm joblib, with everything included"),
            (JOBLIB, "later", FACTORS_CACHED, outcome.cached, "faster than warm joblib, with a filled cache"),
            (VMAP, "later", FACTORS_VMAP, ours.later, "faster than the plain vmap, without compilation"),
            (VMAP, "first", FACTORS_VMAP, ours.first, "faster than the plain vmap, with everything included"),
        ]
        for peer, field, least, seconds, words in factors:
            if name in least and outcome.has(peer):
                times = median(getattr(outcome.peers[peer], field)) / median(seconds)
                claim = f"{title}: at least {least[name]:g} times {words}"
                rows.append(Verdict(claim, f"{times:.2f}", times >= least[name], fair))
        if name in SHARES_OF_PEAK:
            share, enough = outcome.share(OURS), SHARES_OF_PEAK[name]
            rows.append(Verdict(f"{title}: at least {enough:.0%} of the peak", f"{share:.0%}", share >= enough, fair))
        compiled, claim = outcome.compilation, f"{title}: tracing and compilation in at most {COMPILATION:g} s"
        rows.append(Verdict(claim, f"{compiled:.2f} s", compiled <= COMPILATION, fair))
    return rows


def as_json(outcome: Outcome) -> dict[str, Any]:
    return outcome._asdict() | {"peers": {name: peer._asdict() for name, peer in outcome.peers.items()}}


def main() -> None:
    others, quick = [name for name in PEERS if name != OURS], "8 networks, one epoch, one round"
    cases = [*CASES, "growth"]
    asked = options(parser("sweep", __doc__, quick=quick, rounds=5, data="random data", cases=cases, peers=others))
    if asked.quick:
        asked.rounds, asked.cases = 1, ["small", "images", "growth"]
    # Everybody's race is on the CPU: for the fresh processes, and for this one, in which JAX is imported already.
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    about = begin(asked, "torch", "scikit-learn", "joblib")
    asked.peers = installed(PEERS, asked.peers)
    names, digits, outcomes, grown = [OURS, *asked.peers], load_digits(), {}, []
    for name in (name for name in asked.cases if name in CASES):
        grid = CASES[name]
        problem = problem_of(grid, load(asked.data, asked.quick) if name == "images" else digits, asked.quick)
        outcomes[name] = measure(problem, [peer for peer in names if peer not in grid.without], asked.rounds)
        print_case(f"{outcomes[name].n_networks:,} networks {grid.case}", outcomes[name])
    if "growth" in asked.cases:
        of_small = [outcome for name, outcome in outcomes.items() if CASES[name].case == SMALL]
        grown = measure_growth(of_small, digits, names, asked)
        print_growth(grown)
    numbers = {name: as_json(outcome) for name, outcome in outcomes.items()}
    if finish(asked, about, verdicts(outcomes), cases=numbers, growth=[as_json(outcome) for outcome in grown]):
        draw_growth(grown, RESULTS / "sweep.png")


if __name__ == "__main__":
    main()
