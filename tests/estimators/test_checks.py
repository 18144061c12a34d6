"""scikit-learn's own checks of estimators: all pass, and none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from jaxmlp.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]

# Compiling takes most of the time, and half of it without a hidden layer.
SHORT = {"max_iter": 40, "learning_rate_init": 0.05}
CASES = [
    pytest.param(*case, id=f"{type(estimator).__name__}-{case[1].func.__name__}")
    for estimator in (MLPClassifier((20,), **SHORT), MLPRegressor(hidden_layer_sizes=(), **SHORT))
    for case in estimator_checks_generator(estimator)
]


@pytest.mark.parametrize(("estimator", "check"), CASES)
def test_check(estimator, check):
    check(estimator)
