"""Under settings of JAX that users switch on, the library computes what it computes without them."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import jaxmlp
from jaxmlp import MLP, Dataset, TrainConfig, curvature, influence, per_example, sgd, sweep
from jaxmlp.estimators import MLPClassifier, MLPRegressor
from jaxmlp.estimators._fitting import Control, Problem, Settings, fit_problems, initial
from jaxmlp.sweep import lanes
from jaxmlp.training import Trained

NETWORK = MLP((3, 4, 3), "tanh")
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(14, 3)).astype(np.float32), RNG.integers(0, 3, 14)
DATA, VALIDATION = Dataset(X, T, RNG.uniform(0.5, 1.5, 14)), Dataset(X[:5] + 0.25, T[:5])
CONFIG = TrainConfig(
    epochs=2,
    batch_size=4,
    learning_rate=0.1,
    patience=5,
    clip=0.5,
    track=("norms", "noise_scale", "variance", "diversity", "clipped", "curvature"),
)
# The same weights for all settings: x64 and other keys would draw others.
WEIGHTS = jax.tree.map(np.asarray, jaxmlp.init(NETWORK, jax.random.key(0)))
# float32 rounds to 2^-24. Ten steps of some 50 roundings, and ratios of differences, may lose three digits of its
# seven; eager, compiled and float64 programs differ by that.
CLOSE = {"rtol": 1e-3, "atol": 1e-5}

SETTINGS: dict[str, dict[str, Any]] = {
    # What passes with both passes with each of them alone.
    "strict promotion": {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"},
    "no jit": {"jax_disable_jit": True},
    "debug nans": {"jax_debug_nans": True},
    "x64": {"jax_enable_x64": True},
    "rbg keys": {"jax_default_prng_impl": "rbg"},
}


def forget_programs() -> None:
    """Forget what is compiled, so that everything is traced under the setting."""
    jax.clear_caches()
    lanes._compiled.cache_clear()


@pytest.fixture(params=SETTINGS, scope="module")
def setting(request, plain) -> Iterator[str]:
    before = {name: getattr(jax.config, name) for name in SETTINGS[request.param]}
    forget_programs()
    for name, value in SETTINGS[request.param].items():
        jax.config.update(name, value)
    yield request.param
    for name, value in before.items():
        jax.config.update(name, value)
    forget_programs()


def weights() -> Any:
    """Return the network's weights in the default float."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), WEIGHTS)


def backpropagation() -> Any:
    return jaxmlp.forward(NETWORK, weights(), X[0]), jaxmlp.backprop(NETWORK, weights(), X[0], T[0])


def statistics() -> Any:
    return compiled_statistics(weights(), X, T)


@jax.jit
def compiled_statistics(params: Any, x: jax.Array, t: jax.Array) -> Any:
    _, _, factors = jax.vmap(partial(jaxmlp.backprop, NETWORK, params))(x, t)
    return {
        "mean": jaxmlp.mean_gradient(factors),
        "gradients": per_example.gradients(factors),
        "norms": per_example.norms(factors),
        "norms by layer": per_example.norms(factors, by_layer=True),
        "clipped": per_example.clipped_mean(factors, 0.5),
        "clipped by layer": per_example.clipped_mean(factors, 0.5, by_layer=True),
        "variance": per_example.variance(factors),
        "moments": per_example.mean_and_variance(factors),
        "gram": per_example.gram(factors),
        "cosines": per_example.cosines(factors),
        "dots": per_example.dots(factors, params),
        "noise scale": per_example.noise_scale(factors),
        "kronecker": per_example.kronecker(factors),
        "diversity": per_example.diversity(factors),
    }


def second_order() -> Any:
    params = weights()
    return {
        "hessian": curvature.hessian_vector_product(NETWORK, params, X, T, params),
        "gauss-newton": curvature.gauss_newton_vector_product(NETWORK, params, X, T, params),
        "taylor": curvature.taylor(NETWORK, params, X, T, params),
    }


def influences() -> Any:
    params = weights()
    return {
        "scores": influence.scores(NETWORK, params, DATA),
        "tracin": influence.tracin(NETWORK, [params, params], DATA, VALIDATION, top=2),
        "kernel": influence.tangent_kernel(NETWORK, params, X, X[:5]),
    }


def training() -> Any:
    params = weights()
    begun = Trained(params, sgd.init(params), (), params, 0, "running")
    key = jax.random.key(1, impl="threefry2x32")
    trained = jaxmlp.train(NETWORK, DATA, CONFIG, key=key, validation=VALIDATION, resume=begun)
    history = [row._replace(seconds=0.0) for row in trained.history]
    return trained.params, trained.state, history, jaxmlp.evaluate(NETWORK, trained.params, DATA)


def estimators() -> Any:
    settings = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, "n_iter_no_change": np.inf}
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier = MLPClassifier(**settings, n_networks=2, clip=0.5, batch_size=4).fit(X, T, DATA.weights)
        found += [classifier.loss_curve_, classifier.predict_log_proba(X)]
        for loss in ("squared_error", "poisson"):
            regressor = MLPRegressor(loss, **settings, early_stopping=True, validation_fraction=0.4)
            found += [regressor.fit(X, T).validation_loss_curve_, regressor.predict(X)]
        params = jax.tree.map(np.asarray, WEIGHTS)
        problem = Problem(
            settings=Settings(NETWORK, 5, dtype="float32"),
            x=X,
            targets=T,
            start=initial(params, 0.1),
            random_state=np.random.RandomState(0),
            control=Control(max_iter=2),
        )
    return found, fit_problems([problem])[0].params


COMPUTED = (backpropagation, statistics, second_order, influences, training, estimators)
CORE = {function.__name__: function for function in COMPUTED}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """Return what the core computes without any setting."""
    return {name: jax.tree.map(np.asarray, function()) for name, function in CORE.items()}


@pytest.mark.parametrize("name", CORE)
def test_a_setting_changes_no_result(plain, setting, name):
    found = jax.tree.map(np.asarray, CORE[name]())
    assert jax.tree.structure(found) == jax.tree.structure(plain[name])
    for path, leaf in jax.tree.leaves_with_path(found):
        expected = dict(jax.tree.leaves_with_path(plain[name]))[path]
        np.testing.assert_allclose(leaf, expected, **CLOSE, err_msg=jax.tree_util.keystr(path))


def test_a_sweep_equals_its_trials_alone_under_a_setting(setting):
    config = TrainConfig(epochs=1, batch_size=7, clip=0.5, track=("noise_scale", "clipped"))
    space = sweep.grid(learning_rate=[0.05, 0.2])
    results = sweep.run(space, DATA, config, mlp=NETWORK, validation=VALIDATION, keep="all")
    for number in range(len(results)):
        trial = results.trial(number)
        alone = jaxmlp.train(trial.mlp, DATA, trial.config, key=jax.random.key(trial.seed), validation=VALIDATION)
        assert results.history(number)[-1].validation_loss == pytest.approx(alone.history[-1].validation_loss, rel=1e-3)
        for ours, theirs in zip(*map(jax.tree.leaves, (results.params(number), alone.params)), strict=True):
            np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_a_model_is_saved_and_predicts_under_a_setting(setting, tmp_path):
    params = jaxmlp.init(NETWORK, jax.random.key(2), dtype="float32")
    jaxmlp.save(tmp_path / "model", jaxmlp.Network(NETWORK, params))
    model = jaxmlp.load(tmp_path / "model")
    expected = [jaxmlp.predict(NETWORK, params, x) for x in X]
    np.testing.assert_allclose(model.predict(X), expected, **CLOSE)
