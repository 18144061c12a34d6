"""A search of hyperparameters in jaxmlp and in each of its peers, written as an experienced user of each writes it.

A `Peer`'s `start` returns a function that runs a `Search` to its end, refit left out, and returns the best mean score.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from experiments._timing import cores

__all__ = ["OURS", "PEERS", "SKLEARN", "Peer", "Run", "Search"]

OURS, SKLEARN = "jaxmlp", "scikit-learn"


class Search(NamedTuple):
    """The task of a peer.

    Attributes
    ----------
    x, y
        [N, d] in the dtype to train in, and N classes.
    hidden, batch_size, epochs
        The network, and how each fit trains. A search by halving gives `epochs` to its last rung at most.
    grid
        The values of each hyperparameter, by scikit-learn's names.
    folds
        Stratified, not shuffled.
    is_scaled
        Whether a `StandardScaler` is learned in each fit.
    n_candidates
        How many candidates a search by halving draws from the grid; 0 for a grid search.
    """

    x: np.ndarray
    y: np.ndarray
    hidden: tuple[int, ...]
    batch_size: int
    epochs: int
    grid: Mapping[str, tuple[float, ...]]
    folds: int
    is_scaled: bool = False
    n_candidates: int = 0

    def again(self, call: int) -> "Search":
        """Return a search of as many other networks: what a second call may be spared is compilation, not work."""
        rates = tuple(rate * 0.99**call for rate in self.grid["learning_rate_init"])
        return self._replace(grid={**self.grid, "learning_rate_init": rates})


Run: TypeAlias = Callable[[Search], float]


def run(search: Search, selection: Any, network: Any, names: Mapping[str, str], n_jobs: int | None) -> float:
    """Search by classes of scikit-learn's or with its interface; `names` are those of a network's hyperparameters."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    prefix = ""
    if search.is_scaled:
        prefix, network = f"{type(network).__name__.lower()}__", make_pipeline(StandardScaler(), network)
    grid = {prefix + names.get(name, name): list(values) for name, values in search.grid.items()}
    options: dict[str, Any] = {"cv": StratifiedKFold(search.folds), "refit": False, "n_jobs": n_jobs}
    if search.n_candidates:
        options |= {"n_candidates": search.n_candidates, "random_state": 0, "min_resources": 2}
        options |= {"resource": prefix + "max_iter", "max_resources": search.epochs}
        made = selection.HalvingRandomSearchCV(network, grid, **options)
    else:
        made = selection.GridSearchCV(network, grid, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that fits have not converged after these epochs
        return float(np.nanmax(made.fit(search.x, search.y).cv_results_["mean_test_score"]))


def of_sklearn(search: Search) -> dict[str, Any]:
    """Return the arguments of a perceptron that trains for all epochs."""
    return {
        "hidden_layer_sizes": search.hidden,
        "batch_size": search.batch_size,
        "max_iter": search.epochs,
        "tol": 0.0,
        "n_iter_no_change": 10**6,
        "random_state": 0,
    }


def start_jaxmlp() -> Run:
    from jaxmlp import estimators

    return lambda search: run(search, estimators, estimators.MLPClassifier(**of_sklearn(search)), {}, None)


def _silent_workers() -> None:
    """Let workers of joblib not warn, and end with this process: idle ones would wait for five minutes."""
    from joblib.externals.loky import get_reusable_executor

    os.environ["PYTHONWARNINGS"] = "ignore"
    Finalize(None, lambda: get_reusable_executor(reuse=True).shutdown(), exitpriority=100)


def start_sklearn() -> Run:
    from sklearn import model_selection
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.neural_network import MLPClassifier

    _silent_workers()
    return lambda search: run(search, model_selection, MLPClassifier(solver="sgd", **of_sklearn(search)), {}, cores())


def start_skorch() -> Run:
    from sklearn import model_selection
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401

    _silent_workers()
    names = {"learning_rate_init": "lr", "alpha": "optimizer__weight_decay", "momentum": "optimizer__momentum"}

    def search_in_float32(search: Search) -> float:
        search = search._replace(x=search.x.astype(np.float32))
        return run(search, model_selection, _skorch_network(search), names, cores())

    return search_in_float32


def _skorch_network(search: Search) -> Any:
    import torch
    from skorch import NeuralNetClassifier

    return NeuralNetClassifier(
        partial(_torch_module, (search.x.shape[1], *search.hidden, int(search.y.max()) + 1)),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__nesterov=True,
        batch_size=search.batch_size,
        iterator_train__shuffle=True,
        max_epochs=search.epochs,
        train_split=None,
        callbacks="disable",
        verbose=0,
    )


def _torch_module(sizes: tuple[int, ...]) -> Any:
    import torch
    from torch import nn

    torch.set_num_threads(1)  # a worker a core
    layers = [layer for n_in, n_out in pairwise(sizes) for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Peer(NamedTuple):
    """A row of the tables: its title, the modules it needs, and how it starts."""

    title: str
    modules: tuple[str, ...]
    start: Callable[[], Run]


PEERS = {
    OURS: Peer("jaxmlp", ("jaxmlp.estimators",), start_jaxmlp),
    SKLEARN: Peer("scikit-learn", ("sklearn.neural_network", "joblib"), start_sklearn),
    "skorch": Peer("skorch", ("skorch", "torch"), start_skorch),
}
