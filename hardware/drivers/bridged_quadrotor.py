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
from pathlib import Path

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.quadrotor import ArmingPhase, QuadrotorSample
from hardware.drivers.support import ContextManager, command_values, read_settings
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from policies.types import MotorSpeeds, QuadrotorState

SENSORS, MOTORS = "vehicle_sensors", "vehicle_motors"
"""Names of the two slots."""
WATCHDOG = 0.1
"""s without rotor speeds after which a simulated vehicle levels itself."""

SENSORS_RECORD = np.dtype([
    ("state_stamp", "f8"),  # of the measurement; 0: there was none yet
    ("position", "f8", 3), ("orientation", "f8", 4), ("linear_velocity", "f8", 3), ("angular_velocity", "f8", 3),
    ("attitude_stamp", "f8"),  # of the inertial sensor's sample; 0: there was none yet
    ("attitude", "f8", 4), ("rates", "f8", 3), ("specific_force", "f8", 3),
    ("fault", "S240"),
])  # fmt: skip
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


class BridgedQuadrotor(ContextManager):
    """One vehicle; see the module."""

    def __init__(self, name: str, description: QuadrotorDescription, config: BridgedConfig) -> None:
        """Nothing is opened yet."""
        self.name, self.description, self.config = name, description, config
        self._sensors: SlotReader | None = None
        self._motors: SlotWriter | None = None
        self._sample: QuadrotorSample | None = None
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

    def connect(self) -> None:
        """Attach, and wait for a sample that is younger than this call."""
        folder, begin = Path(self.config.folder), time.monotonic()
        try:
            self._sensors = SlotReader(folder, SENSORS, SENSORS_RECORD)
            self._motors = SlotWriter(folder, MOTORS, MOTORS_RECORD)
            while (sample := self.read()) is None or max(sample.stamp, sample.attitude_stamp) < begin - 0.1:
                if time.monotonic() - begin > self.config.timeout:
                    where = "odom" if self.name == "topics" else "the simulated vehicle"
                    limit = f"{self.config.timeout:g} s"
                    raise DriverError(f"driver {self.name!r}: nothing came from {where} within {limit}: is it there?")
                time.sleep(0.001)
        except SlotError as error:
            self.close()
            raise DriverError(f"driver {self.name!r}: {error}") from error
        except BaseException:
            self.close()
            raise

    def read(self) -> QuadrotorSample | None:
        """The newest sample; the same one again where there is none newer."""
        if self._sensors is None:
            raise DriverError(f"driver {self.name!r} is not connected")
        reading = self._sensors.read_new()
        if reading is not None:
            record = reading.record
            state = None
            if record["state_stamp"] > 0.0:
                state = QuadrotorState(
                    *(
                        record[name].copy()
                        for name in ("position", "orientation", "linear_velocity", "angular_velocity")
                    )
                )
            felt = record["attitude_stamp"] > 0.0
            fault = bytes(record["fault"])
            self._sample = QuadrotorSample(
                stamp=float(record["state_stamp"]),
                state=state,
                attitude_stamp=float(record["attitude_stamp"]),
                orientation=record["attitude"].copy() if felt else None,
                angular_velocity=record["rates"].copy() if felt else None,
                specific_force=record["specific_force"].copy() if felt else None,
                armed=True,
                accepting=True,
                fault=fault.decode(errors="ignore") if fault else "",
            )
        return self._sample

    def write(self, command: MotorSpeeds) -> None:
        """Send rotor speeds (4,) rad/s, decided now."""
        if not isinstance(command, MotorSpeeds):
            raise DriverError(f"driver {self.name!r} takes MotorSpeeds, not {type(command).__name__}")
        if self._motors is None:
            raise DriverError(f"driver {self.name!r} is not connected")
        self._record["values"] = command_values(self.name, command.values, 4)
        self._record["stamp"] = time.monotonic()
        self._motors.write(self._record)

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
        if self._motors is not None:
            self.write(MotorSpeeds(np.zeros(4)))

    def kill(self) -> None:
        """Motors off now."""
        self.stop()

    def close(self) -> None:
        """Say nothing more: a vehicle in the air lands by its own means."""
        for slot in (self._sensors, self._motors):
            if slot is not None:
                slot.close()
        self._sensors = self._motors = None
        self._sample = None

    def __exit__(self, *_: object) -> None:
        """Close; whoever wants the motors off says so before."""
        self.close()


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> BridgedQuadrotor:
    """The driver `topics`, not connected yet; see `hardware.drivers.registry`."""
    if not isinstance(description, QuadrotorDescription):
        raise DriverError(f"driver 'topics' flies quadrotors; {description.interface.name} is none")
    return BridgedQuadrotor("topics", description, read_settings("topics", BridgedConfig, settings))


def open_simulated(description: QuadrotorDescription, settings: Mapping[str, str]) -> BridgedQuadrotor:
    """The driver `sim` of a quadrotor, not connected yet."""
    return BridgedQuadrotor("sim", description, read_settings("sim", BridgedConfig, settings))
