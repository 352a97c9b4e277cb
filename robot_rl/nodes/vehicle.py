"""A real quadrotor as a managed node: any driver of the registry behind the topics of the simulated one.

| supervisor, or nobody | the vehicle |
|---|---|
| `arm` is called, the supervisor agrees | is asked to arm, and followed only by who asked |
| commands | follows them |
| no command for `silence` | hears nothing more until it is armed again: its own failsafe acts |
| ... for `landing_after`, and it still waits for commands | lands and disarms by itself |
| `disarm`, `fault`, the end of this node | lands and disarms by itself |
| `estop` | motors off, also in the air |

Configuring makes the driver, activating connects to the vehicle, and neither moves anything. A vehicle that is not
flown from here (a pilot has it) is never told to land or to disarm, but for `estop`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from hardware.descriptions import load_quadrotor
from hardware.drivers.driver import DriverError
from hardware.drivers.quadrotor import QuadrotorDriver, QuadrotorSample
from hardware.drivers.rate_command import RotorsAsRates
from hardware.drivers.registry import open_driver
from hardware.realtime.histogram import Histogram
from policies.types import MotorSpeeds
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Managed, ManagedConfig, Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import StartError, run
from robot_rl.nodes.vehicle_link import (
    ARM_SERVICE,
    KILL_SERVICE,
    STATUS_PERIOD,
    STATUS_TOPIC,
    VehicleStatus,
    status_message,
)

_OURS = ("streaming", "mode", "arming", "done")
"""Phases in which the vehicle is flown from here, or about to be."""
_GROUNDED = ("disarmed", "fault")
"""Modes of the supervisor in which nobody flies."""
_FUTURE = 0.02
"""s by which a command's stamp may lie in the future: clocks of two machines differ."""


@dataclass(frozen=True, kw_only=True)
class VehicleConfig(ManagedConfig):
    """Parameters of the node."""

    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")
    driver: str = parameter("mavlink", "Driver of a quadrotor: mavlink, crazyflie, or another one of the registry.")
    driver_settings: list[str] = parameter([""], "The driver's settings, each as name=value.")
    command_timeout: float = parameter(0.1, "s: older motor commands are refused.", low=0.02, high=1.0)
    silence: float = parameter(0.25, "s without commands after which the stream ends for good.", low=0.05, high=2.0)
    landing_after: float = parameter(
        2.0, "s without commands after which a vehicle that still waits for them is told to land.", low=0.1, high=60.0
    )
    inner_lag: float = parameter(0.05, "s, time constant of the vehicle's own rate loop.", low=0.005, high=0.5)
    max_rate: float = parameter(6.0, "rad/s, longest body rate that is commanded.", low=0.5, high=30.0)
    rotor_share: float = parameter(
        0.3, "Share of the described rotors' inertia in the commands; more is smoother, and later.", low=0.0, high=1.0
    )


