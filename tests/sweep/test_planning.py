"""What a sweep will run, before it does."""

import json
import math

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxmlp import MLP, Dataset, TrainConfig, loss_and_gradient, sweep
from jaxmlp.network import init
from jaxmlp.sweep.block import Shape, _program
from jaxmlp.sweep.job import Job, Parts
from jaxmlp.sweep.planning import _ACCELERATOR, _CPU, Plan, _lanes, _seconds, chunked, make_plan
from jaxmlp.sweep.space import trials


def planned(space, base=MLP((8, 16, 3)), n_workers=1, config=TrainConfig(), **options):  # noqa: B008
    listed = trials(space, base, config)
    return listed, make_plan(listed, 320, 10_000, jax.local_devices()[:1] * n_workers, **options)


def test_numbers_share_a_program_and_compiled_values_make_groups():
    numbers = sweep.grid(learning_rate=[0.1, 0.2], momentum=[0, 0.9], init_scale=[1, 2], clip=[1, 2], seed=range(2))
    assert len(planned(numbers)[1].groups) == 1
    schedules = sweep.grid(schedule=["cosine", "constant"], warmup_epochs=[0, 1], patience=[None, 3])
    assert len(planned(schedules)[1].groups) == 1
    static = sweep.grid(hidden=[(4,), (5,)], activation=["tanh", "relu"], batch_size=[8, 16], clip=[None, 1.0])
    assert len(planned(static)[1].groups) == 16


@pytest.mark.parametrize("n_workers", [1, 2, 3])
@pytest.mark.parametrize("lanes", [None, 1, 3])
def test_every_trial_is_in_one_chunk_of_one_block_and_chunks_share_their_seed(n_workers, lanes):
    space = sweep.grid(learning_rate=[0.1, 0.2, 0.3], hidden=[(4,), (5,)], seed=range(5))
    listed, plan = planned(space, n_workers=n_workers, lanes=lanes)
    numbers = [number for group in plan.groups for block in group.blocks for chunk in block for number in chunk]
    assert sorted(numbers) == list(range(30))
    for group in plan.groups:
        for block in group.blocks:
            for chunk in block:
                assert len(chunk) <= group.n_lanes
                assert len({listed[number].mlp for number in chunk}) == 1
                if group.is_shared:
                    assert len({listed[number].seed for number in chunk}) == 1


def test_trials_of_different_seeds_run_side_by_side():
    _, plan = planned(sweep.grid(seed=range(64)))
    (group,) = plan.groups
    assert not group.is_shared
    assert group.n_lanes > 1


def test_trials_of_a_few_seeds_share_their_batch_orders():
    (group,) = planned(sweep.grid(learning_rate=[0.001 * i for i in range(1, 33)], seed=range(2)))[1].groups
    assert group.is_shared


def test_no_worker_is_left_idle_for_the_sake_of_wide_chunks():
    _, plan = planned(sweep.grid(learning_rate=[0.1, 0.2, 0.3, 0.4]), n_workers=4)
    assert [len(chunk) for chunk in plan.groups[0].blocks[0]] == [1, 1, 1, 1]


@pytest.mark.parametrize("n_seeds", [1, 3, 20])
@pytest.mark.parametrize("n_settings", [1, 4, 7, 50])
def test_as_many_networks_run_side_by_side_on_any_number_of_cores(n_settings, n_seeds):
    rows = tuple((0.001 * (1 + i), seed) for i in range(n_settings) for seed in range(n_seeds))
    space = sweep.Space(("learning_rate", "seed"), rows)
    plans = [planned(space, n_workers=n, memory=10**9)[1].groups[0] for n in (1, 2, 3, 16)]
    assert len({(group.n_lanes, group.is_shared) for group in plans}) == 1


