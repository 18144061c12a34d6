"""A backend of joblib that trains the networks of all tasks side by side, without a change to the code that makes them.

A task that comes to a fit of ours stops there, see `Task`, and the next one runs. When no task can go on, the fits of
all are trained as lanes of a few programs; then each task goes on with its own result. So all that a task does before
and after its fit is done by whoever wrote the task: how rows are split, prepared and scored, what errors become, which
callbacks are called, how metadata are routed.
"""

import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import accumulate
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

from joblib import cpu_count, parallel_config
from joblib.parallel import ParallelBackendBase
from sklearn.utils import check_random_state

from jaxmlp.estimators._fitting import Callback, Fitted, Interrupt, train
from jaxmlp.estimators._parts import n_threads
from jaxmlp.estimators._tasks import Request, Task
from jaxmlp.sweep.planning import free_main_memory
from jaxmlp.sweep.workers import in_same_mode

__all__ = ["SideBySide", "side_by_side"]

Answer: TypeAlias = list[Fitted] | Exception

# Of the tasks of a batch. Each keeps its copies of the data: of training and test rows, and scaled ones of a pipeline,
# two to three times the bytes of its x; and there are two batches at a time.
_MOST_TASKS, _SHARE_OF_MEMORY = 128, 1 / 16


def side_by_side() -> AbstractContextManager[Any]:
    """Return a context in which all that scikit-learn does in parallel trains its networks side by side.

    The networks of `MLPClassifier` and `MLPRegressor` become lanes of a few programs, on every core, in this process,
    also inside of pipelines and other estimators, and in searches inside of cross-validations. All other work is done
    in turn. Each fit equals the fit of the same estimator alone, but for rounding. `n_jobs` has no effect on a search.

    The time of a fit (`fit_time`, `mean_fit_time`) is its own work and its share of the training of all, by rows,
    parameters and epochs. What a verbose search prints while it runs counts the waiting, too.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from jaxmlp.estimators import MLPClassifier, side_by_side
    >>> network = MLPClassifier((8,), learning_rate_init=0.03, tol=0.01, random_state=1)
    >>> with side_by_side():
    ...     search = GridSearchCV(network, {"alpha": [30.0, 0.1]}).fit(*load_iris(return_X_y=True))
    >>> search.best_params_
    {'alpha': 0.1}
    """
    return parallel_config(backend=SideBySide())


class _Batch(NamedTuple):
    """Tasks that wait, and their answers."""

    tasks: deque[Task]
    answers: Future[list[tuple[Answer, float]]]


