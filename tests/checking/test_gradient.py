import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import assert_gradient, check_gradient, gradient_checker
from jaxmlp.checking.report import Explanation

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
X = np.asarray(RNG.uniform(0.5, 2, 500) * RNG.choice([-1, 1], 500), np.float32)
HIDDEN = "the search for the cause was skipped"


@pytest.fixture(autouse=True, scope="module")
def _no_search_for_the_cause():
    # Only the verdict matters here; the search is slow and has tests of its own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxmlp.checking._why_wrong.explain", lambda wrong: (Explanation("none", HIDDEN),))
        yield


def kink_notes(report):
    return [note for note in report.notes if "kink" in note]


def at(report, name):
    return next(point for point in report.points if point.name == name)


def cubes(w):
    return (w**3).sum() / 3


# Right gradients, and the smallest faults.


def sine(params):
    return (jnp.sin(params["w"]) * params["b"][0]).sum() + (params["b"] ** 2).sum()


def sine_gradient(params):
    w, b = params["w"], params["b"]
    return {"w": jnp.cos(w) * b[0], "b": 2 * b + jnp.stack([jnp.sin(w).sum(), jnp.zeros((), w.dtype)])}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_right_gradient_passes_in_every_floating_dtype(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        params = {"w": jnp.asarray(X[:7], dtype), "b": jnp.asarray([0.5, -2], dtype)}
        report = check_gradient(sine, sine_gradient, params)
    assert report
    assert (report.verdict, report.explanations) == ("right", ())
    # Four times eight bits less one: what is right is right to the user's last digits, in float64 far beyond.
    assert max(leaf.relative for leaf in report.leaves) < 1e-14


@pytest.mark.parametrize(("dtype", "fault"), [(jnp.float32, 1e-3), (jnp.float64, 1e-6)])
def test_a_small_fault_in_one_of_500_coordinates_is_found_with_its_index_and_both_numbers(dtype, fault):
    with jax.enable_x64(dtype == jnp.float64):
        w = jnp.asarray(X, dtype).reshape(20, 25)
        factor = jnp.ones((20, 25), dtype).at[13, 7].set(1 + fault)
        report = check_gradient(
            lambda p: cubes(p["w"]) + p["b"], lambda p: {"w": p["w"] ** 2 * factor, "b": 0 * p["b"] + 1},
            {"w": w, "b": jnp.ones((), dtype)},
        )  # fmt: skip
    assert report.verdict == "wrong"
    worst, other = report.leaves
    assert (worst.name, worst.at, worst.wrong, other.wrong) == ("params['w']", (13, 7), 1, 0)
    truth = float(w[13, 7]) ** 2
    assert worst.expected == pytest.approx(truth, rel=1e-12)
    assert worst.given == pytest.approx(truth * float(factor[13, 7]), rel=1e-12)
    # The gradient has 499 other elements that are right.
    norm = np.linalg.norm(np.asarray(w, np.float64) ** 2)
    assert worst.relative == pytest.approx(truth * fault / norm, rel=1e-3)


def test_a_fault_in_a_leaf_with_a_gradient_1e_8_times_its_neighbours_is_found():
    params = {"large": jnp.asarray(X[:50]), "small": jnp.asarray(X[50:70])}

    def f(p):
        return cubes(p["large"]) + 1e-8 * cubes(p["small"])

    def gradient(p):
        return {"large": p["large"] ** 2, "small": 1.001e-8 * p["small"] ** 2}

    report = check_gradient(f, gradient, params)
    assert report.verdict == "wrong"
    assert [(leaf.name, leaf.wrong) for leaf in report.leaves] == [("params['small']", 20), ("params['large']", 0)]


@pytest.mark.parametrize(("scale", "fault"), [(1e-8, 1.001), (1e8, 1)])
def test_tiny_and_huge_parameters_are_checked_like_others(scale, fault):
    w = jnp.asarray(X[:9]) * scale

    def f(w):
        return jnp.sin(w / scale).sum() / scale

    report = check_gradient(f, lambda w: jnp.cos(w / scale) / scale / scale * fault, w)
    assert report.verdict == ("right" if fault == 1 else "wrong")


MATRIX = jnp.asarray(RNG.integers(-8, 9, (12, 5)), jnp.float32)
LEAST = jnp.asarray([1, -2, 3, 0.5, -1.25], jnp.float32)  # of few bits: A w is exact, and so the minimum


def squares(w):
    return 0.5 * ((MATRIX @ w - MATRIX @ LEAST) ** 2).sum()


def normal_equations(w, fault=0.0):
    """The same gradient summed in another order, in which large numbers cancel."""
    gram = MATRIX.T @ MATRIX
    return gram @ w - gram @ (LEAST + fault)


def test_at_a_minimum_and_near_it_a_right_gradient_passes():
    check = gradient_checker(squares, normal_equations, LEAST)
    for away in (0, 1e-6, 1e-3):
        assert check(LEAST * (1 + away)), away


def test_at_a_minimum_a_wrong_gradient_fails():
    report = check_gradient(squares, partial(normal_equations, fault=1e-3), LEAST)
    assert report.verdict == "wrong"
    assert report.points[0].verdict == "wrong"


HILBERT = 1 / (np.arange(8)[:, None] + np.arange(8) + 1.0)


@pytest.mark.parametrize("fault", [1, 1.001])
def test_the_gradient_of_an_ill_conditioned_solve_passes_by_another_formula_and_fails_if_wrong(fault, x64):
    # Its condition number is 1e10: the two gradients agree to six digits only, or some more.
    def f(b):
        return 0.5 * b @ jnp.linalg.solve(HILBERT, b)

    def gradient(b):
        return np.linalg.inv(HILBERT) @ (np.asarray(b) * fault)

    report = check_gradient(f, gradient, jnp.asarray(X[:8], jnp.float64))
    assert report.verdict == ("right" if fault == 1 else "wrong")
    assert report.leaves[0].relative > 1e-11


def test_a_function_with_integers_inside_is_checked():
    def f(w):
        return (w**3).sum() / (w != 0).sum()

    report = check_gradient(f, lambda w: 3.003 * w**2 / (w != 0).sum(), jnp.asarray(X[:5]))
    assert report.verdict == "wrong"


# Kinks.

AT_ZERO = jnp.asarray([0.0, 1, -1, 0, 2], jnp.float32)


@pytest.fixture(scope="module", params=[(jax.nn.relu, 0), (jnp.abs, -1)], ids=["relu", "abs"])
def kinked(request):
    """A function with two kinks at 0, and its gradient with any value there (NumPy, so that nothing is compiled)."""
    f, below = request.param
    given = {"at 0": below}

    def gradient(w):
        w = np.asarray(w)
        return np.where(w > 0, 1, np.where(w < 0, below, given["at 0"])).astype(w.dtype)

    check = gradient_checker(lambda w: f(w).sum(), gradient, AT_ZERO)

    def at(share):
        """Check with the given share of the way from one side's slope to the other's."""
        given["at 0"] = below + share * (1 - below)
        return check(AT_ZERO)

    return at


@pytest.mark.parametrize("share", [0, 0.4, 1])
def test_at_a_kink_any_slope_between_both_sides_is_right_and_called_a_subgradient(share, kinked):
    report = kinked(share)
    assert report
    assert kink_notes(report)


@pytest.mark.parametrize("share", [-0.3, 1.3])
def test_at_a_kink_a_slope_beyond_both_sides_is_wrong(share, kinked):
    report = kinked(share)
    assert report.verdict == "wrong"
    assert report.leaves[0].at in {(0,), (3,)}
    assert report.leaves[0].wrong == 2


@pytest.fixture(scope="module")
def tied():
    given = {"shares": (1.0, 0.0)}

    def gradient(w):
        w = np.asarray(w)
        ties = (w == w.max()).astype(w.dtype)
        return np.array([*given["shares"], 0], w.dtype) if w[0] == w[1] > w[2] else ties / ties.sum()

    params = jnp.asarray([2.0, 2.0, 1.0])
    check = gradient_checker(lambda w: w.max(), gradient, params)
    return lambda *shares: given.update(shares=shares) or check(params)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.5, 0.5), (0.3, 0.7)])
