"""Momentum: on flat ground a rate of eta / (1 - alpha), on curved ground a flywheel.

    (3)  dw_t = -eta grad L + alpha dw_{t-1}

Where grad L stays the same, steps add up to dw_t = -eta grad L (1 - alpha^t) / (1 - alpha): the effective rate tends to
eta / (1 - alpha). Along an eigenvector of curvature lambda (3) is an oscillator instead:

    it is stable          up to    eta = 2 (1 + alpha) / lambda
    it overshoots         from     eta = (1 - sqrt(alpha))^2 / lambda  on, where a step leaves sqrt(alpha) of it
    best for all lambda   at       alpha = ((sqrt(k) - 1) / (sqrt(k) + 1))^2,  k = lambda_max / lambda_min

Momentum helps across a narrow valley. It harms where eta already suits the curvature. Where the ground is flat for
1 / (1 - alpha) steps, it only changes the learning rate.

Measured on quadratic losses, with the library's own update in float64; on a plateau of a network,
128 digits, 64-32-10, tanh, with steps of a ten-thousandth of 1 / kappa (kappa is the curvature along the gradient); on
descents of such a network with quadratic loss, 256 digits at once, after five epochs of training; and on all digits in
batches of 32, where eta and alpha are swept along lines of equal eta / (1 - alpha).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from matplotlib.figure import Figure

from experiments.claims._experiment import Claim, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, MARKERS, band, direct, figure, legend, title
from jaxmlp import MLP, Dataset, TrainConfig, data, init, loss_and_gradient, sgd, sweep, train
from jaxmlp.curvature import critical_learning_rate, hessian_vector_product, largest_eigenvalue
from jaxmlp.network import Layer, Params

NETWORK = MLP((64, 32, 10), "tanh")
SQUARED = MLP((64, 32, 10), "tanh", output="identity", loss="quadratic")  # its curvature does not fade with the loss
ALPHAS = np.array([0, 0.5, 0.9, 0.99])
FLAT_STEPS, FLAT = 1000, 1e-4  # the effective rate on the plateau, in 1 / kappa
SHOWN = np.array([1, 2, 4, 7, 12, 20, 35, 60, 100, 180, 320, 560, 1000])  # steps that are drawn
LONG = 6000  # steps of an oscillator: half a turn of the slowest that is to be seen
RATES = np.linspace(0.1, 3.0, 30)  # of a network's descents, in 2 (1 + alpha) / lambda_max
DESCENT = 200
CONDITIONS = (10, 100, 1000)
MAPPED = np.linspace(0, 0.99, 34)  # alphas of the map
FINE = np.linspace(0, 0.99, 100)  # alphas to find the best among
EFFECTIVE = (0.01, 0.03, 0.1, 0.3, 1.0)
SWEPT = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
ALIKE = 0.1  # curves are nearly equal where the mean of ln(loss / loss without momentum) stays below this


class Oscillators(NamedTuple):
    """Measurements on curved ground, by alpha; rates in units of the theory's."""

    stable: np.ndarray  # rate at which steps no longer shrink
    turns: np.ndarray  # lowest rate that overshoots
    shrinks: np.ndarray  # what a step leaves at eta = 1 / lambda
    best: np.ndarray  # best alpha by condition number
    steps: np.ndarray  # to a tenth, each alpha at its best rate: [conditions, alphas]
    curvatures: np.ndarray  # eta lambda of the map
    map: np.ndarray  # what a step leaves: [eta lambda, alpha]


