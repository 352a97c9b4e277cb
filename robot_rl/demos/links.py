"""Robots that take a person's twists: a control process without ROS, or an arm's topics."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import numpy as np

from hardware.descriptions import load_arm
from hardware.realtime.seqlock import SlotError
from policies.types import CartesianTwist
from robot_rl.demos.configs import ReplayConfig
from robot_rl.errors import UserError, require_packages
from robot_rl.planes.client import PlanesClient

FRESH = 0.5
"""s for which a measured pose may be believed."""
_MOVING = ("armed", "active", "holding")


class RobotLink(Protocol):
    """A robot that takes a person's twists."""

    def pose(self) -> np.ndarray:
        """Measured pose (7,) of the tool in the base frame; raises `UserError` where there is no fresh one."""

    def send(self, twist: np.ndarray, gripper: float, period: float) -> None:
        """Move with a twist (6,) m/s, rad/s in the base frame until the next command, `period` s later."""

    def stop(self) -> None:
        """Stand, and let the dead-man go."""

    def refusal(self) -> str:
        """Why the robot does not move, in words; empty while it does."""

    def close(self) -> None:
        """Let the robot go."""


def open_link(config: ReplayConfig, robot: str) -> RobotLink:
    """The robot that the config names.

    Args:
        config: Of the replay.
        robot: Description of the arm that was recorded.

    Raises:
        UserError: It is not there.
    """
    if config.plane is not None:
        return PlaneLink(config.plane, load_arm(robot).num_joints)
    require_packages("robot-rl demos replay --ros", "ros", ("rclpy",))
    from robot_rl.nodes.arm_link import RosLink

    return RosLink(config.namespace)


class PlaneLink:
    """A person's twists for a control process, whose face and arming are somebody else's."""

    def __init__(self, folder: Path, joints: int) -> None:
        """Attach to the slots in `folder`.

        Raises:
            UserError: There are none.
        """
        self._gripper = 1.0
        try:
            self.client = PlanesClient(folder, joints)
            self.client.read("status")
        except SlotError as error:
            raise UserError(f"no control process at {folder}: {error}") from error
        if not folder.is_dir():
            raise UserError(f"no control process at {folder}: there is no such folder")

    def pose(self) -> np.ndarray:
        """See `RobotLink`."""
        reading = self.client.state()
        if reading is None or time.monotonic() - reading.stamp > FRESH:
            raise UserError(f"the control process at {self.client.folder} measures nothing; is it running?")
        return np.asarray(reading.state.tool_pose, np.float64)

    def send(self, twist: np.ndarray, gripper: float, period: float) -> None:
        """See `RobotLink`."""
        self._gripper = gripper
        self._send(twist, period, held=True)

    def stop(self) -> None:
        """See `RobotLink`."""
        self._send(np.zeros(6), 0.05, held=False)

    def refusal(self) -> str:
        """See `RobotLink`."""
        status = self.client.status()
        if status is None:
            return "the control process says nothing"
        return "" if status.mode in _MOVING else f"it is {status.mode} ({status.cause or 'not armed'})"

    def close(self) -> None:
        """See `RobotLink`."""
        self.client.close()

    def _send(self, twist: np.ndarray, period: float, held: bool) -> None:
        command = CartesianTwist(values=np.asarray(twist), frame="base", gripper=np.asarray(self._gripper))
        self.client.send_twist(command, period, held=held)
