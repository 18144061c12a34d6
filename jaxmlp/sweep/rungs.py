"""Run a sweep rung by rung (without halving there is one), and share its blocks among processes.

Every process makes the same plan, claims a block that no other process has, runs it, saves its results, and claims the
next. Every outcome is saved, and the models of the best settings.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

from jaxmlp.sweep.block import begin, prepare, run_block, tested
from jaxmlp.sweep.growing import keeps_its_epochs
from jaxmlp.sweep.halving import Halving, survivors
from jaxmlp.sweep.job import Job
from jaxmlp.sweep.keeping import kept_trials
from jaxmlp.sweep.metrics import by_setting, score
from jaxmlp.sweep.planning import Block, Group, Plan
from jaxmlp.sweep.progress import StopSweep
from jaxmlp.sweep.space import Trial
from jaxmlp.sweep.store import Row, Store, is_cut_short, outcome
from jaxmlp.sweep.workers import in_same_mode
from jaxmlp.training.history import Epoch, Evaluation, Trained

__all__ = ["Sweep", "Watcher", "run_rungs", "tidy"]


class Watcher(Protocol):
    """Follows the trials while they train, such as a `Reporter`."""

    def begin(self, trained: Mapping[int, Trained]) -> None:
        """Take the trials of a block as they are before it runs."""

    def report(self, trained: Mapping[int, Trained] | None = None) -> Collection[int]:
        """Take the trials of the running block after an epoch, None after outcomes were saved; return those to stop."""


class Sweep(NamedTuple):
    """The arguments for running a sweep: what to train, and where to save the outcomes.

    `metric` ranks the trials; `keep` says which models are saved, see `kept_trials`. `make_plan` plans some trials.
    """

    job: Job
    store: Store
    metric: str
    keep: int | Literal["all"]
    halving: Halving | None
    make_plan: Callable[[Sequence[Trial]], Plan]
    reporter: Watcher

    def settings(self) -> Sequence[Sequence[int]]:
        """Return the trials' numbers by setting."""
        return [[trial.number for trial in setting] for setting in by_setting(list(self.job.trials.values()))]

    def kept(self, rows: Iterable[Row]) -> set[int]:
        """Return the trials whose models to keep."""
        return kept_trials(rows, self.job.trials, self.metric, self.keep)


def run_rungs(sweep: Sweep) -> None:
    """Run every trial to its end, to the rung that stops it, or until a callback stops all."""
    try:
        _run_all(sweep)
    except StopSweep:
        _stop(sweep, sweep.store.paused())


def _run_all(sweep: Sweep) -> None:
    alive, halving = list(sweep.job.trials), sweep.halving
    if halving is None or halving.asynchronous:
        _run_rung(sweep, alive, None)
        return
    rungs, settings = halving.rungs(sweep.job.trials[alive[0]].config.epochs), sweep.settings()
    for rung in rungs[:-1]:
        _run_rung(sweep, alive, rung)
        settings = _survivors(sweep, halving, settings, sweep.store.rows(), sweep.store.at_epoch(rung), rung)
        going_on = {number for setting in settings for number in setting}
        _stop(sweep, {number for number in alive if number not in going_on})
        sweep.reporter.report()
        ended = {row.trial for row in sweep.store.rows() if row.epochs <= rung and row.status != "paused"}
        alive = sorted(going_on - ended)
        if not alive:
            return
    _run_rung(sweep, alive, rungs[-1])


def _survivors(
    sweep: Sweep,
    halving: Halving,
    settings: Sequence[Sequence[int]],
    rows: Iterable[Row],
    there: Mapping[int, Epoch],
    rung: int,
) -> list[Sequence[int]]:
    """Return the settings that continue after a rung, of those that have reached it.

    `there` has the trials' epochs at the rung. A trial that ended by itself before has the score of the epoch that it
    keeps, or the worst if it diverged.
    """
    scores = {number: score(epoch, sweep.metric) for number, epoch in there.items()}
    running = set(there)
    for row in rows:
        by_itself = row.status != "paused" and not is_cut_short(row, sweep.job.trials[row.trial].config)
        if row.epochs <= rung and by_itself:
            scores[row.trial] = score(row, sweep.metric)
            running.discard(row.trial)
    reached = [each for each in settings if scores.keys() >= set(each) and not there.keys().isdisjoint(each)]
    return survivors(halving, reached, scores, running)


def _run_rung(sweep: Sweep, alive: Sequence[int], until: int | None) -> None:
    """Run trials up to an epoch, or to their ends (None), block by block."""
    plan = _plan(sweep, alive, until)
    blocks = {(g, b): block for g, group in enumerate(plan.groups) for b, block in enumerate(group.blocks)}
    # A block is claimed by its first trial, which is in no other block of its rung.
    with ThreadPoolExecutor(1) as compiler:
        compiled: dict[int, Future[None]] = {}
        while blocks := {at: block for at, block in blocks.items() if not sweep.store.has(block, until)}:
            at = next((at for at in blocks if sweep.store.claim(blocks[at][0][0])), None)
            if at is None:
                time.sleep(0.2)  # other processes run the rest
                sweep.reporter.report()
                continue
            group, block = plan.groups[at[0]], blocks[at]
            if not sweep.store.has(block, until):  # another process may have run it since the last look
                # This group's program is compiled while weights are drawn, the next one's while this block runs.
                for g in (at[0], *sorted({g for g, _ in blocks} - {at[0]})[:1]):
                    if g not in compiled:
                        compiled[g] = compiler.submit(in_same_mode(prepare), sweep.job, plan.groups[g])
                trained = _begin(sweep, group, block)
                # If compilation failed, perhaps for lack of memory, `run_block` fails too and halves the block.
                wait([compiled[at[0]]])
                _keep_block(sweep, _run_block(sweep, group, block, trained, until))
                sweep.reporter.report()
            sweep.store.release(block[0][0])


