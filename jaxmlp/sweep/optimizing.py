"""`optimize`: Optuna proposes settings in batches, and the networks of each batch are trained side by side.

Optuna's own loop asks for one trial, trains it, and tells its value. Here a study is asked for a whole batch before it
is told a value. `proposing` spells our spaces as Optuna does, and `telling` tells the study what becomes of its trials.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import jax

from jaxmlp._extras import optional
from jaxmlp._validation import unknown_name, whole_number
from jaxmlp.data import Encoding, Prepared
from jaxmlp.network import MLP
from jaxmlp.storage.files import to_json
from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.job import Data, Job, parts_of
from jaxmlp.sweep.metrics import REPORTED, is_better_high
from jaxmlp.sweep.planning import Plan
from jaxmlp.sweep.progress import Progress, Reporter
from jaxmlp.sweep.proposing import Axes
from jaxmlp.sweep.results import Results
from jaxmlp.sweep.rungs import Sweep, Watcher, run_rungs
from jaxmlp.sweep.running import checked_trials, identity_of, planner
from jaxmlp.sweep.space import Distribution, Trial, trials
from jaxmlp.sweep.store import Store, difference
from jaxmlp.sweep.telling import DIVERGED, Tally, Telling, interrupt
from jaxmlp.training.boundary import check_training
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.examples import is_classification

if TYPE_CHECKING:
    import optuna

__all__ = ["optimize"]

_IDENTITY = "jaxmlp"  # an attribute of the study


def optimize(
    study: "optuna.Study",
    space: Mapping[str, Distribution | Iterable[Any]],
    data: Data | Prepared,
    config: TrainConfig | None = None,
    *,
    n_trials: int,
    validation: Data | None = None,
    test: Data | None = None,
    batch: int = 64,
    metric: str | None = None,
    mlp: MLP | None = None,
    halving: Halving | int | None = None,
    encoding: Encoding | None = None,
    about: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    lanes: int | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Results:
    """Let an Optuna study choose settings in batches, and train the networks of each batch side by side.

    The study is asked for `batch` trials before it is told any of their values. So its sampler chooses by fewer values
    than in Optuna's own loop, but the networks of a batch train as a sweep does: those of the same sizes share one
    program, which is compiled once for all batches.

    A trial's value is the metric on the validation data; with several seeds, the mean. Its intermediate values are the
    metric after each epoch, counted from 1. What the study gets to know of a trial:

    - COMPLETE: it trained to its end, or until its patience ran out.
    - PRUNED: the study's pruner stopped it, or `halving` did. Note that Optuna's default is a `MedianPruner`; a study
      with `optuna.pruners.NopPruner()` stops none.
    - FAIL: it diverged, or its values exclude each other. There is no value, and the trial's user attribute `failure`
      says why. Such trials count, too.

    Scores on the test data are user attributes of the trials (`test_loss` and `test_accuracy` or `test_r2`). Nothing
    depends on them.

    Call it again with the same arguments, perhaps a larger `n_trials`, to continue a study from Optuna's storage.
    Trials that wait because of `study.enqueue_trial` come first. Trials that were interrupted, by Ctrl-C or because the
    process was killed, become FAIL and do not count; their settings wait to be asked again. So only one process at a
    time may work on a study. Every value of a curve is a write of its own: of the storages on disk, Optuna's
    `JournalStorage` takes them quicker than SQLite.

    Parameters
    ----------
    study
        A study with one objective. Its direction must suit the metric.
    space
        Names and values as `random` takes them: distributions (`uniform`, `log_uniform`, `integers`), and lists, which
        become categorical. Optuna keeps tuples as words: `hidden=(64, 32)` is "64:32", and `()` is "none". With
        `seed=range(4)` every setting is trained with four seeds.
    data, config, mlp, test, encoding, about, devices, memory, lanes
        See `run`.
    n_trials
        How many trials the study shall have in all.
    validation
        The data to choose by.
    batch
        How many trials to ask for at a time.
    metric
        "validation_loss", "validation_accuracy" or "validation_r2". If None: the loss if the study minimizes, else
        the accuracy for classes, R2 for real values.
    halving
        Stop the worse trials of a batch early, in place of the study's pruner; for a single seed.
    callback
        Called with the `Progress` of the whole study after every epoch, and when trials have ended. If it raises
        `StopSweep`, trials that still run are interrupted, and the best of all others is returned.

    Returns
    -------
    Results
        The sweep of the best trial alone, which is trained again: with several seeds it has a trial for each.
        `results.best()` has its values and its test, `results.model(0)` is its model. All other trials are in `study`.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, raised before any trial is asked; or if the study has no complete trial in the end.
    ModuleNotFoundError
        If Optuna is not installed.

    Examples
    --------
    >>> import optuna
    >>> from jaxmlp import Dataset, sweep
    >>> _ = optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> data = Dataset([[0.0, 1.0], [1.0, 0.0]] * 16, [0, 1] * 16)
    >>> study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    >>> space = {"learning_rate": sweep.log_uniform(1e-3, 1), "hidden": [(), (4,)]}
    >>> results = sweep.optimize(study, space, data, n_trials=8, batch=4, validation=data)
    >>> len(study.trials), study.best_value, results.best().mean
    (8, 1.0, 1.0)
    """
    optuna = optional("optuna", "optuna")
    n_trials, batch = whole_number("n_trials", n_trials, 1), whole_number("batch", batch, 1)
    if not isinstance(study, optuna.Study):
        example = "optuna.create_study(direction='maximize')"
        raise TypeError(f"study must be a study of Optuna, as {example}, got {type(study).__name__}")
    parts, encoding = parts_of(data, validation, test, encoding)
    axes, config = Axes.of(space), config or TrainConfig()
    if parts.validation is None:
        raise TypeError("validation must be a Dataset, which the study chooses by, got None")
    data, validation, test = parts
    try:
        ends, base = checked_trials(axes.ends(), parts, config, mlp)
    except ValueError as error:  # its cause names no trial: these are none of the study
        raise ValueError(str(error.__cause__ or error)) from error
    halving = halving if halving is None or isinstance(halving, Halving) else Halving(halving)
    _check_halving(halving, axes, ends)
    metric = _metric(study, metric, is_classification(base, data.t))
    identity = identity_of(axes.ends(), parts, config, base, None, encoding, about) | {"metric": metric}
    planned = planner(parts, devices, memory=memory, lanes=lanes, room=min(batch, n_trials) * axes.n_seeds)
    planned(ends)  # refuses too little memory
    _check_same(study, identity, axes)
    job = Job.of(ends, parts, planned.keywords["workers"])
    fits = cache(
        lambda mlp, batch_size: check_training(mlp, data, TrainConfig(batch_size=batch_size), validation, test)
    )
    networks = _Networks(axes, base, config, metric, planned, job, fits)
    interrupt(study)
    tally = Tally(study, n_trials, metric, callback)
    try:
        while not tally.is_stopped and (n := n_trials - tally.done) > 0:
            _train_batch(networks, tally, min(batch, n), halving)
        return _best(study, networks, identity)
    except KeyboardInterrupt as error:
        done = f"{tally.done} of {n_trials} trials are done; repeat the call to continue"
        raise KeyboardInterrupt(done) from error
    finally:
        interrupt(study)


def _check_halving(halving: Halving | None, axes: Axes, ends: Sequence[Trial]) -> None:
    if halving is not None and axes.n_seeds > 1:
        raise ValueError("halving compares single networks, but the space has several seeds: leave one out")
    if halving is not None and len({trial.config.epochs for trial in ends}) > 1:
        raise ValueError("halving compares trials after the same epochs, but epochs varies in this space")


def _metric(study: "optuna.Study", metric: str | None, is_classes: bool) -> str:
    """Return the metric, checked against the study's direction."""
    if len(study.directions) > 1:
        raise ValueError(f"study must have one objective, got {len(study.directions)}")
    known = {"minimize": "validation_loss", "maximize": "validation_accuracy" if is_classes else "validation_r2"}
    direction = study.direction.name.lower()
    if metric is None:
        return known[direction]
    if metric in REPORTED:
        raise ValueError(f"{metric} is for reporting: choose by validation_{metric.removeprefix('test_')}")
    if metric not in known.values():
        raise ValueError(unknown_name("metric", metric, known.values()))
    wanted = "maximize" if is_better_high(metric) else "minimize"
    if direction != wanted:
        raise ValueError(f"{metric} needs a study that is created with direction={wanted!r}, got one to {direction}")
    return metric