def run(options: Options) -> Outcome:
    digits = data.prepare(data.read("digits")).train
    keys = [jax.random.key(seed) for seed in range(options.seeds)]
    config, n = TrainConfig(epochs=5, learning_rate=0.01, weight_decay=0), 32 if options.quick else 256
    trained = [train(SQUARED, digits, config, key=key).params for key in keys]
    with jax.enable_x64(True):
        to_double = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, jnp.float64))
        x, t = jnp.asarray(digits.x[:n], jnp.float64), jnp.asarray(digits.t[:n])
        networks = to_double([init(NETWORK, key) for key in keys])
        plateau = np.stack([plateau_rates(params, x[:128], t[:128]) for params in networks])
        oscillators = oscillate(LONG // 2 if options.quick else LONG)
        ends = np.stack([descend(params, x, t) for params in to_double(trained)])
    curves = learn(digits, options)
    return outcome(plateau, oscillators, ends, curves)


@jax.jit
def plateau_rates(params: Params, x: Array, t: Array) -> Array:
    """Return each step's part along -eta grad L, in units of that: [alphas, steps]."""
    slope = loss_and_gradient(NETWORK, params, x, t)[1]
    kappa = inner(slope, hessian_vector_product(NETWORK, params, x, t, slope)) / inner(slope, slope)

    def descent(alpha: Array) -> Array:
        eta = FLAT / kappa * (1 - alpha)

        def step(carry: tuple[Params, sgd.State], _: None) -> tuple[tuple[Params, sgd.State], Array]:
            slope = loss_and_gradient(NETWORK, carry[0], x, t)[1]
            params, state = sgd.update(*carry, slope, learning_rate=eta, momentum=alpha)
            return (params, state), -inner(state.dw, slope) / (eta * inner(slope, slope))

        return lax.scan(step, (params, sgd.init(params)), length=FLAT_STEPS)[1]

    return jax.vmap(descent)(jnp.asarray(ALPHAS))


@partial(jax.jit, static_argnames="n_steps")
def oscillator(alpha: Array, curvature: Array, n_steps: int) -> tuple[Array, Array]:
    """Descend L = 1/2 lambda w^2 by (3) with this eta lambda.

    Return the logarithm of what a step leaves of (w, dw), a mean over the second half, and whether w changed its sign.
    """

    def step(carry: tuple[Params, sgd.State], _: None) -> tuple[tuple[Params, sgd.State], tuple[Array, Array]]:
        slope = jax.tree.map(lambda w: curvature * w, carry[0])
        after = sgd.update(*carry, slope, learning_rate=1.0, momentum=alpha)
        w, dw = after[0][0].w[0, 0], after[1].dw[0].w[0, 0]
        size = jnp.maximum(jnp.hypot(w, dw), 1e-30)
        # The ground is the same at all sizes, and size 1 neither underflows nor overflows.
        return jax.tree.map(lambda leaf: leaf / size, after), (jnp.log(size), w * carry[0][0].w[0, 0] < 0)

    w = (Layer(jnp.ones((1, 1)), jnp.zeros(1)),)
    sizes, turns = lax.scan(step, (w, sgd.init(w)), length=n_steps)[1]
    return sizes[n_steps // 2 :].mean(), turns.any()


def oscillate(n_steps: int) -> Oscillators:
    def measured(
        alpha: np.ndarray, curvature: np.ndarray, n_steps: int = n_steps // 4
    ) -> tuple[np.ndarray, np.ndarray]:
        alpha, curvature = np.broadcast_arrays(alpha, curvature)
        lanes = jax.vmap(partial(oscillator, n_steps=n_steps))(alpha.ravel(), curvature.ravel())
        growth, turns = (np.asarray(lane).reshape(alpha.shape) for lane in lanes)
        return growth, turns

    alphas, shares = ALPHAS[:, None], np.linspace(0.9, 1.1, 40)
    growth, _ = measured(alphas, shares * 2 * (1 + alphas))
    stable = np.array([np.interp(0, row, shares) for row in growth])
    parts = np.geomspace(0.5, 2, 80)
    _, turns = measured(alphas, parts * (1 - np.sqrt(alphas)) ** 2, n_steps)
    shrinks = np.exp(measured(ALPHAS[1:], np.array(1.0))[0])
    # The best rate is close below the stable limit for every alpha, the closer the larger k is.
    below = 1 - np.geomspace(1e-4, 0.9, 24)
    steps = []
    for k in CONDITIONS:
        steep = 2 * (1 + FINE[:, None]) * below
        slowest = np.maximum(measured(FINE[:, None], steep)[0], measured(FINE[:, None], steep / k)[0])
        steps.append(-np.log(10) / slowest.min(1))
    curvatures = np.geomspace(1e-3, 5, 36)
    return Oscillators(
        stable,
        parts[turns.argmax(1)],
        shrinks,
        FINE[np.argmin(steps, 1)],
        np.stack(steps),
        curvatures,
        np.exp(measured(MAPPED, curvatures[:, None])[0]),
    )


def descend(params: Params, x: Array, t: Array) -> Array:
    """Return what is left of the loss of a network by the end of descents of all rates: [alphas, rates]."""
    top = largest_eigenvalue(SQUARED, params, x, t, key=jax.random.key(0)).value
    etas = jnp.stack([RATES * critical_learning_rate(top, momentum=alpha) for alpha in ALPHAS])
    return jnp.stack([descents(params, eta, alpha, x, t) for eta, alpha in zip(etas, ALPHAS, strict=True)])


@jax.jit
def descents(params: Params, etas: Array, alpha: ArrayLike, x: Array, t: Array) -> Array:
    def descent(eta: Array) -> Array:
        def step(carry: tuple[Params, sgd.State], _: None) -> tuple[tuple[Params, sgd.State], Array]:
            value, slope = loss_and_gradient(SQUARED, carry[0], x, t)
            return sgd.update(*carry, slope, learning_rate=eta, momentum=alpha), value

        losses = lax.scan(step, (params, sgd.init(params)), length=DESCENT)[1]
        return losses[-1] / losses[0]

    return jax.vmap(descent)(etas)


def learn(digits: Dataset, options: Options) -> np.ndarray:
    """Sweep along lines of equal eta / (1 - alpha): the loss of every epoch, [rates, alphas, seeds, epochs]."""
    config = TrainConfig(epochs=4 if options.quick else 20, schedule="constant", weight_decay=0)
    rates, alphas, seeds = EFFECTIVE, SWEPT, range(options.seeds)
    rows = [(rate * (1 - alpha), alpha, seed) for rate in rates for alpha in alphas for seed in seeds]
    space = sweep.Space(("learning_rate", "momentum", "seed"), tuple(rows))
    results = sweep.run(space, digits, config, mlp=NETWORK, keep=0)
    losses = np.full((len(rows), config.epochs), np.nan)  # of what diverged nothing is known any more
    for number in range(len(rows)):
        of_trial = [epoch.train_loss for epoch in results.history(number)]
        losses[number, : len(of_trial)] = of_trial
    return losses.reshape(len(rates), len(alphas), len(seeds), -1)


def inner(a: Params, b: Params) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, a, b))


