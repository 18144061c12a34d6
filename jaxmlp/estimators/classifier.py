"""`MLPClassifier`: scikit-learn's classifier, trained by this library."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from jaxmlp.estimators._base import Perceptron
from jaxmlp.estimators._callbacks import with_callbacks
from jaxmlp.estimators._inputs import as_array

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, Perceptron):
    """A multilayer perceptron that classifies: scikit-learn's `MLPClassifier(solver="sgd")`, trained by this library.

    Parameters, meanings and defaults are those of scikit-learn, but for `solver`. With equal parameters, data and
    `random_state` so are the numbers, to 1e-10 in float64. (Losses count probabilities below 2e-16 as they are;
    scikit-learn takes them for 2e-16.) X may be an array, a data frame or a sparse matrix. A row has one label of two
    or more, numbers or text, or several labels: then y is a matrix of 0 and 1.

    Parameters
    ----------
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
    class_weight
        A dict from labels to weights, or `"balanced"`: the weights of rows are multiplied by those of their labels.
    n_networks
        Networks with different initial weights, trained side by side; predictions are the mean of probabilities. The
        first is the one that `n_networks=1` trains.
    clip
        The gradient of each row is scaled down to this norm, before weights and means; None clips nothing.
    dtype
        `"float32"` or `"float64"`; None for that of X (float64 unless X is float32). A table is float32.
    encode_tables
        Take X as a raw table, a data frame or an array of objects: `jaxmlp.data.Columns`, learned in `fit` from its
        rows, turns numbers, text, dates and holes into inputs.

    Attributes
    ----------
    classes_
        The labels.
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
    Fits run in threads and in processes of joblib's `loky`, but not in processes made by fork: JAX has threads. A
    program is compiled for each shape of network and batch, which takes about a second, and is then kept.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> ours = MLPClassifier(learning_rate_init=0.05, max_iter=300, random_state=0).fit(x, y)
    >>> ours.score(x, y) > 0.95
    True
    """

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
        with self._whole_or_nothing():
            if not hasattr(self, "classes_"):
                if classes is None:
                    raise ValueError("classes must be passed on the first call to partial_fit")
                self._learn_classes(y if type_of_target(y).startswith("multilabel") else classes)
            elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
                raise ValueError(f"classes {classes} are not those of the first call to partial_fit: {self.classes_}")
            return self._fit_epoch(X, y, sample_weight)

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
        if self.network_.output == "softmax":
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
            return self._label_binarizer.transform(as_array(y, "y")).astype(np.uint8)
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
