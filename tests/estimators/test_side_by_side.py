"""Fits that train side by side are those of the same estimators alone, and all else is scikit-learn's."""

import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from time import perf_counter

import jax
import numpy as np
import pytest
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from sklearn import config_context, model_selection
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.experimental import enable_halving_search_cv as _enabled  # noqa: F401
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from jaxmlp import estimators
from jaxmlp.estimators import MLPClassifier, MLPRegressor, _group, _side_by_side, side_by_side
from jaxmlp.estimators._fitting import fit_problems
from jaxmlp.estimators._tasks import Request

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]

X, Y = load_iris(return_X_y=True)
SMALL = MLPClassifier((5,), batch_size=32, learning_rate_init=0.05, max_iter=6, random_state=0)
FOLDS = KFold(3, shuffle=True, random_state=0)

# Each differs in one parameter; some in numbers, some in the program, some in their batches.
VARIED = {
    "hidden_layer_sizes": [(5,), (4, 3)],
    "activation": ["tanh"],
    "alpha": [0.0, 1.0],
    "batch_size": [7],
    "learning_rate": ["invscaling", "adaptive", "cosine"],
    "learning_rate_init": [0.001, 0.3],
    "max_iter": [1, 9],
    "shuffle": [False],
    "random_state": [1, 2],
    "tol": [0.5],
    "n_iter_no_change": [1, np.inf],
    "momentum": [0.0, 0.5],
    "nesterovs_momentum": [False],
    "early_stopping": [True],
    "class_weight": ["balanced", {0: 2.0}],
    "n_networks": [3],
    "clip": [0.1, 1.0],
    "dtype": ["float32"],
}


class Recorder:
    """A scorer that keeps each estimator and its outputs, by its test rows and parameters."""

    def __init__(self):
        self.seen = {}

    def __call__(self, estimator, x, y):
        assert (repr(estimator), x.tobytes()) not in self.seen
        self.seen[repr(estimator), x.tobytes()] = estimator, self.outputs(estimator, x)
        return 0.0

    @staticmethod
    def outputs(estimator, x):
        return estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)


def assert_each_alone(search, x, y, folds):
    """Fit each candidate on each fold alone, and compare all that it has learned."""
    assert len(search.scoring.seen) == len(search.cv_results_["params"]) * folds.get_n_splits()
    for parameters in search.cv_results_["params"]:
        for train, test in folds.split(x, y):
            alone = clone(search.estimator).set_params(**parameters).fit(x[train], y[train])
            estimator, outputs = search.scoring.seen[repr(alone), x[test].tobytes()]
            last, last_alone = (each[-1] if hasattr(each, "steps") else each for each in (estimator, alone))
            # float32 has 2^-24, float64 2^-53; a few epochs of sums in another order multiply either by some hundreds
            error = 1e-4 if last.coefs_[0].dtype == np.float32 else 1e-12
            np.testing.assert_allclose(outputs, Recorder.outputs(alone, x[test]), rtol=0, atol=error)
            np.testing.assert_allclose(last.loss_curve_, last_alone.loss_curve_, rtol=error)
            assert (last.n_iter_, last.t_) == (last_alone.n_iter_, last_alone.t_)


def test_each_fit_of_a_search_is_that_of_the_estimator_alone():
    grid = [{name: [value]} for name, values in VARIED.items() for value in values]
    halves = KFold(2, shuffle=True, random_state=0)
    search = estimators.GridSearchCV(SMALL, grid, cv=halves, scoring=Recorder(), refit=False).fit(X, Y)
    assert_each_alone(search, X, Y, halves)


def test_each_fit_in_a_pipeline_is_that_of_the_pipeline_alone():
    pipeline = make_pipeline(StandardScaler(), SMALL)
    grid = {"standardscaler": [StandardScaler(), MinMaxScaler(), "passthrough"], "mlpclassifier__alpha": [0.0, 1.0]}
    search = estimators.GridSearchCV(pipeline, grid, cv=FOLDS, scoring=Recorder(), refit=False).fit(X, Y)
    assert_each_alone(search, X, Y, FOLDS)


