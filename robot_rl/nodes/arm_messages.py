"""Where ROS 2 messages become an arm's types, and back; like `messages`, which does the same for quadrotors.

Frames are those of the URDF: `base`, and `tool` between the fingertips. Quaternions change between xyzw (ROS) and
wxyz (inside) here and nowhere else; values belong to joint names, never to places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, Vector3, WrenchStamped
from sensor_msgs.msg import JointState

from hardware.descriptions.arm import ArmDescription
from policies.types import ArmState
from robot_rl.nodes.messages import MessageError, from_quaternion, to_quaternion, to_seconds, to_stamp

BASE_FRAME = "base"
"""First link of the URDF."""
TOOL_FRAME = "tool"
"""Link of the URDF between the fingertips."""
FINGERS = ("finger_left", "finger_right")
"""Joints of the URDF that a gripper has, each at half its width."""


def joint_state_message(state: ArmState, description: ArmDescription, stamp: float) -> JointState:
    """Angles rad, velocities rad/s, torques N m by name, and the fingers' joints in m where there is a gripper."""
    message = JointState(name=list(description.interface.actuators))
    message.header.stamp = to_stamp(stamp)
    message.position = _floats(state.joint_positions)
    message.velocity = _floats(state.joint_velocities)
    if state.joint_torques is not None:
        message.effort = _floats(state.joint_torques)
    if description.gripper is not None:
        half = 0.5 * float(state.gripper_width)
        message.name = [*message.name, *FINGERS]
        message.position = [*message.position, half, half]
        # rviz and MoveIt take a message whose arrays are all as long as its names, or empty.
        message.velocity = [*message.velocity, 0.0, 0.0]
        if state.joint_torques is not None:
            message.effort = [*message.effort, 0.0, 0.0]
    return message


def joints_from_message(
    message: JointState, joints: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float]:
    """Positions, velocities (0 where they are not given), torques or None, each (n,) in the order of `joints`, and s.

    Other names in the message, of a gripper or a second arm, are passed over.

    Raises:
        MessageError: A joint is missing or twice, lengths differ, or a value is not finite; names the joint.
    """
    names = list(message.name)
    if missing := [name for name in joints if name not in names]:
        raise MessageError(f"joint_states has no joint {', '.join(missing)}; it has {', '.join(names) or 'none'}")
    if repeated := [name for name in joints if names.count(name) > 1]:
        raise MessageError(f"joint_states has {', '.join(repeated)} more than once")
    order = [names.index(name) for name in joints]
    found: dict[str, np.ndarray | None] = {}
    for field in ("position", "velocity", "effort"):
        values = list(getattr(message, field))
        if values and len(values) != len(names):
            raise MessageError(f"joint_states has {len(names)} names but {len(values)} values of {field}")
        found[field] = np.array([values[index] for index in order]) if values else None
    positions = found["position"]
    if positions is None:
        raise MessageError("joint_states has no positions")
    velocities = np.zeros(len(order)) if found["velocity"] is None else found["velocity"]
    for what, array in (("position", positions), ("velocity", velocities)):
        if bad := [f"{name} = {value}" for name, value in zip(joints, array, strict=True) if not math.isfinite(value)]:
            raise MessageError(f"joint_states: {what} is not finite: {', '.join(bad)}")
    return positions, velocities, found["effort"], to_seconds(message.header.stamp)


def pose_message(pose: np.ndarray, stamp: float, frame: str = BASE_FRAME) -> PoseStamped:
    """A pose (7,), xyz and wxyz."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = to_stamp(stamp), frame
    position = message.pose.position
    position.x, position.y, position.z = (float(value) for value in pose[:3])
    message.pose.orientation = to_quaternion(pose[3:])
    return message


def pose_from_message(message: PoseStamped, frame: str = BASE_FRAME) -> tuple[np.ndarray, float]:
    """Pose (7,), xyz and wxyz, and its time in s; of an empty frame the base's is meant."""
    if message.header.frame_id not in ("", frame):
        raise MessageError(f"pose has frame {message.header.frame_id!r}, expected {frame!r}: transform it first")
    position = message.pose.position
    orientation = from_quaternion(message.pose.orientation, "pose.orientation")
    pose = np.array([position.x, position.y, position.z, *orientation])
    if not np.all(np.isfinite(pose)):
        raise MessageError(f"pose is not finite: {pose.tolist()}")
    return pose, to_seconds(message.header.stamp)


def twist_message(twist: np.ndarray, stamp: float, frame: str = BASE_FRAME) -> TwistStamped:
    """A twist (6,), m/s and rad/s."""
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = to_stamp(stamp), frame
    message.twist.linear, message.twist.angular = _vector(twist[:3]), _vector(twist[3:])
    return message


def twist_from_message(
    message: TwistStamped, base: str = BASE_FRAME, tool: str = TOOL_FRAME
) -> tuple[np.ndarray, Literal["base", "tool"], float]:
    """Twist (6,), the frame whose axes it has, and its time in s; of an empty frame the base's is meant."""
    frame = message.header.frame_id or base
    if frame not in (base, tool):
        raise MessageError(f"twist has frame {frame!r}; expected {base!r} or {tool!r}")
    linear, angular = message.twist.linear, message.twist.angular
    twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    if not np.all(np.isfinite(twist)):
        raise MessageError(f"twist is not finite: {twist.tolist()}")
    return twist, "tool" if frame == tool else "base", to_seconds(message.header.stamp)


def wrench_message(wrench: np.ndarray, stamp: float, frame: str = TOOL_FRAME) -> WrenchStamped:
    """Force N and torque N m (6,) on the tool, in its frame."""
    message = WrenchStamped()
    message.header.stamp, message.header.frame_id = to_stamp(stamp), frame
    message.wrench.force, message.wrench.torque = _vector(wrench[:3]), _vector(wrench[3:])
    return message


def _vector(values: np.ndarray) -> Vector3:
    x, y, z = (float(value) for value in values)
    return Vector3(x=x, y=y, z=z)


def _floats(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
