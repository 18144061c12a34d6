"""Switching x64 on for a check and back, also for functions that close over NumPy arrays.

JAX (0.10 to 0.12) caches its copy of a NumPy array for as long as a program holds it, and reuses the copy after x64 has
changed. A function that closes over an array of 64 bits then fails in float32 or in float64. The only public remedy is
to clear JAX's caches, which is done for such functions only.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxmlp.checking._program import equations

Scope: TypeAlias = Callable[[bool], AbstractContextManager[Any]]  # x64 on or off inside a `with`


def x64_scope(*calls: tuple[Any, ...]) -> Scope:
    """Return a replacement of `jax.enable_x64` that is safe for these calls (function, *arguments in their dtypes)."""
    if jnp.result_type(float) == np.float64 or not any(any(_sizes(*call)) for call in calls):
        return jax.enable_x64
    jax.clear_caches()  # a cached trace does not show the dtypes of the arrays
    with jax.enable_x64(True):
        is_wide = any(8 in _sizes(*call) for call in calls)
    jax.clear_caches()
    return _clearing if is_wide else jax.enable_x64


@contextmanager
def _clearing(on: bool) -> Iterator[None]:
    jax.clear_caches()
    try:
        with jax.enable_x64(on):
            yield
    finally:
        jax.clear_caches()


def _sizes(function: Callable[..., Any], *args: Any) -> Iterator[int]:
    """Return the item size in bytes of each NumPy array in a function's closure.

    Return none for a function that cannot be traced: no program holds its arrays.
    """
    try:
        program = jax.make_jaxpr(lambda *args: function(*args))(*args)
    except Exception:
        return
    held = list(program.consts)
    for eqn in equations(program):
        held += [atom.val for atom in eqn.invars if isinstance(atom, Literal)]
        for inside in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr)):
            held += inside.consts if isinstance(inside, ClosedJaxpr) else []
    yield from (value.dtype.itemsize for value in held if isinstance(value, np.ndarray))
