"""The table that chose the default learning rate: every embedded data set, over three orders of magnitude.

Claim: with the defaults of `TrainConfig` and of `jaxmlp train` all embedded data sets train without diverging,
with a factor of two to spare, and none does much better with another rate.

    python -m experiments.choose_defaults

Each cell is the mean over 8 seeds (initial weights, order and split) of the accuracy on the held-out fifth, or of
R2 for real values; how many of the 8 diverged stands behind it.
"""

import warnings
from dataclasses import replace

import jax
import numpy as np

from experiments._report import environment, print_table, write_json
from jaxmlp import MLP, TrainConfig, train
from jaxmlp.data import EMBEDDED, Prepared, prepare, read

LEARNING_RATES = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
SEEDS = range(8)


def network(data: Prepared) -> MLP:
    n_in, names = data.encoding.feature_count, data.encoding.class_names
    return MLP((n_in, 128, 1), "relu", "identity", "quadratic") if names is None else MLP((n_in, 128, len(names)))


def score(name: str, learning_rate: float, seed: int) -> float:
    """Train with all other defaults; NaN if the run diverged."""
    data = prepare(read(name), seed=seed)
    config = replace(TrainConfig(), learning_rate=learning_rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        trained = train(network(data), data.train, config, key=jax.random.key(seed), test=data.test)
    row = trained.history[-1]
    value = row.test_r2 if row.test_accuracy is None else row.test_accuracy
    return float("nan") if trained.status == "diverged" or value is None else value


def cell(scores: list[float]) -> str:
    diverged = int(np.isnan(scores).sum())
    mean = f"{np.nanmean(scores):.3f}" if diverged < len(scores) else "-"
    return f"{mean} ({diverged} diverged)" if diverged else mean


def main() -> None:
    scores = {name: {rate: [score(name, rate, seed) for seed in SEEDS] for rate in LEARNING_RATES} for name in EMBEDDED}
    rows = [[name, *(cell(row[rate]) for rate in LEARNING_RATES)] for name, row in scores.items()]
    default = TrainConfig().learning_rate
    header = ["", *(f"{rate:g}{' (default)' if rate == default else ''}" for rate in LEARNING_RATES)]
    print_table("score on held-out data by learning rate", header, rows)
    write_json("defaults", {"environment": environment("scikit-learn"), "config": str(TrainConfig()), "scores": scores})


if __name__ == "__main__":
    main()
