"""`arm-reach`: bring the tool of a Panda to a point within a centimetre and stay there.

The orientation is held by the controller; the policy moves the tool's point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hardware.descriptions import load_arm
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.randomization import RandomizationTerm
from sim.scene import ArmMount, Body, Camera, Scene, Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, drive, poses, shortfall, uniform

SPEED = 0.4
"""m/s, the action's scale."""
PERIOD = 0.1


@dataclass(frozen=True, kw_only=True)
class ReachSettings:
    """What can be changed with `--set name=value`."""

    tolerance: float = 0.01
    """m, largest distance that counts as reached."""


GOALS = ((0.32, 0.62), (-0.3, 0.3), (0.08, 0.5))
"""m, box of goals in the base frame."""
DOWN = (0.0, 1.0, 0.0, 0.0)
"""Orientation of a tool that points straight down, as at home."""


def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
    """Joints near home, a goal anywhere in the box."""
    home = load_arm("panda").home
    joints = home + np.stack([uniform(count, -0.15, 0.15, generator) for _ in home], axis=1)
    position = np.stack([uniform(count, low, high, generator) for low, high in GOALS], axis=1)
    goal = poses(position)
    goal[:, 3:] = DOWN
    return ArmStart(joints={"arm": joints}, poses={"marker": poses(position)}, goal=goal)


def reward(view: ArmView) -> dict[str, Tensor]:
    """Far from the goal is bad, and so are jerky actions."""
    error = distance(view.arm.tool_pose, view.goal)
    change = (view.action - view.previous_action).square().mean(-1)
    return {
        "far": 0.5 * shortfall(error, 0.2),
        "near": 0.4 * shortfall(error, 0.02),
        "jerky": -0.05 * change,
    }


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Straight to the goal, as fast as the action allows."""
    assert setpoint.tool_pose is not None
    return drive(setpoint.tool_pose[..., :3] - state.tool_pose[..., :3], PERIOD, SPEED)


TERMS = (
    TermConfig(name="position_difference", parameters={"of": "goal", "origin": "tool", "scale": 4.0, "limit": 2.0}),
    TermConfig(name="position_difference", parameters={"of": "goal", "origin": "tool", "scale": 40.0, "limit": 1.0}),
    TermConfig(name="position", parameters={"of": "tool", "x": 0.47, "y": 0.0, "z": 0.3, "scale": 3.0}),
    TermConfig(name="tool_twist", parameters={"linear": 2.0, "angular": 0.5}),
    TermConfig(name="joint_positions", parameters={"joints": 7, "scale": 0.5}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 3, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.03),
    RandomizationTerm(parameter="torque_latency", low=0.0, high=0.004),
    RandomizationTerm(parameter="joint_position_bias", low=-0.002, high=0.002),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0005),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="motor_strength", low=0.95, high=1.05),
    RandomizationTerm(parameter="gain_stiffness", low=0.9, high=1.1),
    RandomizationTerm(parameter="link_mass", low=0.95, high=1.05, operation="scale"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=1.5, operation="scale"),
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
            name="marker",
            shapes=(Shape(kind="sphere", size=(0.015,), color=(0.15, 0.65, 0.3, 0.6), collides=False),),
            motion="placed",
        ),
    ),
    cameras=(Camera(name="front", position=(1.25, 0.0, 0.7), target=(0.45, 0.0, 0.2)),),
)


def build(settings: ReachSettings) -> ArmTask:
    """The task with given settings."""

    def success(view: ArmView) -> Tensor:
        return distance(view.arm.tool_pose, view.goal) < settings.tolerance

    return ArmTask(
        name="arm-reach",
        scene=SCENE,
        terms=TERMS,
        action=ActionConfig(name="cartesian_twist", parameters={"axes": "x y z", "linear": SPEED}),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        expert=expert,
        randomization=RANDOMIZATION,
        episode_length=5.0,
        settings=settings,
        build=build,
    )


TASK = build(ReachSettings())