class SideBySide(ParallelBackendBase):
    """The backend of `side_by_side` for joblib."""

    supports_retrieve_callback = True  # results are handed over as tasks end
    supports_sharedmem = True
    uses_threads = True
    default_n_jobs = 2  # with one job joblib would run its tasks without a backend

    def __init__(self, nesting_level: int = 0, outer: Interrupt | None = None) -> None:
        """Make a backend without tasks; an interrupt of an outer search, whose task this serves, is one of its own."""
        super().__init__(nesting_level=nesting_level)
        self._tasks: deque[Task] = deque()
        self._outer, self._interrupt = outer, Interrupt(outer)
        self._failures: list[str] = []

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return into how many parts a caller should cut its work: as any other backend does."""
        if n_jobs is None:  # `Parallel` asks for `default_n_jobs` instead
            return 1
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Have a `Parallel` hand over all of its tasks before it asks for a result."""
        parallel.n_jobs, parallel.pre_dispatch = max(self.default_n_jobs, self.effective_n_jobs(n_jobs)), "all"
        return parallel.n_jobs

    def start_call(self) -> None:
        """Begin a call of a `Parallel`."""
        self._interrupt = Interrupt(self._outer)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Task:
        """Take a task; it runs when results are asked for."""
        self._tasks.append(Task(func, callback, self._interrupt))
        return self._tasks[-1]

    apply_async = submit  # its name before joblib 1.5

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Run all tasks; results are asked for in this context."""
        self._run()
        yield

    def retrieve_result_callback(self, out: Task) -> Any:
        """Return what a task has returned, or raise its error."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Drop the tasks that have not begun."""
        self._tasks.clear()

    def get_nested_backend(self) -> tuple["SideBySide", None]:
        """Return the backend for what a task does in parallel."""
        return SideBySide((self.nesting_level or 0) + 1, self._interrupt), None

    def _run(self) -> None:
        """Run all tasks; raise the error of the first that fails.

        While a batch of tasks waits for its training, the next batch begins, and the one before goes on to its end.
        """
        self._tasks = _by_rows(self._tasks)
        most_bytes = _SHARE_OF_MEMORY * free_main_memory()
        waiting: deque[Task] = deque()
        batches: deque[_Batch] = deque()
        with ThreadPoolExecutor(1) as trainer:
            try:
                while self._tasks or waiting or batches:
                    while self._tasks and not _is_full(waiting, most_bytes):
                        task = self._tasks.popleft()
                        task.begin()
                        _sort(task, waiting)
                    if waiting:
                        batches.append(self._batch(waiting, trainer))
                        waiting = deque()
                    if batches and (len(batches) > 1 or not self._tasks):
                        for answer, seconds in batches[0].answers.result():
                            task = batches[0].tasks.popleft()
                            task.go_on(answer, seconds)
                            _sort(task, waiting)
                        batches.popleft()
            finally:
                self._interrupt.set()
                trainer.shutdown(cancel_futures=True)
                for task in (*waiting, *(task for batch in batches for task in batch.tasks)):
                    task.end()
        for failure in self._failures:
            warnings.warn(
                f"could not train side by side, so trained one by one: {failure}", RuntimeWarning, stacklevel=2
            )
        self._failures.clear()

    def _batch(self, tasks: deque[Task], trainer: ThreadPoolExecutor) -> _Batch:
        """Train what some tasks wait for; in another thread, if neither callbacks nor random numbers depend on that."""
        requests = [task.request for task in tasks if task.request is not None]
        answer = in_same_mode(partial(self._answers, requests))
        everybodys = check_random_state(None)
        if all(
            request.callback is None and all(each.random_state is not everybodys for each in request.problems)
            for request in requests
        ):
            return _Batch(tasks, trainer.submit(answer))
        answers: Future[list[tuple[Answer, float]]] = Future()
        answers.set_result(answer())
        return _Batch(tasks, answers)

    def _answers(self, requests: Sequence[Request]) -> list[tuple[Answer, float]]:
        """Return the answer to each request, and its share of the time."""
        since = perf_counter()
        answers = self._trained(requests)
        work = [_work(*pair) for pair in zip(requests, answers, strict=True)]
        seconds = (perf_counter() - since) / max(sum(work), 1.0)
        return [(answer, seconds * of_one) for answer, of_one in zip(answers, work, strict=True)]

    def _trained(self, requests: Sequence[Request]) -> list[Answer]:
        """Train the problems of all requests together; if that fails, those of each request alone."""
        problems = [problem for request in requests for problem in request.problems]
        states = [problem.random_state.get_state(legacy=False) for problem in problems]
        try:
            fitted = train(problems, _callback(requests), self._interrupt)
        except Exception as error:
            if len(requests) == 1:
                return [error]
            self._failures.append(f"{len(requests)} fits, with a {type(error).__name__}: {error}")
            for problem, state in zip(problems, states, strict=True):
                problem.random_state.set_state(state)
            return [answer for request in requests for answer in self._trained([request])]
        if self._interrupt.is_set:
            raise KeyboardInterrupt
        results = iter(fitted)
        return [[next(results) for _ in request.problems] for request in requests]


def _callback(requests: Sequence[Request]) -> Callback | None:
    """Return a callback for all problems that calls those of the requests."""
    if all(request.callback is None for request in requests):
        return None
    ends = list(accumulate(len(request.problems) for request in requests))

    def callback(states: Mapping[int, Callable[[], Fitted]]) -> Collection[int]:
        stopped: list[int] = []
        for request, end in zip(requests, ends, strict=True):
            first = end - len(request.problems)
            of_request = {number - first: state for number, state in states.items() if first <= number < end}
            if request.callback is not None and of_request:
                stopped += [first + i for i in request.callback(of_request)]
        return stopped

    return callback


def _sort(task: Task, waiting: deque[Task]) -> None:
    """Queue a task that waits, hand over the result of one that has ended, or raise its error."""
    if task.request is not None:
        waiting.append(task)
    elif task.error is not None:
        raise task.error
    elif task.callback is not None:
        task.callback(task)


def _by_rows(tasks: deque[Task]) -> deque[Task]:
    """Return the tasks with those on the same training rows together: their networks share products."""
    first: dict[int, int] = {}
    for place, task in enumerate(tasks):
        first.setdefault(id(task.rows), place)
    return deque(sorted(tasks, key=lambda task: first[id(task.rows)]))


def _is_full(waiting: deque[Task], most_bytes: float) -> bool:
    requests = [task.request for task in waiting if task.request is not None]
    n_bytes = sum(problem.x.nbytes for request in requests for problem in request.problems[:1])
    return len(requests) >= _MOST_TASKS or (n_bytes > most_bytes and len(requests) >= n_threads())


def _work(request: Request, answer: Answer) -> float:
    """Return in how many steps of how many numbers a request was answered, 0 if it failed."""
    if isinstance(answer, Exception):
        return 0.0
    pairs = zip(request.problems, answer, strict=True)
    return sum(each.progress.n_iter * len(problem.x) * problem.settings.mlp.n_parameters for problem, each in pairs)
