"""`arm-flip`: a Panda holds a pan with a slice of toast in it, tosses the slice and catches it upside down.

The slice is free: what turns it over is the motion of the pan. The policy moves the tool forwards, upwards and in
pitch at 25 Hz, at up to 1.2 m/s and 4 rad/s. A toss takes nearly all that the joints' speed limits allow: straight
up and down, and with the tool 35 degrees below the horizon, the wrist has range and speed enough for it.
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
from sim.scene import ArmMount, Body, Camera, Quaternion, Scene, Shape, Vector
from sim.tasks.arm import ArmStart, ArmTask, ArmView, shortfall, uniform

SPEED = 1.2
"""m/s, the action's scale."""
TURN = 4.0
"""rad/s, likewise."""
PERIOD = 0.04
TILT = math.radians(35.0)
"""rad, how far the tool points below the horizon where the pan is level: as a pan's handle does."""
PAN = (0.21, -0.075)
"""m, from the tool to the middle of the pan's bottom, forwards and upwards, where the pan is level."""
BOTTOM = 0.1
"""m, half the side of the pan's bottom."""
THICKNESS = 0.022
"""m, of the slice."""
HOME = (0.45, 0.48)
"""m, tool's x and z at the beginning."""
BENT = (0.0, -0.3, 0.0, -2.2, 0.0, 2.7, 0.785)
"""rad, where the search for the joints of a beginning starts."""


@dataclass(frozen=True, kw_only=True)
class FlipSettings:
    """What can be changed with `--set name=value`."""

    angle: float = 2.6
    """rad, by how much the slice must be turned over."""


def _quaternion(axis: Vector, angle: float) -> Quaternion:
    s = math.sin(0.5 * angle)
    return (math.cos(0.5 * angle), s * axis[0], s * axis[1], s * axis[2])


def _four(array: np.ndarray) -> Quaternion:
    w, x, y, z = (float(value) for value in array)
    return (w, x, y, z)


def _three(array: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in array)
    return (x, y, z)


LEVEL = rotation.multiply(np.array(_quaternion((0.0, 1.0, 0.0), TILT - 0.5 * math.pi)), np.array((0.0, 1.0, 0.0, 0.0)))
"""Orientation of the tool where the pan is level: forwards and `TILT` down."""
TOOL_TO_PAN = rotation.conjugate(LEVEL)
"""Orientation of the pan in the tool's frame."""
PAN_IN_TOOL = rotation.rotate(TOOL_TO_PAN, np.array([PAN[0], 0.0, PAN[1]]))
"""m, middle of the pan's bottom in the tool's frame."""


def _scene() -> Scene:
    iron, wood = (0.16, 0.17, 0.19, 1.0), (0.48, 0.28, 0.14, 1.0)
    # Walls lean outwards by 45 degrees: what comes down on them slides in.
    wall, thin, lean = 0.024, 0.003, 0.25 * math.pi
    off = BOTTOM + wall * math.cos(lean)
    height = wall * math.sin(lean)
    width = BOTTOM + wall
    walls = []
    for side in (1.0, -1.0):
        walls.append(
            Shape(
                kind="box",
                size=(wall, width, thin),
                position=(side * off, 0.0, height),
                orientation=_quaternion((0.0, 1.0, 0.0), -side * lean),
                color=iron,
            )
        )
        walls.append(
            Shape(
                kind="box",
                size=(width, wall, thin),
                position=(0.0, side * off, height),
                orientation=_quaternion((1.0, 0.0, 0.0), side * lean),
                color=iron,
            )
        )
    # The handle runs from the tool down to the rear wall.
    rear = np.array([-PAN[0], 0.0, -PAN[1]])
    front = np.array([-BOTTOM - 0.03, 0.0, 0.03])
    ends = (1.3 * (rear - front) + front, front)
    along = ends[1] - ends[0]
    length = float(np.linalg.norm(along))
    handle = Shape(
        kind="box",
        size=(0.5 * length, 0.012, 0.009),
        position=_three(0.5 * (ends[0] + ends[1])),
        orientation=_quaternion((0.0, 1.0, 0.0), -math.atan2(along[2], along[0])),
        color=wood,
        collides=False,
    )
    pan = Body(
        name="pan",
        attached_to="arm",
        mass=0.5,
        position=_three(PAN_IN_TOOL),
        orientation=_four(TOOL_TO_PAN),
        shapes=(
            Shape(kind="box", size=(BOTTOM, BOTTOM, 0.004), position=(0.0, 0.0, -0.004), color=iron),
            *walls,
            handle,
        ),
    )
    layer = 0.25 * THICKNESS
    toast = Body(
        name="toast",
        mass=0.06,
        friction=0.5,
        shapes=(
            Shape(kind="box", size=(0.045, 0.045, layer), position=(0.0, 0.0, layer), color=(0.96, 0.84, 0.55, 1.0)),
            Shape(kind="box", size=(0.045, 0.045, layer), position=(0.0, 0.0, -layer), color=(0.55, 0.27, 0.07, 1.0)),
        ),
    )
    return Scene(
        arms=(ArmMount(gripper=False),),
        bodies=(pan, toast),
        cameras=(
            Camera(name="front", position=(1.0, -1.15, 0.85), target=(0.5, 0.0, 0.5), field_of_view=0.9),
            Camera(
                name="wrist",
                attached_to="arm",
                position=(0.12, 0.0, -0.05),
                target=_three(PAN_IN_TOOL),
                up=(1.0, 0.0, 0.0),
                field_of_view=1.2,
            ),
        ),
    )


