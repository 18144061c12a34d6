"""The rounding error of a program, to first order.

Every operation's result gets a random relative error of the size of its dtype's rounding, and a sum one that grows with
its length (as its square root: Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019).
Forward-mode autodiff carries these errors to the results (Linnainmaa, Taylor Expansion of the Accumulated Rounding
Error, 1976), where their spread estimates the rounding error, cancellation included. All operations see the exact
values: no comparison, `floor` or `round` decides otherwise for an error that is only imagined.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import JaxprEqn

from jaxmlp.checking._program import Apply, Visit, is_container, shape_of, trace

SAMPLES = 8
# The chance, in this model, that rounding alone exceeds a bound anywhere in one check.
FALSE_ALARM = 1e-12


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


_EXACT = words(
    "abs and argmax argmin bitcast_convert_type broadcast broadcast_in_dim ceil clamp concatenate copy "
    "copy_p dynamic_slice dynamic_update_slice eq expand_dims floor gather ge gt iota is_finite le lt max "
    "min ne neg not or pad real imag reduce_and reduce_max reduce_min reduce_or reshape "
    "rev round scatter select_and_gather_add select_n sign slice sort split squeeze stack stop_gradient "
    "top_k transpose xor optimization_barrier device_put random_bits random_fold_in random_seed "
    "random_split random_unwrap random_wrap threefry2x32 cummax cummin"
)
_ACCUMULATING = words("dot_general conv_general_dilated reduce_sum cumsum reduce_window_sum scatter-add")
# These are backward stable by norm, not by element: their inputs are off by a rounding of the whole matrix.
_BY_NORM = words(
    "cholesky triangular_solve lu qr geqrf householder_product eigh eig svd schur custom_linear_solve "
    "tridiagonal_solve fft lu_solve"
)
BY_ELEMENT = words(
    "acos acosh add add_any asin asinh atan atan2 atanh cbrt cos cosh digamma div erf erf_inv erfc exp "
    "exp2 expm1 integer_pow lgamma log log1p logistic mul nextafter pow rem rsqrt sin sinh sqrt square "
    "sub tan tanh convert_element_type complex conj"
)


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of (seed, *args) that estimates the rounding error of each result of `function`.

    The estimate is a root mean square, float64, in the shapes of the results. Its first call compiles, and raises JAX's
    own error if the function cannot be traced.
    """
    growing = spreads(function)

    def measured(seed: int, *args: Any) -> Any:
        *_, whole = growing(seed, *args)
        return whole

    return measured


def spreads(function: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """Return a function of (seed, *args) that yields the spread after each sample; the last one is `spread`.

    The spread never shrinks: if an early one excuses a gradient, the last one does too.
    """

    @jax.jit
    def errors(seed: Any, args: Any) -> Any:
        def imitated(amount: Any) -> Any:
            return trace(function, *args).run(_imitate_rounding(amount, seed), *args)

        off = jax.jvp(imitated, (jnp.float32(0),), (jnp.float32(1),))[1]
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape) if leaf.dtype == jax.dtypes.float0 else leaf, off)

    def square(off: Any) -> np.ndarray:
        # An error that is not finite, as through a square root at 0, says nothing and so excuses nothing.
        return np.square(np.nan_to_num(np.asarray(off).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0))

    def measured(seed: int, *args: Any) -> Iterator[Any]:
        total: Any = 0.0
        for each in np.random.default_rng(seed).integers(2**32, size=SAMPLES, dtype=np.uint32):
            squares = jax.tree.map(square, errors(each, args))
            total = squares if isinstance(total, float) else jax.tree.map(np.add, total, squares)
            yield jax.tree.map(lambda sum_: np.sqrt(sum_ / SAMPLES), total)

    return measured


def threshold(n: int) -> float:
    """Return how many spreads n results may be off by rounding: the quantile of Student's t for these few samples."""
    from scipy.special import stdtrit  # it takes a sixth of a second to import

    return -float(stdtrit(SAMPLES, FALSE_ALARM / (2 * max(n, 1))))


def epsilon(dtype: Any) -> float:
    """Return the distance from 1 to the next number of a floating dtype."""
    return float(jnp.finfo(dtype).eps)


def scale(leaf: np.ndarray) -> np.ndarray:
    """Return the size against which to measure the error of each element.

    It is the element's own size plus the root mean square of the smallest slice through it, so that a small row or
    column is judged by itself.
    """
    if leaf.size == 0:
        return np.abs(leaf)
    return np.abs(leaf) + reduce(np.minimum, _slices(leaf))


def smallest(leaf: np.ndarray) -> float:
    """Return a lower bound of `scale`: the root mean square of the smallest slice."""
    return min(float(slices.min()) for slices in _slices(leaf))