class VehicleNode(Managed):
    """Thin face on a driver. See the module."""

    part = "vehicle"
    needs_message_info = True
    priority = 30

    def __init__(self) -> None:
        super().__init__("vehicle", VehicleConfig)
        self.driver: QuadrotorDriver | None = None
        self._connected = False
        self._forget()
        self._odom = qos.publisher(self, Odometry, "odom", qos.SENSOR_PUBLISHER)
        self._imu = qos.publisher(self, Imu, "imu", qos.SENSOR_PUBLISHER)
        self._status_out = qos.publisher(self, String, STATUS_TOPIC, qos.STATUS)
        qos.subscription(self, String, "supervisor/status", self.when_active(self._on_supervisor), qos.STATUS)
        qos.subscription(
            self, JointState, "motor_commands", self.when_active_with_info(self._on_command), qos.COMMAND_READER
        )
        qos.subscription(self, Bool, "estop", self.when_active(self._on_estop), qos.STATUS_READER)
        self.create_service(SetBool, ARM_SERVICE, self._on_arm)
        self.create_service(Trigger, KILL_SERVICE, self._on_kill)

    def _forget(self) -> None:
        self._first = FirstPublisher()
        self._supervisor = ""
        self._sample: QuadrotorSample | None = None
        self._sent = {"odom": 0, "imu": 0, "commands": 0}
        self._rates = dict.fromkeys(self._sent, 0.0)
        self._counted_at = time.monotonic()
        self._requests = 0
        self._silent = False
        self._command_stamp = self._written = self._converted = 0.0
        self._refusal, self._refused, self._trouble = "", 0, ""
        self._status: VehicleStatus | None = None
        self._next_status = 0.0
        self._write_time = Histogram()

    # The life cycle

    def configure(self) -> None:
        """Make the driver; nothing is opened. Raises where it, its library or its settings do not fit."""
        config = self.settings
        if self.simulated_time:
            raise StartError("use_sim_time is true, but a real vehicle's time is the system's; leave it out")
        description = load_quadrotor(config.robot)
        self.hardware_id, self._actuators = description.interface.name, description.interface.actuators
        driver = open_driver(config.driver, description, settings_of(config.driver_settings))
        self.driver = cast(QuadrotorDriver, driver)  # it has refused the description of any other kind
        self._rotors = RotorsAsRates(description, config.inner_lag, config.max_rate, config.rotor_share)

    def activate(self) -> None:
        """Connect, which moves nothing."""
        assert self.driver is not None
        self._forget()
        self.driver.connect()
        self._connected = True
        able = self.driver.capabilities
        self._takes_rotors = "MotorSpeeds" in able.commands
        if able.kind != "quadrotor" or not (self._takes_rotors or "BodyRatesThrust" in able.commands):
            raise DriverError(
                f"driver {able.name!r} takes {', '.join(able.commands)} with these settings; this node needs one that "
                "takes BodyRatesThrust or MotorSpeeds"
            )
        self._least_pause = 0.9 / able.rate_hz
        self.set_period(min(max(0.5 / able.rate_hz, 0.002), 0.05))  # looked at twice per sample, to find it fresh
        self.get_logger().info(
            f"{able.name} at {able.rate_hz:g} Hz, takes {', '.join(able.commands)}; on its own after "
            f"{able.watchdog_s:g} s without commands"
        )

    def deactivate(self) -> None:
        """Land and disarm what is flown from here; let go of the link."""
        driver, self._connected, connected = self.driver, False, self._connected
        if driver is None or not connected:
            return
        try:
            if driver.arming in _OURS:
                driver.stop()
            driver.close()
        except (DriverError, OSError) as error:
            self.get_logger().error(f"while stopping: {error}")

    def cleanup(self) -> None:
        """Let go of the driver."""
        self.driver = None

    # While active

    def work(self) -> None:
        """Publish what was measured since the last call; watch the silence."""
        assert self.driver is not None
        now = time.monotonic()
        try:
            self._publish(self.driver.read())
            self._trouble = ""
        except DriverError as error:
            self._trouble = str(error)
        self._watch_silence(self.driver, now)
        self._tell(self.driver, now)

    def _publish(self, sample: QuadrotorSample | None) -> None:
        if sample is None:
            return
        before, self._sample = self._sample, sample
        offset = self.now() - time.monotonic()  # the driver's stamps are on the steady clock
        if sample.state is not None and (before is None or sample.stamp > before.stamp):
            self._odom.publish(messages.odometry_from_state(sample.state, sample.stamp + offset))
            self._sent["odom"] += 1
        if sample.orientation is not None and (before is None or sample.attitude_stamp > before.attitude_stamp):
            rates = np.zeros(3) if sample.angular_velocity is None else sample.angular_velocity
            message = messages.imu_message(sample.orientation, rates, np.zeros(3), sample.attitude_stamp + offset)
            message.linear_acceleration_covariance[0] = -1.0  # not measured (REP-145)
            self._imu.publish(message)
            self._sent["imu"] += 1

    def _watch_silence(self, driver: QuadrotorDriver, now: float) -> None:
        """Who has fallen silent does not begin to speak again by itself."""
        pause = now - self._written
        if driver.arming != "done" or pause <= self.settings.silence:
            return
        if not self._silent:
            self._silent = True
            self.get_logger().error(
                f"no motor commands for {1e3 * pause:.0f} ms: the stream has ended, the vehicle's own failsafe acts"
            )
        if pause > self.settings.landing_after:
            self._land("it still waits for commands that nobody sends")

    def _tell(self, driver: QuadrotorDriver, now: float) -> None:
        sample, phase = self._sample, driver.arming
        fault = "" if sample is None else sample.fault
        said = driver.arming_problem  # a driver may have put it into the fault as well
        silent = f"commands had stopped for {self.settings.silence:g} s" if self._silent else ""
        words = (silent, said if said not in fault else "", fault, self._trouble)
        status = VehicleStatus(
            driver=driver.capabilities.name,
            arming=phase,
            requests=self._requests,
            armed=sample is not None and sample.armed,
            following=sample is not None and sample.accepting and phase == "done" and not self._silent,
            problem="; ".join(word for word in words if word),
        )
        if status != self._status or now >= self._next_status:
            if self._status is None or (status.arming, status.armed) != (self._status.arming, self._status.armed):
                self.get_logger().info(f"arming {status.arming}, {'armed' if status.armed else 'disarmed'}")
            self._status, self._next_status = status, now + STATUS_PERIOD
            self._status_out.publish(status_message(status))

    def _on_command(self, message: JointState, info: Mapping) -> None:
        refusal = self._first.refusal(source_of(info), time.monotonic())
        if not refusal:
            try:
                command, stamp = messages.motor_speeds_from_joint_state(message, self._actuators)
                refusal = self._write(command, stamp)
            except (messages.MessageError, DriverError) as error:
                refusal = str(error)
        if refusal:
            self._refusal, self._refused = refusal, self._refused + 1
            self.get_logger().warning(f"motor command refused: {refusal}", throttle_duration_sec=1.0)

    def _write(self, command: MotorSpeeds, stamp: float) -> str:
        """Send a command on; returns why not, or an empty string."""
        driver, sample = self.driver, self._sample
        age, limit = self.now() - stamp, self.settings.command_timeout
        if not -_FUTURE <= age <= limit:
            return f"it is {1e3 * age:.0f} ms old (limit {1e3 * limit:.0f} ms): compare the clocks"
        if stamp <= self._command_stamp:
            return f"stamp {stamp:.3f} s is not newer than the last, {self._command_stamp:.3f} s"
        self._command_stamp = stamp
        if driver is None or sample is None or sample.angular_velocity is None:
            return "the vehicle has not said how it turns"
        if self._silent:
            return "commands had stopped: arm again"
        now = time.monotonic()
        if now - self._written < self._least_pause:
            return ""  # faster than the link carries: the next one
        pause, self._written = now - self._written, now
        rates = self._rotors.convert(command, sample.angular_velocity, min(pause, limit))
        driver.write(command if self._takes_rotors else rates)
        self._write_time.record(time.monotonic() - now)
        self._sent["commands"] += 1
        return ""

    # What is asked

    def _on_supervisor(self, message: String) -> None:
        mode = messages.status_from_message(message).mode
        before, self._supervisor = self._supervisor, mode
        if mode in _GROUNDED and mode != before:
            self._land(f"the supervisor says {mode}")

    def _land(self, why: str) -> None:
        """The vehicle's own landing and disarming, if it is flown from here."""
        if self.driver is not None and self.driver.arming in _OURS:
            self.get_logger().warning(f"the vehicle is told to land and to disarm: {why}")
            try:
                self.driver.stop()
            except DriverError as error:
                self.get_logger().error(str(error))

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = False, "the vehicle's node is not active: activate it first"
        if not self.active or self.driver is None:
            return response
        try:
            if request.data:
                self._silent, self._written = False, time.monotonic()
                self._requests += 1
                self.driver.request_arming()
                self.get_logger().warning("arming was asked for")
            else:
                self._land("asked for")
            response.success, response.message = True, f"watch {STATUS_TOPIC}"
        except DriverError as error:
            response.message = str(error)
        return response

    def _on_kill(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = self._kill()
        response.success = not response.message
        return response

    def _on_estop(self, message: Bool) -> None:
        if message.data:
            self._kill()

    def _kill(self) -> str:
        """Motors off; returns why not, or an empty string."""
        if not self.active or self.driver is None:
            return "the vehicle's node is not active"
        try:
            self.driver.kill()
        except DriverError as error:
            return str(error)
        self.get_logger().error("emergency stop: motors off")
        return ""

    # Diagnostics

    def describe(self) -> tuple[bytes, str, Values]:
        """What the vehicle says of itself, and the rates that were reached."""
        status = self._status
        if status is None or self._sample is None:
            return DiagnosticStatus.WARN, "nothing measured yet", {}
        level, summary = DiagnosticStatus.OK, "follows" if status.following else f"arming {status.arming}"
        if self._silent:
            level, summary = DiagnosticStatus.ERROR, "commands have stopped: the vehicle's own failsafe acts"
        elif status.problem:
            level, summary = DiagnosticStatus.WARN, status.problem
        return level, summary, self._values

    def _values(self) -> Mapping[str, Any]:
        sample, status, now = self._sample, self._status, time.monotonic()
        assert sample is not None and status is not None
        passed, self._counted_at = now - self._counted_at, now
        if passed > 0.3:  # reports of a change come close together
            self._rates = {name: count / passed for name, count in self._sent.items()}
            self._sent = dict.fromkeys(self._sent, 0)
        else:
            self._counted_at -= passed
        return {
            **vars(status),
            "fault": sample.fault,
            "battery voltage": "unknown" if sample.battery_voltage is None else sample.battery_voltage,
            "battery remaining": "unknown" if sample.battery_remaining is None else sample.battery_remaining,
            "state age": now - sample.stamp,
            "attitude age": now - sample.attitude_stamp,
            **{f"{name} rate": rate for name, rate in self._rates.items()},
            "last refusal": self._refusal,
            "commands refused": self._refused,
            "skipped periods": self.schedule.skipped,
            "timing.vehicle_lateness": self.schedule.lateness.to_chart(),
            "timing.vehicle_write": self._write_time.to_chart(),
            **{f"vehicle {name}": value for name, value in sample.details.items()},
        }


def settings_of(texts: Sequence[str]) -> dict[str, str]:
    """`["connection=udp:0.0.0.0:14540"]` as a dict.

    Raises:
        StartError: A text is no name=value.
    """
    settings = {}
    for text in filter(None, texts):
        name, equals, value = text.partition("=")
        if not equals:
            raise StartError(f"parameter driver_settings: {text!r} is not of the form name=value")
        settings[name.strip()] = value.strip()
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(VehicleNode, argv)
