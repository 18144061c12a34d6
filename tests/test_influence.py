"""Scores, influences and kernels against gradients of every example formed one by one, by autodiff in float64."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import influence
from jaxmlp.data import Dataset
from jaxmlp.influence import network_influences, network_scores, scores, suspects, tangent_kernel, tracin
from jaxmlp.losses import target_row
from jaxmlp.network import MLP, Layer, Network, Params, forward, loss, predict
from jaxmlp.training.examples import Examples, expanded

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

CLASSES = MLP((4, 5, 3), "tanh")
PROGRAMS = (influence._scores, influence._tracin)


@pytest.fixture
def small_blocks(monkeypatch) -> Iterator[int]:
    """Let a block be 4 examples, and clear programs that were compiled for other blocks."""
    monkeypatch.setattr(influence, "_BLOCK", 4)
    for program in PROGRAMS:
        program.clear_cache()
    yield 4
    for program in PROGRAMS:
        program.clear_cache()


def drawn(mlp: MLP, seed: int = 0) -> Params:
    """Draw weights that keep z of order 1, in JAX's default float."""
    rng = np.random.default_rng(seed)
    return tuple(
        Layer(jnp.asarray(rng.normal(size=(n_out, n_in)) * 1.5 / np.sqrt(n_in)), jnp.asarray(rng.normal(size=n_out)))
        for n_in, n_out in pairwise(mlp.sizes)
    )


def inputs(n: int, n_in: int = 4) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, n_in))


def labels(n: int, n_classes: int = 3) -> np.ndarray:
    return np.random.default_rng(n + 1).integers(0, n_classes, n)


def gradients(mlp: MLP, params: Params, data: Dataset) -> np.ndarray:
    """Return the gradient of every example by autodiff: [N, parameters]."""
    return np.asarray(_gradients(mlp, params, data.x, data.t))


@partial(jax.jit, static_argnums=0)
def _gradients(mlp: MLP, params: Params, x: np.ndarray, t: np.ndarray) -> jax.Array:
    every = jax.vmap(jax.grad(partial(loss, mlp)), (None, 0, 0))(params, x, t)
    return jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(every)], axis=1)


@partial(jax.jit, static_argnums=0)
def last_layer_rows_and_losses(mlp: MLP, params: Params, x: np.ndarray, t: np.ndarray) -> tuple[jax.Array, ...]:
    z, y = (layers[-1] for layers in jax.vmap(partial(forward, mlp, params))(x))
    rows = jax.vmap(lambda t, z: target_row(t, z, mlp.output))(jnp.asarray(t), z)
    return z, y, rows, jax.vmap(partial(loss, mlp, params))(x, t)


# ----- scores -----

ONE_LABEL = MLP((4, 5, 1), "tanh", "sigmoid", "binary_cross_entropy")
LABELS = MLP((4, 5, 3), "tanh", "sigmoid", "binary_cross_entropy")
SIGMOIDS = MLP((4, 5, 3), "silu", "sigmoid", "quadratic")


def of_largest_other(z: np.ndarray, row: np.ndarray) -> float:
    right = int(np.argmax(row))
    return z[right] - max(np.delete(z, right))


def of_least_label(z: np.ndarray, row: np.ndarray) -> float:
    return min(number if is_on else -number for number, is_on in zip(z, row > 0.5, strict=True))


# Network, targets of N examples, and the margin as its definition has it, of one example's z and row.
CASES = {
    "classes": (CLASSES, labels, of_largest_other),
    "soft rows": (CLASSES, lambda n: np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])[labels(n, 2)], of_largest_other),
    "classes with sigmoids and quadratic loss": (SIGMOIDS, labels, of_largest_other),
    "real values": (SIGMOIDS, lambda n: inputs(n, 3), None),
    "whole numbers of one output": (MLP((4, 1), output="identity", loss="quadratic"), labels, None),
    "one label": (ONE_LABEL, partial(labels, n_classes=2), of_least_label),
    "rows of labels": (LABELS, lambda n: (inputs(n, 3) > 0).astype(int), of_least_label),
    "classes with labels": (LABELS, labels, of_largest_other),
}
EVERY_CASE = pytest.mark.parametrize(("mlp", "targets", "margin"), CASES.values(), ids=CASES)


