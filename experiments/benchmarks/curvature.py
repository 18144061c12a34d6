"""What a product with the Hessian costs: written by hand, and by autodiff of autodiff.

Claim: `hessian_vector_product` costs no more than JAX's own `jvp` of `grad`.

    python -m experiments.benchmarks.curvature

Products take turns, round by round, after one that does not count; each turn is as many as last 0.2 seconds. A time is
the median of the rounds, "times ours" the median of the ratios within a round. The data are random.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments._report import (
    MOST_CORES_OF_OTHERS,
    Verdict,
    environment,
    print_table,
    print_verdicts,
    write_json,
)
from experiments._timing import in_turn, seconds_of_others
from experiments.benchmarks._cases import Case
from jaxmlp import MLP, init, loss_and_gradient
from jaxmlp.curvature import gauss_newton_vector_product, hessian_vector_product
from jaxmlp.network import loss

CASES = (Case((784, 128, 10), 256), Case((784, 512, 512, 10), 256), Case((784, 512, 512, 10), 1024))
OURS, AUTODIFF = "hessian_vector_product", "jvp of grad"


def functions(case: Case) -> dict[str, Callable[[], Any]]:
    """Return what is compared, by name: compiled functions on data that lie in memory."""
    mlp, random = MLP(case.sizes, "tanh"), np.random.default_rng(0)
    params, v = init(mlp, jax.random.key(0)), init(mlp, jax.random.key(1))
    x = jnp.asarray(random.random((case.batch_size, case.sizes[0]), np.float32))
    t = jnp.asarray(random.integers(0, case.sizes[-1], case.batch_size))

    def mean_loss(params: Any) -> Any:
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    compared = {
        OURS: lambda params, v: hessian_vector_product(mlp, params, x, t, v),
        AUTODIFF: lambda params, v: jax.jvp(jax.grad(mean_loss), (params,), (v,))[1],
        "gauss_newton_vector_product": lambda params, v: gauss_newton_vector_product(mlp, params, x, t, v),
        "loss_and_gradient": lambda params, v: loss_and_gradient(mlp, params, x, t)[1],
    }
    return {name: partial(jax.jit(function), params, v) for name, function in compared.items()}


def turn_of(function: Callable[[], Any], seconds: float = 0.2) -> Callable[[], float]:
    """Return a turn, which answers with the seconds of one call."""
    jax.block_until_ready(function())

    def turn() -> float:
        start, calls = perf_counter(), 0
        while perf_counter() - start < seconds:
            jax.block_until_ready(function())
            calls += 1
        return (perf_counter() - start) / calls

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="5 or more to be believed")
    options = parser.parse_args()
    verdicts, results = [], {}
    for case in CASES:
        turns = {name: turn_of(function) for name, function in functions(case).items()}
        began, others = perf_counter(), seconds_of_others()
        timed = {name: one.values for name, one in in_turn(turns, options.rounds).items()}
        busy = (seconds_of_others() - others) / (perf_counter() - began)
        ratios = {
            name: median(its / our for its, our in zip(one, timed[OURS], strict=True)) for name, one in timed.items()
        }
        rows = [(name, f"{1000 * median(one):.2f}", f"{ratios[name]:.2f}") for name, one in timed.items()]
        print_table(str(case), ("", "ms", "times ours"), rows)
        claim = f"{case}: at most the time of {AUTODIFF}"
        share = 1 / ratios[AUTODIFF]
        verdicts.append(Verdict(claim, f"{share:.2f} of it", share <= 1, not busy > MOST_CORES_OF_OTHERS))
        results[str(case)] = {"seconds": timed, "cores_of_others": busy}
    print_verdicts(verdicts)
    write_json("curvature", {"environment": environment("jaxmlp"), "results": results})


if __name__ == "__main__":
    main()
