"""The record of private training; nothing in it is computed from training examples but through noised parameters."""

from typing import NamedTuple

from jaxmlp import sgd
from jaxmlp.network import Params
from jaxmlp.private.guarantee import Guarantee
from jaxmlp.training.history import Evaluation

__all__ = ["PrivateEpoch", "Trained"]


class PrivateEpoch(NamedTuple):
    """One row of history.

    Attributes
    ----------
    epoch, learning_rate
        The epoch's number, from 1, and the learning rate of its first step.
    epsilon
        What all steps so far have spent, at the delta of the guarantee.
    validation
        Evaluation on the validation data, which the guarantee does not cover; None without any.
    seconds
        Wall time of the epoch.
    """

    epoch: int
    learning_rate: float
    epsilon: float
    validation: Evaluation | None
    seconds: float


class Trained(NamedTuple):
    """The result of private training, so far (as a callback receives it) or at the end.

    Attributes
    ----------
    params, state
        Parameters, and state of momentum SGD.
    history
        One `PrivateEpoch` for each epoch.
    guarantee
        What has been promised, with all that the promise rests on.
    test
        Evaluation on the test data, which the guarantee does not cover; None before the end, or without any.
    """

    params: Params
    state: sgd.State
    history: tuple[PrivateEpoch, ...]
    guarantee: Guarantee
    test: Evaluation | None = None
