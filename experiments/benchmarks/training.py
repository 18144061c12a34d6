"""An epoch of jaxmlp against the same epoch of PyTorch, scikit-learn, and Flax with optax, in one run.

    python -m experiments.benchmarks.training --data FOLDER

The table `FACTORS` below states the claim: how many times faster jaxmlp is than each peer, in each case. The last lines
of the output say whether this machine confirms each entry. `pip install jaxmlp[bench]` installs the peers; a missing
peer is left out. Without `--data` (a folder of IDX files, such as Fashion-MNIST) the data are random.

Comparison. All train the same network (relu, softmax with cross-entropy, float32) by momentum SGD, on the same number
of batches of one size. The examples are in memory, in a new random order every epoch. Each peer is written as its
experienced user would write it: the fastest way we know that is still that library's way of training. Two rows go
further than most users would and are marked "best possible": the whole step (PyTorch) or the whole epoch (Flax) as one
compiled program. They show how much of a difference is the library, and how much the habit.

Timing. Epochs take turns, peer by peer and round by round, after one that does not count; a time is the median of the
rounds. jaxmlp is timed like the others, by the clock around a call of `train` that continues for one more epoch. This
includes its checks of data and results, as scikit-learn's time includes its record of the loss. The last column, the
loss of the last round, shows that all of them learn. It is the loss of the last batch; jaxmlp and scikit-learn keep the
mean over the epoch instead. scikit-learn does not use a GPU. The others use one if there is one, with TF32 products,
which is what float32 means to JAX there.

GFLOP/s. Only the matrix products that every step needs are counted: two operations for each multiply-add, of which a
batch of B needs

    B sum_{l>=1} n_{l-1} n_l    forward:    z_l = w_l y_{l-1}
    B sum_{l>=1} n_{l-1} n_l    eq. (8):    grad w_l = delta_l outer y_{l-1}
    B sum_{l>=2} n_{l-1} n_l    eq. (7):    w_l^T delta_l, which the input layer does not need

The peak is the best rate of large square products, measured between the rounds. Products as small as a network's
may not reach it. One row therefore shows JAX with exactly the products above, one after another, on batches laid out
beforehand.

The first call is measured in a fresh process, with arrays in memory and libraries imported, to the end of the first
epoch.
"""

import argparse
import os
from collections.abc import Iterable
from importlib import import_module
from math import nan
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from experiments._options import count
from experiments._report import print_table
from experiments._timing import in_fresh_process, race, spread, square_products
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
from experiments.benchmarks.peers.training import OURS, PEERS, PRODUCTS, Epoch, Problem

CASES = {
    "narrow-32": Case((784, 128, 10), 32),
    "narrow-128": Case((784, 128, 10), 128),
    "wide-128": Case((784, 512, 512, 10), 128),
}

# The claims. How many times as long as ours an epoch of the peer takes, at least, in each case.
FACTORS = {
    "torch": {"narrow-32": 2.0, "narrow-128": 1.8, "wide-128": 1.5},
    "torch-compiled": {"narrow-32": 2.0, "narrow-128": 1.8, "wide-128": 1.5},
    "scikit-learn": {"narrow-32": 2.0, "narrow-128": 1.8, "wide-128": 1.5},
    "flax": {"narrow-32": 1.3, "narrow-128": 1.3, "wide-128": 1.1},
}
SHARES_OF_PEAK = {"wide-128": 0.80}  # at least
FIRST_CALLS = {"narrow-32": 1.5, "narrow-128": 1.5}  # seconds, at most


class Measured(NamedTuple):
    """One peer in one case: the epochs' seconds, the last loss, first calls, and why it failed if it did."""

    seconds: list[float]
    loss: float
    first_calls: list[float]
    failure: str | None = None


class Cached(NamedTuple):
    """Seconds of our first calls with a persistent compilation cache."""

    empty: list[float]
    filled: list[float]


class Outcome(NamedTuple):
    """One case.

    Attributes
    ----------
    gflop
        The operations of an epoch's products, in units of 1e9.
    peaks
        The best GFLOP/s of each square product.
    peers, cached
        The measurements.
    cores_of_others
        The mean number of cores that other processes kept busy during the rounds.
    """

    gflop: float
    peaks: dict[str, float]
    peers: dict[str, Measured]
    cached: Cached
    cores_of_others: float

    @property
    def peak(self) -> float:
        """The machine's rate: the best of all square products."""
        return max(self.peaks.values())

    def share(self, name: str) -> float:
        """Return the share of the peak that a peer's median epoch reached."""
        return self.gflop / median(self.peers[name].seconds) / self.peak

    def times_ours(self, name: str) -> float:
        """Return how many times as long as ours a peer's median epoch took."""
        return median(self.peers[name].seconds) / median(self.peers[OURS].seconds)


def first_call(name: str, problem: Problem, cache: str | None = None) -> float:
    """Return the seconds to the end of the first epoch, for a process that has computed nothing yet."""
    with TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        for module in PEERS[name].modules:
            import_module(module)
        if cache:
            from jaxmlp import use_compilation_cache

            use_compilation_cache(cache)
        start = perf_counter()
        PEERS[name].start(problem)()
        return perf_counter() - start


def first_calls(name: str, problem: Problem, repeats: int) -> list[float]:
    """Measure ours repeatedly, because of its claim; measure the others, which may compile for a minute, once."""
    if name == PRODUCTS:
        return []
    try:
        return [in_fresh_process(first_call, name, problem) for _ in range(repeats if name == OURS else 1)]
    except Exception:  # its rounds will fail as well, and say why
        if name == OURS:
            raise
        return []


