"""Why softmax with cross-entropy: it learns from every error, sigmoid with the quadratic loss not from the largest.

    (5)  quadratic loss with sigmoid     delta_L = (y - t) (1 - y) y
    (6)  cross-entropy with softmax      delta_L = y - t

By (6) delta_L is the error itself, and vanishes only where the output is right. By (5) it vanishes wherever y is near 0
or 1, also at the wrong side, where the error is largest: there it falls as y or as 1 - y. So sigmoid with the quadratic
loss is slow, and slower still from initial weights so large that outputs are saturated at the wrong side.

Measured on digits with 64-32-10, relu, by plain descent on batches of 64: |delta_L| of every output along real training
runs; the share of examples whose right output is saturated at 0; the epochs until 95 % of a validation part are right,
by the scale of the initial weights, each pair at its own best learning rate of a sweep. Two more pairs tell what
matters, the loss or the output: sigmoid with binary_cross_entropy, whose delta_L is y - t as well, and softmax with
quadratic.
"""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from matplotlib.figure import Figure
from scipy import special

from experiments.claims._experiment import Claim, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, MARKERS, band, figure, legend, title
from jaxmlp import MLP, TrainConfig, backprop, data, init, sweep, train
from jaxmlp.data import Prepared
from jaxmlp.network import Params

Pair: TypeAlias = tuple[str, str]  # output and loss
QUADRATIC, ENTROPY = ("sigmoid", "quadratic"), ("softmax", "cross_entropy")
BINARY, SOFT = ("sigmoid", "binary_cross_entropy"), ("softmax", "quadratic")
PAIRS = (QUADRATIC, ENTROPY, BINARY, SOFT)
GOOD, BAD = 1.0, 2.0  # scales of initial weights: the library's own, and one that saturates most sigmoid outputs
TARGET = 0.95
NEAR = 0.01  # to 0 or to 1 an output is saturated
ODDS = np.linspace(-14, 14, 29)  # edges between which |delta_L| is averaged, in log(y / (1 - y))
CONFIG = TrainConfig(epochs=30, batch_size=64, momentum=0.0, weight_decay=0.0, schedule="constant")

# What is reported, by name.
RIGHT_0, RIGHT_1 = "exponent, right output, y to 0", "exponent, right output, y to 1"
WRONG_0, WRONG_1 = "exponent, wrong output, y to 0", "exponent, wrong output, y to 1"
LEFT = "|delta_L| of right outputs saturated at 0"
SHARE = "share of examples whose right output is saturated at 0, by epochs"
SOON = "of those at initial weights, share that still are after an epoch"
STUCK = "of those at initial weights, share that still are after training"
EPOCHS, RATE, END = f"epochs to {TARGET:.0%}", "best learning rate", "test accuracy at the end"


class Design(NamedTuple):
    """The values of the sweep, and the number of examples whose outputs are followed."""

    pairs: tuple[Pair, ...]
    scales: tuple[float, ...]
    rates: tuple[float, ...]
    config: TrainConfig
    n_examples: int


class Swept(NamedTuple):
    """The results of the sweep; a run that never arrives counts as one epoch more than there are."""

    design: Design
    by_rate: np.ndarray  # mean epochs to the target: [pairs, scales, rates]
    rates: np.ndarray  # the best: [pairs, scales]
    epochs: np.ndarray  # to the target, at the best rate: [pairs, scales, seeds]
    end: np.ndarray  # test accuracy there: [pairs, scales, seeds]

    def at(self, pair: Pair, scale: float) -> tuple[int, int]:
        """Return the indices of a pair and a scale."""
        return self.design.pairs.index(pair), self.design.scales.index(scale)

    def arrives(self, pair: Pair, scale: float) -> np.ndarray:
        """Return which seeds reach the target: [seeds]."""
        return self.epochs[self.at(pair, scale)] <= self.design.config.epochs


class Outputs(NamedTuple):
    """Every output along training: [seeds, epochs + 1, examples, 10], and which one is right: [examples, 10]."""

    y: np.ndarray
    delta: np.ndarray
    is_right: np.ndarray


