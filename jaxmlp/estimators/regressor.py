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
    """A multilayer perceptron that predicts real values: scikit-learn's `MLPRegressor(solver="sgd")`, trained here.

    Parameters, meanings and defaults are those of scikit-learn, but for `solver`. With equal parameters, data and
    `random_state` so are the numbers, to 1e-10 in float64. Scale y to a spread of about 1, as with
    `sklearn.compose.TransformedTargetRegressor`: large values make training diverge.

    Parameters
    ----------
    loss
        `"squared_error"` (half of it), or `"poisson"`: half the deviance of counts, of which exp of the last layer is
        the mean.
    hidden_layer_sizes
        The widths of the hidden layers: a number, or several; `()` for none.
    activation
        Of the hidden layers: `"relu"`, `"tanh"`, `"logistic"`, `"identity"`, or another name of
        `jaxmlp.activations.ACTIVATIONS`.
    solver
        `"sgd"`: stochastic gradient descent with momentum.
    alpha
        L2: alpha / 2 times the sum of squared weights, divided by the batch's sum of sample weights, is part of the
        loss.
    batch_size
        The rows of a batch; `"auto"` for 200. The last batch of an epoch may have fewer.
    learning_rate
        `"constant"`; `"invscaling"`: divided by t^power_t, where t counts the rows seen; `"adaptive"`: divided by 5
        when training would end; `"cosine"`: falls to 0 over `max_iter` epochs; `"step"`: divided by 10 every 10 epochs.
    learning_rate_init
        The rate of the first step.
    power_t
        See `learning_rate`.
    max_iter
        The most epochs.
    shuffle
        Whether each epoch has the rows in another order.
    random_state
        Draws initial weights, validation rows and orders.
    tol, n_iter_no_change
        Training ends when the loss, or the validation score, has not improved by `tol` for more than so many epochs.
    verbose
        Print a line an epoch.
    warm_start
        Whether `fit` goes on from the weights of the last one.
    momentum, nesterovs_momentum
        See `jaxmlp.sgd.update`.
    early_stopping, validation_fraction
        Whether to hold out this fraction of the rows, to end training by the score on them, and to keep the weights of
        the best epoch.
    n_networks
        Networks with different initial weights, trained side by side; predictions are the mean of values. The first
        is the one that `n_networks=1` trains.
    clip
        The gradient of each row is scaled down to this norm, before weights and means; None clips nothing.
    dtype
        `"float32"` or `"float64"`; None for that of X (float64 unless X is float32). A table is float32.
    encode_tables
        Take X as a raw table, a data frame or an array of objects: `jaxmlp.data.Columns`, learned in `fit` from its
        rows, turns numbers, text, dates and holes into inputs.

    Attributes
    ----------
    coefs_, intercepts_
        Weights [n_in, n_out] and biases [n_out] of each layer; of several networks with a leading axis.
    loss_, best_loss_, loss_curve_
        The loss of the last epoch, the lowest, and that of each, with the L2 term; means over the networks.
    validation_scores_, best_validation_score_, validation_loss_curve_
        The score on the validation rows after each epoch, the highest, and the loss on them, without the L2 term; None
        without early stopping.
    n_iter_, t_
        The epochs of the last fit, and all rows seen.
    n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As in scikit-learn.
    network_, params_
        The network as `jaxmlp.MLP`, and its parameters as this library has them.
    columns_
        How a table is encoded.

    Notes
    -----
    See `MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> x, y = load_diabetes(return_X_y=True)
    >>> ours = MLPRegressor(learning_rate_init=0.05, max_iter=200, random_state=0).fit(scale(x), scale(y))
    >>> ours.score(scale(x), scale(y)) > 0.5
    True
    """

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
        with self._whole_or_nothing():
            return self._fit_epoch(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted values, [n], or [n, n_outputs]; of several networks their mean."""
        y = self._outputs(X)
        return y[:, 0] if y.shape[1] == 1 else y

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2 of the predicted values, as scikit-learn's regressors do.

        Whole numbers of y are not rounded to float32, as `sklearn.metrics.r2_score` does if predictions are float32.
        """
        return super().score(X, np.asarray(y, np.float64), sample_weight)

    def _ends(self) -> tuple[str, str]:
        return LOSSES[self.loss]

    def _targets(self, y: Any, *, is_first: bool, incremental: bool) -> np.ndarray:
        if self.loss == "poisson" and np.min(y) < 0:
            raise ValueError(f"y must be 0 or larger for loss='poisson', got {np.min(y)}")
        return np.asarray(y, np.float64)  # integers beyond 32 bits would wrap on a device without x64

    def _n_outputs(self, targets: np.ndarray) -> int:
        return targets.shape[1] if targets.ndim == 2 else 1

    def _score_of(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
        if not np.isfinite(outputs).all():
            return np.nan
        return float(r2_score(targets, outputs, sample_weight=weights))