def test_a_tie_of_a_maximum_may_be_shared(shares, tied):
    assert tied(*shares)


@pytest.mark.parametrize("shares", [(1.0, 1.0), (1.5, -0.5), (0.0, 0.0)])
def test_a_tie_of_a_maximum_counted_twice_or_lost_is_wrong(shares, tied):
    report = tied(*shares)
    assert report.verdict == "wrong"
    assert report.points[0].verdict == "wrong"


# Functions that autodiff cannot enter, and functions for which it is wrong.


def called_back(w):
    shape = jax.ShapeDtypeStruct((), w.dtype)
    return jax.pure_callback(lambda w: np.sin(w).sum(dtype=w.dtype), shape, w, vmap_method="sequential")


def in_numpy(w):
    return np.sin(np.asarray(w)).sum()


@pytest.mark.parametrize("f", [called_back, in_numpy])
def test_differences_decide_where_autodiff_fails(f):
    factor = jnp.ones(6).at[4].set(1.001)
    right = check_gradient(f, jnp.cos, jnp.asarray(X[:6]))
    assert right
    assert right.truth.startswith("differences in float64 along each of 6 coordinates")
    assert right.resolution < 1e-3
    wrong = check_gradient(f, lambda w: jnp.cos(w) * factor.astype(w.dtype), jnp.asarray(X[:6]))
    assert wrong.verdict == "wrong"
    assert (wrong.leaves[0].at, wrong.leaves[0].wrong) == ((4,), 1)


