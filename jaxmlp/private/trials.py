"""Private trainings side by side: one program of an epoch for all trials of the same shapes, each trial in a lane.

A lane is `jaxmlp.private.train`: with batches and noise from a secret of its own, and with an account of its own.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp._interrupts import interrupts_kept
from jaxmlp.data import Prepared
from jaxmlp.network import MLP, Network, Params
from jaxmlp.private.guarantee import Guarantee
from jaxmlp.private.mechanism import Privacy
from jaxmlp.private.planned import Planned, planned
from jaxmlp.private.renyi import Steps, epsilon_of_all
from jaxmlp.private.step import Numbers, run_epoch
from jaxmlp.private.training import secret_from_system, steps_of_epoch
from jaxmlp.sweep.block import begin
from jaxmlp.sweep.job import Data, Job, Parts, parts_of
from jaxmlp.sweep.running import planner
from jaxmlp.sweep.space import OF_PRIVACY, Axes, Space
from jaxmlp.sweep.tables import column
from jaxmlp.sweep.workers import all_workers, in_same_mode
from jaxmlp.training.config import TrainConfig, learning_rates
from jaxmlp.training.evaluation import evaluate_examples
from jaxmlp.training.examples import Examples
from jaxmlp.training.history import Evaluation

if TYPE_CHECKING:
    import polars

__all__ = ["PrivateTrial", "PrivateTrials", "best_of", "run_planned", "sweep"]


class PrivateTrial(NamedTuple):
    """One trial of a private sweep.

    Attributes
    ----------
    number, values
        Its place in the space, and the hyperparameters that vary.
    network
        The trained network; None if its weights became infinite.
    guarantee
        What this trial promises alone, if nothing of the others is seen.
    validation, test
        Evaluations on data that no guarantee covers; None without such data, or without a network.
    """

    number: int
    values: dict[str, Any]
    network: Network | None
    guarantee: Guarantee
    validation: Evaluation | None
    test: Evaluation | None


class PrivateTrials(NamedTuple):
    """The result of a private sweep; printed, it says what the trials spend.

    Attributes
    ----------
    trials
        One for each row of the space.
    epsilon_of_all, delta
        What all trials spend together, by Renyi divergences: who sees several trials, or one that was chosen by looking
        at several, has this guarantee and not that of one trial.
    """

    trials: tuple[PrivateTrial, ...]
    epsilon_of_all: float
    delta: float

    def best(self) -> PrivateTrial:
        """Return the trial with the best validation: the highest accuracy or R2. No guarantee of one counts the choice.

        Raises a ValueError if no trial has a validation. See `jaxmlp.private.select` for a choice that is counted.
        """
        return best_of(self.trials)

    def table(self) -> "polars.DataFrame":
        """Return a data frame with a row for each trial: its number, values, epsilon, noise, and scores."""
        from jaxmlp._extras import optional

        pl = optional("polars", "sweep")
        columns: dict[str, Any] = {"trial": [trial.number for trial in self.trials]}
        columns |= {name: column([trial.values[name] for trial in self.trials]) for name in self.trials[0].values}
        spent = {"spent_epsilon": "epsilon", "noise_multiplier": "noise_multiplier"}
        columns |= {name: [getattr(trial.guarantee, field) for trial in self.trials] for name, field in spent.items()}
        for part in ("validation", "test"):
            for name in Evaluation._fields:
                scores = [getattr(getattr(trial, part), name, None) for trial in self.trials]
                if any(each is not None for each in scores):
                    columns[f"{part}_{name}"] = pl.Series(scores, dtype=pl.Float64)
        columns["status"] = ["diverged" if trial.network is None else "finished" for trial in self.trials]
        return pl.DataFrame(columns)

    def picture(self, title: str = "") -> bytes:
        """Return a PNG picture of validation (else test) accuracy or R2 against the epsilon of each trial alone.

        A line goes through the means of the trials that differ in noise and seed only. Needs the extra `cli`.
        """
        from jaxmlp.plots.privacy import score_against_epsilon

        part = "validation" if any(trial.validation is not None for trial in self.trials) else "test"
        measured = [getattr(trial, part) for trial in self.trials]
        scores = [None if each is None else _score(each) for each in measured]
        is_r2 = any(each is not None and each.accuracy is None for each in measured)
        names = [name for name in self.trials[0].values if name not in (*OF_PRIVACY, "seed")]
        settings = [", ".join(f"{name} {trial.values[name]}" for name in names) for trial in self.trials]
        epsilon = [trial.guarantee.epsilon for trial in self.trials]
        return score_against_epsilon(epsilon, scores, settings, f"{part} {'$R^2$' if is_r2 else 'accuracy'}", title)

    def __str__(self) -> str:
        """Say what one trial spends, what all spend, and that a choice is not counted."""
        spent = sorted(trial.guarantee.epsilon for trial in self.trials)
        alone = f"{spent[0]:.3g}" if spent[-1] < 1.001 * spent[0] else f"{spent[0]:.3g} to {spent[-1]:.3g}"
        return (
            f"{len(spent)} private trials, each of epsilon {alone} alone. A choice among them by their scores is not "
            f"counted in that: together they spend epsilon {self.epsilon_of_all:.3g} at delta {self.delta:.3g}"
        )


def sweep(
    space: Space | Axes | Sequence[Axes],
    data: Data | Prepared,
    privacy: Privacy,
    config: TrainConfig | None = None,
    *,
    mlp: MLP | None = None,
    secret: Array | None = None,
    validation: Data | None = None,
    test: Data | None = None,
    lanes: int | None = None,
    memory: int | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> PrivateTrials:
    """Train every trial of a space privately, many at a time.

    A trial is the run `jaxmlp.private.train` with its values and with `key=jax.random.key(seed)`. It draws batches and
    noise from its own secret, and has its own guarantee, which covers it alone. All results of a sweep together spend
    more, and so does the best of them: see `PrivateTrials.epsilon_of_all`, and `select`.

    Parameters
    ----------
    space
        As for `jaxmlp.sweep.run`; also `epsilon` (or `noise_multiplier`) and `clip` may vary, in place of those of
        `privacy`.
    data, validation, test
        As for `jaxmlp.sweep.run`. No guarantee covers validation and test examples.
    privacy, config
        What the space does not vary; `config_for(N)` if `config` is None.
    mlp
        As for `jaxmlp.sweep.run`.
    secret
        Draws batches and noise, of trial i from `jax.random.fold_in(secret, i)`; None draws a secret for each trial
        from the operating system. Give one in tests only.
    lanes, memory
        How many trials to train side by side at most, and how many bytes to use; None chooses.
    callback
        Called with the number of trials that have ended, and of all.

    Raises
    ------
    TypeError, ValueError
        As `jaxmlp.private.train` and `jaxmlp.sweep.run` do, naming the trial.
    KeyboardInterrupt
        With one line, if interrupted; no trial is kept.

    Examples
    --------
    >>> from jaxmlp import sweep as spaces
    >>> x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> pair = x, (x[:, 0] > x[:, 1]).astype(int)
    >>> space = spaces.grid(epsilon=[1.0, 4.0], learning_rate=[0.1, 0.5])
    >>> config = TrainConfig(epochs=5, batch_size=100, weight_decay=0.0)
    >>> results = sweep(space, pair, Privacy(epsilon=1.0), config, validation=pair)
    >>> [round(trial.guarantee.epsilon) for trial in results.trials]
    [1, 1, 4, 4]
    >>> print(results)  # doctest: +ELLIPSIS
    4 private trials, each of epsilon 0.999 to 4 alone. A choice among them by their scores is not counted in that: ...
    """
    parts, _ = parts_of(data, validation, test)
    listed = planned(space, parts, privacy, config, mlp)
    trials = run_planned(listed, parts, secret, callback, lanes=lanes, memory=memory)
    steps, delta = [Steps(each.mechanism, each.guarantee.steps) for each in listed], listed[0].guarantee.delta
    return PrivateTrials(tuple(trials), epsilon_of_all(steps, delta), delta)


def best_of(trials: Sequence[PrivateTrial]) -> PrivateTrial:
    """Return the trial with the highest accuracy or R2 on the validation data, the first of equal ones."""
    scored = [(_score(trial.validation), trial) for trial in trials if trial.validation is not None]
    if not scored:
        raise ValueError("no trial has a validation: pass validation=, or lower the rates if all weights are infinite")
    return max(scored, key=lambda pair: pair[0])[1]


def _score(evaluation: Evaluation) -> float:
    value = evaluation.r2 if evaluation.accuracy is None else evaluation.accuracy
    return -math.inf if value is None or math.isnan(value) else value


def run_planned(
    listed: Sequence[Planned],
    parts: Parts,
    secret: Array | None,
    callback: Callable[[int, int], object] | None,
    *,
    lanes: int | None,
    memory: int | None,
) -> list[PrivateTrial]:
    """Run trials, numbered from 0, and return them in this order."""
    workers, trials = all_workers(), [each.trial for each in listed]
    job = Job.of(trials, parts, workers)
    # Lanes share no batches, so for the plan each has a seed of its own.
    plan = planner(parts, workers, lanes=lanes, memory=memory)([trial._replace(seed=trial.number) for trial in trials])
    chunks = [chunk for group in plan.groups for block in group.blocks for chunk in block]
    secrets = [secret_from_system() if secret is None else jax.random.fold_in(secret, n) for n in range(len(trials))]
    starts, is_over = begin(trials), Event()
    found: dict[int, PrivateTrial] = {}

    def run(chunk: tuple[int, ...], worker: int) -> list[PrivateTrial]:
        members, keys = [listed[n] for n in chunk], jnp.stack([secrets[n] for n in chunk])
        start = [(starts[n].last_params, starts[n].state) for n in chunk]
        params = _run_chunk(members, start, job.examples[worker], keys, is_over)
        return [_ended(each, of_each, job, worker) for each, of_each in zip(members, params, strict=True)]

    with interrupts_kept(), ThreadPoolExecutor(len(workers)) as pool:
        working = [pool.submit(in_same_mode(run), chunk, i % len(workers)) for i, chunk in enumerate(chunks)]
        try:
            for ended in as_completed(working):
                found |= {trial.number: trial for trial in ended.result()}
                if callback:
                    callback(len(found), len(trials))
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)("no private trial is kept; what was seen of them is spent") from interrupt
        finally:
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return [found[trial.number] for trial in trials]


def _run_chunk(
    chunk: Sequence[Planned],
    starts: Sequence[tuple[Params, sgd.State]],
    examples: Examples,
    secrets: Array,
    is_over: Event,
) -> list[Params]:
    """Run trials side by side, and return the parameters of each."""
    configs, mechanisms = [each.trial.config for each in chunk], [each.mechanism for each in chunk]
    n_steps = steps_of_epoch(mechanisms[0].n_examples, configs[0])
    batch_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(secrets)
    params, state = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    dtype = params[0].w.dtype
    numbers: Any = Numbers(*np.array([Numbers.of(each) for each in mechanisms], dtype).T)
    of_update = np.array([(config.momentum, config.weight_decay) for config in configs], dtype).T

    def drawn(epoch: int) -> tuple[Any, ...]:
        steps = range(epoch * n_steps, (epoch + 1) * n_steps)
        of_lanes = [each.draw(key, steps) for each, key in zip(mechanisms, batch_keys, strict=True)]
        batches = tuple(map(np.stack, zip(*of_lanes, strict=True)))
        rates = np.array([learning_rates(config, epoch, n_steps) for config in configs], dtype)
        return batches, np.asarray(steps, np.uint32), rates

    coming = drawn(0)
    for epoch in range(configs[0].epochs):
        if is_over.is_set():
            break
        of_run = examples, *coming, numbers, *of_update, noise_keys
        params, state = _run_lanes(chunk[0].trial.mlp, params, state, *of_run, nesterov=configs[0].nesterov)
        if epoch + 1 < configs[0].epochs:
            coming = drawn(epoch + 1)  # while the device computes
        jax.block_until_ready(params)
    on_host = jax.tree.map(np.asarray, params)
    return [jax.tree.map(lambda leaf, lane=lane: leaf[lane].copy(), on_host) for lane in range(len(chunk))]


@partial(jax.jit, static_argnames=("mlp", "nesterov"))
def _run_lanes(mlp: MLP, *arguments: Any, nesterov: bool) -> tuple[Params, sgd.State]:
    """Run `run_epoch` in every lane; its arguments have an axis of lanes, but for the examples and numbers of steps."""
    axes = (0, 0, None, 0, None, 0, 0, 0, 0, 0)
    return jax.vmap(partial(run_epoch, mlp, nesterov=nesterov), in_axes=axes)(*arguments)


def _ended(planned: Planned, params: Params, job: Job, worker: int) -> PrivateTrial:
    number, values, mlp = planned.trial.number, planned.trial.values, planned.trial.mlp
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        return PrivateTrial(number, values, None, planned.guarantee, None, None)
    network = Network(mlp, params)
    validation, test = (
        None if part is None else evaluate_examples([network], part) for part in (job.validation[worker], job.test)
    )
    return PrivateTrial(number, values, network, planned.guarantee, validation, test)
