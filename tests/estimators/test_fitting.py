"""The engine: problems side by side are what they are alone, and what scikit-learn makes of them."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from jaxmlp import MLP
from jaxmlp.data import Expansion
from jaxmlp.estimators import _fitting, _group, _parts
from jaxmlp.estimators._fitting import Control, Problem, Settings, Validation, fit_problems, initial
from jaxmlp.estimators._program import run_epoch
from jaxmlp.network import Layer

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

X, Y = load_digits(return_X_y=True)
X = X[:300] / 15  # which float32 rounds
Y = Y[:300]
SIZES = (64, 12, 10)


def problem(seed: int = 0, schedule: str = "constant", rate: float = 0.05, max_iter: int = 3, **changes) -> Problem:
    random_state = np.random.RandomState(seed)
    layers = [Layer(random_state.uniform(-0.3, 0.3, (n_out, n_in)), np.zeros(n_out)) for n_in, n_out in pairwise(SIZES)]
    control = Control(learning_rate_init=rate, schedule=schedule, max_iter=max_iter)
    start = initial(tuple(layers), rate)
    return Problem(Settings(MLP(SIZES), batch_size=64), X, Y, start, random_state, control)._replace(**changes)


def accuracy(rows: np.ndarray):
    return lambda outputs: float(np.mean(outputs.argmax(1) == Y[rows]))


FOLD = np.arange(300) % 4 != 0
PART = Validation(np.flatnonzero(~FOLD), accuracy(np.flatnonzero(~FOLD)))


def passing(columns: np.ndarray) -> Expansion:
    nothing = np.zeros(0, int)
    return Expansion(columns, np.zeros(len(columns), bool), nothing, nothing * 1.0, nothing * 1.0, nothing, nothing)


# Eight problems that see the same batches, and some of them alone, are two programs for most of these.
DIFFERENT = {
    "numbers": lambda: [
        *[problem(rate=rate) for rate in (0.001, 0.1)],
        *[problem(alpha=alpha, momentum=alpha) for alpha in (0.0, 0.3)],
        *[problem(schedule=name, max_iter=4) for name in ("invscaling", "cosine", "step")],
        problem(schedule="adaptive", max_iter=8),
        problem(max_iter=1),
    ],
    "clip": lambda: [problem(clip=clip) for clip in (0.1, 1.0, None)],
    "seeds": lambda: [problem(seed) for seed in range(3)],
    "rows": lambda: [
        *[problem(rows=np.flatnonzero(np.arange(300) % 5 != fold)) for fold in range(2)],
        *[problem(rows=np.arange(n)) for n in (192, 193, 20)],
    ],
    "weights": lambda: [
        *[problem(weights=np.linspace(0, high, 300)) for high in (1, 2)],
        problem(weights=np.repeat([1.0, 0.0, 2.0], 100)),
        problem(weights=np.repeat([1.0, 0.0, 2.0], 100), settings=Settings(MLP(SIZES), 64, shuffle=False)),
        problem(),
    ],
    "validation": lambda: [
        problem(rate=rate, max_iter=8, rows=np.flatnonzero(FOLD), validation=PART) for rate in (0.01, 3.0)
    ],
    "validation rows": lambda: [
        problem(rows=np.flatnonzero(FOLD), validation=Validation(rows, accuracy(rows)))
        for rows in (PART.rows, PART.rows[:40])
    ],
    "targets": lambda: [problem(targets=targets) for targets in (Y, (Y + 1) % 10)],
    "expansion": lambda: [problem(expansion=passing(np.arange(64)[::step])) for step in (1, -1)],
    "dtypes": lambda: [problem(settings=Settings(MLP(SIZES), 64, dtype=name)) for name in ("float32", "float64")],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_problems_side_by_side_are_what_they_are_alone(what, monkeypatch):
    monkeypatch.setattr(_fitting, "n_threads", lambda: 1)  # all that can be lanes of one program are
    together = fit_problems(DIFFERENT[what]())
    alone = [fit_problems([each])[0] for each in DIFFERENT[what]()]
    for one, other in zip(together, alone, strict=True):
        assert one.progress.status == other.progress.status
        # Products of lanes sum in another order: some roundings of numbers of size 1, grown over the steps.
        rounding = 1e4 * np.finfo(one.params[0].w.dtype).eps
        results = [(each._replace(progress=()), each.progress[:-1]) for each in (one, other)]
        jax.tree.map(lambda a, b, at=rounding: np.testing.assert_allclose(a, b, rtol=0, atol=at), *results)
    different = [np.append(each.params[0].w, each.progress.validation_losses) for each in together]
    assert all(np.any(one != different[0]) for one in different[1:] if one.dtype == different[0].dtype)


def test_a_random_state_is_left_as_the_problem_alone_leaves_it():
    together, alone = DIFFERENT["numbers"](), DIFFERENT["numbers"]()
    fit_problems(together)
    for one, other in zip(together, alone, strict=True):
        fit_problems([other])
        assert one.random_state.randint(2**31) == other.random_state.randint(2**31)


def test_the_longest_of_several_fits_leaves_a_common_random_state():
    common, alone = np.random.RandomState(3), np.random.RandomState(3)
    fit_problems([problem(random_state=common, max_iter=n, alpha=n) for n in (1, 5, 2)])
    fit_problems([problem(random_state=alone, max_iter=5)])
    assert common.randint(2**31) == alone.randint(2**31)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_parts_are_all_problems_once_and_those_of_a_kind_share_a_program(kinds, n_threads):
    wide = Settings(MLP((64, 300, 10)), 64)
    problems = [
        problem(seed, max_iter=n, settings=wide if width == 1 else Settings(MLP(SIZES), 64)) for seed, width, n in kinds
    ]
    dealt = _parts.parts(problems, n_threads)
    assert sorted(i for part in dealt for i in part.numbers) == list(range(len(kinds)))
    for part in dealt:
        assert len({kinds[i][:2] for i in part.numbers}) == 1
    for width in {width for _, width, _ in kinds}:
        of_kind = [part for part in dealt if kinds[part.numbers[0]][1] == width]
        (n_lanes,) = {part.n_lanes for part in of_kind}
        n_problems = sum(len(part.numbers) for part in of_kind)
        assert n_lanes <= -(-n_problems // n_threads)  # no thread has more than its share in one block
        if width == 1:
            assert n_lanes == 1  # 20,000 numbers of 8 bytes keep a core busy
    if n_threads == 1:
        assert len(dealt) == len({kind[:2] for kind in kinds})


def test_equal_copies_of_x_become_one_object():
    similar = X.copy()
    similar[1, 2] += 1
    copies = [X, X.copy(), X + 1, X[:100].copy(), X[:100] * 1.0, X.astype(np.float32), similar]
    shared = [each.x for each in _parts.sharing_x([problem(x=x) for x in copies])]
    assert [next(i for i, x in enumerate(shared) if x is each) for each in shared] == [0, 0, 2, 3, 3, 5, 6]
    for one, other in zip(shared, copies, strict=True):
        np.testing.assert_array_equal(one, other)


def test_folds_of_similar_length_and_problems_that_stop_share_one_program():
    fit_problems([problem(rows=np.arange(190), alpha=alpha) for alpha in (0.1, 0.2)])
    n_programs = run_epoch._cache_size()
    fit_problems([problem(rows=np.arange(191), max_iter=n, clip=None) for n in (1, 3)])
    assert run_epoch._cache_size() == n_programs


def test_a_row_that_is_not_in_a_batch_does_not_spoil_it():
    x = X.copy()
    x[0] = np.inf
    (fitted,) = fit_problems([problem(x=x, rows=np.arange(1, 300))])
    assert np.isfinite(fitted.params[0].w).all()


def test_a_network_that_diverges_ends_there_and_leaves_its_neighbours_alone():
    diverged, other = fit_problems([problem(rate=1e200), problem()])
    assert diverged.progress.status == "diverged"
    assert diverged.progress.n_iter < 3
    assert other.progress.losses == pytest.approx(fit_problems([problem()])[0].progress.losses, rel=1e-12)


def test_an_infinite_loss_is_no_divergence_while_weights_are_finite(monkeypatch):
    """Also beside a network that diverges: the square of 1e25 is infinite in float32, its derivative is not."""
    monkeypatch.setattr(_fitting, "n_threads", lambda: 1)  # both are lanes of one program
    settings = Settings(MLP((64, 1), "relu", "identity", "quadratic"), 64, dtype="float32")
    layers = (Layer(np.zeros((1, 64), np.float32), np.zeros(1, np.float32)),)
    targets = np.full(300, 1e25)
    tiny, diverged = fit_problems(
        [
            problem(settings=settings, targets=targets, start=initial(layers, rate), rate=rate, max_iter=2)
            for rate in (1e-30, 1e30)
        ]
    )
    assert (tiny.progress.status, diverged.progress.status) == ("max_iter", "diverged")
    assert not np.isfinite(tiny.progress.losses).any()


def test_an_error_in_one_of_several_threads_is_raised(monkeypatch):
    def failing(*_args):
        raise MemoryError("is full")

    monkeypatch.setattr(_fitting, "n_threads", lambda: 2)
    monkeypatch.setattr(_group, "run_epoch", failing)
    with pytest.raises(MemoryError, match="is full"):
        fit_problems([problem(seed) for seed in range(4)])


def test_a_callback_sees_every_epoch_and_can_stop_a_fit():
    seen = []

    def stop_second(states):
        seen.extend((number, state().progress.n_iter) for number, state in states.items())
        return [1]

    others = problem(rate=0.1), problem(rate=0.2), problem(seed=5, max_iter=2)  # the last one is a group of its own
    first, second, third = fit_problems(others, stop_second)
    assert sorted(seen) == [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2)]
    assert [each.progress.status for each in (first, second, third)] == ["max_iter", "stopped", "max_iter"]
    (alone,) = fit_problems([problem(rate=0.2, max_iter=1)])
    np.testing.assert_allclose(second.params[0].w, alone.params[0].w, rtol=0, atol=1e-12)


def test_an_interrupt_keeps_the_last_complete_epoch_of_every_problem():
    def interrupt(states):
        if states[1]().progress.n_iter == 2:
            raise KeyboardInterrupt
        return ()

    problems = [problem(rate=0.1), problem(rate=0.2), problem(seed=5)]
    fitted = fit_problems(problems, interrupt)
    assert [each.progress.status for each in fitted] == ["interrupted"] * 3
    assert [each.progress.n_iter for each in fitted] == [1, 1, 0]
    drawing = problem(max_iter=2)  # the interrupted epoch has drawn its order
    fit_problems([drawing])
    assert problems[0].random_state.randint(2**31) == drawing.random_state.randint(2**31)
    (alone,) = fit_problems([problem(rate=0.1, max_iter=1)])
    np.testing.assert_allclose(fitted[0].params[0].w, alone.params[0].w, rtol=0, atol=1e-12)
