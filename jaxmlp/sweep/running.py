"""`run` trains every trial of a space, many at a time; `plan` says how, and trains nothing."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxmlp._interrupts import interrupts_kept
from jaxmlp._validation import whole_number
from jaxmlp._version import __version__
from jaxmlp.data import Dataset, Encoding, Prepared, fingerprint
from jaxmlp.network import MLP
from jaxmlp.storage.files import to_json
from jaxmlp.sweep.folds import Folds, Pairs, crossed, folds_of
from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.job import Data, Job, Parts, parts_of
from jaxmlp.sweep.planning import Plan, make_plan
from jaxmlp.sweep.progress import Progress, Reporter
from jaxmlp.sweep.results import Results
from jaxmlp.sweep.rungs import Sweep, run_rungs, tidy
from jaxmlp.sweep.space import FOLD, Axes, Space, Trial, check_name, described, grid, plain, trials
from jaxmlp.sweep.store import Store
from jaxmlp.sweep.store_checks import check_outcomes
from jaxmlp.sweep.workers import all_workers, machine_of
from jaxmlp.training.boundary import check_training
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.evaluation import BLOCK
from jaxmlp.training.examples import is_classification

__all__ = ["checked_trials", "identity_of", "plan", "planner", "run"]


def plan(
    space: Space | Axes | Sequence[Axes],
    data: Data | Prepared,
    config: TrainConfig | None = None,
    *,
    mlp: MLP | None = None,
    validation: Data | None = None,
    test: Data | None = None,
    folds: int | Pairs | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    lanes: int | None = None,
    trials_a_block: int | None = None,
) -> Plan:
    """Return what `run` would run with the same arguments; nothing is trained.

    Examples
    --------
    >>> from jaxmlp import Dataset, sweep
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
    >>> sweep.plan(sweep.grid(learning_rate=[0.1, 0.2], hidden=[(8,), (16,)]), data).groups[0].mlp.sizes
    (2, 8, 2)
    """
    parts, _ = parts_of(data, validation, test)
    held, space = _folded(space, parts, mlp, folds)
    listed, _ = checked_trials(space, parts, config, mlp)
    _check_distinct(listed, held)
    return planner(parts, devices, held, memory=memory, lanes=lanes, trials_a_block=trials_a_block)(listed)


def run(
    space: Space | Axes | Sequence[Axes],
    data: Data | Prepared,
    config: TrainConfig | None = None,
    *,
    mlp: MLP | None = None,
    validation: Data | None = None,
    test: Data | None = None,
    folds: int | Pairs | None = None,
    out: str | PathLike[str] | None = None,
    keep: int | Literal["all"] = 10,
    halving: Halving | int | None = None,
    encoding: Encoding | None = None,
    about: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    lanes: int | None = None,
    trials_a_block: int | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Results:
    """Train every trial of a space.

    A trial is the run `train(mlp, data, config, key=jax.random.key(seed), validation=validation, test=test)` with its
    values: the same initial weights and batch orders, the same code. Alone (`lanes=1`) its parameters are the same to
    the last bit. Beside other trials they differ by rounding, because sums have another order, and training propagates
    this like any rounding. The tests check that they lie at most twice as far from the same training in float64 as
    those of `train` do, plus one rounding of each parameter.

    On one machine a trial is the same to the last bit whatever the number of workers, devices and processes, and
    whether the sweep was interrupted. With another number of cores XLA may cut a large operation (a batch or an
    evaluation of hundreds of thousands of values) into other parts, which changes the last digits.

    Parameters
    ----------
    space, data
        The space, made by `grid` or `random` (a dict or several are those of a grid), and the training data: a
        `Dataset` or a pair (x, t). What `jaxmlp.data.prepare` returns is all three parts with their encoding, where
        these are not given.
    config
        The values that the space does not vary; `TrainConfig()` if None.
    mlp
        The network, except for what the space varies. If None: inputs and outputs that fit the data and `validation`, a
        hidden layer of 128, and for classes cross-entropy with softmax, else the quadratic loss with identity.
    validation
        Evaluated after every epoch. It ranks the trials; without it the training loss does.
    folds
        In place of `validation`: a number of folds, or pairs (training rows, validation rows) of `data`, such as
        scikit-learn's splitters give. Every trial is trained once for each fold, on the rows that the fold does not
        hold out, and validated on the others; settings are ranked by their mean over seeds and folds. A number divides
        the rows at random, in the same way in every call, and each class in the same proportion. What was learned of
        all rows before, as a scaling is, has seen the rows that are held out. `fold` is a column of `Results.table`.
    test
        Evaluated once for each trial, when it ends, with the parameters that are kept. Nothing else depends on it.
    out
        A folder to save everything in. Repeating the call continues an interrupted sweep, with the results of an
        uninterrupted one; processes that make the same call at the same time share the work. A call with more trials
        (seeds, values, settings) or a larger `config.epochs` goes on with what there is: trials keep their numbers, and
        new ones come after them. With more epochs the best trials go on from their saved states, unless their
        schedule depends on the number of epochs (cosine); the others are trained anew, and a UserWarning says so.
        What patience or halving stopped stays stopped.
    keep
        The number of best settings whose models are kept, for all of their seeds, and of best trials; or "all".
        `Results.model` trains any other one again.
    halving
        Stop the worse settings early, by their mean over the seeds: a `Halving`, or its factor.
    encoding
        How raw inputs and targets became those of `data`, such as the `encoding` that `jaxmlp.data.prepare` returns. It
        is kept with the models, which then take raw inputs.
    about
        Plain JSON values that are kept with the models, see `jaxmlp.Model`.
    devices, memory
        The devices, of which one that is listed n times is called from n threads; the bytes to use, half of the free
        ones if None. If devices is None: every local accelerator, or the CPU once for each core that this process may
        use.
    lanes, trials_a_block
        How many networks run side by side; how many trials are run and saved as a whole, so that a kill loses these.
        Chosen for you if None.
    callback
        Called with the `Progress` after every epoch of a block, and when trials have ended: `show_progress()` shows it,
        and `print` prints it. If it raises `StopSweep`, the sweep ends: trials that wait for the next rung of a halving
        are stopped, a block that runs is not saved.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a number or a trial (named by its number) is invalid, the data do not fit, or `out` holds a damaged sweep, or
        one that this call does not extend; raised before any work.
    OSError
        If `out` cannot be written; what was written before is safe.

    Examples
    --------
    >>> from jaxmlp import Dataset, sweep
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
    >>> results = sweep.run(sweep.grid(learning_rate=[1e-6, 0.1], seed=range(3)), data, validation=data)
    >>> results.best().hyperparameters
    {'learning_rate': 0.1}
    """
    parts, encoding = parts_of(data, validation, test, encoding)
    held, space = _folded(space, parts, mlp, folds)
    listed, base = checked_trials(space, parts, config, mlp)
    _check_distinct(listed, held)
    config = config or TrainConfig()
    halving = halving if halving is None or isinstance(halving, Halving) else Halving(halving)
    keep = keep if keep == "all" else whole_number("keep, if it is not 'all',", keep, 0)
    if halving is not None and len({trial.config.epochs for trial in listed}) > 1:
        raise ValueError("halving compares trials after the same epochs, but epochs varies in this space")
    if out is not None and not (isinstance(out, str | PathLike) and os.fspath(out)):
        raise TypeError(f"out must be the path of a folder, got {out!r}")
    planned = planner(parts, devices, held, memory=memory, lanes=lanes, trials_a_block=trials_a_block)
    # Asynchronous halving decides block by block, and stops or continues a setting as a whole.
    planned = partial(planned, whole_settings=halving is not None and halving.asynchronous)
    made_plan = planned(listed)  # refuses too little memory before anything is written
    space = Space(space.names, tuple(tuple(trial.values.values()) for trial in listed))  # with nothing unset
    identity = identity_of(space, parts, config, base, halving, encoding, about, held)
    store = Store.create(None if out is None else Path(out), identity)
    now = Space(tuple(store.about("names")), plain(store.about("rows")))
    if now != space:  # the sweep was begun with fewer trials, or with more
        listed = trials(now, base, config)
        made_plan = planned(listed)
    try:
        check_outcomes(store, listed)
        store.replace("keep", keep)
        _warn_of_another_machine(store, planned.keywords["workers"], len(listed))
        job = Job.of(listed, parts, planned.keywords["workers"], held)
        sweep = Sweep(
            job,
            store,
            identity["metric"],
            keep,
            halving,
            lambda some: made_plan if len(some) == len(listed) else planned(some),
            Reporter(store, job.trials, identity["metric"], halving, callback),
        )
        with interrupts_kept():
            run_rungs(sweep)
        tidy(sweep)  # files of a process that was killed after its last block
    except KeyboardInterrupt as interrupt:
        done = sum(row.status != "paused" for row in store.rows())
        again = f"; repeat the call with out={str(out)!r} to continue" if out is not None else ""
        raise type(interrupt)(f"{done} of {len(listed)} trials are done{again}") from interrupt
    finally:
        store.release_all()
    return Results(store, listed, parts)


def _warn_of_another_machine(store: Store, workers: Sequence[jax.Device], n_trials: int) -> None:
    """Record JAX's version and the devices of a sweep; say if a sweep that goes on began with others."""
    now = machine_of(workers)
    began = store.kept("machine", lambda: now)
    if began != now and sum(row.status != "paused" for row in store.rows()) < n_trials:
        before, after = ("JAX {jax} on {number} x {kind}".format(**machine) for machine in (began, now))
        changes = f"{store.folder}: the sweep began with {before}, and goes on with {after}"
        warnings.warn(f"{changes}: the last digits of its trials may differ", UserWarning, stacklevel=3)


