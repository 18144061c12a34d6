"""scikit-learn's own checks of estimators: all pass, and none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxmlp.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]

SHORT = {"max_iter": 40, "learning_rate_init": 0.05, "hidden_layer_sizes": (20,)}  # compiling takes most of the time


@parametrize_with_checks([MLPClassifier(**SHORT), MLPRegressor(**SHORT)])
def test_check(estimator, check):
    check(estimator)
