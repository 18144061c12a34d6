"""Where autodiff stops: in float32 the gradient of log-softmax ends at a margin of 17, and some descents notice.

    (6)  delta_L = y - t,  of the right class k: delta_k = y_k - 1 = -sum_{j != k} y_j
         y_k rounds to 1, and y_k - 1 to 0, at margins z_k - log sum_{j != k} exp z_j above 24 log 2 = 16.6

Autodiff of log-softmax takes the difference y_k - 1, this library the sum of the others. Once the difference is 0, what
is left pushes the wrong classes down, and nothing pulls the right one up: it is the gradient of no loss. Descent with a
normalised gradient, w moves by eta g / |g|, goes on however small g is, and lives by its direction: with the difference
it turns chaotic once margins pass 17 (a first trial saw norms of the gradient between 1e-3 and 1e2, and logits of
6,000), with the sum it goes on smoothly to a norm of 1e-36, where float32 itself ends.

Measured in float32 on addition modulo 13 (26-128-13, relu, 70 % of all pairs; after Power et al. 2022, and Prieto et
al. 2025, who call this softmax collapse) and on 512 digits (64-32-10, relu), all examples at once; and with plain SGD
with momentum on both. Each descent has a twin, whose initial weights are off by a millionth: chaos is what drives twins
apart. The truth is the gradient in float64, at the same weights, of the loss written as softplus(log sum_{j != k} exp
z_j - z_k), which takes no difference from 1 and is right at any margin.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments.claims._experiment import Claim, Options, Outcome, Table, interval, judge, main
from experiments.claims._log_softmax_descents import AUTODIFF, EVERY, OURS, REWRITTEN, Seen, descend, see, train
from experiments.claims._plotting import COLORS, GREY, MARKERS, direct, figure, legend, title
from jaxmlp import MLP, data, init, predict
from jaxmlp.network import Params

LIMIT = 24 * np.log(2)  # from this margin on, 1 + exp(-margin) rounds to 1
END, EARLIER = 1e-36, 1e-30  # norms; the smallest normal number is 1.2e-38, and entries are smaller than their norm
TENFOLD = 10.0  # chaotic is what changes tenfold from step to step, and between twins; smooth is what never does
MODULO, TWIN, BATCH = 13, 1e-6, 32
ADDITION, DIGITS = f"addition modulo {MODULO}", "digits"

# What is reported of a descent, by name; "past" is from when on our descent's loss is that of an example at the limit.
BEFORE, PAST = (f"largest factor between the norms of two steps, {when} the limit" for when in ("before", "past"))
TWINS = "largest factor between the norms of twins, past the limit"
LOW, HIGH, MARGIN, LOGIT = (
    "smallest norm",
    "largest norm, past the limit",
    "largest of the smallest margins",
    "last logit",
)
ZERO, NOT_ZERO = "smallest margin with an own delta of 0", "largest margin with another"
MEAN, LARGEST, EARLY = "mean angle of {}", "largest angle of {}", f"largest angle of {{}} to a norm of {EARLIER:g}"
# And of plain SGD, at its end.
SGD_ANGLE, SGD_ZERO, SGD_MARGIN = "SGD: angle of its gradient", "SGD: share of own deltas of 0", "SGD: smallest margin"
SGD_RIGHT = "SGD: accuracy on test data"


Numbers = dict[tuple[str, str], dict[str, np.ndarray]]  # by problem and gradient; [seeds] each


class Problem(NamedTuple):
    """A network, the rate and the length of its descent, and its data, x: [seeds, N, n_0] and t: [seeds, N]."""

    mlp: MLP
    eta: float
    steps: int
    train: tuple[Array, Array]
    test: tuple[Array, Array]


Ways = dict[tuple[str, str], tuple[Seen, np.ndarray]]  # by problem and gradient: what is seen, and norms of all lanes


def run(options: Options) -> Outcome:
    begun = {}
    with ThreadPoolExecutor(2) as pool:  # neither gradient waits for the other, if there are two cores
        for what, problem in problems_of(options).items():
            started = begin(problem, 200 if options.quick else 5000)
            for name in (AUTODIFF, OURS):
                begun[what, name] = problem, pool.submit(descents, problem, name, *started)
    numbers: Numbers = {}
    passed = {}
    for (what, name), (problem, descended) in begun.items():
        descent, last = descended.result()
        along = jax.tree.map(lambda way, end: np.concatenate([way[: options.seeds], end], axis=1), descent.params, last)
        with jax.enable_x64(True):
            seen = jax.tree.map(np.asarray, see(problem.mlp, along, *problem.train))
        way, end = (jax.tree.map(lambda leaf, part=part: leaf[:, part], seen) for part in (np.s_[:-1], -1))
        passed[what, name] = way, np.asarray(descent.norms)
        numbers[what, name] = {
            SGD_ANGLE: end.angles[name],
            SGD_ZERO: end.share_zero,
            SGD_MARGIN: end.margin,
            SGD_RIGHT: accuracy(problem, last),
        }
    for (what, name), (seen, norms) in passed.items():
        past = EVERY * (passed[what, OURS][0].loss < np.exp(-LIMIT)).argmax(1)
        numbers[what, name] = summary(seen, norms, past) | numbers[what, name]
    return outcome(numbers, passed)


def descents(problem: Problem, name: str, params: Any, twins: Any, batches: Any) -> tuple[Any, Any]:
    both = tuple(np.concatenate([each, each]) for each in problem.train)
    descent = descend(problem.mlp, name, twins, problem.eta, problem.steps, *both)
    return jax.block_until_ready((descent, train(problem.mlp, name, params, *problem.train, batches)))


def problems_of(options: Options) -> dict[str, Problem]:
    addition = [add(seed) for seed in range(options.seeds)]
    problems = {ADDITION: Problem(MLP((2 * MODULO, 128, MODULO)), 0.3, 10000, *stacked(addition))}
    if options.quick:
        return {ADDITION: problems[ADDITION]._replace(steps=1600)}
    parts = [data.prepare(data.read("digits"), seed=seed) for seed in range(options.seeds)]
    digits = [((part.train.x[:512], part.train.t[:512]), (part.test.x, part.test.t)) for part in parts]
    return problems | {DIGITS: Problem(MLP((64, 32, 10)), 0.05, 8000, *stacked(digits))}


def add(seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return all sums modulo 13 in random order: 70 % to train with, and the rest."""
    a, b = np.divmod(np.random.default_rng(seed).permutation(MODULO**2), MODULO)
    x, t = np.concatenate([np.eye(MODULO, dtype=np.float32)[each] for each in (a, b)], axis=1), (a + b) % MODULO
    n = round(0.7 * MODULO**2)
    return (x[:n], t[:n]), (x[n:], t[n:])


