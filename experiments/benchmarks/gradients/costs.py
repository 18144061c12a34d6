"""The cost of a check of one network's gradient, in wall time and in evaluations of the gradient."""

import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._report import RESULTS, print_table
from experiments._timing import Clock, in_fresh_process
from experiments.benchmarks._cases import Case
from experiments.benchmarks.gradients.checks import CHECKERS, OURS, OUTCOMES
from experiments.benchmarks.gradients.fault import precision
from experiments.benchmarks.gradients.faults_in_networks import batch_loss
from experiments.benchmarks.peers.checking import FAST, PEERS, SLOW, Answer
from jaxmlp import MLP, init, loss_and_gradient

__all__ = ["COSTS", "Cost", "costs_as_json", "kept_costs", "measure_costs", "print_costs"]

CASE = Case((784, 120, 10), 128)
COSTS = "checking_costs"  # the results that keep them


class Cost(NamedTuple):
    """The costs of checks of one network's gradient.

    Attributes
    ----------
    gradient, wide_gradient
        Seconds of one evaluation of the user's compiled gradient, in the user's dtype and in float64.
    again
        Seconds of our check by a `gradient_checker` that is compiled.
    answers
        Of everybody, by name: with the seconds of a first call.
    cores_of_others
        How many cores other processes kept busy, in the mean.
    """

    gradient: float
    wide_gradient: float
    again: float
    answers: dict[str, Answer]
    cores_of_others: float


def _case(activation: str) -> tuple[MLP, Any, Any]:
    """Return the network, its mean loss of a batch, and the gradient."""
    mlp, random = MLP(CASE.sizes, activation), np.random.default_rng(0)
    x = jnp.asarray(random.random((CASE.batch_size, CASE.sizes[0]), np.float32))
    t = jnp.asarray(random.integers(0, 10, CASE.batch_size))

    def gradient(params: Any) -> Any:
        return loss_and_gradient(mlp, params, x, t)[1]

    return mlp, partial(batch_loss, mlp, x, t), gradient


def wall_of(activation: str, dtype: str, peer: str) -> Answer:
    """Ask one peer once, in this process, which should be a fresh one."""
    mlp, f, gradient = _case(activation)
    with precision(dtype):
        return PEERS[peer](f, gradient, init(mlp, jax.random.key(0), dtype=dtype))


def cost_of(activation: str, dtype: str) -> Cost:
    """Measure ours in this process, which should be a fresh one."""
    from jaxmlp.checking import check_gradient, gradient_checker

    mlp, f, gradient = _case(activation)
    f, gradient = jax.jit(f), jax.jit(gradient)
    clock = Clock()
    with precision(dtype):
        params = init(mlp, jax.random.key(0), dtype=dtype)
        start = perf_counter()
        report = check_gradient(f, gradient, params, seed=0)
        first = perf_counter() - start
        check, times = gradient_checker(f, gradient, params), []
        check(params)
        for _ in range(5):
            start = perf_counter()
            check(params)
            times.append(perf_counter() - start)
        again = median(times)
        seconds = _seconds_of(gradient, params)
    with precision("float64"):
        wide = _seconds_of(gradient, jax.tree.map(lambda p: jnp.asarray(np.asarray(p), "float64"), params))
    ours = Answer(OUTCOMES[report.verdict], first, "")
    return Cost(seconds, wide, again, {OURS: ours}, clock.cores_of_others())


def _seconds_of(gradient: Callable[[Any], Any], params: Any, calls: int = 50) -> float:
    compiled, seconds = jax.jit(gradient), []
    jax.block_until_ready(compiled(params))
    for _ in range(calls):
        start = perf_counter()
        jax.block_until_ready(compiled(params))
        seconds.append(perf_counter() - start)
    return median(seconds)


def measure_costs(quick: bool) -> dict[str, Cost]:
    """Measure ours and our peers' costs, each in a fresh process; a smoke test has one network and one dtype."""
    costs = {}
    for activation in ("relu",) if quick else ("relu", "tanh"):
        for dtype in ("float64",) if quick else ("float64", "float32"):
            # gradcheck differences every coordinate, for minutes; its fast mode fails in float32, and then does so too.
            peers = [peer for peer in PEERS if peer != SLOW and (peer != FAST or dtype == "float64")]
            print(f"cost of {activation}, {dtype}: {', '.join(peers)}", file=sys.stderr)
            cost = in_fresh_process(cost_of, activation, dtype)
            asked = {peer: in_fresh_process(wall_of, activation, dtype, peer) for peer in peers}
            costs[f"{activation}, {dtype}"] = cost._replace(answers=cost.answers | asked)
    return costs


def print_costs(costs: dict[str, Cost]) -> None:
    rows, walls = [], []
    for name, cost in costs.items():
        first = cost.answers[OURS].seconds
        rows.append(
            (
                name,
                f"{1000 * cost.gradient:.2f}",
                f"{1000 * cost.wide_gradient:.2f}",
                f"{first:.2f}",
                f"{cost.again:.3f}",
                f"{cost.again / cost.gradient:.1f}",
                f"{cost.again / cost.wide_gradient:.1f}",
            )
        )
        given = (cost.answers.get(checker) for checker in CHECKERS)
        walls.append((name, *(f"{one.seconds:.2f}, {one.outcome}" if one else "-" for one in given)))
    header = (
        "",
        "gradient, ms",
        "in float64, ms",
        "first call, s",
        "without compiling, s",
        "in gradients",
        "of float64",
    )
    n_params = MLP(CASE.sizes).n_parameters
    print_table(f"Cost: {CASE}, {n_params} parameters", header, rows)
    print_table("Seconds of a first call, of a right gradient", ("", *CHECKERS), walls)


def costs_as_json(costs: dict[str, Cost]) -> dict[str, Any]:
    return {
        name: cost._asdict() | {"answers": {who: one._asdict() for who, one in cost.answers.items()}}
        for name, cost in costs.items()
    }


def kept_costs() -> dict[str, Cost]:
    """Read the costs that were measured last."""
    kept = json.loads((RESULTS / f"{COSTS}.json").read_text())["costs"]
    return {
        name: Cost(**(cost | {"answers": {who: Answer(**one) for who, one in cost["answers"].items()}}))
        for name, cost in kept.items()
    }
