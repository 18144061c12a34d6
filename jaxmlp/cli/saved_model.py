"""Find a saved model, and read data in the form that it needs."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlp.cli.startup import note
from jaxmlp.cli.training_setup import SPLITTING, read_source
from jaxmlp.data import Columns, Encoding, Part, Source, Split, fingerprint, is_table, split, whole
from jaxmlp.storage.checkpoint import Model, load

__all__ = [
    "find_model",
    "note_surprises",
    "options_for",
    "part_to_score",
    "predict_finite",
    "read_for",
    "read_labelled",
    "split_of_training",
]


def find_model(given: str) -> Model:
    """Load the model of a file or of a run folder."""
    path = Path(given)
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            unfinished = (path / "checkpoint.safetensors").exists()
            hint = "finish its run with --resume" if unfinished else "expected a run folder or a model file"
            raise FileNotFoundError(f"{path}: a folder without model.safetensors; {hint}")
        path = path / "model.safetensors"
    return load(path)


def options_for(model: Model, given: str) -> dict[str, Any]:
    """Return the options of a model's training, without those that a source of another kind cannot have."""
    options = model.about.get("options", {})
    without = {"separator"} if Path(given).suffix.lower() == ".parquet" else set()
    if not is_table(given):
        without = {"separator", "missing"}
    return {name: value for name, value in options.items() if name not in without}


def read_for(model: Model, given: str, *, target: str | None = None, labelled: bool = True) -> tuple[Source, Encoding]:
    """Read a source with the features that the model was trained with."""
    if model.encoding is None:
        raise ValueError("the model was saved without the scaling of its inputs: use it from Python")
    options = options_for(model, given)
    target = (target or model.about.get("target")) if is_table(given) else target
    features = model.encoding.feature_names or None
    if target is not None and target in (features or ()):
        raise ValueError(f"--target {target}: a feature of the model, expected the column to compare predictions with")
    task = "classes" if model.encoding.targets is None else "values"  # a few new rows may look like the other kind
    source = read_source(given, options, target=target, task=task, features=features, labelled=labelled)
    return source, model.encoding


def read_labelled(arguments: Namespace, model: Model, given: str) -> tuple[Source, Encoding]:
    """Read a source with targets, from the column of --target or of training."""
    source, encoding = read_for(model, given, target=getattr(arguments, "target", None))
    if source.t is None:
        raise ValueError(f"{source.name}: no targets, expected some to compare with; `jaxmlp predict` needs none")
    return source, encoding


def split_of_training(model: Model, source: Source) -> Split | None:
    """Return the split of the model's training; None for other data."""
    options = model.about.get("options", {})
    if source.t is None or not set(SPLITTING) <= set(options):
        return None
    if "held_out" in model.about:  # of private training, which must not publish a digest of training examples
        drawn = split(source, **{name: options[name] for name in SPLITTING})
        return drawn if fingerprint(drawn.test) == model.about["held_out"] else None
    if fingerprint(source) != model.about.get("data"):
        return None
    return split(source, **{name: options[name] for name in SPLITTING})


def part_to_score(model: Model, source: Source) -> tuple[Part, str]:
    """Return the test part of the source, else the part that training held out, else all examples; and its origin."""
    if source.x_test is not None:
        return whole(source.x_test, source.t_test), "the test part"
    if (drawn := split_of_training(model, source)) is not None:
        return drawn.test, "held out in training"
    return whole(source.x, source.t), "all examples"


def note_surprises(arguments: Namespace, encoding: Encoding, source: Source, x: Any) -> None:
    """Note what the source says, and count the cells of a table that are unlike those of training, in one line."""
    for line in source.notes:
        note(arguments, line)
    if isinstance(encoding.inputs, Columns) and (line := encoding.inputs.surprises(x)):
        note(arguments, line)


def predict_finite(model: Model, x: np.ndarray, name: str) -> np.ndarray:
    """Return the model's outputs [N, n_L] for raw x: [N, n_0]; raise `ValueError` for one that is not finite."""
    y = model.predict(x)
    finite = np.isfinite(y).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{name}: the output for example {int(finite.argmin())} is not finite: are its inputs too large?"
        )
    return y