def _plan(sweep: Sweep, alive: Sequence[int], until: int | None) -> Plan:
    """Return the plan of a rung that the first process to come here made, of the trials that had not reached its end.

    Another number of trials, or of epochs, is another plan. The trials of a block are after the same epoch.
    """

    def make() -> Plan:
        rows = {row.trial: row for row in sweep.store.rows()}
        after: dict[int, list[Trial]] = {}
        for number in alive:
            row = rows.get(number)
            if row is None or (row.status == "paused" and (until is None or row.epochs < until)):
                after.setdefault(0 if row is None else row.epochs, []).append(sweep.job.trials[number])
        plans = [sweep.make_plan(some) for some in after.values()] or [sweep.make_plan([])]
        return replace(plans[0], groups=tuple(group for plan in plans for group in plan.groups))

    trials = sweep.job.trials
    return sweep.store.plan(len(trials), max(trial.config.epochs for trial in trials.values()), until, make)


def _begin(sweep: Sweep, group: Group, block: Block) -> dict[int, Trained]:
    """Return the state in which each trial of a block begins: initial weights, or as saved at the last rung."""
    paused = sweep.store.paused()
    numbers = [number for chunk in block for number in chunk]
    trained = begin([sweep.job.trials[number] for number in numbers if number not in paused])
    trained |= {number: sweep.store.resume(number, group.mlp) for number in numbers if number in paused}
    sweep.reporter.begin(trained)
    return trained


def _run_block(
    sweep: Sweep, group: Group, block: Block, trained: dict[int, Trained], until: int | None
) -> dict[int, Trained]:
    halving = sweep.halving if sweep.halving is not None and sweep.halving.asynchronous else None
    rungs = (until or group.epochs,) if halving is None else halving.rungs(group.epochs)
    for rung in rungs:
        trained = run_block(sweep.job, group, block, trained, rung, sweep.reporter.report)
        if halving is not None and rung != rungs[-1]:
            trained = _stop_worse(sweep, halving, rung, trained)
    return trained


def _stop_worse(sweep: Sweep, halving: Halving, rung: int, trained: dict[int, Trained]) -> dict[int, Trained]:
    """Stop the settings that are not among the best share of all that have reached the rung so far."""
    here = {number: each.history[rung - 1] for number, each in trained.items() if len(each.history) >= rung}
    rows = [*sweep.store.rows(), *(outcome(number, each) for number, each in trained.items())]
    best = _survivors(sweep, halving, sweep.settings(), rows, sweep.store.at_epoch(rung) | here, rung)
    going_on = {number for setting in best for number in setting}
    return {
        number: each if each.status != "running" or number in going_on else each._replace(status="stopped")
        for number, each in trained.items()
    }


def _keep_block(sweep: Sweep, trained: Mapping[int, Trained]) -> None:
    """Save a finished block: files first, then all outcomes at once, so a kill leaves no outcome without its files."""
    for number, each in trained.items():
        if each.status == "running":
            sweep.store.pause(number, each)
    ended = [outcome(number, each) for number, each in trained.items() if each.status != "running"]
    for number in sweep.kept([*ended, *sweep.store.rows()]) & {row.trial for row in ended}:
        sweep.store.save_model(sweep.job.trials[number], trained[number].params)
        if _may_go_on(sweep, number, trained[number].status):
            sweep.store.pause(number, trained[number])
    sweep.store.commit(trained)
    tidy(sweep)


def _stop(sweep: Sweep, numbers: Collection[int]) -> None:
    """Stop paused trials: test them, and save their models if all are kept."""
    rows = sweep.store.rows()
    waiting = {row.trial for row in rows if row.status == "paused"} & set(numbers)
    as_stopped = [row._replace(status="stopped") if row.trial in waiting else row for row in rows]
    kept, tests = sweep.kept(as_stopped), dict[int, Evaluation | None].fromkeys(waiting)
    plan = sweep.make_plan([sweep.job.trials[number] for number in sorted(waiting)])
    for group in plan.groups:
        members = sorted(waiting.intersection(number for block in group.blocks for chunk in block for number in chunk))
        for i in range(0, len(members), group.n_lanes):  # a chunk at a time: together they may not fit the memory
            for number, each in _tested_chunk(sweep, group, members[i : i + group.n_lanes]).items():
                tests[number] = each.test
                if number in kept:
                    sweep.store.save_model(sweep.job.trials[number], each.params)
    sweep.store.stop(tests)
    tidy(sweep)


def _tested_chunk(sweep: Sweep, group: Group, numbers: Sequence[int]) -> dict[int, Trained]:
    trained = {}
    for number in numbers:
        with suppress(FileNotFoundError):  # another process has just stopped it, and saved the same
            trained[number] = sweep.store.resume(number, group.mlp)._replace(status="stopped")
    return tested(sweep.job, group, trained)


def tidy(sweep: Sweep) -> None:
    """Remove the checkpoints of ended trials, and the models that are not kept."""
    rows = sweep.store.rows()  # once: another process may add to them at any time
    ended, kept = {row.trial for row in rows if row.status != "paused"}, sweep.kept(rows)
    going_on = {row.trial for row in rows if row.trial in kept and _may_go_on(sweep, row.trial, row.status)}
    sweep.store.remove(models=ended - kept, paused=ended - going_on)


def _may_go_on(sweep: Sweep, number: int, status: str) -> bool:
    """Tell whether a trial that has ended would go on if the sweep were given more epochs: see `Store.create`."""
    config = sweep.job.trials[number].config
    in_folder = sweep.store.folder is not None
    return in_folder and status == "finished" and keeps_its_epochs(config, config.epochs + 1)
