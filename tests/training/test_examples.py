"""Answers put together from blocks are those of all examples at once; compact columns expand as NumPy says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlp.data import Dataset, Expansion
from jaxmlp.training.examples import Examples, batch, expand, expanded, in_blocks


class Answer(NamedTuple):
    """A tree with what such trees have: a scalar and a row for each example, and nothing."""

    number: jax.Array
    row: jax.Array
    nothing: None


def of_batch(x: jax.Array, t: jax.Array) -> Answer:
    return Answer(x.sum(1) * t, x + t[:, None], None)


def examples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return integers, of which sums are exact."""
    return np.arange(3 * n).reshape(n, 3), np.arange(n) ** 2


def assert_is_the_answer_at_once(found: Answer, n: int) -> None:
    number, row, nothing = of_batch(*examples(n))
    np.testing.assert_array_equal(found.number, number)
    np.testing.assert_array_equal(found.row, row)
    assert found.nothing is nothing is None


@pytest.mark.parametrize(
    ("n", "size"),
    [(1, 1), (3, 4), (4, 4), (5, 4), (7, 4), (8, 4), (9, 4), (3, 1)],
    ids=lambda number: str(number),
)
@pytest.mark.parametrize("transform", [lambda function: function, jax.jit], ids=["plain", "jit"])
def test_result_in_blocks_equals_that_of_one_call(n, size, transform):
    found = transform(lambda *arrays: in_blocks(of_batch, *arrays, size=size))(*map(jnp.asarray, examples(n)))
    assert_is_the_answer_at_once(found, n)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=8, deadline=None)  # each pair compiles
def test_result_in_blocks_equals_that_of_one_call_for_any_number_and_size(n, size):
    assert_is_the_answer_at_once(in_blocks(of_batch, *map(jnp.asarray, examples(n)), size=size), n)


@pytest.mark.parametrize(("n", "size", "expected"), [(3, 4, [3]), (4, 4, [4]), (8, 4, [4]), (9, 4, [4])])
def test_function_is_traced_once_for_blocks_of_one_size(n, size, expected):
    lengths = []

    def of_batch(x):
        lengths.append(len(x))
        return x

    jax.jit(lambda x: in_blocks(of_batch, x, size=size))(jnp.arange(n))
    assert lengths == expected


def test_arrays_keep_their_type_and_rank():
    x, t = jnp.arange(24, dtype="uint8").reshape(6, 2, 2), jnp.arange(6) > 2
    found = in_blocks(lambda x, t: {"x": x, "t": t}, x, t, size=4)
    assert (found["x"].dtype, found["t"].dtype) == (jnp.uint8, jnp.bool_)
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["t"], t)


def test_autodiff_of_a_result_in_blocks_counts_every_example_once():
    x = jnp.arange(7.0)
    slope = jax.grad(lambda x: in_blocks(lambda x: x**2, x, size=3).sum())(x)
    np.testing.assert_array_equal(slope, 2 * x)


def test_memory_for_intermediate_arrays_does_not_grow_with_the_number_of_examples():
    def temporary(n: int) -> int:
        def wide(x):
            return jnp.sort(jnp.sin(x[:, None] * jnp.arange(1000.0)), axis=1)[:, 0]

        program = jax.jit(lambda x: in_blocks(wide, x, size=16)).lower(jnp.zeros(n)).compile()
        return program.memory_analysis().temp_size_in_bytes

    # Four times the examples may take four times the memory of their answers, 4 bytes each and twice (as blocks, and
    # joined), but no more for what is in between, 4,000 bytes an example.
    assert temporary(6400) - temporary(1600) <= 8 * 6400


def drawn_expansion(rng: np.random.Generator, n_columns: int, counts: tuple[int, int, int]) -> Expansion:
    p, q, r = counts
    passed, bins, codes = (rng.integers(0, n_columns, count) for count in counts)
    low, factor = rng.normal(size=q), rng.uniform(0.1, 9, q)
    return Expansion(passed, rng.random(p) < 0.5, bins, low, factor, codes, rng.integers(0, 3, r))


def naive(expansion: Expansion, x: np.ndarray) -> np.ndarray:
    """Expand [N, C] in NumPy, in float64, with loops over the inputs."""
    inputs = []
    for column, smooth in zip(expansion.passed, expansion.smooth, strict=True):
        z = x[:, column].astype(np.float64)
        inputs.append(10 * np.sin(np.arctan(z / 10)) if smooth else z)
    for column, low, factor in zip(*expansion[2:5], strict=True):
        inputs.append(np.clip((x[:, column] - low) * factor, 0, 1))
    for column, code in zip(*expansion[5:], strict=True):
        inputs.append(1.0 * (x[:, column] == code))
    return np.stack(inputs, axis=1)


@pytest.mark.parametrize("counts", [(3, 7, 5), (2, 0, 0), (0, 2, 0), (0, 0, 2)], ids=str)
def test_columns_expand_to_passed_ones_bins_and_codes(x64, counts):
    rng = np.random.default_rng(sum(counts))
    x = np.where(rng.random((40, 4)) < 0.5, rng.integers(0, 3, (40, 4)), rng.normal(size=(40, 4)))
    expansion = drawn_expansion(rng, 4, counts)
    found = expanded(Dataset(x, np.arange(40), expansion=expansion))
    assert found.expansion is None
    np.testing.assert_allclose(found.x, naive(expansion, x), rtol=1e-14, atol=1e-15)  # a few roundings


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_largest_numbers_expand_without_overflow_in_their_own_dtype(x64, dtype):
    largest = float(jnp.finfo(dtype).max)
    x = jnp.asarray([largest, -largest, 1.0], dtype)
    one = np.arange(3)
    found = expand(Expansion(one, one >= 0, one, 0.0 * one - 1, one + 9.0, one, one), x)
    assert found.dtype == dtype
    # Clipping at the root of the largest number costs 10^2 / 2 of its inverse: less than a rounding, even in float16.
    np.testing.assert_allclose(
        np.asarray(found, float), [10, -10, 1.01**-0.5, 1, 0, 1, 0, 0, 0], rtol=2 * float(jnp.finfo(dtype).eps)
    )


def test_integer_columns_expand_to_the_default_float():
    one = np.arange(1)
    assert expand(Expansion(one, one > 0, one, one + 0.0, one + 1.0, one, one), jnp.array([3])).dtype == jnp.float32


def test_without_an_expansion_a_batch_is_only_gathered():
    examples, rows = Examples(jnp.ones((5, 3)), jnp.arange(5), jnp.ones(5)), jnp.array([4, 1])
    gathered = jax.make_jaxpr(lambda examples, rows: jax.tree.map(lambda array: array[rows], examples))
    assert str(jax.make_jaxpr(batch)(examples, rows)) == str(gathered(examples, rows))