def pan_of(arm: ArmState) -> Array:
    """Pose (..., 7) of the pan, held by the tool."""
    xp = array_namespace(arm.tool_pose)
    like = arm.tool_pose
    turn = xp.asarray(TOOL_TO_PAN, dtype=like.dtype) + xp.zeros_like(like[..., 3:])
    shift = xp.asarray(PAN_IN_TOOL, dtype=like.dtype) + xp.zeros_like(like[..., :3])
    position = like[..., :3] + rotation.rotate(like[..., 3:], shift)
    return xp.concat([position, rotation.multiply(like[..., 3:], turn)], axis=-1)


def pitch_of(pan: Array) -> Array:
    """Angle (...) rad by which the pan's far side is up."""
    xp = array_namespace(pan)
    ahead = rotation.to_matrix(pan[..., 3:])[..., :, 0]
    return xp.atan2(ahead[..., 2], ahead[..., 0])


def in_pan(pan: Array, toast: Array) -> Array:
    """Middle of the toast (..., 3) m in the pan's frame: its bottom is at z = 0."""
    return rotation.rotate_inverse(pan[..., 3:], toast[..., :3] - pan[..., :3])


def side_up(toast: Array) -> Array:
    """Component (...) of the toast's own z axis along the world's: 1 at the beginning, -1 turned over."""
    return 1.0 - 2.0 * (toast[..., 4] ** 2 + toast[..., 5] ** 2)


def rests(pan: Array, toast: Array) -> Array:
    """Whether (...) the toast lies flat on the pan's bottom."""
    xp = array_namespace(pan)
    place = in_pan(pan, toast)
    normal = rotation.rotate_inverse(pan[..., 3:], rotation.to_matrix(toast[..., 3:])[..., :, 2])
    inside = (xp.abs(place[..., 0]) < BOTTOM) & (xp.abs(place[..., 1]) < BOTTOM)
    return inside & (xp.abs(place[..., 2] - 0.5 * THICKNESS) < 0.008) & (xp.abs(normal[..., 2]) > 0.97)


# A scripted solution: its numbers were found in this simulation by the cross-entropy method

READY, READY_GAIN, READY_SHARE = (0.463, 0.378, -0.136), 0.535, 0.25
"""Where a toss begins: tool's x and z, m, pan's pitch, rad. It goes there slowly, or the toast would lift off."""
LIFT, WHIP, WHIP_HEIGHT = (0.229, 0.510, 0.121), (0.121, 1.0, 0.831), 0.397
"""Speeds ahead, up and in pitch, as shares of the limits: those of the beginning, and those from a height, m, on."""
RELEASE = (0.472, 0.73)
"""Pitch, rad, and tool's height, m: either ends a toss."""
CATCH, CATCH_AHEAD, CATCH_SHARE = (0.026, 0.377, -0.11), 0.04, 0.735
"""How to wait for the toast: m that the pan is ahead of it, tool's z, m, pitch, rad; longest way to go after it in a
period, m; largest share of the limits."""
SHAKE = 0.2
"""Largest share of the limits with which the pan is tilted below the toast."""


