"""Problems that see the same batches of the same data, trained together epoch by epoch in blocks of lanes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxmlp.estimators._batches import BatchStream, padded_length, padded_rows
from jaxmlp.estimators._control import after_epoch, step_rates
from jaxmlp.estimators._problem import Fitted, Problem
from jaxmlp.estimators._program import Batches, Data, Lanes, Measured, Numbers, run_epoch
from jaxmlp.network import Params

__all__ = ["Callback", "Copies", "Group", "Interrupt"]

Callback: TypeAlias = Callable[[Mapping[int, Callable[[], Fitted]]], Collection[int]]


class Block(NamedTuple):
    """The problem in each lane, and their numbers once the learning rates are known."""

    lanes: list[int]
    numbers: Callable[[np.ndarray], Numbers]


class Interrupt:
    """Whether all training must end after its epoch: set by one thread, seen by those that train, and by inner ones."""

    def __init__(self, outer: "Interrupt | None" = None) -> None:
        """Begin without an interrupt, but for one of `outer`."""
        self._is_set, self._outer = False, outer

    @property
    def is_set(self) -> bool:
        """Whether this interrupt is set, or the outer one."""
        return self._is_set or (self._outer is not None and self._outer.is_set)

    def set(self) -> None:
        """Set it, for good."""
        self._is_set = True


class Copies:
    """Copies of arrays x on the device, one for all threads."""

    def __init__(self) -> None:
        """Begin without any."""
        self._copies: dict[tuple[int, np.dtype], jax.Array] = {}
        self._lock = Lock()

    def of(self, x: np.ndarray, dtype: np.dtype) -> jax.Array:
        """Return the copy of x, with a padded length."""
        with self._lock:
            if (id(x), dtype) not in self._copies:
                self._copies[id(x), dtype] = jax.device_put(padded_rows(x.astype(dtype, copy=False)))
            return self._copies[id(x), dtype]


class Group:
    """Trains problems that differ in nothing but their parameters and numbers, in blocks of so many lanes.

    Attributes
    ----------
    fitted
        The state of each problem.
    states_left
        The random state that each problem leaves, as NumPy's `get_state` returns it; None if it shuffles nothing.
    """

    def __init__(
        self, problems: list[Problem], n_lanes: int, copies: Copies, interrupt: Interrupt, callback: Callback | None
    ) -> None:
        """Take problems; nothing is on the device before they `run`."""
        first = problems[0]
        self.problems, self.n_lanes, self.callback = problems, n_lanes, callback
        self.fitted = [problem.start for problem in problems]
        self.states_left: list[Any] = [None] * len(problems)
        self._copies, self._interrupt = copies, interrupt
        self.mlp, self.nesterov = first.settings.mlp, first.settings.nesterov
        self.dtype = np.dtype(first.settings.dtype)
        self.stream = _stream(first, self.dtype)
        self.validation = _validation(first, self.dtype)

    def run(self) -> None:
        """Train until every problem has stopped; those that an interrupt stops have the status "interrupted"."""
        with jax.enable_x64(self.dtype == np.float64):
            first = self.problems[0]
            targets = first.targets.astype(self.dtype) if first.targets.dtype.kind == "f" else first.targets
            x = self._copies.of(first.x, self.dtype)
            self.data = Data(x, jax.device_put(padded_rows(targets)), first.expansion)
            blocks, states = self._dealt()
            while blocks and not self._interrupt.is_set:
                before = list(self.fitted), states
                try:
                    states = self._epoch(blocks, states)
                except KeyboardInterrupt:
                    self.fitted, states = before
                    self._interrupt.set()
                if -(-len(self._running()) // self.n_lanes) < len(blocks) and not self._interrupt.is_set:
                    self._copy_running(blocks, states)
                    blocks, states = self._dealt()
            self._copy_running(blocks, states)  # of an interrupted training
            for i in self._running():
                self.fitted[i] = _with_status(self.fitted[i], "interrupted")
                self.states_left[i] = self.stream.state()

    def _running(self) -> list[int]:
        return [i for i, each in enumerate(self.fitted) if each.progress.status == "running"]

    def _dealt(self) -> tuple[list[Block], list[Lanes]]:
        """Deal running problems out to blocks; the last block fills its lanes with a problem that it has."""
        running = self._running()
        dealt = [running[i : i + self.n_lanes] for i in range(0, len(running), self.n_lanes)]
        blocks = [self._block([*block, *block[:1] * (self.n_lanes - len(block))]) for block in dealt]

        def stacked(*leaves: np.ndarray) -> jax.Array:
            return jax.device_put(np.stack(leaves).astype(self.dtype, copy=False))

        trees = [[Lanes(self.fitted[i].last_params, self.fitted[i].dw) for i in block.lanes] for block in blocks]
        return blocks, [jax.tree.map(stacked, *of_block) for of_block in trees]

    def _block(self, lanes: list[int]) -> Block:
        problems = [self.problems[i] for i in lanes]
        alpha = np.array([problem.alpha for problem in problems], self.dtype)
        momentum = np.array([problem.momentum for problem in problems], self.dtype)
        clip = None if problems[0].clip is None else np.array([problem.clip for problem in problems], self.dtype)
        return Block(lanes, partial(Numbers, alpha=alpha, momentum=momentum, clip=clip))

    def _copy_running(self, blocks: list[Block], states: list[Lanes]) -> None:
        for i, lanes, lane in self._places(blocks, states):
            self.fitted[i] = self._copied(i, lanes, lane)

    def _places(self, blocks: list[Block], states: list[Any]) -> Iterator[tuple[int, Any, int]]:
        """Yield each running problem with its block's state and its lane, once."""
        running = set(self._running())
        for block, state in zip(blocks, states, strict=True):
            for i in sorted(running.intersection(block.lanes)):
                yield i, state, block.lanes.index(i)

    def _epoch(self, blocks: list[Block], states: list[Lanes]) -> list[Lanes]:
        """Run one epoch of all blocks, then decide about each problem that still runs."""
        batches, n_rows = self.stream.next_epoch()
        outputs = [self._dispatch(block, lanes, batches) for block, lanes in zip(blocks, states, strict=True)]
        noted = [(lanes, self._on_host(measured, n_rows)) for lanes, measured in outputs]
        places = list(self._places(blocks, noted))
        is_best = {i: self._note(i, lanes, measured, lane) for i, (lanes, measured), lane in places}

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
                self.states_left[i] = self.stream.state()
        return [lanes for lanes, _ in outputs]

    def _dispatch(self, block: Block, lanes: Lanes, batches: Batches) -> tuple[Lanes, Measured]:
        n_steps, n_slots = int(batches.n_steps), len(batches.rows)
        rates = np.zeros((len(block.lanes), n_slots), self.dtype)
        for lane, i in enumerate(block.lanes):
            rates[lane, :n_steps] = step_rates(self.problems[i].control, self.fitted[i].progress, n_steps)
        numbers = block.numbers(rates)
        return run_epoch(self.mlp, self.nesterov, lanes, numbers, self.data, batches, self.validation)

    def _on_host(self, measured: Measured, n_rows: np.ndarray) -> Any:
        """Return results as NumPy arrays, with the mean loss of the epoch, [K], in place of those of its steps."""
        measured = jax.tree.map(np.asarray, measured)
        losses = np.asarray(measured.losses)[:, : len(n_rows)].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return measured._replace(losses=np.sum(losses * n_rows, axis=1) / np.sum(n_rows))

    def _note(self, i: int, lanes: Lanes, measured: Any, lane: int) -> bool:
        """Note what an epoch has done for a problem, and return whether its score is the best so far."""
        before, problem, loss = self.fitted[i], self.problems[i], float(measured.losses[lane])
        validation = None
        if problem.validation is not None:
            outputs = measured.validation_outputs[lane, : len(problem.validation.rows)]
            with np.errstate(over="ignore", invalid="ignore"):  # of a fit that diverges
                score = problem.validation.score(outputs)
            validation = score, float(measured.validation_losses[lane])
        progress = after_epoch(problem.control, before.progress, len(self.stream.rows), loss, validation)
        self.fitted[i] = before._replace(progress=progress)
        if not np.isfinite(loss) and not _is_finite(lanes.params, lane):
            self.fitted[i] = _with_status(self.fitted[i], "diverged")
        return progress.best_score > before.progress.best_score

    def _copied(self, i: int, lanes: Lanes, lane: int, *, is_best: bool = False) -> Fitted:
        params, dw = jax.tree.map(lambda leaf: np.asarray(leaf)[lane].copy(), lanes)
        before = self.fitted[i]
        best = before.params if self.problems[i].validation is not None and not is_best else params
        return before._replace(params=best, dw=dw, last_params=params)


def _stream(problem: Problem, dtype: np.dtype) -> BatchStream:
    n = len(problem.x)
    rows = np.arange(n) if problem.rows is None else problem.rows
    weights = np.ones(n, dtype) if problem.weights is None else problem.weights.astype(dtype)
    random_state = deepcopy(problem.random_state) if problem.settings.shuffle else None
    return BatchStream(rows, weights, problem.settings.batch_size, random_state)


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
