"""Many small images in one picture, each with a caption. Needs the extra `cli`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxmlp._validation import whole_number
from jaxmlp.plots._figure import new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["contact_sheet", "draw_contact_sheet"]

_DOTS_PER_INCH = 200
# Inches.
_CELL, _IMAGE, _CAPTION, _LINE, _HEADING, _TITLE, _MARGIN = 1.15, 1.05, 0.05, 0.13, 0.2, 0.34, 0.08
_LEFT = _MARGIN + (_CELL - _IMAGE) / 2  # where images, headings and the title begin
_LEAST_CELLS = 4  # in a row, even with fewer images: room for the title
_SIZE_LIMIT = 2**16 / _DOTS_PER_INCH  # matplotlib cannot draw more pixels on a side
_CAPTION_LENGTH, _TITLE_LENGTH = 20, 14  # characters that fit into a cell's width


def contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    title: str = "",
    columns: int = 8,
    groups: Sequence[tuple[str, int]] = (),
) -> bytes:
    """Return a PNG picture of images, row by row; the smallest number in any of them is black, the largest white.

    A `ValueError` names a wrong shape or count, or says that the picture would be too large to draw.

    Parameters
    ----------
    images
        [K, h, w], K at least 1.
    captions
        K captions of one or two short lines, drawn as they are (no markup). A line wider than an image is cut.
    title, columns
        The line above the picture, and the largest number of images in a row.
    groups
        Pairs of a heading and a number of images, K in all: every group begins a row, under its heading. By
        default all images are one group without a heading.

    Examples
    --------
    >>> contact_sheet(np.eye(4).reshape(1, 4, 4), ["row 17\\n3 → 8"])[1:4]
    b'PNG'
    """
    return png(draw_contact_sheet(images, captions, title, columns, groups), _DOTS_PER_INCH)


def draw_contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    title: str = "",
    columns: int = 8,
    groups: Sequence[tuple[str, int]] = (),
) -> "Figure":
    """Return the picture of `contact_sheet` as a matplotlib figure."""
    images, groups = np.asarray(images), list(groups) or [("", len(images))]
    _check(images, captions, columns, groups)
    size = [_IMAGE * side / max(images.shape[1:]) for side in images.shape[1:]]  # height, width
    n_lines = max(caption.count("\n") + 1 for caption in captions)
    row_height = size[0] + _CAPTION + n_lines * _LINE + _MARGIN
    headings, places, bottom = _layout(groups, columns, row_height, _TITLE if title else _MARGIN)
    n_cells = max(min(columns, max(count for _, count in groups)), _LEAST_CELLS)
    if max(bottom, n_cells * _CELL) > _SIZE_LIMIT:
        raise ValueError(f"{len(images)} images in {columns} columns are too large a picture, expected fewer")
    figure = new_figure(n_cells * _CELL + 2 * _MARGIN, bottom, layout=None)
    # One `Axes` for all images, in inches from the top left corner: one for each would take seconds.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw(axes, images, captions, places, size)
    for heading, top in headings:
        axes.text(_LEFT, top, heading, size=9, weight="bold", va="top", parse_math=False)
    axes.text(_LEFT, _MARGIN, _cut(title, n_cells * _TITLE_LENGTH), size=10, va="top", parse_math=False)
    axes.set(xlim=(0, figure.get_figwidth()), ylim=(bottom, 0))
    return figure


def _draw(
    axes: "Axes", images: np.ndarray, captions: Sequence[str], places: list[tuple[float, float]], size: list[float]
) -> None:
    height, width = size
    grey = {"cmap": "gray", "vmin": images.min(), "vmax": images.max()}
    for image, caption, (left, top) in zip(images, captions, places, strict=True):
        middle, bottom = left + _CELL / 2, top + height
        extent = (middle - width / 2, middle + width / 2, bottom, top)
        axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto", **grey)
        lines = "\n".join(_cut(line, _CAPTION_LENGTH) for line in caption.split("\n"))
        axes.text(middle, bottom + _CAPTION, lines, size=7, ha="center", va="top", parse_math=False)


def _check(images: np.ndarray, captions: Sequence[str], columns: int, groups: Sequence[tuple[str, int]]) -> None:
    if images.ndim != 3 or 0 in images.shape:
        raise ValueError(f"images must be [K, h, w], at least one, got shape {images.shape}")
    whole_number("columns", columns, least=1)
    if len(captions) != len(images):
        raise ValueError(f"captions must be one for each of the {len(images)} images, got {len(captions)}")
    counts = [count for _, count in groups]
    if sum(counts) != len(images) or min(counts) < 0:
        raise ValueError(f"groups must hold the {len(images)} images together, got {counts}")


def _layout(
    groups: Sequence[tuple[str, int]], columns: int, row_height: float, top: float
) -> tuple[list[tuple[str, float]], list[tuple[float, float]], float]:
    """Return headings with their tops, the left and top edge of each image's cell, and where the sheet ends."""
    headings: list[tuple[str, float]] = []
    places: list[tuple[float, float]] = []
    for heading, count in groups:
        if heading and count:
            headings.append((heading, top))
            top += _HEADING
        cells = (divmod(number, columns) for number in range(count))
        places += [(_MARGIN + column * _CELL, top + row * row_height) for row, column in cells]
        top += -(-count // columns) * row_height
    return headings, places, top


def _cut(line: str, length: int) -> str:
    return line if len(line) <= length else f"{line[: length - 1]}…"
