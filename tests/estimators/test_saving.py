"""Files of estimators: what comes back, what `jaxmlp.load` makes of them, and what is refused."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

import jaxmlp
from jaxmlp.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
X, Y = load_iris(return_X_y=True, as_frame=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0}


def table():
    return X.assign(kind=np.where(X.iloc[:, 0] > 5.5, "long", None))


FITS = {
    "three labels": lambda: MLPClassifier(**SMALL).fit(X, NAMES),
    "two labels, several networks": lambda: MLPClassifier(**SMALL, n_networks=2).fit(X, Y == 2),
    "two labels of numbers": lambda: MLPClassifier(**SMALL).fit(X.to_numpy(), np.where(Y == 2, 2.0, -1.0)),
    "one label": lambda: MLPClassifier(**SMALL).fit(X, np.full(150, "only")),
    "several labels a row": lambda: MLPClassifier(**SMALL).fit(X, np.stack([Y == 0, Y > 0], axis=1).astype(int)),
    "a table": lambda: MLPClassifier(**SMALL, encode_tables=True, class_weight={0: 1.0, 1: 2.0, 2: 3.0}).fit(
        table(), Y
    ),
    "values": lambda: MLPRegressor(**SMALL, n_iter_no_change=np.inf).fit(X.to_numpy(np.float32), Y),
    "counts": lambda: MLPRegressor("poisson", **SMALL, n_networks=2).fit(X, Y),
    "several values": lambda: MLPRegressor(**SMALL, early_stopping=True, n_networks=2).fit(X, np.stack([Y, -Y], 1)),
}
_FITTED = {}


@pytest.fixture(params=FITS)
def fitted(request):
    if request.param not in _FITTED:
        _FITTED[request.param] = FITS[request.param]()
    return _FITTED[request.param], table() if request.param == "a table" else X


def assert_equal(one, other, x):
    one_params, other_params = one.get_params(), other.get_params()
    assert {name: other_params[name] for name in one_params} == one_params
    names = [name for name in vars(one) if name.endswith("_")] + ["network_"]
    assert sorted(vars(one)) == sorted(vars(other))
    for name in names:
        first, second = getattr(one, name), getattr(other, name)
        for left, right in zip(first, second, strict=True) if name in ("coefs_", "intercepts_") else [(first, second)]:
            np.testing.assert_array_equal(left, right)
            assert getattr(left, "dtype", None) == getattr(right, "dtype", None), name
    for method in ("predict", "predict_proba"):
        if hasattr(one, method):
            np.testing.assert_array_equal(getattr(one, method)(x), getattr(other, method)(x))


def test_a_file_brings_back_the_estimator(fitted, tmp_path):
    estimator, x = fitted
    x = x if hasattr(estimator, "feature_names_in_") else x.to_numpy()
    estimator.save(tmp_path / "model.safetensors")
    assert_equal(estimator, type(estimator).from_file(tmp_path / "model.safetensors"), x)


def test_jaxmlp_reads_the_file_of_an_estimator(fitted, tmp_path):
    estimator, x = fitted
    estimator.save(tmp_path / "model.safetensors")
    model = jaxmlp.load(tmp_path / "model.safetensors")
    x = x if hasattr(estimator, "feature_names_in_") else x.to_numpy()
    y = estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)
    if len(getattr(estimator, "classes_", ())) == 1:
        y = np.zeros((150, 1))  # the network's one output, for no label
        np.testing.assert_allclose(model.predict(x), estimator._outputs(x), atol=1e-6)
        return
    # `jaxmlp.load` computes in float32, with numbers below 10.
    np.testing.assert_allclose(model.predict(x).reshape(y.shape), y, rtol=0, atol=1e-5)
    if hasattr(estimator, "classes_"):
        assert model.encoding.class_names == tuple(map(str, estimator.classes_))


def test_training_goes_on_from_a_file(tmp_path):
    estimator = MLPClassifier(**SMALL, warm_start=True, momentum=0.0).fit(X, NAMES)
    estimator.save(tmp_path / "model.safetensors")
    again = MLPClassifier.from_file(tmp_path / "model.safetensors")
    assert_equal(estimator.fit(X, NAMES), again.fit(X, NAMES), X)
    assert len(again.loss_curve_) == 4
    assert_equal(estimator.partial_fit(X, NAMES), again.partial_fit(X, NAMES), X)


def test_pickles_bring_back_the_estimator(fitted, tmp_path):
    estimator, x = fitted
    x = x if hasattr(estimator, "feature_names_in_") else x.to_numpy()
    assert_equal(estimator, pickle.loads(pickle.dumps(estimator)), x)
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    assert_equal(estimator, joblib.load(tmp_path / "estimator.joblib"), x)


def test_training_goes_on_from_a_pickle_with_its_momentum():
    estimator = MLPRegressor(**SMALL).fit(X, Y)
    again = pickle.loads(pickle.dumps(estimator))
    start = estimator.coefs_[0].copy()
    assert_equal(estimator.partial_fit(X, Y), again.partial_fit(X, Y), X)
    assert np.any(again.coefs_[0] != start)


def test_no_attribute_is_an_array_of_jax(fitted):
    def types(value):
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return {type(value)}.union(*map(types, children))

    found = set().union(*map(types, vars(fitted[0]).values()))
    allowed = {np.ndarray, dict, list, tuple, int, float, bool, str, type(None)}
    assert {kind for kind in found - allowed if not kind.__module__.startswith("sklearn.")} == set()


def test_skops_trusts_our_class_alone(tmp_path):
    skops = pytest.importorskip("skops.io")
    for estimator in (FITS["three labels"](), FITS["a table"]()):
        content = skops.dumps(estimator)
        unknown = skops.get_untrusted_types(data=content)
        assert unknown == ["jaxmlp.estimators.classifier.MLPClassifier"]
        x = table() if estimator.encode_tables else X
        assert_equal(estimator, skops.loads(content, trusted=unknown), x)


def test_another_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError):
        MLPClassifier.from_file(path)
    MLPRegressor(**SMALL).fit(X, Y).save(path)
    with pytest.raises(ValueError, match=r"cannot be read as MLPClassifier: it holds an estimator .* MLPRegressor"):
        MLPClassifier.from_file(path)
    mlp = jaxmlp.MLP((2, 3))
    jaxmlp.save(path, jaxmlp.Network(mlp, (jaxmlp.Layer(np.ones((3, 2)), np.ones(3)),)))
    with pytest.raises(ValueError, match=r"a model that no estimator has saved: jaxmlp.load reads it$"):
        MLPClassifier.from_file(path)


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        MLPClassifier().save(tmp_path / "model.safetensors")
    mixed = np.array([None if each == 0 else each for each in Y], object)
    with pytest.raises(ValueError, match=r"labels|type"):
        MLPClassifier(**SMALL).fit(X, mixed).save(tmp_path / "model.safetensors")
    random_state = clone(MLPClassifier(**SMALL)).set_params(random_state=np.random.RandomState(0)).fit(X, Y)
    random_state.save(tmp_path / "model.safetensors")
    assert MLPClassifier.from_file(tmp_path / "model.safetensors").random_state is None
