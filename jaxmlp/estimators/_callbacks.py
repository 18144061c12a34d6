"""What a fit tells after each of its epochs: to scikit-learn's callbacks, which came with version 1.9, and as text."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from sklearn.base import BaseEstimator

from jaxmlp.estimators._fitting import Fitted
from jaxmlp.estimators._results import attributes_of

__all__ = ["FRAMES", "CallbackSupportMixin", "Reports", "with_callbacks"]

FRAMES = 1
"""The calls on the stack between a user and `fit`: that of `with_callbacks`, if there is one."""

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:
    FRAMES = 0
    Method = TypeVar("Method", bound=Callable[..., Any])

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for the mixin that older versions do not have."""

    def with_callbacks(method: Method) -> Method:
        """Return the method as it is."""
        return method


class Reports:
    """Calls the callbacks of an estimator, and prints if it is verbose, while its networks are trained.

    Each epoch is a task of its own, in which `fitted_estimator` is what the fit would be if it ended there.
    """

    def __init__(self, estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any) -> None:
        """Take an estimator, and what its `fit` was given; call `on_fit_task_begin`."""
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given: dict[str, Any] = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._is_verbose = bool(estimator.verbose)
        self._states: dict[int, Callable[[], Fitted]] = {}
        self._fit: Any = None
        self._epoch: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self._fit = estimator._init_callback_context(max_subtasks=estimator.max_iter)
            self._fit.call_on_fit_task_begin(**self._given)
            if getattr(estimator, "_skl_callbacks", ()):
                self._begin_epoch()

    @property
    def after_epoch(self) -> Callable[[Mapping[int, Callable[[], Fitted]]], Collection[int]] | None:
        """Return the callback of `fit_problems`; None if there is nothing to tell."""
        return self._after_epoch if self._is_verbose or self._epoch is not None else None

    def after_fit(self) -> None:
        """Tell that the estimator is fitted."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._given, reconstruction_attributes={})

    def _after_epoch(self, states: Mapping[int, Callable[[], Fitted]]) -> Collection[int]:
        """Report an epoch, and return the numbers of the networks that must stop."""
        self._states |= states
        fitted = [state() for state in self._states.values()]
        is_over = all(each.progress.status != "running" for each in fitted)
        attributes = attributes_of(fitted)
        if self._is_verbose:
            print(_line(attributes))
        if self._epoch is not None:
            if self._epoch.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes):
                return list(states)
            if not is_over:
                self._begin_epoch()
        return ()

    def _begin_epoch(self) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._given)


def _line(attributes: Mapping[str, Any]) -> str:
    line = f"epoch {attributes['n_iter_']}: loss {attributes['loss_']:.6g}"
    if attributes["validation_scores_"]:
        line += f", validation score {attributes['validation_scores_'][-1]:.6g}"
    return line
