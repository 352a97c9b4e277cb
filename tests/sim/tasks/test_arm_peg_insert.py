"""`arm-peg-insert`: the expert feels its way into the hole; clearance, observation error and forces mean something."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

import sim
from hardware.controllers.differential_ik import solve_pose
from hardware.descriptions import load_arm
from policies import rotation
from policies.types import ArmSetpoint, ArmState
from sim.arm_environment import ArmEnv
from sim.factory import build_env
from sim.randomization import RandomizationTerm
from sim.scene import Body
from sim.tasks.arm import ArmStart, ArmTask, with_settings
from sim.tasks.arm_peg_insert import DEPTH, PEG, TASK, block, in_hole


def build(task: ArmTask, count: int, seed: int = 1, terms: tuple[RandomizationTerm, ...] | None = ()) -> ArmEnv:
    env = build_env(task, count, seed=seed, randomization=terms)
    assert isinstance(env, ArmEnv)
    return env


def make(num_envs: int, seed: int) -> ArmEnv:
    """The task as users get it."""
    env = sim.make("arm-peg-insert", num_envs=num_envs, seed=seed)
    assert isinstance(env, ArmEnv)
    return env


def measured(env: ArmEnv) -> ArmState:
    assert isinstance(env.measured, ArmState)
    return env.measured


def force(env: ArmEnv) -> Tensor:
    """True force (N, 3) on the tool, tool frame."""
    wrench = env.view.arm.wrench
    assert wrench is not None
    return wrench[:, :3]


def run(env: ArmEnv, steps: int, *, blind: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """First episode of every environment under the expert: won, lost, deepest tip (N,) m."""
    env.reset()
    done = torch.zeros(env.num_envs, dtype=torch.bool)
    won, lost, deepest = done.clone(), done.clone(), torch.full((env.num_envs,), -1.0)
    for _ in range(steps):
        state = measured(env)
        if blind:
            assert state.wrench is not None
            state = dataclasses.replace(state, wrench=torch.zeros_like(state.wrench))
        _, _, reset, extras = env.step(TASK.expert(state, env.setpoint))
        deepest = torch.where(done, deepest, torch.maximum(deepest, in_hole(env.view)[1]))
        won |= extras["success"] & ~done
        lost |= reset & ~extras["success"] & ~extras["time_outs"] & ~done
        done |= reset
        if done.all():
            break
    return won, lost, deepest


def starting_at(offset: tuple[float, float, float], task: ArmTask = TASK) -> ArmTask:
    """The task with the tip at first there, from the hole's entrance in the hole's frame (z down), aligned."""

    def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
        drawn = TASK.start(count, generator, values)
        hole = drawn.poses["hole"]
        tip = hole.copy()
        tip[:, :3] += rotation.rotate(hole[:, 3:], np.broadcast_to(np.array(offset), (count, 3)))
        joints, residual = solve_pose(load_arm("panda"), tip, load_arm("panda").home)
        assert residual.max() < 1e-4
        return dataclasses.replace(drawn, joints={"arm": joints})

    return dataclasses.replace(task, start=start)


def test_expert_inserts_at_the_default_clearance() -> None:
    """At 0.5 mm with 1 mm and 1 degree of error: 500 episodes gave 500 successes.

    With 99 % a run of 64 has fewer than 59 five times in 100,000.
    Without the wrench, the same motion finds the hole in about a third of the episodes: the search is what does it.
    """
    env = make(num_envs=64, seed=3)
    won, _, _ = run(env, env.max_episode_length)
    assert int(won.sum()) >= 59
    blind, _, _ = run(make(num_envs=32, seed=3), 30, blind=True)
    assert int(blind.sum()) <= 24


def test_free_motion_is_at_the_limits_of_the_action() -> None:
    env = build(TASK, 16)
    env.reset()
    for _ in range(3):
        action = TASK.expert(measured(env), env.setpoint)
        assert action.abs().amax(-1).min() >= 0.8
        env.step(action)


@pytest.mark.parametrize(("clearance", "fits"), [(-0.0001, False), (0.0001, True)])
def test_a_tenth_of_a_millimetre_decides(clearance: float, fits: bool) -> None:
    """Contacts are so stiff that a peg which is 0.1 mm too wide stays on the chamfer; 0.1 mm of room lets it in."""
    scene = dataclasses.replace(TASK.scene, bodies=(block(clearance), PEG))
    won, _, deepest = run(build(dataclasses.replace(TASK, scene=scene), 4), 40)
    if fits:
        assert won.sum() >= 3
    else:
        assert not won.any()
        assert deepest.max() < 0.001


def test_clearance_is_a_setting() -> None:
    wide = with_settings(TASK, {"clearance": 0.002}).scene.body("hole")
    narrow = with_settings(TASK, {"clearance": 0.0002}).scene.body("hole")

    def width(body: Body) -> float:
        right, left = (shape for shape in (body.shapes[1], body.shapes[7]))
        return (right.position[0] - right.size[0]) - (left.position[0] + left.size[0])

    assert width(wide) == pytest.approx(0.018)
    assert width(narrow) == pytest.approx(0.0162)
    with pytest.raises(ValueError, match=r"clearance is 0\.1 m"):
        with_settings(TASK, {"clearance": 0.1})


def test_observation_error_is_fixed_in_an_episode() -> None:
    """At most a millimetre per axis and a degree, another one in every episode, none without randomization."""
    env = make(num_envs=16, seed=2)
    errors = []
    for _ in range(2):
        env.reset()
        first = measured(env).objects["hole"] - env.view.arm.objects["hole"]
        for _ in range(3):
            env.step(TASK.expert(measured(env), env.setpoint))
            error = measured(env).objects["hole"] - env.view.arm.objects["hole"]
            torch.testing.assert_close(error, first, atol=1e-6, rtol=0.0)
        yaw = rotation.yaw_of(measured(env).objects["hole"][:, 3:]) - rotation.yaw_of(
            env.view.arm.objects["hole"][:, 3:]
        )
        assert first[:, :3].abs().max() <= 0.001001
        assert first[:, :3].std() > 0.0004
        assert math.radians(0.3) < yaw.abs().max() <= math.radians(1.02)
        errors.append(first)
    assert not torch.equal(*errors)
    exact = build(TASK, 2)
    torch.testing.assert_close(measured(exact).objects["hole"], exact.view.arm.objects["hole"])


def test_peg_beside_the_block_is_no_success() -> None:
    """As deep as in the hole, but in the air on the block's far side."""
    env = build(starting_at((0.09, 0.0, 0.022)), 4)
    env.reset()
    for _ in range(5):
        _, _, _, extras = env.step(torch.zeros(4, 4))
        assert (in_hole(env.view)[1] > 0.8 * DEPTH).all()
        assert not extras["success"].any()