def expert(state: ArmState, setpoint: ArmSetpoint) -> Array:
    """Toss what lies as it was, catch what flies, hold still what lies turned over; try again where it came to nothing.

    It has no clock: what comes next is read from where the pan and the toast are and whether the pan is rising.
    """
    tool, twist, toast = state.tool_pose, state.tool_twist, state.objects["toast"]
    xp = array_namespace(tool)
    pan = pan_of(state)
    pitch, x, z = pitch_of(pan), tool[..., 0], tool[..., 2]
    lying, turned = rests(pan, toast), side_up(toast) < -0.8
    at_ready = (xp.abs(x - READY[0]) < 0.03) & (z < READY[1] + 0.015) & (pitch < READY[2] + 0.08)
    rising = ((twist[..., 2] > 0.25) | (-twist[..., 4] > 1.0)) & (xp.abs(x - READY[0] - 0.06) < 0.12)
    place, upright = in_pan(pan, toast), side_up(toast) > 0.3
    tossing = ((at_ready & lying) | rising) & (pitch < RELEASE[0]) & (z < RELEASE[1]) & upright & (place[..., 2] < 0.08)

    def towards(ahead: Array, height: float, angle: float | Array, gain: float, share: float) -> Array:
        """Speeds (..., 3) that take a share `gain` of the way in a period, none above `share` of its limit."""
        way = xp.stack([ahead / SPEED, (height - z) / SPEED, (angle - pitch) / TURN], axis=-1) * (gain / PERIOD)
        return way / (xp.max(xp.abs(way), axis=-1, keepdims=True) / share).clip(1.0)

    ready = towards(READY[0] - x, READY[1], READY[2], READY_GAIN, READY_SHARE)
    over = (toast[..., 0] - pan[..., 0] + CATCH[0]).clip(-CATCH_AHEAD, CATCH_AHEAD)
    catch = towards(over, CATCH[1], CATCH[2], 0.7, CATCH_SHARE)
    # What leans on the wall ahead slides down where that wall is up.
    leaning = ~lying & (place[..., 2] < 0.06)
    shake = towards(READY[0] - x, CATCH[1], 0.25 * xp.sign(place[..., 0]), 0.3, SHAKE)
    catch = xp.where(leaning[..., None], shake, catch)
    still = xp.zeros_like(ready)
    level = xp.stack([still[..., 0], still[..., 1], (-0.3 * pitch / (PERIOD * TURN)).clip(-SHAKE, SHAKE)], axis=-1)
    lift, whip = (xp.stack([v + still[..., 0] for v in speeds], axis=-1) for speeds in (LIFT, WHIP))
    toss = xp.where((z < WHIP_HEIGHT)[..., None], lift, whip)
    rest = xp.where(turned[..., None], level, ready)
    step = xp.where(tossing[..., None], toss, xp.where(lying[..., None], rest, catch))
    # Pitch up is a turn about -y.
    return xp.concat([step[..., :2], -step[..., 2:]], axis=-1).clip(-1.0, 1.0)


TERMS = (
    TermConfig(name="position_difference", parameters={"of": "toast", "origin": "tool", "scale": 5.0, "limit": 3.0}),
    TermConfig(name="orientation", parameters={"of": "toast"}),
    TermConfig(name="orientation", parameters={"of": "tool"}),
    TermConfig(name="position", parameters={"of": "tool", "x": HOME[0], "y": 0.0, "z": HOME[1], "scale": 4.0}),
    TermConfig(name="tool_twist", parameters={"linear": 1.0, "angular": 0.3}),
    TermConfig(name="joint_positions", parameters={"joints": 7, "scale": 0.5}),
    TermConfig(name="joint_velocities", parameters={"joints": 7, "scale": 0.5}),
    TermConfig(name="action_history", parameters={"length": 2, "size": 3, "initial": 0.0}),
)

RANDOMIZATION = (
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.01),
    RandomizationTerm(parameter="joint_position_bias", low=-0.002, high=0.002),
    RandomizationTerm(parameter="joint_position_noise", low=0.0, high=0.0005),
    RandomizationTerm(parameter="joint_velocity_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="object_position_bias", low=-0.002, high=0.002),
    RandomizationTerm(parameter="object_position_noise", low=0.0, high=0.001),
    RandomizationTerm(parameter="object_rotation_noise", low=0.0, high=0.01),
    RandomizationTerm(parameter="motor_strength", low=0.97, high=1.03),
    RandomizationTerm(parameter="toast.mass", low=0.8, high=1.25, operation="scale"),
    RandomizationTerm(parameter="toast.friction", low=0.4, high=0.6),
    RandomizationTerm(parameter="pan.mass", low=0.9, high=1.1, operation="scale"),
    RandomizationTerm(parameter="joint_damping", low=0.5, high=2.0, operation="scale", distribution="loguniform"),
    RandomizationTerm(parameter="joint_friction", low=0.5, high=1.5, operation="scale"),
)

