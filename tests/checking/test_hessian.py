from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import check_hessian_vector_product
from jaxmlp.checking.report import Explanation
from jaxmlp.curvature import gauss_newton_vector_product, hessian_vector_product
from jaxmlp.network import MLP, init, loss

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

X = jnp.asarray(np.random.default_rng(0).standard_normal(25), jnp.float32)


@pytest.fixture(autouse=True)
def _no_search_for_the_cause(monkeypatch):
    # Only the verdict matters here; the search is slow and has tests of its own.
    monkeypatch.setattr("jaxmlp.checking._why_wrong.explain", lambda wrong: (Explanation("none", ""),))


@jax.jit
def cubes(w):
    return (w["a"] ** 3).sum() + (w["a"] * w["b"]).prod()


def test_a_right_hessian_product_passes_with_a_cubic_remainder_and_an_asymmetric_one_fails():
    w = {"a": X[:3], "b": X[3:6]}

    @jax.jit
    def product(w, v):
        return jax.jvp(jax.grad(cubes), (w,), (v,))[1]

    def asymmetric(w, v):
        return {"a": product(w, v)["a"], "b": product(w, v)["b"] + v["a"][::-1] * w["b"]}

    right, wrong = check_hessian_vector_product(cubes, product, w), check_hessian_vector_product(cubes, asymmetric, w)
    assert right
    assert any(note.startswith("the Taylor remainder after the second order falls as h^3.0") for note in right.notes)
    assert not any("symmetric" in note for note in right.notes)
    assert wrong.verdict == "wrong"
    assert [leaf.name for leaf in wrong.leaves if leaf.wrong] == ["params['b']"]
    assert any("not symmetric" in note for note in wrong.notes)


def test_our_hessian_product_passes_and_fails_without_the_residual_term():
    mlp = MLP((3, 2, 1), activation="tanh", output="identity", loss="quadratic")
    params = init(mlp, jax.random.key(0))
    x, t = X[:15].reshape(5, 3), X[20:25].reshape(5, 1)

    @jax.jit
    def batch_loss(params):
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    @jax.jit
    def product(params, v):
        return hessian_vector_product(mlp, params, x, t, v)

    @jax.jit
    def without_the_residual(params, v):
        return gauss_newton_vector_product(mlp, params, x, t, v)

    assert check_hessian_vector_product(batch_loss, product, params)
    assert check_hessian_vector_product(batch_loss, without_the_residual, params).verdict == "wrong"


def test_a_product_of_another_shape_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^product must return shape \(2,\) for params, got \(1,\)$"):
        check_hessian_vector_product(jnp.sum, lambda w, v: v[:1], X[:2])
