from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import check_custom_rule, check_jvp, check_vjp
from jaxmlp.checking.report import Explanation

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

X = jnp.asarray(np.random.default_rng(0).standard_normal(1000), jnp.float32)
SIGNS = jnp.ones(1000, jnp.int8).at[573].set(-1)


@pytest.fixture(autouse=True)
def _no_search_for_the_cause(monkeypatch):
    # Only the verdict matters here; the search is slow and has tests of its own.
    monkeypatch.setattr("jaxmlp.checking._why_wrong.explain", lambda wrong: (Explanation("none", ""),))


class Pair(NamedTuple):
    w: jax.Array
    b: jax.Array


def two_outputs(pair, n):
    return {"sine": jnp.sin(pair.w) * n * pair.b[0], "sum": (pair.w**2).sum() + pair.b.sum()}


def sine(x):
    return jnp.sin(x) * x[0]


def explanation(report):
    return report.explanations[0].kind


@pytest.mark.parametrize(
    ("check", "rule", "dtype"),
    [
        (check_vjp, jax.vjp, jnp.float32),
        (check_vjp, jax.vjp, jnp.bfloat16),
        (check_jvp, jax.jvp, jnp.float64),
    ],
)
def test_a_right_rule_with_two_outputs_and_an_integer_argument_passes(check, rule, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        pair = Pair(X[:7].astype(dtype), X[7:9].astype(dtype))
        assert check(two_outputs, partial(rule, two_outputs), pair, jnp.int32(3))


def test_a_wrong_sign_at_one_of_1000_outputs_of_a_vjp_rule_is_found():
    def rule(x):
        y, pull_back = jax.vjp(sine, x)
        return y, lambda c: pull_back(c * SIGNS)

    report = check_vjp(sine, rule, X)
    assert report.verdict == "wrong"
    assert (report.leaves[0].name, report.leaves[0].at) == ("args[0]", (573,))


def test_a_wrong_sign_at_one_of_1000_outputs_of_a_jvp_rule_is_found_and_named():
    def rule(primals, tangents):
        y, moved = jax.jvp(sine, primals, tangents)
        return y, moved * SIGNS

    report = check_jvp(sine, rule, X)
    assert report.verdict == "wrong"
    assert "outputs[573] has a wrong derivative" in report.notes


def test_five_wrong_outputs_of_a_vjp_rule_are_named_and_the_rest_counted():
    def rule(x):
        return (x, x**3), lambda c: (c[0] + 3 * x**2 * c[1] * (1 + (jnp.arange(9) > 1)),)

    report = check_vjp(lambda x: (x, x**3), rule, X[:9])
    wanted = (
        "outputs[1][2], outputs[1][3], outputs[1][4], outputs[1][5], outputs[1][6] and 2 more have wrong derivatives"
    )
    assert wanted in report.notes


def test_wrong_outputs_of_a_rule_are_found_in_both_modes():
    x = X[:3]
    vjp = check_vjp(jnp.sin, lambda x: (jnp.sin(x) * 1.001, lambda c: (c * jnp.cos(x),)), x)
    jvp = check_jvp(jnp.sin, lambda x, v: (jnp.sin(*x) * 1.001, v[0] * jnp.cos(*x)), x)
    for report in (vjp, jvp):
        assert report.verdict == "wrong"
        assert [leaf.name for leaf in report.leaves if leaf.wrong] == ["outputs"]


@pytest.mark.parametrize("fault", [lambda c, x: jnp.abs(c), lambda c, x: c + jnp.sin(x)])
def test_a_pull_back_that_is_not_linear_is_found(fault):
    report = check_vjp(lambda x: x, lambda x: (x, lambda c: (fault(c, x),)), X[:2])
    assert report.verdict == "wrong"
    assert explanation(report) == "not_linear"


def test_tangents_that_are_not_linear_are_found():
    report = check_jvp(lambda x: x, lambda x, v: (*x, jnp.abs(v[0])), X[:2])
    assert report.verdict == "wrong"
    assert explanation(report) == "not_linear"


def test_a_rule_that_is_linear_but_wrong_is_not_called_nonlinear():
    report = check_jvp(jnp.sin, lambda x, v: (jnp.sin(*x), v[0] * jnp.sin(*x)), X[:3])
    assert report.verdict == "wrong"
    assert explanation(report) != "not_linear"


def test_numpy_rules_are_checked_one_tangent_at_a_time():
    def f(x):
        return np.sin(np.asarray(x)).sum(keepdims=True)

    def rule(sign, primals, tangents):
        x, v = np.asarray(primals[0]), np.asarray(tangents[0])
        return np.sin(x).sum(keepdims=True), (sign * np.cos(x) * v).sum(keepdims=True).astype(x.dtype)

    assert check_jvp(f, partial(rule, np.ones(4)), X[:4])
    assert check_jvp(f, partial(rule, np.array([1, 1, -1, 1])), X[:4]).verdict == "wrong"
    with pytest.raises(
        ValueError, match=r"^rule must be traceable and differentiable .* more than 128 elements, got 1000"
    ):
        check_jvp(f, partial(rule, np.ones(1000)), X)


def exponential(fault):
    @jax.custom_vjp
    def f(x):
        return jnp.exp(x)

    f.defvjp(lambda x: (f(x), x), lambda x, c: (c * jnp.exp(x) * fault.astype(x.dtype),))
    return f


def test_right_custom_rules_pass():
    @jax.custom_jvp
    def softplus(x):
        return jnp.log1p(jnp.exp(x))

    softplus.defjvps(lambda tangent, y, x: tangent * jax.nn.sigmoid(x))
    f = exponential(jnp.ones(500))
    assert check_custom_rule(lambda x, n: f(softplus(x)) * n, X[:500], 3)


def test_a_custom_rule_wrong_by_a_millionth_in_one_of_500_coordinates_is_found():
    # Differences see no less than 1e-8 of the whole gradient here: the rule would be confirmed by itself.
    f = exponential(np.ones(500) + 1e-6 * (np.arange(500) == 77))
    report = check_custom_rule(lambda x: f(x).sum(), X[:500])
    assert report.verdict == "wrong"
    assert report.leaves[0].at == (77,)


def test_a_custom_rule_does_not_confirm_itself_if_f_has_no_reverse_mode():
    def fault(size):
        @jax.custom_vjp
        def f(x):
            return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * jnp.sin(x)), (0, x))[1]

        f.defvjp(
            lambda x: (f(x), x), lambda x, c: (size * c * (jnp.sin(x) ** 3 + 3 * x * jnp.sin(x) ** 2 * jnp.cos(x)),)
        )
        return f

    with jax.enable_x64(True):
        x = X[:4].astype(float)
        assert check_custom_rule(fault(1.0), x)
        # So little is below what differences resolve: the rule would pass for the truth. Forward mode tells.
        assert check_custom_rule(fault(1 + 2e-12), x).verdict == "wrong"


