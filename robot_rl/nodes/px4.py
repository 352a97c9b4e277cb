"""A quadrotor with PX4 that speaks ROS 2 topics by itself (uXRCE-DDS), as a managed node.

| `fmu/out/` | gives |
|---|---|
| `vehicle_odometry` | the state at one instant; NED and FRD become ENU and FLU |
| `vehicle_local_position` | whether PX4 believes its position: without it the state ages, and the attitude goes on |
| `vehicle_status` | armed, mode, failsafe |
| `vehicle_command_ack`, `failsafe_flags` | why not |
| `vehicle_land_detected`, `battery_status` | whether it stands on the ground; battery |

| `fmu/in/` | says |
|---|---|
| `offboard_control_mode`, `vehicle_rates_setpoint` | one set-point: the first makes it count, for `COM_OF_LOSS_T` |
| `vehicle_command` | mode, arm, land, disarm, kill |

Since PX4 1.16 topics end in `_v` and the version of their message, unless that is 0. PX4 stamps what comes with 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile

from hardware.drivers import frames
from hardware.drivers.mavlink_arming import ARM, SET_MODE
from hardware.drivers.mavlink_autopilots import PX4
from hardware.drivers.support import RobotClock
from hardware.drivers.thrust_scale import ThrustScale
from robot_rl.nodes import qos
from robot_rl.nodes.messages import MessageError
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.quadrotor_face import QuadrotorFaceConfig
from robot_rl.nodes.relay import RelayNode
from robot_rl.nodes.running import run

_NED = 1
"""POSE_FRAME_NED and VELOCITY_FRAME_NED of VehicleOdometry."""
_ARMED = 2
"""ARMING_STATE_ARMED of VehicleStatus."""
_OFFBOARD, _DESCEND, _LAND = 14, 12, 18
"""NAVIGATION_STATE of VehicleStatus; without a position PX4 descends where it was asked to land."""
_STATES = {
    0: "MANUAL", 1: "ALTCTL", 2: "POSCTL", 3: "AUTO.MISSION", 4: "AUTO.LOITER", 5: "AUTO.RTL", 10: "ACRO",
    _DESCEND: "DESCEND", 13: "TERMINATION", _OFFBOARD: "OFFBOARD", 15: "STABILIZED", 17: "AUTO.TAKEOFF",
    _LAND: "AUTO.LAND",
}  # fmt: skip
_COMPONENT, _FORCE = 191, 21196.0
"""Who we are, MAV_COMP_ID_ONBOARD_COMPUTER: answers to others come on the same topic."""
_VALID = {"xy_valid": "x, y", "z_valid": "z", "v_xy_valid": "velocity in x, y", "v_z_valid": "velocity in z"}
_COMMANDS = QoSProfile(depth=10)


@dataclass(frozen=True, kw_only=True)
class Px4Config(QuadrotorFaceConfig):
    """Parameters of the node."""

    rate: float = parameter(250.0, "Hz at which the node looks for new commands.", low=50.0, high=500.0)
    prefix: str = parameter("", "What stands before fmu/in and fmu/out, e.g. /uav_1; empty: this node's namespace.")
    target_system: int = parameter(1, "MAV_SYS_ID of the vehicle.", low=1, high=255)
    hover_throttle: float = parameter(
        0.0, "Throttle at which it hovers, its MPC_THR_HOVER; has to be given.", low=0.0, high=0.95
    )
    thrust_square: float = parameter(
        0.0, "Share of the square in throttle to thrust; 0 where THR_MDL_FAC is set.", low=0.0, high=1.0
    )
    max_throttle: float = parameter(0.9, "Highest throttle that is sent.", low=0.1, high=1.0)
    link_timeout: float = parameter(2.5, "s without vehicle_status that are told as a fault.", low=0.5, high=30.0)


def px4_messages() -> Any:
    """The package of PX4's messages.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import px4_msgs.msg as found
    except ImportError as error:
        raise ValueError(
            "driver px4 needs the ROS 2 package px4_msgs of your PX4's version, which is not installed: build its "
            "branch of that version, e.g. release/1.16, in a workspace and source it"
        ) from error
    return found


def topic_name(prefix: str, way: str, name: str, message_type: Any) -> str:
    """What PX4 calls a topic; `way` is `in` or `out`."""
    start = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
    version = int(getattr(message_type, "MESSAGE_VERSION", 0))
    return f"{start}fmu/{way}/{name}" + (f"_v{version}" if version else "")


@dataclass(frozen=True, eq=False)
class Motion:
    """What a VehicleOdometry says, in ENU and FLU."""

    stamp: float
    """s of PX4's clock."""
    orientation: np.ndarray
    """Shape (4,), wxyz."""
    angular_velocity: np.ndarray
    """Shape (3,)."""
    position: np.ndarray | None
    """Shape (3,); None where there is none."""
    linear_velocity: np.ndarray | None
    """Shape (3,), world; None together with the position."""


