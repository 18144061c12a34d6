"""The user's functions, in float64 and compiled where possible; x64 switched on for a check, and off again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxmlp.checking import _differences
from jaxmlp.checking._program import calls_out, equations
from jaxmlp.checking._rounding import spread, spreads

NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)

Scope: TypeAlias = Callable[[bool], AbstractContextManager[Any]]  # x64 on or off inside a `with`
# Steps are padded to a multiple of this: most calls then share one program.
_PADDED = 8


class Wide(NamedTuple):
    """A function of float64 arrays, compiled if it can be traced; `note` says why if it only runs in its own dtype."""

    call: Callable[..., Any]
    plain: Callable[..., Any]
    traceable: bool
    note: str
    spreads: Callable[..., Iterator[Any]]  # (seed, params) -> estimates of its rounding error


def widened(name: str, function: Callable[[Any], Any], params: Any) -> Wide:
    """Return the function for float64 parameters; `params` are in the user's dtypes. Call under x64.

    A function that fails with float64 arguments (its code names a shorter dtype) gets its own dtypes.
    """
    wide = to_float64(params)

    def anew(params: Any) -> Any:
        """Call the function as a new one: JAX caches traces by function, and its closure may have changed."""
        return function(params)

    try:
        return Wide(*_compiled(anew, wide), note="", spreads=spreads(anew))
    except Exception as error:  # a user's code may raise anything
        failure = first_line(error)
    dtypes = jax.tree.map(lambda leaf: jnp.asarray(leaf).dtype, params)

    def narrow(wide: Any) -> Any:
        return function(jax.tree.map(lambda leaf, dtype: jnp.asarray(leaf).astype(dtype), wide, dtypes))

    note = f"{name} does not run in float64 ({failure[:120]})"
    return Wide(*_compiled(narrow, wide), note=note, spreads=spreads(narrow))


def to_float64(tree: Any) -> Any:
    """Return a tree of float64 arrays. Call under x64."""
    # `jnp.asarray` would compile a program for each shape.
    return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float64), tree))


def to_numpy(tree: Any) -> list[np.ndarray]:
    """Return the leaves as float64 NumPy arrays."""
    return [np.asarray(leaf).astype(np.float64, copy=False) for leaf in jax.tree.leaves(tree)]


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def called(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a user's function; add a note to its own errors that says who called it."""
    try:
        return function(*args)
    except Exception as error:
        error.add_note(f"jaxmlp.checking: {name} raised this when it was called for the check")
        raise


def moved(params: Any, direction: Any, step: Any) -> Any:
    """Return w + h v."""
    return jax.tree.map(lambda w, v: w + step * v, params, direction)


def moved_numbers(params: Any, direction: Any, step: float) -> Any:
    """Return w + h v of concrete arrays, float64, without a compilation for each shape. Call under x64."""
    w, v = (jax.tree.map(np.asarray, tree) for tree in (params, direction))
    return to_float64(moved(w, v, step))


def along(f: Wide) -> Callable[[Any, Any, np.ndarray], np.ndarray]:
    """Return a function of (w, v, steps [s]) with the values [s] of f at w + h v, compiled if possible."""
    if f.traceable:
        evaluate = jax.jit(lambda w, v, steps: jax.lax.map(lambda h: f.plain(moved(w, v, h)), steps))

        def values(w: Any, v: Any, steps: np.ndarray) -> np.ndarray:
            padded = np.pad(steps, (0, -len(steps) % _PADDED), mode="edge")
            return np.asarray(evaluate(w, v, padded), np.float64)[: len(steps)]

        return values
    return lambda w, v, steps: np.array([np.float64(f.plain(moved(w, v, h))) for h in steps])


def noise_along(f: Wide) -> Callable[[int, Any, Any], np.ndarray]:
    """Return a function of (seed, w, v) that gives the rounding of f(w + h v) at each of STEPS.

    The rounding is imitated if f can be traced, else measured. That of w + h v is included.
    """
    imitated = spread(lambda w, v, h: f.plain(moved(w, v, h)))
    values = along(f)

    def measured(w: Any, v: Any) -> np.ndarray:
        # A tiny step does not move a function that rounds its inputs to float32; a larger one may see its curvature.
        def at(h: float) -> float:
            return max(_differences.noise(lambda steps: values(w, v, h + steps), step) for step in (2.0**-38, 2.0**-16))

        every_third = [at(float(h)) for h in _differences.STEPS[::3]]
        return np.repeat(np.maximum(every_third, at(0.0)), 3)

    def noise(seed: int, w: Any, v: Any) -> np.ndarray:
        if f.traceable:
            try:
                factor = 3.0  # a spread is a root mean square, and a single error may be several times that
                return factor * np.array([float(imitated(seed, w, v, jnp.asarray(h))) for h in _differences.STEPS])
            except Exception:
                pass
        return measured(w, v)

    return noise


def _compiled(function: Callable[[Any], Any], args: Any) -> tuple[Callable[..., Any], Callable[..., Any], bool]:
    compiled = jax.jit(function)
    try:
        program = jax.make_jaxpr(compiled)(args)
    except NOT_TRACEABLE:
        function(args)
        return function, function, False
    if any(calls_out(eqn) for eqn in equations(program)):
        compiled(args)  # only a run shows whether the callback takes float64
    return compiled, function, True


def x64_scope(*calls: tuple[Any, ...]) -> Scope:
    """Return a replacement for `jax.enable_x64` that is safe for these calls (function, *arguments in their dtypes).

    JAX (0.10 to 0.12) caches its copy of a NumPy array for as long as a program holds it, and reuses the copy after x64
    has changed. A function that closes over an array of 64 bits then fails in float32 or in float64. The only public
    remedy is to clear JAX's caches, which is done for such functions only.
    """
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