def test_halving_finds_the_wrong_one_of_many_coordinates_of_numpy_code():
    params = {"a": jnp.asarray(X[:200]).reshape(10, 20), "b": jnp.asarray(X[200:203])}
    factor = jnp.ones((10, 20)).at[3, 17].set(1.5)

    def f(p):
        return in_numpy(p["a"]) * np.asarray(p["b"])[1]

    def gradient(p, factor):
        return {
            "a": np.cos(np.asarray(p["a"])) * p["b"][1] * factor,
            "b": jnp.zeros(3, p["b"].dtype).at[1].set(np.sin(np.asarray(p["a"])).sum()),
        }

    assert check_gradient(f, partial(gradient, factor=1), params)
    report = check_gradient(f, partial(gradient, factor=factor), params)
    assert report.verdict == "wrong"
    assert (report.leaves[0].name, report.leaves[0].at) == ("params['a']", (3, 17))
    truth = float(np.cos(X[77].astype(np.float64)) * X[201])
    # Found by differences along one coordinate, of sums of 200.
    assert report.leaves[0].expected == pytest.approx(truth, rel=1e-6)


@jax.custom_jvp
def wrong_sine(w):
    return jnp.sin(w)


wrong_sine.defjvps(lambda tangent, y, w: tangent * jnp.sin(w))


@pytest.mark.parametrize(
    ("f", "gradient"),
    [
        (lambda w: wrong_sine(w).sum(), jnp.cos),
        (lambda w: (w * jax.lax.stop_gradient(w)).sum(), lambda w: 2 * w),
    ],
    ids=["custom_jvp", "stop_gradient"],
)
def test_values_of_the_function_decide_where_its_rules_mislead_autodiff(f, gradient):
    w = jnp.asarray(X[:5])
    right = check_gradient(f, gradient, w)
    assert right
    assert right.truth.startswith("autodiff in float64 of the function's own steps, without custom rules")
    report = check_gradient(f, jax.grad(f), w)
    assert report.verdict == "wrong"
    assert report.leaves[0].wrong == 5


# Functions that keep to their own dtype.


def hard_float32(w):
    return jnp.sin(w.astype(jnp.float32)).sum()


def float32_or_nothing(w):
    if w.dtype != jnp.float32:
        raise TypeError(f"no kernel for {w.dtype}")
    return jnp.sin(w).sum()


@pytest.mark.parametrize("f", [hard_float32, float32_or_nothing])
def test_functions_that_only_run_in_float32_are_checked(f):
    w = jnp.asarray(X[:6])
    right = check_gradient(f, jnp.cos, w)
    assert right
    assert any("float32_or_nothing does not run in float64 (TypeError: no kernel" in note for note in right.notes) == (
        f is float32_or_nothing
    )


def test_a_wrong_gradient_of_a_function_that_only_runs_in_float32_is_found():
    report = check_gradient(hard_float32, lambda w: jnp.cos(w) * 1.01, jnp.asarray(X[:6]))
    assert report.verdict == "wrong"


# Gradients that are wrong at other points, at other times, or for want of digits.


