"""`arm-cable-route`: a Panda lays a cable into a clip.

One end of the cable is tied to a board, the other is held by the tool. The board lies anywhere before the arm, turned,
and the cable, stretched at first, passes beside its clip: two walls with a slot between them. The cable must be brought
over the slot and pressed down into it by nothing but the way its ends are held.
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
from sim.scene import ArmMount, Body, Camera, Scene, Shape, Vector
from sim.tasks.arm import ArmStart, ArmTask, ArmView, drive, poses, shortfall, uniform

SPEED = 0.3
"""m/s, the action's scale."""
PERIOD = 0.1
SEGMENTS, PIECE, RADIUS = 12, 0.02, 0.004
"""Number of the cable's segments, their length and their radius, m."""
LENGTH = (SEGMENTS - 0.5) * PIECE
"""m of cable between the tool's point and the tied end."""
TIED: Vector = (0.09, 0.0, 0.03)
"""m, where the cable is tied, in the board's frame: the origin below the slot, on the table, x along the slot."""
SLOT, REACH, TOP = 0.014, 0.015, 0.045
"""m: width of the slot, half its length, and height of the walls over the table."""
SLOPE = math.radians(35.0)
"""rad, by which the held end of the cable points down: at the beginning all of it does."""
DOWN = (0.0, 1.0, 0.0, 0.0)
NAMES = tuple(f"cable{k}" for k in range(SEGMENTS))
"""Segments, from the tool to the board."""


@dataclass(frozen=True, kw_only=True)
class CableRouteSettings:
    """What can be changed with `--set name=value`."""

    turn: float = 0.35
    """rad, largest angle of the board about z."""
    swing: float = 0.5
    """rad, largest angle between the cable and the slot at the beginning; it is at least a third of it."""
    force: float = 8.0
    """N, largest pull at the tool with which the cable counts as laid."""


def _board() -> Body:
    plate, wall, brass = (0.20, 0.33, 0.30, 1.0), (0.90, 0.90, 0.86, 1.0), (0.80, 0.62, 0.24, 1.0)
    height, thin = 0.5 * (TOP - 0.008), 0.004
    shapes = [Shape(kind="box", size=(0.095, 0.06, 0.004), position=(0.04, 0.0, 0.004), color=plate)]
    for side in (1.0, -1.0):
        off = side * (0.5 * SLOT + thin)
        shapes.append(Shape(kind="box", size=(REACH, thin, height), position=(0.0, off, 0.008 + height), color=wall))
    shapes.append(Shape(kind="box", size=(0.010, 0.012, 0.011), position=(TIED[0] + 0.016, 0.0, 0.019), color=brass))
    shapes.append(
        Shape(kind="cylinder", size=(0.006, 0.008), position=(TIED[0] + 0.016, 0.0, 0.032), color=brass, collides=False)
    )
    return Body(name="board", motion="placed", friction=0.4, shapes=tuple(shapes))


def _cable() -> tuple[Body, ...]:
    red, blue, dark = (0.85, 0.16, 0.14, 1.0), (0.85, 0.30, 0.14, 1.0), (0.18, 0.19, 0.21, 1.0)
    half = 0.5 * PIECE
    # The held segment's z axis leaves the tool forwards, `SLOPE` towards the table: tool x and z.
    lean = 0.25 * math.pi - 0.5 * SLOPE
    held = (math.cos(lean), 0.0, math.sin(lean), 0.0)
    # Two fingers that hold it, along the tool's z axis, which is in the segment's frame:
    up = (-math.cos(SLOPE), 0.0, math.sin(SLOPE))
    turn = 0.5 * (SLOPE + 1.5 * math.pi)
    fingers = tuple(
        Shape(
            kind="box",
            size=(0.005, 0.006, 0.026),
            position=(-0.022 * up[0], side * 0.009, -0.022 * up[2]),
            orientation=(math.cos(turn), 0.0, math.sin(turn), 0.0),
            color=dark,
            collides=False,
        )
        for side in (1.0, -1.0)
    )
    bodies = []
    for k, name in enumerate(NAMES):
        capsule = Shape(kind="capsule", size=(RADIUS, half), color=red if k % 2 else blue)
        bodies.append(
            Body(
                name=name,
                cable="cable",
                mass=0.002,
                friction=0.3,
                shapes=(capsule, *fingers) if k == 0 else (capsule,),
                attached_to="arm" if k == 0 else "",
                orientation=held if k == 0 else (1.0, 0.0, 0.0, 0.0),
                cable_stiffness=0.004,
                cable_damping=0.0005,
                tied_to="board" if k == SEGMENTS - 1 else "",
                tie_point=TIED if k == SEGMENTS - 1 else (0.0, 0.0, 0.0),
            )
        )
    return tuple(bodies)


