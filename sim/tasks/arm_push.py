"""`arm-push`: push a box over the table to a goal with the closed gripper, and leave it there at rest.

The tool moves in a plane above the table; the box and the goal lie anywhere in reach, so that the arm often has to go
around the box first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from array_api_compat import array_namespace
from torch import Tensor

from hardware.controllers.differential_ik import solve_pose
from hardware.descriptions import load_arm
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.randomization import RandomizationTerm
from sim.scene import ArmMount, Body, Camera, Scene, Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, poses, shortfall, uniform

SPEED = 0.3
"""m/s, the action's scale."""
HEIGHT = 0.03
"""m, of the tool above the table."""
HALF = (0.03, 0.03, 0.025)
"""m, half sizes of the box."""
BOX_X, BOX_Y = (0.42, 0.58), (-0.2, 0.2)
"""m, where the box and its goal lie."""
LEAST_WAY = 0.08
"""m, from the box to its goal, and from the tool to the box at the start."""
_STARTS = 512
"""Postures that episodes start from."""


@dataclass(frozen=True, kw_only=True)
class PushSettings:
    """What can be changed with `--set name=value`."""

    tolerance: float = 0.03
    """m, largest distance of the box from its goal that counts as there."""


@lru_cache(maxsize=1)
def start_postures() -> tuple[np.ndarray, np.ndarray]:
    """Tool positions (K, 2) and joint angles (K, 7) with the tool at HEIGHT anywhere: solved once, drawn from."""
    generator = torch.Generator().manual_seed(0)
    position = np.stack(
        [uniform(_STARTS, 0.34, 0.62, generator), uniform(_STARTS, -0.25, 0.25, generator), np.full(_STARTS, HEIGHT)],
        axis=1,
    )
    target = poses(position)
    target[:, 3:] = (0.0, 1.0, 0.0, 0.0)
    description = load_arm("panda")
    joints, residual = solve_pose(description, target, np.tile(description.home, (_STARTS, 1)))
    solved = (residual < 1e-3).all(axis=1)
    return position[solved, :2], joints[solved]


def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
    """Tool, box and goal at random, the box apart from the others."""
    tools, postures = start_postures()
    box = np.stack([uniform(count, *BOX_X, generator), uniform(count, *BOX_Y, generator), np.full(count, HALF[2])], 1)
    yaw = uniform(count, -np.pi, np.pi, generator)
    goal = box.copy()
    # The first of the postures from a random one on that leaves room for the box.
    first = torch.randint(len(tools), (count, 1), generator=generator).numpy()
    order = (first + np.arange(32)) % len(tools)
    room = np.linalg.norm(tools[order] - box[:, None, :2], axis=-1) > LEAST_WAY
    chosen = order[np.arange(count), room.argmax(axis=1)]
    # A few tries find a goal that is far enough away; the last one pushes those that are left outwards.
    for _ in range(8):
        near = np.linalg.norm(goal - box, axis=1) < LEAST_WAY
        goal[near, 0] = uniform(int(near.sum()), *BOX_X, generator)
        goal[near, 1] = uniform(int(near.sum()), *BOX_Y, generator)
    near = np.linalg.norm(goal - box, axis=1) < LEAST_WAY
    goal[near, 1] = box[near, 1] - np.sign(box[near, 1]) * LEAST_WAY
    return ArmStart(
        joints={"arm": postures[chosen]},
        poses={"box": poses(box, yaw)},
        goal=poses(goal),
    )


def reward(view: ArmView) -> dict[str, Tensor]:
    """The box far from its goal is bad, and so is a tool that is not behind it."""
    box, tool = view.arm.objects["box"][:, :2], view.arm.tool_pose[:, :2]
    way = view.goal[:, :2] - box
    left = way.norm(dim=-1)
    behind = box - 0.05 * way / left.clamp(min=1e-3)[:, None]
    return {
        "far": 0.5 * shortfall(left, 0.1),
        "near": 0.2 * shortfall(left, 0.03),
        "behind": 0.2 * shortfall((behind - tool).norm(dim=-1), 0.1),
        "jerky": -0.02 * (view.action - view.previous_action).square().mean(-1),
    }


