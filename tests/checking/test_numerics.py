import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmlp.checking import _differences, _points, _program, _rounding

RNG = np.random.default_rng(0)
X = np.asarray(RNG.uniform(0.5, 2, 64), np.float32)


def plain(_eqn, inputs, apply, _iteration):
    return apply(inputs)


def some_steps(f, stages):
    line = None
    for _ in range(stages):
        line = _differences.line(f, float(f(np.zeros(1))[0]), line)
    return line


def all_steps(f):
    return some_steps(f, len(_differences.STAGES))


# A function of the step, and its slope at 0.
SMOOTH = {
    "exp(h)": (np.exp, 1),
    "exp(-30 h)": (lambda h: np.exp(-30 * h), -30),
    "1e8 + exp(h)": (lambda h: 1e8 + np.exp(h), 1),
    "1e-12 sin(h)": (lambda h: 1e-12 * np.sin(h), 1e-12),
    "sin(h)": (np.sin, 1),
    "sin(20 h)": (lambda h: np.sin(20 * h), 20),
    "sin(1 + 7 h)": (lambda h: np.sin(1 + 7 * h), 7 * math.cos(1)),
    "cos(h)": (np.cos, 0),
    "tanh(3 h + 1)": (lambda h: np.tanh(3 * h + 1), 3 / math.cosh(1) ** 2),
    "1 / (1 - h)": (lambda h: 1 / (1 - h), 1),
    "1 / (1 + 12 h)": (lambda h: 1 / (1 + 12 * h), -12),
    "log(1 + h)": (np.log1p, 1),
    "sqrt(1 + 9 h)": (lambda h: np.sqrt(1 + 9 * h), 4.5),
    "h": (lambda h: h, 1),
    "3": (lambda h: 3 + 0 * h, 0),
    "h^2": (np.square, 0),
    "h + 1e3 h^2": (lambda h: h + 1e3 * h**2, 1),
    "h + 1e3 h^3": (lambda h: h + 1e3 * h**3, 1),
    "h + 1e6 h^5": (lambda h: h + 1e6 * h**5, 1),
    "arctan(5 h)": (lambda h: np.arctan(5 * h), 5),
    "expm1(h) / 1e3": (lambda h: np.expm1(h) / 1e3, 1e-3),
    "a bump of width 1e-3": (lambda h: h + np.exp(-((h * 1e3) ** 2)), 1),
    "log cosh(1e3 h + 1)": (lambda h: np.logaddexp(1e3 * h + 1, -1e3 * h - 1), 1e3 * math.tanh(1)),
}
KINKED = {
    "h |h|": (lambda h: h * np.abs(h), 0),
    "3 h + h |h|": (lambda h: 3 * h + h * np.abs(h), 3),
    "relu(h)^2": (lambda h: np.maximum(h, 0) ** 2, 0),
    "exp(h) + |h|^1.5": (lambda h: np.exp(h) + np.abs(h) ** 1.5, 1),
    **{
        f"sin(h) + |h - {a}|": (lambda h, a=a: np.sin(h) + np.abs(h - a), 1 - math.copysign(1, a))
        for a in (0.05, 0.01, 1e-3, -1e-4, 1e-5)
    },
    **{
        f"sin(h) + relu(h - {a}) + relu(h + {a})": (
            lambda h, a=a: np.sin(h) + np.maximum(h - a, 0) + np.maximum(h + a, 0),
            2,
        )
        for a in (3e-2, 3e-3, 3e-4)
    },
    "exp(h) + ten kinks ahead": (
        lambda h: np.exp(h) + sum(np.maximum(h - 10.0**-k, 0) for k in np.linspace(1, 5, 10)),
        1,
    ),
}


def errors_of(f, slope, **noise):
    found = _differences.slope(all_steps(f), **noise)
    return abs(found.value - slope), found.error


def test_the_slope_of_exp_is_1_within_its_error_and_that_is_small():
    actual, stated = errors_of(np.exp, 1)
    assert actual <= stated
    # Two extrapolations from steps of 2^-4 to 2^-12: 8 times the rounding of 4 units in the last place over 2^-12.
    assert stated < 8 * 4 * 2.0**-52 * 2**12 * 1.1