def test_fits_on_other_rows_targets_and_weights_do_not_mix():
    """Three searches of regressors: each candidate alike, but the data of the folds differ."""
    x, y = load_diabetes(return_X_y=True)
    network = MLPRegressor(hidden_layer_sizes=(5,), max_iter=4, random_state=0)
    search = estimators.GridSearchCV(network, {"alpha": [0.0, 1.0]}, cv=FOLDS, scoring=Recorder(), refit=False)
    assert_each_alone(search.fit(x, y / 100), x, y / 100, FOLDS)
    weights = np.arange(len(x)) % 3.0
    with side_by_side():
        results = cross_validate(
            network, x, y / 100, cv=FOLDS, params={"sample_weight": weights}, return_estimator=True
        )
    for fitted, (train, _) in zip(results["estimator"], FOLDS.split(x), strict=True):
        again = clone(network).fit(x[train], y[train] / 100, sample_weight=weights[train])
        np.testing.assert_allclose(fitted.loss_curve_, again.loss_curve_, rtol=1e-12)


SEARCHES = {
    "grid": (model_selection.GridSearchCV, estimators.GridSearchCV, {}),
    "random": (model_selection.RandomizedSearchCV, estimators.RandomizedSearchCV, {"n_iter": 3, "random_state": 0}),
    "halving": (
        model_selection.HalvingGridSearchCV,
        estimators.HalvingGridSearchCV,
        {"resource": "max_iter", "max_resources": 8, "min_resources": 2, "random_state": 0},
    ),
    "random halving": (
        model_selection.HalvingRandomSearchCV,
        estimators.HalvingRandomSearchCV,
        {"n_candidates": 4, "min_resources": 60, "random_state": 0},
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_has_the_results_of_scikit_learns(name):
    theirs, ours, options = SEARCHES[name]
    grid = {"alpha": [0.0, 0.1], "learning_rate_init": [0.01, 0.1], "max_iter": [3]}
    if "halving" in name:
        del grid["max_iter"]
    expected, search = (kind(SMALL, grid, cv=FOLDS, n_jobs=1, **options).fit(X, Y) for kind in (theirs, ours))
    assert search.cv_results_.keys() == expected.cv_results_.keys()
    for key, values in expected.cv_results_.items():
        if "time" not in key:
            np.testing.assert_array_equal(search.cv_results_[key], values, err_msg=key)
    assert search.best_params_ == expected.best_params_
    np.testing.assert_allclose(search.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-12)


@pytest.fixture
def calls(monkeypatch):
    """Return how many problems each call of the engine has had."""
    sizes = []

    def counted(problems, *others):
        sizes.append(len(problems))
        return train(problems, *others)

    train = _side_by_side.train
    monkeypatch.setattr(_side_by_side, "train", counted)
    return sizes


def test_all_fits_of_a_search_train_in_one_call(calls):
    estimators.GridSearchCV(SMALL, {"alpha": [0.0, 0.1]}, cv=FOLDS, n_jobs=1, pre_dispatch=2, refit=False).fit(X, Y)
    assert calls == [6]


def test_a_search_holds_the_data_of_a_bounded_number_of_fits(calls, monkeypatch):
    monkeypatch.setattr(_side_by_side, "_MOST_TASKS", 4)
    search = estimators.GridSearchCV(SMALL, {"alpha": [0.0, 0.1, 1.0]}, cv=FOLDS, scoring=Recorder(), refit=False)
    assert_each_alone(search.fit(X, Y), X, Y, FOLDS)
    assert calls == [4, 4, 1]
    calls.clear()
    monkeypatch.setattr(_side_by_side, "_SHARE_OF_MEMORY", 0)
    monkeypatch.setattr(_side_by_side, "n_threads", lambda: 3)
    search.set_params(scoring=None).fit(X, Y)
    assert calls == [3, 3, 3]
    calls.clear()
    monkeypatch.setattr(_side_by_side, "_MOST_TASKS", 128)
    monkeypatch.setattr(_side_by_side, "_SHARE_OF_MEMORY", 0.5)
    monkeypatch.setattr(_side_by_side, "free_main_memory", lambda: 2 * 5 * 3200 - 1)  # two thirds of X have 3200 bytes
    search.fit(X, Y)
    assert calls == [5, 4]


def test_candidates_on_the_same_rows_train_in_the_same_batch(monkeypatch):
    monkeypatch.setattr(_side_by_side, "_MOST_TASKS", 4)
    seen = []
    train = _side_by_side.train
    monkeypatch.setattr(
        _side_by_side, "train", lambda problems, *others: seen.append(problems) or train(problems, *others)
    )
    estimators.GridSearchCV(SMALL, {"alpha": [0.0, 0.1, 1.0, 10.0]}, cv=FOLDS, refit=False).fit(X, Y)
    assert [len({problem.targets.tobytes() for problem in problems}) for problems in seen] == [1, 1, 1]


def test_tasks_without_a_fit_of_ours_run_in_turn(calls):
    with side_by_side():
        scores = cross_validate(GaussianNB(), X, Y, cv=FOLDS)["test_score"]
    np.testing.assert_array_equal(scores, cross_validate(GaussianNB(), X, Y, cv=FOLDS)["test_score"])
    assert calls == []


def test_random_numbers_of_everybody_are_drawn_in_the_same_order_each_time(monkeypatch):
    monkeypatch.setattr(_side_by_side, "_MOST_TASKS", 2)
    results = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        search = estimators.GridSearchCV(clone(SMALL).set_params(random_state=None), {"alpha": [0.0, 0.1]}, cv=FOLDS)
        results.append(search.set_params(scoring=Recorder(), refit=False).fit(X, Y).scoring.seen)
    assert results[0].keys() == results[1].keys()
    for key, (_, outputs) in results[0].items():
        np.testing.assert_array_equal(outputs, results[1][key][1])


def test_fits_in_other_estimators_train_side_by_side(calls):
    with side_by_side():
        scores = cross_validate(SMALL, X, Y, cv=FOLDS, scoring=["accuracy", "neg_log_loss"], return_estimator=True)
        learning_curve(SMALL, X, Y, cv=FOLDS, train_sizes=[0.5, 1.0])
        validation_curve(SMALL, X, Y, param_name="alpha", param_range=[0.0, 0.1], cv=FOLDS)
        predicted = cross_val_predict(SMALL, X, Y, cv=FOLDS)
        BaggingClassifier(SMALL, n_estimators=4, n_jobs=4, random_state=0).fit(X, Y)
    assert calls == [3, 6, 6, 3, 4]
    np.testing.assert_array_equal(predicted, cross_val_predict(SMALL, X, Y, cv=FOLDS))
    alone = cross_validate(SMALL, X, Y, cv=FOLDS, scoring=["accuracy", "neg_log_loss"])
    np.testing.assert_allclose(scores["test_neg_log_loss"], alone["test_neg_log_loss"], rtol=1e-12)
    assert all(estimator.n_iter_ == 6 for estimator in scores["estimator"])


def test_fits_of_the_same_rows_for_other_targets_train_side_by_side(calls):
    labels = np.stack([Y == 0, X[:, 0] > 6], axis=1).astype(int)
    columns = MultiOutputClassifier(SMALL, n_jobs=2)
    with side_by_side():
        together = columns.fit(X, labels).predict_proba(X)
    assert calls == [2]
    for one, other in zip(together, columns.set_params(n_jobs=1).fit(X, labels).predict_proba(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_a_search_in_a_cross_validation_trains_side_by_side(calls):
    search = model_selection.GridSearchCV(SMALL, {"alpha": [0.0, 0.1]}, cv=FOLDS)
    with side_by_side():
        nested = cross_validate(search, X, Y, cv=3)
    assert calls == [6, 6, 6, 3]  # the three searches, then the refits of all
    np.testing.assert_array_equal(nested["test_score"], cross_validate(search, X, Y, cv=3)["test_score"])


def test_the_time_of_a_fit_is_its_share(monkeypatch):
    grid = {"max_iter": [2, 20], "tol": [0.0]}
    began = perf_counter()
    search = estimators.GridSearchCV(SMALL, grid, cv=FOLDS, refit=False).fit(X, Y)
    seconds = perf_counter() - began
    short, long = search.cv_results_["mean_fit_time"]
    assert min(short, long) > 0
    assert 3 * (short + long) < seconds
    answers = _side_by_side.SideBySide._answers

    def hours(*args):
        return [(answer, 3600.0 * answer[0].progress.n_iter) for answer, _ in answers(*args)]

    monkeypatch.setattr(_side_by_side.SideBySide, "_answers", hours)
    times = search.fit(X, Y).cv_results_["mean_fit_time"]
    np.testing.assert_allclose(times, [2 * 3600, 20 * 3600], rtol=0, atol=60)
    scores = model_selection._validation._fit_and_score(
        SMALL, X, Y, scorer=Recorder(), train=np.arange(100), test=np.arange(100, 150), verbose=0, parameters=None,
        fit_params=None, score_params=None, return_times=True,
    )  # fmt: skip
    assert isinstance(scores["fit_time"], float)  # what `_without_waiting` looks for; otherwise times count the waiting


def test_the_share_of_a_fit_is_its_rows_times_parameters_times_epochs(monkeypatch):
    problems = [clone(SMALL)._problems(X[::n], Y[::n], None, incremental=False)[0] for n in (1, 2)]
    problems.append(clone(SMALL).set_params(hidden_layer_sizes=())._problems(X, Y, None, incremental=False)[0])

    def train(problems, *_others):
        n_iter = (200, 200, 200, 2)[: len(problems)]
        return [
            each.start._replace(progress=each.start.progress._replace(n_iter=n))
            for each, n in zip(problems, n_iter, strict=True)
        ]

    monkeypatch.setattr(_side_by_side, "train", train)
    requests = [Request([each], None) for each in (*problems, problems[0])]
    began = perf_counter()
    seconds = [of_one for _, of_one in _side_by_side.SideBySide()._answers(requests)]
    assert 0 < sum(seconds) <= perf_counter() - began
    # 43 parameters with 5 hidden units, 15 without any.
    np.testing.assert_allclose(np.array(seconds) / seconds[0], [1, 1 / 2, 15 / 43, 1 / 100], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_errors_are_those_of_scikit_learn():
    grid = {"alpha": [0.1, -1.0], "learning_rate_init": [0.05, 1e200]}
    results = []
    for kind in (model_selection.GridSearchCV, estimators.GridSearchCV):
        with pytest.warns(FitFailedWarning, match="9 fits failed out of a total of 12") as record:
            results.append(kind(SMALL, grid, cv=FOLDS, refit=False).fit(X, Y).cv_results_["mean_test_score"])
        assert any("alpha must be 0 or larger and finite, got -1.0" in str(warning.message) for warning in record)
        with pytest.raises(ValueError, match=r"training diverged|alpha must be"):
            kind(SMALL, grid, cv=FOLDS, refit=False, error_score="raise").fit(X, Y)
    np.testing.assert_array_equal(*results)
    assert np.isnan(results[0]).tolist() == [False, True, True, True]


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_failed_program_fails_only_the_fits_that_fail_alone(monkeypatch):
    """As when memory runs out: each task is trained alone then, which a warning says."""
    train = _side_by_side.train

    def failing(problems, *others):
        if len(problems) > 1 or problems[0].alpha == 1.0:
            train(problems[:2], *others)
            raise MemoryError("is full")
        return train(problems, *others)

    search = estimators.GridSearchCV(SMALL, {"alpha": [0.0, 0.1]}, cv=FOLDS, scoring=Recorder(), refit=False)
    monkeypatch.setattr(_side_by_side, "train", failing)
    message = "could not train side by side, so trained one by one: 6 fits, with a MemoryError: is full"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        search.fit(X, Y)
    assert len([warning for warning in caught if warning.category is RuntimeWarning]) == 1
    assert_each_alone(search, X, Y, FOLDS)
    search.set_params(param_grid={"alpha": [1.0, 0.1]}, scoring=None)
    failed = "3 fits failed out of a total of 6"
    with pytest.warns(FitFailedWarning, match=failed), pytest.warns(RuntimeWarning, match=message):
        search.fit(X, Y)
    with side_by_side():
        with pytest.warns(RuntimeWarning, match="one by one: 3 fits"):
            cross_validate(SMALL, X, Y, cv=FOLDS)
        monkeypatch.setattr(_side_by_side, "train", train)
        cross_validate(SMALL, X, Y, cv=FOLDS)  # without that warning


def test_callbacks_see_and_stop_the_networks_of_their_own_fits():
    """On the same batches, so that all networks are lanes of one program."""

    def fit(n_networks, last):
        seen = []

        def callback(states):
            assert threading.current_thread() is threading.main_thread()
            n_iter = {number: state().progress.n_iter for number, state in states.items()}
            seen.extend(n_iter.items())
            return [number for number in n_iter if number == n_networks - 1 and n_iter[number] == last]

        network = clone(SMALL).set_params(n_networks=n_networks)
        fitted = fit_problems(network._problems(X, Y, None, incremental=False), callback)
        return sorted(seen), [(each.progress.status, each.progress.losses[0]) for each in fitted]

    tasks = [(1, 1), (2, 2), (2, 3)]
    with side_by_side():
        together = Parallel(2)(delayed(fit)(*task) for task in tasks)
    for (n_networks, last), (seen, ends), (_, ends_alone) in zip(
        tasks, together, [fit(*task) for task in tasks], strict=True
    ):
        until = [6] * (n_networks - 1) + [last]
        assert seen == [(number, n + 1) for number in range(n_networks) for n in range(until[number])]
        assert [status for status, _ in ends] == ["max_iter"] * (n_networks - 1) + ["stopped"]
        np.testing.assert_allclose([loss for _, loss in ends], [loss for _, loss in ends_alone], rtol=1e-12)


class Threaded(ClassifierMixin, BaseEstimator):
    """A classifier that fits its network in a thread of its own, with a setting of the user's."""

    setting = ContextVar("setting", default=None)

    def fit(self, x, y):
        self.seen_ = self.setting.get()
        with ThreadPoolExecutor(1) as pool:
            self.network_ = pool.submit(copy_context().run, clone(SMALL).fit, x, y).result(timeout=60)
        return self

    def predict(self, x):
        return self.network_.predict(x)


def test_fits_in_threads_of_a_task_train_at_once_and_settings_of_the_context_reach_a_task(calls):
    before = Threaded.setting.set("by the user")
    with side_by_side():
        results = cross_validate(Threaded(), X, Y, cv=FOLDS, return_estimator=True)
    Threaded.setting.reset(before)
    assert [each.seen_ for each in results["estimator"]] == ["by the user"] * 3
    assert results["test_score"].tolist() == cross_validate(SMALL, X, Y, cv=FOLDS)["test_score"].tolist()
    assert calls == []


def test_settings_of_jax_reach_the_thread_that_trains(monkeypatch):
    seen = []
    train = _side_by_side.train

    def noting(*others):
        seen.append((jax.config.jax_default_matmul_precision, threading.current_thread() is threading.main_thread()))
        return train(*others)

    monkeypatch.setattr(_side_by_side, "train", noting)
    with jax.default_matmul_precision("float32"):
        estimators.GridSearchCV(SMALL, {"alpha": [0.0]}, cv=FOLDS, refit=False).fit(X, Y)
    assert seen == [("float32", False)]


def test_the_number_of_jobs_is_what_other_backends_make_of_it():
    for n_jobs in (None, 1, 3, -1, -2, -1000):
        with parallel_config("threading"):
            expected = effective_n_jobs(n_jobs)
        with side_by_side():
            assert effective_n_jobs(n_jobs) == expected
    with side_by_side(), pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        effective_n_jobs(0)


def test_tasks_after_an_error_are_dropped(calls, monkeypatch):
    monkeypatch.setattr(_side_by_side, "_MOST_TASKS", 1)
    with side_by_side():
        with pytest.raises(ValueError, match="alpha must be"):
            cross_validate(clone(SMALL).set_params(alpha=-1.0), X, Y, cv=FOLDS, error_score="raise")
        scores = cross_validate(GaussianNB(), X, Y, cv=FOLDS)["test_score"]
    assert len(scores) == 3
    assert calls == []


class Warns(TransformerMixin, BaseEstimator):
    """A transformer that warns."""

    def fit(self, x, y=None):
        warnings.warn("of a step", RuntimeWarning, stacklevel=1)
        return self

    def transform(self, x):
        return x


def test_warnings_of_a_task_are_filtered_as_in_scikit_learn():
    pipeline = make_pipeline(Warns(), SMALL)
    caught = []
    for n_jobs in (1, 2):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            before = list(warnings.filters)
            search = estimators.GridSearchCV if n_jobs == 2 else model_selection.GridSearchCV
            search(pipeline, {"mlpclassifier__alpha": [0.0, 0.1]}, cv=FOLDS, refit=False).fit(X, Y)
            assert warnings.filters == before
        caught.append([warning.category for warning in record])
    assert caught[0] == caught[1] == [ConvergenceWarning] * 6


class Quiet(ClassifierMixin, BaseEstimator):
    """A classifier that suppresses the warnings of its network."""

    def fit(self, x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.network_ = clone(SMALL).fit(x, y)
        return self

    def predict(self, x):
        return self.network_.predict(x)


def test_filters_of_a_task_hold_after_it_has_waited():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with side_by_side():
            cross_validate(Quiet(), X, Y, cv=FOLDS, error_score="raise")
            with pytest.raises(ConvergenceWarning):
                cross_validate(SMALL, X, Y, cv=FOLDS, error_score="raise")


class Interrupting(BaseEstimator, TransformerMixin):
    """Interrupts as the user would, in the third fit that reaches it."""

    n_fits = 0

    def fit(self, x, y=None):
        Interrupting.n_fits += 1
        if Interrupting.n_fits == 3:
            raise KeyboardInterrupt
        return self

    def transform(self, x):
        return x


def test_an_interrupt_ends_all_waiting_tasks():
    before = threading.active_count()
    search = estimators.GridSearchCV(make_pipeline(Interrupting(), SMALL), {"mlpclassifier__alpha": [0.0]}, cv=FOLDS)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert threading.active_count() == before
    assert warnings.filters
    search.fit(X, Y)  # nothing of the first search is left


def count_epochs(monkeypatch, at=0, then=None):
    """Return a list that is as long as the epochs so far; before one of them, call a function."""
    calls = []
    plain = _group.run_epoch

    def counted(*args):
        calls.append(None)
        if len(calls) == at:
            then()
        return plain(*args)

    monkeypatch.setattr(_group, "run_epoch", counted)
    return calls


def test_an_interrupt_while_networks_train_ends_the_search(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    calls = count_epochs(monkeypatch, at=3, then=interrupt)
    before = threading.active_count()
    search = estimators.GridSearchCV(SMALL, {"alpha": [0.0, 0.1]}, cv=FOLDS)
    for kind in (search, model_selection.GridSearchCV(search, {"estimator__tol": [0.0]}, cv=2)):
        calls.clear()
        with side_by_side(), pytest.raises(KeyboardInterrupt):
            kind.fit(X, Y)
        assert not hasattr(kind, "cv_results_")
        assert threading.active_count() == before


def test_an_interrupt_of_a_task_ends_the_training_of_others(monkeypatch):
    monkeypatch.setattr(_side_by_side, "_MOST_TASKS", 1)  # the first task trains when the second begins
    n_epochs = count_epochs(monkeypatch)
    slow = clone(SMALL).set_params(max_iter=3000, tol=0.0, n_iter_no_change=np.inf)
    monkeypatch.setattr(Interrupting, "n_fits", 1)
    with side_by_side(), pytest.raises(KeyboardInterrupt):
        cross_validate(make_pipeline(Interrupting(), slow), X, Y, cv=FOLDS)
    assert len(n_epochs) < 3000


def test_an_interrupt_from_the_keyboard_ends_a_search_in_a_cross_validation(monkeypatch):
    main = threading.main_thread().ident
    n_epochs = count_epochs(monkeypatch, at=3, then=lambda: signal.pthread_kill(main, signal.SIGINT))
    slow = clone(SMALL).set_params(max_iter=3000, tol=0.0, n_iter_no_change=np.inf)
    search = model_selection.GridSearchCV(slow, {"alpha": [0.0]}, cv=2, refit=False)
    before = threading.active_count()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start us without one
    try:
        with side_by_side(), pytest.raises(KeyboardInterrupt):
            cross_validate(search, X, Y, cv=2)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(n_epochs) < 3000
    assert threading.active_count() == before


def test_other_estimators_run_as_they_are():
    pipeline = make_pipeline(StandardScaler(), SMALL)
    grid = {"mlpclassifier": [SMALL, GaussianNB()], "standardscaler__with_mean": [True, False]}
    ours, theirs = (
        kind(pipeline, grid, cv=FOLDS).fit(X, Y) for kind in (estimators.GridSearchCV, model_selection.GridSearchCV)
    )
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_groups_metadata_and_several_scores_reach_their_places():
    groups, weights = np.arange(len(X)) % 5, np.arange(len(X)) % 2 + 1.0
    with config_context(enable_metadata_routing=True):
        network = clone(SMALL).set_fit_request(sample_weight=True)
        scoring = get_scorer("accuracy").set_score_request(sample_weight=True)
        columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1])], remainder="passthrough")
        columns.transformers[0][1].set_fit_request(sample_weight=False)
        results = []
        for kind in (model_selection.GridSearchCV, estimators.GridSearchCV):
            grid, options = {"mlpclassifier__alpha": [0.0, 0.1]}, {"cv": GroupKFold(3), "scoring": scoring}
            search = kind(make_pipeline(columns, network), grid, **options)
            results.append(search.fit(X, Y, groups=groups, sample_weight=weights).cv_results_)
        for key in results[0].keys() - {key for key in results[0] if "time" in key}:
            np.testing.assert_array_equal(results[0][key], results[1][key])
    scoring = {"accuracy": "accuracy", "loss": "neg_log_loss"}
    search = estimators.GridSearchCV(SMALL, {"alpha": [0.0, 10.0]}, cv=FOLDS, scoring=scoring, refit="loss").fit(X, Y)
    assert search.best_params_ == {"alpha": 0.0}
    assert {"rank_test_accuracy", "rank_test_loss"} <= search.cv_results_.keys()
