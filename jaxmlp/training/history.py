"""What is recorded of a training run: a row an epoch, and how far it came."""

from typing import NamedTuple

from jaxmlp import sgd
from jaxmlp.network import Params

__all__ = ["STATUSES", "Epoch", "Trained", "divergence"]

STATUSES = ("running", "finished", "stopped", "diverged")


class Epoch(NamedTuple):
    """One row of history.

    Attributes
    ----------
    epoch
        Counted from 1.
    learning_rate
        Of its first step.
    train_loss
        The mean over the epoch's batches, each taken as it was trained on.
    test_loss, test_accuracy, test_r2
        After the epoch; None where they do not apply.
    seconds
        Wall time, with evaluation and all that is tracked.
    norm_q10, norm_median, norm_q90, norm_max
        Quantiles over the epoch of the norms of each example's own gradient, before weights and clipping, as it was
        when it was trained on. This and all that follows is None unless `TrainConfig.track` asks for it.
    noise_scale
        tr(Sigma) / |G|^2 in examples, both parts averaged over the steps (see `jaxmlp.per_example.noise_scale`), of the
        gradients as they are averaged: weighted and clipped. None too where |G|^2 is lost in the noise.
    gradient_variance
        tr(Sigma): the variance of one example's gradient, summed over the parameters; off by some 1e-6 of |G|^2 in
        float32, as it is taken from the gradient that was there anyway.
    diversity
        Of the batches' gradients (see `jaxmlp.per_example.diversity`).
    share_clipped
        Of the examples, how many had a gradient longer than `TrainConfig.clip`.
    top_eigenvalue
        Of the Hessian of the unweighted loss after the epoch, over the same sample of examples at every epoch.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    test_loss: float | None
    test_accuracy: float | None
    test_r2: float | None
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
    """What training gives, after every epoch and at the end.

    Attributes
    ----------
    params
        The parameters to use: of the best epoch where there is a patience, else of the last finite one.
    state
        The optimiser's, after the last finite epoch.
    history
        One `Epoch` an epoch.
    last_params
        Of the last finite epoch, from which training goes on.
    best_epoch
        The epoch that `params` are of, counted from 1; 0 before the first.
    status
        `"running"`, `"finished"`, `"stopped"` (patience ran out) or `"diverged"`.
    """

    params: Params
    state: sgd.State
    history: tuple[Epoch, ...]
    last_params: Params
    best_epoch: int
    status: str


def divergence(trained: Trained) -> str:
    """Say at which epoch a run diverged, which parameters are kept, and what to try."""
    row = trained.history[-1]
    kept = f"the parameters of epoch {trained.best_epoch}" if trained.best_epoch else "the initial parameters"
    return (
        f"the loss was no longer finite in epoch {row.epoch}, at learning rate {row.learning_rate:g}; {kept} are kept; "
        "try a lower learning rate, a warm-up, or scaled inputs"
    )
