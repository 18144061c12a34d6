"""Which activation: how it passes delta on decides how deep a network it can train, and from which initial weights.

    (7)  delta_l = (w_{l+1}^T delta_{l+1}) * phi'(z_l)
         E[delta_l^2] = n_{l+1} Var(w_{l+1}) E[phi'(z_l)^2] E[delta_{l+1}^2]
         z_l ~ N(0, q_l),   q_{l+1} = n_l Var(w_{l+1}) E[phi(z_l)^2]

From layer to layer the size of delta is multiplied by a factor that follows from the scale of the initial weights alone
(mean field theory, Schoenholz et al. 2017, arXiv 1611.01232): below 1 delta vanishes with depth, above 1 it explodes.
So sigmoid, whose phi' is at most 1/4, should fail where networks are deep, tanh do better, and relu, whose phi' is 1
wherever it is not 0, learn fastest.

Measured on digits: delta in all layers of 64-(8 x 128)-10 at initial weights, for every activation of the library's
table; the epochs until 95 % of a validation part are right, and the test accuracy after 20, with 1 to 8 hidden layers
of 32, by plain descent on batches of 64. Each activation and depth has its own best learning rate and initial scale of
a sweep, chosen for every seed by what the other seeds show on the validation part.
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

from experiments.claims._experiment import Claim, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, MARKERS, band, figure, title
from jaxmlp import MLP, TrainConfig, backprop, data, init, sweep
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.data import Prepared

EVERY = tuple(name for name, phi in ACTIVATIONS.items() if phi.derivative is not None)
LAYERS, WIDTH = 8, 128  # of the networks in which delta is looked at
DELTA_SCALES = np.array([0.5, 2**-0.5, 1, 2**0.5, 2])
HALF, ONE, TWICE = 0, 2, 4  # of DELTA_SCALES
TARGET = 0.95
CONFIG = TrainConfig(epochs=20, batch_size=64, momentum=0.0, weight_decay=0.0, schedule="constant")

# What is reported, by name.
FACTOR, PREDICTED = "factor of |delta| from layer to layer", "the same, predicted"
CRITICAL = "initial scale predicted to keep the size of delta"
ALIKE = "cosine between examples in the last hidden layer"
EPOCHS, ACCURACY = f"epochs to {TARGET:.0%}", f"test accuracy after {CONFIG.epochs} epochs"
QUICKEST, BEST = "quickest rate and initial scale", "most accurate rate and initial scale"

Grid: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]  # rates and initial scales


class Design(NamedTuple):
    """The networks to train: depths, and for each activation a grid with its best rates and scales inside."""

    depths: tuple[int, ...]
    grids: dict[str, Grid]
    config: TrainConfig


class Cell(NamedTuple):
    """The best settings (rate, scale) of one activation at one depth, and their scores.

    Attributes
    ----------
    quickest, best
        The settings with the fewest epochs and with the highest validation accuracy.
    epochs, accuracy
        Epochs to the target, and test accuracy: [seeds], each at the setting that is best for the other seeds, so that
        the choice favours none. A run that never arrives counts as one epoch more than there are.
    """

    quickest: tuple[float, float]
    best: tuple[float, float]
    epochs: np.ndarray
    accuracy: np.ndarray


class Delta(NamedTuple):
    """The change of delta in one activation's network at initial weights, at DELTA_SCALES.

    Attributes
    ----------
    sizes
        Its root mean square in each hidden layer: [seeds, scales, LAYERS].
    factor, predicted
        Its change from layer to layer, from the last hidden one to the first: [seeds, scales], [scales].
    critical
        The initial scale that is predicted to keep its size.
    alike
        The mean cosine between the last hidden outputs of two examples: [seeds, scales].
    """

    sizes: np.ndarray
    factor: np.ndarray
    predicted: np.ndarray
    critical: float
    alike: np.ndarray


Cells: TypeAlias = dict[tuple[str, int], Cell]


def powers(low: float, high: float, step: float) -> tuple[float, ...]:
    return tuple((2.0 ** np.arange(low, high + step, step)).tolist())


USUAL, OF_SIGMOID = (powers(-4, 1, 1), powers(-1, 0.5, 0.5)), (powers(-1, 3, 1), powers(0, 2, 0.5))
FULL = Design(
    (1, 2, 4, 8),
    {"sigmoid": OF_SIGMOID, "tanh": USUAL, "relu": USUAL, "elu": USUAL, "gelu": USUAL},
    CONFIG,
)
SMALL: Grid = ((0.25, 1.0), (1.0, 2.0))
QUICK = Design((2,), {"sigmoid": SMALL, "tanh": SMALL, "relu": SMALL}, replace(CONFIG, epochs=8))


def run(options: Options) -> Outcome:
    digits, design = data.prepare(data.read("digits"), validation_fraction=0.2), QUICK if options.quick else FULL
    names = tuple(design.grids) if options.quick else EVERY
    deltas = {name: measured(name, digits, options.seeds) for name in names}
    return outcome(design, trained(design, digits, options.seeds), deltas)


def factors(name: str, scales: np.ndarray) -> np.ndarray:
    """Predict by how much each hidden layer multiplies the root mean square of delta: [scales, LAYERS], eq. (7)."""
    u = np.linspace(-8, 8, 2000)  # sums over it, weighted, are expectations over N(0, 1)
    weights = np.exp(-(u**2) / 2) / np.exp(-(u**2) / 2).sum()
    phi = ACTIVATIONS[name]
    variance = (scales * phi.gain) ** 2  # n Var(w) as `jaxmlp.init` draws w
    q, squares = variance, []  # of standardised inputs, E[x^2] = 1
    for _ in range(LAYERS):
        z = jnp.asarray(np.sqrt(q)[:, None] * u, jnp.float32)
        squares.append(variance * (np.asarray(phi.derivative(z)) ** 2 @ weights))
        q = variance * (np.asarray(phi.phi(z)) ** 2 @ weights)
    return np.sqrt(np.stack(squares, 1))


def measured(name: str, digits: Prepared, n_seeds: int) -> Delta:
    """Measure delta, and what the initial scale predicts of it."""
    x, t = jnp.asarray(digits.train.x[:256]), jnp.asarray(digits.train.t[:256])
    keys = jnp.stack([jax.random.key(seed) for seed in range(n_seeds)])
    scales = jnp.asarray(DELTA_SCALES, jnp.float32)
    looked = look(MLP((64, *(WIDTH,) * LAYERS, 10), name), keys, scales, x, t)
    sizes, alike = (np.asarray(each, float) for each in looked)
    factor = (sizes[..., 0] / sizes[..., -1]) ** (1 / (LAYERS - 1))
    return Delta(sizes, factor, predicted_factor(name, DELTA_SCALES), critical_scale(name), alike)


@partial(jax.jit, static_argnames="mlp")
def look(mlp: MLP, keys: Array, scales: Array, x: Array, t: Array) -> tuple[Array, Array]:
    """Return the root mean square of delta in every hidden layer, and how alike examples are in the last one."""

    def at(key: Array, scale: Array) -> tuple[Array, Array]:
        _, _, factors = jax.vmap(partial(backprop, mlp, init(mlp, key, scale=scale)))(x, t)
        y = factors[-1].y_in
        center = (y / jnp.linalg.norm(y, axis=1, keepdims=True)).mean(0)
        return jnp.stack([jnp.sqrt((each.delta**2).mean()) for each in factors[:-1]]), center @ center

    return lax.map(lambda key: lax.map(partial(at, key), scales), keys)


def predicted_factor(name: str, scales: np.ndarray) -> np.ndarray:
    return np.exp(np.log(factors(name, scales)[:, :-1]).mean(1))


def critical_scale(name: str) -> float:
    """Return the lowest initial scale at which delta is predicted not to vanish; nan where there is none up to 8."""
    scales = np.geomspace(0.25, 8, 400)
    keeps = predicted_factor(name, scales) >= 1
    return float(scales[keeps.argmax()]) if keeps.any() else float("nan")


def trained(design: Design, digits: Prepared, n_seeds: int) -> Cells:
    """Train every activation and depth with all of its settings and seeds, and choose among the settings."""
    kinds = list(product(design.grids, design.depths))
    settings = {name: list(product(*grid)) for name, grid in design.grids.items()}
    rows = [
        (name, (32,) * depth, *setting, seed)
        for name, depth in kinds
        for setting, seed in product(settings[name], range(n_seeds))
    ]
    space = sweep.Space(("activation", "hidden", "learning_rate", "init_scale", "seed"), tuple(rows))
    parts = {"validation": digits.validation, "test": digits.test}
    results = sweep.run(space, digits.train, design.config, mlp=MLP((64, 32, 10)), **parts, keep=0)
    tests, cells, first = [row.test_accuracy or 0 for row in results.rows()], {}, 0
    for name, depth in kinds:
        histories = [results.history(first + i) for i in range(len(settings[name]) * n_seeds)]
        never = design.config.epochs + 1
        epochs = [next((e.epoch for e in each if (e.validation_accuracy or 0) >= TARGET), never) for each in histories]
        end = [each[-1].validation_accuracy or 0 for each in histories]  # 0 where it diverged
        of_cell = tests[first : first + len(histories)]
        by_seed = (np.reshape(values, (-1, n_seeds)) for values in (epochs, end, of_cell))
        cells[name, depth] = choose(settings[name], *by_seed)
        first += len(histories)
    return cells


def choose(settings: list[tuple[float, float]], epochs: np.ndarray, end: np.ndarray, tests: np.ndarray) -> Cell:
    """Choose the quickest and the most accurate of the settings by epochs and validation: [settings, seeds] each."""

    def chosen(seeds: np.ndarray) -> list[int]:
        speed, quality = epochs[:, seeds].mean(1), end[:, seeds].mean(1)
        return [int(np.lexsort(keys)[0]) for keys in ((-quality, speed), (speed, -quality))]

    everyone = np.arange(epochs.shape[1])
    by_others = [chosen(everyone[everyone != seed] if len(everyone) > 1 else everyone) for seed in everyone]
    quickest, best = np.array(by_others).T
    of_all = [settings[i] for i in chosen(everyone)]
    return Cell(of_all[0], of_all[1], epochs[quickest, everyone], tests[best, everyone])


def outcome(design: Design, cells: Cells, deltas: dict[str, Delta]) -> Outcome:
    deep = [
        (
            name,
            *(str(interval(delta.factor[:, i])) for i in (HALF, ONE, TWICE)),
            f"{delta.critical:.2f}",
            str(interval(delta.alike[:, ONE])),
        )
        for name, delta in deltas.items()
    ]
    rows = [
        (name, depth, str(interval(cell.epochs)), words(cell.quickest), str(interval(cell.accuracy)), words(cell.best))
        for (name, depth), cell in cells.items()
    ]
    of_delta = {
        name: {
            f"{FACTOR}, by seed and scale": delta.factor,
            f"{PREDICTED}, by scale": delta.predicted,
            "|delta_l| / |delta_8| at scale 1, by layer": (delta.sizes / delta.sizes[..., -1:]).mean(0)[ONE],
            CRITICAL: delta.critical,
            f"{ALIKE}, by seed and scale": delta.alike,
        }
        for name, delta in deltas.items()
    }
    of_training = {
        f"{name}, {depth}": {
            f"{EPOCHS}, by seed": cell.epochs,
            QUICKEST: cell.quickest,
            f"{ACCURACY}, by seed": cell.accuracy,
            BEST: cell.best,
        }
        for (name, depth), cell in cells.items()
    }
    return Outcome(
        claims(design, cells, deltas),
        [
            Table(FACTOR, ("initial scale", "0.5", "1", "2", CRITICAL, f"{ALIKE}, scale 1"), deep),
            Table("Each at its own best", ("", "hidden layers", EPOCHS, QUICKEST, ACCURACY, BEST), rows),
        ],
        finding(design, cells, deltas),
        {"initial scales": DELTA_SCALES, "delta": of_delta, "training, by activation and depth": of_training},
        draw(design, cells, deltas),
    )


def words(setting: tuple[float, float]) -> str:
    return f"{setting[0]:g}, {setting[1]:.2g}"


def claims(design: Design, cells: Cells, deltas: dict[str, Delta]) -> list[Claim]:
    shallow, deep = design.depths[0], design.depths[-1]
    off = {name: np.abs(delta.factor.mean(0) / delta.predicted - 1).max() for name, delta in deltas.items()}
    worst = max(off, key=off.__getitem__)
    through = {name: interval(deltas[name].factor[:, ONE] ** (LAYERS - 1)) for name in ("sigmoid", "tanh", "relu")}
    keeps = [0.5 < through[name].mean < 2 for name in ("tanh", "relu")]
    odd = [name for name, d in deltas.items() if not d.factor[:, HALF].mean() < 1 < d.factor[:, TWICE].mean()]
    epochs = {key: cell.epochs.mean() for key, cell in cells.items()}
    ends = {key: 100 * cell.accuracy.mean() for key, cell in cells.items()}
    of_shallow = [ends[name, shallow] for name in design.grids]
    spread = max(of_shallow) - min(of_shallow)
    ordered = [d for d in design.depths if epochs["relu", d] <= epochs["tanh", d] <= epochs["sigmoid", d]]
    lost = {name: ends[name, shallow] - ends[name, deep] for name in design.grids}
    others = max(loss for name, loss in lost.items() if name != "sigmoid")
    ratios = {name: cells[name, deep].quickest[1] / deltas[name].critical for name in design.grids}
    near = [name for name, ratio in ratios.items() if 2**-0.5 < ratio < 2**0.5]
    return [
        Claim(
            "the initial scale predicts how the size of delta changes from layer to layer",
            f"factors off by {max(off.values()):.1%} at most ({worst}), of {len(deltas)} activations at 5 scales",
            judge(max(off.values()) < 0.05, max(off.values()) < 0.2),
        ),
        Claim(
            f"at the library's initial scale delta vanishes through {LAYERS} layers of sigmoid, not of tanh and relu",
            "to " + ", ".join(f"{size} of itself ({name})" for name, size in through.items()),
            judge(through["sigmoid"].mean < 0.1 and all(keeps), through["sigmoid"].mean < 0.1),
        ),
        Claim(
            "at half that scale delta vanishes with every activation, at twice it explodes",
            f"with {len(deltas) - len(odd)} of {len(deltas)}{', not ' * bool(odd)}{', '.join(odd)}",
            judge(not odd, odd == ["sigmoid"]),
        ),
        Claim(
            f"with {shallow} hidden layer it hardly matters which activation, each at its best",
            f"accuracies of {min(of_shallow):.1f} to {max(of_shallow):.1f} %",
            judge(spread < 1, spread < 2),
        ),
        Claim(
            "relu learns fastest, then tanh, then sigmoid, at every depth",
            "; ".join(f"{d}: {', '.join(f'{epochs[n, d]:.1f}' for n in through)}" for d in design.depths)
            + " epochs of sigmoid, tanh, relu",
            judge(len(ordered) == len(design.depths), len(ordered) > len(design.depths) / 2),
        ),
        Claim(
            f"{deep} hidden layers cost accuracy with sigmoid, and not with the others",
            "points lost: " + ", ".join(f"{name} {loss:.1f}" for name, loss in lost.items()),
            judge(lost["sigmoid"] > 1 > others, lost["sigmoid"] > others),
        ),
        Claim(
            f"{deep} hidden layers learn fastest from the scale that keeps the size of delta",
            "from " + ", ".join(f"{ratio:.2f} ({name})" for name, ratio in ratios.items()) + " times that",
            judge(len(near) == len(ratios), len(near) > len(ratios) / 2),
        ),
    ]


def finding(design: Design, cells: Cells, deltas: dict[str, Delta]) -> str:
    shallow, deep = design.depths[0], design.depths[-1]
    order = sorted(design.grids, key=lambda name: cells[name, deep].epochs.mean())
    through = {name: interval(deltas[name].factor[:, ONE] ** (LAYERS - 1)) for name in design.grids}
    speeds = ", ".join(f"{name} {interval(cells[name, deep].epochs)}" for name in order)
    alike = ", ".join(f"{name} {deltas[name].alike[:, ONE].mean():.2f}" for name in order)
    rates = ", ".join(f"{name} {cells[name, deep].quickest[0]:g}" for name in order)
    arrive = (cells["sigmoid", deep].epochs <= design.config.epochs).mean()
    critical, (narrow, wide) = deltas["sigmoid"].critical, (cells[n, shallow].quickest[0] for n in ("tanh", "sigmoid"))
    return f"""From the initial scale alone the size of delta is known in every layer before training, for all of
    {len(deltas)} activations. Of sigmoid's delta {through["sigmoid"]} is left after {LAYERS} layers at the library's
    initial scale, and only one of {critical:.2g} would keep it. With {shallow} hidden layer that costs little: sigmoid
    only wants a higher rate ({wide:g} where tanh wants {narrow:g}). With {deep} it costs much: {arrive:.0%} of the
    seeds reach {TARGET:.0%} within {design.config.epochs} epochs, at the best rate and scale swept.

    What does not hold is the lead of relu. Epochs with {deep} hidden layers: {speeds}. relu keeps delta as well as tanh
    does ({through["relu"]} and {through["tanh"]} times it are left), so that vanishing is not the reason. What nearly
    goes with speed is how alike examples have become in the last hidden layer at initial weights, the mean cosine
    between two of them: {alike}. Where outputs are never negative, as those of sigmoid and relu, examples grow alike
    from layer to layer, and relu is quickest at low rates (with {deep} hidden layers: {rates}). That fits, and proves
    nothing."""


def draw(design: Design, cells: Cells, deltas: dict[str, Delta]) -> Figure:
    picture, (by_layer, by_scale, speed, quality) = figure(2, 2, height=3.1)
    layers, most = np.arange(1, LAYERS + 1), design.config.epochs
    by_layer.set(yscale="log", xlabel="hidden layer l", ylabel=r"$|\delta_l|\ /\ |\delta_8|$")
    by_scale.set(xscale="log", yscale="log", xlabel="predicted", ylabel="measured")
    by_scale.minorticks_off()
    for set_ticks in (by_scale.set_xticks, by_scale.set_yticks):
        set_ticks([0.25, 0.5, 1, 2], ["0.25", "0.5", "1", "2"])
    low, high = (limit([delta.factor for delta in deltas.values()]) for limit in (np.min, np.max))
    by_scale.plot([low, high], [low, high], ":", color=GREY, label="predicted")
    others = [name for name in deltas if name not in design.grids]
    for name in others:
        by_scale.plot(
            deltas[name].predicted, deltas[name].factor.mean(0), "x", color=GREY, markersize=5, label="others"
        )
    for i, name in enumerate(design.grids):
        delta = deltas[name]
        expected = np.cumprod(np.append(1, factors(name, DELTA_SCALES[[ONE]])[0, -2::-1]))[::-1]
        by_layer.plot(layers, expected, ":", color=GREY)
        band(by_layer, layers, (delta.sizes / delta.sizes[..., -1:])[:, ONE], i, linestyle="", markersize=5)
        style = {"color": COLORS[i], "marker": MARKERS[i], "markersize": 5, "linestyle": "", "label": name}
        by_scale.plot(delta.predicted, delta.factor.mean(0), **style)
        for axes, which in ((speed, "epochs"), (quality, "accuracy")):
            values = [getattr(cells[name, depth], which) for depth in design.depths]
            band(axes, design.depths, np.stack(values, 1), i)
    speed.set(ylabel=f"epochs to {TARGET:.0%} of the validation part", ylim=(0, most + 2))
    speed.set_yticks([*range(0, most, 5), most + 1], [*map(str, range(0, most, 5)), f"> {most}"])
    quality.set(ylabel=f"test accuracy after {most} epochs")
    for axes in (speed, quality):
        axes.set_xscale("log", base=2)
        axes.set(xlabel="hidden layers")
        axes.set_xticks(design.depths, list(map(str, design.depths)))
    title(by_layer, "delta at initial weights of scale 1")
    title(by_scale, "its factor from layer to layer, scales 0.5 to 2")
    title(speed, "speed, each at its best")
    title(quality, "quality, each at its best")
    handles, labels = by_scale.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    picture.legend(entries.values(), entries, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    return picture


if __name__ == "__main__":
    main(run)
