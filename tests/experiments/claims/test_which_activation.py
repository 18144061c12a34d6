"""In miniature: the predicted size of delta, and that settings are chosen without the seed that they are judged by."""

import numpy as np
import pytest

from experiments.claims import which_activation as experiment
from experiments.claims._experiment import Options


@pytest.fixture(scope="module")
def outcome():
    return experiment.run(Options(seeds=2, quick=True))


def test_delta_changes_from_layer_to_layer_as_the_initial_scale_predicts(outcome):
    for delta in outcome.numbers["delta"].values():
        measured = delta[f"{experiment.FACTOR}, by seed and scale"].mean(0)
        # Two draws of layers of 128: what is measured of relu varies by 2 % from draw to draw.
        np.testing.assert_allclose(measured, delta[f"{experiment.PREDICTED}, by scale"], rtol=0.05)


def test_predictions_are_the_closed_forms():
    scales = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(experiment.factors("relu", scales)[:, -1], scales, rtol=1e-3)  # s^2 gain^2 / 2 = s^2
    np.testing.assert_allclose(experiment.factors("identity", scales)[:, -1], scales, rtol=1e-5)
    assert experiment.critical_scale("relu") == pytest.approx(1, rel=0.01)
    # E[sigma'(z)^2] is below 1/16, so that even small weights lose more than 3/4 of the gain a layer.
    assert (experiment.factors("sigmoid", scales) < 1.84623 * scales[:, None] / 4).all()


def test_sigmoid_loses_delta_and_the_others_do_not(outcome):
    through = {
        name: delta[f"{experiment.FACTOR}, by seed and scale"][:, experiment.ONE] ** (experiment.LAYERS - 1)
        for name, delta in outcome.numbers["delta"].items()
    }
    assert (through["sigmoid"] < 0.01).all()
    assert all(0.5 < through[name].mean() < 2 for name in ("tanh", "relu"))


def test_settings_are_chosen_by_the_other_seeds():
    settings = [(0.1, 1.0), (0.2, 1.0), (0.4, 1.0)]
    epochs = np.array([[1, 8, 8], [5, 5, 5], [9, 3, 9]])
    accuracy = 1 - epochs / 10
    cell = experiment.choose(settings, epochs, accuracy, tests=accuracy - 0.1)
    assert cell.quickest == cell.best == (0.2, 1.0)
    # The first setting is the best without seed 1 or 2, thanks to seed 0; without seed 0 it is the second.
    np.testing.assert_array_equal(cell.epochs, [5, 8, 8])
    np.testing.assert_allclose(cell.accuracy, [0.4, 0.1, 0.1])  # of the test


def test_what_never_arrives_counts_as_one_epoch_more(outcome):
    for name, cell in outcome.numbers["training, by activation and depth"].items():
        epochs = cell[f"{experiment.EPOCHS}, by seed"]
        assert ((epochs >= 1) & (epochs <= experiment.QUICK.config.epochs + 1)).all(), name


def test_every_claim_is_judged(outcome):
    assert len(outcome.claims) == 7
    assert [claim.verdict for claim in outcome.claims[:2]] == ["held"] * 2
