"""`jaxmlp info`: show the layers of a trained network, and how it was trained."""

from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from rich.table import Table

from jaxmlp.cli.argument_types import as_typed
from jaxmlp.cli.output import columns_table, grid, show, table, why_lost
from jaxmlp.cli.saved_model import find_model
from jaxmlp.data import Columns
from jaxmlp.network import MLP
from jaxmlp.private import Guarantee
from jaxmlp.storage.checkpoint import Model

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Print layers, parameters, activations, scaling, classes, and how the network was trained."""
    model = find_model(arguments.model)
    values = {
        "networks": [asdict(network.mlp) for network in model.networks],
        "parameters": _n_parameters(model),
        "encoding": model.encoding and model.encoding.to_json(),
        "about": model.about,
    }
    counts = Counter(network.mlp for network in model.networks)
    layers = [_layers(mlp, f"{n} of the networks" if len(counts) > 1 else None) for mlp, n in counts.items()]
    encoding = model.encoding
    columns = [columns_table(encoding.inputs)] if encoding and isinstance(encoding.inputs, Columns) else []
    show(arguments, values, *layers, table(_summary(model)), *columns, _training(model), *_promised(model))
    return 0


def _promised(model: Model) -> list[str]:
    """Return the guarantee of private training in words; what else a user keeps under this name is not one."""
    kept = model.about.get("guarantee")
    if not isinstance(kept, dict) or kept.keys() != set(Guarantee._fields):
        return []
    return ["", str(Guarantee(**kept))]


def _n_parameters(model: Model) -> int:
    return sum(network.mlp.n_parameters for network in model.networks)


def _layers(mlp: MLP, title: str | None) -> Table:
    printed = grid(dict.fromkeys(("layer", "inputs", "outputs", "activation", "parameters"), False), title)
    for number, (sizes, activation) in enumerate(zip(pairwise(mlp.sizes), mlp.activations, strict=True), start=1):
        n_in, n_out = sizes
        printed.add_row(str(number), str(n_in), str(n_out), activation, f"{n_out * (n_in + 1):,}")
    return printed


def _summary(model: Model) -> dict[str, Any]:
    several = {"networks": len(model.networks)} if len(model.networks) > 1 else {}
    values = several | {"loss": model.networks[0].mlp.loss, "parameters": f"{_n_parameters(model):,}"}
    encoding = model.encoding
    if encoding is None:
        return values | {"inputs": "not scaled"}
    if isinstance(encoding.inputs, Columns):
        columns = "1 column" if encoding.feature_count == 1 else f"{encoding.feature_count} columns"
        values["inputs"] = f"{encoding.n_inputs}, from {columns}"
    else:
        shared = "one factor for all" if encoding.inputs.factor.size < encoding.feature_count else "one factor for each"
        values["inputs"] = f"{encoding.feature_count}, scaled by {shared}"
    if encoding.feature_names:
        values["features"] = _some(encoding.feature_names)
    if encoding.class_names is None:
        values["targets"] = "real values"
    else:
        values["classes"] = _some(encoding.class_names)
    return values


def _some(names: tuple[str, ...], limit: int = 12) -> str:
    more = [f"... ({len(names) - limit} more)"] if len(names) > limit else []
    return ", ".join([*names[:limit], *more])


def _training(model: Model) -> Table:
    about = model.about
    values = {name: about[name] for name in ("source", "target") if about.get(name)}
    options = about.get("options", {})
    shown = {name: value for name, value in options.items() if value is not None and (value != [] or name == "hidden")}
    values |= {name: as_typed(value) for name, value in shown.items()}
    results = {name: value for name, value in about.get("results", {}).items() if name != "parameters"}
    return table(values | results | why_lost(results), title="trained with")
