"""What a check of gradients catches, what it explains, and what it costs: ours and its peers'.

Claims: every planted fault is caught; of the whole faults that have a name, 9 of 10 get it; no false alarm among 5000
right gradients; less than 20 evaluations of the gradient; less wall time than every peer that catches as much.

    python -m experiments.benchmarks.checking

The faults are in `benchmarks/gradients/faults.py`, each whole and in small shares, the right gradients in
`benchmarks/gradients/right.py`. Peers keep their default tolerances and see only the first few hundred right gradients,
because they are slow. An explanation is asked for whole faults: a millionth of a fault has no name. The time of a check
is its wall time with compilation. A folder keeps compiled programs for this run, except for the costs: they are
measured first, everybody's in a fresh process, or apart: `--costs`, and then `--kept-costs`.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._report import (
    MOST_CORES_OF_OTHERS,
    RESULTS,
    Verdict,
    environment,
    print_table,
    print_verdicts,
    write_json,
)
from experiments._timing import in_fresh_process, seconds_of_others
from experiments.benchmarks._cases import Case
from experiments.benchmarks.gradients.faults import FAULTS, batch_loss, precision
from experiments.benchmarks.gradients.right import FAMILIES, right_gradient
from experiments.benchmarks.peers.checking import FAST, PEERS, SLOW, Answer
from jaxmlp import MLP, init, loss_and_gradient, use_compilation_cache

OURS = "jaxmlp"
CHECKERS = (OURS, *PEERS)
CASE = Case((784, 120, 10), 128)
MOST_EVALUATIONS = 20
WORKERS = 2
COSTS = "checking_costs"  # the file that keeps them
VERSIONS = ("jaxmlp", "chex", "torch")


class Check(NamedTuple):
    """One check of one gradient.

    Attributes
    ----------
    subject, group, dtype
        The fault's name and first kind, or the right gradient's name and family; the parameters' dtype.
    size
        The fault's share; 0 for a right gradient.
    checker
        Of `CHECKERS`.
    outcome
        "passes", "caught", "undecided", or "refuses" where an error is not about the gradient.
    seconds
        Wall time, compilation included.
    said
        The first explanation's kind, or a peer's message.
    explained
        Whether that kind is right; None where none is asked for.
    """

    subject: str
    group: str
    dtype: str
    size: float
    checker: str
    outcome: str
    seconds: float
    said: str
    explained: bool | None = None


_OUTCOMES = {"right": "passes", "wrong": "caught", "undecided": "undecided"}


def ours(check: Callable[[], Any]) -> Answer:
    """Run one of our checks, and write its report as a peer's answer."""
    start = perf_counter()
    try:
        report = check()
    except Exception as error:  # as with the peers: an error is an answer
        return Answer("refuses", perf_counter() - start, f"{type(error).__name__}: {error}")
    kinds = [explanation.kind for explanation in report.explanations]
    return Answer(_OUTCOMES[report.verdict], perf_counter() - start, kinds[0] if kinds else "none")


def answers(
    f: Any, gradient: Any, params: Any, checkers: Sequence[str], explain: bool = False
) -> Iterator[tuple[str, Answer]]:
    from jaxmlp.checking import check_gradient

    for checker in checkers:
        if checker == OURS:
            yield OURS, ours(lambda: check_gradient(f, gradient, params, explain=explain))
        else:
            yield checker, PEERS[checker](f, gradient, params)


def check_fault(number: int, quick: bool) -> list[Check]:
    """Plant one fault for every dtype in every size, and ask everybody; a custom rule is also checked as such."""
    fault, checks = FAULTS[number], []
    for dtype in fault.dtypes:
        for size in fault.sizes(dtype)[: 1 if quick else None]:
            asked = size == 1 and "none" not in fault.kinds
            with precision(dtype):
                params = fault.params(dtype)
                found = list(answers(fault.f, fault.gradient(size), params, CHECKERS, asked))
                if fault.rule and size == 1:
                    found.append((f"{OURS}, as a rule", _check_rule(fault.f, params)))
            for checker, answer in found:
                explained = answer.said in fault.kinds if asked and checker.startswith(OURS) else None
                checks.append(Check(fault.name, fault.kinds[0], dtype, size, checker, *answer, explained))
    jax.clear_caches()
    return checks


