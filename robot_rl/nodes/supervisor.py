"""The supervisor's node of a quadrotor: `SupervisorFace` with what the vehicle measures and what its motors are sent.

`odom`, `imu` and `motor_commands` are told as they are in the control process, with the stamps of the measurement and
of the decision; nothing that flies depends on them. With `driver:=topics` the vehicle's own node speaks the first two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import String

from hardware.drivers.quadrotor import BEHIND_MEMORY, QUADROTOR_DRIVERS
from hardware.drivers.registry import open_driver
from policies.types import MotorSpeeds
from robot_rl.nodes import messages, qos
from robot_rl.nodes.parameters import parameter, settings_of
from robot_rl.nodes.quadrotor_face import QuadrotorFace, QuadrotorFaceConfig
from robot_rl.nodes.raw_streams import unrecorded
from robot_rl.nodes.running import run
from robot_rl.nodes.supervisor_face import SupervisorFace
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.quadrotor_control import make_supervisor
from robot_rl.planes.quadrotor_settings import QuadrotorControlConfig, RateConfig

_TO_RECORD = ("odom", "motor_commands", "setpoint/phase", "supervisor/status")
"""What a record of a flight is read from."""
_OWN_WATCHDOG = ("sim", "topics")
"""Drivers of vehicles that hear nothing more at the end, and help themselves."""
_VEHICLE = ("driver", "arming", "armed", "following", "requests", "problem")
"""What `vehicle/status` tells as JSON."""
_COMMANDS = 0.01
"""s between two commands, about: three times as much is what the publisher promises."""
_FLYING = ("active", "holding", "level", "descending")


@dataclass(frozen=True, kw_only=True)
class SupervisorConfig(QuadrotorFaceConfig):
    """Parameters of the node."""

    policy: str = parameter(
        "quadrotor-track", "Policy whose envelope is enforced: a bundle's folder, a zoo name, or geometric, pid."
    )
    driver: str = parameter("sim", "What drives the motors.", choices=QUADROTOR_DRIVERS)
    driver_settings: list[str] = parameter([""], "The driver's settings, each as name=value.")
    auto_arm: bool = parameter(False, "Arm once as soon as possible; only with driver:=sim.")
    record: str = parameter(
        "", "Folder to which a recorder records the flight: auto_arm waits until it reads; empty: nothing is recorded."
    )
    fallback: str = parameter(
        "simple", "What holds the position while the policy does not answer.", choices=("simple", "geometric")
    )
    rules: list[str] = parameter(
        [""], "Rules in signal temporal logic beside the bundle's: `name: formula`, or `name: formula -> brake`."
    )
    ground_height: float = parameter(0.0, "m, z of the vehicle standing on the ground.", low=-1000.0, high=9000.0)
    control_rate: float = parameter(500.0, "Hz at which the control process looks.", low=50.0, high=1e3)
    state_rate: float = parameter(
        200.0,
        "Hz of odom, imu and motor_commands at most: samples come at 100 Hz, and none shall be missed.",
        low=1.0,
        high=500.0,
    )
    inner_lag: float = parameter(
        0.05, "s, time constant of the rate loop of a vehicle that takes body rates.", low=0.005, high=0.5
    )
    max_rate: float = parameter(6.0, "rad/s, longest body rate that is commanded to it.", low=0.5, high=30.0)
    rotor_share: float = parameter(
        0.3, "Share of the described rotors' inertia in these commands; more is smoother, and later.", low=0.0, high=1.0
    )
    face_timeout: float = parameter(
        0.5, "s without a sign of life of this node after which commands are not taken.", low=0.1, high=5.0
    )


class SupervisorNode(SupervisorFace[QuadrotorClient], QuadrotorFace):
    """See the module."""

    bad_modes = frozenset({"holding", "level", "descending", "fault", "stopped"})
    policy_modes = frozenset()  # the policy of a quadrotor always computes: arming waits for it
    levels = {
        "active": DiagnosticStatus.OK,
        "disarmed": DiagnosticStatus.OK,
        "fault": DiagnosticStatus.ERROR,
    }
    inactive_cause = "the supervisor is not active"
    patience = 9.0  # a vehicle that lands by its own means is waited for; the node's own end is at 10 s

    def __init__(self) -> None:
        super().__init__("supervisor", SupervisorConfig)
        self._own_sensors = self.settings.driver != "topics"  # else the vehicle's own node speaks them
        if self._own_sensors:
            self._odom = qos.publisher(self, Odometry, "odom", qos.SENSOR_PUBLISHER)
            self._imu = qos.publisher(self, Imu, "imu", qos.SENSOR_PUBLISHER)
            self._motors = qos.publisher(self, JointState, "motor_commands", qos.command_publisher(_COMMANDS))
        self._vehicle_out = qos.publisher(self, String, "vehicle/status", qos.STATUS)
        self._forget()

    def _forget(self) -> None:
        self._sequences = {"sample": 0, "motors": 0}
        self._stamps = {"odom": 0.0, "imu": 0.0}
        self._vehicle: dict[str, Any] = {}

    # The life cycle

    def configure(self) -> None:
        """Load the bundle's envelope, check bundle, rules and driver against the robot, and take the memory."""
        super().configure()
        config = self.settings
        self.period = 1.0 / config.state_rate
        self._control = QuadrotorControlConfig(
            robot=config.robot,
            driver=config.driver,
            driver_settings=settings_of(config.driver_settings),
            policy=config.policy,
            rate_hz=config.control_rate,
            fallback=config.fallback,
            rules=tuple(text for text in config.rules if text),
            ground_height=config.ground_height,
            rates=RateConfig(inner_lag=config.inner_lag, max_rate=config.max_rate, rotor_share=config.rotor_share),
            face_timeout=config.face_timeout,
        )
        # A rule, a bundle or a driver that is no good is refused now, and not in flight.
        core = make_supervisor(self._control)
        open_driver(config.driver, self.description, self._driver_settings())
        self.slots.claim()
        self.get_logger().info(f"supervising {self.interface.name} inside {core.envelope}")

    def activate(self) -> None:
        """Start the control process: the vehicle is disarmed then."""
        self._forget()
        self.start_control(
            dataclasses.replace(self._control, folder=str(self.slots.path), driver_settings=self._driver_settings())
        )

    def deactivate(self) -> None:
        """Motors off on the ground; in the air the vehicle comes down by itself."""
        planes: QuadrotorClient | None = self.planes if hasattr(self, "slots") else None
        status = None if planes is None else planes.status()
        if planes is not None and status is not None and status.mode in _FLYING and planes.vehicle().get("airborne"):
            behind = self._control.driver in _OWN_WATCHDOG
            how = "its own watchdog has to bring it down" if behind else "it is told to land"
            self.get_logger().warning(f"the supervisor ends while the vehicle flies: {how}")
        super().deactivate()

    def _driver_settings(self) -> dict[str, str]:
        settings = dict(self._control.driver_settings)
        if self._control.driver in BEHIND_MEMORY:
            settings = {"folder": str(self.slots.path), "timeout": "60", **settings}
        return settings

    # While active

    def work(self) -> None:
        """Give a sign of life, and tell what is new."""
        planes = self.attend()
        if self._own_sensors:
            self._tell_sample(planes)
            self._tell_motors(planes)
        self._tell_vehicle(planes)
        self.tell_status(planes)

    def ready_to_arm(self, planes: QuadrotorClient) -> bool:
        """Not before the recorder reads, where a flight shall be recorded."""
        missing = unrecorded(self, _TO_RECORD) if self.settings.record else []
        if missing:
            self.get_logger().info(f"auto_arm waits for the recorder of {missing}", throttle_duration_sec=5.0)
        return not missing

    def _tell_sample(self, planes: QuadrotorClient) -> None:
        sample = planes.sample()
        if sample is None or sample.sequence == self._sequences["sample"]:
            return
        self._sequences["sample"] = sample.sequence
        if sample.state is not None and sample.stamp != self._stamps["odom"]:
            self._stamps["odom"] = sample.stamp
            self._odom.publish(messages.odometry_from_state(sample.state, self.to_ros(sample.stamp)))
        if sample.orientation is not None and sample.attitude_stamp != self._stamps["imu"]:
            self._stamps["imu"] = sample.attitude_stamp
            self._imu.publish(
                messages.imu_message(
                    sample.orientation, sample.rates, sample.specific_force, self.to_ros(sample.attitude_stamp)
                )
            )

    def _tell_motors(self, planes: QuadrotorClient) -> None:
        motors = planes.motors()
        if motors is None or motors.sequence == self._sequences["motors"]:
            return
        self._sequences["motors"] = motors.sequence
        self._motors.publish(
            messages.joint_state_from_motor_speeds(
                MotorSpeeds(motors.values), self.interface.actuators, self.to_ros(motors.stamp)
            )
        )

    def _tell_vehicle(self, planes: QuadrotorClient) -> None:
        found = planes.vehicle()
        told = {name: found.get(name) for name in _VEHICLE}
        if found and told != self._vehicle:
            self._vehicle = told
            self._vehicle_out.publish(String(data=json.dumps(told)))

    def details(self) -> Mapping[str, Any]:
        """What the vehicle says of itself, and the set-up."""
        planes = self.planes
        found = {} if planes is None else planes.vehicle()
        details = found.pop("details", {})
        return {
            **{f"vehicle {name}": value for name, value in {**found, **details}.items()},
            "policy": self.settings.policy,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SupervisorNode, argv)
