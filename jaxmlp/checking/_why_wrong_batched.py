"""Why is the batched form of a function wrong? A factor, a wrong order, an example left out, or a leak."""

from typing import Any, Literal, NamedTuple

import numpy as np

from jaxmlp.checking import _rounding
from jaxmlp.checking._decision import Judged, Leaves
from jaxmlp.checking.report import Explanation

Form = Literal["each", "sum", "mean"]

# A hypothesis explains a wrong result if it is off by no more than this share of the result.
FITS = 2.0**-20


class Trial(NamedTuple):
    """A set of examples: which one was changed (None: all), and the comparison of both results."""

    label: str
    changed: int | None
    judged: Judged


def combined(rows: list[Any], form: Form) -> list[Any]:
    """Return rows [B, ...] in the form in which they are compared."""
    return rows if form == "each" else [leaf.sum(0) if form == "sum" else leaf.mean(0) for leaf in rows]


def explain(trials: list[Trial], rows: Leaves, form: Form) -> Explanation:
    """Return the simplest explanation of the result that was given."""
    base = trials[0].judged
    if not base.is_right:
        factor = _factor(base, len(rows[0]), form)
        if factor:
            return Explanation("factor", factor)
        other = _other_examples(base, rows) if form == "each" else _left_out(base, rows, form)
        if other:
            return other
    leak = _leak(trials) if form == "each" else _reduced_leak(trials, form)
    return Explanation("leak", leak) if leak else Explanation("none", "none of the usual faults of a batch explains it")


def _factor(judged: Judged, n: int, form: Form) -> str:
    given, expected = (np.concatenate([leaf.ravel() for leaf in leaves]) for leaves in (judged.given, judged.expected))
    size = float(expected @ expected)
    factor = float(expected @ given) / size if size else 0.0
    fits = [
        np.abs(g - factor * e) <= FITS * _rounding.scale(factor * e)
        for g, e in zip(judged.given, judged.expected, strict=True)
    ]
    if not np.isfinite(factor) or factor == 0 or not all(fit.all() for fit in fits):
        return ""
    why = ""
    if abs(factor * n - 1) < FITS:
        why = f", 1/{n}: the mean over the batch in place of the sum"
        why = why if form == "sum" else f": divided by the {n} examples"
    elif abs(factor / n - 1) < FITS:
        why = ": the sum over the batch in place of the mean" if form == "mean" else f": multiplied by the {n} examples"
    return f"the result is {factor:.7g} times what it should be{why}"


def _other_examples(judged: Judged, rows: Leaves) -> Explanation | None:
    """Return which example each wrong output belongs to."""
    given, expected = (
        np.concatenate([leaf.reshape(len(leaf), -1) for leaf in each], 1) for each in (judged.given, rows)
    )
    wrong = np.any([leaf.reshape(len(leaf), -1).any(axis=1) for leaf in judged.wrong], axis=0)
    size = np.abs(expected) + np.sqrt(np.mean(np.square(expected), axis=1, keepdims=True))
    source = np.arange(len(given))
    for i in np.flatnonzero(wrong):
        fits = np.flatnonzero((np.abs(expected - given[i]) <= FITS * size).all(axis=1))
        if not fits.size:
            return None
        source[i] = fits[0]
    pairs = [f"example {i} has that of {source[i]}" for i in np.flatnonzero(wrong)[:4]]
    more = f" and {wrong.sum() - 4} more" if wrong.sum() > 4 else ""
    if len(set(source)) == len(source):
        return Explanation("permuted", f"the outputs are in another order: {', '.join(pairs)}{more}")
    return Explanation("other_example", f"outputs belong to other examples: {', '.join(pairs)}{more}")


def _left_out(judged: Judged, rows: Leaves, form: Form) -> Explanation | None:
    """Return the example that a sum or mean leaves out or counts twice."""
    n = len(rows[0])
    share = 1 if form == "sum" else n
    for times, text in ((-1, "left out"), (1, "counted twice")):
        for i in range(n):
            # A mean over fewer or more examples has another divisor.
            for divisor in {share, share + times if form == "mean" else share}:
                trial = [(share * e + times * leaf[i]) / divisor for e, leaf in zip(judged.expected, rows, strict=True)]
                if all(
                    (np.abs(g - t) <= FITS * _rounding.scale(t)).all() for g, t in zip(judged.given, trial, strict=True)
                ):
                    return Explanation("other_example", f"example {i} is {text}")
    return None


def _leak(trials: list[Trial]) -> str:
    """Return a sentence on an output that changes with the data of another example."""
    base = trials[0].judged
    for trial in trials[1:]:
        if trial.changed is None:
            continue
        leaks = np.zeros(len(base.given[0]), bool)
        for g, a, g_after, a_after in zip(
            base.given, base.allowed, trial.judged.given, trial.judged.allowed, strict=True
        ):
            leaks |= (~(np.abs(g_after - g) <= a + a_after)).reshape(len(g), -1).any(axis=1)
        leaks[trial.changed] = False
        if leaks.any():
            i, *others = np.flatnonzero(leaks)
            also = f" (and of {len(others)} more)" if others else ""
            return f"when example {trial.changed} changes, so does the output of example {i}{also}"
    return ""


def _reduced_leak(trials: list[Trial], form: Form) -> str:
    """Return a sentence on an example that changes the sum or mean by more than its own contribution."""
    base = trials[0].judged
    for trial in trials[1:]:
        after = trial.judged
        for g, e, a, g_after, e_after, a_after in zip(*base[:3], *after[:3], strict=True):
            if trial.changed is not None and not (np.abs((g_after - g) - (e_after - e)) <= a + a_after).all():
                return f"when example {trial.changed} changes, the {form} does not change by its contribution"
    return ""
