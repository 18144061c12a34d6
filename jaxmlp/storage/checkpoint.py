"""Models and unfinished training runs as safetensors files: arrays by name, everything else as JSON in the header.

The arrays of layer l are `layers.<l>.w` and `layers.<l>.b`, l from 0; of several networks those of network k are
`networks.<k>.layers.<l>.w` and so on. The networks' configurations, the encoding and the class names are JSON under the
metadata key `jaxmlp`. Any language can read such a file without JAX; nothing in it is pickled.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmlp import sgd
from jaxmlp.data import Encoding
from jaxmlp.data.arrays import as_inputs, check_finite, check_range, column_names
from jaxmlp.network import MLP, Network, check_params
from jaxmlp.network import networks as networks_of
from jaxmlp.storage.tensors import Tensors, layers, name_layers, read, reason, write
from jaxmlp.training.evaluation import outputs
from jaxmlp.training.history import STATUSES, Epoch, Trained

__all__ = ["Model", "load", "load_training", "save", "save_training"]


@dataclass(frozen=True, eq=False)
class Model:
    """One or more trained networks together with the encoding that they need to predict from raw inputs.

    Their hidden layers may differ, but not their inputs, outputs and loss. The `encoding` encodes raw inputs for the
    networks, and decodes their outputs; it is None for networks trained on raw data. `about` holds notes on how they
    were trained, as JSON values; the program `jaxmlp` writes `source`, `target`, `options` and `results`.
    """

    networks: tuple[Network, ...]
    encoding: Encoding | None
    about: dict[str, Any]

    def predict(self, x: Any) -> np.ndarray:
        """Return the outputs [N, n_L] for raw inputs [N, n]: probabilities, or values in their own units.

        They are the mean over the networks.

        The columns of a frame (pandas, polars, pyarrow) are taken by name where the model knows the names of its
        features: their order does not matter, and others are left out. Raises a `ValueError` if x is not [N, n],
        lacks a feature, or has an entry that is not finite. See `save` for an example.
        """
        if self.encoding is None:
            encoded, expansion, targets = as_inputs("x", x, self.networks[0].mlp.sizes[0]), None, None
            check_finite("x", encoded, column_names(x))
            check_range("x", encoded, column_names(x))
        else:
            encoded, expansion = self.encoding.encode_inputs(x), self.encoding.expansion
            targets = self.encoding.targets
        y = [np.asarray(outputs(*network, jnp.asarray(encoded), expansion)) for network in self.networks]
        mean = np.mean([each.astype(np.float64) for each in y], axis=0)
        return mean.astype(y[0].dtype) if targets is None else targets.inverse(mean)


def save(
    path: str | PathLike[str],
    networks: Network | Sequence[Network],
    *,
    encoding: Encoding | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Write the parts of a `Model` to a safetensors file; equal models make equal files.

    `networks` are one or more; one whose parameters have a leading axis, as `train` returns them for several keys,
    stands for all of them. The path names a file in an existing folder, and usually ends in `.safetensors`. An old
    file stays until the new one is complete. Raise a `FileNotFoundError` if there is no such folder, a `TypeError` if
    something else than networks is given, a `ValueError` if the parameters or the encoding do not fit, the networks do
    not go together, `about` holds anything but JSON values, or `path` is a folder.

    >>> import jax, tempfile
    >>> from jaxmlp.network import init
    >>> mlp = MLP((2, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model.safetensors", Network(mlp, init(mlp, jax.random.key(0))))
    ...     load(f"{folder}/model.safetensors").predict(np.ones((5, 2))).shape
    (5, 3)
    """
    listed = _checked_networks(networks)
    about = {} if about is None else about
    _check_notes(listed[0].mlp, encoding, about)  # fail now, not when `load` reads the file
    header = {
        "networks": [asdict(network.mlp) for network in listed],
        "encoding": encoding and encoding.to_json(),
        "about": about,
    }
    tensors: Tensors = {}
    for prefix, network in zip(_prefixes(len(listed)), listed, strict=True):
        tensors |= name_layers(prefix, network.params)
    write(Path(path), tensors, header)


