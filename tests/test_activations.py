"""Every activation of the table against closed forms, autodiff in float64, and mpmath far into the tails."""

from collections.abc import Iterator
from functools import cache, partial
from math import e, pi, sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from mpmath import mp
from scipy.integrate import quad

from jaxmlp.activations import ACTIVATIONS, Activation, elementwise, softmax_terms

NAMES = list(ACTIVATIONS)
ELEMENTWISE = [name for name in NAMES if ACTIVATIONS[name].derivative is not None]
DTYPES = ["float32", "float64", "bfloat16"]
EPS = float(np.finfo(np.float64).eps)

# How far z may saturate before exp(-margin) is no normal number of the type: exp(-87.3) and exp(-708.4).
MARGIN = {"float32": 85.0, "float64": 700.0}

# phi as the literature writes it, in NumPy and SciPy.
CLOSED_FORMS = {
    "identity": lambda z: z,
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.maximum(z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "silu": lambda z: z * scipy.special.expit(z),
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))),
    "gelu_exact": lambda z: z * scipy.special.ndtr(z),
    "exp": np.exp,
    "softmax": scipy.special.softmax,
}

# The same with as many digits as mpmath is set to; softmax, which mixes its inputs, has its own tests below.
_SIGMA = {
    "sigmoid": lambda z: 1 / (1 + mp.exp(-z)),
    "gelu": lambda z: 1 / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3))),
}
EXACT = {
    "identity": lambda z: z,
    "sigmoid": _SIGMA["sigmoid"],
    "tanh": mp.tanh,
    "relu": lambda z: max(z, mp.mpf(0)),
    "leaky_relu": lambda z: z if z >= 0 else z * mp.mpf("0.01"),
    "elu": lambda z: z if z > 0 else mp.expm1(z),
    "softplus": lambda z: mp.log1p(mp.exp(z)),
    "silu": lambda z: z * _SIGMA["sigmoid"](z),
    "gelu": lambda z: z * _SIGMA["gelu"](z),
    "gelu_exact": lambda z: z * mp.erfc(-z / mp.sqrt(2)) / 2,
}
EXACT_DERIVATIVES = {
    "identity": lambda z: mp.mpf(1),
    "sigmoid": lambda z: mp.exp(-z) / (1 + mp.exp(-z)) ** 2,
    "tanh": lambda z: mp.sech(z) ** 2,
    "relu": lambda z: mp.mpf(z > 0),
    "leaky_relu": lambda z: mp.mpf(1) if z >= 0 else mp.mpf("0.01"),
    "elu": lambda z: mp.exp(min(z, mp.mpf(0))),
    "softplus": _SIGMA["sigmoid"],
    "silu": lambda z: _SIGMA["sigmoid"](z) * (1 + z * _SIGMA["sigmoid"](-z)),
    "gelu": lambda z: (
        _SIGMA["gelu"](z) * (1 + z * 2 * mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * z**2) * _SIGMA["gelu"](-z))
    ),
    "gelu_exact": lambda z: mp.erfc(-z / mp.sqrt(2)) / 2 + z * mp.exp(-(z**2) / 2) / mp.sqrt(2 * mp.pi),
}


def _gelu_argument_and_its_derivatives(z) -> tuple:
    c = mp.mpf("0.044715")
    return tuple(2 * mp.sqrt(2 / mp.pi) * u for u in (z + c * z**3, 1 + 3 * c * z**2, 6 * c * z))


def _second_derivative_terms_of_gelu(z) -> tuple:
    u, slope, bend = _gelu_argument_and_its_derivatives(z)
    first, second = EXACT_DERIVATIVES["sigmoid"](u), -EXACT_DERIVATIVES["sigmoid"](u) * mp.tanh(u / 2)
    return 2 * slope * first, z * bend * first, z * slope**2 * second


