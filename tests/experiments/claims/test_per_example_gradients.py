"""In miniature: who pulls at initial weights and after training, and what clipping bounds."""

import numpy as np
import pytest

from experiments.claims import per_example_gradients as experiment
from experiments.claims._experiment import Options

OPTIONS = Options(seeds=2, quick=True)


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(OPTIONS)


def test_a_tenth_of_the_labels_is_flipped_to_other_classes_in_both_parts():
    problem = experiment.prepare(OPTIONS)
    for part in (problem.training, problem.validation):
        differs = np.asarray(part[experiment.FLIPPED].t) != np.asarray(part[experiment.RIGHT].t)
        assert abs(differs.mean() - 0.1) < 1 / len(differs)
    np.testing.assert_array_equal(
        problem.is_flipped, problem.training[experiment.FLIPPED].t != problem.training[experiment.RIGHT].t
    )


def test_gradients_of_right_labels_shrink_and_those_of_wrong_ones_do_not(outcome):
    numbers = outcome.numbers
    np.testing.assert_allclose(numbers[experiment.ALIKE], 1, atol=0.1)  # the medians of 51 and of 461 norms
    assert (numbers[experiment.OTHERS] < 0.5).all()
    assert (numbers[experiment.WRONG] > 0.9).all()
    assert (numbers[experiment.FOUND] > 0.5).all()  # by chance 0.1


def test_classes_with_more_errors_have_longer_gradients(outcome):
    assert (outcome.numbers[experiment.RANKS] > 0.5).all()


def test_the_noise_scale_grows_while_the_gradient_falls(outcome):
    numbers = outcome.numbers
    assert (numbers[experiment.SQUARED] < 1).all()
    assert (numbers[experiment.SCALE] > 1).all()


def test_no_clipped_gradient_is_longer_than_the_clipping_norm(outcome):
    numbers = outcome.numbers
    np.testing.assert_allclose(numbers[experiment.BOUNDED], 1, rtol=1e-6)
    assert (numbers[experiment.LONGEST] > 5).all()
    assert (numbers[experiment.CLIPPED] > 0.09).all()  # a tenth of the examples, all of one length
    assert (numbers[experiment.CLIPPED] < 0.6 * numbers[experiment.PULL]).all()


def test_the_best_rate_goes_as_one_over_the_clipping_norm(outcome):
    rates = outcome.numbers[experiment.FLIPPED]["rates"][1:] * np.array(experiment.CLIPS[1:])
    assert rates.max() <= 4 * rates.min()  # as far as rates a factor of two apart tell


def test_networks_find_the_same_examples_hard(outcome):
    assert (outcome.numbers[experiment.AGREE] > 0.2).all()  # by chance 0.01


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 9
    assert "digits" in outcome.finding
