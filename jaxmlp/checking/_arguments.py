"""The arguments of a function: the floating leaves vary, all others (integers, keys) are fixed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class _Name(NamedTuple):
    """A key of a tree that prints as the whole name of a leaf."""

    text: str

    def __str__(self) -> str:
        return self.text


@jax.tree_util.register_pytree_with_keys_class
class Named:
    """A flat tree whose leaves keep their names in the user's own trees, such as "args[0].w"."""

    def __init__(self, leaves: Sequence[Any], names: Sequence[str]):
        self.leaves, self.names = tuple(leaves), tuple(names)

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[_Name, Any], ...], tuple[str, ...]]:
        """Return the leaves with their names."""
        return tuple(zip(map(_Name, self.names), self.leaves, strict=True)), self.names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], leaves: Sequence[Any]) -> "Named":
        """Return the tree of these leaves."""
        return cls(leaves, names)


class Arguments(NamedTuple):
    """A tuple of arguments as leaves: which of them are floating and so vary, and their names. None is a leaf."""

    tree: jax.tree_util.PyTreeDef
    leaves: list[Any]
    moves: list[bool]
    names: list[str]

    @property
    def floats(self) -> list[Any]:
        """Return the leaves that vary."""
        return [leaf for leaf, moves in zip(self.leaves, self.moves, strict=True) if moves]

    @property
    def float_names(self) -> list[str]:
        """Return the names of the leaves that vary."""
        return [name for name, moves in zip(self.names, self.moves, strict=True) if moves]

    def restore(self, floats: Sequence[Any], fixed: Callable[[Any], Any] = lambda leaf: leaf) -> Any:
        """Return the arguments with `floats` as the leaves that vary, and `fixed` applied to the others."""
        remaining = iter(floats)
        leaves = [
            next(remaining) if moves else fixed(leaf) for leaf, moves in zip(self.leaves, self.moves, strict=True)
        ]
        return jax.tree.unflatten(self.tree, leaves)

    def of_floats(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of the arguments as a function of the leaves that vary."""
        return lambda *floats: function(*self.restore(floats))

    def floats_of(self, name: str, pulled: Any) -> list[Any]:
        """Return the cotangents of the leaves that vary; raise a ValueError if a cotangent is unlike its argument."""
        leaves, tree = jax.tree.flatten(pulled, is_leaf=_is_none)
        if tree != self.tree:
            raise ValueError(f"{name} must pull back to a tree like args, {self.tree}, got {tree}")
        found = []
        for leaf, like, moves, leaf_name in zip(leaves, self.leaves, self.moves, self.names, strict=True):
            if not moves:
                continue
            if leaf is None or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                got = None if leaf is None else jnp.result_type(leaf)
                raise ValueError(f"{name} must pull back to a floating dtype for {leaf_name}, got {got}")
            if np.shape(leaf) != np.shape(like):
                raise ValueError(
                    f"{name} must pull back to shape {np.shape(like)} for {leaf_name}, got {np.shape(leaf)}"
                )
            found.append(leaf)
        return found


def split(args: tuple[Any, ...]) -> Arguments:
    """Split the arguments into leaves that vary and leaves that do not; raise a ValueError if one is complex."""
    paths, tree = jax.tree_util.tree_flatten_with_path(args, is_leaf=_is_none)
    names = ["args" + jax.tree_util.keystr(path) for path, _ in paths]
    dtypes = [None if leaf is None else getattr(leaf, "dtype", None) or np.asarray(leaf).dtype for _, leaf in paths]
    for name, dtype in zip(names, dtypes, strict=True):
        if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{name} must be real, got {dtype}")
    moves = [dtype is not None and bool(jnp.issubdtype(dtype, jnp.floating)) for dtype in dtypes]
    leaves = [jnp.asarray(leaf) if isinstance(leaf, float) else leaf for _, leaf in paths]
    return Arguments(tree, leaves, moves, names)


def two_short_normals(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two arrays of numbers of random size, not near 0 and exact in every dtype.

    The second has the opposite signs of the first, so that |c| cannot pass for linear.
    """
    one, other = (np.round(8 * (1 + np.abs(rng.standard_normal(shape)))) / 8 for _ in range(2))
    signs = rng.choice([-1.0, 1.0], shape)
    return signs * one, -signs * other


def _is_none(leaf: Any) -> bool:
    return leaf is None


def inner_product(one: Any, other: Any) -> Any:
    """Return <a, b>, summed in the longest floating dtype of JAX's x64 setting."""
    wide = jnp.result_type(float)
    parts = [
        jnp.sum(jnp.asarray(a).astype(wide) * jnp.asarray(b).astype(wide))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    ]
    return sum(parts[1:], parts[0])


def cast(values: Any, like: Any) -> Any:
    # `device_put` compiles nothing. Without a dtype, `asarray` of JAX 0.10.0 turns NumPy's float64 into float32.
    dtype = jnp.result_type(like)
    return jax.device_put(values.astype(dtype)) if isinstance(values, np.ndarray) else jnp.asarray(values, dtype)


def cast_like(tree: Any, params: Any) -> Any:
    return jax.tree.map(cast, tree, params)