def assert_are_those_of_every_example(mlp: MLP, data: Dataset, margin: Callable | None) -> None:
    params = drawn(mlp)
    found = scores(mlp, params, data)
    assert {one.shape for one in found if one is not None} == {(len(data),)}
    z, y, rows, losses = map(np.asarray, last_layer_rows_and_losses(mlp, params, data.x, data.t))
    exact = {"rtol": 1e-12, "atol": 1e-14}  # numbers of order 1, sums of some 60 terms: 4,500 eps; a margin may cancel
    np.testing.assert_allclose(found.norms, np.linalg.norm(gradients(mlp, params, data), axis=1), **exact)
    np.testing.assert_allclose(found.error_norms, np.sqrt(((y - rows) ** 2).sum(1)), **exact)
    np.testing.assert_allclose(found.losses, losses, **exact)
    if margin is None:
        assert found.margins is None
    else:
        np.testing.assert_allclose(found.margins, list(map(margin, z, rows)), **exact)


@pytest.mark.usefixtures("x64")
@EVERY_CASE
def test_scores_match_autodiff_and_their_definitions_on_every_example(mlp, targets, margin):
    assert_are_those_of_every_example(mlp, Dataset(inputs(11), targets(11)), margin)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [1, 11])
def test_scores_in_blocks_match_those_of_every_example(n, small_blocks):
    assert_are_those_of_every_example(CLASSES, Dataset(inputs(n), labels(n)), of_largest_other)


def test_scores_of_many_blocks_match_those_of_each_part():
    data = Dataset(inputs(2 * influence._BLOCK + 5).astype(np.float32), labels(2 * influence._BLOCK + 5))
    params = drawn(CLASSES)
    parts = [
        scores(CLASSES, params, Dataset(data.x[start : start + 700], data.t[start : start + 700]))
        for start in range(0, len(data), 700)
    ]
    for whole, pieces in zip(scores(CLASSES, params, data), zip(*parts, strict=True), strict=True):
        assert whole.dtype == np.float32
        # Matrix products of another size sum in another order: some 16 eps of numbers up to 8.
        np.testing.assert_allclose(whole, np.concatenate(pieces), rtol=2.0**-19, atol=2.0**-17)


def test_norm_of_a_gradient_whose_square_underflows_is_not_zero():
    mlp = MLP((1, 2))
    sure = (Layer(jnp.array([[60.0], [0.0]]), jnp.zeros(2)),)
    found = scores(mlp, sure, Dataset(np.ones((1, 1)), np.array([0])))
    # |y - t| = sqrt(2) exp(-60), times sqrt(2) for x = 1 and the bias: 8 roundings of float32.
    np.testing.assert_allclose(found.norms, [2 * np.exp(-60)], rtol=8 * 2.0**-23)


def temporary_memory(program, *given, **options) -> int:
    # What a user's program needs, and not one compiled in haste.
    whole = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    return program.lower(*given, **options).compile(whole).memory_analysis().temp_size_in_bytes


def test_memory_of_scores_grows_only_by_the_result():
    mlp = MLP((4, 200, 3))

    def needed(n: int) -> int:
        examples = Examples(jnp.ones((n, 4)), jnp.zeros(n, int), None)
        return temporary_memory(influence._scores, mlp, drawn(mlp), examples, True)

    # Four answers an example, as blocks and joined, 4 bytes each: one hidden layer would be 800 bytes an example.
    assert needed(16 * 1024) - needed(4 * 1024) <= 2 * 4 * 4 * (12 * 1024)


# ----- suspects -----


