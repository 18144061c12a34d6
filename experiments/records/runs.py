"""Runs of recipes in several libraries, as many epochs as fit in a budget; finished runs are kept."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from experiments.records.libraries import LIBRARIES, Images, Recipe
from jaxmlp import TrainConfig
from jaxmlp.storage.files import to_json, write_whole

__all__ = ["FOLDER", "LEVELS", "PUBLISHED", "Pace", "Run", "kept", "measure", "paced", "train"]

PUBLISHED = 0.8833  # README of Fashion-MNIST, 2017: MLP 256-128-100, the best of its perceptrons
LEVELS = (PUBLISHED, 0.9)
FOLDER = Path("runs") / "records"  # ignored by git
_POINTS = 30  # of a curve


class Pace(NamedTuple):
    """Seconds on a quiet machine: what the first epoch takes more than others, and an epoch."""

    start: float
    epoch: float

    def epochs(self, budget: float) -> int:
        """Return how many epochs fit in a budget."""
        return max(1, int((budget - self.start) / self.epoch))


class Run(NamedTuple):
    """One training run: what it was given, and what it reached."""

    library: str
    budget: int
    seed: int
    recipe: str
    epochs: int
    start_seconds: float
    seconds_an_epoch: float
    training_seconds: float
    accuracy: float
    reached: list[float | None]  # seconds to each of LEVELS, None where it never is
    curve: list[list[float]]  # seconds, and the test accuracy then


def train(library: str, budget: int, seed: int, recipe: Recipe, pace: Pace, examples: Images) -> Run:
    """Train for as many epochs as fit in a budget, and evaluate after each."""
    epochs = pace.epochs(budget)
    learner = LIBRARIES[library](recipe, epochs, examples, seed)
    accuracies = np.empty(epochs)
    for number in range(epochs):
        learner.epoch()
        accuracies[number] = (learner.predict(examples.test.x) == examples.test.t).mean()
    seconds = pace.start + pace.epoch * np.arange(1, epochs + 1)
    drawn = np.unique(np.linspace(0, epochs - 1, _POINTS).astype(int))
    reached = [float(seconds[above.argmax()]) if (above := accuracies >= level).any() else None for level in LEVELS]
    curve = [np.round(seconds[drawn], 2).tolist(), np.round(accuracies[drawn], 4).tolist()]
    final = round(float(accuracies[-1]), 4)
    return Run(library, budget, seed, str(recipe), epochs, *pace, float(seconds[-1]), final, reached, curve)


def measure(library: str, recipe: Recipe, examples: Images) -> Pace:
    """Time four epochs, the first with its compilation; the machine should have nothing else to do."""
    learner, seconds = LIBRARIES[library](recipe, 10, examples, 0), []
    for _ in range(4):
        begin = perf_counter()
        learner.epoch()
        seconds.append(perf_counter() - begin)
    usual = median(seconds[1:])
    return Pace(round(max(0.0, seconds[0] - usual), 3), round(usual, 4))


def kept(name: str, recipe: Recipe, make: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return the fields that an earlier run kept under this name for the same recipe, or make and keep them."""
    path = FOLDER / f"{name}-{sha256(str(recipe).encode()).hexdigest()[:8]}.json"
    if path.exists():
        return json.loads(path.read_text())
    values = make(*arguments)._asdict()
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_whole(path, (to_json(values) + "\n").encode())
    return values


def paced(library: str, recipe: Recipe, examples: Images) -> Pace:
    """Return the pace of a recipe, kept from one that differs only in its rates, or measured now."""
    config = TrainConfig(batch_size=recipe.config.batch_size, nesterov=recipe.config.nesterov, clip=recipe.config.clip)
    any_rates = replace(recipe, config=config)
    return Pace(**kept(f"pace-{library}", any_rates, measure, library, any_rates, examples))