def failed(view: ArmView) -> Tensor:
    """The box has left the reach of the arm."""
    x, y, z = view.arm.objects["box"][:, :3].unbind(-1)
    return (x < 0.25) | (x > 0.78) | (y.abs() > 0.42) | (z < -0.02)


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Around the box on a circle to the side away from the goal, then straight on, steering against what slips."""
    assert setpoint.tool_pose is not None
    box, tool = state.objects["box"][..., :2], state.tool_pose[..., :2]
    xp = array_namespace(box)
    way = setpoint.tool_pose[..., :2] - box
    left = xp.linalg.vector_norm(way, axis=-1, keepdims=True)
    forward = way / left.clip(1e-3)
    offset = tool - box
    radius = xp.linalg.vector_norm(offset, axis=-1, keepdims=True)
    outward = offset / radius.clip(1e-3)
    along = xp.sum(offset * forward, axis=-1, keepdims=True)
    aside = offset - along * forward
    # Pushing: the box stops as soon as the tool does.
    push = forward * (left / 0.12).clip(0.25, 1.0) - 12.0 * aside
    # Going around: along the circle, the shorter way to the far side.
    tangent = xp.stack([-outward[..., 1], outward[..., 0]], axis=-1)
    turn = xp.sign(xp.sum(-tangent * forward, axis=-1, keepdims=True))
    around = tangent * xp.where(turn == 0.0, xp.ones_like(turn), turn) + outward * ((0.085 - radius) * 15.0)
    lateral = xp.linalg.vector_norm(aside, axis=-1, keepdims=True)
    ready = (along < 0.0) & (lateral < 0.35 * radius)
    action = xp.where(ready, push, around)
    there = left < 0.01
    action = xp.where(there, xp.zeros_like(action), action)
    largest = xp.max(xp.abs(action), axis=-1, keepdims=True)
    return action / largest.clip(1.0)


TERMS = (
    TermConfig(name="position_difference", parameters={"of": "box", "origin": "tool", "scale": 8.0, "limit": 4.0}),
    TermConfig(name="position_difference", parameters={"of": "goal", "origin": "box", "scale": 8.0, "limit": 4.0}),
    TermConfig(name="position_difference", parameters={"of": "goal", "origin": "box", "scale": 30.0, "limit": 1.0}),
    TermConfig(name="behind_difference", parameters={"of": "box", "offset": 0.05, "scale": 8.0, "limit": 4.0}),
    TermConfig(name="position", parameters={"of": "tool", "x": 0.5, "y": 0.0, "z": HEIGHT, "scale": 4.0}),
    TermConfig(name="orientation", parameters={"of": "box"}),
    TermConfig(name="tool_twist", parameters={"linear": 3.0, "angular": 0.5}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 2, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.03),
    RandomizationTerm(parameter="torque_latency", low=0.0, high=0.004),
    RandomizationTerm(parameter="joint_position_bias", low=-0.001, high=0.001),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0005),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="motor_strength", low=0.95, high=1.05),
    RandomizationTerm(parameter="gain_stiffness", low=0.9, high=1.1),
    RandomizationTerm(parameter="link_mass", low=0.95, high=1.05, operation="scale"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="object_position_noise", low=0.0, high=0.001),
    RandomizationTerm(parameter="object_position_bias", low=-0.002, high=0.002),
    RandomizationTerm(parameter="box.mass", low=0.15, high=0.5),
    RandomizationTerm(parameter="box.friction", low=0.25, high=0.6),
    RandomizationTerm(parameter="box.center", low=-0.005, high=0.005),
    RandomizationTerm(parameter="contact_time", low=0.8, high=1.5, operation="scale"),
)

ENVELOPE = Envelope(
    geofence=((0.1, 0.8), (-0.6, 0.6), (0.0, 0.8)),
    max_tilt=3.2,
    tumble_time=1.0,
    max_speed=1.7,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)

SCENE = Scene(
    arms=(ArmMount(gripper=False),),
    bodies=(
        # Closed fingers that never move: fewer joints make a faster simulation.
        Body(
            name="fingers",
            shapes=(Shape(kind="box", size=(0.0105, 0.015, 0.0268), color=(0.15, 0.16, 0.18, 1.0)),),
            mass=0.03,
            position=(0.0, 0.0, -0.0182),
            attached_to="arm",
        ),
        Body(
            name="box",
            shapes=(Shape(kind="box", size=HALF, color=(0.85, 0.33, 0.2, 1.0)),),
            mass=0.3,
            friction=0.4,
            position=(0.5, 0.0, HALF[2]),
        ),
    ),
    cameras=(
        Camera(name="front", position=(1.15, 0.0, 0.55), target=(0.5, 0.0, 0.0)),
        Camera(
            name="wrist", position=(0.07, 0.0, -0.06), target=(0.0, 0.0, 0.06), up=(1.0, 0.0, 0.0), attached_to="arm"
        ),
    ),
)


def build(settings: PushSettings) -> ArmTask:
    """The task with given settings."""

    def success(view: ArmView) -> Tensor:
        resting = view.twists["box"][:, :3].norm(dim=-1) < 0.02
        return (distance(view.arm.objects["box"], view.goal) < settings.tolerance) & resting

    return ArmTask(
        name="arm-push",
        scene=SCENE,
        terms=TERMS,
        action=ActionConfig(name="cartesian_twist", parameters={"axes": "x y", "linear": SPEED}),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        failed=failed,
        expert=expert,
        randomization=RANDOMIZATION,
        episode_length=8.0,
        settings=settings,
        build=build,
    )


TASK = build(PushSettings())
