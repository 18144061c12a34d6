"""A gradient with a known fault, and how faults are planted into right gradients.

Each fault is written in the line in which people write it, in a backward pass by hand, in a fused rule or in a formula,
beside the function and its right gradient. Nothing here knows how the checker works. Functions close over float32 data:
they compute in float64 where they are given float64 parameters, and in float32 otherwise.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = [
    "DTYPES",
    "Fault",
    "Gradient",
    "Problem",
    "Tree",
    "at_dtype",
    "edited",
    "like",
    "normal",
    "planted",
    "precision",
    "times",
    "with_leaf",
]

Tree: TypeAlias = Any
Gradient: TypeAlias = Callable[[Tree], Tree]

DTYPES = ("float64", "float32")
SIZES = {"float64": (1.0, 1e-6), "float32": (1.0, 1e-3)}


def precision(dtype: Any) -> AbstractContextManager[None]:
    """Return the context in which parameters of a dtype are made and used: 64 bits where it has 64, and only there."""
    return jax.enable_x64(jnp.dtype(dtype).itemsize == 8)


class Problem(NamedTuple):
    """A function, its right gradient, and a point.

    Attributes
    ----------
    f
        A pytree to a scalar.
    right
        Its gradient: by hand where that is short, else of autodiff, without any rule that the fault is in.
    params
        Of a dtype (in the context of `precision`) to the pytree.
    """

    f: Callable[[Tree], Array]
    right: Gradient
    params: Callable[[Any], Tree]


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes
    ----------
    name
        What was done wrong, where.
    kinds
        The explanations that are right, the best first; with "none" among them, no explanation is expected.
    f, right, params
        The problem's.
    wrong
        The faulty gradient, as written.
    structural
        A wrong formula: any share of it can be mixed with the right one. Otherwise it is there or not.
    dtypes
        Of parameters for which the fault exists.
    single
        f computes in float32 whatever it is given: no smaller share can be told from rounding than in float32.
    rule
        f has a custom rule and `wrong` is what autodiff makes of it.
    """

    name: str
    kinds: tuple[str, ...]
    f: Callable[[Tree], Array]
    right: Gradient
    params: Callable[[Any], Tree]
    wrong: Gradient
    structural: bool = True
    dtypes: tuple[str, ...] = DTYPES
    single: bool = False
    rule: bool = False

    def sizes(self, dtype: str) -> tuple[float, ...]:
        """Return the shares in which the fault is planted, the whole first."""
        if not self.structural:
            return (1.0,)
        return SIZES["float32" if self.single else dtype]

    def gradient(self, size: float) -> Gradient:
        """Return right + size * (wrong - right); of size 1 the fault itself."""
        if size == 1:
            return self.wrong

        def mixed(params: Tree) -> Tree:
            return jax.tree.map(lambda r, w: r + size * (w - r), self.right(params), self.wrong(params))

        return mixed


def like(params: Tree, gradient: Tree) -> Tree:
    """Bring a gradient to the structure and the dtypes of the parameters, as autodiff does."""
    leaves = jax.tree.leaves(gradient)
    pairs = zip(leaves, jax.tree.leaves(params), strict=True)
    return jax.tree.unflatten(jax.tree.structure(params), [g.astype(p.dtype) for g, p in pairs])


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def at_dtype(tree: Tree) -> Callable[[Any], Tree]:
    return lambda dtype: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def times(factor: float, right: Gradient) -> Gradient:
    return lambda params: jax.tree.map(lambda leaf: factor * leaf, right(params))


def edited(right: Gradient, edit: Callable[[list[Array]], list[Array]]) -> Gradient:
    """Return the right gradient with its list of leaves edited."""

    def wrong(params: Tree) -> Tree:
        leaves, structure = jax.tree.flatten(right(params))
        return jax.tree.unflatten(structure, edit(leaves))

    return wrong


def with_leaf(right: Gradient, number: int, edit: Callable[[Array], Array]) -> Gradient:
    """Return the right gradient with one leaf edited."""
    return edited(right, lambda leaves: [*leaves[:number], edit(leaves[number]), *leaves[number + 1 :]])


def planted(problem_name: str, problem: Problem, *rows: tuple[str, str, Gradient], **options: Any) -> list[Fault]:
    """Return the faults of one problem, of rows (name, kinds, wrong gradient)."""
    return [
        Fault(f"{problem_name}: {name}", tuple(kinds.split()), *problem, wrong, **options)
        for name, kinds, wrong in rows
    ]
