"""Backpropagation is the gradient: as exact as autodiff, and for the price of a few evaluations of the loss.

    (4)  delta_L = L'(y) * phi'(z_L)
    (7)  delta_l = (w_{l+1}^T delta_{l+1}) * phi'(z_l)
    (8)  grad w_l = delta_l outer y_{l-1},  grad b_l = delta_l

These give the gradient to within rounding, whatever activation, loss and depth: in float32 they are off by a few units
of rounding, the distance from 1 to the next number, just as autodiff is. And they give it for a constant number of
evaluations of the loss, where n parameters cost finite differences n evaluations (and most of the digits), and forward
mode n passes, one `jax.jvp` a parameter.

The error of a gradient is that of its worst leaf, a weight matrix or a row of biases: the norm of the difference over
the norm, as in `jaxmlp check`. The truth is `jax.grad` in float64, on 32 random examples. The networks are 16-32-32-10
with softmax, and with tanh unless said otherwise, and the small networks of `jaxmlp.equivalences`, with every pair of
loss and output. Costs are measured on 256 random examples, 64-h-h-10 with tanh or relu: the seconds of a scan of many
gradients over the seconds of as many evaluations of the mean loss, each the fastest of eight rounds, in turn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

from experiments._timing import in_turn
from experiments.claims._experiment import Claim, Interval, Options, Outcome, Table, interval, judge, main
from experiments.claims._plotting import COLORS, GREY, MARKERS, figure, legend, title
from jaxmlp import MLP, init, loss, loss_and_gradient
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.equivalences import networks
from jaxmlp.network import Layer, Params

OURS, AUTODIFF, DIFFERENCES, FORWARD = "backpropagation", "autodiff", "finite differences", "forward mode"
EVALUATION = "evaluation"
ACTIVATION, PAIR, DEPTH = "hidden activation", "loss and output", "depth"
EXAMPLES, BATCH, STEPS = 32, 256, 32
EPSILON = float(np.finfo(np.float32).eps)
STEP = 2.0**-8  # of finite differences: in float32 rounding and curvature take about the same here
FEW, MANY = (4, 8, 16, 32), (64, 128, 256)  # widths: with all ways to a gradient, and with those that stay cheap

Errors = dict[str, dict[str, dict[str, np.ndarray]]]  # by group, network, and who takes the gradient; [seeds] each


def run(options: Options) -> Outcome:
    errors = {
        group: {name: errors_of(mlp, options.seeds) for name, mlp in mlps.items()}
        for group, mlps in groups(options.quick).items()
    }
    return outcome(errors, costs(options.quick, "tanh"), costs(options.quick, "relu"))


def groups(quick: bool) -> dict[str, dict[str, MLP]]:
    """Return the networks whose gradients are taken, by what makes them differ."""
    hidden = [name for name, activation in ACTIVATIONS.items() if activation.derivative is not None]
    depths = (1, 2) if quick else range(1, 9)
    return {
        ACTIVATION: {name: MLP((16, 32, 32, 10), name) for name in hidden[: 1 if quick else None]},
        PAIR: {f"{mlp.loss} of {mlp.output}": mlp for mlp in list(networks())[: 1 if quick else None]},
        DEPTH: {str(depth): MLP((16, *[32] * (depth - 1), 10), "tanh") for depth in depths},
    }


def errors_of(mlp: MLP, n_seeds: int) -> dict[str, np.ndarray]:
    """Return by how many units of rounding each gradient is off, at random weights, biases and examples: [seeds]."""
    drawn = [init(mlp, jax.random.key(seed)) for seed in range(n_seeds)]
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(n_seeds, *shape)).astype(np.float32)

    params = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    params = tuple(Layer(w, 0.1 * normal(w.shape[1])) for w, _ in params)  # biases of 0 would hide what is done to them
    x, t = normal(EXAMPLES, mlp.sizes[0]), rng.integers(mlp.sizes[-1], size=(n_seeds, EXAMPLES))
    with jax.enable_x64(True):
        return {who: np.asarray(off) for who, off in _errors(mlp, params, x, t).items()}


@partial(jax.jit, static_argnames="mlp")
@partial(jax.vmap, in_axes=(None, 0, 0, 0))
def _errors(mlp: MLP, params: Params, x: Array, t: Array) -> dict[str, Array]:
    def units(leaf: Array, true: Array) -> Array:
        return jnp.linalg.norm(leaf - true) / jnp.linalg.norm(true) / jnp.finfo(leaf.dtype).eps

    def worst(gradient: Params) -> Array:
        return jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(units, gradient, truth))))

    by_autodiff = jax.grad(partial(mean_loss, mlp))
    truth = by_autodiff(jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params), x, t)
    return {OURS: worst(loss_and_gradient(mlp, params, x, t)[1]), AUTODIFF: worst(by_autodiff(params, x, t))}


def mean_loss(mlp: MLP, params: Params, x: Array, t: Array) -> Array:
    return jax.vmap(partial(loss, mlp, params))(x, t).mean()


def costs(quick: bool, activation: str) -> dict[str, Any]:
    """Time every way to a gradient, in evaluations of the loss, and see how far differences are off."""
    few, many, rounds = ((4, 8), (), 3) if quick else (FEW, MANY, 8)
    if activation != "tanh":
        few, many = (), few[-1:] if quick else few + many
    sizes, off = [], []
    found: dict[str, list[np.ndarray]] = {name: [] for name in (OURS, AUTODIFF, DIFFERENCES, FORWARD)}
    for width in (*few, *many):
        mlp = MLP((64, width, width, 10), activation)
        tasks, error = ways(mlp, with_all=width in few)
        timed = {name: np.divide(each.seconds, each.values) for name, each in in_turn(tasks, rounds).items()}
        one = np.min(timed.pop(EVALUATION))
        for name, seconds in timed.items():
            found[name].append(seconds / one)
        sizes.append(mlp.n_parameters)
        off += [error] if width in few else []
    return {"parameters": sizes, "error of differences": off, **{name: np.array(rows) for name, rows in found.items()}}


def ways(mlp: MLP, with_all: bool) -> tuple[dict[str, Callable[[], float]], float]:
    """Return compiled tasks that say how many gradients each takes, and the error of finite differences in units."""
    rng = np.random.default_rng(0)
    params = init(mlp, jax.random.key(0))
    x = jnp.asarray(rng.normal(size=(BATCH, mlp.sizes[0])), jnp.float32)
    t = jnp.asarray(rng.integers(mlp.sizes[-1], size=BATCH))
    flat, unravel = ravel_pytree(params)

    def value(flat: Array) -> Array:
        return mean_loss(mlp, unravel(flat), x, t)

    def in_steps(way: Callable[[Array], Array]) -> Callable[[Array], Array]:
        # Steps, so that no two are the same computation; as small as steps may be, and as cheap for all.
        return lambda flat: lax.scan(lambda flat, _: (flat - 1e-6 * way(flat), None), flat, length=STEPS)[0]

    def differences(flat: Array) -> Array:
        return (lax.map(lambda i: value(flat.at[i].add(STEP)), jnp.arange(flat.size)) - value(flat)) / STEP

    def forward(flat: Array) -> Array:
        def along(i: Array) -> Array:
            return jax.jvp(value, (flat,), (jnp.zeros_like(flat).at[i].set(1),))[1]

        return lax.map(along, jnp.arange(flat.size))

    programs = {
        EVALUATION: (in_steps(value), STEPS),
        OURS: (in_steps(lambda flat: ravel_pytree(loss_and_gradient(mlp, unravel(flat), x, t)[1])[0]), STEPS),
        AUTODIFF: (in_steps(jax.grad(value)), STEPS),
    }
    if with_all:
        programs |= {DIFFERENCES: (differences, 1), FORWARD: (forward, 1)}
    compiled = {name: (jax.jit(program), count) for name, (program, count) in programs.items()}
    results = {name: program(flat) for name, (program, _) in compiled.items()}
    error = 0.0
    if with_all:
        true = jax.grad(value)(flat)
        error = float(jnp.linalg.norm(results[DIFFERENCES] - true) / jnp.linalg.norm(true) / jnp.finfo(true.dtype).eps)

    def task(program: Callable[[Array], Array], count: int) -> float:
        program(flat).block_until_ready()
        return count

    return {name: partial(task, *each) for name, each in compiled.items()}, error


def outcome(errors: Errors, costs: dict[str, Any], of_relu: dict[str, Any]) -> Outcome:
    sizes, off = np.array(costs["parameters"]), np.array(costs["error of differences"])
    exponents = {name: exponent(sizes, costs[name]) for name in (OURS, AUTODIFF, DIFFERENCES, FORWARD)}
    all_networks = [both for group in errors.values() for both in group.values()]
    ours, auto = (np.array([both[who] for both in all_networks]) for who in (OURS, AUTODIFF))
    ratio = np.exp(np.mean(np.log(ours) - np.log(auto), axis=0))  # of all networks, for each seed
    price, price_of_relu = (np.min(one[OURS], axis=1) / np.min(one[AUTODIFF], axis=1) for one in (costs, of_relu))
    (shallow, at_first), *_, (deep, at_last) = errors[DEPTH].items()
    rows = [
        (f"{group}: {name}", *(f"{interval(both[who])}" for who in (OURS, AUTODIFF)))
        for group, some in errors.items()
        for name, both in some.items()
    ]
    ways = {name: costs[name] for name in exponents} | {f"{name}, relu": of_relu[name] for name in (OURS, AUTODIFF)}
    cost_rows = [
        (f"{n:,}", *(f"{interval(rows[i])}" if i < len(rows) else "-" for rows in ways.values()))
        for i, n in enumerate(sizes)
    ]
    n, both = sizes[len(off) - 1], len(off) - 1
    return Outcome(
        claims(ours, interval(ratio), costs, exponents, price, price_of_relu),
        [
            Table("Error in float32, in units of rounding", ("", OURS, AUTODIFF), rows),
            Table("Cost, in evaluations of the loss", ("n", *ways), cost_rows),
        ],
        f"""In float32 the gradient by (4), (7), (8) errs by {ours.mean(1).min():.2g} to {ours.mean(1).max():.2g} units
        of rounding on average, {ours.max():.2g} at most in {len(ours)} networks with {ours.shape[1]} seeds each, and
        autodiff's by {auto.mean(1).min():.2g} to {auto.mean(1).max():.2g}: it is {interval(ratio)} times as far off, as
        both do much the same sums. It grows with depth, about in proportion: from {interval(at_first[OURS])} units
        at {shallow} layer to {interval(at_last[OURS])} at {deep}.

        It costs {np.min(costs[OURS][-1]):.1f} evaluations of the loss at {sizes[-1]:,} parameters, where matrix
        products are most of the work and the gradient is three of them where the loss is one: {price[-1]:.2f} times
        what autodiff costs with tanh, {price_of_relu[-1]:.2f} with relu. With few parameters, where steps take
        microseconds, autodiff is cheaper: ours takes up to {price.max():.1f} times as long with tanh,
        {price_of_relu.max():.1f} with relu.

        At {n:,} parameters finite differences cost {np.min(costs[DIFFERENCES][both]):,.0f} evaluations, forward mode
        {np.min(costs[FORWARD][both]):,.0f}, backpropagation {np.min(costs[OURS][both]):.1f}; and the differences
        are off by {off.min():,.0f} to {off.max():,.0f} units, so that {-np.log10(off.max() * EPSILON):.1f} digits are
        left of {-np.log10(EPSILON):.1f}.""",
        {"errors": errors, "costs": costs, "costs with relu": of_relu, "exponents": exponents},
        draw(errors, costs, of_relu),
    )


def exponent(sizes: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the exponent of the cost's power law in the number of parameters, one a round: [rounds]."""
    return np.polyfit(np.log(sizes[: len(costs)]), np.log(costs), 1)[0]


