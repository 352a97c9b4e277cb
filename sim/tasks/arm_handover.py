"""`arm-handover`: two Pandas face each other; the left one takes a bar from the table and gives it to the right one.

One policy commands both arms. The bar lies on the left arm's side. The left arm grasps its orange end, the right arm
takes the blue one in the middle between them, and the left arm lets go. All poses are in the left arm's base frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from array_api_compat import array_namespace
from torch import Tensor

from hardware.controllers.differential_ik import solve_pose
from hardware.descriptions import load_arm
from policies import rotation
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.randomization import RandomizationTerm
from sim.scene import ArmMount, Body, Camera, Scene, Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, drive, poses, shortfall, uniform

SPEED = 0.4
"""m/s, the action's scale."""
TURN = 1.5
"""rad/s, likewise."""
PERIOD = 0.1
SPAN = 1.1
"""m between the bases of the arms."""
LENGTH, THICKNESS = 0.28, 0.03
"""m, of the bar."""
GRASP = 0.085
"""m from the bar's middle to where either arm grasps it: the left one on the bar's -x side, the right one on +x."""
MEETING = (0.5 * SPAN, 0.0, 0.3)
"""m, where the bar's middle changes hands."""
ABOVE = 0.09
"""m over the bar, from where a tool comes down on it."""
READY = 0.4
"""Gripper command of a tool that comes: 56 mm, so that closing takes little time."""
DOWN = (0.0, 1.0, 0.0, 0.0)
"""Orientation of a tool that points straight down, in the frame of its own base."""


@dataclass(frozen=True, kw_only=True)
class HandoverSettings:
    """What can be changed with `--set name=value`."""

    spread: float = 0.6
    """rad, largest angle between the bar on the table and the line between the arms."""
    apart: float = 0.05
    """m, distance from the bar at which the left tool counts as away."""


def _scene() -> Scene:
    end, middle = 0.5 * (0.5 * LENGTH - 0.03), 0.03
    side = 0.5 * THICKNESS
    orange, blue, gray = (0.93, 0.46, 0.13, 1.0), (0.10, 0.45, 0.80, 1.0), (0.85, 0.85, 0.87, 1.0)
    bar = Body(
        name="bar",
        mass=0.12,
        shapes=(
            Shape(kind="box", size=(end, side, side), position=(-middle - end, 0.0, 0.0), color=orange),
            Shape(kind="box", size=(middle, side, side), color=gray),
            Shape(kind="box", size=(end, side, side), position=(middle + end, 0.0, 0.0), color=blue),
        ),
    )
    table = Body(
        name="long table",
        motion="fixed",
        friction=1.0,
        position=(0.5 * SPAN, 0.0, -0.02),
        shapes=(Shape(kind="box", size=(0.5 * SPAN + 0.25, 0.5, 0.02), color=(0.72, 0.63, 0.52, 1.0)),),
    )
    return Scene(
        arms=(
            ArmMount(name="left"),
            ArmMount(name="right", position=(SPAN, 0.0, 0.0), yaw=math.pi),
        ),
        bodies=(table, bar),
        cameras=(
            Camera(name="front", position=(0.5 * SPAN, -1.35, 0.75), target=(0.5 * SPAN, 0.0, 0.25), field_of_view=1.0),
            Camera(
                name="wrist",
                attached_to="left",
                position=(0.11, 0.0, -0.07),
                target=(0.02, 0.0, 0.03),
                up=(1.0, 0.0, 0.0),
                field_of_view=1.2,
            ),
        ),
        table=False,
    )