def test_suspects_are_found_by_a_naive_loop_over_the_definition():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4) / 2, 200).astype(np.float32)
    labels = rng.integers(0, 3, 200)  # class 3 is never a label, but sometimes the most probable class
    assert (probabilities.argmax(1) == 3).any()
    thresholds = [probabilities[labels == j, j].mean(dtype=np.float64) for j in range(3)]
    naive = []
    for row, label in zip(probabilities, labels, strict=True):
        reached = [j for j in range(3) if row[j] >= thresholds[j]]
        naive.append(bool(reached) and max(reached, key=lambda j: row[j]) != label)
    np.testing.assert_array_equal(suspects(probabilities, labels), naive)
    # The thresholds and the label both matter: other rules suspect other examples.
    wrong = probabilities.argmax(1) != labels
    assert 0 < sum(naive) < wrong.sum() < len(naive)


def test_an_example_of_a_hesitant_class_is_suspected_below_one_half():
    # Its threshold is 0.4, which the last example reaches; 0.6 is below the threshold of class 0, 0.75.
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    np.testing.assert_array_equal(suspects(probabilities, np.array([0, 1, 0])), [False, False, True])


@pytest.mark.parametrize(
    ("probabilities", "labels", "sentence"),
    [
        (np.full(2, 0.5), [0, 1], "probabilities and labels must be [N, n_L] and [N], got shapes (2,) and (2,)"),
        (np.full((2, 2), 0.5), [0], "probabilities and labels must be [N, n_L] and [N], got shapes (2, 2) and (1,)"),
        (np.ones((0, 2)), [], "probabilities and labels must be [N, n_L] and [N], got shapes (0, 2) and (0,)"),
        (np.full((2, 2), 0.5), [0.0, 1.0], "labels must be integers, got float64"),
        (np.full((2, 2), 0.5), [0, 2], "labels must be from 0 to 1, got 0 to 2"),
        (np.full((2, 2), 0.5), [-1, 0], "labels must be from 0 to 1, got -1 to 0"),
        ([[0.5, 0.5], [np.nan, 0.5]], [0, 0], "probabilities must be finite, got [nan, 0.5] in row 1"),
    ],
)
def test_suspects_refuses_wrong_arguments_in_one_line(probabilities, labels, sentence):
    with pytest.raises(ValueError, match=r".") as caught:
        suspects(probabilities, labels)
    assert str(caught.value) == sentence


# ----- influence of training on test examples -----


def all_influences(mlp: MLP, checkpoints, train: Dataset, test: Dataset, rates) -> np.ndarray:
    """Sum all inner products of gradients over the checkpoints: [T, N]."""
    return sum(
        rate * gradients(mlp, params, test) @ gradients(mlp, params, train).T
        for params, rate in zip(checkpoints, rates, strict=True)
    )


def assert_are_the_extremes(found: influence.Influences, truth: np.ndarray, top: int) -> None:
    exact = {"rtol": 0, "atol": 1e-12 * np.abs(truth).max()}  # some 45 products a checkpoint, each off by a few eps
    order = np.argsort(-truth, axis=1)
    for rows, values, expected in (
        (found.helped, found.helped_by, order[:, :top]),
        (found.harmed, found.harmed_by, order[:, ::-1][:, :top]),
    ):
        np.testing.assert_array_equal(rows, expected)  # no ties: numbers at random
        np.testing.assert_allclose(values, np.take_along_axis(truth, expected, axis=1), **exact)


@pytest.fixture(scope="module")
def run() -> list[Params]:
    """Three checkpoints, in float64."""
    with jax.enable_x64(True):
        return [drawn(CLASSES, seed) for seed in range(3)]


def two_sets(n_train: int, n_test: int) -> tuple[Dataset, Dataset]:
    return Dataset(inputs(n_train), labels(n_train)), Dataset(inputs(n_test) + 0.5, labels(n_test))


@pytest.mark.usefixtures("x64")
def test_influences_are_the_largest_and_smallest_of_all_inner_products(run):
    (train, test), rates = two_sets(23, 5), [0.5, 2.0, -0.25]
    truth = all_influences(CLASSES, run, train, test, rates)
    assert_are_the_extremes(tracin(CLASSES, run, train, test, 5, learning_rates=rates), truth, 5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("n_train", "n_test", "top", "rates"), [(1, 1, 1, None), (23, 5, 23, None), (22, 3, 6, [3.0, 0.5])]
)
def test_influences_in_blocks_match_those_of_all_examples(n_train, n_test, top, rates, run, small_blocks):
    train, test = two_sets(n_train, n_test)
    truth = all_influences(CLASSES, run[:2], train, test, rates or [1.0, 1.0])
    assert_are_the_extremes(tracin(CLASSES, run[:2], train, test, top, learning_rates=rates), truth, top)