def identity_of(
    space: Space,
    parts: Parts,
    config: TrainConfig,
    base: MLP,
    halving: Halving | None,
    encoding: Encoding | None,
    about: Mapping[str, Any] | None,
    folds: Folds | None = None,
) -> dict[str, Any]:
    """Return all that identifies a sweep, checked: a store continues only the same sweep."""
    try:
        to_json(dict(about or {}))
    except (TypeError, ValueError) as error:
        raise TypeError(f"about must be a dict of JSON values, got {about!r}") from error
    if encoding is not None and not isinstance(encoding, Encoding):
        raise TypeError(f"encoding must be of type Encoding, got {type(encoding).__name__}")
    if encoding is not None and encoding.n_inputs != base.sizes[0]:
        raise ValueError(f"encoding makes {encoding.n_inputs} features, but the network takes {base.sizes[0]}")
    by_score = "validation_accuracy" if is_classification(base, parts.data.t) else "validation_r2"
    return {
        "jaxmlp": __version__,
        "names": space.names,
        "rows": space.rows,
        "config": asdict(config),
        "mlp": asdict(base),
        **{name: None if part is None else fingerprint(part) for name, part in parts._asdict().items()},
        "folds": None if folds is None else folds.to_json(),
        "metric": "train_loss" if parts.validation is None and folds is None else by_score,
        "dtype": str(jax.eval_shape(lambda: jax.numpy.zeros(())).dtype),
        "halving": None if halving is None else asdict(halving),
        "encoding": None if encoding is None else encoding.to_json(),
        "about": dict(about or {}),
    }