def build(settings: HandoverSettings) -> ArmTask:
    """The task with given settings."""

    def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
        """The bar anywhere before the left arm, both tools over the table, the right one back and high."""

        def tools(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
            """Joints (K, 7) of tools that point down from a box in the frame of their base."""
            pose = np.stack([uniform(count, a, b, generator) for a, b in zip(low, high, strict=True)], axis=1)
            pose = np.concatenate([pose, np.broadcast_to(DOWN, (count, 4))], axis=1)
            home = np.broadcast_to(arm.home, (count, len(arm.home)))
            return solve_pose(arm, pose, home)[0]

        arm = load_arm("panda")
        left, right = tools((0.4, -0.1, 0.25), (0.5, 0.1, 0.35)), tools((0.35, -0.1, 0.38), (0.43, 0.1, 0.46))
        x, y = uniform(count, 0.42, 0.54, generator), uniform(count, -0.2, 0.2, generator)
        yaw = uniform(count, -settings.spread, settings.spread, generator)
        bar = poses(np.stack([x, y, np.full(count, 0.5 * THICKNESS)], axis=1), yaw)
        goal = poses(np.broadcast_to(MEETING, (count, 3)))
        return ArmStart(joints={"left": left, "right": right}, poses={"bar": bar}, goal=goal)

    def success(view: ArmView) -> Tensor:
        """Between the right arm's fingers, away from the left tool, above the table, and slow: what falls is not."""
        bar = view.arms["left"].objects["bar"]
        slow = (view.twists["bar"][:, :3].norm(dim=-1) < 0.05) & (view.twists["bar"][:, 3:].norm(dim=-1) < 0.5)
        free = _outside(view.arms["left"], bar) > settings.apart
        return is_held(view.arms["right"], bar) & free & slow & (lowest(bar) > 0.05)

    return ArmTask(
        name="arm-handover",
        scene=_scene(),
        terms=TERMS,
        action=ActionConfig(
            name="cartesian_twist",
            parameters={"axes": "x y z rz gripper", "linear": SPEED, "angular": TURN, "arms": "left right"},
        ),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        expert=expert,
        failed=failed,
        hold=0.5,
        randomization=RANDOMIZATION,
        episode_length=15.0,
        settings=settings,
        build=build,
    )


def failed(view: ArmView) -> Tensor:
    """The bar has left the table, or lies where the left arm does not go."""
    bar = view.arms["left"].objects["bar"]
    lying = bar[:, 2] < 0.03
    away = (bar[:, 0] > 0.72) | (bar[:, 0] < 0.3) | (bar[:, 1].abs() > 0.35)
    return (bar[:, 2] < -0.05) | (lying & away)


def reward(view: ArmView) -> dict[str, Tensor]:
    """The left tool should be at the bar, the bar in the middle, the right tool at the bar, then the left away."""
    left, right = view.arms["left"], view.arms["right"]
    bar = left.objects["bar"]
    taken = is_held(right, bar)
    reaching = distance(left.tool_pose, grasp_point(bar, -GRASP))
    leaving = (0.1 - _outside(left, bar)).clamp(min=0.0)
    carrying = distance(bar, view.goal)
    taking = distance(right.tool_pose, grasp_point(bar, GRASP))
    change = (view.action - view.previous_action).square().mean(-1)
    return {
        "reach": 0.2 * torch.where(taken, 0.5 * shortfall(leaving, 0.05), shortfall(reaching, 0.1)),
        "carry": 0.3 * shortfall(carrying, 0.2),
        "take": 0.3 * shortfall(taking, 0.15),
        "keep": -0.15 * (~taken).float(),
        "jerky": -0.03 * change,
    }


# Where things are, for numpy and torch alike


def grasp_point(bar: Array, along: float) -> Array:
    """Point (..., 3) m on the axis of a bar's pose (..., 7), `along` m from its middle."""
    return bar[..., :3] + along * rotation.to_matrix(bar[..., 3:])[..., :, 0]


def seen_from(arm: ArmState, bar: Array) -> Array:
    """Tool's point (..., 3) m in the bar's frame."""
    return rotation.rotate_inverse(bar[..., 3:], arm.tool_pose[..., :3] - bar[..., :3])


def is_held(arm: ArmState, bar: Array) -> Array:
    """Whether (...) the bar's axis passes between the fingers and they are as far apart as the bar is thick."""
    xp = array_namespace(bar)
    point = seen_from(arm, bar)
    inside = (xp.abs(point[..., 0]) < 0.5 * LENGTH) & (xp.abs(point[..., 1]) < 0.01) & (xp.abs(point[..., 2]) < 0.02)
    return inside & (arm.gripper_width < THICKNESS + 0.003) & (arm.gripper_width > THICKNESS - 0.005)


def lowest(bar: Array) -> Array:
    """Height (...) m of the lower end of the bar's axis."""
    xp = array_namespace(bar)
    return bar[..., 2] - 0.5 * LENGTH * xp.abs(rotation.to_matrix(bar[..., 3:])[..., 2, 0])


def _outside(arm: ArmState, bar: Tensor) -> Tensor:
    """Distance (N,) m of the tool's point from the bar's surface, 0 inside."""
    half = torch.tensor([0.5 * LENGTH, 0.5 * THICKNESS, 0.5 * THICKNESS])
    return (seen_from(arm, bar).abs() - half).clamp(min=0.0).norm(dim=-1)


# A scripted solution


def expert(state: dict[str, ArmState], setpoint: ArmSetpoint) -> Array:
    """Grasp, bring to the middle, take, let go: each arm does what the state of both asks for."""
    assert setpoint.tool_pose is not None
    left, right = state["left"], state["right"]
    bar, goal = left.objects["bar"], setpoint.tool_pose
    xp = array_namespace(bar)
    has_left, has_right = is_held(left, bar), is_held(right, bar)
    met = has_left & (xp.linalg.vector_norm(bar[..., :3] - goal[..., :3], axis=-1) < 0.05)

    # The left arm: fetch the bar; bring it; once the right one has it, open; once open, rise.
    reached, fetch = _come(left, bar, -GRASP)
    bring = goal[..., :3] - bar[..., :3]
    still = xp.zeros_like(bring)
    opened = left.gripper_width > THICKNESS + 0.006
    rise = xp.stack([still[..., 0] - 0.3, still[..., 1], still[..., 2] + 0.3], axis=-1)
    leave = xp.where(opened[..., None] | ~has_left[..., None], rise, still)
    step = xp.where(has_right[..., None], leave, xp.where(has_left[..., None], bring, fetch))
    angle = xp.where(has_left, -rotation.yaw_of(bar[..., 3:]), _misalignment(left, bar))
    grip = xp.where(has_right, 1.0 + still[..., 0], xp.where(reached | has_left, -1.0 + still[..., 0], READY))
    first = _action(step, xp.where(has_right, 0.0 * angle, angle), grip)

    # The right arm: wait over the place where its end of the bar will be; then take it and hold it still.
    reached, fetch = _come(right, bar, GRASP)
    over = xp.stack([goal[..., 0] + GRASP, goal[..., 1], goal[..., 2] + ABOVE], axis=-1)
    wait = over - right.tool_pose[..., :3]
    closing = met & reached
    step = xp.where(has_right[..., None], still, xp.where(met[..., None], fetch, wait))
    grip = xp.where(has_right | closing, -1.0 + still[..., 0], READY)
    second = _action(step, xp.where(has_right, 0.0 * angle, _misalignment(right, bar) * met), grip)
    return xp.concat([first, second], axis=-1)


def _come(arm: ArmState, bar: Array, along: float) -> tuple[Array, Array]:
    """Whether (...) the tool may close, and the way (..., 3) m to a point of the bar, down on it through a funnel."""
    xp = array_namespace(bar)
    way = grasp_point(bar, along) - arm.tool_pose[..., :3]
    aside = xp.linalg.vector_norm(way[..., :2], axis=-1) + 0.05 * xp.abs(_misalignment(arm, bar))
    height = (4.0 * (aside - 0.012)).clip(0.0, ABOVE)
    point = seen_from(arm, bar)
    off = xp.abs(point[..., 0] - along)
    tight = (off < 0.02) & (xp.abs(point[..., 1]) < 0.008) & (xp.abs(point[..., 2]) < 0.008)
    # Fingers that have begun to close go on: they may push the bar a little.
    wide = (off < 0.04) & (xp.abs(point[..., 1]) < 0.015) & (xp.abs(point[..., 2]) < 0.015)
    reached = tight | (wide & (arm.gripper_width < 0.05))
    way = xp.concat([way[..., :2], (way[..., 2] + height)[..., None]], axis=-1)
    return reached, xp.where(reached[..., None], xp.zeros_like(way), way)


def _misalignment(arm: ArmState, bar: Array) -> Array:
    """Angle (...) rad in ±π/2 by which the tool must turn about z to have the bar across its fingers."""
    xp = array_namespace(bar)
    axis = rotation.to_matrix(arm.tool_pose[..., 3:])[..., :, 0]
    angle = rotation.yaw_of(bar[..., 3:]) - xp.atan2(axis[..., 1], axis[..., 0])
    return xp.atan(xp.tan(angle))


def _action(way: Array, angle: Array, gripper: Array) -> Array:
    """Normalized action (..., 5) of an arm."""
    xp = array_namespace(way)
    turn = (angle / (PERIOD * TURN)).clip(-1.0, 1.0)
    return xp.concat([drive(way, PERIOD, SPEED), turn[..., None], gripper[..., None]], axis=-1)


# What a policy sees


def _terms(arm: str, along: float) -> tuple[TermConfig, ...]:
    near = {"of": "bar", "origin": "tool", "arm": arm}
    return (
        TermConfig(name="position_difference", parameters={**near, "scale": 4.0, "limit": 2.0}),
        TermConfig(name="rotation_difference", parameters={**near, "scale": 0.5, "limit": 2.0}),
        TermConfig(
            name="position",
            parameters={"of": "tool", "x": MEETING[0] + along, "y": 0.0, "z": MEETING[2], "scale": 3.0, "arm": arm},
        ),
        TermConfig(name="tool_twist", parameters={"linear": 2.0, "angular": 0.5, "arm": arm}),
        TermConfig(name="joint_positions", parameters={"joints": 7, "scale": 0.5, "arm": arm}),
        TermConfig(name="gripper_width", parameters={"scale": 20.0, "arm": arm}),
    )


TERMS = (
    *_terms("left", -GRASP),
    *_terms("right", GRASP),
    TermConfig(
        name="position_difference",
        parameters={"of": "goal", "origin": "bar", "scale": 4.0, "limit": 2.0, "arm": "left"},
    ),
    TermConfig(name="orientation", parameters={"of": "bar", "arm": "left"}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 10, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.03),
    RandomizationTerm(parameter="joint_position_bias", low=-0.001, high=0.001),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0005),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="object_position_bias", low=-0.002, high=0.002),
    RandomizationTerm(parameter="object_position_noise", low=0.0, high=0.001),
    RandomizationTerm(parameter="object_rotation_bias", low=-0.02, high=0.02),
    RandomizationTerm(parameter="motor_strength", low=0.95, high=1.05),
    RandomizationTerm(parameter="bar.mass", low=0.7, high=1.4, operation="scale"),
    RandomizationTerm(parameter="bar.friction", low=0.6, high=1.0),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=2.0, operation="scale", distribution="loguniform"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
)

ENVELOPE = Envelope(
    geofence=((0.1, SPAN - 0.1), (-0.6, 0.6), (0.0, 0.8)),
    max_tilt=3.2,
    tumble_time=1.0,
    max_speed=1.7,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)

TASK = build(HandoverSettings())
