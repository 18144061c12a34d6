import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import check_equal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

X = np.random.default_rng(0).uniform(1, 2, (3, 4))


def verdict(given, expected, *args):
    return check_equal({"pair": (given, expected)}, *args, truth="the formula")["pair"].verdict


def test_sums_in_another_order_are_equal_and_a_part_in_a_billion_is_not():
    pairs = {
        "order": (lambda x: x.sum(0).sum(), lambda x: x.sum(1).sum()),
        "wrong": (lambda x: x.sum() * (1 + 1e-9), lambda x: x.sum()),
    }
    reports = check_equal(pairs, X.astype(np.float32), truth="the formula")
    assert {name: report.verdict for name, report in reports.items()} == {"order": "right", "wrong": "wrong"}
    assert reports["wrong"].subject == "wrong"
    assert reports["wrong"].truth == "the formula, in float64"


def test_digits_lost_by_cancellation_are_excused_and_larger_errors_are_not():
    def cancelled(x):
        return (1e6 + x) - 1e6

    assert verdict(cancelled, lambda x: x, X) == "right"
    assert verdict(lambda x: cancelled(x) + 1e-6, lambda x: x, X) == "wrong"


def test_a_report_names_the_leaf_the_index_and_both_numbers():
    expected = {"a": X[0], "b": X}
    (report,) = check_equal(
        {"pair": (lambda tree: tree | {"b": tree["b"].at[1, 2].set(7.0)}, lambda tree: tree)}, expected, truth=""
    ).values()
    worst, other = report.leaves
    assert (worst.name, worst.at, worst.wrong, worst.given, worst.expected) == ("pair['b']", (1, 2), 1, 7.0, X[1, 2])
    assert (other.name, other.wrong, other.relative) == ("pair['a']", 0, 0)


@pytest.mark.parametrize(
    ("given", "expected", "is_right"),
    [
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (1.0, np.inf, False),
        (np.inf, 1.0, False),
        (np.nan, 1.0, False),
    ],
)
def test_only_the_same_infinity_is_equal(given, expected, is_right):
    def filled(number):
        return lambda x: jnp.append(x[0], number)

    assert (verdict(filled(given), filled(expected), X) == "right") == is_right


def test_the_x64_setting_is_restored():
    verdict(jnp.sin, jnp.sin, X)
    assert not jax.config.jax_enable_x64
