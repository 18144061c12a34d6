"""`jaxmlp train --private`: train a network with differential privacy, and keep the guarantee with the model."""

import shlex
import time
from argparse import Namespace
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.output import scores, show, table
from jaxmlp.cli.progress import private_progress
from jaxmlp.cli.startup import keep_compiled_programs, note, say
from jaxmlp.cli.training_setup import (
    Material,
    check_same_data,
    check_same_options,
    config_of,
    held_out_fingerprint,
    network_of,
    open_folder,
    options_of_run,
    read_material,
    show_data,
)
from jaxmlp.data import Columns
from jaxmlp.network import MLP, Network
from jaxmlp.private import Privacy, Trained, check_private, mechanism_for, train
from jaxmlp.storage.checkpoint import save
from jaxmlp.storage.run_folder import new_folder, write_config
from jaxmlp.training.config import TrainConfig

__all__ = ["OPTIONS", "train_privately"]

OPTIONS = ("epsilon", "delta", "noise_multiplier")
_REFUSED = {
    "tune": "each trial would spend epsilon anew",
    "networks": "each network would spend epsilon anew",
    "patience": "it stops by the loss on examples, without noise",
    "track": "it shows statistics of examples, without noise",
    "class_weights": "it counts the examples of each class, without noise",
}


def train_privately(arguments: Namespace) -> int:
    """Train, print the result and the guarantee, and leave a run folder with the model."""
    for name, why in _REFUSED.items():
        if getattr(arguments, name, False) is not False:
            raise ValueError(f"--private: leave out --{name.replace('_', '-')}; {why}")
    folder, saved = open_folder(arguments)
    options, given, asked = _options(arguments, saved)
    privacy = Privacy(**asked)
    material = read_material(arguments.source, options, given=given, is_private=True)
    if saved is not None:
        check_same_data(folder, saved, material.about)
    parts, options = material.prepared, material.about["options"]
    mlp, config, key = network_of(material, options), config_of(options), jax.random.key(options["seed"])
    check_private(mlp, parts.train, privacy, config, parts.validation, parts.test, key)
    # Solved for before the folder is made: there may be no noise that is enough.
    sigma = saved["noise_multiplier"] if saved else mechanism_for(len(parts.train), privacy, config).noise_multiplier
    privacy = replace(privacy, epsilon=None, noise_multiplier=sigma)
    keep_compiled_programs(arguments)
    show_data(arguments, material)
    for line in _outside(material):
        note(arguments, f"outside of the guarantee: {line}")
    folder = folder or new_folder(Path("runs"), Path(arguments.source).stem or "run")
    began = {"source": arguments.source, "options": options, "data": material.about["data"]}
    write_config(folder, began | {"privacy": asked, "noise_multiplier": sigma})
    return _train(arguments, folder, mlp, privacy, config, material, key)


def _options(
    arguments: Namespace, saved: dict[str, Any] | None
) -> tuple[dict[str, Any], Collection[str], dict[str, Any]]:
    """Return the value of each option, the names that are given, and what is promised: the resumed run's, if any."""
    given = {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS and name != "clip"}
    asked = {name: getattr(arguments, name) for name in (*OPTIONS, "clip") if name in arguments}
    if saved is None:
        return TRAIN_DEFAULTS | given, given, asked
    if "privacy" not in saved:
        raise ValueError(f"{arguments.out}: the run began without --private; leave it out, or choose another --out")
    options = options_of_run(arguments.out, saved)
    check_same_options(f"{arguments.out}: the run began", options, given)
    check_same_options(f"{arguments.out}: the run began", saved["privacy"], asked)
    return options, options, saved["privacy"]


def _train(
    arguments: Namespace,
    folder: Path,
    mlp: MLP,
    privacy: Privacy,
    config: TrainConfig,
    material: Material,
    key: jax.Array,
) -> int:
    parts, began, seen = material.prepared, time.perf_counter(), list[Trained]()
    try:
        with private_progress(arguments, config.epochs) as show_epoch:

            def callback(trained: Trained) -> None:
                seen[:] = [trained]
                show_epoch(trained)

            watched: dict[str, Any] = {"validation": parts.validation, "test": parts.test, "callback": callback}
            kept = folder / "checkpoint.safetensors"
            trained = train(mlp, parts.train, privacy, config, key=key, checkpoint=kept, **watched)
    except KeyboardInterrupt:
        again = shlex.join(["jaxmlp", "train", arguments.source, "--private", "--out", str(folder), "--resume"])
        after = f" after epoch {len(seen[0].history)}, epsilon {seen[0].guarantee.epsilon:.3g}" if seen else ""
        say(f"interrupted{after}; continue with: {again}")
        return 130
    values = _results(trained) | {"parameters": mlp.n_parameters}
    # The fingerprint of the data would tell of training examples; evaluation finds the test part by its own.
    about = {name: value for name, value in material.about.items() if name != "data"}
    about |= {"held_out": held_out_fingerprint(material), "results": values, "guarantee": trained.guarantee._asdict()}
    save(folder / "model.safetensors", Network(mlp, trained.params), encoding=parts.encoding, about=about)
    values |= {"seconds": time.perf_counter() - began, "out": str(folder)}
    if arguments.json:
        show(arguments, values | {"guarantee": trained.guarantee._asdict()})
    else:
        show(arguments, values, table(values), "", str(trained.guarantee))
    return 0


def _outside(material: Material) -> list[str]:
    """Return what was learned from training examples without noise."""
    encoding, found = material.prepared.encoding, []
    if encoding.class_names is not None:
        found.append("the names of the classes, taken as public")
    if isinstance(encoding.inputs, Columns):
        found.append("the encoding of the columns, learned from the training examples")
    elif (scaling := material.about["options"]["scaling"]) not in ("bytes", "none"):
        found.append(
            f"the {scaling} scaling, learned from the training examples (--scaling bytes or none learn nothing)"
        )
    if encoding.targets is not None:
        found.append("the scale of the targets, learned from the training examples")
    if material.prepared.validation is not None:
        found.append("what is measured on validation examples")
    return found


def _results(trained: Trained) -> dict[str, Any]:
    validation, guarantee = trained.history[-1].validation, trained.guarantee
    values = {"epsilon": guarantee.epsilon, "delta": guarantee.delta}
    values |= scores("validation", validation) if validation else {}
    return values | scores("test", trained.test) | {"epochs": len(trained.history)}
