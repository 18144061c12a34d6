"""The Taylor test, and its picture."""

from io import BytesIO

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from jaxmlp.checking.taylor import taylor_test
from jaxmlp.plots.taylor import taylor_plot

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def f(w):
    return jnp.sum(jnp.exp(w) * w)


def gradient(w):
    return jnp.exp(w) * (1 + w)


W = jnp.array([1.0, 2.0, -0.5])


def has(png, color):
    image = imread(BytesIO(png))[:, :, :3]
    return bool((abs(image - to_rgb(color)).max(-1) < 0.02).any())


def test_the_remainder_of_a_right_gradient_falls_as_the_square_of_the_step():
    test = taylor_test(f, gradient, W)
    assert test.slope == pytest.approx(2, abs=0.02)
    assert test.true_remainder is None
    assert not has(taylor_plot(test), "C3")
    assert has(taylor_plot(test), "C0")


@pytest.mark.parametrize("fault", [0.5, 1e-3, 1e-6])
def test_a_wrong_element_is_in_the_direction_that_is_drawn(fault):
    test = taylor_test(f, lambda w: gradient(w).at[1].multiply(1 + fault), W)
    assert test.slope < 1.5
    # Beside it the slope that f has, which falls faster.
    assert test.true_remainder[6] < test.remainder[6]
    assert has(taylor_plot(test), "C3")
    assert has(taylor_plot(test), "C0")


def test_without_autodiff_the_true_slope_is_that_of_differences():
    def on_host(w):
        return float(np.sum(np.sin(np.asarray(w))))

    right = taylor_test(on_host, lambda w: np.cos(np.asarray(w)), W)
    wrong = taylor_test(on_host, lambda w: -np.cos(np.asarray(w)), W)
    assert (right.slope, right.true_remainder) == (pytest.approx(2, abs=0.02), None)
    assert wrong.slope == pytest.approx(1, abs=0.02)
    assert wrong.true_remainder is not None


def test_a_linear_function_has_no_slope_and_a_picture():
    test = taylor_test(jnp.sum, jnp.ones_like, W)
    assert np.isnan(test.slope)
    assert taylor_plot(test)[1:4] == b"PNG"


def test_a_gradient_that_is_not_finite_has_a_picture():
    assert taylor_plot(taylor_test(f, lambda w: w * jnp.nan, W))[1:4] == b"PNG"


def test_the_title_is_drawn():
    test = taylor_test(f, gradient, W)
    assert taylor_plot(test, "a title with $ and _") != taylor_plot(test)