def stacked(seeds: Any) -> Any:
    return jax.tree.map(lambda *arrays: np.stack(arrays), *seeds)


def begin(problem: Problem, steps: int) -> tuple[Params, Params, np.ndarray]:
    """Draw initial weights, with those of the twins behind them, and the rows of all batches: [seeds, steps, B]."""
    n_seeds, n = problem.train[1].shape
    params = stacked([init(problem.mlp, jax.random.key(seed)) for seed in range(n_seeds)])
    rng = np.random.default_rng(0)
    twins = jax.tree.map(
        lambda w: np.concatenate([w, w + np.float32(TWIN) * w * rng.normal(size=w.shape).astype("f")]), params
    )
    epochs = -(-steps // (n // BATCH))
    orders = rng.permuted(np.tile(np.arange(n, dtype=np.int32), (n_seeds, epochs, 1)), axis=2)
    return params, twins, orders[:, :, : n // BATCH * BATCH].reshape(n_seeds, -1, BATCH)[:, :steps]


def accuracy(problem: Problem, last: Params) -> np.ndarray:
    outputs = jax.jit(jax.vmap(jax.vmap(partial(predict, problem.mlp), (None, 0))))
    x, t = problem.test
    y = outputs(jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], last), x)
    return (np.asarray(y).argmax(2) == t).mean(1)


