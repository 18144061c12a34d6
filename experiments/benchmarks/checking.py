"""The faults that checks of gradients catch and explain, and what checks cost: ours and its peers'.

Claims: every planted fault is caught; of the whole faults that have a name, 9 of 10 get it; no false alarm among 5000
right gradients; less than 20 evaluations of the gradient; less wall time than every peer that catches as much.

    python -m experiments.benchmarks.checking

The faults are in `benchmarks/gradients/faults.py`, each whole and in small shares, the right gradients in
`benchmarks/gradients/right.py`. Peers keep their default tolerances and see only the first few hundred right gradients,
because they are slow. An explanation is asked for whole faults: a millionth of a fault has no name. The time of a check
is its wall time with compilation. A folder keeps compiled programs for this run, except for the costs: they are
measured first, everybody's in a fresh process, or apart: `--costs`, and then `--kept-costs`.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from experiments._options import count as whole_number
from experiments._report import write_json
from experiments._timing import is_installed
from experiments.benchmarks._benchmark import Verdict, begin, finish, is_disturbed, options, parser
from experiments.benchmarks.gradients.checks import OURS, Check, check_fault, check_right, groups_of_right, in_processes
from experiments.benchmarks.gradients.costs import COSTS, Cost, costs_as_json, kept_costs, measure_costs, print_costs
from experiments.benchmarks.gradients.faults import FAULTS
from experiments.benchmarks.gradients.tables import count, explained, print_faults, print_right, select
from experiments.benchmarks.peers.checking import PEERS

MOST_EVALUATIONS = 20


def verdicts(faults: Sequence[Check], right: Sequence[Check], costs: dict[str, Cost]) -> list[Verdict]:
    """Judge the claims."""
    our = [check for check in faults if check.checker.startswith(OURS)]
    caught, (named, asked) = count(our, "caught"), explained(our)
    our_right = select(right, checker=OURS)
    alarms, undecided = len(our_right) - count(our_right, "passes"), count(our_right, "undecided")
    undisturbed = not any(is_disturbed(cost.cores_of_others) for cost in costs.values())
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
        Verdict("every fault is caught", f"{caught} of {len(our)}", caught == len(our)),
        Verdict("9 of 10 explanations are right", f"{named} of {asked}", named >= 0.9 * asked),
        Verdict(
            "no false alarm", f"{alarms} of {len(our_right)} not passed, {undecided} of these undecided", alarms == 0
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
    theirs, our = (count(select(faults, dtype=dtype, checker=checker), "caught") for checker in (peer, OURS))
    seen = select(right, dtype=dtype, checker=peer)
    return theirs >= our and 2 * count(seen, "passes") >= len(seen)


def main() -> None:
    made = parser("checking", __doc__, quick="whole faults, 100 right gradients, one cost")
    made.add_argument(
        "--right", type=whole_number, default=5000, metavar="N", help="number of right gradients, 5000 by default"
    )
    made.add_argument(
        "--with-peers",
        type=whole_number,
        default=100,
        metavar="N",
        help="right gradients that peers see, 100 by default",
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the right gradients, 0 by default")
    made.set_defaults(whole={"right": 5000, "with_peers": 100, "seed": 0})
    costs_of = made.add_mutually_exclusive_group()
    costs_of.add_argument("--costs", action="store_true", help="measure only the costs")
    costs_of.add_argument("--kept-costs", action="store_true", help="take the costs that were measured last")
    asked = options(made)
    if asked.quick:
        asked.right, asked.with_peers = min(asked.right, 100), min(asked.with_peers, 20)
    about = begin(asked, "chex", "torch")
    missing = [package for package in ("chex", "torch") if not is_installed(package)]
    if missing:
        print(f"peers left out: {', '.join(missing)} is not installed, try: pip install 'jaxmlp[bench]'")
    costs = kept_costs() if asked.kept_costs else measure_costs(asked.quick)
    print_costs(costs)
    if not (asked.quick or asked.kept_costs):
        write_json(COSTS, {"environment": about, "costs": costs_as_json(costs)})
    if not asked.costs:
        faults, right = measure(asked.right, asked.with_peers, asked.seed, asked.quick)
        finish(asked, about, verdicts(faults, right, costs), **as_json(faults, right, costs))


def measure(n_right: int, with_peers: int, seed: int, quick: bool) -> tuple[list[Check], list[Check]]:
    """Check all faults and the right gradients, and print the tables."""
    with TemporaryDirectory() as folder:
        tasks = [partial(check_fault, number, quick) for number in range(len(FAULTS))]
        faults = in_processes(tasks, folder, "faults")
        print_faults(faults)
        pieces = [partial(check_right, group, seed, with_peers) for group in groups_of_right(n_right, seed)]
        right = in_processes(pieces, folder, "right gradients")
    print_right(right, with_peers)
    return faults, right


def as_json(faults: Sequence[Check], right: Sequence[Check], costs: dict[str, Cost]) -> dict[str, Any]:
    """Return our checks of faults and the counts of all; of right gradients the counts, and those that did not pass."""
    checkers = {check.checker for check in right}
    return {
        "faults": outcomes(faults),
        "our checks of faults": [check._asdict() for check in select(faults, checker=OURS)],
        "right": outcomes(right),
        "right but not passed": [check._asdict() for check in right if check.outcome != "passes"],
        "right, median seconds": {c: median(check.seconds for check in select(right, checker=c)) for c in checkers},
        "costs": costs_as_json(costs),
    }


def outcomes(checks: Sequence[Check]) -> dict[str, dict[str, int]]:
    """Count the outcomes by group, dtype and checker."""
    counts: dict[str, Counter[str]] = {}
    for check in checks:
        counts.setdefault(f"{check.group}, {check.dtype}, {check.checker}", Counter())[check.outcome] += 1
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    main()
