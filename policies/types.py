"""Robot states, set-points and commands: what a policy sees and what it says.

All of them are frozen dataclasses. A field may be a numpy array or a torch tensor and may
carry leading batch axes, written ``...`` below; one sample is the case without batch axes.

Conventions (REP-103): world frame ENU (x forward or east, z up), body frame FLU (x forward,
y left, z up), SI units, quaternions scalar-first ``wxyz`` rotating body vectors into the world,
twists ordered (linear, angular).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Array: TypeAlias = Any
"""A numpy array or a torch tensor: every function here takes either and returns the same kind."""


@dataclass(frozen=True, eq=False)
class QuadrotorState:
    """Rigid-body state of a quadrotor."""

    position: Array
    """Shape (..., 3), m, world frame."""
    orientation: Array
    """Shape (..., 4), unit quaternion wxyz, body to world."""
    linear_velocity: Array
    """Shape (..., 3), m/s, world frame."""
    angular_velocity: Array
    """Shape (..., 3), rad/s, body frame."""
    motor_speeds: Array | None = None
    """Shape (..., 4), rad/s, order of `MotorSpeeds`; None where the robot does not measure them."""


@dataclass(frozen=True, eq=False)
class QuadrotorSetpoint:
    """Where a quadrotor should be at this instant, and how it should be moving there."""

    position: Array
    """Shape (..., 3), m, world frame."""
    velocity: Array
    """Shape (..., 3), m/s, world frame."""
    acceleration: Array
    """Shape (..., 3), m/s², world frame, gravity not included."""
    yaw: Array
    """Shape (...), rad, heading of the body's x axis about the world's z axis."""


@dataclass(frozen=True, eq=False)
class MotorSpeeds:
    """Set-points of the four rotor speeds."""

    values: Array
    """Shape (..., 4), rad/s; order front-right, back-right, back-left, front-left."""


@dataclass(frozen=True, eq=False)
class BodyRatesThrust:
    """Angular-rate and collective-thrust set-point of a quadrotor."""

    rates: Array
    """Shape (..., 3), rad/s, body frame."""
    thrust: Array
    """Shape (...), m/s²: collective thrust divided by mass."""


@dataclass(frozen=True, eq=False)
class ArmState:
    """Measured state of an arm with n joints. Two arms are a dict of these by arm name."""

    joint_positions: Array
    """Shape (..., n), rad, in the joint order of the robot's interface."""
    joint_velocities: Array
    """Shape (..., n), rad/s."""
    tool_pose: Array
    """Shape (..., 7), position m and quaternion wxyz of the tool in the base frame."""
    tool_twist: Array
    """Shape (..., 6), m/s and rad/s of the tool in the base frame."""
    gripper_width: Array
    """Shape (...), m between the fingers."""
    joint_torques: Array | None = None
    """Shape (..., n), N m, or None where they are not measured."""
    wrench: Array | None = None
    """Shape (..., 6), N and N m at the tool, tool frame, or None where it is not measured."""
    objects: Mapping[str, Array] = field(default_factory=dict)
    """Poses by object name, each (..., 7), position m and quaternion wxyz in the base frame."""
    images: Mapping[str, Array] = field(default_factory=dict)
    """Images by camera name, each (..., H, W, 3) uint8, RGB."""


@dataclass(frozen=True, eq=False)
class ArmSetpoint:
    """Goal of an arm's task."""

    tool_pose: Array | None = None
    """Shape (..., 7), position m and quaternion wxyz in the base frame, or None."""
    parameters: Mapping[str, Array] = field(default_factory=dict)
    """Further goal values by name; the task documents their shapes and units."""


@dataclass(frozen=True, eq=False)
class CartesianTwist:
    """Tool velocity. The target is the pose measured at the policy's tick plus twist × period."""

    values: Array
    """Shape (..., 6), m/s and rad/s."""
    frame: Literal["base", "tool"]
    """Frame in which the twist is expressed."""
    gripper: Array
    """Shape (...), -1 closed to 1 open."""


@dataclass(frozen=True, eq=False)
class JointPositions:
    """Joint position targets of an arm."""

    values: Array
    """Shape (..., n), rad."""
    gripper: Array
    """Shape (...), -1 closed to 1 open."""


@dataclass(frozen=True, eq=False)
class JointTorques:
    """Joint torques of an arm, gravity not included."""

    values: Array
    """Shape (..., n), N m."""
    gripper: Array
    """Shape (...), -1 closed to 1 open."""


Command: TypeAlias = MotorSpeeds | BodyRatesThrust | CartesianTwist | JointPositions | JointTorques


@dataclass(frozen=True, kw_only=True)
class RobotInterface:
    """What a robot can sense and do, by name: a policy is checked against it before it runs."""

    name: str
    """Robot name, as in `hardware/descriptions/<name>.yaml`."""
    kind: Literal["quadrotor", "arm"]
    """What sort of state, set-point and command the robot has."""
    actuators: tuple[str, ...]
    """Joint or motor names, in the order of every per-actuator array."""
    limits: Mapping[str, tuple[tuple[float, float], ...]]
    """(lower, upper) per actuator by quantity, in SI units: `speed` for motors in rad/s;
    `position`, `velocity`, `torque`, … for joints."""
    state_rate_hz: float
    """Rate at which the robot measures its state."""
    command_rate_hz: float
    """Highest rate at which it takes commands."""
    signals: tuple[str, ...]
    """Fields of the robot's state that it provides, e.g. `position`, `motor_speeds`."""
    commands: tuple[str, ...]
    """Action terms that it can carry out, e.g. `motor_speeds`, `body_rates_thrust`."""