def good_vjp(x):
    return jnp.sin(x), lambda c: (c * jnp.cos(x),)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: check_vjp(jnp.sin, good_vjp, 3),
            r"args must have at least one floating array, got none among 1 leaves",
        ),
        (lambda: check_vjp(jnp.sin, good_vjp, jnp.ones(2) * 1j), r"args\[0\] must be real, got complex64"),
        (lambda: check_vjp(jnp.sin, good_vjp, jnp.array([1, jnp.nan])), r"args\[0\] must be finite, got nan at \[1\]"),
        (
            lambda: check_vjp(lambda x: x > 0, good_vjp, X[:2]),
            r"f must return real floating arrays, got bool for outputs",
        ),
        (
            lambda: check_vjp(lambda x: {"a": x / 0}, good_vjp, jnp.ones(2)),
            r"f must be finite at the given arguments, got inf at outputs\['a'\]\[0\]",
        ),
        (
            lambda: check_vjp(lambda x: jnp.log(-x).sum(), good_vjp, jnp.ones(2)),
            r"f must be finite at the given arguments, got nan at outputs",
        ),
        (lambda: check_vjp(jnp.sin, jnp.cos, X[:2]), r"cos must return \(outputs, pull_back\), got .*"),
        (
            lambda: check_vjp(jnp.sin, lambda x: (x, x), X[:2]),
            r"my_vjp must return \(outputs, pull_back\), got .* for pull_back",
        ),
        (
            lambda: check_vjp(jnp.sin, lambda x: (x[:1], good_vjp(x)[1]), X[:2]),
            r"my_vjp must return shape \(2,\) for outputs, got \(1,\)",
        ),
        (
            lambda: check_vjp(jnp.sin, lambda x: (x, lambda c: c), X[:2]),
            r"my_vjp must pull back to a tree like args, .*",
        ),
        (
            lambda: check_vjp(jnp.sin, lambda x: (x, lambda c: (c[:1],)), X[:2]),
            r"my_vjp must pull back to shape \(2,\) for args\[0\], got \(1,\)",
        ),
        (
            lambda: check_vjp(jnp.sin, lambda x: (x, lambda c: (None,)), X[:2]),
            r"my_vjp must pull back to a floating dtype for args\[0\], got None",
        ),
        (lambda: check_jvp(jnp.sin, lambda x, v: (x[0], v), X[:2]), r"my_jvp must return a tree like tangents: .*"),
        (
            lambda: check_jvp(jnp.sin, lambda x, v: (x[0], v[0][:1]), X[:2]),
            r"my_jvp must return shape \(2,\) for tangents, got \(1,\)",
        ),
        (
            lambda: check_jvp(jnp.sin, lambda x, v: (x[0], v[0].astype(jnp.float16)), X[:2]),
            r"my_jvp must return the outputs' dtype float32 for tangents, got float16",
        ),
        (
            lambda: check_custom_rule(jnp.sin, X[:2]),
            r"sin must have a rule of jax.custom_vjp or jax.custom_jvp inside, got none",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(check, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check()