def test_static_force_is_bounded_by_the_controller() -> None:
    """Driven into the block at full command, the peg presses with stiffness × clip and hardly sinks in."""
    task = with_settings(TASK, {"force_limit": 1000.0})
    env = build(starting_at((0.025, 0.0, -0.003), task), 4)
    env.reset()
    down = torch.tensor([[0.0, 0.0, -1.0, 0.0]]).repeat(4, 1)
    for _ in range(15):
        env.step(down)
    pressed = -force(env)[:, 2]
    assert pressed.min() > 10.0
    # 3000 N/m × 5 mm, and what the friction of the joints carries when they have been moved.
    assert pressed.max() < 17.0
    assert in_hole(env.view)[1].max() < 5e-5


@pytest.mark.parametrize("manner", ["down", "hither and thither", "round and round"])
def test_no_command_makes_more_force_than_the_limit(manner: str) -> None:
    """Whatever a policy that has learned nothing yet asks for: the controller leads the tool slowly near the block."""
    env = build(with_settings(TASK, {"force_limit": 1000.0}), 8)
    env.reset()
    generator = torch.Generator().manual_seed(3)
    peak = torch.zeros(8)
    for step in range(60):
        action = torch.zeros(8, 4)
        if manner == "hither and thither":
            action = torch.sign(torch.randn(8, 4, generator=generator))
        elif manner == "round and round":
            action[:, 0], action[:, 1], action[:, 3] = math.sin(step / 3), math.cos(step / 3), (-1.0) ** step
        action[:, 2] = torch.where(torch.rand(8, generator=generator) < 0.75, -1.0, action[:, 2])
        env.step(action)
        peak = torch.maximum(peak, env.view.peak_force["arm"])
    assert peak.min() > 3.0, "the peg did not touch the block"
    assert peak.max() < 36.0


