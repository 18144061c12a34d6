"""Checks of wrong and of right gradients, by us and by our peers, in several processes."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks.gradients.fault import precision
from experiments.benchmarks.gradients.faults import FAULTS
from experiments.benchmarks.gradients.right import right_gradient
from experiments.benchmarks.peers.checking import PEERS, Answer
from jaxmlp import use_compilation_cache

__all__ = ["CHECKERS", "OURS", "OUTCOMES", "Check", "check_fault", "check_right", "groups_of_right", "in_processes"]

OURS = "jaxmlp"
CHECKERS = (OURS, *PEERS)
OUTCOMES = {"right": "passes", "wrong": "caught", "undecided": "undecided"}  # by our verdict
WORKERS = 2


class Check(NamedTuple):
    """One check of one gradient.

    Attributes
    ----------
    subject, group, dtype
        The fault's name and first kind, or the right gradient's name and family; the parameters' dtype.
    size
        The fault's share; 0 for a right gradient.
    checker
        One of `CHECKERS`.
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


def ours(check: Callable[[], Any]) -> Answer:
    """Run one of our checks; return its report in the form of a peer's answer."""
    start = perf_counter()
    try:
        report = check()
    except Exception as error:  # as with the peers: an error is an answer
        return Answer("refuses", perf_counter() - start, f"{type(error).__name__}: {error}")
    kinds = [explanation.kind for explanation in report.explanations]
    return Answer(OUTCOMES[report.verdict], perf_counter() - start, kinds[0] if kinds else "none")


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
    """Plant one fault for every dtype in every size and run all checkers; check a custom rule also as such."""
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
    """Group right gradients by function, dtype and shape, so that each group compiles once; return their numbers."""
    groups: dict[Any, list[int]] = {}
    for index in range(count):
        right = right_gradient(seed, index)
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(right.params))
        groups.setdefault((id(right.f), id(right.gradient), right.dtype, shapes), []).append(index)
    return [group[i : i + at_most] for group in groups.values() for i in range(0, len(group), at_most)]


def check_right(group: Sequence[int], seed: int, with_peers: int) -> list[Check]:
    """Check right gradients of one function; peers see those whose number is below `with_peers`."""
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


def _begin(folder: str) -> None:
    use_compilation_cache(folder)


def in_processes(tasks: Sequence[Callable[[], list[Check]]], folder: str, what: str) -> list[Check]:
    """Run all tasks in processes of one thread each, and print the progress."""
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