class Ratio(NamedTuple):
    """The ratio of two pairs' epochs, seed by seed: the geometric mean and its 95 % interval."""

    mean: float
    low: float
    high: float
    is_bound: bool  # some seed never arrives

    def __str__(self) -> str:
        """Write it with its interval."""
        return f"{'at least ' * self.is_bound}{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


Numbers: TypeAlias = dict[str, np.ndarray]
FULL = Design(PAIRS, (GOOD, 2**0.5, BAD, 2**1.5, 4.0), tuple(2.0 ** np.arange(-5, 5)), CONFIG, 512)
QUICK = Design(PAIRS[:2], (GOOD, BAD), (0.25, 0.5, 1.0, 2.0), replace(CONFIG, epochs=10), 256)


def run(options: Options) -> Outcome:
    digits, design = data.prepare(data.read("digits"), validation_fraction=0.2), QUICK if options.quick else FULL
    swept = swept_rates(design, digits, options.seeds)
    outputs = {}
    for pair, scale in product((QUADRATIC, ENTROPY), (GOOD, BAD)):
        config = replace(design.config, init_scale=scale, learning_rate=float(swept.rates[swept.at(pair, scale)]))
        outputs[pair, scale] = followed(pair, config, digits, options.seeds, design.n_examples)
    return outcome(swept, outputs)


def network(pair: Pair) -> MLP:
    return MLP((64, 32, 10), "relu", *pair)


def swept_rates(design: Design, digits: Prepared, n_seeds: int) -> Swept:
    """Train every pair from every scale at every rate; the best rate needs the fewest epochs, or ends best."""
    settings = product(design.pairs, design.scales, design.rates, range(n_seeds))
    names = ("output", "loss", "init_scale", "learning_rate", "seed")
    space = sweep.Space(names, tuple((*pair, *rest) for pair, *rest in settings))
    parts = {"validation": digits.validation, "test": digits.test}
    results = sweep.run(space, digits.train, design.config, mlp=network(ENTROPY), **parts, keep=0)
    accuracies = np.zeros((len(results), design.config.epochs))  # 0 from where a run diverges
    for trial, row in enumerate(accuracies):
        reached = [epoch.validation_accuracy or 0 for epoch in results.history(trial)]
        row[: len(reached)] = reached
    shape = (len(design.pairs), len(design.scales), len(design.rates), n_seeds)
    accuracies = accuracies.reshape(*shape, -1)
    tests = np.reshape([row.test_accuracy or 0 for row in results.rows()], shape)
    is_there = accuracies >= TARGET
    epochs = np.where(is_there.any(-1), is_there.argmax(-1), design.config.epochs) + 1
    best = np.lexsort((-accuracies[..., -1].mean(-1), epochs.mean(-1)))[..., :1]
    at_best = [np.take_along_axis(each, best[..., None], 2)[:, :, 0] for each in (epochs, tests)]
    return Swept(design, epochs.mean(-1), np.array(design.rates)[best[..., 0]], *at_best)


def followed(pair: Pair, config: TrainConfig, digits: Prepared, n_seeds: int, n_examples: int) -> Outputs:
    """Train with each seed, and look at the outputs before and after every epoch, in float64."""
    mlp, paths = network(pair), []
    for key in map(jax.random.key, range(n_seeds)):
        kept = [init(mlp, key, scale=config.init_scale)]
        train(mlp, digits.train, config, key=key, callback=lambda trained, kept=kept: kept.append(trained.last_params))
        paths.append(jax.tree.map(lambda *leaves: np.stack(leaves), *kept))
    x, t = digits.train.x[:n_examples], digits.train.t[:n_examples]
    with jax.enable_x64(True):
        path = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), jnp.float64), *paths)
        y, delta = look(mlp, path, jnp.asarray(x, jnp.float64), jnp.asarray(t))
        return Outputs(np.asarray(y), np.asarray(delta), np.eye(10)[t] == 1)


@partial(jax.jit, static_argnames="mlp")
def look(mlp: MLP, path: Params, x: Array, t: Array) -> tuple[Array, Array]:
    """Return y_L and delta_L at every place of a path: [seeds, epochs + 1, N, 10] each."""

    def at(params: Params) -> tuple[Array, Array]:
        _, y, factors = jax.vmap(partial(backprop, mlp, params))(x, t)
        return y, factors[-1].delta

    return lax.map(lambda of_seed: lax.map(at, of_seed), path)