@pytest.mark.usefixtures("x64")
def test_influences_with_real_targets_are_the_largest_and_smallest_inner_products():
    train, test = Dataset(inputs(9), inputs(9, 3)), Dataset(inputs(3), inputs(3, 3))
    run = [drawn(SIGMOIDS)]
    truth = all_influences(SIGMOIDS, run, train, test, [1.0])
    assert_are_the_extremes(tracin(SIGMOIDS, run, train, test, top=4), truth, 4)


def test_an_example_helps_itself_by_its_squared_gradient_norm():
    train, _ = two_sets(30, 1)
    params = drawn(CLASSES)
    norms = scores(CLASSES, params, train).norms
    lone = int(norms.argmax())  # by Cauchy and Schwarz no other can help it more
    found = tracin(CLASSES, [params], train, Dataset(train.x[lone : lone + 1], train.t[lone : lone + 1]), top=2)
    assert found.helped[0, 0] == lone
    np.testing.assert_allclose(found.helped_by[0, 0], norms[lone] ** 2, rtol=64 * 2.0**-23)  # a sum of 43 squares
    assert [array.dtype for array in found] == [np.int32, np.float32] * 2
    assert {array.shape for array in found} == {(1, 2)}


@pytest.mark.parametrize(
    ("n_checkpoints", "top", "rates", "sentence"),
    [
        (1, 0, None, "top, of 6 training examples, must be a whole number from 1 to 6, got 0"),
        (1, 7, None, "top, of 6 training examples, must be a whole number from 1 to 6, got 7"),
        (1, 2.0, None, "top, of 6 training examples, must be a whole number from 1 to 6, got 2.0"),
        (0, 1, None, "checkpoints must be one or more parameters of the network, got none"),
        (0, 1, [], "checkpoints must be one or more parameters of the network, got none"),
        (2, 1, [1.0], "learning_rates must be one finite number for each of 2 checkpoints, got [1.0]"),
        (1, 1, np.ones(2), "learning_rates must be one finite number for each of 1 checkpoints, got [1.0, 1.0]"),
        (1, 1, [np.nan], "learning_rates must be one finite number for each of 1 checkpoints, got [nan]"),
    ],
)
def test_tracin_refuses_wrong_arguments_in_one_line(n_checkpoints, top, rates, sentence):
    train, test = two_sets(6, 2)
    with pytest.raises(ValueError, match=r".") as caught:
        tracin(CLASSES, [drawn(CLASSES)] * n_checkpoints, train, test, top, learning_rates=rates)
    assert str(caught.value) == sentence


def test_data_and_parameters_of_another_network_are_refused_in_one_line():
    params, (fit, _) = drawn(CLASSES), two_sets(6, 2)
    unfit, other = Dataset(inputs(6, 5), labels(6)), drawn(MLP((4, 2, 3)))
    for where, refused in {
        "": lambda: scores(CLASSES, params, unfit),
        "train: ": lambda: tracin(CLASSES, [params], unfit, fit, top=1),
        "test: ": lambda: tracin(CLASSES, [params], fit, unfit, top=1),
    }.items():
        with pytest.raises(ValueError, match=rf"^{where}x has 5 features, but the network takes 4$"):
            refused()
    for name, refused in {
        "params": lambda: scores(CLASSES, other, fit),
        "checkpoints[1]": lambda: tracin(CLASSES, [params, other], fit, fit, top=1),
        "params ": lambda: tangent_kernel(CLASSES, other, fit.x),
    }.items():
        with pytest.raises(ValueError, match=rf"^{re.escape(name.strip())} must fit sizes \(4, 5, 3\), got"):
            refused()