def claims(
    ours: np.ndarray,
    ratio: Interval,
    costs: dict[str, Any],
    exponents: dict[str, np.ndarray],
    price: np.ndarray,
    price_of_relu: np.ndarray,
) -> list[Claim]:
    """Judge every claim; a power is one if it is right to a tenth, and a few units are ten."""

    def power(claim: str, name: str, of: int) -> Claim:
        fastest = exponent(np.array(costs["parameters"]), np.min(costs[name], axis=1, keepdims=True))[0]
        low, high = np.min(costs[name], axis=1)[[0, -1]]
        measured = f"n^{fastest:.2f} ({interval(exponents[name])} by round), from {low:,.1f} to {high:,.1f}"
        return Claim(claim, measured, judge(abs(fastest - of) < 0.1, abs(fastest - of) < 0.25))

    return [
        Claim(
            "backpropagation is the gradient to within a few roundings, for every activation, loss and depth",
            f"off by {ours.mean(1).min():.2g} to {ours.mean(1).max():.2g} units, {ours.max():.2g} at most",
            judge(ours.max() < 10, ours.mean(1).max() < 10),
        ),
        Claim(
            "it is as exact as autodiff",
            f"its error is {ratio} times as large",
            judge(ratio.mean < 1.1, ratio.mean < 2),
        ),
        power("it costs a constant number of evaluations of the loss", OURS, 0),
        Claim(
            "it costs what autodiff costs",
            f"{price.min():.2f} to {price.max():.2f} times as much, {price[-1]:.2f} at last; with relu "
            f"{price_of_relu.min():.2f} to {price_of_relu.max():.2f}, {price_of_relu[-1]:.2f} at last",
            judge(
                bool(np.all(np.abs(np.append(price, price_of_relu) - 1) < 0.1)),
                max(abs(price[-1] - 1), abs(price_of_relu[-1] - 1)) < 0.25,
            ),
        ),
        power("finite differences cost n evaluations", DIFFERENCES, 1),
        power("forward mode costs n times as much as one of its passes", FORWARD, 1),
    ]


