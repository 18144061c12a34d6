"""The estimators inside of scikit-learn's tools, in threads and in other processes, on real data."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn import set_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import BaggingClassifier, StackingRegressor, VotingClassifier
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_validate, learning_curve
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from jaxmlp.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
FRAME, Y = load_breast_cancer(return_X_y=True, as_frame=True)
FRAME = FRAME.iloc[:, :8]
X = StandardScaler().fit_transform(FRAME)
# One network in all tests, without a hidden layer: few programs, which compile fast.
OURS = MLPClassifier((), learning_rate_init=0.1, max_iter=15, random_state=0)


def test_in_a_pipeline_with_cross_validation():
    scores = cross_validate(make_pipeline(StandardScaler(), OURS), FRAME, Y, cv=3, scoring=["accuracy", "roc_auc"])
    assert scores["test_accuracy"].min() > 0.9
    assert scores["test_roc_auc"].min() > 0.95


def test_behind_a_column_transformer():
    columns = [("number", StandardScaler(), ["mean radius", "mean texture"])]
    columns += [("bin", KBinsDiscretizer(4, strategy="uniform"), ["mean area", "mean smoothness"])]
    for threshold in (0, 1):  # 1 makes the transformed columns sparse
        ours = make_pipeline(ColumnTransformer(columns, sparse_threshold=threshold), OURS).fit(FRAME, Y)
        assert ours.score(FRAME, Y) > 0.85


def test_learning_curve_grows_with_the_rows():
    _, _, test = learning_curve(OURS, X, Y, cv=3, train_sizes=[0.05, 1.0], shuffle=True, random_state=0)
    assert test[1].mean() > max(0.9, test[0].mean())


def test_calibrated():
    calibrated = CalibratedClassifierCV(OURS, cv=3).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (569, 2)
    assert calibrated.score(X, Y) > 0.9


def test_voting_with_another_classifier():
    voting = VotingClassifier([("ours", OURS), ("bayes", GaussianNB())], voting="soft").fit(X, Y)
    proba = [each.predict_proba(X) for each in voting.estimators_]
    np.testing.assert_allclose(voting.predict_proba(X), np.mean(proba, axis=0), rtol=0, atol=1e-12)


def test_bagging_with_weights():
    bagged = BaggingClassifier(OURS, n_estimators=3, random_state=0).fit(X, Y)
    assert bagged.score(X, Y) > 0.9
    assert len({each.random_state for each in bagged.estimators_}) == 3


def test_stacking_and_a_transformed_target():
    x, y = load_diabetes(return_X_y=True)
    ours = MLPRegressor(hidden_layer_sizes=(10,), learning_rate_init=0.05, max_iter=20, random_state=0, tol=1e-6)
    scaled = TransformedTargetRegressor(make_pipeline(StandardScaler(), ours), transformer=StandardScaler())
    stack = StackingRegressor([("ours", scaled), ("line", LinearRegression())], cv=3).fit(x, y)
    assert stack.score(x, y) > 0.4


def test_inspection_finds_what_matters():
    y = (FRAME["mean texture"] > 19).to_numpy()
    ours = make_pipeline(StandardScaler(), clone(OURS).set_params(max_iter=60)).fit(FRAME, y)
    importances = permutation_importance(ours, FRAME, y, n_repeats=2, random_state=0)["importances_mean"]
    assert FRAME.columns[np.argmax(importances)] == "mean texture"
    average = partial_dependence(ours, FRAME, ["mean texture"], grid_resolution=5)["average"][0]
    assert average[0] < 0.2 < 0.8 < average[-1]


def test_sample_weights_are_routed_on_request():
    set_config(enable_metadata_routing=True)
    try:
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        weights = np.where(Y == 1, 1.0, 20.0)
        asking = make_pipeline(scaler, clone(OURS).set_fit_request(sample_weight=True))
        weighted = clone(OURS).fit(X, Y, sample_weight=weights).predict_proba(X)
        asked = asking.fit(FRAME, Y, sample_weight=weights).predict_proba(FRAME)
        np.testing.assert_allclose(asked, weighted, rtol=0, atol=1e-9)
        not_asking = make_pipeline(scaler, clone(OURS).set_fit_request(sample_weight=False))
        with pytest.raises(TypeError, match="sample_weight"):
            not_asking.fit(FRAME, Y, sample_weight=weights)
    finally:
        set_config(enable_metadata_routing=False)


def test_predictions_as_a_frame():
    ours = make_pipeline(StandardScaler().set_output(transform="pandas"), OURS).fit(FRAME, Y)
    assert list(ours[-1].feature_names_in_) == list(FRAME.columns)


def fitted_coefs(seed: int, dtype: type) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(OURS).set_params(random_state=seed).fit(X.astype(dtype), Y).coefs_[0]


def test_threads_do_not_disturb_each_other():
    tasks = [(seed, dtype) for seed in range(3) for dtype in (np.float64, np.float32)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda task: fitted_coefs(*task), tasks))
    for task, coefs in zip(tasks, together, strict=True):
        np.testing.assert_array_equal(coefs, fitted_coefs(*task))
        assert coefs.dtype == task[1]


def test_workers_of_joblib_fit_the_same(capfd):
    ours = clone(OURS).set_params(tol=10.0, n_iter_no_change=1)  # no warning that training ends early
    fits = [delayed(clone(ours).set_params(random_state=seed).fit)(X, Y) for seed in range(2)]
    try:
        apart = Parallel(2, backend="loky")(fits)
    finally:
        get_reusable_executor().shutdown()
    for one, other in zip(apart, Parallel(1)(fits), strict=True):
        np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=0, atol=1e-12)
    assert capfd.readouterr().err == ""  # neither a warning of JAX nor of joblib


def test_threads_of_joblib_fit_the_same():
    calls = [delayed(fitted_coefs)(seed, np.float64) for seed in range(2)]
    for one, other in zip(Parallel(2, backend="threading")(calls), Parallel(1)(calls), strict=True):
        np.testing.assert_array_equal(one, other)


def test_64_bits_stay_off_outside_of_a_fit():
    fitted_coefs(0, np.float64)
    assert not jax.config.read("jax_enable_x64")
    assert jax.numpy.ones(1).dtype == np.float32
