"""The attributes of a fitted estimator, as NumPy arrays and numbers, and the warnings about its fit."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from jaxmlp.estimators._fitting import Fitted, Progress, initial
from jaxmlp.network import Layer, Params

__all__ = ["attributes_of", "check_finite", "continued", "networks_of", "params_of", "warn_of_end"]


def attributes_of(fitted: Sequence[Fitted]) -> dict[str, Any]:
    """Return the attributes that the fits of one or more networks give to an estimator.

    Arrays of several networks have a leading axis; numbers and curves are means over the networks.
    """
    progresses = [each.progress for each in fitted]
    curve = _mean_curve([progress.losses for progress in progresses])
    attributes: dict[str, Any] = {
        "coefs_": [_stacked([layer.w.T for layer in layers]) for layers in _by_layer(fitted)],
        "intercepts_": [_stacked([layer.b for layer in layers]) for layers in _by_layer(fitted)],
        "n_layers_": len(fitted[0].params) + 1,
        "n_outputs_": len(fitted[0].params[-1].b),
        "n_iter_": max(progress.n_iter for progress in progresses),
        "t_": max(progress.n_examples for progress in progresses),
        "loss_": curve[-1] if curve else None,
        "loss_curve_": curve,
        "best_loss_": _mean([progress.best_loss for progress in progresses]),
        "validation_scores_": None,
        "validation_loss_curve_": None,
        "best_validation_score_": None,
        # What a further fit goes on from; plain values, so that no class of ours is in a saved estimator.
        "_progress": [progress._asdict() for progress in progresses],
        "_dw": [[tuple(layer) for layer in each.dw] for each in fitted],
    }
    if progresses[0].validation_scores:
        attributes |= {
            "best_loss_": None,
            "validation_scores_": _mean_curve([progress.validation_scores for progress in progresses]),
            "validation_loss_curve_": _mean_curve([progress.validation_losses for progress in progresses]),
            "best_validation_score_": _mean([progress.best_score for progress in progresses]),
        }
    return attributes


def params_of(coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]) -> Params:
    """Return coefficients [..., n_in, n_out] and intercepts [..., n_out] as the parameters of this library.

    >>> params_of([np.ones((4, 3))], [np.ones(3)])[0].w.shape
    (3, 4)
    """
    layers: Any = zip(coefs, intercepts, strict=True)
    return tuple(Layer(np.swapaxes(coef, -1, -2), intercept) for coef, intercept in layers)


def networks_of(params: Params) -> list[Params]:
    """Return the parameters of each network, of one or of several with a leading axis."""
    if params[0].b.ndim == 1:
        return [params]
    return [tuple(Layer(w[k], b[k]) for w, b in params) for k in range(len(params[0].b))]


def continued(
    networks: Sequence[Params], progresses: Sequence[dict[str, Any]], dw: Sequence[Any], learning_rate: float | None
) -> list[Fitted]:
    """Return the state that each network goes on from.

    With a learning rate a new fit begins, whose last step is 0; with None the last one goes on.
    """
    states = []
    for params, kept, last in zip(networks, progresses, dw, strict=True):
        progress = Progress(**kept)._replace(n_iter=0, status="running")
        state = initial(params, 0.0 if learning_rate is None else learning_rate)
        if learning_rate is None:
            state = state._replace(dw=tuple(map(Layer._make, last)))
        else:
            progress = progress._replace(learning_rate=learning_rate)
        states.append(state._replace(progress=progress))
    return states


def check_finite(fitted: Sequence[Fitted], learning_rate_init: float) -> None:
    """Raise a ValueError if a parameter is not finite."""
    for each in fitted:
        if not all(np.isfinite(array).all() for layer in each.params for array in layer):
            raise ValueError(
                f"training diverged: a weight is not finite after {each.progress.n_iter} epochs; scale the columns of "
                f"X, or lower learning_rate_init, {learning_rate_init}"
            )


def warn_of_end(fitted: Sequence[Fitted], tol: float, stacklevel: int) -> None:
    """Warn of a fit that ended before its loss, or validation score, had settled."""
    statuses = {each.progress.status for each in fitted}
    n_iter = max(each.progress.n_iter for each in fitted)
    reasons = {
        "interrupted": f"training was interrupted after {n_iter} epochs",
        "diverged": f"training diverged after {n_iter} epochs: the weights of the best epoch are kept",
        "max_iter": f"training ended at max_iter={n_iter} epochs, not yet converged to tol={tol}: raise max_iter",
    }
    for status, reason in reasons.items():
        if status in statuses:
            warnings.warn(reason, UserWarning if status == "interrupted" else ConvergenceWarning, stacklevel=stacklevel)
            return


def _by_layer(fitted: Sequence[Fitted]) -> list[tuple[Any, ...]]:
    return list(zip(*(each.params for each in fitted), strict=True))


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.stack(arrays)


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers))


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of several networks' curves; one that ended earlier keeps its last value."""
    longest = max(map(len, curves))
    return [_mean([curve[min(epoch, len(curve) - 1)] for curve in curves]) for epoch in range(longest)]
