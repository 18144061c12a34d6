"""What the benchmarks run on: networks with a batch size, and data of Fashion-MNIST's shape."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Case", "load"]


class Case(NamedTuple):
    """A network and its batch size."""

    sizes: tuple[int, ...]
    batch_size: int

    def __str__(self) -> str:
        """Write it as in 784-128-10, batch 32."""
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"


def load(folder: Path | None, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return x: [N, 784] float32 in [0, 1], and t: [N] int64 classes, of a folder or of a random linear rule."""
    if folder:
        from jaxmlp.data import read

        source = read(folder, task="classes")
        x, t = source.x / np.float32(255), np.asarray(source.t)
    else:
        random = np.random.default_rng(0)
        x = random.random((60_000, 784), np.float32)
        t = ((x - 0.5) @ random.standard_normal((784, 10), np.float32)).argmax(1)
    return (x[:6400], t[:6400]) if quick else (x, t)
