"""From what was typed to what is trained: data, network and configuration; of a single run, and of a sweep's trials."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from jaxmlp._validation import unknown_name
from jaxmlp.data import Dataset, Prepared, Source, fingerprint, prepare, read
from jaxmlp.network import MLP
from jaxmlp.training.config import TrainConfig

__all__ = ["Material", "config_of", "network_of", "read_material", "typed"]


class Material(NamedTuple):
    """What a run is made of.

    Attributes
    ----------
    prepared
        The data, split and scaled.
    about
        What a saved model says of its training: source, target, data (a fingerprint), options.
    """

    prepared: Prepared
    about: dict[str, Any]


def read_material(source_name: str, options: Mapping[str, Any], *, fit_batch: bool) -> Material:
    """Read, split, scale and weigh the data; with `fit_batch` the batch is made no larger than they are."""
    source = read(source_name, target=options["target"], task=options["task"])
    prepared = prepare(source, scaling=options["scaling"], test_fraction=options["test_fraction"], seed=options["seed"])
    prepared = _weighted(prepared, options["class_weights"])
    if fit_batch:
        options = {**options, "batch_size": min(options["batch_size"], len(prepared.train))}
    about = {"source": source.name, "target": source.target, "data": _fingerprint(source), "options": dict(options)}
    return Material(prepared, about)


def config_of(options: Mapping[str, Any]) -> TrainConfig:
    """Return the numbers of a run."""
    return TrainConfig(**{field.name: options[field.name] for field in fields(TrainConfig)})


def network_of(material: Material, options: Mapping[str, Any]) -> MLP:
    """Return the network of a run: as typed, else as the data suggest."""
    data, encoding = material.prepared.train, material.prepared.encoding
    loss = options["loss"]
    if loss is None:
        loss = "quadratic" if encoding.class_names is None else "cross_entropy"
    if encoding.class_names is None:
        if loss != "quadratic":
            source = material.about["source"]
            raise ValueError(f"loss {loss!r} is for classes, but the targets of {source} are real values")
        output, n_out = "identity", data.t[0].size
    else:
        output, n_out = "softmax" if loss == "cross_entropy" else "sigmoid", len(encoding.class_names)
    activation = options["activation"]
    return MLP(
        (data.x.shape[1], *options["hidden"], n_out),
        activation[0] if len(activation) == 1 else tuple(activation),
        output if options["output"] is None else options["output"],
        loss,
    )


def typed(value: Any) -> str:
    """Write an option's value as it is typed."""
    return (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _weighted(prepared: Prepared, kind: str | None) -> Prepared:
    """Weigh the training examples; the test part is measured as it is."""
    if kind is None:
        return prepared
    if kind != "balanced":
        raise ValueError(unknown_name("class weights", kind, ["balanced"]))
    if prepared.encoding.class_names is None:
        raise ValueError("class weights are for classes, but the targets are real values")
    return prepared._replace(train=replace(prepared.train, weights="balanced"))


def _fingerprint(source: Source) -> str:
    parts = [(source.x, source.t), (source.x_test, source.t_test)]
    return "-".join(fingerprint(Dataset(x, t)) for x, t in parts if x is not None and t is not None)
