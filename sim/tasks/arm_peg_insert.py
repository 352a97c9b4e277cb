"""`arm-peg-insert`: put a square peg into a square hole that is known to a millimetre and a degree only.

The hole is fractions of a millimetre wider than the peg, so that the arm has to feel for it. The tool's point is the
peg's tip, where the compliance is: a push to the side moves the peg without tilting it.

The forces that the arm can make at rest are bounded by its controller, stiffness × clip: 3000 N/m × 6 mm = 18 N to each
side, × 5 mm = 15 N down and × 8 mm = 24 N up; 150 N m/rad × 0.03 rad = 4.5 N m about every axis. Down and to both
sides at once that is 29.5 N, below the limit of 40 N at which the task is lost. A hard impact would go beyond, 70 N at
10 cm/s: close to the block the controller leads the tool at 3 cm/s at most, whatever it is asked for.

The hole's frame lies in the middle of its entrance, z down into it: the pose that the tip has when it enters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from array_api_compat import array_namespace
from torch import Tensor

from hardware.controllers.arm_config import ArmControllerConfig
from hardware.controllers.cartesian_impedance import ImpedanceGains
from hardware.controllers.differential_ik import solve_pose
from hardware.descriptions import load_arm
from policies import rotation
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import TermConfig
from policies.types import ArmSetpoint, ArmState, Array
from sim.randomization import RandomizationTerm
from sim.scene import ArmMount, Body, Camera, Color, Scene, Shape
from sim.tasks.arm import ArmStart, ArmTask, ArmView, drive, shortfall, uniform

SPEED = 0.1
"""m/s, the action's scale of the tip."""
TURN_SPEED = 0.5
"""rad/s, that of the turn about the vertical."""
PERIOD = 0.1
PEG_WIDTH = 0.016
"""m."""
PEG_LENGTH = 0.0374
"""m from the palm to the tip."""
DEPTH = 0.025
"""m, of the hole."""
BLOCK = (0.05, 0.05)
"""m, half width and height of the block that the hole is in; it stands on the table."""
CHAMFER = 0.0005
"""m, at 45 degrees around the entrance of the hole, as on any machined one."""
_SLOPE = 0.002
"""m, thickness of the chamfer's boxes below their faces, to the side and down."""
CONTACT_TIME = 0.02
"""s: at rest the peg sinks in by less than 2 um under 10 N, and landing at 1 cm/s makes some 10 N."""
HOLES = ((0.45, 0.55), (-0.05, 0.05))
"""m, region of the hole in the base frame."""
HOLE_TURN = math.radians(15.0)
"""rad, how far the hole is turned at most."""
STARTS = ((-0.03, 0.03), (-0.03, 0.03), (0.05, 0.1))
"""m, where the tip begins, from the hole's entrance."""
START_TURN = math.radians(8.0)
"""rad, how far the peg is turned from the hole at most."""

SLOW_SPEED = 0.03
"""m/s, of the tip close to the block and in the hole."""
SLOW_HEIGHT = 0.008
"""m above the block at which that begins."""

CONTROLLER = ArmControllerConfig(
    slow_speed=SLOW_SPEED,
    slow_upper=(10.0, 10.0, BLOCK[1] + SLOW_HEIGHT),
    compliant=ImpedanceGains(
        translational_stiffness=(3000.0, 3000.0, 3000.0),
        rotational_stiffness=(150.0, 150.0, 150.0),
        clip_lower=(-0.006, -0.006, -0.005, -0.03, -0.03, -0.03),
        clip_upper=(0.006, 0.006, 0.008, 0.03, 0.03, 0.03),
    ),
)


@dataclass(frozen=True, kw_only=True)
class PegInsertSettings:
    """What can be changed with `--set name=value`."""

    clearance: float = 0.0005
    """m by which the hole is wider than the peg, both sides together."""
    force_limit: float = 40.0
    """N between peg and block at which the episode is lost."""

    def __post_init__(self) -> None:
        if not 1e-4 <= self.clearance <= 0.01:
            raise ValueError(f"clearance is {self.clearance} m; the hole can be 0.0001 to 0.01 m wider than the peg")
        if self.force_limit <= 0.0:
            raise ValueError(f"force_limit is {self.force_limit} N; it must be positive")


