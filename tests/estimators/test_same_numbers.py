"""The numbers of scikit-learn's own perceptrons: weights, curves, scores and counts of the same fit.

Both draw initial weights, validation rows and orders from the same random state, so the fits are the same but for the
roundings of sums in another order: 1e-10 after a few epochs, for numbers below 10, is 400,000 roundings.
"""

import warnings
from inspect import signature

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from jaxmlp.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
CLOSE = {"rtol": 0, "atol": 1e-10}


def standardised(load):
    x, y = load(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def multilabel():
    x, y = standardised(load_iris)
    return x, np.stack([y == 0, x[:, 0] > 0, y != 1], axis=1).astype(int)


def regression():
    x, y = standardised(load_diabetes)
    return x, y / 100


def several_outputs():
    x, y = regression()
    return x, np.stack([y, y**2 - 3], axis=1)


def counts():
    x, y = standardised(load_breast_cancer)
    return x, np.random.default_rng(0).poisson(np.exp(0.3 * x[:, :2] + y[:, None])).astype(float)


def text_labels():
    x, y = standardised(load_iris)
    return x, np.array(["setosa", "versicolor", "virginica"])[y]


# Each row is a program of its own: the network, the batches, nesterov, validation rows.
FITS = {
    "binary": (lambda: standardised(load_breast_cancer), {"activation": "relu", "hidden_layer_sizes": (7, 5)}),
    "binary, early stopping": (
        lambda: standardised(load_breast_cancer),
        {"activation": "tanh", "early_stopping": True, "n_iter_no_change": 2, "max_iter": 12},
    ),
    "multiclass": (lambda: standardised(load_iris), {"activation": "logistic", "batch_size": 40}),
    "multiclass, text, early stopping": (
        text_labels,
        {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 2, "max_iter": 12},
    ),
    "multilabel": (multilabel, {"activation": "tanh", "nesterovs_momentum": False}),
    "multilabel, early stopping": (multilabel, {"activation": "identity", "early_stopping": True, "max_iter": 12}),
    "regression": (regression, {"activation": "identity", "batch_size": 60, "hidden_layer_sizes": (7, 5, 4)}),
    "regression, early stopping": (regression, {"activation": "logistic", "early_stopping": True, "max_iter": 12}),
    "regression, several outputs": (several_outputs, {"activation": "relu", "hidden_layer_sizes": (9,)}),
    "counts": (counts, {"loss": "poisson", "activation": "tanh"}),
    "regression, no hidden layer": (several_outputs, {"hidden_layer_sizes": (), "shuffle": False}),
}

# These change no program.
NUMBERS = [
    {},
    {"alpha": 1.0, "momentum": 0.0, "shuffle": False},
    {"learning_rate": "invscaling", "power_t": 0.2, "random_state": 3},
    {"learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.3, "max_iter": 9, "momentum": 1.0},
    {"learning_rate_init": 0.05, "tol": 0.05, "n_iter_no_change": 1, "max_iter": 20},
]


def pair(y, **settings):
    """Return scikit-learn's estimator and ours."""
    is_classes = y.dtype.kind in "iU"
    names = ("MLPClassifier", MLPClassifier) if is_classes else ("MLPRegressor", MLPRegressor)
    parameters = {"random_state": 0, "max_iter": 3, "hidden_layer_sizes": (7,), "learning_rate_init": 0.02} | settings
    return getattr(sklearn.neural_network, names[0])(solver="sgd", **parameters), names[1](**parameters)


def assert_same(theirs, ours, x):
    for one, other in zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True):
        np.testing.assert_allclose(other, one, **CLOSE)
        assert other.dtype == one.dtype
    for name in ("loss_", "loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        one, other = getattr(theirs, name), getattr(ours, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(other, one, **CLOSE, err_msg=name)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(theirs, name) == getattr(ours, name), name
    for name in ("predict_proba", "predict_log_proba", "predict"):
        if hasattr(theirs, name):
            one, other = getattr(theirs, name)(x), getattr(ours, name)(x)
            assert one.dtype == other.dtype
            if name == "predict_log_proba":  # theirs lose the digits of small probabilities
                one, other = one[one > -10], other[one > -10]
            if one.dtype.kind == "f":
                np.testing.assert_allclose(other, one, rtol=0, atol=1e-9)
            else:
                np.testing.assert_array_equal(other, one)


HAS_WEIGHTS = "sample_weight" in signature(sklearn.neural_network.MLPClassifier.fit).parameters
WEIGHTED = pytest.param(True, marks=pytest.mark.skipif(not HAS_WEIGHTS, reason="they came with scikit-learn 1.7"))


@pytest.mark.parametrize("is_weighted", [False, WEIGHTED], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("fit", FITS)
def test_a_fit_is_that_of_scikit_learn(fit, is_weighted):
    load, of_fit = FITS[fit]
    x, y = load()
    if "loss" in of_fit and "loss" not in signature(sklearn.neural_network.MLPRegressor).parameters:
        pytest.skip("its losses came with scikit-learn 1.7")
    if y.dtype.kind == "U" and parse_version(sklearn.__version__) < parse_version("1.9"):
        pytest.skip("scikit-learn itself could not score text before 1.9")
    weights = {"sample_weight": np.random.default_rng(0).uniform(0, 3, len(y))} if is_weighted else {}
    for numbers in NUMBERS:
        theirs, ours = pair(y, **of_fit | numbers)
        assert_same(theirs.fit(x, y, **weights), ours.fit(x, y, **weights), x)
        assert ours.score(x, y, **weights) == pytest.approx(theirs.score(x, y, **weights), abs=1e-10)


def test_a_fit_that_goes_on_is_that_of_scikit_learn():
    x, y = standardised(load_breast_cancer)
    theirs, ours = pair(y, warm_start=True, learning_rate="invscaling", n_iter_no_change=3)
    for seed in range(3):
        for each in (theirs, ours):
            each.set_params(random_state=seed).fit(x, y)
        assert_same(theirs, ours, x)


@pytest.mark.parametrize("load", [lambda: standardised(load_iris), regression], ids=["classes", "values"])
def test_epochs_one_call_at_a_time_are_those_of_scikit_learn(load):
    x, y = load()
    theirs, ours = pair(y, learning_rate="invscaling", power_t=0.1)
    for each in (theirs, ours):
        each.set_params(random_state=np.random.RandomState(0))
    classes = {"classes": np.unique(y)} if y.dtype.kind == "i" else {}
    for part in range(4):
        rows = slice(30 * part, 30 * part + 90)
        for each in (theirs, ours):
            each.partial_fit(x[rows], y[rows], **classes)
        assert_same(theirs, ours, x)
    assert len(ours.loss_curve_) == 4


def test_partial_fit_after_fit_goes_on_with_its_momentum_as_in_scikit_learn():
    x, y = standardised(load_breast_cancer)
    theirs, ours = pair(y, learning_rate="adaptive", n_iter_no_change=1, tol=0.5)
    for each in (theirs, ours):
        each.fit(x, y).partial_fit(x, y).partial_fit(x, y)
    assert_same(theirs, ours, x)
    for each in (theirs, ours):
        each.fit(x, y)
    assert_same(theirs, ours, x)


def test_the_global_random_state_is_used_and_left_as_by_scikit_learn():
    x, y = standardised(load_iris)
    theirs, ours = pair(y, random_state=None, early_stopping=True)
    ends = []
    for each in (theirs, ours):
        np.random.seed(5)  # noqa: NPY002
        each.fit(x, y)
        ends.append(np.random.randint(2**31))  # noqa: NPY002
    assert_same(theirs, ours, x)
    assert ends[0] == ends[1]


def test_float32_data_stay_float32_and_give_the_numbers_of_scikit_learn():
    x, y = standardised(load_breast_cancer)
    x = x.astype(np.float32)
    theirs, ours = pair(y)
    theirs.fit(x, y)
    ours.fit(x, y)
    assert [coef.dtype for coef in ours.coefs_] == [np.float32] * 2
    assert ours.predict_proba(x).dtype == np.float32
    # 9 steps in float32, of numbers near 1.
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-5)


def test_scikit_learn_warns_about_the_same_fits():
    x, y = standardised(load_iris)
    for settings in ({}, {"tol": 10.0, "n_iter_no_change": 1, "max_iter": 9}):
        for each in pair(y, **settings):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                each.fit(x, y)
            assert [warning.category for warning in caught] == ([ConvergenceWarning] if not settings else [])


def test_linnerud_in_its_own_units_diverges_in_both():
    x, y = load_linnerud(return_X_y=True)
    for each in pair(y, learning_rate_init=10.0, activation="identity", max_iter=200):
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"non-finite|not finite"):
            each.fit(x, y)
