"""One row of the table: a claim that a gradient is right, or that two functions are equal, and how to check it."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmlp.checking import Report, check_equal, check_gradient
from jaxmlp.equivalences.numbers import Tree


class Claim(NamedTuple):
    """The arguments of `check_gradient`: a function, its gradient, and the parameters to check it at."""

    f: Callable[[Tree], Array]
    gradient: Callable[[Tree], Tree]
    params: Tree


class Equivalence(NamedTuple):
    """A row of the table: its group and name, how to check it, and its claim if the row is about a gradient."""

    group: str
    name: str
    check: Callable[[], Report]
    claim: Claim | None = None


Pair = tuple[Callable[..., Tree], Callable[..., Tree]]


def gradient_row(group: str, name: str, claim: Claim, root: str) -> Equivalence:
    """Make the row of a claim; `root` is what a report calls the parameters."""
    return Equivalence(group, name, partial(check_gradient, *claim, name=name, root=root), claim)


def equality_rows(group: str, pairs: Mapping[str, Pair], truth: str, *args: Tree) -> Iterator[Equivalence]:
    """Make a row for each pair (function, what it must equal); one program computes them all, as compiling is slow."""

    @cache
    def reports() -> dict[str, Report]:
        return check_equal(pairs, *args, truth=truth)

    for name in pairs:
        yield Equivalence(group, name, partial(lambda name: reports()[name], name))


def rounding_units(report: Report) -> float:
    """Return the largest relative error of a leaf, in units of the rounding of its dtype.

    The relative error is the norm of the error over the norm of the leaf; the unit is the distance from 1 to the next
    number. The result is nan if the report has no leaves, and inf if the error of one is nan.

    >>> rounding_units(check_gradient(lambda w: w**2, lambda w: 2 * w, jnp.array(3.0))) < 4
    True
    """
    units = [leaf.relative / float(jnp.finfo(leaf.dtype).eps) for leaf in report.leaves]
    return max((math.inf if math.isnan(unit) else unit for unit in units), default=math.nan)
