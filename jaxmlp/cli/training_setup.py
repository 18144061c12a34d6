"""From typed options to data, network and configuration; for a single run and for the trials of a sweep."""

import sys
from argparse import Namespace
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmlp._validation import unknown_name
from jaxmlp.cli.argument_types import as_typed
from jaxmlp.cli.arguments import TRAIN_DEFAULTS
from jaxmlp.cli.output import columns_table, rendered
from jaxmlp.cli.startup import note, say
from jaxmlp.data import Columns, Encoding, Prepared, Source, fingerprint, prepare, read, split
from jaxmlp.network import MLP
from jaxmlp.private import config_for
from jaxmlp.storage.run_folder import read_config
from jaxmlp.training.config import TABLE_HIDDEN, TABLE_NETWORKS, TrainConfig

__all__ = [
    "SPLITTING",
    "Material",
    "check_same_data",
    "check_same_options",
    "config_of",
    "fingerprint_of",
    "held_out_fingerprint",
    "network_of",
    "open_folder",
    "options_of_run",
    "read_material",
    "read_source",
    "show_data",
]

SPLITTING = ("test_fraction", "validation_fraction", "seed")
_PREPARING = ("scaling", "numbers", "categories", *SPLITTING)
_LISTS = ("track", "numbers", "categories", "drop", "features", "missing")  # typed with commas
_VALIDATION_FRACTION = 0.2
_MOST_COLUMNS = 20  # in the table that is shown when training begins


class Material(NamedTuple):
    """The data of a run, notes for its saved model (source, target, data: a fingerprint, options), lines to print."""

    source: Source
    prepared: Prepared
    about: dict[str, Any]
    notes: tuple[str, ...] = ()


def read_source(source_name: str, options: Mapping[str, Any], **others: Any) -> Source:
    """Read a source with the options that a run began with."""
    of_table = {name: options.get(name) or None for name in ("features", "missing", "separator")}
    return read(source_name, **{"task": options.get("task"), **of_table, **others})


def read_material(
    source_name: str,
    options: Mapping[str, Any],
    *,
    given: Collection[str],
    chooses: bool = False,
    is_private: bool = False,
) -> Material:
    """Read, split, scale and weight the data; options that were not `given` suit them, and private training.

    With `chooses` there is a validation part in any case.
    """
    if chooses and options["validation_fraction"] is None:
        options = {**options, "validation_fraction": _VALIDATION_FRACTION}
    source = read_source(source_name, options, target=options["target"], drop=options["drop"])
    if is_private and options["scaling"] is None and not source.is_table:
        options = {**options, "scaling": "bytes"}  # which learns nothing from examples
    prepared = prepare(source, **{name: options[name] for name in _PREPARING})
    prepared = _weighted(prepared, options["class_weights"])
    suited = _suited_to_table(len(prepared.train)) if source.is_table else {}
    if is_private:
        suited = {"activation": ["tanh"]} | _fields(config_for(len(prepared.train)))
    suited |= {"batch_size": min(suited.get("batch_size", options["batch_size"]), len(prepared.train))}
    suited = {name: value for name, value in suited.items() if name not in given}
    notes = source.notes
    if isinstance(columns := prepared.encoding.inputs, Columns):
        notes += columns.notes
    notes += _about_classes_not_trained(prepared)
    if options["track"] and (usual := suited.pop("networks", 1)) > 1:
        notes += (f"--track follows the gradients of one network: 1 is trained, not {usual}",)
    options = {**options, **suited}
    data = fingerprint_of(source, prepared.encoding)
    about = {"source": source.name, "target": source.target, "data": data, "options": dict(options)}
    return Material(source, prepared, about, notes)


def fingerprint_of(source: Source, encoding: Encoding) -> str:
    """Return the fingerprint of what a model with this encoding reads of a source."""
    return fingerprint(_as_read(source, encoding))


def held_out_fingerprint(material: Material) -> str:
    """Return the fingerprint of the test part, in which no training example has a trace."""
    options = material.about["options"]
    source = _as_read(material.source, material.prepared.encoding)
    return fingerprint(split(source, **{name: options[name] for name in SPLITTING}).test)


def _as_read(source: Source, encoding: Encoding) -> Source:
    return replace(source, x=source.x[list(encoding.feature_names)]) if source.is_table else source


def show_data(arguments: Namespace, material: Material) -> None:
    """Show what the columns of a table are taken for, on standard error as progress."""
    columns = material.prepared.encoding.inputs
    if isinstance(columns, Columns) and not (arguments.quiet or arguments.json):
        say(rendered(columns_table(columns, _MOST_COLUMNS), stream=sys.stderr))
    for line in material.notes:
        note(arguments, line)


