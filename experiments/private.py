"""The price of privacy: accuracy against epsilon, which activation bears noise best, and Opacus with the same settings.

    python -m experiments.private --data fashion-mnist/      # a folder of IDX files; about an hour
    python -m experiments.private --data fashion-mnist/ --race

`pip install jaxmlp[bench,private]`; without Opacus only our own networks are trained. Every run is kept in the results
when it ends, and the same command goes on where it was stopped.

Networks have one hidden layer of 128, or none. delta is 1e-5 for Fashion-MNIST, and 1e-4 for the digits. Inputs are
divided by the largest number that a pixel can be, which is public. The noise multiplier is solved for by
`jaxmlp.private`. Opacus gets the same one, the same initial weights, and the same probability of being drawn; it clips
in the way that is quickest there ("ghost").

Chosen on a sixth of the training examples, with a seed of its own: batch size and epochs for tanh at each epsilon, the
learning rate for every activation. The accuracy reported is that on the test examples, of networks trained on all
training examples with five other seeds, ± its 95 % interval. As in all published figures, the guarantee is that of one
run: what the choice cost is not counted.

`--race` times whole trainings at epsilon 3, one after another, three times: ours, and Opacus with ghost clipping; with
each example's gradient in memory, its default, one epoch is timed and multiplied.
"""

import json
import time
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._options import Parser, folder
from experiments._report import RESULTS, environment, print_table, write_json
from experiments._timing import Clock
from jaxmlp import MLP, TrainConfig, init, private, train
from jaxmlp._intervals import interval
from jaxmlp.data import Dataset, Prepared, prepare, read
from jaxmlp.training.config import learning_rates

EPSILONS = (1.0, 3.0, 8.0)
ACTIVATIONS = ("tanh", "relu", "sigmoid", "gelu", "none")  # none: no hidden layer
CLIP, MOMENTUM = 0.1, 0.9
SEEDS, CHOOSING_SEED = range(5), 100
DELTAS = {"fashion-mnist": 1e-5, "digits": 1e-4}
LARGEST = {"fashion-mnist": 255, "digits": 16}  # what a pixel can be
# Batch size and epochs. Opacus draws from a whole number of batches, so these nearly divide the examples.
SCHEDULES = {"fashion-mnist": ((2000, 30), (2000, 60)), "digits": ((240, 30), (240, 60))}
RATES = (2.0, 4.0, 8.0)
# The best that is published for these images: epsilon, accuracy, what it is.
PUBLISHED = (
    (2.7, 0.861, "convolutions, tanh (Papernot et al. 2020)"),
    (3.0, 0.897, "scattering features, linear (Tramèr, Boneh 2021)"),
)


class Setting(NamedTuple):
    """What a network is trained with, on which data; without epsilon, it is trained by `jaxmlp.train` as it comes."""

    data: str
    activation: str
    epsilon: float | None
    batch_size: int = 128
    epochs: int = 20
    learning_rate: float = 0.02

    def mlp(self, data: Dataset) -> MLP:
        """Return the network."""
        hidden = () if self.activation == "none" else (128,)
        return MLP((data.n_inputs, *hidden, 10), activation=self.activation.replace("none", "tanh"))

    def config(self) -> TrainConfig:
        """Return how to train."""
        names = ("epochs", "batch_size", "learning_rate")
        return TrainConfig(
            **{name: getattr(self, name) for name in names},
            momentum=MOMENTUM,
            weight_decay=0.0 if self.epsilon else 1e-3,
        )

    def noise_multiplier(self, n_examples: int) -> float:
        """Return the noise that epsilon asks for."""
        assert self.epsilon is not None
        steps = self.epochs * round(n_examples / self.batch_size)
        return multiplier(self.epsilon, DELTAS[self.data], n_examples, self.batch_size, steps)


class Run(NamedTuple):
    """One training: by whom, with what, and what came of it."""

    by: str  # "jaxmlp" or "opacus"
    setting: Setting
    seed: int
    accuracy: float
    seconds: float


