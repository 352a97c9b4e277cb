"""`arm-reach-region`: bring the tool of a Panda to a point beyond a region that it must not enter.

As in `arm-reach`, but a column that nothing can touch stands between the start and the goals: four of five straight
ways lead through it. Entering it is a cost, not a failure, and it pays: the way around is the longer one.
"""

from __future__ import annotations

import math
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
from sim.scene import Scene, Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, drive, poses, shortfall, uniform
from sim.tasks.arm_reach import DOWN, ENVELOPE, PERIOD, RANDOMIZATION, SPEED, TERMS

CENTER = (0.38, 0.0)
"""m, x and y of the column's axis."""
RADIUS = 0.09
"""m."""
TOP = 0.7
"""m: above every goal."""
REGION = Shape(kind="cylinder", size=(RADIUS, 0.5 * TOP), position=(*CENTER, 0.5 * TOP))
"""What the point between the fingertips must not enter."""
CLEARANCE = 0.03
"""m, between the column and the expert's way."""
GOALS_X, GOALS_ASIDE, GOALS_Z = (0.34, 0.6), (0.12, 0.3), (0.08, 0.5)
"""m, box of goals: x, distance from the plane y = 0 on the side away from the start, z."""
TURN = 0.6
"""rad, of the first joint at the start, to either side."""
LIMIT = 0.25
"""Steps in the region, mean over episodes: one episode in four that touches it for one control period of 0.1 s.
Going straight to every goal costs 3, going around 0."""


@dataclass(frozen=True, kw_only=True)
class ReachRegionSettings:
    """What can be changed with `--set name=value`."""

    tolerance: float = 0.01
    """m, largest distance that counts as reached."""
    cost_limit: float = LIMIT
    """Largest mean number of control periods per episode at whose end the tool is in the region."""


def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
    """The arm turned to one side, a goal on the other."""
    home = load_arm("panda").home
    side = np.sign(uniform(count, -1.0, 1.0, generator))
    joints = home + np.stack([uniform(count, -0.1, 0.1, generator) for _ in home], axis=1)
    joints[:, 0] += side * TURN
    x, aside, z = (uniform(count, *limits, generator) for limits in (GOALS_X, GOALS_ASIDE, GOALS_Z))
    # The corner of the box that is too near to the column is taken away.
    least = np.sqrt(np.clip((RADIUS + CLEARANCE) ** 2 - (x - CENTER[0]) ** 2, 0.0, None))
    goal = poses(np.stack([x, -side * np.maximum(aside, least), z], axis=1))
    goal[:, 3:] = DOWN
    return ArmStart(joints={"arm": joints}, widths={"arm": np.zeros(count)}, goal=goal)


def reward(view: ArmView) -> dict[str, Tensor]:
    """That of `arm-reach`, but one that still changes at half a metre from the goal, where episodes begin."""
    error = distance(view.arm.tool_pose, view.goal)
    change = (view.action - view.previous_action).square().mean(-1)
    return {
        "far": 0.5 * shortfall(error, 0.4),
        "near": 0.4 * shortfall(error, 0.02),
        "jerky": -0.05 * change,
    }


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Straight to the goal where the way is clear, else along the tangent to a column that is wider by `CLEARANCE`."""
    assert setpoint.tool_pose is not None
    tool, goal = state.tool_pose[..., :3], setpoint.tool_pose[..., :3]
    xp = array_namespace(tool)
    way_x, way_y, rise = (goal[..., i] - tool[..., i] for i in range(3))
    axis_x, axis_y = (CENTER[i] - tool[..., i] for i in range(2))
    left, near = xp.sqrt(way_x**2 + way_y**2).clip(1e-6), xp.sqrt(axis_x**2 + axis_y**2).clip(1e-6)
    along = (way_x * axis_x + way_y * axis_y) / left
    aside = (way_x * axis_y - way_y * axis_x) / left  # positive where the axis is on the left
    blocked = (along > 0.0) & (along < left) & (xp.abs(aside) < RADIUS + CLEARANCE)
    # The tangent: the direction of the axis, turned away from it; by more than a right angle where it is too near.
    sine = (RADIUS + CLEARANCE) / near
    turn = xp.where(sine < 1.0, xp.asin(sine.clip(0.0, 1.0)), 0.5 * math.pi + 4.0 * (sine - 1.0))
    turn = xp.where(aside > 0.0, -turn, turn)
    cosine, sine = xp.cos(turn) * left / near, xp.sin(turn) * left / near
    error_x = xp.where(blocked, cosine * axis_x - sine * axis_y, way_x)
    error_y = xp.where(blocked, sine * axis_x + cosine * axis_y, way_y)
    return drive(xp.stack([error_x, error_y, rise], axis=-1), PERIOD, SPEED)


def build(settings: ReachRegionSettings) -> ArmTask:
    """The task with given settings."""

    def success(view: ArmView) -> Tensor:
        return distance(view.arm.tool_pose, view.goal) < settings.tolerance

    return ArmTask(
        name="arm-reach-region",
        scene=Scene(bodies=(region_body("region", REGION),)),
        terms=TERMS,  # the tool's position is among them
        action=ActionConfig(name="cartesian_twist", parameters={"axes": "x y z", "linear": SPEED}),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        costs=cost_terms(region=forbidden_region(REGION)),
        cost_limit=settings.cost_limit,
        expert=expert,
        randomization=RANDOMIZATION,
        episode_length=5.0,
        settings=settings,
        build=build,
    )


TASK = build(ReachRegionSettings())
