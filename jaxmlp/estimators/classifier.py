"""`MLPClassifier`: scikit-learn's classifier, trained by this library."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from jaxmlp.estimators._base import Perceptron
from jaxmlp.estimators._callbacks import with_callbacks

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, Perceptron):
    """A multilayer perceptron that classifies, trained by stochastic gradient descent."""

    def __init__(  # noqa: D107
        self,
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
        class_weight: Any = None,
        n_networks: int = 1,
        clip: float | None = None,
        dtype: str | None = None,
        encode_tables: bool = False,
    ) -> None:
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
        self.class_weight = class_weight
        self.n_networks = n_networks
        self.clip = clip
        self.dtype = dtype
        self.encode_tables = encode_tables

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X: [n, d] and the labels y: [n], or [n, n_labels] of 0 and 1 if a row may have several.

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

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch on X and y, and go on from earlier calls.

        Parameters
        ----------
        classes
            All labels that any call will see; needed in the first call.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"partial_fit does not know all labels that class_weight={self.class_weight!r} counts: give a "
                "dict, as from compute_class_weight, or sample_weight"
            )
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit")
            self._learn_classes(y if type_of_target(y).startswith("multilabel") else classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes {classes} are not those of the first call to partial_fit: {self.classes_}")
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row, [n]; or [n, n_labels] of 0 and 1."""
        y = self._outputs(X)
        return self._label_binarizer.inverse_transform(y[:, 0] if y.shape[1] == 1 else y)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each label in `classes_`, [n, n_classes]; of several networks their mean."""
        y = self._outputs(X)
        if len(self.classes_) == 1:
            return np.ones_like(y)
        return np.hstack([1 - y, y]) if y.shape[1] == 1 else y

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`, also where that is rounded to 0 or 1."""
        logs = self._outputs(X, is_log=True)
        if self._ends()[1] == "softmax":
            return logs
        log_y, log_not_y = logs
        if len(self.classes_) == 1:
            return np.zeros_like(log_y)
        return np.hstack([log_not_y, log_y]) if log_y.shape[1] == 1 else log_y

    def _ends(self) -> tuple[str, str]:
        if self._label_binarizer.y_type_ == "multiclass":
            return "cross_entropy", "softmax"
        return "binary_cross_entropy", "sigmoid"

    def _targets(self, y: Any, *, is_first: bool, incremental: bool) -> np.ndarray:
        check_classification_targets(y)
        if is_first and not incremental:
            self._learn_classes(y)
        else:
            self._check_classes(y)
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return self._label_binarizer.transform(y).astype(np.uint8)
        return np.searchsorted(self.classes_, y).astype(np.int32)

    def _learn_classes(self, y: Any) -> None:
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_

    def _learn_labels(self, labels: np.ndarray | None, *, is_multilabel: bool) -> None:
        assert labels is not None
        self._learn_classes(np.eye(len(labels), dtype=int) if is_multilabel else labels)

    def _check_classes(self, y: Any) -> None:
        """Check that a further fit has known labels only, and with `warm_start` all of them."""
        given, known = set(unique_labels(y)), set(self.classes_)
        if not given <= known or (self.warm_start and given != known):
            raise ValueError(
                f"y must have {'the' if self.warm_start else 'no other'} labels {self.classes_}, got {unique_labels(y)}"
                + (": set warm_start=False to begin anew" if self.warm_start else "")
            )

    def _weights(self, sample_weight: np.ndarray | None, y: Any) -> np.ndarray | None:
        if self.class_weight is None:
            return sample_weight
        of_classes = compute_sample_weight(self.class_weight, y)
        return of_classes if sample_weight is None else of_classes * sample_weight

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        return targets if self._ends()[1] == "sigmoid" and targets.ndim == 1 else None  # as scikit-learn does

    def _n_outputs(self, targets: np.ndarray) -> int:
        if self._label_binarizer.y_type_ == "multiclass":
            return len(self.classes_)
        return targets.shape[1] if targets.ndim == 2 else 1

    def _score_of(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
        if not np.isfinite(outputs).all():
            return np.nan
        if self._ends()[1] == "softmax":
            right = outputs.argmax(1) == targets
        else:
            right = ((outputs > 0.5) == targets.reshape(len(outputs), -1)).all(1)
        return float(np.average(right, weights=weights))

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks estimators about themselves."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
