"""Faults of messages, by name: how a simulated vehicle's odometry, or a policy's commands, can be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from robot_rl.nodes import messages

ODOMETRY_FAULTS = ("nan", "inf", "jump=METRES", "stamp=SECONDS", "frame=NAME")
COMMAND_FAULTS = ("nan", "inf", "beyond", "missing", "unknown", "permuted", "jump", "stamp=SECONDS")


def odometry_fault(text: str) -> Callable[[Odometry], Odometry]:
    """What spoils an odometry message, one of `ODOMETRY_FAULTS`; nothing for an empty text.

    Raises:
        ValueError: There is no such fault.
    """
    name, value = _read(text, ODOMETRY_FAULTS)

    def spoil(message: Odometry) -> Odometry:
        if name == "nan":
            message.pose.pose.position.x = math.nan
        elif name == "inf":
            message.twist.twist.linear.x = math.inf
        elif name == "jump":
            message.pose.pose.position.x += float(value)
        elif name == "stamp":
            message.header.stamp = messages.to_stamp(messages.to_seconds(message.header.stamp) + float(value))
        elif name == "frame":
            message.header.frame_id = value
        return message

    return spoil


def command_fault(text: str) -> Callable[[JointState], JointState]:
    """What spoils a motor command, one of `COMMAND_FAULTS`; nothing for an empty text.

    Raises:
        ValueError: There is no such fault.
    """
    name, value = _read(text, COMMAND_FAULTS)
    count = 0

    def spoil(message: JointState) -> JointState:
        nonlocal count
        count += 1
        if name == "nan":
            message.velocity[1] = math.nan
        elif name == "inf":
            message.velocity[1] = math.inf
        elif name == "beyond":
            message.velocity[1] = 1e5
        elif name == "missing":
            message.name, message.velocity = message.name[:-1], message.velocity[:-1]
        elif name == "unknown":
            message.name = [*message.name[:-1], "rotor_of_another_robot"]
        elif name == "permuted":
            message.name, message.velocity = message.name[::-1], message.velocity[::-1]
        elif name == "jump" and count % 20 == 0:  # every fifth of a second, for one period
            message.velocity = [0.0] * len(message.velocity)
        elif name == "stamp":
            message.header.stamp = messages.to_stamp(messages.to_seconds(message.header.stamp) + float(value))
        return message

    return spoil


def _read(text: str, known: tuple[str, ...]) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name and name not in [entry.partition("=")[0] for entry in known]:
        raise ValueError(f"no fault {text!r}; there are {', '.join(known)}")
    if name in ("jump", "stamp") and value:
        float(value)
    return name, value