@cache
def multiplier(epsilon: float, delta: float, n_examples: int, batch_size: int, steps: int) -> float:
    of_batches = {"n_examples": n_examples, "batch_size": batch_size}
    return private.noise_multiplier_for(epsilon, delta, **of_batches, steps=steps)


def by_jaxmlp(setting: Setting, data: Dataset, test: Dataset, seed: int) -> tuple[float, float]:
    """Return the accuracy on the test examples, and the seconds of training with compilation."""
    mlp, key = setting.mlp(data), jax.random.key(seed)
    config = setting.config()
    began = time.perf_counter()
    if setting.epsilon is None:
        trained = train(mlp, data, config, key=key, test=test)
    else:
        noise = setting.noise_multiplier(len(data))
        promise = private.Privacy(noise_multiplier=noise, delta=DELTAS[setting.data], clip=CLIP)
        began = time.perf_counter()
        trained = private.train(mlp, data, promise, config, key=key, test=test)
    return trained.test.accuracy, time.perf_counter() - began


def by_opacus(
    setting: Setting, data: Dataset, test: Dataset, seed: int, mode: str = "ghost", epochs: int | None = None
) -> tuple[float, float]:
    """Return the accuracy on the test examples, and the seconds of training; `mode` is how Opacus clips."""
    import torch
    from opacus import PrivacyEngine
    from torch import nn

    warnings.filterwarnings("ignore", "Secure RNG turned off")
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    torch.manual_seed(seed)
    mlp = setting.mlp(data)
    layers: list[nn.Module] = []
    for layer in init(mlp, jax.random.key(seed)):
        linear = nn.Linear(*layer.w.shape[::-1])
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.asarray(layer.w)))
            linear.bias.copy_(torch.tensor(np.asarray(layer.b)))
        layers += [linear, nn.Tanh()]
    rows = torch.utils.data.TensorDataset(torch.tensor(np.asarray(data.x)), torch.tensor(np.asarray(data.t)).long())
    model = nn.Sequential(*layers[:-1])
    noise = setting.noise_multiplier(len(data))
    began = time.perf_counter()
    made = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=setting.learning_rate, momentum=MOMENTUM),
        criterion=nn.CrossEntropyLoss(),
        data_loader=torch.utils.data.DataLoader(rows, batch_size=setting.batch_size),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        grad_sample_mode=mode,
    )
    model, optimizer, criterion, loader = made if mode == "ghost" else (*made[:2], nn.CrossEntropyLoss(), made[2])
    for epoch in range(epochs or setting.epochs):
        rates = learning_rates(setting.config(), epoch, len(loader))
        for (x, t), rate in zip(loader, rates, strict=True):
            group = optimizer.param_groups[0]
            for state in optimizer.state.values():  # our steps keep the rates that they were made with
                state["momentum_buffer"] *= group["lr"] / float(rate)
            group["lr"] = float(rate)
            optimizer.zero_grad()
            criterion(model(x), t).backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        guessed = model(torch.tensor(np.asarray(test.x))).argmax(1).numpy()
    return float((guessed == np.asarray(test.t)).mean()), seconds


TRAINERS = {"jaxmlp": by_jaxmlp, "opacus": by_opacus}


