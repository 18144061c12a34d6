"""Learners of tables, each with the preprocessing that its experienced users give it, and its defaults for the rest."""

from collections.abc import Callable
from functools import partial
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments._timing import cores
from experiments.benchmarks._tables import Table

if TYPE_CHECKING:
    import pandas
    import polars as pl

__all__ = ["OURS", "PEERS", "Fitted", "Peer"]

# Returns an estimator of scikit-learn's kind for these features, this task and this seed.
Make = Callable[["pandas.DataFrame", str, int], Any]
# Categories of fewer rows share a one-hot column, and so do those beyond the most frequent ones. With a column for each
# of 2,500 aircraft of `flights`, scikit-learn's perceptron learns them by heart: R2 0.74 instead of 0.83.
RARE, MOST_CATEGORIES = 10, 64


class Fitted(NamedTuple):
    """What predicts classes or values [N], as they stand in the target's column, for the features of N rows.

    `reported` is the test score that the learner's own program reports; None if it reports none.
    """

    predict: Callable[["pl.DataFrame"], np.ndarray]
    reported: float | None = None


class Peer(NamedTuple):
    """A learner.

    Attributes
    ----------
    title
        Its name in the tables.
    modules
        The modules it learns with.
    fit
        Takes the whole table, the numbers of the rows for training, the table's entry, and the split's seed.
    """

    title: str
    modules: tuple[str, ...]
    fit: Callable[["pl.DataFrame", np.ndarray, Table, int], Fitted]


def features(frame: "pl.DataFrame", target: str) -> "pandas.DataFrame":
    """Return the columns without the target: numbers, and text with None where it is missing.

    Times become seconds, month, weekday and hour: these learners have no times.
    """
    import polars as pl
    import polars.selectors as columns

    moments = columns.temporal()
    parts = {
        "": moments.dt.epoch("s"),
        " month": moments.dt.month(),
        " weekday": moments.dt.weekday(),
        " hour": moments.cast(pl.Datetime).dt.hour(),
    }
    times = [part.cast(pl.Float64).name.suffix(suffix) for suffix, part in parts.items()]
    return (
        frame.drop(target, strict=False)
        .with_columns(*times, (columns.categorical() | columns.enum()).cast(pl.String))
        .to_pandas()
    )


def texts(x: "pandas.DataFrame") -> list[str]:
    return list(x.select_dtypes(exclude="number"))


def fit(make: Make, frame: "pl.DataFrame", seen: np.ndarray, table: Table, seed: int) -> Fitted:
    """Fit an estimator of scikit-learn's kind; it is given classes as numbers."""
    train, names = frame[seen], None
    t = train[table.target].to_numpy()
    if table.task == "classes":
        names, t = np.unique(t, return_inverse=True)
    x = features(train, table.target)
    estimator = make(x, table.task, seed)
    estimator.fit(x, t)

    def predict(rows: "pl.DataFrame") -> np.ndarray:
        y = np.asarray(estimator.predict(features(rows, table.target))).ravel()
        return y if names is None else names[y.astype(int)]

    return Fitted(predict)


def fit_ours(options: tuple[str, ...], frame: "pl.DataFrame", seen: np.ndarray, table: Table, seed: int) -> Fitted:
    """Run `jaxmlp train` on the whole table: from the same seed it draws the same rows for training as the split."""
    from jaxmlp import load
    from jaxmlp.cli import main

    folder = mkdtemp()  # the process is the fit's own
    frame.write_parquet(f"{folder}/table.parquet")
    data = ("train", f"{folder}/table.parquet", "--target", table.target, "--seed", f"{seed}")
    if main([*data, "--out", f"{folder}/run", "--no-cache", "--quiet", *options]):
        raise RuntimeError("jaxmlp train ended with an error")
    model = load(f"{folder}/run/model.safetensors")
    names, results = model.encoding.class_names, model.about["results"]

    def predict(rows: "pl.DataFrame") -> np.ndarray:
        y = model.predict(rows)
        return y.ravel() if names is None else np.array(names)[y.argmax(1)]

    return Fitted(predict, results["test_r2" if names is None else "test_accuracy"])


