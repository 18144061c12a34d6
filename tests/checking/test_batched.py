from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import per_example
from jaxmlp.backpropagation import backprop, loss_and_gradient
from jaxmlp.checking import check_batched
from jaxmlp.network import MLP, init, loss

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((6, 5)), jnp.float32)
LABELS = jnp.arange(6) % 3
W = jnp.asarray(RNG.standard_normal((3, 5)), jnp.float32)


def one_loss(x, label):
    return -jax.nn.log_softmax(W @ x)[label]


def linear(x):
    return W @ x


def explanation(report):
    assert report.verdict == "wrong"
    return report.explanations[0].kind


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_a_vmapped_loss_of_labelled_examples_is_right(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        assert check_batched(one_loss, jax.vmap(one_loss), X.astype(dtype), LABELS)


@pytest.mark.parametrize(("reduce", "word"), [(jnp.mean, "mean"), (jnp.sum, "sum")])
def test_a_reduced_loss_is_right_and_a_note_names_the_reduction(reduce, word):
    def batched(x, labels):
        return reduce(jax.vmap(one_loss)(x, labels))

    report = check_batched(one_loss, batched, X, LABELS)
    assert report
    assert any(f"compared with the {word}" in note for note in report.notes)
    assert not check_batched(one_loss, batched, X, LABELS, reduction="sum" if word == "mean" else "mean")


def test_batch_normalisation_is_a_leak():
    report = check_batched(linear, lambda x: ((x - x.mean(0)) / x.std(0)) @ W.T, X)
    assert explanation(report) == "leak"
    assert report.explanations[0].text == ("when example 0 changes, so does the output of example 1 (and of 4 more)")


def test_a_leak_that_only_large_values_cause_is_found():
    def scaled(x):
        return x @ W.T / jnp.maximum(1, jnp.abs(x).max() / 10)

    each, reduced = check_batched(linear, scaled, X), check_batched(linear, lambda x: scaled(x).sum(0), X)
    for report in (each, reduced):
        assert explanation(report) == "leak"
        assert {point.name: point.verdict for point in report.points}["the given examples"] == "right"


def test_a_leak_from_the_last_example_alone_is_found():
    report = check_batched(linear, lambda x: (x @ W.T).at[0].add(1e-3 * jnp.maximum(x[-1, 0] - 2, 0)), X)
    assert explanation(report) == "leak"
    assert report.explanations[0].text == "when example 5 changes, so does the output of example 0"


@pytest.mark.parametrize(
    ("batched", "reduction", "kind", "text"),
    [
        (lambda x: x[::-1] @ W.T, None, "permuted", "another order: example 0 has that of 5"),
        (lambda x: x[jnp.array([0, 1, 1, 3, 4, 5])] @ W.T, None, "other_example", "example 2 has that of 1"),
        (lambda x: x @ W.T / 6, None, "factor", "divided by the 6 examples"),
        (lambda x: (x @ W.T).sum(0), "mean", "factor", "6 times what it should be: the sum over the batch in place of"),
        (lambda x: (x @ W.T).mean(0), "sum", "factor", "1/6: the mean over the batch in place of the sum"),
        (lambda x: (x[:-1] @ W.T).mean(0), "mean", "other_example", "example 5 is left out"),
        (lambda x: (x @ W.T).sum(0) + W @ x[2], "sum", "other_example", "example 2 is counted twice"),
        # Nearly a factor, but off by a hundred times what fits.
        (lambda x: 2 * (x @ W.T) * (1 + 1e-4 * jnp.arange(6)[:, None]), None, "none", "none of the usual faults"),
        (lambda x: jnp.cos(x @ W.T), None, "none", "none of the usual faults"),
    ],
)
def test_the_explanation_names_the_fault_of_a_batched_form(batched, reduction, kind, text):
    report = check_batched(linear, batched, X, reduction=reduction)
    assert explanation(report) == kind
    assert text in report.explanations[0].text


def test_a_batched_formula_that_is_right_only_in_float64_is_called_imprecise():
    report = check_batched(lambda x: jnp.log1p(1e-6 * x[0] ** 2), lambda x: jnp.log(1 + 1e-6 * x[:, 0] ** 2), X)
    assert explanation(report) == "precision"


def test_batched_functions_that_jax_cannot_trace_are_checked():
    def one(x):
        return np.where(x[0] > 0, 2, 1) * np.asarray(x) if x[1] > 0 else np.asarray(x)

    def batched(x):
        return np.stack([one(row) for row in np.asarray(x)])

    assert check_batched(one, batched, X)
    assert explanation(check_batched(one, lambda x: batched(x)[::-1], X)) == "permuted"


def test_batched_functions_of_integers_only_are_checked():
    table = jnp.asarray(RNG.standard_normal((4, 2)), jnp.float32)
    labels = jnp.arange(4)
    assert check_batched(lambda i: table[i], lambda i: table[i], labels)
    assert explanation(check_batched(lambda i: table[i], lambda i: table[i - 1], labels)) == "permuted"


def test_our_mean_gradient_and_norms_match_those_of_each_example():
    mlp = MLP((5, 4, 3), activation="tanh")
    params = init(mlp, jax.random.key(0))
    one = jax.jit(partial(jax.value_and_grad(partial(loss, mlp)), params))
    assert check_batched(one, jax.jit(partial(loss_and_gradient, mlp, params)), X, LABELS, reduction="mean")

    @jax.jit
    def norm(x, label):
        leaves = jax.tree.leaves(jax.grad(partial(loss, mlp))(params, x, label))
        return jnp.sqrt(sum((leaf**2).sum() for leaf in leaves))

    @jax.jit
    def norms(x, labels):
        return per_example.norms(jax.vmap(partial(backprop, mlp, params))(x, labels)[2])

    assert check_batched(norm, norms, X, LABELS)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_batched(linear, linear), "args must have at least one array of examples, got none"),
        (lambda: check_batched(linear, linear, 1.0), r"args\[0\] must have a leading axis of examples, got a scalar"),
        (
            lambda: check_batched(one_loss, one_loss, X, LABELS[:4]),
            r"args must have the same number of examples, got 6 in args\[0\] and 4 in args\[1\]",
        ),
        (
            lambda: check_batched(linear, linear, X[:1]),
            "args must have at least 2 examples, got 1: one cannot show a leak between examples",
        ),
        (
            lambda: check_batched(linear, lambda x: (x @ W.T).sum(), X),
            r"batched must return shape \(6, 3\), or \(3,\) if all outputs are reduced, for outputs, got \(\)",
        ),
        (
            lambda: check_batched(linear, lambda x: x @ W.T, X, reduction="sum"),
            r"batched must return shape \(3,\) for outputs, got \(6, 3\)",
        ),
        (lambda: check_batched(linear, linear, X, reduction="max"), "reduction must be .*, got 'max'"),
        (
            lambda: check_batched(lambda x: jnp.log(x[0]), lambda x: jnp.log(x[:, 0]), jnp.abs(X).at[2, 0].set(0)),
            "per_example must be finite, got -inf at outputs for example 2",
        ),
        (
            lambda: check_batched(lambda x: x > 0, lambda x: x > 0, X),
            "per_example, for example 0, must return real floating arrays, got bool for outputs",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(check, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check()
