"""A perceptron for the prices of diamonds: 100 trials, then five networks of the best setting, against TabM's own runs.

    python -m experiments.tune_diamonds [--trials 100] [--seeds 15]

`pip install jaxmlp[bench]`. Gorishniy, Kotelnikov and Babenko 2025 (TabM, arXiv 2410.24210) publish the runs of their
perceptrons (`exp/mlp` of their repository). On `diamonds` 100 trials of a tuned one took 25 min 48 s on an A100. The
root of the mean squared error on the test rows, in units of the prices' standard deviation, was 0.1404, the mean of 15
seeds; that of the mean output of five networks was 0.1362. Their split of the rows is not published, so this is another
one: a fifth of the rows for the test, a fifth of the others for validation, as `TabM` has it.

Here random search with halving takes the place of their 100 trials: each trial has its own setting, and the worse two
thirds end at a ninth and at a third of the epochs, by validation. The best setting is trained anew on the training rows
alone, once for each seed. The seconds begin with the table in memory. They include its encoding, all compilation, the
search and the first five networks. The test rows are looked at once, when all are trained.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from experiments._options import Parser, count
from experiments._report import environment, print_table, write_json
from experiments._timing import Clock
from experiments.benchmarks._tables import TABLES, load
from jaxmlp import MLP, Dataset, Network, TrainConfig, sweep
from jaxmlp.data import from_frame, prepare
from jaxmlp.training.evaluation import evaluate_networks

PUBLISHED = {"one network": 0.1404, "five networks": 0.1362}
PUBLISHED_SECONDS = 25 * 60 + 48
CONFIG = TrainConfig(epochs=30, batch_size=128, schedule="cosine")
SPACE: dict[str, Any] = {
    "learning_rate": sweep.log_uniform(0.01, 0.3),
    "weight_decay": sweep.log_uniform(1e-5, 1e-2),
    "hidden": [(128, 128), (128, 128, 128), (256, 256), (256, 256, 256)],
}
TOGETHER = 5


def rmse(networks: list[Network], test: Dataset, deviation: float) -> float:
    """Return the root of the mean squared error of the mean output, in units of a standard deviation of the targets."""
    r2 = evaluate_networks(networks, test).r2
    assert r2 is not None
    return float(np.sqrt(1 - r2) * np.std(test.t) / deviation)


def main() -> None:
    parser = Parser("experiments.tune_diamonds", __doc__)
    parser.add_argument("--trials", type=count, default=100, metavar="N", help="settings to try, 100 by default")
    parser.add_argument("--seeds", type=count, default=15, metavar="N", help="networks of the best, 15 by default")
    asked = parser.parse_args()
    frame, clock, began = load("diamonds"), Clock(), time.perf_counter()
    data = prepare(
        from_frame(frame, target=TABLES["diamonds"].target),
        test_fraction=0.2,
        validation_fraction=0.2,
        scaling="piecewise",
    )

    def network(hidden: tuple[int, ...]) -> MLP:
        return MLP((data.train.n_inputs, *hidden, 1), output="identity", loss="quadratic")

    space, options = sweep.random(asked.trials, **SPACE), {"mlp": network((128,)), "validation": data.validation}
    setting = sweep.run(space, data.train, CONFIG, halving=3, **options).best().hyperparameters
    config = replace(CONFIG, learning_rate=setting["learning_rate"], weight_decay=setting["weight_decay"])
    print(f"The best setting by validation: {setting}, after {time.perf_counter() - began:.0f} s", flush=True)
    networks: list[Network] = []
    seconds = 0.0
    for first in range(0, asked.seeds, TOGETHER):
        seeds = list(range(first, min(first + TOGETHER, asked.seeds)))
        trained = sweep.run(sweep.grid(seed=seeds), data.train, config, mlp=network(setting["hidden"]), keep="all")
        networks += [network for row in trained.rows() for network in trained.model(row.trial).networks]
        seconds = seconds or time.perf_counter() - began
    busy = clock.cores_of_others()
    deviation = float(np.std(data.train.t))
    ones = [rmse([network], data.test, deviation) for network in networks]
    starts = range(0, len(networks) - TOGETHER + 1, TOGETHER)
    fives = [rmse(networks[start : start + TOGETHER], data.test, deviation) for start in starts]
    rows = [
        ["one network", f"{np.mean(ones):.4f}", f"{np.std(ones):.4f}", len(ones), PUBLISHED["one network"]],
        ["five networks", f"{np.mean(fives):.4f}", f"{np.std(fives):.4f}", len(fives), PUBLISHED["five networks"]],
    ]
    print_table(f"diamonds, {asked.trials} trials", ["", "RMSE", "deviation", "runs", "TabM's perceptron"], rows)
    print(f"{seconds / 60:.1f} min on this machine; TabM's {PUBLISHED_SECONDS / 60:.1f} min on an A100.")
    print(f"Other processes kept {busy:.1f} cores busy.")
    values = {"setting": setting, "seconds": seconds, "one": ones, "five": fives, "cores_of_others": busy}
    write_json("tune_diamonds", {"environment": environment(), "config": str(CONFIG), **values})


if __name__ == "__main__":
    main()
