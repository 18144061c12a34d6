"""What is tracked of a run, against the same numbers from every example's gradient by autodiff, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import sgd
from jaxmlp.curvature import NoEigenvalue, largest_eigenvalue
from jaxmlp.data import Dataset
from jaxmlp.network import MLP, init, loss
from jaxmlp.training.config import TRACKED, TrainConfig
from jaxmlp.training.epoch import batch_order, step_gradient
from jaxmlp.training.examples import Examples
from jaxmlp.training.history import Epoch
from jaxmlp.training.loop import train
from jaxmlp.training.tracking import StepStatistics, epoch_statistics, sampled_steps, step_statistics

KEY = jax.random.key(3)
SIZE = MLP((3, 5, 4), "tanh")
N, B = 22, 5


def classes(weights=None):
    rng = np.random.default_rng(0)
    return Dataset(1 + rng.normal(size=(N, 3)), rng.choice(4, N, p=[0.7, 0.1, 0.1, 0.1]), weights)


def followed(data, config):
    """Run the first epoch step by step with autodiff; yield each step's own gradients and those it averages: [B, P]."""
    params = init(SIZE, KEY)
    state = sgd.init(params)
    per_example = jax.vmap(jax.grad(partial(loss, SIZE)), in_axes=(None, 0, 0))
    for rows in batch_order(KEY, 0, N, config.batch_size):
        own = per_example(params, data.x[rows], data.t[rows])
        flat = np.concatenate([np.asarray(leaf).reshape(len(rows), -1) for leaf in jax.tree.leaves(own)], axis=1)
        scale = np.ones(len(rows)) if data.weights is None else data.weights[rows]
        if config.clip is not None:
            scale = scale * np.minimum(1, config.clip / np.linalg.norm(flat, axis=1))
        yield flat, flat * scale[:, None]
        mean = jax.tree.map(lambda leaf, scale=scale: np.tensordot(scale, leaf, 1) / len(scale), own)
        params, state = sgd.update(
            params,
            state,
            mean,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )


def expected(data, config):
    """Compute every column that can be tracked of the steps, by its definition."""
    own, averaged = zip(*followed(data, config), strict=True)
    lengths = np.linalg.norm(np.concatenate(own), axis=1)
    traces = np.mean([steps.var(0, ddof=1).sum() for steps in averaged])
    squared_means = np.mean([np.sum(steps.mean(0) ** 2) for steps in averaged])
    squares = np.mean([np.mean(np.sum(steps**2, axis=1)) for steps in averaged])
    return {
        "norm_q10": np.quantile(lengths, 0.1),
        "norm_median": np.median(lengths),
        "norm_q90": np.quantile(lengths, 0.9),
        "norm_max": lengths.max(),
        "noise_scale": traces / (squared_means - traces / config.batch_size),
        "gradient_variance": traces,
        "diversity": squares / config.batch_size / squared_means,
        "share_clipped": None if config.clip is None else np.mean(lengths > config.clip),
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("clip", [None, 2.2])
@pytest.mark.parametrize("weights", [None, np.arange(N) / 10])
def test_an_epochs_statistics_and_path_follow_from_every_examples_gradient(clip, weights):
    data = classes(weights)
    track = tuple(name for name in TRACKED if name != "curvature" and (clip is not None or name != "clipped"))
    config = TrainConfig(epochs=1, batch_size=B, learning_rate=0.02, schedule="constant", clip=clip, track=track)
    row = train(SIZE, data, config, key=KEY).history[0]
    for name, value in expected(data, config).items():
        given = getattr(row, name)
        # Some twenty steps' worth of rounding errors in float64, and the differences in noise_scale.
        assert given is None if value is None else given == pytest.approx(value, rel=1e-10), name
    if clip is not None:
        assert 0 < row.share_clipped < 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("clip", [None, 2.2])
def test_a_step_follows_the_mean_of_weighted_clipped_gradients_and_keeps_their_statistics(clip):
    weights, track = np.arange(N) / 10, ("norms", "noise_scale")
    config = TrainConfig(batch_size=N, clip=clip)
    data = classes(weights)
    ((own, averaged),) = followed(data, config)
    batch = Examples(*map(jnp.asarray, (data.x[(rows := batch_order(KEY, 0, N, N)[0])], data.t[rows], weights[rows])))
    params = init(SIZE, KEY)
    for sampled in (True, False):
        mean_loss, gradient, statistics = step_gradient(SIZE, params, batch, clip, track, sampled)
        close = partial(np.testing.assert_allclose, rtol=1e-12)
        losses = [loss(SIZE, params, x, t) for x, t in zip(batch.x, batch.t, strict=True)]
        close(mean_loss, np.mean(weights[rows] * np.array(losses)))
        close(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)]), averaged.mean(0), atol=1e-15)
        close(statistics.norms, np.linalg.norm(own, axis=1))
        close(statistics.mean_square, np.mean(np.sum(averaged**2, axis=1)))
        close(statistics.squared_mean, np.sum(averaged.mean(0) ** 2) if sampled else np.nan)