def motion_of(message: Any) -> Motion:
    """Read a VehicleOdometry.

    Raises:
        MessageError: It has no attitude, or its frames are not north-east-down.
    """
    if message.pose_frame != _NED or message.velocity_frame != _NED:
        found = f"pose_frame {message.pose_frame}, velocity_frame {message.velocity_frame}"
        raise MessageError(f"vehicle_odometry is not north-east-down: {found}; expected 1 for both")
    quaternion, rates, position, velocity = (
        np.array(value, np.float64)
        for value in (message.q, message.angular_velocity, message.position, message.velocity)
    )
    length = float(np.linalg.norm(quaternion))
    if not (np.all(np.isfinite(rates)) and 0.9 < length < 1.1):
        raise MessageError("vehicle_odometry has no attitude yet")
    known = bool(np.all(np.isfinite(position)) and np.all(np.isfinite(velocity)))
    return Motion(
        1e-6 * (message.timestamp_sample or message.timestamp),
        frames.swap_orientation(quaternion / length),
        frames.swap_body(rates),
        frames.swap_world(position) if known else None,
        frames.swap_world(velocity) if known else None,
    )


def raised_flags(message: Any) -> list[str]:
    """The flags of a FailsafeFlags that are set, in words."""
    kinds = message.get_fields_and_field_types()
    return [name.replace("_", " ") for name, kind in kinds.items() if kind == "boolean" and getattr(message, name)]