def _scene() -> Scene:
    return Scene(
        arms=(ArmMount(gripper=False, wrench=True),),
        bodies=(_board(), *_cable()),
        cameras=(
            Camera(name="front", position=(0.95, -0.5, 0.42), target=(0.47, 0.0, 0.08), field_of_view=0.7),
            Camera(
                name="wrist",
                attached_to="arm",
                position=(0.07, 0.0, -0.06),
                target=(0.1, 0.0, 0.06),
                up=(1.0, 0.0, 0.0),
                field_of_view=1.2,
            ),
        ),
    )


# Where things are, for numpy and torch alike


def on_board(board: Array, point: Array) -> Array:
    """World point (..., 3) in the frame of the board's pose (..., 7)."""
    return rotation.rotate_inverse(board[..., 3:], point - board[..., :3])


def cable_points(state: ArmState) -> Array:
    """Points (..., P, 3) m along the cable, in the board's frame: three on each segment but the held one."""
    xp = array_namespace(state.tool_pose)
    points = []
    for name in NAMES[1:]:
        pose = state.objects[name]
        axis = rotation.to_matrix(pose[..., 3:])[..., :, 2]
        points += [on_board(state.objects["board"], pose[..., :3] + k * 0.5 * PIECE * axis) for k in (-0.9, 0.0, 0.9)]
    return xp.stack(points, axis=-2)


def is_laid(state: ArmState) -> Array:
    """Whether (...) the cable passes through the whole slot, all of it between the walls and below their top."""
    xp = array_namespace(state.tool_pose)
    points = cable_points(state)
    along, across, height = points[..., 0], points[..., 1], points[..., 2]
    here = xp.abs(along) < REACH
    inside = (xp.abs(across) < 0.5 * SLOT) & (height < TOP - RADIUS) & (height > 0.008)
    ahead, behind = xp.any(along > REACH, axis=-1), xp.any(along < -REACH, axis=-1)
    return ahead & behind & xp.any(here, axis=-1) & xp.all(inside | ~here, axis=-1)


def middle(state: ArmState) -> tuple[Array, Array]:
    """How far (...) m the cable is from the slot's middle sideways, and how high it is there."""
    xp = array_namespace(state.tool_pose)
    points = cable_points(state)
    weight = xp.exp(-((points[..., 0] / 0.012) ** 2)) + 1e-9
    weight = weight / xp.sum(weight, axis=-1, keepdims=True)
    return xp.abs(xp.sum(weight * points[..., 1], axis=-1)), xp.sum(weight * points[..., 2], axis=-1)


def pull(state: ArmState) -> Array:
    """Force (...) N at the tool."""
    xp = array_namespace(state.tool_pose)
    assert state.wrench is not None
    return xp.linalg.vector_norm(state.wrench[..., :3], axis=-1)


# A scripted solution

HIGH, LOW = 0.14, 0.04
"""m, height of the tool over the table where the cable is over the walls, and where it lies in the slot."""
TAUT = 0.97
"""Distance between the ends of the cable, as a share of its length: nearly straight, with enough slack for the arm to
overshoot. A cable that does not give stops the whole arm, with 50 N and more."""


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """High over the walls into line with the slot, then down; up again where the cable hangs on a wall.

    The cable stays nearly straight all the time.
    """
    board = state.objects["board"]
    xp = array_namespace(board)
    tool = on_board(board, state.tool_pose[..., :3])
    aside, height = middle(state)
    # Down where the cable runs along the slot; sideways only where it is over the walls or in the slot already.
    narrow = aside < 0.006
    height_wanted = LOW + (6.0 * (xp.abs(tool[..., 1]) - 0.006)).clip(0.0, HIGH - LOW)
    height_wanted = xp.where(narrow, height_wanted, HIGH + 0.0 * height)
    sideways = xp.where(narrow | (height > TOP + RADIUS), -tool[..., 1], 0.0 * height)
    # Where the tool is now and where it goes both are on the sphere that the cable allows.
    rise = tool[..., 2] + (height_wanted - tool[..., 2]).clip(-PERIOD * SPEED, PERIOD * SPEED) - TIED[2]
    back = TIED[0] - xp.sqrt(((TAUT * LENGTH) ** 2 - rise**2 - tool[..., 1] ** 2).clip(1e-4))
    way = xp.stack([back - tool[..., 0], sideways, height_wanted - tool[..., 2]], axis=-1)
    return drive(rotation.rotate(board[..., 3:], way), PERIOD, SPEED)


# The task


TORN = 35.0
"""N, at the tool: neither the cable nor the board stands more."""


