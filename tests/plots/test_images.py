"""The picture of many small images: decoded again, and looked at where images must be."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from jaxmlp.plots.images import contact_sheet, draw_contact_sheet

GREYS = np.linspace(0, 1, 7)


def decoded(*args, **options):
    """Return the sheet's pixels, one number from 0 to 1 each: [height, width]."""
    return imread(io.BytesIO(contact_sheet(*args, **options)))[:, :, 0]


def plain_images(order, height=2, width=2):
    """Return an image for each entry, of that one of `GREYS` throughout."""
    return np.broadcast_to(GREYS[order][:, None, None], (len(order), height, width))


def edges(sheet, grey):
    """Return top, bottom, left and right of the largest patch of a grey: letters have greys too, a few pixels each."""
    is_grey = np.abs(sheet - grey) < 0.002
    rows, columns = (np.flatnonzero(is_grey.sum(axis) > 50) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


def test_images_stand_in_rows_in_the_order_given():
    order = [3, 1, 5, 2, 4]
    sheet = decoded(plain_images([0, *order, 6]), list("abcdefg"), columns=4)  # 0 and 6: black and white
    corners = [edges(sheet, GREYS[k])[::2] for k in order]
    assert corners == sorted(corners)
    assert len({top for top, _ in corners}) == 2
    assert corners[0][1] == corners[4][1]  # second column, both


def test_an_image_keeps_its_proportions():
    images = plain_images([0, 3, 6], 2, 4)
    top, bottom, left, right = edges(decoded(images, ["", "", ""]), GREYS[3])
    assert right - left == pytest.approx(2 * (bottom - top), abs=4)  # the edges fall between pixels


def test_rows_of_an_image_go_down_and_columns_to_the_right():
    image = GREYS[[[0, 3, 3], [6, 5, 5]]]
    sheet = decoded(image[None], [""])
    upper, lower = edges(sheet, GREYS[3]), edges(sheet, GREYS[5])
    assert upper[1] < lower[0]
    assert upper[2] == lower[2] > edges(sheet, GREYS[0])[2]


def test_a_group_begins_a_row():
    sheet = decoded(plain_images([0, 3, 4, 6]), list("abcd"), groups=[("one", 2), ("none", 0), ("two", 2)])
    assert edges(sheet, GREYS[4])[0] > edges(sheet, GREYS[3])[1]
    assert edges(sheet, GREYS[4])[2] == edges(sheet, GREYS[0])[2]


def test_each_caption_stands_right_under_its_own_image_and_each_heading_above_its_group():
    captions, groups = ["a", "b\nc", "d", "e"], [("one", 3), ("two", 1)]
    (axes,) = draw_contact_sheet(plain_images([0, 3, 4, 6]), captions, "title", columns=2, groups=groups).axes
    places = {text.get_text(): text.get_position() for text in axes.texts}
    extents = [image.get_extent() for image in axes.get_images()]
    for caption, (left, right, bottom, top) in zip(captions, extents, strict=True):
        x, y = places[caption]
        assert x == pytest.approx((left + right) / 2)
        assert bottom < y < bottom + 0.2 * (bottom - top)  # downwards, as pixels are counted
    firsts = {"one": extents[0], "two": extents[3]}
    assert all(places[heading][1] < top for heading, (*_, top) in firsts.items())
    assert places["title"][1] < places["one"][1] < places["d"][1] < places["two"][1]


def test_every_word_changes_the_picture():
    images = plain_images([0, 6])
    pictures = [
        contact_sheet(images, ["a", "b"]),
        contact_sheet(images, ["a", "c"]),
        contact_sheet(images, ["a", "b\nc"]),
        contact_sheet(images, ["a", "b"], "a title"),
        contact_sheet(images, ["a", "b"], groups=[("a heading", 2)]),
        contact_sheet(images, ["a", "b"], groups=[("a heading", 1), ("another", 1)]),
    ]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("text", ["$x_1", "$\\frac$", "[bold]", "猫", "a\tb", "x" * 10_000, ""])
def test_any_text_is_drawn_verbatim(text):
    sheet = decoded(plain_images([0, 6]), [text, "b"], text, groups=[(text, 2)])
    assert sheet.shape[1] < 2000


def test_images_without_contrast_are_drawn():
    decoded(np.zeros((1, 8, 8)), [""])


IMAGES = plain_images([0, 6])
REFUSED = {
    "no images": ((np.ones((0, 2, 2)), []), {}, ["images", "(0, 2, 2)"]),
    "flat images": ((np.ones((2, 4)), ["", ""]), {}, ["[K, h, w]", "(2, 4)"]),
    "a caption missing": ((IMAGES, ["a"]), {}, ["captions", "2 images", "got 1"]),
    "an image in no group": ((IMAGES, ["", ""]), {"groups": [("a", 1)]}, ["groups", "2 images", "[1]"]),
    "a negative group": ((IMAGES, ["", ""]), {"groups": [("a", 3), ("b", -1)]}, ["groups", "[3, -1]"]),
    "no columns": ((IMAGES, ["", ""]), {"columns": 0}, ["columns", "0"]),
    "too many images": ((np.ones((2000, 1, 1)), [""] * 2000), {"columns": 1}, ["2000 images", "too large"]),
}


@pytest.mark.parametrize(("arguments", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused_in_one_line(arguments, options, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        contact_sheet(*arguments, **options)
    assert all(word in str(caught.value) for word in words)
