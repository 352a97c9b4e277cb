"""The drivers `sim` and `topics` of quadrotors: a vehicle behind shared memory as behind a wire.

At the other end is a process that simulates it in real time (`robot_rl.planes.simulated_quadrotor`), or a node that
carries it over ROS topics (`robot_rl.nodes.topics`). It takes rotor speeds, never asks to be armed, and must help
itself when it hears none: `close` says nothing more, so that in the air its own watchdog brings it down.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.memory_quadrotor import MOTION, MemoryQuadrotor, motion_of
from hardware.drivers.quadrotor import ArmingPhase, QuadrotorSample
from hardware.drivers.support import command_values, read_settings
from policies.types import MotorSpeeds

SENSORS, MOTORS = "vehicle_sensors", "vehicle_motors"
"""Names of the two slots."""
WATCHDOG = 0.1
"""s without rotor speeds after which a simulated vehicle levels itself."""

SENSORS_RECORD = np.dtype([*MOTION, ("specific_force", "f8", 3), ("fault", "S240")])
"""What the vehicle says: odometry in the world's frame, and its inertial sensor in the body's."""
MOTORS_RECORD = np.dtype([("stamp", "f8"), ("values", "f8", 4)])
"""What it is told: rotor speeds in rad/s, and when they were decided."""


@dataclass(frozen=True, kw_only=True)
class BridgedConfig:
    """Settings of the drivers `sim` and `topics`."""

    folder: str
    """Of the robot's slots; the supervisor gives it."""
    timeout: float = 10.0
    """s to wait for the first sample."""


class BridgedQuadrotor(MemoryQuadrotor):
    """One vehicle; see the module."""

    said, told = (SENSORS, SENSORS_RECORD), (MOTORS, MOTORS_RECORD)

    def __init__(self, name: str, description: QuadrotorDescription, config: BridgedConfig) -> None:
        """Nothing is opened yet."""
        super().__init__(name, description, config)
        self._record = np.zeros((), MOTORS_RECORD)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        interface = self.description.interface
        return Capabilities(
            name=self.name,
            kind="quadrotor",
            actuators=interface.actuators,
            commands=("MotorSpeeds",),
            signals=("position", "orientation", "linear_velocity", "angular_velocity"),
            rate_hz=interface.command_rate_hz,
            realtime=True,
            simulated=self.name == "sim",
            watchdog_s=WATCHDOG if self.name == "sim" else math.inf,  # who knows what is behind topics
        )

    def nothing_came(self, limit: str) -> str:
        """Where from."""
        where = "odom" if self.name == "topics" else "the simulated vehicle"
        return f"nothing came from {where} within {limit}: is it there?"

    def to_sample(self, record: np.void) -> QuadrotorSample:
        """The sample; it follows whoever speaks to it."""
        force = record["specific_force"].copy() if record["attitude_stamp"] > 0.0 else None
        fault = bytes(record["fault"]).decode(errors="ignore")
        return QuadrotorSample(**motion_of(record), specific_force=force, armed=True, accepting=True, fault=fault)

    def write(self, command: MotorSpeeds) -> None:
        """Send rotor speeds (4,) rad/s, decided now."""
        if not isinstance(command, MotorSpeeds):
            raise DriverError(f"driver {self.name!r} takes MotorSpeeds, not {type(command).__name__}")
        self._record["values"] = command_values(self.name, command.values, 4)
        self._record["stamp"] = time.monotonic()
        self.tell(self._record)

    def request_arming(self) -> None:
        """It follows whoever speaks to it: there is nothing to ask."""

    @property
    def arming(self) -> ArmingPhase:
        """Always `done`."""
        return "done"

    @property
    def arming_problem(self) -> str:
        """None."""
        return ""

    def stop(self) -> None:
        """Motors off; in the air it falls."""
        if self._told is not None:
            self.write(MotorSpeeds(np.zeros(4)))

    def kill(self) -> None:
        """Motors off now."""
        self.stop()


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> BridgedQuadrotor:
    """The driver `topics`, not connected yet; see `hardware.drivers.registry`."""
    if not isinstance(description, QuadrotorDescription):
        raise DriverError(f"driver 'topics' flies quadrotors; {description.interface.name} is none")
    return BridgedQuadrotor("topics", description, read_settings("topics", BridgedConfig, settings))


def open_simulated(description: QuadrotorDescription, settings: Mapping[str, str]) -> BridgedQuadrotor:
    """The driver `sim` of a quadrotor, not connected yet."""
    return BridgedQuadrotor("sim", description, read_settings("sim", BridgedConfig, settings))
