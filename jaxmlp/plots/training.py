"""The picture of a training run: losses, scores and tracked statistics over the epochs. Needs the extra `cli`."""

from collections.abc import Sequence
from math import ceil, inf, isinf, isnan, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxmlp._extras import optional
from jaxmlp.plots._figure import new_figure, plain_decades, png
from jaxmlp.training.history import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves", "draw_curves"]


class _Panel(NamedTuple):
    """One set of axes: its label, the columns of history that it shows with their names, and its scale."""

    label: str
    lines: dict[str, str]
    is_log: bool = False


_PANELS = (
    _Panel("loss", {"train_loss": "training", "validation_loss": "validation"}, is_log=True),
    _Panel("validation accuracy", {"validation_accuracy": "validation"}),
    _Panel("validation $R^2$", {"validation_r2": "validation"}),
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
_FEW_EPOCHS = 15


def curves(history: Sequence[Epoch], title: str = "", best_epoch: int | None = None) -> bytes:
    """Return a PNG picture of loss, score and tracked statistics over the epochs of `Trained.history`.

    The title stands above the picture. A dotted line marks `best_epoch`, whose parameters were kept; None marks none.

    >>> curves([Epoch(1, 0.1, 2.0, 1.9, 0.5, None, 0.1), Epoch(2, 0.1, 1.0, 1.1, 0.8, None, 0.1)])[1:4]
    b'PNG'
    """
    return png(draw_curves(history, title, best_epoch))


def draw_curves(history: Sequence[Epoch], title: str = "", best_epoch: int | None = None) -> "Figure":
    """Return the picture of `curves` as a matplotlib figure."""
    if not history or not isinstance(history[0], Epoch):
        given = type(history).__name__ if history else "none"
        raise ValueError(f"history must be one epoch or more, as trained.history, got {given}")
    panels = [panel for panel in _PANELS if panel.label == "loss" or any(_has(history, name) for name in panel.lines)]
    n_rows = ceil(len(panels) / _COLUMNS)
    n_columns = ceil(len(panels) / n_rows)
    figure = new_figure(4.2 * n_columns, 3.2 * n_rows, title)
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw_panel(axes, history, panel, best_epoch)
    return figure


def _draw_panel(axes: "Axes", history: Sequence[Epoch], panel: _Panel, best_epoch: int | None) -> None:
    for number, (name, label) in enumerate(panel.lines.items()):
        if _has(history, name):
            values = [nan if value is None or isinf(value) else value for value in _column(history, name)]
            # A line breaks at epochs without a number; a marker shows a single epoch between two breaks.
            marker = "." if len(values) < _FEW_EPOCHS or any(map(isnan, values)) else ""
            axes.plot([row.epoch for row in history], values, color=f"C{number}", label=label, marker=marker)
    axes.set(xlabel="epoch", ylabel=panel.label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(optional("matplotlib.ticker").MaxNLocator(integer=True))
    margin = max(0.5, 0.05 * len(history))
    axes.set_xlim(history[0].epoch - margin, history[-1].epoch + margin)
    if panel.is_log and any(0 < (value or 0) < inf for name in panel.lines for value in _column(history, name)):
        axes.set_yscale("log")
        plain_decades(axes.yaxis, *axes.get_ylim())
    if best_epoch:
        axes.axvline(best_epoch, color="0.6", linewidth=0.8, linestyle=":", label="kept")
    if len(axes.get_legend_handles_labels()[0]) > 1:
        above: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 4, "fontsize": "small"}
        axes.legend(frameon=False, **(above if len(panel.lines) > 2 else {}))


def _column(history: Sequence[Epoch], name: str) -> list[float | None]:
    return [getattr(row, name) for row in history]


def _has(history: Sequence[Epoch], name: str) -> bool:
    return any(value is not None for value in _column(history, name))