def _check_rule(f: Any, params: Any) -> Answer:
    def check() -> Any:
        from jaxmlp.checking import check_custom_rule

        return check_custom_rule(f, params)

    return ours(check)


def groups_of_right(count: int, seed: int, at_most: int = 60) -> list[list[int]]:
    """Return the numbers of right gradients in groups of one function, dtype and shape: one compilation serves each."""
    groups: dict[Any, list[int]] = {}
    for index in range(count):
        right = right_gradient(seed, index)
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(right.params))
        groups.setdefault((id(right.f), id(right.gradient), right.dtype, shapes), []).append(index)
    return [group[i : i + at_most] for group in groups.values() for i in range(0, len(group), at_most)]


def check_right(group: Sequence[int], seed: int, with_peers: int) -> list[Check]:
    """Check right gradients of one function; peers see those with numbers before `with_peers`."""
    from jaxmlp.checking import gradient_checker

    checks, check = [], None
    for index in group:
        right = right_gradient(seed, index)
        with precision(right.dtype):
            params = jax.tree.map(jnp.asarray, right.params)
            check = check or gradient_checker(right.f, right.gradient, params)
            found = [(OURS, ours(partial(check, params, seed=index)))]
            if index < with_peers:
                found += answers(right.f, right.gradient, params, tuple(PEERS))
        checks += [Check(right.name, right.family, right.dtype, 0.0, checker, *answer) for checker, answer in found]
    jax.clear_caches()
    return checks


class Cost(NamedTuple):
    """What checks of one network's gradient cost.

    Attributes
    ----------
    gradient, wide_gradient
        Seconds of one evaluation of the user's compiled gradient, in the user's dtype and in float64.
    again
        Seconds of our check by a `gradient_checker` that is compiled.
    answers
        Of everybody, by name: with the seconds of a first call.
    cores_of_others
        How many cores other processes kept busy, in the mean.
    """

    gradient: float
    wide_gradient: float
    again: float
    answers: dict[str, Answer]
    cores_of_others: float


def _case(activation: str) -> tuple[MLP, Any, Any]:
    """Return the network, its mean loss of a batch, and the gradient."""
    mlp, random = MLP(CASE.sizes, activation), np.random.default_rng(0)
    x = jnp.asarray(random.random((CASE.batch_size, CASE.sizes[0]), np.float32))
    t = jnp.asarray(random.integers(0, 10, CASE.batch_size))

    def gradient(params: Any) -> Any:
        return loss_and_gradient(mlp, params, x, t)[1]

    return mlp, partial(batch_loss, mlp, x, t), gradient


def wall_of(activation: str, dtype: str, peer: str) -> Answer:
    """Ask one peer once, in this process, which should be a fresh one."""
    mlp, f, gradient = _case(activation)
    with precision(dtype):
        return PEERS[peer](f, gradient, init(mlp, jax.random.key(0), dtype=dtype))


def cost_of(activation: str, dtype: str) -> Cost:
    """Measure ours in this process, which should be a fresh one."""
    from jaxmlp.checking import check_gradient, gradient_checker

    mlp, f, gradient = _case(activation)
    f, gradient = jax.jit(f), jax.jit(gradient)
    began, others = perf_counter(), seconds_of_others()
    with precision(dtype):
        params = init(mlp, jax.random.key(0), dtype=dtype)
        start = perf_counter()
        report = check_gradient(f, gradient, params, seed=0)
        first = perf_counter() - start
        check, times = gradient_checker(f, gradient, params), []
        check(params)
        for _ in range(5):
            start = perf_counter()
            check(params)
            times.append(perf_counter() - start)
        again = median(times)
        seconds = _seconds_of(gradient, params)
    with precision("float64"):
        wide = _seconds_of(gradient, jax.tree.map(lambda p: jnp.asarray(np.asarray(p), "float64"), params))
    busy = (seconds_of_others() - others) / (perf_counter() - began)
    return Cost(seconds, wide, again, {OURS: Answer(_OUTCOMES[report.verdict], first, "")}, busy)


