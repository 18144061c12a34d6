"""scikit-learn's callbacks, where its version has them."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxmlp.estimators import MLPClassifier, MLPRegressor

callback = pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("compiled_in_haste"),
]
X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 4, "learning_rate_init": 0.05}


class Noting:
    """Notes the tasks that begin and end, and what the estimator is at the end of each; stops after some epochs."""

    def __init__(self, n_epochs=None):
        self.tasks, self.ends, self.scores, self.n_epochs = [], [], [], n_epochs

    def setup(self, estimator, context):
        self.most = context.max_subtasks

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.ends.append((context.task_name, context.task_id))
        self.scores.append(fitted_estimator.score(X, y))
        self.metadata = metadata
        return context.task_name == "epoch" and context.task_id + 1 == self.n_epochs


@pytest.mark.parametrize("n_networks", [1, 2])
@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])
def test_every_epoch_is_a_task_that_ends_with_what_the_fit_is_then(Estimator, n_networks):
    noting = Noting()
    ours = Estimator(**SMALL, n_networks=n_networks).set_callbacks(noting).fit(X, Y, sample_weight=Y + 1)
    epochs = [("epoch", number) for number in range(4)]
    assert noting.tasks == [("fit", 0), *epochs, "teardown"]
    assert noting.ends == [*epochs, ("fit", 0)]
    assert noting.most == 4
    np.testing.assert_array_equal(noting.metadata["sample_weight"], Y + 1)
    shorter = [Estimator(**SMALL | {"max_iter": n}, n_networks=n_networks) for n in (1, 2, 3, 4)]
    scores = [each.fit(X, Y, sample_weight=Y + 1).score(X, Y) for each in shorter]
    np.testing.assert_allclose(noting.scores, [*scores, ours.score(X, Y)], rtol=1e-12)


def test_a_callback_can_stop_a_fit():
    ours = MLPClassifier(**SMALL).set_callbacks(Noting(n_epochs=2))
    ours.fit(X, Y)
    shorter = MLPClassifier(**SMALL | {"max_iter": 2}).fit(X, Y)
    assert ours.n_iter_ == 2
    np.testing.assert_array_equal(ours.coefs_[0], shorter.coefs_[0])


def test_no_epoch_begins_after_the_last_one():
    noting = Noting()
    MLPClassifier(**SMALL | {"max_iter": 50}, tol=10.0, n_iter_no_change=1).set_callbacks(noting).fit(X, Y)
    assert len(noting.ends) == 4  # three epochs, and the fit
    assert len(noting.tasks) == 5


def test_an_error_in_a_fit_tears_callbacks_down():
    noting = Noting()
    noting.on_fit_task_end = lambda estimator, context: None  # nothing can be scored
    with pytest.raises(ValueError, match="diverged"):
        MLPRegressor(**SMALL | {"learning_rate_init": 1e200}).set_callbacks(noting).fit(X, Y)
    assert noting.tasks[-1] == "teardown"
    unfitted = MLPRegressor(**SMALL).set_callbacks(noting)
    with pytest.raises(ValueError, match="contains NaN"):
        unfitted.fit(X * np.nan, Y)
    assert noting.tasks.count("teardown") == 2
    assert "coefs_" not in vars(unfitted)
    assert "_callback_fit_ctx" not in vars(MLPRegressor(**SMALL).fit(X, Y))


def test_callbacks_of_scikit_learn_work_in_a_pipeline():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    ours = MLPClassifier(**SMALL).set_callbacks(monitor)
    fitted = make_pipeline(StandardScaler(), ours).set_callbacks(callback.ProgressBar()).fit(X, Y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == 4
    assert scores[-1] == fitted.score(X, Y)


def test_an_estimator_with_callbacks_is_cloned_and_fitted_again():
    noting = Noting()
    ours = MLPClassifier(**SMALL).set_callbacks(noting)
    first, second = (ours.fit(X, Y).coefs_[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert noting.tasks.count("teardown") == 2