def test_all_stages_together_have_all_steps():
    line = all_steps(np.exp)
    assert line.is_whole
    assert not some_steps(np.exp, 2).is_whole
    np.testing.assert_array_equal(line.h, _differences.STEPS)
    np.testing.assert_array_equal(line.ahead, np.exp(line.h))
    np.testing.assert_array_equal(line.behind, np.exp(-line.h))


@pytest.mark.parametrize("f", [*SMOOTH, *KINKED])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_stated_error_of_a_slope_bounds_the_actual_one(f, stages):
    along, slope = (SMOOTH | KINKED)[f]
    found = _differences.slope(some_steps(along, stages))
    if abs(found.value - slope) > found.error:
        # One stage alone sees nothing of what happens far below its shortest step, 2^-20.
        assert stages == 1
        assert any(word in f for word in ("width", "e-05", "0.0001", "0.0003", "ten kinks", "1e3 h + 1"))


@pytest.mark.parametrize("shift", [0, 0.3, 1, 2, 3])
def test_the_stated_error_bounds_the_actual_one_for_steps_of_any_width(shift):
    # The first steps see it saturated, where differences fall as if they converged.
    for width in np.geomspace(1e-6, 1, 100):
        actual, stated = errors_of(lambda h, width=width: np.tanh(shift + h / width), 1 / math.cosh(shift) ** 2 / width)
        assert actual <= stated, width


@pytest.mark.parametrize("f", [name for name in SMOOTH if "width" not in name])
def test_the_stated_error_of_a_smooth_slope_is_small(f):
    along, slope = SMOOTH[f]
    size = float(np.max(np.abs(along(np.array([-0.05, 0.0, 0.05])))))
    # Rounding of size eps |f| over the step at which the function is a polynomial, here 1e-4 or more.
    assert errors_of(along, slope)[1] <= 1e-7 * (abs(slope) + 1e-3 * size) + 64 * 2.0**-52 * size / 1e-4


