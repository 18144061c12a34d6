"""The configuration's checks, the initial weights, and the forward pass."""

from functools import partial
from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import Dataset, TrainConfig, evaluate, load, save, train
from jaxmlp.activations import ACTIVATIONS, elementwise
from jaxmlp.backpropagation import loss_and_gradient
from jaxmlp.curvature import hessian_vector_product
from jaxmlp.losses import LOSSES
from jaxmlp.network import MLP, Layer, Network, forward, init, loss, predict

HIDDEN = [name for name, phi in ACTIVATIONS.items() if phi.derivative is not None]


def refusal(*arguments, **named) -> str:
    with pytest.raises(ValueError, match=r".+") as caught:
        MLP(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "sizes", [(), (3,), (3, 0), (0, 3), (3, -1, 2), (3, 2.0), (3, True), (3, "2"), (3, None), (3, float("nan"))]
)
def test_bad_sizes_are_refused_and_named(sizes):
    message = refusal(sizes)
    assert message.startswith("sizes must be two or more whole numbers")
    assert str(sizes) in message


def test_error_for_an_unknown_activation_names_the_nearest():
    assert refusal((3, 4, 2), "rellu").startswith("unknown activation 'rellu', did you mean 'relu'?")
    assert refusal((3, 4, 4, 2), ("relu", "sigmoidd")).startswith(
        "unknown activation 'sigmoidd', did you mean 'sigmoid'?"
    )
    assert refusal((3, 2), output="softmx").startswith("unknown activation 'softmx', did you mean 'softmax'?")


def test_error_for_an_unknown_loss_names_the_nearest():
    assert refusal((3, 2), loss="crossentropy").startswith("unknown loss 'crossentropy', did you mean 'cross_entropy'?")


def test_error_for_a_function_says_which_name_to_write():
    assert refusal((3, 4, 2), jnp.tanh) == "activation must be a name, got the function tanh; write 'tanh'"
    assert refusal((3, 2), jax.nn.relu).endswith("write 'relu'")
    assert refusal((3, 4, 2), (jax.nn.silu,)).endswith("write 'silu'")
    assert refusal((3, 2), output=jax.nn.sigmoid, loss="quadratic").endswith("write 'sigmoid'")
    added = "add it to jaxmlp.activations.ACTIVATIONS with `elementwise`, and write its name there"
    assert refusal((3, 4, 2), jnp.cos) == f"activation must be a name, got the function cos; {added}"
    assert refusal((3, 4, 2), ACTIVATIONS["tanh"]).endswith(f"; {added}")
    assert refusal((3, 2), loss=jnp.square).startswith("loss must be a name, got the function square; add it to")


@pytest.mark.parametrize("hidden", [3, None, ("relu", 3), "rellu"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 4, 2)])
def test_a_wrong_activation_is_refused_with_the_names_even_without_hidden_layers(hidden, sizes):
    message = refusal(sizes, hidden)
    assert message.startswith("unknown activation")
    assert f"known: {', '.join(sorted(ACTIVATIONS))})" in message


@pytest.fixture
def mish(monkeypatch):
    """An activation that is not of the library, added as its docstring says; its second derivative is left to JAX."""

    def phi(z):
        return z * jnp.tanh(jax.nn.softplus(z))

    def derivative(z):
        s = jnp.tanh(jax.nn.softplus(z))
        return s + z * (1 - s**2) * jax.nn.sigmoid(z)

    monkeypatch.setitem(ACTIVATIONS, "mish", elementwise(phi, derivative))
    return "mish"


@pytest.mark.usefixtures("x64")
def test_an_added_activation_is_hidden_layer_and_output_like_any_other(mish):
    mlp = MLP((4, 5, 5, 2), mish, mish, "quadratic")
    params = init(mlp, jax.random.key(0))
    x, t = jax.random.normal(jax.random.key(1), (7, 4)), jax.random.normal(jax.random.key(2), (7, 2))

    def mean_loss(params):
        return jax.vmap(partial(loss, mlp, params))(x, t).mean()

    value, gradient = jax.value_and_grad(mean_loss)(params)
    chex.assert_trees_all_close(loss_and_gradient(mlp, params, x, t), (value, gradient), rtol=1e-12)
    product = jax.jvp(jax.grad(mean_loss), (params,), (gradient,))[1]
    # Sums of up to 7 terms, 3 layers there and back, as in the tests of curvature.
    chex.assert_trees_all_close(hessian_vector_product(mlp, params, x, t, gradient), product, rtol=1e-11, atol=1e-13)


