"""Results that no training made, so that a test knows what is right."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest

from jaxmlp import MLP, TrainConfig, sgd, sweep
from jaxmlp.sweep.metrics import REPORTED
from jaxmlp.sweep.space import trials
from jaxmlp.sweep.store import Store
from jaxmlp.training.history import Epoch, Evaluation, Trained

Outcome = Mapping[str, Any]


def make_results(
    space: sweep.Space,
    outcomes: Mapping[int, Outcome],
    metric: str = "validation_accuracy",
    config: TrainConfig | None = None,
) -> sweep.Results:
    """Return results in memory in which a trial's curve is flat: every epoch has the metrics of its outcome.

    An outcome may have a status, its epochs and its best epoch beside metrics.
    """
    config, mlp = config or TrainConfig(epochs=3), MLP((2, 4, 2))
    identity = {
        "names": space.names,
        "rows": space.rows,
        "config": asdict(config),
        "mlp": asdict(mlp),
        "metric": metric,
        "validation": "made up",
        "folds": None,
        "halving": None,
        "encoding": None,
        "about": {},
    }
    store = Store.create(None, identity)
    trained = {}
    for number, outcome in outcomes.items():
        status, n = outcome.get("status", "finished"), outcome.get("epochs", config.epochs)
        scores = [outcome.get(name) for name in ("validation_loss", "validation_accuracy", "validation_r2")]
        curve = [Epoch(e + 1, 0.1, outcome.get("train_loss", 1.0), *scores, 0.5) for e in range(n)]
        best_epoch = outcome.get("best_epoch", n - (status == "diverged"))
        test = Evaluation(*(outcome.get(name) for name in REPORTED))
        trained[number] = Trained((), sgd.State(()), tuple(curve), (), best_epoch, status, test)
    store.commit(trained)
    return sweep.Results(store, trials(space, mlp, config))


@pytest.fixture
def results_of() -> Callable[..., sweep.Results]:
    """Give a test `make_results`."""
    return make_results