def checked_trials(space: Space, parts: Parts, config: TrainConfig | None, mlp: MLP | None) -> tuple[list[Trial], MLP]:
    """Return the trials, each checked as `train` would, and the network that they differ from."""
    if not isinstance(space, Space):
        raise TypeError(f"space must be made by grid or random, got {type(space).__name__}")
    given: dict[str, tuple[object, type]] = {"config": (config, TrainConfig), "mlp": (mlp, MLP)}
    for name, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} must be of type {kind.__name__}, got {type(value).__name__}")
    base = mlp or _network(parts)
    listed = trials(space, base, config or TrainConfig())
    first = {(trial.mlp, trial.config.batch_size): trial for trial in reversed(listed)}
    for trial in sorted(first.values(), key=lambda trial: trial.number):
        try:
            check_training(trial.mlp, parts.data, trial.config, parts.validation, parts.test)
        except ValueError as error:
            raise ValueError(f"{described(trial.number, trial.values)}: {error}") from error
    return listed, base


def _folded(
    space: Space | Axes | Sequence[Axes], parts: Parts, mlp: MLP | None, folds: int | Pairs | None
) -> tuple[Folds | None, Space]:
    """Return the folds, checked, and the space in which every trial is trained with each."""
    if isinstance(space, Mapping | list):
        space = grid(space)
    if not isinstance(space, Space):
        raise TypeError(f"space must be made by grid or random, got {type(space).__name__}")
    if FOLD in space.names:
        check_name(FOLD)
    if folds is None:
        return None, space
    if parts.validation is not None:
        raise ValueError("each of the folds holds out rows to validate on: leave out validation, or folds")
    held = folds_of(folds, parts.data, is_classification(mlp or _network(parts), parts.data.t))
    return held, crossed(space, held)


