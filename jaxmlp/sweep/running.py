"""`run`: train every trial of a space, a block at a time, and keep what is finished."""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxmlp._version import __version__
from jaxmlp.data import Dataset, fingerprint
from jaxmlp.network import MLP
from jaxmlp.sweep.block import Setting, begin, prepare, run_block
from jaxmlp.sweep.lanes import replicate
from jaxmlp.sweep.planning import Block, Group, Plan, make_plan
from jaxmlp.sweep.results import Results, score
from jaxmlp.sweep.space import Space, Trial, trials
from jaxmlp.sweep.store import Row, Store
from jaxmlp.training.boundary import check_training
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.examples import arrays, is_classification
from jaxmlp.training.history import Epoch, Trained

__all__ = ["Halving", "Progress", "plan", "run", "use_all_cores"]

_HIDDEN = (128,)
_WAIT = 0.2


@dataclass(frozen=True)
class Halving:
    """Successive halving: at each rung only the best share of the trials goes on.

    Parameters
    ----------
    factor
        At a rung one of `factor` trials goes on, at least one, and after it for `factor` times as many epochs.
    first
        The epochs before the first rung.
    asynchronous
        A block does not wait for the others: a trial goes on if it is among the best share of those that have reached
        the rung so far (as in ASHA, Li et al. 2020, arXiv 1810.05934, but who stopped stays stopped). Quicker with
        several processes; the result then depends on their order. Else all trials reach a rung before any goes on
        (Jamieson and Talwalkar 2016, arXiv 1502.07943).

    Examples
    --------
    >>> Halving(factor=3).rungs(30)
    (1, 3, 9, 27, 30)
    """

    factor: int = 3
    first: int = 1
    asynchronous: bool = False

    def __post_init__(self) -> None:
        """Check every number once."""
        for name, lowest in (("factor", 2), ("first", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name} of Halving must be a whole number, {lowest} or larger, got {value!r}")

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return after which epochs trials are compared, the last being the end."""
        rungs, epoch = [], self.first
        while epoch < epochs:
            rungs.append(epoch)
            epoch *= self.factor
        return (*rungs, epochs)

    def survivors(self, n: int) -> int:
        """Return how many of `n` trials go on."""
        return max(1, n // self.factor)

    def epochs(self, n: int, epochs: int) -> int:
        """Return how many epochs `n` trials take in all, none of them ending by itself.

        >>> Halving(factor=3).epochs(9, 9)  # 9 to the first epoch, 3 on to the third, 1 to the last
        21
        """
        total, before = 0, 0
        for rung in self.rungs(epochs):
            total += n * (rung - before)
            n, before = self.survivors(n), rung
        return total


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes
    ----------
    done, total
        Trials that have ended, and all.
    diverged
        How many of those ended so.
    best
        The best value of the results' metric so far, and its trial; None before the first.
    seconds_left
        Estimated from the epochs done in this process; None before the first.
    """

    done: int
    total: int
    diverged: int
    best: tuple[float, int] | None
    seconds_left: float | None


def use_all_cores() -> None:
    """Make every core of the CPU a device of JAX, so that a sweep runs on all of them.

    To be called before JAX computes anything; the setting is JAX's own and holds for the whole process, which is why
    the library never does this by itself. Without effect on accelerators.

    Raises
    ------
    RuntimeError
        If JAX already runs.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    config: Any = jax.config
    if config.jax_num_cpu_devices == n_cores:
        return
    try:
        config.update("jax_num_cpu_devices", n_cores)
    except RuntimeError as error:
        raise RuntimeError("use_all_cores must be called before JAX computes anything, and JAX already runs") from error


def plan(
    space: Space,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    mlp: MLP | None = None,
    test: Dataset | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    lanes: int | None = None,
    trials_a_block: int | None = None,
) -> Plan:
    """Return what `run` would run with the same arguments, as a plain value; nothing is trained.

    Examples
    --------
    >>> from jaxmlp import Dataset, sweep
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
    >>> sweep.plan(sweep.grid(learning_rate=[0.1, 0.2], hidden=[(8,), (16,)]), data).groups[0].mlp.sizes
    (2, 8, 2)
    """
    listed = _checked(space, data, config or TrainConfig(), mlp, test)
    return _plan(listed, data, test, tuple(devices or jax.local_devices()), memory, lanes, trials_a_block)


def run(
    space: Space,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    mlp: MLP | None = None,
    test: Dataset | None = None,
    out: str | PathLike[str] | None = None,
    keep: int | Literal["all"] = 10,
    halving: Halving | int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    lanes: int | None = None,
    trials_a_block: int | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Results:
    """Train every trial of a space.

    A trial is the run `train(mlp, data, config, key=jax.random.key(seed), test=test)` with its values: the same initial
    weights and batch orders, the same code. In a lane of its own its parameters are the same to the last bit; side by
    side with others they differ by rounding in the order of sums, which training carries on as it does any rounding:
    the bound that is tested is that they lie at most twice as far from the same training in float64 as those of
    `train` do, and one rounding of each parameter.

    Parameters
    ----------
    space
        Of `grid` or `random`.
    data
        The training data.
    config
        The numbers where the space says nothing of them; `TrainConfig()` if None.
    mlp
        The network where the space says nothing of it. If None: inputs and outputs as the data have them, a hidden
        layer of 128, and for classes cross-entropy with softmax, else the quadratic loss with identity.
    test
        Evaluated after every epoch.
    out
        A folder to keep everything in. The same call again goes on where it was interrupted, and gives the results of
        a run that never was; other processes may make the same call at the same time, and share the work.
    keep
        Of how many of the best trials the parameters are kept, or "all".
    halving
        Stop the worse trials early: a `Halving`, or its factor.
    devices
        All local ones if None; see `use_all_cores`.
    memory
        Bytes that may be used; half of what is free if None.
    lanes
        How many networks run side by side; chosen if None.
    trials_a_block
        How many trials are run, and kept, as a whole; chosen if None. A kill costs a block.
    callback
        Called with the `Progress` after every epoch of a block, and when trials have ended.

    Returns
    -------
    Results

    Raises
    ------
    ValueError
        If a trial cannot be (with its number), the data do not fit, or `out` holds another sweep; before any work.
    OSError
        If `out` cannot be written; what was written before is safe.

    Examples
    --------
    >>> from jaxmlp import Dataset, sweep
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
    >>> results = sweep.run(sweep.grid(learning_rate=[1e-6, 0.1], seed=range(3)), data, test=data)
    >>> results.best().hyperparameters
    {'learning_rate': 0.1}
    """
    config = config or TrainConfig()
    if keep != "all" and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 0):
        raise ValueError(f"keep must be a whole number, 0 or larger, or 'all', got {keep!r}")
    halving = Halving(halving) if isinstance(halving, int) else halving
    listed = _checked(space, data, config, mlp, test)
    if halving is not None and len({trial.config.epochs for trial in listed}) > 1:
        raise ValueError("halving compares trials after the same epochs, but epochs varies in this space")
    devices = tuple(devices or jax.local_devices())
    base = mlp or _network(data, test)
    metric = _metric(base, data, test)
    about = {
        "jaxmlp": __version__,
        "names": space.names,
        "rows": space.rows,
        "config": asdict(config),
        "mlp": asdict(base),
        "data": fingerprint(data),
        "test": None if test is None else fingerprint(test),
        "metric": metric,
        "dtype": str(jax.eval_shape(lambda: jax.numpy.zeros(())).dtype),
        "halving": None if halving is None else asdict(halving),
    }
    store = Store.create(None if out is None else Path(out), about)
    sweep = _Sweep(store, listed, _setting(listed, data, test, devices), keep, metric, halving, callback)
    try:
        _run_all(sweep, halving, lambda some: _plan(some, data, test, devices, memory, lanes, trials_a_block))
        sweep.tidy()  # what a process has left that was killed after its last block
    except KeyboardInterrupt as interrupt:
        done = sum(row.status != "paused" for row in store.rows())
        again = f"; the same call with out={str(out)!r} goes on" if out is not None else ""
        raise KeyboardInterrupt(f"{done} of {len(listed)} trials are done{again}") from interrupt
    finally:
        store.release_all()
    return Results(store, listed)


class _Sweep:
    """What a running sweep needs everywhere: the store, the trials, where to report."""

    def __init__(
        self,
        store: Store,
        listed: Sequence[Trial],
        setting: Setting,
        keep: int | Literal["all"],
        metric: str,
        halving: Halving | None,
        callback: Callable[[Progress], object] | None,
    ) -> None:
        self.store, self.trials, self.setting = store, {trial.number: trial for trial in listed}, setting
        self.keep, self.metric, self._halving, self._callback = keep, metric, halving, callback
        self._began = time.perf_counter()
        self._epochs_done = 0
        self._reached: dict[int, int] = {}

    def commit(self, trained: Mapping[int, Trained]) -> None:
        """Keep a block: what goes on after a rung, parameters that may be among the best, then all outcomes at once."""
        for number, each in trained.items():
            if each.status == "running":
                self.store.pause(number, each)
        ended = {number: each for number, each in trained.items() if each.status != "running"}
        scores = {number: self._score(each) for number, each in ended.items()}
        for number in self._best(scores | self._scores(self.store.rows())) & set(ended):
            self.store.save_model(self.trials[number], ended[number].params)
        self.store.commit(trained)
        self.tidy()
        self.report({})

    def stop(self, numbers: Sequence[int]) -> None:
        """End paused trials; a few may still be among the best."""
        rows = self.store.rows()
        waiting = {row.trial for row in rows if row.status == "paused"} & set(numbers)
        for number in waiting & self._best(self._scores(rows)):
            trial = self.trials[number]
            with suppress(FileNotFoundError):  # another process has just stopped it, and kept the same
                self.store.save_model(trial, self.store.resume(number, trial.mlp).params)
        self.store.stop(waiting)
        self.tidy()
        self.report({})

    def _score(self, trained: Trained) -> float:
        kept = trained.history[max(trained.best_epoch, 1) - 1]
        return -inf if trained.status == "diverged" else score(kept, self.metric)

    def _scores(self, rows: Sequence[Row]) -> dict[int, float]:
        return {row.trial: score(row, self.metric) for row in rows}

    def _best(self, scores: Mapping[int, float]) -> set[int]:
        """Return whose parameters to keep."""
        ranked = sorted(scores, key=lambda number: (-scores[number], number))
        return set(ranked if self.keep == "all" else ranked[: self.keep])

    def tidy(self) -> None:
        """Forget what is kept of trials that have ended and are not among the best."""
        rows = self.store.rows()  # once: another process may add to them at any time
        ended = {row.trial for row in rows if row.status != "paused"}
        self.store.tidy(models=ended - self._best(self._scores(rows)), paused=ended)

    def count_from(self, trained: Mapping[int, Trained]) -> None:
        """Take note of how far the trials of a block are before it is run."""
        self._reached |= {number: len(each.history) for number, each in trained.items()}

    def report(self, trained: Mapping[int, Trained]) -> None:
        """Tell the caller how far the sweep is, these trials being on their way."""
        if self._callback is None:
            return
        for number, each in trained.items():
            self._epochs_done += len(each.history) - self._reached[number]
            self._reached[number] = len(each.history)
        rows = self.store.rows()
        ended = [row for row in rows if row.status != "paused"]
        scores = [(score(row, self.metric), -row.trial) for row in ended if row.status != "diverged"]
        best = max(scores, default=None)
        reached = {row.trial: row.epochs for row in rows}
        reached |= {number: len(each.history) for number, each in trained.items()}
        speed = self._epochs_done / (time.perf_counter() - self._began)
        over = {row.trial for row in ended} | {n for n, each in trained.items() if each.status != "running"}
        self._callback(
            Progress(
                len(ended),
                len(self.trials),
                sum(row.status == "diverged" for row in ended),
                None if best is None else (-best[0] if self.metric.endswith("loss") else best[0], -best[1]),
                self._epochs_left(reached, over) / speed if self._epochs_done > 0 else None,
            )
        )

    def _epochs_left(self, reached: Mapping[int, int], over: Collection[int]) -> int:
        """Return how many epochs of all trials are still to come, if no other ends early."""
        left = sum(trial.config.epochs - reached.get(n, 0) for n, trial in self.trials.items() if n not in over)
        if self._halving is None:
            return left
        # At most: of those that a rung is to stop it is not known yet which they are.
        epochs = next(iter(self.trials.values())).config.epochs
        return min(left, max(0, self._halving.epochs(len(self.trials), epochs) - sum(reached.values())))


Planner: TypeAlias = Callable[[Sequence[Trial]], Plan]


def _run_all(sweep: _Sweep, halving: Halving | None, make: Planner) -> None:
    alive = list(sweep.trials)
    if halving is None:
        _run_rung(sweep, alive, None, make)
        return
    rungs = halving.rungs(sweep.trials[alive[0]].config.epochs)
    if halving.asynchronous:
        _run_rung(sweep, alive, None, make, (halving, rungs))
        return
    for rung in rungs[:-1]:
        _run_rung(sweep, alive, rung, make)
        there = sweep.store.at_epoch(rung)
        ranked = _ranked({number: there.get(number) for number in alive}, sweep.metric)
        survivors = set(ranked[: halving.survivors(len(alive))])
        sweep.stop([number for number in alive if number not in survivors])
        ended = {row.trial for row in sweep.store.rows() if row.epochs <= rung and row.status != "paused"}
        alive = sorted(survivors - ended)
        if not alive:
            return
    _run_rung(sweep, alive, rungs[-1], make)


def _ranked(epochs: Mapping[int, Epoch | None], metric: str) -> list[int]:
    """Return trial numbers, the best first; those without an epoch there, which diverged or stopped before, last."""
    scores = {number: -inf if epoch is None else score(epoch, metric) for number, epoch in epochs.items()}
    return sorted(scores, key=lambda number: (-scores[number], number))


def _run_rung(
    sweep: _Sweep,
    alive: Sequence[int],
    until: int | None,
    make: Planner,
    asynchronous: tuple[Halving, tuple[int, ...]] | None = None,
) -> None:
    """Run trials up to an epoch, or to their ends, block by block, shared with who works on the same store."""
    name = "plan" if until is None else f"plan of rung {until}"
    made = Plan.from_json(sweep.store.kept(name, lambda: make([sweep.trials[n] for n in alive]).to_json()))
    blocks = {(g, b): block for g, group in enumerate(made.groups) for b, block in enumerate(group.blocks)}
    with ThreadPoolExecutor(1) as compiler:
        ready: dict[int, Future[None]] = {}
        while blocks := {at: block for at, block in blocks.items() if not sweep.store.has(block, until)}:
            at = next((at for at in blocks if sweep.store.claim(_lead(blocks[at]))), None)
            if at is None:
                time.sleep(_WAIT)  # another process has the rest
                sweep.report({})
                continue
            if sweep.store.has(blocks[at], until):  # another process has kept it since we looked
                sweep.store.release(_lead(blocks[at]))
                continue
            # This group's program is compiled while weights are drawn, the next one's while this block runs.
            for g in (at[0], *sorted({g for g, _ in blocks} - {at[0]})[:1]):
                if g not in ready:
                    ready[g] = compiler.submit(_in_same_mode(prepare), sweep.setting, made.groups[g])
            trained = _begun(sweep, made.groups[at[0]], blocks[at])
            # Where that fails, as for want of memory, `run_block` meets it again and knows what to do.
            wait([ready[at[0]]])
            _run_block(sweep, made.groups[at[0]], blocks[at], trained, until, asynchronous)
            sweep.store.release(_lead(blocks[at]))


def _lead(block: Block) -> int:
    """Return the trial that a block is known by: it is in no other one of its rung."""
    return block[0][0]


def _in_same_mode(function: Callable[..., None]) -> Callable[..., None]:
    """Let another thread compile as this one would: a `with` of JAX's holds for its own thread only."""
    config: Any = jax.config
    x64, precision = config.jax_enable_x64, config.jax_default_matmul_precision

    def called(*args: Any) -> None:
        with jax.enable_x64(x64), jax.default_matmul_precision(precision):
            function(*args)

    return called


def _begun(sweep: _Sweep, group: Group, block: Block) -> dict[int, Trained]:
    """Return what a block's trials go on from."""
    paused = sweep.store.paused()
    numbers = [number for chunk in block for number in chunk]
    trained = begin([sweep.trials[number] for number in numbers if number not in paused])
    trained |= {n: sweep.store.resume(n, group.mlp) for n in numbers if n in paused}
    sweep.count_from(trained)
    return trained


def _run_block(
    sweep: _Sweep,
    group: Group,
    block: Block,
    trained: dict[int, Trained],
    until: int | None,
    asynchronous: tuple[Halving, tuple[int, ...]] | None,
) -> None:
    halving, rungs = asynchronous or (None, (until or group.epochs,))
    for rung in rungs:
        trained = run_block(sweep.setting, group, block, trained, rung, sweep.report)
        if halving is not None and rung != rungs[-1]:
            trained = _after_rung(sweep, halving, rung, trained)
    sweep.commit(trained)


def _after_rung(sweep: _Sweep, halving: Halving, rung: int, trained: dict[int, Trained]) -> dict[int, Trained]:
    """Stop those that are not among the best share of all that have reached the rung so far."""
    running = {number: each for number, each in trained.items() if each.status == "running"}
    there: dict[int, Epoch | None] = {**sweep.store.at_epoch(rung)}
    there |= {number: each.history[-1] for number, each in running.items()}
    going_on = set(_ranked(there, sweep.metric)[: halving.survivors(len(there))])
    stopped = {number: each._replace(status="stopped") for number, each in running.items() if number not in going_on}
    return trained | stopped


def _checked(space: Space, data: Dataset, config: TrainConfig, mlp: MLP | None, test: Dataset | None) -> list[Trial]:
    """List the trials, each checked as `train` would."""
    if not isinstance(space, Space):
        raise ValueError(f"space must be made by grid or random, got {type(space).__name__}")
    listed = trials(space, mlp or _network(data, test), config)
    seen = set()
    for trial in listed:
        kind = (trial.mlp, trial.config.batch_size)
        if kind not in seen:
            seen.add(kind)
            try:
                check_training(trial.mlp, data, trial.config, test)
            except ValueError as error:
                shown = ", ".join(f"{name}={value!r}" for name, value in trial.values.items())
                raise ValueError(f"trial {trial.number} ({shown}): {error}") from error
    return listed


def _network(data: Dataset, test: Dataset | None) -> MLP:
    """Return the network that suits the data."""
    t = np.asarray(data.t)
    if t.ndim == 1 and t.dtype.kind in "iu":
        highest = max(int(t.max()), -1 if test is None else int(np.asarray(test.t).max()))
        return MLP((data.x.shape[1], *_HIDDEN, highest + 1))
    return MLP((data.x.shape[1], *_HIDDEN, t[0].size), output="identity", loss="quadratic")


def _metric(mlp: MLP, data: Dataset, test: Dataset | None) -> str:
    if test is None:
        return "train_loss"
    return "test_accuracy" if is_classification(mlp, data.t) else "test_r2"


def _plan(
    listed: Sequence[Trial],
    data: Dataset,
    test: Dataset | None,
    devices: tuple[jax.Device, ...],
    memory: int | None,
    lanes: int | None,
    trials_a_block: int | None,
) -> Plan:
    data_bytes = sum(np.asarray(each.x).nbytes for each in (data, test) if each is not None)
    return make_plan(listed, len(data), data_bytes, devices, memory=memory, lanes=lanes, trials_a_block=trials_a_block)


def _setting(listed: Sequence[Trial], data: Dataset, test: Dataset | None, devices: tuple[jax.Device, ...]) -> Setting:
    on_host = jax.tree.map(np.asarray, arrays(listed[0].mlp, data))
    test_on_host = None if test is None else jax.tree.map(np.asarray, arrays(listed[0].mlp, test))
    return Setting(
        trials={trial.number: trial for trial in listed},
        keys={seed: jax.random.key(seed) for seed in {trial.seed for trial in listed}},
        data=on_host,
        examples=replicate(devices, on_host),
        test=replicate(devices, test_on_host),
        devices=devices,
    )
