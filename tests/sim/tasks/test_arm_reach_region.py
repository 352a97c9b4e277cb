"""`arm-reach-region`: the straight way is dear, the way around is free, and goals are within reach."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

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
from sim.tasks.arm_reach_region import AXIS, CLEARANCE, RADIUS, REGION, TASK, TOP, expert, start


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
    assert crossing > 0.9


def test_expert_goes_over_it_and_the_straight_way_is_dear() -> None:
    """500 episodes gave 500 successes at a cost of 0; going straight cost 1.4."""
    around = run_arm(None, TASK, TASK.randomization, 32, 3, "mujoco")
    straight = run_arm(None, dataclasses.replace(TASK, expert=arm_reach.expert), (), 32, 3, "mujoco")
    assert around["success_rate"] >= 0.95
    assert around["constraint_cost"] <= 0.02
    assert around["constraint_limit"] == TASK.cost_limit
    assert straight["success_rate"] >= 0.95
    assert straight["constraint_cost"] > 8.0 * TASK.cost_limit


def directed(tool: list[list[float]], goal: list[float]) -> torch.Tensor:
    """The expert's unit directions from some points to one goal."""
    down = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(len(tool), 4)
    state = SimpleNamespace(tool_pose=torch.cat([torch.tensor(tool), down], dim=1))
    setpoint = SimpleNamespace(tool_pose=torch.cat([torch.tensor([goal]).expand(len(tool), 3), down], dim=1))
    action = expert(state, setpoint)  # type: ignore[arg-type]
    return action / action.norm(dim=-1, keepdim=True)


def test_expert_leaves_the_region_where_it_is_inside() -> None:
    x, y = AXIS
    tool = [[x + 0.01, y + 0.04, 0.3], [x, y - 0.05, 0.33], [x - 0.02, y + 0.09, 0.2]]
    up = torch.tensor([0.0, 0.0, 1.0]).expand(3, 3)
    torch.testing.assert_close(directed(tool, [x, -0.2, 0.25]), up)


def test_expert_aims_at_the_edge_of_the_wider_post_crosses_level_and_descends_beyond() -> None:
    x, y = AXIS
    goal, height = [x, y - 0.25, 0.2], TOP + CLEARANCE
    before, above, beyond = [x, y + 0.3, 0.3], [x, y - 0.05, height], [x, y - RADIUS - 1.1 * CLEARANCE, height]
    ways = directed([before, above, beyond], goal)
    edge = torch.tensor([x, y + RADIUS + CLEARANCE, height]) - torch.tensor(before)
    torch.testing.assert_close(ways[0], edge / edge.norm())
    torch.testing.assert_close(ways[1], torch.tensor([0.0, -1.0, 0.0]), atol=1e-5, rtol=0.0)
    assert float(ways[2, 2]) < -0.3
    free = [x + 0.2, y - 0.05, 0.3]
    expected = torch.tensor(free) - torch.tensor(before)
    torch.testing.assert_close(directed([before], free)[0], expected / expected.norm())


def test_the_environment_tells_the_steps_inside() -> None:
    """The cost grows to 1 on the axis, is 0 outside, and 0 in the step that begins an episode."""
    env = sim.make("arm-reach-region", num_envs=8, seed=1, randomization="none")
    env.reset()
    ended, inside_steps = torch.zeros(8, dtype=torch.bool), 0
    for _ in range(40):
        _, _, reset, extras = env.step(arm_reach.expert(env.measured, env.setpoint).float())
        below = -signed_distance(REGION, env.view.arm.tool_pose[:, :3])
        expected = torch.where(ended, 0.0, (below / RADIUS).clamp(0.0, 1.0))
        torch.testing.assert_close(extras["cost"], expected)
        assert "cost/region" in extras["log"]
        ended, inside_steps = reset, inside_steps + int((below > 0.0).sum())
    assert inside_steps > 5
    env.close()


def test_the_limit_is_a_setting() -> None:
    assert with_settings(TASK, {"cost_limit": 0.3}).cost_limit == 0.3
