"""Layers as arrays by name, in safetensors files whose header has everything else as JSON; nothing is pickled."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxmlp.network import MLP, Layer, Params
from jaxmlp.storage.files import to_json, write_whole

__all__ = ["Tensors", "layers", "name_layers", "read", "reason", "write"]

Tensors: TypeAlias = dict[str, np.ndarray]
_KEY, _VERSION = "jaxmlp", 1


def name_layers(prefix: str, layers: Params) -> Tensors:
    """Return the arrays of layers by their names in a file, `<prefix>.<l>.w` and `<prefix>.<l>.b`."""
    return {
        f"{prefix}.{number}.{name}": np.ascontiguousarray(array)
        for number, layer in enumerate(layers)
        for name, array in layer._asdict().items()
    }


def layers(tensors: Tensors, prefix: str, mlp: MLP, n_networks: tuple[int, ...] = ()) -> Params:
    """Return the layers that `name_layers` named; a KeyError or ValueError says what does not fit the network."""
    found = []
    for number, (n_in, n_out) in enumerate(pairwise(mlp.sizes)):
        w, b = (tensors[f"{prefix}.{number}.{name}"] for name in ("w", "b"))
        if (w.shape, b.shape) != ((*n_networks, n_out, n_in), (*n_networks, n_out)):
            raise ValueError(f"{prefix}.{number} has shapes {w.shape} and {b.shape}, expected sizes {mlp.sizes}")
        found.append(Layer(jnp.asarray(w), jnp.asarray(b)))
    return tuple(found)


def write(path: Path, tensors: Tensors, header: dict[str, Any], *, is_secret: bool = False) -> None:
    """Write arrays, and a header of JSON values, whole or not at all; a secret file is readable by its owner alone."""
    try:
        metadata = {_KEY: to_json({"version": _VERSION, **header})}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be written as JSON: {reason(error)}") from error
    write_whole(path, safetensors.numpy.save(tensors, metadata), is_secret=is_secret)


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the arrays and the header that `write` wrote; raise the errors of `jaxmlp.load`."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected a model saved by jaxmlp")
    if path.is_dir():
        raise ValueError(f"{path}: a folder, expected a file such as {path / 'model.safetensors'}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path}: not a safetensors file: {reason(error)}") from error
    try:
        header = json.loads(metadata[_KEY])
        version = header["version"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: a safetensors file, but not a model saved by jaxmlp") from error
    if version != _VERSION:
        raise ValueError(f"{path}: a jaxmlp model of format {version!r}, expected {_VERSION}; upgrade jaxmlp")
    return tensors, header


def reason(error: Exception) -> str:
    """Return an error's message in one line."""
    missing = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
    return " ".join(missing.split())
