"""Taylor and descent: what a step down the gradient does to the loss, and the rate at which descent turns into ascent.

    (1)  L(w + dw) ~ L(w) + grad L . dw + 1/2 dw^T H dw
    (2)  dw = -eta grad L, so that L falls by about eta |grad L|^2

For small eta the fall is eta |grad L|^2. What (2) leaves out shrinks as eta^2, what (1) leaves out as eta^3. The second
order predicts the departure: the fall is eta |grad L|^2 (1 - eta kappa / 2) with the curvature along the gradient,
kappa = grad L^T H grad L / |grad L|^2, so that a step gains nothing at eta = 2 / kappa. Descent as a whole turns into
ascent at eta = 2 / lambda_max: from there on every step stretches what lies along the top eigenvector.

Measured on 1,024 digits with 64-32-10, tanh, all examples at once, in float64: at initial weights and after five epochs
of training.
"""

from functools import partial
from itertools import repeat
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from matplotlib.figure import Figure

from experiments.claims._experiment import Claim, Interval, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, MARKERS, band, figure, legend, title
from jaxmlp import MLP, TrainConfig, data, init, loss, loss_and_gradient, train
from jaxmlp.curvature import Eigenpair, critical_learning_rate, hessian_vector_product, largest_eigenvalue
from jaxmlp.network import Params

NETWORK = MLP((64, 32, 10), "tanh")
INITIAL, TRAINED = "at initial weights", "after 5 epochs"
SMALL = np.geomspace(1e-3, 1e-1, 9)  # rates of single steps, in 2 / kappa
LARGE = np.linspace(0.05, 3.0, 60)
RATES = np.linspace(0.5, 2.5, 41)  # rates of descents, in 2 / lambda_max
STEPS, STRETCHED = 100, 5  # of a descent; after how many its distance to another is measured
APART = 1e-6
PATHS = np.array([0.25, 0.9, 1.1])  # rates of the descents that are drawn, in 2 / lambda_max

# What is reported, by name.
SECOND = "exponent of what (2) leaves out"
THIRD = "exponent of what (1) leaves out"
FALL = "fall / (eta |grad L|^2) at eta = 0.002 / kappa"
ERROR = "error of the predicted share of the fall, up to eta = 1 / kappa"
ZERO = "rate at which a step gains nothing, in 2 / kappa"
GROWS = "rate at which distances grow, in 2 / lambda_max"
RISES = "lowest rate at which a loss rises, in 2 / lambda_max"
LOWER = "share of descents above 2 / lambda_max that end lower than they began"
RATIO = "lambda_max / kappa"


class Measured(NamedTuple):
    """Measurements at one place; losses are shares of the first loss, falls of eta |grad L|^2."""

    beyond_first: Array  # what (2) leaves out, at each of SMALL; the unit is eta |grad L|^2 at eta = 2 / kappa
    beyond_second: Array  # what (1) leaves out
    fall: Array  # at each of LARGE
    kappa: Array
    top: Array
    stretch: Array  # how many times as far two descents are apart after some steps, at each of RATES
    rises: Array  # whether the loss ever does in a descent
    last: Array  # loss of a descent


class Plane(NamedTuple):
    """The loss on a plane, [n, n] over the places across and up, and descents in it: [rates, steps, 2]."""

    across: Array
    up: Array
    losses: Array
    paths: Array


def run(options: Options) -> Outcome:
    digits = data.prepare(data.read("digits")).train
    keys = [jax.random.key(seed) for seed in range(options.seeds)]
    places = {
        INITIAL: [init(NETWORK, key) for key in keys],
        TRAINED: [train(NETWORK, digits, TrainConfig(epochs=5), key=key).params for key in keys],
    }
    n = 128 if options.quick else 1024
    with jax.enable_x64(True):
        x, t = jnp.asarray(digits.x[:n], jnp.float64), jnp.asarray(digits.t[:n])
        places = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), places)
        tops = {
            place: [largest_eigenvalue(NETWORK, params, x, t, key=jax.random.key(0)) for params in some]
            for place, some in places.items()
        }
        measured = {
            place: jax.tree.map(lambda *rows: np.stack(rows), *map(measure, some, repeat(x), repeat(t), tops[place]))
            for place, some in places.items()
        }
        plane = cut(places[TRAINED][0], x, t, tops[TRAINED][0])
    return outcome(measured, plane)


