"""`check_equal`: do two functions return the same, up to rounding?"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from jaxmlp.checking._decision import ROUNDINGS, Judged, leaf_errors
from jaxmlp.checking._functions import to_float64, to_numpy
from jaxmlp.checking._rounding import epsilon, scale, spread, threshold
from jaxmlp.checking.report import PointCheck, Report

__all__ = ["check_equal"]


def check_equal(
    pairs: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]], *args: Any, truth: str
) -> dict[str, Report]:
    """Check that the two functions of each pair return the same in float64, up to the rounding error of both.

    `pairs` maps names to (function, right function): functions of `args` that return trees of arrays of the same
    shapes. Each name gets a `Report`, in which `truth` describes the right functions. One program computes all pairs.
    The same infinity on both sides counts as equal.

    >>> pairs = {"double": (lambda x: x + x, lambda x: 2 * x), "square": (lambda x: x**3, lambda x: x**2)}
    >>> {name: bool(report) for name, report in check_equal(pairs, np.arange(3.0), truth="the formula").items()}
    {'double': True, 'square': False}
    """
    with jax.enable_x64(True):
        wide = to_float64(args)
        results = jax.jit(lambda *args: {name: [side(*args) for side in pair] for name, pair in pairs.items()})(*wide)
        reports = {name: _report(name, truth, *results[name]) for name in pairs}
        for name, report in reports.items():
            if not report:
                try:
                    off = [spread(side)(0, *wide) for side in pairs[name]]
                except Exception:  # rounding cannot be imitated in every operation: allow only a few roundings
                    continue
                reports[name] = _report(name, truth, *results[name], *off)
    return reports


def _report(name: str, truth: str, given: Any, expected: Any, *off: Any) -> Report:
    paths = jax.tree_util.tree_flatten_with_path(given)[0]
    names = [name + jax.tree_util.keystr(path) for path, _ in paths]
    spreads: list[Any] = [sum(leaves) for leaves in zip(*map(to_numpy, off), strict=True)] or [0.0] * len(names)
    judged = _judged(to_numpy(given), to_numpy(expected), spreads)
    verdict: Literal["right", "wrong"] = "right" if judged.is_right else "wrong"
    errors = leaf_errors(names, ["float64"] * len(names), judged)
    return Report(name, verdict, f"{truth}, in float64", errors, points=(PointCheck("the given arguments", verdict),))


def _judged(given: list[np.ndarray], expected: list[np.ndarray], spreads: list[Any]) -> Judged:
    # An infinity minus itself would be nan.
    infinite = [np.isinf(e) & (g == e) for g, e in zip(given, expected, strict=True)]
    given, expected = ([np.where(i, 0, x) for i, x in zip(infinite, side, strict=True)] for side in (given, expected))
    rounding = ROUNDINGS * epsilon(np.float64)
    allowed = [
        rounding * scale(np.where(np.isfinite(e), e, 0)) + threshold(e.size) * off
        for e, off in zip(expected, spreads, strict=True)
    ]
    return Judged(given, expected, allowed)
