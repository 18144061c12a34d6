"""The cost of a training step that also measures every example's gradient: jaxmlp against its peers.

    python -m experiments.benchmarks.per_example

The tables `SHARES` and `FACTORS` below state the claims, and our `gradients` take no longer than `vmap(jax.grad)`. The
last lines of the output say whether this machine confirms each claim. `pip install jaxmlp[bench]` installs the peers; a
missing peer is left out, and so is work that a peer cannot do.

Comparison. Steps of SGD without momentum: networks with relu, softmax with cross-entropy, float32, and one batch of
random data in memory, the same in every step. By kind of work, a step

    plain        goes down the mean gradient
    norms        does that, and returns the norm of every example's gradient
    clipped      goes down the mean of the gradients, each clipped to C first, the median norm; no noise is added
    private      does that, and adds normal noise of the deviation C to each number of the sum
    variance     goes down the mean gradient, and returns the variance of every weight's gradient over the batch
    gradients    returns every example's gradient, B times the memory of the parameters, and updates nothing

Each is written as its library's experienced user would write it, the fastest way we know. Before the timing, the first
step of every peer must give the same result as ours, to one part in a thousand; private steps have noise of their own.

Timing. Steps take turns, peer by peer and round by round. A turn is as many steps as last 0.2 seconds, at least one;
each step ends when all its results are there. A time is the median of the rounds. "Times plain" is against the plain
step of the same framework: our own; `jax.grad` of the mean loss; PyTorch without hooks.

Memory is the growth of a fresh process's peak by the first steps of the kind, after plain steps, compilation included.
It is main memory in MB, so it is left out on a GPU, and on systems other than Linux.
"""

from collections.abc import Iterable
from functools import partial
from importlib import import_module
from math import isfinite
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._report import print_table
from experiments._timing import in_fresh_process, peak_memory, race, turn_of
from experiments.benchmarks._benchmark import Verdict, begin, busy, finish, installed, is_disturbed, options, parser
from experiments.benchmarks._cases import Case
from experiments.benchmarks.peers.per_example import OURS, PEERS, VMAP
from experiments.benchmarks.peers.per_example_problem import Problem
from jaxmlp import MLP, init

KINDS = ("plain", "norms", "clipped", "private", "variance", "gradients")
TOLERANCE = 1e-3  # two orders above what float32 leaves of an update that is small beside the weight
NARROW, WIDE = (784, 128, 10), (784, 512, 512, 10)
CASES = {
    f"{name}-{batch_size}": Case(sizes, batch_size)
    for name, sizes in (("narrow", NARROW), ("wide", WIDE))
    for batch_size in (256, 32, 1024, 4096)
}
WITH_PEERS = ("narrow-256", "wide-256")  # the cases that claims are made of; in the others we run alone

# The claims, by kind of work: at most so many of our plain steps, at least so many times faster than the fastest peer.
SHARES = {"norms": 1.05, "clipped": 1.05, "private": 1.3, "variance": 2.0}
FACTORS = {"norms": 4.0, "clipped": 4.0, "private": 3.0}


class Work(NamedTuple):
    """A row of the tables: who does which kind of work."""

    peer: str
    kind: str

    def __str__(self) -> str:
        """Write it as in backpack: norms."""
        return f"{self.peer}: {self.kind}"


class Outcome(NamedTuple):
    """One case.

    Attributes
    ----------
    seconds
        The seconds of a step of each work, by round.
    memory
        The growth of the peak by each work's first steps, in MB.
    cores_of_others
        The mean number of cores that other processes kept busy during the rounds.
    """

    seconds: dict[Work, list[float]]
    memory: dict[Work, float]
    cores_of_others: float

    def times_plain(self, work: Work) -> float:
        """Return the ratio of a step's time to that of its framework's plain step."""
        return median(self.seconds[work]) / median(self.seconds[Work(PEERS[work.peer].baseline, "plain")])

    def times_ours(self, work: Work) -> float:
        """Return the ratio of a step's time to that of our step of the same kind."""
        return median(self.seconds[work]) / median(self.seconds[Work(OURS, work.kind)])


def problem_of(case: Case) -> Problem:
    """Return the case's network and a batch of random data, with the median norm to clip to."""
    params = init(MLP(case.sizes), jax.random.key(0))
    random = np.random.default_rng(0)
    x = random.random((case.batch_size, case.sizes[0]), np.float32)
    t = random.integers(0, case.sizes[-1], case.batch_size)
    problem = Problem(case.sizes, [np.asarray(leaf) for leaf in jax.tree.leaves(params)], x, t, np.inf)
    (norms,) = PEERS[OURS].starts["norms"](problem)()
    return problem._replace(max_norm=float(np.median(norms)))


def first_answer(work: Work, problem: Problem) -> list[np.ndarray]:
    """Return the results of the first step; for updated parameters, their change."""
    answer = PEERS[work.peer].starts[work.kind](problem)()
    arrays = [np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf) for leaf in answer]
    if work.kind in ("plain", "clipped"):
        return [after - before for after, before in zip(arrays, problem.weights, strict=True)]
    return arrays


