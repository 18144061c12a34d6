"""Batch size: one example, a few, or all of them for a step, and what the noise scale knows of it.

    grad L_B = 1/B sum_{i in pi} grad L_i
    E |grad L_B - grad L|^2 = tr(Sigma) / B,    times (N - B) / (N - 1) where no example is drawn twice

The noise scale tr(Sigma) / |grad L|^2 is the batch size at which noise and gradient have the same size. Below it, twice
the batch should save half of the steps; above it, none (McCandlish et al. 2018, arXiv 1812.06162):

    S / S_min - 1 = 1 / (E / E_min - 1),  so that S = S_min (1 + B_crit / B),  E = B S = E_min (1 + B / B_crit)

for S steps and E examples to a given loss, with the critical batch size B_crit = E_min / S_min. By the derivation it is
the noise scale, averaged over the steps of full-batch descent on the way to that loss; in practice one averages
tr(Sigma) and |grad L|^2 and divides then.

Measured on N = 1,024 digits with 64-32-10, tanh, without momentum: the steps, examples and seconds after which the loss
over all N is down at 0.05, for B = 1 to N, each at its own best of the same eight rates.
"""

from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from matplotlib.figure import Figure

from experiments.claims._experiment import Claim, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, band, direct, figure, legend, title
from jaxmlp import MLP, backprop, data, init, mean_gradient, per_example, sgd
from jaxmlp.network import Params
from jaxmlp.training.epoch import Hyperparameters, batch_order, run_epoch
from jaxmlp.training.evaluation import measures
from jaxmlp.training.examples import Examples

NETWORK = MLP((64, 32, 10), "tanh")
LOSS = 0.05  # to be reached
RATES = 2.0 ** np.arange(-5, 3)
DRAWS = 2000
TIMED = 0.05  # seconds, at least


class Descents(NamedTuple):
    """The steps and seconds of one batch size, at its best rate."""

    batch_size: int
    rate: float
    steps: np.ndarray  # [seeds]; infinite where the loss was not reached
    seconds_a_step: float


class Path(NamedTuple):
    """The path of full-batch descent: [seeds, steps] each, nan after its end."""

    losses: np.ndarray
    trace: np.ndarray  # tr(Sigma)
    squared_norm: np.ndarray  # |grad L|^2


def run(options: Options) -> Outcome:
    digits = data.prepare(data.read("digits")).train
    n = 256 if options.quick else 1024
    sizes = [1, 16, 256] if options.quick else [2**i for i in range(11)]
    examples = Examples(jnp.asarray(digits.x[:n]), jnp.asarray(digits.t[:n]), None)
    keys = [jax.random.key(seed) for seed in range(options.seeds)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[init(NETWORK, key) for key in keys])
    variances = jax.vmap(partial(variance, sizes=tuple(sizes)), (0, 0, None))(params, jnp.stack(keys), examples)
    rates = RATES[1::2] if options.quick else RATES
    made = [best_descents(params, keys, examples, size, rates) for size in sizes]
    path = follow(params, examples, made[-1].rate, int(np.ceil(made[-1].steps.max())))
    on_the_way = np.arange(path.losses.shape[1]) < made[-1].steps[:, None]
    path = jax.tree.map(lambda row: np.where(on_the_way, row, np.nan), path)
    return outcome(sizes, jax.tree.map(np.asarray, variances), made, path)


