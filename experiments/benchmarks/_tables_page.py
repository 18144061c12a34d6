"""The tables, the picture and the page of the benchmark of tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

from experiments._report import markdown
from experiments.benchmarks._benchmark import Verdict
from experiments.benchmarks._fits import Fits
from experiments.benchmarks._ranking import CONSTANT, Comparison, Seconds, scores
from experiments.benchmarks._tables import DEVELOPMENT, REPORT, SPLITS, TABLES
from experiments.benchmarks.peers.tables import OURS, PEERS
from experiments.claims._experiment import Table, interval
from experiments.claims._plotting import COLORS, MARKERS, figure
from jaxmlp.storage.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HALVES", "all_tables", "draw", "write_page"]

PAGE = Path(__file__).parent / "tables.md"
HALVES = {"all tables": tuple(TABLES), "report half": REPORT, "development half": DEVELOPMENT}
# Ours have one colour.
_STYLES = [(COLORS[0], marker) for marker in MARKERS[: len(OURS)]] + [*zip(COLORS[1:], MARKERS[1:], strict=True)]
STYLES = dict(zip((name for name in PEERS if name != CONSTANT), _STYLES, strict=False))


def all_tables(
    fits: Fits, taken: Mapping[tuple[str, str], Seconds], compared: Mapping[str, Sequence[Comparison]]
) -> list[Table]:
    """Return the standings, the scores of each table, the seconds, and the fits that failed."""
    found = [name for name in PEERS if any(fit.learner == name for fit in fits.values())]
    titles = [PEERS[name].title for name in found]
    made = [_standings(half, one, taken) for half, both in compared.items() for one in both if one.standings]
    for half in ("report half", "development half"):
        rows = [
            (f"{table} ({_metric(table)})", *(_score(fits, table, name) for name in found)) for table in HALVES[half]
        ]
        made.append(Table(f"Scores: {half}", ("", *titles), rows))
    rows = [(table, *(_seconds(taken.get((table, name))) for name in found)) for table in TABLES]
    made.append(Table("Seconds of a fit, median over splits", ("", *titles), rows))
    failed = sorted({(fit.table, PEERS[fit.learner].title, fit.failure) for fit in fits.values() if fit.failure})
    return [*made, *([Table("Fits without a score", ("", "learner", "why"), failed)] if failed else [])]


def _standings(half: str, compared: Comparison, taken: Mapping[tuple[str, str], Seconds]) -> Table:
    rows = [
        (
            PEERS[name].title,
            f"{standing.rank:.2f}",
            f"{standing.normalised:.3f}",
            standing.wins,
            _seconds(_over(compared.tables, name, taken)),
        )
        for name, standing in sorted(compared.standings.items(), key=lambda pair: pair[1].rank)
    ]
    header = ("", "mean rank", "mean normalised score", "wins", "median s of a fit")
    return Table(f"{half.capitalize()}: {_extent(compared)}", header, rows)


def _extent(compared: Comparison) -> str:
    return (
        f"{len(compared.tables)} tables, {'first split' if compared.n_splits == 1 else f'{compared.n_splits} splits'}"
    )


def _over(tables: Iterable[str], learner: str, taken: Mapping[tuple[str, str], Seconds]) -> Seconds | None:
    """Return the median over tables of a learner's seconds."""
    found = [taken[table, learner] for table in tables if (table, learner) in taken]
    return Seconds(median(one.median for one in found), all(one.is_quiet for one in found)) if found else None


def _metric(table: str) -> str:
    return "R2" if TABLES[table].task == "values" else "accuracy"


def _score(fits: Fits, table: str, learner: str) -> str:
    found = scores(fits, table, learner, SPLITS)
    splits = "" if len(found) == SPLITS else f" ({len(found)} of {SPLITS} splits)"
    half = f" ± {interval(found).half:.3f}" if len(found) > 1 else ""
    return f"{mean(found):z.3f}{half}{splits}" if found else "-"


def _seconds(taken: Seconds | None) -> str:
    if taken is None:
        return "-"
    digits = ".2g" if taken.median < 10 else ".0f"
    return f"{'' if taken.is_quiet else '~ '}{taken.median:{digits}}"


def draw(compared: Mapping[str, Sequence[Comparison]], taken: Mapping[tuple[str, str], Seconds]) -> "Figure":
    """Draw the normalised score by seconds: a column for each half, a row for each number of splits."""
    halves = ("report half", "development half")
    n_rows = len(compared[halves[0]])
    made, panels = figure(len(halves), n_rows)
    for number, axes in enumerate(panels):
        if number:
            axes.sharex(panels[0])
            axes.sharey(panels[0])
        row, column = divmod(number, len(halves))
        one = compared[halves[column]][row]
        for name, standing in one.standings.items():
            color, marker = STYLES[name]
            if usual := _over(one.tables, name, taken):
                axes.plot(usual.median, standing.normalised, marker, color=color, label=PEERS[name].title)
        axes.set_title(f"{halves[column].capitalize()}: {_extent(one)}", fontsize=9)
        axes.set(xscale="log", xlabel="seconds of a fit, median over tables", ylabel="mean normalised score")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    entries = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    made.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return made


def write_page(
    text: str, about: Mapping[str, str], claims: Sequence[Verdict], tables: Sequence[Table], path: Path = PAGE
) -> None:
    """Write the page: what is measured, the picture, the claims and all tables."""
    rows = [(one.claim, one.measured, "reached" if one.reached else "NOT reached") for one in claims]
    versions = "; ".join(f"{name}: {value}" for name, value in about.items())
    parts = [
        "# Ordinary tables",
        text.strip(),
        "![Mean normalised score by seconds of a fit](../results/tables.png)",
        f"Reported with {versions}.",
        *(
            f"## {one.title}\n\n{markdown(one.header, one.rows)}"
            for one in (Table("Claims", ("claim", "measured", ""), rows), *tables)
        ),
    ]
    write_whole(path, ("\n\n".join(parts) + "\n").encode())
