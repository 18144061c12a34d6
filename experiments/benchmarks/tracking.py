"""The cost of clipping, weights and tracking in an epoch of training.

Claim: tracking the norms of every example's gradient and the noise scale costs at most 10 % of an epoch.

    python -m experiments.benchmarks.tracking --data FOLDER

Epochs take turns, configuration by configuration and round by round, after one that does not count; a time is the
median of the rounds, and "times plain" the median of the ratios within a round. Without `--data` (a folder of IDX
files, such as Fashion-MNIST) the data are random.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

from experiments._report import print_table
from experiments._timing import median_ratio, race
from experiments.benchmarks._benchmark import Verdict, begin, busy, finish, is_disturbed, options, parser
from experiments.benchmarks._cases import Case, epoch_by_epoch, load
from jaxmlp import MLP, Dataset, TrainConfig
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


def start(case: Case, data: Dataset, *, weights: Any = None, **statistics: Any) -> Callable[[], float]:
    """Return a function that trains for one more epoch, after a first one that compiles."""
    config = TrainConfig(batch_size=case.batch_size, learning_rate=0.01, schedule="constant", **statistics)
    epoch = epoch_by_epoch(MLP(case.sizes), Dataset(data.x, data.t, weights), config)
    epoch()
    return epoch


def main() -> None:
    asked = options(parser("tracking", __doc__, quick="6,400 examples, two rounds", rounds=7, data="random data"))
    about, verdicts, cases = begin(asked), [], {}
    data = Dataset(*load(asked.data, asked.quick))
    for case in CASES:
        epochs = {name: start(case, data, **configuration) for name, configuration in CONFIGURATIONS.items()}
        timed, cores_of_others = race(epochs, asked.rounds)
        seconds = {name: one.seconds for name, one in timed.items()}
        ratios = {name: median_ratio(one, seconds["plain"]) for name, one in seconds.items()}
        rows = [(name, f"{median(one):.3f}", f"{ratios[name]:.2f}") for name, one in seconds.items()]
        print_table(str(case), ("", "s an epoch", "times plain"), rows)
        print(busy(cores_of_others))
        claim, ratio = f"{case}: {CLAIMED} in at most {MOST} plain epochs", ratios[CLAIMED]
        verdicts.append(Verdict(claim, f"{ratio:.2f}", ratio <= MOST, not is_disturbed(cores_of_others)))
        cases[str(case)] = {"seconds": seconds, "cores_of_others": cores_of_others}
    finish(asked, about, verdicts, cases=cases)


if __name__ == "__main__":
    main()