@partial(jax.jit, static_argnames="sizes")
def variance(params: Params, key: Array, examples: Examples, sizes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return E |grad L_B - grad L|^2 over random batches, in units of tr(Sigma): with and without drawing twice.

    From the inner products K of all pairs of gradients: u^T K u, where u has how often an example is in the batch, over
    B, minus 1/N.
    """
    factors = jax.vmap(partial(backprop, NETWORK, params))(examples.x, examples.t).factors
    n, products = len(examples.x), per_example.gram(factors)
    centre = jnp.eye(n) - 1 / n
    products = centre @ products @ centre
    trace = jnp.trace(products) / n

    def of_size(size: int) -> tuple[Array, Array]:
        picked = jax.random.randint(key, (DRAWS, size), 0, n)
        twice = jax.vmap(lambda rows: jnp.zeros(n).at[rows].add(1 / size))(picked)
        order = jax.random.uniform(key, (DRAWS, n)).argsort(1)
        once = jnp.where(order < size, 1 / size, 0)
        return tuple(((u @ products) * u).sum(1).mean() / trace for u in (twice, once))  # type: ignore[return-value]

    return tuple(jnp.stack(column) for column in zip(*map(of_size, sizes), strict=True))  # type: ignore[return-value]


def best_descents(params: Params, keys: list[Array], examples: Examples, size: int, rates: np.ndarray) -> Descents:
    """Descend with batches of one size at all rates, and keep the one that needs the fewest steps."""
    n = len(examples.x)
    between = max(1, n // 16 // size)  # steps from one look at the whole loss to the next
    epochs = 5 + 160 * size // n
    orders = [np.concatenate([batch_order(key, epoch, n, size) for epoch in range(epochs)]) for key in keys]
    order = jnp.asarray(np.stack(orders).reshape(len(keys), -1, between, size))
    losses = np.asarray(descents(params, order, jnp.asarray(rates, jnp.float32), examples))
    steps = arrival(losses) * between
    best = steps.mean(0).argmin()
    one = jax.tree.map(lambda leaf: leaf[0], params)
    return Descents(size, float(rates[best]), steps[:, best], seconds_a_step(one, order[0], examples))


@jax.jit
def descents(params: Params, order: Array, rates: Array, examples: Examples) -> Array:
    """Return the loss over all examples again and again: [seeds, rates, looks], for an order [seeds, looks, .., B]."""

    def descent(params: Params, order: Array, rate: Array) -> Array:
        def part(carry: tuple[Params, sgd.State], order: Array) -> tuple[tuple[Params, sgd.State], Array]:
            numbers = Hyperparameters(jnp.full(len(order), rate), 0.0, 0.0)
            params, state, _, _ = run_epoch(NETWORK, *carry, examples, order, numbers)
            return (params, state), measures(NETWORK, params, examples)[0]

        return lax.scan(part, (params, sgd.init(params)), order)[1]

    return jax.vmap(jax.vmap(descent, (None, None, 0)), (0, 0, None))(params, order, rates)


def arrival(losses: np.ndarray) -> np.ndarray:
    """Return at which look, counted from 1, each row of losses has come down: between two looks by interpolation."""
    there = losses <= LOSS
    after = np.maximum(there.argmax(-1), 1)[..., None]
    low, high = (np.log(np.take_along_axis(losses, after - by, -1)[..., 0]) for by in (0, 1))
    with np.errstate(invalid="ignore"):
        place = after[..., 0] + (high - np.log(LOSS)) / (high - low)
    return np.where(there.any(-1), place, np.inf)


def seconds_a_step(params: Params, order: Array, examples: Examples) -> float:
    """Time steps of one network as `train` takes them: many in one program; the fastest of five runs."""
    order = order.reshape(-1, order.shape[-1])[: max(4, 2048 // order.shape[-1])]
    numbers = Hyperparameters(jnp.full(len(order), 1e-3), 0.0, 0.0)
    program = jax.jit(partial(run_epoch, NETWORK)).lower(params, sgd.init(params), examples, order, numbers).compile()
    times = []
    for _ in range(5):
        start, runs = perf_counter(), 0
        while perf_counter() - start < TIMED:
            jax.block_until_ready(program(params, sgd.init(params), examples, order, numbers))
            runs += 1
        times.append((perf_counter() - start) / runs / len(order))
    return min(times)


@partial(jax.jit, static_argnames="n_steps")
def follow(params: Params, examples: Examples, rate: float, n_steps: int) -> Path:
    """Descend with all examples, and measure the noise that batches of them would have."""

    def step(params: Params, _: None) -> tuple[Params, tuple[Array, Array, Array]]:
        losses, _, factors = jax.vmap(partial(backprop, NETWORK, params))(examples.x, examples.t)
        slope = mean_gradient(factors)
        # The noise scale's |G|^2 is of what the examples are drawn from; that is all of them here.
        squared_norm = jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), slope))
        after = jax.tree.map(lambda w, g: w - rate * g, params, slope)  # (2)
        return after, (losses.mean(), per_example.noise_scale(factors).trace, squared_norm)

    return Path(*jax.vmap(lambda params: lax.scan(step, params, length=n_steps)[1])(params))


def hyperbola(sizes: np.ndarray, steps: np.ndarray) -> tuple[float, float]:
    """Fit S = S_min (1 + B_crit / B), by least squares in logarithms; return S_min and B_crit."""
    from scipy.optimize import curve_fit

    def model(sizes: np.ndarray, least: Any, critical: Any) -> Any:
        return least + np.log1p(np.exp(critical) / sizes)

    (least, critical), _ = curve_fit(model, sizes, np.log(steps), (np.log(steps[-1]), np.log(sizes[len(sizes) // 2])))
    return float(np.exp(least)), float(np.exp(critical))


def outcome(sizes: list[int], variances: tuple[np.ndarray, np.ndarray], made: list[Descents], path: Path) -> Outcome:
    sizes_, n = np.array(sizes, float), sizes[-1]
    steps, seconds = np.stack([one.steps for one in made], 1), np.array([one.seconds_a_step for one in made])
    fits = np.array([hyperbola(sizes_, row) for row in steps])
    least, critical = interval(fits[:, 0]), interval(fits[:, 1])
    off = np.abs(steps.mean(0) / (fits[:, :1] * (1 + fits[:, 1:] / sizes_)).mean(0) - 1).max()
    scales = path.trace / path.squared_norm
    over_steps = interval(np.nanmean(scales, 1))
    of_parts = interval(np.nanmean(path.trace, 1) / np.nanmean(path.squared_norm, 1))
    start, end = interval(scales[:, 0]), interval([row[np.isfinite(row)][-1] for row in scales])
    twice, once = variances[0].mean(0) * sizes_, variances[1].mean(0)[:-1] * sizes_[:-1]
    once = once / ((n - sizes_[:-1]) / (n - 1))
    near = int(np.abs(np.log(sizes_ / of_parts.mean)).argmin())
    gain = interval(steps[:, near] / steps[:, -1])
    taken = steps * seconds
    quickest = int(taken.mean(0).argmin())
    to_one, to_all = (interval(taken[:, which] / taken[:, quickest]) for which in (0, -1))
    rows = [
        (
            one.batch_size,
            f"{one.rate:g}",
            str(interval(one.steps)),
            str(interval(size * one.steps)),
            f"{1e3 * mean:.2f}",
        )
        for one, size, mean in zip(made, sizes_, taken.mean(0), strict=True)
    ]
    numbers = {
        "batch sizes": sizes,
        "variance": {"drawn twice": variances[0], "drawn once": variances[1]},
        "best rates": [one.rate for one in made],
        "steps": steps,
        "seconds a step": seconds,
        "least steps": fits[:, 0],
        "critical batch size": fits[:, 1],
        "full batch": {"losses": path.losses.mean(0), "noise scale": scales[:, :: max(1, scales.shape[1] // 25)]},
    }
    claims = [
        Claim(
            "the variance of a batch's gradient is tr(Sigma) / B",
            f"{twice.min():.3f} to {twice.max():.3f} of it, for B = 1 to {n:,}",
            judge(bool((np.abs(twice - 1) < 0.03).all())),
        ),
        Claim(
            "drawn without repetition it is (N - B) / (N - 1) times that",
            f"{once.min():.3f} to {once.max():.3f} of it, for B = 1 to {sizes[-2]:,}",
            judge(bool((np.abs(once - 1) < 0.03).all())),
        ),
        Claim(
            "a loss is reached after S_min (1 + B_crit / B) steps",
            f"off by {off:.1%} at most, with S_min = {least} and B_crit = {critical}",
            judge(off < 0.1, off < 0.25),
        ),
        Claim(
            "B_crit is the noise scale, averaged over the steps of full-batch descent",
            f"{over_steps}, {over_steps.mean / critical.mean:.1f} times B_crit",
            judge(*(abs(np.log(over_steps.mean / critical.mean)) < np.log(factor) for factor in (2, 10))),
        ),
        Claim(
            "B_crit is the noise scale of averaged parts, mean tr(Sigma) over mean |grad L|^2",
            f"{of_parts}, {of_parts.mean / critical.mean:.2f} times B_crit",
            judge(*(abs(np.log(of_parts.mean / critical.mean)) < np.log(factor) for factor in (2, 10))),
        ),
        Claim(
            "from that noise scale on there is a factor of 2 in steps to gain at most",
            f"B = {sizes[near]} takes {gain} times the steps of B = {n:,}",
            judge(gain.mean - gain.half < 2, gain.mean < 4),
        ),
        Claim(
            "a batch in between takes less time than one example or all",
            f"B = 1 takes {to_one} times, B = {n:,} {to_all} times as long as B = {sizes[quickest]}",
            judge(min(to_one.mean - to_one.half, to_all.mean - to_all.half) > 1, 0 < quickest < len(sizes) - 1),
        ),
    ]
    finding = f"""The variance is what it must be, with and without repetition. The noise costs what the theory says:
        steps fall as S_min (1 + B_crit / B) from {steps[:, 0].mean():,.0f} at B = 1 to {steps[:, -1].mean():.0f} at B
        = {n:,}, while examples rise from {steps[:, 0].mean():,.0f} to {n * steps[:, -1].mean():,.0f}. The bend is at
        B_crit = {critical}. Each size has its own best rate, from {made[0].rate:g} to {made[-1].rate:g}: at one rate
        for all this comparison would be of rates.

        What predicts the bend is not what the derivation says. Over the steps of full-batch descent the noise scale
        averages to {over_steps}, as it grows from {start} at the initial weights to {end} where the loss is {LOSS:g}:
        long before the end the gradient is lost in the noise of small batches, and yet they get on. The ratio of the
        averaged parts, {of_parts}, which the steep beginning decides, is {of_parts.mean / critical.mean:.2f} times
        B_crit. It names the size within a factor of a few, not more.

        In seconds B = {sizes[quickest]} is best on this machine ({1e3 * taken[:, quickest].mean():.1f} ms). Fewer steps
        are only half of that: a step of {sizes[quickest]} examples takes {seconds[quickest] / seconds[0]:.0f} times as
        long as a step of one, a step of all {n:,} takes {seconds[-1] / seconds[0]:.0f} times as long."""
    header = ("B", "best rate", "steps", "examples", "ms")
    tables = [Table(f"To a loss of {LOSS:g}", header, rows)]
    return Outcome(claims, tables, finding, numbers, draw(sizes_, variances, steps, taken, fits, scales, path))


def draw(
    sizes: np.ndarray,
    variances: tuple[np.ndarray, np.ndarray],
    steps: np.ndarray,
    taken: np.ndarray,
    fits: np.ndarray,
    scales: np.ndarray,
    path: Path,
) -> Figure:
    from matplotlib.ticker import LogLocator

    picture, (spread, needed, time, noise) = figure(2, 2)
    n, critical, fine = sizes[-1], fits[:, 1].mean(), np.geomspace(1, sizes[-1], 200)
    for axes in (spread, needed, time):
        axes.set(xscale="log", yscale="log", xlabel="batch size B, examples")
        axes.set_xscale("log", base=2)
    spread.set_ylabel(r"variance of the gradient, in $\mathrm{tr}\,\Sigma$")
    title(spread, "noise of a batch")
    spread.plot(fine, 1 / fine, ":", color=GREY, label=r"$1 / B$")
    spread.plot(fine[:-1], ((n - fine) / (n - 1) / fine)[:-1], "--", color=GREY, label=r"$(N - B) / (N - 1) / B$")
    band(spread, sizes, variances[0], 0, linestyle="none", label="drawn with repetition")
    band(spread, sizes[:-1], variances[1][:, :-1], 1, linestyle="none", label="drawn without")
    legend(spread, loc="lower left")
    needed.set_ylabel(f"to a loss of {LOSS:g}")
    title(needed, "steps and examples")
    model = (fits[:, :1] * (1 + fits[:, 1:] / fine)).mean(0)
    needed.plot(fine, model, ":", color=GREY, label=r"$S_{min}\,(1 + B_{crit} / B)$, and $B$ times it")
    needed.plot(fine, fine * model, ":", color=GREY)
    band(needed, sizes, steps, 0, linestyle="none", label="steps")
    band(needed, sizes, sizes * steps, 1, linestyle="none", label="examples")
    needed.axvline(critical, color=GREY, linewidth=0.8)
    direct(needed, critical * 1.1, steps.min() * 0.8, r"$B_{crit}$", va="top")
    needed.set_ylim(steps.min() * 0.5, None)
    legend(needed, loc="upper left")
    time.set_ylabel(f"ms to a loss of {LOSS:g}")
    title(time, "time")
    band(time, sizes, 1e3 * taken, 0)
    time.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    time.yaxis.set_major_formatter("{x:g}")
    time.yaxis.set_minor_formatter("")
    noise.set(xscale="log", yscale="log", xlabel="loss, on the way down", ylabel="noise scale, examples")
    title(noise, "noise along full-batch descent")
    for losses, scale in zip(path.losses, scales, strict=True):
        noise.plot(losses, scale, color=COLORS[0], linewidth=0.8, alpha=0.7)
    noise.invert_xaxis()
    noise.axhline(critical, color=GREY, linewidth=0.8)
    direct(noise, np.nanmax(path.losses), critical * 1.15, r"$B_{crit}$")
    return picture


if __name__ == "__main__":
    main(run)