@pytest.mark.parametrize("planted", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("f", ["exp(h)", "sin(20 h)", "tanh(3 h + 1)", "h + 1e3 h^2", "3 h + h |h|"])
def test_the_stated_error_bounds_the_actual_one_with_known_noise(f, planted):
    along, slope = (SMOOTH | KINKED)[f]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        actual, stated = errors_of(
            lambda h, rng=rng: along(h) + planted * rng.standard_normal(h.shape), slope, noise=np.full(9, planted)
        )
        # A normal number exceeds 8 of its standard deviations with a chance of 1e-15.
        assert actual <= stated


def test_a_kink_at_the_point_gives_a_jump_of_its_size_and_a_smooth_function_none():
    for planted in (1e-3, 1.0, -2.5):
        found = _differences.slope(all_steps(lambda h, a=planted: np.exp(h) + a * np.maximum(h, 0)))
        # Exp adds h to it, at the last step that stands clear of rounding: some 1e-5 here.
        assert found.jump == pytest.approx(planted, abs=2e-5)
        # A symmetric difference takes the mean of both sides.
        assert abs(found.value - (1 + planted / 2)) <= found.error
    assert all(_differences.slope(all_steps(f)).jump == 0 for name, (f, _) in SMOOTH.items() if "width" not in name)


def test_a_leap_has_its_size_and_smooth_functions_kinks_and_roots_have_none():
    for f, leap in (
        (lambda h: np.exp(h) + 2.5 * (h > 0), 2.5),
        (lambda h: np.exp(h) - 1e-6 * (h >= 0), 1e-6),
        (lambda h: np.exp(h) + (h == 0), 1),
    ):
        assert _differences.slope(all_steps(f)).leap == pytest.approx(leap, rel=1e-3)
    for f, _ in (SMOOTH | KINKED).values():
        assert _differences.slope(all_steps(f)).leap == 0
    assert _differences.slope(all_steps(lambda h: np.sqrt(np.abs(h)))).leap == 0


@pytest.mark.parametrize("width", [1e-3, 1e-5, 1e-8])
def test_the_slope_of_stairs_is_that_of_large_steps(width):
    def stairs(h):
        return np.floor(np.sin(1 + 2 * h) / width) * width

    found = _differences.stairs(stairs, all_steps(stairs))
    truth = 2 * math.cos(1)
    assert abs(found.value - truth) <= found.error
    # Stairs of this height, averaged over 64 points of a line 2^-3 long, on which sine is a polynomial to five digits.
    assert found.error < 8 * width / 2.0**-4 + 1e-5
    assert found.stairs


@pytest.mark.parametrize(
    "f",
    [
        *[along for along, _ in (SMOOTH | KINKED).values()],
        lambda h: np.sign(h) * np.maximum(np.abs(h) - 1e-3, 0),
        lambda h: np.maximum(h - 1e-5, 0),
        lambda h: np.round(0.3 + h),
    ],
)
def test_what_tiny_steps_move_or_large_steps_do_not_agree_on_are_no_stairs(f):
    assert _differences.stairs(f, all_steps(f)) is None


@pytest.mark.parametrize("planted", [1e-2, 1e-7, 1e-12])
def test_noise_is_estimated_within_a_factor_of_4(planted):
    rng = np.random.default_rng(0)
    along = [lambda h: np.exp(3 * h) + planted * rng.standard_normal(h.shape)] * 200
    ratios = np.array([_differences.noise(f) for f in along]) / planted
    assert 0.6 < np.median(ratios) < 1.6
    # Nine values are few: 4 % of normal draws come out too small by more, hardly any too large.
    assert np.mean((ratios > 1 / 4) & (ratios < 4)) > 0.9
    assert ratios.max() < 4


def test_the_noise_of_a_smooth_function_is_its_rounding():
    assert _differences.noise(lambda h: np.exp(3 + h)) < 4 * 2.0**-52 * math.exp(3)


@pytest.mark.parametrize("resolution", [1e-3, 0.1, 0.5])
@pytest.mark.parametrize("miss", [1e-3, 1e-6])
def test_the_number_of_directions_is_the_smallest_with_the_given_chance_to_miss(miss, resolution):
    n = _differences.n_directions(miss, resolution)
    one = stats.norm.cdf(resolution) - stats.norm.cdf(-resolution)
    assert one**n <= miss
    assert n == 1 or one ** (n - 1) > miss


@pytest.mark.parametrize("fault", [np.eye(1, 300)[0], np.ones(300), np.geomspace(1, 1e-6, 300)])
def test_the_chance_to_miss_does_not_depend_on_how_many_coordinates_are_wrong(fault):
    directions = np.random.default_rng(1).standard_normal((4000, 300))
    missed = np.mean(np.abs(directions @ fault) < 0.5 * np.linalg.norm(fault))
    # A share of 4000 draws is off by 0.008 (one standard deviation).
    assert missed == pytest.approx(math.erf(0.5 / math.sqrt(2)), abs=0.03)


@pytest.mark.parametrize(("promised", "exponent"), [(1.0, 2), (1.01, 1), (-1.0, 1)])
def test_the_taylor_remainder_falls_with_exponent_2_of_a_right_slope_and_1_of_a_wrong_one(promised, exponent):
    assert _differences.remainder_exponent(all_steps(np.exp), promised) == pytest.approx(exponent, abs=0.02)


def test_the_taylor_remainder_of_a_linear_function_has_no_exponent():
    assert math.isnan(_differences.remainder_exponent(all_steps(lambda h: 2 + 3 * h), 3.0))


# Rounding. All of 64 numbers at once, for a statistic of their errors.


def dot_with_itself(x):
    return (x[:, None] * jnp.asarray(X)[None, :] * jnp.asarray(X)).sum(axis=1)


def product(x):
    return jnp.prod(x[:, None] ** (1 / jnp.arange(1, 9, dtype=x.dtype)), axis=1)


def cancellation(x):
    return (1 + 1e-4 * x) ** 2 - 1


def logistic_map(x):
    return jax.lax.scan(lambda y, _: (3.9 * y * (1 - y), None), x / 4, None, length=12)[0]


def square_root(x):
    """Newton's iteration in a while loop, of a number that cancels."""
    y = x - 0.9999 * x
    state = jax.lax.while_loop(lambda s: s[0] < 25, lambda s: (s[0] + 1, 0.5 * (s[1] + y / s[1])), (0, x))
    return state[1]


def branches(x):
    return jax.lax.cond(x[0] > 0, lambda x: jnp.exp(3 * x) - jnp.exp(2.9 * x), lambda x: x, x)


MATRIX = np.asarray(np.random.default_rng(2).standard_normal((64, 64)), np.float32)


def matrix_product(x):
    return jnp.asarray(MATRIX, x.dtype) @ x


PROGRAMS = [dot_with_itself, product, cancellation, logistic_map, square_root, branches, matrix_product]


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_the_spread_of_a_float32_program_predicts_its_rounding_error(f, x64):
    x = jnp.asarray(X)
    with jax.enable_x64(False):
        actual = np.asarray(jax.jit(f)(x), np.float64)
        spread = _rounding.spread(f)(0, x)
    exact = np.asarray(jax.jit(f)(jnp.asarray(X, jnp.float64)))
    error = np.abs(actual - exact)
    assert (error <= _rounding.threshold(64) * spread).all()
    # Errors are drawn twice as large as those of rounding to nearest. Sums of n terms are allowed sqrt(n) roundings of
    # the sum of their sizes, which is sqrt(n) times what terms of random signs come to, and taken in vectors they lose
    # less: n = 64 for a matrix product.
    ratio = np.sqrt(np.mean(spread**2) / np.mean(error**2))
    assert 0.5 < ratio < 64


def test_spread_sees_where_a_program_cancels():
    x = jnp.asarray([1.0, 1e-3, 1e-6])
    spread = _rounding.spread(lambda x: (1 + x) - 1)(0, x)
    # The one rounding of 1 + x, whatever is left of it after.
    np.testing.assert_allclose(spread, [2.0**-23, 2.0**-24, 2.0**-24], rtol=1.5)


def test_an_exact_program_has_no_spread():
    assert not _rounding.spread(lambda x: jnp.maximum(-x[::-1], 0.5).reshape(8, 8).T)(0, jnp.asarray(X)).any()


@pytest.mark.parametrize(
    "decides",
    [
        lambda x: jnp.floor(x / 3 * 3),
        lambda x: jnp.round(x / 7 * 7 + 0.5),
        lambda x: (x / 3 * 3 == x).astype(x.dtype),
        lambda x: (x / 3 * 3 >= x).astype(x.dtype),
        lambda x: (x / 3 * 3).astype(bool).astype(x.dtype),
        lambda x: jnp.sign(x / 3 * 3 - x),
        lambda x: jnp.arange(4.0)[(x[:4] / 3 * 3).astype(int) % 4],
        lambda x: jnp.eye(4, dtype=int).astype(x.dtype),
        lambda x: (1 - jnp.eye(4) == 1).astype(x.dtype),
    ],
    ids=["floor", "round", "==", ">=", "bool", "sign", "index", "an int as a float", "a mask"],
)
def test_assumed_rounding_flips_no_decision(decides):
    assert not np.any(_rounding.spread(decides)(0, jnp.arange(1.0, 9.0)))


def test_a_rounding_error_that_is_not_finite_allows_nothing():
    assert _rounding.spread(lambda x: jnp.sqrt(x - x / 3 * 3))(0, jnp.float32(1)) == 0


def test_reduced_precision_rounds_as_its_mantissa_does():
    spread = _rounding.spread(lambda x: jax.lax.reduce_precision(x, 8, 7))(0, jnp.asarray(X))
    np.testing.assert_allclose(spread / X, 2.0**-7, rtol=0.7)


def test_a_growing_spread_never_shrinks_and_ends_as_the_full_one():
    x = jnp.asarray(X)
    grown = list(_rounding.spreads(logistic_map)(0, x))
    assert len(grown) == _rounding.SAMPLES
    assert (np.diff(grown, axis=0) >= 0).all()
    assert grown[0].any()
    np.testing.assert_array_equal(grown[-1], _rounding.spread(logistic_map)(0, x))


@pytest.mark.parametrize(
    "count",
    [
        lambda x: (x > 1).sum(),
        lambda x: jnp.cumsum(x > 1)[-1],
        lambda x: (x > 1).astype(int) @ (x > 1).astype(int),
        lambda x: jnp.zeros(2, int).at[(x > 1).astype(int)].add(1)[1],
    ],
    ids=["sum", "cumsum", "dot", "scatter"],
)
def test_integers_are_summed_exactly(count):
    x = jnp.asarray(X)
    assert _rounding.spread(count)(0, x) == 0
    # A product and nothing else: off by one rounding at most.
    assert 0 < _rounding.spread(lambda x: count(x) * x[0])(0, x) <= 2.0**-23 * int(count(x)) * X[0]


def test_the_threshold_has_the_chance_of_a_false_alarm():
    # Student's t of 8 samples, two-sided, shared among n results.
    for n in (1, 1000):
        assert 2 * n * stats.t.sf(_rounding.threshold(n), _rounding.SAMPLES) == pytest.approx(1e-12)


def test_small_rows_of_a_leaf_are_measured_by_themselves():
    leaf = np.ones((3, 4))
    leaf[1] = 1e-6
    scale = _rounding.scale(leaf)
    np.testing.assert_allclose(scale[1], 2e-6)
    assert (scale[[0, 2]] > 1).all()


# Programs, walked.


@jax.custom_jvp
def doubled_sine(x):
    return 2 * jnp.sin(x)


doubled_sine.defjvps(lambda tangent, y, x: tangent * 7)


@jax.custom_vjp
def doubled_cosine(x):
    return 2 * jnp.cos(x)


doubled_cosine.defvjp(lambda x: (doubled_cosine(x), None), lambda _, c: (7 * c,))


def everything(x):
    """Every kind of operation that has others inside of it, one in another."""

    def body(carry, row):
        count, total = carry
        row = jax.lax.cond(count % 2 == 0, lambda r: jnp.exp(-r), lambda r: jax.jit(jnp.sin)(r), row)
        total = jax.lax.fori_loop(0, 3, lambda i, t: t + i * row, total)
        return (count + 1, total), row.sum()

    (_, total), rows = jax.lax.scan(body, (0, jnp.zeros(4)), x.reshape(6, 4), reverse=True)
    n = jax.lax.while_loop(lambda n: n * n < 50, lambda n: n + 1, 0)
    branch = jax.lax.switch(2, [jnp.sin, jnp.cos, jnp.tanh], total)
    rest = jax.checkpoint(doubled_sine)(x).sum() + doubled_cosine(x[:3]).sum()
    return {"n": n, "rows": rows, "branch": branch, "rest": rest + jax.lax.stop_gradient(x)[0]}


def test_a_walked_program_returns_exactly_what_the_function_returns():
    x = jnp.asarray(X[:24])
    walked = jax.jit(lambda x: _program.trace(everything, x).run(plain, x))(x)
    expected = jax.jit(everything)(x)
    assert jax.tree.structure(walked) == jax.tree.structure(expected)
    assert expected["n"] == 8
    jax.tree.map(np.testing.assert_array_equal, walked, expected)


def test_a_visitor_sees_every_operation_inside_loops_branches_and_custom_rules():
    met = set()

    def visit(eqn, inputs, apply, iteration):
        met.add(eqn.primitive.name)
        return apply(inputs)

    program = _program.trace(everything, jnp.asarray(X[:24]))
    jax.eval_shape(lambda x: program.run(visit, x), jnp.asarray(X[:24]))
    assert met >= {"scan", "while", "cond", "exp", "sin", "cos", "tanh", "custom_jvp_call", "custom_vjp_call", "rem"}


def test_a_visitor_changes_every_iteration_of_a_loop_by_its_number():
    def visit(eqn, inputs, apply, iteration):
        outputs = apply(inputs)
        return [outputs[0] + iteration] if eqn.primitive.name == "mul" else outputs

    def f(x):
        return jax.lax.scan(lambda y, _: (y * 2, y), x, None, length=4)[1]

    x = jnp.float32(1)
    first = _program.trace(f, x).run(visit, x)
    # y = 1, then 2 y + round for the rounds that follow each other from the loop's first number.
    start = float(first[1] - 2)
    expected = [1.0]
    for i in range(3):
        expected.append(2 * expected[-1] + start + i)
    np.testing.assert_allclose(first, expected)


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (doubled_sine, lambda x: 2 * np.cos(x)),
        (doubled_cosine, lambda x: -2 * np.sin(x)),
        (lambda x: x * jax.lax.stop_gradient(x), lambda x: 2 * x),
        (lambda x: jax.jit(lambda x: jax.lax.scan(lambda y, _: (doubled_sine(y), None), x, None, length=1)[0])(x),
         lambda x: 2 * np.cos(x)),
    ],
)  # fmt: skip
def test_without_rules_autodiff_differentiates_the_functions_own_steps(f, derivative):
    x = jnp.float32(0.7)
    steps = _program.without_rules(f)
    np.testing.assert_array_equal(steps(x), f(x))
    # Some roundings of float32; the rules say 7, or half of it.
    np.testing.assert_allclose(jax.grad(steps)(x), derivative(0.7), rtol=1e-5)
    assert abs(jax.grad(f)(x) - derivative(0.7)) > 0.1


