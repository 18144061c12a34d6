"""Float64 inside of a scope, and given back, also for functions that close over NumPy arrays.

What JAX (0.10 to 0.12) has made of a NumPy array it keeps for as long as a program holds it, and hands it out again
where x64 has been switched since: a function that closes over an array of 64 bits then fails in the shorter dtype, or
in float64. All that is public to make it forget is to clear its caches, which is done for such functions only.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxmlp.checking._program import equations

Scope: TypeAlias = Callable[[bool], AbstractContextManager[Any]]  # of whether x64 is to be on


def switching(*calls: tuple[Any, ...]) -> Scope:
    """Return what switches x64 for some functions, given as (function, *arguments) in the user's own dtypes."""
    if jnp.result_type(float) == np.float64 or not any(any(_sizes(*call)) for call in calls):
        return jax.enable_x64
    jax.clear_caches()  # which sizes the arrays have shows only where they are met anew
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
    """Return how many bytes an entry has of each NumPy array that a function closes over.

    None where it cannot be traced: then no program holds them.
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
