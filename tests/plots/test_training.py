"""The picture of a training run."""

import struct
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from jaxmlp.plots.training import curves
from jaxmlp.training.history import Epoch


def size(png):
    """Width and height that a PNG file declares."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def row(epoch, **scores):
    return Epoch(
        epoch, 0.1, 1 / epoch, **{"test_loss": None, "test_accuracy": None, "test_r2": None} | scores, seconds=1
    )


def test_a_run_with_a_score_has_a_second_panel():
    alone = size(curves([row(1), row(2)]))
    scored = size(curves([row(1, test_loss=2.0, test_accuracy=0.5), row(2, test_loss=1.0, test_accuracy=0.7)]))
    assert scored[0] == 2 * alone[0]
    assert scored[1] == alone[1]


@pytest.mark.parametrize("loss", [float("nan"), 0.0, 1e30])
def test_a_run_of_one_odd_epoch_is_drawn(loss):
    assert size(curves([row(1)._replace(train_loss=loss)], best_epoch=1)) == size(curves([row(1)]))


def test_every_line_changes_the_picture():
    plain = [row(1, test_loss=1.0, test_r2=0.1), row(2, test_loss=0.5, test_r2=0.2)]
    other = {
        "train_loss": [plain[0], plain[1]._replace(train_loss=0.9)],
        "test_loss": [plain[0], plain[1]._replace(test_loss=0.9)],
        "test_r2": [plain[0], plain[1]._replace(test_r2=0.9)],
    }
    pictures = {name: curves(history) for name, history in other.items()} | {
        "plain": curves(plain),
        "title": curves(plain, title="a title"),
        "kept": curves(plain, best_epoch=1),
    }
    assert len(set(pictures.values())) == len(pictures)


def test_everything_that_is_tracked_has_a_panel_and_changes_the_picture():
    two = [row(1), row(2)]
    plain = curves(two)
    pictures = set()
    for column in row(1).tracked():
        tracked = curves([one._replace(**{column: 0.25 * one.epoch}) for one in two])
        assert size(tracked) == (2 * size(plain)[0], size(plain)[1])
        pictures.add(tracked)
    assert len(pictures) == len(row(1).tracked())


def test_nothing_is_drawn_across_epochs_without_a_number():
    def columns_without_the_line(middle):
        """Count columns of the second panel with none of the line's colour, from where it begins to where it ends."""
        rows = [row(n, noise_scale=middle if n == 10 else float(n)) for n in range(1, 21)]
        image = imread(BytesIO(curves(rows)))
        right_half = image[:, image.shape[1] // 2 :, :3]
        has_line = (abs(right_half - to_rgb("C0")).max(-1) < 0.02).any(0)
        first, last = np.flatnonzero(has_line)[[0, -1]]
        return (~has_line[first:last]).sum()

    assert columns_without_the_line(10.0) == 0
    assert columns_without_the_line(None) > 10


def test_many_panels_take_several_rows():
    tracked = dict.fromkeys(row(1).tracked(), 0.5)
    plain = size(curves([row(1)]))
    assert size(curves([row(1, test_loss=1.0, test_accuracy=0.5, **tracked)])) == (4 * plain[0], 2 * plain[1])


def test_a_run_that_diverged_keeps_the_panel_of_its_scores():
    scored = row(1, test_loss=1.0, test_accuracy=0.5)
    diverged = row(2)._replace(train_loss=float("nan"))
    assert size(curves([scored, diverged])) == size(curves([scored, scored._replace(epoch=2)]))