def draw(errors: Errors, costs: dict[str, Any], of_relu: dict[str, Any]) -> Figure:
    picture, (*panels, right) = figure(2, 2, height=3.1)
    for axes, (group, some) in zip(panels, errors.items(), strict=True):
        for number, (who, shift) in enumerate(((OURS, 0.15), (AUTODIFF, -0.15))):
            mean, half = interval(np.array([both[who] for both in some.values()]).T)
            style = {"color": COLORS[number], "marker": MARKERS[number], "markersize": 4, "linestyle": "none"}
            axes.errorbar(mean, np.arange(len(some)) + shift, xerr=half, elinewidth=1, **style)
        axes.set_yticks(range(len(some)), [name.replace(" of ", ", ") for name in some], fontsize=7)
        axes.invert_yaxis()
        axes.set(xlabel="error, units of rounding", xlim=(0, None))
        title(axes, f"error by {group}")
    sizes = costs["parameters"]
    for number, name in enumerate((OURS, AUTODIFF, DIFFERENCES, FORWARD)):
        rows = np.min(costs[name], axis=1)
        style = {"color": COLORS[number], "marker": MARKERS[number], "markersize": 4}
        right.plot(sizes[: len(rows)], rows, label=name, **style)
        if len(of_relu[name]):
            right.plot(of_relu["parameters"], np.min(of_relu[name], axis=1), "--", markerfacecolor="white", **style)
    right.plot([], [], "--", color=GREY, label="the same with relu")
    right.plot(sizes, sizes, ":", color=GREY, label="n")
    right.set(xscale="log", yscale="log", xlabel="parameters n", ylabel="cost, evaluations of the loss")
    title(right, "cost of a gradient")
    legend(right, loc="upper left", fontsize=7.5)
    right.set_ylim(0.7, 4e5)
    return picture


if __name__ == "__main__":
    main(run)