def test_the_source_of_an_operation_is_its_line():
    eqn = _program.trace(lambda x: jnp.exp(x), jnp.float32(1)).closed.jaxpr.eqns[0]
    assert _program.source(eqn).startswith(f"{Path(__file__).name}:")


def test_a_program_that_is_walked_keeps_the_lines_of_the_users_code():
    def deep(f, n):
        return f if n == 0 else lambda x: deep(f, n - 1)(x)

    walked = _program.trace(_program.without_rules(deep(doubled_sine, 20)), jnp.float32(1)).closed
    (eqn,) = [eqn for eqn in _program.equations(walked) if eqn.primitive.name == "sin"]
    line = doubled_sine.__wrapped__.__code__.co_firstlineno + 2
    assert _program.source(eqn) == f"{Path(__file__).name}:{line}"


# Points and directions.

TREE = {"w": np.linspace(1e-6, 2e-6, 40).reshape(8, 5), "b": np.zeros(30), "s": np.float64(-3000)}
UNITS = jax.tree.map(_points.size, TREE)


def test_the_unit_of_a_leaf_is_its_size_and_1_for_zeros():
    assert _points.size(TREE["b"]) == _points.size(np.zeros(0)) == 1
    for leaf in (TREE["w"], TREE["s"]):
        rms, unit = np.sqrt(np.mean(np.square(leaf))), _points.size(leaf)
        assert np.frexp(unit)[0] == 0.5
        assert rms / 1.5 < unit < 1.5 * rms
    direction = _points.direction(TREE, np.random.default_rng(0))
    for name in ("w", "b"):  # the rms of 30 normal numbers and more is between 0.5 and 1.5
        assert 0.5 < np.sqrt(np.mean(np.square(direction[name]))) / _points.size(TREE[name]) < 1.5
    assert jax.tree.map(np.shape, direction) == jax.tree.map(np.shape, TREE)


