"""What private training promises, as numbers that a model's file keeps and as sentences."""

from typing import NamedTuple

from jaxmlp.private.accounting import ACCOUNTANT, RELATION, SAMPLING, renyi_epsilon, version
from jaxmlp.private.mechanism import Mechanism

__all__ = ["Guarantee"]


class Guarantee(NamedTuple):
    """(epsilon, delta), and all that it rests on.

    Attributes
    ----------
    epsilon, delta
        What the steps so far have spent.
    steps, n_examples, batch_size, noise_multiplier, clip
        Of the mechanism, see `jaxmlp.private.Mechanism`.
    relation, sampling, accountant
        In words: which data sets are neighbours, how batches are drawn, and who accounts.
    renyi_epsilon
        The epsilon by Renyi divergences, to compare: a looser account of the same steps. None before the end.
    choice
        In words: how this run was chosen, if epsilon counts that; empty if it does not.
    """

    epsilon: float
    delta: float
    steps: int
    n_examples: int
    batch_size: int
    noise_multiplier: float
    clip: float
    relation: str
    sampling: str
    accountant: str
    renyi_epsilon: float | None = None
    choice: str = ""

    @classmethod
    def of(cls, mechanism: Mechanism, steps: int, epsilon: float, delta: float) -> "Guarantee":
        """Return the guarantee of a mechanism after some steps."""
        sampling = SAMPLING.format(largest_batch=mechanism.largest_batch)
        words = (RELATION, sampling, ACCOUNTANT.format(version=version()))
        return cls(epsilon, delta, steps, **vars(mechanism), relation=words[0], sampling=words[1], accountant=words[2])

    def compared(self) -> "Guarantee":
        """Return this guarantee with `renyi_epsilon`."""
        mechanism = Mechanism(self.n_examples, self.batch_size, self.noise_multiplier, self.clip)
        return self._replace(renyi_epsilon=renyi_epsilon(mechanism, self.steps, self.delta))

    def __str__(self) -> str:
        """Say in plain words what is promised."""
        renyi = "" if self.renyi_epsilon is None else f" (by Renyi divergences epsilon is {self.renyi_epsilon:.3g})"
        chosen, covered, not_covered = "", "the parameters after every step", "how settings were chosen"
        if self.choice:
            chosen = f" It is {self.choice}."
            covered = "the network, its hyperparameters and its score, if nothing of other trials is seen"
            not_covered = "how the space of trials was chosen"
        return (
            f"({self.epsilon:.3g}, {self.delta:.3g})-differentially private: with {self.relation} of the "
            f"{self.n_examples:,} training examples, no outcome becomes more than e^{self.epsilon:.3g} times as "
            f"probable, but for a probability of {self.delta:.3g}. {self.steps:,} steps of DP-SGD: gradients clipped "
            f"to {self.clip:g}, noise {self.noise_multiplier:.4g} times that, batches of {self.batch_size:,} expected "
            f"({self.sampling}).{chosen} Account: {self.accountant}{renyi}. It covers {covered}. It does not cover "
            f"what is measured on validation or test examples, or {not_covered}. It takes the number of training "
            "examples and the names of classes and columns as public."
        )
