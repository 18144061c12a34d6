import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.checking import _decision, _differences, _functions, _points, _survey, check_gradient

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

W = {"w": np.random.default_rng(0).normal(size=(4, 3)), "b": np.array([0.5, -1.0, 2.0])}
X = np.random.default_rng(1).normal(size=(5, 4))


def loss(at):
    return jnp.sum(jnp.tanh(X @ at["w"] + at["b"]) ** 2)


def convolution(at):
    return jnp.sum(jnp.convolve(at["w"].ravel(), at["b"]) ** 2)


def surveyed(f, directions=2):
    params = jax.tree.map(jnp.asarray, W)
    wide, given = _functions.widened("f", f, params), _functions.widened("gradient", jax.grad(f), params)
    drawn = _points.draws(W, directions, 0)
    points = [params, *_points.points(W, jax.tree.map(_points.size, W), drawn).values()]
    return wide, points, drawn.directions, _survey.surveyor(wide, f, given)(points, drawn.directions)


@pytest.mark.parametrize("at_most", [1, 300, 2**26], ids=["one by one", "some side by side", "all side by side"])
@pytest.mark.parametrize("f", [loss, convolution])
def test_a_survey_returns_what_the_functions_return_one_by_one(f, at_most, x64, monkeypatch):
    monkeypatch.setattr(_survey, "SIDE_BY_SIDE", at_most)
    wide, points, directions, found = surveyed(f)
    for look, point in zip(found, points, strict=True):
        np.testing.assert_allclose(look.value, wide.plain(point), rtol=1e-13)
        for given, expected, truth in zip(look.given, look.expected, jax.tree.leaves(jax.grad(f)(point)), strict=True):
            np.testing.assert_allclose(given, truth, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(expected, truth, rtol=1e-10, atol=1e-13)
    # All directions go through the first point, the first one through each other.
    rays = [(0, direction) for direction in directions] + [(i, directions[0]) for i in range(1, len(points))]
    lines = [line for look in found for line in look.lines]
    for (i, direction), line in zip(rays, lines, strict=True):
        np.testing.assert_array_equal(line.which, _differences.STAGES[0])
        for h, ahead, behind in zip(line.h, line.ahead, line.behind, strict=True):
            np.testing.assert_allclose(ahead, f(_functions.moved(points[i], direction, h)), rtol=1e-13)
            np.testing.assert_allclose(behind, f(_functions.moved(points[i], direction, -h)), rtol=1e-13)


def test_functions_that_cannot_be_batched_are_checked_one_by_one():
    def cubes(w):
        shape = jax.ShapeDtypeStruct(w.shape, w.dtype)
        return jax.pure_callback(lambda w: np.asarray(w) ** 3, shape, w)  # it may not be batched

    w = jnp.array([0.5, -2.0, 3.0])
    assert check_gradient(lambda w: cubes(w).sum(), lambda w: 3 * w**2, w)
    assert check_gradient(lambda w: (w**3).sum(), lambda w: cubes(w) - w**3 + 3 * w**2, w)
    assert (
        check_gradient(lambda w: (w**3).sum(), lambda w: cubes(w) - w**3 + 2 * w**2, w, explain=False).verdict
        == "wrong"
    )


def test_gradients_that_agree_are_found_right_by_compare(x64):
    rng = np.random.default_rng(2)
    _, _, _, found = surveyed(loss)
    epsilons = [2.0**-52] * 2
    agreed = 0
    for _ in range(200):
        size = 10.0 ** rng.uniform(-17, -11)
        expected = [leaf * 10.0 ** rng.integers(-3, 3, leaf.shape) for leaf in found[0].expected]
        given = [leaf + size * rng.normal(size=leaf.shape) for leaf in expected]
        if _decision.agree(given, expected, epsilons):
            agreed += 1
            assert _decision.compare(given, expected, epsilons).is_right
    assert 20 < agreed < 180
    nothing = [np.zeros((0, 3)), np.zeros(0)]
    assert _decision.agree(nothing, nothing, epsilons)
    bad = [np.full_like(leaf, np.nan) for leaf in found[0].expected]
    assert not _decision.agree(bad, found[0].expected, epsilons)