def check(works: Iterable[Work], problem: Problem) -> None:
    """Compare every work's first step with ours, array by array; raise `ValueError` if they disagree."""
    for kind in KINDS:
        if kind == "private":
            continue
        ours = first_answer(Work(OURS, kind), problem)
        for work in works:
            if work.kind != kind or work.peer == OURS:
                continue
            pairs = zip(first_answer(work, problem), ours, strict=True)
            error = max(np.linalg.norm(its - our) / np.linalg.norm(our) for its, our in pairs)
            if not error <= TOLERANCE:
                raise ValueError(f"{work} must agree with ours to {TOLERANCE:g}, but is off by {error:.1e}")


def memory_growth(work: Work, problem: Problem, n_steps: int = 3) -> float:
    """Return the growth of the peak by the work's first steps in MB, for a process that has run nothing yet."""
    peer, peaks = PEERS[work.peer], []
    for module in peer.modules:
        import_module(module)
    for start in (PEERS[peer.baseline].starts["plain"], peer.starts[work.kind]):
        step = start(problem)
        for _ in range(n_steps):
            step()
        peaks.append(peak_memory())
    return peaks[1] - peaks[0]


def measure(names: list[str], case: Case, rounds: int) -> Outcome:
    problem = problem_of(case)
    kinds = [kind for kind in KINDS if kind != "gradients" or case.batch_size < 4096]  # 11 GB of them
    works = [Work(name, kind) for kind in kinds for name in names if kind in PEERS[name].starts]
    check(works, problem)
    can_say = jax.default_backend() == "cpu" and isfinite(peak_memory())
    extra = [work for work in works if work.kind != "plain" and can_say]
    memory = {work: in_fresh_process(memory_growth, work, problem) for work in extra}
    turns = {str(work): turn_of(PEERS[work.peer].starts[work.kind](problem)) for work in works}
    timed, cores_of_others = race(turns, rounds)
    return Outcome({work: timed[str(work)].values for work in works}, memory, cores_of_others)


def print_case(case: Case, outcome: Outcome) -> None:
    header = ("work", "", "ms a step", "range", "times plain", "times ours", "MB more")
    print_table(str(case), header, [_row(work, outcome) for work in outcome.seconds])
    print(busy(outcome.cores_of_others))


def _row(work: Work, outcome: Outcome) -> tuple[str, ...]:
    milliseconds = [1000 * seconds for seconds in outcome.seconds[work]]
    return (
        work.kind,
        PEERS[work.peer].title,
        f"{median(milliseconds):.2f}",
        f"{min(milliseconds):.2f}-{max(milliseconds):.2f}",
        f"{outcome.times_plain(work):.2f}",
        f"{outcome.times_ours(work):.2f}",
        f"{outcome.memory[work]:.0f}" if work in outcome.memory else "-",
    )


def verdicts(outcomes: dict[str, Outcome]) -> list[Verdict]:
    """Judge the claims; one about a peer that did not run is left out."""
    rows = []
    for name in filter(outcomes.__contains__, WITH_PEERS):
        case, outcome = CASES[name], outcomes[name]
        row = partial(Verdict, undisturbed=not is_disturbed(outcome.cores_of_others))
        for kind, most in SHARES.items():
            share = outcome.times_plain(Work(OURS, kind))
            rows.append(row(f"{case}: {kind} in at most {most} plain steps", f"{share:.2f}", share <= most))
        for kind, least in FACTORS.items():
            peers = [work for work in outcome.seconds if work.kind == kind and work.peer != OURS]
            if peers:
                fastest = min(peers, key=outcome.times_ours)
                factor = outcome.times_ours(fastest)
                claim = f"{case}: {kind} at least {least} times faster than the fastest peer"
                rows.append(row(claim, f"{factor:.2f} ({PEERS[fastest.peer].title})", factor >= least))
        if Work(VMAP, "gradients") in outcome.seconds:
            share = 1 / outcome.times_ours(Work(VMAP, "gradients"))
            claim = f"{case}: gradients in at most the time of {PEERS[VMAP].title}"
            rows.append(row(claim, f"{share:.2f} of it", share <= 1))
    return rows


def with_baselines(names: Iterable[str]) -> list[str]:
    """Return ours and the peers, each with the peer whose plain step it is compared with, in the tables' order."""
    asked = {OURS, *names}
    needed = asked | {PEERS[name].baseline for name in asked}
    return [name for name in PEERS if name in needed]


def as_json(outcome: Outcome) -> dict[str, Any]:
    works = [
        work._asdict() | {"seconds": seconds, "megabytes": outcome.memory.get(work)}
        for work, seconds in outcome.seconds.items()
    ]
    return {"works": works, "cores_of_others": outcome.cores_of_others}


def main() -> None:
    others = [name for name in PEERS if name != OURS]
    asked = options(
        parser("per_example", __doc__, quick="the smallest case, two rounds", rounds=5, cases=CASES, peers=others)
    )
    about = begin(asked, "torch", "opacus", "backpack-for-pytorch", "jax-privacy")
    asked.peers = installed(PEERS, asked.peers)
    outcomes = {}
    for name in asked.cases[:1] if asked.quick else asked.cases:
        names = with_baselines(asked.peers) if name in WITH_PEERS else [OURS]
        outcomes[name] = measure(names, CASES[name], asked.rounds)
        print_case(CASES[name], outcomes[name])
    cases = {name: as_json(outcome) for name, outcome in outcomes.items()}
    finish(asked, about, verdicts(outcomes), cases=cases)


if __name__ == "__main__":
    main()
