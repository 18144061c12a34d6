"""A fitted estimator is what its last whole fit has learned, whatever parameters are set later and fits fail later."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.datasets import load_iris

from jaxmlp.estimators import MLPClassifier, MLPRegressor, _group, _inputs, _predicting

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
X, Y = load_iris(return_X_y=True)
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(kind=np.where(X[:, 0] > 5.5, "long", "short"))
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0}


def outputs(estimator, x):
    methods = ("predict", "predict_proba", "predict_log_proba")
    return [getattr(estimator, name)(x) for name in methods if hasattr(estimator, name)]


# ----- later parameters -----

FITS = {
    "classes": lambda: (MLPClassifier(**SMALL).fit(X, Y), X),
    "two classes": lambda: (MLPClassifier(**SMALL).fit(X, Y == 1), X),
    "a table": lambda: (MLPClassifier(**SMALL, encode_tables=True).fit(FRAME, Y), FRAME),
    "counts": lambda: (MLPRegressor("poisson", **SMALL, n_networks=2).fit(X.astype(np.float32), Y), X),
    "values": lambda: (MLPRegressor(**SMALL).fit(X, Y), X),
}
OTHER = {
    "activation": "tanh",
    "hidden_layer_sizes": (3, 3),
    "dtype": "float64",
    "encode_tables": None,  # the other one
    "loss": None,
    "n_networks": 3,
    "solver": "adam",
    "class_weight": {0: 2.0},
}


@pytest.mark.parametrize("fit", FITS)
def test_parameters_that_are_set_after_a_fit_do_not_change_what_it_has_learned(fit, tmp_path):
    estimator, x = FITS[fit]()
    before, network = outputs(estimator, x), estimator.network_
    changed = {name: value for name, value in OTHER.items() if name in estimator.get_params()}
    changed["encode_tables"] = not estimator.encode_tables
    if "loss" in changed:
        changed["loss"] = "squared_error" if estimator.loss == "poisson" else "poisson"
    estimator.set_params(**changed)
    estimator.save(tmp_path / "model.safetensors")
    read = type(estimator).from_file(tmp_path / "model.safetensors")
    for each in (estimator, read, pickle.loads(pickle.dumps(estimator))):
        assert each.network_ == network
        assert hasattr(each, "columns_") == (fit == "a table")
        for one, other in zip(outputs(each, x), before, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_a_fit_goes_on_only_with_the_network_and_the_inputs_that_it_has():
    for estimator, changed, message in [
        (MLPClassifier(**SMALL), {"activation": "tanh"}, "goes on from 1 of MLP.*relu.* but the parameters make 1 of"),
        (MLPRegressor(**SMALL), {"loss": "poisson"}, "goes on from 1 of MLP.*identity.* but the parameters make 1 of"),
        (
            MLPRegressor(**SMALL),
            {"encode_tables": True},
            "goes on from one with encode_tables=False, but encode_tables",
        ),
    ]:
        before = outputs(estimator.fit(X, Y), X)
        for further in (estimator.set_params(**changed, warm_start=True).fit, estimator.partial_fit):
            with pytest.raises(ValueError, match=message):
                further(X, Y)
        for one, other in zip(outputs(estimator, X), before, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_new_fit_forgets_the_table_of_the_last_one():
    estimator = MLPClassifier(**SMALL, encode_tables=True).fit(FRAME, Y)
    fresh = MLPClassifier(**SMALL).fit(X, Y)
    estimator.set_params(encode_tables=False).fit(X, Y)
    np.testing.assert_array_equal(estimator.predict_proba(X), fresh.predict_proba(X))
    with pytest.raises(AttributeError, match=r"has no columns_: fit it with encode_tables=True"):
        _ = estimator.columns_


# ----- fits that fail -----


def interrupted(*_args):
    raise KeyboardInterrupt


NAN = np.where(np.arange(150)[:, None] == 3, np.nan, X)
LETTERS = np.array(list("abcde"))[np.arange(150) % 5]
FAILING = {
    "X": (lambda each: each.fit(NAN[:, :2], LETTERS), "contains NaN"),
    "sample_weight": (lambda each: each.fit(FRAME[["a", "b"]], LETTERS, sample_weight=-np.ones(150)), "0 or larger"),
    "divergence": (lambda each: each.set_params(learning_rate_init=1e200).fit(X[:, :2], LETTERS), "diverged"),
    "class_weight": (lambda each: each.set_params(class_weight={"z": 1.0}).fit(X, LETTERS), "class_weight"),
    "early stopping": (lambda each: each.set_params(early_stopping=True).fit(X[:10], Y[:10]), "2 or more"),
    "partial_fit": (lambda each: each.partial_fit(NAN, Y), "contains NaN"),
    "partial_fit diverges": (lambda each: each.set_params(batch_size=10).partial_fit(X * 1e300, Y), "diverged"),
    "a table": (lambda each: each.set_params(encode_tables=True).fit(FRAME, LETTERS[:9]), "inconsistent"),
    "an interrupt": (lambda each: each.fit(X[:, :2], LETTERS), None),
}


@pytest.mark.parametrize("why", FAILING)
def test_a_fit_that_fails_changes_nothing(why, monkeypatch):
    estimator = MLPClassifier(**SMALL).fit(X, Y)
    before, expected = dict(vars(estimator)), outputs(estimator, X)
    call, message = FAILING[why]
    if message is None:  # not in the middle of an epoch, which ends training with what it has
        monkeypatch.setattr(_group.Group, "run", interrupted)
    with pytest.raises(ValueError, match=message) if message else pytest.raises(KeyboardInterrupt):
        call(estimator)
    after = vars(estimator)
    learned = {name for name in before if name not in estimator.get_params()}
    assert {name for name in after if name not in estimator.get_params()} == learned
    for name in learned:
        assert after[name] is before[name], name
    for one, other in zip(outputs(estimator, X), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_first_fit_that_fails_leaves_nothing():
    classifier, regressor = MLPClassifier(**SMALL), MLPRegressor(**SMALL, encode_tables=True)
    before = dict(vars(classifier)), dict(vars(regressor))
    for call in (
        lambda: classifier.fit(NAN, Y),
        lambda: classifier.partial_fit(NAN, Y, classes=[0, 1, 2]),
        lambda: regressor.fit(FRAME, Y, sample_weight=[1.0]),
        lambda: regressor.partial_fit(FRAME, Y, sample_weight=[1.0]),
    ):
        with pytest.raises(ValueError, match=r"NaN|sample_weight"):
            call()
        assert (vars(classifier), vars(regressor)) == before
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier.partial_fit(X, Y)


# ----- numbers that a dtype, or memory, cannot hold -----

TOO_LARGE = r"contains infinity or a value too large for dtype\('float32'\)\."


@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_numbers_beyond_float32_are_refused_by_a_network_in_float32(Estimator, kind):
    large = np.where(np.arange(600).reshape(150, 4) == 9, 1e39, X)
    narrow = [Estimator(**SMALL, dtype="float32").fit(X, Y), Estimator(**SMALL).fit(X.astype(np.float32), Y)]
    for each in narrow:
        with pytest.raises(ValueError, match=f"^Input X {TOO_LARGE}"):
            each.predict(kind(large))
    with pytest.raises(ValueError, match=f"^Input X {TOO_LARGE}"):
        narrow[0].fit(kind(large), Y)
    assert np.isfinite(outputs(Estimator(**SMALL).fit(kind(X), Y), kind(large))[-1][8:]).all()


def test_targets_and_weights_beyond_float32_are_refused_too():
    narrow, large = MLPRegressor(**SMALL, dtype="float32"), np.where(np.arange(150) == 9, 1e39, 1.0)
    for name, arguments in {"y": (X, large), "sample_weight": (X, Y, large)}.items():
        with pytest.raises(ValueError, match=f"^Input {name} {TOO_LARGE}"):
            narrow.fit(*arguments)


def test_parameters_beyond_float32_are_refused_too():
    for name in ("alpha", "clip", "learning_rate_init"):
        with pytest.raises(ValueError, match=rf"^{name} must be finite in float32, got 1e\+39: set dtype='float64'$"):
            MLPRegressor(**SMALL).set_params(**{name: 1e39}).fit(X.astype(np.float32), Y)
    assert np.isfinite(MLPRegressor(**SMALL, clip=1e39).fit(X, Y).coefs_[0]).all()


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_whole_numbers_beyond_32_bits_are_learned_as_what_they_are(n_outputs, early_stopping):
    y = np.squeeze(2**31 + np.arange(150)[:, None] * np.array([1, -(2**33)])[:n_outputs])
    x = (X / 10).astype(np.float32)
    settings = SMALL | {"learning_rate_init": 1e-4, "early_stopping": early_stopping}
    real = MLPRegressor(**settings).fit(x, y.astype(np.float64))
    assert real.loss_curve_[0] > 2.0**58  # half the square of 2^31 and more, not of what wraps
    for kind in (np.int64, np.uint64, object):
        if n_outputs == 1 or kind != np.uint64:
            whole = MLPRegressor(**settings).fit(x, y.astype(kind))
            for name in ("loss_curve_", "validation_scores_", "validation_loss_curve_"):
                assert getattr(whole, name) == getattr(real, name)
            np.testing.assert_array_equal(whole.predict(x), real.predict(x))
            assert whole.score(x, y.astype(kind)) == real.score(x, y.astype(np.float64))


def test_sparse_rows_become_an_array_only_if_memory_holds_it(monkeypatch):
    wide = scipy.sparse.csr_array((150, 10**9))
    monkeypatch.setattr(_inputs, "free_main_memory", lambda: 21_000_000_000)
    message = (
        r"150 x 1000000000 of float64, three times, are 3600000000000 bytes, and 21000000000 are free: call partial_fit"
    )
    for fit in (MLPClassifier(**SMALL).fit, MLPRegressor(**SMALL).partial_fit):
        with pytest.raises(ValueError, match=message) as caught:
            fit(wide, Y)
        assert "\n" not in str(caught.value)
    labels = scipy.sparse.csr_array(np.eye(3, dtype=np.int64)[Y])
    monkeypatch.setattr(_inputs, "free_main_memory", lambda: 10_000)
    with pytest.raises(ValueError, match=r"y is sparse, .* 150 x 3 of int64, three times, are 10800 bytes, and 10000"):
        MLPClassifier(**SMALL).fit(X, labels)


def test_predictions_make_arrays_of_a_few_sparse_rows_at_a_time(monkeypatch):
    rows = np.arange(900) % 150
    estimator = MLPClassifier(**SMALL).fit(X, Y)
    expected = estimator.predict_proba(X[rows])
    seen = []
    array = scipy.sparse.csr_array.toarray
    monkeypatch.setattr(_predicting, "_MOST_BYTES", 256 * 4 * 8)
    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", lambda x: seen.append(x.shape) or array(x))
    proba = estimator.predict_proba(scipy.sparse.csr_array(X[rows]))
    np.testing.assert_allclose(proba, expected, rtol=0, atol=1e-15)
    assert seen == [(256, 4), (256, 4), (256, 4), (132, 4)]
