"""What a sweep will run, before it does."""

import json

import jax
import pytest

from jaxmlp import MLP, TrainConfig, sweep
from jaxmlp.sweep.planning import Plan, chunked, make_plan
from jaxmlp.sweep.space import trials


def planned(space, base=MLP((8, 16, 3)), n_devices=1, config=TrainConfig(), **options):  # noqa: B008
    listed = trials(space, base, config)
    # A plan only counts devices, and asks the first what it is.
    return listed, make_plan(listed, 320, 10_000, jax.local_devices()[:1] * n_devices, **options)


def test_numbers_share_a_program_and_what_is_compiled_into_one_makes_groups():
    numbers = sweep.grid(learning_rate=[0.1, 0.2], momentum=[0, 0.9], init_scale=[1, 2], clip=[1, 2], seed=range(2))
    assert len(planned(numbers)[1].groups) == 1
    schedules = sweep.grid(schedule=["cosine", "constant"], warmup_epochs=[0, 1], patience=[None, 3])
    assert len(planned(schedules)[1].groups) == 1
    static = sweep.grid(hidden=[(4,), (5,)], activation=["tanh", "relu"], batch_size=[8, 16], clip=[None, 1.0])
    assert len(planned(static)[1].groups) == 16


@pytest.mark.parametrize("n_devices", [1, 2, 3])
@pytest.mark.parametrize("lanes", [None, 1, 3])
def test_every_trial_is_in_one_chunk_of_one_block_and_chunks_share_their_seed(n_devices, lanes):
    space = sweep.grid(learning_rate=[0.1, 0.2, 0.3], hidden=[(4,), (5,)], seed=range(5))
    listed, plan = planned(space, n_devices=n_devices, lanes=lanes)
    numbers = [number for group in plan.groups for block in group.blocks for chunk in block for number in chunk]
    assert sorted(numbers) == list(range(30))
    for group in plan.groups:
        for block in group.blocks:
            for chunk in block:
                assert len(chunk) <= group.n_lanes
                assert len({listed[number].mlp for number in chunk}) == 1
                if group.is_shared:
                    assert len({listed[number].seed for number in chunk}) == 1


def test_trials_that_all_differ_in_their_seed_are_side_by_side_all_the_same():
    _, plan = planned(sweep.grid(seed=range(64)))
    (group,) = plan.groups
    assert not group.is_shared
    assert group.n_lanes > 1


def test_no_device_is_left_idle_for_the_sake_of_wide_chunks():
    _, plan = planned(sweep.grid(learning_rate=[0.1, 0.2, 0.3, 0.4]), n_devices=4)
    assert [len(chunk) for chunk in plan.groups[0].blocks[0]] == [1, 1, 1, 1]


def test_less_memory_makes_smaller_blocks_then_fewer_lanes_and_then_an_error():
    space = sweep.grid(learning_rate=[0.001 * i for i in range(1, 257)])
    _, wide = planned(space, memory=10**9)
    assert len(wide.groups[0].blocks) == 1
    _, smaller = planned(space, memory=wide.memory * 9 // 10)
    assert len(smaller.groups[0].blocks) > 1
    assert smaller.groups[0].n_lanes == wide.groups[0].n_lanes
    assert smaller.memory <= wide.memory * 9 // 10
    _, least = planned(space, memory=350_000)
    assert least.groups[0].n_lanes < wide.groups[0].n_lanes
    assert least.memory <= 350_000
    with pytest.raises(ValueError, match=r"sizes \(8, 16, 3\) with batch_size 32 need about .* beside the data"):
        planned(space, memory=20_000)


def test_a_long_sweep_is_cut_into_blocks_that_a_kill_may_cost():
    space = sweep.grid(learning_rate=[0.001 * i for i in range(1, 513)])
    _, plan = planned(space, MLP((784, 512, 10)), config=TrainConfig(epochs=1000), memory=10**10)
    assert len(plan.groups[0].blocks) > 10


def test_chunks_keep_the_order_of_the_trials():
    listed, _ = planned(sweep.grid(learning_rate=[0.1, 0.2, 0.3], seed=range(2)))
    assert chunked(listed, 2, is_shared=True) == [(0, 2), (4,), (1, 3), (5,)]
    assert chunked(listed, 4, is_shared=False) == [(0, 1, 2, 3), (4, 5)]


def test_a_plan_is_plain_json_and_says_what_it_will_run():
    _, plan = planned(sweep.grid(learning_rate=[0.1, 0.2], hidden=[(4,), (5, 6), ()], seed=range(3)), n_devices=2)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    first, *rest = str(plan).splitlines()
    assert first == "18 trials in 3 programs on 2 cpu devices"
    assert [line.split()[0] for line in rest] == ["8-4-3", "8-5-6-3", "8-3,"]
    assert str(planned(sweep.grid(learning_rate=[0.1, 0.2], seed=[0]))[1]).startswith("2 trials in 1 program on")
    assert str(planned(sweep.grid(seed=[0]))[1]).startswith("1 trial in 1 program on 1 cpu device")
    assert all("side by side, about" in line for line in rest)