def _seconds_of(gradient: Callable[[Any], Any], params: Any, calls: int = 50) -> float:
    compiled, seconds = jax.jit(gradient), []
    jax.block_until_ready(compiled(params))
    for _ in range(calls):
        start = perf_counter()
        jax.block_until_ready(compiled(params))
        seconds.append(perf_counter() - start)
    return median(seconds)


def _begin(folder: str) -> None:
    use_compilation_cache(folder)


def in_processes(tasks: Sequence[Callable[[], list[Check]]], folder: str, what: str) -> list[Check]:
    """Run all tasks in processes of one thread each, and say on the way how far it is."""
    # Read when XLA starts, in the children; the flags of whoever called come first.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ |= {"XLA_FLAGS": flags.strip(), "OMP_NUM_THREADS": "1"}
    checks, start = [], perf_counter()
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), _begin, (folder,)) as pool:
        futures = [pool.submit(task) for task in tasks]
        for done, future in enumerate(as_completed(futures), 1):
            checks += future.result()
            print(f"\r{what}: {done} of {len(tasks)}, {perf_counter() - start:.0f} s ", end="", file=sys.stderr)
    print(file=sys.stderr)
    return sorted(checks)


def _of(checks: Sequence[Check], **fields: Any) -> list[Check]:
    return [check for check in checks if all(getattr(check, name) == value for name, value in fields.items())]


def _count(checks: Sequence[Check], outcome: str) -> int:
    return sum(check.outcome == outcome for check in checks)


def _share(checks: Sequence[Check]) -> str:
    """Write how many were caught; with a plus, how many were refused."""
    refused = _count(checks, "refuses")
    return f"{_count(checks, 'caught')}{f' + {refused} refused' if refused else ''}" if checks else "-"


def _explained(checks: Sequence[Check]) -> tuple[int, int]:
    asked = [check.explained for check in checks if check.explained is not None]
    return sum(asked), len(asked)


def print_faults(checks: Sequence[Check]) -> None:
    header = ("kind", "dtype", "faults", OURS, "explained", *PEERS)
    rows, seconds = [], []
    for dtype in ("float64", "float32"):
        for kind in sorted({check.group for check in checks}):
            some = _of(checks, dtype=dtype, group=kind)
            if some:
                rows.append((kind, dtype, *_fault_row(some)))
        some = _of(checks, dtype=dtype)
        rows.append(("all", dtype, *_fault_row(some)))
        medians = [median(check.seconds for check in _of(some, checker=checker)) for checker in CHECKERS]
        seconds.append((dtype, *(f"{one:.2f}" for one in medians)))
    print_table("Faults caught (explained: of whole faults that have a name)", header, rows)
    print_table("Seconds of a check of a fault, median", ("dtype", *CHECKERS), seconds)
    rules = _of(checks, checker=f"{OURS}, as a rule")
    if rules:
        right, asked = _explained(rules)
        row = (len(rules), _share(rules), f"{right} of {asked}")
        print_table("Custom rules, checked as such", ("faults", "caught", "explained"), [row])
    missed = [check for check in checks if check.checker.startswith(OURS) and check.outcome != "caught"]
    _print_list("Faults that we miss", missed)
    _print_list("Whole faults that we explain wrongly", [check for check in checks if check.explained is False])


def _fault_row(checks: Sequence[Check]) -> tuple[object, ...]:
    our = _of(checks, checker=OURS)
    right, asked = _explained(our)
    peers = (_share(_of(checks, checker=peer)) for peer in PEERS)
    return len(our), _share(our), f"{right} of {asked}" if asked else "-", *peers


def _print_list(title: str, checks: Sequence[Check]) -> None:
    if checks:
        rows = [(c.subject, c.dtype, f"{c.size:g}", c.checker, c.outcome, c.said.splitlines()[0][:90]) for c in checks]
        print_table(title, ("", "dtype", "size", "by", "outcome", "said"), rows)


