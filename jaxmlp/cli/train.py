"""`jaxmlp train`: train a network on a source of data, and leave a run folder."""

import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp._validation import whole_number
from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.output import scores, show, table, why_lost
from jaxmlp.cli.private import OPTIONS, train_privately
from jaxmlp.cli.progress import training_progress
from jaxmlp.cli.startup import keep_compiled_programs, note, say
from jaxmlp.cli.training_setup import (
    Material,
    check_same_data,
    check_same_options,
    config_of,
    network_of,
    open_folder,
    options_of_run,
    read_material,
    show_data,
)
from jaxmlp.cli.tuning import tune
from jaxmlp.network import MLP
from jaxmlp.plots.training import curves
from jaxmlp.storage.run_folder import Run, new_folder, start_run
from jaxmlp.training.boundary import check_key, check_training
from jaxmlp.training.config import TRACKED, TrainConfig
from jaxmlp.training.history import Trained, divergence
from jaxmlp.training.loop import train

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Train and print the result; everything is checked before the run folder is made."""
    if arguments.private:
        return train_privately(arguments)
    for name in OPTIONS:
        if name in arguments:
            raise ValueError(f"--{name.replace('_', '-')} is for private training: add --private")
    if "tune" in arguments:
        return tune(arguments)
    folder, saved = open_folder(arguments)
    if saved is not None and "privacy" in saved:
        raise ValueError(f"{folder}: the run began with --private; continue it with --private, or choose another --out")
    whole_number("--networks", getattr(arguments, "networks", 1), 1)
    options = _options(arguments, saved, folder)
    given = vars(arguments) if saved is None else options
    material = read_material(arguments.source, options, given=given, chooses=options["patience"] is not None)
    prepared, about = material.prepared, material.about
    mlp, config = network_of(material, about["options"]), config_of(about["options"])
    check_training(mlp, prepared.train, config, prepared.validation, prepared.test)
    if saved is not None:
        check_same_data(folder, saved, about)
    keep_compiled_programs(arguments)
    key = _key(about["options"])  # before the folder is made: fails without a device
    check_key(key, config)
    show_data(arguments, material)
    folder = folder or new_folder(Path("runs"), Path(arguments.source).stem or "run")
    opened = start_run(folder, {"source": arguments.source, "options": about["options"], "data": about["data"]}, mlp)
    return _train(arguments, opened, mlp, config, material, key)


def _options(arguments: Namespace, saved: dict[str, Any] | None, folder: Path | None) -> dict[str, Any]:
    """Return the value of each option: the typed one, else the resumed run's, else the default."""
    given = {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS}
    if saved is None:
        return TRAIN_DEFAULTS | given
    options = options_of_run(folder, saved)
    epochs = given.get("epochs", 0)
    if epochs > options["epochs"]:
        if options["schedule"] == "cosine":
            after = f"--epochs {epochs}, {options['epochs']} before"
            note(arguments, f"{after}: the learning rate goes on as in a cosine schedule of {epochs}, larger at first")
        options["epochs"] = epochs
    check_same_options(f"{folder}: the run began", options, given)
    return options


def _key(options: dict[str, Any]) -> Array:
    """Return the key of the seed; of several networks those of the seeds that follow it, as of trials of a sweep."""
    keys = [jax.random.key(options["seed"] + number) for number in range(options["networks"])]
    return keys[0] if len(keys) == 1 else jnp.stack(keys)


def _train(arguments: Namespace, opened: Run, mlp: MLP, config: TrainConfig, material: Material, key: Array) -> int:
    parts = material.prepared
    done = len(opened.latest.history) if opened.latest else 0
    try:
        with training_progress(arguments, config.epochs, done, len(parts.train)) as show_epoch:

            def callback(trained: Trained) -> None:
                opened.save_checkpoint(trained)
                show_epoch(trained)

            keywords: dict[str, Any] = {"validation": parts.validation, "test": parts.test, "resume": opened.latest}
            trained = train(mlp, parts.train, config, key=key, callback=callback, **keywords)
        return _finish(arguments, opened, mlp, config, material, trained)
    except KeyboardInterrupt:
        opened.flush()
        epochs = len(opened.latest.history) if opened.latest else 0
        again = shlex.join(["jaxmlp", "train", arguments.source, "--out", str(opened.folder), "--resume"])
        say(f"interrupted after epoch {epochs}; continue with: {again}")
        return 130


def _finish(
    arguments: Namespace, opened: Run, mlp: MLP, config: TrainConfig, material: Material, trained: Trained
) -> int:
    opened.latest = trained
    name = Path(material.about["source"]).stem
    n_networks = material.about["options"]["networks"]
    results = _results(mlp, config, trained, n_networks)
    of_many = f"{n_networks} x " if n_networks > 1 else ""
    title = f"{name}: {of_many}{'-'.join(map(str, mlp.sizes))}, {', '.join(sorted(set(mlp.activations[:-1])))}"
    best_epoch = trained.best_epoch if trained.best_epoch != len(trained.history) else None
    picture = curves(trained.history, title.rstrip(", "), best_epoch)
    opened.finish(mlp, material.prepared.encoding, material.about | {"results": results}, picture)
    values = results | {"seconds": sum(row.seconds for row in trained.history), "out": str(opened.folder)}
    show(arguments, values, table(values | why_lost(results)))
    if trained.status == "diverged":
        say(f"jaxmlp train: {divergence(trained)}")
        return 1
    return 0


def _results(mlp: MLP, config: TrainConfig, trained: Trained, n_networks: int) -> dict[str, Any]:
    """Return the numbers of the parameters that are kept; no times, so that runs can be compared."""
    row = trained.history[max(trained.best_epoch, 1) - 1]
    values: dict[str, Any] = {"train_loss": row.train_loss}
    values |= scores("validation", row) | scores("test", trained.test)
    values |= {column: getattr(row, column) for name in config.track for column in TRACKED[name]}
    return values | {
        "epochs": len(trained.history),
        "parameters": n_networks * mlp.n_parameters,
        "status": trained.status,
    }
