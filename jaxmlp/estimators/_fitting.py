"""Fits of many networks, side by side: the engine of the estimators, and of searches over them.

`Problem` is one fit of one network. `fit_problems` trains any number of them: those with equal `Settings` share
compiled programs, and those that also see the same batches train as lanes of one program, see `_program`. All numbers
are those that scikit-learn's `solver="sgd"` has for the same initial weights and `RandomState`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import ContextVar
from itertools import chain
from typing import TypeAlias

from jaxmlp.estimators._control import Control, Progress
from jaxmlp.estimators._group import Callback, Copies, Group, Interrupt
from jaxmlp.estimators._parts import n_threads, parts, sharing_x
from jaxmlp.estimators._problem import Fitted, Problem, Settings, Validation, initial
from jaxmlp.sweep.workers import in_same_mode

__all__ = [
    "TRAINER",
    "Callback",
    "Control",
    "Fitted",
    "Interrupt",
    "Problem",
    "Progress",
    "Settings",
    "Trainer",
    "Validation",
    "fit_problems",
    "initial",
    "train",
]

Trainer: TypeAlias = Callable[[Sequence[Problem], Callback | None], list[Fitted]]

TRAINER: ContextVar[Trainer] = ContextVar("TRAINER")
"""What `fit_problems` calls in place of `train`, for example to train more problems with these."""


def fit_problems(problems: Sequence[Problem], callback: Callback | None = None) -> list[Fitted]:
    """Fit each problem as if it were alone, and return the results in the same order.

    `callback(states)` is called after each epoch of problems that train together. `states[number]()` returns the
    `Fitted` so far of a problem that ran, by its place in `problems`. The callback returns the numbers of those that
    must stop. An interrupt from the keyboard ends all fits after their last complete epoch, with the status
    "interrupted".
    """
    return TRAINER.get(train)(problems, callback)


def train(
    problems: Sequence[Problem], callback: Callback | None = None, interrupt: Interrupt | None = None
) -> list[Fitted]:
    """Train the problems of a call of `fit_problems`, until all have stopped, or `interrupt` is set."""
    interrupt = interrupt or Interrupt()
    problems = sharing_x(problems)
    threads = n_threads() if callback is None else 1  # a callback is called where `train` is
    dealt, copies = parts(problems, threads), Copies()
    groups = [
        Group([problems[i] for i in part.numbers], part.n_lanes, copies, interrupt, _renumbered(callback, part.numbers))
        for part in dealt
    ]
    if min(threads, len(groups)) > 1:
        _run_in_threads(groups, threads, interrupt)
    else:
        for group in groups:
            group.run()
    numbers = [i for part in dealt for i in part.numbers]
    results = dict(zip(numbers, chain(*(group.fitted for group in groups)), strict=True))
    left = dict(zip(numbers, chain(*(group.states_left for group in groups)), strict=True))
    for i in sorted(numbers, key=lambda i: results[i].progress.n_iter):  # the longest fit sets a state of several
        if left[i] is not None:
            problems[i].random_state.set_state(left[i])
    return [results[i] for i in range(len(problems))]


def _run_in_threads(groups: Sequence[Group], n_threads: int, interrupt: Interrupt) -> None:
    """Run groups in threads: one compiled program, called from several, runs on as many cores of one CPU device."""
    with ThreadPoolExecutor(n_threads) as pool:
        runs = [pool.submit(in_same_mode(group.run)) for group in groups]
        try:
            wait(runs, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            interrupt.set()
            wait(runs)  # each ends after its epoch
        pool.shutdown(cancel_futures=True)
    for of_group in runs:
        if not of_group.cancelled():
            of_group.result()


def _renumbered(callback: Callback | None, numbers: list[int]) -> Callback | None:
    """Return the callback for problems that a group numbers from 0."""
    if callback is None:
        return None

    def of_group(states: Mapping[int, Callable[[], Fitted]]) -> Collection[int]:
        stopped = callback({numbers[i]: state for i, state in states.items()})
        return [i for i in states if numbers[i] in stopped]

    return of_group
