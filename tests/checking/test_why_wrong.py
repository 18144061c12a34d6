from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import check_gradient
from jaxmlp.checking._decision import Judged
from jaxmlp.checking._fault import Wrong
from jaxmlp.checking._functions import widened
from jaxmlp.checking._rounding import scale
from jaxmlp.checking._why_wrong import explain

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
# A batch of 4 = the hidden layer's size, so that a sum over the wrong axis has the right shape; all 4 differ.
X = RNG.standard_normal((4, 3)).astype(np.float32)
T = RNG.standard_normal((4, 2)).astype(np.float32)
B = len(X)


class Layers(NamedTuple):
    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray


def layers(seed):
    rng = np.random.default_rng(seed)
    shapes = (4, 3), (4,), (2, 4), (2,)
    return Layers(*[(0.7 * rng.standard_normal(shape)).astype(np.float32).astype(np.float64) for shape in shapes])


HERE, THERE = layers(1), layers(2)


def loss(p):
    """The mean over a batch of |W2 h + b2 - t|^2 / 2 with h = tanh(a) + a, a = W1 x + b1: a skip around the tanh."""
    a = X @ p.w1.T + p.b1
    z = (jnp.tanh(a) + a) @ p.w2.T + p.b2
    return ((z - T) ** 2).sum() / (2 * B)


def right(a, y):
    return 1 - y**2 + 1


def backprop(p, slope=right, x=X, weights=1, axis=0, w2=None):
    """The gradient of `loss`, by hand in NumPy, with a place for each fault."""
    a = x @ p.w1.T + p.b1
    y = np.tanh(a)
    delta2 = ((y + a) @ p.w2.T + p.b2 - T) / B * weights
    delta1 = (delta2 @ (p.w2 if w2 is None else w2)) * slope(a, y)
    return Layers(delta1.T @ x, delta1.sum(axis), delta2.T @ (y + a), delta2.sum(0))


def moved(p, tau):
    return Layers(*[w + tau * g for w, g in zip(p, backprop(p), strict=True)])


def clipped(p):
    return Layers(*[np.clip(g, -0.1, 0.1) for g in backprop(p)])


def one_element(name, index, change):
    def gradient(p):
        g = backprop(p)
        getattr(g, name)[index] = change(getattr(g, name)[index])
        return g

    return gradient


def noisy(p):
    rng = np.random.default_rng(3)
    return Layers(*[g * (1 + 1e-3 * rng.standard_normal(g.shape)) for g in backprop(p)])


def of_leaf(name, change):
    return lambda p: backprop(p)._replace(**{name: change(getattr(backprop(p), name))})


def sum_not_mean(p):
    return Layers(*[B * g for g in backprop(p)])


