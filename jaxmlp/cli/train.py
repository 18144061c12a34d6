"""`jaxmlp train`: from a source of data to a run folder with a trained network."""

import shlex
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import jax

from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.cache import keep_compiled_programs
from jaxmlp.cli.display import score, show, table, training_display
from jaxmlp.cli.preparation import config_of, network_of, read_material, typed
from jaxmlp.data import Encoding, Prepared
from jaxmlp.network import MLP
from jaxmlp.storage.run_folder import Run, new_folder, read_config, start_run
from jaxmlp.training.boundary import check_training
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import Trained, divergence
from jaxmlp.training.loop import train

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Train, and say how it went; everything is checked before the run folder is made."""
    folder = Path(arguments.out) if hasattr(arguments, "out") else None
    if arguments.resume and folder is None:
        raise ValueError("--resume goes on with the run in --out DIR, which was not given")
    saved = None if folder is None else read_config(folder, arguments.resume)
    if arguments.resume and saved is None and not (arguments.quiet or arguments.json):
        print(f"{folder}: nothing to resume yet, a new run begins", file=sys.stderr)
    options = _options(arguments, saved, folder)
    is_new_batch = "batch_size" not in vars(arguments) and saved is None
    material = read_material(arguments.source, options, fit_batch=is_new_batch)
    prepared, about = material
    mlp, config = network_of(material, about["options"]), config_of(about["options"])
    check_training(mlp, prepared.train, config, prepared.test)
    if saved is not None and saved["data"] != about["data"]:
        raise ValueError(f"{folder}: these are not the data that the run was started with")
    folder = folder or new_folder(Path("runs"), Path(arguments.source).stem or "run")
    opened = start_run(folder, {"source": arguments.source, "options": about["options"], "data": about["data"]}, mlp)
    return _train(arguments, opened, mlp, config, prepared, about)


def _options(arguments: Namespace, saved: dict[str, Any] | None, folder: Path | None) -> dict[str, Any]:
    """Return every option's value: as typed, else as the resumed run has it, else the default."""
    given = {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS}
    if saved is None:
        return TRAIN_DEFAULTS | given
    options = TRAIN_DEFAULTS | saved["options"]
    for name, default in TRAIN_DEFAULTS.items():
        if not _is_like(options[name], default):
            raise ValueError(f"{folder}/config.json: {name} cannot be {options[name]!r}")
    for name, value in given.items():
        is_same = set(value) == set(options[name]) if name == "track" else value == options[name]
        if not is_same:
            option = f"--{name.replace('_', '-')}"
            began = f"without {option}" if options[name] in (None, []) else f"with {option} {typed(options[name])}"
            raise ValueError(f"{folder}: the run was started {began}, got {typed(value)}")
    return options


def _is_like(value: Any, default: Any) -> bool:
    """Tell whether a saved option is of its default's type; what has no default is a name or a count."""
    match default:
        case list():
            kind = type(default[0]) if default else str
            return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)
        case None:
            return value is None or isinstance(value, str | int | float)
        case float():
            return isinstance(value, float | int)
    return isinstance(value, type(default))


def _train(
    arguments: Namespace, opened: Run, mlp: MLP, config: TrainConfig, prepared: Prepared, about: dict[str, Any]
) -> int:
    keep_compiled_programs(arguments)
    key = jax.random.key(about["options"]["seed"])
    done = len(opened.latest.history) if opened.latest else 0
    try:
        with training_display(arguments, config.epochs, done, len(prepared.train)) as display:

            def callback(trained: Trained) -> None:
                opened.save_checkpoint(trained)
                display(trained)

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # divergence is reported below
                trained = train(
                    mlp,
                    prepared.train,
                    config,
                    key=key,
                    test=prepared.test,
                    callback=callback,
                    resume=opened.latest,
                )
        return _finish(arguments, opened, mlp, prepared.encoding, trained, about)
    except KeyboardInterrupt:
        opened.flush()
        epochs = len(opened.latest.history) if opened.latest else 0
        again = shlex.join(["jaxmlp", "train", arguments.source, "--out", str(opened.folder), "--resume"])
        print(f"interrupted after epoch {epochs}; go on with: {again}", file=sys.stderr)
        return 130


def _finish(
    arguments: Namespace, opened: Run, mlp: MLP, encoding: Encoding, trained: Trained, about: dict[str, Any]
) -> int:
    results = _results(mlp, trained)
    opened.latest = trained
    name = Path(about["source"]).stem
    title = f"{name}: {'-'.join(map(str, mlp.sizes))}, {', '.join(sorted(set(mlp.activations[:-1])))}"
    opened.finish(mlp, encoding, about | {"results": results}, title.rstrip(", "))
    values = results | {"seconds": sum(row.seconds for row in trained.history), "out": str(opened.folder)}
    show(arguments, values, table(values))
    if trained.status == "diverged":
        print(f"jaxmlp train: {divergence(trained)}", file=sys.stderr)
        return 1
    return 0


def _results(mlp: MLP, trained: Trained) -> dict[str, Any]:
    """Return the numbers of the epoch whose parameters are kept; without times, so that they can be compared."""
    row = trained.history[max(trained.best_epoch, 1) - 1]
    values: dict[str, Any] = {"train_loss": row.train_loss, "test_loss": row.test_loss}
    if (scored := score(row)) is not None:
        values[scored[0]] = scored[1]
    values |= {name: value for name, value in row.tracked().items() if value is not None}
    return values | {"epochs": len(trained.history), "parameters": mlp.n_parameters, "status": trained.status}