def summary(seen: Seen, norms: np.ndarray, past: np.ndarray) -> dict[str, np.ndarray]:
    """Return what is claimed of a descent, [seeds] each, while its norm is not below the end."""
    seeds, index, past = len(past), np.arange(norms.shape[1]), past[:, None]
    alive = np.logical_and.accumulate(norms >= END, axis=1)
    logs = np.log(np.where(alive, norms, np.nan))
    rows, jumps, apart = logs[:seeds], np.abs(np.diff(logs[:seeds])), np.abs(logs[:seeds] - logs[seeds:])

    def largest(values: np.ndarray, is_in: np.ndarray) -> np.ndarray:
        return np.where(is_in & np.isfinite(values), values, -np.inf).max(1)

    angles = {}
    for name, values in seen.angles.items():
        is_past = alive[:seeds, ::EVERY] & (index[::EVERY] >= past) & np.isfinite(values)
        angles[MEAN.format(name)] = np.average(np.nan_to_num(values), axis=1, weights=is_past)
        angles[LARGEST.format(name)] = largest(values, is_past)
        angles[EARLY.format(name)] = largest(values, is_past & (norms[:seeds, ::EVERY] >= EARLIER))
    return {
        BEFORE: np.exp(largest(jumps, index[1:] < past)),
        PAST: np.exp(largest(jumps, index[1:] >= past)),
        TWINS: np.exp(largest(apart, index >= past)),
        LOW: norms[:seeds].min(1),
        HIGH: np.exp(largest(rows, index >= past)),
        MARGIN: seen.margin.max(1),
        LOGIT: seen.logit[:, -1],
        ZERO: seen.zero_from.min(1),
        NOT_ZERO: seen.zero_not_to.max(1),
        **angles,
    }