def config_of(options: Mapping[str, Any]) -> TrainConfig:
    """Return the training configuration that the options give."""
    return TrainConfig(**{field.name: options[field.name] for field in fields(TrainConfig)})


def network_of(material: Material, options: Mapping[str, Any]) -> MLP:
    """Return the network that the options give; missing ones depend on the data."""
    data, encoding = material.prepared.train, material.prepared.encoding
    classes, loss = encoding.class_names, options["loss"]
    if classes is None and loss == "poisson":
        raise ValueError("loss 'poisson' is for counts as they are, but here real values are standardised: see Python")
    if classes is None and loss not in (None, "quadratic"):
        raise ValueError(f"loss {loss!r} is for classes, but the targets of {material.about['source']} are real values")
    loss = loss or ("quadratic" if classes is None else "cross_entropy")
    if classes is None:
        output, n_out = "identity", data.t[0].size
    else:
        output, n_out = "softmax" if loss == "cross_entropy" else "sigmoid", len(classes)
    activation = options["activation"]
    return MLP(
        (data.n_inputs, *options["hidden"], n_out),
        activation[0] if len(activation) == 1 else tuple(activation),
        output if options["output"] is None else options["output"],
        loss,
    )


def check_same_options(began: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `ValueError` if an option differs from what a run or a sweep began with; `began` starts the message."""
    for name, value in now.items():
        old = before.get(name)
        is_reordered = name == "track" and isinstance(old, list) and set(map(str, old)) == set(value)
        if value != old and not is_reordered:
            option = f"--{name.replace('_', '-')}"
            had = f"without {option}" if old in (None, [], False) else f"with {option} {_as_typed(name, old)}"
            raise ValueError(f"{began} {had}, got {_as_typed(name, value)}; keep the first, or choose another --out")


def open_folder(arguments: Namespace) -> tuple[Path | None, dict[str, Any] | None]:
    """Return the folder of --out, if any, and the configuration of the run in it that goes on, if any."""
    folder = Path(arguments.out) if "out" in arguments else None
    if arguments.resume and folder is None:
        raise ValueError("--resume requires --out DIR, the folder of the run")
    saved = None if folder is None else read_config(folder, arguments.resume)
    if arguments.resume and saved is None:
        note(arguments, f"{folder} holds no run to resume: a new one begins")
    return folder, saved


def options_of_run(folder: Path | None, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a run began with; `saved` is its config.json."""
    options = TRAIN_DEFAULTS | saved["options"]
    for name, default in TRAIN_DEFAULTS.items():
        if not _has_type_of(options[name], default):
            raise ValueError(f"{folder}/config.json: {name} cannot be {options[name]!r}; the file was changed")
    return options


def check_same_data(folder: Path | None, saved: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Raise `ValueError` if a run began with other data."""
    if saved["data"] != about["data"]:
        raise ValueError(f"{folder}: the run began with other data; use those, or choose another --out")


def _has_type_of(value: Any, default: Any) -> bool:
    """Tell whether a saved option has the type of its default; without a default it is a name or a number."""
    match default:
        case list():
            kind = type(default[0]) if default else str
            return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)
        case None:
            return value is None or isinstance(value, str | int | float)
        case float():
            return isinstance(value, float | int)
    return isinstance(value, type(default))


def _as_typed(name: str, value: Any) -> str:
    return ",".join(map(str, value)) if name in _LISTS else as_typed(value)


def _suited_to_table(n_examples: int) -> dict[str, Any]:
    config = TrainConfig.for_table(n_examples)
    return {"hidden": list(TABLE_HIDDEN), "networks": TABLE_NETWORKS} | _fields(config)


def _fields(config: TrainConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("epochs", "batch_size", "learning_rate", "weight_decay")}


def _about_classes_not_trained(prepared: Prepared) -> tuple[str, ...]:
    """Return a note about classes that only the test part of a source has, as an archive may."""
    names = prepared.encoding.class_names or ()
    if len(present := np.unique(prepared.train.t)) >= len(names):
        return ()
    absent = [name for place, name in enumerate(names) if place not in present]
    more = ", …" if len(absent) > 10 else ""
    return (f"classes without a training example: {', '.join(absent[:10])}{more}; in the test they count as wrong",)


def _weighted(prepared: Prepared, kind: str | None) -> Prepared:
    """Weight the training examples; those to validate and to test with keep equal weights."""
    if kind is None:
        return prepared
    if kind != "balanced":
        raise ValueError(unknown_name("class weights", kind, ["balanced"]))
    if prepared.encoding.class_names is None:
        raise ValueError("class weights are for classes, but the targets are real values")
    return prepared._replace(train=replace(prepared.train, weights="balanced"))
