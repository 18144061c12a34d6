"""Records: the best that a perceptron reaches on Fashion-MNIST in one, five and thirty minutes on two cores.

Claims: within each of these budgets jaxmlp beats 88.33 %, the test accuracy of the best perceptron in the table of
Fashion-MNIST's README (MLP 256-128-100), and beats scikit-learn and PyTorch with the same seconds and layers. PyTorch
follows the same recipe. scikit-learn has no gelu, and its learning rate is constant here, so it follows the best recipe
of its own.

Recipes were chosen on a validation part, the last 10,000 training images, at 60 s; the test part chose nothing. A run
trains on all 60,000 images for as many epochs as fit in its budget, by the seconds that an epoch takes on a quiet
machine. Compilation counts; imports and evaluation do not. A busy machine makes a run take longer, but changes nothing
of what it reaches.

The libraries are written in [records/libraries.py](records/libraries.py); [records](records/README.md) has the tables
and the history. All runs take hours, so they have a command of their own that keeps every finished run. The run of all
experiments only repeats one seed of ours for 60 s.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments._report import RESULTS
from experiments.claims._experiment import Claim, Options, Outcome, conduct, interval, judge, options_of, parser, show
from experiments.claims._plotting import GREY, band, figure, legend, title
from experiments.records.libraries import LIBRARIES, Recipe, images
from experiments.records.runs import FOLDER, PUBLISHED, Pace, Run, kept, measure, paced, train
from experiments.records.tables import OURS, SEEDS, accuracies, grouped, percent, tables, write_history
from jaxmlp import TrainConfig, data
from jaxmlp._validation import unknown_name

VALIDATION = 10_000


def recipe(learning_rate: float, **changes: Any) -> Recipe:
    """Return a recipe from what differs from batch 128, momentum 0.9 and weight decay 0.001."""
    own = {name: changes.pop(name) for name in Recipe.__dataclass_fields__ if name in changes}
    return Recipe(config=TrainConfig(**{"batch_size": 128, "learning_rate": learning_rate} | changes), **own)


CANDIDATES: dict[str, list[Recipe]] = {
    OURS: [
        recipe(0.05, weight_decay=3e-4, shift=1),
        recipe(0.1, weight_decay=1e-4, shift=1),
        recipe(0.05, weight_decay=3e-4, shift=1, activation="gelu"),
        recipe(0.05, weight_decay=1e-3),
        recipe(0.1, weight_decay=5e-4, hidden=(1024, 1024), batch_size=256),
        recipe(0.05, weight_decay=3e-4, shift=1, hidden=(1024,)),
        recipe(0.03, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True),
        recipe(0.05, weight_decay=3e-4, shift=1, hidden=(512, 512, 512)),
        recipe(0.1, weight_decay=3e-4, shift=1, clip=2.0),
        recipe(0.05, weight_decay=1e-3, mirror=False),
        recipe(0.05, weight_decay=1e-3, shift=1, activation="gelu"),
        recipe(0.1, weight_decay=3e-4, shift=1, activation="gelu"),
        recipe(0.05, weight_decay=3e-4, shift=2, activation="gelu"),
        recipe(0.05, weight_decay=3e-4, shift=1, activation="gelu", hidden=(512, 512, 512)),
        recipe(0.03, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True, activation="gelu"),
        recipe(0.03, weight_decay=5e-4, shift=1, momentum=0.95, nesterov=True),
    ],
    "PyTorch": [
        recipe(0.05, weight_decay=3e-4, shift=1),
        recipe(0.1, weight_decay=3e-4, shift=1),
        recipe(0.05, weight_decay=3e-4, shift=1, activation="gelu"),
        recipe(0.03, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True),
        recipe(0.03, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True, activation="gelu"),
    ],
    "scikit-learn": [
        recipe(0.01, weight_decay=3e-4, shift=1, schedule="constant"),
        recipe(0.02, weight_decay=3e-4, shift=1, schedule="constant"),
        recipe(0.01, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True, schedule="constant"),
        recipe(0.005, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True, schedule="constant"),
    ],
}
# What was best on the validation part, taken for every budget.
_BEST = recipe(0.03, weight_decay=3e-4, shift=1, momentum=0.95, nesterov=True, activation="gelu")
RECIPES = {OURS: _BEST, "PyTorch": _BEST, "scikit-learn": CANDIDATES["scikit-learn"][2]}


def run(options: Options) -> Outcome:
    """Show the last table, and repeat one run of ours; in miniature, a network and a linear classifier on digits."""
    if options.quick:
        return miniature(options)
    numbers = json.loads((RESULTS / "records.json").read_text())["numbers"]
    again = None
    if options.data:
        examples = images(data.read(options.data))
        chosen = RECIPES[OURS]
        again = train(OURS, 60, 0, chosen, measure(OURS, chosen, examples), examples)
    return outcome([Run(**one) for one in numbers["runs"]], numbers["search"], again)


def miniature(options: Options) -> Outcome:
    """Train on digits, mirrored and shifted: what a hidden layer is worth beside none."""
    examples, pace = images(data.read("digits")), Pace(0.0, 1.0)
    titles = {"jaxmlp": (64,), "a linear classifier": ()}
    runs = {
        name: [
            train(OURS, 20, seed, recipe(0.1, hidden=hidden, shift=1, batch_size=32), pace, examples)
            for seed in range(options.seeds)
        ]
        for name, hidden in titles.items()
    }
    ours, linear = (np.array([one.accuracy for one in some]) for some in runs.values())
    picture, (axes,) = figure(1)
    for number, (name, some) in enumerate(runs.items()):
        band(axes, some[0].curve[0], 100 * np.array([one.curve[1] for one in some]), number, label=name)
    axes.set(xlabel="epochs", ylabel="test accuracy in %")
    legend(axes)
    measured = f"{interval(100 * ours)} % against {interval(100 * linear)} %"
    return Outcome(
        [Claim("in miniature: a hidden layer beats none by 5 %", measured, judge((ours - linear).min() > 0.05))],
        [],
        "In miniature, on digits that may be mirrored and shifted; the records are those of the full run.",
        {"ours": ours, "linear": linear},
        picture,
    )


def outcome(runs: list[Run], search: list[dict[str, Any]], again: Run | None) -> Outcome:
    numbers = {"runs": [one._asdict() for one in runs], "search": search, "again": again and again._asdict()}
    seeds = max(SEEDS.values())
    return Outcome(claims(runs, again), tables(runs), finding(runs, search), numbers, draw(runs), seeds)


def claims(runs: list[Run], again: Run | None = None) -> list[Claim]:
    """Judge what was run: above the published accuracy with all seeds, above a peer by more than the interval."""
    found, groups = [], grouped(runs)
    for budget in SEEDS:
        ours = accuracies(groups[budget, OURS])
        if not ours:
            continue
        count = f"seeds: {len(ours)}"
        found.append(
            Claim(
                f"in {budget:,} s jaxmlp beats {100 * PUBLISHED:.2f} %, the best published perceptron",
                f"{percent(ours)}, {count} of {SEEDS[budget]}, the lowest {100 * min(ours):.2f} %",
                judge(len(ours) >= SEEDS[budget] and min(ours) > PUBLISHED, float(np.mean(ours)) > PUBLISHED),
            )
        )
        for library in LIBRARIES:
            theirs = accuracies(groups[budget, library])
            n = min(len(ours), len(theirs))
            if library != OURS and n:
                apart = interval(100 * (np.array(ours[:n]) - theirs[:n]))
                points = str(apart) if n > 1 else f"{apart.mean:.2f}"
                found.append(
                    Claim(
                        f"in {budget:,} s jaxmlp beats {library} with the same layers",
                        f"{percent(ours)} against {percent(theirs)}; apart by {points} points, seeds: {n}",
                        judge(apart.mean > apart.half, apart.mean > 0),  # the half of one seed is nan
                    )
                )
    if again:
        measured = f"{100 * again.accuracy:.2f} % after {again.epochs} epochs"
        found.append(
            Claim(
                f"one seed, trained anew for 60 s, beats {100 * PUBLISHED:.2f} %",
                measured,
                judge(again.accuracy > PUBLISHED),
            )
        )
    return found


def draw(runs: list[Run]) -> Figure:
    groups = grouped(runs)
    budgets = [budget for budget in SEEDS if groups[budget, OURS]]
    picture, panels = figure(len(budgets))
    for axes, budget in zip(panels, budgets, strict=True):
        for number, library in enumerate(LIBRARIES):
            if some := groups[budget, library]:
                lines = 100 * np.array([one.curve[1] for one in some])
                band(axes, some[0].curve[0], lines, number, label=library)
        axes.axhline(100 * PUBLISHED, color=GREY, linestyle=":", linewidth=1, label="best published, 88.33 %")
        axes.set(xlabel="training seconds", xlim=(0, budget), ylim=(82, 93))
        title(axes, f"runs of {budget:,} s")
    panels[0].set_ylabel("test accuracy in %")
    legend(panels[0], loc="lower right")
    return picture


def finding(runs: list[Run], search: list[dict[str, Any]]) -> str:
    groups = grouped(runs)
    best = "; ".join(
        f"{percent(accuracies(some))} in {budget:,} s ({some[0].epochs:,} epochs)"
        for (budget, library), some in groups.items()
        if library == OURS and some
    )
    speed = " ".join(
        f"In 60 s {library} has {some[0].epochs} epochs, jaxmlp {groups[60, OURS][0].epochs}."
        for (budget, library), some in groups.items()
        if budget == 60 and library != OURS and some
    )
    left_out = [
        f"{library} in {budget:,} s {len(some)} of {SEEDS[budget]}"
        for (budget, library), some in groups.items()
        if len(some) < SEEDS[budget]
    ]
    minutes = sum(one.training_seconds for one in runs) / 60
    missing = f"Not all seeds are run yet, and where there is none a claim is open: {', '.join(left_out)}. "
    tried = ", ".join(
        f"{sum(one['library'] == library for one in search)} of {len(CANDIDATES[library])} for {library}"
        for library in LIBRARIES
    )
    recipes = "; ".join(f"{library}: {RECIPES[library]}" for library in LIBRARIES)
    return f"""The best perceptron within each budget: {best}. Recipes: {recipes}. Where they are the same, libraries
    differ in how often they see the images in their seconds, and in initial weights. {speed}

    {missing if left_out else ""}All runs took {minutes:.0f} minutes of training. Recipes and rates tried on the
    validation part: {tried}."""


def choose(libraries: Sequence[str], folder: Path, only_measure: bool) -> None:
    """Try every candidate on the validation part, for as many epochs as it would have in 60 s on all images."""
    source = data.read(folder)
    everything, part = images(source), images(source, validate=VALIDATION)
    for library in libraries:
        for candidate in CANDIDATES[library]:
            pace = paced(library, candidate, everything)
            if not only_measure:
                one = kept(f"choice-{library}", candidate, train, library, 60, 0, candidate, pace, part)
                print(f"{one['accuracy']:.4f}  {library}, {one['epochs']} epochs: {one['recipe']}", flush=True)


def collect() -> tuple[list[Run], list[dict[str, Any]]]:
    """Return all runs of the chosen recipes, and all of the search, that are kept."""
    runs = [
        Run(**one)
        for path in sorted(FOLDER.glob("run-*.json"))
        if (one := json.loads(path.read_text()))["recipe"] == str(RECIPES[one["library"]])
    ]
    search = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("choice-*.json"))]
    columns = ("library", "budget", "recipe", "epochs", "accuracy")
    return runs, [{name: one[name] for name in columns} for one in search]


def main() -> None:
    arguments = parser("experiments.records", __doc__)
    arguments.add_argument("--budgets", type=_budgets, default=[*SEEDS], metavar="S,S", help="60,300,1800 by default")
    arguments.add_argument(
        "--libraries", type=_libraries, default=[*LIBRARIES], metavar="A,B", help=", ".join(LIBRARIES)
    )
    arguments.add_argument("--choose", action="store_true", help="only search the recipe, on the validation part")
    arguments.add_argument("--measure", action="store_true", help="only time epochs, where nothing else runs")
    arguments.add_argument("--report", action="store_true", help="only write the tables of what was run so far")
    asked = arguments.parse_args()
    options = options_of(asked)
    if asked.quick:
        show(conduct("records", run, options))
        return
    if options.data is None:
        arguments.error("there is no folder with Fashion-MNIST: name it by --data")
    if asked.choose:
        choose(asked.libraries, options.data, asked.measure)
        return
    if not asked.report:
        train_all(asked.budgets, asked.libraries, 0 if asked.measure else asked.seeds, options.data)
    if not asked.measure:
        runs, search = collect()
        if not any(one.library == OURS for one in runs):
            arguments.error(f"no run of {OURS} is kept in {FOLDER}: leave --report out")
        show(conduct("records", lambda _: outcome(runs, search, None), options))
        write_history(runs)


def train_all(budgets: Sequence[int], libraries: Sequence[str], seeds: int | None, folder: Path) -> None:
    """Train what is not kept yet; without seeds it is only measured how long an epoch takes."""
    examples = images(data.read(folder))
    for budget in budgets:
        for library in libraries:
            chosen = RECIPES[library]
            pace = paced(library, chosen, examples)
            for seed in range(SEEDS[budget] if seeds is None else seeds):
                what = (library, budget, seed, chosen, pace, examples)
                one = kept(f"run-{library}-{budget}-{seed}", chosen, train, *what)
                print(f"{one['accuracy']:.4f}  {library}, {budget} s, seed {seed}, {one['epochs']} epochs", flush=True)


def _budgets(text: str) -> list[int]:
    return [int(_known("budget", part, [*map(str, SEEDS)])) for part in text.split(",")]


def _libraries(text: str) -> list[str]:
    return [_known("library", part, [*LIBRARIES]) for part in text.split(",")]


def _known(kind: str, name: str, names: list[str]) -> str:
    if name not in names:
        raise argparse.ArgumentTypeError(unknown_name(kind, name, names))
    return name


if __name__ == "__main__":
    main()