def print_right(checks: Sequence[Check], with_peers: int) -> None:
    seen_by_peers = {check.subject for check in checks if check.checker != OURS}
    rows = []
    for family in (*FAMILIES, "all"):
        some = checks if family == "all" else _of(checks, group=family)
        our = _of(some, checker=OURS)
        if our:
            same = [check for check in our if check.subject in seen_by_peers]
            peers = (_share(_of(some, checker=peer)) for peer in PEERS)
            undecided = _count(our, "undecided")
            rows.append(
                (family, len(our), _share(our), undecided, f"{median(c.seconds for c in our):.2f}", len(same), *peers)
            )
    header = ("family", "right gradients", "false alarms", "undecided", "s, median", "seen by peers", *PEERS)
    print_table(f"False alarms; peers see the first {with_peers}", header, rows)
    by_dtype = [
        (dtype, *(f"{_share(some)} of {len(some)}" for some in (_of(checks, dtype=dtype, checker=c) for c in CHECKERS)))
        for dtype in ("float64", "float32", "bfloat16")
    ]
    print_table("False alarms by dtype", ("dtype", *CHECKERS), by_dtype)
    not_passed = [check for check in checks if check.checker == OURS and check.outcome != "passes"]
    _print_list("Right gradients that we do not pass", not_passed)


def print_costs(costs: dict[str, Cost]) -> None:
    rows, walls = [], []
    for name, cost in costs.items():
        first = cost.answers[OURS].seconds
        rows.append(
            (
                name,
                f"{1000 * cost.gradient:.2f}",
                f"{1000 * cost.wide_gradient:.2f}",
                f"{first:.2f}",
                f"{cost.again:.3f}",
                f"{cost.again / cost.gradient:.1f}",
                f"{cost.again / cost.wide_gradient:.1f}",
            )
        )
        given = (cost.answers.get(checker) for checker in CHECKERS)
        walls.append((name, *(f"{one.seconds:.2f}, {one.outcome}" if one else "-" for one in given)))
    header = (
        "",
        "gradient, ms",
        "in float64, ms",
        "first call, s",
        "without compiling, s",
        "in gradients",
        "of float64",
    )
    n_params = MLP(CASE.sizes).n_parameters
    print_table(f"Cost: {CASE}, {n_params} parameters", header, rows)
    print_table("Seconds of a first call, of a right gradient", ("", *CHECKERS), walls)


def verdicts(faults: Sequence[Check], right: Sequence[Check], costs: dict[str, Cost]) -> list[Verdict]:
    """Hold the claims against what was measured."""
    our = [check for check in faults if check.checker.startswith(OURS)]
    caught, (named, asked) = _count(our, "caught"), _explained(our)
    our_right = _of(right, checker=OURS)
    alarms, undecided = len(our_right) - _count(our_right, "passes"), _count(our_right, "undecided")
    undisturbed = all(not cost.cores_of_others > MOST_CORES_OF_OTHERS for cost in costs.values())
    evaluations = max(cost.again / cost.gradient for cost in costs.values())
    late = [
        f"{peer}: {answer.seconds:.2f} s, ours {cost.answers[OURS].seconds:.2f} s ({name})"
        for name, cost in costs.items()
        for peer, answer in cost.answers.items()
        if peer != OURS
        and catches_as_much(peer, name.split()[-1], faults, right)
        and answer.seconds < cost.answers[OURS].seconds
    ]
    as_good = [
        f"{peer} ({dtype})"
        for dtype in ("float64", "float32")
        for peer in PEERS
        if catches_as_much(peer, dtype, faults, right)
    ]
    return [
        Verdict("every fault is caught", f"{caught} of {len(our)}", caught == len(our), True),
        Verdict("9 of 10 explanations are right", f"{named} of {asked}", named >= 0.9 * asked, True),
        Verdict(
            "no false alarm",
            f"{alarms} of {len(our_right)} not passed, {undecided} of these undecided",
            alarms == 0,
            True,
        ),
        Verdict(
            f"less than {MOST_EVALUATIONS} evaluations of the gradient, compilation left out",
            f"at most {evaluations:.1f}",
            evaluations < MOST_EVALUATIONS,
            undisturbed,
        ),
        Verdict(
            "less wall time than every peer that catches as much",
            "; ".join(late) or f"as much: {', '.join(as_good) or 'none'}",
            not late,
            undisturbed,
        ),
    ]


def catches_as_much(peer: str, dtype: str, faults: Sequence[Check], right: Sequence[Check]) -> bool:
    """Whether a peer catches as many faults as we do, without calling most of what is right wrong."""
    theirs, our = (_count(_of(faults, dtype=dtype, checker=checker), "caught") for checker in (peer, OURS))
    seen = _of(right, dtype=dtype, checker=peer)
    return theirs >= our and 2 * _count(seen, "passes") >= len(seen)


