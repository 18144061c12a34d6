"""Which hyperparameters matter: the R2 that a random forest loses on held-out trials when one is shuffled."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxmlp._extras import optional
from jaxmlp.sweep.metrics import OVER, counted, is_better_high, numbered
from jaxmlp.sweep.report._axes import hold

if TYPE_CHECKING:
    import polars as pl

_FEWEST = 10  # settings that a forest needs: two for each fold
_FEW = 30
_FOLDS, _TREES, _SHUFFLES = 5, 100, 10
_GOOD, _POOR = 0.7, 0.3  # R2 on held-out trials


class Bar(NamedTuple):
    """One hyperparameter: the R2 lost when it is shuffled, and the least and most lost in a fold."""

    name: str
    drop: float
    low: float
    high: float


class Importance(NamedTuple):
    """The hyperparameters, the most important first; R2 of the forest on held-out trials; and both in words.

    Without a forest there are no bars, `r2` is None, and the words say why.
    """

    bars: list[Bar]
    r2: float | None
    words: str


def varied(table: "pl.DataFrame", names: Sequence[str]) -> list[str]:
    """Return the hyperparameters that differ between trials, without the seed."""
    return [name for name in names if name not in OVER and table[name].n_unique() > 1]


def importance(table: "pl.DataFrame", names: Sequence[str], metric: str) -> Importance:
    """Return the importance of each hyperparameter: the R2 lost on held-out settings when it is shuffled.

    A forest is grown on four fifths of the settings and tested on the fifth, five times; all seeds of a setting are in
    the same fifth, so that no setting is in both. Losses enter as logarithms, and far outliers on the worse side as in
    `hold`: else one trial that nearly diverged would make all of the variance. Trials without a finite metric are left
    out, and counted in the words.
    """
    numbers = np.array(numbered(names, table.select(names).rows()))
    y = np.array([math.nan if value is None else value for value in table[metric].to_list()], float)
    if not is_better_high(metric):
        y = np.where(y > 0, np.log10(np.where(y > 0, y, 1)), math.nan)
    kept = np.isfinite(y)
    table, numbers, y = table.filter(kept.tolist()), numbers[kept], y[kept]
    y = hold(y, is_better_high(metric))
    names = varied(table, names)
    left_out = f" {counted(int((~kept).sum()), 'trial')} without a finite value: left out." if not kept.all() else ""
    n_settings = len(set(numbers.tolist()))
    if n_settings < _FEWEST:
        too_few = f"{counted(n_settings, 'setting')} with a value: too few, {_FEWEST} are needed."
        return Importance([], None, too_few + left_out)
    if not names or np.ptp(y) == 0:
        return Importance([], None, f"All trials have the same value: no hyperparameter matters.{left_out}")
    r2, drops = _cross_validated(np.stack([_codes(table[name].to_list()) for name in names], 1), y, numbers)
    bars = [Bar(name, *map(float, (d.mean(), d.min(), d.max()))) for name, d in zip(names, drops.T, strict=True)]
    bars.sort(key=lambda bar: -bar.drop)
    return Importance(bars, r2, _words(r2, n_settings) + left_out)


def _cross_validated(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """Return R2 over all held-out trials, and the R2 lost by shuffling, [fold, hyperparameter]."""
    forests, inspection = optional("sklearn.ensemble", "sweep"), optional("sklearn.inspection", "sweep")
    folds = optional("sklearn.model_selection", "sweep").GroupKFold(_FOLDS)
    drops, errors = [], np.empty_like(y)
    for train, test in folds.split(x, y, groups):
        forest = forests.RandomForestRegressor(_TREES, random_state=0).fit(x[train], y[train])
        errors[test] = (forest.predict(x[test]) - y[test]) ** 2
        # Divided by the variance of all trials: that of a fold may be nearly 0.
        shuffled = inspection.permutation_importance(
            forest, x[test], y[test], scoring="neg_mean_squared_error", n_repeats=_SHUFFLES, random_state=0
        )
        drops.append(shuffled.importances_mean / y.var())
    return float(1 - errors.mean() / y.var()), np.stack(drops)


def _codes(values: list[Any]) -> np.ndarray:
    """Return numbers as they are, and other values as their places in alphabetical order."""
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([math.nan if value is None else value for value in values], float)
    places = {text: place for place, text in enumerate(sorted({str(value) for value in values}))}
    return np.array([places[str(value)] for value in values], float)


def _words(r2: float, n_settings: int) -> str:
    quality = "well" if r2 >= _GOOD else "fairly" if r2 >= _POOR else "poorly"
    rounded = math.floor(100 * r2) / 100  # down: 1.00 would promise too much
    words = f"A random forest predicts held-out settings {quality}: R² = {rounded:.2f}."
    if r2 < _POOR:
        words += " So the bars say little."
    if n_settings < _FEW:
        words += f" {n_settings} settings are few: in another sweep the order of the bars may differ."
    return words
