"""What the classifier and the regressor share: from checked data to problems of `_fitting`, and back to attributes."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxmlp.estimators import _predicting
from jaxmlp.estimators._fitting import (
    Affine,
    Control,
    Fitted,
    Problem,
    Progress,
    Settings,
    Validation,
    fit_problems,
    initial,
)
from jaxmlp.estimators._parameters import ALIASES, activation_name, check_parameters, hidden_sizes
from jaxmlp.network import MLP, Layer, Params

__all__ = ["Perceptron", "Training"]

_AUTO_BATCH = 200

_FLOATS: dict[str | None, Any] = {
    None: (np.float64, np.float32),
    "float64": np.float64,
    "float32": np.float32,
}
"""The types of X that a dtype leaves as they are; the first replaces the others."""


class Training(NamedTuple):
    """Checked data for one fit.

    Attributes
    ----------
    x
        [n, d] in the dtype of the fit.
    targets, weights
        Of the training rows, in their order; `weights` may be None.
    rows
        The training rows of x; None for all.
    affine
        See `Problem`.
    """

    x: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    rows: np.ndarray | None = None
    affine: Affine | None = None


class Perceptron(BaseEstimator, ABC):
    """A multilayer perceptron as an estimator; see `MLPClassifier` and `MLPRegressor`."""

    @property
    def network_(self) -> MLP:
        """The configuration of the network, or of each of several."""
        coefs = self._fitted_attribute("coefs_")
        return self._network((coefs[0].shape[-2], *(coef.shape[-1] for coef in coefs)))

    @property
    def params_(self) -> Params:
        """The parameters as this library has them: `Layer(w: [n_out, n_in], b: [n_out])`, views of `coefs_`.

        Those of several networks have a leading axis.
        """
        layers: Any = zip(self._fitted_attribute("coefs_"), self.intercepts_, strict=True)
        return tuple(Layer(np.swapaxes(coef, -1, -2), intercept) for coef, intercept in layers)

    def _fitted_attribute(self, name: str) -> Any:
        if name not in vars(self):
            raise AttributeError(f"this {type(self).__name__} has no {name} yet: call fit first")
        return vars(self)[name]

    # What a subclass knows.

    @abstractmethod
    def _ends(self) -> tuple[str, str]:
        """Return the loss and the output activation, by this library's names."""

    @abstractmethod
    def _targets(self, y: Any, *, is_first: bool, incremental: bool) -> np.ndarray:
        """Return the targets of the network for checked y, and note what is known about them."""

    def _combined(self, sample_weight: np.ndarray | None, y: Any) -> np.ndarray | None:
        """Return the weights of the training rows, from those that the user gave."""
        return sample_weight

    @abstractmethod
    def _score_of(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
        """Return the score of outputs of one network, as `score` measures it."""

    def _stratify(self, targets: np.ndarray) -> np.ndarray | None:
        """Return what early stopping stratifies its validation rows by."""
        return None

    # From checked data to problems.

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool = False) -> Self:
        check_parameters(self.get_params(deep=False))
        is_first = "coefs_" not in vars(self) or not (self.warm_start or incremental)
        x, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=is_regressor(self),
            dtype=_FLOATS[self.dtype],
            reset=is_first,
        )
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        weights = _checked_weights(sample_weight, x)
        targets = self._targets(y, is_first=is_first, incremental=incremental)
        x = x.toarray() if sparse.issparse(x) else x
        training = Training(x, targets, self._combined(weights, y))
        problems = self._problems(training, is_first=is_first, incremental=incremental)
        self._keep(fit_problems(problems), incremental=incremental)
        return self

    def _network(self, sizes: Sequence[int]) -> MLP:
        loss, output = self._ends()
        return MLP(tuple(sizes), activation_name(self.activation), output, loss)

    def _problems(self, training: Training, *, is_first: bool = True, incremental: bool = False) -> list[Problem]:
        """Return a problem for each network, drawing from the random state in scikit-learn's order."""
        random_state = check_random_state(self.random_state)
        n_outputs = self._n_outputs(training.targets)
        mlp = self._network((training.x.shape[1], *hidden_sizes(self.hidden_layer_sizes), n_outputs))
        dtype = training.x.dtype
        if is_first:
            drawn = _initial_params(mlp, random_state, self.n_networks, dtype)
            starts = [initial(params, self.learning_rate_init) for params in drawn]
        else:
            starts = self._continued(mlp, incremental=incremental)
        rows, validation = self._split(training, random_state, incremental=incremental)
        n_rows = len(training.targets) if rows is None else len(rows)
        if self.batch_size != "auto" and self.batch_size > n_rows:
            warnings.warn(
                f"batch_size {self.batch_size} is larger than the {n_rows} training rows: each epoch is one batch",
                stacklevel=4,
            )
        batch_size = _AUTO_BATCH if self.batch_size == "auto" else int(self.batch_size)
        shared = Problem(
            settings=Settings(mlp, batch_size, bool(self.nesterovs_momentum), bool(self.shuffle), dtype.name),
            x=training.x,
            targets=_of_all_rows(training, training.targets),
            start=starts[0],
            random_state=random_state,
            control=self._control(incremental=incremental),
            alpha=float(self.alpha),
            momentum=float(self.momentum),
            clip=None if self.clip is None else float(self.clip),
            rows=rows,
            weights=None if training.weights is None else _of_all_rows(training, training.weights),
            validation=validation,
            affine=training.affine,
        )
        return [shared._replace(start=start) for start in starts]

    def _n_outputs(self, targets: np.ndarray) -> int:
        return 1 if targets.ndim == 1 else targets.shape[1]

    def _control(self, *, incremental: bool) -> Control:
        return Control(
            float(self.learning_rate_init),
            self.learning_rate,
            float(self.power_t),
            1 if incremental else int(self.max_iter),
            float(self.tol),
            float(self.n_iter_no_change),
        )

    def _split(
        self, training: Training, random_state: np.random.RandomState, *, incremental: bool
    ) -> tuple[np.ndarray | None, Validation | None]:
        """Return the rows to train on, and those that early stopping scores."""
        if not self.early_stopping:
            return training.rows, None
        if incremental:
            raise ValueError("partial_fit does not support early_stopping=True: set early_stopping=False")
        targets, weights = training.targets, training.weights
        fitted, held_out = train_test_split(
            np.arange(len(targets)),
            test_size=self.validation_fraction,
            random_state=random_state,
            stratify=self._stratify(targets),
        )
        if len(held_out) < 2:
            raise ValueError(
                f"the validation set has {len(held_out)} of {len(targets)} samples, expected 2 or more: "
                f"raise validation_fraction, {self.validation_fraction}"
            )
        of_targets, of_weights = targets[held_out], None if weights is None else weights[held_out]

        def score(outputs: np.ndarray) -> float:
            return self._score_of(outputs, of_targets, of_weights)

        if training.rows is not None:
            fitted, held_out = training.rows[fitted], training.rows[held_out]
        return fitted, Validation(held_out, score)

    def _continued(self, mlp: MLP, *, incremental: bool) -> list[Fitted]:
        """Return the states that a further fit starts from: with the same parameters, but a new momentum."""
        if mlp != self.network_:
            raise ValueError(
                f"the network was {self.network_}, and is now to be {mlp}: set warm_start=False to begin anew"
            )
        starts = []
        for params, (kept, kept_dw) in zip(self._networks(), self._kept, strict=True):
            progress = Progress(**kept)._replace(n_iter=0, status="running")
            start = initial(params, progress.learning_rate if incremental else self.learning_rate_init)
            dw = tuple(map(Layer._make, kept_dw)) if incremental else start.dw
            progress = progress._replace(learning_rate=start.progress.learning_rate)
            starts.append(start._replace(dw=dw, progress=progress))
        return starts

    def _networks(self) -> list[Params]:
        params = self.params_
        if params[0].b.ndim == 1:
            return [params]
        return [tuple(Layer(w[k], b[k]) for w, b in params) for k in range(len(params[0].b))]

    # From results to attributes.

    def _keep(self, fitted: list[Fitted], *, incremental: bool = False) -> None:
        statuses = [each.progress.status for each in fitted]
        for each in fitted:
            if not all(np.isfinite(array).all() for layer in each.params for array in layer):
                raise ValueError(
                    f"training diverged: a weight is not finite after {each.progress.n_iter} epochs; scale the columns "
                    f"of X, or lower learning_rate_init, {self.learning_rate_init}"
                )
        layers = list(zip(*(each.params for each in fitted), strict=True))
        weights = [[layer.w.T for layer in of_networks] for of_networks in layers]
        self.coefs_ = [_stacked(of_networks) for of_networks in weights]
        self.intercepts_ = [_stacked([layer.b for layer in of_networks]) for of_networks in layers]
        self._kept: list[tuple[dict[str, Any], list[tuple[Any, ...]]]] = [
            (each.progress._asdict(), [tuple(layer) for layer in each.dw]) for each in fitted
        ]
        progresses = [each.progress for each in fitted]
        self.n_iter_ = max(progress.n_iter for progress in progresses)
        self.t_ = max(progress.n_examples for progress in progresses)
        self.loss_curve_ = _mean_curve([progress.losses for progress in progresses])
        self.loss_ = self.loss_curve_[-1]
        self.validation_scores_ = self.validation_loss_curve_ = self.best_validation_score_ = self.best_loss_ = None
        if self.early_stopping:
            self.validation_scores_ = _mean_curve([progress.validation_scores for progress in progresses])
            self.validation_loss_curve_ = _mean_curve([progress.validation_losses for progress in progresses])
            self.best_validation_score_ = float(np.mean([progress.best_score for progress in progresses]))
        else:
            self.best_loss_ = float(np.mean([progress.best_loss for progress in progresses]))
        self.n_layers_ = len(self.coefs_) + 1
        self.n_outputs_ = self.coefs_[-1].shape[-1]
        names = {own: name for name, own in ALIASES.items()}
        self.out_activation_ = names.get(self._ends()[1], self._ends()[1])
        if "interrupted" in statuses:
            warnings.warn(f"training was interrupted after {self.n_iter_} epochs", stacklevel=4)
        elif "max_iter" in statuses and not incremental:
            warnings.warn(
                f"training ended at max_iter={self.max_iter} epochs, while the loss still improved by tol={self.tol}",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _outputs(self, X: Any, *, is_log: bool = False) -> np.ndarray:
        check_is_fitted(self)
        x = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        x = x.tocsr() if sparse.issparse(x) else x
        function = _predicting.log_outputs if is_log else _predicting.outputs
        return function(self.network_, self.params_, x)

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks estimators about themselves."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _initial_params(mlp: MLP, random_state: np.random.RandomState, n_networks: int, dtype: np.dtype) -> list[Params]:
    """Draw uniform weights and biases (Glorot & Bengio 2010), the first network's from the random state itself.

    The first of several networks is then the one that a single network would be. The others have states of their own.
    """
    seeds = deepcopy(random_state).randint(2**32 - 1, size=n_networks - 1, dtype=np.uint32)
    states = [random_state, *map(np.random.RandomState, seeds)]
    return [_glorot(mlp, state, dtype) for state in states]


def _glorot(mlp: MLP, random_state: np.random.RandomState, dtype: np.dtype) -> Params:
    scale = 2.0 if mlp.activation == "sigmoid" else 6.0  # as in scikit-learn
    layers: list[Any] = []
    for n_in, n_out in pairwise(mlp.sizes):
        bound = np.sqrt(scale / (n_in + n_out))
        w = random_state.uniform(-bound, bound, (n_in, n_out)).T
        b = random_state.uniform(-bound, bound, n_out)
        layers.append((w.astype(dtype), b.astype(dtype)))
    return tuple(map(Layer._make, layers))


def _checked_weights(sample_weight: Any, x: Any) -> np.ndarray | None:
    """Return the weights [n] of the rows, of one number if that is given; at least one is not 0."""
    if sample_weight is None:
        return None
    n = x.shape[0]
    if np.ndim(sample_weight) == 0:
        sample_weight = np.full(n, sample_weight)
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=(np.float64, np.float32), input_name="sample_weight", ensure_min_samples=0
    )
    if weights.ndim != 1 or len(weights) != n:
        raise ValueError(f"sample_weight must be one number for each of the {n} rows, got shape {weights.shape}")
    if weights.min() < 0 or not weights.any():
        raise ValueError(
            f"sample_weight must be 0 or larger, and not 0 for all rows, got {weights.min()} to {weights.max()}"
        )
    return weights.astype(x.dtype, copy=False)


def _of_all_rows(training: Training, values: np.ndarray) -> np.ndarray:
    """Return values for all rows of x; rows that are not trained on have 0."""
    if training.rows is None:
        return values
    spread = np.zeros((len(training.x), *values.shape[1:]), values.dtype)
    spread[training.rows] = values
    return spread


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return a network's array, or those of several with a leading axis."""
    return np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.stack(arrays)


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of curves of several networks; those that ended earlier keep their last value."""
    longest = max(map(len, curves))
    filled = [[*curve, *[curve[-1]] * (longest - len(curve))] for curve in curves]
    return [float(value) for value in np.mean(filled, axis=0)]