ENVELOPE = Envelope(
    geofence=((0.2, 0.75), (-0.3, 0.3), (0.2, 0.9)),
    max_tilt=3.2,
    tumble_time=1.0,
    max_speed=2.0,
    state_age=(0.05, 0.2, 1.0),
    command_age_periods=3.0,
)

CONTROLLER = ArmControllerConfig(
    compliant=ImpedanceGains(
        translational_stiffness=(1500.0, 1500.0, 1500.0),
        rotational_stiffness=(100.0, 100.0, 100.0),
        effective_mass=3.0,
        effective_inertia=0.15,
        clip_lower=(-0.13, -0.03, -0.13, -0.3, -0.4, -0.3),
        clip_upper=(0.13, 0.03, 0.13, 0.3, 0.4, 0.3),
    )
)
"""A toss takes force: the static bound is 195 N forwards and upwards and 40 N m in pitch."""


def start(count: int, generator: torch.Generator, values: Mapping[str, Tensor]) -> ArmStart:
    """The pan nearly level, the toast near its middle."""
    arm = load_arm("panda")
    x, z = (middle + uniform(count, -0.03, 0.03, generator) for middle in HOME)
    y = uniform(count, -0.03, 0.03, generator)
    pitch = uniform(count, -0.1, 0.1, generator)
    half = 0.5 * pitch
    zero = np.zeros(count)
    turn = np.stack([np.cos(half), zero, -np.sin(half), zero], axis=1)
    tool = np.concatenate(
        [np.stack([x, y, z], axis=1), rotation.multiply(turn, np.broadcast_to(LEVEL, (count, 4)))], axis=1
    )
    joints = solve_pose(arm, tool, np.broadcast_to(BENT, (count, 7)))[0]
    pan = rotation.multiply(tool[:, 3:], np.broadcast_to(TOOL_TO_PAN, (count, 4)))
    bottom = tool[:, :3] + rotation.rotate(tool[:, 3:], np.broadcast_to(PAN_IN_TOOL, (count, 3)))
    place = np.stack(
        [uniform(count, -0.02, 0.02, generator), uniform(count, -0.02, 0.02, generator), zero + 0.5 * THICKNESS], axis=1
    )
    yaw = 0.5 * uniform(count, -0.4, 0.4, generator)
    heading = np.stack([np.cos(yaw), zero, zero, np.sin(yaw)], axis=1)
    toast = np.concatenate([bottom + rotation.rotate(pan, place), rotation.multiply(pan, heading)], axis=1)
    return ArmStart(joints={"arm": joints}, poses={"toast": toast})


def failed(view: ArmView) -> Tensor:
    """The toast has fallen out."""
    place = in_pan(pan_of(view.arm), view.arm.objects["toast"])
    return (place[:, 2] < -0.1) | (place[:, :2].abs().amax(-1) > 0.35)


def reward(view: ArmView) -> dict[str, Tensor]:
    """The toast should be turned over and over the pan, and the tool at rest in the end."""
    toast = view.arm.objects["toast"]
    pan = pan_of(view.arm)
    place = in_pan(pan, toast)
    turned = 0.5 * (1.0 - side_up(toast))
    change = (view.action - view.previous_action).square().mean(-1)
    return {
        "side": -0.5 * (1.0 - turned),
        "beside": 0.3 * shortfall(place[:, :2].norm(dim=-1), 0.1),
        "off": -0.1 * (~rests(pan, toast)).float(),
        "jerky": -0.02 * change,
    }


def build(settings: FlipSettings) -> ArmTask:
    """The task with given settings."""

    def success(view: ArmView) -> Tensor:
        """Turned over, flat on the bottom of the pan, and both slow."""
        toast, twist = view.arm.objects["toast"], view.twists["toast"]
        turned = side_up(toast) < math.cos(settings.angle)
        slow = (twist[:, :3].norm(dim=-1) < 0.15) & (twist[:, 3:].norm(dim=-1) < 0.8)
        slow &= view.arm.tool_twist[:, :3].norm(dim=-1) < 0.15
        return rests(pan_of(view.arm), toast) & turned & slow

    return ArmTask(
        name="arm-flip",
        scene=_scene(),
        terms=TERMS,
        action=ActionConfig(name="cartesian_twist", parameters={"axes": "x z ry", "linear": SPEED, "angular": TURN}),
        envelope=ENVELOPE,
        start=start,
        success=success,
        reward=reward,
        expert=expert,
        failed=failed,
        hold=0.4,
        randomization=RANDOMIZATION,
        controller=CONTROLLER,
        control_rate_hz=1.0 / PERIOD,
        episode_length=8.0,
        settings=settings,
        build=build,
    )


TASK = build(FlipSettings())
