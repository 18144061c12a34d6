"""The picture of importance: a bar for each column, the first on top, with its interval."""

import numpy as np

from jaxmlp.plots.importance import draw_importance_bars


def test_each_bar_has_the_length_and_the_interval_of_its_column():
    mean, low, high = [0.3, 0.1, -0.01], [0.2, 0.05, np.nan], [0.4, 0.15, np.nan]
    (axes,) = draw_importance_bars(["income $x", "city", "a" * 50], mean, low, high, "accuracy lost").axes
    assert [bar.get_width() for bar in axes.patches] == mean
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in segments[:2]], [[0.2, 0.4], [0.05, 0.15]])
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[:2] == ["income $x", "city"]
    assert len(names[2]) == 30
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first column stands on top