def measure_costs() -> dict[str, Cost]:
    costs = {}
    for activation in ("relu", "tanh"):
        for dtype in ("float64", "float32"):
            # gradcheck differences every coordinate, for minutes; its fast mode fails in float32, and then does so too.
            peers = [peer for peer in PEERS if peer != SLOW and (peer != FAST or dtype == "float64")]
            print(f"cost of {activation}, {dtype}: {', '.join(peers)}", file=sys.stderr)
            cost = in_fresh_process(cost_of, activation, dtype)
            asked = {peer: in_fresh_process(wall_of, activation, dtype, peer) for peer in peers}
            costs[f"{activation}, {dtype}"] = cost._replace(answers=cost.answers | asked)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--right", type=int, default=5000, metavar="N", help="how many right gradients")
    parser.add_argument("--with-peers", type=int, default=100, metavar="N", help="how many of these peers see")
    parser.add_argument("--seed", type=int, default=0, help="of the right gradients")
    parser.add_argument("--quick", action="store_true", help="whole faults, and 100 right gradients; writes nothing")
    costs_of = parser.add_mutually_exclusive_group()
    costs_of.add_argument(
        "--costs", action="store_true", help="measure the costs alone, for which nobody else may work"
    )
    costs_of.add_argument("--kept-costs", action="store_true", help="measure all but the costs: take the last ones")
    options = parser.parse_args()
    n_right = min(options.right, 100) if options.quick else options.right
    with_peers = min(options.with_peers, n_right, 20 if options.quick else n_right)
    costs = kept_costs() if options.kept_costs else measure_costs()
    print_costs(costs)
    if not (options.quick or options.kept_costs):
        write_json(COSTS, {"environment": environment(*VERSIONS), "costs": costs_as_json(costs)})
    if options.costs:
        return
    with TemporaryDirectory() as folder:
        tasks = [partial(check_fault, number, options.quick) for number in range(len(FAULTS))]
        faults = in_processes(tasks, folder, "faults")
        print_faults(faults)
        pieces = [
            partial(check_right, group, options.seed, with_peers) for group in groups_of_right(n_right, options.seed)
        ]
        right = in_processes(pieces, folder, "right gradients")
    print_right(right, with_peers)
    print_verdicts(verdicts(faults, right, costs))
    if not options.quick:
        write_json("checking", as_json(faults, right, costs))


def as_json(faults: Sequence[Check], right: Sequence[Check], costs: dict[str, Cost]) -> dict[str, Any]:
    """Return our checks of faults and the counts of all; of right gradients the counts, and those that did not pass."""
    counts: dict[str, Counter[str]] = {}
    for check in right:
        counts.setdefault(f"{check.group}, {check.dtype}, {check.checker}", Counter())[check.outcome] += 1
    of_faults: dict[str, Counter[str]] = {}
    for check in faults:
        of_faults.setdefault(f"{check.group}, {check.dtype}, {check.checker}", Counter())[check.outcome] += 1
    return {
        "environment": environment(*VERSIONS),
        "faults": dict(sorted(of_faults.items())),
        "our checks of faults": [check._asdict() for check in _of(faults, checker=OURS)],
        "right": dict(sorted(counts.items())),
        "right but not passed": [check._asdict() for check in right if check.outcome != "passes"],
        "right, median seconds": {
            c: median(k.seconds for k in _of(right, checker=c)) for c in {r.checker for r in right}
        },
        "costs": costs_as_json(costs),
    }


def costs_as_json(costs: dict[str, Cost]) -> dict[str, Any]:
    return {
        name: cost._asdict() | {"answers": {who: one._asdict() for who, one in cost.answers.items()}}
        for name, cost in costs.items()
    }


def kept_costs() -> dict[str, Cost]:
    """Read the costs that were measured last."""
    kept = json.loads((RESULTS / f"{COSTS}.json").read_text())["costs"]
    return {
        name: Cost(**(cost | {"answers": {who: Answer(**one) for who, one in cost["answers"].items()}}))
        for name, cost in kept.items()
    }


if __name__ == "__main__":
    main()
