"""Pictures of a training run. Needs matplotlib, of the extra `cli`."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from jaxmlp.history import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves"]

_SCORES = {"test_accuracy": "test accuracy", "test_r2": "test $R^2$"}


def curves(history: Sequence[Epoch], title: str = "", best_epoch: int | None = None) -> bytes:
    """Draw loss and score over the epochs.

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
    scores = [name for name in _SCORES if any(getattr(row, name) is not None for row in history)]
    figure = Figure(figsize=(4.2 * (1 + len(scores)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(scores), squeeze=False)[0]
    _draw(axes[0], history, {"train_loss": "training", "test_loss": "test"}, "loss")
    if any(row.train_loss > 0 for row in history):
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_formatter(NullFormatter())
    for axis, name in zip(axes[1:], scores, strict=True):
        _draw(axis, history, {name: "test"}, _SCORES[name])
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if best_epoch:
            axis.axvline(best_epoch, color="0.6", linewidth=0.8, linestyle=":", label="kept")
        if len(axis.get_legend_handles_labels()[0]) > 1:
            axis.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    picture = BytesIO()
    figure.savefig(picture, dpi=200, format="png")
    return picture.getvalue()


def _draw(axis: "Axes", history: Sequence[Epoch], lines: dict[str, str], label: str) -> None:
    for color, (name, what) in zip(("C0", "C1"), lines.items(), strict=False):
        points = [(row.epoch, getattr(row, name)) for row in history if getattr(row, name) is not None]
        if points:
            # A run of one epoch is a point, and a line would show nothing.
            axis.plot(*zip(*points, strict=True), color=color, label=what, marker="." if len(points) < 15 else "")
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.spines[["top", "right"]].set_visible(False)
