"""`arm-pick-lift`: grasp a cube that lies anywhere on the table and hold it ten centimetres higher.

The policy moves the tool's point, turns it about the vertical and opens and closes the gripper. Without the turn a cube
at 45 degrees would have to be squeezed straight by its edges.

The cube's frame is that of a tool which grasps it: z down, turned by at most 45 degrees from the base. A cube looks the
same from 24 sides; perception gives the one of them that is nearest to a tool at home. The rotation from tool to cube
is then small, instead of half a turn whose sign flips.
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
from sim.scene import Body, Camera, Scene, Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, distance, drive, shortfall, uniform

SPEED = 0.3
"""m/s, the action's scale of the tool's point."""
TURN_SPEED = 1.5
"""rad/s, that of the turn about the vertical."""
PERIOD = 0.1
CUBES = ((0.35, 0.65), (-0.2, 0.2))
"""m, region of the cube's centre in the base frame."""
TOOLS = ((0.4, 0.6), (-0.15, 0.15), (0.15, 0.3))
"""m, region in which the tool begins."""
TURNS = (-0.2, 0.2)
"""rad, how far the tool is turned at the beginning."""
RISE = 0.1
"""m that the cube must be higher than at the beginning."""
WIDE = 0.08
"""m between the open fingers."""
LIFTED = 0.15
"""m, height of the tool to which the expert lifts."""
REACH = (0.25, 0.78)
"""m from the base's axis: a cube nearer or further is lost."""


@dataclass(frozen=True, kw_only=True)
class PickLiftSettings:
    """What can be changed with `--set name=value`."""

    half_size: float = 0.02
    """m, half of the cube's edge; it must fit between the fingers."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.half_size <= 0.032:
            raise ValueError(f"half_size is {self.half_size} m; the gripper takes cubes of 0.01 to 0.032 m")


def facing_down(position: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Poses (K, 7) at positions (K, 3) with z down, as a tool at home, turned by `yaw` (K,) rad about the vertical."""
    zero = np.zeros_like(yaw)
    return np.concatenate([position, np.stack([zero, np.cos(yaw / 2), np.sin(yaw / 2), zero], axis=1)], axis=1)


def expert(state: ArmState, setpoint: ArmSetpoint, half_size: float) -> Array:
    """Above the cube, down around it, close, lift: which of these, the measured state says.

    The height to keep grows with the distance to the side, so that the fingers come down beside the cube.
    """
    hover = half_size + 0.03  # the fingers are clear of the cube
    grasped = 2.3 * half_size + 0.003  # closer together, they hold a cube of any size that randomization makes
    cube, tool = state.objects["cube"], state.tool_pose
    xp = array_namespace(cube)
    away = cube[..., :3] - tool[..., :3]
    aside = xp.linalg.vector_norm(away[..., :2], axis=-1)
    # A quarter turn shows the same cube: turn by at most an eighth.
    turn = rotation.yaw_of(cube[..., 3:]) - rotation.yaw_of(tool[..., 3:])
    turn = turn - 0.5 * math.pi * xp.round(turn / (0.5 * math.pi))
    around = (aside < 0.012) & (xp.abs(away[..., 2]) < 0.012) & (xp.abs(turn) < 0.2)
    held = around & (state.gripper_width < grasped)
    height = xp.clip(4.0 * (aside - 0.005), 0.0, hover)
    height = xp.where(xp.abs(turn) > 0.15, xp.full_like(height, hover), height)
    rise = xp.where(held, LIFTED - tool[..., 2], away[..., 2] + xp.where(around, xp.zeros_like(height), height))
    sideways = xp.where(held[..., None], xp.zeros_like(away[..., :2]), away[..., :2])
    linear = drive(xp.concat([sideways, rise[..., None]], axis=-1), PERIOD, SPEED)
    angular = xp.clip(turn / (PERIOD * TURN_SPEED), -1.0, 1.0)
    angular = xp.where(held, xp.zeros_like(angular), angular)
    gripper = xp.where(around, -xp.ones_like(aside), xp.ones_like(aside))
    return xp.concat([linear, angular[..., None], gripper[..., None]], axis=-1)


def failed(view: ArmView) -> Tensor:
    """Whether the cube lies out of reach or below the table."""
    cube = view.arm.objects["cube"]
    radius = cube[:, :2].norm(dim=-1)
    return (radius > REACH[1]) | (radius < REACH[0]) | (cube[:, 2] < -0.01)