def cached_first_calls(problem: Problem, repeats: int) -> Cached:
    """Measure our first calls with a cache that is empty, and then with the same one again."""
    cached = Cached([], [])
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            for seconds in cached:
                seconds.append(in_fresh_process(first_call, OURS, problem, folder))
    return cached


def start_all(names: Iterable[str], problem: Problem) -> tuple[dict[str, Epoch], dict[str, str]]:
    """Run the first epoch of each, which does not count; return the peers that work, and why others do not."""
    epochs, failures = {}, {}
    for name in names:
        try:
            epoch = PEERS[name].start(problem)
            epoch()
            epochs[name] = epoch
        except Exception as error:  # such as a missing compiler: the others still run
            if name == OURS:
                raise
            failures[name] = reason(error)
    return epochs, failures


def measure(case: Case, names: list[str], x: np.ndarray, t: np.ndarray, asked: argparse.Namespace) -> Outcome:
    n = len(x) // case.batch_size * case.batch_size
    problem = Problem(*case, x[:n], t[:n])
    first = {name: first_calls(name, problem, asked.first_calls) for name in names}
    cached = cached_first_calls(problem, asked.first_calls)
    epochs, failures = start_all(names, problem)
    squares = square_products()
    timed, cores_of_others = race(epochs | squares, asked.rounds)
    peers = {name: Measured(timed[name].seconds, timed[name].values[-1], first[name]) for name in epochs}
    failed = {name: Measured([], nan, [], why) for name, why in failures.items()}
    peaks = {name: max(timed[name].values) for name in squares}
    return Outcome(problem.gflop, peaks, peers | failed, cached, cores_of_others)


def print_case(case: Case, outcome: Outcome) -> None:
    header = ("", "s an epoch", "range", "GFLOP/s", "of peak", "times ours", "first call", "loss")
    print_table(str(case), header, [_row(name, outcome) for name in outcome.peers])
    for name, peer in outcome.peers.items():
        if peer.failure:
            print(f"{PEERS[name].title} failed: {peer.failure}")
    peaks = "; ".join(f"{name}: {rate:.0f}" for name, rate in outcome.peaks.items())
    print(f"The products of an epoch: {outcome.gflop:.1f} GFLOP. Peak in GFLOP/s: {peaks}.")
    own = outcome.times_ours(PRODUCTS)
    print(f"jaxmlp reached {own:.0%} of the rate of its own products alone.")
    empty, filled = (f"{median(seconds):.2f} s" for seconds in outcome.cached)
    print(f"First call of jaxmlp with a persistent cache that is empty: {empty}; that is filled: {filled}.")
    print(busy(outcome.cores_of_others))


def _row(name: str, outcome: Outcome) -> tuple[str, ...]:
    peer = outcome.peers[name]
    if peer.failure:
        return (PEERS[name].title, "failed", *[""] * 6)
    rate = outcome.gflop / median(peer.seconds)
    return (
        PEERS[name].title,
        *spread(peer.seconds),
        f"{rate:.0f}",
        f"{outcome.share(name):.0%}",
        f"{outcome.times_ours(name):.2f}",
        f"{median(peer.first_calls):.2f} s" if peer.first_calls else "",
        "" if name == PRODUCTS else f"{peer.loss:.3f}",
    )


def verdicts(outcomes: dict[str, Outcome]) -> list[Verdict]:
    """Judge the claims of each case; a peer that did not run has none."""
    rows = []
    for name, outcome in outcomes.items():
        case, ours, fair = CASES[name], outcome.peers[OURS], not is_disturbed(outcome.cores_of_others)
        for peer, factors in FACTORS.items():
            if peer in outcome.peers and not outcome.peers[peer].failure:
                factor = outcome.times_ours(peer)
                claim = f"{case}: at least {factors[name]} times faster than {PEERS[peer].title}"
                rows.append(Verdict(claim, f"{factor:.2f}", factor >= factors[name], fair))
        if name in SHARES_OF_PEAK:
            share, least = outcome.share(OURS), SHARES_OF_PEAK[name]
            rows.append(Verdict(f"{case}: at least {least:.0%} of the peak", f"{share:.0%}", share >= least, fair))
        if name in FIRST_CALLS:
            first, most = median(ours.first_calls), FIRST_CALLS[name]
            rows.append(Verdict(f"{case}: first call in at most {most} s", f"{first:.2f} s", first <= most, fair))
    return rows


def as_json(outcome: Outcome) -> dict[str, Any]:
    peers = {name: peer._asdict() for name, peer in outcome.peers.items()}
    return outcome._asdict() | {"peers": peers, "cached": outcome.cached._asdict()}


def main() -> None:
    others = [name for name in PEERS if name not in (OURS, PRODUCTS)]
    quick = "6,400 examples, two rounds, one first call"
    made = parser("training", __doc__, quick=quick, rounds=5, data="random data", cases=CASES, peers=others)
    made.add_argument("--first-calls", type=count, default=3, metavar="N", help="first calls of ours, 3 by default")
    asked = options(made)
    asked.first_calls = 1 if asked.quick else asked.first_calls
    about = begin(asked, "torch", "scikit-learn", "flax", "optax")
    asked.peers = installed(PEERS, asked.peers)
    x, t = load(asked.data, asked.quick)
    outcomes = {}
    for name in asked.cases:
        outcomes[name] = measure(CASES[name], [OURS, *asked.peers, PRODUCTS], x, t, asked)
        print_case(CASES[name], outcomes[name])
    cases = {name: as_json(outcome) for name, outcome in outcomes.items()}
    finish(asked, about, verdicts(outcomes), cases=cases)


if __name__ == "__main__":
    main()
