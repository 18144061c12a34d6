"""Fits of many networks, side by side: the engine of the estimators, and of searches over them.

`Problem` is one fit of one network. `fit_problems` trains any number of them: those with equal `Settings` share
compiled programs, and those that also see the same batches train as lanes of one program, see `_program`. All numbers
are those that scikit-learn's `solver="sgd"` has for the same initial weights and `RandomState`.
"""

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxmlp.estimators._control import Control, Progress
from jaxmlp.estimators._group import Group
from jaxmlp.estimators._problem import Fitted, Problem, Settings, Validation, initial
from jaxmlp.estimators._program import Affine

__all__ = [
    "Affine",
    "Control",
    "Fitted",
    "Problem",
    "Progress",
    "Settings",
    "Validation",
    "fit_problems",
    "initial",
]

Callback: TypeAlias = Callable[[Mapping[int, Callable[[], Fitted]]], Collection[int]]


def fit_problems(problems: Sequence[Problem], callback: Callback | None = None) -> list[Fitted]:
    """Fit each problem as if it were alone, and return the results in the same order.

    `callback(states)` is called after each epoch of problems that train together. `states[number]()` returns the
    `Fitted` so far of a problem that ran, by its place in `problems`. The callback returns the numbers of those that
    must stop. An interrupt from the keyboard ends all fits after their last complete epoch, with the status
    "interrupted".
    """
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
