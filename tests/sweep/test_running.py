"""A trial is the training run that it stands for, whoever it runs beside, and however it ends."""

import gc
import io
import re
import signal
import warnings
from functools import partial
from itertools import chain, repeat
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import MLP, Dataset, TrainConfig, sweep, train
from jaxmlp.data import prepare, read
from jaxmlp.sweep import block, lanes, progress, running
from jaxmlp.sweep.job import Parts
from jaxmlp.sweep.progress import Progress
from jaxmlp.sweep.store import Row, is_cut_short
from jaxmlp.training.examples import expanded

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 6)).astype(np.float32)
T = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0)
DATA, VALIDATION = Dataset(X[:150], T[:150]), Dataset(X[150:], T[150:])
VALUES = Dataset(X[:150], X[:150, :2] * 2 + X[:150, 2:4] ** 2)
CONFIG = TrainConfig(epochs=4, batch_size=16)
SEEDS = sweep.grid(seed=[0, 1])


def trained_alone(results, number, data=DATA, validation=VALIDATION):
    trial = results.trial(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of divergence
        return train(trial.mlp, data, trial.config, key=jax.random.key(trial.seed), validation=validation)


def without_time(history):
    return [epoch._replace(seconds=0.0) for epoch in history]


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def distance(one, other):
    gaps = jax.tree.map(lambda a, b: np.sum((np.asarray(a, float) - np.asarray(b, float)) ** 2), one, other)
    return jax.tree.reduce(lambda a, b: a + b, gaps) ** 0.5


def random_space(draw):
    return sweep.random(
        5,
        draw=draw,
        learning_rate=sweep.log_uniform(1e-3, 2),
        momentum=sweep.uniform(0, 0.95),
        weight_decay=sweep.log_uniform(1e-4, 1e-1),
        init_scale=sweep.uniform(0.5, 2),
        clip=sweep.log_uniform(0.1, 10),
        schedule=["cosine", "constant", "step"],
        warmup_epochs=[0, 1.5],
        patience=[None, 1],
        nesterov=[False, True],
        seed=range(3),
    )


@pytest.mark.parametrize("draw", [0, 1])
def test_a_trial_alone_in_its_chunk_equals_train_to_the_last_bit(draw):
    results = sweep.run(
        random_space(draw), DATA, CONFIG, mlp=MLP((6, 7, 3)), validation=VALIDATION, keep="all", lanes=1
    )
    rows = results.rows()
    for number in range(len(results)):
        alone = trained_alone(results, number)
        assert_same_bits(results.params(number), alone.params)
        assert without_time(results.history(number)) == without_time(alone.history)
        assert rows[number].status == alone.status
        assert rows[number].best_epoch == alone.best_epoch


@pytest.mark.parametrize(
    ("data", "base", "config"),
    [
        (VALUES, MLP((6, 5, 2), "tanh", "identity", "quadratic"), CONFIG),
        (Dataset(X[:150], T[:150], weights="balanced"), MLP((6, 4, 5, 3), ("gelu", "tanh")), CONFIG),
        (
            Dataset(X[:150], (X[:150, :2] > 0).astype(float)),
            MLP((6, 5, 2), "silu", "sigmoid", "binary_cross_entropy"),
            TrainConfig(
                epochs=2, batch_size=30, clip=0.5, track=("norms", "noise_scale", "variance", "clipped", "curvature")
            ),
        ),
    ],
)
def test_a_trial_alone_equals_train_with_real_values_weights_labels_and_tracking(data, base, config):
    space = sweep.grid(learning_rate=[0.01, 0.1], seed=[3, 4])
    results = sweep.run(space, data, config, mlp=base, validation=data, keep="all", lanes=1)
    for number in range(4):
        alone = trained_alone(results, number, data, data)
        assert_same_bits(results.params(number), alone.params)
        assert without_time(results.history(number)) == without_time(alone.history)


@pytest.mark.parametrize("axes", [{"seed": range(2)}, {"seed": range(12)}])
def test_a_trial_beside_others_is_as_near_to_float64_as_train(axes):
    """The bound on what lanes change: as training carries rounding on, so does it carry on the rounding of lanes."""
    space = sweep.grid(learning_rate=[0.01, 0.3], momentum=[0.0, 0.9], hidden=[(7,)], **axes)
    options = {"config": TrainConfig(epochs=8, batch_size=16), "keep": "all"}
    side_by_side = sweep.run(space, DATA, **options)
    assert sweep.plan(space, DATA, options["config"]).groups[0].n_lanes > 1
    alone = sweep.run(space, DATA, **options, lanes=1)
    with jax.enable_x64(True):
        exact = sweep.run(space, Dataset(X[:150].astype(float), T[:150]), **options, lanes=1)
        assert exact.params(0)[0].w.dtype == np.float64
        for number in range(len(space)):
            limit = distance(alone.params(number), exact.params(number))
            size = distance(exact.params(number), jax.tree.map(np.zeros_like, exact.params(number)))
            # One rounding of every parameter is there in any case.
            room = 2 * limit + np.finfo(np.float32).eps * size
            assert distance(side_by_side.params(number), exact.params(number)) <= room


def test_a_poisoned_lane_disturbs_no_neighbour_and_is_recorded_with_its_epoch():
    rates = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
    healthy = sweep.run(sweep.grid(learning_rate=rates), VALUES, CONFIG, validation=VALUES, keep="all", lanes=8)
    rates[3] = 1e18
    poisoned = sweep.run(sweep.grid(learning_rate=rates), VALUES, CONFIG, validation=VALUES, keep="all", lanes=8)
    for number in set(range(8)) - {3}:
        assert_same_bits(poisoned.params(number), healthy.params(number))
        assert without_time(poisoned.history(number)) == without_time(healthy.history(number))
    alone, row = trained_alone(poisoned, 3, VALUES, VALUES), poisoned.rows()[3]
    assert alone.status == row.status == "diverged"
    assert row.epochs == len(alone.history) == 1
    assert_same_bits(poisoned.params(3), alone.params)
    table = poisoned.table()
    assert table["status"].to_list().count("diverged") == 1
    assert table.row(3, named=True)["validation_r2"] is None


def test_a_trial_that_diverges_later_keeps_the_parameters_of_the_epoch_before():
    space = sweep.grid(learning_rate=[0.01, 2.0, 8.0], seed=[0])
    config = TrainConfig(epochs=12, batch_size=50, momentum=0.0, schedule="constant")
    base = MLP((6, 2), "relu", "identity", "quadratic")
    results = sweep.run(space, VALUES, config, mlp=base, validation=VALUES, keep="all", lanes=1)
    assert {row.epochs for row in results.rows() if row.status == "diverged"} - {1}
    for number in range(3):
        alone = trained_alone(results, number, VALUES, VALUES)
        assert_same_bits(results.params(number), alone.params)
        assert repr(without_time(results.history(number))) == repr(without_time(alone.history))


def test_a_setting_with_a_diverged_trial_is_never_the_best():
    space = sweep.grid(learning_rate=[1e18, 0.01], seed=range(2))
    results = sweep.run(space, VALUES, CONFIG, validation=VALUES)
    for metric in ("train_loss", "validation_loss", "validation_r2"):
        assert results.best(metric).hyperparameters == {"learning_rate": 0.01}
    all_diverged = sweep.run(sweep.grid(learning_rate=[1e18, 1e19]), VALUES, CONFIG)
    with pytest.raises(ValueError, match="every trial diverged: try lower learning rates"):
        all_diverged.best()


def test_the_best_setting_has_the_best_mean_over_seeds_with_students_interval():
    space = sweep.grid(learning_rate=[0.001, 0.05], momentum=[0.0, 0.9], seed=range(4))
    results = sweep.run(space, DATA, CONFIG, validation=VALIDATION)
    table = results.table()
    means = table.drop("status", "stopped_by").group_by(["learning_rate", "momentum"]).mean().sort("validation_loss")
    best = results.best("validation_loss")
    assert tuple(best.hyperparameters.values()) == means.select("learning_rate", "momentum").row(0)
    assert best.mean == pytest.approx(means["validation_loss"][0])
    from scipy import stats

    values = [table["validation_loss"][number] for number in best.trials]
    assert len(values) == 4
    assert values == sorted(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (best.low, best.high) == pytest.approx(expected)
    assert results.best("validation_loss", over=None).trials == (table["validation_loss"].arg_min(),)


def test_early_stopped_trials_are_the_same_and_the_rest_is_packed_together(monkeypatch):
    chunks = []
    draw = block._draw
    monkeypatch.setattr(block, "_draw", lambda *a: chunks.append(int(sum(a[3].n_chunks))) or draw(*a))
    patience = [1] * 24 + [None] * 8
    rates = np.linspace(0.3, 0.5, 32).tolist()
    space = sweep.Space(("learning_rate", "patience"), tuple(zip(rates, patience, strict=True)))
    config = TrainConfig(epochs=10, batch_size=16, schedule="constant")
    results = sweep.run(space, DATA, config, validation=VALIDATION, keep="all", lanes=1)
    assert max(chunks) == 32
    assert chunks[-1] < 32
    assert chunks == sorted(chunks, reverse=True)
    for row in results.rows():
        alone = trained_alone(results, row.trial)
        assert (row.epochs, row.best_epoch) == (len(alone.history), alone.best_epoch)
        assert_same_bits(results.params(row.trial), alone.params)


def halved_naively(space, factor, config):
    """Successive halving as one would write it for `train`: one trial after another."""
    listed = sweep.run(
        space, DATA, TrainConfig(epochs=1, batch_size=150), validation=VALIDATION
    )  # for the trials alone
    alive, rungs = list(range(len(space))), sweep.Halving(factor).rungs(config.epochs)
    for rung in rungs:
        scores = {}
        for number in alive:
            trial = listed.trial(number)
            so_far = []
            train(
                trial.mlp, DATA, config_of(trial, config), key=jax.random.key(trial.seed), validation=VALIDATION,
                callback=lambda trained, so_far=so_far: so_far.append(trained.history[-1].validation_accuracy),
            )  # fmt: skip
            scores[number] = so_far[rung - 1]
        alive = sorted(alive, key=lambda number: (-scores[number], number))
        if rung != rungs[-1]:
            alive = alive[: max(1, len(alive) // factor)]
    return alive


def config_of(trial, config):
    from dataclasses import replace

    return replace(config, learning_rate=trial.config.learning_rate, momentum=trial.config.momentum)


def test_halving_finds_the_winner_of_an_unfused_one_and_stops_the_others_at_their_rungs(monkeypatch):
    clock = chain([0.0], repeat(1.0))  # it stands still, so that the time left counts epochs, in those that are done
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    space = sweep.random(12, learning_rate=sweep.log_uniform(1e-3, 0.5), momentum=sweep.uniform(0, 0.9))
    config, seen = TrainConfig(epochs=9, batch_size=16), []
    results = sweep.run(
        space, DATA, config, mlp=MLP((6, 128, 3)), validation=VALIDATION, halving=3, callback=seen.append
    )
    # 12 trials for an epoch, 4 for two more, 1 for six: no time is left for those that were stopped.
    assert (seen[-1].done, seen[-1].seconds_left) == (12, 0)
    done = [(12 + 4 * 2 + 6) / (1 + each.seconds_left) for each in seen]
    np.testing.assert_allclose(done[0], 12)
    np.testing.assert_allclose(done, np.round(done))
    table = results.table()
    ended = table.filter(table["status"] == "finished")
    assert ended["trial"].to_list() == halved_naively(space, 3, config)
    assert sorted(table["epochs"].to_list()) == [1] * 8 + [3] * 3 + [9]
    assert results.best().trials == tuple(ended["trial"].to_list())


def test_a_trial_that_patience_stopped_counts_and_one_that_halving_stopped_does_not():
    by_halving = Row(
        0,
        "stopped",
        epochs=3,
        best_epoch=2,
        seconds=0.0,
        train_loss=0.1,
        validation_loss=0.1,
        validation_accuracy=1.0,
        validation_r2=None,
    )
    assert is_cut_short(by_halving, TrainConfig())
    assert is_cut_short(by_halving, TrainConfig(patience=2))
    assert not is_cut_short(by_halving._replace(epochs=4), TrainConfig(patience=2))
    assert not is_cut_short(by_halving._replace(status="finished"), TrainConfig())


def test_asynchronous_halving_stops_trials_not_among_the_best_so_far():
    space = sweep.random(12, learning_rate=sweep.log_uniform(1e-3, 0.5), momentum=sweep.uniform(0, 0.9))
    config = TrainConfig(epochs=9, batch_size=16)
    whole = sweep.run(space, DATA, config, validation=VALIDATION)
    results = sweep.run(space, DATA, config, validation=VALIDATION, halving=sweep.Halving(3, asynchronous=True))
    # All in one block: then it is the synchronous rule.
    at_first = {number: whole.history(number)[0].validation_accuracy for number in range(12)}
    going_on = sorted(sorted(at_first, key=lambda number: (-at_first[number], number))[:4])
    assert [row.trial for row in results.rows() if row.epochs > 1] == going_on


def test_a_block_that_runs_out_of_memory_is_halved_until_it_fits(monkeypatch):
    space = sweep.grid(hidden=[(4,), (5,)], learning_rate=np.linspace(0.01, 0.1, 24).tolist())
    options = {"config": CONFIG, "test": VALIDATION, "keep": "all", "lanes": 4, "devices": jax.local_devices()[:1]}
    expected = sweep.run(space, DATA, **options)
    program, sizes = lanes.program, []

    def scarce(key, shapes):
        n_chunks = shapes[0][1][0][0]
        sizes.append((n_chunks, key.n_lanes))
        if n_chunks * key.n_lanes > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")
        return program(key, shapes)

    monkeypatch.setattr(lanes, "program", scarce)
    results = sweep.run(space, DATA, **options)
    assert (8, 4) in sizes
    assert (2, 1) in sizes
    for number in range(48):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), results.params(number), expected.params(number)
        )

    def nothing_fits(key, shapes):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")

    monkeypatch.setattr(lanes, "program", nothing_fits)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Out of memory"):
        sweep.run(space, DATA, **options)


def test_a_group_is_compiled_once_however_many_blocks_and_numbers_it_has():
    lanes._compiled.cache_clear()
    space = sweep.grid(learning_rate=np.linspace(0.01, 0.1, 40).tolist(), clip=[0.5, 1.0])
    listed = sweep.plan(space, DATA, CONFIG, trials_a_block=12, lanes=4)
    assert len(listed.groups[0].blocks) > 2
    sweep.run(space, DATA, CONFIG, trials_a_block=12, lanes=4)
    assert lanes._compiled.cache_info().misses == 1
    others = sweep.grid(learning_rate=np.linspace(0.02, 0.2, 40).tolist(), clip=[0.25, 2.0])
    sweep.run(others, DATA, CONFIG, trials_a_block=12, lanes=4)
    assert lanes._compiled.cache_info().misses == 1


def test_progress_counts_up_to_all_trials_and_names_the_best():
    seen: list[Progress] = []
    space = sweep.grid(learning_rate=[0.01, 0.05, 1e18], hidden=[(4,), (5,)])
    results = sweep.run(
        space, VALUES, CONFIG, mlp=MLP((6, 9, 2), "relu", "identity", "quadratic"), callback=seen.append
    )
    assert [each.total for each in seen] == [6] * len(seen)
    done = [each.done for each in seen]
    assert done == sorted(done)
    assert 3 in done
    assert done[-1] == 6
    assert seen[-1].diverged == 2
    losses = results.table()["train_loss"].to_list()
    assert seen[-1].best[0] in losses
    assert all(each.seconds_left > 0 for each in seen[:4])
    assert seen[-1].seconds_left == 0
    sweep.run(sweep.grid(learning_rate=[1e18, 1e19]), VALUES, CONFIG, callback=seen.append)
    assert seen[-1].best is None


NUMBERS = [("halving", 3), ("keep", 3), ("lanes", 2), ("trials_a_block", 4), ("memory", 10**9)]


@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_whole_numbers_of_numpy_are_accepted(name, number):
    space = sweep.grid(learning_rate=[0.01, 0.05, 0.1, 0.2], seed=[0])
    one, other = (
        sweep.run(space, DATA, CONFIG, validation=VALIDATION, **{name: kind(number)}) for kind in (int, np.int64)
    )
    assert without_time_of_rows(one) == without_time_of_rows(other)
    assert sweep.Halving(np.int32(4), np.int64(2)) == sweep.Halving(4, 2)
    assert len(sweep.random(np.int64(3), momentum=sweep.uniform(0, 0.5))) == 3


def without_time_of_rows(results):
    return [row._replace(seconds=0.0) for row in results.rows()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sweep.run(sweep.grid(batch_size=[16, 151]), DATA),
            "trial 1 (batch_size=151): batch_size must be at most the 150 training examples, got 151",
        ),
        (lambda: sweep.run((SEEDS, SEEDS), DATA), "space must be made by grid or random, got tuple"),
        (lambda: sweep.run([{"seed": 1}], DATA), "seed must be a list of values, got 1"),
        *(
            (partial(act, SEEDS, given), f"data must be a Dataset, as Dataset(x, t), or a pair (x, t), got {words}")
            for act in (sweep.run, sweep.plan)
            for given, words in (
                (X, "ndarray"),
                ((X, T, T), "tuple"),
                (None, "NoneType"),
                (read("iris"), "Source; prepare it with jaxmlp.data.prepare"),
            )
        ),
        (lambda: sweep.run(SEEDS, (X, T[:3])), "data: x and t must have equally many rows, got 200 and 3"),
        (lambda: sweep.run(SEEDS, DATA, test=(X * np.inf, T)), "test: x must be finite"),
        (lambda: sweep.run(SEEDS, DATA, {"epochs": 3}), "config must be of type TrainConfig, got dict"),
        (
            lambda: sweep.run(SEEDS, DATA, validation=X),
            "validation must be a Dataset, as Dataset(x, t), or a pair (x, t), got ndarray",
        ),
        (lambda: sweep.run(SEEDS, DATA, mlp=(6, 3)), "mlp must be of type MLP, got tuple"),
        (lambda: sweep.run(SEEDS, DATA, encoding={}), "encoding must be of type Encoding, got dict"),
        (lambda: sweep.run(SEEDS, DATA, about=["x"]), "about must be a dict of JSON values, got ['x']"),
        (lambda: sweep.run(SEEDS, DATA, about={"x": {1}}), "about must be a dict of JSON values, got {'x': {1}}"),
        (lambda: sweep.run(SEEDS, DATA, devices=["cpu"]), "devices must be devices of JAX"),
        (lambda: sweep.run(SEEDS, DATA, out=3), "out must be the path of a folder, got 3"),
        (lambda: sweep.run(SEEDS, DATA, out=""), "out must be the path of a folder, got ''"),
        (lambda: sweep.run(sweep.Space(("seed", "seed"), ((0, 1),)), DATA), "must be distinct, got seed, seed"),
        *(
            (
                partial(act, sweep.Space(("momentum",), ((0.5,), (0.9,), (0.5,))), DATA),
                "trial 2 (momentum=0.5): the same run as trial 0",
            )
            for act in (sweep.run, sweep.plan)
        ),
        (
            lambda: sweep.run(sweep.Space(("seed", "momentum"), ((0, 0.9), (0, 0.90))), DATA),
            "the same run as trial 0; leave one out",
        ),
        (lambda: sweep.run(SEEDS, DATA, lanes=0), "lanes must be a whole number, 1 or larger, got 0"),
        (lambda: sweep.run(SEEDS, DATA, memory=1.5e9), "memory must be a whole number, 1 or larger, got 1500000000.0"),
        (lambda: sweep.run(SEEDS, DATA, keep=True), "keep, if it is not 'all', must be a whole number"),
        (lambda: sweep.run(SEEDS, DATA, keep="some"), "keep, if it is not 'all', must be a whole number"),
        (lambda: sweep.run(SEEDS, DATA, halving=2.0), "factor of Halving must be a whole number, 2 or larger, got 2.0"),
        (lambda: sweep.run(SEEDS, DATA, halving="3"), "factor of Halving must be a whole number, 2 or larger, got '3'"),
        (lambda: sweep.Halving(asynchronous=1), "asynchronous of Halving must be True or False, got 1"),
        (lambda: sweep.run(SEEDS, DATA, memory=1000), "beside the data"),
        (
            lambda: sweep.run(sweep.Space("seed", ((0,),)), DATA),
            "names of a space must be a tuple of names, got 'seed'",
        ),
        (
            lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, keep=-1),
            "keep, if it is not 'all', must be a whole number, 0 or larger, got -1",
        ),
        (lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, halving=1), "factor of Halving must be a whole number, 2 or"),
        (lambda: sweep.run(sweep.grid(epochs=[1, 2]), DATA, halving=2), "but epochs varies in this space"),
        (
            lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, mlp=MLP((5, 3))),
            "x has 6 features, but the network takes 5",
        ),
        (lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, devices=[]), "devices must be devices of JAX"),
        (
            lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, CONFIG).trial(2),
            "trial must be a whole number from 0 to 1, got 2",
        ),
        (
            lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, CONFIG).best("validation_acuracy"),
            "did you mean 'validation_accuracy'",
        ),
        (lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, CONFIG).best(over="sed"), "did you mean 'seed'"),
        (
            lambda: sweep.run(sweep.grid(seed=[0, 1]), DATA, CONFIG).best("validation_r2"),
            "validation_r2 was not measured",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_pairs_of_arrays_and_prepared_data_are_taken_as_data_sets():
    prepared = prepare(read("iris"), validation_fraction=0.2)
    parts = {"validation": prepared.validation, "test": prepared.test}
    expected = without_time_of_rows(sweep.run(SEEDS, prepared.train, CONFIG, **parts, encoding=prepared.encoding))
    found = sweep.run(SEEDS, prepared, CONFIG)
    assert without_time_of_rows(found) == expected
    assert found.model(0).encoding.class_names == prepared.encoding.class_names
    pairs = [(np.asarray(part.x), jnp.asarray(part.t)) for part in prepared[:3]]
    assert without_time_of_rows(sweep.run(SEEDS, pairs[0], CONFIG, validation=pairs[1], test=pairs[2])) == expected
    assert without_time_of_rows(sweep.run({"seed": [0, 1]}, prepared, CONFIG)) == expected
    other = sweep.run(SEEDS, prepared, CONFIG, validation=prepared.test)
    # Another program computes it, so the last digit may differ.
    assert other.rows()[0].validation_loss == pytest.approx(found.rows()[0].test_loss, rel=1e-6)


def test_progress_is_one_live_line_in_a_terminal_and_a_line_after_each_tenth_elsewhere():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    space = sweep.grid(learning_rate=np.linspace(0.01, 0.1, 20), hidden=[(4,)])
    for stream in (Terminal(), io.StringIO()):
        sweep.run(space, DATA, CONFIG, lanes=1, trials_a_block=1, callback=sweep.show_progress(stream))
        text, is_live = stream.getvalue(), stream.isatty()
        shown = re.split(r"[\r\n]+", text.strip())
        assert shown[-1].startswith("20/20 trials  best train loss ")
        assert (text.count("\n") == 1) == is_live
        assert ("\r" in text) == is_live
        if not is_live:
            assert [line.split("/")[0] for line in shown] == [str(n) for n in range(2, 21, 2)]
    longer, terminal = Progress(0, 2, 0, "train_loss", None, 1e5), Terminal()
    show = sweep.show_progress(terminal)
    show(longer)
    show(longer._replace(done=2, seconds_left=0))
    first, last = terminal.getvalue().strip("\r\n").split("\r")
    assert last.rstrip() == "2/2 trials  0:00:00 left"
    assert len(last) == len(first)  # nothing of the longer line is left


def test_a_ctrl_c_that_a_callback_of_the_garbage_collector_drops_ends_a_sweep():
    seen = []

    def interrupt(phase, info):
        gc.callbacks.remove(interrupt)
        signal.raise_signal(signal.SIGINT)

    def collect(progress):
        if not seen:
            seen.append(progress)
            gc.callbacks.append(interrupt)
            gc.collect()

    # A shell lets its background jobs and their children ignore Ctrl-C; this test may run in one.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"^0 of 2 trials are done$"):
            sweep.run(SEEDS, DATA, TrainConfig(epochs=5000, batch_size=16), callback=collect)
    finally:
        signal.signal(signal.SIGINT, handler)


def test_only_memory_errors_halve_a_block(monkeypatch):
    def broken(key, shapes):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(block.lanes, "program", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        sweep.run(sweep.grid(seed=range(4)), DATA, CONFIG)


def test_a_sweep_on_compact_data_equals_one_on_the_expanded(x64, compact):
    space = sweep.grid(learning_rate=[0.01, 0.1], seed=[0, 1])
    found, expected = (
        sweep.run(space, data, CONFIG, validation=data, keep="all", lanes=2) for data in (compact, expanded(compact))
    )
    assert found.trial(0).mlp.sizes == (11, 128, 3)
    for number in range(4):
        # The inputs are the same numbers, but the two programs may sum in another order.
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), found.params(number), expected.params(number)
        )
        assert found.rows()[number].validation_accuracy == expected.rows()[number].validation_accuracy


def test_a_plan_counts_compact_data_and_one_expanded_block(compact):
    def memory(data):
        return running.planner(Parts(data, None, None), None).keywords["data_bytes"]

    x = np.repeat(compact.x, 100, axis=0)
    many = Dataset(x, np.repeat(compact.t, 100), expansion=compact.expansion)
    assert memory(many) == x.nbytes + 4 * 2048 * 11
    assert memory(compact) == compact.x.nbytes + 4 * 50 * 11


def test_a_callback_ends_a_sweep_with_what_has_been_saved(tmp_path):
    space = sweep.grid(learning_rate=[0.001, 0.01, 0.1], seed=range(3))

    def stop_after_a_rung(progress):
        if progress.done:
            raise sweep.StopSweep

    options = {"halving": 3, "trials_a_block": 1, "lanes": 1, "callback": stop_after_a_rung}
    results = sweep.run(space, DATA, TrainConfig(epochs=4), out=tmp_path, **options)
    rows = results.rows()
    assert len(rows) == 9
    assert {row.status for row in rows} == {"stopped"}
    assert {row.epochs for row in rows} == {1}
    assert len(sweep.load(tmp_path).rows()) == 9
