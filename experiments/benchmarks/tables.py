"""Twenty real tables: jaxmlp against boosted trees and other perceptrons.

Claims, over all tables. `jaxmlp train TABLE --target COLUMN` is better than scikit-learn's MLP on at least 17, and its
mean rank is better than that of HistGradientBoosting. Where a peer has an R2 above 0.5, it is at most 0.03 below the
median of the peers. In the median of tables it takes no longer than HistGradientBoosting, and a tenth of the time of
RealMLP-TD. With `--tune 60` its mean rank is the best.

    python -m experiments.benchmarks.tables                fit what is not fitted yet, and report
    python -m experiments.benchmarks.tables --report       report what is fitted
    python -m experiments.benchmarks.tables --quiet        measure seconds, on a machine that nothing else uses

Tables. Eleven have classes and are scored by accuracy, nine have real values and are scored by R2. A fifth of the rows
is the test part, in five splits; classes have the same share in both parts. The defaults of jaxmlp were chosen on the
development half, every second table of the alphabet, and not on the report half: `experiments.choose_table_defaults`
compares them with others. `_tables.py` lists the tables.

Learners. Each has its customary preprocessing, written in `peers/tables.py`, and its default settings. Each fit has a
fresh process and is kept in runs/tables, so that a run continues where it ended. A fit longer than --limit is ended;
once that has happened on two tables, the learner is not fitted to larger ones.

Scores. ± is half of a 95 % interval over the splits (Student's t); it is too narrow, because splits share rows. A
comparison has the learners with scores on at least half of the tables, and the tables where all of these have one. A
normalised score is 1 for the best learner, and 0 for the worst one or for a constant prediction if that is worse still.
A win is a table on which no other learner is better.

Seconds. A fit begins with the table in memory and ends with a model; it includes preprocessing and compilation, but not
imports. Seconds marked ~ were measured beside other work and are too long. `--quiet` measures them again, learners in
turn, and keeps only those that nothing disturbed.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, median

import jax

from experiments._options import count
from experiments._report import RESULTS, print_table
from experiments.benchmarks._benchmark import Verdict, begin, finish, installed, options, parser
from experiments.benchmarks._fits import QUIET, SCORED, Fit, Fits, fit_anew, keep, kept
from experiments.benchmarks._ranking import CONSTANT, Comparison, Seconds, compare, scores, seconds
from experiments.benchmarks._tables import SPLITS, TABLES, load
from experiments.benchmarks._tables_page import HALVES, all_tables, draw, write_page
from experiments.benchmarks.peers.tables import OURS, PEERS

DEFAULT, TUNED = "default", "tuned"
MOST_LATE = 2  # tables that reach the limit before larger ones are left out
# The claims.
BETTER, GOOD, MOST_BELOW = 17, 0.5, 0.03


def fit_all(asked: argparse.Namespace) -> None:
    """Fit what is not kept yet: for scores learner by learner, for seconds learners in turn; small tables first."""
    kind = QUIET if asked.quiet else SCORED
    done = {} if asked.again else kept(kind)
    for table, learner, split in _order(asked, installed(PEERS, asked.peers)):
        if (table, learner, split) in done:
            continue
        late = [fit.table for fit in done.values() if fit.learner == learner and "TimeoutError" in (fit.failure or "")]
        if len(set(late)) >= MOST_LATE:
            fit = Fit(table, learner, split, None, None, 0.0, f"not run: {', '.join(sorted(set(late)))} took too long")
        else:
            fit = fit_anew(table, learner, split, asked.limit)
        done[table, learner, split] = fit
        measured = fit.failure or f"{fit.score:.4f} in {fit.seconds:.1f} s"
        if asked.quiet and not (fit.failure or fit.is_quiet):
            measured += f", not kept: other processes kept {fit.cores_of_others:.1f} cores busy"
        else:
            keep(fit, kind)
        print(f"{table}, {PEERS[learner].title}, split {split}: {measured}", flush=True)


def _order(asked: argparse.Namespace, learners: list[str]) -> Iterator[tuple[str, str, int]]:
    tables = sorted(asked.cases, key=lambda name: len(load(name)))
    splits = range(asked.splits)
    if asked.quiet:
        return ((table, learner, split) for table in tables for split in splits for learner in learners)
    return ((table, learner, split) for learner in learners for table in tables for split in splits)


def verdicts(
    fits: Fits, compared: Mapping[str, Sequence[Comparison]], taken: Mapping[tuple[str, str], Seconds]
) -> list[Verdict]:
    """Judge the claims whose learners were fitted on at least half of the tables."""
    several, first = compared["all tables"]
    rows = []
    if {DEFAULT, "sklearn-mlp"} <= several.standings.keys():
        better = sum(_gap(fits, table, "sklearn-mlp") > 0 for table in several.tables)
        measured = f"{better} of {len(several.tables)}"
        rows.append(Verdict(f"better than scikit-learn's MLP on at least {BETTER} tables", measured, better >= BETTER))
    if {DEFAULT, "hist"} <= several.standings.keys():
        ours, trees = several.standings[DEFAULT].rank, several.standings["hist"].rank
        claim = "mean rank better than that of HistGradientBoosting"
        rows.append(Verdict(claim, f"{ours:.2f}, {trees:.2f}", ours < trees))
    if DEFAULT in several.standings:
        below = _below(fits, several) or {"no table": 0.0}
        claim = f"at most {MOST_BELOW} below the median of peers wherever one has an R2 above {GOOD}"
        worst = max(below, key=lambda table: below[table])
        rows.append(Verdict(claim, f"{below[worst]:.3f} on {worst}", below[worst] <= MOST_BELOW))
    if TUNED in first.standings:
        best = min(standing.rank for standing in first.standings.values())
        rank = first.standings[TUNED].rank
        rows.append(
            Verdict("--tune 60: best mean rank on the first split", f"{rank:.2f}, best {best:.2f}", rank <= best)
        )
    for peer, share in (("hist", 1.0), ("realmlp", 0.1)):
        both = [table for table in TABLES if (table, DEFAULT) in taken and (table, peer) in taken]
        if both:
            times = median(taken[table, DEFAULT].median / taken[table, peer].median for table in both)
            is_quiet = all(taken[table, name].is_quiet for table in both for name in (DEFAULT, peer))
            claim = f"at most {share:g} times the seconds of {PEERS[peer].title}, in the median of tables"
            rows.append(Verdict(claim, f"{times:.2f} on {len(both)} tables", times <= share, is_quiet))
    return rows


def _gap(fits: Fits, table: str, peer: str) -> float:
    """Return by how much the default's mean score is above a peer's."""
    return mean(scores(fits, table, DEFAULT, SPLITS)) - mean(scores(fits, table, peer, SPLITS))


def _below(fits: Fits, compared: Comparison) -> dict[str, float]:
    """Return by how much the default is below the median of peers, by table where a peer has a high R2."""
    peers = [name for name in compared.standings if name not in OURS]
    below = {}
    for table in compared.tables:
        others = [mean(scores(fits, table, peer, SPLITS)) for peer in peers]
        if TABLES[table].task == "values" and max(others) > GOOD:
            below[table] = median(others) - mean(scores(fits, table, DEFAULT, SPLITS))
    return below


def main() -> None:
    quick = "one small table, one split, learners that take seconds"
    made = parser("tables", __doc__, quick=quick, cases=TABLES, peers=PEERS)
    made.add_argument("--splits", type=count, default=SPLITS, metavar="N", help=f"splits to fit, {SPLITS} by default")
    made.add_argument("--limit", type=count, default=300, metavar="SECONDS", help="longest fit, 300 by default")
    made.add_argument("--again", action="store_true", help="fit also what is kept")
    made.add_argument("--quiet", action="store_true", help="measure seconds, learners in turn, on a quiet machine")
    made.add_argument("--report", action="store_true", help="fit nothing")
    asked = options(made)
    if asked.quick:
        asked.cases, asked.splits, asked.peers = ["titanic"], 1, ["one", "sklearn-mlp", "hist", CONSTANT]
    os.environ["JAX_PLATFORMS"] = "cpu"  # everybody's race is on the CPU
    jax.config.update("jax_platforms", "cpu")
    about = begin(asked, "scikit-learn", "lightgbm", "catboost", "pytabkit", "torch")
    if not asked.report:
        fit_all(asked)
    fits, quiet = kept(), kept(QUIET)
    taken = seconds(fits.values()) | seconds(quiet.values())
    compared = {half: [compare(fits, tables, list(PEERS), n) for n in (SPLITS, 1)] for half, tables in HALVES.items()}
    tables = all_tables(fits, taken, compared)
    for table in tables:
        print_table(*table)
    claims = verdicts(fits, compared, taken)
    values = {kind: [fit._asdict() for fit in found.values()] for kind, found in ((SCORED, fits), (QUIET, quiet))}
    if finish(asked, about, claims, **values):
        draw(compared, taken).savefig(RESULTS / "tables.png", dpi=200)
        write_page(__doc__ or "", about, claims, tables)


if __name__ == "__main__":
    main()
