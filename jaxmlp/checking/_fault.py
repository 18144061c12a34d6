"""The parts of a wrong gradient, and tests of the error that a hypothesis predicts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxmlp.checking._decision import Functions, Judged, Leaves
from jaxmlp.checking.report import Explanation

# The coefficient s is measured too, and its error adds to what rounding allows.
ROOM = 4


class Wrong(NamedTuple):
    """A wrong gradient at a point, and everything known about it.

    `elsewhere` has (params, Judged) of other points; `located` says whether `judged.expected` is known everywhere.
    """

    functions: Functions
    gradient: Callable[[Any], Any] | None  # the true gradient, if it is known
    params: Any
    judged: Judged
    names: list[str]
    elsewhere: list[tuple[Any, Judged]]
    located: bool


class Fault(NamedTuple):
    """A wrong gradient: its error d, the true gradient g, the error that rounding allows, and the wrong leaves."""

    d: Leaves
    g: Leaves
    room: Leaves
    leaves: list[int]
    names: tuple[str, ...]

    def share(self, error: Leaves, leaves: list[int] | None = None) -> float | None:
        """Return s with d = s error on the wrong leaves, or on these; None if there is no such number."""
        s = coefficients(self.d, [error], self.leaves if leaves is None else leaves, self.room)
        return None if s is None else float(s[0])

    def share_of_leaf(self, i: int, other: np.ndarray) -> float | None:
        """Return s with d = s (other - g) on leaf i, or None."""
        return self.share([*self.g[:i], other - self.g[i], *self.g[i + 1 :]], [i])


def coefficients(d: Leaves, errors: list[Leaves], leaves: list[int], room: Leaves) -> np.ndarray | None:
    """Return s with d = sum_h s_h e_h on the leaves, up to the rounding of each element, or None."""
    if not all(d[i].any() for i in leaves):
        return None
    weights = [1 / float(np.linalg.norm(d[i])) for i in leaves]
    columns = np.stack(
        [np.concatenate([w * error[i].ravel() for i, w in zip(leaves, weights, strict=True)]) for error in errors],
        axis=1,
    )
    target = np.concatenate([w * d[i].ravel() for i, w in zip(leaves, weights, strict=True)])
    size = np.linalg.norm(columns, axis=0)
    if not np.isfinite(columns).all() or (size == 0).any():
        return None
    s = np.linalg.lstsq(columns / size, target, rcond=None)[0] / size
    for i in leaves:
        left = d[i] - sum(s_h * error[i] for s_h, error in zip(s, errors, strict=True))
        if not (np.abs(left) <= room[i] + 1e-9 * np.abs(d[i])).all():
            return None
    return s


def follow(gradient: Callable[[float], Leaves | None], fault: Fault) -> tuple[float, float] | None:
    """Return (tau, s) with d = s (gradient(tau) - g) to five digits, or None; for faults not linear in their size."""
    sizes = [max(float(np.linalg.norm(fault.d[i])), 1e-300) for i in fault.leaves]

    def flat(leaves: Leaves) -> np.ndarray:
        return np.concatenate([leaves[i].ravel() / size for i, size in zip(fault.leaves, sizes, strict=True)])

    d = flat(fault.d)

    def error(tau: float) -> np.ndarray:
        there = gradient(tau)
        return np.zeros_like(d) if there is None else flat([a - b for a, b in zip(there, fault.g, strict=True)])

    def alignment(tau: float) -> float:
        e = error(tau)
        size = float(np.linalg.norm(e) * np.linalg.norm(d))
        return abs(float(e @ d)) / size if size else 0.0

    start = max((sign * tau for tau in (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0) for sign in (-1, 1)), key=alignment)
    if alignment(start) < 0.98:
        return None
    from scipy.optimize import least_squares  # half a second to import

    e = error(start)
    exactly = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-14)
    guess = [start, float(e @ d) / float(e @ e)]
    fit = least_squares(lambda u: d - u[1] * error(float(u[0])), guess, x_scale="jac", **exactly)
    tau, share = (float(value) for value in fit.x)
    room = flat(fault.room) + 1e-5 * np.abs(d).max()
    return (tau, share) if (np.abs(d - share * error(tau)) <= room).all() else None


def as_share(s: float) -> str:
    return "" if abs(s - 1) < 1e-6 else f" (a share of {as_factor(s)})"


def as_factor(c: float) -> str:
    """Write a factor, or (1 + d) if it is close to 1."""
    return f"(1 {'+' if c > 1 else '-'} {abs(c - 1):.3g})" if 0 < abs(c - 1) < 1e-3 else f"{c:.7g}"


def enumerated(names: tuple[str, ...]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more leaves"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def joined(parts: list[Explanation], names: tuple[str, ...]) -> Explanation:
    """Return the explanations of several leaves as one."""
    return Explanation(parts[0].kind, "; ".join(part.text for part in parts), names)
