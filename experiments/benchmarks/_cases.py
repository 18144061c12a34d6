"""The tasks of the benchmarks: networks with a batch size, and data of Fashion-MNIST's shape."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxmlp import MLP, Dataset, TrainConfig

__all__ = ["Case", "epoch_by_epoch", "load"]


class Case(NamedTuple):
    """A network and its batch size."""

    sizes: tuple[int, ...]
    batch_size: int

    def __str__(self) -> str:
        """Write it as in 784-128-10, batch 32."""
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"


def load(folder: Path | None, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return x: [N, 784] float32 in [0, 1] and t: [N] int64 classes, read from a folder or of a random linear rule."""
    if folder:
        from jaxmlp.data import read

        source = read(folder, task="classes")
        x, t = source.x / np.float32(255), np.asarray(source.t)
    else:
        random = np.random.default_rng(0)
        x = random.random((60_000, 784), np.float32)
        t = ((x - 0.5) @ random.standard_normal((784, 10), np.float32)).argmax(1)
    return (x[:6400], t[:6400]) if quick else (x, t)


def epoch_by_epoch(mlp: "MLP", data: "Dataset", config: "TrainConfig") -> Callable[[], float]:
    """Return a function that trains for one more epoch at every call, by `train`, and returns the training loss."""
    import jax

    from jaxmlp import train

    # Put on the device once, as `train` would: it is called again for every epoch.
    data = replace(data, x=jax.device_put(data.x, may_alias=True), t=jax.device_put(data.t, may_alias=True))
    trained = None

    def epoch() -> float:
        nonlocal trained
        longer = replace(config, epochs=1 if trained is None else len(trained.history) + 1)
        trained = train(mlp, data, longer, key=jax.random.key(0), resume=trained)
        return trained.history[-1].train_loss

    return epoch