def test_a_gradient_that_changes_from_call_to_call_is_called_non_deterministic():
    calls = iter(range(100))

    def gradient(w):
        return w**2 * (1 + next(calls) % 2)

    report = check_gradient(cubes, gradient, jnp.asarray(X[:4]))
    assert report.verdict == "wrong"
    assert report.explanations[0].kind == "non_deterministic"
    assert "params[0] was" in report.explanations[0].text


def test_a_single_number_that_changes_from_call_to_call_is_named_without_an_index():
    calls = iter(range(100))
    report = check_gradient(lambda w: w**3, lambda w: 3 * w**2 * (1 + next(calls) % 2), jnp.float32(2))
    assert report.explanations[0].text.startswith("the gradient is not deterministic: params was ")


def test_a_function_that_changes_from_call_to_call_is_called_non_deterministic():
    noise = np.random.default_rng(0)
    report = check_gradient(
        lambda w: np.float32(cubes(w) + noise.standard_normal()), lambda w: w**2, jnp.asarray(X[:4])
    )
    assert report.verdict == "wrong"
    assert report.explanations[0].kind == "non_deterministic"
    assert report.explanations[0].text.startswith("the function is not deterministic")


def test_a_gradient_that_is_wrong_only_for_negative_parameters_is_found_from_a_positive_point():
    def gradient(w):
        return jnp.where(w < 0, 1.1, 1.0).astype(w.dtype) * w**2

    report = check_gradient(cubes, gradient, jnp.abs(X[:12]))
    assert report.verdict == "wrong"
    assert (report.points[0].verdict, at(report, "ties and zeros").verdict) == ("right", "wrong")
    # The table then shows the point where it is wrong.
    assert report.leaves[0].wrong > 0


def test_a_gradient_that_is_nan_at_zeros_is_found_from_a_point_without_zeros():
    report = check_gradient(cubes, lambda w: w**3 / w, jnp.asarray(X[:12]))
    assert report.verdict == "wrong"
    assert (report.points[0].verdict, at(report, "ties and zeros").verdict) == ("right", "wrong")


def test_a_nan_gradient_is_wrong():
    report = check_gradient(cubes, lambda w: w**3 / w, jnp.asarray([1.0, 0.0, 2.0]))
    assert report.verdict == "wrong"
    assert report.leaves[0].at == (1,)
    assert np.isnan(report.leaves[0].given)
    assert report.leaves[0].expected == 0


@pytest.fixture(scope="module")
def imprecise():
    def gradient(w):
        return ((1 + w) ** 2 - 1 - w**2) / 2 * w  # 2 w / 2 * w

    return check_gradient(cubes, gradient, jnp.asarray(X[:6]) * 1e-5)


def test_a_right_formula_that_loses_digits_is_called_imprecise(imprecise):
    assert imprecise.verdict == "wrong"
    assert imprecise.points[0].verdict == "right"
    assert imprecise.explanations[0].kind == "precision"
    assert Path(__file__).name in imprecise.explanations[0].text
    assert "cancels" in imprecise.explanations[0].text
    assert imprecise.leaves[0].dtype == "float32"


def test_a_formula_in_numpy_that_loses_digits_is_called_imprecise():
    def gradient(w):
        return ((1 + w) ** 2 - 1 - w**2) / 2 * w

    report = check_gradient(lambda w: (np.asarray(w) ** 3).sum() / 3, gradient, np.asarray(X[:6]) * np.float32(1e-5))
    assert report.verdict == "wrong"
    assert report.explanations[0].kind == "precision"


def test_numpy_is_silent_where_numbers_are_not_finite():
    w = jnp.asarray([0.0, 2.0])
    assert check_gradient(cubes, lambda w: w**2 * jnp.inf, w, explain=False).verdict == "wrong"
    assert check_gradient(lambda w: jnp.sqrt(w).sum(), lambda w: 0.5 / jnp.sqrt(w), w, explain=False).verdict == "wrong"


def test_a_function_that_splits_a_key_of_its_own_is_called_non_deterministic():
    keys = [jax.random.key(0)]

    def noisy(w):
        keys[0], key = jax.random.split(keys[0])
        return cubes(w) + jax.random.normal(key)

    report = check_gradient(noisy, lambda w: w**2, jnp.asarray(X[:4]))
    assert (report.verdict, report.explanations[0].kind) == ("wrong", "non_deterministic")


def test_a_check_inside_of_jit_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^params must be an array of numbers, got a tracer: call the check outside"):
        jax.jit(lambda w: check_gradient(cubes, lambda w: w**2, w))(jnp.ones(2))


