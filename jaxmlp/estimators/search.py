"""scikit-learn's searches of hyperparameters, with fits that train side by side; see `side_by_side`."""

from typing import Any, Self

from sklearn import model_selection
from sklearn.experimental import enable_halving_search_cv as _  # noqa: F401

from jaxmlp.estimators._side_by_side import side_by_side

__all__ = ["GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV"]


class _FitsSideBySide:
    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Run the search as scikit-learn does, with all fits of a rung or a grid side by side."""
        with side_by_side():
            search: Any = super()
            return search.fit(X, y, **params)


class GridSearchCV(_FitsSideBySide, model_selection.GridSearchCV):
    """`sklearn.model_selection.GridSearchCV`, for networks of this library.

    Arguments, attributes and results are scikit-learn's. `side_by_side` says which fits train side by side, and what
    the times of fits are. `n_jobs` and `pre_dispatch` have no effect.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from jaxmlp.estimators import GridSearchCV, MLPClassifier
    >>> network = MLPClassifier((8,), learning_rate_init=0.03, tol=0.01, random_state=1)
    >>> search = GridSearchCV(network, {"alpha": [30.0, 0.1]}).fit(*load_iris(return_X_y=True))
    >>> search.best_params_
    {'alpha': 0.1}
    """


class RandomizedSearchCV(_FitsSideBySide, model_selection.RandomizedSearchCV):
    """`sklearn.model_selection.RandomizedSearchCV`, for networks of this library; see `GridSearchCV`."""


class HalvingGridSearchCV(_FitsSideBySide, model_selection.HalvingGridSearchCV):
    """`sklearn.model_selection.HalvingGridSearchCV`, for networks of this library; see `GridSearchCV`.

    Importing it enables scikit-learn's experimental class.
    """


class HalvingRandomSearchCV(_FitsSideBySide, model_selection.HalvingRandomSearchCV):
    """`sklearn.model_selection.HalvingRandomSearchCV`, for networks of this library; see `HalvingGridSearchCV`."""