class Experiment:
    """All runs so far; each is kept on disk when it ends."""

    def __init__(self, name: str, sources: dict[str, Any]) -> None:
        """Read what an earlier call has left."""
        self.name, self.sources = name, sources
        path = RESULTS / f"{name}.json"
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.runs = {
            part: [Run(**run | {"setting": Setting(**run["setting"])}) for run in self.values.get(part, ())]
            for part in ("choosing", "final")
        }

    @cache  # noqa: B019  one experiment is all there is
    def parts(self, name: str, part: str) -> tuple[Dataset, Dataset]:
        """Return the examples to train on and to measure on."""
        fraction = 1 / 6 if part == "choosing" else None
        prepared: Prepared = prepare(self.sources[name], scaling="none", validation_fraction=fraction)
        measured = prepared.validation if part == "choosing" else prepared.test
        assert measured is not None
        scaled = [replace(of, x=np.float32(of.x) / LARGEST[name]) for of in (prepared.train, measured)]
        return scaled[0], scaled[1]

    def run(self, part: str, by: str, setting: Setting, seed: int) -> Run:
        """Return a run, from disk if it is there."""
        for run in self.runs[part]:
            if (run.by, run.setting, run.seed) == (by, setting, seed):
                return run
        run = Run(by, setting, seed, *TRAINERS[by](setting, *self.parts(setting.data, part), seed))
        self.runs[part].append(run)
        print(
            f"{part}: {by}, {' '.join(map(str, setting))}, seed {seed}: {run.accuracy:.4f}, {run.seconds:.1f} s",
            flush=True,
        )
        self.save()
        return run

    def save(self, **values: Any) -> None:
        """Write all runs, and some values beside them."""
        lists = {
            part: [run._asdict() | {"setting": run.setting._asdict()} for run in runs]
            for part, runs in self.runs.items()
        }
        self.values |= {"environment": environment("opacus", "torch", "dp-accounting"), **lists, **values}
        write_json(self.name, self.values, RESULTS)

    def best(self, settings: list[Setting]) -> Setting:
        """Return the best setting on the part that is for choosing."""
        runs = [self.run("choosing", "jaxmlp", setting, CHOOSING_SEED) for setting in settings]
        return max(runs, key=lambda run: run.accuracy).setting


def chosen(experiment: Experiment, data: str) -> list[Setting]:
    """Return the settings to report: tanh at each epsilon, every other activation at 3, and one without privacy."""
    found = [
        experiment.best(
            [Setting(data, "tanh", epsilon, *schedule, rate) for schedule in SCHEDULES[data] for rate in RATES]
        )
        for epsilon in EPSILONS
    ]
    schedule = found[1].batch_size, found[1].epochs
    for activation in ACTIVATIONS[1:]:
        found.append(experiment.best([Setting(data, activation, 3.0, *schedule, rate) for rate in RATES]))
    return [*found, *(Setting(data, activation, None) for activation in ("tanh", "none"))]


def percent(accuracies: list[float]) -> str:
    mean, low, _ = interval([100 * accuracy for accuracy in accuracies])
    return f"{mean:.2f} ± {mean - low:.2f}"


def difference(a: list[float], b: list[float]) -> str:
    """Return the difference of two means in points of percent, with its 95 % interval (Welch)."""
    from scipy.stats import ttest_ind

    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return f"{100 * (np.mean(a) - np.mean(b)):+.2f} ({100 * interval.low:+.2f} to {100 * interval.high:+.2f})"


def report(experiment: Experiment, settings: list[Setting], with_opacus: bool) -> list[dict[str, Any]]:
    """Train what is to be reported, print its table, and return its rows."""
    rows, kept = [], []
    for setting in settings:
        ours = [experiment.run("final", "jaxmlp", setting, seed).accuracy for seed in SEEDS]
        row = [setting.activation, setting.epsilon or "none", setting.batch_size, setting.epochs, setting.learning_rate]
        theirs = []
        if with_opacus and setting.activation == "tanh" and setting.epsilon:
            theirs = [experiment.run("final", "opacus", setting, seed).accuracy for seed in SEEDS]
        rows.append([*row, percent(ours), *((percent(theirs), difference(ours, theirs)) if theirs else ("", ""))])
        kept.append({"setting": setting._asdict(), "jaxmlp": ours, "opacus": theirs})
    header = ["activation", "epsilon", "batch", "epochs", "rate", "jaxmlp, %", "Opacus, %", "difference"]
    print_table(f"{settings[0].data}, delta {DELTAS[settings[0].data]:g}", header, rows)
    return kept