def powers(outputs: list[Outputs]) -> Numbers:
    """Return with which power |delta_L| falls as an output nears 0 or 1, by whether it is the right one: [seeds]."""
    found: dict[str, list[float]] = {name: [] for name in (RIGHT_0, RIGHT_1, WRONG_0, WRONG_1)}
    for seed in range(len(outputs[0].y)):
        for is_right, names in ((True, (RIGHT_0, RIGHT_1)), (False, (WRONG_0, WRONG_1))):
            y, delta = pooled(outputs, seed, is_right)
            for name, left in zip(names, (y, 1 - y), strict=True):
                near = (left < NEAR) & (left > 1e-10)  # below that 1 - y itself is rounded
                a, b = np.log(left[near]), np.log(delta[near])
                found[name].append(np.cov(a, b)[0, 1] / a.var(ddof=1) if len(a) > 2 else np.nan)
    return {name: np.array(values) for name, values in found.items()}


def pooled(outputs: list[Outputs], seed: int, is_right: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return y and |delta_L| of all right or all wrong outputs of a seed."""
    y, delta = (np.concatenate([one[k][seed][:, one.is_right == is_right].ravel() for one in outputs]) for k in (0, 1))
    return y, np.abs(delta)


def by_odds(outputs: list[Outputs]) -> np.ndarray:
    """Return the mean |delta_L| of right outputs between each two of ODDS: [seeds, n], nan where there are none."""
    rows = []
    for seed in range(len(outputs[0].y)):
        y, delta = pooled(outputs, seed, True)
        place = np.digitize(special.logit(y), ODDS)
        counts, sums = (np.bincount(place, weights, len(ODDS) + 1)[1:-1] for weights in (None, delta))
        rows.append(np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0))
    return np.array(rows)


def saturation(outputs: Outputs) -> Numbers:
    """Return how many right outputs are saturated at 0, how many stay there, and their |delta_L|."""
    right, delta = (each[:, :, outputs.is_right] for each in outputs[:2])
    is_low = right < NEAR
    first, counts = is_low[:, 0], np.maximum(is_low[:, 0].sum(-1), 1)
    return {
        LEFT: np.where(is_low, np.abs(delta), 0).sum((1, 2)) / np.maximum(is_low.sum((1, 2)), 1),
        SHARE: is_low.mean(-1),
        SOON: (first & is_low[:, 1]).sum(-1) / counts,
        STUCK: (first & is_low[:, -1]).sum(-1) / counts,
    }


def compared(swept: Swept, scale: float, slow: Pair) -> Ratio:
    """Compare a pair with softmax and cross-entropy."""
    epochs = [swept.epochs[swept.at(pair, scale)] for pair in (slow, ENTROPY)]
    mean, half = interval(np.log(epochs[0] / epochs[1]))
    return Ratio(*np.exp([mean, mean - half, mean + half]).tolist(), not swept.arrives(slow, scale).all())


def words(pair: Pair) -> str:
    return " with ".join(pair)


def outcome(swept: Swept, outputs: dict[tuple[Pair, float], Outputs]) -> Outcome:
    exponents, odds, saturated = {}, {}, {}
    for pair in (QUADRATIC, ENTROPY):
        both = [outputs[pair, scale] for scale in (GOOD, BAD)]
        exponents[pair], odds[pair] = powers(both), by_odds(both)
        saturated[pair] = {scale: saturation(one) for scale, one in zip((GOOD, BAD), both, strict=True)}
    speed = [
        (
            words(pair),
            f"{scale:g}",
            f"{swept.rates[at]:g}",
            str(interval(swept.epochs[at])),
            str(interval(swept.end[at])),
        )
        for pair, scale in product(swept.design.pairs, (GOOD, BAD))
        for at in [swept.at(pair, scale)]
    ]
    most = swept.design.config.epochs
    epochs = f"{EPOCHS} ({most + 1} where there are more)"
    numbers = {
        words(pair): {
            f"{EPOCHS}, by scale and rate": swept.by_rate[i],
            f"{RATE}, by scale": swept.rates[i],
            f"{EPOCHS} at the best rate, by scale and seed": swept.epochs[i],
            f"{END}, by scale and seed": swept.end[i],
        }
        for i, pair in enumerate(swept.design.pairs)
    }
    for pair, entry in exponents.items():
        numbers[words(pair)] |= entry | {"|delta_L| of the right output, by log(y / (1 - y))": odds[pair]}
        numbers[words(pair)] |= {f"from scale {scale:g}": one for scale, one in saturated[pair].items()}
    rows = [(name, *(str(interval(exponents[pair][name])) for pair in exponents)) for name in exponents[ENTROPY]]
    rows += [
        (f"{name}, from scale {scale:g}", *(str(interval(saturated[pair][scale][name])) for pair in exponents))
        for scale, name in product((GOOD, BAD), (LEFT, SOON, STUCK))
    ]
    return Outcome(
        claims(swept, exponents, {pair: saturated[pair][BAD] for pair in saturated}),
        [
            Table("Outputs along training", ("", *map(words, exponents)), rows),
            Table("Each at its own best rate", ("", "initial scale", RATE, epochs, END), speed),
        ],
        finding(swept, saturated[QUADRATIC][BAD], saturated[ENTROPY][BAD]),
        {"scales": swept.design.scales, "rates": swept.design.rates, "edges of log(y / (1 - y))": ODDS} | numbers,
        draw(swept, odds, saturated),
    )


def claims(swept: Swept, exponents: dict[Pair, Numbers], saturated: dict[Pair, Numbers]) -> list[Claim]:
    soon, stuck = ([interval(saturated[pair][what]) for pair in (QUADRATIC, ENTROPY)] for what in (SOON, STUCK))
    good, bad = (compared(swept, scale, QUADRATIC) for scale in (GOOD, BAD))
    found = [
        of_powers(
            "by (5) delta_L vanishes at both ends, as y or 1 - y where the output is wrong", exponents[QUADRATIC], 1
        ),
        of_powers("by (6) delta_L vanishes only where the output is right", exponents[ENTROPY], 0),
        Claim(
            f"right outputs that are saturated at 0 (from scale {BAD:g}) stay there by (5), and leave by (6)",
            f"after an epoch {soon[0]} and {soon[1]} of them are there, after all {stuck[0]} and {stuck[1]}",
            judge(stuck[0].mean > 0.5 > soon[1].mean, soon[0].mean > 0.5 > soon[1].mean),
        ),
        Claim(
            f"softmax with cross-entropy needs fewer epochs to {TARGET:.0%}, each at its own best rate",
            f"sigmoid with quadratic needs {good} times as many",
            judge(good.low > 1, good.mean > 1),
        ),
        Claim(
            f"its lead is larger from bad initial weights (scale {BAD:g})",
            f"sigmoid with quadratic needs {bad} times as many",
            judge(bad.low > good.high, bad.mean > good.mean),
        ),
    ]
    if swept.design.pairs != PAIRS:
        return found
    binary, soft = (compared(swept, GOOD, pair) for pair in (BINARY, SOFT))
    return [
        *found,
        Claim(
            "it is the loss: sigmoid with binary_cross_entropy, whose delta_L is y - t too, is as quick",
            f"it needs {binary} times as many",
            judge(binary.low <= 1, binary.mean < 2),
        ),
        Claim(
            "with softmax, too, the quadratic loss is slower",
            f"it needs {soft} times as many",
            judge(soft.low > 1, soft.mean > 1),
        ),
    ]


def of_powers(claim: str, exponents: Numbers, where_wrong: int) -> Claim:
    """Judge exponents: by (5) 1 where the output is wrong and 2 where it is right, by (6) 0 and 1."""
    wrong, right = ([interval(exponents[name]) for name in names] for names in ((RIGHT_0, WRONG_1), (RIGHT_1, WRONG_0)))
    off = [abs(one.mean - where_wrong) for one in wrong] + [abs(one.mean - where_wrong - 1) for one in right]
    shown = [" and ".join(f"{one.mean:.3f}" for one in each) for each in (wrong, right)]
    return Claim(claim, f"exponents {shown[0]} where wrong, {shown[1]} where right", judge(max(off) < 0.05))


def finding(swept: Swept, quadratic: Numbers, entropy: Numbers) -> str:
    share = [f"{interval(quadratic[SHARE][:, epoch]).mean:.0%}" for epoch in (0, 1, -1)]
    good, bad = (compared(swept, scale, QUADRATIC) for scale in (GOOD, BAD))
    arrive, most = swept.arrives(QUADRATIC, BAD).mean(), swept.design.config.epochs
    text = f"""Real runs do what the formulas say: a right output that is saturated at 0 gets a |delta_L| of
    {interval(quadratic[LEFT])} by (5), and of {interval(entropy[LEFT]).mean:.3f} by (6). Each pair at its own best
    rate, sigmoid with quadratic needs {good} times as many epochs as softmax with cross-entropy from the library's
    initial weights. From weights {BAD:g} times as large it needs {bad} times as many, and {arrive:.0%} of the seeds
    arrive within {most} epochs. What is in the way are the right outputs: outputs that are wrongly near 1 leave in an
    epoch, as nine of ten targets are 0, but the share of examples whose right output is saturated at 0 goes from
    {share[0]} to {share[1]} meanwhile, and is {share[2]} at the end. No rate of the sweep makes up for that."""
    if swept.design.pairs != PAIRS:
        return text
    binary, *soft = (compared(swept, *of) for of in ((GOOD, BINARY), (GOOD, SOFT), (BAD, SOFT)))
    rates = [f"{swept.rates[swept.at(pair, GOOD)]:g}" for pair in (SOFT, ENTROPY)]
    return f"""{text}

    Where the claim has limits: it is not the loss alone. Sigmoid with binary_cross_entropy, of the same delta_L =
    y - t, needs {binary} times as many epochs as softmax with cross-entropy. And softmax makes up for most of what the
    quadratic loss lacks: together they need {soft[0]} times as many from good and {soft[1]} times from bad initial
    weights, if only their rate is {rates[0]} where cross-entropy's is {rates[1]}. A sweep of rates takes back much of
    what a comparison at one rate would show."""


def draw(swept: Swept, odds: dict[Pair, np.ndarray], saturated: dict[Pair, dict[float, Numbers]]) -> Figure:
    picture, (delta, share, by_rate, by_scale) = figure(2, 2, height=3.1)
    design, most = swept.design, swept.design.config.epochs
    y = special.expit((ODDS[1:] + ODDS[:-1]) / 2)
    delta.set(xscale="logit", yscale="log", xlabel="output y of the right class", ylabel=r"mean $|\delta_L|$")
    share.set(xlabel="epochs", ylabel="share of examples")
    for i, pair in enumerate((QUADRATIC, ENTROPY)):
        band(delta, y, odds[pair], i)
        for scale, one in saturated[pair].items():
            band(share, np.arange(most + 1), one[SHARE], i, linestyle="-" if scale == BAD else ":")
    delta.plot(y, (1 - y) ** 2 * y, ":", color=GREY, label="(5), (6)")
    delta.plot(y, 1 - y, ":", color=GREY)
    legend(delta, loc="lower left")
    for scale, style in ((GOOD, ":"), (BAD, "-")):
        share.plot([], [], style, color=GREY, label=f"initial scale {scale:g}")
    legend(share)
    for i, pair in enumerate(swept.design.pairs):
        band(by_scale, design.scales, swept.epochs[i].T, i)
        style = {"color": COLORS[i], "marker": MARKERS[i], "markersize": 4, "linewidth": 1.4, "label": words(pair)}
        by_rate.plot(design.rates, swept.by_rate[i, design.scales.index(GOOD)], **style)
    for axes, what in ((by_rate, "learning rate"), (by_scale, "scale of the initial weights")):
        axes.set(xlabel=what, ylabel=f"epochs to {TARGET:.0%} of the validation part", ylim=(0, most + 2))
        axes.set_yticks([*range(0, most, 10), most + 1], [*map(str, range(0, most, 10)), f"> {most}"])
        axes.set_xscale("log", base=2)
    by_scale.set_xticks(design.scales, [f"{scale:.2g}" for scale in design.scales])
    title(delta, "what the right output learns from")
    title(share, "right output saturated at 0")
    title(by_rate, f"by learning rate, from scale {GOOD:g}")
    title(by_scale, "each at its own best rate")
    picture.legend(*by_rate.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return picture


if __name__ == "__main__":
    main(run)
