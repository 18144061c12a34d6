"""The record of a training run: one row for each epoch, the parameters, how it ended, and its test."""

from typing import NamedTuple

from jaxmlp import sgd
from jaxmlp.network import Params

__all__ = ["STATUSES", "Epoch", "Evaluation", "Trained", "divergence"]

STATUSES = ("running", "finished", "stopped", "diverged")


class Evaluation(NamedTuple):
    """The mean loss over a data set, and either accuracy (for classes) or r2 (for real values); the other is None."""

    loss: float
    accuracy: float | None
    r2: float | None


class Epoch(NamedTuple):
    """One row of history.

    Tracked columns, from `norm_q10` on, are None unless `TrainConfig.track` asks for them.

    Attributes
    ----------
    epoch, learning_rate
        The epoch's number, from 1, and the learning rate of its first step.
    train_loss
        The mean loss over the epoch's batches, each taken before its own step.
    validation_loss, validation_accuracy, validation_r2
        Evaluation on the validation data after the epoch; None where they do not apply.
    seconds
        Wall time of the epoch, with evaluation and tracking.
    norm_q10, norm_median, norm_q90, norm_max
        Quantiles of the gradient norms of single examples, before weights and clipping, each taken at its own step.
    noise_scale
        tr(Sigma) / |G|^2, in examples, of the weighted and clipped gradients. Both parts are averaged over the steps
        (see `jaxmlp.per_example.noise_scale`). None where |G|^2 is lost in noise.
    gradient_variance
        tr(Sigma), the variance of one example's gradient summed over the parameters. In float32 its error is about
        1e-6 of |G|^2, because it is a difference of two means of squares.
    diversity
        Gradient diversity of the batches, averaged over the steps (see `jaxmlp.per_example.diversity`).
    share_clipped
        The fraction of examples whose gradient norm exceeds `TrainConfig.clip`.
    top_eigenvalue
        The largest eigenvalue of the Hessian of the unweighted loss after the epoch, over the same sample of examples
        at every epoch.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    validation_r2: float | None
    seconds: float
    norm_q10: float | None = None
    norm_median: float | None = None
    norm_q90: float | None = None
    norm_max: float | None = None
    noise_scale: float | None = None
    gradient_variance: float | None = None
    diversity: float | None = None
    share_clipped: float | None = None
    top_eigenvalue: float | None = None

    def tracked(self) -> dict[str, float | None]:
        """Return the columns that `TrainConfig.track` fills, by name."""
        return {name: getattr(self, name) for name in self._field_defaults}


class Trained(NamedTuple):
    """The result of training, so far (as a callback receives it) or at the end.

    Attributes
    ----------
    params
        The parameters to use: of the best epoch if the configuration has a patience, else of the last finite epoch.
    history
        One `Epoch` for each epoch.
    last_params, state
        Parameters and state of momentum SGD after the last finite epoch, from which training goes on.
    best_epoch
        The number of the epoch that `params` come from; 0 before the first epoch.
    status
        `"running"`, `"finished"`, `"stopped"` (patience ran out) or `"diverged"`.
    test
        Evaluation of `params` on the test data, made once, when the run has ended; None before, or without test data.
    """

    params: Params
    state: sgd.State
    history: tuple[Epoch, ...]
    last_params: Params
    best_epoch: int
    status: str
    test: Evaluation | None = None


def divergence(trained: Trained) -> str:
    """Return a sentence for a run that diverged: at which epoch, which parameters are kept, what to try."""
    row = trained.history[-1]
    kept = f"the parameters of epoch {trained.best_epoch}" if trained.best_epoch else "the initial parameters"
    return (
        f"the loss was no longer finite in epoch {row.epoch}, at learning rate {row.learning_rate:g}; {kept} are kept; "
        "try a lower learning rate, a warm-up, or scaled inputs"
    )
