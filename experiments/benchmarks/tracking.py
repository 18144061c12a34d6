"""What clipping, weights and tracking add to an epoch of training.

Claim: tracking the norms of every example's gradient and the noise scale costs at most 10 % of an epoch.

    python -m experiments.benchmarks.tracking --data FOLDER

Epochs take turns, configuration by configuration and round by round, after one that does not count; a time is the
median of the rounds, and "times plain" the median of the ratios within a round. Without `--data` (a folder of IDX
files, such as Fashion-MNIST) the data are random.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import jax

from experiments._report import (
    MOST_CORES_OF_OTHERS,
    Verdict,
    environment,
    print_table,
    print_verdicts,
    write_json,
)
from experiments._timing import in_turn, seconds_of_others
from experiments.benchmarks._cases import Case, load
from jaxmlp import MLP, Dataset, TrainConfig, train
from jaxmlp.training.config import TRACKED

CASES = (Case((784, 128, 10), 32), Case((784, 128, 10), 128), Case((784, 512, 512, 10), 128))
CLAIMED, MOST = "norms and noise scale", 1.10
OF_STEPS = tuple(name for name in TRACKED if name != "curvature")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"weights": "balanced"},
    "clipping": {"clip": 1.0},
    "norms": {"track": ("norms",)},
    CLAIMED: {"track": ("norms", "noise_scale")},
    "clipping, weights, and all of the steps": {"weights": "balanced", "clip": 1.0, "track": OF_STEPS},
    "curvature": {"track": ("curvature",)},
}


def start(case: Case, data: Dataset, options: dict[str, Any]) -> Callable[[], float]:
    """Return what runs one more epoch and answers with its loss."""
    options = dict(options)
    data = replace(data, weights=options.pop("weights", None))
    config = TrainConfig(epochs=1, batch_size=case.batch_size, learning_rate=0.01, schedule="constant", **options)
    trained = None

    def epoch() -> float:
        nonlocal trained
        longer = config if trained is None else replace(config, epochs=len(trained.history) + 1)
        trained = train(MLP(case.sizes), data, longer, key=jax.random.key(0), resume=trained)
        return trained.history[-1].train_loss

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of IDX files; random data if left out")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="5 or more to be believed")
    options = parser.parse_args()
    data = Dataset(*jax.device_put(load(options.data, quick=False), may_alias=True))
    verdicts, results = [], {}
    for case in CASES:
        epochs = {name: start(case, data, configuration) for name, configuration in CONFIGURATIONS.items()}
        for epoch in epochs.values():
            epoch()
        began, others = perf_counter(), seconds_of_others()
        timed = in_turn(epochs, options.rounds)
        busy = (seconds_of_others() - others) / (perf_counter() - began)
        plain = timed["plain"].seconds
        ratios = {
            name: median(ours / its for ours, its in zip(one.seconds, plain, strict=True))
            for name, one in timed.items()
        }
        rows = [(name, f"{median(one.seconds):.3f}", f"{ratios[name]:.2f}") for name, one in timed.items()]
        print_table(str(case), ("", "s an epoch", "times plain"), rows)
        claim = f"{case}: {CLAIMED} in at most {MOST} plain epochs"
        verdicts.append(
            Verdict(claim, f"{ratios[CLAIMED]:.2f}", ratios[CLAIMED] <= MOST, not busy > MOST_CORES_OF_OTHERS)
        )
        results[str(case)] = {"seconds": {name: one.seconds for name, one in timed.items()}, "cores_of_others": busy}
    print_verdicts(verdicts)
    write_json("tracking", {"environment": environment("jaxmlp"), "results": results})


if __name__ == "__main__":
    main()
