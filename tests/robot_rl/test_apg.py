"""Analytic policy gradients: they descend, go on bit for bit after a restart, and keep hard vehicles."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from robot_rl.apg import Apg, ApgConfig, _learning_rate
from sim.tasks import TASKS
from sim.tasks.quadrotor import StartRanges

TINY = ApgConfig(updates=6, num_envs=16, horizon=8, hidden=(16,), compile="off")


def tiny_task(**start: float):
    task = TASKS["quadrotor-hover"]
    return dataclasses.replace(task, start=dataclasses.replace(StartRanges(), **start), randomization=())


def test_cost_falls_on_gentle_starts() -> None:
    task = tiny_task(position=0.3, tilt=0.3, linear_velocity=0.3, angular_velocity=0.3, yaw=0.2)
    config = ApgConfig(updates=50, num_envs=32, horizon=40, hidden=(32,), renewal=1.0, hard_renewal=1.0, compile="off")
    learner = Apg(task, dataclasses.replace(config, warm_up=1, curriculum=0.0), seed=0)
    losses = [learner.update()["loss"] for _ in range(50)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_same_seed_same_run_and_other_seed_another() -> None:
    runs = [[Apg(TASKS["quadrotor-track"], TINY, seed).update()["loss"] for _ in range(1)] for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Apg(TASKS["quadrotor-hover"], TINY, seed=1).update()
    assert torch.equal(before, torch.get_rng_state())


def test_restart_goes_on_bit_for_bit() -> None:
    whole = Apg(TASKS["quadrotor-hover"], TINY, seed=2)
    expected = [whole.update() for _ in range(6)]
    first = Apg(TASKS["quadrotor-hover"], TINY, seed=2)
    for _ in range(3):
        first.update()
    second = Apg(TASKS["quadrotor-hover"], TINY, seed=99)
    second.load_state_dict(first.state_dict())
    assert second.updates == 3
    assert [second.update() for _ in range(3)] == expected[3:]
    for a, b in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_vehicle_that_is_not_finite_does_not_reach_the_weights() -> None:
    learner = Apg(TASKS["quadrotor-hover"], TINY, seed=0)
    learner._fleet.simulation.state.position.data[3] = float("nan")
    metrics = learner.update()
    assert all(torch.isfinite(p).all() for p in learner.network.parameters())
    assert metrics["loss"] == metrics["loss"]
    assert torch.isfinite(learner._fleet.simulation.state.position).all(), "the vehicle was not thrown anew"


def test_no_finite_vehicle_is_an_error_that_says_what_to_lower() -> None:
    learner = Apg(TASKS["quadrotor-hover"], TINY, seed=0)
    learner._fleet.simulation.state.position.data[:] = float("nan")
    with pytest.raises(FloatingPointError, match="learning_rate"):
        learner.update()


@pytest.mark.parametrize(("retry", "kept"), [(1.0, True), (0.0, False)])
def test_lost_vehicles_are_thrown_again_as_they_were(retry: float, kept: bool) -> None:
    config = dataclasses.replace(TINY, retry=retry, renewal=0.0, hard_renewal=0.0)
    learner = Apg(TASKS["quadrotor-hover"], config, seed=0)
    distance = torch.zeros(config.num_envs)
    distance[2] = 50.0
    before = learner._fleet
    after = learner._renew(before, distance)
    changed = after.parameters.mass != before.parameters.mass
    moved = (after.simulation.state.position != before.simulation.state.position).any(-1)
    assert moved.nonzero().flatten().tolist() == [2]
    assert changed.nonzero().flatten().tolist() == ([] if kept else [2])


def test_learning_rate_warms_up_and_falls() -> None:
    config = ApgConfig(warm_up=10)
    rates = [_learning_rate(config, update, 100) for update in range(100)]
    assert rates[0] == pytest.approx(0.1 * config.learning_rate)
    assert max(rates) == rates[10] or max(rates) == rates[9]
    assert rates[-1] < 0.03 * config.learning_rate


@pytest.mark.slow
def test_compiled_and_eager_runs_agree() -> None:
    config = dataclasses.replace(TINY, updates=2)
    losses = []
    for mode in ("off", "on"):
        learner = Apg(TASKS["quadrotor-hover"], dataclasses.replace(config, compile=mode), seed=0)
        losses.append([learner.update()["loss"] for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
