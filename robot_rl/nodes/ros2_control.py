"""The topics of an arm under ros2_control, as a managed node: joint states in, joint positions out.

It carries what the driver `ros2_control` (`robot_rl.ros2_control`) exchanges with the control process, 100 times a
second. Joints go by name on the way in; a forward command controller has no names, so its own order is a parameter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import SlotReader, SlotWriter
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import run
from robot_rl.ros2_control import MEASURED, RATE_HZ, WANTED, measured_dtype, wanted_dtype

_TOPICS = {
    "forward": "/forward_position_controller/commands",
    "trajectory": "/joint_trajectory_controller/joint_trajectory",
}
_STALE = 3.0
"""Periods after which what the control process has said is not sent any more: the controllers hold."""


@dataclass(frozen=True, kw_only=True)
class BridgeConfig(ArmFaceConfig):
    """Parameters of the node."""

    rate: float = parameter(RATE_HZ, "Hz of commands; beyond 100 Python callbacks need real-time priority.", low=10.0,
                            high=250.0)  # fmt: skip
    controller: str = parameter(
        "forward", "forward: Float64MultiArray; trajectory: JointTrajectory.", choices=tuple(_TOPICS)
    )
    command_topic: str = parameter("", "Topic of the controller; empty: its usual name.")
    command_joints: list[str] = parameter([""], "Order of a forward controller's joints; empty: the description's.")
    joint_states: str = parameter("/joint_states", "Topic of the joint_state_broadcaster.")
    prefix: str = parameter("", "Before the joints' names on the topics, e.g. left_.")
    ahead: float = parameter(2.0, "Periods in which a trajectory's point is to be reached.", low=1.0, high=10.0)


class BridgeNode(ArmFace):
    """See the module."""

    part = "ros2_control"
    needs_message_info = True
    priority = 15

    def __init__(self) -> None:
        super().__init__("ros2_control", BridgeConfig)
        config = self.settings
        self._slots: tuple[SlotWriter, SlotReader] | None = None
        kind = Float64MultiArray if config.controller == "forward" else JointTrajectory
        topic = config.command_topic or _TOPICS[config.controller]
        self._out = qos.publisher(self, kind, topic, qos.command_publisher(1.0 / config.rate))
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
        self._age = Histogram()

    def cleanup(self) -> None:
        """Let go of the memory."""
        self._let_slots_go()
        super().cleanup()

    def work(self) -> None:
        """Send what the control process wants, once."""
        slots = self._open_slots()
        reading = None if slots is None else slots[1].read_new()
        if reading is None or time.monotonic() - reading.stamp > _STALE * self.period:
            return
        if not reading.record["stop"]:
            self._send(np.asarray(reading.record["joint_positions"]))
        elif not self._stopped and self._positions is not None:
            self._send(self._positions)
        self._stopped = bool(reading.record["stop"])

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """Whether both sides are there."""
        values = {
            "controller": self.settings.controller,
            "command topic": self._out.topic_name,
            "readers of commands": self._out.get_subscription_count(),
            "joint states": self._heard,
            "commands": self._sent,
            "last refused": self._refusal,
            "refused": self._refused,
            "skipped periods": self.schedule.skipped,
            "timing.joint_states_age": self._age.to_chart(),
            "timing.ros2_control_lateness": self.schedule.lateness.to_chart(),
        }
        if self._positions is None:
            return DiagnosticStatus.WARN, f"no joint states: {self._refusal or 'none has come'}", values
        if not self._out.get_subscription_count():
            return DiagnosticStatus.WARN, f"nobody listens to {self._out.topic_name}: is the controller active?", values
        return DiagnosticStatus.OK, "connected", values

    def _open_slots(self) -> tuple[SlotWriter, SlotReader] | None:
        """The two slots, anew where the memory is another one."""
        before = self._inode
        if self.planes is None or self._inode != before:
            self._let_slots_go()
        if self._slots is None and self._inode:
            joints, folder = self.description.num_joints, self.slots.path
            self._slots = (
                SlotWriter(folder, MEASURED, measured_dtype(joints)),
                SlotReader(folder, WANTED, wanted_dtype(joints)),
            )
        return self._slots

    def _let_slots_go(self) -> None:
        for slot in self._slots or ():
            slot.close()
        self._slots = None

    def _on_joint_states(self, message: JointState, info: Mapping) -> None:
        slots = self._slots
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
            slots[0].write(record, measured)

    def _send(self, positions: np.ndarray) -> None:
        self._sent += 1
        if self.settings.controller == "forward":
            self._out.publish(Float64MultiArray(data=[float(positions[index]) for index in self._order]))
            return
        ahead = Duration(seconds=self.settings.ahead * self.period).to_msg()
        point = JointTrajectoryPoint(positions=[float(value) for value in positions], time_from_start=ahead)
        # Stamp zero means now: a stamp of another clock would make the controller refuse it.
        self._out.publish(JointTrajectory(joint_names=self._names, points=[point]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(BridgeNode, argv)
