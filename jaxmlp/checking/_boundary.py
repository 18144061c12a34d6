"""Checks of the arguments before anything is computed; each error is one line."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checking import _rounding
from jaxmlp.checking._functions import called, to_numpy


def leaf_names(params: Any, root: str) -> list[str]:
    """Return the names of the leaves, such as "params[0].w"."""
    return [root + jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def check_floats(params: Any, root: str) -> None:
    """Raise a ValueError unless all leaves are finite floating arrays in a dtype that JAX keeps."""
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise ValueError(f"{root} must have at least one array, got {params!r}")
    for name, leaf in zip(leaf_names(params, root), leaves, strict=True):
        if isinstance(leaf, jax.core.Tracer):
            raise ValueError(
                f"{name} must be an array of numbers, got a tracer: call the check outside of jit and grad"
            )
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{name} must have a real floating dtype, got {dtype}")
        if dtype == np.float64 and hasattr(leaf, "dtype") and jnp.result_type(float) != np.float64:
            raise ValueError(
                f"{name} is float64, but x64 is off in JAX: check under `with jax.enable_x64(True):`, or pass float32"
            )
        values = np.asarray(leaf).astype(np.float64)
        if not np.isfinite(values).all():
            index = first_index(~np.isfinite(values))
            raise ValueError(f"{name} must be finite, got {values[index]}" + (f" at {list(index)}" if index else ""))


def scalar_value(name: str, f: Callable[[Any], Any], params: Any) -> float:
    """Call f, and raise a ValueError unless it returns one finite real number."""
    value = called(name, f, params)
    if not jax.tree_util.all_leaves([value]) or np.shape(value) != ():
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(value)]
        what = f"shape {shapes[0]}" if len(shapes) == 1 else f"{len(shapes)} arrays of shapes {shapes}"
        raise ValueError(f"{name} must return a scalar, got {what}; check a function of several outputs with check_vjp")
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} must return a real floating number, got {dtype}")
    number = float(np.asarray(value).astype(np.float64))
    if not np.isfinite(number):
        raise ValueError(f"{name} must be finite at the given parameters, got {number}")
    return number


def check_like(name: str, gradient: Any, params: Any, root: str) -> None:
    """Raise a ValueError unless a gradient has the tree, the shapes and a floating dtype of the parameters."""
    given, wanted = leaf_names(gradient, root), leaf_names(params, root)
    trees = jax.tree.structure(gradient), jax.tree.structure(params)
    if len(set(trees)) > 1:
        missing, extra = [n for n in wanted if n not in given][:1], [n for n in given if n not in wanted][:1]
        if parts := [*(f"{n} is missing" for n in missing), *(f"unexpected {n}" for n in extra)]:
            raise ValueError(f"{name} must return a tree like {root}: {' and '.join(parts)}")
        raise ValueError(f"{name} must return a tree like {root}, {trees[1]}, got {trees[0]}")
    for leaf_name, leaf, param in zip(wanted, jax.tree.leaves(gradient), jax.tree.leaves(params), strict=True):
        if np.shape(leaf) != np.shape(param):
            raise ValueError(f"{name} must return shape {np.shape(param)} for {leaf_name}, got {np.shape(leaf)}")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name} must return a floating dtype for {leaf_name}, got {jnp.result_type(leaf)}")


def check_outputs(name: str, outputs: Any) -> None:
    """Raise a ValueError unless a function returned finite floating arrays, at least one."""
    leaves = jax.tree.leaves(outputs)
    if not leaves:
        raise ValueError(f"{name} must return at least one array, got {outputs!r}")
    for leaf_name, leaf in zip(leaf_names(outputs, "outputs"), leaves, strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name} must return real floating arrays, got {jnp.result_type(leaf)} for {leaf_name}")
        values = np.asarray(leaf).astype(np.float64)
        if not np.isfinite(values).all():
            index = first_index(~np.isfinite(values))
            at = element(leaf_name, index)
            raise ValueError(f"{name} must be finite at the given arguments, got {values[index]} at {at}")


def first_index(mask: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first True."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def element(name: str, index: Sequence[int]) -> str:
    """Return "outputs[0][3, 1]", or the bare name of a scalar."""
    return f"{name}{list(index)}" if index else name


def name_of(function: Callable[..., Any], fallback: str) -> str:
    """Return the name of a function for messages, or the fallback for a lambda."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    name = getattr(function, "__name__", "")
    return name if name and name != "<lambda>" else fallback


# Roundings by which two calls may differ, because threads sum in any order.
_UNSTEADY = 1024


def first_calls(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, f_name: str, gradient_name: str, root: str
) -> tuple[float, Any]:
    """Call both functions as the user does, and raise a ValueError if they cannot be checked."""
    check_floats(params, root)
    value = scalar_value(f_name, f, params)
    first = called(gradient_name, gradient, params)
    check_like(gradient_name, first, params, root)
    return value, first


@np.errstate(invalid="ignore")  # inf - inf
def unsteady_sentence(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any], params: Any, first: tuple[float, Any], root: str
) -> str:
    """Return a sentence on a value that differs between two calls by more than another order of summation."""
    value, leaves = first
    again = f(params)
    number = float(np.asarray(again).astype(np.float64))
    if abs(number - value) > _UNSTEADY * _rounding.epsilon(jnp.result_type(again)) * abs(value):
        returned = f"it returned {value:.9g} and then {number:.9g} at the same parameters"
        return f"the function is not deterministic: {returned}"
    second = gradient(params)
    for name, leaf, one, other in zip(
        leaf_names(leaves, root), jax.tree.leaves(leaves), to_numpy(leaves), to_numpy(second), strict=True
    ):
        if np.array_equal(one, other):
            continue
        room = _UNSTEADY * _rounding.epsilon(jnp.result_type(leaf)) * _rounding.scale(one)
        bad = ~((one == other) | (np.abs(one - other) <= room) | (np.isnan(one) & np.isnan(other)))
        if bad.any():
            index = first_index(bad)
            numbers = f"{one[index]:.9g}, and then {other[index]:.9g}"
            return f"the gradient is not deterministic: {element(name, index)} was {numbers}"
    return ""
