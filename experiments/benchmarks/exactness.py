"""Where autodiff's gradient stops being the gradient, and ours does not.

Claim: with 1 - y_k computed as the sum of the others, and sigma' and tanh' from exp(-|z|), the loss, delta_L and
phi' keep full relative precision down to underflow; autodiff of the textbook formulas in float32 rounds them to 0
from a margin of about 17 (softmax, sigmoid) or |z| of about 9 (tanh) on.

    python -m experiments.benchmarks.exactness

Truth is 50-digit arithmetic (mpmath). Errors are relative: 1 means that nothing is left.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mpmath
from jax import Array

from experiments._report import print_table
from experiments.benchmarks._benchmark import begin, finish, options, parser
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.losses import LOSSES

MARGINS = [1, 5, 10, 15, 17, 20, 40, 80]
SOFTMAX, CROSS_ENTROPY = ACTIVATIONS["softmax"], LOSSES["cross_entropy"]
T = jnp.array([1.0, 0.0])


def textbook_loss(z: Array) -> Array:
    return -jax.nn.log_softmax(jnp.stack([z, 0.0]))[0]


def our_loss(z: Array) -> Array:
    return CROSS_ENTROPY.value(SOFTMAX, jnp.stack([z, 0.0]), T)


def our_delta(z: Array) -> Array:
    return CROSS_ENTROPY.delta(SOFTMAX, jnp.stack([z, 0.0]), T)[0]


def sigmoid(z: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(-z))


# What is computed of a margin z: by autodiff of the textbook formula, by us, and the truth.
QUANTITIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array], Callable[[mpmath.mpf], mpmath.mpf]]] = {
    "loss, softmax with cross-entropy": (textbook_loss, our_loss, lambda z: mpmath.log1p(mpmath.exp(-z))),
    "its delta of the right class": (jax.grad(textbook_loss), our_delta, lambda z: -sigmoid(-z)),
    "sigma'(z)": (jax.grad(jax.nn.sigmoid), ACTIVATIONS["sigmoid"].derivative, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh'(z/2)": (
        lambda z: jax.grad(jnp.tanh)(z / 2),
        lambda z: ACTIVATIONS["tanh"].derivative(z / 2),
        lambda z: mpmath.sech(z / 2) ** 2,
    ),
}


def relative_error(function: Callable[[Array], Array], truth: Callable[[mpmath.mpf], mpmath.mpf], z: int) -> float:
    exact = truth(mpmath.mpf(z))
    return float(abs(mpmath.mpf(float(function(jnp.float32(z)))) - exact) / abs(exact))


def main() -> None:
    asked = options(parser("exactness", __doc__))
    about = begin(asked, "mpmath")
    mpmath.mp.dps = 50
    errors = {
        name: {who: [relative_error(f, truth, z) for z in MARGINS] for who, f in (("autodiff", auto), ("ours", ours))}
        for name, (auto, ours, truth) in QUANTITIES.items()
    }
    rows = [
        [name, who, *(f"{error:.0e}" if error < 0.5 else f"{error:.1g}" for error in row)]
        for name, both in errors.items()
        for who, row in both.items()
    ]
    print_table("relative error in float32, by margin z", ["", "", *map(str, MARGINS)], rows)
    worst = max(max(both["ours"]) for both in errors.values())
    units = worst / float(jnp.finfo(jnp.float32).eps)
    print(f"largest error of ours: {worst:.1e}, {units:.1f} units in the last place")
    finish(asked, about, [], margins=MARGINS, errors=errors)


if __name__ == "__main__":
    main()
