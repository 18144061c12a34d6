"""Pictures of a training run. Needs matplotlib, of the extra `cli`."""

from collections.abc import Callable, Sequence
from io import BytesIO
from math import ceil, isnan, nan
from typing import TYPE_CHECKING, NamedTuple

from jaxmlp.training.history import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves"]


class _Panel(NamedTuple):
    """One set of axes: its label, the columns drawn as lines with their names, and whether the scale is logarithmic."""

    label: str
    lines: dict[str, str]
    is_log: bool = False


_PANELS = (
    _Panel("loss", {"train_loss": "training", "test_loss": "test"}, is_log=True),
    _Panel("test accuracy", {"test_accuracy": "test"}),
    _Panel("test $R^2$", {"test_r2": "test"}),
    _Panel(
        "gradient norm of an example",
        {"norm_q10": "10 %", "norm_median": "median", "norm_q90": "90 %", "norm_max": "largest"},
        is_log=True,
    ),
    _Panel("noise scale in examples", {"noise_scale": "noise scale"}, is_log=True),
    _Panel("variance of the gradient", {"gradient_variance": "variance"}, is_log=True),
    _Panel("gradient diversity", {"diversity": "diversity"}),
    _Panel("share of examples clipped", {"share_clipped": "clipped"}),
    _Panel("largest eigenvalue", {"top_eigenvalue": "eigenvalue"}),
)
_COLUMNS = 4


def curves(history: Sequence[Epoch], title: str = "", best_epoch: int | None = None) -> bytes:
    """Draw loss, score and whatever else was tracked over the epochs.

    Parameters
    ----------
    history
        Rows of `Trained.history`, at least one.
    title
        Above the picture.
    best_epoch
        Marked, if given: the epoch whose parameters were kept.

    Returns
    -------
    picture
        The bytes of a PNG file.

    Examples
    --------
    >>> curves([Epoch(1, 0.1, 2.0, 1.9, 0.5, None, 0.1), Epoch(2, 0.1, 1.0, 1.1, 0.8, None, 0.1)])[1:4]
    b'PNG'
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'jaxmlp[cli]'") from error
    panels = [panel for panel in _PANELS if panel.label == "loss" or any(map(_has(history), panel.lines))]
    n_rows = ceil(len(panels) / _COLUMNS)
    n_columns = ceil(len(panels) / n_rows)
    figure = Figure(figsize=(4.2 * n_columns, 3.2 * n_rows), layout="constrained")
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in all_axes[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(all_axes, panels, strict=False):
        _draw(axis, history, panel)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        margin = max(0.5, 0.05 * len(history))
        axis.set_xlim(history[0].epoch - margin, history[-1].epoch + margin)
        if panel.is_log and any((value or 0) > 0 for name in panel.lines for value in _column(history, name)):
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        if best_epoch:
            axis.axvline(best_epoch, color="0.6", linewidth=0.8, linestyle=":", label="kept")
        if len(axis.get_legend_handles_labels()[0]) > 1:
            above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 4, "fontsize": "small"}
            axis.legend(frameon=False, **(above if len(panel.lines) > 2 else {}))
    figure.suptitle(title, fontsize=10)
    picture = BytesIO()
    figure.savefig(picture, dpi=200, format="png")
    return picture.getvalue()


def _column(history: Sequence[Epoch], name: str) -> list[float | None]:
    return [getattr(row, name) for row in history]


def _has(history: Sequence[Epoch]) -> Callable[[str], bool]:
    return lambda name: any(value is not None for value in _column(history, name))


def _draw(axis: "Axes", history: Sequence[Epoch], panel: _Panel) -> None:
    for number, (name, what) in enumerate(panel.lines.items()):
        values = [nan if value is None else value for value in _column(history, name)]
        gaps = any(map(isnan, values))
        if not all(map(isnan, values)):
            # Nothing is drawn across epochs without a number; between two of those, as in a run of one epoch, there
            # is a point, of which a line would show nothing.
            marker = "." if len(values) < 15 or gaps else ""
            axis.plot([row.epoch for row in history], values, color=f"C{number}", label=what, marker=marker)
    axis.set_xlabel("epoch")
    axis.set_ylabel(panel.label)
    axis.spines[["top", "right"]].set_visible(False)
