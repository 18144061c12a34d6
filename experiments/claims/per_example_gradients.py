"""Per-example gradients: how hard each example pulls, over training and under wrong labels, and what clipping changes.

    |g_b|^2 = sum_l |delta_l|^2 (|y_{l-1}|^2 + 1)    of one example's own gradient, by (4), (7), (8)
    (6) delta_L = y - t                              0 once the label is learned, long against a network sure of another
    g_b min(1, C / |g_b|)                            clipped: one of B examples moves their mean by C / B at most
    tr Sigma / |G|^2                                 the noise scale, large where examples pull apart

At initial weights labels mean nothing: right and wrong ones pull alike. Then the gradients of right labels shrink by
(6); those of wrong labels do not, until a network learns them by heart. So the longest gradients should find wrong
labels and hard examples; clipping, which bounds their pull, should help where labels are wrong; and the noise scale
should grow while |G|^2 falls, because single examples still pull, each its own way.

Measured with a tenth of the labels flipped, always the same, on 4,000 images of Fashion-MNIST: 784-32-10, relu, batches
of 32, momentum 0.9, no weight decay (the higher rates of clipped gradients would make it stronger). Every clipping norm
has its own best of five rates, chosen on 4,000 other images with labels flipped alike, and is compared on the test
images. What is hard is looked for among all training images with their own labels, by 784-64-10 after three epochs.
"""

from collections import Counter
from io import BytesIO
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.stats import spearmanr

from experiments.claims._experiment import Claim, Interval, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, band, figure, legend, title
from jaxmlp import MLP, Dataset, TrainConfig, data, evaluate, init, sweep, train
from jaxmlp.influence import scores
from jaxmlp.per_example import clipping_weights
from jaxmlp.plots.images import contact_sheet
from jaxmlp.training.evaluation import outputs

FLIPPED, RIGHT = "labels flipped", "right labels"
SHARE_FLIPPED = 0.1
EPOCHS, RATE = 30, 0.01  # of the training that is followed
C = 1.0  # the clipping norm where only one is looked at
CLIPS = (None, 10.0, 1.0, 0.1)
STEPS = (0.0625, 0.125, 0.25, 0.5, 1.0)  # rates in units of 1 / C, because no gradient is longer than C
UNCLIPPED = 16.0  # what stands for C where nothing is clipped: about the length of gradients at initial weights
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

# What is reported, by name.
ALIKE = "median norm of mislabelled / of other examples, at initial weights"
APART = "median norm of mislabelled / of other examples, after training"
OTHERS = "median norm of other examples, after training / at initial weights"
WRONG = "median norm of mislabelled examples, after training / at initial weights"
FOUND = "share of the mislabelled in the longest tenth, mean over epochs"
PULL = "share of the mislabelled in the sum of norms, after training"
CLIPPED = f"the same, clipped to C = {C:g}"
LONGEST = "longest gradient after training, in C"
BOUNDED = "longest clipped gradient, in C"
RANKS = "rank correlation of classes' mean norms and test errors"
SCALE = "noise scale, last fifth / first epoch"
SQUARED = "|G|^2, last fifth / first epoch"
TRACE = "tr Sigma, last fifth / first epoch"
AGREE = "hardest hundredth that two networks have in common"


class Problem(NamedTuple):
    """Examples with flipped and with right labels, in that order, by `FLIPPED` and `RIGHT`."""

    name: str
    training: dict[str, Dataset]
    validation: dict[str, Dataset]
    is_flipped: np.ndarray  # of the training examples
    test: Dataset
    everything: Dataset  # all that there is to train with
    classes: tuple[str, ...]
    image_shape: tuple[int, int]


class Course(NamedTuple):
    """Measurements of a training run, epoch by epoch; norms also before the first."""

    of_wrong: np.ndarray  # the median norm
    of_others: np.ndarray
    by_class: np.ndarray  # the mean norm of others: [epochs + 1, classes]
    found: np.ndarray
    noise_scale: np.ndarray
    trace: np.ndarray
    class_errors: np.ndarray  # on the test data
    longest: np.ndarray
    pull: np.ndarray  # unclipped and clipped
    bounded: np.ndarray


