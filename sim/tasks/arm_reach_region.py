"""`arm-reach-region`: bring the tool of a Panda to a point beyond a region that it must not enter.

As in `arm-reach`, but a wall that nothing can touch stands between the start and the goals: most of the straight ways
lead through it. Entering it is a cost, not a failure, and it pays: the way over it is the longer one.
"""

from __future__ import annotations

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
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, drive, poses, uniform
from sim.tasks.arm_reach import DOWN, ENVELOPE, PERIOD, RANDOMIZATION, SPEED, TERMS, reward

HALF = 0.05
"""m, half thickness of the wall, which stands in the plane y = 0."""
TOP = 0.3
"""m, its height: that of the tool at home."""
REGION = Shape(kind="box", size=(0.3, HALF, 0.5 * TOP), position=(0.5, 0.0, 0.5 * TOP))
"""What the point between the fingertips must not enter."""
CLEARANCE = 0.03
"""m, between the wall and the expert's way."""
GOALS_X, GOALS_ASIDE, GOALS_Z = (0.32, 0.62), (0.1, 0.3), (0.08, 0.3)
"""m, box of goals: x, distance from the plane y = 0 on the side away from the start, z."""
TURN = 0.6
"""rad, of the first joint at the start, to either side."""
LIMIT = 0.1
"""Steps in the region, mean over episodes: one episode in ten that touches it for one control period of 0.1 s.
Going straight to every goal costs 2.7, going around 0."""


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
    goal = poses(np.stack([x, -side * aside, z], axis=1))
    goal[:, 3:] = DOWN
    return ArmStart(joints={"arm": joints}, widths={"arm": np.zeros(count)}, goal=goal)


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Straight to the goal where the way is clear, else over the wall, from above its near edge to above its far one."""
    assert setpoint.tool_pose is not None
    tool, goal = state.tool_pose[..., :3], setpoint.tool_pose[..., :3]
    xp = array_namespace(tool)
    x, y, z = (tool[..., i] for i in range(3))
    side = xp.sign(goal[..., 1])
    edge, height = HALF + CLEARANCE, TOP + CLEARANCE
    done, whole = side * y, side * goal[..., 1]  # along y, towards the goal: negative before the wall

    def share(there: Array | float) -> Array:
        """How much of the way to the goal ends at `there`."""
        return ((there - done) / (whole - done).clip(1e-3)).clip(0.0, 1.0)

    lowest = z + xp.maximum(share(-edge), share(edge)) * (goal[..., 2] - z)
    lowest = xp.minimum(lowest, z + xp.minimum(share(-edge), share(edge)) * (goal[..., 2] - z))
    clear = (done >= edge) | (lowest >= height)
    low = z < height - 0.5 * CLEARANCE
    corner = xp.where(low, done.clip(-edge, None), 0.0 * done + edge + 0.5 * CLEARANCE)
    over = xp.stack([share(corner) * (goal[..., 0] - x), side * corner - y, height - z], axis=-1)
    return drive(xp.where(clear[..., None], goal - tool, over), PERIOD, SPEED)


def build(settings: ReachRegionSettings) -> ArmTask:
    """The task with given settings."""

    def success(view: ArmView) -> Tensor:
        return distance(view.arm.tool_pose, view.goal) < settings.tolerance

    return ArmTask(
        name="arm-reach-region",
        scene=Scene(bodies=(region_body("region", REGION),)),
        terms=TERMS,  # the tool's position among them is the one from the wall's upper edge
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