def draw(reported: dict[str, list[dict[str, Any]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(reported), 4), layout="constrained")
    for axis, (data, rows) in zip(figure.subplots(1, len(reported), squeeze=False)[0], reported.items(), strict=True):
        for name, color, shift in (("jaxmlp", "C0", 1.0), ("opacus", "C1", 1.04)):
            private_rows = [row for row in rows if row["setting"]["epsilon"] and row[name]]
            tanh = [row for row in private_rows if row["setting"]["activation"] == "tanh"]
            if tanh:
                means = [interval([100 * value for value in row[name]]) for row in tanh]
                middle = np.array([mean.mean for mean in means])
                spread = np.array([(mean.mean - mean.low, mean.high - mean.mean) for mean in means]).T
                label = {"jaxmlp": "jaxmlp, 128 tanh", "opacus": "Opacus, the same"}[name]
                at = [shift * row["setting"]["epsilon"] for row in tanh]
                axis.errorbar(at, middle, spread, marker="o", ms=4, capsize=3, color=color, label=label)
        for row, marker in zip(
            [row for row in rows if row["setting"]["epsilon"] and row["setting"]["activation"] != "tanh"],
            "v^sD",
            strict=False,
        ):
            kind = row["setting"]["activation"]
            label = "no hidden layer" if kind == "none" else f"128 {kind}"
            axis.plot(row["setting"]["epsilon"], 100 * np.mean(row["jaxmlp"]), marker, color="0.45", label=label, ms=5)
        if data == "fashion-mnist":
            for (epsilon, accuracy, label), marker in zip(PUBLISHED, "*P", strict=True):
                axis.plot(epsilon, 100 * accuracy, marker, color="C3", label=label, ms=9)
        plain = next(row for row in rows if not row["setting"]["epsilon"])
        axis.axhline(100 * np.mean(plain["jaxmlp"]), color="0.6", ls="--", lw=1, label="not private")
        axis.set(xscale="log", xticks=EPSILONS, title=data, xlabel=f"epsilon, at delta {DELTAS[data]:g}")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set_ylabel("test accuracy, %")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7, loc="lower right")
    figure.savefig(path, dpi=200)


def race(experiment: Experiment, setting: Setting, rounds: int = 3) -> None:
    """Time whole trainings in turn."""
    data, test = experiment.parts(setting.data, "final")
    seconds: dict[str, list[float]] = {"jaxmlp": [], "Opacus, ghost clipping": []}
    accuracies: dict[str, list[float]] = {name: [] for name in seconds}
    setting.noise_multiplier(len(data))
    clock = Clock()
    for seed in range(rounds):
        for name, trainer in zip(seconds, TRAINERS.values(), strict=True):
            accuracy, needed = trainer(setting, data, test, seed)
            seconds[name].append(needed)
            accuracies[name].append(accuracy)
    _, one_epoch = by_opacus(setting, data, test, 0, mode="hooks", epochs=1)
    seconds["Opacus, per-example gradients (one epoch, multiplied)"] = [one_epoch * setting.epochs]
    busy, ours = clock.cores_of_others(), median(seconds["jaxmlp"])
    rows = [
        [name, f"{median(of):.1f}", f"{median(of) / ours:.1f}", percent(accuracies[name]) if name in accuracies else ""]
        for name, of in seconds.items()
    ]
    print_table(f"{' '.join(map(str, setting))}", ["trained by", "seconds", "times ours", "accuracy, %"], rows)
    print(f"Other processes kept {busy:.1f} cores busy.")
    experiment.save(race={"setting": setting._asdict(), "seconds": seconds, "cores_of_others": busy})


def has_opacus() -> bool:
    try:
        import opacus  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def main() -> None:
    parser = Parser("experiments.private", __doc__)
    parser.add_argument("--data", type=folder, metavar="FOLDER", help="Fashion-MNIST as IDX files; else digits alone")
    parser.add_argument("--race", action="store_true", help="time whole trainings, and nothing else")
    asked = parser.parse_args()
    sources = ({"fashion-mnist": read(asked.data)} if asked.data else {}) | {"digits": read("digits")}
    experiment = Experiment("private", sources)
    if asked.race:
        race(experiment, chosen(experiment, next(iter(sources)))[1])
        return
    for with_opacus in (False, True) if has_opacus() else (False,):  # ours are soon there
        reported = {data: report(experiment, chosen(experiment, data), with_opacus) for data in sources}
        experiment.save(reported=reported)
        draw(reported, RESULTS / "private.png")


if __name__ == "__main__":
    main()
