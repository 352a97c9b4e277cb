"""The one place where ROS 2 messages become our types, and back.

At this edge, and nowhere else: quaternions change between xyzw (ROS) and wxyz (inside), a twist
between `base_link` (REP-105, nav_msgs/Odometry) and the world frame, names become array order, and
stamps become float seconds of the ROS clock. What does not fit is refused with a `MessageError`
that names the field, its value and what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Quaternion, Transform, Twist, Vector3
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from policies import rotation
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState

ODOM_FRAME = "odom"
"""World frame of a robot's pose (REP-105)."""
BODY_FRAME = "base_link"
"""Body frame of a robot (REP-105)."""
_UNIT_TOLERANCE = 1e-2
"""A quaternion whose length differs more than this from 1 is not a rounded one but a wrong one."""


class MessageError(ValueError):
    """A message that cannot be used, with the reason in one sentence."""


def to_stamp(seconds: float) -> Time:
    """A ROS time from float seconds."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def to_seconds(stamp: Time) -> float:
    """Float seconds of a ROS time; resolution about 0.2 µs in this century."""
    return stamp.sec + 1e-9 * stamp.nanosec


def odometry_from_state(state: QuadrotorState, stamp: float) -> Odometry:
    """Pose in `odom`, twist in `base_link`."""
    message = Odometry()
    message.header.stamp = to_stamp(stamp)
    message.header.frame_id = ODOM_FRAME
    message.child_frame_id = BODY_FRAME
    x, y, z = (float(value) for value in state.position)
    message.pose.pose.position.x, message.pose.pose.position.y, message.pose.pose.position.z = x, y, z
    message.pose.pose.orientation = to_quaternion(state.orientation)
    message.twist.twist.linear = _to_vector(rotation.rotate_inverse(state.orientation, state.linear_velocity))
    message.twist.twist.angular = _to_vector(state.angular_velocity)
    return message


def state_from_odometry(
    message: Odometry, world_frame: str = ODOM_FRAME, body_frame: str = BODY_FRAME
) -> tuple[QuadrotorState, float]:
    """The state and its measurement time in s.

    Numbers are passed on as they are, finite or not: whoever flies on them judges them. Frames are
    checked here, because nobody after this point can.
    """
    if message.header.frame_id != world_frame or message.child_frame_id != body_frame:
        raise MessageError(
            f"odometry has frames {message.header.frame_id!r} and {message.child_frame_id!r}, expected "
            f"{world_frame!r} (pose) and {body_frame!r} (twist); correct the publisher, or set the frames"
        )
    pose, twist = message.pose.pose, message.twist.twist
    orientation = from_quaternion(pose.orientation, "odometry pose.orientation")
    state = QuadrotorState(
        position=np.array([pose.position.x, pose.position.y, pose.position.z]),
        orientation=orientation,
        linear_velocity=rotation.rotate(orientation, _from_vector(twist.linear)),
        angular_velocity=_from_vector(twist.angular),
    )
    return state, to_seconds(message.header.stamp)


def imu_message(orientation: np.ndarray, rates: np.ndarray, specific_force: np.ndarray | None, stamp: float) -> Imu:
    """Attitude (4,) wxyz, body rates (3,) rad/s and specific force (3,) m/s², or None, in `base_link` (REP-145)."""
    message = Imu()
    message.header.stamp = to_stamp(stamp)
    message.header.frame_id = BODY_FRAME
    message.orientation = to_quaternion(orientation)
    message.angular_velocity = _to_vector(rates)
    if specific_force is None:
        message.linear_acceleration_covariance[0] = -1.0  # not measured
    else:
        message.linear_acceleration = _to_vector(specific_force)
    return message


def attitude_from_imu(message: Imu, body_frame: str = BODY_FRAME) -> tuple[np.ndarray, np.ndarray, float]:
    """(orientation (4,) wxyz, body rates (3,) rad/s, measurement time s)."""
    if message.header.frame_id != body_frame:
        raise MessageError(f"imu has frame {message.header.frame_id!r}, expected {body_frame!r}")
    if message.orientation_covariance[0] == -1.0:
        raise MessageError("imu gives no orientation (orientation_covariance[0] is -1)")
    orientation = from_quaternion(message.orientation, "imu orientation")
    return orientation, _from_vector(message.angular_velocity), to_seconds(message.header.stamp)


def trajectory_from_setpoint(setpoint: QuadrotorSetpoint, stamp: float) -> MultiDOFJointTrajectory:
    """A set-point for this instant: one point of one joint, `base_link`."""
    orientation = rotation.from_yaw(np.asarray(setpoint.yaw, dtype=np.float64))
    point = MultiDOFJointTrajectoryPoint(
        transforms=[Transform(translation=_to_vector(setpoint.position), rotation=to_quaternion(orientation))],
        velocities=[Twist(linear=_to_vector(setpoint.velocity))],
        accelerations=[Twist(linear=_to_vector(setpoint.acceleration))],
        time_from_start=Duration(),
    )
    message = MultiDOFJointTrajectory(joint_names=[BODY_FRAME], points=[point])
    message.header.stamp = to_stamp(stamp)
    message.header.frame_id = ODOM_FRAME
    return message


def setpoint_from_trajectory(
    message: MultiDOFJointTrajectory, world_frame: str = ODOM_FRAME, body_frame: str = BODY_FRAME
) -> tuple[QuadrotorSetpoint, float]:
    """The set-point for this instant and its time in s; velocity and acceleration default to zero."""
    if message.header.frame_id != world_frame:
        raise MessageError(f"setpoint has frame {message.header.frame_id!r}, expected {world_frame!r}")
    if list(message.joint_names) != [body_frame]:
        raise MessageError(f"setpoint has joint names {list(message.joint_names)}, expected [{body_frame!r}]")
    if len(message.points) != 1 or len(message.points[0].transforms) != 1:
        raise MessageError(f"setpoint has {len(message.points)} points; expected 1, with 1 transform: where to be now")
    point = message.points[0]
    velocity = _from_vector(point.velocities[0].linear) if point.velocities else np.zeros(3)
    acceleration = _from_vector(point.accelerations[0].linear) if point.accelerations else np.zeros(3)
    orientation = from_quaternion(point.transforms[0].rotation, "setpoint rotation")
    setpoint = QuadrotorSetpoint(
        position=_from_vector(point.transforms[0].translation),
        velocity=velocity,
        acceleration=acceleration,
        yaw=np.asarray(rotation.yaw_of(orientation)),
    )
    return setpoint, to_seconds(message.header.stamp)


def joint_state_from_motor_speeds(command: MotorSpeeds, actuators: Sequence[str], stamp: float) -> JointState:
    """A motor command, `velocity` in rad/s by rotor name."""
    message = JointState(name=list(actuators), velocity=[float(value) for value in command.values])
    message.header.stamp = to_stamp(stamp)
    return message


def motor_speeds_from_joint_state(message: JointState, actuators: Sequence[str]) -> tuple[MotorSpeeds, float]:
    """The command in the robot's motor order, and its time in s.

    Values belong to names, not to places: a message in another order is sorted. Missing, unknown or
    repeated names are refused, by name, and so are values that are not finite.
    """
    names, values = list(message.name), list(message.velocity)
    if len(names) != len(values):
        raise MessageError(f"motor command has {len(names)} names but {len(values)} velocities")
    unknown = [name for name in names if name not in actuators]
    missing = [name for name in actuators if name not in names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    for problem, culprits in (("unknown", unknown), ("missing", missing), ("repeated", repeated)):
        if culprits:
            raise MessageError(
                f"motor command has {problem} rotors {', '.join(culprits)}; expected {', '.join(actuators)}"
            )
    by_name = dict(zip(names, values, strict=True))
    bad = [f"{name} = {value}" for name, value in by_name.items() if not math.isfinite(value)]
    if bad:
        raise MessageError(f"motor command is not finite: {', '.join(bad)}")
    speeds = np.array([by_name[name] for name in actuators], dtype=np.float64)
    return MotorSpeeds(speeds), to_seconds(message.header.stamp)


def action_message(action: np.ndarray) -> Float64MultiArray:
    """The normalized action (A,), in [-1, 1]."""
    return Float64MultiArray(data=[float(value) for value in action])


@dataclass(frozen=True, kw_only=True)
class SupervisorStatus:
    """What the supervisor does and why, as the latched topic `supervisor/status` tells it."""

    mode: str
    """Of the robot's supervisor in `hardware.safety`; `starting` and `stopped` tell of its process, `inactive` of its
    node."""
    cause: str
    """Why the mode is not `active`, in words."""
    latched: bool
    """Only `recover` leads on."""
    stamp: float
    """s, ROS clock, when this mode or cause began."""


def status_message(status: SupervisorStatus) -> String:
    """The status as JSON text."""
    return String(data=json.dumps(vars(status)))


def status_from_message(message: String) -> SupervisorStatus:
    """The status from its JSON text."""
    try:
        data = json.loads(message.data)
        return SupervisorStatus(
            mode=str(data["mode"]),
            cause=str(data["cause"]),
            latched=bool(data["latched"]),
            stamp=float(data["stamp"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MessageError(f"supervisor status {message.data[:80]!r} cannot be read: {error!r}") from error


def diagnostics_message(
    name: str, hardware_id: str, level: bytes, summary: str, values: Mapping[str, Any], stamp: float
) -> DiagnosticArray:
    """One entry of `/diagnostics` (REP-107); a mapping or a list among the values becomes JSON text."""
    pairs = [KeyValue(key=key, value=_to_text(value)) for key, value in values.items()]
    status = DiagnosticStatus(level=level, name=name, message=summary, hardware_id=hardware_id, values=pairs)
    message = DiagnosticArray(status=[status])
    message.header.stamp = to_stamp(stamp)
    return message


def _to_text(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _to_vector(values: Any) -> Vector3:
    x, y, z = (float(value) for value in values)
    return Vector3(x=x, y=y, z=z)


def _from_vector(vector: Vector3) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z])


def to_quaternion(wxyz: Any) -> Quaternion:
    """A ROS quaternion from wxyz."""
    w, x, y, z = (float(value) for value in wxyz)
    return Quaternion(x=x, y=y, z=z, w=w)


def from_quaternion(quaternion: Quaternion, what: str) -> np.ndarray:
    """Unit quaternion (4,) wxyz; `what` names it where its length is wrong."""
    wxyz = np.array([quaternion.w, quaternion.x, quaternion.y, quaternion.z])
    length = float(np.linalg.norm(wxyz))
    if math.isfinite(length) and abs(length - 1.0) > _UNIT_TOLERANCE:
        raise MessageError(f"{what} has length {length:.4g}, expected 1")
    return wxyz / length if math.isfinite(length) else wxyz