def facing_down(position: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Poses (K, 7) at positions (K, 3) with z down, as a tool at home, turned by `yaw` (K,) rad about the vertical."""
    zero = np.zeros_like(yaw)
    return np.concatenate([position, np.stack([zero, np.cos(yaw / 2), np.sin(yaw / 2), zero], axis=1)], axis=1)


def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
    """A hole near the middle of the table, the peg upright above and beside it."""
    description = load_arm("panda")
    hole = np.stack([uniform(count, low, high, generator) for low, high in HOLES], axis=1)
    hole = np.concatenate([hole, np.full((count, 1), BLOCK[1])], axis=1)
    yaw = uniform(count, -HOLE_TURN, HOLE_TURN, generator)
    tip = hole + np.stack([uniform(count, low, high, generator) for low, high in STARTS], axis=1)
    turn = uniform(count, -START_TURN, START_TURN, generator)
    joints, _ = solve_pose(description, facing_down(tip, yaw + turn), description.home)
    return ArmStart(joints={"arm": joints}, poses={"hole": facing_down(hole, yaw)})


def in_hole(view: ArmView) -> tuple[Tensor, Tensor]:
    """Of the tip in the hole's frame: distance (N,) from the axis and depth (N,), m."""
    hole, tip = view.arm.objects["hole"], view.arm.tool_pose
    offset = rotation.rotate_inverse(hole[:, 3:], tip[:, :3] - hole[:, :3])
    return offset[:, :2].norm(dim=-1), offset[:, 2]


def success(view: ArmView) -> Tensor:
    """Whether the tip is in the hole by four fifths of its depth, not beside the block."""
    aside, depth = in_hole(view)
    return (depth >= 0.8 * DEPTH) & (aside < 0.5 * PEG_WIDTH)


def reward(view: ArmView) -> dict[str, Tensor]:
    """Come above the hole, go in, without force."""
    aside, depth = in_hole(view)
    yaw = rotation.yaw_of(view.arm.tool_pose[:, 3:]) - rotation.yaw_of(view.arm.objects["hole"][:, 3:])
    change = (view.action - view.previous_action).square().mean(-1)
    assert view.arm.wrench is not None
    return {
        "aside": 0.3 * shortfall(aside, 0.01),
        "turned": 0.1 * shortfall(yaw.abs(), 0.1),
        "high": 0.5 * shortfall((DEPTH - depth).clamp(min=0.0), 0.03),
        "force": 0.05 * shortfall(view.arm.wrench[:, :3].norm(dim=-1), 20.0),
        "jerky": -0.01 * change,
    }


SEARCH = 0.015
"""m/s, how fast the expert slides over the block."""
LOST = 0.003
"""m beside the hole at which the expert lifts the peg."""
STICTION = 0.0007
"""m: what the arm's springs must be drawn before its joints move against their friction."""


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Above the hole, down, feel for it, in: which of these, the measured state says.

    The search needs no memory. Where the peg stands beside the hole, only the part of its face that overhangs the
    block is carried: force and torque give the middle of that part, and the hole is on the other side.
    """
    tip, hole = state.tool_pose, state.objects["hole"]
    xp = array_namespace(tip)
    assert state.wrench is not None
    away = hole[..., :3] - tip[..., :3]
    height = -away[..., 2]
    aside = xp.linalg.vector_norm(away[..., :2], axis=-1)
    turn = rotation.yaw_of(hole[..., 3:]) - rotation.yaw_of(tip[..., 3:])
    turn = turn - 0.5 * math.pi * xp.round(turn / (0.5 * math.pi))
    force, torque = state.wrench[..., :3], state.wrench[..., 3:]
    pressure = -force[..., 2]
    near = (height < 0.002) & (aside < LOST)
    inside = near & (height < -0.002)

    # In the air: over the hole with enough height to the side, then down, slowly where the block must be near.
    above = (aside < 0.001) & (xp.abs(turn) < 0.02)
    over = 0.003 + 2.0 * xp.clip(aside, 0.0, 0.02) - height
    down = -xp.clip(0.6 * (height - 0.003), 0.0008, None)
    down = xp.where(above | near, down, over)
    free = drive(_firmly(xp.concat([away[..., :2], down[..., None]], axis=-1)), PERIOD, SPEED)

    # On the block: away from the middle of what carries.
    load = xp.clip(pressure, 1.0, None)
    carried = xp.stack([-torque[..., 1], torque[..., 0], xp.zeros_like(load)], axis=-1) / -load[..., None]
    slide = rotation.rotate(tip[..., 3:], -carried)[..., :2] / (0.5 * PEG_WIDTH)
    slide = xp.clip(slide, -1.0, 1.0) * (SEARCH / SPEED)
    press = xp.full_like(load, -0.018 / SPEED)
    search = xp.concat([slide, press[..., None]], axis=-1)

    # In the hole: give way to its walls.
    sideways = xp.clip(rotation.rotate(tip[..., 3:], force)[..., :2] * (0.001 / SPEED), -0.1, 0.1)
    further = xp.clip(0.6 * (-0.9 * DEPTH - height) / (PERIOD * SPEED), -0.6, 0.6)
    insertion = xp.concat([sideways, further[..., None]], axis=-1)

    touching = near & (pressure > 2.0)
    linear = xp.where(inside[..., None], insertion, xp.where(touching[..., None], search, free))
    angular = xp.clip(turn / (PERIOD * TURN_SPEED), -1.0, 1.0)
    angular = xp.where(inside | touching, xp.clip(-torque[..., 2] * 2.0, -0.2, 0.2), angular)
    return xp.concat([linear, angular[..., None]], axis=-1)


def _firmly(way: Array) -> Array:
    """A way (..., k) m that small steps take as well, against friction."""
    xp = array_namespace(way)
    return way + STICTION * xp.tanh(way / 0.0005)


TERMS = (
    TermConfig(name="position_difference", parameters={"of": "hole", "origin": "tool", "scale": 15.0, "limit": 2.0}),
    TermConfig(name="position_difference", parameters={"of": "hole", "origin": "tool", "scale": 200.0, "limit": 1.0}),
    TermConfig(name="rotation_difference", parameters={"of": "hole", "origin": "tool", "scale": 5.0, "limit": 2.0}),
    TermConfig(name="orientation", parameters={"of": "tool"}),
    TermConfig(name="tool_twist", parameters={"linear": 10.0, "angular": 2.0}),
    TermConfig(name="wrench", parameters={"force": 0.05, "torque": 2.0, "limit": 2.0}),
    TermConfig(name="action_history", parameters={"length": 1, "size": 4, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="object_position_bias", low=-0.001, high=0.001),
    RandomizationTerm(parameter="object_rotation_bias", low=-math.radians(1.0), high=math.radians(1.0)),
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.02),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0001),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="wrench_noise", low=0.0, high=0.02),
    RandomizationTerm(parameter="wrench_bias", low=-0.02, high=0.02),
    RandomizationTerm(parameter="motor_strength", low=0.95, high=1.05),
    RandomizationTerm(parameter="gain_stiffness", low=0.9, high=1.1),
    RandomizationTerm(parameter="link_mass", low=0.97, high=1.03, operation="scale"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=1.5, operation="scale"),
    RandomizationTerm(parameter="hole.friction", low=0.15, high=0.45),
)

ENVELOPE = Envelope(
    geofence=((0.3, 0.7), (-0.2, 0.2), (0.015, 0.4)),
    max_tilt=3.2,
    tumble_time=1.0,
    max_speed=1.7,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)

CAMERAS = (
    Camera(name="front", position=(1.0, 0.25, 0.35), target=(0.5, 0.0, 0.1), field_of_view=0.7),
    Camera(
        name="wrist",
        attached_to="arm",
        position=(0.075, 0.0, -0.05),
        target=(0.0, 0.0, 0.02),
        up=(-1.0, 0.0, 0.0),
        field_of_view=1.2,
    ),
)


def block(clearance: float) -> Body:
    """A block with a hole: walls, a chamfer around the entrance and a floor."""
    gap, c, (half, height) = 0.5 * (PEG_WIDTH + clearance), CHAMFER, BLOCK
    metal, dark = (0.62, 0.66, 0.70, 1.0), (0.10, 0.11, 0.13, 1.0)
    shapes = [_box((-half, half), (-half, half), (DEPTH, height), dark)]
    for side in (1.0, -1.0):
        outer, inner = side * half, side * gap
        edge = inner + side * c
        shapes += [
            _box((inner, outer), (-half, half), (c, DEPTH), metal),
            _box((edge, outer), (-half, half), (0.0, c), metal),
            _box((-gap, gap), (inner, outer), (c, DEPTH), metal),
            _box((-gap - c, gap + c), (edge, outer), (0.0, c), metal),
        ]
        # The slopes: boxes at 45 degrees whose upper faces go from the wall's inner edge to the top.
        center = gap + 0.5 * c + 0.5 * _SLOPE, 0.5 * c + 0.5 * _SLOPE
        eighth, turn = math.cos(math.pi / 8), side * math.sin(math.pi / 8)
        size = c / math.sqrt(2.0)
        thick = _SLOPE / math.sqrt(2.0)
        shapes += [
            Shape(
                kind="box",
                size=(size, gap, thick),
                position=(side * center[0], 0.0, center[1]),
                orientation=(eighth, 0.0, turn, 0.0),
                color=metal,
            ),
            Shape(
                kind="box",
                size=(gap, size, thick),
                position=(0.0, side * center[0], center[1]),
                orientation=(eighth, -turn, 0.0, 0.0),
                color=metal,
            ),
        ]
    return Body(
        name="hole",
        motion="placed",
        shapes=tuple(shapes),
        friction=0.3,
        position=(0.5, 0.0, height),
        orientation=(0.0, 1.0, 0.0, 0.0),
    )


def _box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], color: Color) -> Shape:
    """A box between bounds m, in either order."""
    size = tuple(0.5 * abs(high - low) for low, high in (x, y, z))
    return Shape(kind="box", size=size, position=(0.5 * sum(x), 0.5 * sum(y), 0.5 * sum(z)), color=color)


PEG = Body(
    name="peg",
    attached_to="arm",
    shapes=(
        Shape(
            kind="box",
            size=(0.5 * PEG_WIDTH, 0.5 * PEG_WIDTH, 0.5 * PEG_LENGTH),
            position=(0.0, 0.0, -0.5 * PEG_LENGTH),
            color=(0.93, 0.55, 0.12, 1.0),
        ),
    ),
    mass=0.05,
    friction=0.1,  # the larger one of the partners counts, which is the block's
)


def build(settings: PegInsertSettings) -> ArmTask:
    """The task with given settings."""

    def failed(view: ArmView) -> Tensor:
        """Whether the peg was pressed too hard, and be it for a moment."""
        return view.peak_force["arm"] > settings.force_limit

    return ArmTask(
        name="arm-peg-insert",
        scene=Scene(
            arms=(ArmMount(gripper=False, wrench=True),),
            bodies=(block(settings.clearance), PEG),
            cameras=CAMERAS,
            contact_time=CONTACT_TIME,
        ),
        terms=TERMS,
        action=ActionConfig(
            name="cartesian_twist", parameters={"axes": "x y z rz", "linear": SPEED, "angular": TURN_SPEED}
        ),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        expert=expert,
        failed=failed,
        hold=0.3,
        randomization=RANDOMIZATION,
        controller=CONTROLLER,
        episode_length=10.0,
        settings=settings,
        build=build,
    )


TASK = build(PegInsertSettings())
