"""The comparison with Opacus trains the same network on the same terms, and repeats no run that is on disk."""

import pytest

from experiments import private
from experiments.private import Experiment, Setting, by_jaxmlp, by_opacus, draw
from jaxmlp.data import read

ALL = 1_437  # with all training examples in each batch, and little noise, little is left to chance
NEARLY_CERTAIN = Setting("digits", "tanh", 3.0, ALL, 15, 4.0)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(private, "RESULTS", tmp_path)
    return lambda: Experiment("private", {"digits": read("digits")})


def test_opacus_gets_the_same_network_rate_momentum_and_clipping(experiment, monkeypatch):
    pytest.importorskip("opacus")
    monkeypatch.setattr(private, "multiplier", lambda *_: 0.1)
    data, test = experiment().parts("digits", "final")
    ours, theirs = by_jaxmlp(NEARLY_CERTAIN, data, test, 0), by_opacus(NEARLY_CERTAIN, data, test, 0)
    assert 0.3 < ours[0] < 0.9  # still learning: another rate, momentum or norm would be elsewhere
    assert theirs[0] == pytest.approx(ours[0], abs=0.03)


def test_a_run_on_disk_is_not_repeated(experiment, monkeypatch):
    setting = Setting("digits", "none", 8.0, 256, 1, 2.0)
    first = experiment().run("choosing", "jaxmlp", setting, 0)
    monkeypatch.setitem(private.TRAINERS, "jaxmlp", None)
    assert experiment().run("choosing", "jaxmlp", setting, 0) == first


def test_choosing_never_sees_the_test_examples(experiment):
    one = experiment()
    (chosen_on, chosen_by), (trained_on, tested_on) = (one.parts("digits", part) for part in ("choosing", "final"))
    assert len(chosen_on) + len(chosen_by) == len(trained_on) == ALL
    rows = {tuple(row) for row in tested_on.x.tolist()}
    assert not rows & {tuple(row) for part in (chosen_on, chosen_by) for row in part.x.tolist()}


def test_a_picture_is_drawn_without_opacus(tmp_path):
    rows = [
        {"setting": Setting("digits", "tanh", epsilon)._asdict(), "jaxmlp": [0.8, 0.9], "opacus": []}
        for epsilon in (*private.EPSILONS, None)
    ]
    draw({"digits": rows}, tmp_path / "private.png")
    assert (tmp_path / "private.png").stat().st_size > 10_000