def _check_distinct(listed: Sequence[Trial], folds: Folds | None) -> None:
    """Refuse to train a run twice, whose copies would count as replicates; and folds that do not fill a batch."""
    first: dict[object, int] = {}
    for trial in listed:
        n_train = None if folds is None else len(folds.train[trial.order[1]])
        if n_train is not None and n_train < trial.config.batch_size:
            most = f"batch_size must be at most the {n_train} training examples of the fold"
            raise ValueError(f"{described(trial.number, trial.values)}: {most}, got {trial.config.batch_size}")
        number = first.setdefault((trial.mlp, trial.config, trial.order), trial.number)
        if number != trial.number:
            raise ValueError(f"{described(trial.number, trial.values)}: the same run as trial {number}; leave one out")


def planner(
    parts: Parts, devices: Sequence[jax.Device] | None, folds: Folds | None = None, **numbers: int | None
) -> partial[Plan]:
    """Return `make_plan` for these data and resources, checked."""
    workers = all_workers() if devices is None else tuple(devices)
    if not (workers and all(isinstance(worker, jax.Device) for worker in workers)):
        raise ValueError(f"devices must be devices of JAX, as jax.local_devices() returns, got {devices!r}")
    checked: Any = {name: None if value is None else whole_number(name, value, 1) for name, value in numbers.items()}
    # A block of an evaluation is expanded once for all networks of a device.
    data_bytes = sum(np.asarray(each.x).nbytes + _expanded_bytes(each) for each in parts if each is not None)
    sizes = None if folds is None else folds.sizes()
    n_evaluated = max(0 if part is None else len(part) for part in parts[1:])
    of_data: Any = {
        "n_examples": len(parts.data),
        "data_bytes": data_bytes,
        "fold_sizes": sizes,
        "n_evaluated": n_evaluated,
    }
    return partial(make_plan, **of_data, workers=workers, **checked)


def _expanded_bytes(data: Dataset) -> int:
    return 0 if data.expansion is None else 4 * min(len(data), BLOCK) * data.n_inputs


def _network(parts: Parts) -> MLP:
    """Return the default network for the data."""
    data = parts.data
    t = np.asarray(data.t)
    if t.ndim == 1 and t.dtype.kind in "iu":
        # Nothing depends on the test data: a class that only they have is an error, as in `train`.
        highest = max(int(np.asarray(each.t).max()) for each in (data, parts.validation) if each is not None)
        return MLP((data.n_inputs, 128, highest + 1))
    return MLP((data.n_inputs, 128, t[0].size), output="identity", loss="quadratic")
