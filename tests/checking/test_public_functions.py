"""Functions that nobody here wrote, at the points where checkers go wrong. The gradients are closed forms in NumPy."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special as jsp
from scipy import special, stats

from jaxmlp.checking import gradient_checker

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)


class Case(NamedTuple):
    """A function, where to check it, right gradients, wrong ones, and ones of which nothing can be said there."""

    f: Callable
    at: list | np.ndarray
    right: list = []  # noqa: RUF012
    wrong: list = []  # noqa: RUF012
    undecided: list = []  # noqa: RUF012


def verdicts(case, dtype=np.float32):
    """Check all gradients of a case by one checker, which compiles once; return the verdicts, and the last report."""
    chosen = {}
    w = jnp.asarray(np.asarray(case.at), dtype)

    def gradient(w):
        w = np.asarray(w)
        with np.errstate(all="ignore"):
            return np.broadcast_to(chosen["gradient"](w.astype(np.float64)), w.shape).astype(w.dtype)

    chosen["gradient"] = (case.right + case.wrong + case.undecided)[0]
    check = gradient_checker(case.f, gradient, w, explain=False)
    found = []
    for each in case.right + case.wrong + case.undecided:
        chosen["gradient"] = each
        found.append(check(w))
    return found


def expected(case):
    return ["right"] * len(case.right) + ["wrong"] * len(case.wrong) + ["undecided"] * len(case.undecided)


def times(*factors):
    return lambda g: [lambda w, c=c: c * g(w) for c in factors]


def at_0(g, *values):
    """A gradient with other values where the parameter is 0."""
    return [lambda w, v=v: np.where(w == 0, v, g(w)) for v in values]


# Decisions on numbers that were rounded: an error that is only imagined must not flip them.

T = np.array([0, 2, 2, 4], np.float32)


def picked(i, n):
    return lambda w: np.eye(n)[i]


def median(w):
    ties = w == np.median(w)
    return ties / ties.sum()


def contrastive(e):
    """The NT-Xent loss as optax writes it: a mask `1 - eye`, compared with 1."""
    labels, mask = jnp.array([0, 0, 1, 1]), 1 - jnp.eye(4)
    e = e / jnp.sqrt((e**2).sum(1, keepdims=True))
    s = e @ e.T / 0.7
    positive = (labels[:, None] == labels) & (mask == 1)
    return (jnp.log((jnp.exp(s) * mask).sum(1)) - jnp.where(positive, s, 0).sum(1)).mean()


def contrastive_gradient(e):
    norm = np.sqrt((e**2).sum(1, keepdims=True))
    y = e / norm
    weights = np.exp(y @ y.T / 0.7) * (1 - np.eye(4))
    pairs = np.kron(np.eye(2), np.ones((2, 2))) - np.eye(4)
    ds = (weights / weights.sum(1, keepdims=True) - pairs) / 4 / 0.7
    dy = (ds + ds.T) @ y
    return (dy - y * (dy * y).sum(1, keepdims=True)) / norm


EMBEDDED = np.array([[1, 2, 0.5], [2, -1, 1], [0.3, 0.4, -2], [1, 1, 1.5]])

DECISIONS = {
    "median of 5": Case(jnp.median, [3, 1, 2, 5, 4], [median], times(0, 1.01)(median)),
    "median of 21": Case(jnp.median, RNG.permutation(21), [median], times(0)(median)),
    "a quantile": Case(lambda w: jnp.quantile(w, 0.25), [3, 1, 2, 5, 4], [picked(2, 5)], times(0)(picked(2, 5))),
    "where(t / 2 == 1)": Case(
        lambda w: jnp.sum(jnp.where(T / 2 == 1.0, w**2, 0.0)), [1, 2, 3, -1.5],
        [lambda w: np.where(T == 2, 2 * w, 0)], times(0)(np.ones_like),
    ),
    "NT-Xent": Case(contrastive, EMBEDDED, [contrastive_gradient], times(0, -1, 10)(contrastive_gradient)),
    "Poisson's cdf": Case(
        lambda m: jax.scipy.stats.poisson.cdf(jnp.array([1.0, 3]), m).sum(), [0.7, 2],
        [lambda m: -stats.poisson.pmf([1, 3], m)], times(0)(np.ones_like),
    ),
    "an index that was rounded": Case(
        lambda w: w[jnp.round(jnp.float32(1.5) * 2 / 3).astype(int)] ** 2, [1, 2, 3],
        [lambda w: 2 * w * [0, 1, 0]], times(0)(np.ones_like),
    ),
    "floor of a quotient": Case(
        lambda w: (w**2 * (jnp.floor(jnp.arange(4.0) / 3 * 3) == 3)).sum(), [1, 2, 3, 4],
        [lambda w: 2 * w * [0, 0, 0, 1]], times(0)(np.ones_like),
    ),
    "interpolation": Case(
        lambda w: jnp.interp(jnp.float32(0.1) * 3, jnp.array([0, 0.2, 0.4, 1]), w), [1, 2, 3, 4],
        [lambda w: np.array([0, 0.5, 0.5, 0])], times(0)(np.ones_like),
    ),
}  # fmt: skip

# Points at which a formula has a value of its own. f is smooth there, or has a kink, whatever autodiff returns.


def log_sigmoid(w):
    return -(jnp.maximum(-w, 0) + jnp.log1p(jnp.exp(-jnp.abs(w)))).sum()


def share_of_ties(*shares):
    def gradient(w):
        ties = w == w.max()
        return ties * (shares if ties[0] and ties[1] else np.ones(3) / ties.sum())

    return gradient


def of_spence(w):
    return np.where(w == 1, -1, np.log(w) / np.where(w == 1, 1, 1 - w))


def slopes(below, at, above):
    return lambda w: np.where(w == 0, at, np.where(w > 0, above, below))


MIXED = np.array([1, 1, -1, -2])

SPECIAL = {
    "expm1, 0 at 0": Case(
        lambda w: jnp.sum(jnp.where(w == 0, 0.0, jnp.expm1(w))), [0, 1, 0], [np.exp], at_0(np.exp, 0, -1)
    ),
    "sin w / w, 1 at 0": Case(
        lambda w: jnp.where(w == 0, 1.0, jnp.sin(w) / jnp.where(w == 0, 1.0, w)).sum(), [0, 1],
        [lambda w: np.where(w == 0, 0, (np.cos(w) - np.sinc(w / np.pi)) / np.where(w == 0, 1, w))],
        [lambda w: np.where(w == 0, 0.1, (np.cos(w) - np.sinc(w / np.pi)) / np.where(w == 0, 1, w))],
    ),
    "a branch of its own at 0": Case(
        lambda w: lax.cond(w[0] == 0, lambda w: jnp.float32(0) * w[1], lambda w: jnp.sin(w[0]) * w[1], w), [0, 2],
        [lambda w: np.array([np.cos(w[0]) * w[1], np.sin(w[0])])], times(0)(np.ones_like),
    ),
    "i0": Case(lambda w: jsp.i0(w).sum(), [0, 1], [special.i1], at_0(special.i1, 1)),
    "ldexp": Case(lambda w: jnp.ldexp(w, 1).sum(), [0, 1], [lambda w: 0 * w + 2], at_0(lambda w: 2, 1)),
    "spence": Case(lambda w: jsp.spence(w).sum(), [1, 0.5], [of_spence], [lambda w: of_spence(w) + (w == 1)]),
    "log-sigmoid": Case(log_sigmoid, [0, 1], [lambda w: special.expit(-w)], at_0(lambda w: special.expit(-w), 0, 1)),
    "xlogy, 0 at 0": Case(
        lambda w: jnp.where(w == 0, 0.0, w * jnp.log(jnp.array([2.0, 3]))).sum(), [0, 1],
        [lambda w: np.log([2, 3])], at_0(lambda w: np.log([2, 3]), 0),
    ),
    "a tie of max": Case(
        jnp.max, [2, 2, 1], [share_of_ties(0.3, 0.7, 0), share_of_ties(1, 0, 0)],
        [share_of_ties(0.3, 0.9, 0), share_of_ties(1, 1, 0), share_of_ties(0.4, 0.4, 0)],
    ),
    "a tie of twelve": Case(
        jnp.max, np.ones(12), [lambda w: (w == w.max()) / (w == w.max()).sum(), lambda w: np.arange(12) == w.argmax()],
        times(0, 1.2)(lambda w: (w == w.max()) / (w == w.max()).sum()),
    ),
    "a tie of max in NumPy": Case(
        np.max, [2, 2, 1], [share_of_ties(0.3, 0.7, 0), share_of_ties(1, 0, 0)],
        [share_of_ties(0.3, 0.9, 0), share_of_ties(1, 1, 0), share_of_ties(0.4, 0.4, 0)],
    ),
    "kinks up and down": Case(
        lambda w: (jax.nn.relu(w) * jnp.asarray(MIXED)).sum(), [0, 0, 0, 0],
        [lambda w: MIXED * (w > 0), lambda w: MIXED * (w >= 0), lambda w: MIXED * slopes(0, 0.3, 1)(w)],
        [lambda w: MIXED * slopes(0, 1.2, 1)(w), lambda w: MIXED * slopes(0, [0, 0, 0, -0.1], 1)(w)],
    ),
    "leaky relu": Case(
        lambda w: jax.nn.leaky_relu(w).sum(), [0, 1, -1], [slopes(0.01, 0.01, 1), slopes(0.01, 1, 1)],
        [slopes(0.01, 0, 1), slopes(0.01, 1.1, 1)],
    ),
    "a soft threshold": Case(
        lambda w: (jnp.sign(w) * jnp.maximum(jnp.abs(w) - 1e-3, 0)).sum(), [0, 1],
        [lambda w: np.abs(w) > 1e-3], [lambda w: 0 * w + 1],
    ),
}  # fmt: skip

# Functions in stairs, and functions that jump.


def bisected(steps):
    def cube_root(a):
        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            return jnp.where(middle**3 < a, middle, low), jnp.where(middle**3 < a, high, middle)

        low, high = lax.fori_loop(0, steps, halve, (0 * a, 0 * a + 4))
        return ((low + high) / 2).sum()

    return cube_root


def by_newton(a):
    """Newton's iteration for the cube root, which stops at a tolerance."""
    x = lax.while_loop(lambda x: jnp.abs(x**3 - a).max() > 1e-3, lambda x: x - (x**3 - a) / (3 * x**2), a)
    return x.sum()


