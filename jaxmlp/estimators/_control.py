"""When a fit stops and how fast it learns: what scikit-learn's SGD decides between two epochs, in float64 on the host.

One problem at a time, because each has its own curve; `_fitting` runs many of them side by side.
"""

from typing import NamedTuple

import numpy as np

from jaxmlp.training.config import SCHEDULES, TrainConfig, learning_rates

__all__ = ["SCHEDULE_NAMES", "Control", "Progress", "after_epoch", "step_rates"]

_SMALLEST_RATE, _RATE_CUT = 1e-6, 5.0  # of the schedule "adaptive"

SCHEDULE_NAMES = ("constant", "invscaling", "adaptive", *(name for name in SCHEDULES if name != "constant"))
"""The names of the schedules: scikit-learn's, and those of `TrainConfig`."""


class Control(NamedTuple):
    """The numbers that rule a fit between its epochs; all have scikit-learn's meaning."""

    learning_rate_init: float = 0.001
    schedule: str = "constant"
    power_t: float = 0.5
    max_iter: int = 200
    tol: float = 1e-4
    n_iter_no_change: float = 10  # may be infinite


class Progress(NamedTuple):
    """How far a fit has come: its curves, its best values, and what its schedule remembers.

    Attributes
    ----------
    learning_rate
        The rate of the next epoch, where the schedule changes it between epochs.
    n_examples
        The examples seen so far, in all epochs; scikit-learn's `t_`.
    n_iter
        The epochs of this fit. A fit that goes on from another counts from 0 again; its curves do not.
    losses, validation_scores, validation_losses
        A value for each epoch; the last two only of fits with validation rows.
    best_loss, best_score
        The lowest of the losses, the highest of the scores.
    n_stalled
        Epochs in a row without an improvement by `tol`.
    status
        `"running"`, `"converged"` (stalled for too long), `"max_iter"`, `"diverged"` (a parameter is not finite), or
        `"stopped"` (by a callback).
    """

    learning_rate: float
    n_examples: int = 0
    n_iter: int = 0
    losses: tuple[float, ...] = ()
    validation_scores: tuple[float, ...] = ()
    validation_losses: tuple[float, ...] = ()
    best_loss: float = np.inf
    best_score: float = -np.inf
    n_stalled: int = 0
    status: str = "running"


def after_epoch(
    control: Control,
    progress: Progress,
    n_examples: int,
    loss: float,
    validation: tuple[float, float] | None = None,
) -> Progress:
    """Return the progress after one more epoch over so many examples.

    `validation` is (score, loss) on the validation rows; without it, the training loss decides.

    >>> control = Control(n_iter_no_change=1)
    >>> progress = Progress(0.001)
    >>> for loss in (1.0, 0.5, 0.5, 0.5):
    ...     progress = after_epoch(control, progress, 100, loss)
    >>> progress.n_iter, progress.best_loss, progress.status
    (4, 0.5, 'converged')
    """
    if validation is None:
        is_stalled = loss > progress.best_loss - control.tol
        progress = progress._replace(best_loss=loss if loss < progress.best_loss else progress.best_loss)
    else:
        score, validation_loss = validation
        is_stalled = score < progress.best_score + control.tol
        progress = progress._replace(
            best_score=score if score > progress.best_score else progress.best_score,
            validation_scores=(*progress.validation_scores, score),
            validation_losses=(*progress.validation_losses, validation_loss),
        )
    progress = progress._replace(
        n_examples=progress.n_examples + n_examples,
        n_iter=progress.n_iter + 1,
        losses=(*progress.losses, loss),
        n_stalled=progress.n_stalled + 1 if is_stalled else 0,
    )
    if control.schedule == "invscaling":
        rate = control.learning_rate_init / (progress.n_examples + 1) ** control.power_t
        progress = progress._replace(learning_rate=rate)
    if progress.n_stalled > control.n_iter_no_change:
        if control.schedule != "adaptive" or progress.learning_rate <= _SMALLEST_RATE:
            return progress._replace(status="converged")
        progress = progress._replace(learning_rate=progress.learning_rate / _RATE_CUT, n_stalled=0)
    return progress._replace(status="max_iter") if progress.n_iter == control.max_iter else progress


def step_rates(control: Control, progress: Progress, n_steps: int) -> np.ndarray:
    """Return the learning rate of each step of the next epoch, [n_steps].

    >>> step_rates(Control(0.1, "cosine", max_iter=2), Progress(0.1), 2)
    array([0.1       , 0.08535534])
    """
    if control.schedule not in SCHEDULES or control.schedule == "constant":
        return np.full(n_steps, progress.learning_rate)
    config = TrainConfig(epochs=control.max_iter, learning_rate=control.learning_rate_init, schedule=control.schedule)
    return learning_rates(config, progress.n_iter, n_steps)
