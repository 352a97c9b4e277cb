"""`arm-reach-region`: bring the tool of a Panda to a point beyond a post that it must not enter.

As in `arm-reach`, but a post that nothing can touch stands on the table between the start on the left and the goals on
the right: nearly every straight way leads through its upper part. Entering it is a cost, not a failure, and it pays:
the way over it is the longer one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from array_api_compat import array_namespace
from torch import Tensor

from hardware.descriptions import load_arm
from policies.actions import ActionConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.constraints import cost_terms, forbidden_region, region_body
from sim.scene import Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, drive, poses, shortfall, uniform
from sim.tasks.arm_reach import DOWN, ENVELOPE, PERIOD, RANDOMIZATION, SCENE, SPEED, TERMS

AXIS = (0.43, 0.0)
"""m, x and y of the post's axis."""
RADIUS = 0.1
"""m, and the depth at which a step costs 1. A cost that grows with the depth tells the policy where the nearest way out
is; one of 0 and 1 does not."""
TOP = 0.36
"""m. Low enough that it is over the post, not around it, where most ways are shorter: where one goal asks for the way
on the left and the next one for that on the right, a policy that changes smoothly has to lead through the middle."""
REGION = Shape(kind="cylinder", size=(RADIUS, 0.5 * TOP), position=(*AXIS, 0.5 * TOP))
"""What the point between the fingertips must not enter."""
CLEARANCE = 0.03
"""m, between the post and the expert's way."""
GOALS = ((0.36, 0.58), (-0.3, -0.15), (0.15, 0.45))
"""m, box of goals in the base frame."""
TURN = 0.6
"""rad, of the first joint at the start: to the left."""
LIMIT = 0.1
"""Steps at full depth, mean over episodes. Going straight to every goal costs 1.4, going over the post 0."""


@dataclass(frozen=True, kw_only=True)
class ReachRegionSettings:
    """What can be changed with `--set name=value`."""

    tolerance: float = 0.01
    """m, largest distance that counts as reached."""
    cost_limit: float = LIMIT
    """Largest mean over episodes of the number of control periods at whose end the tool is on the axis of the region;
    those at whose end it is less deep count in part."""


def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
    """The arm turned to the left, a goal on the right."""
    home = load_arm("panda").home
    joints = home + np.stack([uniform(count, -0.1, 0.1, generator) for _ in home], axis=1)
    joints[:, 0] += TURN
    position = np.stack([uniform(count, low, high, generator) for low, high in GOALS], axis=1)
    goal = poses(position)
    goal[:, 3:] = DOWN
    return ArmStart(joints={"arm": joints}, poses={"marker": poses(position)}, goal=goal)


def reward(view: ArmView) -> dict[str, Tensor]:
    """That of `arm-reach`, but one that changes as clearly at half a metre from the goal, where episodes begin."""
    error = distance(view.arm.tool_pose, view.goal)
    change = (view.action - view.previous_action).square().mean(-1)
    return {
        "far": 0.3 * shortfall(error, 0.4) + 0.4 * shortfall(error, 0.1),
        "near": 0.2 * shortfall(error, 0.02),
        "jerky": -0.05 * change,
    }


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Straight to the goal where the way is clear, else over a post that is wider and higher by `CLEARANCE`."""
    assert setpoint.tool_pose is not None
    tool, goal = state.tool_pose[..., :3], setpoint.tool_pose[..., :3]
    xp = array_namespace(tool)
    way_x, way_y, rise = (goal[..., i] - tool[..., i] for i in range(3))
    axis_x, axis_y = (AXIS[i] - tool[..., i] for i in range(2))
    left = xp.sqrt(way_x**2 + way_y**2).clip(1e-6)
    along = (way_x * axis_x + way_y * axis_y) / left
    aside = (way_x * axis_y - way_y * axis_x) / left
    radius = RADIUS + CLEARANCE
    half = xp.sqrt((radius**2 - aside**2).clip(0.0))  # of the straight way's part above the wider post
    crossing = (xp.abs(aside) < radius) & (along + half > 0.0) & (along - half < left)
    # Seen from above, always towards the goal. First to the edge of the wider post and up, then level across it.
    climb = TOP + CLEARANCE - tool[..., 2]
    to_edge = (along - half).clip(0.0) / left
    share = xp.where(crossing & (climb > 0.5 * CLEARANCE), to_edge, xp.ones_like(left))
    lowest = xp.where(crossing, climb, rise)
    return drive(
        xp.stack([share * way_x, share * way_y, xp.where(lowest > rise, lowest, rise)], axis=-1), PERIOD, SPEED
    )


def build(settings: ReachRegionSettings) -> ArmTask:
    """The task with given settings."""

    def success(view: ArmView) -> Tensor:
        return distance(view.arm.tool_pose, view.goal) < settings.tolerance

    return ArmTask(
        name="arm-reach-region",
        scene=dataclasses.replace(SCENE, bodies=(*SCENE.bodies, region_body("region", REGION))),
        terms=TERMS,  # the tool's position is among them
        action=ActionConfig(name="cartesian_twist", parameters={"axes": "x y z", "linear": SPEED}),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        costs=cost_terms(region=forbidden_region(REGION, depth=RADIUS)),
        cost_limit=settings.cost_limit,
        expert=expert,
        randomization=RANDOMIZATION,
        episode_length=5.0,
        settings=settings,
        build=build,
    )


TASK = build(ReachRegionSettings())