@jax.jit
def measure(params: Params, x: Array, t: Array, top: Eigenpair) -> Measured:
    """Take steps and descents of all rates from `params`, where the Hessian has this top eigenvector."""
    value, slope = loss_and_gradient(NETWORK, params, x, t)
    squared = inner(slope, slope)
    kappa = inner(slope, hessian_vector_product(NETWORK, params, x, t, slope)) / squared
    small, large = SMALL * 2 / kappa, LARGE * 2 / kappa

    def fall(eta: Array) -> Array:
        return value - jax.vmap(partial(loss, NETWORK, moved(params, slope, -eta)))(x, t).mean()

    def descent(params: Params, eta: Array, n_steps: int) -> tuple[Params, Array]:
        def step(params: Params, _: None) -> tuple[Params, Array]:
            value, slope = loss_and_gradient(NETWORK, params, x, t)
            return moved(params, slope, -eta), value  # (2)

        return lax.scan(step, params, length=n_steps)

    def stretch(eta: Array) -> Array:
        ends = [descent(begin, eta, STRETCHED)[0] for begin in (params, moved(params, top.vector, APART))]
        apart = moved(ends[1], ends[0], -1)
        return jnp.sqrt(inner(apart, apart)) / APART

    falls, rates = lax.map(fall, small), RATES * critical_learning_rate(top.value)
    losses = lax.map(lambda eta: descent(params, eta, STEPS + 1)[1], rates)
    unit = squared * 2 / kappa
    return Measured(
        jnp.abs(falls - small * squared) / unit,
        jnp.abs(falls - small * squared * (1 - small * kappa / 2)) / unit,  # (1)
        lax.map(fall, large) / (large * squared),
        kappa,
        jnp.asarray(top.value),
        lax.map(stretch, rates),
        (losses[:, 1:] > losses[:, :-1]).any(1),
        losses[:, -1] / value,
    )


@jax.jit
def cut(params: Params, x: Array, t: Array, top: Eigenpair) -> Plane:
    """Cut the loss with the plane of gradient and top eigenvector, and descend in it at three rates.

    Across is the eigenvector, up the part of the gradient that is orthogonal to it. The plane is wide enough for the
    quadratic loss to triple across, and high enough for ten steps at the critical rate.
    """
    v = top.vector
    value, slope = loss_and_gradient(NETWORK, params, x, t)
    rest = moved(slope, v, -inner(slope, v))
    length = jnp.sqrt(inner(rest, rest))
    g = jax.tree.map(lambda leaf: leaf / length, rest)
    critical = critical_learning_rate(top.value)
    width, height = 2 * jnp.sqrt(value / top.value), critical * length
    across, up = jnp.linspace(-width, width, 41), jnp.linspace(-9 * height, 2 * height, 41)

    def at(place: Array) -> Params:
        return moved(moved(params, v, place[0]), g, place[1])

    def step(eta: Array, place: Array, _: None) -> tuple[Array, Array]:
        slope = loss_and_gradient(NETWORK, at(place), x, t)[1]
        return place - eta * jnp.stack([inner(slope, v), inner(slope, g)]), place

    losses = lax.map(
        lambda b: lax.map(lambda a: loss_and_gradient(NETWORK, at(jnp.stack([a, b])), x, t)[0], across), up
    )
    begin = jnp.stack([0.4 * width, height])
    paths = jax.vmap(lambda rate: lax.scan(partial(step, rate * critical), begin, length=16)[1])(PATHS)
    return Plane(across, up, losses, paths)


def moved(params: Params, direction: Params, by: ArrayLike) -> Params:
    return jax.tree.map(lambda leaf, change: leaf + by * change, params, direction)


def inner(a: Params, b: Params) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, a, b))


def slopes(remainders: np.ndarray) -> np.ndarray:
    """Return the exponent of each row's power law: [seeds], by least squares in logarithms."""
    return np.polyfit(np.log(SMALL), np.log(remainders).T, 1)[0]


def crossing(rates: np.ndarray, rows: np.ndarray, level: float) -> np.ndarray:
    """Return the first rate at which each row, from below, reaches a level: [seeds]; nan where none does."""
    above = rows >= level
    after = np.maximum(above.argmax(1), 1)
    high, low = (np.take_along_axis(rows, (after - by)[:, None], 1)[:, 0] for by in (0, 1))
    share = (level - low) / (high - low)
    return np.where(above.any(1), rates[after - 1] + share * (rates[after] - rates[after - 1]), np.nan)


def summary(one: Measured) -> dict[str, np.ndarray]:
    """Return every number that the claims are judged by: [seeds] each."""
    is_low, is_above = LARGE <= 0.5, RATES > 1.01
    return {
        SECOND: slopes(one.beyond_first),
        THIRD: slopes(one.beyond_second),
        FALL: 1 - one.beyond_first[:, 0] / SMALL[0],
        ERROR: np.abs(one.fall - (1 - LARGE))[:, is_low].max(1),
        ZERO: crossing(LARGE, -one.fall, 0),
        GROWS: crossing(RATES, one.stretch, 1),
        RISES: np.where(one.rises.any(1), RATES[one.rises.argmax(1)], np.nan),
        LOWER: (one.last[:, is_above] < 1).mean(1),
        RATIO: one.top / one.kappa,
    }