def test_too_much_force_loses_the_episode() -> None:
    """Pressed on the block with all its might, the peg makes more force than a lower limit allows."""
    env = build(starting_at((0.025, 0.0, -0.02), with_settings(TASK, {"force_limit": 12.0})), 4)
    env.reset()
    lost = torch.zeros(4, dtype=torch.bool)
    over = lost.clone()
    for _ in range(8):
        _, reward, reset, extras = env.step(torch.tensor([[0.0, 0.0, -1.0, 0.0]]).repeat(4, 1))
        over |= env.view.peak_force["arm"] > 12.0
        assert torch.equal(over & ~lost, reset), "lost in the very step in which the force is too large"
        assert not extras["success"].any()
        assert not extras["time_outs"].any()
        assert (reward[reset] < -15.0).all()
        lost |= reset
        if lost.all():
            break
    assert lost.all()


def test_starts_keep_their_bounds() -> None:
    env = build(TASK, 64)
    env.reset()
    hole, tip = env.view.arm.objects["hole"], env.view.arm.tool_pose
    away = tip[:, :3] - hole[:, :3]
    turn = rotation.yaw_of(tip[:, 3:]) - rotation.yaw_of(hole[:, 3:])
    assert away[:, :2].abs().max() <= 0.0301
    assert away[:, 2].min() >= 0.0499
    assert away[:, 2].max() <= 0.1001
    assert turn.abs().max() <= math.radians(8.01)
    assert rotation.yaw_of(hole[:, 3:]).abs().max() <= math.radians(15.01)
    assert turn.abs().max() > math.radians(6.0)


def test_expert_is_the_same_in_numpy_and_alone() -> None:
    env = make(num_envs=4, seed=2)
    state = measured(env)
    assert state.wrench is not None
    state = dataclasses.replace(state, wrench=torch.tensor([[1.0, 2.0, -6.0, 0.03, -0.02, 0.01]]).repeat(4, 1))
    near = state.objects["hole"].clone()
    near[:2, :3] = state.tool_pose[:2, :3] + 0.001  # on the block, and in the hole
    near[1, 2] += 0.004
    state = dataclasses.replace(state, objects={"hole": near})
    batched = TASK.expert(state, env.setpoint).numpy()
    for i in range(4):
        single = ArmState(
            joint_positions=state.joint_positions[i].numpy(),
            joint_velocities=state.joint_velocities[i].numpy(),
            tool_pose=state.tool_pose[i].numpy(),
            tool_twist=state.tool_twist[i].numpy(),
            gripper_width=state.gripper_width[i].numpy(),
            wrench=state.wrench[i].numpy(),  # type: ignore[index]
            objects={"hole": near[i].numpy()},
        )
        np.testing.assert_allclose(TASK.expert(single, ArmSetpoint()), batched[i], atol=1e-5)


def test_contract_and_reproducible_resets() -> None:
    short = dataclasses.replace(TASK, episode_length=0.6)
    assert sim.check_vec_env(build_env(short, 2, seed=0)) == []
    one, other = (make(num_envs=3, seed=4) for _ in range(2))
    assert torch.equal(one.reset(seed=9)["obs"], other.reset(seed=9)["obs"])
    for _ in range(5):
        action = TASK.expert(measured(one), one.setpoint)
        assert torch.equal(one.step(action)[0]["states"], other.step(action)[0]["states"])
