"""`jaxmlp train --private`: train a network with differential privacy, and keep the guarantee with the model."""

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import jax

from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.output import scores, show, table
from jaxmlp.cli.progress import private_progress
from jaxmlp.cli.startup import keep_compiled_programs, note, say
from jaxmlp.cli.training_setup import Material, config_of, network_of, read_material, show_data
from jaxmlp.data import Columns
from jaxmlp.network import Network
from jaxmlp.private import Privacy, Trained, train
from jaxmlp.storage.checkpoint import save
from jaxmlp.storage.run_folder import new_folder, read_config

__all__ = ["OPTIONS", "train_privately"]

OPTIONS = ("epsilon", "delta", "noise_multiplier")
_REFUSED = {
    "tune": "each trial would spend epsilon anew",
    "resume": "a private run is not kept while it trains; run it again",
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
    folder = Path(arguments.out) if "out" in arguments else None
    if folder is not None:
        read_config(folder, resume=False)  # refuses what is no new or empty folder, before epsilon is spent
    given = {name: value for name, value in vars(arguments).items() if name in TRAIN_DEFAULTS}
    asked = {name: getattr(arguments, name) for name in (*OPTIONS, "clip") if name in arguments}
    privacy = Privacy(**asked)
    options = TRAIN_DEFAULTS | given | {"clip": None}
    material = read_material(arguments.source, options, given=given, is_private=True)
    options = material.about["options"]
    mlp, config, key = network_of(material, options), config_of(options), jax.random.key(options["seed"])
    keep_compiled_programs(arguments)
    show_data(arguments, material)
    for line in _outside(material):
        note(arguments, f"outside of the guarantee: {line}")
    parts, began = material.prepared, time.perf_counter()
    try:
        with private_progress(arguments, config.epochs) as callback:
            watched: dict[str, Any] = {"validation": parts.validation, "test": parts.test, "callback": callback}
            trained = train(mlp, parts.train, privacy, config, key=key, **watched)
    except KeyboardInterrupt:
        say("interrupted: nothing is kept, and nothing was published but what this screen showed")
        return 130
    folder = folder or new_folder(Path("runs"), Path(arguments.source).stem or "run")
    values = _results(trained) | {"parameters": mlp.n_parameters}
    about = material.about | {"results": values, "guarantee": trained.guarantee._asdict()}
    folder.mkdir(parents=True, exist_ok=True)
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
