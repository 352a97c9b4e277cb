"""A quadrotor that speaks ROS topics, as a managed node: `odom` and `imu` in, `motor_commands` out.

It carries what the driver `topics` (`hardware.drivers.bridged_quadrotor`) exchanges with the control process. Rotors go
by name. The vehicle behind the topics must help itself when no commands come: this node repeats none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState

from hardware.drivers.bridged_quadrotor import MOTORS, MOTORS_RECORD, SENSORS, SENSORS_RECORD
from hardware.drivers.memory_quadrotor import STATE_FIELDS
from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.types import MotorSpeeds
from robot_rl.nodes import messages, qos
from robot_rl.nodes.carrier import Carrier, Pair
from robot_rl.nodes.managed import Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.quadrotor_face import QuadrotorFace, QuadrotorFaceConfig
from robot_rl.nodes.running import run
from robot_rl.planes.quadrotor_client import QuadrotorClient

_STALE = 0.1
"""s after which what the control process has said is not sent any more."""


@dataclass(frozen=True, kw_only=True)
class TopicsConfig(QuadrotorFaceConfig):
    """Parameters of the node."""

    rate: float = parameter(250.0, "Hz at which the node looks for new commands.", low=50.0, high=500.0)
    world_frame: str = parameter(messages.ODOM_FRAME, "Frame that poses must be given in.")
    body_frame: str = parameter(messages.BODY_FRAME, "Frame that twists must be given in.")


class TopicsNode(Carrier[QuadrotorClient], QuadrotorFace):
    """See the module."""

    part = "topics"
    needs_message_info = True
    priority = 15

    def __init__(self) -> None:
        super().__init__("topics", TopicsConfig)
        self._forget()
        self._motors = qos.publisher(self, JointState, "motor_commands", qos.command_publisher(0.01))
        with_info = self.when_active_with_info
        qos.subscription(self, Odometry, "odom", with_info(self._on_odometry), qos.SENSOR_READER)
        qos.subscription(self, Imu, "imu", with_info(self._on_imu), qos.SENSOR_READER)

    def _forget(self) -> None:
        self._first = {"odom": FirstPublisher(), "imu": FirstPublisher()}
        self._record = np.zeros((), SENSORS_RECORD)
        self._counts = {"odom": 0, "imu": 0, "commands": 0, "refused": 0}
        self._faults = {"odom": "", "imu": ""}
        self._refusal = ""
        self._age = Histogram()

    # The life cycle

    def configure(self) -> None:
        """Read the description."""
        super().configure()
        self.period = 1.0 / self.settings.rate

    def activate(self) -> None:
        """Begin to carry."""
        self._forget()

    def open_pair(self, folder: Path) -> Pair:
        """Sensors and motors; what was said before counts for nothing."""
        reader = SlotReader(folder, MOTORS, MOTORS_RECORD)
        reader.last_sequence = reader.sequence
        return SlotWriter(folder, SENSORS, SENSORS_RECORD), reader

    # While active

    def work(self) -> None:
        """Send what the control process wants, once."""
        pair = self.pair()
        reading = None if pair is None else pair[1].read_new()
        if reading is None or time.monotonic() - reading.stamp > _STALE:
            return
        stamp = self.to_ros(float(reading.record["stamp"]))
        values = MotorSpeeds(reading.record["values"].copy())
        self._motors.publish(messages.joint_state_from_motor_speeds(values, self.interface.actuators, stamp))
        self._counts["commands"] += 1

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether both sides are there."""
        if not self._counts["odom"]:
            return DiagnosticStatus.WARN, f"no odometry: {self._refusal or 'none has come'}", self._values
        if not self._motors.get_subscription_count():
            return DiagnosticStatus.WARN, "nobody listens to motor_commands: is the vehicle there?", self._values
        return DiagnosticStatus.OK, "connected", self._values

    def _values(self) -> Mapping[str, Any]:
        return {
            **self._counts,
            "readers of commands": self._motors.get_subscription_count(),
            "last refused": self._refusal,
            "skipped periods": self.schedule.skipped,
            "timing.odometry_age": self._age.to_chart(),
            "timing.topics_lateness": self.schedule.lateness.to_chart(),
        }

    def _on_odometry(self, message: Odometry, info: Mapping) -> None:
        if self._is_refused("odom", info):
            return
        try:
            state, stamp = messages.state_from_odometry(message, self.settings.world_frame, self.settings.body_frame)
        except messages.MessageError as error:
            self._refuse(str(error))
            self._carry("odom", str(error))
            return
        for name in STATE_FIELDS:
            self._record[name] = getattr(state, name)
        self._record["state_stamp"] = self.to_monotonic(stamp)
        self._age.record(self.now() - stamp)
        self._carry("odom")

    def _on_imu(self, message: Imu, info: Mapping) -> None:
        if self._is_refused("imu", info):
            return
        try:
            attitude, rates, stamp = messages.attitude_from_imu(message, self.settings.body_frame)
        except messages.MessageError as error:
            self._refuse(str(error))
            self._carry("imu", str(error))
            return
        self._record["attitude"], self._record["rates"] = attitude, rates
        self._record["attitude_stamp"] = self.to_monotonic(stamp)
        self._carry("imu")

    def _carry(self, what: str, fault: str = "") -> None:
        """Pass on what is new; of what is no good only the words, and the last good one grows old."""
        self._counts[what] += not fault
        self._faults[what] = fault
        self._record["fault"] = "; ".join(filter(None, self._faults.values())).encode()[:240]
        if self._pair is not None:
            self._pair[0].write(self._record)

    def _is_refused(self, what: str, info: Mapping) -> bool:
        refusal = self._first[what].refusal(source_of(info), time.monotonic())
        if refusal:
            self._refuse(f"{what}: {refusal}")
        return bool(refusal)

    def _refuse(self, why: str) -> None:
        self._refusal = why
        self._counts["refused"] += 1
        self.get_logger().warning(f"refused: {why}", throttle_duration_sec=1.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(TopicsNode, argv)
