"""In miniature: where delta_L vanishes, which outputs stay saturated, and that each pair has its own best rate."""

import numpy as np
import pytest

from experiments.claims import why_cross_entropy as experiment
from experiments.claims._experiment import Options

QUADRATIC, ENTROPY = map(experiment.words, (experiment.QUADRATIC, experiment.ENTROPY))


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


@pytest.mark.parametrize(
    ("pair", "right_0", "right_1", "wrong_0", "wrong_1"), [(QUADRATIC, 1, 2, 2, 1), (ENTROPY, 0, 1, 1, 0)]
)
def test_delta_falls_with_the_powers_of_5_and_6(outcome, pair, right_0, right_1, wrong_0, wrong_1):
    expected = {"RIGHT_0": right_0, "RIGHT_1": right_1, "WRONG_0": wrong_0, "WRONG_1": wrong_1}
    for name, power in expected.items():
        measured = outcome.numbers[pair][getattr(experiment, name)]
        np.testing.assert_allclose(measured[np.isfinite(measured)], power, atol=0.02)  # factors 1 - y and y, up to 1 %


def test_only_by_5_do_right_outputs_stay_saturated(outcome):
    bad = f"from scale {experiment.BAD:g}"
    assert (outcome.numbers[QUADRATIC][bad][experiment.SOON] > 0.5).all()
    assert (outcome.numbers[ENTROPY][bad][experiment.SOON] < 0.1).all()
    assert (outcome.numbers[QUADRATIC][bad][experiment.LEFT] < experiment.NEAR).all()
    assert (outcome.numbers[ENTROPY][bad][experiment.LEFT] > 1 - experiment.NEAR).all()


def test_the_best_rate_is_the_quickest_of_those_swept(outcome):
    for pair in (QUADRATIC, ENTROPY):
        numbers = outcome.numbers[pair]
        by_rate = numbers[f"{experiment.EPOCHS}, by scale and rate"]
        at_best = numbers[f"{experiment.EPOCHS} at the best rate, by scale and seed"]
        np.testing.assert_allclose(at_best.mean(1), by_rate.min(1))
    quick, slow = (
        outcome.numbers[pair][f"{experiment.EPOCHS}, by scale and rate"].min(1) for pair in (ENTROPY, QUADRATIC)
    )
    assert (quick < slow).all()


def test_ratios_are_of_the_same_seeds():
    design = experiment.QUICK._replace(pairs=experiment.PAIRS, scales=(1.0,))
    epochs = np.array([[[4, 8]], [[2, 4]], [[2, 4]], [[2, 11]]])
    swept = experiment.Swept(design, epochs.mean(-1)[..., None], np.ones((4, 1)), epochs, epochs)
    assert str(experiment.compared(swept, 1.0, experiment.QUADRATIC)) == "2.00 (2.00 to 2.00)"
    assert str(experiment.compared(swept, 1.0, experiment.SOFT)).startswith("at least 1.66")


def test_every_claim_is_judged(outcome):
    assert [claim.verdict for claim in outcome.claims[:2]] == ["held"] * 2
    assert len(outcome.claims) == 5