def test_an_added_activation_is_trained_and_saved_by_its_name(mish, tmp_path, monkeypatch):
    mlp = MLP((2, 8, 2), mish)
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    t = (x[:, 0] * x[:, 1] > 0).astype(int)
    trained = train(mlp, Dataset(x, t), TrainConfig(epochs=40, batch_size=8), key=jax.random.key(0))
    assert trained.history[-1].train_loss < 0.5 < np.log(2)  # log 2 is the loss of even chances
    save(tmp_path / "model.safetensors", Network(mlp, trained.params))
    assert load(tmp_path / "model.safetensors").networks[0].mlp == mlp
    monkeypatch.delitem(ACTIVATIONS, mish)
    with pytest.raises(ValueError, match=r"model\.safetensors: .*unknown activation 'mish'"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("hidden", ["softmax", "exp", ("relu", "softmax")])
def test_an_output_as_a_hidden_layer_is_refused(hidden):
    assert f"{hidden if isinstance(hidden, str) else hidden[-1]} is only for outputs" in refusal((3, 4, 4, 2), hidden)


@pytest.mark.parametrize("name", LOSSES)
def test_every_pair_is_accepted_or_refused_with_a_list_of_the_pairs(name):
    for output in ACTIVATIONS:
        if output in LOSSES[name].outputs:
            assert MLP((3, 2), output=output, loss=name).output == output
        else:
            message = refusal((3, 2), output=output, loss=name)
            assert f"{name!r} does not go with output {output!r}" in message
            for other, entry in LOSSES.items():
                assert f"{other} with {', '.join(entry.outputs)}" in message


@pytest.mark.parametrize("hidden", [(), ("relu",), ("relu", "tanh", "relu")])
def test_wrong_count_of_activations_is_refused(hidden):
    message = refusal((3, 4, 4, 2), hidden)
    assert message == f"activation must be one name, or one for each of the 2 hidden layers, got {hidden}"


def test_lists_are_accepted_and_equal_to_tuples():
    given = MLP([3, 4, 4, 2], ["relu", "tanh"])
    assert given == MLP((3, 4, 4, 2), ("relu", "tanh"))
    assert hash(given) == hash(MLP((3, 4, 4, 2), ("relu", "tanh")))
    assert given != MLP((3, 4, 4, 2), ("tanh", "relu"))


def test_activations_has_one_name_a_layer_and_the_output_last():
    assert MLP((3, 4, 5, 2), "tanh").activations == ("tanh", "tanh", "softmax")
    assert MLP((3, 2), "tanh").activations == ("softmax",)
    assert MLP((3, 4, 5, 2), ("tanh", "relu")).activations == ("tanh", "relu", "softmax")


def test_n_parameters_counts_every_weight_and_bias():
    mlp = MLP((3, 4, 5, 2))
    assert mlp.n_parameters == sum(leaf.size for leaf in jax.tree.leaves(init(mlp, jax.random.key(0))))


# ----- initial weights -----


def test_weights_are_normal_with_deviation_scale_times_gain_over_root_of_inputs():
    mlp = MLP((100, *[200] * len(HIDDEN), 100), HIDDEN)
    layers = init(mlp, jax.random.key(1), scale=0.5)
    for (w, b), name, (n_in, n_out) in zip(layers, mlp.activations, pairwise(mlp.sizes), strict=True):
        assert w.shape == (n_out, n_in)
        normal = np.asarray(w, np.float64) / (0.5 * ACTIVATIONS[name].gain / n_in**0.5)
        # Of n samples, the mean deviates by 1/sqrt(n) and the deviation by 1/sqrt(2n): five of those. The fourth
        # moment, 3 where normal (1.8 where uniform), deviates by sqrt(96/n).
        n = normal.size
        assert abs(normal.mean()) < 5 / np.sqrt(n)
        assert abs(normal.std() - 1) < 5 / np.sqrt(2 * n)
        assert abs((normal**4).mean() - 3) < 5 * np.sqrt(96 / n)
        np.testing.assert_array_equal(b, np.zeros(n_out))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize(("output", "size"), [("identity", 0.1), ("softmax", 1.0)])
def test_outputs_z_begin_at_a_tenth_with_identity_and_at_one_with_softmax_at_any_depth(depth, output, size):
    mlp = MLP((100, *[800] * (depth - 1), 400), "relu", output, "quadratic")
    x = jax.random.normal(jax.random.key(0), (500, 100))
    z = jax.vmap(partial(forward, mlp, init(mlp, jax.random.key(1))))(x).z[-1]
    # A relu layer of n units changes E[z^2] by a factor of deviation sqrt(5 / n), its root by half as much: 7 % for
    # three layers. This is four of those; a layer without its share would be off by 78 %.
    np.testing.assert_allclose(float(jnp.sqrt(jnp.mean(z**2))), size, rtol=0.28)


def test_before_an_identity_output_every_layer_shrinks_by_one_factor():
    hidden = ("relu", "identity", "tanh")
    ours, full = (
        init(MLP((5, 4, 4, 4, 3), hidden, output, "quadratic"), jax.random.key(0)) for output in ("identity", "softmax")
    )
    for (our, _), (whole, _) in zip(ours, full, strict=True):
        np.testing.assert_allclose(our, whole * 0.1**0.25, rtol=1e-6)  # two roundings of float32


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_weights_are_drawn_from_the_key_layer_after_layer(impl):
    # A published seed must give the same weights in the next version.
    mlp, key = MLP((3, 4, 2), "identity"), jax.random.key(7, impl=impl)
    layers = init(mlp, key, scale=2.0)
    drawn = np.concatenate([np.ravel(w) * n_in**0.5 / 2 for (w, _), n_in in zip(layers, mlp.sizes[:-1], strict=True)])
    np.testing.assert_allclose(drawn, jax.random.normal(key, (20,)), rtol=4 * 2.0**-23)  # a root, two products


def test_layers_do_not_share_draws():
    first, second = init(MLP((8, 8, 8), "identity", "identity", "quadratic"), jax.random.key(0))
    assert len(np.unique([first.w, second.w])) == 128


def assert_identical(ours, theirs) -> None:
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(our, their)


def test_same_key_gives_the_same_weights_and_another_key_others():
    mlp = MLP((4, 3, 2))
    assert_identical(init(mlp, jax.random.key(3)), init(mlp, jax.random.key(3)))
    assert np.all(init(mlp, jax.random.key(3))[0].w != init(mlp, jax.random.key(4))[0].w)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_compiled_init_gives_the_bits_of_plain_init(scale):
    mlp = MLP((20, 30, 10), "gelu")
    key = jax.random.key(0)
    plain = init(mlp, key, scale=scale)
    assert_identical(jax.jit(lambda key: init(mlp, key, scale=scale))(key), plain)
    assert_identical(jax.jit(lambda key, scale: init(mlp, key, scale=scale))(key, scale), plain)


def test_scale_can_be_mapped_over():
    mlp, key = MLP((4, 3, 2)), jax.random.key(0)
    scales = jnp.array([0.0, 0.5, 2.0])
    mapped = jax.vmap(lambda scale: init(mlp, key, scale=scale))(scales)
    for number, scale in enumerate(scales):
        # Powers of two: multiplying by them does not round.
        expected = [w * scale for w, _ in init(mlp, key)]
        assert_identical([w[number] for w, _ in mapped], expected)


def test_keys_can_be_mapped_over():
    mlp = MLP((4, 3, 2))
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.vmap(partial(init, mlp))(keys)
    for number, key in enumerate(keys):
        assert_identical(jax.tree.map(lambda leaf, number=number: leaf[number], mapped), init(mlp, key))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("asked", "given"), [(None, "float64"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_parameters_have_the_type_that_is_asked_for_or_jaxs_default_float(asked, given):
    params = init(MLP((4, 3, 2)), jax.random.key(0), scale=jnp.float32(0.5), dtype=asked)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {given}


# ----- forward -----


@pytest.mark.usefixtures("x64")
def test_forward_is_the_formula_layer_by_layer():
    mlp = MLP((4, 5, 3, 2), ("tanh", "sigmoid"), "identity", "quadratic")
    params = init(mlp, jax.random.key(0))
    params = tuple(Layer(w, b + 0.1 * number) for number, (w, b) in enumerate(params))
    y = x = np.array([0.5, -1.0, 2.0, 0.0])
    zs, ys = forward(mlp, params, jnp.asarray(x))
    functions = (np.tanh, lambda z: 1 / (1 + np.exp(-z)), lambda z: z)
    np.testing.assert_array_equal(ys[0], x)
    for (w, b), phi, our_z, our_y in zip(params, functions, zs, ys[1:], strict=True):
        z = np.array([sum(w[i, j] * y[j] for j in range(len(y))) + b[i] for i in range(len(b))])
        y = phi(z)
        np.testing.assert_allclose(our_z, z, rtol=0, atol=1e-14)  # sums of 5 terms of order 1
        np.testing.assert_allclose(our_y, y, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_predict_and_loss_match_forward(name):
    output = list(LOSSES[name].outputs)[-1]
    mlp = MLP((4, 3, 2), "tanh", output, name)
    params, x, t = init(mlp, jax.random.key(0)), jnp.arange(4.0), jnp.array([0.25, 0.75])
    z, y = forward(mlp, params, x)
    np.testing.assert_array_equal(predict(mlp, params, x), y[-1])
    np.testing.assert_array_equal(y[-1], ACTIVATIONS[output].phi(z[-1]))
    np.testing.assert_array_equal(loss(mlp, params, x, t), LOSSES[name].value(ACTIVATIONS[output], z[-1], t))


@pytest.mark.parametrize("shape", [(3,), (5,), (2, 4), (4, 1), ()])
def test_error_for_a_wrong_shape_of_x_suggests_vmap(shape):
    mlp = MLP((4, 3, 2))
    params = init(mlp, jax.random.key(0))
    for f in (forward, predict, lambda *three: loss(*three, 0)):
        with pytest.raises(ValueError, match=r"^x must be one example of shape \(4,\), got .*; batch with jax\.vmap$"):
            f(mlp, params, jnp.ones(shape))


@pytest.mark.parametrize("sizes", [(4, 2), (4, 4, 2), (4, 3, 3, 2)])
def test_parameters_of_another_network_are_refused(sizes):
    params = init(MLP(sizes), jax.random.key(0))
    with pytest.raises(ValueError, match=r"^params must fit sizes \(4, 3, 2\), got layers of shapes .*$"):
        forward(MLP((4, 3, 2)), params, jnp.ones(4))


# A layer of two neurons holds two rows, which look like a pair.
@pytest.mark.parametrize("sizes", [(4, 3), (4, 2), (4, 2, 2), (4, 3, 3, 2)])
def test_error_for_params_that_are_not_layers_names_their_type(sizes):
    mlp = MLP(sizes)
    params = init(mlp, jax.random.key(0))
    given = {
        "Layer": params[0],
        "list of tuple": [params],
        "tuple of list": (list(params),),
        "tuple of ArrayImpl": tuple(jax.tree.leaves(params)),
        "tuple of NoneType": (None,) * len(params),
        "tuple of Layer": tuple(Layer(layer, layer) for layer in params),
        "NoneType": None,
    }
    for what, wrong in given.items():
        message = rf"^params must be a tuple of Layer\(w, b\), as init returns, got {what}$"
        with pytest.raises(ValueError, match=message):
            forward(mlp, wrong, jnp.ones(4))


def test_loss_of_a_bare_number_matches_a_row_of_one():
    mlp = MLP((4, 3, 1), "relu", "identity", "quadratic")
    params = init(mlp, jax.random.key(0))
    assert loss(mlp, params, jnp.ones(4), 0.5) == loss(mlp, params, jnp.ones(4), jnp.array([0.5]))


def test_whole_number_parameters_are_refused_because_x_would_lose_its_fractions():
    mlp, x = MLP((2, 1), output="identity", loss="quadratic"), jnp.array([0.5, 0.25])
    whole = (Layer(jnp.array([[2, 4]]), jnp.array([1])),)
    with pytest.raises(ValueError, match=r"^params must be floating-point numbers, got int32: try astype\(float\)$"):
        forward(mlp, whole, x)
    with pytest.raises(ValueError, match="got int32"):
        evaluate(mlp, whole, Dataset(x[None], [3.0]))
    assert predict(mlp, jax.tree.map(lambda leaf: leaf.astype(float), whole), x) == 3.0


def test_a_plain_pair_in_place_of_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"^params must be a tuple of Layer\(w, b\).*not Layer$"):
        forward(MLP((2, 1)), ((jnp.ones((1, 2)), jnp.ones(1)),), jnp.ones(2))


def test_a_bare_function_in_the_table_of_activations_is_refused(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "sine", jnp.sin)
    with pytest.raises(ValueError, match=r"^activation 'sine' must be in .*ACTIVATIONS with `elementwise`, got a .*"):
        MLP((4, 8, 3), "sine")
