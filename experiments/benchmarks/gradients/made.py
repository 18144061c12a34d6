"""The instances that a family of right gradients makes, and how they are drawn."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from experiments.benchmarks.gradients.fault import Tree

__all__ = ["Function", "Made", "pick", "signs"]

Function: TypeAlias = Callable[[Tree], Any]


class Made(NamedTuple):
    """A function, its gradient, and parameters in float64, which are rounded to the dtype later."""

    name: str
    f: Function
    gradient: Function
    params: Tree


def pick(random: np.random.Generator, values: Any) -> Any:
    return values[int(random.integers(len(values)))]


def signs(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)