def test_memory_of_tracin_does_not_grow_with_the_training_examples():
    run = jax.tree.map(lambda *leaves: jnp.stack(leaves), drawn(CLASSES, 0), drawn(CLASSES, 1))
    test = jnp.ones((600, 4)), jnp.zeros(600, int)  # more than one block

    def needed(n: int) -> int:
        train = jnp.ones((n, 4)), jnp.zeros(n, int)
        return temporary_memory(influence._tracin, (CLASSES,), ((run, jnp.ones(2)),), train, test, 5)

    # But for the first row's number of each block: 4 bytes for 1,024 examples, and as many to spare for alignment.
    assert needed(64 * 1024) - needed(16 * 1024) <= 2 * 4 * 48


# ----- tangent kernels -----


def jacobians(mlp: MLP, params: Params, x: np.ndarray) -> np.ndarray:
    """Return the Jacobian of every example's z_L by autodiff: [n_L, N, parameters]."""
    return np.asarray(_jacobians(mlp, params, x))


@partial(jax.jit, static_argnums=0)
def _jacobians(mlp: MLP, params: Params, x: np.ndarray) -> jax.Array:
    every = jax.vmap(jax.jacrev(lambda params, x: forward(mlp, params, x).z[-1]), (None, 0))(params, x)
    leaves = [leaf.reshape(len(x), mlp.sizes[-1], -1) for leaf in jax.tree.leaves(every)]
    return jnp.concatenate(leaves, axis=2).transpose(1, 0, 2)


def assert_is_that_of_jacobians(mlp: MLP, x: np.ndarray, other: np.ndarray | None) -> None:
    params = drawn(mlp)
    left = jacobians(mlp, params, x)
    right = left if other is None else jacobians(mlp, params, other)
    truth = left @ right.transpose(0, 2, 1)
    found = tangent_kernel(mlp, params, x, other)
    exact = {"rtol": 0, "atol": 1e-12 * np.abs(truth).max()}  # sums of some 60 products, each off by a few eps
    np.testing.assert_allclose(found.outputs, truth, **exact)
    np.testing.assert_allclose(found.trace, truth.sum(0), **exact)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "mlp",
    [
        MLP((4, 3)),
        MLP((4, 6, 5, 2), ("gelu", "relu"), "tanh", "quadratic"),
        MLP((4, 1, 1), "elu", "sigmoid", "binary_cross_entropy"),
    ],
    ids=lambda mlp: str(mlp.sizes),
)
def test_tangent_kernel_is_the_product_of_jacobians(mlp):
    assert_is_that_of_jacobians(mlp, inputs(6), inputs(3))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("n", "m"), [(1, 8), (11, 9)])
def test_tangent_kernel_in_blocks_is_the_product_of_jacobians(n, m, small_blocks):
    assert_is_that_of_jacobians(CLASSES, inputs(n), inputs(m))


@pytest.mark.usefixtures("x64")
def test_tangent_kernel_of_x_with_itself_is_symmetric_and_positive_semi_definite():
    x = inputs(60)  # more examples than the 43 parameters
    assert_is_that_of_jacobians(CLASSES, x, None)
    outputs, trace = tangent_kernel(CLASSES, drawn(CLASSES), x)
    for kernel in (*outputs, trace):
        # Rounding: sums of 60 products, of the largest entry's size at most.
        np.testing.assert_allclose(kernel, kernel.T, rtol=0, atol=1e-14 * np.abs(kernel).max())
        eigenvalues = np.linalg.eigvalsh(kernel)
        assert eigenvalues[0] >= -1e-14 * eigenvalues[-1] * 60


def test_tangent_kernel_ignores_the_output_activation_and_keeps_the_dtype_of_the_parameters():
    params, x = drawn(CLASSES), inputs(5).astype(np.float32)
    outputs, trace = tangent_kernel(CLASSES, params, x)
    assert (outputs.dtype, trace.dtype) == (np.float32, np.float32)
    other = tangent_kernel(MLP(CLASSES.sizes, "tanh", "tanh", "quadratic"), params, x)
    np.testing.assert_array_equal(other.outputs, outputs)


