"""Problems that see the same batches of the same data, trained together epoch by epoch in blocks of lanes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxmlp.estimators._batches import BatchStream, padded_length, padded_rows
from jaxmlp.estimators._control import after_epoch, step_rates
from jaxmlp.estimators._problem import Fitted, Problem
from jaxmlp.estimators._program import Batches, Data, Lanes, Measured, Numbers, run_epoch
from jaxmlp.network import Params

__all__ = ["Group"]

_MOST_LANES = 8  # of a block

Callback: TypeAlias = Callable[[Mapping[int, Callable[[], Fitted]]], Collection[int]]
Blocks: TypeAlias = list[list[int]]  # the problem in each lane of each block


class Group:
    """Trains problems that differ in nothing but their parameters and numbers.

    `on_device` holds the copies of each x, by its id. `callback` is that of `fit_problems`.
    """

    def __init__(self, problems: list[Problem], on_device: dict[int, Any], callback: Callback | None) -> None:
        first = problems[0]
        self.problems, self.callback = problems, callback
        self.fitted = [problem.start for problem in problems]
        self.mlp, self.nesterov = first.settings.mlp, first.settings.nesterov
        self.dtype = np.dtype(first.settings.dtype)
        self.stream = _stream(problems, self.dtype)
        if id(first.x) not in on_device:
            on_device[id(first.x)] = jax.device_put(padded_rows(first.x.astype(self.dtype, copy=False)))
        targets = first.targets.astype(self.dtype) if first.targets.dtype.kind == "f" else first.targets
        self.data = Data(on_device[id(first.x)], jax.device_put(padded_rows(targets)), first.affine, first.expansion)
        self.validation = _validation(first, self.dtype)
        self.n_lanes = min(_MOST_LANES, len(problems))

    def run(self) -> list[Fitted]:
        """Train until every problem has stopped."""
        blocks, states = self._dealt()
        while blocks:
            before = list(self.fitted), states
            try:
                states = self._epoch(blocks, states)
            except KeyboardInterrupt:
                self.fitted, states = before
                self._copy_running(blocks, states)
                return self.interrupted()
            if -(-len(self._running()) // self.n_lanes) < len(blocks):
                self._copy_running(blocks, states)
                blocks, states = self._dealt()
        return self.fitted

    def interrupted(self) -> list[Fitted]:
        """Return the fits as they are, those that have not stopped with the status "interrupted"."""
        return [
            _with_status(each, "interrupted") if each.progress.status == "running" else each for each in self.fitted
        ]

    def _running(self) -> list[int]:
        return [i for i, each in enumerate(self.fitted) if each.progress.status == "running"]

    def _dealt(self) -> tuple[Blocks, list[Lanes]]:
        """Deal running problems out to blocks; the last block fills its lanes with a problem that it has."""
        running = self._running()
        blocks = [running[i : i + self.n_lanes] for i in range(0, len(running), self.n_lanes)]
        blocks = [[*block, *block[:1] * (self.n_lanes - len(block))] for block in blocks]

        def stacked(*leaves: np.ndarray) -> jax.Array:
            return jax.device_put(np.stack(leaves).astype(self.dtype, copy=False))

        trees = [[Lanes(self.fitted[i].last_params, self.fitted[i].dw) for i in block] for block in blocks]
        return blocks, [jax.tree.map(stacked, *of_block) for of_block in trees]

    def _copy_running(self, blocks: Blocks, states: list[Lanes]) -> None:
        for i, lanes, lane in self._places(blocks, states):
            self.fitted[i] = self._copied(i, lanes, lane)

    def _places(self, blocks: Blocks, states: list[Any]) -> Iterator[tuple[int, Any, int]]:
        """Yield each running problem with its block's state and its lane, once."""
        for block, state in zip(blocks, states, strict=True):
            for i in sorted(set(block) & set(self._running())):
                yield i, state, block.index(i)

    def _epoch(self, blocks: Blocks, states: list[Lanes]) -> list[Lanes]:
        """Run one epoch of all blocks, then decide about each problem that still runs."""
        batches, n_rows = self.stream.next_epoch()
        outputs = [self._dispatch(block, lanes, batches) for block, lanes in zip(blocks, states, strict=True)]
        places = list(self._places(blocks, outputs))
        is_best = {i: self._note(i, lanes, measured, lane, n_rows) for i, (lanes, measured), lane in places}

        def state(i: int, lanes: Lanes, lane: int) -> Fitted:
            return self._copied(i, lanes, lane, is_best=is_best[i])

        running = {i: partial(state, i, lanes, lane) for i, (lanes, _), lane in places}
        stopped = self.callback(running) if self.callback is not None else ()
        for i, copied in running.items():
            if i in stopped:
                self.fitted[i] = _with_status(self.fitted[i], "stopped")
            has_stopped = self.fitted[i].progress.status != "running"
            if has_stopped or is_best[i]:
                self.fitted[i] = copied()
            if has_stopped:
                _set_alike(self.problems[i].random_state, self.stream.random_state)
        return [lanes for lanes, _ in outputs]

    def _dispatch(self, block: list[int], lanes: Lanes, batches: Batches) -> tuple[Lanes, Measured]:
        problems = [self.problems[i] for i in block]
        n_steps, n_slots = int(batches.n_steps), len(batches.rows)

        def column(values: Iterable[Any]) -> np.ndarray:
            return np.array(list(values), self.dtype)

        rates = np.zeros((len(block), n_slots), self.dtype)
        rates[:, :n_steps] = [step_rates(self.problems[i].control, self.fitted[i].progress, n_steps) for i in block]
        alpha = column(problem.alpha for problem in problems)
        momentum = column(problem.momentum for problem in problems)
        clip = None if problems[0].clip is None else column(problem.clip for problem in problems)
        numbers = Numbers(rates, alpha, momentum, clip)
        return run_epoch(self.mlp, self.nesterov, lanes, numbers, self.data, batches, self.validation)

    def _note(self, i: int, lanes: Lanes, measured: Measured, lane: int, n_rows: np.ndarray) -> bool:
        """Note what an epoch has done for a problem, and return whether its score is the best so far."""
        before = self.fitted[i]
        losses = np.asarray(measured.losses)[lane, : len(n_rows)].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            loss = float(np.sum(losses * n_rows) / np.sum(n_rows))
        n_examples, validation = len(self.stream.rows), self._validated(i, measured, lane)
        progress = after_epoch(self.problems[i].control, before.progress, n_examples, loss, validation)
        self.fitted[i] = before._replace(progress=progress)
        if not np.isfinite(loss) and not _is_finite(lanes.params, lane):
            self.fitted[i] = _with_status(self.fitted[i], "diverged")
        return progress.best_score > before.progress.best_score

    def _validated(self, i: int, measured: Measured, lane: int) -> tuple[float, float] | None:
        validation = self.problems[i].validation
        if validation is None:
            return None
        outputs = np.asarray(measured.validation_outputs)[lane, : len(validation.rows)]
        with np.errstate(over="ignore", invalid="ignore"):  # of a fit that diverges
            score = validation.score(outputs)
        return score, float(np.asarray(measured.validation_losses)[lane])

    def _copied(self, i: int, lanes: Lanes, lane: int, *, is_best: bool = False) -> Fitted:
        params, dw = jax.tree.map(lambda leaf: np.asarray(leaf)[lane].copy(), lanes)
        before = self.fitted[i]
        best = before.params if self.problems[i].validation is not None and not is_best else params
        return before._replace(params=best, dw=dw, last_params=params)


