"""Every rule of `TrainConfig`, and the learning rates that follow from it."""

import math
import re
from dataclasses import FrozenInstanceError, fields

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.training.config import SCHEDULES, TrainConfig, learning_rates

NAN, INF = math.nan, math.inf
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
NOT_COUNTS = [0, -1, 1.0, 2.5, NAN, INF, True, "3", None]
NOT_POSITIVE = [
    0,
    0.0,
    math.nextafter(SMALLEST, 0),
    math.nextafter(LARGEST, INF),
    -1,
    -1e-9,
    NAN,
    INF,
    -INF,
    True,
    "0.1",
    None,
    [0.1],
    np.array([0.1, 0.2]),
    1j,
    np.complex64(1),
]
NEGATIVE = [-1, -1e-9, math.nextafter(LARGEST, INF), NAN, INF, -INF, True, "0.1", None, [0.1], 1j]

BAD = {
    "epochs": NOT_COUNTS,
    "batch_size": NOT_COUNTS,
    "learning_rate": NOT_POSITIVE,
    "momentum": [*NEGATIVE, 1, 1.0, 1.5],
    "weight_decay": NEGATIVE,
    "nesterov": [0, 1, "yes", None, NAN],
    "schedule": ["linear", "", None, 3],
    "warmup_epochs": NEGATIVE,
    "step_epochs": NOT_POSITIVE,
    "step_factor": NOT_POSITIVE,
    "init_scale": NEGATIVE,
    "patience": [value for value in NOT_COUNTS if value is not None],
    "clip": [value for value in NOT_POSITIVE if value is not None],
    "track": ["norms", None, 3, {"norms"}, ("norms", 1)],
}


def test_every_field_has_bad_values_in_the_table():
    assert set(BAD) == {field.name for field in fields(TrainConfig)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_value_is_refused_in_one_line_that_names_field_and_value(name, value):
    with pytest.raises(ValueError, match=rf"^(unknown )?{name}") as caught:
        TrainConfig(**{name: value})
    message = str(caught.value)
    assert repr(value) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [1, np.int32(3)]),
        ("batch_size", [1, np.int64(128)]),
        ("learning_rate", [SMALLEST, 1, np.float32(0.5), LARGEST]),
        ("momentum", [0, 0.0, 0.999]),
        ("weight_decay", [0, 1e-4]),
        ("nesterov", [True, False]),
        ("schedule", list(SCHEDULES)),
        ("warmup_epochs", [0, 0.5, 5]),
        ("step_epochs", [0.5, 10]),
        ("step_factor", [0.1, 2]),
        ("init_scale", [0, 0.1]),
        ("patience", [None, 1, np.int32(3)]),
        ("clip", [None, 1e-9, 1, np.float32(0.5)]),
        ("track", [(), ("norms",), ("norms", "noise_scale", "variance", "diversity", "curvature")]),
    ],
)
def test_good_values_are_kept(name, values):
    for value in values:
        assert getattr(TrainConfig(**{name: value}), name) == value


def test_defaults_are_those_that_published_results_were_measured_with():
    assert TrainConfig() == TrainConfig(
        epochs=30,
        batch_size=32,
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=1e-3,
        nesterov=False,
        schedule="cosine",
        warmup_epochs=0,
        step_epochs=10,
        step_factor=0.1,
        init_scale=1,
        patience=None,
        clip=None,
        track=(),
    )


def test_numbers_of_numpy_and_jax_become_pythons_own():
    numbers = {"epochs": np.int32(3), "learning_rate": jnp.float32(0.5), "step_epochs": np.int64(2)}
    numbers |= {"momentum": np.longdouble(0.5), "clip": np.float16(0.5), "nesterov": np.True_, "patience": np.uint8(2)}
    config = TrainConfig(**numbers)
    assert {name: type(getattr(config, name)) for name in numbers} == {
        "epochs": int,
        "learning_rate": float,
        "step_epochs": int,
        "momentum": float,
        "clip": float,
        "nesterov": bool,
        "patience": int,
    }
    assert hash(config) == hash(TrainConfig(**{name: value.item() for name, value in numbers.items()}))


def test_error_for_unknown_schedule_names_the_nearest():
    with pytest.raises(ValueError, match=r"^unknown schedule 'cosin', did you mean 'cosine'"):
        TrainConfig(schedule="cosin")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"track": ("norm",)}, "unknown track 'norm', did you mean 'norms'?"),
        ({"track": ("clipped",)}, "track 'clipped' needs clip"),
        ({"track": ("noise_scale",), "batch_size": 1}, "'noise_scale' needs a batch_size of 2 or larger, got 1"),
        ({"track": ("variance",), "batch_size": 1}, "'variance' needs a batch_size of 2 or larger, got 1"),
    ],
)
def test_statistics_that_a_run_does_not_have_cannot_be_tracked(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        TrainConfig(**options)


def test_names_to_track_become_a_tuple_in_one_order():
    one = TrainConfig(track=("norms", "noise_scale"))
    assert TrainConfig(track=["noise_scale", "norms", "norms"]) == one
    assert isinstance(one.track, tuple)


def test_config_is_frozen_hashable_and_equal_by_value():
    config = TrainConfig(epochs=3)
    assert config == TrainConfig(epochs=3)
    assert hash(config) == hash(TrainConfig(epochs=3))
    assert config != TrainConfig(epochs=4)
    with pytest.raises(FrozenInstanceError):
        config.epochs = 4


def run(n_steps: int = 10, **numbers) -> np.ndarray:
    """Return the factor on the learning rate at every step of a run."""
    config = TrainConfig(learning_rate=2.0, **numbers)
    return np.concatenate([learning_rates(config, epoch, n_steps) for epoch in range(config.epochs)]) / 2.0


def test_constant_schedule_is_constant():
    np.testing.assert_array_equal(run(epochs=3, schedule="constant"), 1)


def test_cosine_falls_from_1_to_nearly_0_by_half_a_cosine():
    factors = run(epochs=4, schedule="cosine")
    share = np.arange(40) / 40
    np.testing.assert_allclose(factors, 0.5 * (1 + np.cos(np.pi * share)), rtol=1e-13)  # 450 eps, near cos = -1
    assert factors[0] == 1
    assert np.all(np.diff(factors) < 0)
    assert 0 < factors[-1] < 0.002  # (pi/40)^2 / 4


def test_step_schedule_falls_after_every_step_epochs():
    factors = run(epochs=4, schedule="step", step_epochs=1.5, step_factor=0.5)
    np.testing.assert_array_equal(factors, np.repeat([1, 0.5, 0.25], [15, 15, 10]))


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("warmup", [0.5, 2.0])
def test_warm_up_grows_linearly_from_0_on_top_of_any_schedule(schedule, warmup):
    numbers = {"epochs": 4, "schedule": schedule, "step_epochs": 1.0}
    ramp = np.minimum(1, np.arange(1, 41) / 10 / warmup)
    # 10 eps: both round a few times.
    np.testing.assert_allclose(run(**numbers, warmup_epochs=warmup), run(**numbers) * ramp, rtol=10 * 2.0**-52)


def test_rate_is_the_learning_rate_times_the_schedules_factor():
    config = TrainConfig(learning_rate=0.125, schedule="constant")
    np.testing.assert_array_equal(learning_rates(config, 3, 4), [0.125] * 4)