def test_a_leaf_without_elements_changes_nothing():
    params = {"a": jnp.asarray(X[:3]), "b": jnp.zeros((0, 3))}
    for fault, verdict in ((1, "right"), (1.01, "wrong")):
        report = check_gradient(
            lambda p: cubes(p["a"]) + p["b"].sum(), lambda p, c=fault: {"a": c * p["a"] ** 2, "b": p["b"] + 1}, params,
            explain=False,
        )  # fmt: skip
        assert report.verdict == verdict


# Reports.


@pytest.fixture(scope="module")
def right_report():
    return check_gradient(cubes, lambda w: w**2, jnp.asarray(X[:6]))


@pytest.fixture(scope="module")
def wrong_gradient():
    sign = jnp.ones(6).at[2].set(-1)
    return lambda w: (w**2 * sign).astype(w.dtype)


@pytest.fixture(scope="module")
def wrong_report(wrong_gradient):
    return check_gradient(cubes, wrong_gradient, jnp.asarray(X[:6]))


def test_a_report_is_true_if_and_only_if_it_is_right(right_report, wrong_report, imprecise):
    assert [bool(report) for report in (right_report, wrong_report, imprecise)] == [True, False, False]


def test_a_right_report_says_what_was_checked_and_where(right_report):
    text = str(right_report)
    assert text.startswith("gradient of cubes: RIGHT\n")
    assert f"decided by {right_report.truth}" in text
    for point in right_report.points:
        assert f"at {point.name}: right" in text
    assert right_report.slopes == pytest.approx([2] * len(right_report.slopes), abs=0.1)
    assert len(right_report.slopes) > 0


def test_a_wrong_report_shows_the_leaf_the_index_and_both_numbers(wrong_report):
    text = str(wrong_report)
    assert text.startswith("gradient of cubes: WRONG\n")
    row = next(line for line in text.splitlines() if line.strip().startswith("params "))
    truth = float(X[2]) ** 2
    assert "1 of 6" in row
    assert "[2]" in row
    # Eight digits are shown, of which float32 has some seven.
    assert [float(number) for number in row.split()[-3:-1]] == pytest.approx([-truth, truth], rel=1e-6)
    assert wrong_report.slopes == pytest.approx([1] * len(wrong_report.slopes), abs=0.1)


def test_reports_survive_json(right_report, wrong_report):
    for report in (right_report, wrong_report):
        plain = report.as_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert plain["verdict"] == report.verdict
        assert plain["leaves"][0]["name"] == "params"


def test_numbers_that_are_not_finite_are_none_in_json(wrong_report):
    leaf = wrong_report.leaves[0]._replace(relative=float("inf"), given=float("nan"))
    plain = type(wrong_report)("f", "wrong", "", (leaf,)).as_dict()
    assert (plain["leaves"][0]["relative"], plain["leaves"][0]["given"], plain["resolution"]) == (None, None, None)


def test_a_gradient_checker_traces_once_and_repeats_its_report_for_the_same_seed(wrong_gradient, wrong_report):
    traces = []

    def traced(w):
        traces.append(w)
        return cubes(w)

    traced.__name__ = "cubes"
    check = gradient_checker(traced, wrong_gradient, jnp.ones(6))
    check(jnp.asarray(X[6:12]))
    known = len(traces)
    again = check(jnp.asarray(X[:6]), seed=0)
    # Called as it is once for the value, and once for whether it is steady.
    assert len(traces) - known <= 2
    assert str(again) == str(wrong_report)
    assert again.as_dict() == wrong_report.as_dict()


def test_assert_gradient_raises_the_whole_report_or_nothing(right_report, wrong_report, monkeypatch):
    for report in (right_report, wrong_report):
        monkeypatch.setattr("jaxmlp.checking.gradient.check_gradient", lambda *_, report=report, **__: report)
        if report:
            assert_gradient(cubes, jnp.square, W)
        else:
            with pytest.raises(AssertionError) as raised:
                assert_gradient(cubes, jnp.square, W)
            assert str(raised.value) == str(wrong_report)


# What is answered before anything is checked.

W = jnp.asarray([1.0, 2.0])
TREE = {"w": W, "b": W}


