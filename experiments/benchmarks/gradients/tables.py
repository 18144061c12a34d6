"""Tables of the checks: faults that were caught and explained, and false alarms."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from experiments._report import print_table
from experiments.benchmarks.gradients.checks import CHECKERS, OURS, Check
from experiments.benchmarks.gradients.right import FAMILIES
from experiments.benchmarks.peers.checking import PEERS

__all__ = ["count", "explained", "print_faults", "print_right", "select"]


def select(checks: Sequence[Check], **fields: Any) -> list[Check]:
    return [check for check in checks if all(getattr(check, name) == value for name, value in fields.items())]


def count(checks: Sequence[Check], outcome: str) -> int:
    return sum(check.outcome == outcome for check in checks)


def _share(checks: Sequence[Check]) -> str:
    """Write how many were caught; with a plus, how many were refused."""
    refused = count(checks, "refuses")
    return f"{count(checks, 'caught')}{f' + {refused} refused' if refused else ''}" if checks else "-"


def explained(checks: Sequence[Check]) -> tuple[int, int]:
    asked = [check.explained for check in checks if check.explained is not None]
    return sum(asked), len(asked)


def print_faults(checks: Sequence[Check]) -> None:
    header = ("kind", "dtype", "faults", OURS, "explained", *PEERS)
    rows, seconds = [], []
    for dtype in ("float64", "float32"):
        for kind in sorted({check.group for check in checks}):
            some = select(checks, dtype=dtype, group=kind)
            if some:
                rows.append((kind, dtype, *_fault_row(some)))
        some = select(checks, dtype=dtype)
        rows.append(("all", dtype, *_fault_row(some)))
        medians = [median(check.seconds for check in select(some, checker=checker)) for checker in CHECKERS]
        seconds.append((dtype, *(f"{one:.2f}" for one in medians)))
    print_table("Faults caught (explained: of whole faults that have a name)", header, rows)
    print_table("Seconds of a check of a fault, median", ("dtype", *CHECKERS), seconds)
    rules = select(checks, checker=f"{OURS}, as a rule")
    if rules:
        right, asked = explained(rules)
        row = (len(rules), _share(rules), f"{right} of {asked}")
        print_table("Custom rules, checked as such", ("faults", "caught", "explained"), [row])
    missed = [check for check in checks if check.checker.startswith(OURS) and check.outcome != "caught"]
    _print_list("Faults that we miss", missed)
    _print_list("Whole faults that we explain wrongly", [check for check in checks if check.explained is False])


def _fault_row(checks: Sequence[Check]) -> tuple[object, ...]:
    our = select(checks, checker=OURS)
    right, asked = explained(our)
    peers = (_share(select(checks, checker=peer)) for peer in PEERS)
    return len(our), _share(our), f"{right} of {asked}" if asked else "-", *peers


def _print_list(title: str, checks: Sequence[Check]) -> None:
    if checks:
        rows = [(c.subject, c.dtype, f"{c.size:g}", c.checker, c.outcome, c.said.splitlines()[0][:90]) for c in checks]
        print_table(title, ("", "dtype", "size", "by", "outcome", "said"), rows)


def print_right(checks: Sequence[Check], with_peers: int) -> None:
    seen_by_peers = {check.subject for check in checks if check.checker != OURS}
    rows = []
    for family in (*FAMILIES, "all"):
        some = checks if family == "all" else select(checks, group=family)
        our = select(some, checker=OURS)
        if our:
            same = [check for check in our if check.subject in seen_by_peers]
            peers = (_share(select(some, checker=peer)) for peer in PEERS)
            undecided = count(our, "undecided")
            rows.append(
                (family, len(our), _share(our), undecided, f"{median(c.seconds for c in our):.2f}", len(same), *peers)
            )
    header = ("family", "right gradients", "false alarms", "undecided", "s, median", "seen by peers", *PEERS)
    print_table(f"False alarms; peers see the first {with_peers}", header, rows)
    by_dtype = []
    for dtype in ("float64", "float32", "bfloat16"):
        of_checkers = [select(checks, dtype=dtype, checker=checker) for checker in CHECKERS]
        by_dtype.append((dtype, *(f"{_share(some)} of {len(some)}" for some in of_checkers)))
    print_table("False alarms by dtype", ("dtype", *CHECKERS), by_dtype)
    not_passed = [check for check in checks if check.checker == OURS and check.outcome != "passes"]
    _print_list("Right gradients that we do not pass", not_passed)
