"""How good the networks are that a new user trains: digits by default, Fashion-MNIST by the README's command.

Claim: 784-512-512-10 reaches at least 90.0 % on the test part of Fashion-MNIST within 30 epochs, and the default
network at least 97 % on held-out digits, both as the mean over seeds.

    python -m experiments.benchmarks.accuracy /usr/share/datasets/fashion-mnist

The folder is any with MNIST-family IDX files. A seed stands for initial weights, order and, of digits, the split. The
numbers are those of the last epoch: nothing is chosen by the test data. The picture is of the first seed.
"""

import argparse
from statistics import mean, stdev

import jax

from experiments._report import RESULTS, environment, print_table, write_json
from jaxmlp import MLP, TrainConfig, Trained, train
from jaxmlp.data import Source, prepare, read
from jaxmlp.plots.training import curves

FASHION = MLP((784, 512, 512, 10)), TrainConfig(epochs=30, batch_size=128, learning_rate=0.05)
DIGITS = MLP((64, 128, 10)), TrainConfig()


def train_seeds(source: Source, mlp: MLP, config: TrainConfig, seeds: range) -> list[Trained]:
    runs = []
    for seed in seeds:
        data = prepare(source, seed=seed)
        runs.append(train(mlp, data.train, config, key=jax.random.key(seed), test=data.test))
        row = runs[-1].history[-1]
        print(f"  {source.name}, seed {seed}: {row.test_accuracy:.4f} after {row.epoch} epochs", flush=True)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="with the IDX files of Fashion-MNIST")
    fashion = train_seeds(read(parser.parse_args().folder), *FASHION, range(3))
    digits = train_seeds(read("digits"), *DIGITS, range(8))
    rows, numbers = [], {}
    for name, runs, claim in (("Fashion-MNIST", fashion, 0.90), ("digits", digits, 0.97)):
        scores = [run.history[-1].test_accuracy for run in runs]
        seconds = mean(row.seconds for run in runs for row in run.history)
        numbers[name] = {"accuracy": scores, "seconds_an_epoch": seconds}
        verdict = "held" if mean(scores) >= claim else "did not hold"
        spread = f"{mean(scores):.2%} ± {stdev(scores):.2%}"
        rows.append([name, len(runs), spread, f"{min(scores):.2%}", f"{seconds:.2f}", f"{claim:.0%}: {verdict}"])
    print_table("test accuracy", ["", "seeds", "mean ± deviation", "lowest", "s an epoch", "claim"], rows)
    title = "Fashion-MNIST: 784-512-512-10, relu, batch 128"
    (RESULTS / "fashion_mnist.png").write_bytes(curves(fashion[0].history, title))
    write_json("accuracy", {"environment": environment("scikit-learn"), "results": numbers})


if __name__ == "__main__":
    main()
