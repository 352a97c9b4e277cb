"""Joint positions as goals of the action FollowJointTrajectory, each of which replaces the one before.

The topic of a trajectory controller takes the same points, but only the action says that a goal was refused or given
up (a joint lags, say), and lets a motion be cancelled. Its type is in control_msgs, which a robot has from apt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

RATE_HZ = 25.0
"""Goals per second: each costs two service calls and an answer."""


def one_point(names: Sequence[str], positions: Sequence[float], ahead: float) -> JointTrajectory:
    """Be at `positions` in `ahead` s.

    Its stamp is zero, which means now: a stamp of another clock would make the controller refuse it.
    """
    point = JointTrajectoryPoint(
        positions=[float(value) for value in positions], time_from_start=Duration(seconds=ahead).to_msg()
    )
    return JointTrajectory(joint_names=list(names), points=[point])


class TrajectoryGoals:
    """A client of a joint trajectory controller."""

    def __init__(self, node: Node, name: str) -> None:
        """Look for the action `name`.

        Raises:
            ValueError: control_msgs is not installed.
        """
        try:
            from control_msgs.action import FollowJointTrajectory
        except ImportError as error:
            raise ValueError(
                "parameter controller is action, and control_msgs is not installed: install the package "
                "ros-$ROS_DISTRO-control-msgs, or give controller:=trajectory, which takes the same points"
            ) from error
        self._type: Any = FollowJointTrajectory
        self._client = ActionClient(node, FollowJointTrajectory, name)
        self.name = name
        self.fault = ""
        """Why the controller does not follow; empty while it does. It stays until the arm has been told to stop."""
        self.accepted = self.refused = self.given_up = 0
        self._running: Any = None
        self._moving = False

    @property
    def ready(self) -> bool:
        """Whether a controller serves the action."""
        return bool(self._client.server_is_ready())

    def send(self, trajectory: JointTrajectory) -> None:
        """Replace the goal."""
        if not self.ready:
            self.fault = f"no controller serves {self.name}: is it active?"
            return
        self._moving = True
        self._client.send_goal_async(self._type.Goal(trajectory=trajectory)).add_done_callback(self._on_answer)

    def cancel(self) -> None:
        """End the motion; the controller holds where the arm is. What was wrong is forgotten: the arm has stopped."""
        if self._running is not None:
            self._running.cancel_goal_async()
        self._running, self._moving, self.fault = None, False, ""

    def close(self) -> None:
        """Let go of the action."""
        self._client.destroy()

    def _on_answer(self, answer: Future) -> None:
        handle: Any = answer.result()
        if handle is None:
            return
        if not handle.accepted:
            self.refused += 1
            self.fault = f"{self.name} refuses the goal: is the controller active, and are these its joints?"
            return
        self.accepted += 1
        if not self._moving:  # told to stop while it was on its way
            handle.cancel_goal_async()
            return
        self._running = handle
        handle.get_result_async().add_done_callback(lambda end: self._on_end(end, handle))

    def _on_end(self, end: Future, handle: Any) -> None:
        found: Any = end.result()
        if found is None or found.status != GoalStatus.STATUS_ABORTED:
            return
        result = self._type.Result
        lags = found.result.error_code in (result.PATH_TOLERANCE_VIOLATED, result.GOAL_TOLERANCE_VIOLATED)
        if handle is not self._running and not lags:  # replaced by the next one, which some controllers call an abort
            return
        self.given_up += 1
        words = found.result.error_string or "no reason given"
        self.fault = f"{self.name} gave the motion up (error {found.result.error_code}): {words}"
