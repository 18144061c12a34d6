"""The accuracy that a new user reaches: on digits by the defaults, on Fashion-MNIST by two wide layers.

Claim: 784-512-512-10 reaches at least 90.0 % on the test part of Fashion-MNIST within 30 epochs, and the default
network at least 97 % on held-out digits, both as the mean over seeds.

    python -m experiments.benchmarks.accuracy --data FOLDER

A seed stands for initial weights, batch order and, of digits, the split. Every run takes all of its epochs: nothing is
chosen, and the test data are looked at once. Without `--data` only digits are trained.
"""

from dataclasses import replace
from statistics import mean, stdev

import jax

from experiments._report import print_table
from experiments.benchmarks._benchmark import Verdict, begin, finish, options, parser
from jaxmlp import MLP, TrainConfig, Trained, train
from jaxmlp.data import Source, prepare, read

# By data set: the network, its training, the seeds, and the mean accuracy that is claimed.
CASES = {
    "Fashion-MNIST": (MLP((784, 512, 512, 10)), TrainConfig(epochs=30, batch_size=128, learning_rate=0.05), 3, 0.90),
    "digits": (MLP((64, 128, 10)), TrainConfig(), 8, 0.97),
}


def train_seeds(source: Source, mlp: MLP, config: TrainConfig, n_seeds: int) -> list[Trained]:
    runs = []
    for seed in range(n_seeds):
        data = prepare(source, seed=seed)
        runs.append(train(mlp, data.train, config, key=jax.random.key(seed), test=data.test))
        print(
            f"  {source.name}, seed {seed}: {runs[-1].test.accuracy:.4f} after {len(runs[-1].history)} epochs",
            flush=True,
        )
    return runs


def main() -> None:
    asked = options(parser("accuracy", __doc__, quick="two epochs, two seeds", data="only digits"))
    about = begin(asked, "scikit-learn")
    sources = {"Fashion-MNIST": asked.data, "digits": "digits"}
    rows, verdicts, results = [], [], {}
    for name, (mlp, config, n_seeds, least) in CASES.items():
        if sources[name] is None:
            continue
        if asked.quick:
            config, n_seeds = replace(config, epochs=2), 2
        runs = train_seeds(read(sources[name]), mlp, config, n_seeds)
        scores = [run.test.accuracy for run in runs]
        seconds = mean(row.seconds for run in runs for row in run.history)
        results[name] = {"accuracy": scores, "seconds_an_epoch": seconds}
        measured = f"{mean(scores):.2%} ± {stdev(scores):.2%}"
        rows.append((name, n_seeds, measured, f"{min(scores):.2%}", f"{seconds:.2f}"))
        verdicts.append(Verdict(f"{name}: at least {least:.0%} in the mean", measured, mean(scores) >= least))
    print_table("Test accuracy", ("", "seeds", "mean ± deviation", "lowest", "s an epoch"), rows)
    finish(asked, about, verdicts, results=results)


if __name__ == "__main__":
    main()
