"""The cost of a product with the Hessian: written by hand, and by autodiff of autodiff.

Claim: `hessian_vector_product` costs no more than JAX's own `jvp` of `grad`.

    python -m experiments.benchmarks.curvature

Products take turns, round by round, after one that does not count; each turn is as many as last 0.2 seconds. A time is
the median of the rounds, "times ours" the median of the ratios within a round. The data are random.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments._report import print_table
from experiments._timing import median_ratio, race, turn_of
from experiments.benchmarks._benchmark import Verdict, begin, busy, finish, is_disturbed, options, parser
from experiments.benchmarks._cases import Case
from jaxmlp import MLP, init, loss_and_gradient
from jaxmlp.curvature import gauss_newton_vector_product, hessian_vector_product
from jaxmlp.network import loss

CASES = (Case((784, 128, 10), 256), Case((784, 512, 512, 10), 256), Case((784, 512, 512, 10), 1024))
OURS, AUTODIFF = "hessian_vector_product", "jvp of grad"


def functions(case: Case) -> dict[str, Callable[[], Any]]:
    """Return the compared functions by name, compiled, on data in memory."""
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
    compiled = {name: jax.jit(function) for name, function in compared.items()}
    return {name: partial(_finished, function, params, v) for name, function in compiled.items()}


def _finished(function: Callable[..., Any], *arguments: Any) -> None:
    jax.block_until_ready(function(*arguments))


def main() -> None:
    asked = options(parser("curvature", __doc__, quick="two rounds", rounds=9))
    about, verdicts, cases = begin(asked), [], {}
    for case in CASES:
        turns = {name: turn_of(function) for name, function in functions(case).items()}
        timed, cores_of_others = race(turns, asked.rounds)
        seconds = {name: one.values for name, one in timed.items()}
        ratios = {name: median_ratio(one, seconds[OURS]) for name, one in seconds.items()}
        rows = [(name, f"{1000 * median(one):.2f}", f"{ratios[name]:.2f}") for name, one in seconds.items()]
        print_table(str(case), ("", "ms", "times ours"), rows)
        print(busy(cores_of_others))
        share = 1 / ratios[AUTODIFF]
        claim = f"{case}: at most the time of {AUTODIFF}"
        verdicts.append(Verdict(claim, f"{share:.2f} of it", share <= 1, not is_disturbed(cores_of_others)))
        cases[str(case)] = {"seconds": seconds, "cores_of_others": cores_of_others}
    finish(asked, about, verdicts, cases=cases)


if __name__ == "__main__":
    main()