def _stream(problems: list[Problem], dtype: np.dtype) -> BatchStream:
    first, n = problems[0], len(problems[0].x)
    rows = np.arange(n) if first.rows is None else first.rows
    weights = np.ones(n, dtype) if first.weights is None else first.weights.astype(dtype)
    random_state: np.random.RandomState | None = None
    if first.settings.shuffle:
        # Problems may stop after different numbers of epochs, and each leaves its own state as if it were alone.
        is_common = len({id(problem.random_state) for problem in problems}) == 1
        random_state = first.random_state if is_common else deepcopy(first.random_state)
    return BatchStream(rows, weights, first.settings.batch_size, random_state)


def _set_alike(random_state: np.random.RandomState, other: np.random.RandomState | None) -> None:
    if other is not None and other is not random_state:
        random_state.set_state(other.get_state(legacy=False))


def _validation(problem: Problem, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the validation rows and their weights, as long as a padded length; those added have the weight 0."""
    if problem.validation is None:
        return None
    rows = problem.validation.rows
    weights = np.ones(len(rows), dtype) if problem.weights is None else problem.weights[rows].astype(dtype)
    n_added = padded_length(len(rows)) - len(rows)
    return np.concatenate([rows, np.repeat(rows[:1], n_added)]).astype(np.int32), padded_rows(weights)


def _with_status(fitted: Fitted, status: str) -> Fitted:
    return fitted._replace(progress=fitted.progress._replace(status=status))


def _is_finite(params: Params, lane: int) -> bool:
    return all(bool(np.isfinite(np.asarray(leaf)[lane]).all()) for leaf in jax.tree.leaves(params))
