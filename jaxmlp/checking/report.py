"""The report of a check, to read, to assert or to write as JSON."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = ["Explanation", "LeafError", "PointCheck", "Report"]

Verdict = Literal["right", "wrong", "undecided"]


class LeafError(NamedTuple):
    """The error of one leaf: where it is worst, both numbers there, and the error that rounding allows there.

    `relative` is the norm of the error over the norm of the true leaf (inf if that is 0), computed in `dtype`. `wrong`
    counts the elements that are off by more than rounding allows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    at: tuple[int, ...]
    given: float
    expected: float
    allowed: float
    relative: float
    wrong: int


class Explanation(NamedTuple):
    """A possible cause: its kind (one word), a sentence, and the leaves that it explains."""

    kind: str
    text: str
    leaves: tuple[str, ...] = ()


class PointCheck(NamedTuple):
    """The result at one point: its name, "right", "wrong", "kink" or "skipped", and why."""

    name: str
    verdict: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """A verdict with its evidence and explanation; true if and only if the verdict is "right".

    The verdict is "undecided" where the function jumps, or is too noisy to check; `explanations` says which. For a
    wrong gradient, `explanations` has the simplest explanation that fits the evidence; its kind is "none" if none fits.
    `resolution` is the smallest fault that differences alone find, relative to the gradient or, at a minimum, to the
    changes of f; comparisons element by element find far smaller ones.
    """

    subject: str  # what was checked, such as "gradient of loss"
    verdict: Verdict
    truth: str  # what the verdict is based on
    leaves: tuple[LeafError, ...]  # the worst first
    explanations: tuple[Explanation, ...] = ()
    points: tuple[PointCheck, ...] = ()
    slopes: tuple[float, ...] = ()  # exponents of the Taylor remainder, one for each direction: 2 for a right gradient
    resolution: float = math.nan
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether the verdict is "right"."""
        return self.verdict == "right"

    def __str__(self) -> str:
        """Return the report as text."""
        return "\n".join(_lines(self))

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON; numbers that are not finite become None."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _lines(report: Report) -> list[str]:
    lines = [f"{report.subject}: {report.verdict.upper()}"]
    lines += [f"  {explanation.text}" for explanation in report.explanations]
    if report:
        worst, n = max(report.leaves, key=lambda leaf: np.nan_to_num(leaf.relative, posinf=0.0)), len(report.leaves)
        leaves = f"{n} {'leaf' if n == 1 else 'leaves'}"
        lines += [f"  {leaves}, largest relative error {worst.relative:.1e} ({worst.name})"]
    else:
        lines += ["", *_table([leaf for leaf in report.leaves if leaf.wrong] or list(report.leaves)), ""]
    lines += [f"  decided by {report.truth}"]
    finite = [slope for slope in report.slopes if math.isfinite(slope)]
    if finite:
        slopes = ", ".join(f"{slope:.2f}" for slope in finite)
        lines += [f"  Taylor remainder falls as h^{slopes} (h^2 where the gradient is right, h^1 where it is wrong)"]
    if math.isfinite(report.resolution) and report:
        lines += [f"  differences alone find faults down to {report.resolution:.0e} of the gradient"]
    for point in report.points:
        lines += [f"  at {point.name}: {point.verdict}{': ' if point.why else ''}{point.why}"]
    lines += [f"  note: {note}" for note in report.notes]
    return lines


def _table(leaves: list[LeafError], most: int = 8) -> list[str]:
    head = ("leaf", "relative error", "wrong", "worst at", "given", "expected", "rounding allows")
    rows = [
        (
            leaf.name,
            f"{leaf.relative:.1e}",
            f"{leaf.wrong} of {int(np.prod(leaf.shape))}",
            str(list(leaf.at)) if leaf.at else "-",
            f"{leaf.given:.8g}",
            f"{leaf.expected:.8g}",
            f"{leaf.allowed:.1e}",
        )
        for leaf in leaves[:most]
    ]
    first, *others = (max(map(len, column)) for column in zip(head, *rows, strict=True))
    aligned = [
        "  ".join(["  " + name.ljust(first), *map(str.rjust, numbers, others)]) for name, *numbers in [head, *rows]
    ]
    return aligned + ([f"  and {len(leaves) - most} more leaves"] if len(leaves) > most else [])