def make_constant(x: "pandas.DataFrame", task: str, seed: int) -> Any:
    """Return what predicts the most frequent class, or the mean."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyClassifier() if task == "classes" else DummyRegressor()


def make_perceptron(x: "pandas.DataFrame", task: str, seed: int) -> Any:
    """Return scikit-learn's perceptron: numbers and targets standardised, medians for holes, categories one-hot."""
    from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE, max_categories=MOST_CATEGORIES)
    encoder = make_column_transformer((numbers, make_column_selector(dtype_include="number")), (categories, texts))
    if task == "classes":
        return make_pipeline(encoder, MLPClassifier(random_state=seed))
    regressor = TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
    return make_pipeline(encoder, regressor)


def make_trees(x: "pandas.DataFrame", task: str, seed: int) -> Any:
    """Return scikit-learn's boosted trees: missing cells as they are, at most the 255 categories that they can take."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=255
    )
    names = texts(x)
    encoder = make_column_transformer((codes, names), remainder="passthrough")
    trees = HistGradientBoostingClassifier if task == "classes" else HistGradientBoostingRegressor
    return make_pipeline(encoder, trees(categorical_features=[*range(len(names))], random_state=seed))


def make_lightgbm(x: "pandas.DataFrame", task: str, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    names = {name: x[name].astype("category").dtype for name in texts(x)}  # another row's unknown text is missing
    learner = LGBMClassifier if task == "classes" else LGBMRegressor
    typed = FunctionTransformer(lambda x: x.astype(names))
    return make_pipeline(typed, learner(random_state=seed, n_jobs=cores(), verbose=-1))


def make_catboost(x: "pandas.DataFrame", task: str, seed: int) -> Any:
    from catboost import CatBoostClassifier, CatBoostRegressor
    from sklearn.pipeline import make_pipeline

    learner = CatBoostClassifier if task == "classes" else CatBoostRegressor
    quiet = {"verbose": False, "allow_writing_files": False, "thread_count": cores()}
    return make_pipeline(without_holes(texts(x)), learner(cat_features=texts(x), random_seed=seed, **quiet))


def make_pytabkit(name: str, x: "pandas.DataFrame", task: str, seed: int) -> Any:
    """Return a learner of pytabkit, which takes text as it is, and wants medians where numbers are missing."""
    import pytabkit
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    numbers = SimpleImputer(strategy="median", add_indicator=True)
    encoder = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (without_holes(texts(x)), texts),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    kind = "Classifier" if task == "classes" else "Regressor"
    learner = getattr(pytabkit, f"{name}_{kind}")
    return make_pipeline(encoder, learner(random_state=seed, n_threads=cores(), device="cpu"))


def without_holes(names: list[str]) -> Any:
    """Return a step that makes missing text a category of its own."""
    from sklearn.preprocessing import FunctionTransformer

    fill = lambda x: x.fillna(dict.fromkeys(names, "missing"))  # noqa: E731
    return FunctionTransformer(fill, feature_names_out="one-to-one")


_OURS = ("jaxmlp.cli.train", "polars", "matplotlib.figure", "sklearn.model_selection")
_TREES, _TORCH = ("sklearn.ensemble", "sklearn.compose"), ("torch", "pytabkit", "pandas")
PEERS = {
    "one": Peer("jaxmlp, one network", _OURS, partial(fit_ours, ("--networks", "1"))),
    "default": Peer("jaxmlp", _OURS, partial(fit_ours, ())),
    "tuned": Peer("jaxmlp, --tune 60", _OURS, partial(fit_ours, ("--tune", "60"))),
    "sklearn-mlp": Peer("scikit-learn MLP", ("sklearn.neural_network",), partial(fit, make_perceptron)),
    "hist": Peer("HistGradientBoosting", _TREES, partial(fit, make_trees)),
    "lightgbm": Peer("LightGBM", ("lightgbm", "sklearn.pipeline"), partial(fit, make_lightgbm)),
    "catboost": Peer("CatBoost", ("catboost", "sklearn.pipeline"), partial(fit, make_catboost)),
    "realmlp": Peer("RealMLP-TD", _TORCH, partial(fit, partial(make_pytabkit, "RealMLP_TD"))),
    "tabm": Peer("TabM-D", _TORCH, partial(fit, partial(make_pytabkit, "TabM_D"))),
    "constant": Peer("constant", ("sklearn.dummy",), partial(fit, make_constant)),
}
OURS = ("one", "default", "tuned")
