"""Raw tables inside of an estimator: text, holes and dates, as the terminal encodes them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import KFold, cross_validate

import jaxmlp
from jaxmlp.data import Columns
from jaxmlp.estimators import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
SMALL = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 30, "learning_rate_init": 0.1}
FRAME, Y = load_iris(return_X_y=True, as_frame=True)
FRAME = FRAME.set_axis(["sepal length", "sepal width", "petal length", "petal width"], axis=1)
FRAME = FRAME.assign(petal=np.where(FRAME["petal length"] > 4.8, "long", "short")).drop(columns="petal length")
FRAME.loc[::7, "petal width"] = np.nan
FRAME.loc[::11, "petal"] = None
OURS = MLPClassifier(**SMALL, encode_tables=True)


def test_text_and_holes_are_learned_from():
    ours = clone(OURS).fit(FRAME, Y)
    assert ours.score(FRAME, Y) > 0.9
    assert list(ours.feature_names_in_) == list(FRAME.columns)
    assert ours.n_features_in_ == 4
    assert ours.columns_ == Columns.fit(pl.from_pandas(FRAME))
    assert ours.network_.sizes[0] == ours.columns_.n_inputs > 4
    assert ours.coefs_[0].dtype == np.float32
    with pytest.raises(ValueError, match="could not convert string to float"):
        MLPClassifier(**SMALL).fit(FRAME, Y)


def test_frames_of_any_package_and_arrays_of_objects_are_the_same_table():
    pandas = clone(OURS).fit(FRAME, Y)
    others = [pl.from_pandas(FRAME), pl.from_pandas(FRAME).to_arrow(), FRAME.to_numpy(object), FRAME.values.tolist()]
    for frame in others:
        ours = clone(OURS).fit(frame, Y)
        np.testing.assert_allclose(ours.predict_proba(frame), pandas.predict_proba(FRAME), rtol=0, atol=1e-6)


def test_the_encoding_is_learned_from_the_rows_of_the_fit_alone():
    folds = KFold(2, shuffle=True, random_state=0)
    results = cross_validate(OURS, FRAME, Y, cv=folds, return_estimator=True)
    assert results["test_score"].min() > 0.8
    for ours, (train, _) in zip(results["estimator"], folds.split(FRAME), strict=True):
        assert ours.columns_ == Columns.fit(pl.from_pandas(FRAME.iloc[train])) != Columns.fit(pl.from_pandas(FRAME))


def test_unseen_text_and_new_holes_can_be_predicted_for():
    ours = clone(OURS).fit(FRAME, Y)
    odd = FRAME.assign(petal="unheard of", **{"sepal width": np.nan})
    assert np.isfinite(ours.predict_proba(odd)).all()
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(FRAME.rename(columns={"petal": "leaf"}))


def test_several_networks_weights_early_stopping_and_partial_fit_work_with_tables():
    x, y = FRAME, FRAME["sepal length"].to_numpy() - 5.8
    ours = MLPRegressor(**SMALL, encode_tables=True, n_networks=2, early_stopping=True, n_iter_no_change=30)
    assert ours.fit(x, y, sample_weight=np.linspace(1, 2, 150)).score(x, y) > 0.8
    calls = MLPRegressor(**SMALL | {"shuffle": False}, encode_tables=True, dtype="float64")
    for _ in range(3):
        calls.partial_fit(x, y)
    whole = clone(calls).set_params(max_iter=3).fit(x, y)
    np.testing.assert_allclose(calls.predict(x), whole.predict(x), rtol=0, atol=1e-12)
    assert calls.coefs_[0].dtype == np.float64


def test_the_network_sees_what_train_would_see(tmp_path):
    ours = clone(OURS).fit(FRAME, Y)
    ours.save(tmp_path / "model.safetensors")
    model = jaxmlp.load(tmp_path / "model.safetensors")
    assert model.encoding.inputs == ours.columns_
    np.testing.assert_allclose(model.predict(pl.from_pandas(FRAME)), ours.predict_proba(FRAME), rtol=0, atol=1e-6)


def test_bad_tables_are_refused_in_one_line():
    for x, y, message in [
        (FRAME, None, "requires y to be passed"),
        (FRAME, Y[:10], "inconsistent numbers of samples"),
        (pd.DataFrame({"id": range(150)}), Y, "every feature is left out"),
        (FRAME["petal"], Y, "X must be a data frame, got a Series"),
    ]:
        with pytest.raises(ValueError, match=message):
            clone(OURS).fit(x, y)
