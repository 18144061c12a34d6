"""Estimators as models of `jaxmlp.storage`: one file that `jaxmlp.load` reads too, without scikit-learn and pickle."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator

from jaxmlp.data import Columns, Encoding, Scaling
from jaxmlp.estimators._fitting import Fitted, Progress, initial
from jaxmlp.network import MLP, Layer, Network, Params
from jaxmlp.storage import checkpoint

__all__ = ["Saved", "read", "write"]

_KEY = "estimator"  # in the notes of a model


class Saved:
    """What `write` has written, checked: parameters of the estimator, labels, names of columns, fits."""

    def __init__(self, model: checkpoint.Model, name: str) -> None:
        """Read a model's notes; raise a KeyError, TypeError or ValueError if they are not of an estimator `name`."""
        notes = model.about[_KEY]
        if notes["class"] != name:
            raise ValueError(f"it holds an estimator of the class {notes['class']}, not {name}")
        self.parameters = {key: _from_json(value) for key, value in notes["parameters"].items()}
        self.classes = None if notes["classes"] is None else _array(notes["classes"])
        self.is_multilabel = bool(notes["is_multilabel"])
        self.feature_names = None if notes["feature_names"] is None else np.array(notes["feature_names"], object)
        self.n_features = int(notes["n_features"])
        inputs = None if model.encoding is None else model.encoding.inputs
        self.columns = inputs.to_json() if isinstance(inputs, Columns) else None
        self.mlp, params = model.networks[0].mlp, [_as_numpy(network.params) for network in model.networks]
        if self.classes is not None and len(self.classes) == 2 and not self.is_multilabel:
            self.mlp = MLP((*self.mlp.sizes[:-1], 1), self.mlp.activation, "sigmoid", "binary_cross_entropy")
            params = [(*layers[:-1], Layer(layers[-1].w[1:], layers[-1].b[1:])) for layers in params]
        self.fitted = [_fitted(*pair) for pair in zip(params, notes["progress"], strict=True)]


def write(path: str | PathLike[str], estimator: BaseEstimator, networks: list[Params]) -> None:
    """Write a fitted estimator.

    A network for two labels has one output, which `jaxmlp.load` and the terminal do not know for names of classes: in
    the file it has two, of which the first is always 0, and so the same probabilities.
    """
    classes = getattr(estimator, "classes_", None)
    is_multilabel = classes is not None and estimator._label_binarizer.y_type_.startswith("multilabel")
    names = getattr(estimator, "feature_names_in_", None)
    notes = {
        "class": type(estimator).__name__,
        "parameters": {key: _to_json(key, value) for key, value in estimator.get_params(deep=False).items()},
        "classes": None if classes is None else _of_labels(classes),
        "is_multilabel": is_multilabel,
        "feature_names": None if names is None else [str(name) for name in names],
        "n_features": int(estimator.n_features_in_),
        "progress": estimator._progress,
    }
    mlp = estimator.network_
    if classes is not None and len(classes) == 2 and not is_multilabel:
        mlp = MLP((*mlp.sizes[:-1], 2), mlp.activation, "softmax", "cross_entropy")
        networks = [(*layers[:-1], _with_output_0(layers[-1])) for layers in networks]
    with jax.enable_x64(True):  # or float64 would be cut to float32
        pairs = [Network(mlp, layers) for layers in networks]
        checkpoint.save(path, pairs, encoding=_encoding(estimator, mlp), about={_KEY: notes})


def read(path: str | PathLike[str], name: str) -> Saved:
    """Return what `write` wrote for an estimator whose class has this name; raise the errors of `jaxmlp.load`.

    A file of anything else is a `ValueError` too.
    """
    with jax.enable_x64(True):
        model = checkpoint.load(path)
    if _KEY not in model.about:
        raise ValueError(f"{path}: a model that no estimator has saved: jaxmlp.load reads it")
    try:
        return Saved(model, name)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as {name}: {error}") from error


def _encoding(estimator: BaseEstimator, mlp: MLP) -> Encoding | None:
    """Return names and columns for `jaxmlp.load`; None where it has no words for the targets."""
    classes, n_outputs = getattr(estimator, "classes_", None), mlp.sizes[-1]
    if classes is not None and len(classes) < 2:
        return None
    columns = getattr(estimator, "columns_", None)
    names = columns.names if columns else tuple(map(str, getattr(estimator, "feature_names_in_", ())))
    same = Scaling(np.zeros(1), np.ones(1))
    return Encoding(
        feature_count=len(names) or mlp.sizes[0],
        feature_names=names,
        class_names=None if classes is None else tuple(map(str, classes)),
        inputs=columns or same,
        targets=Scaling(np.zeros(n_outputs), np.ones(n_outputs)) if classes is None else None,
    )


def _with_output_0(layer: Layer) -> Layer:
    w, b = np.asarray(layer.w), np.asarray(layer.b)
    both: Any = np.concatenate([np.zeros_like(w), w]), np.concatenate([np.zeros_like(b), b])
    return Layer(*both)


def _fitted(params: Params, progress: Mapping[str, Any]) -> Fitted:
    """Return a fit that can go on; JSON has made null of what is infinite, and its last step is 0."""
    start = initial(params, 0.0)
    kept: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in progress.items()}
    worst = {"best_loss": np.inf, "best_score": -np.inf}
    kept |= {key: value for key, value in worst.items() if kept[key] is None}
    return start._replace(progress=Progress(**kept))


def _as_numpy(params: Params) -> Params:
    return jax.tree.map(np.asarray, params)


def _of_labels(labels: np.ndarray) -> dict[str, Any]:
    if labels.dtype.kind == "O" and not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels must be text or numbers to be saved, got {labels[:3].tolist()}")
    if labels.dtype.kind not in "OUiufb":
        raise ValueError(f"labels must be text or numbers to be saved, got {labels.dtype}")
    return {"dtype": labels.dtype.str, "values": labels.tolist()}


def _array(saved: Mapping[str, Any]) -> np.ndarray:
    return np.array(saved["values"], np.dtype(saved["dtype"]))


def _to_json(name: str, value: Any) -> Any:
    """Return a parameter as a JSON value; a random state, which is not one, as null."""
    if isinstance(value, np.random.RandomState):
        return None
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {"pairs": [[_to_json(name, key), _to_json(name, entry)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return [_to_json(name, entry) for entry in value]
    if value == np.inf:
        return "inf"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} cannot be saved, got a {type(value).__name__}")


def _from_json(value: Any) -> Any:
    match value:
        case {"pairs": list(pairs)}:
            return {_from_json(key): _from_json(entry) for key, entry in pairs}
        case list():
            return tuple(map(_from_json, value))
        case "inf":
            return np.inf
    return value