# phi'' as a sum of terms: rounding is relative to these.
EXACT_SECOND_DERIVATIVE_TERMS = {
    "identity": lambda z: (mp.mpf(0),),
    "sigmoid": lambda z: (-EXACT_DERIVATIVES["sigmoid"](z) * mp.tanh(z / 2),),
    "tanh": lambda z: (-2 * mp.tanh(z) * mp.sech(z) ** 2,),
    "relu": lambda z: (mp.mpf(0),),
    "leaky_relu": lambda z: (mp.mpf(0),),
    "elu": lambda z: (mp.mpf(0) if z > 0 else mp.exp(z),),
    "softplus": lambda z: (EXACT_DERIVATIVES["sigmoid"](z),),
    "silu": lambda z: (2 * EXACT_DERIVATIVES["sigmoid"](z), -z * EXACT_DERIVATIVES["sigmoid"](z) * mp.tanh(z / 2)),
    "gelu": _second_derivative_terms_of_gelu,
    "gelu_exact": lambda z: tuple(term * mp.exp(-(z**2) / 2) / mp.sqrt(2 * mp.pi) for term in (2, -(z**2))),
}


def test_every_activation_of_the_table_has_a_closed_form_here():
    assert set(CLOSED_FORMS) == set(NAMES)
    assert set(EXACT) == set(EXACT_DERIVATIVES) == set(EXACT_SECOND_DERIVATIVE_TERMS) == set(ELEMENTWISE)


def points(seed: int = 0) -> np.ndarray:
    """Values of z from the middle to far out, none of them 0."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=200), rng.uniform(-40, 40, 200), [-1e-9, 1e-9, -300.0, 300.0]])


WITHOUT_OPTIMISATION = {"xla_backend_optimization_level": 0}  # compiles twice as fast


class Values(NamedTuple):
    """phi, phi' and phi'', the latter two beside what autodiff makes of phi and of phi'; None for softmax."""

    phi: jax.Array
    derivative: jax.Array | None
    slope: jax.Array | None
    second_derivative: jax.Array | None
    bend: jax.Array | None


def all_of(activation: Activation, z: jax.Array) -> Values:
    phi, derivative, second_derivative = activation.phi, activation.derivative, activation.second_derivative
    if derivative is None:
        return Values(phi(z), None, None, None, None)
    slope, bend = (jax.vmap(jax.grad(f))(z) for f in (phi, derivative))
    return Values(phi(z), derivative(z), slope, second_derivative(z), bend)


@cache
def values_and_slopes(at_zero: bool) -> dict[str, Values]:
    """Everything of one variable, of every activation: compiled together, to save time."""
    z = jnp.array([0.0, -0.0]) if at_zero else jnp.asarray(points())

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def of_all(z):
        return {name: all_of(activation, z) for name, activation in ACTIVATIONS.items()}

    return of_all(z)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_phi_is_the_closed_form(name):
    z = points()
    y = values_and_slopes(at_zero=False)[name].phi
    # Either side rounds up to ten times, at the size of the largest term, 1, |z| or |y|. (That small values are right
    # to all of their own digits is `test_phi_and_derivative_hold_their_digits_in_both_tails`.)
    assert np.all(np.abs(y - CLOSED_FORMS[name](z)) <= 10 * EPS * np.maximum(np.maximum(1, np.abs(z)), np.abs(y)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivative_matches_autodiff(name):
    values = values_and_slopes(at_zero=False)[name]
    # No derivative and no term of one is larger than 2, and neither side rounds more than 16 times.
    np.testing.assert_allclose(values.derivative, values.slope, rtol=0, atol=16 * EPS)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivative_at_zero_matches_autodiff_of_phi(name):
    values = values_and_slopes(at_zero=True)[name]
    np.testing.assert_array_equal(values.derivative, values.slope)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("at_zero", [False, True], ids=["everywhere", "at zero"])
def test_second_derivative_is_autodiff_of_the_derivative(name, at_zero):
    values = values_and_slopes(at_zero)[name]
    # As above: no term is larger than 2. At zero, a kink has the second derivative of its left side on both sides.
    np.testing.assert_allclose(values.second_derivative, values.bend, rtol=0, atol=16 * EPS)


@pytest.mark.parametrize(
    ("name", "peer", "slope"),
    [("relu", jax.nn.relu, 0.0), ("leaky_relu", jax.nn.leaky_relu, 1.0), ("elu", jax.nn.elu, 1.0)],
)
def test_derivative_at_the_kink_matches_jax_nn(name, peer, slope):
    at_zero = float(ACTIVATIONS[name].derivative(jnp.asarray(0.0)))
    assert at_zero == float(jax.grad(peer)(0.0)) == slope


def rows_of_z(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    some = rng.normal(size=n)
    tied = some.copy()
    tied[: max(2, n // 2)] = some.max()
    return {
        "random": some,
        "wide": 30 * some,
        "two or more at the maximum": tied,
        "two or more below the maximum": -tied,
        "all equal": np.full(n, 1.7),
        "zero": np.zeros(n),
    }


@cache
def jacobian_products(n: int) -> dict:
    """J(z)^T g of every activation, ours and autodiff's, for many z and g: compiled together, to save time."""
    z = jnp.asarray(np.stack(list(rows_of_z(n).values())))
    g = jnp.asarray(np.concatenate([np.eye(n), np.random.default_rng(1).normal(size=(3, n))]))

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def products(z, g):
        def by_autodiff(name, z, g):
            return jax.vjp(ACTIVATIONS[name].phi, z)[1](g)[0]

        def of_all(f):
            return jax.vmap(jax.vmap(f, (None, 0)), (0, None))(z, g)

        return {
            name: (of_all(ACTIVATIONS[name].pullback), of_all(lambda z, g, name=name: by_autodiff(name, z, g)))
            for name in NAMES
        }

    return products(z, g)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_pullback_is_the_product_with_the_transposed_jacobian(name, n):
    ours, theirs = jacobian_products(n)[name]
    # A product of |g| <= 3 with a row of the Jacobian, of size 1, with up to 16 roundings on either side; of exp, whose
    # derivative has any size, with 4.
    np.testing.assert_allclose(ours, theirs, rtol=4 * EPS if name == "exp" else 0, atol=48 * EPS)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("which", list(rows_of_z(5)))
