"""A simulated quadrotor as a node: motor commands in, odometry and IMU out, like a real one's driver."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from hardware.descriptions import load_quadrotor
from hardware.realtime.histogram import Histogram
from robot_rl.nodes import messages, qos
from robot_rl.nodes.managed import Managed, ManagedConfig, Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.process import give_up_priority
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.running import StartError, run
from robot_rl.nodes.spoiling import odometry_fault
from sim.driver import SimulatedQuadrotor

_CATCH_UP = 0.05
"""s of physics at most per call. What a process that was held up longer has lost is left out, and counted:
catching up would hold it up again."""


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig(ManagedConfig):
    """Parameters of the node."""

    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")
    position: list[float] = parameter([0.0, 0.0, 0.0], "Start position x, y, z in m, frame odom; the ground is z = 0.")
    yaw: float = parameter(0.0, "Start heading in rad.", low=-6.3, high=6.3)
    seed: int = parameter(0, "Seed of sensor noise.", low=0, high=2**31 - 1)
    rate: float = parameter(
        1.0, "Simulated seconds per real second; other than 1 needs publish_clock.", low=0.01, high=100.0
    )
    publish_clock: bool = parameter(False, "Publish /clock, for nodes with use_sim_time.")
    overrides: list[str] = parameter(
        [""], "Physical parameters that differ from the description, each as name=value, e.g. mass=0.035."
    )


class Simulator(Managed):
    """Advances the vehicle with the clock and speaks for its sensors and motors."""

    part = "vehicle"
    needs_message_info = True
    priority = 30

    def __init__(self) -> None:
        super().__init__("simulator", SimulatorConfig)
        self.config = config = self.settings
        self._silent_until = {"odom": 0.0, "imu": 0.0}
        self._stamp = 0.0
        self._slip = 0.0
        self._first = FirstPublisher()
        self._spoil = odometry_fault("")
        self._refusal = ""
        self._refused = 0
        self._work = Histogram()
        self._odom = qos.publisher(self, Odometry, "odom", qos.SENSOR_PUBLISHER)
        self._imu = qos.publisher(self, Imu, "imu", qos.SENSOR_PUBLISHER)
        self._clock_out = qos.publisher(self, Clock, "/clock", qos.SENSOR_PUBLISHER) if config.publish_clock else None
        command = self.when_active_with_info(self._on_command)
        qos.subscription(self, JointState, "motor_commands", command, qos.COMMAND_READER)
        qos.subscription(self, Float64, "~/pause_odometry", lambda m: self._pause("odom", m), qos.STATUS_READER)
        qos.subscription(self, Float64, "~/pause_imu", lambda m: self._pause("imu", m), qos.STATUS_READER)
        qos.subscription(self, String, "~/fault", self._on_fault, qos.STATUS_READER)
        self.create_service(Trigger, "~/reset", self._on_reset)

    # The life cycle

    def configure(self) -> None:
        """Build the vehicle, standing on the ground."""
        config = self.config
        if config.rate != 1.0 and not config.publish_clock:
            raise StartError(f"rate is {config.rate:g}, but without publish_clock:=true no node would follow; set both")
        if len(config.position) != 3:
            raise StartError(f"position has {len(config.position)} values, expected x, y, z in m")
        if config.rate != 1.0:
            give_up_priority()  # as fast as it can is no reason to starve others
        torch.set_num_threads(1)  # one vehicle fills no second core
        description = load_quadrotor(config.robot)
        self.interface = description.interface
        self.hardware_id = self.interface.name
        self.vehicle = SimulatedQuadrotor(
            description,
            overrides=parse_overrides(config.overrides),
            position=config.position,
            yaw=config.yaw,
            seed=config.seed,
            start_time=self.now(),
        )
        self._step = 1.0 / self.interface.state_rate_hz
        self.set_period(self._step / config.rate)
        self._slip = 0.0
        self.get_logger().info(
            f"simulated {self.interface.name} at {config.position} m, {self.interface.state_rate_hz:g} Hz, "
            f"{config.rate:g} times real time"
        )

    def activate(self) -> None:
        """Let time pass."""
        if not self.config.publish_clock:
            self._slip = self.now() - self.vehicle.time  # it stood still while the node was not active

    # While active

    def work(self) -> None:
        """One sample of the sensors."""
        begin = time.monotonic()
        if self.config.publish_clock:
            # Simulated time may run late but never jumps: nodes on /clock then see even periods.
            self.vehicle.advance(self._step)
        else:
            self._catch_up()
        stamp = self._stamp_now()
        if stamp <= self._stamp:  # less than an integration step has passed: nothing new to measure
            return
        self._stamp = stamp
        if begin >= self._silent_until["odom"]:
            self._odom.publish(self._spoil(messages.odometry_from_state(self.vehicle.read(), stamp)))
        if begin >= self._silent_until["imu"]:
            self._imu.publish(messages.imu_message(*self.vehicle.imu(), stamp))
        if self._clock_out is not None:
            self._clock_out.publish(Clock(clock=messages.to_stamp(stamp)))
        self._work.record(time.monotonic() - begin)

    def _stamp_now(self) -> float:
        """What the vehicle's clock shows, on the node's clock."""
        return self.vehicle.time + self._slip

    def _catch_up(self) -> None:
        """In real time the vehicle's clock follows the node's, so that stamps mean the same everywhere."""
        elapsed = self.now() - self._stamp_now()
        if elapsed > _CATCH_UP:
            self._slip += elapsed - _CATCH_UP
            elapsed = _CATCH_UP
        self.vehicle.advance(max(elapsed, 0.0))

    def _on_command(self, message: JointState, info: Mapping) -> None:
        if not self.config.publish_clock:
            self._catch_up()
        refusal = self._first.refusal(source_of(info), time.monotonic())
        if not refusal:
            try:
                command, stamp = messages.motor_speeds_from_joint_state(message, self.interface.actuators)
                refusal = self.vehicle.write(command, stamp - self._slip)
            except messages.MessageError as error:
                refusal = str(error)
        if refusal:
            self._refusal = refusal
            self._refused += 1
            self.get_logger().warning(f"motor command refused: {refusal}", throttle_duration_sec=1.0)

    def _pause(self, sensor: str, message: Float64) -> None:
        """Fault injection: this sensor falls silent for `message.data` real seconds."""
        self._silent_until[sensor] = time.monotonic() + message.data
        self.get_logger().warning(f"fault injected: no {sensor} for {message.data:g} s")

    def _on_fault(self, message: String) -> None:
        """Fault injection: what `spoiling.odometry_fault` knows; empty for none."""
        try:
            self._spoil = odometry_fault(message.data)
        except ValueError as error:
            self.get_logger().warning(str(error))
            return
        self.get_logger().warning(f"fault injected: {message.data or 'none'}")

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.active:
            response.success, response.message = False, "the simulator is not active: activate it first"
            return response
        self.vehicle.reset(self.config.position, self.config.yaw)
        response.success, response.message = True, f"standing at {self.config.position} m, rotors off"
        return response

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether its watchdog or the ground has stopped it."""
        if self.vehicle.crashed:
            return DiagnosticStatus.ERROR, "crashed into the ground; call ~/reset", self._values
        level = DiagnosticStatus.OK if self.vehicle.watchdog in {"ok", "off"} else DiagnosticStatus.WARN
        return level, f"motor watchdog: {self.vehicle.watchdog}", self._values

    def _values(self) -> Mapping[str, Any]:
        return {
            "watchdog": self.vehicle.watchdog,
            "crashed": self.vehicle.crashed,
            "last refusal": self._refusal,
            "commands refused": self._refused,
            "skipped periods": self.schedule.skipped,
            "seconds left out": self._slip,
            "timing.simulator_lateness": self.schedule.lateness.to_chart(),
            "timing.simulator_step": self._work.to_chart(),
            **self.vehicle.counters,
        }


def parse_overrides(texts: Sequence[str]) -> dict[str, float | list[float]]:
    """`["mass=0.035", "drag=[0, 0, 0]"]` as a dict."""
    values = {}
    for text in texts:
        if not text:
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise StartError(f"override {text!r} is not of the form name=value")
        values[name.strip()] = yaml.safe_load(value)
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(Simulator, argv)