def departures(curves: np.ndarray) -> np.ndarray:
    """Return ln(loss / loss without momentum) of the same seed at the epoch where its mean is largest: [.., seeds]."""
    logs = np.where(np.isfinite(curves), np.log(curves / curves[:, :1]), np.inf)
    worst = np.abs(logs.mean(2)).argmax(-1)
    return np.take_along_axis(logs, worst[:, :, None, None], -1)[..., 0]


def alike_up_to(departures: np.ndarray) -> np.ndarray:
    """Return the last alpha up to which curves are nearly equal to those without momentum: [rates]."""
    alike = np.abs(departures.mean(-1)) < ALIKE
    return np.array(SWEPT)[np.cumprod(alike, 1).sum(1) - 1]


def outcome(plateau: np.ndarray, made: Oscillators, ends: np.ndarray, curves: np.ndarray) -> Outcome:
    ts = np.arange(1, FLAT_STEPS + 1)
    approach = (1 - ALPHAS[:, None] ** ts) / (1 - ALPHAS[:, None])
    off = plateau / approach - 1
    most, last = np.abs(off[:, :-1]).max(), interval(off[:, -1, -1])
    early = np.abs(off[:, :, :100]).max()
    fails = [interval(first(RATES, ~(row < 1))) for row in ends.swapaxes(0, 1)]  # what is not a number failed too
    best = ((np.sqrt(CONDITIONS) - 1) / (np.sqrt(CONDITIONS) + 1)) ** 2
    fewer = made.steps[:, 0] / made.steps.min(1)
    departed = departures(curves)
    everywhere, at_end = alike_up_to(departed), alike_up_to(np.log(curves / curves[:, :1])[..., -1])
    numbers = {
        "alphas": ALPHAS,
        "plateau": {"steps": SHOWN, "rate in eta": plateau[..., SHOWN - 1]},
        "oscillators": made._asdict(),
        "network": {"rates": RATES, "loss left": ends},
        "swept": {
            "eta / (1 - alpha)": EFFECTIVE,
            "alphas": SWEPT,
            "loss": curves.mean(2),
            "largest ln of loss / loss without momentum": departed,
            "alike up to": everywhere,
            "alike at the end up to": at_end,
        },
    }
    table = [
        (f"{rate:g}", f"{alpha:g}", f"{end:g}", *(f"{value:+.0%}" for value in np.expm1(row.mean(-1))[[3, 4, 6]]))
        for rate, alpha, end, row in zip(EFFECTIVE, everywhere, at_end, departed, strict=True)
    ]
    claims = [
        Claim(
            "on flat ground the effective rate tends to eta / (1 - alpha)",
            f"off by {most:.2%} at most up to alpha = 0.9, after {FLAT_STEPS} steps by {last} at 0.99",
            judge(most < 0.01 and abs(last.mean) < 0.02, most < 0.1),
        ),
        Claim(
            "it is approached as 1 - alpha^t",
            f"off by {early:.2%} at most in the first 100 steps, at all alphas",
            judge(early < 0.01, early < 0.1),
        ),
        Claim(
            "on a quadratic loss steps are stable up to eta = 2 (1 + alpha) / lambda",
            f"up to {among(made.stable)} times that",
            judge(bool((np.abs(made.stable - 1) < 0.01).all())),
        ),
        Claim(
            "descents of a network fail from eta = 2 (1 + alpha) / lambda_max on",
            "from "
            + ", ".join(f"{mean} (alpha = {alpha:g})" for mean, alpha in zip(fails, ALPHAS, strict=True))
            + " times",
            judge(*(all(abs(mean.mean - 1) < near for mean in fails) for near in (0.1, 0.25))),
        ),
        Claim(
            "momentum overshoots from eta = (1 - sqrt(alpha))^2 / lambda on",
            f"from {among(made.turns)} times that on",
            judge(bool((np.abs(made.turns - 1) < 0.05).all())),
        ),
        Claim(
            "where it overshoots a step leaves sqrt(alpha): at eta = 1 / lambda momentum harms",
            ", ".join(f"{left:.4f} (alpha = {alpha:g})" for left, alpha in zip(made.shrinks, ALPHAS[1:], strict=True)),
            judge(bool((np.abs(made.shrinks / np.sqrt(ALPHAS[1:]) - 1) < 0.01).all())),
        ),
        Claim(
            "the best alpha is ((sqrt(k) - 1) / (sqrt(k) + 1))^2",
            ", ".join(f"{a:.2f} for {b:.3f} (k = {k})" for a, b, k in zip(made.best, best, CONDITIONS, strict=True)),
            judge(bool((np.abs(made.best - best) < 0.02).all())),
        ),
        Claim(
            "on real data equal eta / (1 - alpha) gives nearly equal curves",
            "within 10 % at every epoch up to alpha = "
            + ", ".join(f"{alpha:g} (at {rate:g})" for alpha, rate in zip(everywhere, EFFECTIVE, strict=True)),
            judge(bool((everywhere >= 0.99).all()), bool((everywhere >= 0.9).any())),
        ),
    ]
    late = ", ".join(f"{alpha:g} (at {rate:g})" for alpha, rate in zip(at_end, EFFECTIVE, strict=True))
    finding = f"""On flat ground momentum is a rate and nothing else: steps on a network's plateau go at eta / (1 -
        alpha) to {most:.2%} up to alpha = 0.9, and reach it as 1 - alpha^t. What is flat depends on alpha: the
        gradient must not change for 1 / (1 - alpha) steps. At 0.99 the rate is off by {last}, and alpha / (1 - alpha)
        times eta_effective kappa, the change over that time, is {99 * FLAT:.4f}.

        On curved ground the closed forms hold where the curvature stays. With the best alpha a valley of condition
        number {CONDITIONS[-1]:,} takes {made.steps[-1].min():.0f} steps to a tenth of the error instead of
        {made.steps[-1, 0]:,.0f}, {fewer[-1]:.0f} times fewer ({fewer[0]:.1f} at {CONDITIONS[0]}). Along a direction
        for which eta is right already, momentum only harms: a step leaves sqrt(alpha) instead of nothing. A network's
        curvature changes along its descent, so 2 (1 + alpha) / lambda_max of its start is no limit: descents fail from
        {fails[0]} times that without momentum, and from {fails[2]} times with alpha = {ALPHAS[2]:g}.

        On digits curves of equal eta / (1 - alpha) stay within 10 % of the one without momentum at every epoch up to
        alpha = {everywhere[0]:g} at a rate of {EFFECTIVE[0]:g}, but only up to {everywhere[2]:g} at {EFFECTIVE[2]:g}
        and {everywhere[-1]:g} at {EFFECTIVE[-1]:g}: the larger the rate, the fewer steps the ground is flat for.
        Mostly it is a late start that is made up for: the losses of the last epoch agree up to {late}."""
    header = ("eta / (1 - alpha)", "alike up to", "at the end", *(f"alpha = {SWEPT[i]:g}" for i in (3, 4, 6)))
    tables = [Table("Loss against that without momentum, at the epoch of the largest difference", header, table)]
    return Outcome(claims, tables, finding, numbers, draw(plateau, made, ends, curves, departed))


