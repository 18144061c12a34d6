"""Every row of the table of equivalences is right, and a fault in the library makes its row wrong."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import MLP, equivalences, init, loss_and_gradient, per_example
from jaxmlp.activations import ACTIVATIONS
from jaxmlp.checking import LeafError, Report
from jaxmlp.checking.report import Explanation
from jaxmlp.equivalences import networks, of_library, of_model, rounding_units, statistics
from jaxmlp.equivalences.derivatives import weighted_inputs
from jaxmlp.equivalences.rows import drawn, target_rows
from jaxmlp.equivalences.statistics import STATISTICS
from jaxmlp.losses import LOSSES

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

# Networks of one and two layers; `jaxmlp check` walks all of them.
ROWS = list(of_library(n_networks=2))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.name}")
def test_every_row_of_the_table_is_right(row):
    report = row.check()
    assert report
    # A few dozen operations with a few roundings each; at a kink the gradient is not unique.
    assert rounding_units(report) < 100 or any("kink" in note for note in report.notes)


def test_every_activation_and_loss_has_its_rows():
    names = [row.name for row in of_library()]
    assert len(set(names)) == len(names)
    for activation in ACTIVATIONS:
        assert sum(name.startswith(f"{activation}, ") for name in names) == 2, activation
    for loss, entry in LOSSES.items():
        for output in entry.outputs:
            assert f"{loss} of {output}, delta" in names


def test_networks_have_every_pair_every_hidden_activation_and_one_to_four_layers():
    every = list(networks())
    pairs = {(loss, output) for loss, entry in LOSSES.items() for output in entry.outputs}
    assert {(mlp.loss, mlp.output) for mlp in every} == pairs
    hidden = {name for mlp in every for name in mlp.activations[:-1]}
    assert hidden == {name for name, activation in ACTIVATIONS.items() if activation.derivative is not None}
    assert [len(mlp.activations) for mlp in every[:4]] == [1, 2, 3, 4]


def test_every_statistic_of_per_example_is_compared():
    functions = {name for name in per_example.__all__ if inspect.isfunction(getattr(per_example, name))}
    assert functions == {name.removesuffix(" by layer") for name in STATISTICS}


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_the_naive_formula_does_not_clip_a_gradient_of_zeros(limit):
    rows = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    weights = per_example.clipping_weights(jnp.linalg.norm(rows, axis=1), limit)
    np.testing.assert_array_equal(statistics._clip(rows, limit), weights)


@pytest.fixture
def _no_search_for_the_cause(monkeypatch):
    # Only the verdict matters here; the search is slow and has tests of its own.
    monkeypatch.setattr("jaxmlp.checking._why_wrong.explain", lambda wrong: (Explanation("none", ""),))


def found(rows, name):
    (row,) = [row for row in rows if row.name == name]
    return row.check()


@pytest.mark.usefixtures("_no_search_for_the_cause")
def test_a_wrong_activation_is_found(monkeypatch):
    right = ACTIVATIONS["tanh"]
    broken = right._replace(pullback=lambda z, g: 0.999 * right.pullback(z, g))
    monkeypatch.setitem(ACTIVATIONS, "tanh", broken)
    assert found(of_library(), "tanh, first derivative").verdict == "wrong"
    monkeypatch.setitem(ACTIVATIONS, "tanh", right._replace(error=lambda z, t: right.phi(z) - 2 * t))
    assert found(of_library(), "tanh, first derivative").verdict == "wrong"


def nudged(function):
    return lambda *args: function(*args) + 1e-6


@pytest.mark.usefixtures("_no_search_for_the_cause")
def test_a_wrong_loss_is_found(monkeypatch):
    right = LOSSES["binary_cross_entropy"]
    for part, row in (("delta_change", "change of delta"), ("gauss_newton", "Gauss-Newton")):
        broken = right._replace(**{part: nudged(getattr(right, part))})
        monkeypatch.setitem(LOSSES, "binary_cross_entropy", broken)
        report = found(of_library(), f"binary_cross_entropy of sigmoid, {row}")
        assert report.verdict == "wrong"
        assert rounding_units(report) > 1e6


def network():
    mlp = MLP((4, 3))
    rng = np.random.default_rng(0)
    return mlp, init(mlp, jax.random.key(0)), rng.normal(size=(300, 4)).astype(np.float32), rng.integers(3, size=300)


def test_a_wrong_statistic_is_found_and_no_other(monkeypatch):
    def nudged(*args):
        return jax.tree.map(lambda leaf: leaf * (1 + 1e-9), per_example.variance(args[0]))

    kept = {name: STATISTICS[name] for name in ("variance", "weighted_sum", "gram")}
    monkeypatch.setattr(
        "jaxmlp.equivalences.statistics.STATISTICS", kept | {"variance": (nudged, STATISTICS["variance"][1])}
    )
    rows = [row for row in of_model(*network()) if row.group == "statistics"]
    verdicts = {row.name: row.check().verdict for row in rows}
    assert verdicts == {"variance": "wrong", "weighted_sum": "right", "gram": "right"}


def test_a_trained_network_is_checked_on_256_of_its_examples(monkeypatch):
    sizes = []

    def watched(mlp, params, x, t):
        sizes.append(x.shape)
        return loss_and_gradient(mlp, params, x, t)

    monkeypatch.setattr("jaxmlp.equivalences.derivatives.loss_and_gradient", watched)
    rows = list(of_model(*network()))
    rows[0].claim.gradient(rows[0].claim.params)
    assert sizes == [(256, 4)]
    assert {row.group for row in rows} == {"networks", "statistics"}


def test_statistics_of_a_large_network_are_checked_on_few_examples(monkeypatch):
    mlp, params, x, t = network()
    taken = []
    monkeypatch.setattr(equivalences, "rows_of_statistics", lambda mlp, params, x, *rest: taken.append(x) or [])
    monkeypatch.setattr(equivalences, "_NUMBERS", 5 * mlp.n_parameters)
    for seed in (0, 0, 1):
        list(of_model(mlp, params, x, t, seed=seed))
    assert [one.shape for one in taken] == [(5, 4)] * 3
    np.testing.assert_array_equal(taken[0], taken[1])
    assert (taken[0] != taken[2]).any()


def test_one_example_has_no_noise_scale():
    mlp, params, x, t = network()
    for n, others in ((1, set()), (2, {"noise_scale"})):
        names = {row.name for row in of_model(mlp, params, x[:n], t[:n]) if row.group == "statistics"}
        assert names == (set(STATISTICS) - {"noise_scale"}) | others


def test_drawn_numbers_have_no_zero_biases_and_weighted_inputs_have_ties_zeros_and_both_signs():
    rng = np.random.default_rng(0)
    assert all((np.asarray(layer.b) != 0).all() for layer in drawn(MLP((4, 3, 2)), rng)[0])
    z = np.asarray(weighted_inputs(rng, ACTIVATIONS["tanh"]))
    assert (z[0] == 0).all()
    assert z.min() <= -20
    assert z.max() >= 20
    rows = np.asarray(target_rows(z.shape, rng))
    np.testing.assert_array_equal(rows.sum(1), 1)
    assert {1} < {np.count_nonzero(row) for row in rows}  # hot rows, and soft ones


def test_soft_targets_that_sum_to_1_only_in_float32_are_not_called_wrong(monkeypatch):
    mlp, params, x, _ = network()
    t = np.random.default_rng(1).dirichlet(np.ones(3), 300).astype(np.float32)
    assert (t.astype(np.float64).sum(1) != 1).any()
    monkeypatch.setattr(statistics, "STATISTICS", {"norms": STATISTICS["norms"]})
    (row,) = (row for row in of_model(mlp, params, x, t) if row.group == "statistics")
    assert row.check()


def test_rounding_units_follow_each_leafs_dtype_and_are_inf_for_nan():
    leaf = LeafError("w", (1,), "float64", (0,), 1.0, 1.0, 0.0, 2.0**-50, 0)
    report = Report("f", "right", "", (leaf, leaf._replace(dtype="float32")))
    assert rounding_units(report) == 4
    assert rounding_units(dataclasses.replace(report, leaves=(leaf._replace(relative=float("nan")),))) == jnp.inf