def test_less_memory_makes_smaller_blocks_then_fewer_lanes_and_then_an_error():
    space = sweep.grid(learning_rate=[0.001 * i for i in range(1, 257)])
    _, wide = planned(space, memory=10**9)
    assert len(wide.groups[0].blocks) == 1
    _, smaller = planned(space, memory=wide.memory * 9 // 10)
    assert len(smaller.groups[0].blocks) > 1
    assert smaller.groups[0].n_lanes == wide.groups[0].n_lanes
    assert smaller.memory <= wide.memory * 9 // 10
    _, least = planned(space, memory=100_000)
    assert least.groups[0].n_lanes < wide.groups[0].n_lanes
    assert least.memory <= 100_000
    with pytest.raises(ValueError, match=r"sizes \(8, 16, 3\) with batch_size 32 need about .* beside the data"):
        planned(space, memory=20_000)


def test_a_long_sweep_is_cut_into_blocks_of_some_20_seconds():
    _, plan = planned(many(512), MLP((784, 512, 10)), config=TrainConfig(epochs=100), memory=10**10)
    (group,) = plan.groups
    assert len(group.blocks) > 10
    assert 10 < group.seconds / len(group.blocks) <= 20


def test_chunks_keep_the_order_of_the_trials():
    listed, _ = planned(sweep.grid(learning_rate=[0.1, 0.2, 0.3], seed=range(2)))
    assert chunked(listed, 2, is_shared=True) == [(0, 2), (4,), (1, 3), (5,)]
    assert chunked(listed, 4, is_shared=False) == [(0, 1, 2, 3), (4, 5)]


def test_a_plan_is_plain_json_and_says_what_it_will_run():
    _, plan = planned(sweep.grid(learning_rate=[0.1, 0.2], hidden=[(4,), (5, 6), ()], seed=range(3)), n_workers=2)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    first, *rest = str(plan).splitlines()
    assert first == "18 trials in 3 programs on 2 cores"
    assert [line.split()[0] for line in rest] == ["8-4-3", "8-5-6-3", "8-3,"]
    assert str(planned(sweep.grid(learning_rate=[0.1, 0.2], seed=[0]))[1]).startswith("2 trials in 1 program on")
    assert str(planned(sweep.grid(seed=[0]))[1]).startswith("1 trial in 1 program on 1 core")
    assert all("side by side, about" in line for line in rest)


def many(n):
    return sweep.Space(("learning_rate",), tuple((0.001 * i,) for i in range(1, n + 1)))


@pytest.mark.parametrize(
    ("sizes", "batch_size", "n_train", "n_lanes", "n_held", "shared", "track"),
    [
        ((64, 32, 10), 32, 1437, 1, 0, False, ()),
        ((64, 32, 10), 32, 1437, 256, 0, True, ()),
        ((64, 32, 10), 32, 1437, 64, 5000, False, ()),  # three blocks of an evaluation
        ((64, 128, 10), 32, 1437, 8, 400, True, ()),
        ((64, 300, 200, 10), 32, 640, 4, 400, False, ()),
        ((300, 256, 256, 10), 512, 5000, 4, 0, True, ()),
        ((784, 512, 512, 10), 128, 6000, 1, 3000, False, ()),
        ((20, 256, 256, 1000), 64, 1000, 2, 500, True, ()),
        ((8, 64, 64, 3), 256, 3200, 16, 1000, False, ()),
        ((64, 32, 10), 32, 1437, 8, 400, True, ("norms", "noise_scale")),
    ],
)
def test_the_memory_of_a_plan_is_what_xla_takes_or_up_to_half_more(
    sizes, batch_size, n_train, n_lanes, n_held, shared, track
):
    device, mlp, config = jax.local_devices()[0], MLP(sizes), TrainConfig(batch_size=batch_size, track=track)
    rows = tuple((0.1 * (1 + i) / n_lanes, 0 if shared else i) for i in range(n_lanes))
    listed = trials(sweep.Space(("learning_rate", "seed"), rows), mlp, config)
    held = Dataset(np.ones((n_held, sizes[0]), np.float32), np.zeros(n_held, int)) if n_held else None
    data = Dataset(np.ones((n_train, sizes[0]), np.float32), np.arange(n_train) % 2)
    (group,) = make_plan(listed, n_train, 0, (device,), memory=10**10, lanes=n_lanes, n_evaluated=n_held).groups
    job = Job.of(listed, Parts(data, held, None), (device,))
    memory = _program(job, group, Shape.of(job, group), device).memory_analysis()
    taken = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    taken -= sum(leaf.nbytes for leaf in jax.tree.leaves((job.examples[0], job.validation[0])))
    assert taken <= group.memory <= 1.5 * taken


@given(
    st.integers(1, 70),
    st.integers(1, 3),
    st.sampled_from([(4,), (64,), (256, 64)]),
    st.integers(18, 30),
    st.sampled_from([None, 1, 3, 16]),
)
@settings(max_examples=60, deadline=None)
def test_no_plan_takes_more_memory_than_it_may(n, n_workers, hidden, log_memory, lanes):
    space, memory = sweep.random(n, learning_rate=sweep.uniform(0.1, 0.2), hidden=[hidden]), 2**log_memory
    try:
        _, plan = planned(space, MLP((8, *hidden, 3)), n_workers, memory=memory, lanes=lanes)
    except ValueError:
        assume(False)  # not even one network fits
    assert plan.memory + 10_000 <= memory
    # The blocks' real shape is no larger than the one that was counted.
    (group,) = plan.groups
    trial = trials(space, MLP((8, *hidden, 3)), TrainConfig())[0]
    n_chunks = max(-(-len(chunks) // n_workers) for chunks in group.blocks)
    slots = 1
    while slots < n_chunks:
        slots *= 2
    state_and_params = 2 * 4 * trial.mlp.n_parameters  # read and written: twice
    assert 2 * state_and_params * group.n_lanes * slots * n_workers <= plan.memory


@pytest.mark.parametrize("n_workers", [1, 3])
def test_data_take_memory_once_on_a_device(n_workers):
    listed, devices, data_bytes = trials(many(64), MLP((8, 16, 3)), TrainConfig()), jax.local_devices()[:1], 300_000
    free = make_plan(listed, 320, 0, devices * n_workers, memory=10**9, lanes=4)
    exact = free.memory + data_bytes
    assert make_plan(listed, 320, data_bytes, devices * n_workers, memory=exact, lanes=4) == free
    less = make_plan(listed, 320, data_bytes, devices * n_workers, memory=exact - n_workers, lanes=4)
    assert less.memory < free.memory


def test_more_trials_and_more_epochs_take_proportionally_more_time():
    (one,) = planned(many(64), lanes=4, memory=10**9)[1].groups
    (twice,) = planned(many(128), lanes=4, memory=10**9)[1].groups
    (longer,) = planned(many(64), lanes=4, memory=10**9, config=TrainConfig(epochs=300))[1].groups
    assert twice.seconds == pytest.approx(2 * one.seconds)
    assert longer.seconds == pytest.approx(10 * one.seconds)


@pytest.mark.parametrize("sizes", [(256, 512, 256), (512, 256, 256, 128)])
def test_the_time_of_large_products_is_that_of_the_operations_that_xla_counts(sizes):
    mlp, batch_size = MLP(sizes), 64
    params = init(mlp, jax.random.key(0))
    x, t = np.ones((batch_size, sizes[0]), np.float32), np.zeros(batch_size, int)

    def gradients(params, x, t):
        return loss_and_gradient(mlp, params, x, t)

    counted = jax.jit(gradients).lower(params, x, t).compile().cost_analysis()["flops"]
    config = TrainConfig(epochs=1, batch_size=batch_size)
    listed = trials(many(1), mlp, config)
    (group,) = make_plan(listed, 100 * batch_size, 0, jax.local_devices()[:1], memory=10**10).groups
    in_products = group.seconds - 100 * _CPU.seconds_a_step
    assert in_products * _CPU.flops == pytest.approx(100 * counted, rel=0.05)


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("most", [4, 10, 25])
def test_a_block_has_at_most_the_trials_asked_for_or_a_chunk_for_each_worker(n_workers, most):
    _, plan = planned(many(40), n_workers=n_workers, lanes=4, memory=10**9, trials_a_block=most)
    sizes = [sum(map(len, chunks)) for chunks in plan.groups[0].blocks]
    assert max(sizes) <= max(most, 4 * n_workers)
    assert max(sizes) - min(sizes[:-1]) == 0


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_a_block_is_filled_with_the_trials_asked_for(n_workers):
    most = 8 * n_workers
    (group,) = planned(many(4 * most), n_workers=n_workers, lanes=2, trials_a_block=most)[1].groups
    assert [sum(map(len, block)) for block in group.blocks] == [most] * 4


@pytest.mark.parametrize("machine", [_CPU, _ACCELERATOR], ids=["CPU", "accelerator"])
@pytest.mark.parametrize("width", [4, 2**9, 2**16, 2**21])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_lanes_fill_the_fast_memory_and_every_device_with_a_power_of_2(machine, width, n_workers):
    n, network = 100, MLP((8, width, 3))
    n_lanes, _ = _lanes(trials(sweep.grid(seed=range(n)), network, TrainConfig()), n_workers, machine)
    n_workers = 4 if machine is _CPU else n_workers

    def fits(lanes):
        a_lane = 4 * network.n_parameters
        is_small = a_lane < machine.alone_bytes and lanes * a_lane <= machine.lane_bytes
        return lanes == 1 or (is_small and lanes <= min(machine.most_lanes, math.ceil(n / n_workers)))

    assert n_lanes == max(lanes for lanes in 2 ** np.arange(8) if fits(lanes))


@pytest.mark.parametrize(
    ("seconds", "text"), [(99.9, "99.9 s"), (100, "2 min"), (5999, "100 min"), (6000, "1.7 h"), (0.04, "0.0 s")]
)
def test_times_have_the_unit_that_suits_them(seconds, text):
    assert _seconds(seconds) == text


@pytest.mark.parametrize("n_workers", [1, 2, 3])
@pytest.mark.parametrize("hidden", [(8,), (300, 200)])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_groups_with_the_same_room_have_the_same_program_whatever_they_hold(n_workers, hidden, n_seeds):
    room, mlp, shapes = 24 * n_seeds, MLP((8, *hidden, 3)), set()
    for n in (1, 2, 7, 23, 24):
        settings = [0.001 * i for i in range(1, n + 1)]
        space = sweep.Space(("learning_rate", "seed"), tuple((s, seed) for s in settings for seed in range(n_seeds)))
        listed, plan = planned(space, mlp, n_workers=n_workers, room=room)
        (group,) = plan.groups
        shapes.add((group.n_lanes, group.n_chunks, group.is_shared))
        assert sorted(i for block in group.blocks for chunk in block for i in chunk) == list(range(len(listed)))
        assert all(len(block) <= group.n_chunks for block in group.blocks)
        assert all(len(chunk) <= group.n_lanes for block in group.blocks for chunk in block)
    assert len(shapes) == 1
    (full,) = planned(space, mlp, n_workers=n_workers)[1].groups
    assert shapes == {(full.n_lanes, full.n_chunks, full.is_shared)}
