"""Tasks that stop at each fit of ours until somebody has the result, and let others run meanwhile."""

import contextvars
import threading
import warnings
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from jaxmlp.estimators._fitting import TRAINER, Callback, Fitted, Interrupt, Problem, train

__all__ = ["Request", "Task"]


class Request(NamedTuple):
    """What a task waits for: the arguments of `fit_problems`."""

    problems: Sequence[Problem]
    callback: Callback | None


class _Ended(BaseException):
    """Ends a task that waits for a result which nobody will make."""


class Task:
    """A call in a thread of its own, which runs only while `go_on` waits for it.

    Attributes
    ----------
    rows
        An object that tasks of scikit-learn with the same training rows have in common.
    request
        What the task waits for; None before it has begun and after it has ended.
    error
        What the call has raised.
    """

    def __init__(self, call: Callable[[], Any], callback: Callable[[Any], object] | None, interrupt: Interrupt) -> None:
        """Take a call, a function to be called with this task by whoever sees that it has ended, and what ends it."""
        self.rows = _training_rows(call)
        self.request: Request | None = None
        self.error: BaseException | None = None
        self.callback = callback
        self._interrupt = interrupt
        self._call: Callable[[], Any] | None = call
        self._result: Any = None
        self._thread: threading.Thread | None = None
        self._turn, self._stop = threading.Semaphore(0), threading.Semaphore(0)
        self._answer: list[Fitted] | BaseException = []
        self._seconds_waited = 0.0

    def begin(self) -> None:
        """Run until the call has returned, or waits for a request."""
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), daemon=True)
        self._until_stop(self._thread.start)

    def go_on(self, answer: list[Fitted] | BaseException, seconds: float = 0.0) -> None:
        """Go on with an answer to the request, which is returned or raised there; it took so many seconds to make."""
        self._answer = answer
        self._seconds_waited -= seconds
        self._until_stop(self._turn.release)

    def end(self) -> None:
        """End the call where it waits."""
        while self.request is not None:
            self.go_on(_Ended())

    def result(self) -> Any:
        """Return what the call has returned, or raise its error."""
        if self.error is not None:
            raise self.error
        return _without_waiting(self._result, self._seconds_waited)

    def _until_stop(self, wake: Callable[[], object]) -> None:
        # A task changes the warning filters of the whole process, and leaves them changed while it waits.
        with warnings.catch_warnings():
            wake()
            try:
                self._stop.acquire()
            except BaseException:
                # No thread can be ended from outside: end what it trains, and let it come to its next stop.
                self._interrupt.set()
                self._stop.acquire()
                raise

    def _run(self) -> None:
        TRAINER.set(self._wait)
        assert self._call is not None
        try:
            self._result = self._call()
        except _Ended:
            pass
        except BaseException as error:
            self.error = error
        self._call = None  # with all of its arguments
        self._stop.release()

    def _wait(self, problems: Sequence[Problem], callback: Callback | None) -> list[Fitted]:
        """Answer a call of `fit_problems`: stop, and return what `go_on` is given."""
        if threading.current_thread() is not self._thread:  # one that the task has started
            return train(problems, callback)
        self.request, since = Request(problems, callback), perf_counter()
        with warnings.catch_warnings():
            self._stop.release()
            self._turn.acquire()
        self.request = None
        self._seconds_waited += perf_counter() - since
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


def _training_rows(call: Any) -> object:
    """Return what scikit-learn's tasks have as the argument `train`; the call itself if it is of another kind."""
    calls = getattr(call, "items", ())
    return next((arguments["train"] for _, _, arguments in calls if "train" in arguments), call)


def _without_waiting(results: Any, seconds: float) -> Any:
    """Return a batch of results in which no `fit_time`, as scikit-learn's tasks return it, counts the waiting."""
    if seconds == 0 or not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], dict):
        return results
    fit_time = results[0].get("fit_time")
    return [{**results[0], "fit_time": fit_time - seconds}] if isinstance(fit_time, float) else results
