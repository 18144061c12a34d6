"""In miniature: where the difference rounds to 0, which gradients stay the gradient, and what descents make of it."""

import numpy as np
import pytest

from experiments.claims import where_autodiff_stops as experiment
from experiments.claims._experiment import Options
from experiments.claims._log_softmax_descents import normalised


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


@pytest.fixture(scope="module")
def numbers(outcome):
    return {name: outcome.numbers[f"{experiment.ADDITION}, {name}"] for name in (experiment.AUTODIFF, experiment.OURS)}


def test_autodiff_loses_every_own_delta_at_the_limit(numbers):
    # 1 + exp(-margin) is 1 from there on; twelve other classes vanish one by one, each log 12 = 2.5 earlier at most.
    assert (numbers[experiment.AUTODIFF][experiment.NOT_ZERO] < experiment.LIMIT + 0.01).all()
    assert (numbers[experiment.AUTODIFF][experiment.ZERO] > experiment.LIMIT - 2.5).all()


def test_only_the_gradients_without_a_difference_are_right_past_the_limit(numbers):
    ours = numbers[experiment.OURS]
    assert (ours[experiment.MEAN.format(experiment.AUTODIFF)] > 30).all()
    for name in (experiment.OURS, experiment.REWRITTEN):
        assert (ours[experiment.EARLY.format(name)] < 0.01).all()  # hundreds of float32's roundings


def test_our_descent_arrives_smoothly_and_autodiffs_stalls_and_jumps(numbers):
    auto, ours = numbers[experiment.AUTODIFF], numbers[experiment.OURS]
    assert (ours[experiment.LOW] < experiment.END).all()
    assert (ours[experiment.PAST] < 3).all()
    assert (auto[experiment.PAST] > 3).all()
    assert (auto[experiment.LOW] > 1e-9).all()
    assert (auto[experiment.LOGIT] > 3 * ours[experiment.LOGIT]).all()


def test_sgd_is_off_by_rounding_only(numbers):
    assert (numbers[experiment.AUTODIFF][experiment.SGD_ANGLE] < 0.01).all()


def test_norms_below_the_root_of_the_smallest_number_are_not_lost():
    norm, unit = normalised((np.array([3e-30, 0.0], np.float32), np.array([4e-30], np.float32)))
    np.testing.assert_allclose(norm, 5e-30, rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(unit), [0.6, 0, 0.8], rtol=1e-6)


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 9