def first(rates: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the first rate at which each row is true: [seeds]; nan where none is."""
    return np.where(rows.any(1), rates[rows.argmax(1)], np.nan)


def among(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}"


def draw(plateau: np.ndarray, made: Oscillators, ends: np.ndarray, curves: np.ndarray, departed: np.ndarray) -> Figure:
    picture, (flat, ground, valley, network, epochs, apart) = figure(3, 2)
    flat.set(xscale="log", yscale="log", xlabel="steps", ylabel=r"rate in units of $\eta$")
    title(flat, "flat ground: a plateau")
    for number, alpha in enumerate(ALPHAS):
        flat.plot(SHOWN, (1 - alpha**SHOWN) / (1 - alpha), ":", color=GREY, label=None if number else "theory")
        band(flat, SHOWN, plateau[:, number, SHOWN - 1], number, label=rf"$\alpha$ = {alpha:g}", linestyle="none")
    legend(flat)
    colors = ground.contourf(MAPPED, made.curvatures, np.minimum(made.map, 1), np.linspace(0, 1, 11), cmap="cividis")
    bar = picture.colorbar(colors, cax=ground.inset_axes((0.08, 0.19, 0.5, 0.05)), orientation="horizontal")
    bar.set_ticks([0, 0.5, 1])
    bar.ax.tick_params(labelsize=8)
    bar.set_label("what a step leaves", fontsize=8)
    fine = np.linspace(0, 0.99, 200)
    ground.fill_between(fine, 2 * (1 + fine), 9, color="white")
    ground.plot(fine, 2 * (1 + fine), color="black", linewidth=1.2)
    ground.plot(fine, (1 - np.sqrt(fine)) ** 2, "--", color="white", linewidth=1.2)
    ground.set(yscale="log", ylim=(made.curvatures[0], 9), xlabel=r"$\alpha$", ylabel=r"$\eta \lambda$")
    direct(ground, 0.5, 0.3, "overshoots", color="white", ha="center")
    direct(ground, 0.03, 5, "unstable", color="black", va="center")
    title(ground, "curved ground")
    valley.set(yscale="log", xlabel=r"$\alpha$", ylabel="steps to a tenth, at the best rate")
    for number, (k, row) in enumerate(zip(CONDITIONS, made.steps, strict=True)):
        band(valley, FINE, np.stack([row, row]), number)
        direct(valley, 0.02, 1.15 * row[0], f"k = {k:,}", color=COLORS[number])
        valley.axvline(((np.sqrt(k) - 1) / (np.sqrt(k) + 1)) ** 2, linestyle=":", color=GREY, linewidth=1)
    valley.set_ylim(2.5, 3000)
    title(valley, "a valley of condition k")
    network.set(yscale="log", ylim=(0.01, 1), xlabel=r"$\eta$ in units of $2 (1 + \alpha) / \lambda_{max}$")
    network.set_ylabel(f"what {DESCENT} steps leave of the loss")
    network.axvline(1, linestyle=":", color=GREY, linewidth=1)
    for number, alpha in enumerate(ALPHAS):
        usual = np.median(np.nan_to_num(ends[:, number], nan=np.inf), 0)
        style = {"color": COLORS[number], "marker": MARKERS[number], "markersize": 3.5, "linewidth": 1.4}
        network.plot(RATES, np.where(usual < 1, usual, np.nan), label=rf"$\alpha$ = {alpha:g}", **style)
    title(network, "descents of a network (median)")
    legend(network, loc="lower right")
    shown = EFFECTIVE.index(0.1)
    epochs.set(yscale="log", xlabel="epochs", ylabel="training loss", xticks=range(0, 21, 5))
    for number, which in enumerate((0, 3, 5, 7)):
        one = curves[shown, which]
        band(epochs, 1 + np.arange(one.shape[1]), one, number, label=rf"$\alpha$ = {SWEPT[which]:g}")
    title(epochs, rf"digits, $\eta / (1 - \alpha)$ = {EFFECTIVE[shown]:g}")
    legend(epochs)
    apart.axhspan(-ALIKE, ALIKE, color="0.9", linewidth=0)
    apart.set(xscale="log", xlabel=r"$1 / (1 - \alpha)$, steps", ylabel=r"largest $\ln$(loss / loss at $\alpha$ = 0)")
    for number, rate in enumerate(EFFECTIVE):
        band(apart, 1 / (1 - np.array(SWEPT)), departed[number].T, number, label=f"{rate:g}")
    title(apart, r"digits, by $\eta / (1 - \alpha)$")
    legend(apart, loc="upper left")
    return picture


if __name__ == "__main__":
    main(run)