ALL = ("w1", "b1", "w2", "b2")
HIDDEN = ("w1", "b1")
# fault: (gradient, kind, the leaves that it explains, words of the explanation)
FAULTS = {
    "one leaf's sign": (of_leaf("w2", np.negative), "sign", ("w2",), "p.w2 has its sign flipped"),
    "everything's sign": (lambda p: Layers(*[-g for g in backprop(p)]), "sign", ALL, "the whole gradient has its sign"),
    "a sum in place of a mean": (sum_not_mean, "factor", ALL, "4 times what it should be: 4 is axis 0 of an array of"),
    "divided by B twice": (
        lambda p: Layers(*[g / B for g in backprop(p)]), "factor", ALL, "0.25 times what it should be: 1/4, and 4 is"
    ),
    "a learning rate": (
        of_leaf("w1", lambda g: 0.01 * g), "factor", ("w1",), "p.w1 is 0.01 times what it should be (a learning rate"
    ),
    "a leaf not filled in": (of_leaf("b1", np.zeros_like), "zero", ("b1",), "p.b1 is zero"),
    "a transposed leaf": (
        of_leaf("w2", lambda g: g.T.reshape(g.shape)), "transposed", ("w2",), "p.w2 is transposed"
    ),
    "rolled rows": (
        of_leaf("w1", lambda g: np.roll(g, 1, 0)), "permuted", ("w1",), "p.w1 is moved by 1 along axis 0"
    ),
    "reversed rows": (
        of_leaf("w1", lambda g: g[:, ::-1]), "permuted", ("w1",), "p.w1 is reversed along axis 1"
    ),
    "two rows swapped": (
        of_leaf("w1", lambda g: g[[0, 3, 2, 1]]), "permuted", ("w1",), "p.w1 has parts 1 and 3 of axis 0 swapped"
    ),
    "two leaves, two factors": (
        lambda p: backprop(p)._replace(w1=2 * backprop(p).w1, b2=-backprop(p).b2), "factor", ("w1", "b2"),
        "p.w1 is 2 times what it should be",
    ),
    "one element's sign": (
        one_element("w2", (1, 2), np.negative), "sign", ("w2",), "only one element is wrong: p.w2[1, 2] has its sign"
    ),
    "one element lost": (
        one_element("b1", 3, np.zeros_like), "zero", ("b1",), "only one element is wrong: p.b1[3] is zero"
    ),
    "an overflow": (
        one_element("w1", (0, 0), lambda g: np.inf), "precision", ("w1",), "it is not finite"
    ),
    "a constant": (lambda p: backprop(THERE), "stale", ALL, "does not change with the parameters"),
    "after a step": (lambda p: backprop(moved(p, -0.05)), "stale", ALL, "another point, w - 0.05 grad"),
    "weight decay": (
        lambda p: Layers(*[g + 0.03 * w for g, w in zip(backprop(p), p, strict=True)]),
        "extra_term", ALL, "has an extra 0.03 times the parameters",
    ),
    "no derivative of tanh": (
        lambda p: backprop(p, lambda a, y: 1 + 1), "missing_derivative", HIDDEN, "the derivative of tanh"
    ),
    "the derivative of tanh at its output": (
        lambda p: backprop(p, lambda a, y: 1 - np.tanh(y) ** 2 + 1), "derivative_at_output", HIDDEN,
        "the derivative of tanh",
    ),
    "a bias summed over the wrong axis": (
        lambda p: backprop(p, axis=1), "wrong_axis", ("b1",), "p.b1 is summed over the wrong axis"
    ),
    "no way back through the skip": (
        lambda p: backprop(p, lambda a, y: 1 - y**2), "dropped_term", HIDDEN, "a term is missing"
    ),
    "an example left out": (
        lambda p: backprop(p, weights=np.array([[1], [1], [0], [1]])), "other_example", ALL, "example 2 is missing"
    ),
    "the examples before": (
        lambda p: backprop(p, x=np.roll(X, 1, 0)), "other_example", ALL, "it belongs to other examples"
    ),
    "noise": (noisy, "noise", ALL, "noise in proportion to each element"),
    "negative elements halved": (
        of_leaf("w2", lambda g: np.where(g < 0, g / 2, g)), "none", ("w2",), "none of the known faults"
    ),
    "clipping": (clipped, "none", ALL, "none of the known faults"),
}  # fmt: skip


@pytest.fixture(scope="module")
def explained():
    """What is said of a fault. Truth is the derivation, in NumPy; only the search itself is compiled."""
    with jax.enable_x64(True):
        f = widened("loss", loss, jax.tree.map(jnp.asarray, HERE))

    def judged(gradient, p):
        given, expected = list(gradient(p)), list(backprop(p))
        return Judged(given, expected, [64 * 2.0**-52 * scale(leaf) for leaf in expected])

    @cache
    def of(fault):
        gradient = FAULTS[fault][0]
        with jax.enable_x64(True):
            here, there = (jax.tree.map(jnp.asarray, p) for p in (HERE, THERE))
            wrong = Wrong(
                SimpleNamespace(f=f), lambda p: backprop(Layers(*map(np.asarray, p))), here, judged(gradient, HERE),
                [f"p.{name}" for name in Layers._fields], [(there, judged(gradient, THERE))], located=True,
            )  # fmt: skip
            return explain(wrong)

    return of


def test_the_handwritten_gradient_matches_autodiff(x64):
    for ours, autodiff in zip(backprop(HERE), jax.jit(jax.grad(loss))(HERE), strict=True):
        np.testing.assert_allclose(ours, autodiff, rtol=1e-12)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_explained(fault, explained):
    _, kind, leaves, words = FAULTS[fault]
    (found,) = explained(fault)
    assert (found.kind, words in found.text) == (kind, True), found
    assert set(found.leaves) <= {f"p.{name}" for name in leaves}


def test_leaves_that_hold_the_gradients_of_each_other_are_named():
    w = {"a": jnp.asarray([0.5, -2.0, 3.0]), "b": jnp.asarray([1.0, 0.25, -1.5])}
    report = check_gradient(
        lambda p: (p["a"] ** 3).sum() + jnp.sin(p["b"]).sum(), lambda p: {"a": jnp.cos(p["b"]), "b": 3 * p["a"] ** 2}, w
    )
    assert report.explanations[0].kind == "permuted"
    assert "params['a'] holds the gradient of params['b']" in report.explanations[0].text


def test_check_gradient_explains_a_constant_gradient_by_the_other_points():
    gradient, kind, _, words = FAULTS["a constant"]
    params = Layers(*[jnp.asarray(w, jnp.float32) for w in HERE])
    report = check_gradient(loss, lambda p: gradient(Layers(*map(np.asarray, p))), params)
    assert report.verdict == "wrong"
    assert report.explanations[0].kind == kind
    assert words in str(report)