def _slices(leaf: np.ndarray) -> list[np.ndarray]:
    """Return the root mean squares of the slices across each axis, broadcast against the leaf."""
    squares, axes = np.square(leaf), range(leaf.ndim)
    if leaf.ndim < 2:
        return [np.sqrt(np.mean(squares, keepdims=True))]
    return [np.sqrt(np.mean(squares, axis=tuple(a for a in axes if a != axis), keepdims=True)) for axis in axes]


def _imitate_rounding(amount: Array, seed: Array) -> Visit:
    """Return a visitor that adds a random error of at most `amount` roundings to every result."""
    count = itertools.count(1)

    def visit(eqn: JaxprEqn, inputs: list[Any], apply: Apply, iteration: Any) -> list[Any]:
        name = eqn.primitive.name
        if is_container(eqn) or name in _EXACT or (name == "convert_element_type" and not _narrows(eqn)):
            return apply(inputs)

        def noise(like: Any) -> Array:
            return amount * _noise(seed, np.uint32(next(count)), iteration, jnp.shape(like))

        if name == "reduce_precision":
            return [y * (1 + noise(y) * 2.0 ** -eqn.params["mantissa_bits"]).astype(y.dtype) for y in apply(inputs)]
        if name in BY_ELEMENT:
            return [_off(output, noise) for output in apply(inputs)]
        if name in _BY_NORM:
            return [_off(output, noise) for output in apply([_off_by_norm(x, noise) for x in inputs])]
        result: Any = eqn.outvars[0].aval
        if name in _ACCUMULATING and _is_float(result):
            # Products are rounded in the dtype of the sum: float32 data times float64 parameters lose nothing.
            outputs = apply([_off(x, noise, result.dtype) for x in inputs])
            (size,) = apply([jnp.abs(x) if _is_float(x) else x for x in inputs])
            factor = math.sqrt(_length(eqn)) * epsilon(size.dtype)
            return [outputs[0] + (factor * noise(size)).astype(size.dtype) * size]
        return [_off(output, noise) for output in apply([_off(x, noise) for x in inputs])]

    return visit


def _off(x: Any, noise: Callable[[Any], Array], dtype: Any = None) -> Any:
    if not _is_float(x):
        return x
    x = jnp.asarray(x)
    return x * (1 + (noise(x) * epsilon(dtype or x.dtype)).astype(_real(x.dtype)))


def _off_by_norm(x: Any, noise: Callable[[Any], Array]) -> Any:
    if not _is_float(x) or jnp.ndim(x) == 0:
        return _off(x, noise)
    x = jnp.asarray(x)
    norm = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(x)), axis=(-2, -1)[-x.ndim :], keepdims=True))
    return x + (noise(x) * epsilon(x.dtype)).astype(_real(x.dtype)) * norm


@partial(jax.jit, static_argnames="shape")  # traced once for each shape
def _noise(seed: Array, place: Any, iteration: Any, shape: tuple[int, ...]) -> Array:
    """Return random numbers from -1 to 1. Dozens of JAX's own generators would take long to compile."""
    seed = _mix(seed + _mix(place + jnp.uint32(7919) * jnp.asarray(iteration).astype(jnp.uint32)))
    bits = _mix(jnp.arange(math.prod(shape), dtype=jnp.uint32) * jnp.uint32(2654435769) + seed)
    # In float32: a shorter dtype would have too few values.
    return (bits.astype(jnp.float32) / jnp.float32(2**31) - 1).reshape(shape)


def _mix(bits: Array) -> Array:
    """Scramble 32 bits (the finaliser of MurmurHash3, by Austin Appleby)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)


def _real(dtype: Any) -> Any:
    return jnp.finfo(dtype).dtype


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _narrows(eqn: JaxprEqn) -> bool:
    operand: Any = eqn.invars[0].aval
    before, after = operand.dtype, eqn.params["new_dtype"]
    floating = jnp.issubdtype(before, jnp.inexact) and jnp.issubdtype(after, jnp.inexact)
    return bool(floating and epsilon(after) > epsilon(before))


def _length(eqn: JaxprEqn) -> int:
    """Return the largest number of terms of an element of a sum."""
    shapes = [shape_of(atom) for atom in eqn.invars]
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in contracted) or 1
    if eqn.primitive.name == "conv_general_dilated":
        return math.prod(shapes[1]) or 1
    if eqn.primitive.name == "reduce_sum":
        return max(1, math.prod(shapes[0]) // max(1, math.prod(shape_of(eqn.outvars[0]))))
    return max(1, *(math.prod(shape) for shape in shapes))