@pytest.mark.parametrize(
    ("f", "gradient", "params", "message"),
    [
        (lambda w: w, jnp.cos, W, r"f must return a scalar, got shape \(2,\)"),
        (lambda w: (w[0], w), jnp.cos, W, r"f must return a scalar, got 2 arrays"),
        (lambda w: jnp.int32(1), jnp.cos, W, "f must return a real floating number, got int32"),
        (lambda w: w.sum() + 1j, jnp.cos, W, "f must return a real floating number, got complex64"),
        (lambda w: jnp.log(-w).sum(), jnp.cos, W, "f must be finite at the given parameters, got nan"),
        (cubes, jnp.cos, jnp.arange(3), "params must have a real floating dtype, got int32"),
        (cubes, jnp.cos, W.astype(jnp.complex64), "params must have a real floating dtype, got complex64"),
        (cubes, jnp.cos, {"a": W, "n": 3}, r"params\['n'\] must have a real floating dtype, got int64"),
        (cubes, jnp.cos, {}, "params must have at least one array"),
        (cubes, jnp.cos, {"w": W.at[1].set(jnp.nan)}, r"params\['w'\] must be finite, got nan at \[1\]"),
        (cubes, jnp.cos, [W, W.at[0].set(jnp.inf)], r"params\[1\] must be finite, got inf at \[0\]"),
        (cubes, jnp.cos, [np.ones(2)], r"params\[0\] is float64, but x64 is off in JAX"),
        (lambda p: cubes(p["w"]), lambda p: {"w": p["w"]}, TREE, r"tree like params: params\['b'\] is missing"),
        (lambda p: cubes(p["w"]), lambda p: {**p, "c": W}, TREE, r"tree like params: unexpected params\['c'\]"),
        (lambda p: cubes(p["w"]), lambda p: {**p, "w": W[:1]}, TREE, r"shape \(2,\) for params\['w'\], got \(1,\)"),
        (cubes, lambda w: jnp.arange(2), W, "gradient must return a floating dtype for params, got int32"),
        (cubes, lambda w: (w,), W, "must return a tree like params"),
    ],
)
def test_wrong_arguments_of_check_gradient_are_refused_in_one_line(f, gradient, params, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_gradient(f, gradient, params)
    assert "\n" not in str(raised.value)


def test_error_lines_use_the_names_of_functions_and_parameters():
    def energy(w):
        return w

    with pytest.raises(ValueError, match=r"^energy must return a scalar"):
        check_gradient(energy, jnp.cos, W)
    with pytest.raises(ValueError, match=r"^weights\[0\] must have a real floating dtype"):
        check_gradient(energy, jnp.cos, [jnp.arange(3)], root="weights")


class UserError(Exception):
    pass


@pytest.mark.parametrize("which", ["f", "gradient"])
def test_an_error_of_the_users_function_is_raised_with_a_note(which):
    def broken(w):
        raise UserError("out of cheese")

    functions = {"f": cubes, "gradient": jnp.square} | {which: broken}
    with pytest.raises(UserError) as raised:
        check_gradient(functions["f"], functions["gradient"], W)
    assert str(raised.value) == "out of cheese"
    assert raised.value.__notes__ == ["jaxmlp.checking: broken raised this when it was called for the check"]


# Nothing global changes.


@pytest.mark.parametrize("x64_on", [False, True])
@pytest.mark.parametrize("which", ["f", "gradient", "neither"])
def test_the_x64_setting_is_restored_whatever_is_raised(x64_on, which):
    seen = []

    def late(function, w):
        """A function that fails once the check has gone on to float64, whatever it is then handed."""
        seen.append(bool(jax.config.jax_enable_x64))
        if isinstance(w, jax.core.Tracer) or w.dtype == jnp.float64:
            raise UserError("too late")
        return function(w)

    functions = {"f": cubes, "gradient": jnp.square}
    with jax.enable_x64(x64_on):
        if which == "neither":
            assert check_gradient(cubes, jnp.square, W)
        else:
            functions[which] = partial(late, functions[which])
            with pytest.raises(UserError):
                check_gradient(functions["f"], functions["gradient"], W)
            assert seen[0] == x64_on
            assert seen[-1]
        assert bool(jax.config.jax_enable_x64) == x64_on
        assert jnp.ones(1).dtype == (jnp.float64 if x64_on else jnp.float32)
    assert not jax.config.jax_enable_x64
