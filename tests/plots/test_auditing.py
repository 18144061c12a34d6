"""The picture of audits: every bound stands in its row at its number, and those that break the claim are filled."""

from jaxmlp.plots.auditing import draw_audit_bounds

BOUNDS = {
    "right $x": {"one run": [0.3, 0.0], "many runs": [0.5]},
    "no noise": {"one run": [4.8], "many runs": [5.1, 1.6]},
}


def test_every_bound_is_where_its_number_and_its_row_are():
    (axes,) = draw_audit_bounds(BOUNDS, 1.5).axes
    points = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    drawn = sorted((round(line.get_ydata()[0]), line.get_color(), line.get_xdata()[0]) for line in points)
    assert drawn == [
        (0, "C0", 0.0), (0, "C0", 0.3), (0, "C1", 0.5), (1, "C0", 4.8), (1, "C1", 1.6), (1, "C1", 5.1)
    ]  # fmt: skip
    assert [line.get_markerfacecolor() != "none" for line in points] == [line.get_xdata()[0] > 1.5 for line in points]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(BOUNDS)
    (claim,) = (line for line in axes.lines if line.get_linestyle() == "--")
    assert set(claim.get_xdata()) == {1.5}