def implicit(a):
    return 1 / (3 * np.cbrt(a) ** 2)


def ones(w):
    return np.ones_like(w)


STAIRS = {
    "bisection": Case(bisected(20), [2, 5], [implicit], times(1.05, 2, -1)(implicit), times(0)(implicit)),
    "Newton's iteration": Case(by_newton, [2, 5], [implicit], times(1.001, 2, 0)(implicit)),
    "a coarse grid": Case(
        lambda w: (jnp.round(w**2 * 2.0**16) / 2.0**16).sum(), [0.7, -1.2], [lambda w: 2 * w],
        times(1.05)(lambda w: 2 * w), times(0)(ones),
    ),
    "round": Case(lambda w: (jnp.round(w) * jnp.arange(1.0, 4)).sum(), [0.3, 1.2, 2.9], times(0)(ones), [ones]),
    "reduce_precision": Case(
        lambda w: (lax.reduce_precision(w, 8, 23) ** 2).sum(), [0.5, 1.7], [lambda w: 2 * w],
        times(1.01)(lambda w: 2 * w),
    ),
    "a jump up": Case(lambda w: jnp.where(w > 0, w + 1, w).sum(), [0, 1], undecided=[ones, np.zeros_like]),
    "heaviside": Case(lambda w: jnp.heaviside(w, 0.5).sum(), [0, 1], undecided=[np.zeros_like]),
    "a saw": Case(lambda w: (w - jnp.floor(w)).sum(), [2, 0.3], undecided=[ones]),
    "sign": Case(lambda w: (jnp.sign(w) + w).sum(), [0, 1], undecided=[ones]),
}  # fmt: skip