@pytest.mark.parametrize(
    ("x", "other", "sentence"),
    [
        (np.ones(4), None, "x must be [N, 4], 4 features for each example, got shape (4,): a single example is [x]"),
        (np.ones((2, 3)), None, "x must be [N, 4], 4 features for each example, got shape (2, 3)"),
        (np.ones((0, 4)), None, "x and other must have one row or more, got shapes (0, 4) and (0, 4)"),
        (np.ones((2, 4)), np.ones((2, 5)), "other must be [N, 4], 4 features for each example, got shape (2, 5)"),
        (np.ones((2, 4)), np.ones((1, 2, 4)), "other must be [N, 4], 4 features for each example, got shape (1, 2, 4)"),
    ],
)
def test_tangent_kernel_refuses_wrong_shapes_in_one_line(x, other, sentence):
    with pytest.raises(ValueError, match=r".") as caught:
        tangent_kernel(CLASSES, drawn(CLASSES), x, other)
    assert str(caught.value) == sentence


def test_scores_and_influences_of_compact_data_are_those_of_the_expanded(x64, small_blocks, compact):
    mlp, dense = MLP((11, 5, 3), "tanh"), expanded(compact)
    params = drawn(mlp)
    for found, expected in [
        (scores(mlp, params, compact), scores(mlp, params, dense)),
        (tracin(mlp, [params], compact, compact, 5), tracin(mlp, [params], dense, dense, 5)),
    ]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "identity"])
def test_scores_of_networks_are_those_of_the_mean_output_and_the_mean_norm(x64, small_blocks, name):
    loss_of = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "identity": "quadratic"}[name]
    mlps = [MLP(sizes, "tanh", name, loss_of) for sizes in ((4, 5, 3), (4, 5, 3), (4, 6, 6, 3))]
    several = [Network(mlp, drawn(mlp, seed)) for seed, mlp in enumerate(mlps)]
    t = inputs(9, 3) if name == "identity" else labels(9)
    data = Dataset(inputs(9), t)
    found, of_each = network_scores(several, data), [scores(*network, data) for network in several]
    np.testing.assert_allclose(found.norms, np.mean([each.norms for each in of_each], axis=0), rtol=1e-12)
    y = np.mean([jax.vmap(partial(predict, *network))(data.x) for network in several], axis=0)
    rows = t if name == "identity" else np.eye(3)[t]
    np.testing.assert_allclose(found.error_norms, np.linalg.norm(y - rows, axis=1), rtol=1e-12)
    if name == "identity":
        np.testing.assert_allclose(found.losses, 0.5 * ((y - t) ** 2).sum(1), rtol=1e-12)
        assert found.margins is None
        return
    of_label, others = y[np.arange(9), t], np.where(rows > 0, 0, y).max(1)
    expected = -np.log(of_label) if name == "softmax" else -np.log(np.where(rows > 0, y, 1 - y)).sum(1)
    np.testing.assert_allclose(found.losses, expected, rtol=1e-12)
    odds = y / (1 - y) if name == "sigmoid" else y
    of_label, others = odds[np.arange(9), t], np.where(rows > 0, 0, odds).max(1)
    np.testing.assert_allclose(found.margins, np.log(of_label / others), rtol=1e-11, atol=1e-12)


def test_influences_of_networks_are_the_mean_over_the_networks(x64, small_blocks):
    mlps = [CLASSES, MLP((4, 6, 6, 3)), CLASSES]
    several = [Network(mlp, drawn(mlp, seed)) for seed, mlp in enumerate(mlps)]
    train, test = Dataset(inputs(9), labels(9)), Dataset(inputs(3), labels(3))
    found = network_influences(several, train, test, top=9)
    expected = np.mean([gradients(*net, test) @ gradients(*net, train).T for net in several], axis=0)
    np.testing.assert_allclose(found.helped_by, -np.sort(-expected, axis=1), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(found.helped, np.argsort(-expected, axis=1))
