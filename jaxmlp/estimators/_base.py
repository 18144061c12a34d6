"""What the classifier and the regressor share: from checked data to problems of `_fitting`, and back to attributes."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jaxmlp.data import Columns, Expansion
from jaxmlp.estimators import _predicting, _saving
from jaxmlp.estimators._callbacks import FRAMES, CallbackSupportMixin, Reports
from jaxmlp.estimators._fitting import Control, Fitted, Problem, Settings, Validation, fit_problems, initial
from jaxmlp.estimators._inputs import as_array, check_targets, check_weights, inputs_and_targets, new_inputs
from jaxmlp.estimators._parameters import ALIASES, activation_name, check_in_dtype, check_parameters, hidden_sizes
from jaxmlp.estimators._results import attributes_of, check_finite, continued, networks_of, params_of, warn_of_end
from jaxmlp.estimators._starting import initial_params
from jaxmlp.network import MLP, Params

__all__ = ["Perceptron"]

_AUTO_BATCH = 200  # the rows of a batch if batch_size is "auto"
_OUTPUT_NAMES = {own: name for name, own in ALIASES.items()}


class _Training(NamedTuple):
    """Checked data of one fit: x [n, d] in its dtype, targets, weights or None, and how a row of x is expanded."""

    x: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    expansion: Expansion | None


class Perceptron(CallbackSupportMixin, BaseEstimator, ABC):
    """A multilayer perceptron as an estimator; see `MLPClassifier` and `MLPRegressor`."""

    @property
    def network_(self) -> MLP:
        """The configuration of the network, or of each of several."""
        return MLP(**self._attribute("_mlp"))

    @property
    def params_(self) -> Params:
        """The parameters as this library has them: `Layer(w: [n_out, n_in], b: [n_out])`, views of `coefs_`.

        Those of several networks have a leading axis.
        """
        return params_of(self._attribute("coefs_"), self._attribute("intercepts_"))

    @property
    def columns_(self) -> Columns:
        """How the columns of a table are encoded; of a fit with `encode_tables`."""
        columns = self._attribute("_columns")
        if columns is None:
            raise AttributeError(f"this {type(self).__name__} has no columns_: fit it with encode_tables=True")
        return Columns.from_json(columns)

    def _attribute(self, name: str) -> Any:
        if name not in vars(self):
            raise AttributeError(f"this {type(self).__name__} has no {name.lstrip('_')}: call fit first")
        return vars(self)[name]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to a safetensors file, which `from_file` and `jaxmlp.load` read.

        Nothing in it is pickled. A random state and the last step of momentum are not in it. Raise the errors of
        `jaxmlp.save`.
        """
        check_is_fitted(self)
        _saving.write(path, self, networks_of(self.params_))

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Self:
        """Return the estimator in a file that `save` wrote: it predicts, and `partial_fit` goes on.

        Raise a `FileNotFoundError` if there is no such file, a `ValueError` if another estimator or none is in it.
        """
        saved = _saving.read(path, cls.__name__)
        estimator = cls(**saved.parameters)
        estimator.n_features_in_ = saved.n_features
        if saved.feature_names is not None:
            estimator.feature_names_in_ = saved.feature_names
        estimator._columns = saved.columns
        estimator._learn_labels(saved.classes, is_multilabel=saved.is_multilabel)
        estimator._learn_network(saved.mlp)
        estimator._keep(saved.fitted)
        return estimator

    # What a subclass knows.

    @abstractmethod
    def _ends(self) -> tuple[str, str]:
        """Return the loss and the output activation, by this library's names."""

    @abstractmethod
    def _targets(self, y: Any, *, is_first: bool, incremental: bool) -> np.ndarray:
        """Return the targets of the network for checked y, and note what is known about them."""

    @abstractmethod
    def _n_outputs(self, targets: np.ndarray) -> int:
        """Return the number of outputs of the network."""

    @abstractmethod
    def _score_of(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
        """Return the score of outputs of one network, as `score` measures it."""

    def _learn_labels(self, labels: np.ndarray | None, *, is_multilabel: bool) -> None:
        """Note the labels of a classifier that is read from a file."""

    def _weights(self, sample_weight: np.ndarray | None, y: Any) -> np.ndarray | None:
        """Return the weights of the training rows, from those that the user gave."""
        return sample_weight

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Return what early stopping stratifies its validation rows by."""
        return None

    # Fitting.

    @contextmanager
    def _whole_or_nothing(self) -> Iterator[None]:
        """Leave the estimator as it was if an error ends this: never labels of one fit with weights of another."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            for name in self.__dict__.keys() - before.keys():
                delattr(self, name)
            self.__dict__.update(before)
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        check_parameters(self.get_params(deep=False))
        reports = Reports(self, X, y, sample_weight)
        with self._whole_or_nothing():
            fitted = fit_problems(self._problems(X, y, sample_weight, incremental=False), reports.after_epoch)
            self._keep(fitted)
        warn_of_end(fitted, self.tol, stacklevel=4 + FRAMES)
        reports.after_fit()
        return self

    def _fit_epoch(self, X: Any, y: Any, sample_weight: Any) -> Self:
        check_parameters(self.get_params(deep=False))
        self._check_incremental()
        self._keep(fit_problems(self._problems(X, y, sample_weight, incremental=True)))
        return self

    def _problems(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> list[Problem]:
        """Return a problem for each network, and note what they show of columns, labels and networks."""
        is_first = "coefs_" not in vars(self) or not (self.warm_start or incremental)
        inputs, y_checked = inputs_and_targets(self, X, y, reset=is_first)
        check_in_dtype(self.get_params(deep=False), inputs.x.dtype)
        weights = check_weights(sample_weight, inputs.x)
        targets = self._targets(y_checked, is_first=is_first, incremental=incremental)
        check_targets(targets, inputs.x.dtype)
        training = _Training(as_array(inputs.x, "X"), targets, self._weights(weights, y_checked), inputs.expansion)
        return self._drawn(training, is_first=is_first, incremental=incremental)

    def _check_incremental(self) -> None:
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: set early_stopping=False")
        if self.learning_rate in ("cosine", "step"):
            raise ValueError(
                f"partial_fit does not know the epoch that learning_rate={self.learning_rate!r} counts: set "
                "learning_rate='constant', 'invscaling' or 'adaptive'"
            )

    def _drawn(self, training: _Training, *, is_first: bool, incremental: bool) -> list[Problem]:
        """Return a problem for each network, drawing from the random state in scikit-learn's order."""
        x, targets, weights, expansion = training
        random_state = check_random_state(self.random_state)
        n_inputs = x.shape[1] if expansion is None else expansion.n_inputs
        sizes = n_inputs, *hidden_sizes(self.hidden_layer_sizes), self._n_outputs(targets)
        loss, output = self._ends()
        mlp = MLP(sizes, activation_name(self.activation), output, loss)
        starts = self._starts(mlp, random_state, x.dtype, is_first=is_first, incremental=incremental)
        rows, validation = self._split(training, random_state)
        batch_size = _AUTO_BATCH if self.batch_size == "auto" else int(self.batch_size)
        n_rows = len(targets) if rows is None else len(rows)
        if self.batch_size != "auto" and batch_size > n_rows:
            warnings.warn(
                f"batch_size {batch_size} is larger than the {n_rows} training rows: an epoch is one batch of all",
                stacklevel=5 if incremental else 5 + FRAMES,
            )
        self._learn_network(mlp)
        shared = Problem(
            settings=Settings(mlp, batch_size, bool(self.nesterovs_momentum), bool(self.shuffle), x.dtype.name),
            x=x,
            targets=targets,
            start=starts[0],
            random_state=random_state,
            control=Control(
                float(self.learning_rate_init),
                self.learning_rate,
                float(self.power_t),
                1 if incremental else int(self.max_iter),
                float(self.tol),
                float(self.n_iter_no_change),
            ),
            alpha=float(self.alpha),
            momentum=float(self.momentum),
            clip=None if self.clip is None else float(self.clip),
            rows=rows,
            weights=weights,
            validation=validation,
            expansion=expansion,
        )
        return [shared._replace(start=start) for start in starts]

    def _starts(
        self, mlp: MLP, random_state: np.random.RandomState, dtype: np.dtype, *, is_first: bool, incremental: bool
    ) -> list[Fitted]:
        if is_first:
            drawn = initial_params(mlp, random_state, self.n_networks, dtype)
            return [initial(params, float(self.learning_rate_init)) for params in drawn]
        if mlp != self.network_ or self.n_networks != len(self._dw):
            raise ValueError(
                f"the fit goes on from {len(self._dw)} of {self.network_}, but the parameters make "
                f"{self.n_networks} of {mlp}: set warm_start=False and call fit to begin anew"
            )
        return continued(
            networks_of(self.params_), self._progress, self._dw, None if incremental else self.learning_rate_init
        )

    def _split(
        self, training: _Training, random_state: np.random.RandomState
    ) -> tuple[np.ndarray | None, Validation | None]:
        """Return the rows to train on, and those that early stopping scores."""
        if not self.early_stopping:
            return None, None
        targets, weights = training.targets, training.weights
        rows, held_out = train_test_split(
            np.arange(len(targets)),
            test_size=self.validation_fraction,
            random_state=random_state,
            stratify=self._strata(targets),
        )
        if len(held_out) < 2:
            raise ValueError(
                f"the validation set has {len(held_out)} of {len(targets)} samples, expected 2 or more: raise "
                f"validation_fraction, {self.validation_fraction}"
            )
        for name, of_rows in (("training", rows), ("validation", held_out)):
            if weights is not None and not weights[of_rows].any():
                raise ValueError(f"sample_weight is zero for all {len(of_rows)} {name} rows of early stopping")

        def score(outputs: np.ndarray) -> float:
            return self._score_of(outputs, targets[held_out], None if weights is None else weights[held_out])

        return rows, Validation(held_out, score)

    def _keep(self, fitted: list[Fitted]) -> None:
        check_finite(fitted, self.learning_rate_init)
        for name, value in attributes_of(fitted).items():
            setattr(self, name, value)

    def _learn_network(self, mlp: MLP) -> None:
        self._mlp = asdict(mlp)  # plain values, so that no class of ours is in a saved estimator
        self.out_activation_ = _OUTPUT_NAMES.get(mlp.output, mlp.output)

    # Predicting.

    def _outputs(self, X: Any, *, is_log: bool = False) -> np.ndarray:
        check_is_fitted(self)
        function = _predicting.log_outputs if is_log else _predicting.outputs
        return function(self.network_, self.params_, *new_inputs(self, X))

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks estimators about themselves."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.encode_tables
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = self.encode_tables
        return tags