TERMS = (
    TermConfig(name="position_difference", parameters={"of": "cube", "origin": "tool", "scale": 4.0, "limit": 2.0}),
    TermConfig(name="position_difference", parameters={"of": "cube", "origin": "tool", "scale": 30.0, "limit": 1.0}),
    TermConfig(name="rotation_difference", parameters={"of": "cube", "origin": "tool", "scale": 1.5, "limit": 1.5}),
    TermConfig(name="position", parameters={"of": "tool", "x": 0.5, "y": 0.0, "z": 0.1, "scale": 4.0}),
    TermConfig(name="tool_twist", parameters={"linear": 2.0, "angular": 0.5}),
    TermConfig(name="gripper_width", parameters={"scale": 1.0 / WIDE}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 5, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.03),
    RandomizationTerm(parameter="joint_position_bias", low=-0.001, high=0.001),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0005),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="object_position_bias", low=-0.002, high=0.002),
    RandomizationTerm(parameter="object_position_noise", low=0.0, high=0.001),
    RandomizationTerm(parameter="object_rotation_noise", low=0.0, high=0.02),
    RandomizationTerm(parameter="motor_strength", low=0.95, high=1.05),
    RandomizationTerm(parameter="gain_stiffness", low=0.9, high=1.1),
    RandomizationTerm(parameter="link_mass", low=0.95, high=1.05, operation="scale"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="gripper_force", low=0.7, high=1.0, operation="scale"),
    RandomizationTerm(parameter="cube.mass", low=0.05, high=0.2),
    RandomizationTerm(parameter="cube.friction", low=0.5, high=1.2),
    # One percentile for all axes: it stays a cube.
    RandomizationTerm(parameter="cube.size", low=0.85, high=1.15, group="size", coupling=1.0),
)

ENVELOPE = Envelope(
    geofence=((0.2, 0.8), (-0.45, 0.45), (0.005, 0.5)),
    max_tilt=3.2,
    tumble_time=1.0,
    max_speed=1.7,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)

CAMERAS = (
    Camera(name="front", position=(1.25, 0.0, 0.55), target=(0.45, 0.0, 0.12), field_of_view=0.75),
    Camera(
        name="wrist",
        attached_to="arm",
        position=(0.075, 0.0, -0.05),
        target=(0.0, 0.0, 0.03),
        up=(-1.0, 0.0, 0.0),
        field_of_view=1.2,
    ),
)


def build(settings: PickLiftSettings) -> ArmTask:
    """The task with given settings."""
    half = settings.half_size

    def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
        """The tool anywhere above the table, pointing down; the cube anywhere on it."""
        description = load_arm("panda")
        tool = np.stack([uniform(count, low, high, generator) for low, high in TOOLS], axis=1)
        joints, _ = solve_pose(description, facing_down(tool, uniform(count, *TURNS, generator)), description.home)
        cube = np.stack([uniform(count, low, high, generator) for low, high in CUBES], axis=1)
        height = half * values["cube.size"][:, 2:].double().numpy()
        cube = np.concatenate([cube, height], axis=1)
        yaw = uniform(count, -math.pi / 4, math.pi / 4, generator)
        return ArmStart(joints={"arm": joints}, poses={"cube": facing_down(cube, yaw)})

    def scripted(state: ArmState, setpoint: ArmSetpoint) -> Array:
        """The expert for cubes of this size."""
        return expert(state, setpoint, half)

    def success(view: ArmView) -> Tensor:
        """High enough, between the fingers and almost at rest: not thrown, not falling."""
        cube = view.arm.objects["cube"]
        high = cube[:, 2] - view.start["cube"][:, 2] >= RISE
        held = distance(cube, view.arm.tool_pose) < 0.02
        return high & held & (view.twists["cube"][:, :3].norm(dim=-1) < 0.05)

    def reward(view: ArmView) -> dict[str, Tensor]:
        """Come near, close around the cube, lift it."""
        cube = view.arm.objects["cube"]
        away = distance(cube, view.arm.tool_pose)
        closed = ((WIDE - view.arm.gripper_width) / (WIDE - 2.0 * half)).clamp(0.0, 1.0)
        lifted = ((cube[:, 2] - view.start["cube"][:, 2]) / RISE).clamp(0.0, 1.0)
        change = (view.action - view.previous_action).square().mean(-1)
        return {
            "far": 0.25 * shortfall(away, 0.15),
            "open": 0.2 * (closed * torch.exp(-((away / 0.02) ** 2)) - 1.0),
            "low": 0.5 * (lifted - 1.0),
            "jerky": -0.01 * change,
        }

    cube = Body(
        name="cube",
        shapes=(Shape(kind="box", size=(half, half, half), color=(0.86, 0.27, 0.18, 1.0)),),
        mass=0.1,
        friction=0.8,
        position=(0.5, 0.0, half),
        orientation=(0.0, 1.0, 0.0, 0.0),
    )
    return ArmTask(
        name="arm-pick-lift",
        scene=Scene(bodies=(cube,), cameras=CAMERAS),
        terms=TERMS,
        action=ActionConfig(
            name="cartesian_twist",
            parameters={"axes": "x y z rz gripper", "linear": SPEED, "angular": TURN_SPEED},
        ),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        expert=scripted,
        failed=failed,
        hold=0.5,
        randomization=RANDOMIZATION,
        episode_length=8.0,
        settings=settings,
        build=build,
    )


TASK = build(PickLiftSettings())