def test_pullback_of_softmax_is_diag_y_minus_y_outer_y(which):
    z = rows_of_z(5)
    y = scipy.special.softmax(z[which])
    ours, _ = jacobian_products(5)["softmax"]
    rows = ours[list(z).index(which), :5]
    np.testing.assert_allclose(rows, np.diag(y) - np.outer(y, y), rtol=0, atol=16 * EPS)  # entries below 1


@cache
def changes_of_pullbacks(n: int) -> dict:
    """The change of J(z)^T g of every activation, ours and autodiff's of phi alone, for many z, g, dz and dg."""
    z = np.stack(list(rows_of_z(n).values())).repeat(4, axis=0)
    g, dz, dg = (jnp.asarray(draw) for draw in np.random.default_rng(4).uniform(-2, 2, (3, *z.shape)))

    def by_autodiff(name, z, g, dz, dg):
        return jax.jvp(lambda z, g: jax.vjp(ACTIVATIONS[name].phi, z)[1](g)[0], (z, g), (dz, dg))[1]

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def changes(*rows):
        return {
            name: (jax.vmap(ACTIVATIONS[name].pullback_change)(*rows), jax.vmap(partial(by_autodiff, name))(*rows))
            for name in NAMES
        }

    return changes(jnp.asarray(z), g, dz, dg)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_pullback_change_is_autodiff_of_the_product_with_the_transposed_jacobian(name, n):
    ours, theirs = changes_of_pullbacks(n)[name]
    # Terms g dz phi'', at most 4 times a second derivative of 2 at most, with up to 32 roundings on either side. Of exp
    # the terms have any size: they are held to |y| times the same.
    size = np.exp(np.stack(list(rows_of_z(n).values())).repeat(4, axis=0)) if name == "exp" else 1
    assert np.all(np.abs(ours - theirs) <= 256 * EPS * np.maximum(size, 1))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gain_restores_the_size_of_a_standard_normal_signal(name):
    def density(z):
        return float(CLOSED_FORMS[name](np.float64(z))) ** 2 * np.exp(-(z**2) / 2) / sqrt(2 * pi)

    # In two halves, because of the kinks at 0; what lies beyond 40 standard deviations is below 1e-300.
    (left, _), (right, _) = quad(density, -40, 0, epsabs=1e-13), quad(density, 0, 40, epsabs=1e-13)
    gain = ACTIVATIONS[name].gain
    decimals = len(repr(gain).partition(".")[2])
    # Half a unit of the last decimal given, and the integral's own error where all 16 are.
    assert abs(gain - 1 / sqrt(left + right)) <= 0.5 * 10.0**-decimals + 1e-12


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gain_that_is_not_given_is_integrated(name):
    # phi in float32, and steps of 1e-3 around a kink: both are off by some 1e-7.
    given = ACTIVATIONS[name]
    assert elementwise(given.phi, given.derivative).gain == pytest.approx(given.gain, rel=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_second_derivative_and_error_that_are_not_given_follow_from_the_others(name):
    given, z = ACTIVATIONS[name], jnp.asarray(points())
    made = elementwise(given.phi, given.derivative)
    np.testing.assert_allclose(made.second_derivative(z), given.second_derivative(z), rtol=0, atol=16 * EPS)  # as above
    rows = [jnp.asarray(draw) for draw in np.random.default_rng(4).uniform(-2, 2, (3, len(z)))]
    expected = given.pullback_change(z, *rows)
    np.testing.assert_allclose(made.pullback_change(z, *rows), expected, rtol=0, atol=256 * EPS)
    np.testing.assert_array_equal(made.error(z, rows[0]), given.phi(z) - rows[0])


def test_gain_of_an_activation_that_is_only_an_output_is_one():
    only_outputs = [name for name, activation in ACTIVATIONS.items() if activation.derivative is None]
    assert {name: ACTIVATIONS[name].gain for name in only_outputs} == {"exp": 1, "softmax": 1}


def far_out_z(dtype: str) -> np.ndarray:
    magnitudes = np.concatenate([[0.0], np.geomspace(1e-30, 1e4, 80)])
    return np.asarray(jnp.asarray(np.concatenate([-magnitudes, magnitudes]), dtype))


@cache
def far_out(dtype: str) -> dict:
    """All that is computed from z, and what autodiff makes of it, for |z| up to 10,000."""
    z = jnp.asarray(far_out_z(dtype))

    @partial(jax.jit, compiler_options=WITHOUT_OPTIMISATION)
    def results(z):
        ones = jnp.ones_like(z)
        found = {}
        for name, activation in ACTIVATIONS.items():
            found[name] = {
                "phi": activation.phi(z),
                "pullback": activation.pullback(z, ones),
                "pullback_change": activation.pullback_change(z, ones, ones, ones),
                "error": activation.error(z, ones),
                "autodiff": jax.vjp(activation.phi, z)[1](ones)[0],
                "autodiff of pullback": jax.vjp(activation.pullback, z, ones)[1](ones)[0],
            }
            if activation.derivative:
                found[name]["derivative"] = activation.derivative(z)
                found[name]["second_derivative"] = activation.second_derivative(z)
        return found

    return results(z)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_everything_is_finite_and_of_the_same_type_up_to_ten_thousand(name, dtype):
    for what, result in far_out(dtype)[name].items():
        assert result.dtype == dtype, what
        # exp leaves the type's numbers, and must not do so before.
        rows = far_out_z(dtype) < 0.99 * np.log(float(jnp.finfo(dtype).max)) if name == "exp" else slice(None)
        assert np.isfinite(np.asarray(result, np.float64)[rows]).all(), what


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("gelu")])
def test_derivatives_of_gelu_are_constant_where_z_cubed_overflows(name):
    z = jnp.array([-1e35, -1e20, -100.0, 100.0, 1e20, 1e35], jnp.float32)
    np.testing.assert_array_equal(ACTIVATIONS[name].derivative(z), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(ACTIVATIONS[name].second_derivative(z), 0)


# ----- tails, against mpmath -----


def exact(numbers: np.ndarray) -> list:
    """Floats, which are binary fractions, as mpmath's numbers: exactly."""
    return [mp.mpf(float(number)) for number in np.asarray(numbers, np.float64)]


def assert_close(computed, truth: list, allowed: list) -> None:
    """Hold every |computed - truth| to allowed * |truth|, and say where it is worst."""
    excess = [
        abs(c - t) / (abs(t) * mp.mpf(float(a))) if t else (mp.mpf(0) if c == 0 else mp.inf)
        for c, t, a in zip(exact(computed), truth, allowed, strict=True)
    ]
    worst = int(np.argmax([float(x) for x in excess]))
    assert excess[worst] <= 1, f"{float(excess[worst]):.2f} times the bound, at point {worst}"


@pytest.fixture
def digits(dtype: str) -> Iterator[None]:
    """Let mpmath see what is left of 1 in 1 - exp(-margin), and 20 digits of it."""
    with mp.workdps({"float32": 60, "float64": 330}[dtype]):
        yield


GATED = ("silu", "gelu", "gelu_exact")  # phi = z * gate(z)

# The largest |z| at which neither phi', nor what it is made of, leaves the normal numbers: from z (silu, elu,
# softplus), 2z (tanh), 2u = 1.6 (z + 0.045 z^3) (gelu), and z^2/2 + log(4 z) (gelu_exact).
REACH = {
    "float32": {"tanh": 42.5, "gelu": 9.9, "gelu_exact": 12.7},
    "float64": {"tanh": 350.0, "gelu": 21.0, "gelu_exact": 37.0},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", MARGIN)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_phi_and_derivative_hold_their_digits_in_both_tails(name, dtype):
    eps = float(jnp.finfo(dtype).eps)
    reach = REACH[dtype].get(name, MARGIN[dtype])
    rng = np.random.default_rng(0)
    z = np.concatenate([np.linspace(-reach, reach, 81), rng.normal(size=60), [-1e-6, 1e-6]]).astype(dtype)
    z = z[z != 0]  # kinks: tested above
    phi, derivative = EXACT[name], EXACT_DERIVATIVES[name]
    with mp.workdps(60):
        exact_z = exact(z)
        values, slopes = [phi(x) for x in exact_z], [derivative(x) for x in exact_z]
        step = mp.mpf(10) ** -20
        bends = [(derivative(x + step) - derivative(x - step)) / (2 * step) for x in exact_z]
        # z phi'/phi and z phi''/phi' are the condition numbers: by so much a z that is off by 1 eps (as it is
        # after the first rounding inside of phi) is magnified. The other 8 are of the roundings that follow; they
        # are relative to the terms phi/z and z (phi/z)' of phi', which cancel near phi' = 0.
        of_phi, of_derivative = [], []
        for x, value, slope, bend in zip(exact_z, values, slopes, bends, strict=True):
            terms = abs(value / x) + abs(slope - value / x) if name in GATED else abs(slope)
            of_phi.append((8 + abs(x * slope / value)) * eps if value else eps)
            of_derivative.append((8 * terms + abs(x * bend)) / abs(slope) * eps if slope else eps)
        assert_close(ACTIVATIONS[name].phi(jnp.asarray(z)), values, of_phi)
        assert_close(ACTIVATIONS[name].derivative(jnp.asarray(z)), slopes, of_derivative)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", MARGIN)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_second_derivative_holds_its_digits_in_both_tails(name, dtype):
    eps = float(jnp.finfo(dtype).eps)
    reach = REACH[dtype].get(name, MARGIN[dtype])
    rng = np.random.default_rng(0)
    z = np.concatenate([np.linspace(-reach, reach, 41), rng.normal(size=30), [-1e-6, 1e-6]]).astype(dtype)
    z = z[z != 0]  # kinks: tested above
    terms_of = EXACT_SECOND_DERIVATIVE_TERMS[name]
    with mp.workdps(60):
        bends, allowed, step = [], [], mp.mpf(10) ** -20
        for x in exact(z):
            terms = terms_of(x)
            third = (mp.fsum(terms_of(x + step)) - mp.fsum(terms_of(x - step))) / (2 * step)
            bends.append(mp.fsum(terms))
            # As for the derivative: 8 roundings of the terms, and one of z, magnified by its condition number.
            rounding = 8 * mp.fsum(map(abs, terms)) + abs(x * third)
            allowed.append(rounding / abs(bends[-1]) * eps if bends[-1] else 0)
        assert_close(ACTIVATIONS[name].second_derivative(jnp.asarray(z)), bends, allowed)


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_derivative_of_a_saturated_output_is_right_to_eight_units(name, dtype):
    z = np.linspace(0, MARGIN[dtype] / (2 if name == "tanh" else 1), 80).astype(dtype)
    z = np.concatenate([-z, z])
    truth = [EXACT_DERIVATIVES[name](x) for x in exact(z)]
    assert_close(ACTIVATIONS[name].derivative(jnp.asarray(z)), truth, [8 * jnp.finfo(dtype).eps] * len(z))


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
@pytest.mark.parametrize(("name", "low"), [("sigmoid", 0), ("tanh", -1)])
def test_error_of_a_saturated_output_is_right_to_eight_units(name, low, dtype):
    z = np.linspace(0, MARGIN[dtype] / (2 if name == "tanh" else 1), 80).astype(dtype)
    z = np.concatenate([-z, z])
    for t in (low, 1):  # on the saturated side and on the other
        truth = [EXACT[name](x) - t for x in exact(z)]
        errors = ACTIVATIONS[name].error(jnp.asarray(z), jnp.full_like(z, t))
        assert_close(errors, truth, [8 * jnp.finfo(dtype).eps] * len(z))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_error_is_phi_minus_t(name):
    rng = np.random.default_rng(2)
    z = jnp.asarray(np.concatenate([3 * rng.normal(size=60), np.zeros(4)]))
    t = jnp.asarray(np.concatenate([rng.uniform(-1, 2, 32), rng.integers(0, 2, 32)]))
    y = CLOSED_FORMS[name](np.asarray(z))
    # |z| <= 10, and |y| is not much larger, but for exp.
    assert np.all(np.abs(ACTIVATIONS[name].error(z, t) - (y - np.asarray(t))) <= 10 * EPS * np.maximum(10, np.abs(y)))


def softmax_rows(dtype: str) -> np.ndarray:
    """Rows of 6 classes with every margin from 0 to the type's, exact and rounded, with and without ties."""
    rng = np.random.default_rng(3)
    margins = np.linspace(0, MARGIN[dtype], 24)
    lone = np.stack([margins] + [np.zeros_like(margins)] * 5, axis=1)
    mixed = -margins[:, None] * rng.uniform(0, 1, (24, 6))
    mixed[:, 0] = 0
    mixed += rng.normal(size=(24, 1)) * 10
    tied = mixed.copy()
    tied[:, 1] = tied[:, 0]
    return np.concatenate([lone, mixed, tied]).astype(dtype)


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
def test_softmax_terms_and_error_are_right_to_eight_units_at_every_margin(dtype):
    eps = float(jnp.finfo(dtype).eps)
    z = softmax_rows(dtype)
    y, one_minus_y, minus_log_y, is_max = jax.vmap(softmax_terms)(jnp.asarray(z))
    labels = jax.nn.one_hot(jnp.argmax(z, 1), z.shape[1], dtype=dtype)
    errors = jax.vmap(ACTIVATIONS["softmax"].error)(jnp.asarray(z), labels)
    results = [np.asarray(array) for array in (y, one_minus_y, minus_log_y, is_max, errors, labels)]
    assert {array.dtype.name for array in results} == {dtype}
    y, one_minus_y, minus_log_y, is_max, errors, labels = results
    for row, numbers in enumerate(z):
        exact_z = exact(numbers)
        total = mp.fsum(mp.exp(x) for x in exact_z)
        truth = [mp.exp(x) / total for x in exact_z]
        # z_i - max z is itself rounded, by half a unit of it, which exp turns into a relative error. Of a sum of
        # exponentials the same holds with the largest difference.
        spread = float(numbers.max() - numbers.min())
        allowed = [(8 + spread / 2) * eps] * len(truth)
        assert_close(y[row], truth, allowed)
        assert_close(one_minus_y[row], [1 - p for p in truth], allowed)
        assert_close(minus_log_y[row], [-mp.log(p) for p in truth], allowed)
        assert_close(errors[row], [p - mp.mpf(float(t)) for p, t in zip(truth, labels[row], strict=True)], allowed)
    np.testing.assert_array_equal(is_max, z == z.max(1, keepdims=True))


@pytest.mark.usefixtures("x64", "digits")
@pytest.mark.parametrize("dtype", MARGIN)
def test_softmax_of_two_exact_margins_is_right_to_eight_units(dtype):
    # z_2 = 0: no difference is rounded, so nothing is allowed for it.
    margins = np.linspace(0, MARGIN[dtype], 80).astype(dtype)
    for sign in (1, -1):
        z = np.stack([sign * margins, np.zeros_like(margins)], axis=1)
        y, one_minus_y, minus_log_y, _ = jax.vmap(softmax_terms)(jnp.asarray(z))
        truth = [1 / (1 + mp.exp(-sign * x)) for x in exact(margins)]
        allowed = [8 * jnp.finfo(dtype).eps] * len(margins)
        assert_close(y[:, 0], truth, allowed)
        assert_close(one_minus_y[:, 0], [1 - p for p in truth], allowed)
        assert_close(minus_log_y[:, 0], [-mp.log(p) for p in truth], allowed)


def test_softmax_terms_do_not_change_when_a_power_of_two_is_added_to_all():
    z = jnp.array([1.0, 2.0, -3.0, 2.0])
    for ours, shifted in zip(softmax_terms(z), softmax_terms(z + 1024.0), strict=True):
        np.testing.assert_array_equal(ours, shifted)


def test_softmax_of_one_lone_output_is_certain():
    y, one_minus_y, minus_log_y, is_max = softmax_terms(jnp.array([-3.0]))
    assert (y[0], one_minus_y[0], minus_log_y[0], is_max[0]) == (1, 0, 0, 1)


def test_sigma_of_one_is_known():
    assert float(ACTIVATIONS["sigmoid"].phi(jnp.asarray(1.0))) == pytest.approx(e / (1 + e), rel=2.0**-23)


@pytest.mark.parametrize("z", [43.0, -43.9])
def test_tanh_derivative_is_exact_until_it_underflows_itself(z):
    # exp(-2|z|) underflows before 4 exp(-2|z|) does; 8 units in the last place, as everywhere in the tails.
    exact = mp.sech(mp.mpf(float(np.float32(z)))) ** 2
    assert abs(float(ACTIVATIONS["tanh"].derivative(jnp.float32(z))) / float(exact) - 1) <= 8 * 2.0**-23


@pytest.mark.parametrize("phi", [jnp.zeros_like, jnp.log, lambda z: jnp.exp(z * z)], ids=["zero", "nan", "infinite"])
def test_an_activation_whose_gain_would_make_weights_zero_or_infinite_is_refused(phi):
    with pytest.raises(ValueError, match=r"^phi\^2 must have a positive, finite mean .*: pass gain$"):
        elementwise(phi, jax.grad(lambda z: phi(z).sum()))
    assert elementwise(phi, jax.grad(lambda z: phi(z).sum()), gain=2.0).gain == 2.0
