"""The topics of an arm under ros2_control, as a managed node: joint states in, joint positions out.

It carries what the driver `ros2_control` (`robot_rl.ros2_control`) exchanges with the control process, 100 times a
second. Joints go by name on the way in; a forward command controller has no names, so its own order is a parameter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import SlotReader, SlotWriter
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig
from robot_rl.nodes.carrier import Carrier, Pair
from robot_rl.nodes.managed import Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import run
from robot_rl.nodes.trajectory_goals import RATE_HZ as GOAL_RATE_HZ
from robot_rl.nodes.trajectory_goals import TrajectoryGoals, one_point
from robot_rl.planes.client import PlanesClient
from robot_rl.ros2_control import MEASURED, RATE_HZ, WANTED, measured_dtype, wanted_dtype

_TOPICS = {
    "forward": "/forward_position_controller/commands",
    "trajectory": "/joint_trajectory_controller/joint_trajectory",
    "action": "/joint_trajectory_controller/follow_joint_trajectory",
}
_STALE = 3.0
"""Periods after which what the control process has said is not sent any more: the controllers hold."""


@dataclass(frozen=True, kw_only=True)
class BridgeConfig(ArmFaceConfig):
    """Parameters of the node."""

    rate: float = parameter(RATE_HZ, "Hz of commands; beyond 100 Python callbacks need real-time priority.", low=10.0,
                            high=250.0)  # fmt: skip
    controller: str = parameter(
        "forward",
        "forward: Float64MultiArray; trajectory: JointTrajectory; action: FollowJointTrajectory, at most 25 Hz.",
        choices=tuple(_TOPICS),
    )
    command_topic: str = parameter("", "Topic or action of the controller; empty: its usual name.")
    command_joints: list[str] = parameter([""], "Order of a forward controller's joints; empty: the description's.")
    joint_states: str = parameter("/joint_states", "Topic of the joint_state_broadcaster.")
    prefix: str = parameter("", "Before the joints' names on the topics, e.g. left_.")
    ahead: float = parameter(2.0, "Periods of commands in which a trajectory's point is to be reached.", low=1.0,
                             high=10.0)  # fmt: skip


class BridgeNode(Carrier[PlanesClient], ArmFace):
    """See the module."""

    part = "ros2_control"
    needs_message_info = True
    priority = 15

    def __init__(self) -> None:
        super().__init__("ros2_control", BridgeConfig)
        config = self.settings
        name = config.command_topic or _TOPICS[config.controller]
        self._goals: TrajectoryGoals | None = None
        self._out: Any = None
        if config.controller == "action":
            self._goals = TrajectoryGoals(self, name)
        else:
            kind = Float64MultiArray if config.controller == "forward" else JointTrajectory
            self._out = qos.publisher(self, kind, name, qos.command_publisher(1.0 / config.rate))
        callback = self.when_active_with_info(self._on_joint_states)
        qos.subscription(self, JointState, config.joint_states, callback, qos.SENSOR_READER)

    def configure(self) -> None:
        """Check the joints' order."""
        super().configure()
        config, own = self.settings, self.interface.actuators
        self.period = 1.0 / config.rate
        self._names = [f"{config.prefix}{name}" for name in own]
        order = [name for name in config.command_joints if name] or self._names
        if sorted(order) != sorted(self._names):
            raise ValueError(
                f"parameter command_joints is {', '.join(order)}; expected each of {', '.join(self._names)} once"
            )
        self._order = [self._names.index(name) for name in order]
        self._first = FirstPublisher(release=0.5)
        self._positions: np.ndarray | None = None
        self._refusal, self._refused, self._heard, self._sent = "", 0, 0, 0
        self._stopped = False
        self._ahead = config.ahead / (min(config.rate, GOAL_RATE_HZ) if self._goals is not None else config.rate)
        self._next_goal = 0.0
        self._age = Histogram()

    def open_pair(self, folder: Path) -> Pair:
        """What the joints measure and shall do."""
        joints = self.description.num_joints
        return SlotWriter(folder, MEASURED, measured_dtype(joints)), SlotReader(folder, WANTED, wanted_dtype(joints))

    def work(self) -> None:
        """Send what the control process wants, once."""
        pair = self.pair()
        reading = None if pair is None else pair[1].read_new()
        if reading is None or time.monotonic() - reading.stamp > _STALE * self.period:
            return
        stop = bool(reading.record["stop"])
        if not stop:
            self._send(np.asarray(reading.record["joint_positions"]))
        elif not self._stopped:
            self._stand()
        self._stopped = stop

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether both sides are there."""
        if self._positions is None:
            return DiagnosticStatus.WARN, f"no joint states: {self._refusal or 'none has come'}", self._values
        if self._goals is not None and self._goals.fault:
            return DiagnosticStatus.ERROR, self._goals.fault, self._values
        if not (self._goals.ready if self._goals is not None else self._out.get_subscription_count()):
            where = self._describe_commands()["commands go to"]
            return DiagnosticStatus.WARN, f"nobody listens to {where}: is it active?", self._values
        return DiagnosticStatus.OK, "connected", self._values

    def _values(self) -> Mapping[str, Any]:
        return {
            "controller": self.settings.controller,
            **self._describe_commands(),
            "joint states": self._heard,
            "commands": self._sent,
            "last refused": self._refusal,
            "refused": self._refused,
            "skipped periods": self.schedule.skipped,
            "timing.joint_states_age": self._age.to_chart(),
            "timing.ros2_control_lateness": self.schedule.lateness.to_chart(),
        }

    def _describe_commands(self) -> dict[str, Any]:
        if self._goals is not None:
            goals = self._goals
            counts = {"goals accepted": goals.accepted, "goals refused": goals.refused, "given up": goals.given_up}
            return {"commands go to": goals.name, **counts}
        return {
            "commands go to": self._out.topic_name,
            "readers of commands": self._out.get_subscription_count(),
        }

    def _on_joint_states(self, message: JointState, info: Mapping) -> None:
        slots = self._pair
        refusal = self._first.refusal(source_of(info), time.monotonic())
        if not refusal:
            try:
                positions, velocities, torques, stamp = arm_messages.joints_from_message(message, self._names)
            except messages.MessageError as error:
                refusal = str(error)
        if refusal:
            self._refusal, self._refused = refusal, self._refused + 1
            self.get_logger().warning(f"joint states refused: {refusal}", throttle_duration_sec=1.0)
            return
        self._heard += 1
        self._positions = positions
        now = time.monotonic()
        measured = self.to_monotonic(stamp) if stamp > 0.0 else now
        self._age.record(now - measured)
        if slots is not None:
            record = np.zeros((), slots[0].dtype)
            record["joint_positions"], record["joint_velocities"] = positions, velocities
            record["has_joint_torques"] = torques is not None
            if torques is not None:
                record["joint_torques"] = torques
            if self._goals is not None:
                record["fault"] = self._goals.fault.encode()[:240]
            slots[0].write(record, measured)

    def _stand(self) -> None:
        if self._goals is not None:
            self._goals.cancel()
        elif self._positions is not None:
            self._send(self._positions)

    def _send(self, positions: np.ndarray) -> None:
        if self._goals is not None:
            now = time.monotonic()
            if now >= self._next_goal and not self._goals.fault:
                self._next_goal = max(now, self._next_goal + 1.0 / GOAL_RATE_HZ)
                self._goals.send(one_point(self._names, positions.tolist(), self._ahead))
                self._sent += 1
            return
        self._sent += 1
        if self.settings.controller == "forward":
            self._out.publish(Float64MultiArray(data=[float(positions[index]) for index in self._order]))
            return
        self._out.publish(one_point(self._names, positions.tolist(), self._ahead))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(BridgeNode, argv)