@pytest.mark.usefixtures("x64")
def test_top_eigenvalue_is_that_of_the_hessian_after_the_epoch():
    data = classes()
    trained = train(SIZE, data, TrainConfig(epochs=1, batch_size=B, track=("curvature",)), key=KEY)
    # All examples fit the sample. Both start from a vector of this key, and agree to the iteration's tolerance.
    value = largest_eigenvalue(SIZE, trained.params, data.x, data.t, key=jax.random.key(9)).value
    assert trained.history[-1].top_eigenvalue == pytest.approx(value, rel=1e-3)
    assert trained.history[-1].norm_median is None


def test_tracking_does_not_change_the_training_path():
    config = {"epochs": 3, "batch_size": B, "learning_rate": 0.1, "clip": 0.5}
    plain = train(SIZE, classes(), TrainConfig(**config), key=KEY)
    tracked = train(SIZE, classes(), TrainConfig(**config, track=tuple(TRACKED)), key=KEY)
    for one, other in zip(jax.tree.leaves(plain.params), jax.tree.leaves(tracked.params), strict=True):
        # Another program of the same operations: a compiler may fuse them otherwise, to a few units in the last place.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", TRACKED)
def test_each_name_fills_its_own_columns_and_no_others(name):
    config = TrainConfig(clip=0.5 if name == "clipped" else None, track=(name,))
    norms, gradient = jnp.ones(5), init(SIZE, KEY)
    statistics = step_statistics(config.track, norms, None, gradient, True)
    assert (statistics is None) == (name == "curvature")  # which is no statistic of the steps
    if statistics is not None:
        row = epoch_statistics(config, jax.tree.map(lambda one: np.asarray(one)[None], statistics))
        assert tuple(row) == TRACKED[name]


def test_every_column_of_history_can_be_tracked():
    assert [column for columns in TRACKED.values() for column in columns] == list(Epoch._field_defaults)


def test_noise_scale_is_none_where_the_gradient_is_lost_in_the_noise():
    # Two examples whose gradients cancel: the mean is 0, so the estimate of |G|^2 is negative.
    mlp = MLP((1, 1), output="identity", loss="quadratic")
    data = Dataset(np.ones((2, 1)), np.array([1.0, -1.0]))
    config = TrainConfig(epochs=1, batch_size=2, init_scale=0.0, track=("noise_scale", "diversity", "variance"))
    row = train(mlp, data, config, key=KEY).history[0]
    assert row.noise_scale is None
    assert row.diversity is None
    assert row.gradient_variance == pytest.approx(4.0)  # of gradients (1, 1) and (-1, -1): 2 for w and 2 for b


@pytest.mark.parametrize("n_steps", [1, 2, 127, 128, 129, 1000, 60000])
def test_sampled_steps_are_all_of_a_short_epoch_and_at_most_128_of_a_long_one(n_steps):
    sampled = sampled_steps(n_steps)
    assert sampled.shape == (n_steps,)
    assert 0 < sampled.sum() <= 128
    if n_steps <= 128:
        assert sampled.all()
    assert sampled.sum() >= min(n_steps, 64)


def test_a_long_epoch_takes_its_statistics_from_the_sampled_steps():
    sampled = sampled_steps(256)
    statistics = StepStatistics(
        norms=np.ones((256, 2)),
        mean_square=np.where(sampled, 3.0, 1e9),
        squared_mean=np.where(sampled, 2.0, np.nan),
    )
    row = epoch_statistics(TrainConfig(batch_size=2, track=("variance",)), statistics)
    assert row == {"gradient_variance": 2.0}


def test_equal_examples_have_no_variance_and_never_a_negative_one():
    data = Dataset(np.full((8, 3), 0.3), np.ones(8, int))
    config = TrainConfig(epochs=1, batch_size=4, track=("noise_scale", "variance", "diversity"))
    row = train(SIZE, data, config, key=KEY).history[0]
    # Two float32 sums of some 50 squares, relative to |G|^2, which is of order 1.
    assert 0 <= row.gradient_variance < 1e-5
    assert 0 <= row.noise_scale < 1e-5
    assert row.diversity == pytest.approx(1 / 4, rel=1e-5)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_statistics_that_are_not_finite_are_none(number):
    statistics = StepStatistics(
        norms=np.full((3, 4), number), mean_square=np.full(3, number), squared_mean=np.full(3, number)
    )
    config = TrainConfig(batch_size=4, track=("norms", "noise_scale", "variance", "diversity"))
    row = epoch_statistics(config, statistics)
    assert set(row.values()) == {None}
    assert set(row) == {column for name in config.track for column in TRACKED[name]}


def test_a_run_continues_if_its_curvature_is_not_finite(monkeypatch):
    def never(*_, **__):
        raise NoEigenvalue("none")

    monkeypatch.setattr("jaxmlp.training.loop.largest_eigenvalue", never)
    trained = train(SIZE, classes(), TrainConfig(epochs=2, batch_size=B, track=("curvature",)), key=KEY)
    assert trained.status == "finished"
    assert trained.history[-1].top_eigenvalue is None
