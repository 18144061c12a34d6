"""`MLPRegressor`: scikit-learn's regressor, trained by this library."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from jaxmlp.estimators._base import Perceptron
from jaxmlp.estimators._callbacks import with_callbacks
from jaxmlp.estimators._parameters import LOSSES

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, Perceptron):
    """A multilayer perceptron that predicts real values, trained by stochastic gradient descent."""

    def __init__(  # noqa: D107
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "sgd",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        n_networks: int = 1,
        clip: float | None = None,
        dtype: str | None = None,
        encode_tables: bool = False,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.n_networks = n_networks
        self.clip = clip
        self.dtype = dtype
        self.encode_tables = encode_tables

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X: [n, d] and the values y: [n], or [n, n_outputs].

        Parameters
        ----------
        sample_weight
            [n]: how often each row counts; None for once.

        Raises
        ------
        ValueError
            If a parameter, X or y cannot be used, or the weights of the network become infinite.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on X and y, and go on from earlier calls."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted values, [n], or [n, n_outputs]; of several networks their mean."""
        y = self._outputs(X)
        return y[:, 0] if y.shape[1] == 1 else y

    def _ends(self) -> tuple[str, str]:
        return LOSSES[self.loss]

    def _targets(self, y: Any, *, is_first: bool, incremental: bool) -> np.ndarray:
        return np.asarray(y)

    def _n_outputs(self, targets: np.ndarray) -> int:
        return targets.shape[1] if targets.ndim == 2 else 1

    def _score_of(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
        if not np.isfinite(outputs).all():
            return np.nan
        return float(r2_score(targets, outputs, sample_weight=weights))