def failed(view: ArmView) -> Tensor:
    """The cable is torn, or the tool has been pressed on the board."""
    return pull(view.arm) > TORN


def reward(view: ArmView) -> dict[str, Tensor]:
    """The cable should be over the slot, then low, and never pulled hard."""
    aside, height = middle(view.arm)
    change = (view.action - view.previous_action).square().mean(-1)
    above = (height - (TOP - 2.0 * RADIUS)).clamp(min=0.0)
    return {
        "aside": 0.4 * shortfall(aside, 0.02),
        "above": 0.3 * shortfall(above, 0.02),
        "open": -0.1 * (~is_laid(view.arm)).float(),
        "pulled": 0.1 * shortfall((pull(view.arm) - 5.0).clamp(min=0.0), 10.0),
        "jerky": -0.02 * change,
    }


TERMS = (
    TermConfig(name="position_difference", parameters={"of": "board", "origin": "tool", "scale": 4.0, "limit": 2.0}),
    TermConfig(name="orientation", parameters={"of": "board"}),
    *(
        TermConfig(name="position_difference", parameters={"of": name, "origin": "board", "scale": 15.0, "limit": 2.0})
        for name in NAMES[3:10:2]
    ),
    TermConfig(name="tool_twist", parameters={"linear": 2.0, "angular": 0.5}),
    TermConfig(name="wrench", parameters={"force": 0.1, "torque": 0.5, "limit": 3.0}),
    TermConfig(name="joint_positions", parameters={"joints": 7, "scale": 0.5}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 3, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.03),
    RandomizationTerm(parameter="joint_position_bias", low=-0.001, high=0.001),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0005),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="object_position_bias", low=-0.001, high=0.001),
    RandomizationTerm(parameter="object_rotation_bias", low=-0.01, high=0.01),
    RandomizationTerm(parameter="wrench_noise", low=0.0, high=0.1),
    RandomizationTerm(parameter="motor_strength", low=0.95, high=1.05),
    *(
        RandomizationTerm(
            parameter=f"{name}.cable_stiffness",
            low=0.5,
            high=2.0,
            operation="scale",
            distribution="loguniform",
            group="cable",
            coupling=1.0,
        )
        for name in NAMES[1:]
    ),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=2.0, operation="scale", distribution="loguniform"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
)

ENVELOPE = Envelope(
    geofence=((0.1, 0.7), (-0.5, 0.5), (0.0, 0.6)),
    max_tilt=3.2,
    tumble_time=1.0,
    max_speed=1.7,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)


def build(settings: CableRouteSettings) -> ArmTask:
    """The task with given settings."""

    def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
        """The board before the arm, the cable straight from its tied end up to the tool, beside the slot."""
        arm = load_arm("panda")
        place = np.stack(
            [uniform(count, 0.46, 0.56, generator), uniform(count, -0.1, 0.1, generator), np.zeros(count)], axis=1
        )
        yaw = uniform(count, -settings.turn, settings.turn, generator)
        board = poses(place, yaw)
        side = np.where(uniform(count, -1.0, 1.0, generator) < 0.0, -1.0, 1.0)
        heading = yaw + side * uniform(count, settings.swing / 3.0, settings.swing, generator)
        tied = place + rotation.rotate(board[:, 3:], np.broadcast_to(TIED, (count, 3)))
        flat, rise = LENGTH * math.cos(SLOPE), LENGTH * math.sin(SLOPE)
        tool = tied + np.stack([-flat * np.cos(heading), -flat * np.sin(heading), np.full(count, rise)], axis=1)
        turn = rotation.multiply(rotation.from_yaw(heading), np.broadcast_to(DOWN, (count, 4)))
        home = np.broadcast_to(arm.home, (count, len(arm.home)))
        joints = solve_pose(arm, np.concatenate([tool, turn], axis=1), home)[0]
        return ArmStart(joints={"arm": joints}, poses={"board": board}, goal=board)

    def success(view: ArmView) -> Tensor:
        """Laid into the slot, at rest, and not held there by force."""
        slow = view.arm.tool_twist[:, :3].norm(dim=-1) < 0.03
        return is_laid(view.arm) & slow & (pull(view.arm) < settings.force)

    return ArmTask(
        name="arm-cable-route",
        scene=_scene(),
        terms=TERMS,
        action=ActionConfig(name="cartesian_twist", parameters={"axes": "x y z", "linear": SPEED}),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        expert=expert,
        failed=failed,
        hold=0.5,
        randomization=RANDOMIZATION,
        episode_length=8.0,
        settings=settings,
        build=build,
    )


TASK = build(CableRouteSettings())