def test_points_are_near_or_tied_or_large_and_exact_in_short_dtypes():
    points = _points.points(TREE, UNITS, _points.draws(TREE, 2, 0))
    for leaf, near, tied, large in zip(*map(jax.tree.leaves, (TREE, *points.values())), strict=True):
        unit = _points.size(leaf)
        gap = np.abs(near - leaf) / unit
        assert gap.max() < 0.5
        assert gap.max() > 0.01 or np.size(leaf) == 1
        assert set(np.unique(tied / unit)) <= {-1, 0, 1}
        assert np.size(leaf) == 1 or len(np.unique(tied)) == 3
        np.testing.assert_array_equal(large, 16 * leaf)
        np.testing.assert_array_equal(np.asarray(near, jnp.bfloat16).astype(np.float64), near)


def test_points_and_directions_follow_the_seed():
    first, again, other = (_points.draws(TREE, 2, seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    one, two, *_ = (jax.tree.leaves(direction) for direction in (*first.directions, *other.directions))
    assert all((a != b).all() for a, b in zip(one, two, strict=True))
    tied, others = (_points.points(TREE, UNITS, each)["ties and zeros"]["w"] for each in (first, other))
    assert (tied != others).any()


def test_directions_of_tiny_and_huge_parameters_are_neither_0_nor_infinite():
    params = {"tiny": np.full(5, 1e-200), "huge": np.full(5, 1e200)}
    along = _points.direction(params, np.random.default_rng(0))
    for name, leaf in params.items():
        assert np.isfinite(along[name]).all()
        assert (np.abs(along[name]) > 1e-6 * leaf).all()