def span(values: np.ndarray) -> str:
    low, high = (f"{value:,.0f}" if 100 <= value < 1e5 else f"{value:.2g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def outcome(numbers: Numbers, ways: Ways) -> Outcome:
    problems = list(dict.fromkeys(what for what, _ in numbers))
    auto, ours = ({what: numbers[what, name] for what in problems} for name in (AUTODIFF, OURS))
    header = ("range over all seeds", *(f"{what}, {name}" for what, name in numbers))
    rows = [(what, *(span(one[what]) for one in numbers.values())) for what in ours[ADDITION]]
    first, wrong = ours[ADDITION], MEAN.format(AUTODIFF)
    others = "".join(
        f" On {what} less time has passed: norms go up to {auto[what][HIGH].max():.1g}, and change by a factor of"
        f" {span(auto[what][PAST])} from one step to the next at most."
        for what in problems[1:]
    )
    sgd = "; ".join(
        f"on {what} {interval(100 * auto[what][SGD_ZERO])} % of all own deltas are 0 in the end, and the full gradient"
        f" is off by {auto[what][SGD_ANGLE].max():.2g} degrees at most"
        for what in problems
    )
    return Outcome(
        claims(problems, auto, ours),
        [Table("Descents", header, rows)],
        f"""Autodiff does what it is told: it differentiates log-softmax as it is written, into a difference, and at a
        margin of {LIMIT:.1f} nothing is left of it. Descent by it stalls there: its smallest margin never gets past
        {auto[ADDITION][MARGIN].max():.1f}, while our delta takes it to {first[MARGIN].min():.0f} and more. What is left
        points {span(first[wrong])} degrees away from the gradient, at the weights where our descent comes by.

        It turns chaotic, but not at once. At first, logits drift: all of them fall together, step by step, because the
        right one is pulled up no more, and the norm of the gradient stays near 1e-7. Where they end
        ({span(auto[ADDITION][LOGIT])} on {ADDITION}) depends on when one stops. As the weights grow, so does what a
        step does: norms then jump between {auto[ADDITION][LOW].min():.1g} and {auto[ADDITION][HIGH].max():.1g}.{others}

        The gradient that takes no difference is right until float32 ends: {first[EARLY.format(OURS)].max():.1g} degrees
        off at most to a norm of {EARLIER:g}; below, entries of the gradient vanish one by one. No hand-written delta is
        needed for that. Autodiff of softplus(log sum_{{j != k}} exp z_j - z_k) in float32 is as good to the same norm
        ({first[EARLY.format(REWRITTEN)].max():.1g} degrees), and loses its entries a little earlier.

        Plain SGD with momentum does not notice: {sgd}. Its rate does not grow as the gradient falls, so
        that margins grow as the logarithm of time, and the examples whose delta is lost are those that count least.""",
        {f"{what}, {name}": one | drawn(*ways[what, name]) for (what, name), one in numbers.items()},
        draw(problems, ways),
    )


def claims(problems: list[str], auto: dict[str, Any], ours: dict[str, Any]) -> list[Claim]:
    """Judge every claim, of all seeds; chaotic is what changes tenfold, smooth what never does."""

    def told(text: Callable[[Any, Any], str]) -> str:
        return "; ".join(f"{what}: {text(auto[what], ours[what])}" for what in problems)

    def always(holds: Callable[[Any, Any], Any], among: list[str] = problems) -> bool:
        return all(bool(np.all(holds(auto[what], ours[what]))) for what in among)

    def is_chaotic(a: Any, _: Any) -> Any:
        return (a[BEFORE] < TENFOLD) & (a[PAST] > TENFOLD) & (a[TWINS] > TENFOLD)

    def is_smooth(_: Any, o: Any) -> Any:
        return (o[LOW] < END) & (o[PAST] < TENFOLD) & (o[TWINS] < TENFOLD)

    def right(claim: str, name: str) -> Claim:
        early, late = EARLY.format(name), LARGEST.format(name)
        return Claim(
            claim,
            told(lambda _, o: f"off by {span(o[early])} degrees at most to {EARLIER:g}, {span(o[late])} to {END:g}"),
            judge(always(lambda _, o: o[late] < 1), always(lambda _, o: o[early] < 1)),
        )

    wrong = MEAN.format(AUTODIFF)
    return [
        Claim(
            f"autodiff's own delta is exactly 0 from a margin of {LIMIT:.1f} on",
            told(lambda a, _: f"the largest margin with another is {a[NOT_ZERO].max():.2f}"),
            judge(always(lambda a, _: a[NOT_ZERO] < LIMIT + 0.05)),
        ),
        Claim(
            "from there on autodiff's gradient is not the gradient",
            told(lambda _, o: f"off by {interval(o[wrong])} degrees on our descent"),
            judge(always(lambda _, o: o[wrong] > 10)),
        ),
        Claim(
            "descent by it turns chaotic once margins pass the limit",
            told(
                lambda a, _: (
                    f"norms change by a factor of {span(a[BEFORE])} from step to step at most before, of "
                    f"{span(a[PAST])} past it, and between twins by {span(a[TWINS])}"
                )
            ),
            judge(always(is_chaotic), always(is_chaotic, [ADDITION])),
        ),
        Claim(
            "its norms jump between 1e-3 and 1e2",
            told(lambda a, _: f"between {span(a[LOW])} and {span(a[HIGH])}"),
            judge(
                always(lambda a, _: (a[LOW] < 1e-3) & (a[HIGH] > 1e2)),
                always(lambda a, _: a[HIGH] > 1e5 * a[LOW], [ADDITION]),
            ),
        ),
        Claim(
            "its logits blow up to 6,000",
            told(lambda a, o: f"{interval(a[LOGIT])}, with our delta {interval(o[LOGIT])}"),
            judge(
                always(lambda a, _: abs(a[LOGIT].mean() - 6000) < 600, [ADDITION]),
                always(lambda a, o: a[LOGIT] > 10 * o[LOGIT], [ADDITION]),
            ),
        ),
        Claim(
            f"descent by our delta goes on smoothly to a norm of {END:g}",
            told(
                lambda _, o: (
                    f"{(o[LOW] < END).mean():.0%} of the seeds arrive; norms change by a factor of "
                    f"{span(o[PAST])} from step to step at most, and between twins by {span(o[TWINS])}"
                )
            ),
            judge(always(is_smooth), always(lambda _, o: o[LOW] < END)),
        ),
        right("our gradient is the gradient all the way", OURS),
        right("not autodiff fails but the difference: of the rewritten loss it gives the gradient", REWRITTEN),
        Claim(
            "plain SGD with momentum does not notice",
            told(
                lambda a, o: (
                    f"{a[SGD_ANGLE].max():.2g} degrees at most, accuracy "
                    f"{interval(100 * (a[SGD_RIGHT] - o[SGD_RIGHT]))} points better than by our delta"
                )
            ),
            judge(always(lambda a, _: a[SGD_ANGLE] < 1)),
        ),
    ]


def windows(n: int) -> np.ndarray:
    return np.unique(np.geomspace(1, n, 49).astype(int))


def drawn(seen: Seen, norms: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the picture shows: the range of the norms over all seeds and the steps of a window, and the rest."""
    edges = windows(norms.shape[1])
    some = windows(seen.loss.shape[1]) - 1
    parts = [norms[:, low:high] for low, high in pairwise(edges)]
    return {
        "steps": edges,
        "lowest norm from step to step": [part.min() for part in parts],
        "highest norm from step to step": [part.max() for part in parts],
        "steps seen": EVERY * some,
        "smallest margin": np.median(seen.margin, axis=0)[some],
        "largest logit": np.median(seen.logit, axis=0)[some],
    }


def draw(problems: list[str], ways: Ways) -> Figure:
    picture, all_axes = figure(3, len(problems), height=3.0)
    for what, (left, middle, right) in zip(problems, zip(*[iter(all_axes)] * 3, strict=True), strict=True):
        for number, name in ((1, AUTODIFF), (0, OURS)):
            seen, norms = ways[what, name]
            one, color = drawn(seen, norms), COLORS[number]
            low, high = (np.maximum(one[f"{which} norm from step to step"], END) for which in ("lowest", "highest"))
            left.fill_between(one["steps"][:-1], low, high, color=color, alpha=0.35, linewidth=0.8, label=name)
            right.plot(one["steps seen"][1:], one["largest logit"][1:], "--", color=color, linewidth=1.4)
            right.plot(one["steps seen"][1:], one["smallest margin"][1:], color=color, linewidth=1.4)
        seen, norms = ways[what, OURS]
        for number, name in ((1, AUTODIFF), (2, REWRITTEN), (0, OURS)):
            angles = np.where(norms[: len(seen.loss), ::EVERY] >= END, seen.angles[name], np.nan)
            style = {"marker": MARKERS[number], "color": COLORS[number], "markersize": 2.5, "linestyle": "none"}
            middle.plot(-np.log(seen.loss).ravel(), angles.ravel(), label=name, **style)
        left.set(xscale="log", yscale="log", xlabel="step", ylabel="norm of the gradient", ylim=(END, 1e3))
        middle.set(yscale="log", xlabel=r"$-\log L$, the margin that counts", ylabel="angle to the truth, degrees")
        middle.set(ylim=(1e-5, 3e2), xlim=(0, 88))
        middle.axvline(LIMIT, color=GREY, linewidth=0.8, linestyle=":")
        right.set(xscale="log", yscale="log", xlabel="step", ylabel="margin, logit", ylim=(0.3, 2e4))
        right.axhline(LIMIT, color=GREY, linewidth=0.8, linestyle=":")
        direct(right, EVERY, LIMIT * 1.15, "24 log 2")
        title(left, what)
        title(middle, "at the weights of our descent")
        title(right, "logits and margins")
    legend(all_axes[0], loc="lower left")
    legend(all_axes[1], loc="upper center", bbox_to_anchor=(0.54, 0.86), markerscale=1.5, handletextpad=0, fontsize=7.5)
    all_axes[2].plot([], [], "--", color=GREY, label="largest logit")
    all_axes[2].plot([], [], color=GREY, label="smallest margin")
    legend(all_axes[2], loc="upper left")
    return picture


if __name__ == "__main__":
    main(run)