# Gradients that are wrong only at zeros, checked at points without any.

ELSEWHERE = {
    "three numbers": Case(lambda w: (w**3).sum(), [0.5, 1, -2], [lambda w: 3 * w**2], [lambda w: 3 * w**2 + (w == 0)]),
    "two numbers": Case(lambda w: (w**2).sum(), [0.5, -2], [lambda w: 2 * w], [lambda w: 2 * w * w / w]),
    "a number": Case(jnp.sin, 0.5, [np.cos], at_0(np.cos, 0)),
    "expm1 by jax.grad": Case(
        lambda w: jnp.where(w == 0, 0.0, jnp.expm1(w)).sum(), [0.5, 1], [np.exp], at_0(np.exp, 0)
    ),
}

# Minima, where the gradient is 0 and only f's own changes can be a measure.

MATRIX, DATA = RNG.normal(size=(9, 4)), RNG.normal(size=9)
BEST = np.linalg.lstsq(MATRIX, DATA, rcond=None)[0]


def least_squares(w):
    w = np.asarray(w)
    residual = MATRIX.astype(w.dtype) @ w - DATA.astype(w.dtype)
    return residual @ residual / 2


def normal_equations(w):
    return MATRIX.T @ (MATRIX @ w - DATA)


def kernel(x):
    x = np.asarray(x)
    return np.exp(-((x[:, None] - x) ** 2).sum(-1)).sum()