def load(path: str | PathLike[str]) -> Model:
    """Return the model in a file that `save` wrote.

    Raise a `FileNotFoundError` if there is no such file, a `ValueError` if it is no safetensors file, was not written
    by `save`, or its parts do not fit together.
    """
    tensors, header = read(Path(path))
    try:
        mlps = [MLP(**each) for each in header["networks"]]
        _check_alike(mlps)
        encoding = None if header["encoding"] is None else Encoding.from_json(header["encoding"])
        prefixes = _prefixes(len(mlps))
        networks = [Network(mlp, layers(tensors, prefix, mlp)) for prefix, mlp in zip(prefixes, mlps, strict=True)]
        _check_notes(mlps[0], encoding, header["about"])
        return Model(tuple(networks), encoding, header["about"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: a damaged jaxmlp model: {reason(error)}") from error


def _checked_networks(given: Any) -> list[Network]:
    listed = [given] if isinstance(given, Network) else list(given) if isinstance(given, list | tuple) else [given]
    for network in listed:
        if not isinstance(network, Network):
            raise TypeError(f"networks must be Network(mlp, params), or a list of them, got {type(network).__name__}")
    several = [one for network in listed for one in networks_of(*network)]
    for network in several:
        check_params(*network)
    _check_alike([network.mlp for network in several])
    return several


def _check_alike(mlps: Sequence[MLP]) -> None:
    """Check that the mean of the networks' outputs has a meaning."""
    if not mlps:
        raise ValueError("networks must be one or more, got none")
    first = _outside(mlps[0])
    for number, mlp in enumerate(mlps):
        if _outside(mlp) != first:
            raise ValueError(
                f"networks must have the same inputs, outputs, output activation and loss, got {first} "
                f"and {_outside(mlp)} for network {number}"
            )


def _outside(mlp: MLP) -> tuple[int, int, str, str]:
    return mlp.sizes[0], mlp.sizes[-1], mlp.output, mlp.loss


def _prefixes(n_networks: int) -> list[str]:
    return ["layers"] if n_networks == 1 else [f"networks.{k}.layers" for k in range(n_networks)]


def _check_notes(mlp: MLP, encoding: Any, about: Any) -> None:
    """Check that the encoding fits, and the types of the notes that commands rely on: a file may come from anywhere."""
    if not isinstance(encoding, Encoding | None):
        raise ValueError(f"encoding must be an Encoding, as data.prepare returns, got {type(encoding).__name__}")
    if encoding is not None and encoding.n_inputs != mlp.sizes[0]:
        raise ValueError(f"the encoding has {encoding.n_inputs} features, but the network takes {mlp.sizes[0]}")
    if encoding is not None and len(encoding.class_names or ()) not in (0, mlp.sizes[-1]):
        raise ValueError(f"{len(encoding.class_names or ())} classes, but the network has {mlp.sizes[-1]} outputs")
    if not isinstance(about, dict):
        raise ValueError(f"about must be a dict of JSON values, got {about!r}")
    options, results = about.get("options", {}), about.get("results", {})
    if not (isinstance(options, dict) and isinstance(results, dict)):
        raise ValueError("about must hold options and results as objects")
    types = {"target": (about, str), "task": (options, str), "seed": (options, int)}
    types |= {"test_fraction": (options, float), "validation_fraction": (options, float)}
    for name, (notes, kind) in types.items():
        if not isinstance(value := notes.get(name), kind | None):
            raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")


def save_training(path: Path, trained: Trained) -> None:
    """Write a training run to a file from which `load_training` and `train(resume=...)` continue it."""
    tensors = name_layers("last", trained.last_params) | name_layers("dw", trained.state.dw)
    if trained.best_epoch != len(trained.history):
        tensors |= name_layers("best", trained.params)
    header = {"history": trained.history, "best_epoch": trained.best_epoch, "status": trained.status}
    write(path, tensors, header)


def load_training(path: Path, mlp: MLP) -> Trained:
    """Return the training run in a file that `save_training` wrote; raises the errors of `load`."""
    tensors, header = read(path)
    try:
        history = tuple(_epoch(row) for row in header["history"])
        n_networks = tensors["last.0.w"].shape[:-2][:1]  # of a run with several keys
        last, dw = (layers(tensors, name, mlp, n_networks) for name in ("last", "dw"))
        best_epoch, status = int(header["best_epoch"]), str(header["status"])
        if status not in STATUSES or not 0 <= best_epoch <= len(history):
            raise ValueError(f"status {status!r} and best epoch {best_epoch} after {len(history)} epochs")
        params = last if best_epoch == len(history) else layers(tensors, "best", mlp, n_networks)
        return Trained(params, sgd.State(dw), history, last, best_epoch, status)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: a damaged checkpoint: {reason(error)}") from error


def _epoch(row: list[Any]) -> Epoch:
    if not all(value is None or isinstance(value, int | float) for value in row):
        raise TypeError(f"an epoch must be numbers, got {row!r}")
    epoch = Epoch(*row)
    return epoch if epoch.train_loss is not None else epoch._replace(train_loss=float("nan"))
