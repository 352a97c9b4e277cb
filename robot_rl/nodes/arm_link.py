"""An arm's topics for a program that drives it as a person does: `command/twist`, `command/gripper`, `tool_pose`."""

from __future__ import annotations

import threading
import time

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from std_msgs.msg import Float64

from robot_rl.errors import UserError
from robot_rl.nodes import arm_messages, qos

_FRESH = 0.5
"""s for which a measured pose may be believed."""


class RosLink:
    """A node with a thread that listens; see `robot_rl.demos.links.RobotLink`."""

    def __init__(self, namespace: str = "", period: float = 0.05, patience: float = 5.0) -> None:
        """Join the graph.

        Args:
            namespace: Of the arm's topics.
            period: s between two commands.
            patience: s until the first pose must have come.
        """
        self._patience = patience
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("replay", namespace=namespace, context=self._context)
        profile = qos.command_publisher(period)
        self._twists = qos.publisher(self._node, TwistStamped, "command/twist", profile)
        self._grippers = qos.publisher(self._node, Float64, "command/gripper", profile)
        self._node.create_subscription(PoseStamped, "tool_pose", self._on_pose, qos.SENSOR_READER)
        self._newest: tuple[np.ndarray, float] | None = None
        self._problem = ""
        self._gripper: float | None = None
        self._moved = False
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="replay", daemon=True)
        self._thread.start()
        self._began = time.monotonic()

    def pose(self) -> np.ndarray:
        """The tool's newest pose (7,); waits for the first one.

        Raises:
            UserError: There is none, or it is old.
        """
        while self._newest is None and time.monotonic() - self._began < self._patience:
            time.sleep(0.01)
        topic = self._node.resolve_topic_name("tool_pose")
        if self._newest is None:
            raise UserError(f"nothing came on {topic}; start the arm (robot-rl up) or give --namespace {self._problem}")
        pose, came = self._newest
        if time.monotonic() - came > _FRESH:
            raise UserError(f"the newest pose on {topic} is {time.monotonic() - came:.1f} s old; is the arm running?")
        return pose

    def send(self, twist: np.ndarray, gripper: float, period: float) -> None:
        """Publish a twist (6,) in the base frame, and what the gripper does where that changes."""
        stamp = 1e-9 * self._node.get_clock().now().nanoseconds
        if gripper != self._gripper:
            self._gripper = gripper
            self._grippers.publish(Float64(data=float(gripper)))
        self._twists.publish(arm_messages.twist_message(np.asarray(twist), stamp))
        self._moved = True

    def stop(self) -> None:
        """One twist of zeros, and then none: the dead-man is let go."""
        if self._moved:
            stamp = 1e-9 * self._node.get_clock().now().nanoseconds
            self._twists.publish(arm_messages.twist_message(np.zeros(6), stamp))
            self._moved = False

    def refusal(self) -> str:
        """Why nobody takes the commands."""
        if self._twists.get_subscription_count():
            return ""
        return f"nobody listens to {self._node.resolve_topic_name('command/twist')}"

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(timeout=2.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            pose, _ = arm_messages.pose_from_message(message, message.header.frame_id)
        except arm_messages.MessageError as error:
            self._problem = f"({error})"
            return
        self._newest = pose, time.monotonic()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
