"""The Taylor test, and its picture."""

from io import BytesIO

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from jaxmlp.checking.taylor import taylor_test
from jaxmlp.plots.taylor import draw_taylor, taylor_plot

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def f(w):
    return jnp.sum(jnp.exp(w) * w)


def gradient(w):
    return jnp.exp(w) * (1 + w)


W = jnp.array([1.0, 2.0, -0.5])


def lines(figure):
    return {line.get_label().partition(":")[0]: line for line in figure.axes[0].get_lines()}


def slope(line):
    """Return the power of h along which a line falls."""
    h, value = line.get_xydata()[:4].T
    return np.polyfit(np.log(h), np.log(value), 1)[0]


def test_the_remainder_of_a_right_gradient_falls_as_the_square_of_the_step():
    test = taylor_test(f, gradient, W)
    assert test.slope == pytest.approx(2, abs=0.02)
    assert test.true_remainder is None
    drawn = lines(draw_taylor(test))
    assert set(drawn) == {"$h^1$", "$h^2$", "this gradient"}
    np.testing.assert_array_equal(drawn["this gradient"].get_xydata(), np.stack([test.h, test.remainder], 1))
    assert drawn["this gradient"].get_color() == "C0"
    assert slope(drawn["$h^1$"]) == pytest.approx(1)
    assert slope(drawn["$h^2$"]) == pytest.approx(2)


@pytest.mark.parametrize("fault", [0.5, 1e-3, 1e-6])
def test_a_wrong_element_is_in_the_direction_that_is_drawn(fault):
    test = taylor_test(f, lambda w: gradient(w).at[1].multiply(1 + fault), W)
    assert test.slope < 1.5
    # The true slope's remainder falls faster.
    assert test.true_remainder[6] < test.remainder[6]
    drawn = lines(draw_taylor(test))
    for label, remainder, color in (
        ("this gradient", test.remainder, "C3"),
        ("the true slope of f", test.true_remainder, "C0"),
    ):
        np.testing.assert_array_equal(drawn[label].get_ydata(), np.where(remainder > 0, remainder, np.nan))
        assert drawn[label].get_color() == color


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
    assert "nan" not in "".join(line.get_label() for line in draw_taylor(test).axes[0].get_lines())
    assert taylor_plot(test)[1:4] == b"PNG"


def test_a_gradient_that_is_not_finite_has_a_picture():
    assert taylor_plot(taylor_test(f, lambda w: w * jnp.nan, W))[1:4] == b"PNG"


def test_axes_are_logarithmic_with_small_steps_right_and_rounding_grey():
    test = taylor_test(f, gradient, W)
    (axes,) = draw_taylor(test).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    (rounding,) = axes.collections
    hidden = rounding.get_paths()[0].vertices
    assert hidden[:, 1].max() == test.rounding.max()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["$h^1$", "$h^2$", f"this gradient: $h^{{{test.slope:.2f}}}$", "rounding"]


def test_the_file_shows_the_figure_with_its_title_verbatim():
    test = taylor_test(f, lambda w: 2 * gradient(w), W)
    picture = taylor_plot(test, "a title with $ and _")
    pixels = imread(BytesIO(picture))[:, :, :3]
    for color in ("C0", "C3", "0.6", "0.92"):
        assert (abs(pixels - to_rgb(color)).max(-1) < 0.02).any(), color
    assert picture != taylor_plot(test)
