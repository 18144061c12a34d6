"""In miniature: a hidden layer beats none; and how runs are made, kept, judged and written down."""

import json
import sys

import jax
import numpy as np
import pytest

import jaxmlp
from experiments import _timing
from experiments._report import RESULTS
from experiments.claims._experiment import Options
from experiments.records import __main__ as records
from experiments.records import runs
from experiments.records.__main__ import CANDIDATES, RECIPES, claims, recipe
from experiments.records.libraries import LIBRARIES, images, positions
from experiments.records.runs import Pace, Run, kept, train
from experiments.records.tables import seconds_to, tables, write_history
from jaxmlp import MLP, data


@pytest.fixture(scope="module")
def digits():
    return images(data.read("digits"))


def test_a_hidden_layer_beats_a_linear_classifier_on_the_same_images():
    outcome = records.run(Options(seeds=2, quick=True))
    assert (outcome.numbers["ours"] - outcome.numbers["linear"] > 0.05).all()
    assert [claim.verdict for claim in outcome.claims] == ["held"]


def test_without_extra_examples_ours_is_what_train_does(digits):
    plain = recipe(0.1, hidden=(32,), mirror=False, batch_size=32)
    learner = LIBRARIES["jaxmlp"](plain, 3, digits, 5)
    for _ in range(3):
        learner.epoch()
    config = runs.replace(plain.config, epochs=3)
    trained = jaxmlp.train(MLP((64, 32, 10)), digits.train, config, key=jax.random.key(5))
    expected = jax.vmap(lambda x: jaxmlp.predict(MLP((64, 32, 10)), trained.params, x))(digits.test.x).argmax(1)
    np.testing.assert_array_equal(learner.predict(digits.test.x), expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_learns_images_that_move(library, digits, monkeypatch):
    if library == "PyTorch":
        pytest.importorskip("torch")
        monkeypatch.setattr(_timing, "cores", lambda: 1)  # its threads wait in busy loops for each other, and others
    run = train(library, 12, 0, recipe(0.1, hidden=(64,), shift=1, batch_size=32), Pace(0.5, 1.0), digits)
    assert run.epochs == 11
    assert run.training_seconds == 11.5
    assert run.accuracy > 0.75  # a tenth without learning; half where images move but the labels are another order's


def test_positions_are_the_image_moved_and_mirrored():
    image = np.arange(1.0, 13.0).reshape(3, 4)
    bordered = np.pad(image, 1)
    seen = bordered.ravel()[positions((3, 4), mirror=True, shift=1)].reshape(-1, 3, 4)
    assert len(seen) == 18
    np.testing.assert_array_equal(seen[4], image)
    np.testing.assert_array_equal(seen[13], image[:, ::-1])
    np.testing.assert_array_equal(seen[0], bordered[:3, :4])


def test_validation_holds_out_the_last_training_images_and_never_the_test_part(digits):
    part = images(data.read("digits"), validate=300)
    np.testing.assert_array_equal(part.test.x, digits.train.x[-300:])
    np.testing.assert_array_equal(part.train.x, digits.train.x[:-300])


def test_the_recipes_are_the_best_of_the_search_on_the_validation_part():
    search = json.loads((RESULTS / "records.json").read_text())["numbers"]["search"]
    for library, chosen in RECIPES.items():
        tried = {one["recipe"]: one["accuracy"] for one in search if one["library"] == library}
        assert set(tried) == {str(candidate) for candidate in CANDIDATES[library]}
        assert max(tried, key=tried.__getitem__) == str(chosen)


def test_a_run_is_kept_and_repeated_only_for_another_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "FOLDER", tmp_path / "records")
    made = []

    def make(number):
        made.append(number)
        return Pace(0.0, number)

    assert [kept("run", recipe(0.1), make, number)["epoch"] for number in (1.0, 2.0)] == [1.0, 1.0]
    assert kept("run", recipe(0.2), make, 3.0)["epoch"] == 3.0
    assert made == [1.0, 3.0]


def _runs(library, *accuracies, budget=60, reached=(5.0, None)):
    return [
        Run(library, budget, seed, "a recipe", 50, 0.5, 1.0, 50.5, accuracy, list(reached), [[1.0], [accuracy]])
        for seed, accuracy in enumerate(accuracies)
    ]


def test_seconds_to_a_level_are_the_median_and_a_dash_where_most_seeds_miss_it():
    runs = [one._replace(reached=[s, t]) for one, s, t in zip(_runs("jaxmlp", 0.9, 0.9, 0.9), *_REACHED, strict=True)]
    assert [seconds_to(runs, level) for level in range(2)] == ["6.0 s", "-"]


_REACHED = (5.0, 60.0, 6.0), (50.0, None, None)


def test_a_peer_is_beaten_only_by_more_than_the_interval():
    ours = _runs("jaxmlp", 0.91, 0.912, 0.911)
    far, near = _runs("PyTorch", 0.90, 0.902, 0.901), _runs("scikit-learn", 0.9105, 0.9101, 0.9111)
    assert [claim.verdict for claim in claims(ours + far + near)[1:]] == ["held", "held within limits"]


def test_the_published_accuracy_is_beaten_only_by_all_seeds_that_a_budget_asks_for():
    assert claims(_runs("jaxmlp", *[0.91] * 5))[0].verdict == "held"
    assert claims(_runs("jaxmlp", *[0.91] * 4))[0].verdict == "held within limits"
    assert claims(_runs("jaxmlp", 0.88, *[0.91] * 4))[0].verdict == "held within limits"
    assert claims(_runs("jaxmlp", 0.87, 0.88))[0].verdict == "did not hold"


def test_tables_count_seeds_and_say_what_was_not_run():
    rows = {row[:2]: row for row in tables(_runs("jaxmlp", 0.9, 0.91))[0].rows}
    assert rows["60 s", "jaxmlp"][3] == 2
    assert rows["60 s", "PyTorch"][2] == "not run"


def test_only_a_higher_mean_of_all_seeds_is_a_new_record(tmp_path):
    page = tmp_path / "README.md"
    for accuracies in ([0.9] * 5, [0.95] * 4, [0.89] * 5, [0.91] * 5):
        write_history(_runs("jaxmlp", *accuracies), page)
    written, _, history = page.read_text().partition("## History")
    assert [float(line.split("|")[2].split()[0]) for line in history.splitlines() if line[:6] == "| 60 s"] == [90, 91]
    assert written.count("| 60 s | jaxmlp |") == 2  # the tables are of the last runs alone


@pytest.mark.parametrize("argument", ["--budgets=61", "--libraries=pytorch", "--report"])
def test_what_cannot_be_run_is_one_line(argument, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["records", argument, f"--data={tmp_path}"])
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    with pytest.raises(SystemExit) as ended:
        records.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
