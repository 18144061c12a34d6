"""Fits of many networks, side by side: the engine of the estimators, and of searches over them.

`Problem` is one fit of one network. `fit_problems` trains any number of them: those with equal `Settings` share
compiled programs, and those that also see the same batches train as lanes of one program, see `_program`. All numbers
are those that scikit-learn's `solver="sgd"` has for the same initial weights and `RandomState`.
"""

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxmlp.estimators._control import Control, Progress
from jaxmlp.estimators._group import Group
from jaxmlp.estimators._problem import Fitted, Problem, Settings, Validation, initial
from jaxmlp.estimators._program import Affine

__all__ = [
    "TRAINER",
    "Affine",
    "Callback",
    "Control",
    "Fitted",
    "Problem",
    "Progress",
    "Settings",
    "Trainer",
    "Validation",
    "fit_problems",
    "initial",
    "train",
]

Callback: TypeAlias = Callable[[Mapping[int, Callable[[], Fitted]]], Collection[int]]

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


def train(problems: Sequence[Problem], callback: Callback | None = None) -> list[Fitted]:
    """Train the problems of a call of `fit_problems`."""
    problems = _sharing_x(problems)
    fitted: dict[int, Fitted] = {}
    on_device: dict[int, Any] = {}  # each x, by its id
    is_interrupted = False
    for numbers in _grouped(problems):
        of_group = [problems[number] for number in numbers]
        with jax.enable_x64(of_group[0].settings.dtype == "float64"):
            group = Group(of_group, on_device, callback and _renumbered(callback, numbers))
            results = group.interrupted() if is_interrupted else group.run()
        is_interrupted = any(each.progress.status == "interrupted" for each in results)
        fitted |= dict(zip(numbers, results, strict=True))
    return [fitted[number] for number in range(len(problems))]


def _sharing_x(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems with one object for all x that are equal: each fit of a search has its own copy of a fold."""
    found: dict[int, np.ndarray] = {}
    alike: dict[Any, list[np.ndarray]] = {}
    for x in (problem.x for problem in problems if id(problem.x) not in found):
        some = _digest(x[:: max(1, len(x) // 8)])
        equal = [other for other in alike.setdefault((x.shape, some), []) if np.array_equal(x, other)]
        found[id(x)] = equal[0] if equal else x
        alike[x.shape, some] += [] if equal else [x]
    return [problem._replace(x=found[id(problem.x)]) for problem in problems]


def _renumbered(callback: Callback, numbers: list[int]) -> Callback:
    """Return the callback for problems that a group numbers from 0."""

    def of_group(states: Mapping[int, Callable[[], Fitted]]) -> Collection[int]:
        stopped = callback({numbers[i]: state for i, state in states.items()})
        return [i for i in states if numbers[i] in stopped]

    return of_group


def _grouped(problems: Sequence[Problem]) -> list[list[int]]:
    """Return the numbers of problems that see the same batches of the same data, in programs of one kind, together."""
    groups: dict[Any, list[int]] = {}
    for number, problem in enumerate(problems):
        order = pickle.dumps(problem.random_state.get_state(legacy=False)) if problem.settings.shuffle else None
        rows = problem.validation and _digest(problem.validation.rows)
        seen = map(_digest, (problem.targets, problem.rows, problem.weights))
        inputs = [tuple(map(_digest, part or ())) for part in (problem.affine, problem.expansion)]
        key = (problem.settings, problem.clip is None, id(problem.x), order, rows, *seen, *inputs)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _digest(array: Any) -> Any:
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    return array.shape, array.dtype.str, blake2b(array.data, digest_size=16).digest()
