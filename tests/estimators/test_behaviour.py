"""What scikit-learn's own tests ask of its perceptrons, as far as it applies here, and what ours add.

Left out are its tests of the solvers lbfgs and adam, and of private functions; that numbers are the same is in
`test_same_numbers`.
"""

import warnings
from functools import partial
from itertools import pairwise

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight

import jaxmlp
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.estimators import MLPClassifier, MLPRegressor
from jaxmlp.network import loss as loss_of
from jaxmlp.training.config import TrainConfig, learning_rates

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
BOTH = pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
SMALL = {"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 5, "learning_rate_init": 0.05}


def coefs(estimator):
    return np.concatenate([each.ravel() for each in estimator.coefs_ + estimator.intercepts_])


# ----- learning -----


def test_digits_and_labels_and_values_are_learned():
    x, y = load_digits(return_X_y=True)
    x, y = x[:400] / 16, y[:400]
    settings = {"hidden_layer_sizes": (20,), "random_state": 0, "learning_rate_init": 0.1, "max_iter": 60}
    assert MLPClassifier(**settings).fit(x, y).score(x, y) > 0.97
    labels = np.stack([y % 2 == 0, y > 4], axis=1).astype(int)
    assert MLPClassifier(**settings).fit(x, labels).score(x, labels) > 0.95
    x, y = load_diabetes(return_X_y=True)
    x, y = StandardScaler().fit_transform(x), StandardScaler().fit_transform(np.stack([y, x[:, 2]], axis=1))
    assert MLPRegressor(**settings | {"learning_rate_init": 0.01}).fit(x, y).score(x, y) > 0.6


def test_a_larger_alpha_makes_smaller_weights():
    sizes = [np.abs(coefs(MLPClassifier(alpha=alpha, **SMALL).fit(X, Y))).sum() for alpha in (1e-5, 1.0, 30.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_sparse_and_dense_input_are_the_same():
    x, y = np.maximum(X, 0), Y
    dense = MLPClassifier(**SMALL).fit(x, y)
    for kind in (scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_matrix):
        ours = MLPClassifier(**SMALL).fit(kind(x), y)
        np.testing.assert_array_equal(coefs(ours), coefs(dense))
        np.testing.assert_array_equal(ours.predict_proba(kind(x)), dense.predict_proba(x))


def test_labels_of_sparse_matrices_come_back_sparse():
    labels = np.stack([Y == 0, Y > 0, Y == 1], axis=1).astype(int)
    dense, sparse = (MLPClassifier(**SMALL).fit(X, each) for each in (labels, scipy.sparse.csr_matrix(labels)))
    assert scipy.sparse.issparse(sparse.predict(X))
    np.testing.assert_array_equal(sparse.predict(X).toarray(), dense.predict(X))


def test_probabilities_have_a_column_for_each_label_and_sum_to_one():
    for y in (Y == 1, Y, np.array(["a", "b", "c"])[Y]):
        ours = MLPClassifier(**SMALL).fit(X, y)
        y_proba = ours.predict_proba(X)
        assert y_proba.shape == (150, len(ours.classes_))
        np.testing.assert_allclose(y_proba.sum(1), 1, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(ours.classes_[y_proba.argmax(1)], ours.predict(X))


def test_log_probabilities_keep_their_digits_where_probabilities_are_rounded():
    ours = MLPClassifier(hidden_layer_sizes=(), random_state=0, max_iter=1).fit(X, Y == 1)
    ours.coefs_[0] = np.zeros((4, 1))
    ours.intercepts_[0] = np.array([50.0])
    assert ours.predict_proba(X)[0, 0] == 0
    np.testing.assert_allclose(ours.predict_log_proba(X)[0], [-50, -np.exp(-50.0)], rtol=1e-12)


def test_order_of_rows_is_shuffled_unless_asked_not_to_be():
    first, second = (
        [coefs(MLPRegressor(shuffle=shuffle, batch_size=20, **SMALL | {"max_iter": n}).fit(X, Y)) for n in (1, 2)]
        for shuffle in (False, True)
    )
    assert np.any(first[0] != second[0])
    again = coefs(MLPRegressor(shuffle=True, batch_size=20, **SMALL | {"max_iter": 2}).fit(X, Y))
    np.testing.assert_array_equal(again, second[1])


# ----- when training ends -----


def test_training_ends_when_the_loss_stays_within_tol():
    ours = MLPClassifier(**SMALL | {"max_iter": 500}, tol=0.5, n_iter_no_change=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.fit(X, Y)
    assert ours.n_iter_ < 50
    # The rule, from the curve alone: the last four epochs, and no four before, each lack 0.5 on the best so far.
    best = np.minimum.accumulate([np.inf, *ours.loss_curve_])[:-1]
    stalled = np.array(ours.loss_curve_) > best - 0.5
    runs = [stalled[end - 4 : end].all() for end in range(4, ours.n_iter_ + 1)]
    assert runs == [False] * (len(runs) - 1) + [True]


def test_an_adaptive_rate_falls_by_5_until_it_is_tiny_and_then_training_ends():
    settings = SMALL | {"learning_rate": "adaptive", "max_iter": 500, "tol": 0.5, "n_iter_no_change": 2}
    rates = []
    for start in (0.05, 1e-5):
        ours = MLPClassifier(**settings | {"learning_rate_init": start}).fit(X, Y)
        rates.append(ours._progress[0]["learning_rate"])
        assert ours.n_iter_ < 500
    # The first powers of 1/5 that are at most 1e-6, the rate at which scikit-learn stops too.
    np.testing.assert_allclose(rates, [0.05 / 5**7, 1e-5 / 5**2], rtol=1e-12)


def test_infinite_patience_trains_all_epochs():
    ours = MLPClassifier(**SMALL | {"max_iter": 30}, tol=10.0, n_iter_no_change=np.inf).fit(X, Y)
    assert ours.n_iter_ == len(ours.loss_curve_) == 30


@BOTH
def test_early_stopping_keeps_the_weights_of_the_best_score(Estimator):
    ours = Estimator(**SMALL | {"max_iter": 40, "learning_rate_init": 0.3}, early_stopping=True, n_iter_no_change=5)
    ours.fit(X, Y)
    scores = ours.validation_scores_
    assert ours.best_validation_score_ == max(scores)
    assert len(scores) == len(ours.validation_loss_curve_) == ours.n_iter_
    assert ours.best_loss_ is None
    best = int(np.argmax(scores)) + 1
    assert best < ours.n_iter_
    until_then = Estimator(**ours.get_params() | {"max_iter": best}).fit(X, Y)
    np.testing.assert_allclose(coefs(ours), coefs(until_then), rtol=0, atol=1e-12)


def test_scores_and_losses_of_early_stopping_are_those_of_the_rows_it_holds_out():
    held_out = {}

    class Noting(MLPClassifier):
        def _score_of(self, outputs, targets, weights):
            held_out["targets"], held_out["outputs"], held_out["weights"] = targets, outputs, weights
            return super()._score_of(outputs, targets, weights)

    ours = Noting(**SMALL | {"max_iter": 1}, early_stopping=True, validation_fraction=0.4).fit(X, Y)
    assert len(held_out["targets"]) == 60
    of_labels = held_out["outputs"][np.arange(60), held_out["targets"]]
    assert ours.validation_loss_curve_ == pytest.approx([-np.log(of_labels).mean()], rel=1e-12)
    assert ours.validation_scores_ == [np.mean(held_out["outputs"].argmax(1) == held_out["targets"])]
    ours.fit(X, Y, sample_weight=np.arange(150) % 5)
    of_labels = held_out["outputs"][np.arange(60), held_out["targets"]]
    weighted = np.average(-np.log(of_labels), weights=held_out["weights"])
    assert ours.validation_loss_curve_ == pytest.approx([weighted], rel=1e-12)


def test_early_stopping_needs_two_rows_and_all_labels():
    with pytest.raises(ValueError, match=r"the validation set has 1 of 10 samples, expected 2 or more: raise valid"):
        MLPRegressor(early_stopping=True).fit(X[:10], Y[:10])
    with pytest.raises(ValueError, match="The least populated class"):
        MLPClassifier(early_stopping=True).fit(X[:4], [0, 0, 0, 1])


def test_a_fit_that_diverges_is_an_error_or_falls_back_to_its_best_epoch():
    settings = {"random_state": 0, "learning_rate_init": 1.0, "activation": "identity", "max_iter": 40}
    with pytest.raises(ValueError, match=r"training diverged: a weight is not finite after \d+ epochs; scale"):
        MLPRegressor(**settings).fit(100 * X, Y)
    with pytest.raises(ValueError, match=r"training diverged: a weight is not finite"):
        MLPRegressor(**settings).fit(np.finfo(float).max * (X / np.abs(X).max()), Y)
    ours = MLPRegressor(**settings, early_stopping=True, n_iter_no_change=40)
    with pytest.warns(ConvergenceWarning, match="training diverged after .* the weights of the best epoch are kept"):
        ours.fit(100 * X, Y)
    assert np.isfinite(coefs(ours)).all()
    assert isinstance(ours.validation_scores_[-1], float)
    assert not np.isfinite(ours.loss_)


def test_a_keyboard_interrupt_ends_training_after_the_last_whole_epoch(monkeypatch):
    from jaxmlp.estimators import _group

    calls = []
    plain = _group.run_epoch

    def interrupted(*args):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(_group, "run_epoch", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 2 epochs"):
        ours = MLPClassifier(**SMALL).fit(X, Y)
    monkeypatch.undo()
    np.testing.assert_array_equal(coefs(ours), coefs(MLPClassifier(**SMALL | {"max_iter": 2}).fit(X, Y)))


def test_verbose_prints_a_line_an_epoch(capsys):
    MLPClassifier(**SMALL | {"max_iter": 2}, verbose=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    MLPClassifier(**SMALL | {"max_iter": 2}).fit(X, Y)
    assert capsys.readouterr().out == ""


# ----- going on -----


def test_one_epoch_a_call_is_a_fit_of_that_many_epochs():
    for Estimator, classes in ((MLPClassifier, {"classes": [0, 1, 2]}), (MLPRegressor, {})):
        settings = {"shuffle": False, **SMALL}
        by_call = Estimator(**settings)
        for _ in range(5):
            by_call.partial_fit(X, Y, **classes)
        whole = Estimator(**settings, n_iter_no_change=np.inf).fit(X, Y)
        np.testing.assert_allclose(coefs(by_call), coefs(whole), rtol=0, atol=1e-12)
        assert (by_call.t_, by_call.n_iter_, len(by_call.loss_curve_)) == (750, 1, 5)


def test_labels_that_come_in_later_calls_are_learned():
    settings = {"hidden_layer_sizes": (6,), "random_state": 0, "learning_rate_init": 0.3}
    names = np.array(["c", "a", "b"])[Y]
    ours = MLPClassifier(**settings).partial_fit(X[:100], names[:100], classes=list("abc"))
    for _ in range(30):
        ours.partial_fit(X[50:], names[50:])
    assert ours.score(X[100:], names[100:]) > 0.9
    several = np.stack([Y == 0, Y > 0, Y == 1], axis=1).astype(int)
    ours = MLPClassifier(**settings)
    for _ in range(60):
        ours.partial_fit(X, several, classes=[0, 1, 2])
    assert ours.score(X, several) > 0.8


def test_the_first_call_needs_classes_and_later_ones_the_same():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"y must have no other labels \[2\], got \[0 1 2\]"):
        MLPClassifier().partial_fit(X, Y, classes=[2])
    ours = MLPClassifier(**SMALL).partial_fit(X[:50], Y[:50], classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes \[1, 2\] are not those of the first call"):
        ours.partial_fit(X, Y, classes=[1, 2])
    with pytest.raises(ValueError, match=r"y must have no other labels \[0 1 2\], got \[0 1 2 3\]"):
        ours.partial_fit(X, np.where(Y == 2, 3, Y) + (Y == 2) * (np.arange(150) % 2 - 1))
    with pytest.raises(ValueError, match="class_weight='balanced'"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])


@BOTH
def test_partial_fit_refuses_what_needs_a_whole_fit(Estimator):
    ours = Estimator(**SMALL, early_stopping=True).fit(X, Y)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        ours.partial_fit(X, Y)
    for schedule in ("cosine", "step"):
        with pytest.raises(ValueError, match=f"learning_rate='{schedule}'"):
            ours.set_params(early_stopping=False, learning_rate=schedule).partial_fit(X, Y)


def test_a_warm_start_needs_the_same_labels_and_the_same_network():
    ours = MLPClassifier(**SMALL, warm_start=True).fit(X, Y)
    for labels in (np.minimum(Y, 1), Y + 1, np.arange(150) % 5):
        with pytest.raises(ValueError, match=r"y must have the labels \[0 1 2\], got .* warm_start=False"):
            ours.fit(X, labels)
    with pytest.raises(ValueError, match="set warm_start=False and call fit"):
        ours.set_params(hidden_layer_sizes=(9,)).fit(X, Y)
    with pytest.raises(ValueError, match="set warm_start=False and call fit"):
        ours.set_params(hidden_layer_sizes=(6,), n_networks=2).fit(X, Y)
    assert ours.set_params(n_networks=1).fit(X, Y).n_iter_ == 5


@BOTH
def test_a_warm_start_counts_epochs_anew_and_goes_on_with_its_curves(Estimator):
    ours = Estimator(**SMALL, warm_start=True, n_iter_no_change=np.inf)
    for n in (5, 7):
        ours.set_params(max_iter=n).fit(X, Y)
        assert ours.n_iter_ == n
    assert len(ours.loss_curve_) == 12
    early = Estimator(**SMALL, warm_start=True, early_stopping=True)
    n_scores = [len(early.fit(X, Y).validation_scores_) for _ in range(2)]
    assert n_scores[1] > n_scores[0]
    # A further fit that never beats the best score keeps the weights that had it.
    best = coefs(early)
    early.set_params(learning_rate_init=1e-12, max_iter=2).fit(X, Y)
    assert early.best_validation_score_ == max(early.validation_scores_)
    np.testing.assert_allclose(coefs(early), best, rtol=0, atol=1e-9)


# ----- input -----


@BOTH
def test_data_frames_keep_their_names_and_cause_no_warning(Estimator):
    x, y = pd.DataFrame(X, columns=list("abcd")), pd.Series(Y, name="kind")
    ours = Estimator(**SMALL, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(x, y).predict(x)
    assert list(ours.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(x[["b", "a", "c", "d"]])


@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_the_dtype_is_that_of_the_data_unless_one_is_given(dtype):
    for given in (np.float32, np.float64, np.int64, np.float16):
        expected = np.dtype(dtype or (np.float32 if given == np.float32 else np.float64))
        ours = MLPRegressor(**SMALL, dtype=dtype).fit(X.astype(given), Y)
        assert {each.dtype for each in ours.coefs_ + ours.intercepts_} == {expected}
        assert ours.predict(X).dtype == expected


@BOTH
def test_results_of_float32_are_close_to_those_of_float64(Estimator):
    narrow, wide = (Estimator(**SMALL).fit(X.astype(dtype), Y) for dtype in (np.float32, np.float64))
    outputs = [each.predict(X) if Estimator is MLPRegressor else each.predict_proba(X) for each in (narrow, wide)]
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)  # 5 steps


def test_one_label_is_learned_as_a_certainty():
    ours = MLPClassifier(**SMALL).fit(X, np.full(150, "only"))
    assert set(ours.predict(X)) == {"only"}
    np.testing.assert_array_equal(ours.predict_proba(X), np.ones((150, 1)))
    np.testing.assert_array_equal(ours.predict_log_proba(X), np.zeros((150, 1)))


def test_weights_are_checked_and_a_batch_without_weight_makes_no_step():
    for bad in (np.zeros(150), -np.ones(150), np.ones((150, 1)), np.ones(149), np.full(150, np.nan)):
        with pytest.raises(ValueError, match="sample_weight"):
            MLPRegressor(**SMALL).fit(X, Y, sample_weight=bad)
    weights = np.repeat([1.0, 0.0, 1.0], 50)
    settings = SMALL | {"shuffle": False, "batch_size": 50}
    ours = MLPRegressor(**settings).fit(X, Y, sample_weight=weights)
    without = MLPRegressor(**settings).fit(X[weights > 0], Y[weights > 0])
    np.testing.assert_allclose(coefs(ours), coefs(without), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.loss_curve_, without.loss_curve_, rtol=1e-12)
    early = settings | {"early_stopping": True}
    ones = MLPRegressor(**early).fit(X, Y, sample_weight=np.ones(150))
    np.testing.assert_allclose(coefs(ones), coefs(MLPRegressor(**early).fit(X, Y)), rtol=0, atol=1e-12)
    only = (np.arange(150) == 0).astype(float)
    with pytest.raises(ValueError, match="sample_weight is zero for all 15 validation rows"):
        MLPRegressor(**SMALL, early_stopping=True).fit(X, Y, sample_weight=only)


def test_a_mean_of_counts_is_the_one_that_scikit_learn_finds():
    x = np.linspace(0, 1, 100)[:, None]
    y = np.random.default_rng(0).poisson(np.exp(x[:, 0] + 1)).astype(float)
    line = PoissonRegressor(alpha=0, tol=1e-8).fit(x, y)
    settings = {"hidden_layer_sizes": (), "alpha": 0.0, "learning_rate_init": 0.05, "max_iter": 1000}
    for loss, is_close in (("poisson", True), ("squared_error", False)):
        ours = MLPRegressor(loss, **settings, random_state=0, n_iter_no_change=np.inf).fit(x, y)
        assert np.allclose(ours.predict(x), line.predict(x), rtol=1e-4) == is_close
    with pytest.raises(ValueError, match="y must be 0 or larger for loss='poisson', got -1"):
        MLPRegressor("poisson").fit(x, y - 1)
    several = MLPRegressor("poisson", **SMALL, n_networks=2).fit(x, y)
    one, other = ([each[k] for each in several.coefs_ + several.intercepts_] for k in range(2))
    means = []
    for each in (one, other):
        hidden = np.maximum(x @ each[0] + each[2], 0)
        means.append(np.exp(hidden @ each[1] + each[3])[:, 0])
    np.testing.assert_allclose(several.predict(x), np.mean(means, axis=0), rtol=1e-12)


def test_a_batch_larger_than_the_data_is_all_of_them_and_says_so():
    with pytest.warns(UserWarning, match="batch_size 1000 is larger than the 150 training rows"):
        ours = MLPClassifier(**SMALL, batch_size=1000).fit(X, Y)
    np.testing.assert_allclose(coefs(ours), coefs(MLPClassifier(**SMALL, batch_size=150).fit(X, Y)), atol=1e-12)


@BOTH
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": "adam"}, "solver must be 'sgd', got 'adam': write solver='sgd'"),
        ({"solver": "lbfgs"}, "solver must be 'sgd', got 'lbfgs'"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"activation": "softmax"}, "unknown activation 'softmax'"),
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes must be whole numbers, .* got \(5, 0\)"),
        ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes must be whole numbers"),
        ({"alpha": -1}, "alpha must be 0 or larger and finite, got -1"),
        ({"batch_size": 0}, "batch_size must be 'auto' or a whole number"),
        ({"learning_rate": "adaptative"}, "did you mean 'adaptive'"),
        ({"learning_rate_init": 0}, "learning_rate_init must be positive and finite, got 0"),
        ({"learning_rate_init": np.nan}, "learning_rate_init must be positive and finite, got nan"),
        ({"max_iter": 1.5}, "max_iter must be a whole number"),
        ({"shuffle": "yes"}, "shuffle must be True or False, got 'yes'"),
        ({"momentum": 1.1}, "momentum must be a number from 0 to 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must be 0 or larger and below 1"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be"),
        ({"n_networks": 0}, "n_networks must be a whole number"),
        ({"clip": 0.0}, "clip must be None, or positive"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"random_state": "zero"}, "cannot be used to seed"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(Estimator, parameters, message):
    with pytest.raises(ValueError, match=message) as caught:
        Estimator(**parameters).fit(X, Y)
    assert "\n" not in str(caught.value)


def test_attributes_of_an_estimator_that_is_not_fitted_say_so():
    for name in ("network_", "params_", "columns_"):
        assert not hasattr(MLPClassifier(), name)


# ----- what scikit-learn does not have -----


@pytest.mark.parametrize("name", [name for name, phi in ACTIVATIONS.items() if phi.derivative is not None])
def test_one_step_of_every_activation_is_that_of_autodiff(name):
    ours = MLPRegressor(**SMALL | {"max_iter": 1}, activation=name, alpha=0.0, momentum=0.0)
    start = MLPRegressor(**ours.get_params() | {"learning_rate_init": 1e-300}).fit(X, Y).params_
    ours.fit(X, Y)
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda w: jax.vmap(lambda x, t: loss_of(ours.network_, w, x, t))(X, Y).mean()))(start)
    expected = jax.tree.map(lambda w, g: w - 0.05 * np.asarray(g), start, slope)
    for one, other in zip(jax.tree.leaves(ours.params_), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_a_clipped_step_is_the_mean_of_clipped_gradients():
    limit = 0.5
    ours = MLPRegressor(**SMALL | {"max_iter": 1}, alpha=0.0, momentum=0.0, clip=limit)
    start = MLPRegressor(**ours.get_params() | {"learning_rate_init": 1e-300}).fit(X, Y).params_
    ours.fit(X, Y)
    with jax.enable_x64(True):
        of_each = jax.jit(jax.vmap(lambda x, t: jax.grad(loss_of, argnums=1)(ours.network_, start, x, t)))(X, Y)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(of_each)]
    norms = np.sqrt(sum((leaf.reshape(150, -1) ** 2).sum(1) for leaf in leaves))
    assert 10 < (norms > limit).sum() < 140
    scale = np.minimum(1, limit / norms)
    for one, before, leaf in zip(jax.tree.leaves(ours.params_), jax.tree.leaves(start), leaves, strict=True):
        np.testing.assert_allclose(one, before - 0.05 * np.einsum("n,n...->...", scale, leaf) / 150, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_the_library_s_schedules_change_the_rate_as_train_does(schedule):
    # Without hidden layers and momentum, a step on 50 rows is a few lines of NumPy.
    n_epochs = 12
    settings = {"hidden_layer_sizes": (), "shuffle": False, "batch_size": 50, "momentum": 0.0, "alpha": 0.0}
    settings |= {"random_state": 0, "n_iter_no_change": np.inf}
    ours = MLPRegressor(**settings, learning_rate=schedule, learning_rate_init=0.1, max_iter=n_epochs).fit(X, Y)
    start = MLPRegressor(**settings, learning_rate_init=1e-300, max_iter=1).fit(X, Y)
    w, b = start.coefs_[0].copy(), start.intercepts_[0].copy()
    config = TrainConfig(epochs=n_epochs, learning_rate=0.1, schedule=schedule)
    for epoch in range(n_epochs):
        for rate, rows in zip(learning_rates(config, epoch, 3), np.arange(150).reshape(3, 50), strict=True):
            error = X[rows] @ w + b - Y[rows, None]
            w, b = w - rate * X[rows].T @ error / 50, b - rate * error.mean(0)
    np.testing.assert_allclose(ours.coefs_[0], w, rtol=0, atol=1e-12)
    assert learning_rates(config, n_epochs - 1, 3)[-1] < 0.05


def test_class_weights_are_weights_of_their_rows():
    y = np.where(np.arange(150) % 10 == 0, Y, 0)
    for class_weight in ("balanced", {0: 0.1, 1: 5.0, 2: 2.0}):
        ours = MLPClassifier(**SMALL, class_weight=class_weight).fit(X, y)
        weighted = MLPClassifier(**SMALL).fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
        np.testing.assert_allclose(coefs(ours), coefs(weighted), rtol=0, atol=1e-12)
        both = MLPClassifier(**SMALL, class_weight=class_weight).fit(X, y, sample_weight=np.arange(1.0, 151.0))
        assert np.any(coefs(both) != coefs(ours))


@BOTH
def test_several_networks_predict_the_mean_and_the_first_is_the_single_one(Estimator):
    x, y = X, (Y == 1).astype(int)
    single = Estimator(**SMALL).fit(x, y)
    several = Estimator(**SMALL, n_networks=3).fit(x, y)
    assert [each.shape for each in several.coefs_] == [(3, *each.shape) for each in single.coefs_]
    np.testing.assert_allclose(several.coefs_[0][0], single.coefs_[0], rtol=0, atol=1e-12)
    assert len({each.tobytes() for each in several.coefs_[0]}) == 3
    each_alone = []
    for k in range(3):
        single.coefs_ = [each[k] for each in several.coefs_]
        single.intercepts_ = [each[k] for each in several.intercepts_]
        each_alone.append(single.predict(x) if Estimator is MLPRegressor else single.predict_proba(x))
    together = several.predict(x) if Estimator is MLPRegressor else several.predict_proba(x)
    np.testing.assert_allclose(together, np.mean(each_alone, axis=0), rtol=0, atol=1e-12)
    if Estimator is MLPClassifier:
        np.testing.assert_allclose(np.exp(several.predict_log_proba(x)), together, rtol=0, atol=1e-12)


def test_the_networks_of_an_estimator_are_those_of_the_library():
    ours = MLPClassifier(**SMALL, n_networks=2).fit(X, Y)
    networks = jaxmlp.networks(ours.network_, ours.params_)
    assert [network.mlp for network in networks] == [jaxmlp.MLP((4, 6, 3))] * 2
    with jax.enable_x64(True):
        y = np.mean([jax.jit(jax.vmap(partial(jaxmlp.predict, n.mlp, n.params)))(X) for n in networks], axis=0)
    np.testing.assert_allclose(ours.predict_proba(X), y, rtol=0, atol=1e-6)  # `networks` is in float32 by default
    assert [w.shape for w, _ in pairwise([*ours.coefs_, None])] == [(2, 4, 6), (2, 6, 3)]