def _check_same(study: "optuna.Study", identity: Mapping[str, Any], axes: Axes) -> None:
    """Check that the study was begun with the same arguments: other values would not compare with these."""
    given = {"names": tuple(axes.axes), "axes": axes.to_json(), "seeds": axes.seeds}
    given |= {name: identity[name] for name in ("data", "validation", "test", "mlp", "dtype", "metric")}
    given["config"] = {name: value for name, value in identity["config"].items() if name not in axes.axes}
    given = json.loads(to_json(given))
    if (saved := study.user_attrs.get(_IDENTITY)) is None:
        study.set_user_attr(_IDENTITY, given)
        return
    for name, value in given.items():
        if saved.get(name) != value:
            raise ValueError(f"{study.study_name}: {difference(name, saved.get(name), value, 'study')}")


@dataclass(frozen=True)
class _Networks:
    """What the networks of all batches have in common."""

    axes: Axes
    base: MLP
    config: TrainConfig
    metric: str
    planned: Callable[[Sequence[Trial]], Plan]
    job: Job  # its trials are replaced by those to train
    fits: Callable[[MLP, int], None]  # raises a ValueError if the data do not fit a network and a batch size

    def of(self, settings: Iterable[Sequence[Any]]) -> list[Trial]:
        """Return the networks of some settings, each with every seed."""
        return trials(self.axes.space(settings), self.base, self.config)

    def check(self, setting: Sequence[Any]) -> None:
        """Raise a ValueError if a setting cannot be trained, as its values may exclude each other."""
        try:
            listed = self.of([setting])
        except ValueError as error:  # its cause does not name a trial, which has no number yet
            raise ValueError(str(error.__cause__)) from error
        self.fits(listed[0].mlp, listed[0].config.batch_size)
        self.planned(listed)

    def train(self, listed: Sequence[Trial], store: Store, watcher: Watcher, **options: Any) -> None:
        """Train networks side by side."""
        keys = {seed: jax.random.key(seed) for seed in {trial.seed for trial in listed}}
        job = self.job._replace(trials={trial.number: trial for trial in listed}, keys=keys)
        run_rungs(Sweep(job, store, self.metric, make_plan=self.planned, reporter=watcher, **options))


