"""The picture of a training run: what its lines show, what marks them, and that they reach the file."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from jaxmlp.plots.training import curves, draw_curves
from jaxmlp.training.history import Epoch, Trained

# The label of an axis and of a line, and the column that they promise.
SHOWN = {
    ("loss", "training"): "train_loss",
    ("loss", "validation"): "validation_loss",
    ("validation accuracy", "validation"): "validation_accuracy",
    ("validation $R^2$", "validation"): "validation_r2",
    ("gradient norm of an example", "10 %"): "norm_q10",
    ("gradient norm of an example", "median"): "norm_median",
    ("gradient norm of an example", "90 %"): "norm_q90",
    ("gradient norm of an example", "largest"): "norm_max",
    ("noise scale in examples", "noise scale"): "noise_scale",
    ("variance of the gradient", "variance"): "gradient_variance",
    ("gradient diversity", "diversity"): "diversity",
    ("share of examples clipped", "clipped"): "share_clipped",
    ("largest eigenvalue", "eigenvalue"): "top_eigenvalue",
}
NOT_DRAWN = {"epoch", "learning_rate", "seconds"}
COLUMNS = [name for name in Epoch._fields if name not in NOT_DRAWN]


def row(epoch, **columns):
    return Epoch(**dict.fromkeys(COLUMNS) | {"epoch": epoch, "learning_rate": 0.1, "seconds": 1.0} | columns)


def every_column(n_epochs):
    """Return a history in which no two columns are equal."""
    rng = np.random.default_rng(0)
    return [
        row(n, **dict(zip(COLUMNS, rng.uniform(0.1, 1, len(COLUMNS)), strict=True))) for n in range(1, n_epochs + 1)
    ]


def panels(figure):
    return [axes for axes in figure.axes if axes.axison]


def lines(figure):
    """Return the points of every line by the labels of its axis and of itself."""
    return {
        (axes.get_ylabel(), line.get_label()): line.get_xydata()
        for axes in panels(figure)
        for line in axes.get_lines()
        if line.get_label() != "kept"
    }


def test_every_column_of_history_is_drawn_under_its_own_name_and_no_other():
    history = every_column(5)
    drawn = lines(draw_curves(history))
    assert {SHOWN[labels] for labels in drawn} == set(COLUMNS)
    for labels, points in drawn.items():
        expected = [(one.epoch, getattr(one, SHOWN[labels])) for one in history]
        np.testing.assert_array_equal(points, expected, err_msg=str(labels))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_was_recorded_has_a_panel_beside_the_loss(column):
    history = [row(n, **{"train_loss": 1.0, column: 0.25 * n}) for n in (1, 2)]
    figure = draw_curves(history)
    label = next(labels for labels, name in SHOWN.items() if name == column)
    assert label in lines(figure)
    assert [axes.get_ylabel() for axes in panels(figure)] == list(dict.fromkeys(["loss", label[0]]))


def test_lines_of_one_panel_have_colours_of_their_own_and_a_legend_that_names_them():
    for axes in panels(draw_curves(every_column(5))):
        drawn = axes.get_lines()
        assert len({line.get_color() for line in drawn}) == len(drawn)
        if len(drawn) > 1:
            keys = zip(axes.get_legend().get_lines(), axes.get_legend().get_texts(), strict=True)
            legend = {text.get_text(): key.get_color() for key, text in keys}
            assert legend == {line.get_label(): line.get_color() for line in drawn}


def test_the_kept_epoch_is_marked_in_every_panel():
    history = every_column(7)
    for axes in panels(draw_curves(history, best_epoch=4)):
        (marked,) = (line for line in axes.get_lines() if line.get_label() == "kept")
        assert set(marked.get_xdata()) == {4}
        assert "kept" in {text.get_text() for text in axes.get_legend().get_texts()}
        assert axes.get_xlim()[0] < 1
        assert axes.get_xlim()[1] > 7
    assert not any(line.get_label() == "kept" for axes in panels(draw_curves(history)) for line in axes.get_lines())


@pytest.mark.parametrize("n_epochs", [1, 20])
def test_the_file_shows_the_figure(n_epochs):
    history = [row(n, train_loss=1 / n, validation_loss=2 / n) for n in range(1, n_epochs + 1)]
    plain, marked = (imread(BytesIO(curves(history, best_epoch=best)))[:, :, :3] for best in (None, n_epochs))
    for color in ("C0", "C1", "black"):
        assert (abs(plain - to_rgb(color)).max(-1) < 0.02).any(), color
    assert plain.shape == marked.shape
    assert (plain != marked).any()


@pytest.mark.parametrize("title", ["digits: 64-32-10, relu", "$\\frac$", "猫"])
def test_any_title_is_drawn_verbatim(title):
    history = [row(1, train_loss=1.0)]
    assert draw_curves(history, title).get_suptitle() == title
    assert curves(history, title) != curves(history)


def test_losses_and_norms_have_a_logarithmic_axis_with_plain_numbers_and_scores_a_linear_one():
    figure = draw_curves(
        [row(n, train_loss=10.0**-n, validation_accuracy=n / 10, norm_max=1.0 * n) for n in range(1, 9)]
    )
    scales = {axes.get_ylabel(): axes.get_yscale() for axes in panels(figure)}
    assert scales == {"loss": "log", "validation accuracy": "linear", "gradient norm of an example": "log"}
    labels = [label.get_text() for axes in panels(figure) for label in axes.get_yticklabels()]
    assert {"0.01", "0.0001"} <= set(labels)
    assert not any("$" in label for label in labels)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 0.0, 1e30])
def test_a_run_of_one_odd_epoch_is_drawn(loss):
    assert imread(BytesIO(curves([row(1, train_loss=loss)], best_epoch=1))).shape[2] == 4


@pytest.mark.parametrize("n_epochs", [5, 20])
def test_a_line_stops_at_an_epoch_without_a_number_and_a_lone_epoch_is_a_point(n_epochs):
    history = [row(n, train_loss=1.0, noise_scale=None if n in (2, 4) else float(n)) for n in range(1, n_epochs + 1)]
    figure = draw_curves(history)
    points = lines(figure)["noise scale in examples", "noise scale"]
    assert list(np.flatnonzero(np.isnan(points[:, 1]))) == [1, 3]
    (line,) = panels(figure)[1].get_lines()
    assert line.get_marker() == "."


def test_panels_fill_rows_of_at_most_four():
    figure = draw_curves(every_column(3))
    assert len(panels(figure)) == 9
    assert all(axes.get_subplotspec().get_gridspec().get_geometry() == (3, 3) for axes in panels(figure))
    alone = draw_curves([row(1, train_loss=1.0)])
    assert tuple(figure.get_size_inches()) == tuple(3 * alone.get_size_inches())


def test_a_run_that_diverged_keeps_the_panel_of_its_scores():
    scored = row(1, train_loss=1.0, validation_loss=1.0, validation_accuracy=0.5)
    figure = draw_curves([scored, row(2, train_loss=float("nan"))])
    assert [axes.get_ylabel() for axes in panels(figure)] == ["loss", "validation accuracy"]


@pytest.mark.parametrize("history", [(), (1.0, 0.5), Trained(None, None, (), None, 0, "running")])
def test_anything_but_a_history_is_refused_in_one_line(history):
    with pytest.raises(ValueError, match=r"^history must be one epoch or more, as trained\.history, got "):
        curves(history)