class Px4Node(RelayNode):
    """See the module."""

    part = "px4"

    def __init__(self) -> None:
        super().__init__("px4", Px4Config)
        self._said: dict[str, Any] = {}
        self._listening: list[Any] = []

    def _forget(self) -> None:
        super()._forget()
        self._vehicle_clock = RobotClock()
        self._measured = -math.inf
        self._refusal = self._lost = ""
        self._refused = 0
        self._status: Any = None
        self._status_at = -math.inf
        self._flags: Any = None
        self._on_ground: bool | None = None
        self._born = time.monotonic()

    # The life cycle

    def configure(self) -> None:
        """Read the description, find the messages, make the topics."""
        super().configure()
        settings = self.settings
        self.set_period(1.0 / settings.rate)
        if settings.hover_throttle <= 0.0:
            raise ValueError(
                "parameter hover_throttle has to be given, e.g. hover_throttle:=0.5: the vehicle's MPC_THR_HOVER, "
                "since parameters cannot be read over uXRCE-DDS"
            )
        scale = ThrustScale(hover=settings.hover_throttle, square=settings.thrust_square, upper=settings.max_throttle)
        self._scale = scale
        self._make_topics(px4_messages())

    def _make_topics(self, found: Any) -> None:
        self._types = found
        heard: dict[str, tuple[Any, Callable[[Any], None]]] = {
            "vehicle_odometry": (found.VehicleOdometry, self._on_odometry),
            "vehicle_local_position": (found.VehicleLocalPosition, self._on_local_position),
            "vehicle_status": (found.VehicleStatus, self._on_status),
            "vehicle_command_ack": (found.VehicleCommandAck, self._on_ack),
            "failsafe_flags": (found.FailsafeFlags, self._on_flags),
            "vehicle_land_detected": (found.VehicleLandDetected, self._on_land_detected),
            "battery_status": (found.BatteryStatus, self._on_battery),
        }
        said = {
            "offboard_control_mode": (found.OffboardControlMode, qos.command_publisher(0.01)),
            "vehicle_rates_setpoint": (found.VehicleRatesSetpoint, qos.command_publisher(0.01)),
            "vehicle_command": (found.VehicleCommand, _COMMANDS),
        }
        prefix = self.settings.prefix
        for name, (kind, profile) in said.items():
            self._said[name] = qos.publisher(self, kind, topic_name(prefix, "in", name, kind), profile)
        for name, (kind, callback) in heard.items():
            topic = topic_name(prefix, "out", name, kind)
            # PX4 writes with best effort: a reader that wants more would not be connected.
            made = qos.subscription(self, kind, topic, self.when_active(callback), qos.SENSOR_READER)
            self._listening.append(made)
            if name == "vehicle_status":
                self._status_topic = made.topic_name

    def cleanup(self) -> None:
        """Let go of memory and topics."""
        super().cleanup()
        for publisher in self._said.values():
            self.destroy_publisher(publisher)
        for subscription in self._listening:
            self.destroy_subscription(subscription)
        self._said, self._listening = {}, []

    # How the vehicle is spoken to

    def work(self) -> None:
        """As every relay; what is wrong, in words, first."""
        self.heard.fault = self._fault(time.monotonic())
        super().work()

    def ask(self, what: str) -> None:
        """Ask for OFFBOARD, or to arm."""
        if what == "mode":
            self._command(SET_MODE, 1.0, *PX4.mode_parameters(PX4.offboard[0]))
        else:
            self._command(ARM, 1.0)

    def land(self) -> None:
        """Disarm on the ground, which PX4 refuses in the air; else AUTO.LAND, after which it disarms by itself."""
        if self._on_ground:
            self._command(ARM, 0.0)
        elif not self.heard.landing:
            self._command(SET_MODE, 1.0, *PX4.mode_parameters(PX4.land))

    def kill(self) -> None:
        """Disarm by force."""
        for _ in range(3):  # one of three arrives
            self._command(ARM, 0.0, _FORCE)

    def send(self, rates: np.ndarray, thrust: float) -> None:
        """Send one set-point."""
        throttle = self._scale.throttle(thrust)
        roll, pitch, yaw = (float(value) for value in frames.swap_body(rates))
        self._said["offboard_control_mode"].publish(self._types.OffboardControlMode(body_rate=True))
        self._said["vehicle_rates_setpoint"].publish(
            self._types.VehicleRatesSetpoint(roll=roll, pitch=pitch, yaw=yaw, thrust_body=[0.0, 0.0, -throttle])
        )

    def details(self) -> Mapping[str, Any]:
        """What else PX4 says."""
        state = None if self._status is None else int(self._status.nav_state)
        return {
            "mode": "" if state is None else _STATES.get(state, f"mode {state}"),
            "on_ground": self._on_ground,
            "clock": "receipt",
            "refused": self._refused,
        }

    def _command(self, command: int, *values: float) -> None:
        system = self.settings.target_system
        message = self._types.VehicleCommand(
            command=command,
            target_system=system,
            target_component=1,
            source_system=system,
            source_component=_COMPONENT,
            from_external=True,
        )
        for index, value in enumerate(values):
            setattr(message, f"param{index + 1}", value)
        self._said["vehicle_command"].publish(message)

    def _fault(self, now: float) -> str:
        """Why it takes no commands, or warns."""
        words = []
        silence = now - max(self._status_at, self._born)
        if silence > self.settings.link_timeout:
            what = "MicroXRCEAgent runs, and that px4_msgs is of this PX4's version"
            words.append(f"no {self._status_topic} for {math.floor(silence)} s: check that {what}")
        if (status := self._status) is not None:
            if status.system_id != (system := self.settings.target_system):
                words.append(f"PX4's MAV_SYS_ID is {status.system_id}, and target_system is {system}: it hears nothing")
            if status.failsafe:
                words.append("PX4 is in failsafe")
        return "; ".join([*words, *filter(None, (self._lost, self._refusal))])

    # What it says

    def _on_odometry(self, message: Any) -> None:
        now = time.monotonic()
        try:
            motion = motion_of(message)
        except MessageError as error:
            self._refusal = str(error)
            self._refused += 1
            return
        if -1.0 < motion.stamp - self._measured <= 0.0:  # overtaken; further back PX4 has started anew
            return
        self._measured, self._refusal = motion.stamp, ""
        heard, stamp = self.heard, self._vehicle_clock.stamp(motion.stamp, now)
        heard.attitude_stamp = stamp
        heard.orientation, heard.angular_velocity = motion.orientation, motion.angular_velocity
        if motion.position is not None and not self._lost:
            heard.state_stamp = stamp
            heard.position, heard.linear_velocity = motion.position, motion.linear_velocity

    def _on_local_position(self, message: Any) -> None:
        missing = [words for name, words in _VALID.items() if not getattr(message, name)]
        self._lost = f"PX4 does not know where it is ({'; '.join(missing)})" if missing else ""

    def _on_status(self, message: Any) -> None:
        self._status, self._status_at = message, time.monotonic()
        self.heard.armed = message.arming_state == _ARMED
        self.heard.in_mode = message.nav_state == _OFFBOARD
        self.heard.landing = message.nav_state in (_LAND, _DESCEND)

    def _on_ack(self, message: Any) -> None:
        ours = (self.settings.target_system, _COMPONENT)
        if (message.target_system, message.target_component) != ours:
            return
        now = time.monotonic()
        before = self.arming.phase
        self.arming.observe_ack(message.command, message.result, now)
        if self.arming.phase == "failed" and before != "failed":
            for words in self._reasons():
                self.arming.observe_text(words, now)

    def _reasons(self) -> list[str]:
        """PX4 sends no texts over this link; what may lie behind a refusal."""
        words = []
        if self._status is not None and not self._status.pre_flight_checks_pass:
            words.append("its pre-flight checks do not pass")
        if self._flags is not None and (flags := raised_flags(self._flags)):
            words.append(f"flags {', '.join(flags)}")
        return words

    def _on_flags(self, message: Any) -> None:
        self._flags = message

    def _on_land_detected(self, message: Any) -> None:
        self._on_ground = bool(message.landed)

    def _on_battery(self, message: Any) -> None:
        known = message.connected
        self.heard.battery_voltage = float(message.voltage_v) if known and message.voltage_v > 0.0 else math.nan
        self.heard.battery_remaining = float(message.remaining) if known and message.remaining >= 0.0 else math.nan


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(Px4Node, argv)