def _train_batch(networks: _Networks, tally: Tally, n: int, halving: Halving | None) -> None:
    """Ask for n trials, train those that can be trained, and tell what became of all."""
    asked = _ask(networks, tally, n)
    if not asked:
        return
    listed = networks.of([setting for _, setting in asked])
    store, nop = Store.create(None, {}), optional("optuna", "optuna").pruners.NopPruner
    prunes = halving is None and not isinstance(tally.study.pruner, nop)
    telling = Telling(tally, [trial for trial, _ in asked], listed, store, prunes)
    networks.train(listed, store, telling, keep=0, halving=halving)
    telling.tell_ended()  # those that a callback stopped at a rung


def _ask(networks: _Networks, tally: Tally, n: int) -> list[tuple["optuna.Trial", tuple[Any, ...]]]:
    """Return n trials with their settings, but for those that cannot be trained: they fail."""
    study, states = tally.study, optional("optuna", "optuna").trial.TrialState
    queued = {each.number for each in study.get_trials(deepcopy=False, states=(states.WAITING,))}
    asked = []
    for _ in range(n):
        trial = study.ask()
        if (fault := _fault(networks, trial, is_queued=trial.number in queued)) is None:
            asked.append((trial, networks.axes.setting(trial.params)))
        else:
            warnings.warn(f"trial {trial.number} of the study fails: {fault}", RuntimeWarning, stacklevel=4)
            tally.tell(trial, None, states.FAIL, fault)
    return asked


def _fault(networks: _Networks, trial: "optuna.Trial", *, is_queued: bool) -> str | None:
    """Ask for a trial's parameters, and return why it cannot be trained with them, None if it can."""
    try:
        networks.axes.suggest(trial)
    except ValueError as error:
        if not is_queued:  # something is wrong with all trials, not with what this one was queued with
            raise
        return str(error)
    try:
        networks.check(networks.axes.setting(trial.params))
    except ValueError as error:
        return str(error)
    return None


def _best(study: "optuna.Study", networks: _Networks, identity: Mapping[str, Any]) -> Results:
    """Train the best trial again, and return it as a sweep."""
    try:
        best = study.best_trial
    except ValueError as error:
        raise ValueError(_why_none(study)) from error
    try:
        setting = networks.axes.setting(best.params)
    except KeyError as error:
        raise ValueError(f"trial {best.number}, the best of the study, is not of this space: {best.params}") from error
    listed, space = networks.of([setting]), networks.axes.space([setting])
    store = Store.create(None, {**identity, "names": space.names, "rows": space.rows})
    silent = Reporter(store, dict(enumerate(listed)), networks.metric, None, None)
    networks.train(listed, store, silent, keep="all", halving=None)
    return Results(store, listed)


def _why_none(study: "optuna.Study") -> str:
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    if ended and all(trial.user_attrs.get("failure") == DIVERGED for trial in ended):
        return f"every trial of the study ({len(ended)}) diverged: try lower learning rates, or scale the inputs"
    return f"none of the study's {len(ended)} trials is complete"