def kernel_gradient(x):
    gap = x[:, None] - x
    return (-4 * gap * np.exp(-(gap**2).sum(-1))[..., None]).sum(1)


MINIMA = {
    "least squares in NumPy": Case(least_squares, BEST, [normal_equations], [lambda w: normal_equations(w) + 0.01]),
    "a squared norm in NumPy": Case(
        lambda w: np.linalg.norm(np.asarray(w)) ** 2, [0, 0, 0], [lambda w: 2 * w], [lambda w: 2 * w + 1e-3]
    ),
    "a squared norm": Case(lambda w: jnp.linalg.norm(w) ** 2, [0, 0, 0], [lambda w: 2 * w], [lambda w: 2 * w + 1e-3]),
    "a parabola on a hill": Case(
        lambda w: 5 + ((np.asarray(w) - 1) ** 2).sum(), [1, 1, 1], [lambda w: 2 * w - 2], [lambda w: 2 * w - 2 + 1e-3]
    ),
    "points that coincide": Case(kernel, np.ones((3, 2)), [kernel_gradient], [lambda x: kernel_gradient(x) + 1e-3]),
}

CASES = DECISIONS | SPECIAL | STAIRS | ELSEWHERE | MINIMA


# What the user's own call returns in float64, near where it cancels.

FLOAT64 = {
    "1 - cos^2": Case(lambda w: -jnp.cos(w).sum(), [1e-9], [np.sin], [lambda w: np.sqrt(1 - np.cos(w) ** 2)]),
    "1 - 1 / (1 + w^2)": Case(
        lambda w: jnp.sqrt(1 + w**2).sum(), [1e-9, -1e-10], [lambda w: w / np.sqrt(1 + w**2)],
        [lambda w: np.sign(w) * np.sqrt(1 - 1 / (1 + w**2))],
    ),
    "(1 + w)^2 - 1": Case(
        lambda w: (w**3 / 3).sum(), [1e-8, -1e-7], [lambda w: w**2], [lambda w: ((1 + w) ** 2 - 1 - w**2) / 2 * w]
    ),
    "a millionth": Case(lambda w: jnp.sin(w).sum(), [0.5, 1, -2], [np.cos], times(1 + 1e-6, 1 - 1e-9)(np.cos)),
    "bisection": Case(bisected(45), [2, 5], [implicit], times(1.001)(implicit)),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT64)
def test_in_float64_right_is_called_right_and_wrong_is_called_wrong(name, x64):
    assert [report.verdict for report in verdicts(FLOAT64[name], np.float64)] == expected(FLOAT64[name])


@pytest.mark.parametrize("f", [lambda w: jnp.sin(w).sum(), lambda w: np.sin(np.asarray(w)).sum()], ids=["JAX", "NumPy"])
@pytest.mark.parametrize("n", [5, 300], ids=["few", "many"])
def test_a_fault_ten_times_the_resolution_of_a_right_report_is_caught(f, n, x64):
    w = np.linspace(0.3, 1.2, n)
    (right,) = verdicts(Case(f, w, [np.cos]), np.float64)
    assert right
    assert right.resolution < 1e-3
    for fault in (np.cos(w), np.linalg.norm(np.cos(w)) * np.eye(n)[n // 2]):
        planted = 10 * right.resolution * fault
        (wrong,) = verdicts(Case(f, w, wrong=[lambda w, planted=planted: np.cos(w) + planted]), np.float64)
        assert wrong.verdict == "wrong"


@pytest.mark.parametrize("name", CASES)
def test_right_is_called_right_and_wrong_is_called_wrong(name):
    case = CASES[name]
    found = verdicts(case)
    assert [report.verdict for report in found] == expected(case)
    for report in found:
        assert report.verdict != "undecided" or report.explanations[0].text
        # A verdict "right" says what it would have seen.
        assert not report or report.resolution < 1
