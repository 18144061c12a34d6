"""Unfinished private training as a file, from which it continues after a kill at any moment.

What a second run of a step means. The steps since the last checkpoint are computed again, and their first results may
have been seen. With fresh noise they would be two releases, to be counted twice. So the secret, from which all batches
and noise are drawn, is in the file before the first step. A step that is computed again then has the same inputs and
the same draws: it is the same release, to be counted once, however often and by however many processes it is made.
With the same draws and anything else changed, the difference of two results would have no noise. So a run continues
only with the network, data, configuration, promise, and versions of the generators that it began with.

Whoever reads the secret can subtract the noise. Only the file's owner may read it (mode 0600), and the secret is left
out when the last step is done. Publish the model, never this file.
"""

import json
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import sgd
from jaxmlp._version import __version__
from jaxmlp.data import Dataset, fingerprint
from jaxmlp.network import MLP, Params
from jaxmlp.private.history import PrivateEpoch
from jaxmlp.private.mechanism import Privacy
from jaxmlp.storage.files import check_place, to_json
from jaxmlp.storage.tensors import layers, name_layers, read, reason, write
from jaxmlp.training.config import TrainConfig
from jaxmlp.training.history import Evaluation

__all__ = ["Checkpoint", "Kept"]


class Kept(NamedTuple):
    """What a checkpoint holds: the noise multiplier, the secret until the last step is done, and the run so far."""

    noise_multiplier: float
    secret: Array | None
    params: Params
    state: sgd.State
    history: tuple[PrivateEpoch, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The file of a run, and all but the secret that decides what its steps release, as JSON values by name."""

    path: Path
    began: dict[str, Any]

    @classmethod
    def of(
        cls, path: str | PathLike[str], mlp: MLP, data: Dataset, privacy: Privacy, config: TrainConfig, key: Array
    ) -> "Checkpoint":
        """Return the checkpoint of a run with these arguments; raise an error if its place cannot be written."""
        check_place(Path(path))
        made_by = f"jaxmlp {__version__}, JAX {jax.__version__}, NumPy {np.__version__}"
        others = {
            "data": fingerprint(data),
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "draws": f"of {made_by} in {jnp.result_type(float)}",
        }
        return cls(Path(path), json.loads(to_json(asdict(mlp) | asdict(config) | asdict(privacy) | others)))

    def save(self, kept: Kept) -> None:
        """Write the run so far; without the secret when its last step is done."""
        tensors = name_layers("params", kept.params) | name_layers("dw", kept.state.dw)
        header = {"began": self.began, "noise_multiplier": kept.noise_multiplier, "history": kept.history}
        if kept.secret is not None and len(kept.history) < self.began["epochs"]:
            tensors["secret"] = np.asarray(jax.random.key_data(kept.secret))
            header["generator"] = str(jax.random.key_impl(kept.secret))
        write(self.path, tensors, header, is_secret=True)

    def load(self, mlp: MLP) -> Kept:
        """Return what was saved; raise a `ValueError` if the run began otherwise, or the file is damaged."""
        tensors, header = read(self.path)
        before = header.get("began")
        if not isinstance(before, dict) or before.keys() != self.began.keys():
            raise ValueError(f"{self.path}: not a checkpoint of private training by this version of jaxmlp")
        for name, value in self.began.items():
            if value != before[name]:
                what = {"data": "other data", "key": "another key"}.get(name, f"{name} {before[name]}, got {value}")
                raise ValueError(f"{self.path}: the run began with {what}; continue it as it began, or begin a new one")
        try:
            history = tuple(_epoch(*row) for row in header["history"])
            params, dw = (layers(tensors, name, mlp) for name in ("params", "dw"))
            secret = None
            if len(history) < before["epochs"]:
                secret = jax.random.wrap_key_data(jnp.asarray(tensors["secret"]), impl=header["generator"])
            return Kept(float(header["noise_multiplier"]), secret, params, sgd.State(dw), history)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: a damaged checkpoint of private training: {reason(error)}") from error


def _epoch(number: int, rate: float, epsilon: float, validation: list[Any] | None, seconds: float) -> PrivateEpoch:
    measured = None if validation is None else Evaluation(*validation)
    return PrivateEpoch(int(number), float(rate), float(epsilon), measured, float(seconds))