class Clipping(NamedTuple):
    """The scores of each of `CLIPS` at its best rate."""

    rates: np.ndarray
    validation: np.ndarray  # mean accuracy, by which rate and clipping norm are chosen
    accuracies: np.ndarray  # on the test data, in %: [clips, seeds]
    learned: np.ndarray  # how many of the wrong labels the network gives, in %: [clips, seeds]


class Hard(NamedTuple):
    """The hardest of all training examples: a picture, how far networks agree, what is taken for what most often."""

    sheet: bytes
    agree: np.ndarray
    commonest: str


def run(options: Options) -> Outcome:
    problem = prepare(options)
    epochs = 8 if options.quick else EPOCHS
    courses = [course(problem, epochs, jax.random.key(seed)) for seed in range(options.seeds)]
    clippings = {what: clip(problem, what, options) for what in (FLIPPED, RIGHT)}
    stacked = Course(*map(np.stack, zip(*courses, strict=True)))
    return outcome(problem, stacked, clippings, hardest(problem, options.seeds))


def prepare(options: Options) -> Problem:
    """Read Fashion-MNIST, or digits where there is none, and flip labels."""
    source = data.read(options.data or "digits")
    train, _, test, _ = data.prepare(source)
    classes = CLASSES if options.data else source.class_names
    n = min(512 if options.quick else 4000, len(train) // 2)
    x, t, random = np.asarray(train.x[: 2 * n]), np.asarray(train.t[: 2 * n]), np.random.default_rng(0)
    is_flipped = np.concatenate([random.permutation(n) < SHARE_FLIPPED * n for _ in range(2)])
    flipped = (t + random.integers(1, len(classes), 2 * n)) % len(classes)
    labels = {FLIPPED: np.where(is_flipped, flipped, t), RIGHT: t}
    everything = Dataset(train.x[: 4000 if options.quick else None], train.t[: 4000 if options.quick else None])
    return Problem(
        "Fashion-MNIST" if options.data else "digits",
        {what: Dataset(x[:n], t[:n]) for what, t in labels.items()},
        {what: Dataset(x[n:], t[n:]) for what, t in labels.items()},
        is_flipped[:n],
        test,
        everything,
        classes,
        source.image_shape,
    )


def network(problem: Problem, width: int) -> MLP:
    return MLP((problem.test.x.shape[1], width, len(problem.classes)))


def course(problem: Problem, epochs: int, key: Array) -> Course:
    """Train on flipped labels; measure every example's gradient before the first epoch and after each."""
    mlp, examples, is_flipped = network(problem, 32), problem.training[FLIPPED], problem.is_flipped
    track = ("noise_scale", "variance")
    config = TrainConfig(epochs, learning_rate=RATE, schedule="constant", weight_decay=0.0, track=track)
    rows = [scores(mlp, init(mlp, key), examples).norms]
    trained = train(
        mlp, examples, config, key=key, callback=lambda now: rows.append(scores(mlp, now.params, examples).norms)
    )
    norms = np.stack(rows)
    longest = np.argsort(-norms[1:], axis=1)[:, : is_flipped.sum()]
    of_class = np.arange(len(problem.classes))[:, None]
    is_wrong_answer = outputs(mlp, trained.params, problem.test.x).argmax(1) != problem.test.t
    return Course(
        np.median(norms[:, is_flipped], 1),
        np.median(norms[:, ~is_flipped], 1),
        np.stack([norms[:, row].mean(1) for row in (examples.t == of_class) & ~is_flipped], 1),
        is_flipped[longest].mean(),
        np.array([epoch.noise_scale for epoch in trained.history], float),
        np.array([epoch.gradient_variance for epoch in trained.history], float),
        np.array([is_wrong_answer[row].mean() for row in problem.test.t == of_class]),
        norms[-1].max() / C,
        np.array([pull[is_flipped].sum() / pull.sum() for pull in (norms[-1], np.minimum(norms[-1], C))]),
        np.asarray(norms[-1] * clipping_weights(norms[-1], C)).max() / C,
    )


def clip(problem: Problem, what: str, options: Options) -> Clipping:
    """Train with every clipping norm, a traced number, at five rates; test each at the rate that validates best."""
    mlp, examples, is_flipped = network(problem, 32), problem.training[what], problem.is_flipped
    rows = []
    for norm in CLIPS:
        config = TrainConfig(5 if options.quick else 15, weight_decay=0.0, clip=norm)
        rates = [step / (norm or UNCLIPPED) for step in STEPS]
        space = sweep.grid(learning_rate=rates, seed=range(options.seeds))
        results = sweep.run(space, examples, config, mlp=mlp, validation=problem.validation[what], keep="all")
        best = results.best()
        networks = [results.params(trial) for trial in sorted(best.trials)]  # in the order of their seeds
        right = [100 * evaluate(mlp, params, problem.test).accuracy for params in networks]
        given = [outputs(mlp, params, examples.x[is_flipped]).argmax(1) for params in networks]
        wrong = problem.training[FLIPPED].t[is_flipped]
        rows.append(
            (best.hyperparameters["learning_rate"], best.mean, right, [100 * (y == wrong).mean() for y in given])
        )
    return Clipping(*map(np.array, zip(*rows, strict=True)))


def hardest(problem: Problem, n_seeds: int) -> Hard:
    """Train on everything from several initial weights, two at least, and rank examples by their mean norm."""
    mlp, examples, n_seeds = network(problem, 64), problem.everything, max(n_seeds, 2)
    config = TrainConfig(epochs=3, batch_size=128, learning_rate=0.05)
    results = sweep.run(sweep.grid(seed=range(n_seeds)), examples, config, mlp=mlp, keep="all")
    networks = [results.params(trial) for trial in range(n_seeds)]
    norms = np.stack([scores(mlp, params, examples).norms for params in networks])
    n = len(examples) // 100
    top = np.argsort(-norms)[:, :n]
    agree = [np.isin(one, other).mean() for one, other in zip(top, np.roll(top, 1, axis=0), strict=True)]
    rows = np.argsort(-norms.mean(0))[:n]
    given = np.mean([outputs(mlp, params, examples.x[rows]) for params in networks], 0).argmax(1)
    pairs = [f"{problem.classes[t]}\n→ {problem.classes[y]}" for t, y in zip(examples.t[rows], given, strict=True)]
    images = examples.x[rows[:10]].reshape(-1, *problem.image_shape)
    ((commonest, _),) = Counter(pairs).most_common(1)
    return Hard(contact_sheet(images, pairs[:10], columns=5), np.array(agree), commonest.replace("\n", " "))


def summary(course: Course, hard: Hard) -> dict[str, np.ndarray]:
    """Return every number that claims are judged by, but for clipping's gains: [seeds] each."""
    wrong, others, late = course.of_wrong, course.of_others, -max(course.trace.shape[1] // 5, 1)
    # Where there is no noise scale the estimate of |G|^2 is not positive: it is lost in the noise.
    squares = np.where(np.isnan(course.noise_scale), 0, course.trace / course.noise_scale)
    squared, trace = (part[:, late:].mean(1) / part[:, 0] for part in (squares, course.trace))
    classes = zip(course.by_class[:, -1], course.class_errors, strict=True)
    return {
        ALIKE: wrong[:, 0] / others[:, 0],
        APART: wrong[:, -1] / others[:, -1],
        OTHERS: others[:, -1] / others[:, 0],
        WRONG: wrong[:, -1] / wrong[:, 0],
        FOUND: course.found,
        PULL: course.pull[:, 0],
        CLIPPED: course.pull[:, 1],
        LONGEST: course.longest,
        BOUNDED: course.bounded,
        RANKS: np.array([spearmanr(*of_seed).statistic for of_seed in classes]),
        SCALE: trace / squared,
        SQUARED: squared,
        TRACE: trace,
        AGREE: hard.agree,
    }


def outcome(problem: Problem, course: Course, clippings: dict[str, Clipping], hard: Hard) -> Outcome:
    numbers = summary(course, hard)
    found = {what: interval(values) for what, values in numbers.items()}
    best = {what: 1 + int(each.validation[1:].argmax()) for what, each in clippings.items()}
    gains = {what: each.accuracies[best[what]] - each.accuracies[0] for what, each in clippings.items()}
    flipped, wrong, scale = clippings[FLIPPED], course.of_wrong.mean(0), np.nanmean(course.noise_scale, 0)
    peak = wrong.argmax()
    learned = [str(interval(row)) for row in flipped.learned]
    rows = [
        [f"{norm:g}" if norm else "none"]
        + [
            cell
            for each in clippings.values()
            for cell in (f"{each.rates[row]:.3g}", str(interval(each.accuracies[row])))
        ]
        + [learned[row]]
        for row, norm in enumerate(CLIPS)
    ]
    header = ["C", *(f"{what}, {name}" for name in clippings for what in ("best rate", "accuracy in %"))]
    return Outcome(
        claims(found, *map(interval, gains.values())),
        [
            Table("Gradients of single examples", ("", ""), [(what, str(value)) for what, value in found.items()]),
            Table("Clipping", [*header, "wrong labels learned, in %"], rows),
        ],
        f"""On {problem.name} mislabelled examples cannot be told from others at initial weights: they pull
        {found[ALIKE]} times as hard. Then the median norm of the others falls to {found[OTHERS]} of what it was. That
        of the mislabelled is largest after {peak} epochs, {wrong[peak] / wrong[0]:.2f} of the first, and {found[WRONG]}
        of it after the last; by (6) it can fall only where the network learns wrong labels by heart. A tenth of the
        examples, the mislabelled then have {found[PULL]} of the sum of all norms. But the longest tenth holds
        {found[FOUND]} of them and no more, because right labels of hard images pull as hard. The noise scale is
        {scale[0]:.0f} examples in the first epoch, {scale[1]:.0f} in the second and {scale[-1]:.0f} in the last: |G|^2
        falls, and tr Sigma, the spread of single gradients, goes to {found[TRACE]} of what it was. Neither falls on and
        on at a constant rate.

        Clipped to {C:g}, the mislabelled have {found[CLIPPED]} of the sum of norms, and no example moves the mean by
        more than C / B. Clipping is worth {interval(gains[FLIPPED])} points of accuracy at
        C = {CLIPS[best[FLIPPED]]:g}, the best on the validation images. Not all of it is owed to the flipped labels:
        without any, clipping gains {interval(gains[RIGHT])} points, so that they account for
        {interval(gains[FLIPPED] - gains[RIGHT])}. Hard and doubtful examples are in the data anyway, and their pull is
        bounded too. Nor is it all that fewer wrong labels are learned by heart: the network gives {learned[0]} % of
        them without clipping, and {", ".join(learned[1:])} % at C = {", ".join(f"{norm:g}" for norm in CLIPS[1:])}. The
        best rate goes about as 1 / C, since what counts is how far a step can go.

        Which examples are hard is mostly their own: of the hardest hundredth two networks share {found[AGREE]}, where
        chance would share 0.01. What is commonest among them, as label → prediction: {hard.commonest}.""",
        {
            "median norm of mislabelled": course.of_wrong,
            "median norm of others": course.of_others,
            "mean norm by class": course.by_class.mean(0),
            "noise scale": course.noise_scale,
            "tr Sigma": course.trace,
        }
        | numbers
        | {what: each._asdict() for what, each in clippings.items()},
        draw(problem, course, clippings, hard),
    )


def claims(found: dict[str, Interval], gained: Interval, gained_right: Interval) -> list[Claim]:
    """Judge every claim: a change by its interval, what has no sharp value by half of what is claimed."""
    alike, others, wrong, ranks = found[ALIKE], found[OTHERS], found[WRONG], found[RANKS]
    scale, squared, bounded = found[SCALE], found[SQUARED], found[BOUNDED]
    return [
        Claim(
            "at initial weights mislabelled examples pull as hard as others",
            f"{alike} times as hard",
            judge(abs(alike.mean - 1) < 0.05, abs(alike.mean - 1) < 0.1),
        ),
        Claim(
            "the gradients of mislabelled examples do not shrink with the others'",
            f"to {wrong} of what they were, the others' to {others}",
            judge(wrong.mean - wrong.half >= 1 > others.mean, wrong.mean - wrong.half > 2 * others.mean),
        ),
        Claim(
            "the longest gradients are those of mislabelled examples",
            f"{found[FOUND]} of these are in the longest tenth",
            judge(found[FOUND].mean > 0.9, found[FOUND].mean > 0.5),
        ),
        Claim(
            "the more errors a class has, the longer its gradients",
            f"rank correlation {ranks}",
            judge(ranks.mean > 0.8, ranks.mean > 0.5),
        ),
        Claim(
            "the noise scale grows while |G|^2 falls",
            f"{scale} times as large, |G|^2 {squared} times",
            judge(scale.mean - scale.half > 1 > squared.mean + squared.half, scale.mean > 1 > squared.mean),
        ),
        Claim(
            "clipping bounds the pull of any example by C / B",
            f"{bounded} of that at most; unclipped {found[LONGEST]}",
            judge(bounded.mean < 1 + 1e-5),
        ),
        Claim(
            "clipping helps where labels are wrong",
            f"{gained} points of test accuracy",
            judge(gained.mean - gained.half > 0, gained.mean > 0),
        ),
        Claim(
            "where labels are right it neither helps nor harms",
            f"{gained_right} points of test accuracy",
            judge(abs(gained_right.mean) <= gained_right.half, abs(gained_right.mean) < 0.5),
        ),
        Claim(
            "which examples are hard is their own, not the initial weights'",
            f"two networks share {found[AGREE]} of the hardest hundredth",
            judge(found[AGREE].mean > 0.5, found[AGREE].mean > 0.1),
        ),
    ]


def draw(problem: Problem, course: Course, clippings: dict[str, Clipping], hard: Hard) -> Figure:
    picture, (norms, classes, noise, accuracy, sheet, unused) = figure(3, 2)
    epochs = np.arange(course.of_wrong.shape[1])
    norms.set(yscale="log", xlabel="epochs", ylabel="median norm of an example's gradient")
    title(norms, "mislabelled and other examples")
    band(norms, epochs, course.of_wrong, 1, label="mislabelled")
    band(norms, epochs, course.of_others, 0, label="others")
    legend(norms)
    by_class = course.by_class.mean(0)
    ranked = np.argsort(-by_class[-max(len(by_class) // 5, 1) :].mean(0))
    classes.plot(epochs, by_class, color=GREY, linewidth=0.6)
    for number, row in enumerate(ranked[[0, 1, -2, -1]]):
        classes.plot(epochs, by_class[:, row], color=COLORS[number], linewidth=1.6, label=problem.classes[row])
    classes.set(xlabel="epochs", ylabel="mean norm, right labels", ylim=(0, None))
    title(classes, "classes")
    legend(classes, ncols=2)
    parts = {"noise scale": course.noise_scale, r"tr $\Sigma$": course.trace}
    parts["$|G|^2$"] = course.trace / course.noise_scale
    for number, (label, part) in enumerate(parts.items()):
        band(noise, epochs[1:], part / part[:, :1], number, label=label)
    noise.set(xlabel="epochs", ylabel="in units of the first epoch", ylim=(0, 4))
    title(noise, "noise scale")
    legend(noise, loc="upper center", ncols=3, columnspacing=1)
    for number, (label, each) in enumerate(clippings.items()):
        band(accuracy, np.arange(len(CLIPS)), each.accuracies.T, 1 - number, label=label)
    accuracy.set_xticks(range(len(CLIPS)), ["none", *(f"{norm:g}" for norm in CLIPS[1:])])
    accuracy.set(xlabel="clipping norm, each at its best rate", ylabel="test accuracy in %")
    title(accuracy, "clipping")
    legend(accuracy, loc="lower right")
    unused.remove()
    sheet.set_subplotspec(sheet.get_gridspec()[1, 1:])
    sheet.imshow(imread(BytesIO(hard.sheet)), interpolation="lanczos")
    sheet.set_axis_off()
    title(sheet, f"the hardest of {len(problem.everything):,} training images: label → prediction")
    return picture


if __name__ == "__main__":
    main(run)