def outcome(measured: dict[str, Measured], plane: Plane) -> Outcome:
    numbers = {place: summary(measured[place]) for place in (INITIAL, TRAINED)}
    start, end = ({what: interval(values) for what, values in numbers[place].items()} for place in numbers)
    return Outcome(
        claims(end),
        [Table("Steps and descents", ("", *numbers), [(what, str(start[what]), str(end[what])) for what in start])],
        f"""Taylor is right where it promises to be: for small steps the loss falls by eta |grad L|^2 ({end[FALL]} of it
        at a thousandth of 2 / kappa), and what is left out shrinks with exponents {end[SECOND]} and {end[THIRD]}. What
        limits a single step is the curvature along the gradient, which after five epochs is {end[RATIO]} times smaller
        than lambda_max: a step gains something up to {end[ZERO]} times 2 / kappa.

        2 / lambda_max is where distances along the top eigenvector begin to grow ({end[GROWS]} times that rate, after
        five epochs). It is not where the loss begins to rise: descents from the same place fall at every one of
        {STEPS} steps up to {end[RISES]} times that rate, and {end[LOWER].mean:.0%} of those above it, up to
        {RATES[-1]:g} times, end lower than they began. The theory takes H as fixed; a descent that is stretched moves
        on to where H is smaller.""",
        {place: one._asdict() | numbers[place] for place, one in measured.items()},
        draw(measured, plane),
    )


def claims(end: dict[str, Interval]) -> list[Claim]:
    """Judge every claim, after five epochs; the intervals must hold what is claimed, or come near it."""
    second, third, fall = end[SECOND], end[THIRD], end[FALL]
    zero, grows, rises = end[ZERO], end[GROWS], end[RISES]
    return [
        Claim("for small eta the loss falls by eta |grad L|^2", f"{fall} of it", judge(abs(fall.mean - 1) < 0.01)),
        Claim("what (2) leaves out shrinks as eta^2", f"eta^({second})", judge(abs(second.mean - 2) < 0.05)),
        Claim("what (1) leaves out shrinks as eta^3", f"eta^({third})", judge(abs(third.mean - 3) < 0.05)),
        Claim(
            "the second order predicts the departure up to eta = 1 / kappa",
            f"off by {end[ERROR]} of eta |grad L|^2",
            judge(end[ERROR].mean < 0.01, end[ERROR].mean < 0.1),
        ),
        Claim(
            "a step gains nothing at eta = 2 / kappa",
            f"at {zero} times that",
            judge(abs(zero.mean - 1) < 0.02, abs(zero.mean - 1) < 0.25),
        ),
        Claim(
            "steps stretch what lies along the top eigenvector from eta = 2 / lambda_max on",
            f"from {grows} times that on",
            judge(abs(grows.mean - 1) < 0.02, abs(grows.mean - 1) < 0.1),
        ),
        Claim(
            "descent turns into ascent at eta = 2 / lambda_max",
            f"no step rises below {rises} times that; {end[LOWER].mean:.0%} of the descents above it end lower",
            judge(abs(rises.mean - 1) < 0.05),
        ),
    ]


def draw(measured: dict[str, Measured], plane: Plane) -> Figure:
    picture, (left, middle, right) = figure(3)
    one = measured[TRAINED]
    left.set(xscale="log", yscale="log", xlabel=r"$\eta$ in units of $2 / \kappa$")
    left.set_ylabel(r"left out, in units of $\eta\,|\nabla L|^2$ at $2 / \kappa$")
    title(left, "what equations leave out")
    band(left, SMALL, one.beyond_first, 0, label="by (2)")
    band(left, SMALL, one.beyond_second, 1, label="by (1)")
    left.plot(SMALL, SMALL**2, ":", color=GREY, label=r"$\eta^2$")
    legend(left)
    band(middle, LARGE, one.fall, 0, label="measured")
    middle.plot(LARGE, 1 - LARGE, ":", color=GREY, label="second order")
    middle.axhline(0, color=GREY, linewidth=0.6)
    middle.set(
        xlabel=r"$\eta$ in units of $2 / \kappa$",
        ylabel=r"fall of the loss, in units of $\eta\,|\nabla L|^2$",
        ylim=(-2, 1.1),
    )
    title(middle, "one step")
    legend(middle)
    contours = right.contour(plane.across, plane.up, plane.losses, 24, colors=GREY, linewidths=0.5)
    right.clabel(contours, contours.levels[::4], fontsize=6)
    for number, (rate, path) in enumerate(zip(PATHS, plane.paths, strict=True)):
        right.plot(*path.T, color=COLORS[number], marker=MARKERS[number], markersize=3, linewidth=1, label=f"{rate:g}")
    right.set(xlabel="along the top eigenvector", ylabel="along the rest of the gradient")
    right.set(xlim=(plane.across[0], plane.across[-1]), ylim=(plane.up[0], plane.up[-1]))
    title(right, "descents in a plane")
    legend(right, title=r"$\eta$ in $2/\lambda_{max}$", title_fontsize=8, loc="lower center", ncols=3, columnspacing=1)
    return picture


if __name__ == "__main__":
    main(run)
