"""`arm-reach-region`: the straight way is dear, the way around is free, and goals are within reach."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import sim
from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from robot_rl.evaluate_arm import run_arm
from sim.constraints import signed_distance
from sim.tasks import arm_reach
from sim.tasks.arm import with_settings
from sim.tasks.arm_reach_region import CLEARANCE, REGION, TASK, expert, start


@pytest.fixture(scope="module")
def ways():
    """Points (100, K, 3) on the straight ways of K episodes."""
    begin = start(2000, torch.Generator().manual_seed(0), {})
    tool = forward_kinematics(load_arm("panda"), begin.joints["arm"]).tool_position
    assert begin.goal is not None
    return tool + np.linspace(0.0, 1.0, 100)[:, None, None] * (begin.goal[:, :3] - tool)


def test_starts_and_goals_lie_outside_and_most_straight_ways_inside(ways) -> None:
    distances = signed_distance(REGION, torch.from_numpy(ways))
    assert float(distances[0].min()) > CLEARANCE
    assert float(distances[-1].min()) > CLEARANCE - 1e-6
    crossing = float((distances.min(0).values < 0.0).float().mean())
    assert 0.7 < crossing < 0.9
    assert abs(float((ways[0, :, 1] > 0).mean()) - 0.5) < 0.05, "episodes start on both sides"


def test_expert_goes_around_and_the_straight_way_is_dear() -> None:
    """200 episodes gave 200 successes at a cost of 0; going straight cost 3.1."""
    around = run_arm(None, TASK, TASK.randomization, 32, 3, "mujoco")
    straight = run_arm(None, dataclasses.replace(TASK, expert=arm_reach.expert), (), 32, 3, "mujoco")
    assert around["success_rate"] >= 0.95
    assert around["constraint_cost"] <= 0.02
    assert around["constraint_limit"] == TASK.cost_limit
    assert straight["success_rate"] >= 0.95
    assert straight["constraint_cost"] > 8.0 * TASK.cost_limit


def test_expert_leaves_the_region_where_it_is_inside() -> None:
    env = sim.make("arm-reach-region", num_envs=1, seed=0, randomization="none")
    env.reset()
    pose = torch.tensor([[REGION.position[0] + 0.01, 0.04, 0.3, 0.0, 1.0, 0.0, 0.0]])
    goal = torch.tensor([[REGION.position[0], -0.2, 0.3, 0.0, 1.0, 0.0, 0.0]])
    state, setpoint = (
        dataclasses.replace(env.measured, tool_pose=pose),
        dataclasses.replace(env.setpoint, tool_pose=goal),
    )
    action = expert(state, setpoint)
    moved = pose[:, :3] + 0.01 * action
    assert float(signed_distance(REGION, moved)) > float(signed_distance(REGION, pose[:, :3]))
    env.close()


def test_the_environment_tells_the_steps_inside() -> None:
    """The cost is 1 exactly where the tool is inside, and 0 in the step that begins an episode."""
    env = sim.make("arm-reach-region", num_envs=8, seed=1, randomization="none")
    env.reset()
    ended, inside_steps = torch.zeros(8, dtype=torch.bool), 0
    for _ in range(40):
        _, _, reset, extras = env.step(arm_reach.expert(env.measured, env.setpoint).float())
        inside = signed_distance(REGION, env.view.arm.tool_pose[:, :3]) < 0.0
        assert torch.equal(extras["cost"], (inside & ~ended).float())
        assert "cost/region" in extras["log"]
        ended, inside_steps = reset, inside_steps + int(inside.sum())
    assert inside_steps > 5
    env.close()


def test_the_limit_is_a_setting() -> None:
    assert with_settings(TASK, {"cost_limit": 0.3}).cost_limit == 0.3
