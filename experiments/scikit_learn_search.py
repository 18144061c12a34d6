"""A grid search of scikit-learn, and the same search with its two imports swapped: seconds, and the scores of both.

    python -m experiments.scikit_learn_search

`pip install ".[sklearn,cli]"`. The grid has 32 learning rates and decays of a perceptron on digits, 5 folds each, which
a pipeline scales. scikit-learn uses every core too; its first search starts its workers, and ours compiles.
"""

import os
import time
import warnings
from typing import Any

import numpy as np
import sklearn.model_selection
import sklearn.neural_network
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import jaxmlp.estimators as ours
from experiments._report import RESULTS, environment, print_table, write_json

GRID = {"mlpclassifier__learning_rate_init": np.geomspace(0.003, 0.3, 8), "mlpclassifier__alpha": [0.01, 0.1, 1, 10]}
SIDES = {"jaxmlp": (ours, ours), "scikit-learn": (sklearn.model_selection, sklearn.neural_network)}


def search(selection: Any, networks: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    network = networks.MLPClassifier((64,), solver="sgd", max_iter=30, random_state=0)
    fitted = selection.GridSearchCV(make_pipeline(StandardScaler(), network), GRID, n_jobs=-1)
    fitted.fit(*load_digits(return_X_y=True))
    return time.perf_counter() - began, fitted.cv_results_["mean_test_score"]


def main() -> None:
    os.environ["PYTHONWARNINGS"] = "ignore"  # in workers, where 30 epochs are no convergence
    warnings.simplefilter("ignore")  # and here
    found = {name: [search(*side) for _ in range(3)] for name, side in SIDES.items()}
    seconds = {name: [taken for taken, _ in searches] for name, searches in found.items()}
    scores = {name: searches[0][1] for name, searches in found.items()}
    rows = [[name, *(f"{taken:.1f} s" for taken in seconds[name]), f"{scores[name].max():.2%}"] for name in SIDES]
    print_table("GridSearchCV, 160 fits", ["", "first", "second", "third", "best accuracy"], rows)
    values = {"seconds": seconds, "scores": {name: list(each) for name, each in scores.items()}}
    write_json("scikit_learn_search", {"environment": environment("scikit-learn"), **values})
    figure = Figure(figsize=(7, 3), layout="constrained")
    times, accuracies = figure.subplots(1, 2)
    times.barh(list(SIDES), [np.median(seconds[name]) for name in SIDES], color=["C0", "C1"])
    times.set(xlabel="seconds, median of three searches")
    accuracies.plot(scores["scikit-learn"], scores["jaxmlp"], "o", mfc="none")
    accuracies.axline((0.9, 0.9), slope=1, color="0.8", zorder=0)
    accuracies.set(xlabel="accuracy of a candidate, scikit-learn", ylabel="jaxmlp")
    figure.savefig(RESULTS / "scikit_learn_search.png", dpi=200)


if __name__ == "__main__":
    main()
